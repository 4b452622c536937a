//! Starting a program as the guest user: environment, session, terminal, and why it could not be started.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inlay_protocol::control::{LaunchError, Program, TerminalSize};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::agent::Settings;
use crate::{links, locale};

/// `PATH` where the agent has none.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

/// Where a program's input comes from and its output goes to.
pub enum Channels {
    /// Nothing, and the agent's log.
    Log,
    /// Pipes.
    Pipes,
    /// A terminal of this size.
    Terminal(TerminalSize),
}

/// A program that runs.
#[derive(Debug)]
pub struct Spawned {
    /// Its process, which leads a session and a process group of its own.
    pub pid: Pid,
    /// Write end of its standard input; the terminal where it has one.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output; the terminal where it has one.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// Limits of the agent's own that its children must not inherit.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    files: Rlimit,
}

impl Inherited {
    /// Raises the agent's limit of open files (a surface has several), and remembers what it was.
    pub fn raise() -> Self {
        let files = rustix::process::getrlimit(Resource::Nofile);
        let raised = Rlimit { current: files.maximum, maximum: files.maximum };
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        Self { files }
    }
}

/// Makes descriptors that the agent itself was started with close when it starts a program. Its own always do.
pub fn keep_descriptors() {
    const CLOSE_ON_EXEC: libc::c_uint = 4;
    // SAFETY: close_range with plain numbers; with this flag it closes nothing here. Old kernels have no such call: there a
    // descriptor of the agent's parent may reach programs, which is harmless.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC) };
}

/// Starts a program.
///
/// # Errors
/// Why it could not be started, as exactly as the system tells.
pub fn spawn(
    settings: &Settings,
    inherited: Inherited,
    program: &Program,
    channels: &Channels,
) -> Result<Spawned, LaunchError> {
    let name = program.argv.first().cloned().unwrap_or_default();
    let directory = directory(program)?;
    let path = find(&name, &directory, search_path(program).as_bytes())?;
    let mut command = Command::new(&path);
    command.arg0(&name).args(program.argv.iter().skip(1)).current_dir(&directory);
    environment(&mut command, settings);
    command.envs(program.env.iter().map(|(key, value)| (key, value)));
    let other = |error: io::Error| LaunchError::Other(format!("{name}: {error}"));
    let terminal = match channels {
        Channels::Terminal(size) => Some(terminal(&mut command, *size).map_err(other)?),
        Channels::Pipes => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
        Channels::Log => {
            let log = io::stderr();
            let log = std::os::fd::AsFd::as_fd(&log).try_clone_to_owned().map_err(other)?;
            command.stdin(Stdio::null()).stdout(log);
            None
        }
    };
    own_session(&mut command, inherited, terminal.is_some());
    let mut child = command.spawn().map_err(|error| match error.raw_os_error() {
        // The file is there (`find` saw it), so its interpreter is not.
        Some(libc::ENOENT) => LaunchError::Other(format!("{}: its interpreter is missing", path.display())),
        Some(libc::EACCES | libc::ENOEXEC) => LaunchError::NotExecutable(path.display().to_string()),
        _ => other(error),
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| LaunchError::Other(format!("{name}: no process id")))?;
    let mut spawned = Spawned {
        pid,
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    };
    if let Some(terminal) = terminal {
        spawned.stdin = Some(terminal.try_clone().map_err(other)?);
        spawned.stdout = Some(terminal);
    }
    for fd in [&spawned.stdin, &spawned.stdout, &spawned.stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true).map_err(|error| other(error.into()))?;
    }
    Ok(spawned)
}

/// The working directory, entered for sure.
fn directory(program: &Program) -> Result<PathBuf, LaunchError> {
    let directory = match &program.directory {
        Some(directory) => PathBuf::from(directory),
        None => std::env::var_os("HOME").map(PathBuf::from).filter(|d| d.is_dir()).unwrap_or("/".into()),
    };
    let accessible = rustix::fs::access(&directory, rustix::fs::Access::EXEC_OK).is_ok();
    if directory.is_dir() && accessible {
        Ok(directory)
    } else {
        Err(LaunchError::Directory(directory.display().to_string()))
    }
}

fn search_path(program: &Program) -> OsString {
    let given = program.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.into());
    given.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into())
}

/// Whether apps would find this program.
pub fn is_there(name: &str) -> bool {
    let program = Program::default();
    let place = directory(&program);
    place.and_then(|place| find(name, &place, search_path(&program).as_bytes())).is_ok()
}

