//! One non-blocking connection: messages in, messages out, descriptors beside them. Both ends and all channels use it.
//!
//! Works over Unix sockets (with descriptors) and over `AF_VSOCK` (without). The owner polls [`Connection::fd`] for
//! reading, and for writing while [`Connection::wants_write`]; nothing here blocks. Output that the peer does not take is
//! bounded by [`limits::OUTBOX`].

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::framing::{self, DecodeError, Decoder, EncodeError, Message};
use crate::limits;

/// Bytes taken from the socket in one read.
const READ: usize = 64 * 1024;
/// Bytes that one [`Connection::receive`] takes at most, so that one peer cannot keep the loop.
const READ_TURN: usize = 8 * READ;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The other end closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other end sent something that is no message.
    #[error("the other end broke the protocol")]
    Protocol(#[from] DecodeError),
    /// The other end does not take what is sent.
    #[error("the other end does not read: {0} bytes wait")]
    Stuck(usize),
    /// A message of ours cannot be encoded.
    #[error("a message cannot be sent")]
    Encode(#[from] EncodeError),
    /// A descriptor was announced and did not come, or too many came.
    #[error("file descriptors do not match the messages")]
    Descriptors,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<Arc<OwnedFd>>,
}

/// A non-blocking connection that sends and receives messages.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    decoder: Decoder,
    /// Where the socket's bytes arrive; made once, as clearing it costs more than a small message.
    scratch: Box<[u8]>,
    incoming: VecDeque<OwnedFd>,
    outbox: VecDeque<Outgoing>,
    waiting: usize,
    written: u64,
    received: u64,
    closed: bool,
}

