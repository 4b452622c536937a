//! MSI-X (PCI 3.0, section 6.8.2): a table of messages in the BAR, and bits for those that wait behind a mask: a masked interrupt's
//! line is cut, and what waits is what its eventfd has counted.

use super::Platform;

/// Bytes of a table entry.
const ENTRY: usize = 16;
/// "MSI-X enable" and "function mask" of the message control word.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;

/// An interrupt's message: what is written where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message {
    /// Guest physical address.
    pub address: u64,
    /// The value.
    pub data: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    message: Message,
    masked: bool,
    /// What the platform was told.
    routed: Option<Message>,
    connected: bool,
}

/// A function's interrupts.
#[derive(Debug)]
pub struct Msix {
    entries: Vec<Entry>,
    enabled: bool,
    masked: bool,
}

impl Msix {
    pub fn new(vectors: u16) -> Self {
        let entry = Entry { message: Message::default(), masked: true, routed: None, connected: false };
        Self { entries: vec![entry; vectors.into()], enabled: false, masked: false }
    }

    /// The message control word changed.
    pub fn set_control(&mut self, control: u16, platform: &dyn Platform) {
        self.enabled = control & ENABLE != 0;
        self.masked = control & MASK_ALL != 0;
        for vector in 0..self.entries.len() {
            self.update(vector, platform);
        }
    }

    /// Reads the table.
    pub fn read_table(&self, at: usize, out: &mut [u8]) {
        for (index, byte) in out.iter_mut().enumerate() {
            let at = at + index;
            *byte = self.entries.get(at / ENTRY).map_or(0, |entry| {
                let address = entry.message.address.to_le_bytes();
                let data = entry.message.data.to_le_bytes();
                match at % ENTRY {
                    at @ 0..8 => address[at],
                    at @ 8..12 => data[at - 8],
                    12 => u8::from(entry.masked),
                    _ => 0,
                }
            });
        }
    }

    /// Writes the table.
    pub fn write_table(&mut self, at: usize, data: &[u8], platform: &dyn Platform) {
        for (index, new) in data.iter().enumerate() {
            let at = at + index;
            let Some(entry) = self.entries.get_mut(at / ENTRY) else { return };
            let mut address = entry.message.address.to_le_bytes();
            let mut value = entry.message.data.to_le_bytes();
            match at % ENTRY {
                at @ 0..8 => address[at] = *new,
                at @ 8..12 => value[at - 8] = *new,
                12 => entry.masked = new & 1 != 0,
                _ => {}
            }
            entry.message = Message { address: u64::from_le_bytes(address), data: u32::from_le_bytes(value) };
        }
        let last = (at + data.len().saturating_sub(1)) / ENTRY;
        for vector in at / ENTRY..=last {
            self.update(vector, platform);
        }
    }

    /// Reads the bits of those that wait.
    pub fn read_pending(&self, at: usize, out: &mut [u8], platform: &dyn Platform) {
        for (index, byte) in out.iter_mut().enumerate() {
            let bit = |bit: usize| {
                let vector = 8 * (at + index) + bit;
                let cut = self.entries.get(vector).is_some_and(|entry| !entry.connected);
                u8::from(cut && is_signalled(vector, platform)) << bit
            };
            *byte = (0..8).map(bit).sum();
        }
    }

    /// Whether there is such an interrupt.
    pub fn has(&self, vector: u16) -> bool {
        usize::from(vector) < self.entries.len()
    }

    fn update(&mut self, vector: usize, platform: &dyn Platform) {
        let open = self.enabled && !self.masked;
        let Some(entry) = self.entries.get_mut(vector) else { return };
        let open = open && !entry.masked;
        let number = u16::try_from(vector).unwrap_or(u16::MAX);
        let mut tell = || {
            if open && entry.routed != Some(entry.message) {
                platform.set_message(number, entry.message)?;
                entry.routed = Some(entry.message);
            }
            if open != entry.connected {
                platform.connect(number, open)?;
                entry.connected = open;
            }
            std::io::Result::Ok(())
        };
        if let Err(error) = tell() {
            tracing::warn!(%error, vector, "an interrupt cannot be routed");
        }
    }
}

/// Whether a line that is cut has counted signals. By reading and writing: processors' threads may not poll.
fn is_signalled(vector: usize, platform: &dyn Platform) -> bool {
    let Some(line) = u16::try_from(vector).ok().and_then(|vector| platform.line(vector)) else {
        return false;
    };
    let mut count = [0; 8];
    rustix::io::read(line, &mut count).is_ok_and(|_| rustix::io::write(line, &count).is_ok())
}
