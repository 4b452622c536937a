//! A Wayland desktop of the tests' own (smithay), without a screen: it offers or withholds what others always or never have, does what
//! the test says, and notes what windows ask for. Windows are where they opened, in the order in which they did.

mod copying;
mod wishes;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::input::keyboard::{FilterResult, XkbConfig};
use smithay::input::pointer::{ButtonEvent, CursorImageStatus, CursorImageSurfaceData, MotionEvent};
use smithay::input::{Seat, SeatHandler, SeatState};
use smithay::output::{Mode, Output, PhysicalProperties, Scale, Subpixel};
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode as Frames;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::{ResizeEdge, State};
use smithay::reexports::wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_output::WlOutput;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Display, DisplayHandle, ListeningSocket, Resource as _};
use smithay::utils::{Logical, Point, Rectangle, SERIAL_COUNTER, Serial, Size};
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::compositor::{
    BufferAssignment, CompositorClientState, CompositorHandler, CompositorState, SubsurfaceCachedState,
    SurfaceAttributes, SurfaceData, TraversalAction, with_states, with_surface_tree_upward,
};
use smithay::wayland::cursor_shape::CursorShapeManagerState;
use smithay::wayland::fractional_scale::{
    FractionalScaleHandler, FractionalScaleManagerState, with_fractional_scale,
};
use smithay::wayland::output::OutputHandler;
use smithay::wayland::shell::xdg::decoration::{XdgDecorationHandler, XdgDecorationState};
use smithay::wayland::shell::xdg::{
    PopupSurface, PositionerState, SurfaceCachedState, ToplevelSurface, XdgShellHandler, XdgShellState,
};
use smithay::wayland::shm::{ShmHandler, ShmState, with_buffer_contents};
use smithay::wayland::tablet_manager::TabletSeatHandler;
use smithay::wayland::viewporter::{ViewportCachedState, ViewporterState};

use self::copying::Copying;
use self::wishes::Wishes;
#[allow(unused_imports, reason = "not every test looks at wishes")]
pub use self::wishes::{Held, Kind};

/// The size of its output, in logical pixels at scale 1.
pub const SIZE: (i32, i32) = (1280, 800);
/// Where the first window's geometry begins; each further one begins as much further.
pub const FIRST: (i32, i32) = (120, 100);
/// Evdev code of the left button.
pub const LEFT: u32 = 0x110;
/// Evdev code of the right button.
pub const RIGHT: u32 = 0x111;
/// What is behind the windows.
const BEHIND: [u8; 3] = [70, 90, 120];
/// How often windows may draw.
const TICK: Duration = Duration::from_millis(16);

/// What a desktop offers.
#[derive(Debug, Clone, Copy)]
pub struct Offers {
    /// Who draws frames, where `xdg-decoration` is there; whatever windows wish.
    pub frames: Option<Frames>,
    /// The scale of its output; whole ones are told to those who do not know fractions.
    pub scale_120: u32,
    /// `wp_cursor_shape_manager_v1`.
    pub cursor_shapes: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self { frames: None, scale_120: 120, cursor_shapes: false }
    }
}

/// What a window asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Move,
    Resize(ResizeEdge),
    Maximize,
    Unmaximize,
    Minimize,
    /// The window menu, at a place of its surface.
    Menu(i32, i32),
    /// The focus, with the serial of something that the user did.
    Focus,
    /// Attention.
    Attention,
    /// The focus, with a launcher's token.
    Launched,
    /// The screen on, or no more.
    Awake(bool),
    /// The desktop's shortcuts, or no more.
    Shortcuts(bool),
    /// To be answered before its parent, or no more.
    Modal(bool),
}

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// The desktop; it ends with this.
#[derive(Debug)]
pub struct Desktop {
    jobs: Option<Sender<Job>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
    runtime: tempfile::TempDir,
}

