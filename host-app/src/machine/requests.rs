//! What command lines ask of a running machine.

use std::time::{Duration, Instant};

use inlay_protocol::control::{Command, Program, TerminalSize};
use inlay_protocol::memory::Show;

use super::clients::{Client, Clients, Doing};
use super::control::AskError;
use super::door::chain;
use super::guest::Guest;
use super::imported::Imported;
use super::running::{Phase, Running};
use crate::api::{self, Display, Reply, Request, Status};

/// How long a lost agent may take to come back before one who waits for it is told.
const AGENT_RETURN: Duration = Duration::from_secs(30);
/// How long the agent may take to start a program.
const PROGRAM_START: Duration = Duration::from_secs(60);

impl Running {
    /// Takes what command lines ask, and tells those who have waited too long.
    pub(super) fn serve_clients(&mut self, guest: &mut dyn Guest) {
        let asked = self.clients.as_mut().map(Clients::turn).unwrap_or_default();
        for (index, request) in asked {
            let answer = self.handle(guest, index, request);
            if let Some(client) = self.client(index)
                && let Err(reply) = answer
            {
                client.answer(&reply);
            }
        }
        let now = Instant::now();
        for client in self.clients.iter_mut().flat_map(Clients::iter_mut) {
            if client.deadline.is_some_and(|deadline| deadline <= now) {
                let why = match client.doing {
                    Doing::Ready => "the guest agent does not come back",
                    _ => "the guest agent does not answer",
                };
                client.answer(&Reply::Failed(why.into()));
            }
        }
    }

    fn client(&mut self, index: usize) -> Option<&mut Client> {
        self.clients.as_mut()?.get(index)
    }

    fn awaits(&mut self, index: usize, doing: Doing, limit: Option<Duration>) {
        if let Some(client) = self.client(index) {
            client.doing = doing;
            client.deadline = limit.map(|limit| Instant::now() + limit);
        }
    }

    /// `Err` is an answer that can be given at once.
    fn handle(&mut self, guest: &mut dyn Guest, index: usize, request: Request) -> Result<(), Reply> {
        match request {
            Request::Status => Err(Reply::Status(self.status(guest))),
            Request::Ready(display) => self.wait_ready(guest, index, &display),
            Request::AwaitAgent => {
                self.may_start_programs(guest)?;
                if self.control.ready() {
                    return Err(Reply::Done);
                }
                self.awaits(index, Doing::Agent, None);
                Ok(())
            }
            Request::Launch { program, wait, display } => {
                self.may_start_programs(guest)?;
                self.windows.show(&display).map_err(|error| Reply::Failed(error.to_string()))?;
                let id = self.control.launch(program).map_err(|error| cannot(&error))?;
                self.awaits(index, Doing::Launch { id, wait }, Some(PROGRAM_START));
                Ok(())
            }
            Request::Open { app, action, uris, wait, display } => {
                self.may_start_programs(guest)?;
                self.windows.show(&display).map_err(|error| Reply::Failed(error.to_string()))?;
                let id = self.control.open_app(app, action, uris).map_err(|error| cannot(&error))?;
                self.awaits(index, Doing::Launch { id, wait }, Some(PROGRAM_START));
                Ok(())
            }
            Request::Exec { program, terminal } => self.exec(guest, index, program, terminal),
            Request::Signal(signal) => {
                if let Some(Doing::Exit { id }) = self.client(index).map(|client| client.doing)
                    && let Err(error) = self.control.send(&Command::Signal { id, signal })
                {
                    tracing::warn!(error = %chain(&error), "a signal is lost");
                }
                Ok(())
            }
            Request::Stop { force, grace_ms } => {
                self.awaits(index, Doing::Stop, None);
                let forced = force.then(|| "as asked".to_owned());
                self.stop(guest, forced, Duration::from_millis(grace_ms.into()));
                Ok(())
            }
            Request::Window { fullscreen, display } => {
                self.may_start_programs(guest)?;
                self.windows.show(&display).map_err(|error| Reply::Failed(error.to_string()))?;
                self.screen.show(Show { fullscreen });
                self.memory.wake();
                self.awaits(index, Doing::Window, None);
                Ok(())
            }
            Request::Pause => match self.phase {
                Phase::Running => {
                    guest.pause().map_err(Reply::Failed)?;
                    self.phase = Phase::Paused { by_itself: false };
                    Err(Reply::Done)
                }
                Phase::Paused { by_itself: true } => {
                    self.phase = Phase::Paused { by_itself: false };
                    Err(Reply::Done)
                }
                Phase::Paused { by_itself: false } => {
                    Err(Reply::Failed("the machine is paused already".into()))
                }
                _ => Err(Reply::Failed(format!("the machine is {}", self.phase_now()))),
            },
            Request::Network(connected) => {
                guest.connect(connected).map_err(Reply::Failed)?;
                tracing::info!(connected, "its network, as the user wants it");
                Err(Reply::Done)
            }
            Request::Resume => match self.phase {
                Phase::Paused { .. } => {
                    self.resume(guest)?;
                    Err(Reply::Done)
                }
                _ => Err(Reply::Failed(format!("the machine is {}, not paused", self.phase_now()))),
            },
        }
    }

