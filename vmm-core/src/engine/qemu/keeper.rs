//! The thread that forks a QEMU, hears it and notes its end; and what it shares with the handle.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::command::{InheritedFds, arguments};
use super::qmp::{self, Message, command, parse};
use super::{Exit, Network, QemuConfig, QemuError, spawn_error};
use crate::engine::lines::Lines;
use crate::engine::serial::{SerialLog, printable};
use crate::engine::signals::block_end_signals;

/// A QEMU that was just forked.
pub struct Started {
    pub shared: Arc<Shared>,
    pub keeper: JoinHandle<()>,
    pub pidfd: OwnedFd,
    pub pid: u32,
}

/// What the keeper and the handle both know.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    qmp: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// We ended it, or asked it to end.
    asked: bool,
    next_id: u64,
    /// How often the guest restarted.
    restarts: u64,
    /// Commands that wait: `None` until answered.
    answers: HashMap<u64, Option<Result<(), String>>>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Starting,
    Running,
    Ended(Exit),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn restarts(&self) -> u64 {
        self.lock().restarts
    }

    /// Notes that the coming end is wanted.
    pub fn asked(&self) {
        self.lock().asked = true;
    }

    pub fn exit(&self) -> Option<Exit> {
        match &self.lock().phase {
            Phase::Ended(exit) => Some(exit.clone()),
            _ => None,
        }
    }

    /// Waits until `done` says something, or until `limit`.
    fn wait_for<T>(
        &self,
        limit: Option<Duration>,
        mut done: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let end = limit.map(|l| Instant::now() + l);
        let mut state = self.lock();
        loop {
            if let Some(value) = done(&mut state) {
                return Some(value);
            }
            state = match end {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.checked_duration_since(Instant::now())?;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub fn wait_exit(&self, limit: Option<Duration>) -> Option<Exit> {
        self.wait_for(limit, |state| match &state.phase {
            Phase::Ended(exit) => Some(exit.clone()),
            _ => None,
        })
    }

    /// Waits until QEMU takes commands.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), QemuError> {
        let greeted = self.wait_for(Some(limit), |state| match &state.phase {
            Phase::Starting => None,
            Phase::Running => Some(Ok(())),
            Phase::Ended(exit) => Some(Err(QemuError::Ended(exit.clone()))),
        });
        greeted.unwrap_or(Err(QemuError::Timeout("to its start")))?;
        self.execute("qmp_capabilities", &Value::Null, limit)
    }

    /// Sends a command and waits for its answer.
    pub fn execute(&self, name: &'static str, arguments: &Value, limit: Duration) -> Result<(), QemuError> {
        let id = {
            let mut state = self.lock();
            if let Phase::Ended(exit) = &state.phase {
                return Err(QemuError::Ended(exit.clone()));
            }
            state.next_id += 1;
            let id = state.next_id;
            state.answers.insert(id, None);
            id
        };
        // Fails when QEMU is ending: the wait below hears of that. One short write is never torn.
        let _ = (&self.qmp).write_all(command(name, arguments, id).as_bytes());
        let answer = self.wait_for(Some(limit), |state| match state.answers.get_mut(&id).map(Option::take) {
            Some(Some(answer)) => {
                Some(answer.map_err(|message| QemuError::Refused { command: name, message }))
            }
            _ => match &state.phase {
                Phase::Ended(exit) => Some(Err(QemuError::Ended(exit.clone()))),
                _ => None,
            },
        });
        self.lock().answers.remove(&id);
        answer.unwrap_or(Err(QemuError::Timeout(name)))
    }

    fn message(&self, message: Message, shutdown: &mut Option<String>) {
        let mut state = self.lock();
        match message {
            Message::Greeting => state.phase = Phase::Running,
            Message::Answer(id, answer) => {
                if let Some(slot) = state.answers.get_mut(&id) {
                    *slot = Some(answer);
                }
            }
            Message::Shutdown(reason) => *shutdown = Some(reason),
            Message::Reset => state.restarts += 1,
            Message::Other => return,
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Forks QEMU in a thread of its own, which lives as long as QEMU.
pub fn start(config: &QemuConfig, sandbox: bool) -> Result<Started, QemuError> {
    let os = |act| move |source| QemuError::Os { act, source };
    let (qmp, qmp_theirs) = UnixStream::pair().map_err(os("make a control channel"))?;
    let (serial, serial_theirs) = UnixStream::pair().map_err(os("make a serial port"))?;
    let writer = qmp.try_clone().map_err(os("make a control channel"))?;
    for stream in [&qmp, &serial] {
        stream.set_nonblocking(true).map_err(os("make a control channel"))?;
    }
    let log = SerialLog::create(&config.serial_log).map_err(os("write the serial log"))?;
    let tap = match &config.network {
        Network::Tap(tap) => Some(tap.as_raw_fd()),
        Network::None | Network::User => None,
    };
    let fds = InheritedFds { qmp: qmp_theirs.as_raw_fd(), serial: serial_theirs.as_raw_fd(), tap };
    let mut qemu = Command::new(&config.binary);
    qemu.args(arguments(config, fds, sandbox)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Keys pressed in our terminal are not for QEMU.
        .process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made (prctl, sigprocmask, getppid, fcntl), and nothing is allocated; the
    // descriptors are open in the child because this function's caller holds them until the fork is done.
    unsafe {
        qemu.pre_exec(move || prepare_child(parent, fds));
    }
    let shared =
        Arc::new(Shared { state: Mutex::new(State::default()), changed: Condvar::new(), qmp: writer });
    let (tell, told) = sync_channel(1);
    let keeper =
        Keeper { shared: Arc::clone(&shared), qmp, serial, log, words: String::new(), shutdown: None };
    let binary = config.binary.clone();
    let thread = std::thread::Builder::new()
        .name("qemu-keeper".into())
        .spawn(move || {
            let child = qemu.spawn().map_err(|e| spawn_error(&binary, e));
            drop((qmp_theirs, serial_theirs));
            keeper.run(child, &tell);
        })
        .map_err(os("start a thread"))?;
    let forked = told.recv().unwrap_or_else(|_| Err(os("watch QEMU")(io::ErrorKind::Other.into())));
    let (pidfd, pid) = forked?;
    Ok(Started { shared, keeper: thread, pidfd, pid })
}

fn prepare_child(parent: Pid, fds: InheritedFds) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    block_end_signals()?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    for fd in [Some(fds.qmp), Some(fds.serial), fds.tap].into_iter().flatten() {
        // SAFETY: the descriptors are open, as the caller of `pre_exec` said.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

struct Keeper {
    shared: Arc<Shared>,
    qmp: UnixStream,
    serial: UnixStream,
    log: SerialLog,
    /// QEMU's last words on its standard error.
    words: String,
    shutdown: Option<String>,
}

type Forked = Result<(OwnedFd, u32), QemuError>;

impl Keeper {
    fn run(mut self, child: Result<Child, QemuError>, tell: &SyncSender<Forked>) {
        let (mut child, pidfd) = match child.and_then(watch) {
            Ok(both) => both,
            Err(error) => {
                // The receiver waits for exactly this message.
                let _ = tell.send(Err(error));
                return;
            }
        };
        let copy = pidfd.try_clone().map_err(|source| QemuError::Os { act: "watch QEMU", source });
        let _ = tell.send(copy.map(|fd| (fd, child.id())));
        let stderr = child.stderr.take();
        if let Err(error) = self.listen(&pidfd, stderr) {
            tracing::error!(%error, "cannot listen to QEMU; it is ended");
            let _ = child.kill();
        }
        let status = child.wait();
        let exit = self.exit(status);
        self.shared.lock().phase = Phase::Ended(exit);
        self.shared.changed.notify_all();
    }

    /// Takes everything that QEMU says until it ends. A guest that restarts because its kernel panicked is not let do so: it would
    /// for ever.
    fn listen(&mut self, pidfd: &OwnedFd, mut stderr: Option<ChildStderr>) -> io::Result<()> {
        if let Some(stderr) = &stderr {
            rustix::io::ioctl_fionbio(stderr, true)?;
        }
        let (mut qmp_lines, mut words) = (Lines::new(qmp::MAX_LINE), Lines::new(4096));
        let (mut qmp_open, mut serial_open) = (true, true);
        let mut restarted = 0;
        loop {
            let ended = wait(pidfd, &self.qmp, qmp_open, &self.serial, serial_open, stderr.as_ref())?;
            // QEMU's end is looked at first and its words are read after that, so none is missed.
            if let Some(pipe) = &mut stderr {
                let open = drain(pipe, |bytes| words.push(bytes, |line| note(&mut self.words, line)))?;
                if !open {
                    stderr = None;
                }
            }
            let (shared, shutdown) = (&self.shared, &mut self.shutdown);
            qmp_open = qmp_open
                && drain(&mut &self.qmp, |bytes| {
                    qmp_lines.push(bytes, |line| shared.message(parse(line), shutdown));
                })?;
            // What the guest printed before it restarted is read after that is heard.
            serial_open = serial_open && drain(&mut &self.serial, |bytes| self.log.push(bytes))?;
            let restarts = self.shared.restarts();
            if restarts != std::mem::replace(&mut restarted, restarts) {
                if self.log.panic().is_some() {
                    let _ = (&self.qmp).write_all(command("quit", &Value::Null, 0).as_bytes());
                } else {
                    tracing::info!(restarts, "the guest restarts");
                }
            }
            if ended {
                let rest = words.rest().to_vec();
                note(&mut self.words, &rest);
                return Ok(());
            }
        }
    }

    fn exit(&self, status: io::Result<ExitStatus>) -> Exit {
        if self.shared.lock().asked {
            return Exit::Asked;
        }
        if let Some(words) = self.log.panic() {
            return Exit::Panicked(words.to_owned());
        }
        let status = match status {
            Ok(status) => status,
            Err(error) => return Exit::Failed(error.to_string()),
        };
        if let Some(signal) = status.signal() {
            return Exit::Killed(signal);
        }
        match self.shutdown.as_deref() {
            _ if !status.success() => Exit::Failed(match self.words.as_str() {
                "" => status.to_string(),
                words => words.to_owned(),
            }),
            Some("guest-panic") => Exit::Panicked(String::from("no words")),
            Some("host-signal") => Exit::Killed(libc::SIGTERM),
            Some(reason) if reason.starts_with("host") => Exit::Asked,
            _ => Exit::PoweredOff,
        }
    }
}

fn watch(mut child: Child) -> Result<(Child, OwnedFd), QemuError> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match opened {
        Some(Ok(pidfd)) => Ok((child, pidfd)),
        other => {
            let _ = child.kill();
            let _ = child.wait();
            let source = other.map_or_else(
                || io::ErrorKind::InvalidData.into(),
                |r| match r {
                    Err(error) => error.into(),
                    Ok(_) => io::ErrorKind::Other.into(),
                },
            );
            Err(QemuError::Os { act: "watch QEMU", source })
        }
    }
}

/// Sleeps until one of them has something; true when QEMU has ended.
fn wait(
    pidfd: &OwnedFd,
    qmp: &UnixStream,
    qmp_open: bool,
    serial: &UnixStream,
    serial_open: bool,
    stderr: Option<&ChildStderr>,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    let sources: [Option<BorrowedFd<'_>>; 3] =
        [qmp_open.then(|| qmp.as_fd()), serial_open.then(|| serial.as_fd()), stderr.map(AsFd::as_fd)];
    fds.extend(sources.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty()))
}

/// Reads what is there; false at the end of the stream.
fn drain(source: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut bytes = [0; 4096];
    // A guest that prints without end does not keep the others waiting.
    for _ in 0..16 {
        match source.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => take(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A socket whose other end is gone with bytes unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// What QEMU says on every start: it offers an EDID, which a device without scanout does not have.
const HARMLESS: [&str; 1] = ["EDID requested but the backend doesn't support it"];

/// Notes a line of QEMU's standard error; warnings are not why it ends.
fn note(words: &mut String, line: &[u8]) {
    let line = printable(line);
    let text =
        line.split_once(": ").filter(|(program, _)| program.contains("qemu")).map_or(&*line, |(_, t)| t);
    if text.is_empty() {
        return;
    }
    if HARMLESS.iter().any(|known| text.contains(known)) {
        tracing::debug!("QEMU: {text}");
        return;
    }
    tracing::warn!("QEMU: {text}");
    if text.starts_with("warning:") {
        return;
    }
    // "Is another process using the image?" only explains the line before it.
    if text.ends_with('?') && !words.is_empty() {
        words.push_str(". ");
    } else {
        words.clear();
    }
    words.push_str(text);
}
