//! A device behind each transport, as its driver sees it: QEMU's part of vhost-user, the registers of virtio-pci, and a function of
//! our bus whose device is in another process.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend as _};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, GuestAddress, GuestMemory as _};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::transport::pci::{Message, Platform, VirtioPci};
use crate::transport::vhost_user::{FrontEnd, FrontEndConfig, VhostUser};
use crate::virtio::testing::{Driver, RAM, RING_SIZE};
use crate::virtio::{Device, Mem, features};

pub const PATIENCE: Duration = Duration::from_secs(5);

/// Guest memory that another process could map.
pub fn shared_ram() -> Mem {
    let memfd = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = std::fs::File::from(memfd);
    let mut ranges = Vec::new();
    let mut offset = 0;
    for (addr, size) in RAM {
        ranges.push((addr, size, Some(FileOffset::new(file.try_clone().unwrap(), offset))));
        offset += size as u64;
    }
    file.set_len(offset).unwrap();
    Mem::from_ranges_with_files(ranges).unwrap()
}

/// Waits for a signal, and takes it.
pub fn signalled(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit)).unwrap();
    rustix::io::read(fd, &mut [0; 8]).is_ok()
}

/// A transport with a device.
pub trait Carrier {
    /// Negotiates, and has all queues served from their beginning.
    fn start(&mut self, driver: &Driver);
    /// Stops the device and has it forget everything.
    fn reset(&mut self);
    /// Has the device stand still.
    fn pause(&mut self);
    /// Has it go on.
    fn resume(&mut self, driver: &Driver);
    fn kick(&mut self, queue: usize);
    /// Waits for an interrupt of a queue, and takes it.
    fn interrupted(&mut self, queue: usize, limit: Duration) -> bool;
    /// Whether the device says that it has stopped for good.
    fn broken(&mut self, queue: usize) -> bool;
    fn config(&mut self, length: usize) -> Vec<u8>;
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    VhostUser,
    Pci,
    /// A PCI function that another process serves.
    Remote,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::VhostUser, Self::Pci, Self::Remote];
}

/// A device with its driver.
pub struct Machine<C: Carrier + ?Sized = dyn Carrier> {
    pub driver: Driver,
    pub carrier: Box<C>,
    /// The thread that has the device, where that is not the carrier's own.
    pub server: Option<VhostUser>,
}

impl Machine {
    /// Carries a device; its socket, where it has one, is in `folder` and named `name`.
    pub fn new(kind: Kind, device: Box<dyn Device>, folder: &Path, name: &str) -> Self {
        let sizes: Vec<u16> = device.queue_sizes().iter().map(|size| (*size).min(RING_SIZE)).collect();
        let driver = Driver::with_memory(sizes.len(), shared_ram());
        let socket = folder.join(format!("{name}.sock"));
        let mut server = None;
        let mut serve = |device| server = Some(VhostUser::spawn(device, &socket, None).unwrap());
        let carrier: Box<dyn Carrier> = match kind {
            Kind::VhostUser => {
                serve(device);
                Box::new(Socket::connect(&socket, sizes))
            }
            Kind::Pci => Box::new(Function::new(device, driver.mem.clone(), sizes)),
            Kind::Remote => {
                let config = FrontEndConfig {
                    device_type: device.device_type(),
                    queue_sizes: device.queue_sizes().to_vec(),
                    config: device.config(),
                };
                serve(device);
                let stream = UnixStream::connect(&socket).unwrap();
                let front_end = Box::new(FrontEnd::new(stream, config).unwrap());
                Box::new(Function::new(front_end, driver.mem.clone(), sizes))
            }
        };
        let mut machine = Self { driver, carrier, server };
        machine.carrier.start(&machine.driver);
        machine
    }
}

impl<C: Carrier + ?Sized> Machine<C> {
    /// As a driver that starts anew.
    pub fn restart(&mut self) {
        self.carrier.reset();
        self.driver.restart();
        self.carrier.start(&self.driver);
    }

    /// Sends one request and returns the answer.
    pub fn request(&mut self, queue: usize, read: &[&[u8]], room: u32) -> Vec<u8> {
        self.driver.submit(queue, read, &[room]);
        self.carrier.kick(queue);
        assert!(self.carrier.interrupted(queue, PATIENCE), "no interrupt");
        let mut used = self.driver.used(queue);
        assert_eq!(used.len(), 1);
        used.remove(0).data
    }
}

