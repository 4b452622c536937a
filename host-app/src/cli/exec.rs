//! `exec`: a command of the guest with this process's input, output and exit status.
//!
//! The machine process only arranges the stream; then bytes go straight between the agent and this process. Back-pressure
//! is the socket's own: input is not read while the agent does not take it, output not taken while nobody reads it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitCode;

use anyhow::Context as _;
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::control::{Exit, Program, TerminalSize};
use inlay_protocol::limits;
use inlay_protocol::stream::{Input, Output};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};

use super::{BeginArgs, ExecArgs, power, status};
use crate::api::{ApiError, Display, Reply, Request};
use crate::machine;
use crate::signals::Signals;

/// Input that may wait for the agent before no more is read.
const AHEAD: usize = 4 * limits::CHUNK;
/// The status of a program that writes to a closed pipe.
const BROKEN_PIPE: i32 = 141;

pub(super) fn exec(args: ExecArgs) -> anyhow::Result<ExitCode> {
    let (folders, name) = args.name.resolve()?;
    let limit = u32::try_from(machine::START_LIMIT.as_secs()).unwrap_or(u32::MAX);
    let begin = BeginArgs { headless: false, timeout: limit, engine: None };
    let mut connected = power::connect_or_start(&folders, &name, &begin)?;
    // A command needs no display: windows stay where they are.
    power::wait_ready(&mut connected.client, &name, Display::Any, &mut |_| {})?;
    let command = args.command.first().cloned().unwrap_or_default();
    let terminal = args.terminal.then(terminal_size);
    let env = match std::env::var("TERM") {
        Ok(term) if args.terminal => vec![("TERM".to_owned(), term)],
        _ => Vec::new(),
    };
    let program = Program { argv: args.command, env, directory: None };
    let failed = || format!("cannot run {command} in {name}");
    let answer = connected.client.ask(&Request::Exec { program, terminal }, &mut |_| {});
    let (Reply::Stream, Some(stream)) = answer.with_context(failed)? else {
        return Err(ApiError::Unexpected).with_context(failed);
    };
    let _raw = args.terminal.then(RawTerminal::enter).flatten();
    let code =
        converse(Connection::new(stream)?, args.terminal).with_context(|| format!("{command} in {name}"))?;
    Ok(status(code))
}

/// Size of the terminal that this process has; 80 x 24 without one.
fn terminal_size() -> TerminalSize {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match size {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            TerminalSize { columns: size.ws_col, rows: size.ws_row }
        }
        _ => TerminalSize { columns: 80, rows: 24 },
    }
}

/// Standard input as a terminal that hands on every key; as it was when dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    /// None when standard input is no terminal.
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Passes input, output, signals and sizes until the command ends; its status.
fn converse(mut stream: Connection, terminal: bool) -> anyhow::Result<i32> {
    let mut signals = Signals::watch(&[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])?;
    let mut input_open = true;
    loop {
        match take_output(&mut stream)? {
            Some(Ended::Program(exit)) => return Ok(exit.shell_status()),
            Some(Ended::Reader) => return Ok(BROKEN_PIPE),
            None => {}
        }
        stream.flush()?;
        let wants_input = input_open && stream.waiting() < AHEAD;
        if wait(&stream, wants_input, signals.fd())? {
            match read_input()? {
                Some(bytes) => stream.queue(&Input::Stdin(bytes))?,
                None => {
                    stream.queue(&Input::StdinEnd)?;
                    input_open = false;
                }
            }
        }
        for signal in signals.came() {
            match signal {
                SIGWINCH if terminal => stream.queue(&Input::Terminal(terminal_size()))?,
                SIGWINCH => {}
                signal => stream.queue(&Input::Signal(signal))?,
            }
        }
        stream.flush()?;
        stream.receive()?;
    }
}

enum Ended {
    Program(Exit),
    /// Nobody reads the output any more.
    Reader,
}

fn take_output(stream: &mut Connection) -> anyhow::Result<Option<Ended>> {
    let message = |stream: &mut Connection| match stream.next_message::<Output>() {
        Err(ConnectionError::Closed) => Err(anyhow::anyhow!("the guest agent ended before the command")),
        other => Ok(other?),
    };
    while let Some((output, _)) = message(stream)? {
        let written = match output {
            Output::Stdout(bytes) => write(&mut io::stdout().lock(), &bytes),
            Output::Stderr(bytes) => write(&mut io::stderr().lock(), &bytes),
            Output::Exited(exit) => return Ok(Some(Ended::Program(exit))),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Some(Ended::Reader)),
            Err(error) => return Err(error).context("cannot write its output"),
        }
    }
    Ok(None)
}

fn write(out: &mut dyn io::Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// Waits for anything; whether there is input.
fn wait(stream: &Connection, wants_input: bool, signals: BorrowedFd<'_>) -> anyhow::Result<bool> {
    let stdin = io::stdin();
    let flags = if stream.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut fds =
        vec![PollFd::from_borrowed_fd(stream.fd(), flags), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
    if wants_input {
        fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
    }
    match poll(&mut fds, None) {
        Ok(_) => Ok(fds.get(2).is_some_and(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What standard input has; none at its end, or when there is none at all.
fn read_input() -> anyhow::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; limits::CHUNK];
    loop {
        return match rustix::io::read(io::stdin(), &mut bytes) {
            // A terminal that hung up reads as an error.
            Ok(0) | Err(Errno::BADF | Errno::IO) => Ok(None),
            Ok(count) => {
                bytes.truncate(count);
                Ok(Some(bytes))
            }
            Err(Errno::INTR) => continue,
            Err(error) => Err(error).context("cannot read standard input"),
        };
    }
}
