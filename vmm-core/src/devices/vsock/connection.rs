//! One stream between a guest port and a Unix socket: credit (virtio 1.2, section 5.10.6.3), backlog, half-close.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::net::{SendFlags, send};
use vm_memory::ByteValued;

use super::io::{receive, send as send_from_guest};
use super::packet::{HEADER_SIZE, Header, Key, MAX_PAYLOAD, op, shutdown};
use crate::virtio::{Chain, ChainError, Mem};

/// Packets that wait for a receive buffer of the guest, at most one of each kind.
mod pending {
    pub const REQUEST: u8 = 1;
    pub const RESPONSE: u8 = 2;
    pub const CREDIT_UPDATE: u8 = 4;
    pub const CREDIT_REQUEST: u8 = 8;
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The host asked; the guest has not answered.
    Requested,
    /// Bytes flow.
    Established,
}

/// Who asked for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Guest,
    Host,
}

/// A connection. `SHUTDOWN` flags are seen from their sender: what it will no longer do.
#[derive(Debug)]
pub struct Connection {
    pub key: Key,
    pub stream: UnixStream,
    pub origin: Origin,
    pub phase: Phase,
    /// In the device's list of those that have something for the guest.
    pub queued: bool,
    /// The epoll entry asks for writability.
    pub write_armed: bool,
    /// The socket may have bytes, or its end, to read.
    readable: bool,
    pending: u8,
    /// What the guest said that it is done with.
    guest_done: u32,
    /// What the host program is done with.
    host_done: u32,
    /// What of that the guest knows.
    host_done_told: u32,
    /// The guest's receive buffer, what it took out of it, and what was sent into it (all wrapping).
    guest_buf_alloc: u32,
    guest_fwd_cnt: u32,
    sent: u32,
    /// The buffer that the guest may fill, what came, what went on to the socket, and what of that the guest knows.
    buf_alloc: u32,
    received: u32,
    forwarded: u32,
    forwarded_told: u32,
    backlog: VecDeque<u8>,
}

/// The guest did what no driver may do on this connection; it gets an RST.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation;

impl Connection {
    /// A connection that the guest asked for and the host has accepted.
    pub fn accepted(key: Key, stream: UnixStream, buf_alloc: u32) -> Self {
        Self { pending: pending::RESPONSE, ..Self::new(key, stream, buf_alloc, Origin::Guest) }
    }

    /// A connection that the host asks for.
    pub fn requested(key: Key, stream: UnixStream, buf_alloc: u32) -> Self {
        Self { pending: pending::REQUEST, ..Self::new(key, stream, buf_alloc, Origin::Host) }
    }

    fn new(key: Key, stream: UnixStream, buf_alloc: u32, origin: Origin) -> Self {
        Self {
            key,
            stream,
            origin,
            phase: match origin {
                Origin::Guest => Phase::Established,
                Origin::Host => Phase::Requested,
            },
            queued: false,
            write_armed: false,
            readable: false,
            pending: 0,
            guest_done: 0,
            host_done: 0,
            host_done_told: 0,
            guest_buf_alloc: 0,
            guest_fwd_cnt: 0,
            sent: 0,
            buf_alloc,
            received: 0,
            forwarded: 0,
            forwarded_told: 0,
            backlog: VecDeque::new(),
        }
    }

    /// Takes the credit that every packet of the guest carries.
    pub fn take_credit(&mut self, header: &Header) {
        self.guest_buf_alloc = { header.buf_alloc }.to_native();
        self.guest_fwd_cnt = { header.fwd_cnt }.to_native();
    }

    /// Bytes that the guest has room for; 0 also when its numbers make no sense.
    fn credit(&self) -> u32 {
        self.guest_buf_alloc.saturating_sub(self.sent.wrapping_sub(self.guest_fwd_cnt))
    }

    /// The guest asks what room there is.
    pub fn want_credit_update(&mut self) {
        self.pending |= pending::CREDIT_UPDATE;
    }

    /// The socket has bytes or its end; `hung_up` when it is closed for both directions.
    pub fn on_readable(&mut self, hung_up: bool) {
        self.readable = true;
        if hung_up {
            // What is still in the socket is read first; then its end is seen.
            self.host_done |= shutdown::RECEIVE;
        }
    }

    /// Whether a receive buffer of the guest could be used now.
    pub fn wants_rx(&self) -> bool {
        self.pending != 0
            || (self.phase == Phase::Established
                && (self.host_done & !self.host_done_told != 0 || (self.may_read() && self.credit() > 0)))
    }

    fn may_read(&self) -> bool {
        self.phase == Phase::Established && self.readable && self.host_done & shutdown::SEND == 0
    }

    /// Asks the guest for credit when bytes wait for it; once per stop.
    pub fn ask_for_credit(&mut self) {
        if self.may_read() && self.credit() == 0 {
            self.pending |= pending::CREDIT_REQUEST;
        }
    }

    /// Whether both directions have ended and everything is delivered.
    pub fn is_over(&self) -> bool {
        self.guest_done == shutdown::BOTH && self.backlog.is_empty()
    }