/// Plays QEMU.
pub struct Socket {
    pub front_end: Frontend,
    sizes: Vec<u16>,
    bases: Vec<u16>,
    kick: Vec<EventFd>,
    call: Vec<EventFd>,
    err: Vec<EventFd>,
}

fn eventfds(count: usize) -> Vec<EventFd> {
    (0..count).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect()
}

fn borrowed(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `fd` is borrowed.
    unsafe { BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(fd)) }
}

impl Socket {
    pub fn connect(socket: &Path, sizes: Vec<u16>) -> Self {
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
        let (kick, call, err) = (eventfds(queues), eventfds(queues), eventfds(queues));
        Self { front_end, sizes, bases: vec![0; queues], kick, call, err }
    }

    pub fn share_memory(&self, mem: &Mem) {
        let regions: Vec<_> =
            mem.iter().map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap()).collect();
        self.front_end.set_mem_table(&regions).unwrap();
    }

    /// Reads where each queue stands, which stops it.
    pub fn stop(&mut self) -> Vec<u16> {
        let base = |index| u16::try_from(self.front_end.get_vring_base(index).unwrap()).unwrap();
        self.bases = (0..self.kick.len()).map(base).collect();
        self.bases.clone()
    }
}

impl Carrier for Socket {
    fn start(&mut self, driver: &Driver) {
        self.bases.fill(0);
        self.share_memory(&driver.mem);
        self.resume(driver);
    }

    fn reset(&mut self) {
        self.stop();
    }

    fn pause(&mut self) {
        self.stop();
    }

    fn resume(&mut self, driver: &Driver) {
        for (index, base) in self.bases.iter().enumerate() {
            let rings = driver.rings(index);
            let host = |addr| driver.mem.get_host_address(GuestAddress(addr)).unwrap() as u64;
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
        for index in 0..self.bases.len() {
            self.front_end.set_vring_enable(index, true).unwrap();
        }
    }

    fn kick(&mut self, queue: usize) {
        self.kick[queue].write(1).unwrap();
    }

    fn interrupted(&mut self, queue: usize, limit: Duration) -> bool {
        signalled(borrowed(&self.call[queue]), limit)
    }

    fn broken(&mut self, queue: usize) -> bool {
        signalled(borrowed(&self.err[queue]), PATIENCE)
    }

    fn config(&mut self, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap();
        self.front_end.get_config(0, size, VhostUserConfigFlags::empty(), &vec![0; length]).unwrap().1
    }
}

/// An engine's part of a function: lines and what they were told.
#[derive(Debug)]
struct Lines {
    fds: Vec<OwnedFd>,
    connected: Mutex<Vec<bool>>,
}

impl Platform for Lines {
    fn set_message(&self, vector: u16, message: Message) -> std::io::Result<()> {
        assert_eq!(message, Message { address: 0xfee0_0000, data: 32 + u32::from(vector) });
        Ok(())
    }

    fn connect(&self, vector: u16, connected: bool) -> std::io::Result<()> {
        self.connected.lock().unwrap()[usize::from(vector)] = connected;
        Ok(())
    }

    fn line(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.fds.get(usize::from(vector)).map(|fd| fd.as_fd())
    }

    fn watch_doorbell(&self, _: u64, _: BorrowedFd<'_>) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn forget_doorbell(&self, _: u64, _: BorrowedFd<'_>) {}
}

/// Plays a guest's driver of a PCI function.
struct Function {
    function: Arc<VirtioPci>,
    lines: Arc<Lines>,
    sizes: Vec<u16>,
}

/// Places of registers in the BAR (virtio 1.2, section 4.1.4.3), as the capabilities say them.
mod at {
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    pub const DRIVER_FEATURE: u64 = 12;
    pub const CONFIG_VECTOR: u64 = 16;
    pub const STATUS: u64 = 20;
    pub const QUEUE_SELECT: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_DESC: u64 = 32;
    pub const QUEUE_DRIVER: u64 = 40;
    pub const QUEUE_DEVICE: u64 = 48;
    pub const DEVICE: u64 = 0x2000;
    pub const DOORBELLS: u64 = 0x3000;
    pub const TABLE: u64 = 0x4000;
}

impl Function {
    fn new(device: Box<dyn Device>, mem: Mem, sizes: Vec<u16>) -> Self {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fds: Vec<_> = (0..=sizes.len()).map(|_| eventfd(0, flags).unwrap()).collect();
        let connected = Mutex::new(vec![false; fds.len()]);
        let lines = Arc::new(Lines { fds, connected });
        let function = VirtioPci::new(device, mem, 0xe000_0000, lines.clone()).unwrap();
        let mut function = Self { function, lines, sizes };
        function.enable_interrupts();
        function
    }

