//! Mends a fault of wlcs 1.5: its windows get their first buffer without having acknowledged a configure, and some without an initial
//! commit, which xdg-shell answers with `unconfigured_buffer`. Loaded before libwayland-client (`LD_PRELOAD`), this commits, waits for the
//! configure right before the first buffer of a toplevel or popup, and acknowledges it, as far as the test did not do so itself.
//!
//! A roundtrip of wlcs is one to the compositor, which is the agent and the desktop: what the desktop answers comes before its end.
//!
//! On the way it notes the order of toplevels' first commits, which is that in which the agent tells of toplevels: all that wlcs says
//! about a window is the address of its `wl_surface`.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::desktop;

/// Places of requests in their interfaces.
const GET_XDG_SURFACE: u32 = 2;
const GET_TOPLEVEL: u32 = 1;
const GET_POPUP: u32 = 2;
const ACK_CONFIGURE: u32 = 4;
const ATTACH: u32 = 1;
const COMMIT: u32 = 6;
/// How long a configure may take; without one wlcs goes on as it would.
const LONG: Duration = Duration::from_secs(5);

/// The event `configure` of an `xdg_surface`: the listener's data, the object, the serial.
type Configure = unsafe extern "C" fn(*mut c_void, *mut c_void, u32);

/// What is known of the client's objects, by their addresses.
struct Known {
    /// Connections.
    displays: Vec<usize>,
    /// The listeners of `xdg_surface`s.
    listeners: BTreeMap<usize, Configure>,
    /// The `wl_surface`s of `xdg_surface`s.
    surfaces: BTreeMap<usize, usize>,
    /// The `xdg_surface`s of toplevels and popups by their `wl_surface`s, and whether they are toplevels.
    windows: BTreeMap<usize, (usize, bool)>,
    /// Toplevels and popups that have acknowledged no configure, by their `wl_surface`s.
    new: BTreeMap<usize, New>,
    /// `wl_surface`s of toplevels in the order of their first commits.
    toplevels: Vec<usize>,
    /// The `xdg_surface` of the toplevel whose first configure is waited for.
    first: Option<usize>,
    /// The `xdg_surface` and the serial that was acknowledged in its client's place last.
    acknowledged: Option<(usize, u32)>,
    /// The newest configures of `xdg_surface`s.
    configured: BTreeMap<usize, u32>,
}

struct New {
    /// Its `xdg_surface`.
    xdg: usize,
    toplevel: bool,
    /// Whether it committed.
    begun: bool,
    /// Whether the next commit takes its last buffer away.
    unmapping: bool,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    displays: Vec::new(),
    listeners: BTreeMap::new(),
    surfaces: BTreeMap::new(),
    windows: BTreeMap::new(),
    new: BTreeMap::new(),
    toplevels: Vec::new(),
    first: None,
    acknowledged: None,
    configured: BTreeMap::new(),
});

/// Another compositor begins: it knows no toplevel yet.
pub fn begin() {
    let mut known = known();
    known.toplevels.clear();
    known.new.clear();
    known.windows.clear();
    known.surfaces.clear();
}

/// Which of the compositor's toplevels in their order a `wl_surface` is. An address that is used again is the newest one's.
pub fn toplevel(surface: *mut c_void) -> Option<usize> {
    known().toplevels.iter().rposition(|known| *known == surface.addr())
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" {
    fn wl_proxy_get_class(proxy: *mut c_void) -> *const c_char;
    fn wl_proxy_get_version(proxy: *mut c_void) -> u32;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `RTLD_NEXT` of glibc.
const NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);

/// libwayland-client's own function of a name.
fn own(name: &CStr) -> *mut c_void {
    // SAFETY: a name that ends with a zero byte.
    let own = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!own.is_null(), "libwayland-client has no {name:?}");
    own
}

/// `wl_argument`.
#[repr(C)]
union Argument {
    number: u32,
    pointer: *mut c_void,
}

/// `wl_proxy_marshal_array_flags` of libwayland-client.
type Marshal = unsafe extern "C" fn(*mut c_void, u32, *const c_void, u32, u32, *mut Argument) -> *mut c_void;

