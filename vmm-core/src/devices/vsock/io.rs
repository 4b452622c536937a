//! Socket reads and writes straight from and to guest memory: raw pointers only, no Rust slice of guest memory exists.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use vm_memory::GuestMemory;

use crate::virtio::{Mem, Span};

/// Pieces per call; a longer chain takes another call.
const MAX_PIECES: usize = 64;

/// The host addresses of guest memory: at most `max` bytes behind the first `skip`. They hold as long as `mem`.
struct Pieces {
    list: [libc::iovec; MAX_PIECES],
    count: usize,
}

impl Pieces {
    fn collect(mem: &Mem, spans: &[Span], mut skip: usize, max: usize) -> io::Result<Self> {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut pieces = Self { list: [empty; MAX_PIECES], count: 0 };
        let mut left = max;
        for span in spans {
            for slice in mem.get_slices(span.addr, span.len) {
                let slice = slice.map_err(io::Error::other)?;
                let skipped = skip.min(slice.len());
                skip -= skipped;
                let slice = slice.offset(skipped).map_err(io::Error::other)?;
                let len = slice.len().min(left);
                if len == 0 {
                    continue;
                }
                let Some(piece) = pieces.list.get_mut(pieces.count) else { return Ok(pieces) };
                *piece = libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: len };
                pieces.count += 1;
                left -= len;
            }
        }
        Ok(pieces)
    }

    fn message(&mut self) -> libc::msghdr {
        // SAFETY: `msghdr` is a plain C struct for which all zeroes are a valid value (no name, no control data).
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.list.as_mut_ptr();
        message.msg_iovlen = self.count;
        message
    }
}

/// Sends the first `max` bytes of `spans`, as far as the socket takes them; returns the bytes taken.
///
/// # Errors
/// `WouldBlock` when the socket is full, and whatever else the socket says.
pub fn send(socket: impl AsFd, mem: &Mem, spans: &[Span], max: usize) -> io::Result<usize> {
    let mut pieces = Pieces::collect(mem, spans, 0, max)?;
    if pieces.count == 0 {
        return Ok(0);
    }
    let message = pieces.message();
    // SAFETY: every piece points to `iov_len` bytes of a mapping of `mem`, which outlives the call. The kernel reads
    // them; the guest may change them meanwhile, which changes only what is sent.
    let sent = unsafe {
        libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives at most `max` bytes into guest memory, behind the first `skip` bytes of `spans`; 0 is end of file.
///
/// # Errors
/// `WouldBlock` when nothing is there, and whatever else the socket says.
pub fn receive(socket: impl AsFd, mem: &Mem, spans: &[Span], skip: usize, max: usize) -> io::Result<usize> {
    let mut pieces = Pieces::collect(mem, spans, skip, max)?;
    if pieces.count == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut message = pieces.message();
    // SAFETY: every piece points to `iov_len` writable bytes of a mapping of `mem`, which outlives the call. No Rust
    // reference to guest memory exists that the kernel's writes could break.
    let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}
