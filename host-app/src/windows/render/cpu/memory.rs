//! Memory that a display reads: a file that both have mapped.

use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use inlay_protocol::geometry::Size;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::area;

/// Room is taken in steps, so that a window that grows does not need another file with each frame.
const STEP: usize = 1 << 20;

/// Bytes that all windows of the process may have: each needs two or three times its pixels.
const BUDGET: usize = 4 << 30;
/// Those that they have.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Memory for the pixels of a window.
#[derive(Debug)]
pub struct Memory {
    address: NonNull<u32>,
    /// Bytes.
    len: usize,
}

impl Memory {
    /// Room for a picture of this size and somewhat more, and its file, for the display.
    ///
    /// # Errors
    /// The system has none left, or windows have too much.
    pub fn new(size: Size) -> anyhow::Result<(Self, OwnedFd)> {
        let len = (4 * area(size)).max(1).next_multiple_of(STEP);
        ensure!(USED.load(Ordering::Relaxed).saturating_add(len) <= BUDGET, "windows need too much memory");
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("inlay-window", flags).context("no memory for a window")?;
        rustix::fs::ftruncate(&file, len as u64).context("no memory for a window")?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory of this process.
        let address = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file.as_fd(), 0)
        }
        .context("no memory for a window")?;
        let address = NonNull::new(address.cast()).context("no memory for a window")?;
        USED.fetch_add(len, Ordering::Relaxed);
        Ok((Self { address, len }, file))
    }

    /// Whether a picture of this size has room, and not far too much.
    #[must_use]
    pub fn fits(&self, size: Size) -> bool {
        let needs = 4 * area(size);
        needs <= self.len && self.len <= (4 * needs).max(4 * STEP)
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pixels of a picture of this size (which [`Memory::fits`]).
    pub fn pixels(&mut self, size: Size) -> &mut [u32] {
        let count = area(size).min(self.len / 4);
        // SAFETY: the mapping is as long as that, aligned to pages, and lent by this for as long as the slice lives. The display only
        // reads it, and not before it is told to.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), count) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, and no slice of it outlives this.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.len) };
        USED.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_for_sizes_that_need_about_as_much() {
        let (mut memory, _) = Memory::new(Size::new(800, 600)).unwrap();
        assert_eq!((memory.len(), memory.pixels(Size::new(800, 600)).len()), (2 << 20, 480_000));
        let fits = |width, height| memory.fits(Size::new(width, height));
        assert!(fits(800, 600) && fits(810, 610) && fits(10, 10));
        assert!(!fits(1024, 768));
        let (large, _) = Memory::new(Size::new(3840, 2160)).unwrap();
        assert!(large.fits(Size::new(1920, 1100)) && !large.fits(Size::new(800, 600)));
        // All windows together have so much and no more.
        let huge = Size::new(16_384, 8192);
        let kept: Vec<_> = (0..99).map_while(|_| Memory::new(huge).ok()).collect();
        assert_eq!(kept.len(), 7, "of 512 MiB each, beside the others");
        drop(kept);
        assert!(Memory::new(huge).is_ok());
    }
}