fn marshal() -> Marshal {
    // SAFETY: the function of this name has these arguments.
    unsafe { std::mem::transmute(own(c"wl_proxy_marshal_array_flags")) }
}

/// Sends a request (`wayland-client-core.h`), and waits after the first commit of a toplevel.
///
/// # Safety
/// As libwayland-client's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wl_proxy_marshal_array_flags(
    proxy: *mut c_void,
    opcode: u32,
    interface: *const c_void,
    version: u32,
    flags: u32,
    arguments: *mut Argument,
) -> *mut c_void {
    // SAFETY: the caller's proxy has a class, which outlives it.
    let class = unsafe { CStr::from_ptr(wl_proxy_get_class(proxy)) };
    if class == c"xdg_surface" {
        match opcode {
            GET_TOPLEVEL | GET_POPUP => {
                let mut known = known();
                if let Some(surface) = known.surfaces.get(&proxy.addr()).copied() {
                    known.configured.remove(&proxy.addr());
                    let (xdg, toplevel) = (proxy.expose_provenance(), opcode == GET_TOPLEVEL);
                    known.windows.insert(surface, (xdg, toplevel));
                    known.new.insert(surface, New { xdg, toplevel, begun: false, unmapping: false });
                }
            }
            ACK_CONFIGURE => {
                let mut known = known();
                // SAFETY: the request has one argument, the serial.
                if known.acknowledged == Some((proxy.addr(), unsafe { (*arguments).number })) {
                    return std::ptr::null_mut();
                }
                known.new.retain(|_, new| new.xdg != proxy.addr());
            }
            _ => {}
        }
    }
    if class == c"wl_surface" && opcode == ATTACH {
        // SAFETY: the request's first argument is the buffer.
        let buffer = unsafe { (*arguments).pointer };
        if buffer.is_null() {
            known().unmapped(proxy.addr());
        } else if known().new.contains_key(&proxy.addr()) {
            begin_with(proxy, version);
        }
    }
    // Read before the request, which moves it: the second argument after the new object.
    // SAFETY: the request has two arguments.
    let of = (class == c"xdg_wm_base" && opcode == GET_XDG_SURFACE)
        .then(|| unsafe { (*arguments.add(1)).pointer.addr() });
    // SAFETY: the caller's arguments.
    let new = unsafe { marshal()(proxy, opcode, interface, version, flags, arguments) };
    if let Some(of) = of {
        known().surfaces.insert(new.addr(), of);
    }
    if class == c"wl_surface" && opcode == COMMIT {
        known().committed(proxy.addr());
    }
    new
}

/// Has the first configure of a toplevel or popup come and be acknowledged, before its first buffer.
fn begin_with(surface: *mut c_void, version: u32) {
    let begun = known().new.get(&surface.addr()).is_none_or(|new| new.begun);
    if !begun {
        // SAFETY: `wl_surface.commit` has no arguments and makes no object.
        unsafe { marshal()(surface, COMMIT, std::ptr::null(), version, 0, std::ptr::null_mut()) };
        known().committed(surface.addr());
    }
    let mut known = known();
    if let Some(new) = known.new.remove(&surface.addr()) {
        if let Some(serial) = known.configured.get(&new.xdg).copied() {
            known.acknowledged = Some((new.xdg, serial));
            drop(known);
            acknowledge(std::ptr::with_exposed_provenance_mut(new.xdg), serial);
        } else {
            known.first = Some(new.xdg);
            drop(known);
            wait();
        }
    }
}

fn acknowledge(xdg: *mut c_void, serial: u32) {
    let mut argument = Argument { number: serial };
    // SAFETY: `xdg_surface.ack_configure` has one argument and makes no object.
    unsafe {
        let version = wl_proxy_get_version(xdg);
        marshal()(xdg, ACK_CONFIGURE, std::ptr::null(), version, 0, &raw mut argument);
    }
}

