//! What every device does behind every transport: the same tests for QEMU's vhost-user, virtio-pci, and virtio-pci with the device in
//! another process.

mod carriers;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use self::carriers::Kind;
pub use self::carriers::{Carrier, Machine, PATIENCE, Socket, shared_ram};
use crate::devices::block::{Block, Format, Image, ImageConfig};
use crate::devices::gpu::{Gpu, GpuLimits, ResourceInfo, ResourceObserver, ScreenHandle};
use crate::devices::rng::Rng;
use crate::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use crate::virtio::testing::RING_SIZE;

/// What a gpu tells of its resources.
pub enum Seen {
    Backed(ResourceInfo),
    Gone(u32),
}

pub struct Watcher(pub Sender<Seen>);

impl ResourceObserver for Watcher {
    fn backed(&mut self, resource: &ResourceInfo) {
        self.0.send(Seen::Backed(resource.clone())).unwrap();
    }
    fn gone(&mut self, id: u32, _generation: u64) {
        self.0.send(Seen::Gone(id)).unwrap();
    }
}

pub fn gpu() -> (Box<Gpu>, Receiver<Seen>) {
    let (tell, seen) = channel();
    (Box::new(Gpu::new(GpuLimits::default(), Box::new(Watcher(tell)), ScreenHandle::new().unwrap())), seen)
}

pub fn backed(seen: &Receiver<Seen>) -> ResourceInfo {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Backed(info) => info,
        Seen::Gone(id) => panic!("expected a backed resource, {id} is gone"),
    }
}

pub fn gone(seen: &Receiver<Seen>) -> u32 {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Backed(info) => panic!("expected the end of a resource, {} is backed", info.id),
        Seen::Gone(id) => id,
    }
}

impl<C: Carrier + ?Sized> Machine<C> {
    /// A command of a gpu; the type of its answer.
    pub fn gpu(&mut self, command: u32, body: &[u32], entries: &[(u64, u32)]) -> u32 {
        let mut bytes = [command.to_le_bytes().to_vec(), vec![0; 20]].concat();
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        for (addr, len) in entries {
            bytes.extend([addr.to_le_bytes(), u64::from(*len).to_le_bytes()].concat());
        }
        let answer = self.request(0, &[&bytes], 24);
        u32::from_le_bytes(answer[..4].try_into().unwrap())
    }

    pub fn make_resource(&mut self, id: u32) {
        assert_eq!(self.gpu(0x101, &[id, 2, 16, 16], &[]), 0x1100);
        assert_eq!(self.gpu(0x106, &[id, 2], &[(0x30_0000, 512), (0x80_0000, 512)]), 0x1100);
    }
}

/// Runs a test behind every transport.
fn everywhere(test: impl Fn(Kind, &std::path::Path)) {
    for kind in Kind::ALL {
        eprintln!("{kind:?}");
        let folder = tempfile::tempdir().unwrap();
        test(kind, folder.path());
    }
}

