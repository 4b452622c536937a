//! A pipe whose reader learns whether the writer came to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// One end of a pipe of ours, or of an app's, which cannot say that it was cut off.
#[derive(Debug)]
pub struct Pipe {
    /// The descriptor; it does not block.
    pub fd: OwnedFd,
    cut: Arc<AtomicBool>,
    works: Arc<AtomicBool>,
}

impl Pipe {
    /// The reading and the writing end of a new pipe.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (cut, works) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        Ok((Self { fd: read, cut: cut.clone(), works: works.clone() }, Self { fd: write, cut, works }))
    }

    /// An end of an app's pipe.
    ///
    /// # Errors
    /// When it cannot be made not to block.
    pub fn foreign(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, cut: Arc::default(), works: Arc::default() })
    }

    /// The descriptor alone, for an app: it blocks, as apps expect, and only they say when they are done.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        // A pipe of ours: nothing can fail.
        let _ = rustix::io::ioctl_fionbio(&self.fd, false);
        self.fd
    }

    /// The writer gives up: what was written so far is not all.
    pub fn cut_off(&self) {
        self.cut.store(true, Ordering::Release);
    }

    /// The writer says whether it has work to do before it can go on writing, with a limit of its own for that.
    pub fn set_at_work(&self, works: bool) {
        self.works.store(works, Ordering::Release);
    }

    /// Whether the writer is at work: the reader is to wait, however long nothing comes.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.works.load(Ordering::Acquire)
    }

    /// Whether the writer gave up; to be asked after the end of the data was read.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}
