//! Devices behind a real vhost-user socket: the front end is the `vhost` crate's, the guest a driver in a shared memfd.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemory};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{MemoryObserver, RamRegion, VhostUser};
use crate::devices::gpu::{Gpu, GpuLimits, ResourceInfo, ResourceObserver};
use crate::devices::vsock::{Vsock, VsockConfig, VsockLimits};
use crate::virtio::testing::{Driver, RAM, RING_SIZE};
use crate::virtio::{Device, Mem, features};

/// The cursor queue is smaller than the test driver's rings; nothing is sent there.
const GPU_QUEUES: [u16; 2] = [RING_SIZE, 16];
const PATIENCE: Duration = Duration::from_secs(5);

enum Seen {
    Ram(Vec<RamRegion>),
    Backed(ResourceInfo),
    Gone(u32),
}

struct Watcher(Sender<Seen>);

impl MemoryObserver for Watcher {
    fn memory_changed(&mut self, regions: &[RamRegion]) {
        self.0.send(Seen::Ram(regions.to_vec())).unwrap();
    }
}

impl ResourceObserver for Watcher {
    fn backed(&mut self, resource: &ResourceInfo) {
        self.0.send(Seen::Backed(resource.clone())).unwrap();
    }
    fn gone(&mut self, id: u32, _generation: u64) {
        self.0.send(Seen::Gone(id)).unwrap();
    }
}

/// Plays QEMU and the guest.
struct Machine {
    front_end: Frontend,
    driver: Driver,
    sizes: &'static [u16],
    kick: Vec<EventFd>,
    call: Vec<EventFd>,
    err: Vec<EventFd>,
}

fn shared_ram() -> Mem {
    let memfd = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(memfd);
    let mut ranges = Vec::new();
    let mut offset = 0;
    for (addr, size) in RAM {
        ranges.push((addr, size, Some(FileOffset::new(file.try_clone().unwrap(), offset))));
        offset += size as u64;
    }
    file.set_len(offset).unwrap();
    Mem::from_ranges_with_files(ranges).unwrap()
}

fn eventfds(count: usize) -> Vec<EventFd> {
    (0..count).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect()
}

/// Waits for a signal, and takes it.
fn signalled(fd: &EventFd, limit: Duration) -> bool {
    // SAFETY: the descriptor is open as long as `fd` is borrowed.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(&borrowed, PollFlags::IN)], Some(&limit)).unwrap();
    fd.read().is_ok()
}

impl Machine {
    fn connect(socket: &Path, sizes: &'static [u16]) -> Self {
        let queues = sizes.len();
        let mut front_end = Frontend::connect(socket, queues as u64).unwrap();
        front_end.set_owner().unwrap();
        let offered = front_end.get_features().unwrap();
        assert_eq!(offered & features::TRANSPORT, features::TRANSPORT);
        assert_eq!(offered & (1 << 33), 0, "IOMMU_PLATFORM must not be offered");
        let protocol = front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(protocol).unwrap();
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        front_end.set_features(offered & !features::EVENT_IDX).unwrap();
        let driver = Driver::with_memory(queues, shared_ram());
        let (kick, call, err) = (eventfds(queues), eventfds(queues), eventfds(queues));
        let machine = Self { front_end, driver, sizes, kick, call, err };
        machine.share_memory();
        machine
    }

    fn share_memory(&self) {
        let regions: Vec<_> = self
            .driver
            .mem
            .iter()
            .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap())
            .collect();
        self.front_end.set_mem_table(&regions).unwrap();
    }

    fn start(&mut self, bases: &[u16]) {
        for (index, base) in bases.iter().enumerate() {
            let rings = self.driver.rings(index);
            let host = |addr| self.driver.mem.get_host_address(GuestAddress(addr)).unwrap() as u64;
            let config = VringConfigData {
                queue_max_size: self.sizes[index],
                queue_size: self.sizes[index],
                flags: 0,
                desc_table_addr: host(rings.desc),
                used_ring_addr: host(rings.used),
                avail_ring_addr: host(rings.avail),
                log_addr: None,
            };
            self.front_end.set_vring_num(index, self.sizes[index]).unwrap();
            self.front_end.set_vring_base(index, *base).unwrap();
            self.front_end.set_vring_addr(index, &config).unwrap();
            self.front_end.set_vring_call(index, &self.call[index]).unwrap();
            self.front_end.set_vring_err(index, &self.err[index]).unwrap();
            self.front_end.set_vring_kick(index, &self.kick[index]).unwrap();
        }
        for index in 0..bases.len() {
            self.front_end.set_vring_enable(index, true).unwrap();
        }
    }

    fn stop(&mut self) -> Vec<u16> {
        (0..self.kick.len())
            .map(|index| u16::try_from(self.front_end.get_vring_base(index).unwrap()).unwrap())
            .collect()
    }

    /// Sends one request and returns the answer.
    fn request(&mut self, queue: usize, read: &[&[u8]], room: u32) -> Vec<u8> {
        self.driver.submit(queue, read, &[room]);
        self.kick[queue].write(1).unwrap();
        assert!(signalled(&self.call[queue], PATIENCE), "no interrupt");
        let mut used = self.driver.used(queue);
        assert_eq!(used.len(), 1);
        used.remove(0).data
    }

    fn gpu(&mut self, command: u32, body: &[u32], entries: &[(u64, u32)]) -> u32 {
        let mut bytes = [command.to_le_bytes().to_vec(), vec![0; 20]].concat();
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        for (addr, len) in entries {
            bytes.extend([addr.to_le_bytes(), u64::from(*len).to_le_bytes()].concat());
        }
        let answer = self.request(0, &[&bytes], 24);
        u32::from_le_bytes(answer[..4].try_into().unwrap())
    }

    fn make_resource(&mut self, id: u32) {
        assert_eq!(self.gpu(0x101, &[id, 2, 16, 16], &[]), 0x1100);
        assert_eq!(self.gpu(0x106, &[id, 2], &[(0x30_0000, 512), (0x80_0000, 512)]), 0x1100);
    }
}

