//! Our own engine with guests of ours that are no kernel: lists of reads and writes, which also run where KVM only emulates.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::nested;
use inlay_tests::bare::{self, Guest};
use inlay_vmm_core::devices::balloon::Balloon;
use inlay_vmm_core::devices::block::{Block, Format, Image, ImageConfig};
use inlay_vmm_core::devices::console::Console;
use inlay_vmm_core::devices::gpu::{Gpu, GpuLimits, ResourceInfo, ResourceObserver, ScreenHandle};
use inlay_vmm_core::devices::input::{Input, Kind};
use inlay_vmm_core::devices::net::Net;
use inlay_vmm_core::devices::rng::Rng;
use inlay_vmm_core::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use inlay_vmm_core::engine::Exit;
use inlay_vmm_core::engine::kvm::{KvmConfig, Vmm};
use inlay_vmm_core::transport::vhost_user::{MemoryObserver, RamRegion};
use inlay_vmm_core::virtio::Device;

/// Guest memory in MiB.
const MEMORY: u32 = 64;
/// An emulated processor does a few hundred thousand of a guest's operations a second.
const TIME: Duration = Duration::from_secs(300);

/// Guest memory, as the engine tells of it.
#[derive(Clone, Default)]
struct Ram(Arc<Mutex<Vec<RamRegion>>>);

impl MemoryObserver for Ram {
    fn memory_changed(&mut self, regions: &[RamRegion]) {
        *self.0.lock().unwrap() = regions.to_vec();
    }
}

impl Ram {
    fn read(&self, at: u64, count: usize) -> Vec<u8> {
        let regions = self.0.lock().unwrap();
        let mut bytes = vec![0; count];
        regions[0].file.read_exact_at(&mut bytes, regions[0].file_offset + at).unwrap();
        bytes
    }
}

struct Nobody;

impl ResourceObserver for Nobody {
    fn backed(&mut self, _resource: &ResourceInfo) {}
    fn gone(&mut self, _id: u32, _generation: u64) {}
}

/// Every device there is, in a folder, in this order on the bus; and the host's ends of their sockets.
fn every_device(folder: &Path) -> (Vec<Box<dyn Device>>, Vec<UnixStream>) {
    let disk = folder.join("disk");
    std::fs::write(&disk, vec![0x5a; 1 << 20]).unwrap();
    let image =
        ImageConfig { path: disk, format: Format::Raw, read_only: false, backing_folders: Vec::new() };
    let vsock = VsockConfig {
        guest_cid: 3,
        socket: folder.join("vsock"),
        privileged_ports: [5000].into(),
        limits: VsockLimits::default(),
    };
    let (net, network) = UnixStream::pair().unwrap();
    let (console, terminal) = UnixStream::pair().unwrap();
    let output = console.try_clone().unwrap();
    let devices: Vec<Box<dyn Device>> = vec![
        Box::new(Rng),
        Box::new(Block::new(Image::open(&image).unwrap(), "disk", 2)),
        Box::new(Net::new(net.into(), [2, 0, 0, 0, 0, 1]).unwrap()),
        Box::new(Console::new(console.into(), output.into()).unwrap()),
        Box::new(Balloon::new().unwrap()),
        Box::new(Input::new(Kind::Keyboard).unwrap()),
        Box::new(Input::new(Kind::Pointer).unwrap()),
        Box::new(Gpu::new(GpuLimits::default(), Box::new(Nobody), ScreenHandle::new().unwrap())),
        Box::new(Vsock::new(vsock).unwrap()),
    ];
    (devices, vec![network, terminal])
}

/// Starts a guest with every device.
fn start(guest: &Guest, cpus: u32, folder: &Path, ram: &mut Ram) -> (Vmm, Vec<UnixStream>) {
    let kernel = folder.join("guest");
    std::fs::write(&kernel, guest.elf()).unwrap();
    let config = KvmConfig {
        cpus,
        memory_mib: MEMORY,
        kernel,
        initrd: None,
        cmdline: String::new(),
        serial_log: folder.join("serial"),
    };
    let (devices, ends) = every_device(folder);
    (Vmm::start(&config, devices, Some(ram)).unwrap(), ends)
}

