//! The control session: the agent as the machine process knows it.
//!
//! ```text
//!            hello, welcome              Ready
//!   absent ------------------> greeted ---------> ready
//!     ^                           |                 |
//!     '---- connection ends, or the protocol is broken
//! ```
//!
//! One session at a time; another that comes meanwhile is refused as busy. When the agent is lost its apps are kept as
//! unconfirmed: an agent that only lost its connection tells them again, a new one does not.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::control::{Command, Program, Report};
use inlay_protocol::handshake::{Capabilities, Refusal, Role};

use super::door::{Arrival, Door, chain};
use crate::process::one_line;

/// Apps that one machine may run at a time.
const APPS: usize = 1024;

/// An app that was launched.
#[derive(Debug)]
struct App {
    pid: Option<u32>,
    confirmed: bool,
}

#[derive(Debug)]
struct Session {
    connection: Connection,
    ready: bool,
}

/// The agent's end of the control session, and the apps that it runs.
#[derive(Debug)]
pub struct Control {
    door: Door,
    capabilities: Capabilities,
    session: Option<Session>,
    system: Option<String>,
    next_id: u64,
    apps: BTreeMap<u64, App>,
}

/// What the agent did.
#[derive(Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// It serves.
    Ready,
    /// It is gone, because of this.
    Lost(String),
    /// It said something else.
    Report(Report),
}

/// Why the agent was not asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is not connected.
    #[error("the guest agent is not connected")]
    NoAgent,
    /// So many run already.
    #[error("{APPS} apps run already")]
    TooMany,
    /// It cannot be told.
    #[error("the guest agent cannot be told")]
    Connection(#[from] ConnectionError),
}

