//! The host's end: a stream of frames behind their lengths, or a tap device, which gives and takes one at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;

use super::MOST_FRAME;

/// Bytes before a frame.
const LENGTH: usize = 4;
/// Room for what is read at once.
const ROOM: usize = 2 * (LENGTH + MOST_FRAME);

/// What frames are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream socket.
    Stream,
    /// A tap device: no lengths, one frame a call.
    Tap,
}

/// The host's end with what was read and is to be written.
#[derive(Debug)]
pub struct Link {
    kind: Kind,
    host: OwnedFd,
    epoll: OwnedFd,
    /// Frames behind their lengths, for either kind.
    input: Vec<u8>,
    /// Where the first unread byte of `input` is.
    at: usize,
    output: Vec<u8>,
    sent: usize,
    watched: epoll::EventFlags,
    open: bool,
}

impl Link {
    pub fn new(kind: Kind, host: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&host, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watched = epoll::EventFlags::IN;
        epoll::add(&epoll, &host, epoll::EventData::new_u64(0), watched)?;
        let (input, output) = (Vec::with_capacity(ROOM), Vec::with_capacity(LENGTH + MOST_FRAME));
        Ok(Self { kind, host, epoll, input, at: 0, output, sent: 0, watched, open: true })
    }

    /// Has this wake the device as well.
    pub fn watch(&self, other: &impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, other, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?)
    }

    /// Waits for the host as it makes sense: for room while something is to be sent, for frames while they are wanted. When it is
    /// neither, its end is not waited for either: it would be told again and again.
    pub fn update(&mut self, reads: bool) -> io::Result<()> {
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, reads && self.open);
        wanted.set(epoll::EventFlags::OUT, !self.takes() && self.open);
        if wanted == self.watched {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(0);
        if wanted.is_empty() {
            epoll::delete(&self.epoll, &self.host)?;
        } else if self.watched.is_empty() {
            epoll::add(&self.epoll, &self.host, data, wanted)?;
        } else {
            epoll::modify(&self.epoll, &self.host, data, wanted)?;
        }
        self.watched = wanted;
        Ok(())
    }

    /// The first whole frame that was read.
    pub fn frame(&self) -> Option<&[u8]> {
        let rest = self.input.get(self.at..)?;
        let length = length(rest)?;
        rest.get(LENGTH..LENGTH.checked_add(length)?)
    }

    /// Forgets it.
    pub fn drop_frame(&mut self) {
        if let Some(length) = self.frame().map(<[u8]>::len) {
            self.at += LENGTH + length;
        }
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
    }

    /// Reads more; false when there is nothing.
    pub fn read(&mut self) -> bool {
        if !self.open {
            return false;
        }
        self.input.drain(..self.at);
        self.at = 0;
        match self.kind {
            Kind::Stream => self.read_stream(),
            Kind::Tap => self.read_tap(),
        }
    }

    fn read_stream(&mut self) -> bool {
        let room = ROOM.saturating_sub(self.input.len());
        self.input.reserve_exact(room);
        let start = self.input.len();
        self.input.resize(start + room, 0);
        let read = rustix::io::read(&self.host, self.input.get_mut(start..).unwrap_or_default());
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.close("it was closed"),
            Ok(_) => {
                if length(&self.input).is_some_and(|length| length > MOST_FRAME) {
                    self.close("a frame is too long");
                    return false;
                }
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.close(&error.to_string()),
        }
        false
    }

    /// Whatever was read before was taken: nothing is left in `input`.
    fn read_tap(&mut self) -> bool {
        self.input.clear();
        self.input.resize(LENGTH + MOST_FRAME, 0);
        let read = rustix::io::read(&self.host, self.input.get_mut(LENGTH..).unwrap_or_default());
        let count = *read.as_ref().unwrap_or(&0);
        if count == 0 {
            self.input.clear();
        } else {
            self.input.truncate(LENGTH + count);
            let length = u32::try_from(count).unwrap_or(0).to_be_bytes();
            self.input.iter_mut().zip(length).for_each(|(to, from)| *to = from);
        }
        match read {
            Ok(count) => return count > 0,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.close(&error.to_string()),
        }
        false
    }

    fn close(&mut self, why: &str) {
        tracing::warn!("the guest's network ends: {why}");
        self.open = false;
        self.input.clear();
        self.at = 0;
        self.output.clear();
        self.sent = 0;
    }

    /// Whether a frame can be taken.
    pub fn takes(&self) -> bool {
        self.output.is_empty()
    }

    /// Room for the next frame, which [`send`](Self::send) sends.
    pub fn next(&mut self, length: usize) -> &mut [u8] {
        self.output.clear();
        self.sent = 0;
        self.output.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
        self.output.resize(LENGTH + length, 0);
        self.output.get_mut(LENGTH..).unwrap_or_default()
    }

    /// Sends what waits, as far as the host takes it. Without a host frames are lost, as on an unplugged cable.
    pub fn send(&mut self) {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            if !self.open {
                break;
            }
            let sent = match self.kind {
                Kind::Stream => rustix::net::send(&self.host, rest, rustix::net::SendFlags::NOSIGNAL),
                Kind::Tap => {
                    rustix::io::write(&self.host, rest.get(LENGTH..).unwrap_or_default()).map(|_| rest.len())
                }
            };
            match sent {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // A device that is down, or does not like the frame, loses it.
                Err(Errno::IO | Errno::INVAL | Errno::NOBUFS) if self.kind == Kind::Tap => break,
                Err(error) => self.close(&error.to_string()),
            }
        }
        self.output.clear();
        self.sent = 0;
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.get(..LENGTH)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
