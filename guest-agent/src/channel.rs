//! A connection to the host: found, greeted, lost and found again. Reconnecting is the normal road (DESIGN section 1).
//!
//! ```text
//!           try_connect              writable              Welcome
//! Down ---------------> Connecting ----------> Greeting -----------> Up
//!  ^                         |                     |                 |
//!  +-------------------------+---------------------+-----------------+  any error: again after 50 ms .. 1 s
//! ```
//! Runs on the loop's thread; [`Link::wish`] says what the loop has to wait for.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::framing::Message;
use inlay_protocol::handshake::{Capabilities, HandshakeError, Hello, Role, VERSION, Welcome};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::watch::{BorrowedFdKey, Wish};

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Time for the host to answer the greeting.
const GREETING: Duration = Duration::from_secs(10);
/// `VMADDR_CID_HOST`.
const CID_HOST: u32 = 2;
/// `VMADDR_CID_ANY`.
const CID_ANY: u32 = u32::MAX;

/// Where the host listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: the host is on the same kernel.
    Unix(PathBuf),
    /// A port of the host over virtio-vsock.
    Vsock(u32),
}

impl Address {
    /// Whether agent and host share a kernel.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("vsock", port)) => {
                port.parse().map(Self::Vsock).map_err(|_| format!("no vsock port: {port}"))
            }
            _ => Err("an address is unix:PATH or vsock:PORT".into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
        }
    }
}

/// Why a link goes down.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there, or the socket failed.
    #[error("no connection to {0}")]
    Connect(Address, #[source] io::Error),
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The host refused it, or is no Inlay host.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The host did not answer the greeting.
    #[error("the host does not answer")]
    Silent,
}

#[derive(Debug)]
enum State {
    Down { since: Instant },
    Connecting { socket: OwnedFd, since: Instant },
    Greeting { connection: Connection, since: Instant },
    Up(Connection),
}

/// One connection with its life.
#[derive(Debug)]
pub struct Link {
    role: Role,
    address: Address,
    capabilities: Capabilities,
    state: State,
    pause: Duration,
    turn: u64,
    written: u64,
    failed: Option<ConnectionError>,
}

impl Link {
    /// A link that is down.
    #[must_use]
    pub fn new(role: Role, address: Address, capabilities: Capabilities) -> Self {
        let state = State::Down { since: Instant::now() };
        Self { role, address, capabilities, state, pause: Duration::ZERO, turn: 0, written: 0, failed: None }
    }

