//! Selections: what one app has to give and others may paste (ICCCM section 2, `wl_data_device`).
//!
//! An offer carries the names of types only. Data moves when somebody pastes, on a stream of its own, so that a large picture
//! never delays a key press.

use serde::{Deserialize, Serialize};

use crate::framing::Invalid;
use crate::limits;

/// Which selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Selection {
    /// What was copied.
    Clipboard,
    /// What is marked; pasted by the middle button.
    Primary,
}

impl Selection {
    /// All of them, in the order of [`Selection::index`].
    pub const ALL: [Self; 2] = [Self::Clipboard, Self::Primary];

    /// Its place in a list of all.
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
        Invalid::unless(self.types.len() <= limits::TYPES, "types of an offer")?;
        self.types.iter().try_for_each(|kind| check_type(kind))
    }
}

/// A name has 1 to [`limits::TYPE`] bytes and no control characters.
pub(crate) fn check_type(kind: &str) -> Result<(), Invalid> {
    Invalid::unless((1..=limits::TYPE).contains(&kind.len()), "name of a type")?;
    Invalid::unless(!kind.chars().any(char::is_control), "name of a type")
}
