//! The full window: the guest's whole screen in one host window, beside or without the windows of its apps.
//!
//! ```text
//!   Notice::Screen -> announce -> open -> [ Scanout, Flushed -> damaged rows -> texture -> letterboxed quad ] -> Wish::Drawn
//!                                           desktop's input -> keys, places -> Wish::Key, Pointer, ...
//!                                           desktop closes it -> Wish::Closed
//! ```
//!
//! It knows nothing of the agent: the machine process tells what is on the screen ([`inlay_protocol::memory`]), and takes what the user does
//! there. Pixels are read from the guest's pages, damaged rows only; what is flushed while the window cannot be drawn is one rectangle.

mod input;
mod layout;

use std::time::{Duration, Instant};

use inlay_protocol::display::{
    Act, BufferId, Content, ContentType, Decoration, Format, States, SurfaceId, WindowKind,
};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::memory::{CursorImage, Notice, SCREEN, Scanout, Show, Wish};

use self::input::{Input, Order, ctrl_alt_delete, ctrl_alt_function};
use self::layout::Layout;
use super::dialogs::Dialogs;
use super::memory::GuestMemory;
use super::presenter::image::Image;
use super::presenter::{Dragged, Ended, HostEvent, Look, Presenter, open_own};
use super::render::{Drawn, Quad, Renderer, Target, Texture};
use super::scene::bands;
use super::session::bordered;
use super::window::Told;

/// The window's id: neither the guest's windows nor the host's questions have it.
pub const WINDOW: SurfaceId = SurfaceId(u32::MAX);
/// What it is called, before the machine's name.
pub const TITLE: &str = "Screen";
/// Its size before the guest's screen has one.
const FIRST: Size = Size::new(1280, 800);
/// The guest's screen follows the window's size when that has not changed for this time.
const SETTLED: Duration = Duration::from_millis(250);

/// What the menu offers; the first is what happens when it is closed.
pub const MENU: [&str; 7] =
    ["Back", "Ctrl-Alt-Del", "Ctrl-Alt-F1", "Ctrl-Alt-F2", "Ctrl-Alt-F3", "Full screen", "Apps"];

/// The window on the host.
#[derive(Debug, Default)]
struct Window {
    told: Told,
    target: Option<Target>,
    /// Of its content, in logical pixels.
    size: Size,
    states: States,
    visible: bool,
    dirty: bool,
    /// The desktop is to say when the next frame may be drawn.
    waits: bool,
    /// When its size changed, until the guest is told.
    resized: Option<Instant>,
}

/// The guest's screen.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a thing of its own that is to be done")]
pub struct Screen {
    machine: String,
    show: Option<Show>,
    scanout: Option<Scanout>,
    cursor: Option<CursorImage>,
    texture: Option<Texture>,
    black: Option<Texture>,
    /// What is to be copied before the next frame.
    damage: Option<Rect>,
    /// The machine process waits to hear that it was.
    flushed: bool,
    window: Option<Window>,
    input: Input,
    /// Where the guest's screen is in the window.
    layout: Layout,
    /// The pointer's image is to be set.
    point: bool,
    /// It is to take all of a monitor, or no more.
    toggle: bool,
    /// The windows of apps are to come in its place.
    apps: bool,
    last_frame: Option<Instant>,
    wishes: Vec<Wish>,
}

impl Screen {
    /// Of this machine.
    #[must_use]
    pub fn new(machine: &str) -> Self {
        Self { machine: machine.to_owned(), ..Self::default() }
    }