    /// Where it goes.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether messages can be sent.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether there is not even an attempt.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// When the next attempt is due, while it is down; when the greeting takes too long, while it lasts.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Down { since } => Some(*since + self.pause),
            State::Connecting { since, .. } | State::Greeting { since, .. } => Some(*since + GREETING),
            State::Up(_) => None,
        }
    }

    /// What to wait for.
    #[must_use]
    pub fn wish(&self) -> Option<Wish<'_>> {
        let (fd, write) = match &self.state {
            State::Down { .. } => return None,
            State::Connecting { socket, .. } => (socket.as_fd(), true),
            State::Greeting { connection, .. } | State::Up(connection) => {
                (connection.fd(), connection.wants_write())
            }
        };
        Some(Wish { fd: BorrowedFdKey { fd, turn: self.turn }, read: true, write })
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn try_connect(&mut self) -> Result<(), LinkError> {
        self.turn += 1;
        let (socket, pending) =
            connect(&self.address).map_err(|e| LinkError::Connect(self.address.clone(), e))?;
        self.state = State::Connecting { socket, since: Instant::now() };
        if pending { Ok(()) } else { self.connected() }
    }

    fn connected(&mut self) -> Result<(), LinkError> {
        let since = Instant::now();
        let State::Connecting { socket, .. } = std::mem::replace(&mut self.state, State::Down { since })
        else {
            return Ok(());
        };
        let failed = |e: io::Error| LinkError::Connect(self.address.clone(), e);
        rustix::net::sockopt::socket_error(&socket)
            .map_err(io::Error::from)
            .and_then(|r| r.map_err(io::Error::from))
            .map_err(failed)?;
        let mut connection = Connection::new(socket).map_err(failed)?;
        let hello = Hello { version: VERSION, role: self.role, capabilities: self.capabilities };
        connection.queue_raw(&hello.encode())?;
        connection.flush()?;
        self.state = State::Greeting { connection, since };
        Ok(())
    }

    /// The socket is ready: goes on with the greeting, or takes what came. `true` when the link has just come up.
    ///
    /// # Errors
    /// When the connection failed or the host refused it.
    pub fn ready(&mut self) -> Result<bool, LinkError> {
        match &mut self.state {
            State::Down { .. } => return Ok(false),
            State::Connecting { .. } => {
                self.connected()?;
                return Ok(false);
            }
            State::Greeting { connection, .. } => {
                connection.flush()?;
                connection.receive()?;
                let Some(bytes) = connection.next_raw(Welcome::SIZE)? else { return Ok(false) };
                let bytes: [u8; Welcome::SIZE] = bytes.try_into().map_err(|_| HandshakeError::Magic)?;
                let welcome = Welcome::decode(&bytes)?;
                if !welcome.capabilities.contains(self.capabilities) {
                    tracing::warn!(address = %self.address, "the host cannot read the agent's buffers");
                }
            }
            State::Up(connection) => {
                connection.flush()?;
                connection.receive()?;
                return Ok(false);
            }
        }
        let since = Instant::now();
        if let State::Greeting { connection, .. } = std::mem::replace(&mut self.state, State::Down { since })
        {
            self.pause = PAUSE.0;
            self.state = State::Up(connection);
        }
        Ok(true)
    }

    /// The next message that came.
    ///
    /// # Errors
    /// When the bytes are no message, or the other end closed.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, LinkError> {
        let State::Up(connection) = &mut self.state else { return Ok(None) };
        Ok(connection.next_message::<M>()?.map(|(message, _fds)| message))
    }

    /// Queues a message; without a connection it is dropped. `false` when it cannot be encoded within its limit.
    pub fn send<M: Message>(&mut self, message: &M) -> bool {
        self.send_with(message, Vec::new())
    }

    /// Queues a message with descriptors, as [`Link::send`].
    pub fn send_with<M: Message>(&mut self, message: &M, fds: Vec<Arc<OwnedFd>>) -> bool {
        let State::Up(connection) = &mut self.state else { return true };
        match connection.queue_with(message, fds) {
            Ok(()) => true,
            Err(ConnectionError::Encode(_)) => false,
            Err(error) => {
                self.failed.get_or_insert(error);
                true
            }
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When the connection failed, now or while messages were queued.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        if let State::Greeting { connection, .. } | State::Up(connection) = &mut self.state {
            connection.flush()?;
        }
        Ok(())
    }

    /// The connection, while the link is up.
    pub fn connection_mut(&mut self) -> Option<&mut Connection> {
        if let State::Up(connection) = &mut self.state { Some(connection) } else { None }
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        if let State::Up(connection) = &self.state { connection.waiting() } else { 0 }
    }

    /// Bytes written over all connections.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written + if let State::Up(connection) = &self.state { connection.written() } else { 0 }
    }

    /// Drops the connection; the next attempt is due after a pause that grows.
    pub fn drop_connection(&mut self) {
        self.written = self.written();
        self.failed = None;
        if !self.is_up() {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        }
        self.state = State::Down { since: Instant::now() };
    }
}

/// Begins to connect without waiting; `true` when it is not finished.
fn connect(address: &Address) -> io::Result<(OwnedFd, bool)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match address {
        Address::Unix(path) => {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok((socket, false))
        }
        Address::Vsock(port) => vsock_connect(*port),
    }
}

/// `AF_VSOCK` in the type of an address family.
const FAMILY: libc::sa_family_t = 40;
/// Bytes of an address.
const LENGTH: libc::socklen_t = 16;
const _: () =
    assert!(FAMILY as libc::c_int == libc::AF_VSOCK && LENGTH as usize == size_of::<libc::sockaddr_vm>());

fn vsock_address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: all bytes of a sockaddr_vm may be zero.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = FAMILY;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

/// Connects to a port of the host from a privileged source port: no other program of the guest can pose as the agent.
fn vsock_connect(port: u32) -> io::Result<(OwnedFd, bool)> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers.
    let raw = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut bound = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for source in (512..1024).rev() {
        let address = vsock_address(CID_ANY, source);
        // SAFETY: the address is valid for its length.
        let result = unsafe { libc::bind(raw, (&raw const address).cast(), LENGTH) };
        bound = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        match &bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    if let Err(error) = bound {
        tracing::warn!(%error, "no privileged source port (CAP_NET_BIND_SERVICE): the host may refuse the agent");
    }
    let address = vsock_address(CID_HOST, port);
    // SAFETY: the address is valid for its length.
    if unsafe { libc::connect(raw, (&raw const address).cast(), LENGTH) } == 0 {
        return Ok((socket, false));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket, true)),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["unix:/run/x.sock", "vsock:5000"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["unix:", "vsock:x", "tcp:1", "", "vsock"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_pause_grows_and_is_bounded() {
        let address = Address::Unix("/nonexistent/socket".into());
        let mut link = Link::new(Role::Display, address, Capabilities::MEMFD);
        for _ in 0..10 {
            assert!(matches!(link.try_connect(), Err(LinkError::Connect(..))));
            link.drop_connection();
        }
        assert_eq!(link.pause, PAUSE.1);
    }
}