#[test]
fn a_guest_drives_a_device_and_switches_itself_off() {
    if nested::elsewhere_without_kvm("a_guest_drives_a_device_and_switches_itself_off") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut guest = Guest::default();
    guest.print("hello\n");
    let queue = guest.set_up(0, 0, 8);
    let room = bare::HEAP;
    guest.descriptor(&queue, 0, (room, 64), (bare::WRITE, 0));
    guest.publish(&queue, &[0]);
    guest.kick(0, 0);
    guest.wait(queue.used, 1 << 16);
    guest.power_off();
    let mut ram = Ram::default();
    let (vmm, _ends) = start(&guest, 1, folder.path(), &mut ram);
    assert_eq!(vmm.wait_timeout(TIME), Some(Exit::PoweredOff));
    assert_eq!(std::fs::read_to_string(folder.path().join("serial")).unwrap(), "hello\n");
    let random = ram.read(room, 65);
    assert!(random[..64].iter().any(|byte| *byte != 0));
    assert_eq!(random[64], 0, "not a byte more");
}

#[test]
fn a_pause_holds_a_guest_and_a_reset_begins_it_anew() {
    if nested::elsewhere_without_kvm("a_pause_holds_a_guest_and_a_reset_begins_it_anew") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let count = bare::HEAP;
    let mut guest = Guest::default();
    // Memory stays when it resets: the second time it waits to be switched off.
    guest.print("x");
    guest.skip_unless(count, 0, 3);
    guest.write32(count, 1);
    guest.reset();
    guest.wait(count + 4, 7);
    guest.power_off();
    let mut ram = Ram::default();
    let (vmm, _ends) = start(&guest, 1, folder.path(), &mut ram);
    let serial = || std::fs::read_to_string(folder.path().join("serial")).unwrap();
    common::eventually("the second start", || (serial() == "xx").then_some(()));
    vmm.pause().unwrap();
    let regions = ram.0.lock().unwrap().clone();
    regions[0].file.write_all_at(&7_u32.to_le_bytes(), count + 4).unwrap();
    assert_eq!(vmm.wait_timeout(Duration::from_millis(300)), None, "it stands still");
    vmm.resume().unwrap();
    assert_eq!(vmm.wait_timeout(TIME), Some(Exit::PoweredOff));
    // A machine that has ended says so.
    assert!(vmm.pause().unwrap_err().to_string().contains("has ended"));
}

/// Random numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u8) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ u64::from(seed) << 32)
    }

    fn roll(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap()
    }

    fn below(&mut self, end: u32) -> u32 {
        self.roll() % end
    }

    /// A number that matters now and then. It is no address of the guest's own code and list, which devices could write to, nor a
    /// length that reaches there from below.
    fn value(&mut self) -> u32 {
        let value = match self.below(6) {
            0 => self.roll(),
            1 => u32::MAX,
            2 => self.below(4),
            3 => 1 << self.below(32),
            _ => self.below(0x400),
        };
        if (1 << 22..1 << 26).contains(&value) { value | 1 << 26 } else { value }
    }

    /// An address in guest memory, rings and buffers first of all, or anywhere.
    fn address(&mut self) -> u64 {
        match self.below(8) {
            // The guest's own code and list are not at stake: it is to go on.
            0 => (u64::from(MEMORY) << 20) + u64::from(self.below(0xf000_0000)),
            1 => u64::from(MEMORY) << 20 | u64::from(self.below(64)),
            _ => bare::RINGS + u64::from(self.below(0x8_0000)),
        }
    }
}

