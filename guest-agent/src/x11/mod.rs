//! X11 apps, through Xwayland without a root window.
//!
//! ```text
//! X client -> Xwayland -> wl_surface  -> handlers, export (as any app's pixels)       input, as any app's <- host
//!                |                             ^ associated (shell.rs, or by id)
//!                +-> wm (a thread) -> News -> here -> say.rs -> Toplevel, Popup ...   -> host
//!                                  <- Orders <- here <- display.rs (configure, close)  <- host
//! ```
//! Places: a managed window is on the guest's root window where the host says that it is on the desktop, so that what its app
//! places itself (menus, tool tips) lands beside it. Such override-redirect windows travel as popups at a fixed offset.
//!
//! Scale: X11 knows pixels only. Its screen has those of the host's sharpest monitor, and apps are told how many an inch has
//! (`wm/settings.rs`); the window manager's thread counts pixels, all here is logical.

pub mod drag;
mod place;
mod say;
mod server;
mod shell;
mod wm;

pub use place::{configure, place, rescale, sharpen};
pub use say::say_changed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_protocol::display::{Act, Icon, Placed, Popup, Request, SurfaceId, Toplevel};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::scale::Scale;
use inlay_protocol::selection::Selection;
use rustix::process::{Pid, Signal, kill_process};
use smithay::reexports::calloop::channel::Event as ChannelEvent;
use smithay::reexports::wayland_protocols::xwayland::shell::v1::server::xwayland_shell_v1::XwaylandShellV1;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, DisplayHandle};
use smithay::wayland::compositor;

use crate::agent::Agent;
use crate::handlers::{AppState, output};
use crate::surface::id_of;
use crate::watch::{BorrowedFdKey, Source, Watch, Wish};
use crate::{drag as drags, exchange};
use place::{inner, within};
use wm::{Association, Kind, Manager, News, Order, Window, Xid};

/// The role of Xwayland's surfaces.
pub const ROLE: &str = "xwayland_shell";

/// Bits of an X id that are the client's own; the rest names the client.
const CLIENT_BITS: u32 = 21;
/// A server that ends sooner than this did not work.
const SETTLED: Duration = Duration::from_secs(5);
/// Pause after the first failure of the server; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
/// Windows that may ask for something before they are mapped.
const EARLY: usize = 256;
/// Longest pause, as a power of two of the first.
const LONGEST: u32 = 5;

/// What the host knows of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Toplevel(Toplevel),
    Popup(Popup),
}

/// A mapped X11 window.
#[derive(Debug)]
struct XWindow {
    now: Window,
    surface: Option<SurfaceId>,
    said: Option<Said>,
    said_icons: Arc<Vec<Icon>>,
    said_shape: Option<Arc<Vec<Rect>>>,
    /// The host's newest configure: its serial and the size of the window geometry that answers it.
    asked: Option<(u32, Size)>,
    acked: Option<u32>,
    /// The host took it away: it stays so until it is mapped again.
    dismissed: bool,
    /// The same in pixels.
    pixels: Window,
    /// Where the host has it.
    at: Option<Point>,
    /// Where its app wants it to come up.
    chosen: Option<Placed>,
}

/// A server that runs.
#[derive(Debug)]
struct Running {
    pid: Pid,
    client: Client,
    manager: Manager,
    since: Instant,
    turn: u64,
}

/// All of X11.
#[derive(Debug)]
pub struct X11 {
    /// Pixels of the X screen to the host's logical ones.
    scale: Scale,
    /// That of the host's sharpest monitor.
    sharpest: Scale,
    /// Apps draw at 1, whatever monitors the host has.
    enlarged: bool,
    display: Option<server::Display>,
    server: Option<Running>,
    windows: BTreeMap<Xid, XWindow>,
    by_surface: BTreeMap<SurfaceId, Xid>,
    /// Serials of surfaces that have no window yet.
    serials: BTreeMap<u64, SurfaceId>,
    /// Windows whose surface is not known yet.
    unpaired: BTreeSet<Xid>,
    changed: BTreeSet<Xid>,
    /// What apps asked for before the host knew their window.
    early: BTreeMap<Xid, Vec<Act>>,
    /// The managed window that had the keyboard last.
    active: Option<Xid>,
    /// A popup of this window is to be closed by a click elsewhere.
    dismiss: Option<Xid>,
    /// What an app drags.
    drag: Option<drag::Drag>,
    turn: u64,
    failures: u32,
    not_before: Option<Instant>,
    watch: Watch,
}

