//! The machine process: it holds one guest from power-on to power-off.
//!
//! One thread (the main one, with which its children die) waits for everything: the engine's end, the agent's control
//! session, streams, command lines, window processes, signals. The devices have threads of their own in `vmm-core`.
//!
//! ```text
//!             agent ready           pause, idle
//!  Starting -------------> Running <----------> Paused
//!     |  |                    |                    |
//!     |  | no agent in time*, | stop, SIGTERM      | stop (resumes first)
//!     |  | nobody to ask      |                    |
//!     |  v                    v                    |
//!     | Failed          Stopping: asked -> quit -> killed
//!     |                       |
//!     '---- the engine's process ends ----> Stopped, or Failed when nobody wanted it
//!
//!  * Running, where somebody looks at the guest's screen, and in an imported machine, whose agent may never have been installed
//! ```
//!
//! Sockets, all in the machine's runtime folder, which is the user's alone: `machine.sock` (command lines, [`crate::api`]),
//! `memory.sock` (window processes, hop 4), `vsock_5000` and `vsock_5002` (the agent; carried by the vsock device), and
//! `vsock_5001`, on which the window process itself listens.

pub mod catalogue;
pub mod clients;
mod clock;
pub mod control;
pub mod door;
pub mod engine;
pub mod guest;
mod idle;
mod imported;
pub mod launcher;
pub mod memory;
mod missing;
pub mod record;
mod requests;
mod running;
mod sandbox;
pub mod screen;
#[cfg(test)]
mod tests;
pub mod wait;
pub mod windows;
mod zone;

use std::path::{Path, PathBuf};
use std::time::Duration;

use inlay_protocol::ports;
use inlay_vmm_core::engine::qemu::QemuError;

pub use self::running::{End, Running};
pub use self::sandbox::landlock_version;
use crate::api::Display;
use crate::config::Engine;
use crate::create::{self, CreateError};
use crate::paths::{Folders, MachineName, MachinePaths, PathError};
use crate::process::ProgramError;
use record::{Lock, Record};

/// How long the guest may take until its agent is ready, unless told otherwise.
pub const START_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to switch off before force is used, unless told otherwise.
pub const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The sockets in a runtime folder, of a machine or of a local run.
#[derive(Debug, Clone)]
pub struct Sockets(PathBuf);

impl Sockets {
    /// Those in this folder.
    #[must_use]
    pub fn new(runtime: &Path) -> Self {
        Self(runtime.into())
    }

    /// Command lines to the machine process.
    #[must_use]
    pub fn api(&self) -> PathBuf {
        self.0.join("machine.sock")
    }

    /// Window processes to the machine process.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.0.join("memory.sock")
    }

    /// Command lines to the window process.
    #[must_use]
    pub fn windows(&self) -> PathBuf {
        self.0.join("windows.sock")
    }

    /// QEMU to the gpu device.
    #[must_use]
    pub fn gpu(&self) -> PathBuf {
        self.0.join("gpu.sock")
    }

    /// QEMU to the keyboard of the full window.
    #[must_use]
    pub fn keyboard(&self) -> PathBuf {
        self.0.join("keyboard.sock")
    }

    /// QEMU to the pointer of the full window.
    #[must_use]
    pub fn pointer(&self) -> PathBuf {
        self.0.join("pointer.sock")
    }

    /// QEMU to the vsock device.
    #[must_use]
    pub fn vhost_vsock(&self) -> PathBuf {
        self.0.join("vhost-vsock.sock")
    }

    /// The engine to the file server.
    #[must_use]
    pub fn vhost_files(&self) -> PathBuf {
        self.0.join("vhost-files.sock")
    }

    /// The engine to the server of an imported guest's agent.
    #[must_use]
    pub fn vhost_agent(&self) -> PathBuf {
        self.0.join("vhost-agent.sock")
    }

    /// Command lines to the file server.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.0.join("files.sock")
    }

    /// Host programs to the guest (`CONNECT`), and the beginning of the paths below.
    #[must_use]
    pub fn vsock(&self) -> PathBuf {
        self.0.join("vsock")
    }

    /// The agent's control session.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.port(ports::CONTROL)
    }

    /// The agent's display session.
    #[must_use]
    pub fn display(&self) -> PathBuf {
        self.port(ports::DISPLAY)
    }

    /// The agent's streams.
    #[must_use]
    pub fn stream(&self) -> PathBuf {
        self.port(ports::STREAM)
    }

    fn port(&self, port: u32) -> PathBuf {
        self.0.join(format!("vsock_{port}"))
    }
}