/// Everything that a guest can do to a device, well or badly.
fn misbehave(guest: &mut Guest, dice: &mut Dice, devices: u32) {
    let device = dice.below(devices);
    match dice.below(12) {
        // Registers.
        0 => guest.write(dice.below(3), bare::bar(device) + u64::from(dice.below(0x40)), dice.value()),
        1 => {
            let at = u64::from(dice.below(0x8000));
            // A message may be no NMI, INIT or the like: this guest would not survive it.
            let bits = if (0x4000..0x5000).contains(&at) { 0xf8f8_f8f8 } else { u32::MAX };
            guest.write(dice.below(3), bare::bar(device) + at, dice.value() & bits);
        }
        2 => guest.read(dice.below(2), bare::bar(device) + u64::from(dice.below(0x8000))),
        // Configuration space, and what is around it.
        3 => {
            let at = bare::config(device) + u64::from(dice.below(0x100));
            guest.write(dice.below(3), at, dice.value());
            // It would hear nothing any more.
            guest.write(1, bare::config(device) + 4, 6);
            guest.write(2, bare::config(device) + 0x10, u32::try_from(bare::bar(device)).unwrap());
        }
        4 => guest.write(dice.below(3), 0xd000_0000 + u64::from(dice.below(0x2000_0000)), dice.value()),
        // Ports, those that end or reset the machine apart.
        5 => {
            let port = dice.below(0x1_0000);
            if !matches!(port, 0x64 | 0x600..=0x604 | 0xcf8..=0xcff) {
                guest.out(dice.below(3), port, dice.value());
            }
        }
        6 => {
            guest.out(2, 0xcf8, 0x8000_0000 | dice.below(0x1_0000));
            guest.out(dice.below(3), 0xcfc, dice.value());
            guest.write(1, bare::config(device) + 4, 6);
        }
        // A queue that works, with descriptors that may not: loops, wild addresses, counts that are too large, indirect
        // ones in indirect ones.
        7..=9 => {
            let queue = guest.set_up(device, dice.below(3), 8);
            for index in 0..8 {
                let (addr, flags) = (dice.address(), dice.below(8));
                let length = dice.value();
                guest.descriptor(&queue, index, (addr, length), (flags, dice.below(9)));
            }
            let heads: Vec<u32> = (0..=dice.below(8)).map(|_| dice.below(9)).collect();
            guest.publish(&queue, &heads);
            guest.kick(device, dice.below(4));
            if dice.below(3) == 0 {
                // The index jumps.
                guest.write(1, queue.avail + 2, dice.value());
                guest.kick(device, dice.below(4));
            }
        }
        // A request as drivers write it, of any kind.
        10 => {
            let queue = guest.set_up(device, dice.below(3), 8);
            let buffer = bare::HEAP + u64::from(dice.below(16)) * 0x1000;
            for word in 0..16 {
                guest.write(2, buffer + 4 * word, dice.value());
            }
            guest.descriptor(&queue, 0, (buffer, 16 + dice.below(64)), (bare::NEXT, 1));
            guest.descriptor(&queue, 1, (buffer + 0x800, dice.below(0x2000)), (bare::NEXT | bare::WRITE, 2));
            guest.descriptor(&queue, 2, (buffer + 0xf00, 1 + dice.below(64)), (bare::WRITE, 0));
            guest.publish(&queue, &[0]);
            guest.kick(device, 0);
        }
        // Memory that a device may be reading.
        _ => guest.write(dice.below(3), bare::RINGS + u64::from(dice.below(0x8_0000)), dice.value()),
    }
}

