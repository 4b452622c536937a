//! Window path, hop 6 of 6, and input path, hop 1 of 4: the host's desktop, behind one interface.
//!
//! A presenter opens host windows for toplevels and popups and turns what the desktop tells about them into
//! [`HostEvent`]s. It knows nothing of the agent. Windows are named by the surface of the guest that they show; sizes and
//! places are logical pixels of the window geometry (what the user sees as the window, without shadows).

pub mod desk;
pub mod framed;
pub mod headless;
pub mod image;
pub mod scaled;
pub mod wayland;
pub mod x11;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use inlay_exchange::News;
use inlay_exchange::pipe::Pipe;
use inlay_protocol::display::{
    Act, Constraint, ContentType, Decoration, Icon, Output, Placed, Popup, PopupKind, States, SurfaceId,
    WindowKind,
};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};
use inlay_protocol::selection::{Actions, Selection};

use self::image::Image;
use super::gate::Answer;
use super::render::{Renderer, Target};
use super::window::Told;

/// How a toplevel looks to the desktop, beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct Look {
    /// Its title, cleaned for display.
    pub title: String,
    /// Its class: `inlay.<machine>.<app id>`, the name of the desktop file that Inlay exports.
    pub class: String,
    /// The toplevel that it belongs to; open, and not in turn a child of this one.
    pub parent: Option<SurfaceId>,
    /// Smallest size; 0 is no limit.
    pub min_size: Size,
    /// Largest size; 0 is no limit.
    pub max_size: Size,
    /// Sizes are this plus whole steps.
    pub base_size: Size,
    /// One step; 0 is none.
    pub increment: Size,
    /// Who draws its frame.
    pub decoration: Decoration,
    /// What it is for.
    pub kind: WindowKind,
    /// Whether its parent takes no input while it is open.
    pub modal: bool,
    /// Whether it asks for the user's attention.
    pub urgent: bool,
    /// Whether it never takes the keyboard.
    pub no_focus: bool,
    /// Whether the screen is to stay on while it is seen.
    pub keeps_awake: bool,
    /// Whether it wants the keys that the desktop has shortcuts on.
    pub inhibits_shortcuts: bool,
    /// What it shows.
    pub content_type: ContentType,
    /// Where it is to come up, on desktops where apps choose that.
    pub place: Option<Placed>,
}

/// Where a popup is and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PopupLook {
    /// The toplevel or popup that it belongs to.
    pub parent: SurfaceId,
    /// Its place relative to the parent's window.
    pub area: Rect,
    /// What it is for.
    pub kind: PopupKind,
}

/// The host's keymap and key repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    /// In XKB's text form.
    pub text: String,
    /// Repeats a second.
    pub rate: u32,
    /// Milliseconds before the first repeat.
    pub delay: u32,
}

/// A window that is to come.
#[derive(Debug, Clone, Copy)]
pub enum Announce<'a> {
    /// A toplevel that begins in these states.
    Toplevel {
        /// How it looks.
        look: &'a Look,
        /// Its states.
        states: States,
    },
    /// A popup, or another place for one that was announced.
    Popup(&'a Popup),
}

/// What the desktop makes of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Nothing: sizes and places are decided here.
    Free,
    /// It decides: [`HostEvent::Configured`] or [`HostEvent::Placed`] follows.
    Waits,
    /// It cannot be announced yet: its parent is not on the screen.
    NotYet,
}

/// How a frame of a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its content is on its way to the desktop.
    Presented,
    /// Nothing was drawn, but its app wants to know when the next frame is due.
    Unchanged,
    /// The display had no room.
    Failed,
}

