//! The screen: what a scanout shows, the cursor over it, and the host's side of it (virtio 1.2, sections 5.7.5 and 5.7.6.10).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use super::protocol::Rect;

/// A rectangle in pixels, checked to lie in what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Area {
    /// A rectangle of the driver's, if it lies in a resource of this size.
    pub(super) fn inside(rect: &Rect, width: u32, height: u32) -> Option<Self> {
        let area = Self {
            x: rect.x.to_native(),
            y: rect.y.to_native(),
            width: rect.width.to_native(),
            height: rect.height.to_native(),
        };
        area.fits(width, height).then_some(area)
    }

    pub(super) fn fits(self, width: u32, height: u32) -> bool {
        let inside = |start: u32, len: u32, end: u32| start.checked_add(len).is_some_and(|sum| sum <= end);
        inside(self.x, self.width, width) && inside(self.y, self.height, height)
    }

    /// What of it lies in another one, as seen from that one's corner.
    pub(super) fn seen_in(self, other: Self) -> Option<Self> {
        let span = |a: u32, a_len: u32, b: u32, b_len: u32| {
            let (start, end) = (a.max(b), a.saturating_add(a_len).min(b.saturating_add(b_len)));
            (start < end).then(|| (start - b, end - start))
        };
        let (x, width) = span(self.x, self.width, other.x, other.width)?;
        let (y, height) = span(self.y, self.height, other.y, other.height)?;
        Some(Self { x, y, width, height })
    }
}

/// What the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanout {
    /// The resource; it has backing.
    pub id: u32,
    /// Which backing.
    pub generation: u64,
    /// Bytes from one of its rows to the next.
    pub stride: u32,
    /// The part of the resource that is shown; not empty.
    pub area: Area,
}

/// The pointer's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorImage {
    /// The resource; it has backing.
    pub id: u32,
    /// Which backing.
    pub generation: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The pixel that points, from the left.
    pub hot_x: u32,
    /// The pixel that points, from above.
    pub hot_y: u32,
}

/// The host's side of the screen, from any thread.
#[derive(Clone, Debug)]
pub struct ScreenHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wish: Mutex<Option<(u32, u32)>>,
    wake: OwnedFd,
}

impl ScreenHandle {
    /// A screen that is off.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { wish: Mutex::new(None), wake }) })
    }

    /// Switches the screen on, with this size in pixels as its wish, or off. The driver is told where the transport can.
    pub fn set_display(&self, size: Option<(u32, u32)>) {
        *self.shared.wish.lock().unwrap_or_else(PoisonError::into_inner) = size;
        // A full counter means that the device is woken already.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }

    /// The size that it is to have, if it is on.
    #[must_use]
    pub fn display(&self) -> Option<(u32, u32)> {
        *self.shared.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device was woken.
    pub(super) fn heard(&self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
    }
}

impl AsFd for ScreenHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}
