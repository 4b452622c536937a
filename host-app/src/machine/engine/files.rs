//! The machine's file server: a process of its own, started before the machine process is confined.

use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use inlay_vmm_core::transport::vhost_user::{FrontEnd, FrontEndConfig};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::{MachineError, Sockets};
use super::device_error;
use crate::cli::{ERROR, LISTENING};
use crate::files::{Serves, TAG};
use crate::paths::MachineName;
use crate::process;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file server; it ends with this.
#[derive(Debug)]
pub struct FileServer(Child, OwnedFd);

/// One that was started and has not said yet that it serves.
#[derive(Debug)]
pub struct Starting {
    server: FileServer,
    said: ChildStdout,
}

impl Starting {
    /// Waits for it, and tells what the user should know of it.
    ///
    /// # Errors
    /// It does not serve: in words for the user.
    pub fn ready(self) -> Result<(FileServer, Option<String>), String> {
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.said, PollFlags::IN)], Some(&patience)) {
            Ok(0) => return Err("it is not ready in time".to_owned()),
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        let mut line = String::new();
        BufReader::new(self.said).read_line(&mut line).map_err(|error| error.to_string())?;
        let line = line.trim_end();
        if let Some(note) = line.strip_prefix(LISTENING.trim_end()) {
            let note = note.trim();
            return Ok((self.server, (!note.is_empty()).then(|| note.to_owned())));
        }
        Err(line.strip_prefix(ERROR).unwrap_or("it ended at once").to_owned())
    }
}

impl FileServer {
    /// Starts it. Must be called on the main thread: it dies with the calling thread.
    ///
    /// # Errors
    /// It cannot be started: in words for the user.
    pub fn start(name: &MachineName, serves: Serves, log: &Path) -> Result<Starting, String> {
        let failed = |error: std::io::Error| error.to_string();
        let program = process::own_binary().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("files").arg(name.to_string());
        if serves == Serves::Agent {
            command.arg("--agent");
        }
        let log = std::fs::File::create(log).map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let command = process::outlive_session(process::in_own_session(&mut command));
        let mut child = process::die_with_this_thread(command).spawn().map_err(failed)?;
        let said = child.stdout.take().ok_or("it has no output")?;
        let pidfd = process::pidfd(&child).map_err(failed)?;
        Ok(Starting { server: Self(child, pidfd), said })
    }

    /// Becomes readable when it ends.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<String> {
        self.0.try_wait().ok()?.map(|status| status.to_string())
    }

    /// The device that it serves, for our own engine.
    ///
    /// # Errors
    /// It does not answer.
    pub fn device(sockets: &Sockets) -> Result<FrontEnd, MachineError> {
        let stream = UnixStream::connect(sockets.vhost_files()).map_err(device_error)?;
        FrontEndConfig::file_system(TAG)
            .and_then(|config| FrontEnd::new(stream, config))
            .map_err(device_error)
    }
}

impl Drop for FileServer {
    /// It ends when its input does.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let end = std::time::Instant::now() + Duration::from_millis(500);
        while matches!(self.0.try_wait(), Ok(None)) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
