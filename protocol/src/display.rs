//! The display session: surfaces, windows, input. Between the agent and the window process.
//!
//! Full state travels each time, so a repeated message is harmless. After the handshake the agent says everything it has
//! (buffers, roles, contents), and the host says outputs, keymap and focus; [`Request::SayAgain`] and [`Event::Refresh`]
//! ask for that again.
//!
//! A surface has at most two commits in flight. The host answers each with [`Event::Release`] as soon as its rows are in
//! the upload buffer, and the agent writes no buffer that is not released.

use serde::{Deserialize, Serialize};

use crate::copying::check_path;
use crate::framing::{Invalid, Message};
use crate::geometry::{Point, Rect, RectF, Size};
use crate::input::InputEvent;
use crate::limits;
use crate::links;
use crate::selection::{Actions, Drag, DragIcon, DragStart, Feedback, Offer, Selection, check_type};

/// A `wl_surface` of the guest. Given by the agent, never 0, not used again within a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct SurfaceId(pub u32);

/// A pool buffer of the agent. Given by the agent, not used again within a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// Where the bytes of a pool buffer lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// The guest pages of this virtio-gpu resource (the id that the device saw in `RESOURCE_CREATE_2D`).
    VirtioGpu {
        /// The resource id.
        resource: u32,
    },
    /// The memory file descriptor that travels beside the message, sealed against shrinking.
    Memfd,
}

/// Order of the bytes of a pixel, as in `wl_shm.format`. Colour is premultiplied with alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    /// Bytes blue, green, red, alpha.
    Argb8888,
    /// Bytes blue, green, red, unused; opaque.
    Xrgb8888,
}

/// `wl_output.transform` of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are wl_output.transform's own")]
pub enum Transform {
    #[default]
    Normal,
    Rotated90,
    Rotated180,
    Rotated270,
    Flipped,
    Flipped90,
    Flipped180,
    Flipped270,
}

/// Pixels of a commit: a part of a pool buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The buffer.
    pub buffer: BufferId,
    /// Bytes from its start to the first pixel.
    pub offset: u64,
    /// Size in buffer pixels.
    pub size: Size,
    /// Bytes from one row to the next, at least `4 * width`.
    pub stride: u32,
    /// Order of the bytes.
    pub format: Format,
}

impl Content {
    /// Bytes that the buffer must have, `None` when that cannot be said.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let rows = u64::from(self.size.height).checked_sub(1)?;
        let last = u64::from(self.size.width).checked_mul(4)?;
        rows.checked_mul(self.stride.into())?.checked_add(last)?.checked_add(self.offset)
    }

    fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.size.is_sane() && !self.size.is_empty(), "content size")?;
        Invalid::unless(u64::from(self.stride) >= 4 * u64::from(self.size.width), "stride")?;
        Invalid::unless(self.stride.is_multiple_of(4) && self.offset.is_multiple_of(4), "stride")?;
        Invalid::unless(self.end().is_some_and(|end| end <= limits::BUFFER_BYTES), "content bytes")
    }
}

/// A surface in the stacking order of its parent: [`Commit::children`] lists them from bottom to top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Child {
    /// The surface itself.
    Itself,
    /// A subsurface with its top left corner, in the parent's surface-local coordinates.
    Subsurface {
        /// Which.
        surface: SurfaceId,
        /// Where.
        position: Point,
    },
}

impl Child {
    /// The subsurface, if it is one.
    #[must_use]
    pub fn surface(&self) -> Option<SurfaceId> {
        match self {
            Self::Itself => None,
            Self::Subsurface { surface, .. } => Some(*surface),
        }
    }
}

/// The whole committed state of a surface (`wl_surface.commit`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The surface.
    pub surface: SurfaceId,
    /// Counts the commits of this surface, from 1; named again by [`Event::Release`].
    pub number: u64,
    /// Its pixels, none when unmapped. The same content with no damage means that only other state changed.
    pub content: Option<Content>,
    /// What changed since the commit before, in buffer pixels. A commit that follows a refresh or a new size damages all.
    pub damage: Vec<Rect>,
    /// `wl_surface.set_buffer_scale`.
    pub scale: u32,
    /// `wl_surface.set_buffer_transform`.
    pub transform: Transform,
    /// `wp_viewport.set_source`, in surface coordinates before scaling to `size`.
    pub source: Option<RectF>,
    /// Size of the surface in logical pixels.
    pub size: Size,
    /// The stack of the surface and its subsurfaces, bottom first; empty means only itself.
    pub children: Vec<Child>,
    /// Where input is accepted, surface-local; `None` is everywhere.
    pub input: Option<Vec<Rect>>,
    /// Where the surface is opaque, surface-local.
    pub opaque: Vec<Rect>,
    /// `xdg_surface.set_window_geometry`, surface-local.
    pub geometry: Option<Rect>,
    /// The newest configure serial that the app acknowledged before this commit.
    pub acked: Option<u32>,
    /// Whether the app waits for a frame callback.
    pub wants_frame: bool,
}

