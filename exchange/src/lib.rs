//! What host and guest do alike when something is copied, pasted or dragged: names of types, moving the data, and the X11 side of
//! a selection, which is the same on the host's X server and on Xwayland in the guest.
//!
//! ```text
//! app that has it -> pipe -> transfer -> stream -> transfer -> pipe -> app that pastes
//! ```
//! Whoever gives and whoever takes is an app behind Wayland (which deals in pipes itself) or X11 ([`x11`], which deals in
//! properties). Data is never kept whole; [`transfer`] says how much waits.

pub mod files;
pub mod kinds;
pub mod pipe;
pub mod transfer;
pub mod x11;

use inlay_protocol::selection::{Feedback, Selection};

use pipe::Pipe;

/// What apps of one side did with its selections.
#[derive(Debug)]
pub enum News {
    /// An app of this side owns a selection now, with these types to give ([`kinds::travelling`]); without any, nobody does.
    Changed {
        /// Which.
        selection: Selection,
        /// What there is.
        types: Vec<String>,
    },
    /// An app of this side took a selection just now; what it has is told when it has said so.
    Taken {
        /// Which.
        selection: Selection,
    },
    /// An app of this side pastes what the other offers: to be written into the pipe.
    Wanted {
        /// Which.
        selection: Selection,
        /// One of the types that were offered.
        kind: String,
        /// Where it goes.
        pipe: Pipe,
    },
    /// What becomes of something that the other side drags over apps of this side.
    Drag {
        /// What.
        feedback: Feedback,
        /// It is over a window of the other side's own.
        own: bool,
    },
}
