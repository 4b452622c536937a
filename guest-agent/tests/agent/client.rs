//! A Wayland client that draws what a test tells it, and remembers what it is told.

use std::os::fd::AsFd;

use wayland_client::protocol::{
    wl_buffer, wl_callback, wl_compositor, wl_data_offer, wl_keyboard, wl_output, wl_pointer, wl_region, wl_registry,
    wl_seat, wl_shm, wl_shm_pool, wl_subcompositor, wl_subsurface, wl_surface,
};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle, delegate_noop};
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::WpContentTypeManagerV1;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_v1::WpContentTypeV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibitor_v1::{
    self, ZwpKeyboardShortcutsInhibitorV1,
};
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    self, WpPresentationFeedback,
};
use wayland_protocols::wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;
use wayland_protocols::wp::viewporter::client::{wp_viewport, wp_viewporter};
use wayland_protocols::xdg::dialog::v1::client::xdg_dialog_v1::XdgDialogV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_wm_dialog_v1::XdgWmDialogV1;
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_manager_v1::XdgToplevelIconManagerV1;
use wayland_protocols::xdg::toplevel_icon::v1::client::xdg_toplevel_icon_v1::XdgToplevelIconV1;
use wayland_protocols::xdg::shell::client::{
    xdg_popup, xdg_positioner, xdg_surface, xdg_toplevel, xdg_wm_base,
};

use crate::host::Host;

/// What the client was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Released(u32),
    Frame,
    Configured { serial: u32, size: (i32, i32), states: Vec<u32> },
    Closed,
    PopupConfigured { serial: u32, place: (i32, i32), size: (i32, i32) },
    Repositioned(u32),
    PopupDone,
    Keymap(String),
    KeyboardEnter { surface: u32, keys: Vec<u32> },
    KeyboardLeave,
    Key { key: u32, pressed: bool },
    Modifiers { depressed: u32, locked: u32, group: u32 },
    Repeat { rate: i32, delay: i32 },
    PointerEnter { surface: u32, x: f64, y: f64 },
    PointerLeave { surface: u32 },
    Motion { x: f64, y: f64 },
    Button { button: u32, pressed: bool },
    Axis { vertical: bool, value: f64 },
    Axis120 { vertical: bool, value: i32 },
    AxisStop,
    Scale(i32),
    Presented { refresh: u32 },
    Discarded,
    Shortcuts(bool),
    SourceTarget(Option<String>),
    SourceAction(u32),
    SourceDropped,
    SourceFinished,
    SourceCancelled,
    DragEnter { surface: u32, offered: bool },
    DragDrop,
}

/// Events of the client, and configures that are not complete.
#[derive(Debug, Default)]
pub struct State {
    pub told: Vec<Told>,
    toplevel: ((i32, i32), Vec<u32>),
    popup: Option<((i32, i32), (i32, i32))>,
    /// Serial of the newest `wl_pointer.enter`.
    pub pointer_serial: u32,
    /// Serial of the newest `wl_pointer.button`.
    pub button_serial: u32,
    /// What is dragged over the client's windows, and its types.
    pub offer: Option<wl_data_offer::WlDataOffer>,
    pub offered: Vec<String>,
    globals: Vec<(u32, String, u32)>,
}

pub struct Client {
    pub connection: Connection,
    pub queue: EventQueue<State>,
    pub handle: QueueHandle<State>,
    pub state: State,
    pub compositor: wl_compositor::WlCompositor,
    pub subcompositor: wl_subcompositor::WlSubcompositor,
    pub shm: wl_shm::WlShm,
    pub wm_base: xdg_wm_base::XdgWmBase,
    pub viewporter: wp_viewporter::WpViewporter,
    pub seat: wl_seat::WlSeat,
    registry: wl_registry::WlRegistry,
}

/// A surface with the toplevel role.
pub struct Window {
    pub surface: wl_surface::WlSurface,
    pub xdg: xdg_surface::XdgSurface,
    pub toplevel: xdg_toplevel::XdgToplevel,
}

/// A pool in a memory file, with one buffer.
pub struct Buffer {
    pub wl: wl_buffer::WlBuffer,
    fd: std::os::fd::OwnedFd,
    pub width: i32,
    pub height: i32,
    stride: i32,
    offset: i32,
}

