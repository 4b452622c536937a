//! The machine process's loop with a real process as the engine, and the agent's and the command line's sides over real
//! sockets.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command as Process};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inlay_protocol::connection::Connection;
use inlay_protocol::control::{Command, Exit, LaunchError, Program, Report};
use inlay_protocol::handshake::Role;
use inlay_protocol::stream::{Input, Output};

use super::control::tests::{answer, knock, say};
use super::guest::{Ended, Guest};
use super::{End, Options, Running, Sockets};
use crate::api::{ApiError, Client, Display, Phase, Reply, Request};
use crate::config::Config;
use crate::paths::Folders;
use crate::process;

const SOON: Duration = Duration::from_secs(10);

/// A process that stands for an engine: it ends when it is told to.
struct Sleeper {
    child: Child,
    pidfd: OwnedFd,
    deaf: bool,
    wanted: bool,
    connected: bool,
}

impl Guest for Sleeper {
    fn engine(&self) -> String {
        "sleep".into()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().unwrap()?;
        Some(Ended { in_order: self.wanted, reason: format!("sleep ended: {status}") })
    }

    fn restarts(&self) -> u64 {
        0
    }

    fn network(&self) -> Option<bool> {
        Some(self.connected)
    }

    fn connect(&mut self, connected: bool) -> Result<(), String> {
        self.connected = connected;
        Ok(())
    }

    fn power_button(&mut self) -> Result<(), String> {
        if !self.deaf {
            self.kill();
        }
        Ok(())
    }

    fn quit(&mut self) -> Result<(), String> {
        self.kill();
        Ok(())
    }

    fn kill(&mut self) {
        self.wanted = true;
        self.child.kill().unwrap();
    }

    fn pause(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn resume(&mut self) -> Result<(), String> {
        Ok(())
    }
}

struct Bed {
    sockets: Sockets,
    engine: u32,
    machine: Option<JoinHandle<End>>,
    _root: tempfile::TempDir,
}

impl Bed {
    fn start(start_limit: Duration, deaf: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Folders::below(root.path()).unwrap().machine(&"m".parse().unwrap());
        std::fs::create_dir_all(paths.data()).unwrap();
        paths.make_runtime().unwrap();
        let child = Process::new("sleep").arg("600").spawn().unwrap();
        let engine = child.id();
        let pidfd = process::pidfd(&child).unwrap();
        let options = Options { start_limit, display: Display::Any, engine: None, window: false };
        let mut running = Running::new(&paths, &options, &Config::new("0".repeat(16))).unwrap();
        running.open().unwrap();
        let guest = Box::new(Sleeper { child, pidfd, deaf, wanted: false, connected: true });
        let machine = Some(std::thread::spawn(move || running.run(guest)));
        Self { sockets: Sockets::new(paths.runtime()), engine, machine, _root: root }
    }

    fn client(&self) -> Client {
        Client::connect(&self.sockets.api()).unwrap().unwrap()
    }

    fn ask(&self, request: &Request) -> Result<Reply, ApiError> {
        let mut client = self.client();
        client.send(request)?;
        Ok(client.next(Some(SOON))?.0)
    }

