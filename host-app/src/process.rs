//! Starting the programs that Inlay consists of, so that none outlives the one that started it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use inlay_vmm_core::engine::signals::block_end_signals;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// Why a program of Inlay's own cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The running program's own file is unknown.
    #[error("cannot tell where this program is")]
    Own(#[source] io::Error),
    /// No agent where it should be.
    #[error("the guest agent is missing at {0}: build it there, or set INLAY_AGENT to where it is")]
    Agent(PathBuf),
}

/// This program's own file.
///
/// # Errors
/// The system does not tell it.
pub fn own_binary() -> Result<PathBuf, ProgramError> {
    std::env::current_exe().map_err(ProgramError::Own)
}

/// The guest agent: `INLAY_AGENT`, else `inlay-agent` beside this program.
///
/// # Errors
/// It is not there.
pub fn agent_binary() -> Result<PathBuf, ProgramError> {
    let path = match std::env::var_os("INLAY_AGENT").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => own_binary()?.with_file_name("inlay-agent"),
    };
    let there = path.canonicalize().is_ok_and(|path| path.is_file());
    if there { Ok(path) } else { Err(ProgramError::Agent(path)) }
}

/// Makes the child die (by SIGKILL) with the *thread* that spawns it; spawn it from the main thread, which ends only with
/// the process.
pub fn die_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec and makes two system calls only: it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the call above.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::other("orphaned"))
            }
        })
    }
}

/// Gives the child a session of its own: the terminal's Ctrl-C and hang-up do not reach it.
pub fn in_own_session(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes one system call only.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        })
    }
}

/// Makes the child deaf to what ends a session (SIGTERM to each of its processes): a guest that is being switched off in order
/// needs it until it is off.
pub fn outlive_session(command: &mut Command) -> &mut Command {
    // SAFETY: the closure runs between fork and exec and makes one system call only.
    unsafe { command.pre_exec(block_end_signals) }
}

/// Makes what a killed child leaves behind fall to this process.
///
/// # Errors
/// The kernel does not know how.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Kills all children of this process, and what falls to it meanwhile, for at most a second.
pub fn end_children() {
    let own = rustix::process::getpid().as_raw_nonzero();
    for _ in 0..100 {
        let list = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children: Vec<Pid> =
            list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
        if children.is_empty() {
            return;
        }
        for pid in children {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::warn!("processes of this run do not end");
}

/// A descriptor that becomes readable when the child ends.
///
/// # Errors
/// The system refuses it.
pub fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The last line that is not empty in the last 4 KiB of a log.
#[must_use]
pub fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().map(one_line).find(|line| !line.is_empty())
}

/// Text from elsewhere on one line, without control characters, and not too long.
#[must_use]
pub fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(last_line(&log), None);
        std::fs::write(&log, "one\ntwo \x1b[1mx\n\n \n").unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("two  [1mx"));
        std::fs::write(&log, format!("{}\nend", "y".repeat(10_000))).unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("end"));
    }

    #[test]
    fn a_child_of_a_thread_dies_with_it() {
        let mut child =
            std::thread::spawn(|| die_with_this_thread(Command::new("sleep").arg("60")).spawn().unwrap())
                .join()
                .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }
}
