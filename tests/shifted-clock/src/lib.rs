//! Gives a machine process a clock that a test can set: the dynamic loader puts this library before all others (`LD_PRELOAD`), and the time
//! of day is the host's and as many nanoseconds more as the file says that `INLAY_SHIFTED_CLOCK` names, in 8 bytes in this machine's order.
//!
//! Only `inlay machine` has it: what that starts (QEMU, window processes) inherits the library, and has the host's time. The
//! file is mapped before the process is confined; after that there are no other system calls than those of the real function.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt as _;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

/// The mapped file; null where the clock is the host's.
static SHIFT: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());
const SECOND: i64 = 1_000_000_000;

// SAFETY: the loader calls what lies in this section, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    // Arguments are not known to the standard library yet in every C library.
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    if line.split(|byte| *byte == 0).nth(1) != Some(b"machine") {
        return;
    }
    let Some(file) = std::env::var_os("INLAY_SHIFTED_CLOCK") else { return };
    let Ok(file) = CString::new(file.into_vec()) else { return };
    // SAFETY: plain calls with a valid string; a mapping of its own, which stays for the life of the process.
    let mapped = unsafe {
        let fd = libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let mapped =
            libc::mmap(ptr::null_mut(), size_of::<AtomicI64>(), libc::PROT_READ, libc::MAP_SHARED, fd, 0);
        libc::close(fd);
        mapped
    };
    if mapped == libc::MAP_FAILED {
        eprintln!("the clock stays the host's: {}", std::io::Error::last_os_error());
        return;
    }
    SHIFT.store(mapped.cast(), Ordering::Release);
}

/// `clock_gettime(2)` with another time of day.
///
/// # Safety
/// As the function that it stands for: `time` is valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's arguments.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    // SAFETY: null, or the mapping, which is as large and never goes.
    let shift = unsafe { SHIFT.load(Ordering::Acquire).as_ref() };
    if result == 0
        && clock == libc::CLOCK_REALTIME
        && let Some(shift) = shift
    {
        let by = shift.load(Ordering::Acquire);
        // SAFETY: the system just wrote it.
        let time = unsafe { &mut *time };
        let nanos = time.tv_nsec + by.rem_euclid(SECOND);
        time.tv_sec += by.div_euclid(SECOND) + nanos / SECOND;
        time.tv_nsec = nanos % SECOND;
    }
    if result == 0 { 0 } else { -1 }
}
