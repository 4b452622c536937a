//! Pool buffers: memory that both this process and the host can see. Window path, hop 3 of 6 (see [`crate::export`]).
//!
//! A [`Pool`] makes them: [`memfd`] on one kernel (local mode), [`virtio_gpu`] inside a machine. [`recycler`] keeps those
//! that no surface uses, because making one costs milliseconds.

pub mod memfd;
pub mod recycler;
pub mod virtio_gpu;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use inlay_protocol::display::Backing;
use inlay_protocol::handshake::Capabilities;

/// Makes pool buffers.
pub trait Pool {
    /// Whether buffers can be made by now. The agent starts early in a machine's boot, when its device may be missing.
    fn is_ready(&mut self) -> bool {
        true
    }

    /// A new buffer of at least `size` bytes, zeroed.
    ///
    /// # Errors
    /// When the kernel has no memory or no identifiers left.
    fn create(&self, size: usize) -> io::Result<Buffer>;

    /// What the host must be able to do to read these buffers.
    fn capabilities(&self) -> Capabilities;
}

/// A shared mapping, writable; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset`.
    fn new(fd: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let start = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `new` mapped, and nothing that outlives it points into it.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) } {
            tracing::error!(%error, "a pool buffer could not be unmapped");
        }
    }
}

/// A pool buffer.
#[derive(Debug)]
pub struct Buffer {
    mapping: Mapping,
    /// Where the host finds its bytes.
    pub backing: Backing,
    /// Travels beside the message that announces it (memfd only).
    pub fd: Option<Arc<OwnedFd>>,
    /// Ends the resource after the mapping is gone.
    _handle: Option<virtio_gpu::Handle>,
}

impl Buffer {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.len
    }

    /// Its first byte; `len` bytes may be written through it while the buffer lives.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.mapping.start
    }
}