    fn enable_interrupts(&mut self) {
        let mut cap = [0];
        self.function.read_config(0x34, &mut cap);
        loop {
            let mut head = [0; 2];
            self.function.read_config(cap[0].into(), &mut head);
            if head[0] == 0x11 {
                self.function.write_config(usize::from(cap[0]) + 2, &0x8000u16.to_le_bytes());
                break;
            }
            assert_ne!(head[1], 0, "no MSI-X");
            cap[0] = head[1];
        }
        for vector in 0..=u64::try_from(self.sizes.len()).unwrap() {
            let entry = at::TABLE + 16 * vector;
            self.write(entry, &0xfee0_0000u64.to_le_bytes());
            self.write(entry + 8, &(32 + u32::try_from(vector).unwrap()).to_le_bytes());
            self.write(entry + 12, &0u32.to_le_bytes());
        }
        assert!(self.lines.connected.lock().unwrap().iter().all(|connected| *connected));
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.function.write_bar(at, bytes);
    }

    fn status(&self) -> u8 {
        let mut status = [0];
        self.function.read_bar(at::STATUS, &mut status);
        status[0]
    }

    fn features(&self) -> u64 {
        (0..2u32)
            .map(|half| {
                self.write(0, &half.to_le_bytes());
                let mut bytes = [0; 4];
                self.function.read_bar(4, &mut bytes);
                u64::from(u32::from_le_bytes(bytes)) << (32 * half)
            })
            .sum()
    }

    fn until(&self, what: &str, mut is: impl FnMut(u8) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is(self.status()) {
            assert!(Instant::now() < end, "{what}: status {:#x}", self.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Carrier for Function {
    fn start(&mut self, driver: &Driver) {
        self.write(at::STATUS, &[3]);
        let accepted = self.features() & !features::EVENT_IDX;
        for half in 0..2u32 {
            self.write(at::DRIVER_FEATURE_SELECT, &half.to_le_bytes());
            let bits = u32::try_from(accepted >> (32 * half) & 0xffff_ffff).unwrap();
            self.write(at::DRIVER_FEATURE, &bits.to_le_bytes());
        }
        self.write(at::STATUS, &[11]);
        assert_eq!(self.status(), 11);
        self.write(at::CONFIG_VECTOR, &0u16.to_le_bytes());
        for (index, size) in self.sizes.iter().enumerate() {
            let rings = driver.rings(index);
            let number = u16::try_from(index).unwrap();
            self.write(at::QUEUE_SELECT, &number.to_le_bytes());
            self.write(at::QUEUE_SIZE, &size.to_le_bytes());
            self.write(at::QUEUE_VECTOR, &(number + 1).to_le_bytes());
            self.write(at::QUEUE_DESC, &rings.desc.to_le_bytes());
            self.write(at::QUEUE_DRIVER, &rings.avail.to_le_bytes());
            self.write(at::QUEUE_DEVICE, &rings.used.to_le_bytes());
            self.write(at::QUEUE_ENABLE, &1u16.to_le_bytes());
        }
        self.write(at::STATUS, &[15]);
        assert_eq!(self.status(), 15);
    }

    fn reset(&mut self) {
        self.write(at::STATUS, &[0]);
        self.until("reset", |status| status == 0);
        for fd in &self.lines.fds {
            let _ = rustix::io::read(fd, &mut [0; 8]);
        }
    }

    fn pause(&mut self) {
        self.function.pause(true);
    }

    fn resume(&mut self, _: &Driver) {
        self.function.pause(false);
    }

    fn kick(&mut self, queue: usize) {
        self.write(at::DOORBELLS + 4 * queue as u64, &u32::try_from(queue).unwrap().to_le_bytes());
    }

    fn interrupted(&mut self, queue: usize, limit: Duration) -> bool {
        signalled(self.lines.fds[queue + 1].as_fd(), limit)
    }

    fn broken(&mut self, _: usize) -> bool {
        self.until("broken", |status| status & 0x40 != 0);
        // The configuration's interrupt tells of it.
        signalled(self.lines.fds[0].as_fd(), PATIENCE)
    }

    fn config(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.function.read_bar(at::DEVICE, &mut bytes);
        bytes
    }
}
