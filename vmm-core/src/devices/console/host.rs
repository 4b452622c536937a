//! The host's two descriptors: what is known of them, and output that waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Bytes of output that wait for the host at most.
pub const BACKLOG: usize = 64 << 10;
const INPUT: u64 = 0;
const OUTPUT: u64 = 1;

/// The two descriptors.
#[derive(Debug)]
pub struct Host {
    input: OwnedFd,
    output: OwnedFd,
    epoll: OwnedFd,
    readable: bool,
    writable: bool,
    backlog: VecDeque<u8>,
}

impl Host {
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (fd, token, events) in
            [(&input, INPUT, EventFlags::IN | EventFlags::RDHUP), (&output, OUTPUT, EventFlags::OUT)]
        {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
            match epoll::add(&epoll, fd, EventData::new_u64(token), events | EventFlags::ET) {
                // Plain files cannot be watched: they are always ready.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Whether they are is found out when they are used.
        Ok(Self { input, output, epoll, readable: true, writable: true, backlog: VecDeque::new() })
    }

    pub fn source(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    pub fn events(&mut self) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(2);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match event.data.u64() {
                INPUT => self.readable = true,
                _ => self.writable = true,
            }
        }
        Ok(())
    }

    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// What the host typed, if it did. At its end, or after an error, that is nothing until epoll tells of something new.
    pub fn read<'a>(&mut self, room: &'a mut [u8]) -> Option<&'a [u8]> {
        let count = loop {
            match rustix::io::read(&self.input, &mut *room) {
                Err(Errno::INTR) => {}
                Ok(count) => break count,
                Err(error) => {
                    if error != Errno::AGAIN {
                        tracing::debug!(%error, "a terminal cannot be read");
                    }
                    break 0;
                }
            }
        };
        self.readable = count > 0;
        room.get(..count).filter(|got| !got.is_empty())
    }

    /// Bytes that [`write`](Self::write) may be given.
    pub fn room(&self) -> usize {
        BACKLOG - self.backlog.len().min(BACKLOG)
    }

    /// Writes `bytes` or keeps them.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.writable && self.backlog.is_empty() && !rest.is_empty() {
            let taken = self.put(rest).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.backlog.extend(rest);
    }

    /// Writes what waits, as far as the host takes it.
    pub fn flush(&mut self) {
        while self.writable && !self.backlog.is_empty() {
            let (first, _) = self.backlog.as_slices();
            let first = first.get(..first.len().min(super::PIECE)).unwrap_or_default().to_vec();
            match self.put(&first) {
                Some(taken) => drop(self.backlog.drain(..taken)),
                None => self.backlog.clear(),
            }
        }
    }

    /// Bytes that the host took; `None` when it takes nothing any more, and output is lost.
    fn put(&mut self, bytes: &[u8]) -> Option<usize> {
        match rustix::io::write(&self.output, bytes) {
            Ok(0) => None,
            Ok(count) => Some(count),
            Err(Errno::INTR) => Some(0),
            Err(Errno::AGAIN) => {
                self.writable = false;
                Some(0)
            }
            Err(error) => {
                tracing::debug!(%error, "a terminal cannot be written to; output is lost");
                None
            }
        }
    }

    pub fn backlog(&self) -> Vec<u8> {
        self.backlog.iter().copied().collect()
    }

    pub fn replace_backlog(&mut self, backlog: Vec<u8>) {
        self.backlog = backlog.into();
        self.flush();
    }
}