impl Commit {
    fn check(&self) -> Result<(), Invalid> {
        if let Some(content) = &self.content {
            content.check()?;
        }
        Invalid::unless(self.damage.len() <= limits::DAMAGE_RECTS, "damage")?;
        Invalid::unless(self.damage.iter().all(|r| r.is_sane()), "damage")?;
        Invalid::unless((1..=64).contains(&self.scale), "buffer scale")?;
        Invalid::unless(self.source.is_none_or(RectF::is_sane), "viewport source")?;
        Invalid::unless(self.size.is_sane(), "surface size")?;
        Invalid::unless(self.children.len() <= limits::CHILDREN + 1, "children")?;
        let itself = self.children.iter().filter(|c| matches!(c, Child::Itself)).count();
        Invalid::unless(self.children.is_empty() || itself == 1, "children")?;
        let near = |c: &Child| match c {
            Child::Itself => true,
            Child::Subsurface { position, surface } => position.is_sane() && *surface != self.surface,
        };
        Invalid::unless(self.children.iter().all(near), "children")?;
        let mut listed: Vec<SurfaceId> = self.children.iter().filter_map(Child::surface).collect();
        listed.sort();
        Invalid::unless(listed.windows(2).all(|w| w[0] != w[1]), "children")?;
        let region = |r: &[Rect]| r.len() <= limits::REGION_RECTS && r.iter().all(|r| r.is_sane());
        Invalid::unless(self.input.as_deref().is_none_or(region), "input region")?;
        Invalid::unless(region(&self.opaque), "opaque region")?;
        Invalid::unless(self.geometry.is_none_or(|g| g.is_sane() && !g.is_empty()), "window geometry")
    }
}

/// Who draws the frame of a toplevel (`zxdg_toplevel_decoration_v1.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Decoration {
    /// The app.
    #[default]
    ClientSide,
    /// The host.
    ServerSide,
}

/// What a toplevel is for (EWMH `_NET_WM_WINDOW_TYPE`). Wayland's are normal windows, or dialogs where they have a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are EWMH's own")]
pub enum WindowKind {
    #[default]
    Normal,
    Dialog,
    Utility,
    Toolbar,
    Menu,
    Splash,
}

/// The whole state of an `xdg_toplevel` or of a managed X11 window, without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct Toplevel {
    /// Its surface.
    pub surface: SurfaceId,
    /// `set_title`.
    pub title: String,
    /// `set_app_id`; the class of `WM_CLASS`.
    pub app_id: String,
    /// `set_parent`; `WM_TRANSIENT_FOR`.
    pub parent: Option<SurfaceId>,
    /// `set_min_size`; 0 is no limit. Logical pixels of the window geometry.
    pub min_size: Size,
    /// `set_max_size`; 0 is no limit.
    pub max_size: Size,
    /// Sizes are this plus whole steps (ICCCM `WM_NORMAL_HINTS`, base size).
    pub base_size: Size,
    /// One step, 0 is none: a terminal grows by characters.
    pub increment: Size,
    /// Who draws the frame.
    pub decoration: Decoration,
    /// What it is for.
    pub kind: WindowKind,
    /// Whether its parent takes no input while it is open.
    pub modal: bool,
    /// Whether it asks for the user's attention.
    pub urgent: bool,
    /// Whether it never takes the keyboard (ICCCM `WM_HINTS`, no input and no `WM_TAKE_FOCUS`).
    pub no_focus: bool,
    /// Whether the screen is to stay on while it is seen (`zwp_idle_inhibitor_v1`).
    pub keeps_awake: bool,
    /// Whether it wants the keys that the desktop has shortcuts on (`zwp_keyboard_shortcuts_inhibitor_v1`).
    pub inhibits_shortcuts: bool,
    /// What it shows (`wp_content_type_v1`).
    pub content_type: ContentType,
    /// Where it is to come up, none to leave that to the desktop.
    pub place: Option<Placed>,
}

