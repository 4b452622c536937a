//! Window path, hop 4 of 6: where the bytes of a guest's buffer lie in this process, and how damaged rows leave it.
//!
//! A [`Backing`] is a list of mapped pieces: one for a memory file descriptor, one for each run of guest pages for a
//! virtio-gpu resource. The guest may write it at any time, so no Rust slice of it ever exists: rows are copied by raw
//! pointers, and what they hold is only ever shown.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use inlay_protocol::display::Content;
use inlay_protocol::geometry::Rect;
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// Why memory of the other side cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PixelError {
    /// The file is shorter than announced.
    #[error("the memory file has {has} bytes, {needs} were announced")]
    Short {
        /// Bytes of the file.
        has: u64,
        /// Bytes announced.
        needs: u64,
    },
    /// The file could be cut short while it is read.
    #[error("the memory file is not sealed against shrinking")]
    NotSealed,
    /// The system refused.
    #[error("the memory file cannot be mapped")]
    Map(#[from] rustix::io::Errno),
    /// A run of pages lies outside guest memory.
    #[error("a page run at {0:#x} lies outside guest memory")]
    Outside(u64),
}

/// A read-only mapping of a part of a file.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that is only read, through raw pointers, and unmapped once, in drop.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing in it changes through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of a file from `offset` on. The file must be sealed against shrinking, else reading could fault.
    ///
    /// # Errors
    /// When the file is too short, not sealed, or cannot be mapped.
    pub fn new(fd: &OwnedFd, offset: u64, len: u64) -> Result<Self, PixelError> {
        let has = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
        let needs = offset.checked_add(len).ok_or(PixelError::Short { has, needs: u64::MAX })?;
        if has < needs || len == 0 {
            return Err(PixelError::Short { has, needs });
        }
        if !rustix::fs::fcntl_get_seals(fd)?.contains(SealFlags::SHRINK) {
            return Err(PixelError::NotSealed);
        }
        let len = usize::try_from(len).map_err(|_| PixelError::Short { has, needs })?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory of this process.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::NORESERVE,
                fd.as_fd(),
                offset,
            )
        }?;
        let address = NonNull::new(address.cast()).ok_or(PixelError::Outside(0))?;
        Ok(Self { address, len })
    }

    /// Its bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, and nothing uses it any more: every Backing holds an Arc.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

/// A contiguous piece of a backing.
#[derive(Debug)]
struct Piece {
    /// Bytes of the backing before it.
    start: usize,
    /// Its mapping, and where in it the piece begins.
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
}

/// The bytes of one buffer, in order.
#[derive(Debug)]
pub struct Backing {
    pieces: Vec<Piece>,
    len: usize,
}

impl Backing {
    /// All bytes of one mapping.
    #[must_use]
    pub fn whole(mapping: Mapping) -> Self {
        let len = mapping.len();
        Self { pieces: vec![Piece { start: 0, mapping: Arc::new(mapping), offset: 0, len }], len }
    }

    /// The pieces `(mapping, offset, len)` in order.
    ///
    /// # Errors
    /// When a piece does not lie in its mapping.
    pub fn gather(parts: impl IntoIterator<Item = (Arc<Mapping>, usize, usize)>) -> Result<Self, PixelError> {
        let mut pieces = Vec::new();
        let mut start: usize = 0;
        for (mapping, offset, len) in parts {
            let outside = PixelError::Outside(offset as u64);
            if offset.checked_add(len).is_none_or(|end| end > mapping.len()) {
                return Err(outside);
            }
            pieces.push(Piece { start, mapping, offset, len });
            start = start.checked_add(len).ok_or(outside)?;
        }
        Ok(Self { pieces, len: start })
    }

    /// Its bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies `len` bytes from `offset` on.
    ///
    /// # Safety
    /// `to` must be valid for writing `len` bytes, and those bytes must not overlap the backing.
    unsafe fn copy(&self, offset: usize, to: *mut u8, len: usize) {
        debug_assert!(offset + len <= self.len);
        let mut index = self.pieces.partition_point(|p| p.start + p.len <= offset);
        let mut done = 0;
        while done < len {
            let Some(piece) = self.pieces.get(index) else { return };
            let skip = offset + done - piece.start;
            let count = (piece.len - skip).min(len - done);
            // SAFETY: the piece lies in its mapping (checked when gathered) and `skip + count` in the piece; the target is
            // the caller's promise. Concurrent writes of the guest change only what is shown.
            unsafe {
                let from = piece.mapping.address.as_ptr().add(piece.offset + skip);
                std::ptr::copy_nonoverlapping(from, to.add(done), count);
            }
            done += count;
            index += 1;
        }
    }

