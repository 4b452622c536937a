//! Keeps the threads that the guest speaks to from what they have no business with: a list of system calls for each kind of
//! thread (seccomp-bpf). Whatever else one of them tries ends the process, with the call's name on standard error.
//!
//! What files the whole process can reach is up to the program that this library is part of.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use syscalls::Sysno;

/// The process ends with this status when a thread broke its rules (what a shell says of SIGSYS).
pub const STATUS: i32 = 128 + libc::SIGSYS;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Runs a virtual processor.
    Processor,
    /// Serves a device.
    Device,
    /// Serves files, in a jail that has nothing but them.
    Files,
}

/// What every thread needs: memory, locks, its end, time, a line in the log.
const ALL: &[Sysno] = &[
    Sysno::brk,
    Sysno::clock_gettime,
    Sysno::clock_nanosleep,
    Sysno::close,
    Sysno::exit,
    Sysno::exit_group,
    Sysno::futex,
    Sysno::getpid,
    Sysno::getrandom,
    Sysno::gettid,
    Sysno::madvise,
    Sysno::mremap,
    Sysno::munmap,
    Sysno::nanosleep,
    Sysno::read,
    Sysno::restart_syscall,
    Sysno::rseq,
    Sysno::rt_sigprocmask,
    Sysno::rt_sigreturn,
    Sysno::sched_yield,
    Sysno::set_robust_list,
    Sysno::sigaltstack,
    Sysno::write,
];

/// The kick of a processor, copies of doorbells' descriptors, and the serial log, which begins a new file now and then.
const PROCESSOR: &[Sysno] = &[Sysno::fcntl, Sysno::openat, Sysno::rename, Sysno::rt_sigtimedwait];

/// Files that are open already, sockets of this machine (whose files go with a device), and waiting for them.
const DEVICE: &[Sysno] = &[
    Sysno::accept4,
    Sysno::connect,
    Sysno::epoll_create1,
    Sysno::epoll_ctl,
    Sysno::epoll_pwait,
    Sysno::epoll_wait,
    Sysno::fallocate,
    Sysno::fcntl,
    Sysno::fdatasync,
    Sysno::fstat,
    Sysno::fsync,
    Sysno::ftruncate,
    Sysno::getsockname,
    Sysno::getsockopt,
    Sysno::lseek,
    Sysno::poll,
    Sysno::ppoll,
    Sysno::pread64,
    Sysno::preadv,
    Sysno::pwrite64,
    Sysno::pwritev,
    Sysno::readv,
    Sysno::recvfrom,
    Sysno::recvmsg,
    Sysno::sendmsg,
    Sysno::sendto,
    Sysno::setsockopt,
    Sysno::shutdown,
    Sysno::statx,
    Sysno::unlink,
    Sysno::writev,
];

/// Files that are held by descriptors, whatever is done with them; and nothing that makes a descriptor of another kind, but for
/// the sockets that are open already.
const FILES: &[Sysno] = &[
    Sysno::accept4,
    Sysno::chmod,
    Sysno::copy_file_range,
    Sysno::dup,
    Sysno::epoll_ctl,
    Sysno::epoll_pwait,
    Sysno::epoll_wait,
    Sysno::fallocate,
    Sysno::fchmodat,
    Sysno::fcntl,
    Sysno::fdatasync,
    Sysno::fgetxattr,
    Sysno::flistxattr,
    Sysno::fremovexattr,
    Sysno::fsetxattr,
    Sysno::fstat,
    Sysno::fstatfs,
    Sysno::fsync,
    Sysno::ftruncate,
    Sysno::getdents64,
    Sysno::getsockopt,
    Sysno::linkat,
    Sysno::lseek,
    Sysno::mkdirat,
    Sysno::mknodat,
    Sysno::open,
    Sysno::openat,
    Sysno::openat2,
    Sysno::poll,
    Sysno::ppoll,
    Sysno::preadv,
    Sysno::pwritev,
    Sysno::readlink,
    Sysno::readlinkat,
    Sysno::recvfrom,
    Sysno::recvmsg,
    Sysno::renameat2,
    Sysno::sendmsg,
    Sysno::sendto,
    Sysno::shutdown,
    Sysno::statx,
    Sysno::symlinkat,
    Sysno::syncfs,
    Sysno::unlinkat,
    Sysno::utimensat,
    Sysno::writev,
];

/// Requests of KVM (`KVMIO`): in the second byte.
const KVM_REQUESTS: u64 = 0xae << 8;

/// Binds the calling thread, for good. The first call says what becomes of breaches: from then on SIGSYS is this module's.
///
/// # Errors
/// The kernel refuses; the thread is free then.
pub fn confine(thread: Thread) -> io::Result<()> {
    static PROCESSORS: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    static DEVICES: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    static FILE_SERVERS: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    let program = match thread {
        Thread::Processor => &PROCESSORS,
        Thread::Device => &DEVICES,
        Thread::Files => &FILE_SERVERS,
    };
    let program = program.get_or_init(|| compile(thread).map_err(|error| error.to_string()));
    let program = program.as_ref().map_err(|error| io::Error::other(error.clone()))?;
    tell_breaches()?;
    prepare();
    KIND.set(match thread {
        Thread::Processor => "a processor's thread",
        Thread::Device => "a device's thread",
        Thread::Files => "the file server",
    });
    seccompiler::apply_filter(program).map_err(io::Error::other)
}

/// Has libraries look up now what they look up at their first use, which no confined thread or process may: rustix reads the
/// auxiliary vector, on older kernels from `/proc`.
pub fn prepare() {
    let _ = (rustix::param::page_size(), rustix::time::clock_gettime(rustix::time::ClockId::Monotonic));
}