impl X11 {
    /// Takes an X display, and offers the protocol that Xwayland needs. Without a display X11 apps cannot run; that is told.
    #[must_use]
    pub fn new(handle: &DisplayHandle, folder: &Path) -> Self {
        handle.create_global::<Agent, XwaylandShellV1, ()>(1, ());
        let display = server::Display::open(folder)
            .inspect_err(|error| tracing::warn!(%error, "no X display: X11 apps cannot run"))
            .ok();
        Self {
            scale: Scale::ONE,
            sharpest: Scale::ONE,
            enlarged: false,
            display,
            server: None,
            windows: BTreeMap::new(),
            by_surface: BTreeMap::new(),
            serials: BTreeMap::new(),
            unpaired: BTreeSet::new(),
            changed: BTreeSet::new(),
            early: BTreeMap::new(),
            active: None,
            dismiss: None,
            drag: None,
            turn: 0,
            failures: 0,
            not_before: None,
            watch: Watch::default(),
        }
    }

    /// `DISPLAY` and `XAUTHORITY` for apps.
    #[must_use]
    pub fn environment(&self) -> Option<(String, PathBuf)> {
        self.display.as_ref().map(|d| (d.name(), d.authority().to_owned()))
    }

    /// Pixels of the X screen to the host's logical ones.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Notes the serial of a surface; `false` when it has a window already.
    fn set_serial(&mut self, surface: SurfaceId, serial: u64) -> bool {
        if self.by_surface.contains_key(&surface) {
            return false;
        }
        // Until it is associated the newest counts.
        self.serials.retain(|_, s| *s != surface);
        self.serials.insert(serial, surface);
        true
    }

    fn window(&self, surface: SurfaceId) -> Option<(Xid, &XWindow)> {
        let id = *self.by_surface.get(&surface)?;
        Some((id, self.windows.get(&id)?))
    }

    fn window_mut(&mut self, surface: SurfaceId) -> Option<(Xid, &mut XWindow)> {
        let id = *self.by_surface.get(&surface)?;
        Some((id, self.windows.get_mut(&id)?))
    }

    /// Whether a surface shows an X11 window.
    #[must_use]
    pub fn has(&self, surface: SurfaceId) -> bool {
        self.by_surface.contains_key(&surface)
    }

    /// Whether the host knows the window of this surface, or shows it at its pointer.
    #[must_use]
    pub fn is_said(&self, surface: SurfaceId) -> bool {
        self.window(surface).is_some_and(|(id, w)| w.said.is_some() || self.is_drag_icon(id))
    }

    /// Where a window's surface begins on the root window.
    #[must_use]
    pub fn origin(&self, surface: SurfaceId) -> Option<Point> {
        self.window(surface).map(|(_, w)| Point::new(w.now.place.x, w.now.place.y))
    }

    /// The window geometry of a surface of this size, in its own coordinates, where its app draws more than the window.
    #[must_use]
    pub fn geometry(&self, surface: SurfaceId, size: Size) -> Option<Rect> {
        let (_, window) = self.window(surface)?;
        // The X window may have another size already than what is drawn.
        (window.now.extents != [0; 4]).then(|| within(size, window.now.extents))
    }

