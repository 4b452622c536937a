//! `block` (virtio 1.2, section 5.2): a disk image as a disk, read and written in the device's own thread.
//!
//! Writes are in the host's cache until the guest flushes; then they are on the host's disk. The driver's memory is handed to
//! the host's system calls as it is: nothing is copied on the way.

mod image;
mod lock;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};
use vm_memory::{GuestMemory as _, VolatileSlice};

pub use self::image::{Format, Image, ImageConfig, ImageError};
use crate::virtio::{
    Chain, ChainError, Device, DeviceError, Mem, QueueSet, RestoreError, Span, VirtQueue, Wake, to_json,
};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 2;
const QUEUE_SIZE: u16 = 256;
const SECTOR: u64 = 512;
/// Buffers of one request.
const SEGMENTS: u32 = 254;
/// Sectors of one discard or write of zeroes, and ranges of one request.
const MOST_SECTORS: u32 = 1 << 22;
const RANGES: u32 = 32;
/// Bytes of the answer to "who are you".
const ID: usize = 20;

mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// Why a request was not done.
enum Refused {
    Failed,
    Unsupported,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        tracing::warn!(%error, "a disk request fails");
        Self::Failed
    }
}

impl From<ChainError> for Refused {
    fn from(_: ChainError) -> Self {
        Self::Failed
    }
}

impl From<vm_memory::GuestMemoryError> for Refused {
    fn from(_: vm_memory::GuestMemoryError) -> Self {
        Self::Failed
    }
}

/// What a guest knows of its disk: what is written is the image's.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockState {
    sectors: u64,
    read_only: bool,
}

/// The device.
pub struct Block {
    image: Image,
    serial: [u8; ID],
    queue_sizes: Vec<u16>,
}

impl Block {
    /// A disk of this image. The guest finds it as `/dev/disk/by-id/virtio-<serial>`: its first 20 bytes.
    #[must_use]
    pub fn new(image: Image, serial: &str, queues: u16) -> Self {
        let mut id = [0; ID];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        Self { image, serial: id, queue_sizes: vec![QUEUE_SIZE; queues.clamp(1, 16).into()] }
    }

    fn state(&self) -> BlockState {
        BlockState { sectors: self.image.size() / SECTOR, read_only: self.image.is_read_only() }
    }

    /// Serves one chain.
    ///
    /// # Errors
    /// It has no room for the status.
    fn serve(&mut self, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
        let Some(room) = chain.writable_len().checked_sub(1) else { return Err(ChainError::ShortWrite) };
        let status = match self.request(chain, mem, room) {
            Ok(()) => OK,
            Err(Refused::Failed) => IOERR,
            Err(Refused::Unsupported) => UNSUPP,
        };
        // The status is the last byte, whatever was written before it.
        chain.advance_written(chain.writable_len().saturating_sub(1));
        chain.write(mem, &[status])
    }

    fn request(&mut self, chain: &mut Chain, mem: &Mem, room: usize) -> Result<(), Refused> {
        let mut header = [0; 16];
        chain.read(mem, &mut header)?;
        let kind = u32::from_le_bytes(std::array::from_fn(|i| header[i]));
        let sector = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        match kind {
            request::IN => {
                let at = self.within(sector, room)?;
                let slices = slices(mem, chain.writable_spans(), room)?;
                Ok(self.image.read(&slices, at)?)
            }
            request::OUT => {
                let length = chain.readable_len();
                let at = self.within(sector, length)?;
                self.writable()?;
                let slices = slices(mem, chain.readable_spans(), length)?;
                Ok(self.image.write(&slices, at)?)
            }
            request::FLUSH => Ok(self.image.flush()?),
            request::GET_ID => {
                let id = self.serial;
                Ok(chain.write(mem, id.get(..ID.min(room)).unwrap_or_default())?)
            }
            request::DISCARD | request::WRITE_ZEROES => self.ranges(kind, chain, mem),
            _ => Err(Refused::Unsupported),
        }
    }