    /// Whether its window is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.target.is_some())
    }

    /// Its title as the desktop shows it, without the machine, and the size of its content in logical pixels.
    #[must_use]
    pub fn info(&self) -> Option<(&'static str, String, Size)> {
        let window = self.window.as_ref().filter(|window| window.target.is_some())?;
        Some((TITLE, class(&self.machine), window.size))
    }

    /// Takes what the machine process tells.
    pub fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Screen(show) => {
                self.show = *show;
                let whole = self.window.as_ref().map(|window| window.states.contains(States::FULLSCREEN));
                self.toggle |= show.is_some_and(|show| whole.is_some_and(|whole| show.fullscreen && !whole));
            }
            Notice::Scanout(scanout) => {
                self.scanout = *scanout;
                self.damage = scanout.map(|scanout| Rect::of_size(scanout.size));
                self.touch();
            }
            Notice::Flushed(area) => {
                self.flushed = true;
                self.damage = Some(self.damage.map_or(*area, |damage| damage.union(*area)));
                self.touch();
            }
            Notice::Cursor(cursor) => {
                self.cursor = *cursor;
                self.point = true;
            }
            Notice::Regions(_) => (self.scanout, self.cursor) = (None, None),
            Notice::Resource { .. }
            | Notice::ResourceGone { .. }
            | Notice::Ending
            | Notice::Say(_)
            | Notice::State(_)
            | Notice::Apps => {}
        }
    }

    /// Whether the windows of all apps are wanted in its place, in one window; told once.
    pub fn wants_apps(&mut self) -> bool {
        std::mem::take(&mut self.apps)
    }

    fn give_place(&mut self) {
        self.apps = true;
        self.wishes.push(Wish::Closed);
        self.show = None;
    }

    fn touch(&mut self) {
        if let Some(window) = &mut self.window {
            window.dirty = true;
        }
    }

    /// What the machine process is to hear.
    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// When there is something to do although nothing comes.
    #[must_use]
    pub fn due(&self, interval: Duration) -> Option<Instant> {
        let window = self.window.as_ref()?;
        let frame = (window.dirty && window.visible && !window.waits && window.target.is_some())
            .then(|| self.last_frame.map_or_else(Instant::now, |last| last + interval));
        let settled = window.resized.map(|at| at + SETTLED);
        frame.into_iter().chain(settled).min()
    }

    /// Takes what the desktop tells of this window; what is left is for the others.
    pub fn take(&mut self, event: HostEvent) -> Option<HostEvent> {
        let window = self.window.as_mut();
        match event {
            HostEvent::Configured { window: WINDOW, size, states } => {
                if let Some(window) = window {
                    (window.told, window.states) = (Told::Decided, states);
                    if !size.is_empty() && window.size != size {
                        (window.size, window.resized) = (size, Some(Instant::now()));
                    }
                    window.dirty = true;
                }
            }
            HostEvent::Ready { window: WINDOW } => {
                if let Some(window) = window {
                    window.waits = false;
                }
            }
            HostEvent::Visible { window: WINDOW, visible, .. } => {
                if let Some(window) = window {
                    window.dirty |= visible && !window.visible;
                    window.visible = visible;
                }
            }
            HostEvent::Exposed { window: WINDOW } => self.touch(),
            HostEvent::Close { window: WINDOW } | HostEvent::Destroyed { window: WINDOW } => {
                self.wishes.push(Wish::Closed);
                self.show = None;
            }
            HostEvent::Shown { window: WINDOW, .. } => self.touch(),
            HostEvent::Moved { window: WINDOW, .. }
            | HostEvent::ShortcutsInhibited { window: WINDOW, .. }
            | HostEvent::Constrained { window: WINDOW, .. }
            | HostEvent::Drag(Dragged::Enter { window: WINDOW, .. }) => {}
            HostEvent::Focus { window, keys, modifiers } => {
                let focused = window == Some(WINDOW);
                self.wishes.extend(self.input.focus(focused));
                let window = window.filter(|_| !focused);
                let keys = if focused { Vec::new() } else { keys };
                return Some(HostEvent::Focus { window, keys, modifiers });
            }
            HostEvent::Menu { choice } => match choice {
                1 => self.wishes.extend(ctrl_alt_delete()),
                2..=4 => {
                    let number = u16::try_from(choice - 1).unwrap_or(0);
                    self.wishes.extend(ctrl_alt_function(number));
                }
                5 => self.toggle = true,
                6 => self.give_place(),
                _ => {}
            },
            HostEvent::Input(event) => {
                let was = self.input.is_pointed();
                let left = self.input.take(event, &self.layout, &mut self.wishes);
                self.point |= self.input.is_pointed() && !was;
                return left.map(HostEvent::Input);
            }
            other => return Some(other),
        }
        None
    }

    /// Opens or closes the window, does what the user wants of it, and draws what changed.
    pub fn turn(
        &mut self,
        interval: Duration,
        memory: &GuestMemory,
        presenter: &mut dyn Presenter,
        renderer: &mut Renderer,
        dialogs: &mut Dialogs,
    ) {
        match (self.show, self.window.is_some()) {
            (Some(show), false) => self.window = Some(self.begin(show, presenter)),
            (None, true) => {
                dialogs.menu_no_more();
                self.close(presenter);
            }
            _ => {}
        }
        self.open(presenter, renderer);
        for order in self.input.orders() {
            match order {
                Order::Menu => {
                    // What is held down would stay so while the menu has the keyboard.
                    self.wishes.push(Wish::Released);
                    dialogs.menu(WINDOW, &format!("Screen of {}. The right Ctrl key held down does the same: with Delete, a function key, F, S.", self.machine));
                }
                Order::Fullscreen => self.toggle = true,
                Order::Apps => self.give_place(),
            }
        }
        if std::mem::take(&mut self.toggle)
            && let Some(window) = self.window.as_ref().filter(|window| window.target.is_some())
        {
            let whole = window.states.contains(States::FULLSCREEN);
            presenter.act(WINDOW, if whole { Act::Unfullscreen } else { Act::Fullscreen });
        }
        if self.point && self.input.is_pointed() {
            self.point = false;
            presenter.set_cursor(self.pointer(memory));
        }
        let now = Instant::now();
        self.resize(now, presenter);
        let Some(window) = &self.window else { return };
        let due = self.last_frame.is_none_or(|last| now >= last + interval);
        if due && window.dirty && window.visible && !window.waits && window.target.is_some() {
            self.last_frame = Some(now);
            self.draw(memory, presenter, renderer);
        }
    }

    fn begin(&self, show: Show, presenter: &dyn Presenter) -> Window {
        let wanted = self.scanout.map_or(FIRST, |scanout| scanout.size);
        let room = presenter.outputs().iter().map(|output| output.area.size());
        let room = room.max_by_key(|size| u64::from(size.width) * u64::from(size.height)).unwrap_or(FIRST);
        let size = Size::new(wanted.width.min(room.width), wanted.height.min(room.height));
        let states = States::default().set(States::FULLSCREEN, show.fullscreen);
        Window { size, states, visible: true, dirty: true, ..Window::default() }
    }

    fn close(&mut self, presenter: &mut dyn Presenter) {
        let Some(window) = self.window.take() else { return };
        drop(window.target);
        if window.told.is_known() {
            presenter.close(WINDOW);
        }
        self.texture = None;
        self.input = Input::default();
        self.toggle = false;
        self.damage = self.scanout.map(|scanout| Rect::of_size(scanout.size));
    }

    fn look(&self) -> Look {
        let title = format!("{TITLE} ({})", self.machine);
        Look {
            title,
            class: class(&self.machine),
            parent: None,
            min_size: Size::new(160, 100),
            max_size: Size::default(),
            base_size: Size::default(),
            increment: Size::default(),
            decoration: Decoration::ServerSide,
            kind: WindowKind::Normal,
            modal: false,
            urgent: false,
            no_focus: false,
            keeps_awake: false,
            // Where the desktop has a way to leave them to a window; it does while the window has the focus.
            inhibits_shortcuts: true,
            content_type: ContentType::None,
            place: None,
        }
    }

    fn open(&mut self, presenter: &mut dyn Presenter, renderer: &mut Renderer) {
        let look = self.look();
        let Some(window) = self.window.as_mut().filter(|window| window.target.is_none()) else { return };
        let wanted = (window.size, window.states);
        match open_own(presenter, renderer, WINDOW, &mut window.told, &look, wanted) {
            Ok(Some(target)) => {
                window.target = Some(target);
                window.resized = Some(Instant::now());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("the guest's screen cannot be shown: {error:#}");
                self.wishes.push(Wish::Closed);
                self.show = None;
            }
        }
    }

    /// Tells the guest the size of its window, in pixels.
    fn resize(&mut self, now: Instant, presenter: &dyn Presenter) {
        let Some(window) = &mut self.window else { return };
        if window.resized.is_none_or(|at| now < at + SETTLED) {
            return;
        }
        window.resized = None;
        let scale = u64::from(presenter.scale(WINDOW));
        let side = |logical: u32| {
            let pixels = u32::try_from(u64::from(logical) * scale / 120).unwrap_or(u32::MAX);
            pixels.clamp(*SCREEN.start(), *SCREEN.end())
        };
        self.wishes.push(Wish::Size(Size::new(side(window.size.width), side(window.size.height))));
    }

    /// Copies what was drawn on the screen into its texture.
    fn copy(&mut self, memory: &GuestMemory, renderer: &mut Renderer) {
        let Some(scanout) = self.scanout else {
            self.texture = None;
            return;
        };
        let Some(damage) = self.damage.take() else { return };
        let whole = Rect::of_size(scanout.size);
        let fitting = self.texture.take().filter(|texture| texture.size() == scanout.size);
        let damage = if fitting.is_some() { damage.intersection(whole) } else { Some(whole) };
        let resource = memory.resource(scanout.resource);
        let resource = resource.filter(|resource| resource.generation == scanout.generation);
        // Without its pages the screen is black.
        let Some(resource) = resource else { return };
        let content = Content {
            buffer: BufferId(0),
            offset: scanout.offset,
            size: scanout.size,
            stride: scanout.stride,
            format: Format::Xrgb8888,
        };
        let Some(texture) = fitting.or_else(|| renderer.texture(scanout.size)) else { return };
        for rect in damage.into_iter().flat_map(bands) {
            let done = renderer.upload(&texture, rect, |to, pitch, room| {
                // SAFETY: the ring hands out `room` writable bytes of the device's memory, which is not guest memory.
                unsafe { resource.backing.copy_rect(&content, rect, to, pitch, room) }.is_some()
            });
            if !done {
                tracing::debug!("the guest's screen lies outside of its pages");
                return;
            }
        }
        self.texture = Some(texture);
    }

    fn draw(&mut self, memory: &GuestMemory, presenter: &mut dyn Presenter, renderer: &mut Renderer) {
        let Some(size) = self.window.as_ref().map(|window| window.size) else { return };
        let Some(pixels) = presenter.begin_frame(WINDOW, size, true) else { return };
        self.copy(memory, renderer);
        self.layout = self.layout(presenter.scale(WINDOW));
        let mut quads = self.quads(presenter.scale(WINDOW), renderer);
        if let Some(border) = presenter.border() {
            quads = bordered(quads, border, (size, pixels), None, presenter.scale(WINDOW), renderer);
        }
        let Some(window) = &mut self.window else { return };
        let Some(target) = &mut window.target else { return };
        let drawn = renderer.draw(target, pixels, &quads);
        renderer.submit();
        window.dirty = drawn == Drawn::Later;
        let ended = if window.dirty { Ended::Failed } else { Ended::Presented };
        window.waits = presenter.end_frame(WINDOW, ended);
        if std::mem::take(&mut self.flushed) {
            self.wishes.push(Wish::Drawn);
        }
    }

    /// What the window shows at a scale in 120ths: the screen, as large as it can be, on black.
    pub fn quads(&mut self, scale_120: u32, renderer: &mut Renderer) -> Vec<Quad> {
        let layout = self.layout(scale_120);
        if self.black.is_none() {
            self.black = renderer.solid([0, 0, 0]);
        }
        let black = self.black.clone().map(|black| Quad::solid(black, layout.window()));
        let screen = self
            .texture
            .clone()
            .map(|texture| Quad { filtered: !layout.is_exact(), ..Quad::solid(texture, layout.screen()) });
        black.into_iter().chain(screen).collect()
    }

    fn layout(&self, scale_120: u32) -> Layout {
        let size = self.window.as_ref().map(|window| window.size).unwrap_or_default();
        Layout::new(size, scale_120, self.texture.as_ref().map(Texture::size))
    }

    /// The pointer's image over the window: the guest's, where it has one; a text console has none.
    fn pointer(&self, memory: &GuestMemory) -> Image {
        let none = || Image::Named("default".to_owned());
        let Some(cursor) = self.cursor else { return none() };
        let resource = memory.resource(cursor.resource);
        let resource = resource.filter(|resource| resource.generation == cursor.generation);
        let content = Content {
            buffer: BufferId(0),
            offset: 0,
            size: cursor.size,
            stride: 4 * cursor.size.width,
            format: Format::Argb8888,
        };
        match resource.and_then(|resource| resource.backing.pixels(&content)) {
            // An image without a pixel to be seen hides the pointer.
            Some(bytes) if bytes.chunks_exact(4).all(|pixel| pixel.get(3) == Some(&0)) => Image::Hidden,
            Some(bytes) => {
                Image::Pixels { size: cursor.size, bytes, logical: cursor.size, hotspot: cursor.hotspot }
            }
            None => none(),
        }
    }
}

