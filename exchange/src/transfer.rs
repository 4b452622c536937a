//! Data on its way over a stream: [`Chunk`]s on the connection, plain bytes on the pipe.
//!
//! The taking end keeps up to [`HELD`] bytes back until all came, so that a source that dies early ends in an empty paste rather than
//! in half of one. What is longer flows, as fast as the slower end.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::limits;
use inlay_protocol::stream::Chunk;
use rustix::io::Errno;

use crate::pipe::Pipe;

/// Bytes that wait at the taking end before they are given on although more is to come.
pub const HELD: usize = 4 << 20;
/// Bytes that wait for a slow reader once they flow.
const WAITING: usize = 4 * limits::CHUNK;
/// Bytes that one turn moves, so that one transfer does not keep the loop.
const TURN: usize = 16 * limits::CHUNK;
/// What taking a message costs, in bytes.
const MESSAGE: usize = 1024;
/// A transfer on which nothing moves for this long is given up.
pub const IDLE: Duration = Duration::from_secs(30);

/// Why a transfer ended before its data did.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The stream failed, or the other end gave up.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The app that gives it ended, or did not finish.
    #[error("the app that has it ended before it was all there")]
    Source,
    /// The app that takes it closed its pipe.
    #[error("the app that pastes closed its pipe")]
    Sink,
    /// The taking end says what it should not.
    #[error("the other end of a stream talks where it should listen")]
    Nonsense,
    /// Nothing moved.
    #[error("nothing moved for {} seconds", IDLE.as_secs())]
    Idle,
}

/// One transfer, at either end of its stream.
#[derive(Debug)]
pub struct Transfer {
    pipe: Option<Pipe>,
    way: Way,
    moved: Instant,
    /// The last turn ended before all that came was taken.
    more: bool,
}

#[derive(Debug)]
enum Way {
    /// From the pipe to the stream.
    Give,
    /// From the stream to the pipe.
    Take { held: Vec<u8>, written: usize, flows: bool, whole: bool },
}

impl Transfer {
    /// Gives what comes out of a pipe.
    #[must_use]
    pub fn give(pipe: Pipe) -> Self {
        Self { pipe: Some(pipe), way: Way::Give, moved: Instant::now(), more: false }
    }

    /// Takes it into a pipe.
    #[must_use]
    pub fn take(pipe: Pipe) -> Self {
        let way = Way::Take { held: Vec::new(), written: 0, flows: false, whole: false };
        Self { pipe: Some(pipe), way, moved: Instant::now(), more: false }
    }

    /// The same, for a reader that knows by itself whether all came: nothing is held back.
    #[must_use]
    pub fn pour(pipe: Pipe) -> Self {
        let way = Way::Take { held: Vec::new(), written: 0, flows: true, whole: false };
        Self { pipe: Some(pipe), way, moved: Instant::now(), more: false }
    }

    /// Whether the connection is to be read.
    #[must_use]
    pub fn reads(&self) -> bool {
        match &self.way {
            // The other end closes when it has all, or gives up.
            Way::Give => true,
            Way::Take { held, written, flows, whole } => !whole && (!flows || held.len() - written < WAITING),
        }
    }

    /// The pipe, and whether it is to be read or written.
    #[must_use]
    pub fn wish(&self, waiting: usize) -> Option<(BorrowedFd<'_>, bool, bool)> {
        let fd = self.pipe.as_ref()?.fd.as_fd();
        Some(match &self.way {
            Way::Give => (fd, waiting < WAITING, false),
            Way::Take { held, written, flows, .. } => (fd, false, *flows && held.len() > *written),
        })
    }

    /// When [`Transfer::turn`] is due although nothing is ready: at once where a turn ended early, else when it is given up.
    #[must_use]
    pub fn due(&self) -> Instant {
        if self.more && self.reads() { self.moved } else { self.moved + IDLE }
    }

    /// Does what can be done without waiting; `true` when all is over and well.
    ///
    /// # Errors
    /// When the data will not all come: the pipe's reader is told ([`Pipe::is_cut_off`]) and the connection is to be closed.
    pub fn turn(&mut self, connection: &mut Connection) -> Result<bool, TransferError> {
        let result = self.step(connection);
        if result.is_err()
            && let Some(pipe) = &self.pipe
        {
            pipe.cut_off();
        }
        result
    }

    fn step(&mut self, connection: &mut Connection) -> Result<bool, TransferError> {
        connection.flush()?;
        let over = match &self.way {
            Way::Give => self.step_give(connection),
            Way::Take { .. } => self.step_take(connection),
        }?;
        connection.flush()?;
        if !over && self.moved.elapsed() >= IDLE {
            return Err(TransferError::Idle);
        }
        Ok(over)
    }

