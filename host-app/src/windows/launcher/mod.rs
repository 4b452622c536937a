//! The launcher: a window of the host's own with the apps of machines, searched by typing and opened by Return or a click.
//!
//! It is a process of its own ([`choose`]) that ends with the choice; it speaks to no guest, and shows what guests told of their apps
//! before: names that were checked, pictures that were decoded within limits.

mod keys;
mod list;

use std::time::{Duration, Instant};

use anyhow::Context;
use inlay_protocol::display::{ContentType, Decoration, SurfaceId, WindowKind};
use inlay_protocol::geometry::Size;
use inlay_protocol::input::InputEvent;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::keys::{Keys, Typed};
use self::list::List;
use super::dialogs;
use super::paint::{Page, Painter};
use super::presenter::{Ended, HostEvent, Look, Pixels, Presenter, open_plain};
use super::window::Told;

pub use self::list::Entry;

/// Its size, in logical pixels.
const SIZE: Size = Size::new(480, 560);
const WINDOW: SurfaceId = SurfaceId(dialogs::FIRST);
/// `BTN_LEFT`.
const LEFT: u32 = 0x110;
/// Logical pixels of a detent of a wheel.
const DETENT: f32 = 50.0;

/// The window.
#[derive(Debug)]
struct Launcher {
    list: List,
    keys: Keys,
    painter: Painter,
    told: Told,
    target: Option<Box<dyn Pixels>>,
    size: Size,
    dirty: bool,
    waits: bool,
    /// It has had the keyboard: when that goes, it goes.
    focused: bool,
    pointer: egui::Pos2,
    events: Vec<egui::Event>,
    over: Option<Option<usize>>,
}

/// Has the user choose one of these, or none.
///
/// # Errors
/// There is no display, or it goes away.
pub fn choose(entries: Vec<Entry>) -> anyhow::Result<Option<usize>> {
    let (mut presenter, _) = super::desktop(super::Screen::Auto)?;
    let token =
        ["XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"].iter().find_map(|name| std::env::var(name).ok());
    presenter.expect_window(token);
    let mut launcher = Launcher::new(List::new(entries));
    launcher.keys.set_keymap(presenter.keyboard().as_ref());
    loop {
        launcher.turn(presenter.as_mut())?;
        if let Some(choice) = launcher.over {
            drop(launcher.target.take());
            presenter.close(WINDOW);
            presenter.flush();
            return Ok(choice);
        }
        presenter.flush();
        let events = presenter.dispatch().context("the display is gone")?;
        if events.is_empty() && !launcher.is_due() {
            wait(presenter.as_ref(), launcher.keys.due())?;
        }
        for event in events {
            launcher.take(event, presenter.as_mut());
        }
        if let Some(typed) = launcher.keys.repeated(Instant::now()) {
            launcher.typed(typed);
        }
    }
}

fn wait(presenter: &dyn Presenter, due: Option<Instant>) -> anyhow::Result<()> {
    let left = due.map_or(Duration::from_secs(60), |due| due.saturating_duration_since(Instant::now()));
    let timeout =
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: left.subsec_nanos().into() };
    let mut fds: Vec<PollFd<'_>> =
        presenter.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).into_iter().collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("poll"),
    }
}

impl Launcher {
    fn new(list: List) -> Self {
        Self {
            list,
            keys: Keys::default(),
            painter: Painter::default(),
            told: Told::default(),
            target: None,
            size: SIZE,
            dirty: true,
            waits: false,
            focused: false,
            pointer: egui::Pos2::ZERO,
            events: Vec::new(),
            over: None,
        }
    }

    fn look() -> Look {
        Look {
            title: "Apps of your machines".to_owned(),
            class: "inlay".to_owned(),
            parent: None,
            min_size: SIZE,
            max_size: SIZE,
            base_size: Size::default(),
            increment: Size::default(),
            decoration: Decoration::ServerSide,
            kind: WindowKind::Dialog,
            modal: false,
            urgent: false,
            no_focus: false,
            keeps_awake: false,
            inhibits_shortcuts: false,
            content_type: ContentType::None,
            place: None,
        }
    }