fn class(machine: &str) -> String {
    format!("inlay.{machine}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::presenter::headless::Headless;
    use inlay_protocol::memory::{Region, Run};
    use rustix::fs::{MemfdFlags, SealFlags};
    use std::os::fd::OwnedFd;

    const SIDE: u32 = 160;
    const BYTES: u64 = 4 * (SIDE as u64) * (SIDE as u64);
    const NOW: Duration = Duration::ZERO;

    struct Bench {
        screen: Screen,
        memory: GuestMemory,
        presenter: Headless,
        renderer: Renderer,
        dialogs: Dialogs,
        ram: OwnedFd,
    }

    impl Bench {
        fn new() -> Self {
            let ram =
                rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            rustix::fs::ftruncate(&ram, 1 << 20).unwrap();
            rustix::fs::fcntl_add_seals(&ram, SealFlags::SHRINK).unwrap();
            let mut bench = Self {
                screen: Screen::new("m"),
                memory: GuestMemory::default(),
                presenter: Headless::default(),
                renderer: Renderer::new(None).unwrap(),
                dialogs: Dialogs::default(),
                ram,
            };
            let region = Region { guest_addr: 0, size: 1 << 20, file_offset: 0 };
            let fd = bench.ram.try_clone().unwrap();
            bench.memory.apply(Notice::Regions(vec![region]), vec![fd]).unwrap();
            let runs = vec![Run { addr: 0, len: BYTES }];
            bench.memory.apply(Notice::Resource { id: 7, generation: 1, runs }, vec![]).unwrap();
            bench
        }

        fn paint(&self, x: u32, y: u32, pixel: [u8; 4]) {
            let at = 4 * u64::from(y * SIDE + x);
            rustix::io::pwrite(&self.ram, &pixel, at).unwrap();
        }

        fn show(&mut self, offset: u64, stride: u32) {
            let size = Size::new(SIDE, SIDE);
            let scanout = Scanout { resource: 7, generation: 1, offset, stride, size };
            self.screen.notice(&Notice::Scanout(Some(scanout)));
            self.screen.notice(&Notice::Screen(Some(Show::default())));
            self.turn();
        }

        fn turn(&mut self) -> Vec<Wish> {
            for _ in 0..3 {
                let (presenter, renderer) = (&mut self.presenter, &mut self.renderer);
                self.screen.turn(NOW, &self.memory, presenter, renderer, &mut self.dialogs);
                for event in self.presenter.dispatch().unwrap() {
                    assert_eq!(self.screen.take(event), None);
                }
            }
            self.screen.wishes()
        }

        fn pixel(&mut self, x: u32, y: u32) -> Vec<u8> {
            let (_, _, size) = self.screen.info().unwrap();
            let quads = self.screen.quads(120, &mut self.renderer);
            let picture = self.renderer.picture(size, &quads).unwrap();
            picture[4 * (y * size.width + x) as usize..][..4].to_vec()
        }
    }

    #[test]
    fn what_is_flushed_is_shown_and_nothing_else_is_read() {
        let mut b = Bench::new();
        b.paint(3, 2, [1, 2, 3, 0]);
        b.show(0, 4 * SIDE);
        assert_eq!(b.pixel(3, 2), [1, 2, 3, 255], "blue, green, red; opaque whatever the fourth says");
        b.paint(3, 2, [9, 9, 9, 9]);
        b.paint(50, 60, [4, 5, 6, 7]);
        b.screen.notice(&Notice::Flushed(Rect { x: 40, y: 55, width: 30, height: 10 }));
        assert!(b.turn().contains(&Wish::Drawn));
        assert_eq!((b.pixel(3, 2), b.pixel(50, 60)), (vec![1, 2, 3, 255], vec![4, 5, 6, 255]));
        // A window that cannot be seen takes nothing, and says so by silence.
        b.screen.take(HostEvent::Visible { window: WINDOW, visible: false, shown: true });
        b.screen.notice(&Notice::Flushed(Rect { x: 0, y: 0, width: 10, height: 10 }));
        assert!(!b.turn().contains(&Wish::Drawn));
        assert!(b.screen.due(NOW).is_none_or(|at| at > Instant::now()), "no frame is due");
        b.screen.take(HostEvent::Visible { window: WINDOW, visible: true, shown: true });
        assert!(b.turn().contains(&Wish::Drawn));
        assert_eq!(b.pixel(3, 2), [9, 9, 9, 255]);
    }

    #[test]
    fn a_screen_outside_of_its_pages_is_black() {
        let mut b = Bench::new();
        b.paint(0, 0, [255; 4]);
        for (offset, stride) in [(4, 4 * SIDE), (0, 4 * SIDE + 4), (u64::MAX, 4 * SIDE), (0, u32::MAX)] {
            b.show(offset, stride);
            assert_eq!(b.pixel(0, 0), [0, 0, 0, 255], "{offset} {stride}");
        }
        b.show(0, 4 * SIDE);
        assert_eq!(b.pixel(0, 0), [255; 4]);
        b.screen.notice(&Notice::Scanout(None));
        b.turn();
        assert_eq!(b.pixel(0, 0), [0, 0, 0, 255], "it shows nothing");
    }

    #[test]
    fn the_user_closes_it_once_and_it_can_be_shown_again() {
        let mut b = Bench::new();
        b.show(0, 4 * SIDE);
        assert!(b.screen.is_open());
        assert_eq!(b.screen.take(HostEvent::Close { window: WINDOW }), None);
        assert_eq!(b.turn(), [Wish::Closed]);
        assert!(!b.screen.is_open() && b.screen.info().is_none());
        // What the desktop says of it later is nobody's.
        assert_eq!(b.screen.take(HostEvent::Exposed { window: WINDOW }), None);
        b.show(0, 4 * SIDE);
        assert!(b.screen.is_open());
    }
}
