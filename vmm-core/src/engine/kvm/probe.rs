//! Whether `/dev/kvm` runs stock kernels, at native speed: it is tried, with a guest of a few instructions.
//!
//! Some hosts have a KVM that executes guest kernels by emulation: slowly, and without instructions that kernels need. That it
//! opens, or that a simple guest runs, says nothing. So the guest here does what kernels do (an interrupt through an IDT, locked
//! arithmetic, `lock cmpxchg16b`, a switch of page tables), and counts to a million, which takes a processor a millisecond.

use std::os::unix::thread::JoinHandleExt as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes as _, GuestAddress};

use super::boot::{self, Start};
use super::memory::Ram;
use super::{KvmError, Machine, cpu, vcpu};

/// How long the whole trial may take.
const LIMIT: Duration = Duration::from_millis(300);
/// How long the count may take: far more than a processor needs, even an emulated one that runs this one's guests natively.
const COUNT_LIMIT: Duration = Duration::from_millis(50);
const COUNT: u32 = 1_000_000;

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x2000;
const DATA: u32 = 0x3000;
const IDT_POINTER: u32 = 0x3100;
const IDT: u64 = 0x3200;
const VECTOR: u8 = 0x20;
/// Other page tables: their second 2 MiB are the first ones of memory.
const TABLES: u32 = 0x1_4000;
const MAGIC: u32 = 0x1a7e_1a7e;
/// Where the guest reports.
const PORT: u8 = 0xf4;
const BEGIN: u8 = 1;
const DONE: u8 = 2;
const WRONG: u8 = 3;

/// Why KVM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is none.
    #[error("there is no /dev/kvm")]
    Missing,
    /// The user may not.
    #[error("you may not open /dev/kvm")]
    Forbidden,
    /// It refused something on the way.
    #[error("{0}")]
    Refused(#[source] KvmError),
    /// It does not execute what kernels need.
    #[error("this KVM does not execute what kernels need ({0})")]
    Incomplete(String),
    /// It emulates.
    #[error("this KVM is too slow: it took {0:?} where a processor takes a millisecond")]
    Slow(Duration),
    /// It never came back.
    #[error("this KVM does not come back from a few instructions within {LIMIT:?}")]
    Hangs,
}

/// Tries it; how long the guest counted.
///
/// # Errors
/// Why it cannot be used.
pub fn probe() -> Result<Duration, Unfit> {
    let started = Instant::now();
    let (told, result) = channel();
    let thread = std::thread::Builder::new()
        .name("kvm-probe".into())
        .spawn(move || {
            let blocked = vcpu::block().map_err(|source| KvmError::Os { act: "prepare a thread", source });
            let _ = told.send(Said::Ready);
            let result = blocked.map_err(Unfit::Refused).and_then(|()| attempt(&told));
            // Nobody waits any more when it took too long.
            let _ = told.send(Said::End(result));
        })
        .map_err(|source| Unfit::Refused(KvmError::Os { act: "start a thread", source }))?;
    // Signals come only after this.
    let _ = result.recv();
    let mut counting = None;
    let verdict = loop {
        let limit = LIMIT.saturating_sub(started.elapsed());
        match result.recv_timeout(limit) {
            Ok(Said::Ready) => {}
            Ok(Said::Counting) => counting = Some(Instant::now()),
            Ok(Said::End(result)) => break result,
            Err(RecvTimeoutError::Timeout) => {
                let counted = counting.map(|since| since.elapsed()).filter(|time| *time > COUNT_LIMIT);
                break Err(counted.map_or(Unfit::Hangs, Unfit::Slow));
            }
            Err(RecvTimeoutError::Disconnected) => break Err(Unfit::Hangs),
        }
    };
    while !thread.is_finished() {
        // SAFETY: the thread was not joined yet, so its id is valid; it blocks the signal.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), vcpu::signal()) };
        std::thread::sleep(Duration::from_millis(1));
    }
    match verdict {
        Ok(time) if time > COUNT_LIMIT => Err(Unfit::Slow(time)),
        other => other,
    }
}

enum Said {
    /// It may be signalled.
    Ready,
    Counting,
    End(Result<Duration, Unfit>),
}

fn attempt(told: &Sender<Said>) -> Result<Duration, Unfit> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Unfit::Missing,
        libc::EACCES | libc::EPERM => Unfit::Forbidden,
        errno => Unfit::Refused(KvmError::NoKvm(std::io::Error::from_raw_os_error(errno))),
    })?;
    // The machine goes before its memory does.
    let ram = Ram::new(4).map_err(Unfit::Refused)?;
    let (_vm, mut vcpu) = prepare(&kvm, &ram).map_err(Unfit::Refused)?;
    vcpu::let_in(&vcpu)
        .map_err(|source| Unfit::Refused(KvmError::Os { act: "prepare a processor's thread", source }))?;
    let mut begun = None;
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(_, [BEGIN])) => {
                let _ = told.send(Said::Counting);
                begun = Some(Instant::now());
            }
            Ok(VcpuExit::IoOut(_, [DONE])) => {
                return begun.map(|at| at.elapsed()).ok_or_else(|| Unfit::Incomplete("it ran wild".into()));
            }
            Ok(VcpuExit::IoOut(_, [WRONG])) => {
                return Err(Unfit::Incomplete("an instruction did something else".into()));
            }
            Ok(VcpuExit::Shutdown) => return Err(Unfit::Incomplete("an instruction faulted".into())),
            Ok(VcpuExit::InternalError) => {
                return Err(Unfit::Incomplete("an instruction is not emulated".into()));
            }
            Ok(other) => return Err(Unfit::Incomplete(format!("{other:?}"))),
            Err(error) if error.errno() == libc::EAGAIN => {}
            Err(error) if error.errno() == libc::EINTR => return Err(Unfit::Hangs),
            Err(error) => return Err(Unfit::Refused(KvmError::kvm("run a processor")(error))),
        }
    }
}