    /// The host's configure that a commit of this size answers.
    pub fn acked(&mut self, surface: SurfaceId, size: Size) -> Option<u32> {
        let scale = self.scale;
        let (_, window) = self.window_mut(surface)?;
        if let Some((serial, wanted)) = window.asked {
            let [left, right, top, bottom] = window.now.extents;
            let whole = Size::new(wanted.width + left + right, wanted.height + top + bottom);
            // Rounding may tell a size and its extents by one apart.
            let apart = u32::from(!scale.is_whole());
            if size.width.abs_diff(whole.width) <= apart && size.height.abs_diff(whole.height) <= apart {
                window.asked = None;
                window.acked = Some(serial);
            }
        }
        window.acked
    }

    fn order(&self, order: Order) {
        if let Some(server) = &self.server {
            server.manager.order(order);
        }
    }

    /// The connection to the host is gone: everything is to be said again.
    pub fn disconnected(&mut self) {
        for window in self.windows.values_mut() {
            window.said = None;
            window.said_icons = Arc::default();
            window.said_shape = None;
            window.asked = None;
            window.acked = None;
            // Another window process may show it.
            window.dismissed = false;
        }
        self.changed.extend(self.windows.keys());
    }

    /// The toplevel that a popup belongs to: the one it names, else the app's own that had the keyboard last.
    fn toplevel_of(&self, id: Xid) -> Option<Xid> {
        let is_toplevel = |id: Xid| self.windows.get(&id).is_some_and(|w| !w.now.override_redirect);
        let mut named = self.windows.get(&id)?.now.transient_for;
        for _ in 0..16 {
            match named {
                Some(parent) if is_toplevel(parent) => return Some(parent),
                Some(parent) => named = self.windows.get(&parent).and_then(|w| w.now.transient_for),
                None => break,
            }
        }
        let same_app = |other: Xid| other >> CLIENT_BITS == id >> CLIENT_BITS;
        let active = self.active.filter(|a| is_toplevel(*a));
        let own = self.windows.keys().rev().copied().find(|w| same_app(*w) && is_toplevel(*w));
        active.filter(|a| same_app(*a)).or(own).or(active)
    }

    /// The managed window that stands for a window towards the keyboard.
    fn keyboard_window(&self, surface: SurfaceId) -> Option<Xid> {
        let (id, window) = self.window(surface)?;
        if window.now.override_redirect { self.toplevel_of(id) } else { Some(id) }
    }
}

/// The first client waits at the display's socket, or the pause after a failure is over.
pub fn ready(agent: &mut Agent) {
    let (Some(display), None) = (&agent.x11.display, &agent.x11.server) else { return };
    let scale = agent.x11.scale;
    let started = display.start(&agent.settings.runtime_dir);
    let running = started.and_then(|started| {
        let state = AppState { xwayland: true, ..AppState::default() };
        state.compositor.set_client_scale(f64::from(scale.0) / 120.0);
        let client = agent.display_handle.insert_client(started.wayland, Arc::new(state))?;
        let (manager, news) = Manager::start(started.manager, scale)?;
        Ok((started.pid, client, manager, news))
    });
    let (pid, client, manager, news) = match running {
        Ok(running) => running,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!("Xwayland is not installed: X11 apps cannot run (package xwayland)");
            return display.turn_away();
        }
        Err(error) => {
            tracing::warn!(%error, "Xwayland cannot be started");
            return fail(agent);
        }
    };
    agent.apps.add_xwayland(pid);
    agent.x11.turn += 1;
    let turn = agent.x11.turn;
    let inserted = agent.loop_handle.insert_source(news, move |event, (), agent| {
        if let ChannelEvent::Msg(news) = event {
            hear(agent, turn, news);
        }
    });
    if let Err(error) = inserted {
        tracing::error!(%error, "the X window manager cannot be heard");
    }
    tracing::info!(pid = pid.as_raw_nonzero(), "Xwayland started");
    agent.x11.server = Some(Running { pid, client, manager, since: Instant::now(), turn });
}

/// Somebody else has this to give to X11 apps; nothing withdraws it.
pub fn offer(agent: &Agent, selection: Selection, types: Vec<String>) {
    agent.x11.order(Order::Offer(selection, types));
}

