//! A request in the guest's memory, and the room for its answer.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use vm_memory::{GuestMemory as _, VolatileSlice};

use crate::virtio::{Chain, ChainError, Mem, Span};

/// Pieces of memory in one system call (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    chain: Chain,
    mem: &'a Mem,
}

impl<'a> Request<'a> {
    pub(super) fn new(chain: Chain, mem: &'a Mem) -> Self {
        Self { chain, mem }
    }

    pub(super) fn into_chain(self) -> Chain {
        self.chain
    }

    /// Bytes of the request that were not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.chain.readable_len()
    }

    /// Bytes that the answer may still have.
    #[must_use]
    pub fn room(&self) -> usize {
        self.chain.writable_len()
    }

    /// Reads so many bytes as `out` has.
    ///
    /// # Errors
    /// There are less left.
    pub fn read(&mut self, out: &mut [u8]) -> Result<(), ChainError> {
        self.chain.read(self.mem, out)
    }

    /// Writes to the answer.
    ///
    /// # Errors
    /// There is no room.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChainError> {
        self.chain.write(self.mem, bytes)
    }

    /// Counts bytes of the answer as written that [`read_file`](Self::read_file) put there.
    pub fn advance(&mut self, count: usize) {
        self.chain.advance_written(count);
    }

    /// Writes the next bytes of the request to a file; how many were written.
    ///
    /// # Errors
    /// The host's.
    pub fn write_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize) -> io::Result<usize> {
        let slices = slices(self.mem, self.chain.readable_spans(), 0, length)?;
        let written = transfer(&slices, at, |list, count, at| {
            // SAFETY: the list names `count` pieces of guest memory, which stays mapped; the kernel reads them.
            unsafe { libc::pwritev(file.as_raw_fd(), list, count, at) }
        })?;
        self.chain.skip_readable(written);
        Ok(written)
    }

    /// Reads from a file into the answer, behind its next `skip` bytes; how many were read.
    ///
    /// # Errors
    /// The host's.
    pub fn read_file(
        &mut self,
        file: BorrowedFd<'_>,
        at: u64,
        length: usize,
        skip: usize,
    ) -> io::Result<usize> {
        let slices = slices(self.mem, self.chain.writable_spans(), skip, length)?;
        transfer(&slices, at, |list, count, at| {
            // SAFETY: the list names `count` pieces of guest memory, which stays mapped and is no Rust object; the kernel writes them.
            unsafe { libc::preadv(file.as_raw_fd(), list, count, at) }
        })
    }
}

/// The guest's memory of these spans from `skip` bytes on, at most `length` bytes of it.
fn slices<'a>(
    mem: &'a Mem,
    spans: &[Span],
    skip: usize,
    length: usize,
) -> io::Result<Vec<VolatileSlice<'a>>> {
    let (mut skip, mut left) = (skip, length);
    let mut slices = Vec::with_capacity(spans.len());
    for span in spans {
        let skipped = skip.min(span.len);
        skip -= skipped;
        let len = (span.len - skipped).min(left);
        if len > 0 {
            let addr = vm_memory::GuestAddress(span.addr.0.saturating_add(skipped as u64));
            slices.push(mem.get_slice(addr, len).map_err(io::Error::other)?);
        }
        left -= len;
    }
    Ok(slices)
}

/// Moves as much as there is, in as few system calls as there may be.
fn transfer(
    slices: &[VolatileSlice<'_>],
    at: u64,
    call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> libc::ssize_t,
) -> io::Result<usize> {
    let mut moved = 0;
    for part in slices.chunks(MOST_PIECES) {
        let guards: Vec<_> = part.iter().map(VolatileSlice::ptr_guard_mut).collect();
        let pieces: Vec<libc::iovec> = guards
            .iter()
            .zip(part)
            .map(|(guard, slice)| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: slice.len() })
            .collect();
        let wanted: usize = part.iter().map(VolatileSlice::len).sum();
        let offset = at.checked_add(moved as u64).and_then(|at| libc::off_t::try_from(at).ok());
        let offset = offset.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let count = libc::c_int::try_from(pieces.len()).unwrap_or(0);
        let now = loop {
            match usize::try_from(call(pieces.as_ptr(), count, offset)) {
                Ok(now) => break now,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    // What went before went.
                    _ if moved > 0 => return Ok(moved),
                    error => return Err(error),
                },
            }
        };
        moved += now;
        if now < wanted {
            break;
        }
    }
    Ok(moved)
}
