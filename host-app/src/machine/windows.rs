//! The window process of a machine: started when there is somewhere to show windows, started again when it dies.
//!
//! ```text
//!            show()                    died                 wait over
//!   nothing --------> running --------------------> waiting ---------> running
//!                        ^   five quick deaths: given up |
//!                        '------------- show() ----------'
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::api::Display;
use crate::config::Border;
use crate::process;

/// A process that lived shorter died quickly.
const QUICK: Duration = Duration::from_secs(10);
/// So many quick deaths in a row are enough.
const GIVE_UP: u32 = 5;

/// Where and as whom a window process runs.
#[derive(Debug, Clone)]
pub struct WindowCommand {
    /// The program: `inlay` itself.
    pub program: PathBuf,
    /// The machine's name, or `local`.
    pub label: String,
    /// The folder of its sockets.
    pub runtime: PathBuf,
    /// Whether buffers are memory descriptors: no memory channel.
    pub local: bool,
    /// The colour (red, green, blue) of the border around the guest's windows, if they have one.
    pub border: Option<[u8; 3]>,
    /// Whether the machine has an item in the desktop's tray.
    pub tray: bool,
    /// What it says goes there.
    pub log: PathBuf,
}

impl WindowCommand {
    /// The border as programs of ours take it.
    #[must_use]
    pub fn border_argument(&self) -> Option<String> {
        self.border.map(|colour| format!("--border={}", Border::Colour(colour)))
    }

    /// Starts it; it dies with the calling thread, which must be the main one.
    ///
    /// # Errors
    /// The log cannot be opened or the program not started.
    pub fn spawn(&self, display: &Display) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("windows").arg(&self.label).arg("--runtime").arg(&self.runtime);
        if self.local {
            command.arg("--local");
        }
        command.args(self.border_argument());
        if self.tray {
            command.arg("--tray");
        }
        match display {
            Display::Headless => {
                command.arg("--headless");
            }
            Display::Host(variables) => {
                for name in Display::variables() {
                    command.env_remove(name);
                }
                command.envs(variables.iter().map(|(name, value)| (name, value)));
            }
            Display::Any => {}
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        process::die_with_this_thread(process::in_own_session(&mut command)).spawn()
    }
}

/// Starts one window process at a time and knows how it ended.
pub trait Starter: std::fmt::Debug + Send {
    /// Starts it; its process id, and a descriptor that is readable at its end.
    ///
    /// # Errors
    /// It cannot be started.
    fn start(&mut self, display: &Display) -> io::Result<(u32, OwnedFd)>;

    /// How it ended, if it did.
    fn ended(&mut self) -> Option<String>;

    /// Ends it.
    fn end(&mut self);

    /// Has the host's menus show the guest's apps as they are now.
    fn menus_changed(&mut self);
}

/// Starts it as a child of this process.
#[derive(Debug)]
pub struct Direct {
    command: WindowCommand,
    child: Option<Child>,
}

impl Direct {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(command: WindowCommand) -> Self {
        Self { command, child: None }
    }
}

