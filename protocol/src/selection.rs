//! Selections: what one app has to give and others may paste (ICCCM section 2, `wl_data_device`).
//!
//! An offer carries the names of types only. Data moves when somebody pastes, on a stream of its own, so that a large picture
//! never delays a key press.

use serde::{Deserialize, Serialize};

use crate::display::SurfaceId;
use crate::framing::Invalid;
use crate::geometry::Point;
use crate::limits;

/// Which selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Selection {
    /// What was copied.
    Clipboard,
    /// What is marked; pasted by the middle button.
    Primary,
    /// What is dragged. There is no [`Offer`] of it: it is told by [`Drag`].
    Drag,
}

impl Selection {
    /// So many there are.
    pub const COUNT: usize = 3;
    /// Those that apps have to give as long as they like.
    pub const ALL: [Self; 2] = [Self::Clipboard, Self::Primary];

    /// Its place in a list of [`Selection::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What one side has to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which selection.
    pub selection: Selection,
    /// Counts the offers of one side within a connection, so that nobody gets the data of a newer one.
    pub serial: u64,
    /// MIME types and other names of types, at most [`limits::TYPES`] of at most [`limits::TYPE`] bytes; text of any kind is
    /// `text/plain;charset=utf-8`.
    pub types: Vec<String>,
}

impl Offer {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.selection != Selection::Drag, "selection of an offer")?;
        check_types(&self.types)
    }
}

fn check_types(types: &[String]) -> Result<(), Invalid> {
    Invalid::unless(types.len() <= limits::TYPES, "types of an offer")?;
    types.iter().try_for_each(|kind| check_type(kind))
}

/// What may become of something that is dropped, as bits (`wl_data_device_manager.dnd_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actions(pub u8);

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// It stays and is there as well.
    pub const COPY: Self = Self(1);
    /// It is there instead.
    pub const MOVE: Self = Self(2);
    /// The user is asked by the app that gets it.
    pub const ASK: Self = Self(4);

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// No unknown bits.
    pub(crate) fn check(self) -> Result<(), Invalid> {
        Invalid::unless(self.0 < 8, "drag and drop actions")
    }

    /// At most one.
    pub(crate) fn check_one(self) -> Result<(), Invalid> {
        self.check()?;
        Invalid::unless(self.0.count_ones() <= 1, "drag and drop action")
    }
}

/// Something that is dragged over windows of the guest (`wl_data_device`, XDND): of the host, or of the guest itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Drag {
    /// It comes over a window.
    Enter {
        /// The root surface of the window.
        surface: SurfaceId,
        /// Where, surface-local.
        x: f64,
        /// Where, surface-local.
        y: f64,
        /// Counts drags within a connection.
        serial: u64,
        /// What it can be had as; nothing is said where it is the guest's own.
        types: Vec<String>,
        /// What the app that it comes from allows.
        actions: Actions,
        /// The [`DragStart::serial`] of what an app of this guest drags: its data does not cross.
        own: Option<u64>,
    },
    /// It moves on it.
    Motion {
        /// Milliseconds of an unspecified clock.
        time_ms: u64,
        /// Where, surface-local.
        x: f64,
        /// Where, surface-local.
        y: f64,
    },
    /// It goes elsewhere, or ends.
    Leave,
    /// It is dropped there.
    Drop,
}

impl Drag {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Enter { x, y, types, actions, .. } => {
                Invalid::unless(x.is_finite() && y.is_finite(), "place of a drag")?;
                actions.check()?;
                check_types(types)
            }
            Self::Motion { x, y, .. } => Invalid::unless(x.is_finite() && y.is_finite(), "place of a drag"),
            Self::Leave | Self::Drop => Ok(()),
        }
    }
}

/// An app of the guest drags something out of a window (`wl_data_device.start_drag`, XDND): the host's desktop carries it from here
/// on, if a button that was pressed in that window is still held. [`Feedback::Cancelled`] answers where it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DragStart {
    /// Counts the drags of the agent within a connection.
    pub serial: u64,
    /// The root surface of the window.
    pub surface: SurfaceId,
    /// What it can be had as, bounded as [`Offer::types`]; none where only the app itself knows what to do with it.
    pub types: Vec<String>,
    /// What the app allows.
    pub actions: Actions,
}

impl DragStart {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.actions.check()?;
        check_types(&self.types)
    }
}

/// The image of what is dragged: a surface with this role, or a window that its app moves along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DragIcon {
    /// Its root surface.
    pub surface: SurfaceId,
    /// From the pointer's place to its left upper corner, in logical pixels.
    pub offset: Point,
}

/// What becomes of something that an app of the guest drags (`wl_data_source`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feedback {
    /// What the app under it would do.
    Target {
        /// The type that it would take; none: it takes nothing there.
        kind: Option<String>,
        /// What would become of it, at most one.
        action: Actions,
    },
    /// It was dropped on an app that takes it; [`Feedback::Finished`] or [`Feedback::Cancelled`] follows.
    Dropped,
    /// The app that got it is done.
    Finished {
        /// What it did, at most one.
        action: Actions,
    },
    /// Nothing comes of it, or not all.
    Cancelled,
}

impl Feedback {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Target { kind, action } => {
                kind.iter().try_for_each(|kind| check_type(kind))?;
                action.check_one()
            }
            Self::Finished { action } => action.check_one(),
            Self::Dropped | Self::Cancelled => Ok(()),
        }
    }
}

/// A name has 1 to [`limits::TYPE`] bytes and no control characters.
pub(crate) fn check_type(kind: &str) -> Result<(), Invalid> {
    Invalid::unless((1..=limits::TYPE).contains(&kind.len()), "name of a type")?;
    Invalid::unless(!kind.chars().any(char::is_control), "name of a type")
}
