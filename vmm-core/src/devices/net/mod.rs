//! `net` (virtio 1.2, section 5.1): a network card whose other end is a stream socket of frames, each behind its length (4
//! bytes, big-endian), as passt and QEMU's `stream` speak it, or a tap device.
//!
//! Nothing queues without bound: what the host does not take waits in the guest's ring, behind one frame here; what the
//! guest does not take waits in the socket, behind what was read once.

mod cable;
mod link;
pub mod tap;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

pub use self::cable::Cable;
use self::link::{Kind, Link};
use crate::virtio::{Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUE_SIZE: u16 = 256;
/// `struct virtio_net_hdr` of a modern device.
const HEADER: usize = 12;
/// The longest frame: 64 KiB with an Ethernet header.
const MOST_FRAME: usize = 65_536 + 14;
/// `VIRTIO_NET_F_MAC`.
const MAC: u64 = 1 << 5;
/// `VIRTIO_NET_F_STATUS`.
const STATUS: u64 = 1 << 16;
/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetState {
    mac: [u8; 6],
}

/// The device.
#[derive(Debug)]
pub struct Net {
    link: Link,
    mac: [u8; 6],
    /// The driver has no buffer for what came.
    full: bool,
    cable: Cable,
    /// What the driver was told of it.
    told: bool,
}

impl Net {
    /// A card with this address, whose frames go to and come from `socket`.
    ///
    /// # Errors
    /// The host's.
    pub fn new(socket: OwnedFd, mac: [u8; 6]) -> io::Result<Self> {
        Self::on(Link::new(Kind::Stream, socket)?, mac)
    }

    /// A card with this address on a tap device that [`tap::open`] opened.
    ///
    /// # Errors
    /// The host's.
    pub fn on_tap(tap: OwnedFd, mac: [u8; 6]) -> io::Result<Self> {
        Self::on(Link::new(Kind::Tap, tap)?, mac)
    }

    fn on(link: Link, mac: [u8; 6]) -> io::Result<Self> {
        let cable = Cable::new()?;
        link.watch(&cable)?;
        Ok(Self { link, mac, full: false, cable, told: true })
    }

    /// Its cable, which can be pulled: no frame goes or comes then, whatever the driver makes of it.
    pub fn cable(&self) -> Cable {
        self.cable.clone()
    }

    fn receive(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        self.full = false;
        let mut dropped = 0;
        loop {
            if self.link.frame().is_none() && !self.link.read() {
                return Ok(used);
            }
            if !self.cable.is_plugged() {
                self.link.drop_frame();
                dropped += 1;
                if dropped >= QUEUE_SIZE && self.link.frame().is_none() {
                    // The host wakes the device for the rest.
                    return Ok(used);
                }
                continue;
            }
            let Some(frame) = self.link.frame() else { continue };
            let Some(mut chain) = queue.pop(mem)? else {
                self.full = true;
                return Ok(used);
            };
            // No checksum or segmentation is left to the driver; one buffer holds it all.
            let mut header = [0; HEADER];
            header[10] = 1;
            if chain.writable_len() >= HEADER + frame.len() {
                chain.write(mem, &header).map_err(|source| queue.chain_error(source))?;
                chain.write(mem, frame).map_err(|source| queue.chain_error(source))?;
            } else {
                tracing::debug!(bytes = frame.len(), "a frame does not fit into the driver's buffer");
            }
            let dropped = chain.written() == 0;
            if dropped {
                queue.undo_pop(chain);
            } else {
                queue.add_used(mem, chain)?;
                used = true;
            }
            self.link.drop_frame();
        }
    }

    fn transmit(&mut self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        let mut used = false;
        while self.link.takes() {
            let Some(mut chain) = queue.pop(mem)? else { break };
            let mut header = [0; HEADER];
            chain.read(mem, &mut header).map_err(|source| queue.chain_error(source))?;
            let length = chain.readable_len();
            if self.cable.is_plugged() && (14..=MOST_FRAME).contains(&length) {
                let frame = self.link.next(length);
                chain.read(mem, frame).map_err(|source| queue.chain_error(source))?;
                self.link.send();
            }
            queue.add_used(mem, chain)?;
            used = true;
        }
        Ok(used)
    }
}

impl Device for Net {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        MAC | STATUS
    }

    fn config(&self) -> Vec<u8> {
        let status = if self.told { LINK_UP } else { 0 };
        [&self.mac[..], &status.to_le_bytes()].concat()
    }

    fn config_changed(&mut self) -> bool {
        let now = self.cable.is_plugged();
        std::mem::replace(&mut self.told, now) != now
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        if wake == Wake::HostSource {
            self.cable.heard();
            self.link.send();
        }
        if wake != Wake::Queue(RECEIVE)
            && let Some(queue) = queues.get_mut(TRANSMIT)
            && self.transmit(mem, queue)?
        {
            used.insert(TRANSMIT);
        }
        if wake != Wake::Queue(TRANSMIT)
            && let Some(queue) = queues.get_mut(RECEIVE)
            && self.receive(mem, queue)?
        {
            used.insert(RECEIVE);
        }
        self.link
            .update(!self.full)
            .map_err(|source| DeviceError::Host { act: "wait for the network", source })?;
        Ok(used)
    }

    fn reset(&mut self) {
        self.full = false;
        self.link.drop_frame();
        // Fails only when the descriptor is no epoll any more.
        let _ = self.link.update(true);
    }

    /// Frames on their way are not part of it: the other end is the process's own, and frames may be lost.
    fn save(&self) -> serde_json::Value {
        to_json(&NetState { mac: self.mac })
    }

    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: NetState = serde_json::from_value(state)?;
        // The driver has read it.
        if state.mac != self.mac {
            return Err(RestoreError::Content("it has another address"));
        }
        self.full = false;
        // Fails only when the descriptor is no epoll any more.
        let _ = self.link.update(true);
        Ok(())
    }
}