impl Control {
    /// Listens for the agent at `path`; it is told what this end can do.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path, capabilities: Capabilities) -> io::Result<Self> {
        let door = Door::open(path)?;
        Ok(Self { door, capabilities, session: None, system: None, next_id: 1, apps: BTreeMap::new() })
    }

    /// Whether the agent serves.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.ready)
    }

    /// The guest's operating system, once it was told.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Apps that run.
    #[must_use]
    pub fn apps(&self) -> usize {
        self.apps.values().filter(|app| app.confirmed && app.pid.is_some()).count()
    }

    /// What to wait for; `true` for those that shall be written to.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let session = self.session.iter().map(|s| (s.connection.fd(), s.connection.wants_write()));
        self.door.fds().map(|fd| (fd, false)).chain(session)
    }

    /// When to look again though nothing came.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.door.deadline()
    }

    /// Asks the agent.
    ///
    /// # Errors
    /// It is not there, or does not read.
    pub fn send(&mut self, command: &Command) -> Result<(), AskError> {
        let session = self.session.as_mut().filter(|session| session.ready).ok_or(AskError::NoAgent)?;
        session.connection.queue(command)?;
        Ok(session.connection.flush()?)
    }

    /// Asks it to start an app; gives the id that its reports will name.
    ///
    /// # Errors
    /// As [`Control::send`], and when too many run.
    pub fn launch(&mut self, program: Program) -> Result<u64, AskError> {
        self.start(|id| Command::Launch { id, program })
    }

    /// Asks it to open an app of its catalogue; gives the id that its reports will name.
    ///
    /// # Errors
    /// As [`Control::launch`].
    pub fn open_app(
        &mut self,
        app: String,
        action: Option<String>,
        uris: Vec<String>,
    ) -> Result<u64, AskError> {
        self.start(|id| Command::Open { id, app, action, uris, env: Vec::new() })
    }

    fn start(&mut self, command: impl FnOnce(u64) -> Command) -> Result<u64, AskError> {
        if self.apps.len() >= APPS {
            return Err(AskError::TooMany);
        }
        let id = self.new_id();
        self.send(&command(id))?;
        self.apps.insert(id, App { pid: None, confirmed: true });
        Ok(id)
    }

    /// An id for a launch or a command.
    pub fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Takes what the agent says, and a new agent when there is none.
    pub fn turn(&mut self) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        // The old session first: its end and the next agent's arrival may come at the same time.
        self.listen(&mut events);
        for arrival in self.door.turn() {
            self.admit(arrival);
        }
        self.listen(&mut events);
        events
    }

    fn admit(&mut self, arrival: Arrival) {
        match (arrival.hello.role, &self.session) {
            (Role::Control, None) => match arrival.welcome(self.capabilities) {
                Ok(connection) => self.session = Some(Session { connection, ready: false }),
                Err(error) => tracing::warn!(error = %chain(&error), "the agent is not let in"),
            },
            (Role::Control, Some(_)) => arrival.refuse(Refusal::Busy),
            _ => arrival.refuse(Refusal::Role),
        }
    }

    fn listen(&mut self, events: &mut Vec<AgentEvent>) {
        let Some(mut session) = self.session.take() else { return };
        match self.take_reports(&mut session, events) {
            Ok(()) => self.session = Some(session),
            Err(error) => {
                self.apps.retain(|_, app| std::mem::take(&mut app.confirmed) && app.pid.is_some());
                events.push(AgentEvent::Lost(one_line(&chain(&error))));
            }
        }
    }

    fn take_reports(
        &mut self,
        session: &mut Session,
        events: &mut Vec<AgentEvent>,
    ) -> Result<(), ConnectionError> {
        session.connection.flush()?;
        session.connection.receive()?;
        while let Some((report, _)) = session.connection.next_message::<Report>()? {
            match report {
                Report::Ready { system } => {
                    session.ready = true;
                    self.system = Some(one_line(&system));
                    events.push(AgentEvent::Ready);
                }
                Report::Launched { id, pid } => {
                    if let Some(app) = self.apps.get_mut(&id) {
                        *app = App { pid: Some(pid), confirmed: true };
                    }
                    events.push(AgentEvent::Report(Report::Launched { id, pid }));
                }
                Report::LaunchFailed { id, .. } | Report::Exited { id, .. } => {
                    self.apps.remove(&id);
                    events.push(AgentEvent::Report(report));
                }
                Report::Pong(_)
                | Report::PoweringOff
                | Report::PowerOffFailed(_)
                | Report::Apps(_)
                | Report::App(_)
                | Report::NoApp(_)
                | Report::AskTime(_) => {
                    events.push(AgentEvent::Report(report));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::machine) mod tests {
    use super::*;
    use inlay_protocol::control::Exit;
    use inlay_protocol::handshake::{Hello, VERSION, Welcome};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// The agent's side of a session, over a real socket.
    pub(in crate::machine) fn knock(path: &Path, role: Role) -> Connection {
        let mut agent = Connection::new(UnixStream::connect(path).unwrap().into()).unwrap();
        let hello = Hello { version: VERSION, role, capabilities: Capabilities::VIRTIO_GPU };
        agent.queue_raw(&hello.encode()).unwrap();
        agent.flush().unwrap();
        agent
    }

    /// The answer to its knock, when it has come.
    pub(in crate::machine) fn answer(agent: &mut Connection) -> Option<Welcome> {
        agent.receive().unwrap();
        let bytes = agent.next_raw(Welcome::SIZE).unwrap()?;
        let mut welcome = [0; Welcome::SIZE];
        welcome.copy_from_slice(&bytes);
        Some(Welcome { refusal: None, ..Welcome::decode(&welcome).ok()? })
    }

    pub(in crate::machine) fn say(agent: &mut Connection, report: &Report) {
        agent.queue(report).unwrap();
        agent.flush().unwrap();
    }

    #[test]
    fn one_agent_at_a_time_and_the_next_one_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut control = Control::open(&path, Capabilities::VIRTIO_GPU).unwrap();
        let mut first = knock(&path, Role::Control);
        assert_eq!(control.turn(), []);
        assert!(answer(&mut first).is_some());
        assert!(!control.ready(), "not before it says so");
        assert!(matches!(control.launch(Program::default()), Err(AskError::NoAgent)));
        say(&mut first, &Report::Ready { system: "Debian\nx".into() });
        assert_eq!(control.turn(), [AgentEvent::Ready]);
        assert_eq!(control.system(), Some("Debian x"));

        let mut second = knock(&path, Role::Control);
        assert_eq!(control.turn(), []);
        assert!(answer(&mut second).is_none(), "refused as busy");
        let mut other = knock(&path, Role::Display);
        assert_eq!(control.turn(), []);
        assert!(answer(&mut other).is_none(), "refused for its role");

        drop(first);
        let mut third = knock(&path, Role::Control);
        assert!(matches!(control.turn()[..], [AgentEvent::Lost(_)]));
        assert!(answer(&mut third).is_some());
        say(&mut third, &Report::Ready { system: "again".into() });
        assert_eq!(control.turn(), [AgentEvent::Ready]);
    }

    #[test]
    fn apps_live_until_told_or_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut control = Control::open(&path, Capabilities::VIRTIO_GPU).unwrap();
        let mut agent = knock(&path, Role::Control);
        control.turn();
        answer(&mut agent).unwrap();
        say(&mut agent, &Report::Ready { system: String::new() });
        control.turn();
        let program = Program { argv: vec!["foot".into()], ..Program::default() };
        let ids: Vec<u64> = (0..3).map(|_| control.launch(program.clone()).unwrap()).collect();
        for id in &ids {
            let sent = agent.wait_message::<Command>(Some(Duration::from_secs(5))).unwrap().unwrap().0;
            assert_eq!(sent, Command::Launch { id: *id, program: program.clone() });
            say(&mut agent, &Report::Launched { id: *id, pid: 40 });
        }
        control.turn();
        assert_eq!(control.apps(), 3);
        say(&mut agent, &Report::Exited { id: ids[0], exit: Exit::Code(0) });
        control.turn();
        assert_eq!(control.apps(), 2);
        drop(agent);
        control.turn();
        assert_eq!(control.apps(), 0, "unconfirmed");
        let mut agent = knock(&path, Role::Control);
        control.turn();
        answer(&mut agent).unwrap();
        say(&mut agent, &Report::Ready { system: String::new() });
        say(&mut agent, &Report::Launched { id: ids[1], pid: 40 });
        say(&mut agent, &Report::Launched { id: 999, pid: 40 });
        control.turn();
        assert_eq!(control.apps(), 1, "what nobody launched does not count");
    }

    #[test]
    fn an_agent_that_breaks_the_protocol_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut control = Control::open(&path, Capabilities::VIRTIO_GPU).unwrap();
        let mut agent = knock(&path, Role::Control);
        control.turn();
        answer(&mut agent).unwrap();
        agent.queue_raw(&[0xff; 64]).unwrap();
        agent.flush().unwrap();
        assert!(matches!(&control.turn()[..], [AgentEvent::Lost(why)] if why.contains("limit")));
        assert!(control.session.is_none());
    }
}