#[test]
fn resources_live_through_a_pause_and_end_with_a_reset() {
    everywhere(|kind, folder| {
        let (device, seen) = gpu();
        let mut machine = Machine::new(kind, device, folder, "gpu");
        assert_eq!(machine.carrier.config(16), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        machine.make_resource(3);
        assert_eq!(backed(&seen).runs.len(), 2);
        machine.carrier.pause();
        // Asked meanwhile, answered afterwards.
        machine.driver.submit(0, &[&[0x108u32.to_le_bytes().to_vec(), vec![0; 20]].concat()], &[24]);
        machine.carrier.kick(0);
        assert!(!machine.carrier.interrupted(0, Duration::from_millis(50)), "{kind:?}");
        machine.carrier.resume(&machine.driver);
        assert!(machine.carrier.interrupted(0, PATIENCE), "{kind:?}");
        assert_eq!(machine.driver.used(0).len(), 1);
        assert_eq!(machine.gpu(0x107, &[3, 0], &[]), 0x1100);
        assert_eq!(gone(&seen), 3);
        machine.make_resource(4);
        assert_eq!(backed(&seen).id, 4);
        machine.restart();
        assert_eq!(gone(&seen), 4);
        machine.make_resource(4);
        assert_eq!(backed(&seen).id, 4);
    });
}

#[test]
fn a_broken_chain_stops_the_device_until_a_reset() {
    everywhere(|kind, folder| {
        let (device, seen) = gpu();
        let mut machine = Machine::new(kind, device, folder, "gpu");
        // In the hole of memory.
        machine.driver.submit_raw(0, &[(5 << 20, 24, 0)]);
        machine.carrier.kick(0);
        assert!(machine.carrier.broken(0), "{kind:?}");
        machine.carrier.kick(0);
        assert!(!machine.carrier.interrupted(0, Duration::from_millis(50)), "{kind:?}");
        machine.restart();
        machine.make_resource(1);
        assert_eq!(backed(&seen).id, 1);
    });
}

fn packet(op: u16, host_port: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(5u64.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    for word in [700, host_port, u32::try_from(payload.len()).unwrap()] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(op.to_le_bytes());
    for word in [0u32, 1 << 16, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(payload);
    bytes
}

fn vsock(kind: Kind, folder: &std::path::Path) -> Machine {
    let config = VsockConfig {
        guest_cid: 5,
        socket: folder.join("v"),
        privileged_ports: [].into(),
        limits: VsockLimits::default(),
    };
    Machine::new(kind, Box::new(Vsock::new(config).unwrap()), folder, "vsock")
}

#[test]
fn a_vsock_connection() {
    everywhere(|kind, folder| {
        let mut machine = vsock(kind, folder);
        assert_eq!(machine.carrier.config(8), 5u64.to_le_bytes());
        let listener = UnixListener::bind(folder.join("v_9")).unwrap();
        for _ in 0..8 {
            machine.driver.submit(0, &[], &[4096]);
        }
        machine.carrier.kick(0);
        machine.request(1, &[&packet(1, 9, b"")], 0);
        let (mut host, _) = listener.accept().unwrap();
        assert!(machine.carrier.interrupted(0, PATIENCE), "{kind:?}");
        assert_eq!(machine.driver.used(0)[0].data[30], 2, "RESPONSE");
        machine.request(1, &[&packet(5, 9, b"ping")], 0);
        let mut ping = [0; 4];
        host.read_exact(&mut ping).unwrap();
        assert_eq!(&ping, b"ping");
        // The host writes without any doorbell.
        host.write_all(b"pong").unwrap();
        assert!(machine.carrier.interrupted(0, PATIENCE), "{kind:?}");
        assert_eq!(&machine.driver.used(0)[0].data[44..], b"pong");
    });
}

#[test]
fn a_stopped_device_does_not_spin_on_its_sockets() {
    everywhere(|kind, folder| {
        let mut machine = vsock(kind, folder);
        machine.driver.submit(1, &[&[0; 8]], &[]);
        machine.carrier.kick(1);
        assert!(machine.carrier.broken(1), "{kind:?}");
        let _waiting = UnixStream::connect(folder.join("v")).unwrap();
        let before = threads_cpu();
        std::thread::sleep(Duration::from_millis(200));
        assert!(threads_cpu() - before < 5, "{kind:?}: a device's thread spins");
    });
}

/// Clock ticks that threads of sockets' devices have used in this process.
fn threads_cpu() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok());
    let ours = stats.filter(|stat| stat.contains("(vsock)") || stat.contains("(virtio-19)"));
    ours.map(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    })
    .sum()
}

#[test]
fn a_disk_is_written_flushed_and_read() {
    everywhere(|kind, folder| {
        let path = folder.join("disk");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let config = ImageConfig {
            path: path.clone(),
            format: Format::Raw,
            read_only: false,
            backing_folders: Vec::new(),
        };
        let disk = Block::new(Image::open(&config).unwrap(), "disk", 2);
        let mut machine = Machine::new(kind, Box::new(disk), folder, "disk");
        assert_eq!(machine.carrier.config(8), 2048u64.to_le_bytes(), "sectors");
        let head = |kind: u32, sector: u64| {
            [kind.to_le_bytes().to_vec(), vec![0; 4], sector.to_le_bytes().to_vec()].concat()
        };
        // Through both queues; status 0 is success.
        for queue in [0, 1] {
            let sector = 100 + queue as u64;
            let content = [u8::try_from(queue).unwrap() + 1; 512];
            assert_eq!(machine.request(queue, &[&head(1, sector), &content], 1), [0]);
            assert_eq!(machine.request(queue, &[&head(4, 0)], 1), [0]);
            let mut there = [0; 512];
            std::fs::File::open(&path).unwrap().read_exact_at(&mut there, 512 * sector).unwrap();
            assert_eq!(there, content);
            let read = machine.request(queue, &[&head(0, sector)], 513);
            assert_eq!((&read[..512], read[512]), (&content[..], 0));
            // Behind the end: an error, and the device goes on.
            assert_eq!(machine.request(queue, &[&head(1, 2048), &content], 1), [1]);
        }
    });
}

#[test]
fn rings_wrap_around() {
    everywhere(|kind, folder| {
        let mut machine = Machine::new(kind, Box::new(Rng), folder, "rng");
        let mut last = Vec::new();
        for _ in 0..3 * RING_SIZE {
            let bytes = machine.request(0, &[], 32);
            assert!(bytes.len() == 32 && bytes != last, "{kind:?}");
            last = bytes;
        }
    });
}

#[test]
fn the_end_of_the_other_process_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (device, seen) = gpu();
    let mut machine = Machine::new(Kind::Remote, device, folder.path(), "gpu");
    machine.make_resource(1);
    backed(&seen);
    machine.server = None;
    assert_eq!(gone(&seen), 1);
    assert!(machine.carrier.broken(0));
}
