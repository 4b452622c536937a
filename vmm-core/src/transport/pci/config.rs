//! A function's configuration space (PCI 3.0, section 6): the header and the capabilities of the first 256 bytes.

/// Size of what is not the extended part.
const SIZE: usize = 256;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const FIRST_CAPABILITY: usize = 0x34;
/// Capabilities lie from here on.
const CAPABILITIES: usize = 0x40;
/// "Memory space" of the command register.
const MEMORY: u8 = 1 << 1;

/// Who a function is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Base class, subclass, interface.
    pub class: [u8; 3],
    pub subsystem: u16,
}

/// A configuration space with at most one BAR: memory, 64 bits.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    /// Bits that the guest can change.
    writable: [u8; SIZE],
    end: usize,
    last: usize,
    bar_size: u64,
}

impl ConfigSpace {
    pub fn new(identity: Identity, bar: Option<(u64, u64)>) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            end: CAPABILITIES,
            last: FIRST_CAPABILITY,
            bar_size: bar.map_or(0, |(_, size)| size),
        };
        space.set(0, &identity.vendor.to_le_bytes());
        space.set(2, &identity.device.to_le_bytes());
        let [base, sub, interface] = identity.class;
        space.set(8, &[identity.revision, interface, sub, base]);
        space.set(SUBSYSTEM, &identity.vendor.to_le_bytes());
        space.set(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        // Memory space, bus master, no legacy interrupt.
        space.allow(COMMAND, &[MEMORY | 1 << 2, 1 << 2]);
        // A scratch byte of the system's.
        space.allow(0x3c, &[0xff]);
        if let Some((at, size)) = bar {
            // 64 bits, not prefetchable.
            space.set(BAR, &(at | 0b100).to_le_bytes());
            space.allow(BAR, &(!(size - 1) & !0xf).to_le_bytes());
            space.set(COMMAND, &[MEMORY]);
        }
        space
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        for (to, from) in self.writable.iter_mut().skip(at).zip(bits) {
            *to = *from;
        }
    }

    /// Adds a capability: its id, what follows its link, and which bits of that the guest can change. Returns where it is.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.end;
        debug_assert!(at + 2 + body.len() <= SIZE, "the capabilities of a function fit");
        let link = u8::try_from(at).unwrap_or(0);
        self.set(self.last, &[link]);
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.allow(at + 2, writable);
        self.set(STATUS, &[1 << 4]);
        self.last = at + 1;
        self.end = (at + 2 + body.len()).next_multiple_of(4);
        at
    }

    /// Reads; what lies beyond is zero.
    pub fn read(&self, at: usize, out: &mut [u8]) {
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = self.bytes.get(at + index).copied().unwrap_or(0);
        }
    }

    /// Writes what can be written.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        for (index, new) in data.iter().enumerate() {
            let at = at + index;
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    /// Where the BAR is, while the function listens there.
    pub fn bar(&self) -> Option<u64> {
        let on = self.bytes[COMMAND] & MEMORY != 0 && self.bar_size > 0;
        let address = u64::from_le_bytes(std::array::from_fn(|i| self.bytes[BAR + i])) & !0xf;
        on.then_some(address).filter(|at| at.checked_add(self.bar_size).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { vendor: 0x1af4, device: 0x1042, revision: 1, class: [1, 2, 3], subsystem: 7 };

    fn read(space: &ConfigSpace, at: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn a_bar_tells_its_size_and_moves() {
        let mut space = ConfigSpace::new(IDENTITY, Some((0xe000_0000, 0x8000)));
        assert_eq!(read(&space, 0), 0x1042_1af4);
        assert_eq!(read(&space, 8), 0x0102_0301);
        assert_eq!(space.bar(), Some(0xe000_0000));
        space.write(BAR, &[0xff; 8]);
        assert_eq!((read(&space, BAR), read(&space, BAR + 4)), (0xffff_8004, 0xffff_ffff));
        // Its end would be beyond all addresses.
        assert_eq!(space.bar(), None);
        space.write(BAR, &0xe001_0000_u64.to_le_bytes());
        assert_eq!(space.bar(), Some(0xe001_0000));
        space.write(COMMAND, &[0, 0]);
        assert_eq!(space.bar(), None);
        space.write(0, &[0; 4]);
        assert_eq!(read(&space, 0), 0x1042_1af4, "the identity is read-only");
    }

    #[test]
    fn capabilities_are_chained() {
        let mut space = ConfigSpace::new(IDENTITY, None);
        let first = space.add_capability(9, &[1, 2, 3], &[0, 0, 0xff]);
        let second = space.add_capability(0x11, &[0; 10], &[]);
        assert_eq!(read(&space, FIRST_CAPABILITY) & 0xff, u32::try_from(first).unwrap());
        assert_eq!(read(&space, first), 0x0201_0009 | u32::try_from(second).unwrap() << 8);
        assert_eq!(read(&space, second) & 0xffff, 0x11);
        space.write(first + 2, &[9, 9, 9]);
        assert_eq!(read(&space, first + 2) & 0xff_ffff, 0x0009_0201);
        let mut beyond = [7; 8];
        space.read(252, &mut beyond);
        assert_eq!(beyond[4..], [0; 4]);
    }
}