impl Desktop {
    pub fn start(offers: Offers) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-desk-").tempdir_in("/tmp").unwrap();
        let socket = ListeningSocket::bind_absolute(runtime.path().join("wayland-1")).unwrap();
        let (wake, woken) = UnixStream::pair().unwrap();
        let (jobs, todo) = channel();
        let thread = std::thread::spawn(move || run(offers, &socket, &woken, &todo));
        Self { jobs: Some(jobs), wake, thread: Some(thread), runtime }
    }

    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("wayland-1")
    }

    /// Has the desktop do something, and what it says.
    pub fn with<T: Send + 'static>(&self, job: impl FnOnce(&mut Desk) -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job: Job = Box::new(move |desk| {
            let _ = answer.send(job(desk));
        });
        self.jobs.as_ref().unwrap().send(job).expect("the desktop has ended");
        rustix::io::write(&self.wake, &[1]).unwrap();
        answered.recv().expect("the desktop's answer")
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = rustix::io::write(&self.wake, &[1]);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the desktop panicked");
        }
    }
}

fn run(offers: Offers, socket: &ListeningSocket, woken: &UnixStream, todo: &Receiver<Job>) {
    let mut display = Display::<Desk>::new().unwrap();
    let mut desk = Desk::new(&display.handle(), offers);
    let mut next = Instant::now();
    loop {
        display.flush_clients().unwrap();
        {
            let fds: [&dyn AsFd; 3] = [&display, socket, woken];
            let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
            let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
            let _ = poll(&mut fds, Some(&limit));
            if fds[2].revents().contains(PollFlags::IN) {
                let _ = rustix::io::read(woken, &mut [0; 64]);
            }
        }
        while let Some(stream) = socket.accept().unwrap() {
            display.handle().insert_client(stream, Arc::new(Guest::default())).unwrap();
        }
        display.dispatch_clients(&mut desk).unwrap();
        loop {
            match todo.try_recv() {
                Ok(job) => job(&mut desk),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + TICK;
            desk.tick();
        }
    }
}

/// What belongs to a connection.
#[derive(Debug, Default)]
struct Guest(CompositorClientState);

impl ClientData for Guest {
    fn initialized(&self, _: ClientId) {}
    fn disconnected(&self, _: ClientId, _: DisconnectReason) {}
}

/// What a surface shows: rows of blue, green, red, alpha.
#[derive(Debug, Default)]
struct Shown(std::sync::Mutex<Pixels>);

#[derive(Debug, Default, Clone)]
struct Pixels {
    size: (u32, u32),
    opaque: bool,
    bytes: Vec<u8>,
}

/// A pointer's image that is a surface.
#[derive(Debug, PartialEq, Eq)]
pub struct CursorPixels {
    pub size: (u32, u32),
    pub scale: i32,
    /// The point that points, in logical pixels.
    pub hotspot: (i32, i32),
}

/// A surface with its place on the output.
struct Placed {
    surface: WlSurface,
    area: Rectangle<i32, Logical>,
}

/// The desktop's side.
#[derive(Debug)]
pub struct Desk {
    display: DisplayHandle,
    offers: Offers,
    begin: Instant,
    compositor: CompositorState,
    shell: XdgShellState,
    shm: ShmState,
    seats: SeatState<Self>,
    seat: Seat<Self>,
    output: Output,
    /// Windows in the order in which they opened.
    windows: Vec<ToplevelSurface>,
    popups: Vec<PopupSurface>,
    wishes: Wishes,
    copying: Copying,
    /// What was asked for, until the test clears it.
    pub asked: Vec<Asked>,
    /// The icons of the window that was given some last: sides, and bytes of the first.
    pub icons: (Vec<u32>, Vec<u8>),
    /// The pointer's image.
    pub cursor: CursorImageStatus,
}

impl Desk {
    fn new(display: &DisplayHandle, offers: Offers) -> Self {
        let mut seats = SeatState::new();
        let mut seat = seats.new_wl_seat(display, "seat0");
        seat.add_pointer();
        seat.add_keyboard(XkbConfig::default(), 600, 25).unwrap();
        let properties = PhysicalProperties {
            size: (300, 190).into(),
            subpixel: Subpixel::Unknown,
            make: "Inlay".to_owned(),
            model: "Desk".to_owned(),
        };
        let output = Output::new("DESK-1".to_owned(), properties);
        output.create_global::<Self>(display);
        set_scale(&output, offers.scale_120);
        if offers.frames.is_some() {
            XdgDecorationState::new::<Self>(display);
        }
        if offers.cursor_shapes {
            CursorShapeManagerState::new::<Self>(display);
        }
        FractionalScaleManagerState::new::<Self>(display);
        ViewporterState::new::<Self>(display);
        Self {
            display: display.clone(),
            offers,
            begin: Instant::now(),
            compositor: CompositorState::new::<Self>(display),
            shell: XdgShellState::new::<Self>(display),
            shm: ShmState::new::<Self>(display, []),
            seats,
            seat,
            output,
            windows: Vec::new(),
            popups: Vec::new(),
            wishes: Wishes::offer(display),
            copying: Copying::offer(display),
            asked: Vec::new(),
            icons: (Vec::new(), Vec::new()),
            cursor: CursorImageStatus::default_named(),
        }
    }

    /// Milliseconds since it began.
    fn now(&self) -> u32 {
        u32::try_from(self.begin.elapsed().as_millis()).unwrap()
    }

    fn tick(&mut self) {
        self.windows.retain(ToplevelSurface::alive);
        self.popups.retain(PopupSurface::alive);
        let time = self.now();
        for placed in self.placed() {
            with_states(&placed.surface, |states| {
                let mut attributes = states.cached_state.get::<SurfaceAttributes>();
                for callback in attributes.current().frame_callbacks.drain(..) {
                    callback.done(time);
                }
            });
        }
    }

    /// The pointer's image where it is a surface.
    pub fn cursor_pixels(&self) -> Option<CursorPixels> {
        let CursorImageStatus::Surface(surface) = &self.cursor else { return None };
        with_states(surface, |states| {
            let size = states.data_map.get::<Shown>()?.0.lock().unwrap().size;
            let scale = states.cached_state.get::<SurfaceAttributes>().current().buffer_scale;
            let attributes = states.data_map.get::<CursorImageSurfaceData>()?.lock().unwrap();
            Some(CursorPixels { size, scale, hotspot: (attributes.hotspot.x, attributes.hotspot.y) })
        })
    }

    /// The windows.
    pub fn windows(&self) -> &[ToplevelSurface] {
        &self.windows
    }

    /// The geometry of a surface with a role of xdg-shell.
    pub fn geometry(surface: &WlSurface) -> Rectangle<i32, Logical> {
        let told =
            with_states(surface, |states| states.cached_state.get::<SurfaceCachedState>().current().geometry);
        told.unwrap_or_default()
    }

    /// Where the geometry of a window begins.
    pub fn place(&self, window: usize) -> Point<i32, Logical> {
        let step = i32::try_from(window).unwrap();
        if self.windows[window].current_state().states.contains(State::Maximized) {
            return (0, 0).into();
        }
        (FIRST.0 * (step + 1), FIRST.1 * (step + 1)).into()
    }

    fn place_of(&self, surface: &WlSurface) -> Option<Point<i32, Logical>> {
        if let Some(at) = self.windows.iter().position(|w| w.wl_surface() == surface) {
            return Some(self.place(at));
        }
        let popup = self.popups.iter().find(|p| p.wl_surface() == surface)?;
        let parent = self.place_of(&popup.get_parent_surface()?)?;
        let geometry = popup.with_pending_state(|state| state.geometry);
        Some(parent + geometry.loc)
    }

    /// Every surface that shows something, the lowest first.
    fn placed(&self) -> Vec<Placed> {
        let mut all = Vec::new();
        let windows = self.windows.iter().map(ToplevelSurface::wl_surface);
        for surface in windows.chain(self.popups.iter().map(PopupSurface::wl_surface)) {
            let Some(at) = self.place_of(surface).filter(|_| surface.is_alive()) else { continue };
            let begin = at - Self::geometry(surface).loc;
            with_surface_tree_upward(
                surface,
                begin,
                |_, states, at| TraversalAction::DoChildren(*at + offset(states)),
                |surface, states, at| {
                    if let Some(size) = shown_size(states) {
                        let area = Rectangle::new(*at + offset(states), size);
                        all.push(Placed { surface: surface.clone(), area });
                    }
                },
                |_, _, _| true,
            );
        }
        all
    }

    /// The uppermost surface that takes input at a place.
    fn under(&self, at: Point<f64, Logical>) -> Option<(WlSurface, Point<f64, Logical>)> {
        self.placed().into_iter().rev().find_map(|placed| {
            let inside = at - placed.area.loc.to_f64();
            let takes = placed.area.to_f64().contains(at)
                && with_states(&placed.surface, |states| {
                    let mut attributes = states.cached_state.get::<SurfaceAttributes>();
                    let region = attributes.current().input_region.clone();
                    region.is_none_or(|region| region.contains(inside.to_i32_floor()))
                });
            takes.then(|| (placed.surface, placed.area.loc.to_f64()))
        })
    }

    /// Moves the pointer.
    pub fn point(&mut self, x: i32, y: i32) {
        let location = Point::<i32, Logical>::from((x, y)).to_f64();
        let (focus, time) = (self.under(location), self.now());
        let pointer = self.seat.get_pointer().unwrap();
        pointer.motion(self, focus, &MotionEvent { location, serial: SERIAL_COUNTER.next_serial(), time });
        pointer.frame(self);
    }

    /// Presses or lifts a button.
    pub fn button(&mut self, button: u32, pressed: bool) {
        let (time, serial) = (self.now(), SERIAL_COUNTER.next_serial());
        let state = if pressed {
            smithay::backend::input::ButtonState::Pressed
        } else {
            smithay::backend::input::ButtonState::Released
        };
        let pointer = self.seat.get_pointer().unwrap();
        pointer.button(self, &ButtonEvent { serial, time, button, state });
        pointer.frame(self);
    }

    /// Presses and lifts a button.
    pub fn click(&mut self, button: u32) {
        self.button(button, true);
        self.button(button, false);
    }

    /// Presses and lifts a key, of an evdev code.
    pub fn key(&mut self, key: u32) {
        let keyboard = self.seat.get_keyboard().unwrap();
        for state in [smithay::backend::input::KeyState::Pressed, smithay::backend::input::KeyState::Released]
        {
            let (time, serial) = (self.now(), SERIAL_COUNTER.next_serial());
            // evdev's codes are 8 lower than XKB's.
            keyboard
                .input::<(), _>(self, (key + 8).into(), state, serial, time, |_, _, _| FilterResult::Forward);
        }
    }

    /// Tells a window its size (none leaves it to the app) and states.
    pub fn configure(&mut self, window: usize, size: Option<(i32, i32)>, states: &[State]) {
        let toplevel = &self.windows[window];
        toplevel.with_pending_state(|pending| {
            pending.size = size.map(Size::from);
            pending.states = smithay::wayland::shell::xdg::ToplevelStateSet::default();
            for state in states {
                pending.states.set(*state);
            }
        });
        toplevel.send_configure();
    }

    /// Gives the output another scale.
    pub fn rescale(&mut self, scale_120: u32) {
        self.offers.scale_120 = scale_120;
        set_scale(&self.output, scale_120);
        for placed in self.placed() {
            self.new_fractional_scale(placed.surface);
        }
    }

    /// What the output shows, in its own pixels.
    pub fn picture(&self) -> image::RgbImage {
        let size = self.output.current_mode().unwrap().size;
        let mut picture =
            image::RgbImage::from_pixel(size.w.unsigned_abs(), size.h.unsigned_abs(), image::Rgb(BEHIND));
        for placed in self.placed() {
            let shown = with_states(&placed.surface, |states| {
                states.data_map.get::<Shown>().map(|shown| shown.0.lock().unwrap().clone())
            });
            if let Some(shown) = shown {
                draw(&mut picture, &shown, placed.area, self.offers.scale_120);
            }
        }
        picture
    }

    /// Pixels for each logical pixel, in 120ths, of every surface that shows something.
    pub fn densities(&self) -> Vec<u32> {
        let density = |placed: Placed| {
            with_states(&placed.surface, |states| {
                let (width, _) = states.data_map.get::<Shown>()?.0.lock().unwrap().size;
                Some(120 * width / placed.area.size.w.unsigned_abs())
            })
        };
        self.placed().into_iter().filter_map(density).collect()
    }

    fn take_buffer(surface: &WlSurface, states: &SurfaceData) {
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        let Some(assigned) = attributes.current().buffer.take() else { return };
        states.data_map.insert_if_missing_threadsafe(Shown::default);
        let shown = states.data_map.get::<Shown>().unwrap();
        *shown.0.lock().unwrap() = match assigned {
            BufferAssignment::Removed => Pixels::default(),
            BufferAssignment::NewBuffer(buffer) => {
                let pixels = copy(&buffer).unwrap_or_else(|| panic!("{surface:?}: not in shared memory"));
                buffer.release();
                pixels
            }
        };
    }
}

fn set_scale(output: &Output, scale_120: u32) {
    let pixels = |side: i32| (side * scale_120.cast_signed() + 60) / 120;
    let mode = Mode { size: (pixels(SIZE.0), pixels(SIZE.1)).into(), refresh: 60_000 };
    let scale = Scale::Fractional(f64::from(scale_120) / 120.0);
    output.change_current_state(Some(mode), None, Some(scale), Some((0, 0).into()));
    output.set_preferred(mode);
}

fn offset(states: &SurfaceData) -> Point<i32, Logical> {
    if states.role == Some("subsurface") {
        states.cached_state.get::<SubsurfaceCachedState>().current().location
    } else {
        Point::default()
    }
}

/// The size of what a surface shows; `None` when it shows nothing.
fn shown_size(states: &SurfaceData) -> Option<Size<i32, Logical>> {
    let (width, height) = states.data_map.get::<Shown>()?.0.lock().unwrap().size;
    if width == 0 {
        return None;
    }
    let scale = states.cached_state.get::<SurfaceAttributes>().current().buffer_scale;
    let plain = (width.cast_signed() / scale, height.cast_signed() / scale).into();
    let viewport = states.cached_state.get::<ViewportCachedState>().current().dst;
    Some(viewport.unwrap_or(plain))
}

fn copy(buffer: &WlBuffer) -> Option<Pixels> {
    with_buffer_contents(buffer, |start, length, data| {
        let number = |v: i32| usize::try_from(v).unwrap();
        let (offset, stride) = (number(data.offset), number(data.stride));
        let (width, height) = (number(data.width), number(data.height));
        assert!(offset + stride * (height - 1) + 4 * width <= length, "a buffer beyond its pool");
        let rows = (0..height).map(|row| {
            // SAFETY: within the pool, as checked; the client does not write to what it has committed.
            unsafe { std::slice::from_raw_parts(start.add(offset + row * stride), 4 * width) }
        });
        let opaque = data.format == smithay::reexports::wayland_server::protocol::wl_shm::Format::Xrgb8888;
        let size = (data.width.unsigned_abs(), data.height.unsigned_abs());
        Pixels { size, opaque, bytes: rows.flatten().copied().collect() }
    })
    .ok()
}

/// Draws pixels over an area of logical pixels, each pixel of the picture by the nearest one.
fn draw(picture: &mut image::RgbImage, shown: &Pixels, area: Rectangle<i32, Logical>, scale_120: u32) {
    let scaled = |v: i32| (i64::from(v) * i64::from(scale_120) + 60).div_euclid(120);
    let (left, top) = (scaled(area.loc.x), scaled(area.loc.y));
    let (width, height) = (scaled(area.size.w), scaled(area.size.h));
    for y in 0..height {
        for x in 0..width {
            let (Ok(to_x), Ok(to_y)) = (u32::try_from(left + x), u32::try_from(top + y)) else { continue };
            if to_x >= picture.width() || to_y >= picture.height() {
                continue;
            }
            let from_x = x * i64::from(shown.size.0) / width;
            let from_y = y * i64::from(shown.size.1) / height;
            let at = usize::try_from(4 * (from_y * i64::from(shown.size.0) + from_x)).unwrap();
            let [b, g, r, alpha] = shown.bytes[at..at + 4].try_into().unwrap();
            let alpha = if shown.opaque { 255 } else { alpha };
            let under = picture.get_pixel(to_x, to_y).0;
            let blend = |over: u8, under: u8| {
                let rest = u16::from(under) * u16::from(255 - alpha) / 255;
                u8::try_from((u16::from(over) + rest).min(255)).unwrap()
            };
            let blended = [blend(r, under[0]), blend(g, under[1]), blend(b, under[2])];
            picture.put_pixel(to_x, to_y, image::Rgb(blended));
        }
    }
}

impl CompositorHandler for Desk {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        &client.get_data::<Guest>().unwrap().0
    }

    fn commit(&mut self, surface: &WlSurface) {
        // What is kept for its parent's commit comes with that.
        with_surface_tree_upward(
            surface,
            (),
            |_, _, ()| TraversalAction::DoChildren(()),
            |surface, states, ()| Self::take_buffer(surface, states),
            |_, _, ()| true,
        );
        let window = self.windows.iter().find(|w| w.wl_surface() == surface);
        if let Some(window) = window.filter(|w| !w.is_initial_configure_sent()) {
            window.with_pending_state(|state| state.states.set(State::Activated));
            window.send_configure();
            let keyboard = self.seat.get_keyboard().unwrap();
            keyboard.set_focus(self, Some(surface.clone()), SERIAL_COUNTER.next_serial());
        }
        let popup = self.popups.iter().find(|p| p.wl_surface() == surface);
        if let Some(popup) = popup.filter(|p| !p.is_initial_configure_sent()) {
            popup.send_configure().unwrap();
        }
    }

    fn new_surface(&mut self, surface: &WlSurface) {
        self.output.enter(surface);
    }
}

