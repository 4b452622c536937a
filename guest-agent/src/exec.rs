//! `exec`: a command whose input and output travel on a stream of its own.
//!
//! ```text
//! Connecting --stream up--> Running --process ended, output read--> Ending --all written, host closed--> gone
//! ```
//! The command is started when the stream is up. Its pipes are read while little waits for the host, and the stream is read
//! while little waits for its standard input: the sockets' own flow control does the rest. A lost stream hangs the command up.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use inlay_protocol::control::{Exit, LaunchError, Program, Report, TerminalSize};
use inlay_protocol::handshake::{Capabilities, Role};
use inlay_protocol::limits;
use inlay_protocol::stream::{Input, Output};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::agent::Agent;
use crate::apps;
use crate::channel::{Link, LinkError};
use crate::spawn::{self, Channels, Spawned};
use crate::watch::{BorrowedFdKey, Source, Watch, Wish};

/// Bytes that may wait for the host before output is left in its pipe.
const OUTBOX: usize = 4 * limits::CHUNK;
/// Bytes that may wait for the command before the stream is left alone.
const INBOX: usize = 4 * limits::CHUNK;
/// Commands at once.
const MOST: usize = 64;
/// Time for the stream to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// Time after the end for output that others still hold open, and for the host to close.
const LINGER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// One command.
#[derive(Debug)]
struct Exec {
    link: Link,
    program: Program,
    terminal: Option<TerminalSize>,
    since: Instant,
    stage: Stage,
    watches: [Watch; 4],
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Running(Running),
    Ending,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    input: Vec<u8>,
    input_ends: bool,
    exit: Option<(Exit, Instant)>,
}

/// All commands with a stream.
#[derive(Debug, Default)]
pub struct Execs {
    map: BTreeMap<u64, Exec>,
}

/// Begins: connects the stream.
pub fn start(agent: &mut Agent, id: u64, program: Program, stream: [u8; 16], terminal: Option<TerminalSize>) {
    let Some(address) = agent.settings.stream.clone() else {
        return apps::failed(agent, id, LaunchError::Other("the agent knows no address for streams".into()));
    };
    if agent.apps.execs.map.len() >= MOST || agent.apps.execs.map.contains_key(&id) {
        return apps::failed(agent, id, LaunchError::Other("too many commands at once".into()));
    }
    let link = Link::new(Role::Stream(stream), address, Capabilities::default());
    let since = Instant::now();
    let exec = Exec { link, program, terminal, since, stage: Stage::Connecting, watches: Default::default() };
    agent.apps.execs.map.insert(id, exec);
}

/// Something of a command is ready.
pub fn ready(agent: &mut Agent, id: u64) {
    let Some(mut exec) = agent.apps.execs.map.remove(&id) else { return };
    let keep = match step(agent, id, &mut exec) {
        Ok(keep) => keep,
        Err(error) => {
            lost(agent, id, &mut exec, &error);
            false
        }
    };
    if keep {
        agent.apps.execs.map.insert(id, exec);
    } else {
        exec.watches.iter_mut().for_each(|w| w.clear(&agent.loop_handle));
    }
}

/// Does what can be done; `false` when the command is over.
fn step(agent: &mut Agent, id: u64, exec: &mut Exec) -> Result<bool, LinkError> {
    match &mut exec.stage {
        Stage::Connecting => {
            if exec.link.is_down() {
                exec.link.try_connect()?;
            } else if exec.link.ready()? {
                // The host may have sent input together with its welcome.
                return Ok(begin(agent, id, exec) && step(agent, id, exec)?);
            }
        }
        Stage::Running(running) => {
            if running.input.len() < INBOX {
                exec.link.ready()?;
                while let Some(input) = exec.link.next_message::<Input>()? {
                    running.take(input);
                }
            }
            running.write_input();
            let drained = running.read_output(&mut exec.link);
            exec.link.flush()?;
            if let Some((exit, at)) = running.exit
                && drained
                && (running.is_closed() || at.elapsed() >= LINGER.0)
            {
                exec.link.send(&Output::Exited(exit));
                exec.link.flush()?;
                exec.stage = Stage::Ending;
                exec.since = Instant::now();
                agent.report(&Report::Exited { id, exit });
            }
        }
        Stage::Ending => {
            exec.link.flush()?;
            if exec.since.elapsed() > LINGER.1 && exec.link.waiting() == 0 {
                return Ok(false);
            }
            exec.link.ready()?;
            while exec.link.next_message::<Input>()?.is_some() {}
        }
    }
    Ok(true)
}

