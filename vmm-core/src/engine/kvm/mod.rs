//! Our own engine on KVM: a machine of virtio devices on a PCI bus, in this process.
//!
//! ```text
//!   Vmm::start --> machine's thread: boot --> processors' threads --(ports, memory)--> legacy.rs, transport::pci
//!                       ^    |                                                            devices' threads
//!        commands ------'    '-- reset: everything is taken apart, RAM and devices stay, boot again
//! ```
//!
//! A reset makes a new `/dev/kvm` machine around the same RAM and devices: nothing of the old one can be left over.

mod acpi;
mod boot;
mod cpu;
mod irq;
mod legacy;
mod memory;
mod probe;
#[cfg(test)]
mod tests;
mod vcpu;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_clock_data, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::Kvm;
use rustix::event::{EventfdFlags, eventfd};
use vm_memory::{GuestMemory as _, GuestMemoryRegion as _};

use self::irq::Interrupts;
use self::legacy::{Bus, Log};
use self::memory::{BARS, Ram};
pub use self::probe::{Unfit, probe};
use self::vcpu::Processors;
use super::Exit;
use super::serial::SerialLog;
use crate::transport::pci::{PciError, Root, VirtioPci};
use crate::transport::vhost_user::MemoryObserver;
use crate::virtio::Device;

