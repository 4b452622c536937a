//! Window path, hop 6 of 6, and input path, hop 1 of 4: the host's desktop, behind one interface.
//!
//! A presenter opens host windows for toplevels and popups and turns what the desktop tells about them into
//! [`HostEvent`]s. It knows nothing of the agent. Windows are named by the surface of the guest that they show; sizes and
//! places are logical pixels of the window geometry (what the user sees as the window, without shadows).

pub mod headless;
pub mod x11;

use std::os::fd::BorrowedFd;

use inlay_protocol::display::{Act, Decoration, Icon, Output, PopupKind, States, SurfaceId, WindowKind};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};

use super::render::{Renderer, Target};

/// How a toplevel looks to the desktop, beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The pointer image over our windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// None.
    Hidden,
    /// One of the host's theme, by CSS name.
    Named(String),
    /// Pixels of the guest: blue, green, red, alpha, premultiplied.
    Pixels {
        /// Width and height.
        size: Size,
        /// `4 * width * height` bytes.
        bytes: Vec<u8>,
        /// The point that points.
        hotspot: Point,
    },
}

/// What the desktop tells.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// A toplevel has this size and these states now.
    Configured {
        /// Which.
        window: SurfaceId,
        /// Size of its content.
        size: Size,
        /// Its states, without [`States::ACTIVATED`].
        states: States,
    },
    /// A toplevel's content begins at another place of the desktop.
    Moved {
        /// Which.
        window: SurfaceId,
        /// Its left upper corner.
        at: Point,
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
    /// The user answered [`Presenter::ask_to_force`].
    Answer {
        /// Which toplevel.
        window: SurfaceId,
        /// Whether its app is to be ended.
        force: bool,
    },
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

    /// The user starts an app elsewhere: the next new window may take the focus.
    fn expect_window(&mut self);

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

    /// Changes the pointer image over all our windows.
    fn set_cursor(&mut self, image: Image);

    /// Tells the user something that no window of the guest can say.
    fn notice(&mut self, text: &str);

    /// Asks the user whether the app of a toplevel is to be ended by force: [`HostEvent::Answer`] tells.
    fn ask_to_force(&mut self, window: SurfaceId, text: &str);

    /// Takes that question back.
    fn stop_asking(&mut self, window: SurfaceId);

    /// Sends what was requested.
    fn flush(&mut self);
}