    /// Whether the socket's writability matters.
    pub fn is_write_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Payload of the guest: to the socket at once, what it does not take to the backlog.
    ///
    /// # Errors
    /// The outer error is a broken chain, the inner one a broken protocol.
    pub fn deliver(
        &mut self,
        chain: &mut Chain,
        mem: &Mem,
        len: u32,
    ) -> Result<Result<(), Violation>, ChainError> {
        let held = self.received.wrapping_sub(self.forwarded);
        if self.phase != Phase::Established
            || self.guest_done & shutdown::SEND != 0
            || held.checked_add(len).is_none_or(|sum| sum > self.buf_alloc)
        {
            return Ok(Err(Violation));
        }
        self.received = self.received.wrapping_add(len);
        if self.host_done & shutdown::RECEIVE != 0 {
            self.count_forwarded(len as usize);
            return Ok(Ok(()));
        }
        let mut left = len as usize;
        if self.backlog.is_empty() {
            match send_from_guest(&self.stream, mem, chain.readable_spans(), left) {
                Ok(count) => {
                    chain.skip_readable(count);
                    self.count_forwarded(count);
                    left = left.saturating_sub(count);
                }
                Err(error) if would_block(&error) => {}
                Err(_) => {
                    self.host_stopped_receiving();
                    self.count_forwarded(left);
                    return Ok(Ok(()));
                }
            }
        }
        if left > 0 {
            // At most `buf_alloc` bytes, as was checked above.
            let mut rest = vec![0; left];
            chain.read(mem, &mut rest)?;
            self.backlog.extend(rest);
        }
        Ok(Ok(()))
    }

    /// Writes the backlog as far as the socket takes it.
    pub fn flush(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        while !self.backlog.is_empty() {
            let (front, _) = self.backlog.as_slices();
            match send(&self.stream, front, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.backlog.drain(..count);
                    self.count_forwarded(count);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Err(_) => self.host_stopped_receiving(),
            }
        }
        self.backlog.shrink_to(0);
        if self.guest_done & shutdown::SEND != 0 {
            self.end_writing();
        }
    }

    fn end_writing(&self) {
        // Fails only when the host program is gone.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn host_stopped_receiving(&mut self) {
        self.host_done |= shutdown::RECEIVE;
        let lost = self.backlog.len();
        self.backlog.clear();
        self.count_forwarded(lost);
    }

    fn count_forwarded(&mut self, count: usize) {
        self.forwarded = self.forwarded.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.forwarded.wrapping_sub(self.forwarded_told) >= self.buf_alloc / 4 {
            self.pending |= pending::CREDIT_UPDATE;
        }
    }

    /// The guest will no longer do what `flags` say.
    pub fn guest_shuts_down(&mut self, flags: u32) {
        self.guest_done |= flags & shutdown::BOTH;
        if self.guest_done & shutdown::RECEIVE != 0 {
            let _ = self.stream.shutdown(Shutdown::Read);
            // The guest knows that nothing comes any more.
            self.host_done |= shutdown::SEND;
            self.host_done_told |= shutdown::SEND;
        }
        if flags & shutdown::SEND != 0 && self.backlog.is_empty() {
            self.end_writing();
        }
    }

    /// Makes the next packet for the guest in `chain`; false when there was none after all.
    ///
    /// # Errors
    /// When the guest's buffer is too small for a header and a byte.
    pub fn fill(&mut self, chain: &mut Chain, mem: &Mem, guest_cid: u64) -> Result<bool, ChainError> {
        if chain.writable_len() <= HEADER_SIZE {
            return Err(ChainError::ShortWrite);
        }
        let unsaid = self.host_done & !self.host_done_told;
        let key = self.key;
        let packet = |op| Header::to_guest(guest_cid, key, op);
        if self.pending & pending::REQUEST != 0 {
            self.pending &= !pending::REQUEST;
            self.put(chain, mem, packet(op::REQUEST))?;
        } else if self.pending & pending::RESPONSE != 0 {
            self.pending &= !pending::RESPONSE;
            self.put(chain, mem, packet(op::RESPONSE))?;
        } else if self.phase == Phase::Established && unsaid != 0 {
            self.host_done_told = self.host_done;
            self.put(chain, mem, Header { flags: self.host_done.into(), ..packet(op::SHUTDOWN) })?;
        } else if let Some(count) = self.read_payload(chain, mem) {
            let len = u32::try_from(count).map_err(|_| ChainError::TooLong)?;
            self.sent = self.sent.wrapping_add(len);
            let header = Header { len: len.into(), ..packet(op::RW) };
            self.put(chain, mem, header)?;
            chain.advance_written(count);
            self.ask_for_credit();
        } else if self.pending & pending::CREDIT_UPDATE != 0 {
            self.put(chain, mem, packet(op::CREDIT_UPDATE))?;
        } else if self.pending & pending::CREDIT_REQUEST != 0 {
            self.pending &= !pending::CREDIT_REQUEST;
            self.put(chain, mem, packet(op::CREDIT_REQUEST))?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Reads from the socket into the chain, behind the place of the header.
    fn read_payload(&mut self, chain: &Chain, mem: &Mem) -> Option<usize> {
        let credit = usize::try_from(self.credit()).unwrap_or(usize::MAX);
        if !self.may_read() || credit == 0 {
            return None;
        }
        let max = credit.min(MAX_PAYLOAD);
        match receive(&self.stream, mem, chain.writable_spans(), HEADER_SIZE, max) {
            Ok(0) => self.host_done |= shutdown::SEND,
            Ok(count) => return Some(count),
            Err(error) if would_block(&error) => {}
            // The host program is gone, with bytes of the guest unread.
            Err(_) => self.host_done = shutdown::BOTH,
        }
        self.readable = false;
        None
    }

    /// Writes a header with our side of the credit.
    fn put(&mut self, chain: &mut Chain, mem: &Mem, mut header: Header) -> Result<(), ChainError> {
        header.buf_alloc = self.buf_alloc.into();
        header.fwd_cnt = self.forwarded.into();
        self.forwarded_told = self.forwarded;
        self.pending &= !pending::CREDIT_UPDATE;
        chain.write(mem, header.as_slice())
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