/// Where an X11 app put a window before it was shown (ICCCM 4.1.2.3). The app knows of no frames: what it sees and what it wants are places
/// of contents, whatever its gravity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Where the content is to begin, as [`Event::Place`] says it.
    pub at: Point,
    /// Whether the user said so (`USPosition`), not only the app (`PPosition`).
    pub by_user: bool,
}

/// What a window shows, as far as its app says (`wp_content_type_v1`), the most demanding last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum ContentType {
    /// Nothing in particular.
    #[default]
    None,
    /// Pictures that stay as they are.
    Photo,
    /// A film.
    Video,
    /// What answers to the user at once.
    Game,
}

/// Edges and corners as bits, as in `xdg_positioner` and `xdg_toplevel.resize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Edges(pub u8);

impl Edges {
    /// The upper edge.
    pub const TOP: Self = Self(1);
    /// The lower edge.
    pub const BOTTOM: Self = Self(2);
    /// The left edge.
    pub const LEFT: Self = Self(4);
    /// The right edge.
    pub const RIGHT: Self = Self(8);

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Neither opposite edges together nor unknown bits.
    #[must_use]
    pub const fn is_sane(self) -> bool {
        self.0 < 16 && self.0 & 3 != 3 && self.0 & 12 != 12
    }
}

/// `xdg_positioner.constraint_adjustment`, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConstraintAdjustment(pub u8);

#[allow(missing_docs, reason = "the names are xdg_positioner.constraint_adjustment's own")]
impl ConstraintAdjustment {
    pub const SLIDE_X: Self = Self(1);
    pub const SLIDE_Y: Self = Self(2);
    pub const FLIP_X: Self = Self(4);
    pub const FLIP_Y: Self = Self(8);
    pub const RESIZE_X: Self = Self(16);
    pub const RESIZE_Y: Self = Self(32);

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `xdg_positioner`: where a popup wants to be, for the host to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positioner {
    /// Size of the popup's window geometry, not empty.
    pub size: Size,
    /// Anchor rectangle, relative to the parent's window geometry.
    pub anchor_rect: Rect,
    /// Edge or corner of the anchor rectangle; none is its centre.
    pub anchor: Edges,
    /// Direction in which the popup extends from the anchor point; none is centred on it.
    pub gravity: Edges,
    /// What the host may do when the popup would leave the screen.
    pub adjustment: ConstraintAdjustment,
    /// Offset added at the end.
    pub offset: Point,
    /// Whether the popup wants to be placed again when its parent moves.
    pub reactive: bool,
}

impl Positioner {
    fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.size.is_sane() && !self.size.is_empty(), "popup size")?;
        Invalid::unless(self.anchor_rect.is_sane() && self.offset.is_sane(), "popup anchor")?;
        Invalid::unless(self.anchor.is_sane() && self.gravity.is_sane(), "popup gravity")?;
        Invalid::unless(self.adjustment.0 < 64, "constraint adjustment")
    }
}

/// How the place of a popup is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// By the host, from the app's wishes (`xdg_popup`).
    Positioner(Positioner),
    /// By the app, relative to the parent's window geometry (an override-redirect window of X11).
    Fixed(Rect),
}

/// What a popup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum PopupKind {
    /// A menu, or a list of choices.
    #[default]
    Menu,
    /// It explains what is under the pointer.
    Tooltip,
    /// The image of what is dragged.
    Drag,
    /// It tells that something happened.
    Notification,
}

/// The whole state of an `xdg_popup` or of an override-redirect window of X11, without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Popup {
    /// Its surface.
    pub surface: SurfaceId,
    /// The toplevel or popup that it belongs to.
    pub parent: SurfaceId,
    /// Where it is.
    pub place: Place,
    /// What it is for.
    pub kind: PopupKind,
    /// Whether it took a grab: it gets the keys, and a click outside dismisses it.
    pub grab: bool,
    /// Token of `xdg_popup.reposition`, to be named in the configure that answers.
    pub reposition: Option<u32>,
}

/// An image for a toplevel: rows of blue, green, red, alpha, premultiplied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icon {
    /// Size in pixels, at most [`limits::ICON`] each way.
    pub size: Size,
    /// `4 * width * height` bytes.
    pub pixels: Vec<u8>,
}