/// Processors that the tables can name.
const MAX_CPUS: u32 = 254;
/// Less does not even hold a kernel.
const MIN_MEMORY: u32 = 16;
/// How long the machine's thread may take to answer.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// Why a machine could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// A setting or file that no machine can be made of.
    #[error("{0}")]
    Config(String),
    /// `/dev/kvm` cannot be used.
    #[error("/dev/kvm cannot be opened")]
    NoKvm(#[source] io::Error),
    /// KVM refused something.
    #[error("KVM cannot {act}")]
    Kvm {
        /// What was tried.
        act: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// The operating system refused something.
    #[error("cannot {act}")]
    Os {
        /// What was tried.
        act: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device cannot be put on the bus.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// The machine has ended.
    #[error("the machine has ended: {0}")]
    Ended(Exit),
    /// The machine's thread does not answer.
    #[error("the machine does not answer")]
    Timeout,
}

impl KvmError {
    fn kvm(act: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm { act, source: io::Error::from_raw_os_error(error.errno()) }
    }
}

/// A machine.
#[derive(Debug, Clone)]
pub struct KvmConfig {
    /// Virtual processors, 1 to 254.
    pub cpus: u32,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// The kernel: `vmlinux` with a PVH entry, or `bzImage`.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line; the serial port is `ttyS0`.
    pub cmdline: String,
    /// Where the serial port's output goes; the file before it is kept as `<path>.old` when it grows large.
    pub serial_log: PathBuf,
}

impl KvmConfig {
    fn check(&self) -> Result<u8, KvmError> {
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            return Err(KvmError::Config(format!(
                "{} processors are not possible: a machine has 1 to {MAX_CPUS}",
                self.cpus
            )));
        }
        if self.memory_mib < MIN_MEMORY {
            return Err(KvmError::Config(format!("{} MiB of memory are too little", self.memory_mib)));
        }
        let host = rustix::system::sysinfo();
        let mib = (host.totalram as u64).saturating_mul(host.mem_unit.into()) >> 20;
        if u64::from(self.memory_mib) > mib {
            return Err(KvmError::Config(format!(
                "{} MiB of memory are more than this host has ({mib} MiB): set `memory` lower",
                self.memory_mib
            )));
        }
        u8::try_from(self.cpus).map_err(|e| KvmError::Config(e.to_string()))
    }
}

/// What the machine's thread hears.
#[derive(Debug)]
enum Event {
    /// The guest asks for a reset, by this.
    Reset(&'static str),
    /// The guest switched itself off.
    PowerOff,
    /// A processor cannot go on.
    Failed(String),
    /// Press the power button.
    PowerButton,
    /// Stop the processors.
    Pause(Sender<()>),
    /// Let them go on.
    Resume(Sender<()>),
    /// End.
    Quit,
}

#[derive(Debug)]
struct Shared {
    exit: Mutex<Option<Exit>>,
    changed: Condvar,
    /// Readable when the machine has ended.
    over: OwnedFd,
    /// How often the guest restarted.
    restarts: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running (or ended) machine. Dropping it ends it.
#[derive(Debug)]
pub struct Vmm {
    events: Sender<Event>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Vmm {
    /// Starts a machine with these devices, in this order on its bus, and returns when its processors run. `observer` learns
    /// of guest RAM.
    ///
    /// # Errors
    /// The configuration, its files, KVM, or a device.
    pub fn start(
        config: &KvmConfig,
        devices: Vec<Box<dyn Device>>,
        observer: Option<&mut dyn MemoryObserver>,
    ) -> Result<Self, KvmError> {
        let cpus = config.check()?;
        let os = |act| move |source| KvmError::Os { act, source };
        let ram = Ram::new(config.memory_mib)?;
        if let Some(observer) = observer {
            observer.memory_changed(&ram.regions);
        }
        let log = SerialLog::create(&config.serial_log).map_err(os("write the serial log"))?;
        let log: Log = Arc::new(Mutex::new(log));
        let over = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let over = over.map_err(|e| os("make an event")(e.into()))?;
        let shared = Arc::new(Shared {
            exit: Mutex::default(),
            changed: Condvar::new(),
            over,
            restarts: AtomicU64::new(0),
        });
        let (events, heard) = channel();
        let mut machine =
            Machine { config: config.clone(), cpus, ram, log, events: events.clone(), parts: devices };
        let board = machine.boot()?;
        let told = shared.clone();
        let thread = std::thread::Builder::new()
            .name("machine".into())
            .spawn(move || {
                let exit = machine.run(board, &heard, &told.restarts);
                *told.lock() = Some(exit);
                told.changed.notify_all();
                let _ = rustix::io::write(&told.over, &1u64.to_ne_bytes());
            })
            .map_err(os("start the machine's thread"))?;
        Ok(Self { events, shared, thread: Some(thread) })
    }

    /// How the machine ended, if it did.
    pub fn try_wait(&self) -> Option<Exit> {
        self.shared.lock().clone()
    }

    /// How often the guest restarted.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Waits until the machine ends, but no longer than `limit`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Exit> {
        let end = Instant::now() + limit;
        let mut exit = self.shared.lock();
        while exit.is_none() {
            let left = end.checked_duration_since(Instant::now())?;
            exit = self.shared.changed.wait_timeout(exit, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        exit.clone()
    }

    fn tell(&self, event: Event) -> Result<(), KvmError> {
        self.events.send(event).map_err(|_| KvmError::Ended(self.try_wait().unwrap_or(Exit::Asked)))
    }

    fn ask(&self, event: impl FnOnce(Sender<()>) -> Event) -> Result<(), KvmError> {
        let (done, answer) = channel();
        self.tell(event(done))?;
        answer.recv_timeout(COMMAND_TIME).map_err(|_| match self.try_wait() {
            Some(exit) => KvmError::Ended(exit),
            None => KvmError::Timeout,
        })
    }

    /// Presses the power button; whether anything follows is up to the guest.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn powerdown(&self) -> Result<(), KvmError> {
        self.tell(Event::PowerButton)
    }

    /// Ends the machine as if the cable were pulled, but with everything that the guest flushed on disk.
    pub fn quit(&self) {
        // Fails only when it has ended already.
        let _ = self.tell(Event::Quit);
    }

    /// Stops processors and devices; they stand still when this returns.
    ///
    /// # Errors
    /// The machine has ended or does not answer.
    pub fn pause(&self) -> Result<(), KvmError> {
        self.ask(Event::Pause)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The machine has ended or does not answer.
    pub fn resume(&self) -> Result<(), KvmError> {
        self.ask(Event::Resume)
    }
}

impl AsFd for Vmm {
    /// A descriptor that is readable when the machine has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.over.as_fd()
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.quit();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a machine's thread panicked");
        }
    }
}

/// What stays when a guest resets.
struct Machine {
    config: KvmConfig,
    cpus: u8,
    ram: Ram,
    log: Log,
    events: Sender<Event>,
    /// The devices, while they are on no bus.
    parts: Vec<Box<dyn Device>>,
}

/// What is made anew at each boot. Fields are dropped in their order: processors stop first.
struct Board {
    processors: Processors,
    root: Arc<Root>,
    button: vmm_sys_util::eventfd::EventFd,
    vm: Arc<kvm_ioctls::VmFd>,
    /// What its clock said when it was paused.
    clock: Option<kvm_clock_data>,
}

impl Board {
    /// The clock that KVM gives the guest stood as well.
    fn clock_goes_on(&mut self) {
        let Some(clock) = self.clock.take() else { return };
        let clock = kvm_clock_data { clock: clock.clock, ..kvm_clock_data::default() };
        if let Err(error) = self.vm.set_clock(&clock) {
            tracing::warn!(%error, "the guest's clock ran on during the pause");
        }
    }
}

impl Machine {
    /// A machine with memory and nothing else. It must go before `ram` does.
    fn new_vm(kvm: &Kvm, ram: &Ram) -> Result<kvm_ioctls::VmFd, KvmError> {
        let vm = kvm.create_vm().map_err(KvmError::kvm("make a machine"))?;
        vm.set_tss_address(memory::TSS).map_err(KvmError::kvm("place its helper pages"))?;
        vm.set_identity_map_address(memory::IDENTITY_MAP).map_err(KvmError::kvm("place its helper pages"))?;
        for (slot, region) in ram.mem.iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: u32::try_from(slot).unwrap_or(u32::MAX),
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                flags: 0,
            };
            // SAFETY: the mapping is this machine's RAM, which outlives the machine: its owner holds both, and drops this first.
            unsafe { vm.set_user_memory_region(region) }.map_err(KvmError::kvm("use guest memory"))?;
        }
        Ok(vm)
    }

    fn boot(&mut self) -> Result<Board, KvmError> {
        let kvm = Kvm::new().map_err(|e| KvmError::NoKvm(io::Error::from_raw_os_error(e.errno())))?;
        let vm = Self::new_vm(&kvm, &self.ram)?;
        vm.create_irq_chip().map_err(KvmError::kvm("make interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        vm.create_pit2(pit).map_err(KvmError::kvm("make a timer"))?;
        let vm = Arc::new(vm);

        let interrupts = Interrupts::new(vm.clone());
        let mut root = Root::default();
        for device in std::mem::take(&mut self.parts) {
            let slot = root.next()?;
            let vectors = u16::try_from(device.queue_sizes().len() + 1).unwrap_or(1);
            let platform = interrupts
                .function(vectors)
                .map_err(|source| KvmError::Os { act: "make a device's interrupts", source })?;
            let bar = BARS + VirtioPci::BAR_SIZE * slot.0 as u64;
            root.add(VirtioPci::new(device, self.ram.mem.clone(), bar, Arc::new(platform))?);
        }
        let root = Arc::new(root);
        let serial = legacy::line(&vm, acpi::SERIAL_GSI)?;
        let button = legacy::line(&vm, acpi::EVENT_GSI)?;
        let bus = Arc::new(Bus::new(root.clone(), serial, self.log.clone(), self.events.clone()));

        let start = boot::load(&self.config, &self.ram)?;
        acpi::write(&self.ram, self.cpus)?;
        let features = cpu::features(&kvm)?;
        let mut vcpus = Vec::new();
        for id in 0..self.cpus {
            let vcpu = vm.create_vcpu(id.into()).map_err(KvmError::kvm("make a processor"))?;
            let numbered = cpu::numbered(&features, id, self.cpus);
            vcpu.set_cpuid2(&numbered).map_err(KvmError::kvm("set a processor's features"))?;
            cpu::set_up(&vcpu)?;
            if id == 0 {
                let mut sregs = vcpu.get_sregs().map_err(KvmError::kvm("read a processor's registers"))?;
                let regs = boot::registers(start, &self.ram, &mut sregs)?;
                vcpu.set_sregs(&sregs).map_err(KvmError::kvm("set a processor's registers"))?;
                vcpu.set_regs(&regs).map_err(KvmError::kvm("set a processor's registers"))?;
            }
            vcpus.push(vcpu);
        }
        let processors = Processors::start(vcpus, &bus)?;
        processors.go();
        Ok(Board { processors, root, button, vm, clock: None })
    }

    /// Holds the machine until it ends.
    fn run(mut self, mut board: Board, events: &Receiver<Event>, restarts: &AtomicU64) -> Exit {
        loop {
            // A sender is held here, so this waits for ever at most.
            let Ok(event) = events.recv() else { return Exit::Asked };
            match event {
                Event::Reset(by) => {
                    if let Some(words) = self.panic() {
                        return Exit::Panicked(words);
                    }
                    self.take_apart(board);
                    // What the old processors said meanwhile is of no account; orders are.
                    let orders: Vec<Event> = events.try_iter().collect();
                    if orders.iter().any(|event| matches!(event, Event::Quit)) {
                        return Exit::Asked;
                    }
                    tracing::info!(by, "the guest restarts");
                    restarts.fetch_add(1, Ordering::Relaxed);
                    board = match self.boot() {
                        Ok(board) => board,
                        Err(error) => return Exit::Failed(format!("the guest cannot be restarted: {error}")),
                    };
                }
                Event::PowerOff => return Exit::PoweredOff,
                Event::Failed(words) => return self.panic().map_or(Exit::Failed(words), Exit::Panicked),
                Event::Quit => return Exit::Asked,
                Event::PowerButton => {
                    let _ = board.button.write(1);
                }
                Event::Pause(done) => {
                    board.processors.stand();
                    board.root.functions().iter().for_each(|function| function.pause(true));
                    board.clock = board.vm.get_clock().ok();
                    let _ = done.send(());
                }
                Event::Resume(done) => {
                    board.root.functions().iter().for_each(|function| function.pause(false));
                    board.clock_goes_on();
                    board.processors.go();
                    let _ = done.send(());
                }
            }
        }
    }

    fn panic(&self) -> Option<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).panic().map(str::to_owned)
    }

    /// Stops everything and takes the devices off the bus.
    fn take_apart(&mut self, board: Board) {
        let Board { processors, root, button, vm: _vm, clock: _ } = board;
        drop(processors);
        self.parts = root.functions().iter().filter_map(|function| function.take_apart()).collect();
        drop((root, button));
    }
}