impl Starter for Direct {
    fn start(&mut self, display: &Display) -> io::Result<(u32, OwnedFd)> {
        self.end();
        let child = self.child.insert(self.command.spawn(display)?);
        match process::pidfd(child) {
            Ok(pidfd) => Ok((child.id(), pidfd)),
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn menus_changed(&mut self) {
        if let Err(error) = spawn_menus(&self.command) {
            tracing::warn!(%error, "the host's menus do not show the guest's apps");
        }
    }
}

/// The process that makes menus anew; nobody waits for it.
pub(super) fn spawn_menus(command: &WindowCommand) -> io::Result<()> {
    let mut menus = Command::new(&command.program);
    menus.args(["dock", "refresh"]).arg(&command.label).stdin(Stdio::null()).stdout(Stdio::null());
    menus.stderr(File::options().create(true).append(true).open(&command.log)?);
    let mut child = process::in_own_session(&mut menus).spawn()?;
    std::thread::Builder::new().name("menus".into()).spawn(move || child.wait())?;
    Ok(())
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
struct Running {
    pid: u32,
    pidfd: OwnedFd,
    since: Instant,
}

/// Keeps the window process alive.
#[derive(Debug)]
pub struct WindowProcess {
    starter: Box<dyn Starter>,
    log: PathBuf,
    wanted: Option<Display>,
    running: Option<Running>,
    retry: Option<Instant>,
    quick_deaths: u32,
    failed: Option<String>,
}

impl WindowProcess {
    /// Starts nothing yet. What the process says goes to `log`.
    #[must_use]
    pub fn new(starter: Box<dyn Starter>, log: PathBuf) -> Self {
        Self { starter, log, wanted: None, running: None, retry: None, quick_deaths: 0, failed: None }
    }

    /// Shows windows there from now on. What runs on a screen stays there; what runs without one moves to a screen.
    ///
    /// # Errors
    /// There is nowhere to show windows ([`Display::Any`] and none are shown).
    pub fn show(&mut self, display: &Display) -> Result<(), NoDisplay> {
        match (display, &self.wanted) {
            (Display::Any, None) => return Err(NoDisplay),
            (Display::Any, Some(_)) => {}
            (Display::Host(_), Some(Display::Headless)) => self.end(),
            _ if self.running.is_some() => return Ok(()),
            _ => {}
        }
        if *display != Display::Any {
            self.wanted = Some(display.clone());
        }
        if self.running.is_none() {
            self.quick_deaths = 0;
            self.start();
        }
        Ok(())
    }

    /// Process that shows windows.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Whether it shows windows on a screen, where a user sees them.
    #[must_use]
    pub fn on_desktop(&self) -> bool {
        self.running.is_some() && matches!(self.wanted, Some(Display::Host(_)))
    }

    /// Why windows are not shown, when they should be.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// What to wait for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.pidfd.as_fd())
    }

    /// When to look again though nothing came.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    /// Notices its end, and starts it again when the wait is over.
    pub fn turn(&mut self) {
        if let Some(running) = &self.running
            && is_over(&running.pidfd)
            && let Some(status) = self.starter.ended()
        {
            let lived = running.since.elapsed();
            self.running = None;
            self.died(&format!("the window process ended ({status})"), lived);
        }
        if self.retry.is_some_and(|retry| retry <= Instant::now()) {
            self.start();
        }
    }

    /// The guest's apps are others than before.
    pub fn menus_changed(&mut self) {
        self.starter.menus_changed();
    }

    /// Ends it for good.
    pub fn end(&mut self) {
        self.wanted = None;
        self.retry = None;
        if self.running.take().is_some() {
            self.starter.end();
        }
    }

    fn start(&mut self) {
        self.retry = None;
        let Some(display) = &self.wanted else { return };
        match self.starter.start(display) {
            Ok((pid, pidfd)) => {
                tracing::info!(pid, "the window process starts");
                self.failed = None;
                self.running = Some(Running { pid, pidfd, since: Instant::now() });
            }
            Err(error) => {
                self.died(&format!("the window process cannot be started: {error}"), Duration::ZERO)
            }
        }
    }

    fn died(&mut self, what: &str, lived: Duration) {
        // Its own words, if it had last ones; what it logged before is no reason.
        let words = process::last_line(&self.log);
        let words = words.as_deref().and_then(|line| line.strip_prefix("inlay: "));
        let why = words.map_or_else(|| what.to_owned(), |words| format!("{what}: {words}"));
        self.quick_deaths = if lived < QUICK { self.quick_deaths + 1 } else { 1 };
        if self.quick_deaths >= GIVE_UP {
            tracing::error!("{why}; it is not started again");
            self.failed = Some(why);
            return;
        }
        // At once the first time, then 0.4 s, 0.8 s, 1.6 s.
        let wait = match self.quick_deaths {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(200 << (n - 1)),
        };
        tracing::warn!(again_in = ?wait, "{why}");
        self.retry = Some(Instant::now() + wait);
    }
}

impl Drop for WindowProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the process of this descriptor has ended.
fn is_over(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|count| count > 0)
}

/// There is nowhere to show windows.
#[derive(Debug, thiserror::Error)]
#[error("there is no display to show windows on: set WAYLAND_DISPLAY or DISPLAY, or use --headless")]
pub struct NoDisplay;

/// The log of a machine's window process.
#[must_use]
pub fn log(data: &Path) -> PathBuf {
    data.join("windows.log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn with_script(text: &str) -> (tempfile::TempDir, WindowProcess) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("windows");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let command = WindowCommand {
            program,
            label: "m".into(),
            runtime: folder.path().into(),
            local: false,
            border: None,
            tray: false,
            log: folder.path().join("log"),
        };
        let log = command.log.clone();
        (folder, WindowProcess::new(Box::new(Direct::new(command)), log))
    }

    fn until(process: &mut WindowProcess, what: impl Fn(&WindowProcess) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what(process) {
            assert!(Instant::now() < end, "{process:?}");
            std::thread::sleep(Duration::from_millis(5));
            process.turn();
        }
    }

    #[test]
    fn started_again_when_it_dies() {
        let (_folder, mut process) = with_script("exec sleep 60");
        assert!(process.show(&Display::Any).is_err());
        process.show(&Display::Headless).unwrap();
        let first = process.pid().unwrap();
        process.show(&Display::Headless).unwrap();
        assert_eq!(process.pid(), Some(first), "it runs already");
        let pid = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        until(&mut process, |p| p.pid().is_some_and(|pid| pid != first));
        let second = process.pid().unwrap();
        process.show(&Display::Host(vec![("DISPLAY".into(), ":7".into())])).unwrap();
        let third = process.pid().unwrap();
        assert_ne!(third, second, "it moves to a screen");
        process.show(&Display::Any).unwrap();
        assert_eq!(process.pid(), Some(third));
        process.end();
        assert!(!Path::new(&format!("/proc/{third}")).exists());
    }

    #[test]
    fn given_up_with_the_reason() {
        let (_folder, mut process) = with_script("echo \"inlay: no display :9\" >&2; exit 3");
        process.show(&Display::Headless).unwrap();
        until(&mut process, |p| p.failed().is_some());
        let why = process.failed().unwrap();
        assert!(why.ends_with("(exit status: 3): no display :9"), "{why}");
        assert!(process.deadline().is_none());
        process.show(&Display::Any).unwrap();
        assert!(process.pid().is_some(), "a new wish is a new try");
    }
}