impl Client {
    pub fn new(host: &Host) -> Self {
        let connection = Connection::from_socket(host.client_stream()).unwrap();
        let mut queue = connection.new_event_queue();
        let handle = queue.handle();
        let registry = connection.display().get_registry(&handle, ());
        let mut state = State::default();
        queue.roundtrip(&mut state).unwrap();
        let compositor = bind(&state, &registry, &handle, 6);
        let subcompositor = bind(&state, &registry, &handle, 1);
        let shm = bind(&state, &registry, &handle, 1);
        let wm_base = bind(&state, &registry, &handle, 6);
        let viewporter = bind(&state, &registry, &handle, 1);
        let seat: wl_seat::WlSeat = bind(&state, &registry, &handle, 8);
        let _output: wl_output::WlOutput = bind(&state, &registry, &handle, 4);
        seat.get_keyboard(&handle, ());
        seat.get_pointer(&handle, ());
        let mut client = Self {
            connection,
            queue,
            handle,
            state,
            compositor,
            subcompositor,
            shm,
            wm_base,
            viewporter,
            seat,
            registry,
        };
        client.roundtrip();
        client
    }

    /// Binds one more global.
    pub fn bind<I>(&self, version: u32) -> I
    where
        I: Proxy + 'static,
        State: Dispatch<I, ()>,
    {
        bind(&self.state, &self.registry, &self.handle, version)
    }

    /// How many globals of this interface there are.
    pub fn globals(&self, interface: &str) -> usize {
        self.state.globals.iter().filter(|(_, name, _)| name == interface).count()
    }

    pub fn roundtrip(&mut self) {
        self.queue.roundtrip(&mut self.state).unwrap();
    }

    /// Serves both ends until the client was told something.
    #[track_caller]
    pub fn until<T>(&mut self, host: &mut Host, what: &str, mut find: impl FnMut(&Told) -> Option<T>) -> T {
        let mut found = None;
        host.until(what, |_| {
            self.roundtrip();
            let at = self.state.told.iter().position(|told| find(told).is_some());
            found = at.and_then(|at| find(&self.state.told.remove(at)));
            found.is_some()
        });
        found.unwrap()
    }

    /// Acknowledges the next configure; (serial, size, states).
    #[track_caller]
    pub fn configured(&mut self, host: &mut Host, window: &Window) -> (u32, (i32, i32), Vec<u32>) {
        let configure = self.until(host, "a configure", |told| match told {
            Told::Configured { serial, size, states } => Some((*serial, *size, states.clone())),
            _ => None,
        });
        window.xdg.ack_configure(configure.0);
        configure
    }

    pub fn window(&mut self) -> Window {
        let surface = self.compositor.create_surface(&self.handle, ());
        let xdg = self.wm_base.get_xdg_surface(&surface, &self.handle, ());
        let toplevel = xdg.get_toplevel(&self.handle, ());
        Window { surface, xdg, toplevel }
    }

    /// A window that shows `buffer` and is known to the host.
    #[track_caller]
    pub fn mapped(
        &mut self,
        host: &mut Host,
        buffer: &Buffer,
    ) -> (Window, inlay_protocol::display::SurfaceId) {
        let before: Vec<_> = host.toplevels.keys().copied().collect();
        let window = self.window();
        window.surface.commit();
        self.configured(host, &window);
        self.show(&window.surface, buffer);
        let mut id = None;
        host.until("the window is mapped", |host| {
            id = host.toplevels.keys().find(|id| !before.contains(id) && host.is_mapped(**id)).copied();
            id.is_some()
        });
        (window, id.unwrap())
    }