    fn is_due(&self) -> bool {
        self.target.is_some() && !self.waits && (self.dirty || !self.events.is_empty())
    }

    /// Opens the window, and draws it if something changed.
    fn turn(&mut self, presenter: &mut dyn Presenter) -> anyhow::Result<()> {
        if self.target.is_none() {
            self.target = open_plain(presenter, WINDOW, &mut self.told, &Self::look(), self.size)?;
        }
        if self.is_due() {
            self.draw(presenter)?;
        }
        Ok(())
    }

    fn draw(&mut self, presenter: &mut dyn Presenter) -> anyhow::Result<()> {
        let Some(pixels) = presenter.begin_frame(WINDOW, self.size, true) else { return Ok(()) };
        let Some(target) = &mut self.target else { return Ok(()) };
        let scale = presenter.scale(WINDOW) as f32 / 120.0;
        let page = Page { id: 0, size: self.size, scale };
        let list = &mut self.list;
        let mut clicked = None;
        let laid = self.painter.lay_out(page, std::mem::take(&mut self.events), |ui| {
            clicked = list.show(ui).or(clicked);
        });
        target.show(pixels, &self.painter.paint(laid, pixels, scale))?;
        self.dirty = self.list.wants_frame();
        self.waits = presenter.end_frame(WINDOW, Ended::Presented);
        if let Some(choice) = clicked {
            self.over = Some(Some(choice));
        }
        Ok(())
    }

    fn take(&mut self, event: HostEvent, presenter: &mut dyn Presenter) {
        match event {
            HostEvent::Configured { size, .. } => {
                self.told = Told::Decided;
                if !size.is_empty() {
                    self.size = size;
                }
                self.dirty = true;
            }
            HostEvent::Ready { .. } => self.waits = false,
            HostEvent::Exposed { .. } | HostEvent::Visible { .. } | HostEvent::Shown { .. } => {
                self.dirty = true
            }
            HostEvent::Close { .. } | HostEvent::Destroyed { .. } => self.over = Some(None),
            HostEvent::Focus { window, modifiers, .. } => {
                self.keys.modifiers(modifiers);
                self.keys.let_go();
                // It is in nobody's way: like a menu it goes when the user turns to something else.
                if self.focused && window.is_none() {
                    self.over = Some(None);
                }
                self.focused |= window.is_some();
            }
            HostEvent::Keyboard => self.keys.set_keymap(presenter.keyboard().as_ref()),
            HostEvent::Input(input) => self.input(input),
            _ => {}
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "places in a small window")]
    fn input(&mut self, input: InputEvent) {
        match input {
            InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. } => {
                self.pointer = egui::pos2(x as f32, y as f32);
                self.events.push(egui::Event::PointerMoved(self.pointer));
            }
            InputEvent::PointerLeave => self.events.push(egui::Event::PointerGone),
            InputEvent::PointerButton { button: LEFT, pressed, .. } => {
                self.events.push(egui::Event::PointerButton {
                    pos: self.pointer,
                    button: egui::PointerButton::Primary,
                    pressed,
                    modifiers: egui::Modifiers::NONE,
                });
            }
            InputEvent::PointerAxis { vertical, .. } => {
                let by = if vertical.v120 == 0 {
                    vertical.pixels as f32
                } else {
                    vertical.v120 as f32 / 120.0 * DETENT
                };
                self.list.scroll(by);
                self.dirty = true;
            }
            InputEvent::Key { key, pressed, .. } => {
                if let Some(typed) = self.keys.key(key, pressed, Instant::now()) {
                    self.typed(typed);
                }
            }
            InputEvent::Modifiers(modifiers) => self.keys.modifiers(modifiers),
            _ => {}
        }
    }

    fn typed(&mut self, typed: Typed) {
        self.dirty = true;
        match typed {
            Typed::Text(text) => self.list.add(&text),
            Typed::Erase => self.list.erase(),
            Typed::EraseAll => self.list.erase_all(),
            Typed::Move(by) => self.list.move_by(by),
            Typed::Choose => self.over = self.list.chosen().map(Some),
            Typed::Leave => self.over = Some(None),
        }
    }
}