impl XdgShellHandler for Desk {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.shell
    }

    fn new_toplevel(&mut self, surface: ToplevelSurface) {
        self.windows.push(surface);
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        surface.with_pending_state(|state| state.geometry = positioner.get_geometry());
        self.popups.push(surface);
    }

    fn grab(&mut self, _: PopupSurface, _: WlSeat, _: Serial) {}

    fn reposition_request(&mut self, surface: PopupSurface, positioner: PositionerState, token: u32) {
        surface.with_pending_state(|state| state.geometry = positioner.get_geometry());
        surface.send_repositioned(token);
    }

    fn move_request(&mut self, _: ToplevelSurface, _: WlSeat, _: Serial) {
        self.asked.push(Asked::Move);
    }

    fn resize_request(&mut self, _: ToplevelSurface, _: WlSeat, _: Serial, edges: ResizeEdge) {
        self.asked.push(Asked::Resize(edges));
    }

    fn maximize_request(&mut self, _: ToplevelSurface) {
        self.asked.push(Asked::Maximize);
    }

    fn unmaximize_request(&mut self, _: ToplevelSurface) {
        self.asked.push(Asked::Unmaximize);
    }

    fn minimize_request(&mut self, _: ToplevelSurface) {
        self.asked.push(Asked::Minimize);
    }

    fn fullscreen_request(&mut self, _: ToplevelSurface, _: Option<WlOutput>) {}

    fn show_window_menu(&mut self, _: ToplevelSurface, _: WlSeat, _: Serial, at: Point<i32, Logical>) {
        self.asked.push(Asked::Menu(at.x, at.y));
    }
}

