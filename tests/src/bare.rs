//! Guests that are lists of reads and writes: an interpreter of a few instructions, and the list, as a kernel with a PVH entry
//! (32-bit, without paging). It lives on an emulating KVM as well, where no real kernel does.

/// Rings of queues that [`Guest::set_up`] sets up.
pub const RINGS: u64 = 0x100_0000;
/// Memory for buffers.
pub const HEAP: u64 = 0x104_0000;
/// A descriptor's flags (virtio 1.2, section 2.7.5).
pub const NEXT: u32 = 1;
/// The device writes.
pub const WRITE: u32 = 2;

/// Where the guest's code is, and its list: where pages of small numbers are not, nor those of powers of two, which a random
/// balloon would take.
const CODE: u32 = 0x82_0000;
const TABLE: u32 = CODE + 0x200;
const OPERATIONS: u32 = CODE + 0x300;
/// Operations that lie below the rings.
const MOST: usize = 600_000;

/// Where the engine puts the registers of the device in a slot of its bus; slot 0 is the bridge's.
#[must_use]
pub fn bar(device: u32) -> u64 {
    0xe000_0000 + 0x8000 * u64::from(device + 1)
}

/// Its configuration space.
#[must_use]
pub fn config(device: u32) -> u64 {
    0xd000_0000 + 0x8000 * u64::from(device + 1)
}

/// Where the rings of a queue are.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// The descriptor table.
    pub desc: u64,
    /// The available ring.
    pub avail: u64,
    /// The used ring.
    pub used: u64,
    size: u32,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Write8,
    Write16,
    Write32,
    Read8,
    Read32,
    Out8,
    Out16,
    Out32,
    /// Spins until a word of memory has a value.
    Wait,
    /// Goes over the next ones unless a word has a value: their number follows as an operation of its own.
    Compare,
    Halt,
}

/// A guest in the making: what it will do, one after the other.
#[derive(Debug, Default)]
pub struct Guest {
    operations: Vec<[u32; 3]>,
}

fn low(address: u64) -> u32 {
    u32::try_from(address).expect("a 32-bit guest")
}

impl Guest {
    fn push(&mut self, operation: Operation, address: u64, value: u32) {
        assert!(self.operations.len() < MOST, "too long a list");
        self.operations.push([operation as u32, low(address), value]);
    }

    /// Writes 1, 2 or 4 bytes (`width` 0, 1, 2) of memory or registers; at the end of a page those before, as an emulating KVM
    /// does not write to two pages at once.
    pub fn write(&mut self, width: u32, address: u64, value: u32) {
        let address = address.min((address | 0xfff) + 1 - (1 << width));
        let operation = [Operation::Write8, Operation::Write16, Operation::Write32][width as usize];
        self.push(operation, address, value);
    }

    /// Writes a word.
    pub fn write32(&mut self, address: u64, value: u32) {
        self.write(2, address, value);
    }

    /// Reads a byte, or a word (`width` 0, 1).
    pub fn read(&mut self, width: u32, address: u64) {
        let address = address.min((address | 0xfff) + 1 - (1 << (2 * width)));
        self.push([Operation::Read8, Operation::Read32][width as usize], address, 0);
    }

    /// Writes 1, 2 or 4 bytes (`width` 0, 1, 2) to a port.
    pub fn out(&mut self, width: u32, port: u32, value: u32) {
        let operation = [Operation::Out8, Operation::Out16, Operation::Out32][width as usize];
        self.push(operation, port.into(), value);
    }

    /// Waits until a word of memory has this value.
    pub fn wait(&mut self, address: u64, value: u32) {
        self.push(Operation::Wait, address, value);
    }

    /// Leaves the next `count` operations out unless a word of memory has this value.
    pub fn skip_unless(&mut self, address: u64, value: u32, count: u32) {
        self.push(Operation::Compare, address, value);
        self.operations.push([12 * count, 0, 0]);
    }

    /// Prints on the serial port.
    pub fn print(&mut self, text: &str) {
        for byte in text.bytes() {
            self.out(0, 0x3f8, byte.into());
        }
    }

    /// Switches the machine off (ACPI's sleep register, S5).
    pub fn power_off(&mut self) {
        self.out(0, 0x600, 1 << 5 | 5 << 2);
        self.push(Operation::Halt, 0, 0);
    }

    /// Resets the machine (ACPI's reset register).
    pub fn reset(&mut self) {
        self.out(0, 0x602, 1);
        self.push(Operation::Halt, 0, 0);
    }

    /// Resets a device and brings it up with one queue, all in zeroes.
    pub fn set_up(&mut self, device: u32, queue: u32, size: u32) -> Queue {
        let common = bar(device);
        let at = RINGS + 0x4000 * u64::from(device) + 0x1000 * u64::from(queue);
        let rings = Queue { desc: at, avail: at + 0x400, used: at + 0x800, size };
        self.write(0, common + 0x14, 0);
        // The bus may master memory.
        self.write(1, config(device) + 4, 6);
        self.write(0, common + 0x14, 3);
        // Only VIRTIO_F_VERSION_1.
        self.write32(common + 0x08, 1);
        self.write32(common + 0x0c, 1);
        self.write(0, common + 0x14, 11);
        self.write(1, common + 0x16, queue);
        self.write(1, common + 0x18, size);
        for (register, ring) in [(0x20, rings.desc), (0x28, rings.avail), (0x30, rings.used)] {
            self.write32(common + register, low(ring));
            self.write32(common + register + 4, 0);
        }
        for word in [rings.avail, rings.used] {
            self.write32(word, 0);
        }
        self.write(1, common + 0x1c, 1);
        self.write(0, common + 0x14, 15);
        rings
    }

