//! The jail around a file server: a file system of its own with nothing in it, no network, no right, and whatever is shared as mounts
//! that have no place in any file system.
//!
//! ```text
//!  1. Namespaces::enter   a user namespace of its own, and copies of the mounts
//!  2. Namespaces::hold    a folder becomes a detached mount: `..` ends at it, and the kernel holds it read-only where it is to be
//!  3. Namespaces::close   all other mounts are gone, with the rights to make new ones
//! ```
//!
//! Whoever brings further folders does 1 and 2 in a process of its own and passes the descriptor. A process that does this must have one
//! thread only. Mounts are held by their descriptors: when the last is closed, the mount ends.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

/// Why a jail cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The system lets no user make namespaces.
    #[error(
        "this system lets users make no namespaces, which shared folders need: allow them with \
         `sysctl kernel.unprivileged_userns_clone=1` (Debian), `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu) \
         or `sysctl user.max_user_namespaces=10000`"
    )]
    Namespaces(#[source] io::Error),
    /// A step of it.
    #[error("cannot make the jail of the file server ({act})")]
    Step {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// What is to be shared.
    #[error("cannot share {path}")]
    Share {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn step<E: Into<io::Error>>(act: &'static str) -> impl FnOnce(E) -> JailError {
    move |source| JailError::Step { act, source: source.into() }
}

/// Where the jail's own file system is built; every system has it.
const PLACE: &str = "/tmp";
/// Descriptors as paths, below [`PLACE`].
const DESCRIPTORS: [&str; 3] = ["proc", "proc/self", "proc/self/fd"];

/// The calling process is in namespaces of its own, in which it may mount.
#[derive(Debug)]
pub struct Namespaces(());

impl Namespaces {
    /// Enters them. The folders `hidden` are empty in whatever is shared from here.
    ///
    /// # Errors
    /// The system refuses; the process may be in some of them then, and should end.
    pub fn enter(hidden: &[PathBuf]) -> Result<Self, JailError> {
        // Looked up at their first use, on kernels before 6.4 in files of /proc that the jail has not.
        let _ = (rustix::param::page_size(), rustix::time::clock_gettime(rustix::time::ClockId::Monotonic));
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
        // SAFETY: the flags do not unshare descriptors, on which other code may rely.
        unsafe { rustix::thread::unshare_unsafe(flags) }
            .map_err(|error| JailError::Namespaces(error.into()))?;
        // Files show their owners, and what is made is the user's.
        write("setgroups", "deny")?;
        write("uid_map", format_args!("{user} {user} 1"))?;
        write("gid_map", format_args!("{group} {group} 1"))?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).map_err(step("cutting mounts off"))?;
        for path in hidden {
            if path.is_dir() {
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
                let hide = mount("inlay", path, "tmpfs", flags, c"size=4k,mode=555");
                hide.map_err(step("hiding the machines' own files"))?;
            }
        }
        Ok(Self(()))
    }

    /// A folder or file as a mount without a place. Symbolic links in it are never followed, its devices and set-user-id programs
    /// are none. `path` should be canonical.
    ///
    /// # Errors
    /// It is not there, or cannot be looked at.
    pub fn hold(&self, path: &Path, read_only: bool) -> Result<OwnedFd, JailError> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = flags | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        open_tree(CWD, path, flags)
            .map_err(io::Error::from)
            .and_then(|tree| restrict(&tree, read_only).map(|()| tree))
            .map_err(|source| JailError::Share { path: path.into(), source })
    }

    /// Leaves the system's files, and gives up all rights, for good.
    ///
    /// # Errors
    /// The system refuses; the process should end.
    pub fn close(self) -> Result<(), JailError> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let descriptors = open_tree(
            CWD,
            "/proc/self/fd",
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .map_err(step("descriptors as paths"))?;
        mount("inlay", PLACE, "tmpfs", flags, c"size=64k,mode=555").map_err(step("a file system"))?;
        let place = Path::new(PLACE);
        for folder in DESCRIPTORS {
            rustix::fs::mkdir(place.join(folder), Mode::from_raw_mode(0o555)).map_err(step("a folder"))?;
        }
        let [.., last] = DESCRIPTORS;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&descriptors, "", CWD, place.join(last), empty).map_err(step("descriptors as paths"))?;
        mount_remount(PLACE, flags | MountFlags::BIND | MountFlags::RDONLY, c"")
            .map_err(step("a file system"))?;
        rustix::process::chdir(PLACE).map_err(step("going there"))?;
        rustix::process::pivot_root(".", ".").map_err(step("a new root"))?;
        unmount(".", UnmountFlags::DETACH).map_err(step("leaving the old root"))?;
        rustix::process::chdir("/").map_err(step("going there"))?;
        // The guest's processes have masks of their own.
        rustix::process::umask(Mode::empty());
        rustix::thread::set_no_new_privs(true).map_err(step("giving up rights"))?;
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, none).map_err(step("giving up rights"))
    }
}

