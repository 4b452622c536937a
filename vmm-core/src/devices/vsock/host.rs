//! The host's side of the device: programs that connect to the base socket, and events of all sockets.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};

use super::connection::{Connection, Phase};
use super::device::Vsock;
use super::handshake::{Line, read_line};
use super::packet::{Header, Key, op};

/// Events taken from epoll per turn.
const BATCH: usize = 64;
/// Connections accepted per turn: more than any backlog holds.
const MAX_ACCEPTS: usize = 8192;
/// Programs that have connected to the base socket and not yet said what they want; the oldest makes room.
const MAX_HANDSHAKES: usize = 32;
/// Host ports of connections that the host opens.
pub const FIRST_LOCAL_PORT: u32 = 1 << 30;
/// `VMADDR_PORT_ANY`: no port, so no connection has it. Epoll tokens use it for what is not a connection.
pub const NO_PORT: u32 = u32::MAX;

/// What an epoll entry belongs to.
pub enum Token {
    Listener,
    Handshake(u32),
    Connection(Key),
}

impl Token {
    pub fn to_data(&self) -> epoll::EventData {
        let (high, low) = match self {
            Self::Listener => (0, NO_PORT),
            Self::Handshake(id) => (*id, NO_PORT),
            Self::Connection(key) => (key.guest_port, key.host_port),
        };
        epoll::EventData::new_u64(u64::from(high) << 32 | u64::from(low))
    }

    fn from_data(data: epoll::EventData) -> Option<Self> {
        let high = u32::try_from(data.u64() >> 32).ok()?;
        let low = u32::try_from(data.u64() & u64::from(u32::MAX)).ok()?;
        Some(match (high, low) {
            (0, NO_PORT) => Self::Listener,
            (id, NO_PORT) => Self::Handshake(id),
            (guest_port, host_port) => Self::Connection(Key { guest_port, host_port }),
        })
    }
}

/// What epoll tells of every socket: once for each change, until the device has seen that it would block.
pub const READ_EVENTS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

impl Vsock {
    /// Looks once at everything that epoll reports.
    pub(super) fn host_events(&mut self) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(BATCH);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match Token::from_data(event.data) {
                Some(Token::Listener) => self.accept(),
                Some(Token::Handshake(id)) => self.handshake(id),
                Some(Token::Connection(key)) => self.connection_event(key, event.flags),
                None => {}
            }
        }
        Ok(())
    }

    /// Accepts all who wait. The listener is edge-triggered too, so that running out of descriptors does not spin the loop.
    fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            let id = self.next_handshake;
            self.next_handshake = self.next_handshake.checked_add(1).unwrap_or(1);
            if stream.set_nonblocking(true).is_err()
                || epoll::add(&self.epoll, &stream, Token::Handshake(id).to_data(), READ_EVENTS).is_err()
            {
                continue;
            }
            if self.handshakes.len() >= MAX_HANDSHAKES {
                self.handshakes.pop_first();
            }
            self.handshakes.insert(id, stream);
        }
    }

    fn handshake(&mut self, id: u32) {
        let Some(stream) = self.handshakes.get(&id) else { return };
        let line = read_line(stream);
        if line == Line::Partial {
            return;
        }
        let Some(stream) = self.handshakes.remove(&id) else { return };
        match line {
            Line::Connect(port) if self.connections.len() < self.config.limits.connections => {
                self.host_connects(stream, port);
            }
            Line::Connect(port) => tracing::warn!(port, "too many connections; the host's is refused"),
            _ => tracing::debug!("a program on the base socket does not say CONNECT"),
        }
    }

    fn host_connects(&mut self, stream: UnixStream, guest_port: u32) {
        let Some(key) = self.local_key(guest_port) else { return };
        let events = epoll::modify(&self.epoll, &stream, Token::Connection(key).to_data(), READ_EVENTS);
        if let Err(error) = events {
            tracing::error!(%error, "cannot watch a socket");
            return;
        }
        self.connections.insert(key, Connection::requested(key, stream, self.config.limits.buffer));
        self.settle(key);
    }

    /// A host port that no connection to this guest port has.
    fn local_key(&mut self, guest_port: u32) -> Option<Key> {
        (0..=self.connections.len()).find_map(|_| {
            let host_port = self.next_local_port;
            self.next_local_port = match host_port.checked_add(1) {
                Some(next) if next != NO_PORT => next,
                _ => FIRST_LOCAL_PORT,
            };
            let key = Key { guest_port, host_port };
            (!self.connections.contains_key(&key)).then_some(key)
        })
    }

    fn connection_event(&mut self, key: Key, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if connection.phase == Phase::Requested && hung_up {
            self.push_reset(Header::to_guest(self.guest_cid(), key, op::RST));
            self.remove(key);
            return;
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP) || hung_up {
            connection.on_readable(hung_up);
            connection.ask_for_credit();
        }
        connection.flush();
        if connection.is_over() {
            self.push_reset(Header::to_guest(self.guest_cid(), key, op::RST));
            self.remove(key);
        } else {
            self.settle(key);
        }
    }
}
