//! `inlay run --local APP`: the app on this kernel, through the agent and memory descriptors, without a machine.
//!
//! This process stands where the machine process stands otherwise: it holds the control session, the window process and
//! the agent. All three meet in a folder of their own, `local.PID`, that goes with them; one that a killed process left
//! behind is removed by the next.
//!
//! ```text
//!   agent connects -> Ready -> Launch -> Launched -> Exited: its status is ours
//!                                  '-> LaunchFailed
//! ```

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use inlay_protocol::control::{self, Program, Report};
use inlay_protocol::handshake::Capabilities;
use rustix::fs::FlockOperation;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::{ApiError, Display};
use crate::config::Border;
use crate::machine::Sockets;
use crate::machine::control::{AgentEvent, Control};
use crate::machine::wait::{earlier, wait};
use crate::machine::windows::{Direct, NoDisplay, WindowCommand, WindowProcess};
use crate::paths::Folders;
use crate::process;
use crate::signals::Signals;

/// How long the agent may take to start, and to end.
const AGENT_START: Duration = Duration::from_secs(20);
const AGENT_END: Duration = Duration::from_secs(3);
/// How long the app may take to end after a signal.
const APP_END: Duration = Duration::from_secs(3);
/// Beginning of the folders' names.
const PREFIX: &str = "local.";

/// Runs the app and gives its status, as a shell would.
///
/// # Errors
/// There is no display, agent or such program, or a part of Inlay ended.
pub fn run(folders: &Folders, argv: Vec<String>, display: &Display, border: Border) -> anyhow::Result<i32> {
    if *display == Display::Any {
        return Err(NoDisplay.into());
    }
    let agent_program = process::agent_binary()?;
    // Before anything is started: a signal from here on is answered by cleaning up.
    let signals = Signals::watch(&[SIGINT, SIGTERM, SIGHUP])?;
    process::adopt_orphans().context("the processes of apps cannot be watched")?;
    let folder = Folder::make(folders)?;
    let sockets = Sockets::new(&folder.path);
    let control =
        Control::open(&sockets.control(), Capabilities::MEMFD).context("cannot open the control socket")?;
    let log = folder.path.join("windows.log");
    let starter = Direct::new(WindowCommand {
        program: process::own_binary()?,
        label: "local".into(),
        runtime: folder.path.clone(),
        local: true,
        border: border.colour("local"),
        tray: false,
        log: log.clone(),
    });
    let mut windows = WindowProcess::new(Box::new(starter), log);
    windows.show(display)?;
    let agent = Agent::start(&agent_program, &folder.path)?;
    let until = Some(Instant::now() + AGENT_START);
    // Dropped in the order of its fields: the agent notices the end of its control session.
    Local { control, windows, agent, signals, app: App::Waits { argv }, until, signalled: None }.hold()
}

/// The folders of local runs that are alive.
#[must_use]
pub fn runs(folders: &Folders) -> Vec<PathBuf> {
    all(folders).into_iter().filter(|folder| !abandoned(folder)).collect()
}

fn all(folders: &Folders) -> Vec<PathBuf> {
    let entries = fs::read_dir(folders.runtime()).into_iter().flatten().flatten();
    let local = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    local.map(|entry| entry.path()).collect()
}

/// Whether the process that made it is gone.
fn abandoned(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// A private folder that goes when dropped.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn make(folders: &Folders) -> anyhow::Result<Self> {
        let base = folders.make_runtime()?;
        for old in all(folders).iter().filter(|folder| abandoned(folder)) {
            // Another new run may be removing it just now.
            let _ = fs::remove_dir_all(old);
        }
        let path = base.join(format!("{PREFIX}{}", std::process::id()));
        let failed = || format!("cannot make {}", path.display());
        // Under another name until it is locked: nobody takes it for an abandoned one.
        let new = base.join(format!("new-{PREFIX}{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&new).with_context(failed)?;
        let lock = File::create_new(new.join("lock")).with_context(failed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(failed)?;
        fs::rename(&new, &path).with_context(failed)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, folder = %self.path.display(), "cannot remove a folder");
        }
    }
}

/// The agent's process.
struct Agent {
    child: Child,
    pidfd: OwnedFd,
}

impl Agent {
    fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let sockets = Sockets::new(folder);
        let address = |path: PathBuf| {
            let mut address = std::ffi::OsString::from("unix:");
            address.push(path);
            address
        };
        let mut command = Command::new(program);
        command
            .arg("--control")
            .arg(address(sockets.control()))
            .arg("--display")
            .arg(address(sockets.display()))
            .arg("--stream")
            .arg(address(sockets.stream()))
            .arg("--runtime-dir")
            .arg(folder)
            .stdin(Stdio::null());
        // The app shall find the agent's display and no other.
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"] {
            command.env_remove(name);
        }
        if std::env::var_os("INLAY_LOG").is_none() {
            command.env("INLAY_LOG", "warn");
        }
        // It ends with its control session, and takes its apps along; killed it could not.
        let mut child = process::in_own_session(&mut command)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        match process::pidfd(&child) {
            Ok(pidfd) => Ok(Self { child, pidfd }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context("cannot watch the agent")
            }
        }
    }

    /// Whether it has ended within this time.
    fn ends_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            if Instant::now() >= end || wait([(self.pidfd.as_fd(), false)].into_iter(), Some(end)).is_err() {
                return false;
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.ends_within(AGENT_END) {
            tracing::warn!("the agent does not end by itself");
            // It may end just now.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // An agent that was killed could not end its apps and its X server: they fell to this process.
        process::end_children();
    }
}