    /// Copies the pixels of `rect` (inside the content, checked) to rows of `pitch` bytes. Returns the bytes copied, or
    /// nothing when the content does not lie in this backing or the target is too small for the rectangle.
    ///
    /// # Safety
    /// `to` must be valid for writing `room` bytes, and they must not overlap the backing.
    pub unsafe fn copy_rect(
        &self,
        content: &Content,
        rect: Rect,
        to: *mut u8,
        pitch: usize,
        room: usize,
    ) -> Option<usize> {
        let rect = rect.intersection(Rect::of_size(content.size)).filter(|inside| *inside == rect)?;
        if usize::try_from(content.end()?).ok()? > self.len {
            return None;
        }
        let row = 4 * usize::try_from(rect.width).ok()?;
        let rows = usize::try_from(rect.height).ok()?;
        let stride = usize::try_from(content.stride).ok()?;
        if row > pitch || pitch.checked_mul(rows - 1)?.checked_add(row)? > room {
            return None;
        }
        let first = usize::try_from(content.offset).ok()?
            + stride * usize::try_from(rect.y).ok()?
            + 4 * usize::try_from(rect.x).ok()?;
        if row == stride && row == pitch {
            // SAFETY: first + row * rows <= content end <= len (checked above), and row * rows <= room.
            unsafe { self.copy(first, to, row * rows) };
        } else {
            for y in 0..rows {
                // SAFETY: each row ends at or before the content's end, and in the target's room.
                unsafe { self.copy(first + y * stride, to.add(y * pitch), row) };
            }
        }
        Some(row * rows)
    }

    /// The pixels of a content as tightly packed rows: for the few that the host needs itself (cursor images).
    #[must_use]
    pub fn pixels(&self, content: &Content) -> Option<Vec<u8>> {
        let pitch = 4 * usize::try_from(content.size.width).ok()?;
        let mut bytes = vec![0; pitch.checked_mul(usize::try_from(content.size.height).ok()?)?];
        let room = bytes.len();
        let whole = Rect::of_size(content.size);
        // SAFETY: the target is a fresh vector of `room` bytes.
        unsafe { self.copy_rect(content, whole, bytes.as_mut_ptr(), pitch, room) }?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::display::{BufferId, Format};
    use inlay_protocol::geometry::Size;
    use rustix::fs::MemfdFlags;

    fn memfd(bytes: &[u8], seal: bool) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("pixels", flags).unwrap();
        rustix::io::write(&fd, bytes).unwrap();
        if seal {
            rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        }
        fd
    }

    fn content(width: u32, height: u32, stride: u32, offset: u64) -> Content {
        let size = Size::new(width, height);
        Content { buffer: BufferId(1), offset, size, stride, format: Format::Argb8888 }
    }

    #[test]
    fn scattered_pieces_read_like_one_buffer() {
        let bytes: Vec<u8> = (0..8192_u32).map(|i| (i * 7 % 251) as u8).collect();
        let mapping = Arc::new(Mapping::new(&memfd(&bytes, true), 0, 8192).unwrap());
        let cuts = [(4096, 100), (0, 33), (5000, 1000), (100, 2000)];
        let backing = Backing::gather(cuts.iter().map(|(o, l)| (mapping.clone(), *o, *l))).unwrap();
        let flat: Vec<u8> = cuts.iter().flat_map(|(o, l)| bytes[*o..o + l].to_vec()).collect();
        let c = content(13, 17, 60, 8);
        let got = backing.pixels(&c).unwrap();
        let want: Vec<u8> = (0..17).flat_map(|y| flat[8 + y * 60..8 + y * 60 + 52].to_vec()).collect();
        assert_eq!(got, want);
        let rect = Rect::new(3, 5, 4, 2);
        let mut some = vec![0xee; 16 + 256];
        // SAFETY: the vector has the room that is said.
        let n = unsafe { backing.copy_rect(&c, rect, some.as_mut_ptr(), 256, some.len()) };
        assert_eq!(n, Some(32));
        assert_eq!(some[..16], got[5 * 52 + 12..5 * 52 + 28]);
        assert_eq!(some[256..], got[6 * 52 + 12..6 * 52 + 28]);
        assert!(some[16..256].iter().all(|b| *b == 0xee));
    }

    #[test]
    fn what_does_not_fit_is_not_copied() {
        let backing = Backing::whole(Mapping::new(&memfd(&[0; 400], true), 0, 400).unwrap());
        assert!(backing.pixels(&content(10, 10, 40, 0)).is_some());
        assert!(backing.pixels(&content(10, 10, 40, 4)).is_none());
        assert!(backing.pixels(&content(10, 11, 40, 0)).is_none());
        let mut room = [0; 40];
        let c = content(10, 10, 40, 0);
        for rect in [Rect::new(-1, 0, 1, 1), Rect::new(0, 0, 11, 1), Rect::new(0, 0, 10, 2)] {
            // SAFETY: the array has the room that is said.
            assert_eq!(unsafe { backing.copy_rect(&c, rect, room.as_mut_ptr(), 40, 40) }, None);
        }
    }

    #[test]
    fn unsealed_and_short_files_are_refused() {
        assert!(matches!(Mapping::new(&memfd(&[0; 64], false), 0, 64), Err(PixelError::NotSealed)));
        assert!(matches!(Mapping::new(&memfd(&[0; 64], true), 0, 65), Err(PixelError::Short { .. })));
        assert!(Mapping::new(&memfd(&[0; 64], true), u64::MAX, 2).is_err());
        let whole = Arc::new(Mapping::new(&memfd(&[0; 64], true), 0, 64).unwrap());
        assert!(Backing::gather([(whole, 60, 5)]).is_err());
    }
}