/// Fetches what an X11 app has.
pub fn take(agent: &Agent, selection: Selection, kind: String, pipe: Pipe) {
    if agent.x11.server.is_none() {
        return pipe.cut_off();
    }
    agent.x11.order(Order::Take(selection, kind, pipe));
}

fn fail(agent: &mut Agent) {
    let x11 = &mut agent.x11;
    x11.not_before = Some(Instant::now() + PAUSE * 2_u32.pow(x11.failures.min(LONGEST)));
    x11.failures += 1;
}

/// Xwayland's process ended: all its windows are gone, and the display's socket is watched again.
pub fn ended(agent: &mut Agent, pid: Pid) {
    let Some(server) = agent.x11.server.take_if(|s| s.pid == pid) else { return };
    for id in agent.x11.windows.keys().copied().collect::<Vec<_>>() {
        unmapped(agent, id);
    }
    let x11 = &mut agent.x11;
    (x11.serials, x11.unpaired, x11.changed, x11.early) = Default::default();
    (x11.active, x11.dismiss) = (None, None);
    drag::server_gone(agent);
    exchange::x11_down(agent);
    let x11 = &mut agent.x11;
    if server.since.elapsed() < SETTLED {
        fail(agent);
    } else {
        x11.failures = 0;
    }
    tracing::info!("Xwayland ended");
}

/// Waits for clients while there is no server.
pub fn watch(agent: &mut Agent, now: Instant) {
    let x11 = &mut agent.x11;
    if x11.not_before.is_some_and(|at| at <= now) {
        x11.not_before = None;
    }
    let waits = x11.server.is_none() && x11.not_before.is_none();
    let wish = x11.display.as_ref().filter(|_| waits).map(|display| Wish {
        fd: BorrowedFdKey { fd: display.socket(), turn: 0 },
        read: true,
        write: false,
    });
    x11.watch.set(&agent.loop_handle, Source::X11, wish);
}

/// When [`watch`] has to look again.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    agent.x11.not_before.into_iter().chain(drag::due(agent)).min()
}

/// The end of a turn of the loop.
pub fn turn(agent: &mut Agent) {
    for id in std::mem::take(&mut agent.x11.unpaired) {
        associate(agent, id);
    }
    if let Some(window) = agent.x11.dismiss.take() {
        click_elsewhere(agent, window);
    }
    drag::turn(agent, Instant::now());
}

fn hear(agent: &mut Agent, turn: u64, news: News) {
    let Some(pid) = agent.x11.server.as_ref().filter(|s| s.turn == turn).map(|s| s.pid) else { return };
    match news {
        News::Ready => {
            tracing::info!("X11 apps are managed");
            exchange::x11_up(agent);
        }
        News::DragAnswer(action) => drags::x11_answered(agent, action),
        News::DragEnd(action) => drags::x11_ended(agent, action),
        News::Dragging(news) => drag::hear(agent, news),
        News::Selection(news) => exchange::x11_did(agent, news),
        News::Window(window) => changed(agent, *window),
        News::Unmapped(id) => unmapped(agent, id),
        News::Act(id, Act::WindowMenu(at)) => {
            let at = agent.x11.scale.logical_point(at);
            act_asked(agent, id, Act::WindowMenu(at));
        }
        News::Act(id, act) => act_asked(agent, id, act),
        News::CloseAsked(id) => agent.x11.order(Order::Close(id)),
        News::Pong(id, serial) => {
            if let Some(surface) = agent.x11.windows.get(&id).and_then(|w| w.surface) {
                agent.send(&Request::Pong { surface, serial });
            }
        }
        News::Ended => {
            // The process ends by itself when its connections close; a hanging one is helped.
            if let Err(error) = kill_process(pid, Signal::TERM) {
                tracing::debug!(%error, "Xwayland is gone already");
            }
        }
    }
}

