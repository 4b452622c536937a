//! The machine process's loop and phases (drawn in [`super`]).
//!
//! After each wait every part looks at its own sockets, which never block; wakes are rare, since neither pixels nor the
//! bytes of streams pass here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_protocol::control::{Command, Report};
use inlay_protocol::handshake::{Capabilities, Refusal, Role};
use inlay_protocol::memory::{Show, Wish};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::catalogue::Catalogue;
use super::clients::{Clients, Doing};
use super::clock::Clock;
use super::control::{AgentEvent, Control};
use super::door::chain;
use super::door::{Arrival, Door};
use super::guest::{Ended, Guest};
use super::idle::{Act, Idle, Usage};
use super::imported::Imported;
use super::launcher::Launcher;
use super::memory::{MemoryServer, Observer};
use super::missing::Missing;
use super::screen::{Devices, Screen};
use super::wait::{earlier, wait};
use super::windows::{self, WindowCommand, WindowProcess};
use super::zone::Zone;
use super::{MachineError, Options, STOP_LIMIT, Sockets};
use crate::api::{self, Reply};
use crate::apps::Apps;
use crate::config::{Config, X11Apps};
use crate::paths::MachinePaths;
use crate::process;
use crate::signals::Signals;

/// How long an engine may take to end after it was told to.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// What the machine does.
#[derive(Debug)]
pub(super) enum Phase {
    /// Booting; until then the agent must be ready.
    Starting { until: Instant },
    /// The agent has been ready.
    Running,
    /// The processors stand still: as the user wants it, or because nothing of the machine was in use.
    Paused { by_itself: bool },
    /// Switching off.
    Stopping { step: Step, until: Instant, forced: Option<String> },
    /// It failed and its engine is being ended.
    Failing { reason: String, until: Instant },
}

/// How far switching off has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest was asked.
    Asked,
    /// The engine was told to end.
    Quit,
    /// The engine was killed.
    Killed,
}

/// How the machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Switched off, as wanted.
    Off,
    /// For this reason.
    Failed(String),
}

/// A machine that is on.
#[derive(Debug)]
pub struct Running {
    paths: MachinePaths,
    pub(super) phase: Phase,
    since: Instant,
    pub(super) control: Control,
    pub(super) streams: Door,
    pub(super) memory: MemoryServer,
    devices: Devices,
    pub(super) screen: Screen,
    pub(super) windows: WindowProcess,
    pub(super) clients: Option<Clients>,
    signals: Signals,
    clock: Clock,
    zone: Zone,
    idle: Idle,
    pub(super) missing: Missing,
    catalogue: Catalogue,
    /// What is different where the disk was imported.
    pub(super) imported: Option<Imported>,
    /// Why the shared folders are gone, when they are.
    pub(super) files_failed: Option<String>,
    /// Bytes of what apps copied that the agent is to keep.
    keep_copied: u64,
    /// X11 apps draw at the scale of the host's monitors.
    sharp_x11: bool,
}

impl Running {
    /// Opens the sockets that the guest's agent and window processes use.
    ///
    /// # Errors
    /// A socket or the signal handling cannot be made.
    pub fn new(paths: &MachinePaths, options: &Options, config: &Config) -> Result<Self, MachineError> {
        let sockets = Sockets::new(paths.runtime());
        let socket = MachineError::system;
        let memory =
            MemoryServer::open(&sockets.memory()).map_err(socket("cannot open the memory channel"))?;
        let control = Control::open(&sockets.control(), Capabilities::VIRTIO_GPU)
            .map_err(socket("cannot open the control socket"))?;
        let streams = Door::open(&sockets.stream()).map_err(socket("cannot open the stream socket"))?;
        let signals = Signals::watch(&[SIGINT, SIGTERM]).map_err(socket("cannot watch for signals"))?;
        // The end of a session sends it right behind SIGTERM, which says all.
        signal_hook::flag::register(SIGHUP, Arc::default()).map_err(socket("cannot watch for signals"))?;
        let clock = Clock::watch().map_err(socket("cannot watch the clock"))?;
        let log = windows::log(paths.data());
        // What an earlier run said is of no use as a reason.
        let _ = std::fs::remove_file(&log);
        let launcher = Launcher::start(&WindowCommand {
            program: process::own_binary()?,
            label: paths.name().to_string(),
            runtime: paths.runtime().into(),
            local: false,
            border: config.border.colour(&paths.name().to_string()),
            tray: config.tray,
            log: log.clone(),
        });
        let launcher = launcher.map_err(socket("cannot start the launcher of window processes"))?;
        let mut windows = WindowProcess::new(Box::new(launcher), log);
        if options.display != api::Display::Any {
            // Fails only for `Any`.
            let _ = windows.show(&options.display);
        }
        let devices = Devices::new().map_err(socket("cannot make the guest's screen"))?;
        let mut screen = Screen::new(devices.clone());
        if options.window {
            screen.show(Show::default());
        }
        let now = Instant::now();
        let imported = config.firmware.map(|_| Imported::of(paths));
        let phase = match &imported {
            Some(imported) if !imported.expects_agent() => Phase::Running,
            _ => Phase::Starting { until: now + options.start_limit },
        };
        let paths = paths.clone();
        let keep_copied = u64::from(config.keep_copied) << 20;
        Ok(Self {
            phase,
            since: now,
            control,
            streams,
            memory,
            devices,
            screen,
            windows,
            clients: None,
            signals,
            clock,
            zone: Zone::new(config.host_time_zone),
            idle: Idle::new(config),
            missing: Missing::new(options.start_limit),
            catalogue: Catalogue::new(Apps::of(&paths)),
            imported,
            paths,
            keep_copied,
            sharp_x11: config.x11_apps == X11Apps::Sharp,
            files_failed: None,
        })
    }

