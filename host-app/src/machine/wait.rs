//! Waiting for many descriptors and a deadline at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of the descriptors can be read (or written, where asked), or the deadline passes.
///
/// # Errors
/// The system refuses it.
pub fn wait<'a>(
    fds: impl Iterator<Item = (BorrowedFd<'a>, bool)>,
    deadline: Option<Instant>,
) -> io::Result<()> {
    let flags = |write| if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut fds: Vec<_> = fds.map(|(fd, write)| PollFd::from_borrowed_fd(fd, flags(write))).collect();
    let left = deadline.map(|end| {
        let left = end.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The earlier of two deadlines.
#[must_use]
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
