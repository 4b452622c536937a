//! The virtio-vsock device: its three queues and its host sockets (virtio 1.2, sections 5.10.2 and 5.10.6).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use rustix::event::epoll::{self, EventFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::{Deserialize, Serialize};
use vm_memory::ByteValued;

use super::connection::{Connection, Origin, Phase};
use super::handshake::confirm;
use super::host::{FIRST_LOCAL_PORT, NO_PORT, READ_EVENTS, Token};
use super::packet::{HOST_CID, Header, Key, TYPE_STREAM, op};
use super::{VsockConfig, VsockError};
use crate::virtio::{
    Chain, ChainError, Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json,
};

/// The virtio device id of a socket device.
const DEVICE_TYPE: u32 = 19;
const RX: usize = 0;
const TX: usize = 1;
const EVENT: usize = 2;
const QUEUE_SIZES: [u16; 3] = [256, 256, 64];

/// Answers to packets without a connection that wait for a receive buffer; more are dropped.
const MAX_RESETS: usize = 1024;
/// Warnings that one guest can cause.
const MAX_WARNINGS: u32 = 16;
/// Guest ports below this can be bound by root only.
const FIRST_UNPRIVILEGED_PORT: u32 = 1024;
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`.
const EVENT_TRANSPORT_RESET: u32 = 0;

/// What of the device can be saved: connections cannot, a restored guest is told that they are gone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VsockState {
    next_local_port: u32,
}

/// A virtio-vsock device.
#[derive(Debug)]
pub struct Vsock {
    pub(super) config: VsockConfig,
    pub(super) epoll: OwnedFd,
    pub(super) listener: UnixListener,
    pub(super) handshakes: BTreeMap<u32, UnixStream>,
    pub(super) next_handshake: u32,
    pub(super) connections: HashMap<Key, Connection>,
    pub(super) guest_opened: usize,
    /// Connections that have something for the guest, in turn.
    pub(super) ready: VecDeque<Key>,
    pub(super) resets: VecDeque<Header>,
    pub(super) next_local_port: u32,
    pub(super) tell_reset: bool,
    /// Warnings about the guest that may still be logged: it must not fill the host's log.
    pub(super) warnings_left: u32,
}

impl Vsock {
    /// Makes the device and listens on the base socket; an old socket file there is replaced.
    ///
    /// # Errors
    /// When the context id is not a guest's, or the socket cannot be made.
    pub fn new(config: VsockConfig) -> Result<Self, VsockError> {
        if config.guest_cid < 3 || config.guest_cid == u32::MAX {
            return Err(VsockError::ContextId(config.guest_cid));
        }
        let listen = |source| VsockError::Listen { path: config.socket.clone(), source };
        match std::fs::remove_file(&config.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&config.socket).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| VsockError::Epoll(e.into()))?;
        epoll::add(&epoll, &listener, Token::Listener.to_data(), EventFlags::IN | EventFlags::ET)
            .map_err(|e| VsockError::Epoll(e.into()))?;
        Ok(Self {
            config,
            epoll,
            listener,
            handshakes: BTreeMap::new(),
            next_handshake: 1,
            connections: HashMap::new(),
            guest_opened: 0,
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            next_local_port: FIRST_LOCAL_PORT,
            tell_reset: false,
            warnings_left: MAX_WARNINGS,
        })
    }

    pub(super) fn guest_cid(&self) -> u64 {
        u64::from(self.config.guest_cid)
    }

    // --- From the guest ---

    fn take_tx(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        while let Some(mut chain) = queue.pop(mem)? {
            let header: Header = chain.read_obj(mem).map_err(|e| queue.chain_error(e))?;
            self.packet(&header, &mut chain, mem).map_err(|e| queue.chain_error(e))?;
            queue.add_used(mem, chain)?;
            used = true;
        }
        Ok(used)
    }

    fn packet(&mut self, header: &Header, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
        if { header.src_cid }.to_native() != self.guest_cid() {
            tracing::debug!("a packet of the guest with a foreign context id is dropped");
            return Ok(());
        }
        let key = header.key();
        let addressed = { header.dst_cid }.to_native() == HOST_CID
            && { header.kind }.to_native() == TYPE_STREAM
            && key.host_port != NO_PORT;
        let len = { header.len }.to_native();
        if !addressed || len as usize > chain.readable_len() {
            self.refuse(header);
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            if header.op() == op::REQUEST && self.guest_connects(header) {
                return Ok(());
            }
            self.refuse(header);
            return Ok(());
        };
        connection.take_credit(header);
        let keep = match header.op() {
            op::RW => connection.deliver(chain, mem, len)?.is_ok(),
            op::SHUTDOWN if connection.phase == Phase::Established => {
                connection.guest_shuts_down({ header.flags }.to_native());
                !connection.is_over()
            }
            op::RESPONSE if connection.phase == Phase::Requested => {
                connection.phase = Phase::Established;
                confirm(&mut connection.stream, key.host_port).is_ok()
            }
            op::CREDIT_UPDATE => true,
            op::CREDIT_REQUEST => {
                connection.want_credit_update();
                true
            }
            // An RST, or what makes no sense on a connection that exists (answered with an RST).
            _ => false,
        };
        if keep {
            self.settle(key);
        } else {
            self.refuse(header);
            self.remove(key);
        }
        Ok(())
    }

    fn refuse(&mut self, header: &Header) {
        if header.op() != op::RST {
            self.push_reset(header.reset_for());
        }
    }

    pub(super) fn push_reset(&mut self, header: Header) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(header);
        } else {
            tracing::debug!("the guest takes no packets; an RST is dropped");
        }
    }

    /// The guest asks for a host port: false when it cannot have it.
    fn guest_connects(&mut self, header: &Header) -> bool {
        let key = header.key();
        let room = self.config.limits.connections.saturating_sub(self.config.limits.reserved_for_host);
        if self.guest_opened >= room || self.connections.len() >= self.config.limits.connections {
            self.warn(key, "the guest has too many connections; one is refused");
            return false;
        }
        if self.config.privileged_ports.contains(&key.host_port) && key.guest_port >= FIRST_UNPRIVILEGED_PORT
        {
            self.warn(key, "an unprivileged program of the guest is refused");
            return false;
        }
        let stream = match open(&self.port_path(key.host_port)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(port = key.host_port, %error, "the guest's connection is refused");
                return false;
            }
        };
        if let Err(error) = epoll::add(&self.epoll, &stream, Token::Connection(key).to_data(), READ_EVENTS) {
            tracing::error!(%error, "cannot watch a socket");
            return false;
        }
        let mut connection = Connection::accepted(key, stream, self.config.limits.buffer);
        connection.take_credit(header);
        self.guest_opened += 1;
        self.connections.insert(key, connection);
        self.settle(key);
        true
    }

    fn warn(&mut self, key: Key, what: &str) {
        if self.warnings_left > 0 {
            self.warnings_left -= 1;
            tracing::warn!(port = key.host_port, "{what}");
        }
    }

    fn port_path(&self, port: u32) -> PathBuf {
        let mut path = self.config.socket.clone().into_os_string();
        path.push(format!("_{port}"));
        path.into()
    }

    // --- Both ---

    /// After any change of a connection: its place in the ready list, and what epoll watches.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if !connection.queued && connection.wants_rx() {
            connection.queued = true;
            self.ready.push_back(key);
        }
        if connection.write_armed != connection.is_write_blocked() {
            connection.write_armed = !connection.write_armed;
            let events = if connection.write_armed { READ_EVENTS | EventFlags::OUT } else { READ_EVENTS };
            let data = Token::Connection(key).to_data();
            if let Err(error) = epoll::modify(&self.epoll, &connection.stream, data, events) {
                tracing::error!(%error, "cannot watch a socket");
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key) {
        if let Some(connection) = self.connections.remove(&key) {
            if connection.queued {
                self.ready.retain(|other| *other != key);
            }
            if connection.origin == Origin::Guest {
                self.guest_opened = self.guest_opened.saturating_sub(1);
            }
        }
    }

    // --- To the guest ---

    /// One packet per receive buffer and connection in turn, until there are no buffers or nothing to say.
    fn fill_rx(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        while !(self.resets.is_empty() && self.ready.is_empty()) {
            let Some(mut chain) = queue.pop(mem)? else { break };
            if self.next_packet(&mut chain, mem).map_err(|e| queue.chain_error(e))? {
                queue.add_used(mem, chain)?;
                used = true;
            } else {
                queue.undo_pop(chain);
                break;
            }
        }
        Ok(used)
    }

    fn next_packet(&mut self, chain: &mut Chain, mem: &Mem) -> Result<bool, ChainError> {
        if let Some(header) = self.resets.pop_front() {
            chain.write(mem, header.as_slice())?;
            return Ok(true);
        }
        let guest_cid = self.guest_cid();
        while let Some(key) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            connection.queued = false;
            let filled = connection.fill(chain, mem, guest_cid)?;
            self.settle(key);
            if filled {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn send_events(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        if !self.tell_reset {
            return Ok(false);
        }
        let Some(mut chain) = queue.pop(mem)? else { return Ok(false) };
        chain.write(mem, &EVENT_TRANSPORT_RESET.to_le_bytes()).map_err(|e| queue.chain_error(e))?;
        queue.add_used(mem, chain)?;
        self.tell_reset = false;
        Ok(true)
    }
}

/// Connects without blocking: a listener with a full backlog refuses like one that is not there.
fn open(path: &std::path::Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

impl Device for Vsock {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> Vec<u8> {
        self.guest_cid().to_le_bytes().to_vec()
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let [rx, tx, event] = queues else { return Ok(used) };
        match wake {
            Wake::Queue(TX) => {
                if self.take_tx(mem, tx)? {
                    used.insert(TX);
                }
            }
            Wake::HostSource => {
                self.host_events().map_err(|source| DeviceError::Host { act: "watch sockets", source })?;
            }
            Wake::Queue(_) => {}
        }
        if self.fill_rx(mem, rx)? {
            used.insert(RX);
        }
        if self.send_events(mem, event)? {
            used.insert(EVENT);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.ready.clear();
        self.resets.clear();
        self.guest_opened = 0;
        self.tell_reset = false;
    }

    fn save(&self) -> serde_json::Value {
        to_json(&VsockState { next_local_port: self.next_local_port })
    }

    /// The guest is told that its connections are gone.
    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: VsockState = serde_json::from_value(state)?;
        if !(FIRST_LOCAL_PORT..NO_PORT).contains(&state.next_local_port) {
            return Err(RestoreError::Content("the next port is not one of the host's"));
        }
        self.reset();
        self.next_local_port = state.next_local_port;
        self.tell_reset = true;
        Ok(())
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        // Gone already when the folder was removed.
        let _ = std::fs::remove_file(&self.config.socket);
    }
}
