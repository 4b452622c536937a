//! A socket at which the agent arrives: handshakes of control and stream connections.
//!
//! Whoever connects comes from the guest (through the vsock device, from a privileged port) and is hostile until it has
//! said a valid [`Hello`]: few may wait, and none for long.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::handshake::{Capabilities, Hello, Refusal, Welcome};

/// How long a connection may take for its first bytes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that may be in their handshake; more wait in the socket's own queue.
const WAITING: usize = 16;

/// A listening socket and the connections that have not said yet what they are.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    waiting: Vec<(Connection, Instant)>,
}

/// A connection that said hello and waits for the answer.
#[derive(Debug)]
pub struct Arrival {
    connection: Connection,
    /// What it said.
    pub hello: Hello,
}

impl Door {
    /// Listens at `path`; an old socket there is replaced.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: listen(path)?, waiting: Vec::new() })
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = (self.waiting.len() < WAITING).then(|| self.listener.as_fd());
        listener.into_iter().chain(self.waiting.iter().map(|(connection, _)| connection.fd()))
    }

    /// When to look again though nothing came.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|(_, end)| *end).min()
    }

    /// Takes who comes, and gives out who has said hello.
    pub fn turn(&mut self) -> Vec<Arrival> {
        let now = Instant::now();
        while self.waiting.len() < WAITING
            && let Some(connection) = accept(&self.listener)
        {
            self.waiting.push((connection, now + PATIENCE));
        }
        let mut arrived = Vec::new();
        for (mut connection, end) in std::mem::take(&mut self.waiting) {
            match said_hello(&mut connection) {
                Ok(Some(hello)) => arrived.push(Arrival { connection, hello }),
                Ok(None) if now < end => self.waiting.push((connection, end)),
                Ok(None) => tracing::warn!("a connection from the guest said nothing"),
                Err(error) => {
                    tracing::warn!(error = %chain(&*error), "a connection from the guest is refused");
                }
            }
        }
        arrived
    }
}

impl Arrival {
    /// Lets it in.
    ///
    /// # Errors
    /// It is gone, or speaks another major version.
    pub fn welcome(mut self, capabilities: Capabilities) -> Result<Connection, ConnectionError> {
        let answer = Welcome::answer(&self.hello, capabilities);
        self.connection.queue_raw(&answer.encode())?;
        self.connection.flush()?;
        if answer.refusal.is_some() {
            tracing::warn!(theirs = %self.hello.version, "the agent speaks another version of the protocol");
            return Err(ConnectionError::Closed);
        }
        Ok(self.connection)
    }

    /// Says no.
    pub fn refuse(mut self, refusal: Refusal) {
        let sent = self
            .connection
            .queue_raw(&Welcome::refuse(refusal).encode())
            .and_then(|()| self.connection.flush());
        tracing::warn!(%refusal, sent = sent.is_ok(), "a connection from the guest is refused");
    }
}

fn said_hello(connection: &mut Connection) -> Result<Option<Hello>, Box<dyn std::error::Error>> {
    connection.receive()?;
    let Some(bytes) = connection.next_raw(Hello::SIZE)? else { return Ok(None) };
    let bytes: &[u8; Hello::SIZE] = bytes.as_slice().try_into()?;
    Ok(Some(Hello::decode(bytes)?))
}

/// Listens at `path` without blocking; an old socket there is replaced.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection, if one waits.
pub fn accept(listener: &UnixListener) -> Option<Connection> {
    match listener.accept().and_then(|(stream, _)| Connection::new(stream.into())) {
        Ok(connection) => Some(connection),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            None
        }
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::handshake::{Role, VERSION, Version};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    fn hello(major: u16) -> [u8; Hello::SIZE] {
        Hello { version: Version { major, minor: 0 }, role: Role::Control, capabilities: Capabilities(0) }
            .encode()
    }

    #[test]
    fn hello_comes_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut door = Door::open(&path).unwrap();
        let mut guest = UnixStream::connect(&path).unwrap();
        let bytes = hello(VERSION.major);
        guest.write_all(&bytes[..20]).unwrap();
        assert!(door.turn().is_empty());
        guest.write_all(&bytes[20..]).unwrap();
        let arrival = door.turn().pop().unwrap();
        assert_eq!(arrival.hello.role, Role::Control);
        let _connection = arrival.welcome(Capabilities::VIRTIO_GPU).unwrap();
        let mut answer = [0; Welcome::SIZE];
        guest.read_exact(&mut answer).unwrap();
        assert_eq!(Welcome::decode(&answer).unwrap().version, VERSION);
    }

    #[test]
    fn strangers_are_dropped_and_told_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut door = Door::open(&path).unwrap();
        let mut stranger = UnixStream::connect(&path).unwrap();
        stranger.write_all(&[b'x'; Hello::SIZE]).unwrap();
        assert!(door.turn().is_empty());
        assert_eq!(stranger.read(&mut [0; 1]).unwrap(), 0);

        let mut newer = UnixStream::connect(&path).unwrap();
        newer.write_all(&hello(VERSION.major + 1)).unwrap();
        assert!(door.turn().pop().unwrap().welcome(Capabilities::VIRTIO_GPU).is_err());
        let mut answer = [0; Welcome::SIZE];
        newer.read_exact(&mut answer).unwrap();
        assert!(Welcome::decode(&answer).is_err());

        let mut second = UnixStream::connect(&path).unwrap();
        second.write_all(&hello(VERSION.major)).unwrap();
        door.turn().pop().unwrap().refuse(Refusal::Busy);
        second.read_exact(&mut answer).unwrap();
        assert_eq!(Welcome::decode(&answer).unwrap_err().to_string(), "the other end refused the connection");
        assert_eq!(door.fds().count(), 1);
    }

    #[test]
    fn only_few_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut door = Door::open(&path).unwrap();
        let silent: Vec<_> = (0..WAITING + 5).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert!(door.turn().is_empty());
        assert_eq!(door.fds().count(), WAITING, "the listener is left alone");
        assert!(door.deadline().is_some());
        drop(silent);
    }
}