    /// Writes a descriptor: of an address and a length, with flags and a next one.
    pub fn descriptor(
        &mut self,
        queue: &Queue,
        index: u32,
        (address, length): (u64, u32),
        (flags, next): (u32, u32),
    ) {
        let at = queue.desc + 16 * u64::from(index);
        self.write32(at, low(address & 0xffff_ffff));
        self.write32(at + 4, 0);
        self.write32(at + 8, length);
        self.write32(at + 12, flags | next << 16);
    }

    /// Makes chains available, by their heads, in a queue that was just set up.
    pub fn publish(&mut self, queue: &Queue, heads: &[u32]) {
        for (slot, head) in (0..).zip(heads) {
            self.write(1, queue.avail + 4 + 2 * u64::from(slot % queue.size), *head);
        }
        self.write(1, queue.avail + 2, u32::try_from(heads.len()).unwrap_or(0));
    }

    /// Rings a doorbell.
    pub fn kick(&mut self, device: u32, queue: u32) {
        self.write(1, bar(device) + 0x3000 + 4 * u64::from(queue), queue);
    }

    /// The kernel's file.
    #[must_use]
    pub fn elf(&self) -> Vec<u8> {
        let mut image = interpreter();
        image.resize((OPERATIONS - CODE) as usize, 0);
        image.extend(self.operations.iter().flatten().flat_map(|word| word.to_le_bytes()));
        image.extend([Operation::Halt as u32, 0, 0].iter().flat_map(|word| word.to_le_bytes()));

        let word = |value: u32| u64::from(value).to_le_bytes();
        let size = u32::try_from(image.len()).expect("a small guest");
        // XEN_ELFNOTE_PHYS32_ENTRY.
        let note =
            [&4_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &18_u32.to_le_bytes(), b"Xen\0", &word(CODE)];
        let note = note.concat();
        let (header, entry) = (64_u32, 56_u32);
        let note_at = header + 2 * entry;
        let note_size = u32::try_from(note.len()).expect("a small note");
        let image_at = note_at + note_size;
        let mut elf = Vec::new();
        // 64-bit, little-endian; an x86-64 program.
        elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([word(CODE), word(header), word(0)].concat());
        elf.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 2, 0, 0, 0] {
            elf.extend(half.to_le_bytes());
        }
        for (kind, at, size, to) in [(1_u32, image_at, size, CODE), (4, note_at, note_size, 0)] {
            elf.extend(kind.to_le_bytes());
            elf.extend(7_u32.to_le_bytes());
            elf.extend([word(at), word(to), word(to), word(size), word(size), word(4)].concat());
        }
        elf.extend(note);
        elf.extend(image);
        elf
    }
}

/// 32-bit code: takes operations one by one and jumps to what they ask for.
fn interpreter() -> Vec<u8> {
    let mut code = vec![0xbe];
    code.extend(OPERATIONS.to_le_bytes());
    let next = code.len();
    // mov eax,[esi]; mov edi,[esi+4]; mov ecx,[esi+8]; add esi,12; jmp [eax*4+TABLE]
    code.extend([0x8b, 0x06, 0x8b, 0x7e, 0x04, 0x8b, 0x4e, 0x08, 0x83, 0xc6, 0x0c, 0xff, 0x24, 0x85]);
    code.extend(TABLE.to_le_bytes());
    let bodies: [(Operation, &[u8]); 11] = [
        // mov [edi],cl; cx; ecx
        (Operation::Write8, &[0x88, 0x0f]),
        (Operation::Write16, &[0x66, 0x89, 0x0f]),
        (Operation::Write32, &[0x89, 0x0f]),
        // mov al,[edi]; eax
        (Operation::Read8, &[0x8a, 0x07]),
        (Operation::Read32, &[0x8b, 0x07]),
        // mov edx,edi; mov eax,ecx; out dx,al; ax; eax
        (Operation::Out8, &[0x89, 0xfa, 0x89, 0xc8, 0xee]),
        (Operation::Out16, &[0x89, 0xfa, 0x89, 0xc8, 0x66, 0xef]),
        (Operation::Out32, &[0x89, 0xfa, 0x89, 0xc8, 0xef]),
        // cmp [edi],ecx; jne back
        (Operation::Wait, &[0x39, 0x0f, 0x75, 0xfc]),
        // mov eax,[esi]; add esi,12; cmp [edi],ecx; je +2; add esi,eax
        (Operation::Compare, &[0x8b, 0x06, 0x83, 0xc6, 0x0c, 0x39, 0x0f, 0x74, 0x02, 0x01, 0xc6]),
        // hlt; jmp back
        (Operation::Halt, &[0xf4, 0xeb, 0xfd]),
    ];
    let mut table = [0_u32; 11];
    for (operation, body) in bodies {
        table[operation as usize] = CODE + u32::try_from(code.len()).expect("a little code");
        code.extend(body);
        // jmp next
        let back = i32::try_from(next).expect("a little code")
            - i32::try_from(code.len() + 5).expect("a little code");
        code.push(0xe9);
        code.extend(back.to_le_bytes());
    }
    assert!(code.len() <= (TABLE - CODE) as usize, "the table is in its way");
    code.resize((TABLE - CODE) as usize, 0);
    code.extend(table.iter().flat_map(|address| address.to_le_bytes()));
    code
}