fn changed(agent: &mut Agent, window: Window) {
    let id = window.id;
    let x11 = &mut agent.x11;
    let scale = x11.scale;
    let known = x11.windows.entry(id).or_insert_with(|| XWindow {
        now: Window::new(id, window.override_redirect, window.place),
        surface: None,
        said: None,
        said_icons: Arc::default(),
        said_shape: None,
        asked: None,
        acked: None,
        dismissed: false,
        pixels: Window::new(id, window.override_redirect, window.place),
        at: None,
        chosen: None,
    });
    let paired = known.surface.is_some();
    known.now = window.clone().logical(scale);
    known.pixels = window;
    let surface = known.surface;
    x11.changed.insert(id);
    if x11.drag.is_some() {
        drag::follow_icon(agent);
    }
    if !paired {
        associate(agent, id);
    } else if let Some(surface) = surface {
        // Its window geometry may be another one.
        agent.surfaces.mark(surface);
    }
}

/// Finds the surface that shows a window; until Xwayland has told both ends of it, the window waits.
fn associate(agent: &mut Agent, id: Xid) {
    let x11 = &mut agent.x11;
    let Some(window) = x11.windows.get(&id).filter(|w| w.surface.is_none()) else { return };
    let Some(association) = window.now.surface else { return };
    let surface = match association {
        Association::Serial(serial) => x11.serials.get(&serial).copied(),
        Association::Id(protocol_id) => {
            let client = x11.server.as_ref().map(|s| s.client.clone());
            let found = client.and_then(|c| {
                c.object_from_protocol_id::<WlSurface>(&agent.display_handle, protocol_id).ok()
            });
            let usable = found.filter(|wl| compositor::give_role(wl, ROLE).is_ok());
            usable.as_ref().and_then(id_of).filter(|s| !x11.by_surface.contains_key(s))
        }
    };
    let found = surface.and_then(|s| agent.surfaces.get(s).map(|known| (s, known.wl.clone())));
    let Some((surface, wl)) = found else {
        x11.unpaired.insert(id);
        return;
    };
    x11.serials.retain(|_, s| *s != surface);
    x11.by_surface.insert(surface, id);
    x11.changed.insert(id);
    if let Some(window) = x11.windows.get_mut(&id) {
        window.surface = Some(surface);
    }
    tracing::debug!(window = id, surface = surface.0, "an X11 window has its surface");
    output::follow(agent, &wl);
    agent.surfaces.mark(surface);
}

fn unmapped(agent: &mut Agent, id: Xid) {
    let x11 = &mut agent.x11;
    let Some(window) = x11.windows.remove(&id) else { return };
    x11.unpaired.remove(&id);
    x11.changed.remove(&id);
    x11.early.remove(&id);
    x11.active = x11.active.filter(|a| *a != id);
    drag::icon_gone(x11, id);
    if let Some(surface) = window.surface {
        x11.by_surface.remove(&surface);
        if window.said.is_some() {
            agent.send(&Request::RoleGone { surface });
        }
    }
}

/// A `wl_surface` is gone.
pub fn surface_gone(agent: &mut Agent, surface: SurfaceId) {
    let x11 = &mut agent.x11;
    x11.serials.retain(|_, s| *s != surface);
    if let Some(id) = x11.by_surface.remove(&surface)
        && let Some(window) = x11.windows.get_mut(&id)
    {
        // The host hears of the surface's end; the window gets another one when it is mapped again.
        window.surface = None;
        window.now.surface = None;
        window.said = None;
    }
}

fn act_asked(agent: &mut Agent, id: Xid, act: Act) {
    let x11 = &mut agent.x11;
    match x11.windows.get(&id) {
        Some(XWindow { surface: Some(surface), said: Some(_), .. }) => {
            let surface = *surface;
            agent.send_act(surface, act);
        }
        // Asked before it is mapped: its first states.
        _ if x11.early.len() < EARLY || x11.early.contains_key(&id) => {
            let acts = x11.early.entry(id).or_default();
            acts.retain(|a| std::mem::discriminant(a) != std::mem::discriminant(&act));
            acts.push(act);
        }
        _ => tracing::debug!(window = id, "too many windows ask for something before they are mapped"),
    }
}