/// How far the app is.
enum App {
    /// For the agent.
    Waits { argv: Vec<String> },
    /// It was asked for, or runs.
    Runs { id: u64, name: String },
}

/// A local run. The order of fields is the order of their end.
struct Local {
    control: Control,
    windows: WindowProcess,
    agent: Agent,
    signals: Signals,
    app: App,
    /// When patience ends: for the agent's start, or for the app's end.
    until: Option<Instant>,
    /// The signal that was handed on to the app.
    signalled: Option<i32>,
}

impl Local {
    fn hold(mut self) -> anyhow::Result<i32> {
        loop {
            let fixed = [(self.signals.fd(), false), (self.agent.pidfd.as_fd(), false)];
            let windows = self.windows.fd().map(|fd| (fd, false));
            let fds = fixed.into_iter().chain(self.control.fds()).chain(windows);
            let deadlines = [self.until, self.control.deadline(), self.windows.deadline()];
            wait(fds, deadlines.into_iter().fold(None, earlier))?;
            self.windows.turn();
            if let Some(why) = self.windows.failed() {
                bail!("the windows cannot be shown: {why}");
            }
            for event in self.control.turn() {
                if let Some(code) = self.agent(event)? {
                    return Ok(code);
                }
            }
            if let Ok(Some(end)) = self.agent.child.try_wait() {
                bail!("the guest agent ended ({end})");
            }
            if let Some(code) = self.signals()? {
                return Ok(code);
            }
        }
    }

    fn agent(&mut self, event: AgentEvent) -> anyhow::Result<Option<i32>> {
        match event {
            AgentEvent::Ready => {
                if let App::Waits { argv } = &mut self.app {
                    let argv = std::mem::take(argv);
                    let name = argv.first().cloned().unwrap_or_default();
                    let directory =
                        std::env::current_dir().ok().and_then(|d| d.into_os_string().into_string().ok());
                    let id = self.control.launch(Program { argv, env: Vec::new(), directory })?;
                    self.app = App::Runs { id, name };
                    self.until = None;
                }
                Ok(None)
            }
            AgentEvent::Lost(why) => bail!("the guest agent ended: {why}"),
            AgentEvent::Report(report) => self.report(report),
        }
    }

    fn report(&mut self, report: Report) -> anyhow::Result<Option<i32>> {
        let App::Runs { id: ours, name } = &self.app else { return Ok(None) };
        match report {
            Report::LaunchFailed { id, error } if id == *ours => {
                Err(ApiError::Launch(error)).with_context(|| format!("cannot run {name}"))
            }
            Report::Exited { id, exit } if id == *ours => Ok(Some(exit.shell_status())),
            _ => Ok(None),
        }
    }

    /// A signal is handed on to the app; a second one, or an app that stays, ends everything.
    fn signals(&mut self) -> anyhow::Result<Option<i32>> {
        let came = self.signals.came().first().copied();
        let late = self.until.is_some_and(|until| until <= Instant::now());
        let status = |signal: i32| Some(128 + signal);
        match (&self.app, came, self.signalled) {
            // Nobody to ask yet.
            (App::Waits { .. }, Some(signal), _) => Ok(status(signal)),
            (App::Waits { .. }, None, _) if late => {
                bail!("the guest agent was not ready within {} s", AGENT_START.as_secs())
            }
            (App::Runs { .. }, Some(signal), Some(_)) => Ok(status(signal)),
            (App::Runs { id, .. }, Some(signal), None) => {
                self.signalled = Some(signal);
                self.until = Some(Instant::now() + APP_END);
                let asked = self.control.send(&control::Command::Signal { id: *id, signal });
                Ok(if asked.is_ok() { None } else { status(signal) })
            }
            (App::Runs { .. }, None, Some(signal)) if late => Ok(status(signal)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_and_abandoned_ones_too() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::below(root.path()).unwrap();
        let abandoned = folders.make_runtime().unwrap().join("local.1");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join("lock"), "").unwrap();
        assert!(runs(&folders).is_empty());
        let folder = Folder::make(&folders).unwrap();
        assert!(!abandoned.exists());
        assert_eq!(runs(&folders), std::slice::from_ref(&folder.path));
        drop(folder);
        assert!(all(&folders).is_empty());
    }
}
