//! What the back end alone does: its observer of memory, its end and that of its peer.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use vm_memory::{Bytes as _, GuestAddress};

use super::{MemoryObserver, RamRegion, VhostUser};
use crate::transport::tests::{Carrier as _, Machine, PATIENCE, Seen, Socket, backed, gone, gpu, shared_ram};
use crate::virtio::testing::{Driver, RING_SIZE};

struct Watcher(Sender<Vec<RamRegion>>);

impl MemoryObserver for Watcher {
    fn memory_changed(&mut self, regions: &[RamRegion]) {
        self.0.send(regions.to_vec()).unwrap();
    }
}

struct GpuBench {
    _dir: tempfile::TempDir,
    handle: VhostUser,
    ram: Receiver<Vec<RamRegion>>,
    seen: Receiver<Seen>,
    machine: Machine<Socket>,
}

/// A driver of a gpu that listens there.
fn machine(socket: &Path) -> Machine<Socket> {
    let driver = Driver::with_memory(2, shared_ram());
    let mut carrier = Box::new(Socket::connect(socket, vec![RING_SIZE, 16]));
    carrier.start(&driver);
    Machine { driver, carrier, server: None }
}

fn gpu_bench() -> GpuBench {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gpu.sock");
    let (tell, ram) = channel();
    let (gpu, seen) = gpu();
    let handle = VhostUser::spawn(gpu, &socket, Some(Box::new(Watcher(tell)))).unwrap();
    let machine = machine(&socket);
    assert!(UnixStream::connect(&socket).is_err(), "a second front end is taken");
    GpuBench { _dir: dir, handle, ram, seen, machine }
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
    let regions = b.ram.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        regions.iter().map(|r| (r.guest_addr, r.size)).collect::<Vec<_>>(),
        [(0, 4 << 20), (8 << 20, 1 << 20)]
    );
    b.machine.make_resource(3);
    let run = backed(&b.seen).runs[1];
    b.machine.driver.mem.write_slice(&[9; 512], GuestAddress(0x80_0000)).unwrap();
    let region = regions.iter().find(|r| r.guest_addr == 8 << 20).unwrap();
    let mut bytes = vec![0; 512];
    region.file.read_exact_at(&mut bytes, region.file_offset + run.addr - region.guest_addr).unwrap();
    assert_eq!(bytes, [9; 512]);
    // The same memory again is no news; other memory is.
    b.machine.carrier.share_memory(&b.machine.driver.mem);
    let other = shared_ram();
    b.machine.carrier.share_memory(&other);
    assert_eq!(b.ram.recv_timeout(PATIENCE).unwrap().len(), 2);
    assert!(b.ram.try_recv().is_err());
}

#[test]
fn the_end_of_the_front_end_ends_the_device() {
    let mut b = gpu_bench();
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
    drop(VhostUser::spawn(gpu().0, &socket, None).unwrap());
    assert!(!socket.exists());
    // A socket file of a dead process is replaced.
    drop(UnixListener::bind(&socket).unwrap());
    let (gpu, seen) = gpu();
    let handle = VhostUser::spawn(gpu, &socket, None).unwrap();
    let mut machine = machine(&socket);
    machine.make_resource(1);
    backed(&seen);
    drop(handle);
    assert_eq!(gone(&seen), 1);
}

#[test]
fn nonsense_on_the_socket_ends_only_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gpu.sock");
    let handle = VhostUser::spawn(gpu().0, &socket, None).unwrap();
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    wait_finished(&handle);
}
