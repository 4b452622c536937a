//! A processor and its thread.
//!
//! The thread runs guest code until the machine wants it to stand still: a flag says so, and a signal that is blocked
//! everywhere but inside `KVM_RUN` makes it look.

use std::os::unix::thread::JoinHandleExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use kvm_bindings::{KVMIO, Msrs, kvm_msr_entry};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::legacy::Bus;
use super::{Event, KvmError};
use crate::confine;

/// `struct kvm_signal_mask` with the kernel's 8 bytes of signals.
#[repr(C)]
struct SignalMask {
    len: u32,
    signals: [u8; 8],
}

// `KVM_SET_SIGNAL_MASK`; its size is that of the header without the signals.
ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, KVMIO, 0x8b, u32);

/// What processors are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Run,
    Stand,
    End,
}

/// What all processors of a machine look at.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<(Wish, usize)>,
    changed: Condvar,
}

impl Gate {
    /// Closed: processors stand.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((Wish::Stand, 0)), changed: Condvar::new() })
    }

    /// Waits while processors are to stand; false when they are to end. The counter of a processor that stands does so as well.
    fn pass(&self, counter: &mut Counter, vcpu: &VcpuFd) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stood = state.0 == Wish::Stand;
        if stood {
            counter.stop(vcpu);
            state.1 += 1;
            self.changed.notify_all();
            while state.0 == Wish::Stand {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.1 -= 1;
        }
        if stood {
            counter.go_on(vcpu);
        }
        counter.began = true;
        state.0 == Wish::Run
    }

    fn set(&self, wish: Wish) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = wish;
        self.changed.notify_all();
    }
}

/// The processors of a machine; they end with this.
#[derive(Debug)]
pub struct Processors {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

/// What makes processors look.
pub fn signal() -> i32 {
    libc::SIGRTMIN()
}

impl Processors {
    /// Gives each processor a thread; they stand still.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(vcpus: Vec<VcpuFd>, bus: &Arc<Bus>) -> Result<Self, KvmError> {
        let mut all = Self { gate: Gate::new(), threads: Vec::new() };
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let (gate, bus) = (all.gate.clone(), bus.clone());
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || {
                    let _guard = Guard(&bus);
                    run(vcpu, &gate, &bus);
                })
                .map_err(|source| KvmError::Os { act: "start a processor's thread", source })?;
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// Lets them run.
    pub fn go(&self) {
        self.gate.set(Wish::Run);
    }

    /// Makes all stand still; they do when this returns.
    pub fn stand(&self) {
        self.gate.set(Wish::Stand);
        self.kick();
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.1 < self.threads.iter().filter(|t| !t.is_finished()).count() {
            let wait = self.gate.changed.wait_timeout(state, std::time::Duration::from_millis(100));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn kick(&self) {
        for thread in &self.threads {
            if !thread.is_finished() {
                // SAFETY: the thread was not joined yet, so its id is valid; it blocks the signal.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
            }
        }
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        self.gate.set(Wish::End);
        self.kick();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a processor's thread panicked");
            }
        }
    }
}

/// Tells of a panic: a machine does not go on without one of its processors.
struct Guard<'a>(&'a Bus);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.tell(Event::Failed("a processor's thread panicked".into()));
        }
    }
}

/// Blocks the signal for this thread.
///
/// # Errors
/// The system's.
pub fn block() -> std::io::Result<()> {
    // SAFETY: plain calls with memory of this frame; the thread's own mask is changed only.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal());
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(()),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// Lets the signal, blocked before, end `KVM_RUN`.
///
/// # Errors
/// The system's.
pub fn let_in(vcpu: &VcpuFd) -> std::io::Result<()> {
    let mut mask = SignalMask { len: 8, signals: [0; 8] };
    // SAFETY: as above; the kernel reads the mask, with its length.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        if libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::sigdelset(&raw mut set, signal());
        let signals = mask.signals.as_mut_ptr();
        std::ptr::copy_nonoverlapping((&raw const set).cast::<u8>(), signals, mask.signals.len());
        if ioctl_with_ref(vcpu, KVM_SET_SIGNAL_MASK(), &mask) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes the pending signal.
fn consume() {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: memory of this frame.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal());
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now);
    }
}

/// A processor's time stamp counter. It runs with the host's, so that a guest that was paused would find its timers run out and its
/// watchdogs bark.
#[derive(Debug, Default)]
struct Counter {
    /// It has run.
    began: bool,
    /// What it said when the processor stopped.
    stopped: Option<u64>,
}

impl Counter {
    /// `IA32_TIME_STAMP_COUNTER`.
    const MSR: u32 = 0x10;

    fn registers(value: u64) -> Option<Msrs> {
        let entry = kvm_msr_entry { index: Self::MSR, data: value, ..kvm_msr_entry::default() };
        Msrs::from_entries(&[entry]).ok()
    }

    fn stop(&mut self, vcpu: &VcpuFd) {
        let Some(mut registers) = Self::registers(0).filter(|_| self.began) else { return };
        self.stopped = match vcpu.get_msrs(&mut registers) {
            Ok(1) => registers.as_slice().first().map(|entry| entry.data),
            _ => None,
        };
    }

    /// All processors do so at about the same time: KVM keeps counters equal that are set so.
    fn go_on(&mut self, vcpu: &VcpuFd) {
        let Some(registers) = self.stopped.take().and_then(Self::registers) else { return };
        if !matches!(vcpu.set_msrs(&registers), Ok(1)) {
            tracing::warn!("a processor's counter ran on during the pause");
        }
    }
}

fn run(mut vcpu: VcpuFd, gate: &Gate, bus: &Bus) {
    if let Err(error) = block().and_then(|()| let_in(&vcpu)) {
        return bus.tell(Event::Failed(format!("a processor cannot be interrupted: {error}")));
    }
    confine::here(confine::Thread::Processor);
    let mut counter = Counter::default();
    while gate.pass(&mut counter, &vcpu) {
        let failed = match vcpu.run() {
            Ok(VcpuExit::IoIn(port, out)) => {
                bus.read_port(port, out);
                continue;
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                bus.write_port(port, data);
                continue;
            }
            Ok(VcpuExit::MmioRead(address, out)) => {
                bus.read_memory(address, out);
                continue;
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                bus.write_memory(address, data);
                continue;
            }
            Ok(VcpuExit::Intr | VcpuExit::Hlt) => continue,
            // A triple fault: the oldest way to reset.
            Ok(VcpuExit::Shutdown) => {
                bus.tell(Event::Reset("a triple fault"));
                return gate.wait_for_end();
            }
            Ok(VcpuExit::InternalError) => {
                let place = vcpu.get_regs().map(|regs| format!(" at {:#x}", regs.rip)).unwrap_or_default();
                format!("KVM cannot execute an instruction of the guest{place}")
            }
            Ok(VcpuExit::FailEntry(reason, _)) => format!("a processor does not start ({reason:#x})"),
            Ok(other) => format!("a processor stopped: {other:?}"),
            Err(error) if error.errno() == libc::EINTR => {
                consume();
                continue;
            }
            Err(error) if error.errno() == libc::EAGAIN => continue,
            Err(error) => format!("a processor stopped: {error}"),
        };
        bus.tell(Event::Failed(failed));
        return gate.wait_for_end();
    }
}

impl Gate {
    /// Stands until the machine ends.
    fn wait_for_end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        self.changed.notify_all();
        while state.0 != Wish::End {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