fn prepare(kvm: &Kvm, ram: &Ram) -> Result<(VmFd, VcpuFd), KvmError> {
    let vm = Machine::new_vm(kvm, ram)?;
    let write = |bytes: &[u8], at: u64| {
        ram.mem.write_slice(bytes, GuestAddress(at)).map_err(|e| KvmError::Config(e.to_string()))
    };
    write(&program(), CODE)?;
    // inc qword [DATA]; iretq
    write(&[&[0x48, 0xff, 0x04, 0x25][..], &DATA.to_le_bytes(), &[0x48, 0xcf]].concat(), HANDLER)?;
    let limit = u16::from(VECTOR) * 16 + 15;
    write(&[&limit.to_le_bytes()[..], &IDT.to_le_bytes()].concat(), IDT_POINTER.into())?;
    // An interrupt gate: handler, code segment, present.
    let gate = HANDLER | 0x10 << 16 | 0x8e00 << 32;
    write(&gate.to_le_bytes(), IDT + 16 * u64::from(VECTOR))?;
    write(&MAGIC.to_le_bytes(), u64::from(DATA) + 0x30)?;
    let tables = u64::from(TABLES);
    write(&(tables + 0x1003).to_le_bytes(), tables)?;
    write(&(tables + 0x2003).to_le_bytes(), tables + 0x1000)?;
    write(&[0x83_u64.to_le_bytes(), 0x83_u64.to_le_bytes()].concat(), tables + 0x2000)?;

    let vcpu = vm.create_vcpu(0).map_err(KvmError::kvm("make a processor"))?;
    let features = cpu::features(kvm)?;
    vcpu.set_cpuid2(&features).map_err(KvmError::kvm("set a processor's features"))?;
    let mut sregs = vcpu.get_sregs().map_err(KvmError::kvm("read a processor's registers"))?;
    let regs = boot::registers(Start::Linux64 { entry: CODE }, ram, &mut sregs)?;
    vcpu.set_sregs(&sregs).map_err(KvmError::kvm("set a processor's registers"))?;
    vcpu.set_regs(&regs).map_err(KvmError::kvm("set a processor's registers"))?;
    Ok((vm, vcpu))
}

/// The guest: 64-bit code.
fn program() -> Vec<u8> {
    let at = |offset: u32| (DATA + offset).to_le_bytes();
    let mut code = Vec::new();
    let mut failing = Vec::new();
    let mut add = |parts: &[&[u8]], checked: bool| {
        parts.iter().for_each(|part| code.extend_from_slice(part));
        if checked {
            // jne, to the end of the program
            code.extend_from_slice(&[0x0f, 0x85, 0, 0, 0, 0]);
            failing.push(code.len());
        }
    };
    // lidt; int; the handler counted
    add(&[&[0x0f, 0x01, 0x1c, 0x25], &IDT_POINTER.to_le_bytes(), &[0xcd, VECTOR]], false);
    add(&[&[0x48, 0x83, 0x3c, 0x25], &at(0), &[1]], true);
    // eax, edx = 0; ebx = 2; ecx = 1; lock cmpxchg16b
    add(&[&[0x31, 0xc0, 0x31, 0xd2, 0xbb, 2, 0, 0, 0, 0xb9, 1, 0, 0, 0]], false);
    add(&[&[0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25], &at(0x10)], true);
    // eax = 5; lock xadd; lock add 3; it is 8
    add(&[&[0xb8, 5, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x04, 0x25], &at(0x20)], false);
    add(&[&[0xf0, 0x48, 0x83, 0x04, 0x25], &at(0x20), &[3]], false);
    add(&[&[0x48, 0x83, 0x3c, 0x25], &at(0x20), &[8]], true);
    // cr3 = the other tables; their second 2 MiB show the first ones
    add(&[&[0xb8], &TABLES.to_le_bytes(), &[0x0f, 0x22, 0xd8]], false);
    add(&[&[0x81, 0x3c, 0x25], &at(0x20_0030), &MAGIC.to_le_bytes()], true);
    // out BEGIN; ecx = COUNT; dec ecx, jnz; out DONE; hlt
    add(&[&[0xb0, BEGIN, 0xe6, PORT, 0xb9], &COUNT.to_le_bytes(), &[0xff, 0xc9, 0x75, 0xfc]], false);
    add(&[&[0xb0, DONE, 0xe6, PORT, 0xf4]], false);
    let end = code.len();
    for behind in failing {
        let distance = u32::try_from(end - behind).unwrap_or(0).to_le_bytes();
        for (to, from) in code.iter_mut().skip(behind - 4).zip(distance) {
            *to = from;
        }
    }
    // out WRONG; hlt
    code.extend([0xb0, WRONG, 0xe6, PORT, 0xf4]);
    code
}