/// What an app asks the host to do with its toplevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// `xdg_toplevel.move`.
    Move,
    /// `xdg_toplevel.resize` by these edges.
    Resize(Edges),
    /// `xdg_toplevel.show_window_menu` at a surface-local place.
    WindowMenu(Point),
    /// `set_maximized`.
    Maximize,
    /// `unset_maximized`.
    Unmaximize,
    /// `set_fullscreen`.
    Fullscreen,
    /// `unset_fullscreen`.
    Unfullscreen,
    /// `set_minimized`.
    Minimize,
    /// `xdg_activation_v1.activate`, `_NET_ACTIVE_WINDOW`: it is to get the focus, because the user did something.
    Activate,
}

/// The pointer image over the app's windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// No image.
    Hidden,
    /// An image of the host's theme, by its CSS name (`wp_cursor_shape_device_v1`).
    Named(String),
    /// The content of a surface.
    Surface {
        /// Which.
        surface: SurfaceId,
        /// The point of the image that points, surface-local.
        hotspot: Point,
    },
}

/// What the agent counted since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentCounters {
    /// Commits sent.
    pub commits: u64,
    /// Bytes of pixels copied from apps' buffers into pool buffers.
    pub copied_bytes: u64,
    /// Bytes written to the display socket.
    pub socket_bytes: u64,
    /// CPU time of the agent's process, in microseconds.
    pub cpu_micros: u64,
    /// Resident memory of the agent's process, in bytes.
    pub resident_bytes: u64,
}

/// From the agent to the window process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// A pool buffer exists from now on. `size` bytes.
    CreateBuffer {
        /// Its id.
        buffer: BufferId,
        /// Bytes.
        size: u64,
        /// Where they lie.
        backing: Backing,
    },
    /// A pool buffer is gone.
    DestroyBuffer {
        /// Its id.
        buffer: BufferId,
    },
    /// Commits that belong together (a surface tree), applied at once.
    Transaction(Vec<Commit>),
    /// A surface is gone, and its window with it.
    DestroySurface {
        /// Which.
        surface: SurfaceId,
    },
    /// The surface is a toplevel in this state.
    Toplevel(Toplevel),
    /// The surface is a popup in this state.
    Popup(Popup),
    /// The icons of a toplevel in several sizes; none takes them away.
    Icons {
        /// Which.
        surface: SurfaceId,
        /// At most [`limits::ICONS`].
        icons: Vec<Icon>,
    },
    /// The outline of a window (X11 SHAPE), surface-local: outside of it nothing is shown and input goes elsewhere.
    Shape {
        /// Which toplevel or popup.
        surface: SurfaceId,
        /// `None` is the whole window.
        rects: Option<Vec<Rect>>,
    },
    /// Answer to [`Event::Ping`]: the app is alive.
    Pong {
        /// Which toplevel.
        surface: SurfaceId,
        /// The ping's serial.
        serial: u32,
    },
    /// The surface lost its role (the app destroyed its toplevel or popup): its window goes.
    RoleGone {
        /// Which.
        surface: SurfaceId,
    },
    /// An app asks for something to be done with its toplevel.
    Act {
        /// Which.
        surface: SurfaceId,
        /// What.
        act: Act,
    },
    /// The pointer image.
    Cursor(Cursor),
    /// Answer to [`Event::QueryCounters`].
    Counters(AgentCounters),
    /// The agent asks for outputs, keymap and focus again.
    SayAgain,
    /// The pointer is to be held in a window while it is there (`zwp_pointer_constraints_v1`), or no more.
    Constrain {
        /// The root surface of the window.
        surface: SurfaceId,
        /// How; `None` lets it go.
        how: Option<Constraint>,
    },
    /// What an app of the guest has to give; without types nobody has.
    Offer(Offer),
    /// An app of the guest pastes what the host offered; [`Event::Stream`] answers.
    Fetch {
        /// Given by the agent, not used again within a connection.
        transfer: u64,
        /// What is pasted.
        selection: Selection,
        /// The offer that the app saw.
        serial: u64,
        /// The type, one of the offer's.
        kind: String,
    },
    /// What the app under a [`Drag`] would do with it.
    DragAnswer {
        /// Of [`Drag::Enter`].
        serial: u64,
        /// The type that it would take; none: it takes nothing there.
        kind: Option<String>,
        /// What would become of it, at most one.
        action: Actions,
    },
    /// What became of something that was dropped.
    DragEnd {
        /// Of [`Drag::Enter`].
        serial: u64,
        /// At most one; none: nothing.
        action: Actions,
    },
    /// An app of the guest drags something.
    DragStart(DragStart),
    /// It has this image, in the place of the one before.
    DragIcon {
        /// Of [`DragStart`].
        serial: u64,
        /// None is none.
        icon: Option<DragIcon>,
    },
    /// The app that drags it, or gives what was dropped, takes it back.
    DragCancel {
        /// Of [`DragStart`].
        serial: u64,
    },
    /// An app opens a link ([`links::is_link`]), and the host takes them.
    OpenLink(String),
}

