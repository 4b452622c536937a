//! What is known of a machine while no process of it runs: its lock, how it last ended, and what a killed one left behind.
//!
//! ```text
//!   (no record) --start--> running --orderly end--> (no record)
//!                             |--- failure -------> failed: reason
//!                             '--- killed: the lock is free, yet the record says running --> failed
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Client, Reply, Request, Status};
use crate::paths::MachinePaths;

/// How long a machine process may take to tell its state.
const PATIENCE: Duration = Duration::from_secs(3);

/// The machine's lock, held until dropped or until the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Takes it if nobody holds it.
    ///
    /// # Errors
    /// The lock's file cannot be used.
    pub fn take(paths: &MachinePaths) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(paths.lock())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// How a machine last ended, or that it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// A machine process began and has not ended in order.
    Running {
        /// Which.
        pid: u32,
    },
    /// It failed.
    Failed {
        /// Why: one line.
        reason: String,
    },
}

fn file(paths: &MachinePaths) -> PathBuf {
    paths.data().join("state.json")
}

impl Record {
    /// Reads it; none when the machine was never started or ended in order.
    #[must_use]
    pub fn read(paths: &MachinePaths) -> Option<Self> {
        serde_json::from_slice(&fs::read(file(paths)).ok()?).ok()
    }

    /// Writes it in place of the old one; a reader sees one of both.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, paths: &MachinePaths) -> io::Result<()> {
        let new = file(paths).with_extension("new");
        let mut out = File::create(&new)?;
        out.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&new, file(paths))
    }

    /// The machine ended in order.
    ///
    /// # Errors
    /// The record cannot be removed.
    pub fn clear(paths: &MachinePaths) -> io::Result<()> {
        match fs::remove_file(file(paths)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The state of a machine, on or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Off.
    Stopped,
    /// Off, because of this.
    Failed(String),
    /// Being made, deleted, or just coming up.
    Busy,
    /// On.
    On(Status),
}

/// Looks at a machine; what a killed machine process left behind is removed.
///
/// # Errors
/// Its files or its socket cannot be used.
pub fn look(paths: &MachinePaths) -> Result<State, ApiError> {
    // A process that begins or ends holds the lock for a moment without answering.
    for _ in 0..20 {
        match look_once(paths)? {
            State::Busy => std::thread::sleep(Duration::from_millis(25)),
            state => return Ok(state),
        }
    }
    look_once(paths)
}

fn look_once(paths: &MachinePaths) -> Result<State, ApiError> {
    if let Some(status) = ask(&super::Sockets::new(paths.runtime()).api())? {
        return Ok(State::On(status));
    }
    let Some(lock) = Lock::take(paths)? else { return Ok(State::Busy) };
    let state = match Record::read(paths) {
        None => State::Stopped,
        Some(Record::Failed { reason }) => State::Failed(reason),
        Some(Record::Running { pid }) => {
            let reason = format!("its machine process ({pid}) was killed");
            Record::Failed { reason: reason.clone() }.write(paths)?;
            State::Failed(reason)
        }
    };
    clean(paths.runtime());
    drop(lock);
    Ok(state)
}

fn ask(socket: &Path) -> Result<Option<Status>, ApiError> {
    let Some(mut client) = Client::connect(socket)? else { return Ok(None) };
    let answer = client.send(&Request::Status).and_then(|()| client.next(Some(PATIENCE)));
    match answer {
        Ok((Reply::Status(status), _)) => Ok(Some(status)),
        Ok(_) => Err(ApiError::Unexpected),
        // It ended in between.
        Err(ApiError::Connection(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the sockets of a process that is gone. The caller holds the machine's lock.
pub fn clean(runtime: &Path) {
    match fs::remove_dir_all(runtime) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %runtime.display(), "cannot remove old sockets");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Folders;

    fn machine() -> (tempfile::TempDir, MachinePaths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Folders::below(root.path()).unwrap().machine(&"m".parse().unwrap());
        fs::create_dir_all(paths.data()).unwrap();
        (root, paths)
    }

    #[test]
    fn one_holder_at_a_time() {
        let (_root, paths) = machine();
        let first = Lock::take(&paths).unwrap().unwrap();
        assert!(Lock::take(&paths).unwrap().is_none());
        assert_eq!(look(&paths).unwrap(), State::Busy);
        drop(first);
        assert_eq!(look(&paths).unwrap(), State::Stopped);
    }

    #[test]
    fn a_killed_machine_process_is_told_and_cleaned_up() {
        let (_root, paths) = machine();
        paths.make_runtime().unwrap();
        drop(std::os::unix::net::UnixListener::bind(super::super::Sockets::new(paths.runtime()).api()));
        Record::Running { pid: 77 }.write(&paths).unwrap();
        let State::Failed(reason) = look(&paths).unwrap() else { panic!("not failed") };
        assert!(reason.contains("77"), "{reason}");
        assert!(!paths.runtime().exists());
        assert_eq!(look(&paths).unwrap(), State::Failed(reason));
        Record::clear(&paths).unwrap();
        Record::clear(&paths).unwrap();
        assert_eq!(look(&paths).unwrap(), State::Stopped);
    }
}
