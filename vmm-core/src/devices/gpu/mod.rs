//! virtio-gpu, 2D (virtio 1.2, section 5.7): a way for guest programs to name guest pages, and one screen.
//!
//! Window path: the guest's agent makes a 2D resource on a render node and draws into its pages. This device keeps
//! which pages belong to which resource id and tells a [`ResourceObserver`], which reads them straight from guest
//! RAM; no TRANSFER command is needed, and none copies anything here.
//!
//! ```text
//!   CREATE_2D          ATTACH_BACKING            DETACH_BACKING, UNREF, reset
//!  (id, format, size) --> backed(info) -- ... --> gone(id, generation)
//!
//!   SET_SCANOUT            RESOURCE_FLUSH
//!  scanout(what of which) --> flushed(where) ...
//! ```
//!
//! The screen is read from the same pages: TRANSFER_TO_HOST_2D is checked and answered, RESOURCE_FLUSH says what to read. It is off
//! until the host wants to see it ([`ScreenHandle`]): a guest draws nothing on a screen that is not there.

mod device;
mod edid;
mod protocol;
mod resources;
mod screen;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use device::Gpu;
pub use resources::GpuLimits;
pub use screen::{Area, CursorImage, Scanout, ScreenHandle};

/// A run of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// Guest physical address of the first byte.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A resource with backing, as an observer learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// The guest's name for it; the guest may use it again after the resource is gone.
    pub id: u32,
    /// Unique per backing for the life of the device, across resets.
    pub generation: u64,
    /// Width in pixels, as created.
    pub width: u32,
    /// Height in pixels, as created.
    pub height: u32,
    /// `VIRTIO_GPU_FORMAT_*`; every known one has 4 bytes per pixel.
    pub format: u32,
    /// The backing in order, neighbours merged, every byte checked to lie in guest RAM. It is what the guest attached: it
    /// may be shorter or longer than `width * height * 4`, and a run may cross from one RAM region into the next.
    pub runs: Arc<[PageRun]>,
}

/// Learns which guest pages belong to which resource, and which of them are the screen. Called on the device's thread: it must not
/// block.
pub trait ResourceObserver: Send {
    /// The resource has backing now.
    fn backed(&mut self, resource: &ResourceInfo);
    /// The backing of this generation ended; the guest may use the pages for anything.
    fn gone(&mut self, id: u32, generation: u64);
    /// The screen shows this now, all of it new; or nothing. Whoever does not show it needs none of these.
    fn scanout(&mut self, _scanout: Option<Scanout>) {}
    /// The guest drew there, in pixels of the screen.
    fn flushed(&mut self, _area: Area) {}
    /// The pointer has this image over the screen, to be read anew; or none.
    fn cursor(&mut self, _cursor: Option<CursorImage>) {}
}
