//! A machine with a working `/dev/kvm`, for hosts without one: a stock Debian kernel under QEMU's emulation ("level 1"), whose
//! root is this machine's own file system, seen through an overlay, so that every built program is there.
//!
//! ```text
//!   inlay-nested CMD --> server (one per user, ends when idle) --> QEMU: init --> inlay-nested guest --> CMD
//!                  Unix socket: one command at a time         virtio-serial: frames
//! ```
//!
//! What a command writes is lost when level 1 ends; only its output and its status come back.

mod frames;
pub mod guest;
pub mod image;
pub mod server;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use self::frames::Kind;

/// How long level 1 may take to boot.
const BOOT: Duration = Duration::from_secs(400);

/// Level 1 broke down while a command ran, which says nothing of the command: an emulated machine in which others run nested is
/// no sound machine.
#[derive(Debug)]
pub struct Gone(String);

/// The status that tells of it.
pub const GONE: u8 = 254;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "level 1 broke down: {}", self.0)
    }
}

impl std::error::Error for Gone {}

/// What level 1's kernel said last of interest.
fn last_words(folder: &Path) -> String {
    let console = std::fs::read(folder.join("console.log")).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).into_owned();
    let bad = ["Kernel panic", "BUG:", "Oops", "Out of memory"];
    let line = console.lines().find(|line| bad.iter().any(|word| line.contains(word)));
    line.map_or_else(
        || format!("see {}", folder.join("console.log").display()),
        |line| line.trim().to_owned(),
    )
}

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The command and its arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its working directory.
    pub folder: PathBuf,
}

/// Where the server's socket, lock and log are.
fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from(format!("/tmp/inlay-nested-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Runs a command in level 1, which is booted if it is not up, with its output here; its status.
///
/// # Errors
/// Level 1 does not come up, or is gone.
pub fn run(words: Vec<String>) -> Result<ExitCode> {
    let mut stream = connect()?;
    let order = Order {
        words,
        environment: std::env::vars().collect(),
        folder: std::env::current_dir().context("no working directory")?,
    };
    frames::write(&mut stream, Kind::Order, &serde_json::to_vec(&order)?)?;
    loop {
        let Ok((kind, bytes)) = frames::read(&mut stream) else {
            return Err(Gone(last_words(&folder()?)).into());
        };
        match kind {
            Kind::Out => std::io::stdout().write_all(&bytes)?,
            Kind::Err => std::io::stderr().write_all(&bytes)?,
            Kind::Exit => {
                let code = bytes.first().copied().unwrap_or(255);
                std::io::stdout().flush()?;
                return Ok(ExitCode::from(code));
            }
            Kind::Failed => bail!("{}", String::from_utf8_lossy(&bytes)),
            Kind::Order | Kind::Kill | Kind::Ready => bail!("level 1 talks nonsense"),
        }
    }
}

/// Level 1 keeps what it has read of this machine's files: one that booted before the newest program was built is ended.
fn end_if_stale(folder: &Path) -> Result<()> {
    let started = folder.join("started");
    let Ok(booted) = std::fs::metadata(&started).and_then(|m| m.modified()) else { return Ok(()) };
    let own = std::env::current_exe()?;
    let programs = own.parent().context("this program is in no folder")?;
    let newest = [programs.to_owned(), programs.join("deps")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .filter_map(|entry| entry.metadata().ok().filter(std::fs::Metadata::is_file)?.modified().ok())
        .max();
    if newest.is_some_and(|newest| newest > booted)
        && let Ok(pid) = std::fs::read_to_string(&started)
        && let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
        && let Ok(server) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        // The id may be another program's by now.
        && std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|line| line.ends_with(b"--serve\0"))
    {
        rustix::process::pidfd_send_signal(&server, rustix::process::Signal::KILL)?;
        rustix::event::poll(&mut [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)], None)?;
        let _ = std::fs::remove_file(folder.join("socket"));
    }
    Ok(())
}

/// A connection to the server, which is started if there is none. Two commands that come at once start one.
fn connect() -> Result<UnixStream> {
    let folder = folder()?;
    let socket = folder.join("socket");
    let lock = File::create(folder.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    end_if_stale(&folder)?;
    if let Ok(stream) = UnixStream::connect(&socket) {
        return Ok(stream);
    }
    let log = File::create(folder.join("server.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut server = command.spawn().context("cannot start the server of level 1")?;
    let end = Instant::now() + BOOT;
    loop {
        if let Ok(stream) = UnixStream::connect(&socket) {
            return Ok(stream);
        }
        if let Some(status) = server.try_wait()? {
            let mut words = String::new();
            File::open(folder.join("server.log"))?.read_to_string(&mut words)?;
            bail!("level 1 does not come up ({status}): {}", words.trim());
        }
        if Instant::now() > end {
            bail!("level 1 does not come up within {BOOT:?}: see {}", folder.join("console.log").display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