/// The user closes a window.
pub fn close(agent: &mut Agent, surface: SurfaceId) {
    if let Some((id, _)) = agent.x11.window(surface) {
        agent.x11.order(Order::Close(id));
    }
}

/// Whether the app of a window is alive. One that does not know pings counts as alive.
pub fn ping(agent: &mut Agent, surface: SurfaceId, serial: u32) {
    let Some((id, window)) = agent.x11.window(surface) else { return };
    if window.now.pings {
        agent.x11.order(Order::Ping(id, serial));
    } else {
        agent.send(&Request::Pong { surface, serial });
    }
}

/// The user has the app ended by force.
pub fn kill(agent: &mut Agent, surface: SurfaceId) {
    if let Some((id, _)) = agent.x11.window(surface) {
        agent.x11.order(Order::Kill(id));
    }
}

/// The keyboard goes to this surface, or to none: the X server's focus follows. The surface that stands for it in Wayland.
pub fn focus(agent: &mut Agent, surface: Option<SurfaceId>) -> Option<SurfaceId> {
    let id = surface.and_then(|s| agent.x11.keyboard_window(s));
    if let Some(id) = id {
        agent.x11.active = Some(id);
    }
    agent.x11.order(Order::Focus(id));
    let of_window = id.and_then(|id| agent.x11.windows.get(&id)).and_then(|w| w.surface);
    of_window.or(surface)
}

/// The pointer enters a window: it is under it for the X server, too, whatever other windows are at that place.
pub fn entered(agent: &Agent, surface: SurfaceId) {
    if let Some(id) = agent.x11.keyboard_window(surface) {
        agent.x11.order(Order::Raise(id));
    }
}

/// The host closed a popup.
pub fn dismiss(agent: &mut Agent, surface: SurfaceId) -> bool {
    let Some((id, window)) = agent.x11.window_mut(surface) else { return false };
    window.said = None;
    window.dismissed = true;
    let closes = is_menu(&window.now);
    if closes && let Some(toplevel) = agent.x11.toplevel_of(id) {
        agent.x11.dismiss = Some(toplevel);
    }
    true
}

/// Whether an override-redirect window is a menu: its app listens for clicks elsewhere. What says nothing of itself counts as
/// one, as older toolkits say nothing of their menus.
fn is_menu(window: &Window) -> bool {
    matches!(
        window.kind,
        Kind::Unsaid | Kind::Normal | Kind::Menu | Kind::DropdownMenu | Kind::PopupMenu | Kind::Combo
    )
}

/// Closes menus as a user does, by a click where no window is.
fn click_elsewhere(agent: &mut Agent, toplevel: Xid) {
    let x11 = &agent.x11;
    let Some(window) = x11.windows.get(&toplevel) else { return };
    let Some(wl) = window.surface.and_then(|s| agent.surfaces.get(s)).map(|s| s.wl.clone()) else { return };
    let free = |at: &Point| !x11.windows.values().any(|w| contains(w.now.place, *at));
    let screen = agent.outputs.bounds();
    let (right, bottom) = (screen.right() - 1, screen.bottom() - 1);
    let edge = |v: i64| i32::try_from(v).unwrap_or(0);
    let corners = [
        Point::new(screen.x, screen.y),
        Point::new(edge(right), screen.y),
        Point::new(screen.x, edge(bottom)),
        Point::new(edge(right), edge(bottom)),
    ];
    // Without a free corner the click goes to the window's own, where toolkits have nothing.
    let own = Point::new(window.now.place.x, window.now.place.y);
    let at = corners.into_iter().find(|c| free(c)).unwrap_or(own);
    crate::inject::pointer::click_at(agent, &wl, own, at);
}

fn contains(rect: Rect, at: Point) -> bool {
    let (x, y) = (i64::from(at.x), i64::from(at.y));
    x >= i64::from(rect.x) && y >= i64::from(rect.y) && x < rect.right() && y < rect.bottom()
}
