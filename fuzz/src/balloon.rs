//! What the target `balloon` runs: a virtio-balloon device with a guest that does whatever the input says.
//!
//! Guest memory is parts of a file: what lies around them stays as it is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use inlay_vmm_core::devices::balloon::{Balloon, PAGE};
use inlay_vmm_core::virtio::{Device as _, Mem, Wake};
use rustix::fs::MemfdFlags;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use super::guest::{Guest, Input, RAM, STEPS};

const REPORTING: u64 = 1 << 5;
const AROUND: [u8; 4096] = [0xa5; 4096];

/// The guest, kept between inputs because its memory is costly to map.
pub struct Bench {
    guest: Guest,
    file: Arc<File>,
    /// Where pages lie that are not the guest's.
    around: Vec<u64>,
    size: u64,
}

impl Default for Bench {
    fn default() -> Self {
        let file = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memfd");
        let file = Arc::new(File::from(file));
        let size = RAM.iter().map(|(_, size)| *size as u64 + PAGE).sum::<u64>() + PAGE;
        file.set_len(size).expect("its size");
        let mut around = vec![0];
        let regions = RAM.map(|(addr, size)| {
            let at = around.last().expect("the first") + PAGE;
            around.push(at + size as u64);
            let mapping = MmapRegion::from_file(FileOffset::from_arc(file.clone(), at), size);
            GuestRegionMmap::new(mapping.expect("a mapping"), GuestAddress(addr)).expect("a region")
        });
        for at in &around {
            file.write_all_at(&AROUND, *at).expect("a page");
        }
        let mut guest = Guest::new(3);
        guest.mem = Mem::from_regions(regions.into()).expect("36 KiB of memory");
        Self { guest, file, around, size }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        let mut device = Balloon::new().expect("a device");
        self.guest.begin(input.byte().unwrap_or(4));
        device.accept_features(REPORTING);
        for _ in 0..STEPS {
            if self.step(&mut device, &mut input).is_none() {
                break;
            }
        }
        self.guest.reset(&mut device, 0);
        assert_eq!(device.handle().actual(), 0, "a reset empties it");
        assert_eq!(self.file.metadata().expect("a file").len(), self.size);
        for at in &self.around {
            let mut page = [0; AROUND.len()];
            self.file.read_exact_at(&mut page, *at).expect("a page");
            assert!(page == AROUND, "not the guest's");
        }
    }

    fn step(&mut self, device: &mut Balloon, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? {
            kind @ 0..16 => self.guest.step(kind, device, input)?,
            16 => drop(self.guest.save(device)),
            17 => device.handle().set_target(input.word()?),
            18 => {
                let at = usize::try_from(input.word()?).expect("64 bits");
                let count = input.byte()?;
                device.write_config(at, input.bytes(count.into()));
                assert_eq!(device.config()[..4], device.handle().target().to_le_bytes());
            }
            19 => device.accept_features(input.byte()?.into()),
            // Page numbers.
            kind @ 20..128 => {
                let count = input.byte()? % 64;
                let mut bytes = Vec::new();
                for _ in 0..count {
                    bytes.extend(input.word()?.to_le_bytes());
                }
                let queue = usize::from(kind % 3);
                self.guest.submit(queue, kind, &bytes, 0);
                self.guest.wake(device, Wake::Queue(queue));
            }
            // Free pages: the heap's, as it comes.
            kind => {
                self.guest.submit(2, kind, &[], input.word()?);
                self.guest.wake(device, Wake::Queue(2));
            }
        }
        Some(())
    }
}
