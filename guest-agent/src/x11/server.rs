//! Xwayland as a process: the display's socket, made by the agent and watched by it until the first X client comes; then the
//! server takes it over, and gives it back when it ends: some seconds after the last client, when the window manager leaves too.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;

/// Where X servers have their sockets and locks.
const SOCKETS: &str = "/tmp/.X11-unix";
/// Displays that are tried.
const DISPLAYS: std::ops::Range<u32> = 0..64;

/// The second line of an agent's lock.
const MARK: &str = "inlay";

/// An X display: its number, lock, socket and key.
#[derive(Debug)]
pub struct Display {
    number: u32,
    listener: UnixListener,
    authority: PathBuf,
    _claim: OwnedFd,
}

/// A server that was started.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub pid: Pid,
    /// The Wayland connection, to be inserted as a client.
    pub wayland: UnixStream,
    /// The X connection for the window manager.
    pub manager: UnixStream,
}

impl Display {
    /// Takes the first free display. `folder` is private to the user: the key of the display is put there.
    ///
    /// # Errors
    /// When no display is free, or files cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        match std::fs::DirBuilder::new().mode(0o1777).create(SOCKETS) {
            Ok(()) => std::fs::set_permissions(SOCKETS, PermissionsExt::from_mode(0o1777))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        DISPLAYS.for_each(remove_left_behind);
        for number in DISPLAYS {
            if !lock(number)? {
                continue;
            }
            let opened = claim(number).and_then(|claim| Self::with_lock(number, claim, folder));
            if opened.is_err() {
                // Nothing is there that would need it.
                let _ = std::fs::remove_file(lock_file(number));
            }
            match opened {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                opened => return opened,
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all X displays are taken"))
    }

    fn with_lock(number: u32, claim: OwnedFd, folder: &Path) -> io::Result<Self> {
        let path = socket(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Other users of this system have no business here.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let authority = folder.join(format!("inlay-xauthority-{number}"));
        write_authority(&authority)?;
        Ok(Self { number, listener, authority, _claim: claim })
    }

    /// Its name, for `DISPLAY`.
    #[must_use]
    pub fn name(&self) -> String {
        format!(":{}", self.number)
    }

    /// The file with its key, for `XAUTHORITY`.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// The socket, to be watched while no server has it.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Turns away the clients that wait: there is no server for them.
    pub fn turn_away(&self) {
        while let Ok((stream, _)) = self.listener.accept() {
            drop(stream);
        }
    }

    /// Starts the server; `runtime_dir` is its `XDG_RUNTIME_DIR`.
    ///
    /// # Errors
    /// When there is no Xwayland, or it cannot be started.
    pub fn start(&self, runtime_dir: &Path) -> io::Result<Started> {
        let (wayland, their_wayland) = UnixStream::pair()?;
        let (manager, their_manager) = UnixStream::pair()?;
        let listener = self.listener.as_fd().try_clone_to_owned()?;
        let number = |fd: &dyn AsRawFd| fd.as_raw_fd().to_string();
        let mut command = Command::new("Xwayland");
        command
            .arg(self.name())
            // Shared memory only: the windows are read by the processor anyway.
            .args(["-rootless", "-shm", "-terminate"])
            .args(["-listenfd", &number(&listener), "-wm", &number(&their_manager)])
            .arg("-auth")
            .arg(&self.authority)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| crate::spawn::DEFAULT_PATH.into()))
            .env("XDG_RUNTIME_DIR", runtime_dir)
            .env("WAYLAND_SOCKET", number(&their_wayland))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let handed: [OwnedFd; 3] = [listener, their_wayland.into(), their_manager.into()];
        let hand = move || -> io::Result<()> {
            for fd in &handed {
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: `hand` makes system calls only: it neither allocates nor takes locks.
        unsafe { command.pre_exec(hand) };
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        Ok(Started { pid, wayland, manager })
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        for path in [socket(self.number), lock_file(self.number), self.authority.clone()] {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "a file of the X display stays");
            }
        }
    }
}

/// Holds the abstract name of a display's socket, by which X servers that look for a free number know that this one is taken: they
/// heed no lock, and would replace the socket file. Nobody listens there: clients go on to the file, which is the user's alone.
fn claim(number: u32) -> io::Result<OwnedFd> {
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let path = socket(number);
    rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(path.as_os_str().as_bytes())?)?;
    Ok(fd)
}

fn socket(number: u32) -> PathBuf {
    Path::new(SOCKETS).join(format!("X{number}"))
}

fn lock_file(number: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/.X{number}-lock"))
}

/// Whether the holder of a display's lock is dead, and whether it was an agent.
fn holder(number: u32) -> (bool, bool) {
    let text = std::fs::read_to_string(lock_file(number)).unwrap_or_default();
    let pid = text.lines().next().and_then(|line| Pid::from_raw(line.trim().parse().ok()?));
    let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    (pid.is_some_and(gone), text.lines().nth(1) == Some(MARK))
}

/// Takes away what an agent that was killed left of its display.
fn remove_left_behind(number: u32) {
    if holder(number) == (true, true) {
        for path in [socket(number), lock_file(number)] {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "a file of a dead X display stays");
            }
        }
    }
}

/// Takes the lock of a display, also from a server that is dead; `false` when somebody has it.
fn lock(number: u32) -> io::Result<bool> {
    let path = lock_file(number);
    for _ in 0..2 {
        let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        match created {
            Ok(mut file) => {
                // X servers read the first line, of eleven bytes.
                write!(file, "{:>10}\n{MARK}\n", std::process::id())?;
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let (is_dead, _) = holder(number);
        // Somebody else's file may not be ours to remove: then the display is taken.
        if !is_dead || std::fs::remove_file(&path).is_err() {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Writes a new key in the form of Xau: family, address, display, name, data, each with its length (big endian).
fn write_authority(path: &Path) -> io::Result<()> {
    const ANY_ADDRESS: u16 = 0xffff;
    let mut cookie = [0; 16];
    let mut filled = 0;
    while filled < cookie.len() {
        filled += rustix::rand::getrandom(&mut cookie[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    let mut bytes = ANY_ADDRESS.to_be_bytes().to_vec();
    for field in [b"".as_slice(), b"", b"MIT-MAGIC-COOKIE-1", &cookie] {
        bytes.extend(u16::try_from(field.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(field);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&bytes)
}