    fn step_give(&mut self, connection: &mut Connection) -> Result<bool, TransferError> {
        let before = connection.waiting();
        let mut taken = 0;
        while let Some(pipe) = &self.pipe
            && connection.waiting() < WAITING
            && taken < TURN
        {
            let mut bytes = vec![0; limits::CHUNK];
            match rustix::io::read(&pipe.fd, &mut bytes) {
                Ok(0) if pipe.is_cut_off() => return Err(TransferError::Source),
                Ok(0) => {
                    connection.queue(&Chunk::End)?;
                    self.pipe = None;
                }
                Ok(count) => {
                    taken += count;
                    bytes.truncate(count);
                    connection.queue(&Chunk::Data(bytes))?;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(TransferError::Source),
            }
            connection.flush()?;
        }
        if connection.waiting() < before {
            self.moved = Instant::now();
        }
        connection.receive()?;
        match connection.next_message::<Chunk>() {
            Err(ConnectionError::Closed) if self.pipe.is_none() && connection.waiting() == 0 => Ok(true),
            Err(error) => Err(error.into()),
            Ok(Some(_)) => Err(TransferError::Nonsense),
            Ok(None) => Ok(false),
        }
    }

    fn step_take(&mut self, connection: &mut Connection) -> Result<bool, TransferError> {
        let mut taken = 0;
        self.more = true;
        while self.reads() && taken < TURN {
            let message = match connection.next_message::<Chunk>()? {
                Some((message, _)) => Some(message),
                None => {
                    connection.receive()?;
                    connection.next_message::<Chunk>()?.map(|(message, _)| message)
                }
            };
            let Way::Take { held, flows, whole, .. } = &mut self.way else { return Ok(true) };
            match message {
                Some(Chunk::Data(bytes)) => {
                    taken += bytes.len() + MESSAGE;
                    held.extend_from_slice(&bytes);
                    *flows |= held.len() > HELD;
                    self.moved = Instant::now();
                }
                Some(Chunk::End) => (*flows, *whole) = (true, true),
                None => {
                    self.more = false;
                    break;
                }
            }
            self.write()?;
        }
        self.write()?;
        let Way::Take { held, written, whole, .. } = &self.way else { return Ok(true) };
        Ok(*whole && held.len() == *written)
    }

    fn write(&mut self) -> Result<(), TransferError> {
        let Way::Take { held, written, flows: true, .. } = &mut self.way else { return Ok(()) };
        let Some(pipe) = &self.pipe else { return Ok(()) };
        while let Some(rest) = held.get(*written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&pipe.fd, rest) {
                Ok(count) => {
                    *written += count;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(TransferError::Sink),
            }
        }
        if held.len() == *written || *written >= WAITING {
            held.drain(..*written);
            *written = 0;
        }
        Ok(())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // Dropped before its end, for whatever reason: whoever reads must not take it for all.
        if let (Some(pipe), Way::Take { whole, held, written, .. }) = (&self.pipe, &self.way)
            && !(*whole && held.len() == *written)
        {
            pipe.cut_off();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Two ends of a stream, with the pipe into the one and out of the other. An end goes when it is over.
    struct Both {
        ends: [Option<(Connection, Transfer)>; 2],
        source: Option<Pipe>,
        sink: Option<Pipe>,
        error: Option<TransferError>,
    }

    impl Both {
        fn new() -> Self {
            let (a, b) = UnixStream::pair().unwrap();
            let ((from, source), (sink, to)) = (Pipe::pair().unwrap(), Pipe::pair().unwrap());
            let ends = [(a, Transfer::give(from)), (b, Transfer::take(to))];
            let ends = ends.map(|(socket, t)| Some((Connection::new(socket.into()).unwrap(), t)));
            Self { ends, source: Some(source), sink: Some(sink), error: None }
        }

        fn turn(&mut self) {
            for end in &mut self.ends {
                let Some((connection, transfer)) = end else { continue };
                match transfer.turn(connection) {
                    Ok(false) => {}
                    Ok(true) => *end = None,
                    Err(error) => {
                        self.error.get_or_insert(error);
                        *end = None;
                    }
                }
            }
        }

        fn write(&self, bytes: &[u8]) -> usize {
            rustix::io::write(&self.source.as_ref().unwrap().fd, bytes).unwrap_or(0)
        }

        /// What can be read now; nothing at the end.
        fn read(&self) -> Option<Vec<u8>> {
            let mut bytes = vec![0; 1 << 20];
            let count = rustix::io::read(&self.sink.as_ref().unwrap().fd, &mut bytes).ok()?;
            bytes.truncate(count);
            Some(bytes)
        }

        fn is_cut_off(&self) -> bool {
            self.sink.as_ref().unwrap().is_cut_off()
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for length in [0, 1, 65_535, 65_536, 65_537, HELD, HELD + 1, 3 * HELD + 17] {
            let bytes: Vec<u8> = (0..251).cycle().take(length).collect();
            let mut both = Both::new();
            let (mut written, mut got) = (0, Vec::new());
            for turn in 0.. {
                assert!(turn < 100_000, "{length} bytes never end");
                if written < length {
                    written += both.write(&bytes[written..]);
                } else {
                    both.source = None;
                }
                both.turn();
                match both.read() {
                    Some(bytes) if bytes.is_empty() => break,
                    more => got.extend(more.unwrap_or_default()),
                }
            }
            both.turn();
            assert!(got == bytes, "{length} bytes, of which {} came", got.len());
            assert!(both.ends.iter().all(Option::is_none) && both.error.is_none() && !both.is_cut_off());
        }
    }

    #[test]
    fn a_source_that_gives_up_ends_in_nothing() {
        let mut both = Both::new();
        both.write(b"half of it");
        both.turn();
        assert_eq!(both.read(), None, "not before all is there");
        both.source.take().unwrap().cut_off();
        both.turn();
        assert!(matches!(both.error, Some(TransferError::Source)));
        both.turn();
        assert_eq!(both.read(), Some(Vec::new()));
        assert!(both.is_cut_off());
    }

    #[test]
    fn a_reader_that_goes_ends_it_at_both_ends() {
        let mut both = Both::new();
        both.sink = None;
        let more = vec![7; 1 << 20];
        for _ in 0..1000 {
            if both.ends[0].is_some() {
                both.write(&more);
            }
            both.turn();
        }
        assert!(both.ends.iter().all(Option::is_none));
        assert!(matches!(both.error, Some(TransferError::Sink)));
    }

    #[test]
    fn little_waits_while_nobody_reads() {
        let mut both = Both::new();
        let more = vec![7; 1 << 20];
        let mut taken = 0;
        for _ in 0..2000 {
            taken += both.write(&more);
            both.turn();
        }
        // What is held, what waits at either end, the socket and the two pipes.
        assert!((HELD..3 * HELD).contains(&taken), "{taken} bytes");
    }

    #[test]
    fn what_a_slow_reader_took_is_not_kept() {
        let mut both = Both::new();
        let more = vec![7; 1 << 20];
        let mut taken = 0;
        while taken < 8 * HELD {
            both.write(&more);
            both.turn();
            let mut bytes = [0; 40_000];
            let sink = &both.sink.as_ref().unwrap().fd;
            taken += rustix::io::read(sink, &mut bytes).unwrap_or(0);
            let Way::Take { held, .. } = &both.ends[1].as_ref().unwrap().1.way else { panic!() };
            assert!(held.len() <= HELD + TURN, "{} bytes are held", held.len());
        }
    }

    #[test]
    fn pieces_without_bytes_are_refused_and_who_takes_is_silent() {
        let mut both = Both::new();
        let empty = inlay_protocol::framing::encode(&Chunk::Data(Vec::new())).unwrap();
        both.ends[0].as_mut().unwrap().0.queue_raw(&empty).unwrap();
        both.turn();
        assert!(matches!(both.error, Some(TransferError::Connection(ConnectionError::Protocol(_)))));
        let mut both = Both::new();
        both.ends[1].as_mut().unwrap().0.queue(&Chunk::Data(vec![1])).unwrap();
        both.ends[1].as_mut().unwrap().0.flush().unwrap();
        both.turn();
        assert!(matches!(both.error, Some(TransferError::Nonsense)));
    }

    #[test]
    fn a_peer_that_breaks_the_protocol_is_left() {
        let mut both = Both::new();
        let (ours, theirs) = UnixStream::pair().unwrap();
        both.ends[0] = None;
        both.ends[1].as_mut().unwrap().0 = Connection::new(ours.into()).unwrap();
        rustix::io::write(&theirs, &[0xff; 64]).unwrap();
        both.turn();
        assert!(matches!(both.error, Some(TransferError::Connection(ConnectionError::Protocol(_)))));
        assert!(both.is_cut_off());
    }
}