struct GpuBench {
    _dir: tempfile::TempDir,
    handle: VhostUser,
    seen: Receiver<Seen>,
    machine: Machine,
}

fn gpu_bench() -> GpuBench {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gpu.sock");
    let (tell, seen) = channel();
    let gpu = Gpu::new(GpuLimits::default(), Box::new(Watcher(tell.clone())));
    let handle = VhostUser::spawn(Box::new(gpu), &socket, Some(Box::new(Watcher(tell)))).unwrap();
    let mut machine = Machine::connect(&socket, &GPU_QUEUES);
    machine.start(&[0, 0]);
    assert!(UnixStream::connect(&socket).is_err(), "a second front end is taken");
    GpuBench { _dir: dir, handle, seen, machine }
}

fn ram(seen: &Receiver<Seen>) -> Vec<RamRegion> {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Ram(regions) => regions,
        _ => panic!("expected RAM"),
    }
}

fn backed(seen: &Receiver<Seen>) -> ResourceInfo {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Backed(info) => info,
        _ => panic!("expected a backed resource"),
    }
}

fn gone(seen: &Receiver<Seen>) -> u32 {
    match seen.recv_timeout(PATIENCE).unwrap() {
        Seen::Gone(id) => id,
        _ => panic!("expected the end of a resource"),
    }
}