    fn wait_ready(&mut self, guest: &mut dyn Guest, index: usize, display: &Display) -> Result<(), Reply> {
        self.may_start_programs(guest)?;
        if *display != Display::Any {
            self.windows.show(display).map_err(|error| Reply::Failed(error.to_string()))?;
        }
        if self.control.ready() {
            return Err(Reply::Done);
        }
        if !matches!(self.phase, Phase::Starting { .. })
            && let Some(why) = self.imported.as_ref().and_then(Imported::no_agent)
        {
            return Err(Reply::NoAgent(why));
        }
        let (text, limit) = match self.phase {
            // The machine's own limit ends this.
            Phase::Starting { .. } => ("the guest boots", None),
            _ => ("the guest agent is away", Some(AGENT_RETURN)),
        };
        self.awaits(index, Doing::Ready, limit);
        if let Some(client) = self.client(index) {
            client.answer(&Reply::Progress(text.into()));
        }
        Ok(())
    }

    fn exec(
        &mut self,
        guest: &mut dyn Guest,
        index: usize,
        program: Program,
        terminal: Option<TerminalSize>,
    ) -> Result<(), Reply> {
        self.may_start_programs(guest)?;
        let mut stream = [0; 16];
        match rustix::rand::getrandom(&mut stream, rustix::rand::GetRandomFlags::empty()) {
            Ok(16) => {}
            _ => return Err(Reply::Failed("there is no randomness".into())),
        }
        let id = self.control.new_id();
        let command = Command::Exec { id, program, stream, terminal };
        self.control.send(&command).map_err(|error| cannot(&error))?;
        self.awaits(index, Doing::Exec { id, stream }, Some(PROGRAM_START));
        Ok(())
    }

    /// A program runs in the guest: whoever asked for it is told, and may wait for its end.
    pub(super) fn launched(&mut self, id: u64, pid: u32) {
        for client in self.clients.iter_mut().flat_map(Clients::iter_mut) {
            match client.doing {
                Doing::Launch { id: asked, wait } if asked == id => {
                    client.answer(&Reply::Launched(pid));
                    if wait {
                        client.doing = Doing::Exit { id };
                    }
                }
                Doing::Exec { id: asked, .. } if asked == id => {
                    client.exec.launched = true;
                    client.answer_stream();
                }
                _ => {}
            }
        }
    }

    /// Makes sure that programs can be started, by whatever is asked of the guest now: a machine that is paused goes on.
    fn may_start_programs(&mut self, guest: &mut dyn Guest) -> Result<(), Reply> {
        match self.phase {
            Phase::Starting { .. } | Phase::Running => Ok(()),
            Phase::Paused { .. } => self.resume(guest),
            Phase::Stopping { .. } => Err(Reply::Failed("the machine is stopping".into())),
            Phase::Failing { ref reason, .. } => Err(Reply::Failed(reason.clone())),
        }
    }

    fn resume(&mut self, guest: &mut dyn Guest) -> Result<(), Reply> {
        self.go_on(guest).map_err(Reply::Failed)
    }

    fn phase_now(&self) -> api::Phase {
        match self.phase {
            Phase::Starting { .. } => api::Phase::Starting,
            Phase::Running => api::Phase::Running,
            Phase::Paused { .. } => api::Phase::Paused,
            Phase::Stopping { .. } | Phase::Failing { .. } => api::Phase::Stopping,
        }
    }

    fn status(&self, guest: &dyn Guest) -> Status {
        Status {
            phase: self.phase_now(),
            agent: self.control.ready(),
            system: self.control.system().map(str::to_owned),
            engine: guest.engine(),
            engine_pid: guest.pid(),
            pid: std::process::id(),
            windows_pid: self.windows.pid(),
            files_failed: self.files_failed.clone(),
            windows_failed: self.windows.failed().map(str::to_owned),
            network: guest.network(),
            apps: u32::try_from(self.control.apps()).unwrap_or(u32::MAX),
        }
    }
}

fn cannot(error: &AskError) -> Reply {
    Reply::Failed(chain(error))
}
