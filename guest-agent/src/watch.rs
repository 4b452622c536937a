//! Descriptors that come and go, or are waited for only at times, in the event loop.
//!
//! Once a turn each owner says what it wishes to wait for; only a changed wish touches the loop.

use std::os::fd::{BorrowedFd, RawFd};

use smithay::reexports::calloop::generic::Generic;
use smithay::reexports::calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};

use crate::agent::Agent;

/// What is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The control session.
    Control,
    /// The display session.
    Display,
    /// Something of this exec: its stream, pipes or terminal.
    Exec(u64),
    /// The pipes of what is kept.
    Keep,
    /// The stream or the pipe of what is pasted.
    Transfer(u64),
    /// The X display's socket.
    X11,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The descriptor.
    pub fd: BorrowedFdKey<'a>,
    /// Wait until it can be read.
    pub read: bool,
    /// Wait until it can be written.
    pub write: bool,
}

/// A descriptor with a number that tells two uses of the same descriptor number apart.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedFdKey<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Which use of its number.
    pub turn: u64,
}

impl PartialEq for BorrowedFdKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        key(self) == key(other)
    }
}

impl Eq for BorrowedFdKey<'_> {}

fn key(fd: &BorrowedFdKey<'_>) -> (RawFd, u64) {
    use std::os::fd::AsRawFd;
    (fd.fd.as_raw_fd(), fd.turn)
}

/// One place in the loop.
#[derive(Debug, Default)]
pub struct Watch {
    token: Option<RegistrationToken>,
    wish: Option<(RawFd, u64, bool, bool)>,
}

impl Watch {
    /// Waits for this from now on. The loop gets a duplicate, so the owner may close its descriptor at any time.
    pub fn set(&mut self, handle: &LoopHandle<'static, Agent>, source: Source, wish: Option<Wish<'_>>) {
        let wanted = wish.filter(|w| w.read || w.write).map(|w| {
            let (fd, turn) = key(&w.fd);
            (fd, turn, w.read, w.write)
        });
        if wanted == self.wish {
            return;
        }
        self.wish = wanted;
        if let Some(token) = self.token.take() {
            handle.remove(token);
        }
        let Some(wish) = wish.filter(|_| wanted.is_some()) else { return };
        let registered = wish.fd.fd.try_clone_to_owned().map_err(anyhow::Error::from).and_then(|fd| {
            let interest = Interest { readable: wish.read, writable: wish.write };
            handle
                .insert_source(Generic::new(fd, interest, Mode::Level), move |_, _, agent| {
                    agent.ready(source);
                    Ok(PostAction::Continue)
                })
                .map_err(|error| anyhow::anyhow!("{error}"))
        });
        match registered {
            Ok(token) => self.token = Some(token),
            Err(error) => tracing::error!(?source, %error, "a descriptor cannot be watched"),
        }
    }

    /// Waits for nothing any more.
    pub fn clear(&mut self, handle: &LoopHandle<'static, Agent>) {
        self.wish = None;
        if let Some(token) = self.token.take() {
            handle.remove(token);
        }
    }
}