/// The stream is up: starts the command; `false` when it cannot be started.
fn begin(agent: &mut Agent, id: u64, exec: &mut Exec) -> bool {
    let inherited = agent.apps.inherited();
    let channels = exec.terminal.map_or(Channels::Pipes, Channels::Terminal);
    match spawn::spawn(&agent.settings, inherited, &exec.program, &channels) {
        Ok(Spawned { pid, stdin, stdout, stderr }) => {
            agent.apps.add_exec(id, pid);
            let running =
                Running { pid, stdin, stdout, stderr, input: Vec::new(), input_ends: false, exit: None };
            exec.stage = Stage::Running(running);
            agent.report(&Report::Launched { id, pid: pid.as_raw_nonzero().get().unsigned_abs() });
            true
        }
        Err(error) => {
            apps::failed(agent, id, error);
            false
        }
    }
}

/// The stream failed.
fn lost(agent: &mut Agent, id: u64, exec: &mut Exec, error: &LinkError) {
    match &exec.stage {
        Stage::Connecting => apps::failed(agent, id, LaunchError::Other(format!("no stream: {error}"))),
        Stage::Running(running) => {
            tracing::info!(id, %error, "the stream of a command is lost: it is hung up");
            match running.exit {
                Some((exit, _)) => agent.report(&Report::Exited { id, exit }),
                // Its end is reported when it comes, without the stream.
                None => {
                    if let Err(error) = kill_process_group(running.pid, Signal::HUP) {
                        tracing::warn!(id, %error, "a command is not hung up");
                    }
                }
            }
        }
        Stage::Ending => {}
    }
}

/// The process of a command ended.
pub fn exited(agent: &mut Agent, id: u64, exit: Exit) {
    match agent.apps.execs.map.get_mut(&id) {
        Some(Exec { stage: Stage::Running(running), .. }) => {
            running.exit = Some((exit, Instant::now()));
            ready(agent, id);
        }
        _ => agent.report(&Report::Exited { id, exit }),
    }
}

impl Running {
    fn take(&mut self, input: Input) {
        match input {
            Input::Stdin(bytes) => {
                if !self.input_ends && self.stdin.is_some() {
                    self.input.extend(bytes);
                }
            }
            Input::StdinEnd => self.input_ends = true,
            Input::Terminal(size) => {
                if let Some(terminal) = &self.stdin
                    && let Err(error) = spawn::resize(terminal, size)
                {
                    tracing::debug!(%error, "no terminal to resize");
                }
            }
            Input::Signal(signal) => {
                if let Some(signal) = Signal::from_named_raw(signal).filter(|_| self.exit.is_none()) {
                    // The group may have ended by itself.
                    let _ = kill_process_group(self.pid, signal);
                }
            }
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(stdin, &self.input) {
                Ok(count) => {
                    self.input.drain(..count);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                    return;
                }
            }
        }
        if self.input_ends {
            self.end_input();
        }
    }

    /// The end of the input: a closed pipe, or the end-of-file character on a terminal.
    fn end_input(&mut self) {
        const END_OF_FILE: u8 = 4;
        let is_terminal = self.stderr.is_none() && self.stdin.as_ref().is_some_and(rustix::termios::isatty);
        if is_terminal {
            self.input.push(END_OF_FILE);
            self.input_ends = false;
        } else {
            self.stdin = None;
        }
    }