    /// Discards ranges or fills them with zeroes.
    fn ranges(&mut self, kind: u32, chain: &mut Chain, mem: &Mem) -> Result<(), Refused> {
        self.writable()?;
        let count = chain.readable_len() / 16;
        if count == 0 || count > RANGES as usize || !chain.readable_len().is_multiple_of(16) {
            return Err(Refused::Failed);
        }
        for _ in 0..count {
            let mut range = [0; 16];
            chain.read(mem, &mut range)?;
            let sector = u64::from_le_bytes(std::array::from_fn(|i| range[i]));
            let sectors = u32::from_le_bytes(std::array::from_fn(|i| range[8 + i]));
            let flags = u32::from_le_bytes(std::array::from_fn(|i| range[12 + i]));
            // Only "may unmap", and only for zeroes.
            let known = if kind == request::WRITE_ZEROES { 1 } else { 0 };
            if flags & !known != 0 {
                return Err(Refused::Unsupported);
            }
            if sectors > MOST_SECTORS {
                return Err(Refused::Failed);
            }
            let length = u64::from(sectors) * SECTOR;
            let at = self.within(sector, usize::try_from(length).map_err(|_| Refused::Failed)?)?;
            if kind == request::DISCARD {
                self.image.discard(at, length)?;
            } else {
                self.image.write_zeroes(at, length)?;
            }
        }
        Ok(())
    }

    fn writable(&self) -> Result<(), Refused> {
        if self.image.is_read_only() { Err(Refused::Failed) } else { Ok(()) }
    }

    /// The place of a sector, if the disk has these bytes: whole sectors.
    fn within(&self, sector: u64, length: usize) -> Result<u64, Refused> {
        let at = sector.checked_mul(SECTOR).ok_or(Refused::Failed)?;
        let end = at.checked_add(length as u64).ok_or(Refused::Failed)?;
        let whole = (length as u64).is_multiple_of(SECTOR);
        if whole && end <= self.image.size() / SECTOR * SECTOR { Ok(at) } else { Err(Refused::Failed) }
    }
}

/// The guest's memory of these spans, at most `length` bytes of it.
fn slices<'a>(mem: &'a Mem, spans: &[Span], length: usize) -> Result<Vec<VolatileSlice<'a>>, Refused> {
    let mut left = length;
    let mut slices = Vec::with_capacity(spans.len());
    for span in spans {
        let len = span.len.min(left);
        if len > 0 {
            slices.push(mem.get_slice(span.addr, len)?);
        }
        left -= len;
    }
    Ok(slices)
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("image", &self.image).finish_non_exhaustive()
    }
}

impl Device for Block {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        let more =
            if self.image.is_read_only() { feature::RO } else { feature::DISCARD | feature::WRITE_ZEROES };
        let queues = if self.queue_sizes.len() > 1 { feature::MQ } else { 0 };
        feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH | more | queues
    }

    fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in config.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, &(self.image.size() / SECTOR).to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &512_u32.to_le_bytes());
        put(34, &u16::try_from(self.queue_sizes.len()).unwrap_or(1).to_le_bytes());
        put(36, &MOST_SECTORS.to_le_bytes());
        put(40, &RANGES.to_le_bytes());
        // Discards free whole pages of the host.
        put(44, &8_u32.to_le_bytes());
        put(48, &MOST_SECTORS.to_le_bytes());
        put(52, &RANGES.to_le_bytes());
        put(56, &[1]);
        config
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let Wake::Queue(index) = wake else { return Ok(used) };
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        while let Some(mut chain) = queue.pop(mem)? {
            self.serve(&mut chain, mem).map_err(|source| queue.chain_error(source))?;
            queue.add_used(mem, chain)?;
            used.insert(index);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        // What was written stays; a driver that resets without a flush takes what a power cut leaves at worst.
    }

    fn save(&self) -> serde_json::Value {
        to_json(&self.state())
    }

    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: BlockState = serde_json::from_value(state)?;
        if state == self.state() { Ok(()) } else { Err(RestoreError::Content("it is of another disk")) }
    }
}