/// What the desktop tells.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// A toplevel has this size and these states now; on desktops that decide, it shall have them.
    Configured {
        /// Which.
        window: SurfaceId,
        /// Size of its content; empty leaves it to the app.
        size: Size,
        /// Its states; [`States::ACTIVATED`] only on desktops that decide, else it is where the focus is.
        states: States,
    },
    /// The desktop decided where a popup is.
    Placed {
        /// Which.
        window: SurfaceId,
        /// Relative to its parent's window.
        area: Rect,
        /// The token of the app's `xdg_popup.reposition` that this answers.
        reposition: Option<u32>,
    },
    /// The next frame of a window may be drawn ([`Presenter::end_frame`]).
    Ready {
        /// Which.
        window: SurfaceId,
    },
    /// A toplevel's content begins at another place of the desktop.
    Moved {
        /// Which.
        window: SurfaceId,
        /// Its left upper corner.
        at: Point,
    },
    /// A window is on these monitors, of [`Presenter::outputs`], and to be drawn at this scale.
    Shown {
        /// Which.
        window: SurfaceId,
        /// Places in the list.
        outputs: Vec<u8>,
        /// The scale times 120.
        scale_120: u32,
    },
    /// The desktop leaves its shortcuts to a toplevel that wants them, or no more.
    ShortcutsInhibited {
        /// Which toplevel.
        window: SurfaceId,
        /// Whether it has them.
        inhibited: bool,
    },
    /// The pointer is held in a window as [`Presenter::constrain`] asked for, or no more.
    Constrained {
        /// Which.
        window: SurfaceId,
        /// Whether it is.
        held: bool,
    },
    /// A window can or cannot be seen.
    Visible {
        /// Which.
        window: SurfaceId,
        /// Whether it can be seen.
        visible: bool,
        /// Whether it is on the screen, if maybe under other windows: not minimised, nor on another workspace.
        shown: bool,
    },
    /// A window's content must be drawn again.
    Exposed {
        /// Which.
        window: SurfaceId,
    },
    /// The user closes a toplevel.
    Close {
        /// Which.
        window: SurfaceId,
    },
    /// Somebody else destroyed a window (`xkill`): it is gone, and its app is to close.
    Destroyed {
        /// Which.
        window: SurfaceId,
    },
    /// Another window of ours (or none) has the keyboard focus.
    Focus {
        /// Which toplevel.
        window: Option<SurfaceId>,
        /// Keys held, evdev codes.
        keys: Vec<u32>,
        /// Modifiers and locks.
        modifiers: Modifiers,
    },
    /// A click that dismisses popups, inside a toplevel of ours or outside all windows.
    ClickOutside {
        /// The toplevel under the pointer.
        window: Option<SurfaceId>,
    },
    /// Pointer and keys, in window coordinates; the session translates them to the surface's.
    Input(InputEvent),
    /// Monitors changed.
    Outputs,
    /// The keymap may have changed.
    Keyboard,
    /// The user answered [`Dialogs::ask`](super::dialogs::Dialogs::ask).
    Answer {
        /// Which toplevel.
        window: SurfaceId,
        /// Whether its app is to be ended.
        force: bool,
    },
    /// The user chose something in [`Dialogs::menu`](super::dialogs::Dialogs::menu).
    Menu {
        /// Which of [`screen::MENU`](super::screen::MENU).
        choice: usize,
    },
    /// Something is dragged over a window of ours.
    Drag(Dragged),
    /// The user answered [`Dialogs::permit`](super::dialogs::Dialogs::permit).
    Permitted {
        /// Which question.
        question: u64,
        /// What they said.
        answer: Answer,
    },
}

/// Something that is dragged over windows of ours.
#[derive(Debug, Clone, PartialEq)]
pub enum Dragged {
    /// It comes over one.
    Enter {
        /// Which.
        window: SurfaceId,
        /// Where in it.
        x: f64,
        /// Where in it.
        y: f64,
        /// What it can be had as, by the names that travel.
        types: Vec<String>,
        /// What its app allows.
        actions: Actions,
        /// It is what [`Presenter::start_drag`] began.
        own: bool,
    },
    /// It moves.
    Motion {
        /// Milliseconds of the desktop's clock.
        time_ms: u64,
        /// Where in the window.
        x: f64,
        /// Where in the window.
        y: f64,
    },
    /// It goes elsewhere, or ends.
    Leave,
    /// It is dropped: [`Presenter::end_drag`] is to follow.
    Drop,
}

