//! A guest whose every deed comes from the fuzzer's input: memory, rings, descriptors, resets.
//!
//! An input is a list of steps. Steps that build well-formed chains exist beside steps that write anywhere, so that the
//! fuzzer need not find out by itself what a ring looks like. A device that stops with an error is reset, as a driver
//! would.

use inlay_vmm_core::virtio::{Device, Mem, VirtQueue, Wake, drive};
use virtio_queue::QueueT as _;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// Guest memory: 32 KiB at 0, then a hole, then 4 KiB.
pub const RAM: [(u64, usize); 2] = [(0, 0x8000), (0x1_0000, 0x1000)];
/// Addresses that steps can name: all of memory, the hole, and a little behind.
const REACH: u64 = 0x1_1100;
/// Buffers lie from here on; the rings below.
const HEAP: u64 = 0x2000;
const HEAP_END: u64 = 0x8000;
/// Steps of one input; more would only make it slow.
pub const STEPS: usize = 32;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The fuzzer's bytes, taken from the front.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    /// A number that is small most of the time.
    pub fn word(&mut self) -> Option<u32> {
        Some(match self.byte()? {
            0xff => u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]),
            0xfe => u32::MAX,
            0xfd => u32::from(self.u16()?),
            0xfc => u32::from(self.byte()?) << 12,
            small => small.into(),
        })
    }

    /// At most `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Where the rings of a queue lie.
#[derive(Clone, Copy, Default)]
struct Ring {
    desc: u64,
    avail: u64,
    used: u64,
    size: u16,
    next_desc: u16,
    next_avail: u16,
}

/// The guest's side of all queues of a device.
pub struct Guest {
    pub mem: Mem,
    queues: Vec<VirtQueue>,
    rings: Vec<Ring>,
    heap: u64,
    /// Whether this input saved the device: once tells all, and costs as much as all the rest.
    saved: bool,
}

impl Guest {
    pub fn new(queues: usize) -> Self {
        let ranges = RAM.map(|(at, size)| (GuestAddress(at), size));
        let mem = GuestMemoryMmap::from_ranges(&ranges).expect("36 KiB of memory");
        let mut guest =
            Self { mem, queues: Vec::new(), rings: vec![Ring::default(); queues], heap: HEAP, saved: false };
        guest.restart(0);
        guest
    }

    /// Clean memory and new queues; `shape` chooses their size and whether interrupts are asked for by index.
    pub fn begin(&mut self, shape: u8) {
        for (at, size) in RAM {
            let _ = self.mem.write_slice(&[0; 0x8000][..size], GuestAddress(at));
        }
        self.heap = HEAP;
        self.saved = false;
        self.restart(shape);
    }

    fn restart(&mut self, shape: u8) {
        self.queues.clear();
        for (index, ring) in self.rings.iter_mut().enumerate() {
            let base = 0x800 * index as u64;
            let size = 1 << (shape % 6);
            *ring = Ring { desc: base, avail: base + 0x400, used: base + 0x500, size, ..Ring::default() };
            let mut queue = VirtQueue::new(index, 64).expect("a power of two");
            queue.set_addresses(ring.desc, ring.avail, ring.used).expect("aligned");
            queue.setup().set_size(size);
            queue.setup().set_event_idx(shape & 0x40 != 0);
            queue.set_active(shape & 0x80 == 0 || index != 0);
            self.queues.push(queue);
            let _ = self.mem.write_obj(0_u32, GuestAddress(ring.avail));
            let _ = self.mem.write_obj(0_u32, GuestAddress(ring.used));
        }
    }

    /// Resets device and queues.
    pub fn reset(&mut self, device: &mut dyn Device, shape: u8) {
        device.reset();
        self.restart(shape);
    }

    /// Resets device and queues and lets the device look at its sockets, until it has nothing more to do.
    pub fn settle(&mut self, device: &mut dyn Device) {
        self.reset(device, 4);
        for _ in 0..4 {
            self.wake(device, Wake::HostSource);
        }
        device.reset();
    }

    /// Saves the device and restores it from that, once an input; what was saved.
    pub fn save(&mut self, device: &mut dyn Device) -> Option<serde_json::Value> {
        if std::mem::replace(&mut self.saved, true) {
            return None;
        }
        let (state, before) = (device.save(), device.config());
        device.restore(state.clone(), &self.mem).expect("its own state");
        assert_eq!(device.config(), before);
        Some(state)
    }

    /// Lets the device work once.
    pub fn wake(&mut self, device: &mut dyn Device, wake: Wake) {
        if drive(device, wake, &self.mem, &mut self.queues).is_err() {
            self.reset(device, 4);
        }
    }