/// How a pointer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Constraint {
    /// At its place; only how far it is moved is told.
    Locked,
    /// Within the window.
    Confined,
}

/// States of a toplevel, as bits (`xdg_toplevel.state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct States(pub u32);

#[allow(missing_docs, reason = "the names are xdg_toplevel.state's own")]
impl States {
    pub const MAXIMIZED: Self = Self(1);
    pub const FULLSCREEN: Self = Self(1 << 1);
    pub const RESIZING: Self = Self(1 << 2);
    pub const ACTIVATED: Self = Self(1 << 3);
    pub const TILED_LEFT: Self = Self(1 << 4);
    pub const TILED_RIGHT: Self = Self(1 << 5);
    pub const TILED_TOP: Self = Self(1 << 6);
    pub const TILED_BOTTOM: Self = Self(1 << 7);
    pub const SUSPENDED: Self = Self(1 << 8);

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With these bits set or cleared.
    #[must_use]
    pub const fn set(self, bits: Self, on: bool) -> Self {
        if on { Self(self.0 | bits.0) } else { Self(self.0 & !bits.0) }
    }
}

/// A monitor of the host (`wl_output`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name, such as `HDMI-1`.
    pub name: String,
    /// Place and size in the host's logical pixels.
    pub area: Rect,
    /// Size in physical pixels.
    pub mode: Size,
    /// Refresh rate in mHz.
    pub refresh: u32,
    /// Scale times 120 (`wp_fractional_scale_v1`).
    pub scale_120: u32,
}