/// The file of a program, as execvp(3) would find it.
fn find(name: &str, directory: &Path, path: &[u8]) -> Result<PathBuf, LaunchError> {
    let executable = |file: &Path| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
            && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if name.contains('/') {
        let file = directory.join(name);
        return match file.metadata() {
            Ok(_) if executable(&file) => Ok(file),
            Ok(_) => Err(LaunchError::NotExecutable(name.into())),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(LaunchError::NotExecutable(name.into()))
            }
            Err(_) => Err(LaunchError::NotFound(name.into())),
        };
    }
    let mut seen = false;
    for entry in path.split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        let entry = if entry.is_empty() { b"." } else { entry };
        let file = directory.join(std::ffi::OsStr::from_bytes(entry)).join(name);
        if executable(&file) {
            return Ok(file);
        }
        seen |= file.is_file();
    }
    Err(if seen { LaunchError::NotExecutable(name.into()) } else { LaunchError::NotFound(name.into()) })
}

/// The session that apps find themselves in.
fn environment(command: &mut Command, settings: &Settings) {
    command
        .env("WAYLAND_DISPLAY", &settings.wayland_display)
        .env("XDG_RUNTIME_DIR", &settings.runtime_dir)
        .env("XDG_SESSION_TYPE", "wayland")
        // Wayland first; apps that know only X11 find it too.
        .env("GDK_BACKEND", "wayland,x11")
        .env("QT_QPA_PLATFORM", "wayland;xcb")
        .env("SDL_VIDEODRIVER", "wayland,x11")
        .env("MOZ_ENABLE_WAYLAND", "1")
        .env("ELECTRON_OZONE_PLATFORM_HINT", "auto")
        // Java waits for a frame around its windows otherwise, and draws nothing.
        .env("_JAVA_AWT_WM_NONREPARENTING", "1")
        .env_remove("DISPLAY")
        .env_remove("XAUTHORITY")
        .env_remove("WAYLAND_SOCKET")
        .env_remove("INLAY_LOG")
        .env_remove("NOTIFY_SOCKET");
    command.envs(locale::variables(&settings.locale));
    if settings.share.is_some() {
        command.envs(links::folders(settings.share.as_ref()));
    }
    if let Some((display, authority)) = &settings.x11 {
        command.env("DISPLAY", display).env("XAUTHORITY", authority);
    }
}

/// A new terminal as the program's input and output; returns the agent's end.
fn terminal(command: &mut Command, size: TerminalSize) -> io::Result<OwnedFd> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    resize(&ours, size)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let theirs = rustix::fs::open(&name, flags, rustix::fs::Mode::empty())?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    command.env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "xterm-256color".into()));
    Ok(ours)
}

/// Gives a terminal another size.
///
/// # Errors
/// When it is no terminal any more.
pub fn resize(terminal: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Puts the program into a session of its own, without the agent's privileges and limits. The standard library already resets
/// the signal mask and SIGPIPE; all descriptors of the agent are close-on-exec.
fn own_session(command: &mut Command, inherited: Inherited, terminal: bool) {
    const CAP_AMBIENT: libc::c_int = 47;
    const CAP_AMBIENT_CLEAR_ALL: libc::c_ulong = 4;
    let prepare = move || -> io::Result<()> {
        rustix::process::setsid()?;
        if terminal {
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
        }
        // SAFETY: prctl with plain numbers. Fails only on kernels without ambient capabilities, which give none.
        unsafe { libc::prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        rustix::process::setrlimit(Resource::Nofile, inherited.files)?;
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // Whoever started the agent may have ignored them (nohup): a program would, too.
            // SAFETY: the default action is no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: `prepare` makes system calls only: it neither allocates nor takes locks.
    unsafe { command.pre_exec(prepare) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_the_reason_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "x").unwrap();
        let path = format!("{}:/bin", dir.path().display());
        let find = |name: &str| find(name, dir.path(), path.as_bytes());
        assert_eq!(find("sh"), Ok("/bin/sh".into()));
        assert_eq!(find("no-such-program"), Err(LaunchError::NotFound("no-such-program".into())));
        assert_eq!(find("plain"), Err(LaunchError::NotExecutable("plain".into())));
        assert_eq!(find("./plain"), Err(LaunchError::NotExecutable("./plain".into())));
        assert_eq!(find("./none"), Err(LaunchError::NotFound("./none".into())));
        assert_eq!(find("/bin"), Err(LaunchError::NotExecutable("/bin".into())));
        assert_eq!(find(""), Err(LaunchError::NotFound(String::new())));
    }

    #[test]
    fn a_missing_directory_is_told() {
        let program = Program { directory: Some("/no/such".into()), ..Program::default() };
        assert_eq!(directory(&program), Err(LaunchError::Directory("/no/such".into())));
    }
}