/// What apps of the desktop copied and mark, and what the guest's apps give to them.
pub trait Selections: std::fmt::Debug {
    /// What to wait for beside [`Presenter::fd`], and whether it is to be read or written.
    fn fds(&self) -> Vec<(BorrowedFd<'_>, bool, bool)> {
        Vec::new()
    }

    /// When to look although nothing is ready.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does what can be done without waiting; what happened.
    fn turn(&mut self) -> Vec<News>;

    /// Offers what an app of the guest has, by the names of types that travel; nothing withdraws it.
    fn offer(&mut self, selection: Selection, types: Vec<String>);

    /// Fetches what an app of the desktop has.
    fn take(&mut self, selection: Selection, kind: &str, pipe: Pipe);
}

/// The desktop.
pub trait Presenter: std::fmt::Debug {
    /// What to poll for the desktop's events.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Takes the events that are there, without waiting.
    ///
    /// # Errors
    /// When the display is gone.
    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>>;

    /// The monitors, at least one.
    fn outputs(&self) -> &[Output];

    /// The host's keymap, if it has one.
    fn keyboard(&mut self) -> Option<Keymap>;

    /// Whether the desktop decides sizes and places of windows, and dismisses popups, itself: windows are announced before they
    /// have content, and have the size that is drawn.
    fn decides(&self) -> bool {
        false
    }

    /// What can have all windows in one, where there is such a thing.
    fn desk(&self) -> Option<&desk::Desk> {
        None
    }

    /// The same, to be worked with.
    fn desk_mut(&mut self) -> Option<&mut desk::Desk> {
        None
    }

    /// The border that is drawn around windows of the guest, if there is one. Sizes and places are those of the content inside it.
    fn border(&self) -> Option<framed::Border> {
        None
    }

    /// Tells of a window that is to come.
    fn announce(&mut self, _window: SurfaceId, _what: Announce<'_>) -> Announced {
        Announced::Free
    }

    /// Pixels to logical pixels of a window, in 120ths.
    fn scale(&self, _window: SurfaceId) -> u32 {
        120
    }

    /// Begins a frame of a window of this size: the pixels to be drawn, or `None` while it may not be. `settled` says that the
    /// content follows what the desktop decided last.
    fn begin_frame(&mut self, _window: SurfaceId, size: Size, _settled: bool) -> Option<Size> {
        Some(size)
    }

    /// Ends it; whether the next one waits for [`HostEvent::Ready`].
    fn end_frame(&mut self, _window: SurfaceId, _ended: Ended) -> bool {
        false
    }

    /// Opens a toplevel's window with a content of this size, in these states.
    ///
    /// # Errors
    /// When the display refuses.
    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target>;

    /// Opens a toplevel of the host's own with a content of this size, which the processor draws.
    ///
    /// # Errors
    /// When the display refuses.
    fn open_plain(&mut self, window: SurfaceId, look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>>;

    /// Opens a popup's window.
    ///
    /// # Errors
    /// When the display refuses.
    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target>;

    /// The user starts an app elsewhere: the next new window may take the focus. With the launcher's `XDG_ACTIVATION_TOKEN`
    /// or `DESKTOP_STARTUP_ID`, where it gave one.
    fn expect_window(&mut self, token: Option<String>);

    /// Whether clicks outside are to be watched for, because a popup with a grab is open in this toplevel.
    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>);

    /// Closes a window; its target must be dropped before.
    fn close(&mut self, window: SurfaceId);

    /// Changes how a toplevel looks.
    fn update(&mut self, window: SurfaceId, look: &Look);