    /// What to give to the gpu device and its transport.
    #[must_use]
    pub fn memory_observer(&self) -> Observer {
        self.memory.observer()
    }

    /// The host sides of the devices of the full window, for whoever makes these.
    #[must_use]
    pub fn screen_devices(&self) -> Devices {
        self.devices.clone()
    }

    /// Lets command lines connect.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(&mut self) -> std::io::Result<()> {
        self.clients = Some(Clients::open(&Sockets::new(self.paths.runtime()).api())?);
        Ok(())
    }

    /// Holds the guest until it is off, and tells everyone who waits.
    pub fn run(&mut self, mut guest: Box<dyn Guest>) -> End {
        let end = loop {
            if let Err(error) = self.wait(&*guest) {
                break End::Failed(format!("the machine process cannot wait: {error}"));
            }
            if let Some(ended) = guest.ended() {
                break self.guest_ended(ended);
            }
            self.turn(&mut *guest);
        };
        drop(guest);
        self.windows.end();
        match &end {
            End::Off => tracing::info!("the guest is off"),
            End::Failed(reason) => tracing::error!("the machine failed: {reason}"),
        }
        self.tell_end(&end);
        end
    }

    fn wait(&self, guest: &dyn Guest) -> std::io::Result<()> {
        let fixed = [(guest.fd(), false), (self.signals.fd(), false), (self.clock.fd(), false)];
        let fds = fixed
            .into_iter()
            .chain(self.control.fds())
            .chain(self.streams.fds().map(|fd| (fd, false)))
            .chain(self.memory.fds())
            .chain(self.windows.fd().map(|fd| (fd, false)))
            .chain(guest.files_fd().filter(|_| self.files_failed.is_none()).map(|fd| (fd, false)))
            .chain(self.clients.iter().flat_map(Clients::fds));
        let phase = match &self.phase {
            Phase::Starting { until } | Phase::Stopping { until, .. } | Phase::Failing { until, .. } => {
                Some(*until)
            }
            Phase::Running | Phase::Paused { .. } => None,
        };
        let deadlines = [
            phase,
            self.control.deadline(),
            self.streams.deadline(),
            self.windows.deadline(),
            self.catalogue.due(),
            self.missing.due().filter(|_| matches!(self.phase, Phase::Running)),
            self.idle.due().filter(|_| matches!(self.phase, Phase::Running)),
            (self.control.ready() && !matches!(self.phase, Phase::Paused { .. })).then(|| self.clock.due()),
            self.clients.as_ref().and_then(Clients::deadline),
        ];
        wait(fds, deadlines.into_iter().fold(None, earlier))
    }

    fn turn(&mut self, guest: &mut dyn Guest) {
        if !self.signals.came().is_empty() {
            let force = matches!(self.phase, Phase::Stopping { .. });
            tracing::info!(force, "a signal asks the machine to stop");
            self.stop(guest, force.then(|| "a second signal".into()), STOP_LIMIT);
        }
        for wish in self.memory.turn(self.screen.shown()) {
            match wish {
                Wish::Needed => self.needed(guest),
                Wish::Screen | Wish::Wait => self.agent_answer(wish == Wish::Screen),
                _ => {}
            }
            if self.screen.take(wish) {
                self.answer_where(|doing| doing == Doing::Window, &Reply::Done);
            }
        }
        self.windows.turn();
        if let Some(why) = self.windows.failed() {
            let reply = Reply::Failed(why.to_owned());
            self.answer_where(|doing| doing == Doing::Window, &reply);
        }
        self.look_after_files(guest);
        if self.catalogue.take_changed(Instant::now()) {
            self.windows.menus_changed();
            self.memory.apps_changed();
        }
        if self.clock.turn(Instant::now()) {
            self.check_clock();
        }
        for event in self.control.turn() {
            self.agent(guest, event);
        }
        for arrival in self.streams.turn() {
            self.stream(arrival);
        }
        self.serve_clients(guest);
        self.look_whether_idle(guest);
        self.look_for_agent(guest);
        self.check_deadline(guest);
        self.memory.set_state(self.state(guest));
    }

    /// Pauses or stops a guest of which nothing is in use, as its configuration says.
    fn look_whether_idle(&mut self, guest: &mut dyn Guest) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let told = self.windows.pid().is_none() || self.memory.has_clients();
        let usage = Usage {
            agent: self.control.ready(),
            windows: self.memory.windows().filter(|_| told),
            apps: self.control.apps(),
            work: self.clients.as_ref().is_some_and(Clients::work),
        };
        match self.idle.look(Instant::now(), &usage) {
            None => {}
            Some(Act::Stop) => {
                tracing::info!("its last window was closed: the guest is switched off");
                self.stop(guest, None, STOP_LIMIT);
            }
            Some(Act::Pause) => match guest.pause() {
                Ok(()) => {
                    tracing::info!("nothing of the guest is in use: it is paused");
                    self.phase = Phase::Paused { by_itself: true };
                }
                Err(error) => tracing::warn!("the guest cannot be paused: {error}"),
            },
        }
    }

    /// Something of the guest is needed: it goes on, unless the user paused it.
    fn needed(&mut self, guest: &mut dyn Guest) {
        if matches!(self.phase, Phase::Paused { by_itself: true })
            && let Err(error) = self.go_on(guest)
        {
            tracing::warn!("the guest cannot go on: {error}");
        }
    }

    /// Tells when the file server ended.
    fn look_after_files(&mut self, guest: &mut dyn Guest) {
        if self.files_failed.is_none()
            && let Some(how) = guest.files_ended()
        {
            let name = self.paths.name();
            let text = format!(
                "{name}: its shared folders are gone, as their server ended ({how}). They are back when it was stopped and started."
            );
            tracing::error!("{text}");
            self.memory.say(&text);
            self.files_failed = Some(text);
        }
    }

    fn agent(&mut self, guest: &mut dyn Guest, event: AgentEvent) {
        match event {
            AgentEvent::Ready => {
                tracing::info!(after = ?self.since.elapsed(), system = self.control.system(), "the agent is ready");
                match self.phase {
                    Phase::Starting { .. } => self.phase = Phase::Running,
                    // It restarted when it was asked, and heard nothing of that.
                    Phase::Stopping { step: Step::Asked, .. } => {
                        if let Err(error) = self.control.send(&Command::PowerOff) {
                            tracing::warn!("{error}: it is not asked again to switch off");
                        }
                    }
                    _ => {}
                }
                self.missing.came(guest.restarts());
                if let Some(imported) = &mut self.imported {
                    imported.came();
                }
                self.zone.begin();
                self.check_clock();
                for wish in [Command::KeepCopied(self.keep_copied), Command::SharpX11(self.sharp_x11)] {
                    if let Err(error) = self.control.send(&wish) {
                        tracing::warn!(error = %chain(&error), "the agent is not told {wish:?}");
                    }
                }
                self.answer_where(|doing| matches!(doing, Doing::Ready | Doing::Agent), &Reply::Done);
                let question = self.catalogue.begin();
                self.ask_for_apps(Some(question));
            }
            AgentEvent::Lost(why) => {
                tracing::warn!("the agent is gone: {why}");
                self.missing.lost(Instant::now());
                let lost =
                    |doing| matches!(doing, Doing::Launch { .. } | Doing::Exit { .. } | Doing::Exec { .. });
                self.answer_where(lost, &Reply::Failed("the guest agent ended".into()));
            }
            AgentEvent::Report(report) => self.report(guest, report),
        }
    }

    fn report(&mut self, guest: &mut dyn Guest, report: Report) {
        match report {
            Report::Launched { id, pid } => self.launched(id, pid),
            Report::LaunchFailed { id, error } => {
                let asked = |doing| matches!(doing, Doing::Launch { id: i, .. } | Doing::Exec { id: i, .. } if i == id);
                self.answer_where(asked, &Reply::LaunchFailed(error));
            }
            Report::Exited { id, exit } => {
                self.answer_where(|doing| doing == Doing::Exit { id }, &Reply::Exited(exit));
            }
            Report::PoweringOff => tracing::info!("the guest is switching off"),
            Report::PowerOffFailed(why) => {
                tracing::warn!("the agent cannot switch the guest off: {}", process::one_line(&why));
                if let Err(error) = guest.power_button() {
                    tracing::warn!("neither can the power button: {error}");
                }
            }
            Report::Apps(list) => {
                self.catalogue.listed(list);
                self.more_apps();
            }
            Report::App(app) => {
                self.catalogue.told(*app);
                self.more_apps();
            }
            Report::NoApp(id) => {
                self.catalogue.missing(&id);
                self.more_apps();
            }
            Report::AskTime(question) => {
                if let Some(answer) = self.clock.answer(question) {
                    self.tell_time(&answer);
                }
            }
            Report::Ready { .. } | Report::Pong(_) => {}
        }
    }

    /// Has the agent look at the guest's clock. A guest that stands still does so when it goes on.
    fn check_clock(&mut self) {
        if self.control.ready() && !matches!(self.phase, Phase::Paused { .. }) {
            let check = self.clock.check();
            self.tell_time(&check);
            if let Some(zone) = self.zone.changed() {
                self.tell_time(&zone);
            }
        }
    }

    fn tell_time(&mut self, command: &Command) {
        if let Err(error) = self.control.send(command) {
            tracing::warn!(error = %chain(&error), "the agent is not told the time");
        }
    }

    /// Lets a paused guest go on, with its clock set right at once.
    ///
    /// # Errors
    /// The engine does not let it.
    pub(super) fn go_on(&mut self, guest: &mut dyn Guest) -> Result<(), String> {
        guest.resume()?;
        self.phase = Phase::Running;
        self.missing.went_on(Instant::now());
        self.check_clock();
        Ok(())
    }

    /// Goes on asking for the guest's apps; when all are known, the host's menus are made anew ([`Running::turn`]).
    fn more_apps(&mut self) {
        let question = self.catalogue.question();
        self.ask_for_apps(question);
    }

    fn ask_for_apps(&mut self, question: Option<Command>) {
        if let Some(question) = question
            && let Err(error) = self.control.send(&question)
        {
            tracing::warn!(error = %chain(&error), "the agent is not asked for apps");
        }
    }

    /// The agent opens a stream: it goes to the command line that waits for it, which then speaks to the agent itself.
    fn stream(&mut self, arrival: Arrival) {
        let Role::Stream(wanted) = arrival.hello.role else { return arrival.refuse(Refusal::Role) };
        let asked = |doing| matches!(doing, Doing::Exec { stream, .. } if stream == wanted);
        let mut clients = self.clients.iter_mut().flat_map(Clients::iter_mut);
        let client = clients.find(|client| asked(client.doing) && client.exec.stream.is_none());
        let Some(client) = client else { return arrival.refuse(Refusal::UnknownStream) };
        let socket = arrival.welcome(Capabilities::VIRTIO_GPU).map_err(|error| error.to_string()).and_then(
            |connection| {
                // Nothing of the stream is in the connection yet: the agent speaks only after it was welcomed.
                connection.fd().try_clone_to_owned().map_err(|error| error.to_string())
            },
        );
        match socket {
            Ok(socket) => {
                client.exec.stream = Some(socket);
                client.answer_stream();
            }
            Err(error) => client.answer(&Reply::Failed(format!("the command's stream failed: {error}"))),
        }
    }

    pub(super) fn answer_where(&mut self, which: impl Fn(Doing) -> bool, reply: &Reply) {
        let clients = self.clients.iter_mut().flat_map(Clients::iter_mut);
        for client in clients.filter(|client| which(client.doing)) {
            client.answer(reply);
        }
    }

    /// Begins to switch the guest off, or goes on more roughly: by force at once when there is a reason to.
    pub(super) fn stop(&mut self, guest: &mut dyn Guest, forced: Option<String>, grace: Duration) {
        self.memory.ending();
        if let Some(reason) = forced {
            return self.force(guest, reason);
        }
        if matches!(self.phase, Phase::Stopping { .. } | Phase::Failing { .. }) {
            return;
        }
        if matches!(self.phase, Phase::Paused { .. })
            && let Err(error) = self.go_on(guest)
        {
            return self.force(guest, format!("it does not resume: {error}"));
        }
        let asked = self.control.send(&Command::PowerOff).or_else(|error| {
            tracing::warn!("{error}: the guest's power button is pressed instead");
            guest.power_button()
        });
        match asked {
            Ok(()) => {
                let until = Instant::now() + grace;
                self.phase = Phase::Stopping { step: Step::Asked, until, forced: None };
            }
            Err(error) => self.force(guest, format!("it cannot be asked: {error}")),
        }
    }

    fn force(&mut self, guest: &mut dyn Guest, reason: String) {
        if matches!(
            self.phase,
            Phase::Failing { .. } | Phase::Stopping { step: Step::Quit | Step::Killed, .. }
        ) {
            return;
        }
        tracing::warn!("the guest is switched off by force: {reason}");
        let step = match guest.quit() {
            Ok(()) => Step::Quit,
            Err(error) => {
                tracing::warn!("the engine does not end in order: {error}");
                guest.kill();
                Step::Killed
            }
        };
        self.phase = Phase::Stopping { step, until: Instant::now() + QUIT_LIMIT, forced: Some(reason) };
    }

    fn check_deadline(&mut self, guest: &mut dyn Guest) {
        let now = Instant::now();
        let late = matches!(self.phase, Phase::Starting { until } if until <= now);
        if late && self.screen.shown().is_none() && self.offers_screen(now) {
            return;
        }
        match &self.phase {
            // Whoever looks at its screen sees what it does instead.
            Phase::Starting { until } if *until <= now && self.screen.shown().is_some() => {
                self.goes_on_without();
            }
            Phase::Starting { until } if *until <= now && self.imported.is_some() => {
                tracing::warn!("the guest's agent is not ready; the guest goes on without");
                self.phase = Phase::Running;
                let why = self.imported.as_mut().and_then(|imported| {
                    imported.did_not_come();
                    imported.no_agent()
                });
                let reply = Reply::NoAgent(why.unwrap_or_default());
                self.answer_where(|doing| doing == Doing::Ready, &reply);
            }
            Phase::Starting { until } if *until <= now => {
                let waited = self.since.elapsed().as_secs();
                let log = self.paths.serial_log();
                let (name, log) = (self.paths.name(), log.display());
                let reason = format!(
                    "the guest's agent was not ready within {waited} s: `inlay window {name}` shows its screen; see {log}"
                );
                if guest.quit().is_err() {
                    guest.kill();
                }
                self.phase = Phase::Failing { reason, until: now + QUIT_LIMIT };
            }
            Phase::Stopping { step: Step::Asked, until, .. } if *until <= now => {
                self.force(guest, "it did not switch off in time".into());
            }
            Phase::Stopping { step: Step::Quit, until, forced } if *until <= now => {
                let forced = forced.clone();
                guest.kill();
                self.phase = Phase::Stopping { step: Step::Killed, until: now + QUIT_LIMIT, forced };
            }
            Phase::Failing { reason, until } if *until <= now => {
                let reason = reason.clone();
                guest.kill();
                self.phase = Phase::Failing { reason, until: now + QUIT_LIMIT };
            }
            Phase::Stopping { step: Step::Killed, until, forced } if *until <= now => {
                let forced = forced.clone();
                guest.kill();
                self.phase = Phase::Stopping { step: Step::Killed, until: now + QUIT_LIMIT, forced };
            }
            _ => {}
        }
    }

    fn guest_ended(&mut self, ended: Ended) -> End {
        let log = self.paths.serial_log();
        match &self.phase {
            Phase::Stopping { .. } => End::Off,
            Phase::Failing { reason, .. } => End::Failed(reason.clone()),
            // Whoever looked at its screen may have done it.
            Phase::Starting { .. } if self.imported.is_some() && ended.in_order => End::Off,
            Phase::Starting { .. } => End::Failed(format!(
                "the guest ended before its agent was ready ({}): see {}",
                ended.reason,
                log.display()
            )),
            Phase::Running | Phase::Paused { .. } if ended.in_order => End::Off,
            Phase::Running | Phase::Paused { .. } => End::Failed(ended.reason),
        }
    }

    fn tell_end(&mut self, end: &End) {
        let forced = match &self.phase {
            Phase::Stopping { forced, .. } => forced.clone(),
            _ => None,
        };
        let failed = match end {
            End::Off => "the machine was stopped".to_owned(),
            End::Failed(reason) => reason.clone(),
        };
        let stopped = match end {
            End::Off => Reply::Stopped { forced },
            End::Failed(_) => Reply::Failed(failed.clone()),
        };
        self.answer_where(|doing| doing == Doing::Stop, &stopped);
        self.answer_where(|doing| doing != Doing::Nothing, &Reply::Failed(failed));
        if let Some(clients) = &mut self.clients {
            clients.flush_all();
        }
    }
}
