//! What connects the card, and can be pulled from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// The cable of a card; its copies are the same cable.
#[derive(Clone, Debug)]
pub struct Cable(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    plugged: AtomicBool,
    wake: OwnedFd,
}

impl Cable {
    /// One that is plugged in.
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Ends { plugged: AtomicBool::new(true), wake })))
    }

    /// Pulls it, or plugs it in again; the driver is told.
    pub fn plug(&self, plugged: bool) {
        self.0.plugged.store(plugged, Ordering::Release);
        // A full counter means that the device is woken already.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Whether it is plugged in.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.0.plugged.load(Ordering::Acquire)
    }

    /// The device has seen that something was done to it.
    pub(super) fn heard(&self) {
        // Empty or not: only its being full would matter.
        let _ = rustix::io::read(&self.0.wake, &mut [0; 8]);
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}