/// From the window process to the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The monitors, all of them.
    Outputs(Vec<Output>),
    /// `xdg_toplevel.configure`.
    ConfigureToplevel {
        /// Which.
        surface: SurfaceId,
        /// To be named in [`Commit::acked`].
        serial: u32,
        /// Size of the window geometry in logical pixels; `None` leaves it to the app.
        size: Option<Size>,
        /// Its states.
        states: States,
        /// The largest sensible size, if known (`configure_bounds`).
        bounds: Option<Size>,
    },
    /// `xdg_popup.configure`: the place that the host found, relative to the parent's window geometry.
    ConfigurePopup {
        /// Which.
        surface: SurfaceId,
        /// To be named in [`Commit::acked`].
        serial: u32,
        /// Place and size.
        area: Rect,
        /// Token of the reposition that this answers.
        reposition: Option<u32>,
    },
    /// `xdg_popup.popup_done`.
    PopupDone {
        /// Which.
        surface: SurfaceId,
    },
    /// `xdg_toplevel.close`.
    Close {
        /// Which.
        surface: SurfaceId,
    },
    /// Asks the app of this toplevel whether it is alive (`xdg_wm_base.ping`, `_NET_WM_PING`).
    Ping {
        /// Which.
        surface: SurfaceId,
        /// To be named in [`Request::Pong`].
        serial: u32,
    },
    /// The user has the app of this toplevel ended by force.
    Kill {
        /// Which.
        surface: SurfaceId,
    },
    /// Where a toplevel's content begins, in the coordinates of [`Event::Outputs`]; only from hosts that know.
    Place {
        /// Which.
        surface: SurfaceId,
        /// Its left upper corner.
        at: Point,
    },
    /// The rows of this commit are in the upload buffer (or the commit was dropped): its buffer may be written again.
    Release {
        /// Which surface.
        surface: SurfaceId,
        /// The number of its commit.
        number: u64,
    },
    /// A tick of the host's display for this window: frame callbacks of its surface tree are due.
    Frame {
        /// The root surface of the window.
        surface: SurfaceId,
        /// Milliseconds of an unspecified clock; wraps in 584 million years.
        time_ms: u64,
    },
    /// The agent sends this surface (all surfaces) again with full damage.
    Refresh {
        /// Which, or all.
        surface: Option<SurfaceId>,
    },
    /// Pointer and keys.
    Input(InputEvent),
    /// The agent answers with [`Request::Counters`].
    QueryCounters,
    /// Where a window is shown (`wl_surface.enter`, `.preferred_buffer_scale`, `wp_fractional_scale_v1.preferred_scale`); until
    /// then it counts as shown everywhere.
    Shown {
        /// The root surface of the window.
        surface: SurfaceId,
        /// The monitors that it is on, as places in the newest [`Event::Outputs`].
        outputs: Vec<u8>,
        /// The scale that its surfaces are to be drawn at, times 120.
        scale_120: u32,
    },
    /// The pointer is held as [`Request::Constrain`] asked for, or no more.
    Constrained {
        /// The root surface of the window.
        surface: SurfaceId,
        /// Whether it is.
        held: bool,
    },
    /// The desktop leaves its shortcuts to a window that asked for them ([`Toplevel::inhibits_shortcuts`]), or no more.
    ShortcutsInhibited {
        /// Which toplevel.
        surface: SurfaceId,
        /// Whether it has them.
        inhibited: bool,
    },
    /// What the host has to give to apps of the guest; without types nobody has.
    Offer(Offer),
    /// Somebody on the host pastes what the agent offered: it opens this stream and sends the data
    /// ([`Chunk`](crate::stream::Chunk)).
    Fetch {
        /// The one-time id of the stream.
        stream: [u8; 16],
        /// What is pasted.
        selection: Selection,
        /// The offer that was seen.
        serial: u64,
        /// The type, one of the offer's.
        kind: String,
    },
    /// Answer to [`Request::Fetch`]: the data comes on this stream, once the agent opened it.
    Stream {
        /// Which.
        transfer: u64,
        /// The one-time id of the stream; none when there is nothing to be had.
        stream: Option<[u8; 16]>,
    },
    /// Something is dragged over windows of the guest.
    Drag(Drag),
    /// What becomes of something that an app of the guest drags.
    DragFeedback {
        /// Of [`DragStart`].
        serial: u64,
        /// What.
        feedback: Feedback,
    },
    /// Whether the host takes links that apps open; until then they stay in the guest.
    Links(bool),
    /// Files of the guest are to be copied to the host: the agent opens this stream and sends them ([`crate::copying`]).
    CopyOut {
        /// The one-time id of the stream.
        stream: [u8; 16],
        /// Files and folders of the guest; together with those of the messages before it at most [`limits::COPY_CHOSEN`].
        paths: Vec<Vec<u8>>,
        /// There is no further message about this stream: it may begin.
        last: bool,
    },
}

/// Whether a scale times 120 is one that a monitor may have.
fn is_sane_scale(scale_120: u32) -> bool {
    (30..=120 * 16).contains(&scale_120)
}

