//! QEMU as the engine: a q35 machine without firmware menus, displays or defaults, watched from its first breath.
//!
//! ```text
//!   Qemu::spawn --> keeper thread: fork, exec --> running <--> paused
//!                        | stderr, serial port, QMP     |
//!                        v                              v
//!                   one line of reason <------------- ended: powered off, asked to quit, killed, failed
//! ```
//!
//! **The process cannot outlive this one.** It is forked with `PR_SET_PDEATHSIG`, which Linux delivers when the *thread* that forked
//! ends, not the process: a QEMU that a short-lived thread started would die with that thread. So each QEMU has a keeper
//! thread of its own, which forks it, watches it and lives as long as it does.
//!
//! **The end of a session does not end it.** SIGTERM is blocked in it: a desktop that ends sends that to all processes of the machine,
//! and a QEMU that obeyed would be the cable pulled while the guest is being switched off.

mod command;
mod config;
mod keeper;
mod qmp;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};

pub use config::{Accel, Boot, Disk, DiskFormat, Network, QemuConfig};
use keeper::Shared;

pub use super::Exit;

/// The program.
pub const BINARY: &str = "qemu-system-x86_64";
/// The oldest QEMU whose vhost-user GPU may work without KVM.
const OLDEST_MAJOR: u32 = 8;
/// What QEMU calls the network.
const NETWORK: &str = "net";
/// How long a QEMU may take until it answers, and to answer a command.
const START_TIME: Duration = Duration::from_secs(30);
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// Why a QEMU could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// A setting that no QEMU can take.
    #[error("{0}")]
    Config(String),
    /// No such program.
    #[error("{0} is not installed")]
    NotFound(PathBuf),
    /// A QEMU that is too old for the devices that Inlay needs.
    #[error("{binary} is version {version}; Inlay needs {OLDEST_MAJOR} or newer")]
    TooOld {
        /// The program.
        binary: PathBuf,
        /// What it says of itself.
        version: String,
    },
    /// QEMU ended before its machine ran.
    #[error("QEMU does not start: {0}")]
    Start(String),
    /// The operating system refused something on the way.
    #[error("cannot {act}")]
    Os {
        /// What was tried.
        act: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// QEMU refused a command.
    #[error("QEMU refuses {command}: {message}")]
    Refused {
        /// The QMP command.
        command: &'static str,
        /// QEMU's words.
        message: String,
    },
    /// QEMU did not answer in time.
    #[error("QEMU does not answer {0}")]
    Timeout(&'static str),
    /// QEMU has ended.
    #[error("QEMU has ended: {0}")]
    Ended(Exit),
}

/// A running (or ended) QEMU. Dropping it kills the process; end the machine with [`quit`](Self::quit) before.
#[derive(Debug)]
pub struct Qemu {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    pidfd: OwnedFd,
    pid: u32,
}

impl Qemu {
    /// Starts QEMU and returns when its machine runs. The vhost-user sockets must be listening.
    ///
    /// # Errors
    /// QEMU is missing, too old, or says why it does not start.
    pub fn spawn(config: &QemuConfig) -> Result<Self, QemuError> {
        config.check()?;
        match Self::start(config, true) {
            // A QEMU that was built without seccomp refuses the option before it opens anything.
            Err(QemuError::Start(words)) if words.contains("sandbox") => {
                tracing::warn!("this QEMU cannot confine itself: {words}");
                Self::start(config, false)
            }
            other => other,
        }
        .map_err(|error| match error {
            QemuError::Start(words) => too_old(&config.binary).unwrap_or(QemuError::Start(words)),
            other => other,
        })
    }

    fn start(config: &QemuConfig, sandbox: bool) -> Result<Self, QemuError> {
        let keeper::Started { shared, keeper, pidfd, pid } = keeper::start(config, sandbox)?;
        let qemu = Self { shared, keeper: Some(keeper), pidfd, pid };
        match qemu.shared.wait_ready(START_TIME) {
            Ok(()) => Ok(qemu),
            Err(QemuError::Ended(exit)) => Err(QemuError::Start(match exit {
                Exit::Failed(words) => words,
                other => other.to_string(),
            })),
            Err(other) => Err(other),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How often the guest restarted.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts()
    }

    /// How the machine ended, if it did.
    pub fn try_wait(&self) -> Option<Exit> {
        self.shared.exit()
    }

    /// Waits until the machine ends.
    pub fn wait(&self) -> Exit {
        self.shared.wait_exit(None).unwrap_or(Exit::Asked)
    }

    /// Waits until the machine ends, but no longer than `limit`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Exit> {
        self.shared.wait_exit(Some(limit))
    }

    /// Presses the power button; whether anything follows is up to the guest.
    ///
    /// # Errors
    /// QEMU has ended or does not answer.
    pub fn powerdown(&self) -> Result<(), QemuError> {
        self.shared.execute("system_powerdown", &Value::Null, COMMAND_TIME)
    }

    /// Ends QEMU as if the cable were pulled, but with everything that the guest had flushed, and QEMU's own caches, on disk.
    ///
    /// # Errors
    /// QEMU has ended or does not answer.
    pub fn quit(&self) -> Result<(), QemuError> {
        self.shared.asked();
        match self.shared.execute("quit", &Value::Null, COMMAND_TIME) {
            // It may be gone before its answer is read.
            Ok(()) | Err(QemuError::Ended(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Kills the process at once.
    pub fn kill(&self) {
        self.shared.asked();
        // Fails only when the process has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// QEMU has ended or does not answer.
    pub fn pause(&self) -> Result<(), QemuError> {
        self.shared.execute("stop", &Value::Null, COMMAND_TIME)
    }

    /// Lets the guest's processors go on.
    ///
    /// # Errors
    /// QEMU has ended or does not answer.
    pub fn resume(&self) -> Result<(), QemuError> {
        self.shared.execute("cont", &Value::Null, COMMAND_TIME)
    }

    /// Plugs the network card's cable in, or pulls it. There must be a card.
    ///
    /// # Errors
    /// QEMU has ended or does not answer.
    pub fn plug(&self, plugged: bool) -> Result<(), QemuError> {
        self.shared.execute("set_link", &json!({"name": NETWORK, "up": plugged}), COMMAND_TIME)
    }
}

impl AsFd for Qemu {
    /// A descriptor that is readable when the process has ended; [`Qemu::wait`] returns soon after.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            tracing::error!("a QEMU's keeper panicked");
        }
    }
}

/// The program's version, as `(major, text)`.
///
/// # Errors
/// When it does not run, or does not say.
pub fn version(binary: &Path) -> Result<(u32, String), QemuError> {
    let output = Command::new(binary).arg("--version").output().map_err(|e| spawn_error(binary, e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_once("version ").map(|(_, rest)| rest.split_whitespace().next().unwrap_or(""));
    let parsed = version.and_then(|v| Some((v.split('.').next()?.parse().ok()?, v.to_owned())));
    parsed.ok_or_else(|| QemuError::Start(format!("{} does not say its version", binary.display())))
}

fn too_old(binary: &Path) -> Option<QemuError> {
    let (major, version) = version(binary).ok()?;
    (major < OLDEST_MAJOR).then(|| QemuError::TooOld { binary: binary.to_owned(), version })
}

fn spawn_error(binary: &Path, source: io::Error) -> QemuError {
    match source.kind() {
        io::ErrorKind::NotFound => QemuError::NotFound(binary.to_owned()),
        _ => QemuError::Os { act: "run QEMU", source },
    }
}