impl Connection {
    /// Takes a connected stream socket and makes it non-blocking.
    ///
    /// # Errors
    /// When the socket's flags cannot be changed.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self {
            fd,
            decoder: Decoder::default(),
            scratch: vec![0; READ].into_boxed_slice(),
            incoming: VecDeque::new(),
            outbox: VecDeque::new(),
            waiting: 0,
            written: 0,
            received: 0,
            closed: false,
        })
    }

    /// The socket, to be polled.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether output waits for the socket.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes received since the start.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Queues a message; [`Connection::flush`] writes it.
    ///
    /// # Errors
    /// When it is too long, or more waits than a live peer would leave.
    pub fn queue<M: Message>(&mut self, message: &M) -> Result<(), ConnectionError> {
        self.queue_with(message, Vec::new())
    }

    /// Queues a message with the descriptors that travel beside it ([`Message::descriptors`] of them).
    ///
    /// # Errors
    /// As [`Connection::queue`], and when the number of descriptors is wrong.
    pub fn queue_with<M: Message>(
        &mut self,
        message: &M,
        fds: Vec<Arc<OwnedFd>>,
    ) -> Result<(), ConnectionError> {
        if fds.len() != message.descriptors() {
            return Err(ConnectionError::Descriptors);
        }
        self.push(framing::encode(message)?, fds)
    }

    /// Queues bytes that are not framed: the handshake.
    ///
    /// # Errors
    /// When more waits than a live peer would leave.
    pub fn queue_raw(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.push(bytes.to_vec(), Vec::new())
    }

    fn push(&mut self, bytes: Vec<u8>, fds: Vec<Arc<OwnedFd>>) -> Result<(), ConnectionError> {
        if self.waiting + bytes.len() > limits::OUTBOX {
            return Err(ConnectionError::Stuck(self.waiting));
        }
        self.waiting += bytes.len();
        // Small messages without descriptors share one write.
        if let Some(last) = self.outbox.back_mut()
            && fds.is_empty()
            && last.fds.is_empty()
            && last.bytes.len() + bytes.len() <= READ
        {
            last.bytes.extend_from_slice(&bytes);
            return Ok(());
        }
        self.outbox.push_back(Outgoing { bytes, sent: 0, fds });
        Ok(())
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// When the connection is closed or failed.
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        while let Some(next) = self.outbox.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = next.fds.iter().map(|fd| fd.as_fd()).collect();
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(crate::limits::PENDING_FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(ConnectionError::Descriptors);
            }
            let bytes = next.bytes.get(next.sent..).unwrap_or_default();
            match rustix::net::sendmsg(&self.fd, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    next.fds.clear();
                    next.sent += count;
                    self.waiting -= count;
                    self.written += count as u64;
                    if next.sent == next.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(ConnectionError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Takes what the socket has, up to a bound. Messages that came before the end can still be taken after it: the end
    /// is told by [`Connection::next_message`] once they are.
    ///
    /// # Errors
    /// When the socket fails or too many descriptors came.
    pub fn receive(&mut self) -> Result<(), ConnectionError> {
        let mut taken = 0;
        while taken < READ_TURN && !self.closed {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(crate::limits::PENDING_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = rustix::net::recvmsg(
                &self.fd,
                &mut [IoSliceMut::new(&mut self.scratch)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            match got {
                Ok(got) => {
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.incoming.extend(fds);
                        }
                    }
                    if self.incoming.len() > limits::PENDING_FDS {
                        return Err(ConnectionError::Descriptors);
                    }
                    self.closed = got.bytes == 0;
                    self.decoder.push(self.scratch.get(..got.bytes).unwrap_or_default());
                    taken += got.bytes;
                    self.received += got.bytes as u64;
                    if got.bytes < self.scratch.len() {
                        // All that was there; what stands behind descriptors is told by the next poll.
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE) => self.closed = true,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// The next message with its descriptors, `None` until more came.
    ///
    /// # Errors
    /// When the bytes are no message, its descriptors did not come, or all was taken and the other end has closed.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, ConnectionError> {
        let Some(message) = self.decoder.next_message::<M>()? else {
            return if self.closed { Err(ConnectionError::Closed) } else { Ok(None) };
        };
        let count = message.descriptors();
        if self.incoming.len() < count {
            return Err(ConnectionError::Descriptors);
        }
        let fds = self.incoming.drain(..count).collect();
        Ok(Some((message, fds)))
    }

    /// Takes `count` raw bytes when they are there: the handshake.
    ///
    /// # Errors
    /// When the other end closed before they came.
    pub fn next_raw(&mut self, count: usize) -> Result<Option<Vec<u8>>, ConnectionError> {
        match self.decoder.take_raw(count) {
            None if self.closed => Err(ConnectionError::Closed),
            bytes => Ok(bytes),
        }
    }

    /// Waits until the socket can be read, or written while output waits; `false` on time-out. For threads and tools that
    /// have nothing else to do.
    ///
    /// # Errors
    /// When polling fails.
    pub fn wait(&self, timeout: Option<std::time::Duration>) -> Result<bool, ConnectionError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut flags = PollFlags::IN;
        if self.wants_write() {
            flags |= PollFlags::OUT;
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(&self.fd, flags)], timeout.as_ref()) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Waits for the next message; `None` on time-out. Writes what waits meanwhile.
    ///
    /// # Errors
    /// As [`Connection::receive`] and [`Connection::next_message`].
    pub fn wait_message<M: Message>(
        &mut self,
        timeout: Option<std::time::Duration>,
    ) -> Result<Option<(M, Vec<OwnedFd>)>, ConnectionError> {
        let end = timeout.map(|t| std::time::Instant::now() + t);
        loop {
            self.flush()?;
            if let Some(got) = self.next_message()? {
                return Ok(Some(got));
            }
            let left = end.map(|end| end.saturating_duration_since(std::time::Instant::now()));
            if left.is_some_and(|left| left.is_zero()) || !self.wait(left)? {
                return Ok(None);
            }
            self.receive()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::{Backing, BufferId, Request, SurfaceId};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn pair() -> (Connection, Connection) {
        let (a, b) = UnixStream::pair().unwrap();
        (Connection::new(a.into()).unwrap(), Connection::new(b.into()).unwrap())
    }

    const SOON: Option<Duration> = Some(Duration::from_secs(5));

    #[test]
    fn descriptors_arrive_with_their_messages() {
        let (mut a, mut b) = pair();
        let file = Arc::new(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        rustix::fs::ftruncate(&*file, 4096).unwrap();
        let buffer = |id| Request::CreateBuffer { buffer: BufferId(id), size: 4096, backing: Backing::Memfd };
        for id in 0..20 {
            a.queue(&Request::DestroySurface { surface: SurfaceId(id) }).unwrap();
            a.queue_with(&buffer(id), vec![file.clone()]).unwrap();
        }
        a.flush().unwrap();
        for id in 0..20 {
            let (message, fds) = b.wait_message::<Request>(SOON).unwrap().unwrap();
            assert_eq!((message, fds.len()), (Request::DestroySurface { surface: SurfaceId(id) }, 0));
            let (message, fds) = b.wait_message::<Request>(SOON).unwrap().unwrap();
            assert_eq!((message, fds.len()), (buffer(id), 1));
            assert_eq!(rustix::fs::fstat(&fds[0]).unwrap().st_size, 4096);
        }
    }

    #[test]
    fn an_announced_descriptor_that_does_not_come_is_an_error() {
        let (mut a, mut b) = pair();
        let message = Request::CreateBuffer { buffer: BufferId(1), size: 1, backing: Backing::Memfd };
        a.queue_raw(&framing::encode(&message).unwrap()).unwrap();
        a.flush().unwrap();
        assert!(matches!(b.wait_message::<Request>(SOON), Err(ConnectionError::Descriptors)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_found_out() {
        let (mut a, _b) = pair();
        let title = "t".repeat(limits::TITLE);
        let message = Request::Cursor(crate::display::Cursor::Named(title));
        let stuck = (0..100_000).find_map(|_| {
            a.flush().unwrap();
            a.queue(&message).err()
        });
        assert!(matches!(stuck, Some(ConnectionError::Stuck(_))));
        assert!(a.waiting() <= limits::OUTBOX);
    }

    #[test]
    fn messages_before_the_end_are_not_lost() {
        let (mut a, mut b) = pair();
        a.queue(&Request::SayAgain).unwrap();
        a.flush().unwrap();
        drop(a);
        assert!(b.wait_message::<Request>(SOON).unwrap().is_some());
        assert!(matches!(b.wait_message::<Request>(SOON), Err(ConnectionError::Closed)));
    }
}