impl Message for Request {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::CreateBuffer { size, .. } => {
                Invalid::unless(*size > 0 && *size <= limits::BUFFER_BYTES, "buffer size")
            }
            Self::Transaction(commits) => {
                Invalid::unless(commits.len() <= limits::COMMITS, "transaction")?;
                commits.iter().try_for_each(Commit::check)
            }
            Self::Toplevel(toplevel) => {
                Invalid::unless(toplevel.title.len() <= limits::TITLE, "title")?;
                Invalid::unless(toplevel.app_id.len() <= limits::TITLE, "app id")?;
                let Toplevel { min_size, max_size, base_size, increment, place, .. } = toplevel;
                Invalid::unless(place.is_none_or(|place| place.at.is_sane()), "place")?;
                let sizes = [min_size, max_size, base_size, increment];
                Invalid::unless(sizes.iter().all(|s| s.is_sane()), "size hints")
            }
            Self::Popup(Popup { place: Place::Positioner(positioner), .. }) => positioner.check(),
            Self::Popup(Popup { place: Place::Fixed(area), .. }) => {
                Invalid::unless(area.is_sane() && !area.is_empty(), "popup area")
            }
            Self::Icons { icons, .. } => {
                Invalid::unless(icons.len() <= limits::ICONS, "icons")?;
                let sane = |icon: &Icon| {
                    let Size { width, height } = icon.size;
                    let within = (1..=limits::ICON).contains(&width) && (1..=limits::ICON).contains(&height);
                    within && icon.pixels.len() as u64 == 4 * u64::from(width) * u64::from(height)
                };
                Invalid::unless(icons.iter().all(sane), "icon")
            }
            Self::Shape { rects, .. } => {
                let rects = rects.as_deref().unwrap_or_default();
                Invalid::unless(rects.len() <= limits::SHAPE_RECTS, "shape")?;
                Invalid::unless(rects.iter().all(|r| r.is_sane()), "shape")
            }
            Self::Act { act: Act::Resize(edges), .. } => Invalid::unless(edges.is_sane(), "resize edges"),
            Self::Act { act: Act::WindowMenu(at), .. } => Invalid::unless(at.is_sane(), "window menu"),
            Self::Cursor(Cursor::Named(name)) => Invalid::unless(name.len() <= 64, "cursor name"),
            Self::Cursor(Cursor::Surface { hotspot, .. }) => Invalid::unless(hotspot.is_sane(), "hotspot"),
            Self::OpenLink(uri) => Invalid::unless(links::is_link(uri), "link"),
            Self::Offer(offer) => offer.check(),
            Self::Fetch { kind, .. } => check_type(kind),
            Self::DragAnswer { kind, action, .. } => {
                kind.iter().try_for_each(|kind| check_type(kind))?;
                action.check_one()
            }
            Self::DragEnd { action, .. } => action.check_one(),
            Self::DragStart(start) => start.check(),
            Self::DragIcon { icon, .. } => {
                Invalid::unless(icon.is_none_or(|icon| icon.offset.is_sane()), "place of a drag icon")
            }
            Self::DestroyBuffer { .. }
            | Self::DestroySurface { .. }
            | Self::RoleGone { .. }
            | Self::Act { .. }
            | Self::Cursor(Cursor::Hidden)
            | Self::Counters(_)
            | Self::Pong { .. }
            | Self::Constrain { .. }
            | Self::DragCancel { .. }
            | Self::SayAgain => Ok(()),
        }
    }

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::CreateBuffer { backing: Backing::Memfd, .. }))
    }
}

impl Message for Event {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Outputs(outputs) => {
                Invalid::unless(outputs.len() <= limits::OUTPUTS, "outputs")?;
                let sane = |o: &Output| {
                    o.name.len() <= 256 && o.area.is_sane() && o.mode.is_sane() && is_sane_scale(o.scale_120)
                };
                Invalid::unless(outputs.iter().all(sane), "output")
            }
            Self::ConfigureToplevel { size, bounds, .. } => {
                Invalid::unless(size.is_none_or(Size::is_sane), "configure size")?;
                Invalid::unless(bounds.is_none_or(Size::is_sane), "configure bounds")
            }
            Self::ConfigurePopup { area, .. } => Invalid::unless(area.is_sane(), "popup area"),
            Self::Input(event) => event.check(),
            Self::Place { at, .. } => Invalid::unless(at.is_sane(), "window place"),
            Self::Offer(offer) => offer.check(),
            Self::Fetch { kind, .. } => check_type(kind),
            Self::Drag(drag) => drag.check(),
            Self::DragFeedback { feedback, .. } => feedback.check(),
            Self::CopyOut { paths, .. } => {
                let bytes: usize = paths.iter().map(Vec::len).sum();
                let few = paths.len() <= limits::COPY_PATHS && bytes <= limits::COPY_PATHS_BYTES;
                Invalid::unless(few, "paths")?;
                paths.iter().try_for_each(|path| check_path(path))
            }
            Self::Shown { outputs, scale_120, .. } => {
                let known = outputs.iter().all(|at| usize::from(*at) < limits::OUTPUTS);
                Invalid::unless(known && outputs.len() <= limits::OUTPUTS, "outputs of a window")?;
                Invalid::unless(is_sane_scale(*scale_120), "scale of a window")
            }
            Self::PopupDone { .. }
            | Self::Close { .. }
            | Self::Ping { .. }
            | Self::Kill { .. }
            | Self::Release { .. }
            | Self::Frame { .. }
            | Self::Refresh { .. }
            | Self::Constrained { .. }
            | Self::Links(_)
            | Self::ShortcutsInhibited { .. }
            | Self::Stream { .. }
            | Self::QueryCounters => Ok(()),
        }
    }
}