impl XdgDecorationHandler for Desk {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        let frames = self.offers.frames;
        toplevel.with_pending_state(|state| state.decoration_mode = frames);
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, _: Frames) {
        if toplevel.is_initial_configure_sent() {
            toplevel.send_configure();
        }
    }

    fn unset_mode(&mut self, _: ToplevelSurface) {}
}

impl FractionalScaleHandler for Desk {
    fn new_fractional_scale(&mut self, surface: WlSurface) {
        let scale = f64::from(self.offers.scale_120) / 120.0;
        with_states(&surface, |states| {
            with_fractional_scale(states, |fractional| fractional.set_preferred_scale(scale));
        });
    }
}

impl SeatHandler for Desk {
    type KeyboardFocus = WlSurface;
    type PointerFocus = WlSurface;
    type TouchFocus = WlSurface;

    fn seat_state(&mut self) -> &mut SeatState<Self> {
        &mut self.seats
    }

    fn focus_changed(&mut self, _: &Seat<Self>, focused: Option<&WlSurface>) {
        self.copying_focus(focused);
    }

    fn cursor_image(&mut self, _: &Seat<Self>, image: CursorImageStatus) {
        self.cursor = image;
    }
}

impl ShmHandler for Desk {
    fn shm_state(&self) -> &ShmState {
        &self.shm
    }
}

impl BufferHandler for Desk {
    fn buffer_destroyed(&mut self, _: &WlBuffer) {}
}

impl OutputHandler for Desk {}

impl TabletSeatHandler for Desk {}

smithay::delegate_compositor!(Desk);
smithay::delegate_xdg_shell!(Desk);
smithay::delegate_xdg_decoration!(Desk);
smithay::delegate_fractional_scale!(Desk);
smithay::delegate_viewporter!(Desk);
smithay::delegate_shm!(Desk);
smithay::delegate_seat!(Desk);
smithay::delegate_cursor_shape!(Desk);
smithay::delegate_output!(Desk);