    /// Attaches a buffer with full damage, and commits.
    pub fn show(&mut self, surface: &wl_surface::WlSurface, buffer: &Buffer) {
        surface.attach(Some(&buffer.wl), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        surface.commit();
        self.connection.flush().unwrap();
    }

    /// A buffer of zeros, with a row padding and an offset that no one would guess.
    pub fn buffer(&mut self, width: i32, height: i32) -> Buffer {
        self.buffer_of(width, height, wl_shm::Format::Argb8888)
    }

    pub fn buffer_of(&mut self, width: i32, height: i32, format: wl_shm::Format) -> Buffer {
        let (stride, offset) = (width * 4 + 12, 64);
        let size = offset + stride * height;
        let fd = rustix::fs::memfd_create("client", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, u64::try_from(size).unwrap()).unwrap();
        let pool = self.shm.create_pool(fd.as_fd(), size, &self.handle, ());
        let wl = pool.create_buffer(offset, width, height, stride, format, &self.handle, ());
        Buffer { wl, fd, width, height, stride, offset }
    }
}

fn bind<I>(state: &State, registry: &wl_registry::WlRegistry, handle: &QueueHandle<State>, version: u32) -> I
where
    I: Proxy + 'static,
    State: Dispatch<I, ()>,
{
    let wanted = I::interface().name;
    let (name, _, offered) = state
        .globals
        .iter()
        .find(|(_, interface, _)| interface == wanted)
        .unwrap_or_else(|| panic!("no {wanted}"));
    registry.bind(*name, version.min(*offered), handle, ())
}

impl Buffer {
    /// Writes a pattern that tells every pixel and every `seed` apart, with alpha; returns it row by row.
    pub fn fill(&self, seed: u32) -> Vec<u8> {
        let mut all = Vec::new();
        for y in 0..self.height {
            let mut row = Vec::new();
            for x in 0..self.width {
                let (x, y) = (x.unsigned_abs(), y.unsigned_abs());
                row.extend(
                    (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ seed.wrapping_mul(97))
                        .to_le_bytes(),
                );
            }
            self.write_row(0, y, &row);
            all.extend(row);
        }
        all
    }

    /// Writes pixels of one row.
    pub fn write_row(&self, x: i32, y: i32, bytes: &[u8]) {
        let at = self.offset + y * self.stride + x * 4;
        assert_eq!(rustix::io::pwrite(&self.fd, bytes, u64::try_from(at).unwrap()).unwrap(), bytes.len());
    }

    /// Makes the file shorter than the pool claims.
    pub fn truncate(&self) {
        rustix::fs::ftruncate(&self.fd, 0).unwrap();
    }
}

impl Dispatch<wl_registry::WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        _: &wl_registry::WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global { name, interface, version } = event {
            state.globals.push((name, interface, version));
        }
    }
}

impl Dispatch<wl_buffer::WlBuffer, ()> for State {
    fn event(
        state: &mut Self,
        buffer: &wl_buffer::WlBuffer,
        _: wl_buffer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(Told::Released(buffer.id().protocol_id()));
    }
}

impl Dispatch<wl_callback::WlCallback, ()> for State {
    fn event(
        state: &mut Self,
        _: &wl_callback::WlCallback,
        _: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(Told::Frame);
    }
}

impl Dispatch<wl_surface::WlSurface, ()> for State {
    fn event(
        state: &mut Self,
        _: &wl_surface::WlSurface,
        event: wl_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_surface::Event::PreferredBufferScale { factor } = event {
            state.told.push(Told::Scale(factor));
        }
    }
}

impl Dispatch<xdg_wm_base::XdgWmBase, ()> for State {
    fn event(
        _: &mut Self,
        base: &xdg_wm_base::XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            base.pong(serial);
        }
    }
}

impl Dispatch<xdg_surface::XdgSurface, ()> for State {
    fn event(
        state: &mut Self,
        _: &xdg_surface::XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let xdg_surface::Event::Configure { serial } = event else { return };
        state.told.push(match state.popup.take() {
            Some((place, size)) => Told::PopupConfigured { serial, place, size },
            None => {
                let (size, states) = std::mem::take(&mut state.toplevel);
                Told::Configured { serial, size, states }
            }
        });
    }
}

impl Dispatch<xdg_toplevel::XdgToplevel, ()> for State {
    fn event(
        state: &mut Self,
        _: &xdg_toplevel::XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, states } => {
                state.toplevel = ((width, height), words(&states));
            }
            xdg_toplevel::Event::Close => state.told.push(Told::Closed),
            _ => {}
        }
    }
}

impl Dispatch<xdg_popup::XdgPopup, ()> for State {
    fn event(
        state: &mut Self,
        _: &xdg_popup::XdgPopup,
        event: xdg_popup::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_popup::Event::Configure { x, y, width, height } => {
                state.popup = Some(((x, y), (width, height)));
            }
            xdg_popup::Event::PopupDone => state.told.push(Told::PopupDone),
            xdg_popup::Event::Repositioned { token } => state.told.push(Told::Repositioned(token)),
            _ => {}
        }
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]])).collect()
}