    fn is_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Moves output to the stream; `true` when there is no more for now.
    fn read_output(&mut self, link: &mut Link) -> bool {
        let out = pump(&mut self.stdout, link, Output::Stdout);
        let err = pump(&mut self.stderr, link, Output::Stderr);
        out && err
    }
}

/// Moves what a pipe has, as long as little waits; `true` when it has no more for now.
fn pump(pipe: &mut Option<OwnedFd>, link: &mut Link, wrap: fn(Vec<u8>) -> Output) -> bool {
    let Some(fd) = pipe else { return true };
    let mut bytes = vec![0; limits::CHUNK];
    while link.waiting() < OUTBOX {
        match rustix::io::read(&*fd, &mut bytes) {
            Ok(0) => {
                *pipe = None;
                return true;
            }
            Ok(count) => {
                link.send(&wrap(bytes.get(..count).unwrap_or_default().to_vec()));
            }
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            // EIO is the end of a terminal whose last program has closed it.
            Err(_) => {
                *pipe = None;
                return true;
            }
        }
    }
    false
}

/// Once a turn: what is due by time.
pub fn turn(agent: &mut Agent, now: Instant) {
    let due: Vec<u64> = agent
        .apps
        .execs
        .map
        .iter()
        .filter(|(_, exec)| exec.due().is_some_and(|due| due <= now))
        .map(|(id, _)| *id)
        .collect();
    for id in due {
        let Some(exec) = agent.apps.execs.map.get_mut(&id) else { continue };
        let late = matches!(exec.stage, Stage::Connecting) && exec.since + CONNECT <= now;
        if late {
            if let Some(mut exec) = agent.apps.execs.map.remove(&id) {
                exec.watches.iter_mut().for_each(|w| w.clear(&agent.loop_handle));
                lost(agent, id, &mut exec, &LinkError::Silent);
            }
        } else {
            ready(agent, id);
        }
    }
}

/// When something is due by time.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    agent.apps.execs.map.values().filter_map(Exec::due).min()
}

/// Says what to wait for.
pub fn watch(agent: &mut Agent) {
    let handle = agent.loop_handle.clone();
    for (id, exec) in &mut agent.apps.execs.map {
        let source = Source::Exec(*id);
        let Exec { link, stage, watches, .. } = exec;
        let [on_link, on_stdin, on_stdout, on_stderr] = watches;
        let Stage::Running(running) = stage else {
            on_link.set(&handle, source, link.wish());
            [on_stdin, on_stdout, on_stderr].into_iter().for_each(|w| w.clear(&handle));
            continue;
        };
        let mut wish = link.wish();
        if let Some(wish) = &mut wish {
            wish.read = running.input.len() < INBOX;
        }
        on_link.set(&handle, source, wish);
        let key = |fd| BorrowedFdKey { fd, turn: 0 };
        let write = !running.input.is_empty();
        let stdin = running.stdin.as_ref().map(|fd| Wish { fd: key(fd.as_fd()), read: false, write });
        on_stdin.set(&handle, source, stdin);
        let read = link.waiting() < OUTBOX;
        let stdout = running.stdout.as_ref().map(|fd| Wish { fd: key(fd.as_fd()), read, write: false });
        on_stdout.set(&handle, source, stdout);
        let stderr = running.stderr.as_ref().map(|fd| Wish { fd: key(fd.as_fd()), read, write: false });
        on_stderr.set(&handle, source, stderr);
    }
}

impl Exec {
    fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting if self.link.is_down() => Some(self.since),
            Stage::Connecting => Some(self.since + CONNECT),
            Stage::Running(running) => running.exit.map(|(_, at)| at + LINGER.0),
            Stage::Ending => Some(self.since + LINGER.1),
        }
    }
}