/// [`confine`]s the calling thread; where the kernel refuses, that is logged, and the thread runs on free.
pub fn here(thread: Thread) {
    if let Err(error) = confine(thread) {
        tracing::warn!(%error, ?thread, "a thread cannot be confined");
    }
}

fn compile(thread: Thread) -> Result<BpfProgram, seccompiler::BackendError> {
    let own = match thread {
        Thread::Processor => PROCESSOR,
        Thread::Device => DEVICE,
        Thread::Files => FILES,
    };
    let free = ALL.iter().chain(own).map(|call| (i64::from(call.id()), Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = free.collect();
    // Nothing becomes code.
    for call in [Sysno::mmap, Sysno::mprotect] {
        rules.insert(call.id().into(), vec![masked(2, libc::PROT_EXEC as u64, 0)?]);
    }
    let mut requests = Vec::new();
    if thread != Thread::Files {
        requests.push(masked(1, 0xff00, KVM_REQUESTS)?);
    }
    if thread != Thread::Processor {
        requests.push(masked(1, u64::MAX, libc::FIONBIO)?);
    }
    rules.insert(Sysno::ioctl.id().into(), requests);
    // Memory, made and sealed, that the guest's resources lie in; sockets within this system only.
    if thread == Thread::Device {
        rules.insert(Sysno::socket.id().into(), vec![masked(0, u64::MAX, libc::AF_UNIX as u64)?]);
    }
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Argument number `index` has `value` in the bits of `mask`.
fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition =
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)?;
    SeccompRule::new(vec![condition])
}

thread_local! {
    /// Who speaks in [`breach`]. Without a destructor, so that a signal handler may read it.
    static KIND: Cell<&'static str> = const { Cell::new("a thread") };
}

/// Has SIGSYS tell what was tried.
fn tell_breaches() -> io::Result<()> {
    static DONE: OnceLock<Result<(), i32>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        // SAFETY: the structure is plain data, filled here; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = breach as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            match libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            }
        }
    });
    done.map_err(io::Error::from_raw_os_error)
}

/// The beginning of `siginfo_t` as SIGSYS fills it (sigaction(2)).
#[repr(C)]
struct Breach {
    signal: i32,
    error: i32,
    code: i32,
    call_address: *const libc::c_void,
    call: i32,
    arch: u32,
}

/// Only what a signal handler may do: no memory is taken, no lock.
extern "C" fn breach(_signal: i32, info: *const Breach, _context: *const libc::c_void) {
    // SAFETY: the kernel gives a siginfo_t, whose beginning this is.
    let call = unsafe { info.as_ref() }.map_or(-1, |info| info.call);
    let name = usize::try_from(call).ok().and_then(Sysno::new).map_or("(unknown)", |call| call.name());
    let mut digits = [b'0'; 10];
    let mut left = u32::try_from(call).unwrap_or(0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
    }
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len() - 1);
    let number = digits.get(first..).unwrap_or_default();
    let words: [&[u8]; 6] = [
        KIND.get().as_bytes(),
        b" made the system call ",
        name.as_bytes(),
        b" (",
        number,
        b"), which it must not; this process ends\n",
    ];
    for part in words {
        // SAFETY: the bytes are valid; a handler may write.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(STATUS) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Output};

    /// Runs `test` again, alone, as a process of its own in which `INLAY_CONFINED` says what to do.
    fn again(test: &str, what: &str) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("INLAY_CONFINED", what);
        command.output().unwrap()
    }

    #[test]
    fn breaches_are_named_and_end_the_process() {
        const NAME: &str = "confine::tests::breaches_are_named_and_end_the_process";
        if let Ok(what) = std::env::var("INLAY_CONFINED") {
            let thread = match what.as_str() {
                "chroot" => Thread::Processor,
                "unshare" | "mount" => Thread::Files,
                _ => Thread::Device,
            };
            confine(thread).unwrap();
            // SAFETY: calls without any effect when they are let through: their arguments are invalid.
            unsafe {
                match what.as_str() {
                    "chroot" => libc::chroot(std::ptr::null()),
                    "execve" => libc::execve(std::ptr::null(), std::ptr::null(), std::ptr::null()),
                    "openat" => libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY),
                    "socket" => libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0),
                    "ioctl" => libc::ioctl(0, libc::TIOCSTI, 0),
                    "unshare" => libc::unshare(-1),
                    "mount" => {
                        libc::mount(std::ptr::null(), std::ptr::null(), std::ptr::null(), 0, std::ptr::null())
                    }
                    _ => libc::mprotect(std::ptr::null_mut(), 0, libc::PROT_EXEC),
                };
            }
            println!("let through");
            return;
        }
        for what in ["chroot", "execve", "openat", "socket", "ioctl", "mprotect", "unshare", "mount"] {
            let output = again(NAME, what);
            assert_eq!(output.status.code(), Some(STATUS), "{what}: {output:?}");
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let kind = match what {
                "chroot" => "a processor's thread",
                "unshare" | "mount" => "the file server",
                _ => "a device's thread",
            };
            assert!(words.contains(&format!("{kind} made the system call {what} (")), "{words}");
        }
    }

    #[test]
    fn a_confined_thread_does_its_work() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            confine(Thread::Device).unwrap();
            let mut bytes = vec![0; 4];
            io::Read::read_exact(&mut there, &mut bytes).unwrap();
            // Much memory, so that some is mapped.
            let many = vec![bytes; 1 << 20];
            io::Write::write_all(&mut there, &many[(1 << 20) - 1]).unwrap();
        });
        io::Write::write_all(&mut here, b"work").unwrap();
        let mut bytes = [0; 4];
        io::Read::read_exact(&mut here, &mut bytes).unwrap();
        assert_eq!(&bytes, b"work");
        thread.join().unwrap();
    }
}