    /// The agent's control session, ready.
    fn agent(&self) -> Connection {
        let mut agent = self.arrive(&self.sockets.control(), Role::Control);
        say(&mut agent, &Report::Ready { system: "Test".into() });
        let end = Instant::now() + SOON;
        while !matches!(self.ask(&Request::Status), Ok(Reply::Status(s)) if s.agent) {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(matches!(asked(&mut agent), Command::CheckClock { .. }));
        // Where this host has one that has a name.
        let mut told = asked(&mut agent);
        if matches!(told, Command::TimeZone(_)) {
            told = asked(&mut agent);
        }
        assert_eq!(told, Command::KeepCopied(16 << 20));
        assert_eq!(asked(&mut agent), Command::SharpX11(true));
        let told = agent.wait_message::<Command>(Some(SOON)).unwrap().unwrap().0;
        assert!(matches!(told, Command::ListApps { .. }), "{told:?}");
        agent
    }

    fn arrive(&self, socket: &std::path::Path, role: Role) -> Connection {
        let mut agent = knock(socket, role);
        let end = Instant::now() + SOON;
        while answer(&mut agent).is_none() {
            assert!(Instant::now() < end, "not let in");
            std::thread::sleep(Duration::from_millis(2));
        }
        agent
    }

    fn end(mut self) -> End {
        self.machine.take().unwrap().join().unwrap()
    }
}

fn program(name: &str) -> Program {
    Program { argv: vec![name.into()], ..Program::default() }
}

fn asked(agent: &mut Connection) -> Command {
    agent.wait_message(Some(SOON)).unwrap().expect("the agent is asked").0
}

#[test]
fn a_guest_that_does_not_come_up_fails_with_the_place_of_its_log() {
    let bed = Bed::start(Duration::from_millis(300), false);
    let mut client = bed.client();
    let mut told = Vec::new();
    let failure = client.ask(&Request::Ready(Display::Any), &mut |text| told.push(text.to_owned()));
    assert_eq!(told, ["the guest boots"]);
    let reason = failure.unwrap_err().to_string();
    assert!(reason.contains("not ready within") && reason.ends_with("serial.log"), "{reason}");
    assert_eq!(bed.end(), End::Failed(reason));
}

#[test]
fn an_app_needs_a_display_and_a_program_must_be_there() {
    let bed = Bed::start(SOON, false);
    let mut agent = bed.agent();
    let launch = |name, wait| Request::Launch { program: program(name), wait, display: Display::Any };
    let refused = bed.ask(&launch("foot", false)).unwrap_err().to_string();
    assert!(refused.contains("no display"), "{refused}");

    // A command needs no display.
    let mut client = bed.client();
    client.send(&Request::Exec { program: program("nothing"), terminal: None }).unwrap();
    let Command::Exec { id, .. } = asked(&mut agent) else { panic!("another command") };
    say(&mut agent, &Report::LaunchFailed { id, error: LaunchError::NotFound("nothing".into()) });
    let error = client.next(Some(SOON)).unwrap_err();
    assert!(matches!(error, ApiError::Launch(LaunchError::NotFound(name)) if name == "nothing"));

    assert_eq!(
        bed.ask(&Request::Stop { force: true, grace_ms: 0 }).unwrap(),
        Reply::Stopped { forced: Some("as asked".into()) }
    );
    assert_eq!(bed.end(), End::Off);
}

#[test]
fn a_commands_stream_goes_to_whoever_asked_for_it() {
    let bed = Bed::start(SOON, false);
    let mut agent = bed.agent();
    let mut client = bed.client();
    client.send(&Request::Exec { program: program("cat"), terminal: None }).unwrap();
    let Command::Exec { id, stream, .. } = asked(&mut agent) else { panic!("another command") };
    let mut stranger = knock(&bed.sockets.stream(), Role::Stream([7; 16]));
    let mut theirs = bed.arrive(&bed.sockets.stream(), Role::Stream(stream));
    assert!(answer(&mut stranger).is_none(), "no transfer has its id");
    let early = client.next(Some(Duration::from_millis(100)));
    assert!(matches!(early, Err(ApiError::TimedOut(_))), "it does not run yet");
    say(&mut agent, &Report::Launched { id, pid: 9 });
    let (reply, fd) = client.next(Some(SOON)).unwrap();
    assert_eq!(reply, Reply::Stream);
    let mut ours = Connection::new(fd.unwrap()).unwrap();
    ours.queue(&Input::Stdin(b"abc".to_vec())).unwrap();
    ours.flush().unwrap();
    let (input, _) = theirs.wait_message::<Input>(Some(SOON)).unwrap().unwrap();
    assert_eq!(input, Input::Stdin(b"abc".to_vec()));
    theirs.queue(&Output::Exited(Exit::Code(3))).unwrap();
    theirs.flush().unwrap();
    let (output, _) = ours.wait_message::<Output>(Some(SOON)).unwrap().unwrap();
    assert_eq!(output, Output::Exited(Exit::Code(3)));
    let again = knock(&bed.sockets.stream(), Role::Stream(stream));
    let _ = again.wait(Some(SOON)).unwrap();
    let mut again = again;
    assert!(answer(&mut again).is_none(), "an id is good once");
    bed.ask(&Request::Stop { force: true, grace_ms: 0 }).unwrap();
    assert_eq!(bed.end(), End::Off);
}

#[test]
fn the_guest_is_asked_before_it_is_forced() {
    let bed = Bed::start(SOON, true);
    let mut agent = bed.agent();
    let mut client = bed.client();
    client.send(&Request::Stop { force: false, grace_ms: 300 }).unwrap();
    assert_eq!(asked(&mut agent), Command::PowerOff);
    let Ok(Reply::Status(status)) = bed.ask(&Request::Status) else { panic!("no status") };
    assert_eq!((status.phase, status.engine_pid), (Phase::Stopping, bed.engine));
    // The power button does not help either: the guest is deaf.
    say(&mut agent, &Report::PowerOffFailed("no".into()));
    let (reply, _) = client.next(Some(SOON)).unwrap();
    assert_eq!(reply, Reply::Stopped { forced: Some("it did not switch off in time".into()) });
    assert_eq!(bed.end(), End::Off);
}

#[test]
fn a_lost_agent_is_told_and_may_come_back() {
    let bed = Bed::start(SOON, false);
    let mut agent = bed.agent();
    let mut client = bed.client();
    client.send(&Request::Exec { program: program("cat"), terminal: None }).unwrap();
    asked(&mut agent);
    drop(agent);
    assert_eq!(client.next(Some(SOON)).unwrap_err().to_string(), "the guest agent ended");
    let Ok(Reply::Status(status)) = bed.ask(&Request::Status) else { panic!("no status") };
    assert_eq!((status.phase, status.agent), (Phase::Running, false));
    client.send(&Request::Ready(Display::Any)).unwrap();
    assert_eq!(client.next(Some(SOON)).unwrap().0, Reply::Progress("the guest agent is away".into()));
    let _agent = bed.agent();
    assert_eq!(client.next(Some(SOON)).unwrap().0, Reply::Done);
    bed.ask(&Request::Stop { force: false, grace_ms: 1 }).unwrap();
    assert_eq!(bed.end(), End::Off);
}

#[test]
fn an_engine_that_is_killed_is_noticed_at_once() {
    let bed = Bed::start(SOON, false);
    let _agent = bed.agent();
    assert_eq!(bed.ask(&Request::Network(false)).unwrap(), Reply::Done);
    let Reply::Status(status) = bed.ask(&Request::Status).unwrap() else { panic!("no status") };
    assert_eq!(status.network, Some(false));
    assert_eq!(bed.ask(&Request::Pause).unwrap(), Reply::Done);
    let refused = bed.ask(&Request::Pause).unwrap_err();
    assert_eq!(refused.to_string(), "the machine is paused already");
    assert_eq!(
        bed.ask(&Request::Ready(Display::Any)).unwrap(),
        Reply::Done,
        "whoever wants something of it has it go on"
    );
    let refused = bed.ask(&Request::Resume).unwrap_err();
    assert_eq!(refused.to_string(), "the machine is running, not paused");
    let pid = rustix::process::Pid::from_raw(i32::try_from(bed.engine).unwrap()).unwrap();
    let killed = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let End::Failed(reason) = bed.end() else { panic!("not failed") };
    assert!(reason.contains("signal: 9"), "{reason}");
    assert!(killed.elapsed() < Duration::from_secs(1));
}
