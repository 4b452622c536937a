//! A desktop that ends sends SIGTERM to each process of a machine, not to the one alone that switches the guest off in order.

use std::io;

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and in what it executes: what the machine process started ends when that
/// says so, or with it. Makes system calls only, so it may be called between `fork` and `exec`.
///
/// # Errors
/// The kernel refuses it.
pub fn block_end_signals() -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` makes the set valid before it is used; no other memory is touched.
    let done = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
