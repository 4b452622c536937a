//! What the target `gpu` runs: a virtio-gpu device with a guest that does whatever the input says.
//!
//! The observer checks what the window process relies on: generations are new, runs lie in guest memory, an end comes once
//! for each backing, and nothing is backed after a reset.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use inlay_vmm_core::devices::gpu::{Gpu, GpuLimits, ResourceInfo, ResourceObserver, ScreenHandle};
use inlay_vmm_core::virtio::{Mem, Wake};
use vm_memory::{GuestAddress, GuestMemory as _};

use super::guest::{Guest, Input, STEPS};

const LIMITS: GpuLimits =
    GpuLimits { resources: 6, dimension: 4096, entries: 40, backing_bytes: 0x6000, total_runs: 24 };

/// What is backed, by id.
#[derive(Default)]
struct Backed {
    generations: BTreeMap<u32, (u64, usize)>,
    newest: u64,
}

struct Observer {
    backed: Arc<Mutex<Backed>>,
    mem: Mem,
}

impl ResourceObserver for Observer {
    fn backed(&mut self, resource: &ResourceInfo) {
        let mut all = self.backed.lock().expect("not poisoned");
        assert!(resource.generation > all.newest, "a generation is new");
        all.newest = resource.generation;
        assert!(!resource.runs.is_empty() && resource.id != 0);
        assert!((1..=LIMITS.dimension).contains(&resource.width));
        assert!((1..=LIMITS.dimension).contains(&resource.height));
        for run in resource.runs.iter() {
            let len = usize::try_from(run.len).expect("in memory");
            assert!(len > 0 && self.mem.check_range(GuestAddress(run.addr), len), "in guest memory");
        }
        let before = all.generations.insert(resource.id, (resource.generation, resource.runs.len()));
        assert!(before.is_none(), "backed twice");
        assert!(all.generations.len() <= LIMITS.resources);
        assert!(all.generations.values().map(|(_, runs)| runs).sum::<usize>() <= LIMITS.total_runs);
    }

    fn gone(&mut self, id: u32, generation: u64) {
        let before = self.backed.lock().expect("not poisoned").generations.remove(&id);
        assert_eq!(before.map(|(generation, _)| generation), Some(generation), "gone once");
    }
}

/// The guest, kept between inputs because its memory is costly to map.
pub struct Bench {
    guest: Guest,
}

impl Default for Bench {
    fn default() -> Self {
        Self { guest: Guest::new(2) }
    }
}

impl Bench {
    /// Runs one input.
    pub fn run(&mut self, data: &[u8]) {
        let mut input = Input(data);
        let backed = Arc::<Mutex<Backed>>::default();
        let observer = Observer { backed: backed.clone(), mem: self.guest.mem.clone() };
        let screen = ScreenHandle::new().expect("a descriptor");
        let mut device = Gpu::new(LIMITS, Box::new(observer), screen);
        self.guest.begin(input.byte().unwrap_or(4));
        for _ in 0..STEPS {
            if self.step(&mut device, &backed, &mut input).is_none() {
                break;
            }
        }
        self.guest.reset(&mut device, 0);
        assert!(backed.lock().expect("not poisoned").generations.is_empty(), "a reset ends all");
    }

    fn step(&mut self, device: &mut Gpu, backed: &Mutex<Backed>, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? {
            kind @ 0..16 => {
                self.guest.step(kind, device, input)?;
                if kind % 8 == 3 {
                    assert!(backed.lock().expect("not poisoned").generations.is_empty(), "a reset ends all");
                }
            }
            16 => drop(self.guest.save(device)),
            // A resource and pages for it, well-formed most of the time.
            17 => {
                let (id, format) = (input.byte()? & 7, input.byte()? & 3);
                let (width, height) = (u32::from(input.byte()?) + 1, input.word()?);
                let fields = [id.into(), [1, 2, 67, 5][usize::from(format)], width, height];
                self.command(device, 1, fields.iter().flat_map(|field| field.to_le_bytes()));
            }
            18 => {
                let (id, count) = (u32::from(input.byte()? & 7), input.byte()? % 48);
                let mut body: Vec<u8> =
                    [id, count.into()].iter().flat_map(|field| field.to_le_bytes()).collect();
                for _ in 0..count {
                    let (page, len) = (u64::from(input.byte()?), u32::from(input.byte()?));
                    body.extend((page << 7).to_le_bytes());
                    body.extend((len << 4).to_le_bytes());
                    body.extend([0; 4]);
                }
                self.command(device, 6, body);
            }
            // A command: its number, then words.
            command => {
                let mut bytes = vec![command & 0xf, 1, 0, 0];
                let shape = input.byte()?;
                let words = usize::from(shape & 0x1f);
                // Without fence most of the time.
                bytes.extend([shape >> 7, 0, 0, 0]);
                bytes.extend([9; 16]);
                for _ in 0..words {
                    bytes.extend(input.word()?.to_le_bytes());
                }
                // Some commands end with padding.
                bytes.extend([0; 4]);
                let room = if shape & 0x60 == 0x60 { 432 } else { 24 };
                self.guest.submit(0, if shape & 0x20 == 0 { 24 } else { 30 }, &bytes, room);
                self.guest.wake(device, Wake::Queue(0));
            }
        }
        Some(())
    }

    fn command(&mut self, device: &mut Gpu, number: u8, body: impl IntoIterator<Item = u8>) {
        let mut bytes = vec![number, 1];
        bytes.resize(24, 0);
        bytes.extend(body);
        self.guest.submit(0, 24, &bytes, 24);
        self.guest.wake(device, Wake::Queue(0));
    }
}