    /// Gives a toplevel its icons.
    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]);

    /// Gives a window an outline, in its own coordinates; `None` is the whole window.
    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>);

    /// Gives a toplevel another size because its app chose it.
    fn resize(&mut self, window: SurfaceId, size: Size);

    /// Moves and resizes a popup, or has it be for something else.
    fn place_popup(&mut self, window: SurfaceId, look: PopupLook);

    /// Where a window's content begins on the desktop.
    fn origin(&mut self, window: SurfaceId) -> Point;

    /// Does what an app asked for.
    fn act(&mut self, window: SurfaceId, act: Act);

    /// Has the pointer held in a window while it is there and has the focus, or no more; [`HostEvent::Constrained`] says when it is.
    fn constrain(&mut self, _window: SurfaceId, _how: Option<Constraint>) {}

    /// What would be done with what is dragged over a window of ours: as which type it would be taken, if at all, and with what
    /// action.
    fn answer_drag(&mut self, _kind: Option<&str>, _action: Actions) {}

    /// What became of something that was dropped; no action: nothing.
    fn end_drag(&mut self, _action: Actions) {}

    /// Has the desktop carry something out of a window of ours, by the names of types that travel, if a button that was pressed in
    /// that window is still held; whether it does. [`News::Drag`] tells what becomes of it, [`News::Wanted`] who fetches it.
    fn start_drag(&mut self, _window: SurfaceId, _types: &[String], _actions: Actions) -> bool {
        false
    }

    /// Gives it an image, whose hotspot is where the pointer is.
    fn set_drag_icon(&mut self, _image: Image) {}

    /// Takes it back: also what was dropped, and is still fetched.
    fn cancel_drag(&mut self) {}

    /// The desktop's selections, where it has any.
    fn selections(&self) -> Option<&dyn Selections> {
        None
    }

    /// The same, to be worked with.
    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        None
    }

    /// Changes the pointer image over all our windows.
    fn set_cursor(&mut self, image: Image);

    /// Sends what was requested.
    fn flush(&mut self);
}

/// A window that the processor draws. It must go before its window is closed.
pub trait Pixels: std::fmt::Debug {
    /// Shows a picture of this size in it: rows of blue, green, red, alpha.
    ///
    /// # Errors
    /// When the display has no room for it, or is gone.
    fn show(&mut self, size: Size, bytes: &[u8]) -> anyhow::Result<()>;
}

/// Whether a window of the host's own may be opened: the desktop knows of it and has decided. Announces it before that.
pub fn may_open(
    presenter: &mut dyn Presenter,
    window: SurfaceId,
    told: &mut Told,
    look: &Look,
    states: States,
) -> bool {
    if *told == Told::Nothing {
        *told = match presenter.announce(window, Announce::Toplevel { look, states }) {
            Announced::NotYet => Told::Nothing,
            Announced::Waits => Told::Announced,
            Announced::Free => Told::Decided,
        };
    }
    *told == Told::Decided
}

/// Opens a window of the host's own once it may be; nothing before that.
///
/// # Errors
/// When the display refuses.
pub fn open_own(
    presenter: &mut dyn Presenter,
    renderer: &Renderer,
    window: SurfaceId,
    told: &mut Told,
    look: &Look,
    (size, states): (Size, States),
) -> anyhow::Result<Option<Target>> {
    let may = may_open(presenter, window, told, look, states);
    may.then(|| presenter.open_toplevel(window, look, size, states, renderer)).transpose()
}

/// The same of one that the processor draws.
///
/// # Errors
/// When the display refuses.
pub fn open_plain(
    presenter: &mut dyn Presenter,
    window: SurfaceId,
    told: &mut Told,
    look: &Look,
    size: Size,
) -> anyhow::Result<Option<Box<dyn Pixels>>> {
    let may = may_open(presenter, window, told, look, States::default());
    may.then(|| presenter.open_plain(window, look, size)).transpose()
}