#[test]
fn a_hostile_guest_breaks_nothing_but_itself() {
    if nested::elsewhere_without_kvm("a_hostile_guest_breaks_nothing_but_itself") {
        return;
    }
    let seeds: u8 = std::env::var("INLAY_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    let anonymous = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let mut before = None;
    for seed in 0..seeds {
        let folder = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(seed);
        let mut guest = Guest::default();
        for _ in 0..3000 {
            misbehave(&mut guest, &mut dice, 9);
        }
        // After all that a device that is put back in its place and reset works.
        guest.write(2, bare::config(0) + 0x10, u32::try_from(bare::bar(0)).unwrap());
        guest.write(2, bare::config(0) + 0x14, 0);
        let queue = guest.set_up(0, 0, 8);
        let room = bare::HEAP + 0x10_0000;
        guest.descriptor(&queue, 0, (room, 64), (bare::WRITE, 0));
        guest.publish(&queue, &[0]);
        guest.kick(0, 0);
        guest.wait(queue.used, 1 << 16);
        guest.power_off();
        let mut ram = Ram::default();
        let (vmm, ends) = start(&guest, 1, folder.path(), &mut ram);
        let exit = vmm.wait_timeout(TIME);
        assert_eq!(exit, Some(Exit::PoweredOff), "seed {seed}");
        assert!(ram.read(room, 64).iter().any(|byte| *byte != 0), "seed {seed}");
        assert_eq!(std::fs::metadata(folder.path().join("disk")).unwrap().len(), 1 << 20, "seed {seed}");
        drop((vmm, ends));
        // Its memory is given back: the first round shows what stays in any case.
        let now = anonymous();
        let first = *before.get_or_insert(now);
        assert!(now < first + 8 * 1024, "seed {seed}: {first} KiB became {now} KiB");
    }
}

#[test]
fn what_cannot_be_started_is_told_in_one_line() {
    if nested::elsewhere_without_kvm("what_cannot_be_started_is_told_in_one_line") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut guest = Guest::default();
    guest.power_off();
    let whole = guest.elf();
    let kernel = folder.path().join("kernel");
    let good = KvmConfig {
        cpus: 1,
        memory_mib: MEMORY,
        kernel: kernel.clone(),
        initrd: None,
        cmdline: String::new(),
        serial_log: folder.path().join("serial"),
    };
    let says = |config: &KvmConfig, words: &str| {
        let error = Vmm::start(config, vec![Box::new(Rng)], None).unwrap_err();
        let text = inlay::machine::door::chain(&error);
        assert!(text.contains(words) && !text.contains('\n'), "{text}");
    };
    std::fs::write(&kernel, &whole).unwrap();
    says(&KvmConfig { cpus: 0, ..good.clone() }, "0 processors are not possible");
    says(&KvmConfig { cpus: 1000, ..good.clone() }, "1 to 254");
    says(&KvmConfig { memory_mib: u32::MAX, ..good.clone() }, "more than this host has");
    says(&KvmConfig { memory_mib: 1, ..good.clone() }, "too little");
    says(&KvmConfig { initrd: Some(folder.path().join("none")), ..good.clone() }, "none");
    std::fs::write(folder.path().join("large"), vec![0; (MEMORY as usize) << 20]).unwrap();
    says(&KvmConfig { initrd: Some(folder.path().join("large")), ..good.clone() }, "large");
    says(&KvmConfig { kernel: folder.path().join("none"), ..good.clone() }, "none");
    says(&KvmConfig { cmdline: "x".repeat(100_000), ..good.clone() }, "the command line");
    for (content, words) in [
        (&whole[..0], "too short"),
        (&whole[..40], "too short"),
        (&whole[..100], "cut short"),
        (&whole[..whole.len() - 1], "cut short"),
        (&b"#!/bin/sh\necho no kernel at all, but longer than any header of one\n"[..], "is not a kernel"),
    ] {
        std::fs::write(&kernel, content).unwrap();
        says(&good, words);
    }
    // And the good one is good.
    std::fs::write(&kernel, &whole).unwrap();
    let vmm = Vmm::start(&good, vec![Box::new(Rng)], None).unwrap();
    assert_eq!(vmm.wait_timeout(TIME), Some(Exit::PoweredOff));
}
