//! `console` (virtio 1.2, section 5.3): one port between a guest terminal and two descriptors of the host.
//!
//! Output that the host does not take at once waits in a bounded backlog; when that is full, chains wait in the transmit queue.
//! Both descriptors hang in one epoll descriptor, edge-triggered: readiness is remembered until a descriptor says that it would
//! block, so nothing of guest or host makes the loop spin.

mod host;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use self::host::{BACKLOG, Host};
use crate::virtio::{
    Chain, ChainError, Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json,
};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 3;
const RX: usize = 0;
const TX: usize = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Bytes of one read or write.
const PIECE: usize = 4096;
/// Bytes of one chain; no driver sends as many, and what is behind them is dropped.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleState {
    taken: usize,
    backlog: Vec<u8>,
}

/// The device.
#[derive(Debug)]
pub struct Console {
    host: Host,
    /// Bytes that were taken from the first chain of the transmit queue, which waits for room.
    taken: usize,
}

impl Console {
    /// A terminal that reads what `input` gives and writes to `output`. Both are made non-blocking.
    ///
    /// # Errors
    /// The host cannot watch them.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self { host: Host::new(input, output)?, taken: 0 })
    }

    fn transmit(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        while self.host.room() > 0
            && let Some(mut chain) = queue.pop(mem)?
        {
            if self.take(&mut chain, mem).map_err(|source| queue.chain_error(source))? {
                self.taken = 0;
                queue.add_used(mem, chain)?;
                used = true;
            } else {
                queue.undo_pop(chain);
                break;
            }
        }
        Ok(used)
    }

    /// Takes what there is room for; true when that is all.
    fn take(&mut self, chain: &mut Chain, mem: &Mem) -> Result<bool, ChainError> {
        let mut left = chain.readable_len().min(LONGEST).saturating_sub(self.taken);
        chain.skip_readable(self.taken);
        let mut bytes = [0; PIECE];
        while left > 0 {
            let count = left.min(PIECE).min(self.host.room());
            let Some(piece) = bytes.get_mut(..count).filter(|piece| !piece.is_empty()) else {
                return Ok(false);
            };
            chain.read(mem, piece)?;
            self.host.write(piece);
            self.taken += count;
            left -= count;
        }
        Ok(true)
    }

    fn receive(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        let mut bytes = [0; PIECE];
        while self.host.is_readable()
            && let Some(mut chain) = queue.pop(mem)?
        {
            let room = bytes.get_mut(..chain.writable_len().min(PIECE)).unwrap_or_default();
            if !room.is_empty() {
                let Some(got) = self.host.read(room) else {
                    queue.undo_pop(chain);
                    break;
                };
                chain.write(mem, got).map_err(|source| queue.chain_error(source))?;
            }
            queue.add_used(mem, chain)?;
            used = true;
        }
        Ok(used)
    }
}

impl Device for Console {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> Vec<u8> {
        // Columns, rows, ports, emergency write: each belongs to a feature that is not offered.
        vec![0; 12]
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.host.source())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let [rx, tx] = queues else { return Ok(used) };
        if wake == Wake::HostSource {
            self.host.events().map_err(|source| DeviceError::Host { act: "watch a terminal", source })?;
            self.host.flush();
        }
        if wake != Wake::Queue(RX) && self.transmit(mem, tx)? {
            used.insert(TX);
        }
        if wake != Wake::Queue(TX) && self.receive(mem, rx)? {
            used.insert(RX);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        // What the guest said last is worth most: the backlog still goes out.
        self.taken = 0;
    }

    fn save(&self) -> serde_json::Value {
        to_json(&ConsoleState { taken: self.taken, backlog: self.host.backlog() })
    }

    /// Readiness of the descriptors is this process's own and stays.
    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: ConsoleState = serde_json::from_value(state)?;
        if state.backlog.len() > BACKLOG || state.taken > LONGEST {
            return Err(RestoreError::Content("more output waits than can"));
        }
        self.taken = state.taken;
        self.host.replace_backlog(state.backlog);
        Ok(())
    }
}