/// How a machine process shall run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the guest may take until its agent is ready.
    pub start_limit: Duration,
    /// Where its windows shall be.
    pub display: Display,
    /// Who runs it; as its configuration says when not given.
    pub engine: Option<Engine>,
    /// Shows the guest's screen in a window, from its first line on.
    pub window: bool,
}

/// Why a machine cannot be started, or failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Another process holds it.
    #[error("the machine {0} is running already")]
    Running(MachineName),
    /// There is none, or its configuration or files.
    #[error(transparent)]
    Files(#[from] CreateError),
    /// Its folders.
    #[error(transparent)]
    Paths(#[from] PathError),
    /// A program of Inlay's own.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its devices.
    #[error("a device cannot be made")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No QEMU that can be used.
    #[error("no QEMU can be used (`inlay doctor` tells how to get one)")]
    NoEngine(#[source] QemuError),
    /// An imported machine, on our own engine.
    #[error(
        "{0} was imported: its boot loader needs a firmware, which only QEMU has (leave --engine kvm out, or have engine = \"qemu\" in its configuration)"
    )]
    Imported(MachineName),
    /// Its engine does not run it.
    #[error("the guest cannot be started (what its kernel said, if anything, is in {log})")]
    Engine {
        /// The serial log.
        log: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A socket, lock or process.
    #[error("{act}")]
    System {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It ran, and failed.
    #[error("{0}")]
    Failed(String),
}

impl MachineError {
    fn system(act: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { act, source }
    }
}

/// Checks that there is such a machine.
///
/// # Errors
/// There is none.
pub fn check_exists(paths: &MachinePaths) -> Result<(), CreateError> {
    if paths.config().is_file() && paths.data().is_dir() {
        return Ok(());
    }
    Err(CreateError::Unknown(paths.name().clone()))
}

/// Runs a machine until its guest is off. Must be called on the main thread: the window process dies with the calling
/// thread.
///
/// `listening` is called when command lines can connect, with what the user should know, if there is something.
///
/// # Errors
/// It could not be started, or failed.
pub fn run(
    folders: &Folders,
    name: &MachineName,
    options: &Options,
    listening: impl FnOnce(Option<&str>),
) -> Result<(), MachineError> {
    let paths = folders.machine(name);
    check_exists(&paths)?;
    let lock = take_lock(&paths)?;
    let end = hold(folders, &paths, options, listening);
    let recorded = match &end {
        Ok(()) => Record::clear(&paths),
        Err(error) => Record::Failed { reason: door::chain(error) }.write(&paths),
    };
    if let Err(error) = recorded {
        tracing::error!(%error, "cannot record how the machine ended");
    }
    record::clean(paths.runtime());
    drop(lock);
    end
}

fn take_lock(paths: &MachinePaths) -> Result<Lock, MachineError> {
    // Someone who only looks at the machine holds the lock for a moment.
    for _ in 0..10 {
        let lock = Lock::take(paths).map_err(MachineError::system("cannot take the machine's lock"))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(MachineError::Running(paths.name().clone()))
}

fn hold(
    folders: &Folders,
    paths: &MachinePaths,
    options: &Options,
    listening: impl FnOnce(Option<&str>),
) -> Result<(), MachineError> {
    record::clean(paths.runtime());
    paths.make_runtime()?;
    Record::Running { pid: std::process::id() }
        .write(paths)
        .map_err(MachineError::system("cannot write into the machine's folder"))?;
    let sockets = Sockets::new(paths.runtime());
    let (config, _) = create::boot_files(folders, paths.name())?;
    let mut running = Running::new(paths, options, &config)?;
    let observer = running.memory_observer();
    let screen = running.screen_devices();
    let (guest, note) = engine::start(folders, paths.name(), options.engine, &sockets, &observer, &screen)?;
    tracing::info!(engine = guest.engine(), pid = guest.pid(), "the guest is on");
    running.open().map_err(MachineError::system("cannot open the machine's socket"))?;
    listening(note.as_deref());
    match running.run(guest) {
        End::Off => Ok(()),
        End::Failed(reason) => Err(MachineError::Failed(reason)),
    }
}
