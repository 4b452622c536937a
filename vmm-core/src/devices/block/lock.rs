//! Locks on image files, the same as QEMU's, so that no two machines of either engine use one image.
//!
//! QEMU takes shared locks on single bytes, one per right: those it uses from 100 on, those it denies others from 200 on; and
//! looks whether somebody denies what it uses or uses what it denies.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

const USED: i64 = 100;
const DENIED: i64 = 200;
/// The rights by their bit: read what is consistent, write, resize.
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Takes the locks for as long as the file is open. `false` when somebody else has the image.
///
/// # Errors
/// The file cannot be locked.
pub fn take(file: &File, read_only: bool) -> io::Result<bool> {
    let used: &[i64] = if read_only { &[READ] } else { &[READ, WRITE] };
    let denied = [WRITE, RESIZE];
    let ours = used.iter().map(|right| USED + right).chain(denied.map(|right| DENIED + right));
    for byte in ours {
        if !lock(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte)? {
            return Ok(false);
        }
    }
    let theirs = used.iter().map(|right| DENIED + right).chain(denied.map(|right| USED + right));
    for byte in theirs {
        if !lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(file: &File, command: i32, kind: i32, byte: i64) -> io::Result<bool> {
    let short = |value: i32| libc::c_short::try_from(value).unwrap_or(0);
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = short(kind);
    range.l_whence = short(libc::SEEK_SET);
    range.l_start = byte;
    range.l_len = 1;
    // SAFETY: the descriptor is open, and the structure is this frame's.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) };
    if answer == 0 {
        return Ok(command != libc::F_OFD_GETLK || range.l_type == short(libc::F_UNLCK));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}