/// Has the process open as many descriptors as the system lets it, and tells how many.
#[must_use]
pub fn most_descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it is refused, the old limit holds.
    let _ = rustix::process::setrlimit(Resource::Nofile, wanted);
    let now = rustix::process::getrlimit(Resource::Nofile).current;
    now.map_or(1 << 20, |now| usize::try_from(now).unwrap_or(usize::MAX)).min(1 << 20)
}

fn write(file: &'static str, text: impl Display) -> Result<(), JailError> {
    std::fs::write(format!("/proc/self/{file}"), text.to_string()).map_err(step("a user of its own"))
}

/// `struct mount_attr` (`include/uapi/linux/mount.h`).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Takes from a mount, and all below it, what no guest needs.
fn restrict(tree: &OwnedFd, read_only: bool) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSYMFOLLOW;
    if read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let attr = MountAttr { set, ..MountAttr::default() };
    // SAFETY: the structure has the layout and size that are said, and outlives the call; the path is a string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this system lets its users have what the jail needs: tried in a process of its own by whoever asks.
///
/// # Errors
/// What is missing.
pub fn check() -> Result<(), JailError> {
    let namespaces = Namespaces::enter(&[])?;
    drop(namespaces.hold(Path::new("/"), true)?);
    namespaces.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::process::{Command, Output};

    use rustix::fs::OFlags;

    const INSIDE: &str = "INLAY_JAIL";

    /// Runs a test again, alone, as a process of its own, on its main thread's behalf.
    fn again(test: &str, folder: &Path) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, folder);
        command.output().unwrap()
    }

    /// What a process with one thread does: the test's own threads are not for namespaces.
    fn alone(work: impl FnOnce()) {
        // SAFETY: the child makes system calls and allocates, which is sound as its one other thread holds no lock of the allocator
        // while it waits for the test's end; it leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(failed)) };
        }
        let mut status = 0;
        // SAFETY: the child is this process's own.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "inside");
    }

    fn inside(folder: &Path) {
        let shared = folder.join("shared");
        let namespaces = Namespaces::enter(&[shared.join("own")]).unwrap();
        let writable = namespaces.hold(&shared, false).unwrap();
        let fixed = namespaces.hold(&shared, true).unwrap();
        let file = namespaces.hold(&folder.join("secret"), false).unwrap();
        assert!(matches!(namespaces.hold(&folder.join("none"), false), Err(JailError::Share { .. })));
        namespaces.close().unwrap();

        // Nothing of the system is left, not even by a way upwards.
        assert!(fs::read_dir("/").unwrap().all(|entry| entry.unwrap().file_name() == "proc"));
        for gone in ["/etc/passwd", "/proc/self/root", "/proc/1", "/proc/self/fd/../status"] {
            assert!(fs::metadata(gone).is_err(), "{gone}");
        }
        assert!(fs::write("/new", "x").is_err());
        assert!(
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", "127.0.0.1:9")).is_err()
        );
        // SAFETY: no flags that other code relies on; it is refused.
        assert!(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.is_err(), "no rights");
        let open = |tree: &OwnedFd, path: &str, flags: OFlags| {
            rustix::fs::openat(tree, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        };
        let top = rustix::fs::fstat(&writable).unwrap();
        let above = open(&writable, "../../../..", OFlags::PATH).unwrap();
        let above = rustix::fs::fstat(above).unwrap();
        assert_eq!((top.st_ino, top.st_dev), (above.st_ino, above.st_dev), "upwards is nothing");
        // Even if a link were followed, the kernel refuses.
        assert!(open(&writable, "link", OFlags::RDONLY).is_err());
        // What is shared works, under its own name and by its descriptor.
        let found = open(&writable, "file", OFlags::PATH).unwrap();
        assert_eq!(fs::read(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap(), b"shared");
        drop(open(&writable, "new", OFlags::CREATE | OFlags::WRONLY).unwrap());
        let refused = open(&fixed, "newer", OFlags::CREATE | OFlags::WRONLY).unwrap_err();
        assert_eq!(refused, rustix::io::Errno::ROFS);
        assert_eq!(fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap(), b"secret");
        // Inlay's own folders are empty.
        assert_eq!(open(&writable, "own/key", OFlags::PATH).unwrap_err(), rustix::io::Errno::NOENT);
    }

    #[test]
    fn nothing_but_what_is_shared_is_left() {
        if let Some(folder) = std::env::var_os(INSIDE) {
            return alone(|| inside(Path::new(&folder)));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::create_dir_all(path.join("shared/own")).unwrap();
        fs::write(path.join("shared/own/key"), "key").unwrap();
        fs::write(path.join("shared/file"), "shared").unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("file", path.join("shared/link")).unwrap();
        let output = again("jail::tests::nothing_but_what_is_shared_is_left", &path);
        assert!(output.status.success(), "{output:?}");
        assert!(path.join("shared/new").exists());
        assert_eq!(fs::read(path.join("shared/own/key")).unwrap(), b"key", "hidden for the guest only");
        let text = fs::metadata("/etc/passwd").map_err(|error| error.kind());
        assert_ne!(text.err(), Some(ErrorKind::PermissionDenied), "this process is as it was");
    }
}