fn wait_finished(handle: &VhostUser) {
    let end = Instant::now() + PATIENCE;
    while !handle.is_finished() {
        assert!(Instant::now() < end, "the device's thread goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_observer_reads_what_the_guest_wrote() {
    let mut b = gpu_bench();
    let regions = ram(&b.seen);
    assert_eq!(
        regions.iter().map(|r| (r.guest_addr, r.size)).collect::<Vec<_>>(),
        [(0, 4 << 20), (8 << 20, 1 << 20)]
    );
    let config = b.machine.front_end.get_config(0, 16, VhostUserConfigFlags::empty(), &[0; 16]).unwrap().1;
    assert_eq!(config, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    b.machine.make_resource(3);
    let info = backed(&b.seen);
    assert_eq!(info.runs.len(), 2);
    b.machine.driver.mem.write_slice(&[9; 512], GuestAddress(0x80_0000)).unwrap();
    let run = info.runs[1];
    let region = regions.iter().find(|r| r.guest_addr == 8 << 20).unwrap();
    let mut bytes = vec![0; 512];
    region.file.read_exact_at(&mut bytes, region.file_offset + run.addr - region.guest_addr).unwrap();
    assert_eq!(bytes, [9; 512]);
    // The same memory again is no news; other memory is.
    b.machine.share_memory();
    b.machine.driver = Driver::with_memory(2, shared_ram());
    b.machine.share_memory();
    assert_eq!(ram(&b.seen).len(), 2);
    assert!(b.seen.try_recv().is_err());
}

#[test]
fn a_pause_keeps_resources_and_a_reset_ends_them() {
    let mut b = gpu_bench();
    ram(&b.seen);
    b.machine.make_resource(3);
    backed(&b.seen);
    let bases = b.machine.stop();
    assert_eq!(bases, [2, 0]);
    b.machine.start(&bases);
    assert_eq!(b.machine.gpu(0x107, &[3, 0], &[]), 0x1100);
    assert_eq!(gone(&b.seen), 3);
    b.machine.make_resource(4);
    backed(&b.seen);
    b.machine.stop();
    b.machine.driver.restart();
    b.machine.start(&[0, 0]);
    assert_eq!(gone(&b.seen), 4);
    b.machine.make_resource(4);
    backed(&b.seen);
}

#[test]
fn the_end_of_the_front_end_ends_the_device() {
    let mut b = gpu_bench();
    ram(&b.seen);
    b.machine.make_resource(3);
    backed(&b.seen);
    drop(b.machine);
    assert_eq!(gone(&b.seen), 3);
    wait_finished(&b.handle);
}

#[test]
fn dropping_the_handle_ends_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gpu.sock");
    let (tell, seen) = channel();
    let gpu = || Box::new(Gpu::new(GpuLimits::default(), Box::new(Watcher(tell.clone())))) as Box<dyn Device>;
    drop(VhostUser::spawn(gpu(), &socket, None).unwrap());
    assert!(!socket.exists());
    // A socket file of a dead process is replaced.
    drop(UnixListener::bind(&socket).unwrap());
    let handle = VhostUser::spawn(gpu(), &socket, None).unwrap();
    let mut machine = Machine::connect(&socket, &GPU_QUEUES);
    machine.start(&[0, 0]);
    machine.make_resource(1);
    backed(&seen);
    drop(handle);
    assert_eq!(gone(&seen), 1);
}

#[test]
fn a_broken_chain_stops_the_device_until_a_reset() {
    let mut b = gpu_bench();
    ram(&b.seen);
    b.machine.driver.submit_raw(0, &[(5 << 20, 24, 0)]);
    b.machine.kick[0].write(1).unwrap();
    assert!(signalled(&b.machine.err[0], PATIENCE));
    b.machine.kick[0].write(1).unwrap();
    assert!(!signalled(&b.machine.call[0], Duration::from_millis(50)));
    b.machine.stop();
    b.machine.driver.restart();
    b.machine.start(&[0, 0]);
    b.machine.make_resource(1);
    assert_eq!(backed(&b.seen).id, 1);
}

#[test]
fn nonsense_on_the_socket_ends_only_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gpu.sock");
    let (tell, _seen) = channel();
    let gpu = Gpu::new(GpuLimits::default(), Box::new(Watcher(tell)));
    let handle = VhostUser::spawn(Box::new(gpu), &socket, None).unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    wait_finished(&handle);
}

struct VsockBench {
    dir: tempfile::TempDir,
    _handle: VhostUser,
    machine: Machine,
}

fn vsock_bench() -> VsockBench {
    let dir = tempfile::tempdir().unwrap();
    let config = VsockConfig {
        guest_cid: 5,
        socket: dir.path().join("v"),
        privileged_ports: [].into(),
        limits: VsockLimits::default(),
    };
    let socket: PathBuf = dir.path().join("vsock.sock");
    let handle = VhostUser::spawn(Box::new(Vsock::new(config).unwrap()), &socket, None).unwrap();
    let mut machine = Machine::connect(&socket, &[RING_SIZE; 3]);
    machine.start(&[0, 0, 0]);
    VsockBench { dir, _handle: handle, machine }
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

#[test]
fn a_vsock_connection_through_the_transport() {
    let mut b = vsock_bench();
    let listener = UnixListener::bind(b.dir.path().join("v_9")).unwrap();
    for _ in 0..8 {
        b.machine.driver.submit(0, &[], &[4096]);
    }
    b.machine.kick[0].write(1).unwrap();
    b.machine.request(1, &[&packet(1, 9, b"")], 0);
    let (mut host, _) = listener.accept().unwrap();
    assert!(signalled(&b.machine.call[0], PATIENCE));
    assert_eq!(b.machine.driver.used(0)[0].data[30], 2, "RESPONSE");
    b.machine.request(1, &[&packet(5, 9, b"ping")], 0);
    let mut ping = [0; 4];
    host.read_exact(&mut ping).unwrap();
    assert_eq!(&ping, b"ping");
    // The host writes without any kick: the nested epoll wakes the device.
    host.write_all(b"pong").unwrap();
    assert!(signalled(&b.machine.call[0], PATIENCE));
    assert_eq!(&b.machine.driver.used(0)[0].data[44..], b"pong");
}

#[test]
fn a_stopped_device_does_not_spin_on_its_sockets() {
    let mut b = vsock_bench();
    b.machine.driver.submit(1, &[&[0; 8]], &[]);
    b.machine.kick[1].write(1).unwrap();
    assert!(signalled(&b.machine.err[1], PATIENCE));
    let _waiting = UnixStream::connect(b.dir.path().join("v")).unwrap();
    let before = thread_cpu("vsock");
    std::thread::sleep(Duration::from_millis(200));
    assert!(thread_cpu("vsock") - before < 5, "the device's thread spins");
}

/// Clock ticks that this process's threads of a name have used.
fn thread_cpu(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok());
    let ours = stats.filter(|stat| stat.contains(&format!("({name})")));
    ours.map(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    })
    .sum()
}
