//! A driver for unit tests: lays out split rings (virtio 1.2, section 2.7) in real guest memory and plays the guest.

use std::collections::VecDeque;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{Device, DeviceError, Mem, Outcome, VirtQueue, Wake, drive};

/// Descriptors per ring.
pub const RING_SIZE: u16 = 64;
/// Guest memory of a test: 4 MiB at 0, then a hole, then 1 MiB.
pub const RAM: [(GuestAddress, usize); 2] = [(GuestAddress(0), 4 << 20), (GuestAddress(8 << 20), 1 << 20)];
/// Where request and answer buffers are taken from.
const HEAP: u64 = 1 << 20;
const HEAP_END: u64 = 3 << 20;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Ring addresses of a queue: descriptor table, available ring, used ring.
#[derive(Clone, Copy)]
pub struct Rings {
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
}

/// One finished request.
#[derive(Debug)]
pub struct Used {
    pub data: Vec<u8>,
}

/// A chain that the device has: its descriptors, and its writable buffers.
type Submitted = (Vec<u16>, Vec<(u64, u32)>);

struct Ring {
    at: Rings,
    free: VecDeque<u16>,
    avail_idx: u16,
    used_idx: u16,
    /// By head.
    chains: Vec<Submitted>,
}

/// The guest's side of all queues of a device.
pub struct Driver {
    pub mem: Mem,
    pub queues: Vec<VirtQueue>,
    rings: Vec<Ring>,
    heap: u64,
}

impl Driver {
    pub fn new(count: usize) -> Self {
        Self::with_memory(count, GuestMemoryMmap::from_ranges(&RAM).unwrap())
    }

    pub fn with_memory(count: usize, mem: Mem) -> Self {
        let mut rings = Vec::new();
        let mut queues = Vec::new();
        for index in 0..count {
            let base = 0x1_0000 + 0x1_0000 * index as u64;
            let at = Rings { desc: base, avail: base + 0x4000, used: base + 0x8000 };
            let mut queue = VirtQueue::new(index, RING_SIZE).unwrap();
            queue.set_addresses(at.desc, at.avail, at.used).unwrap();
            queue.setup().try_set_size(RING_SIZE).unwrap();
            queue.set_active(true);
            queues.push(queue);
            rings.push(Ring {
                at,
                free: (0..RING_SIZE).collect(),
                avail_idx: 0,
                used_idx: 0,
                chains: vec![Default::default(); usize::from(RING_SIZE)],
            });
        }
        Self { mem, queues, rings, heap: HEAP }
    }

    /// Empties all rings, as a driver does that starts anew.
    pub fn restart(&mut self) {
        let fresh = Self::with_memory(self.rings.len(), self.mem.clone());
        for ring in &fresh.rings {
            self.mem.write_slice(&[0; 4], GuestAddress(ring.at.avail)).unwrap();
            self.mem.write_slice(&[0; 4], GuestAddress(ring.at.used)).unwrap();
        }
        *self = fresh;
    }

    pub fn rings(&self, queue: usize) -> Rings {
        self.rings[queue].at
    }

    fn alloc(&mut self, len: u32) -> u64 {
        if self.heap + u64::from(len) > HEAP_END {
            self.heap = HEAP;
        }
        let addr = self.heap;
        self.heap += u64::from(len.next_multiple_of(16));
        addr
    }

    /// Offers a chain: `read` for the device to read, one buffer per slice, then room for it to write.
    pub fn submit(&mut self, queue: usize, read: &[&[u8]], write: &[u32]) -> u16 {
        let mut buffers = Vec::new();
        for data in read {
            let len = u32::try_from(data.len()).unwrap();
            let addr = self.alloc(len);
            self.mem.write_slice(data, GuestAddress(addr)).unwrap();
            buffers.push((addr, len, 0));
        }
        for &len in write {
            buffers.push((self.alloc(len), len, WRITE));
        }
        self.submit_raw(queue, &buffers)
    }

    /// Offers a chain of buffers (address, length, flags) as they are.
    pub fn submit_raw(&mut self, queue: usize, buffers: &[(u64, u32, u16)]) -> u16 {
        let ring = &mut self.rings[queue];
        let ids: Vec<u16> = buffers.iter().map(|_| ring.free.pop_front().expect("ring full")).collect();
        for (i, &(addr, len, flags)) in buffers.iter().enumerate() {
            let next = ids.get(i + 1).copied();
            let at = ring.at.desc + 16 * u64::from(ids[i]);
            self.mem.write_obj(addr, GuestAddress(at)).unwrap();
            self.mem.write_obj(len, GuestAddress(at + 8)).unwrap();
            let flags = if next.is_some() { flags | NEXT } else { flags };
            self.mem.write_obj(flags, GuestAddress(at + 12)).unwrap();
            self.mem.write_obj(next.unwrap_or(0), GuestAddress(at + 14)).unwrap();
        }
        let head = ids[0];
        let slot = ring.at.avail + 4 + 2 * u64::from(ring.avail_idx % RING_SIZE);
        self.mem.write_obj(head, GuestAddress(slot)).unwrap();
        ring.avail_idx = ring.avail_idx.wrapping_add(1);
        self.mem.write_obj(ring.avail_idx, GuestAddress(ring.at.avail + 2)).unwrap();
        let writable = buffers.iter().filter(|b| b.2 & WRITE != 0).map(|b| (b.0, b.1)).collect();
        ring.chains[usize::from(head)] = (ids, writable);
        head
    }

    /// Collects what the device has returned, with the bytes that it wrote.
    pub fn used(&mut self, queue: usize) -> Vec<Used> {
        let ring = &mut self.rings[queue];
        let idx: u16 = self.mem.read_obj(GuestAddress(ring.at.used + 2)).unwrap();
        let mut out = Vec::new();
        while ring.used_idx != idx {
            let slot = ring.at.used + 4 + 8 * u64::from(ring.used_idx % RING_SIZE);
            let head = u16::try_from(self.mem.read_obj::<u32>(GuestAddress(slot)).unwrap()).unwrap();
            let mut left: u32 = self.mem.read_obj(GuestAddress(slot + 4)).unwrap();
            let (ids, writable) = std::mem::take(&mut ring.chains[usize::from(head)]);
            ring.free.extend(ids);
            let mut data = Vec::new();
            for (addr, len) in writable {
                let len = len.min(left);
                let mut piece = vec![0; len as usize];
                self.mem.read_slice(&mut piece, GuestAddress(addr)).unwrap();
                data.extend(piece);
                left -= len;
            }
            out.push(Used { data });
            ring.used_idx = ring.used_idx.wrapping_add(1);
        }
        out
    }

    /// Lets the device work as a transport would, until it has no more to do.
    pub fn drive(&mut self, device: &mut dyn Device, wake: Wake) -> Result<Outcome, DeviceError> {
        let mut all = drive(device, wake, &self.mem, &mut self.queues)?;
        while let Some(index) = all.again.pop_first() {
            let more = drive(device, Wake::Queue(index), &self.mem, &mut self.queues)?;
            all.notify = all.notify.union(more.notify);
            all.again = all.again.union(more.again);
        }
        Ok(all)
    }
}