impl Dispatch<wl_keyboard::WlKeyboard, ()> for State {
    fn event(
        state: &mut Self,
        _: &wl_keyboard::WlKeyboard,
        event: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(match event {
            wl_keyboard::Event::Keymap { fd, size, .. } => {
                let mut text = vec![0; size as usize];
                let count = rustix::io::pread(&fd, &mut text, 0).unwrap();
                text.truncate(count);
                Told::Keymap(String::from_utf8_lossy(&text).into_owned())
            }
            wl_keyboard::Event::Enter { surface, keys, .. } => {
                let mut keys = words(&keys);
                keys.sort_unstable();
                Told::KeyboardEnter { surface: surface.id().protocol_id(), keys }
            }
            wl_keyboard::Event::Leave { .. } => Told::KeyboardLeave,
            wl_keyboard::Event::Key { key, state, .. } => Told::Key {
                key,
                pressed: state == wayland_client::WEnum::Value(wl_keyboard::KeyState::Pressed),
            },
            wl_keyboard::Event::Modifiers { mods_depressed, mods_locked, group, .. } => {
                Told::Modifiers { depressed: mods_depressed, locked: mods_locked, group }
            }
            wl_keyboard::Event::RepeatInfo { rate, delay } => Told::Repeat { rate, delay },
            _ => return,
        });
    }
}

impl Dispatch<wl_pointer::WlPointer, ()> for State {
    fn event(
        state: &mut Self,
        _: &wl_pointer::WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wayland_client::WEnum::Value;
        use wl_pointer::{Axis, ButtonState, Event};
        state.told.push(match event {
            Event::Enter { surface, surface_x: x, surface_y: y, serial } => {
                state.pointer_serial = serial;
                Told::PointerEnter { surface: surface.id().protocol_id(), x, y }
            }
            Event::Leave { surface, .. } => Told::PointerLeave { surface: surface.id().protocol_id() },
            Event::Motion { surface_x: x, surface_y: y, .. } => Told::Motion { x, y },
            Event::Button { button, state: pressed, serial, .. } => {
                state.button_serial = serial;
                Told::Button { button, pressed: pressed == Value(ButtonState::Pressed) }
            }
            Event::Axis { axis, value, .. } => {
                Told::Axis { vertical: axis == Value(Axis::VerticalScroll), value }
            }
            Event::AxisValue120 { axis, value120 } => {
                Told::Axis120 { vertical: axis == Value(Axis::VerticalScroll), value: value120 }
            }
            Event::AxisStop { .. } => Told::AxisStop,
            _ => return,
        });
    }
}

impl Dispatch<WpPresentationFeedback, ()> for State {
    fn event(
        state: &mut Self,
        _: &WpPresentationFeedback,
        event: wp_presentation_feedback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.told.push(match event {
            wp_presentation_feedback::Event::Presented { refresh, .. } => Told::Presented { refresh },
            wp_presentation_feedback::Event::Discarded => Told::Discarded,
            _ => return,
        });
    }
}

impl Dispatch<ZwpKeyboardShortcutsInhibitorV1, ()> for State {
    fn event(
        state: &mut Self,
        _: &ZwpKeyboardShortcutsInhibitorV1,
        event: zwp_keyboard_shortcuts_inhibitor_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let has = matches!(event, zwp_keyboard_shortcuts_inhibitor_v1::Event::Active);
        state.told.push(Told::Shortcuts(has));
    }
}

delegate_noop!(State: ignore WpPresentation);
delegate_noop!(State: WpSinglePixelBufferManagerV1);
delegate_noop!(State: WpContentTypeManagerV1);
delegate_noop!(State: WpContentTypeV1);
delegate_noop!(State: XdgWmDialogV1);
delegate_noop!(State: XdgDialogV1);
delegate_noop!(State: ZwpKeyboardShortcutsInhibitManagerV1);
delegate_noop!(State: ignore XdgToplevelIconManagerV1);
delegate_noop!(State: XdgToplevelIconV1);
delegate_noop!(State: ignore wl_compositor::WlCompositor);
delegate_noop!(State: ignore wl_subcompositor::WlSubcompositor);
delegate_noop!(State: ignore wl_subsurface::WlSubsurface);
delegate_noop!(State: ignore wl_region::WlRegion);
delegate_noop!(State: ignore wl_shm::WlShm);
delegate_noop!(State: ignore wl_shm_pool::WlShmPool);
delegate_noop!(State: ignore wl_seat::WlSeat);
delegate_noop!(State: ignore wl_output::WlOutput);
delegate_noop!(State: ignore wp_viewporter::WpViewporter);
delegate_noop!(State: ignore wp_viewport::WpViewport);
delegate_noop!(State: ignore xdg_positioner::XdgPositioner);