impl Known {
    /// A window begins anew after its surface had no buffer.
    fn unmapped(&mut self, surface: usize) {
        if let Some((xdg, toplevel)) = self.windows.get(&surface).copied() {
            self.configured.remove(&xdg);
            // The commit to come takes the buffer away; the next one is the initial one.
            self.new.insert(surface, New { xdg, toplevel, begun: false, unmapping: true });
        }
    }

    /// A surface committed: a new toplevel's is told of to the desktop now.
    fn committed(&mut self, surface: usize) {
        if let Some(new) = self.new.get_mut(&surface)
            && !std::mem::take(&mut new.unmapping)
            && !std::mem::replace(&mut new.begun, true)
            && new.toplevel
        {
            self.toplevels.push(surface);
        }
    }
}

/// Waits for the configure.
fn wait() {
    let end = Instant::now() + LONG;
    while known().first.is_some() && Instant::now() < end {
        let displays = known().displays.clone();
        for display in displays {
            if roundtrip(std::ptr::with_exposed_provenance_mut(display)) < 0 {
                known().first = None;
            }
        }
    }
    known().first = None;
}

/// Takes the listener of an object (`wayland-client-core.h`); those of `xdg_surface`s are called by [`configure`].
///
/// # Safety
/// As libwayland-client's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wl_proxy_add_listener(
    proxy: *mut c_void,
    listener: *const c_void,
    data: *mut c_void,
) -> c_int {
    static LISTENER: Configure = configure;
    // SAFETY: the function of this name has these arguments; an `xdg_surface` has a listener of one function.
    unsafe {
        let add: unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> c_int =
            std::mem::transmute(own(c"wl_proxy_add_listener"));
        if CStr::from_ptr(wl_proxy_get_class(proxy)) != c"xdg_surface" {
            return add(proxy, listener, data);
        }
        known().listeners.insert(proxy.addr(), *listener.cast::<Configure>());
        add(proxy, (&raw const LISTENER).cast(), data)
    }
}

unsafe extern "C" fn configure(data: *mut c_void, surface: *mut c_void, serial: u32) {
    let first = {
        let mut known = known();
        known.configured.insert(surface.addr(), serial);
        let first = known.first == Some(surface.addr());
        if first {
            known.first = None;
            known.acknowledged = Some((surface.addr(), serial));
        }
        first
    };
    if first {
        acknowledge(surface, serial);
    }
    let own = known().listeners.get(&surface.addr()).copied();
    if let Some(own) = own {
        // SAFETY: what the client's own listener is called with.
        unsafe { own(data, surface, serial) };
    }
}

/// libwayland-client's own roundtrip.
fn roundtrip(display: *mut c_void) -> c_int {
    // SAFETY: the function of this name has this argument; the connection is there.
    unsafe {
        let roundtrip: unsafe extern "C" fn(*mut c_void) -> c_int =
            std::mem::transmute(own(c"wl_display_roundtrip"));
        roundtrip(display)
    }
}

/// Waits until the compositor did all that it was asked for (`wayland-client-core.h`).
///
/// # Safety
/// As libwayland-client's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wl_display_roundtrip(display: *mut c_void) -> c_int {
    let done = roundtrip(display);
    if done < 0 {
        return done;
    }
    desktop::settle();
    roundtrip(display)
}

/// Connects (`wayland-client-core.h`).
///
/// # Safety
/// As libwayland-client's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wl_display_connect_to_fd(fd: c_int) -> *mut c_void {
    // SAFETY: the function of this name has this argument.
    let display = unsafe {
        let connect: unsafe extern "C" fn(c_int) -> *mut c_void =
            std::mem::transmute(own(c"wl_display_connect_to_fd"));
        connect(fd)
    };
    known().displays.push(display.expose_provenance());
    display
}

/// Ends a connection (`wayland-client-core.h`).
///
/// # Safety
/// As libwayland-client's.
#[unsafe(no_mangle)]
unsafe extern "C" fn wl_display_disconnect(display: *mut c_void) {
    known().displays.retain(|known| *known != display.addr());
    // SAFETY: the function of this name has this argument.
    unsafe {
        let disconnect: unsafe extern "C" fn(*mut c_void) =
            std::mem::transmute(own(c"wl_display_disconnect"));
        disconnect(display);
    }
}