    fn index(&self, byte: u8) -> usize {
        usize::from(byte) % self.rings.len()
    }

    /// One step of those that every device has; `None` when the input is at its end.
    pub fn step(&mut self, kind: u8, device: &mut dyn Device, input: &mut Input<'_>) -> Option<()> {
        match kind % 8 {
            0 => {
                let at = u64::from(input.word()?) % REACH;
                let count = input.byte()?;
                let _ = self.mem.write_slice(input.bytes(count.into()), GuestAddress(at));
            }
            1 => self.descriptor(input)?,
            2 => {
                let index = self.index(input.byte()?);
                let more = input.byte()?;
                self.publish(index, u16::from(more).wrapping_sub(8));
                self.wake(device, Wake::Queue(index));
            }
            3 => self.reset(device, input.byte()?),
            4 => self.wake(device, Wake::HostSource),
            5 => {
                let index = self.index(input.byte()?);
                let ring = &mut self.rings[index];
                let place = |word: u32| (u64::from(word) % REACH) & !0xf;
                let [desc, avail, used] = [place(input.word()?), place(input.word()?), place(input.word()?)];
                if self.queues[index].set_addresses(desc, avail, used).is_ok() {
                    (ring.desc, ring.avail, ring.used) = (desc, avail, used);
                }
            }
            6 => {
                let index = self.index(input.byte()?);
                let active = self.queues[index].is_active();
                self.queues[index].set_active(!active);
            }
            _ => {
                let index = self.index(input.byte()?);
                let (cut, room) = (input.byte()?, input.word()?);
                let count = input.byte()?;
                let data = input.bytes(count.into());
                self.submit(index, cut, data, room);
                self.wake(device, Wake::Queue(index));
            }
        }
        Some(())
    }

    /// Writes a descriptor as it comes.
    fn descriptor(&mut self, input: &mut Input<'_>) -> Option<()> {
        let index = self.index(input.byte()?);
        let ring = self.rings[index];
        let slot = u64::from(input.byte()?);
        let (addr, len) = (u64::from(input.word()?), input.word()?);
        let (flags, next) = (u16::from(input.byte()?), u16::from(input.byte()?));
        self.put_descriptor(ring.desc + 16 * slot, addr, len, flags, next);
        let head = input.byte()?;
        let at = ring.avail + 4 + 2 * u64::from(head);
        let _ = self.mem.write_obj(u16::from(head), GuestAddress(at));
        Some(())
    }

    fn put_descriptor(&self, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        let _ = self.mem.write_slice(&bytes, GuestAddress(at));
    }

    fn publish(&mut self, index: usize, more: u16) {
        let ring = &mut self.rings[index];
        ring.next_avail = ring.next_avail.wrapping_add(more);
        let _ = self.mem.write_obj(ring.next_avail, GuestAddress(ring.avail + 2));
    }

    fn room(&mut self, len: u64) -> u64 {
        if self.heap + len > HEAP_END {
            self.heap = HEAP;
        }
        let at = self.heap;
        self.heap += len.min(HEAP_END - HEAP);
        at
    }

    /// Offers a chain with `data` to read, in two pieces when `cut` lies in it, and `room` bytes to write.
    pub fn submit(&mut self, index: usize, cut: u8, data: &[u8], room: u32) {
        let (first, second) = data.split_at(data.len().min(usize::from(cut)));
        let mut pieces = Vec::with_capacity(3);
        for part in [first, second] {
            if !part.is_empty() {
                let at = self.room(part.len() as u64);
                let _ = self.mem.write_slice(part, GuestAddress(at));
                pieces.push((at, u32::try_from(part.len()).unwrap_or(u32::MAX), 0));
            }
        }
        if room > 0 {
            pieces.push((self.room(room.into()), room, WRITE));
        }
        let Some(last) = pieces.len().checked_sub(1) else { return };
        let ring = &mut self.rings[index];
        let head = ring.next_desc % ring.size;
        ring.next_desc = ring.next_desc.wrapping_add(u16::try_from(pieces.len()).unwrap_or(1));
        let ring = *ring;
        for (i, (at, len, flags)) in pieces.into_iter().enumerate() {
            let slot = |i: usize| head.wrapping_add(u16::try_from(i).unwrap_or(0)) % ring.size;
            let (slot, next) = (slot(i), slot(i + 1));
            let flags = if i == last { flags } else { flags | NEXT };
            self.put_descriptor(ring.desc + 16 * u64::from(slot), at, len, flags, next);
        }
        let at = ring.avail + 4 + 2 * u64::from(ring.next_avail % ring.size);
        let _ = self.mem.write_obj(head, GuestAddress(at));
        self.publish(index, 1);
    }
}
