//! The window loop: one `poll` over everything, one tick at a time.

mod graphics;
mod machine;
mod questions;

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use inlay_exchange::News;
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::Event;
use inlay_protocol::handshake::{Capabilities, Hello, Refusal, Role, Welcome};
use inlay_protocol::input::InputEvent;
use inlay_protocol::memory::{Notice, State, Wish};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::dialogs::Dialogs;
use super::exchange::Exchange;
use super::gate::Gate;
use super::heap::{self, Heap};
use super::memory::GuestMemory;
use super::presenter::{HostEvent, Presenter};
use super::render::{DisplayHandle, Renderer};
use super::screen::Screen as GuestScreen;
use super::session::{Session, SessionError, Tools};
use super::{Options, Screen};
use crate::apps::WindowIcons;
use crate::tray::Tray;
use graphics::Graphics;
use questions::Asker;

/// Apps of hidden windows get their frame callbacks this often.
const HIDDEN_TICK: Duration = Duration::from_secs(1);
/// The tick where the desktop says itself when the next frame of a window is due.
const GATHER: Duration = Duration::from_millis(2);
/// A connection says hello within this time.
const HELLO: Duration = Duration::from_secs(2);
/// Tools that may ask at once.
const TOOLS: usize = 16;

/// A connection whose hello has not come.
#[derive(Debug)]
struct Stranger {
    connection: Connection,
    since: Instant,
}

/// The window process's loop.
#[derive(Debug)]
pub struct Loop {
    name: String,
    local: bool,
    display_listener: UnixListener,
    api_listener: UnixListener,
    strangers: Vec<Stranger>,
    askers: Vec<Asker>,
    /// Tools that have asked so far.
    asked: u64,
    session: Option<Session>,
    /// The guest's whole screen, where someone wants to see it.
    screen: GuestScreen,
    machine: Option<Connection>,
    /// How many windows the machine process was told of.
    told_windows: Option<u32>,
    /// What the machine does, once that was told.
    state: Option<State>,
    /// The guest's screen is offered, as its agent is missing.
    offers: bool,
    tray: Option<Tray>,
    memory: GuestMemory,
    presenter: Box<dyn Presenter>,
    graphics: Graphics,
    dialogs: Dialogs,
    exchange: Exchange,
    last_tick: Instant,
    last_hidden_tick: Instant,
    interval: Duration,
    received_before: u64,
    heap: Heap,
    icons: Option<WindowIcons>,
    /// The machine is being switched off.
    ending: bool,
}

impl Loop {
    /// Makes the sockets and connects to the machine process.
    ///
    /// # Errors
    /// When a socket cannot be made or the machine process cannot be reached.
    pub fn new(
        options: &Options,
        presenter: Box<dyn Presenter>,
        display: DisplayHandle,
    ) -> anyhow::Result<Self> {
        let graphics = Graphics::open(display)?;
        let machine = match &options.memory_socket {
            None => None,
            Some(path) => {
                let stream = UnixStream::connect(path).context("the machine process cannot be reached")?;
                Some(Connection::new(stream.into())?)
            }
        };
        let now = Instant::now();
        let mut this = Self {
            name: options.name.clone(),
            local: machine.is_none(),
            display_listener: listen(&options.display_socket)?,
            api_listener: listen(&options.api_socket)?,
            strangers: Vec::new(),
            askers: Vec::new(),
            asked: 0,
            session: None,
            screen: GuestScreen::new(&options.name),
            machine,
            told_windows: None,
            state: None,
            offers: false,
            tray: options.tray.clone().and_then(|(folders, name)| Tray::start(folders, name, options.border)),
            memory: GuestMemory::default(),
            presenter,
            graphics,
            dialogs: Dialogs::default(),
            exchange: Exchange::new(
                &options.name,
                options.memory_socket.is_none(),
                options.lists.clone(),
                Gate::new(options.permissions.clone()),
            ),
            last_tick: now,
            last_hidden_tick: now,
            interval: Duration::from_micros(16_667),
            received_before: 0,
            heap: Heap::default(),
            icons: options.apps.clone().map(WindowIcons::new),
            ending: false,
        };
        this.read_interval();
        tracing::info!("windows of {} ({:?})", this.name, options.screen);
        if options.screen == Screen::Headless {
            tracing::info!("without a display: windows can be pictured, not seen");
        }
        Ok(this)
    }

    /// The tick is the fastest monitor's.
    fn read_interval(&mut self) {
        let rate = self.presenter.outputs().iter().map(|o| o.refresh).max().unwrap_or(60_000);
        self.interval = Duration::from_micros(1_000_000_000 / u64::from(rate.clamp(10_000, 480_000)));
        if self.presenter.decides() {
            // Each window has its rhythm from the desktop; this only gathers what belongs together.
            self.interval = GATHER;
        }
    }

    /// Runs until the machine ends.
    ///
    /// # Errors
    /// When the display goes away.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            let [agent_waits, tool_waits, desktop_spoke] = self.wait()?;
            if agent_waits || tool_waits {
                // A call without a connection waiting costs as much as all else of a frame.
                self.accept()?;
            }
            if !self.machine_notices() {
                tracing::info!("the machine ended");
                self.end_session(None);
                return Ok(());
            }
            self.offer_screen();
            if self.icons.as_mut().is_some_and(WindowIcons::take_news) {
                self.with_session(|session, tools| {
                    session.new_apps(tools);
                    Ok(())
                });
            }
            if self.graphics.get()?.is_some() {
                self.strangers_speak();
            }
            // First, so that what was copied since is known before anything is pasted.
            self.exchange();
            self.agent_speaks();
            if desktop_spoke {
                // What an app wants is measured by what the desktop wants by now, and keys wait for no frame.
                self.desktop_speaks()?;
            }
            self.tick();
            self.show_screen();
            self.show_together();
            self.serve_tray();
            let open = self.session.as_ref().map_or(0, Session::open_toplevels);
            self.dialogs.toplevels(open, Instant::now());
            let open = open + usize::from(self.screen.is_open());
            self.tell_windows(open);
            if self.heap.windows(open, Instant::now()) {
                self.graphics.renderer().into_iter().for_each(Renderer::give_back);
                heap::give_back();
            }
            self.with_session(|session, tools| {
                session.ask_about_silent(Instant::now(), tools.dialogs);
                Ok(())
            });
            self.answer();
            // Last before waiting: drawing and requests take events off the display's socket into its library's queue,
            // and poll would not see them there.
            while self.desktop_speaks()? {}
        }
    }

    /// Polls until something happens or the next tick is due; whether an agent and a tool want to connect, and whether the desktop
    /// said something.
    fn wait(&self) -> anyhow::Result<[bool; 3]> {
        let readable = PollFlags::IN;
        let flags = |c: &Connection| if c.wants_write() { readable | PollFlags::OUT } else { readable };
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> =
            vec![(self.display_listener.as_fd(), readable), (self.api_listener.as_fd(), readable)];
        let desktop = self.presenter.fd().map(|fd| (fd, readable));
        fds.extend(desktop.iter().cloned());
        fds.extend(self.graphics.fd().map(|fd| (fd, readable)));
        fds.extend(self.tray.as_ref().map(|tray| (tray.fd(), readable)));
        fds.extend(self.machine.as_ref().map(|c| (c.fd(), flags(c))));
        fds.extend(self.session.as_ref().map(|s| (s.connection().fd(), flags(s.connection()))));
        fds.extend(self.strangers.iter().map(|s| (s.connection.fd(), flags(&s.connection))));
        fds.extend(self.askers.iter().map(|a| (a.connection.fd(), flags(&a.connection))));
        let wished = |(fd, read, write)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, read);
            flags.set(PollFlags::OUT, write);
            (fd, flags)
        };
        let selections = self.presenter.selections().map(|s| s.fds()).unwrap_or_default();
        fds.extend(selections.into_iter().chain(self.exchange.fds()).filter(|w| w.1 || w.2).map(wished));
        let mut fds: Vec<PollFd<'_>> =
            fds.into_iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let timeout = self.deadline().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {
                let waits = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
                Ok([waits(0), waits(1), desktop.is_some() && waits(2)])
            }
            Err(rustix::io::Errno::INTR) => Ok([false; 3]),
            Err(error) => Err(error).context("poll"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let (now, hidden) = self.session.as_ref().map_or((false, false), Session::wants_tick);
        let tick = now.then(|| self.last_tick + self.interval);
        let more = self.session.as_ref().filter(|s| s.has_more()).map(|_| Instant::now());
        let hidden = hidden.then(|| self.last_hidden_tick + HIDDEN_TICK);
        let hello = self.strangers.iter().map(|s| s.since + HELLO).min();
        let counters = self.askers.iter().filter_map(|a| a.counters_until).min();
        let asks = self.session.as_ref().and_then(Session::asks_at);
        let pasted = [self.exchange.due(), self.presenter.selections().and_then(|s| s.due())];
        let (opening, screen) = (self.dialogs.due(), self.screen.due(self.interval));
        let together = self.presenter.desk().and_then(|desk| desk.due(self.interval));
        let all = [tick, hidden, more, hello, counters, asks, opening, self.heap.due(), screen, together];
        let all = all.into_iter().chain(pasted);
        all.flatten().min()
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Some(connection) = accept(&self.display_listener)? {
            if self.strangers.len() < TOOLS {
                self.strangers.push(Stranger { connection, since: Instant::now() });
            }
        }
        while let Some(connection) = accept(&self.api_listener)? {
            if self.askers.len() < TOOLS {
                self.asked += 1;
                self.askers.push(Asker { connection, counters_until: None, number: self.asked });
            }
        }
        Ok(())
    }

    /// Takes the machine process's notices; `false` when it is gone.
    fn machine_notices(&mut self) -> bool {
        let Some(connection) = &mut self.machine else { return true };
        if connection.receive().is_err() || connection.flush().is_err() {
            return false;
        }
        loop {
            match connection.next_message::<Notice>() {
                Ok(Some((notice, fds))) => {
                    match &notice {
                        Notice::Ending => self.ending = true,
                        Notice::Say(text) => self.dialogs.say(text),
                        Notice::State(state) => self.state = Some(*state),
                        Notice::Apps => self.icons.iter_mut().for_each(WindowIcons::forget),
                        _ => {}
                    }
                    self.screen.notice(&notice);
                    if let Err(error) = self.memory.apply(notice, fds) {
                        tracing::warn!("guest memory: {error}");
                    }
                }
                Ok(None) => return true,
                Err(ConnectionError::Closed) => return false,
                Err(error) => {
                    tracing::error!("the machine process: {error}");
                    return false;
                }
            }
        }
    }

    /// Handshakes of new connections. One session at a time.
    fn strangers_speak(&mut self) {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for mut stranger in std::mem::take(&mut self.strangers) {
            let hello =
                stranger.connection.receive().and_then(|()| stranger.connection.next_raw(Hello::SIZE));
            let bytes: [u8; Hello::SIZE] = match hello {
                Ok(Some(bytes)) => bytes.try_into().unwrap_or([0; Hello::SIZE]),
                Ok(None) if now.duration_since(stranger.since) < HELLO => {
                    waiting.push(stranger);
                    continue;
                }
                Ok(None) | Err(_) => continue,
            };
            let answer = match Hello::decode(&bytes) {
                Err(error) => {
                    tracing::warn!("a display connection is refused: {error}");
                    continue;
                }
                Ok(Hello { role: Role::Display, .. }) if self.session.is_some() => {
                    Welcome::refuse(Refusal::Busy)
                }
                Ok(hello @ Hello { role: Role::Display, .. }) => {
                    let kind = if self.local { Capabilities::MEMFD } else { Capabilities::VIRTIO_GPU };
                    Welcome::answer(&hello, kind)
                }
                Ok(hello @ Hello { role: Role::Stream(stream), .. }) if self.exchange.expects(stream) => {
                    Welcome::answer(&hello, Capabilities::default())
                }
                Ok(Hello { role: Role::Stream(_), .. }) => Welcome::refuse(Refusal::UnknownStream),
                Ok(_) => Welcome::refuse(Refusal::Role),
            };
            let role = Hello::decode(&bytes).map(|hello| hello.role);
            let mut connection = stranger.connection;
            let told = connection.queue_raw(&answer.encode()).and_then(|()| connection.flush());
            if answer.refusal == Some(Refusal::UnknownStream) {
                // A paste that was given up; or a guest that guesses, as often as it likes.
                tracing::debug!("a stream is refused: nobody waits for it");
            } else if let Some(refusal) = answer.refusal {
                tracing::warn!("a display connection is refused: {refusal}");
            } else if let (Ok(()), Ok(Role::Stream(stream))) = (&told, role) {
                self.exchange.opened(stream, connection);
            } else if told.is_ok() {
                self.begin_session(connection);
            }
        }
        self.strangers = waiting;
    }

    fn begin_session(&mut self, connection: Connection) {
        match Session::new(connection, &self.name, self.presenter.as_mut()) {
            Ok(session) => {
                tracing::info!("the agent is connected");
                self.session = Some(session);
                let greeting = self.exchange.greet();
                self.tell_agent(&greeting);
            }
            Err(error) => tracing::warn!("the agent: {error}"),
        }
    }

    fn end_session(&mut self, error: Option<&SessionError>) {
        let Some(session) = self.session.take() else { return };
        self.received_before += session.connection().received();
        let closed = self.tools().map_or(0, |mut tools| session.end(&mut tools));
        self.exchange.agent_gone(self.presenter.as_mut());
        self.dialogs.permit_no_more();
        if self.ending {
            tracing::info!("the agent ends with the machine");
        } else if let Some(error) = error {
            tracing::warn!("the agent of {} is gone ({error}): {closed} windows were closed", self.name);
            if closed > 0 {
                self.dialogs.say(&format!(
                    "{}: the guest's window service ended; {closed} {} closed. Open the apps again.",
                    self.name,
                    if closed == 1 { "window was" } else { "windows were" },
                ));
            }
        }
    }

    /// Runs something with the session; ends it when that fails.
    fn with_session(&mut self, act: impl FnOnce(&mut Session, &mut Tools<'_>) -> Result<(), SessionError>) {
        let Some(mut session) = self.session.take() else { return };
        let result = self.tools().map_or(Ok(()), |mut tools| act(&mut session, &mut tools));
        self.session = Some(session);
        if let Err(error) = result {
            self.end_session(Some(&error));
        }
    }

    /// There are none before there is a graphics device, and no session.
    fn tools(&mut self) -> Option<Tools<'_>> {
        Some(Tools {
            renderer: self.graphics.renderer()?,
            presenter: self.presenter.as_mut(),
            memory: &self.memory,
            dialogs: &mut self.dialogs,
            exchange: &mut self.exchange,
            icons: self.icons.as_mut(),
        })
    }

    fn agent_speaks(&mut self) {
        self.with_session(|session, tools| session.receive(tools));
    }

    /// Copy and paste: what the desktop's apps did, and data on its way.
    fn exchange(&mut self) {
        let news = self.presenter.selections_mut().map(|s| s.turn()).unwrap_or_default();
        for news in news {
            if let News::Drag { feedback, own } = news {
                self.with_session(|session, tools| session.carried(feedback, own, tools));
                continue;
            }
            let events = self.exchange.desktop_did(news, self.session.is_some());
            if events.iter().any(|event| matches!(event, Event::Fetch { .. })) {
                self.tell_machine(&[Wish::Needed]);
            }
            self.tell_agent(&events);
        }
        let mut events = self.exchange.turn(self.presenter.as_mut());
        self.exchange.show_copies(&mut self.dialogs);
        if let Some(session) = &self.session {
            events.extend(self.exchange.focus(session.has_focus() || self.dialogs.asks_permission()));
        }
        self.tell_agent(&events);
    }

    fn tell_agent(&mut self, events: &[Event]) {
        if !events.is_empty() {
            self.with_session(|session, _| {
                events.iter().try_for_each(|event| session.tell(event))?;
                session.flush()
            });
        }
    }

    /// Follows the desktop's events; `false` when there were none.
    fn desktop_speaks(&mut self) -> anyhow::Result<bool> {
        for answer in self.dialogs.turn(self.presenter.as_mut()) {
            let Some(answer) = self.screen.take(answer) else { continue };
            self.with_session(|session, tools| session.host_event(answer, tools));
        }
        self.presenter.flush();
        let events = self.presenter.dispatch().context("the display is gone")?;
        let some = !events.is_empty();
        for event in events {
            if event == HostEvent::Outputs {
                self.read_interval();
            }
            let Some(event) = self.screen.take(event) else { continue };
            self.pointer_elsewhere(&event);
            let Some(event) = self.dialogs.take(event) else { continue };
            self.with_session(|session, tools| session.host_event(event, tools));
        }
        self.with_session(|session, _| session.flush());
        Ok(some)
    }

    /// Over another window than the guest's screen the pointer has the image of the guest's apps again.
    fn pointer_elsewhere(&mut self, event: &HostEvent) {
        let HostEvent::Input(InputEvent::PointerEnter { .. }) = event else { return };
        if self.screen.is_open()
            && let Some(session) = &self.session
        {
            session.show_cursor(self.presenter.as_mut());
        }
    }

    /// The guest's screen: draws it, and tells the machine process what the user does there.
    fn show_screen(&mut self) {
        let Some(renderer) = self.graphics.renderer() else { return };
        let presenter = self.presenter.as_mut();
        self.screen.turn(self.interval, &self.memory, presenter, renderer, &mut self.dialogs);
        let wishes = self.screen.wishes();
        self.tell_machine(&wishes);
    }

    /// The machine process knows how many windows there are: a guest that has none may be paused, or stopped.
    fn tell_windows(&mut self, open: usize) {
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        if self.told_windows != Some(open) {
            self.told_windows = Some(open);
            self.tell_machine(&[Wish::Windows(open)]);
        }
    }

    fn tell_machine(&mut self, wishes: &[Wish]) {
        let Some(machine) = self.machine.as_mut().filter(|_| !wishes.is_empty()) else { return };
        let sent = wishes.iter().try_for_each(|wish| machine.queue(wish)).and_then(|()| machine.flush());
        if let Err(error) = sent {
            // Its end is seen where its notices are taken.
            tracing::debug!("the machine process: {error}");
        }
    }

    /// Has all windows of apps in one window, or each in its own again; no app hears of it. `false` while the user is asked whether
    /// something may cross: that question lies above a window, which is to stay where it is.
    fn put_together(&mut self, on: bool, fullscreen: bool) -> bool {
        if self.presenter.desk().is_none_or(|desk| desk.is_on() == on) {
            return true;
        }
        if self.dialogs.asks_permission() {
            return false;
        }
        self.with_session(|session, tools| session.move_out(tools));
        match self.presenter.desk_mut() {
            Some(desk) if on => desk.put_together(fullscreen),
            Some(desk) => desk.put_apart(),
            None => {}
        }
        self.read_interval();
        self.with_session(|session, tools| session.move_in(tools));
        true
    }

    /// The window that has all others in it.
    fn show_together(&mut self) {
        if let (Some(desk), Some(renderer)) = (self.presenter.desk_mut(), self.graphics.renderer()) {
            desk.turn(self.interval, renderer);
            if desk.wants_apart() {
                self.put_together(false, false);
            }
        }
        if self.screen.wants_apps() {
            self.put_together(true, false);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let Some(session) = &self.session else { return };
        let (wanted, hidden) = session.wants_tick();
        let due = wanted && now >= self.last_tick + self.interval;
        let hidden_due = hidden && now >= self.last_hidden_tick + HIDDEN_TICK;
        if due || hidden_due {
            if hidden_due {
                self.last_hidden_tick = now;
            }
            // Ticks keep their rhythm unless one was missed.
            let next = self.last_tick + self.interval;
            self.last_tick = if now < next + self.interval { next } else { now };
            self.with_session(|session, tools| session.tick(hidden_due, tools));
        }
    }
}

fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    // A socket left by a window process that died.
    let _ = std::fs::remove_file(path);
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &UnixListener) -> anyhow::Result<Option<Connection>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(Connection::new(stream.into())?)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => Ok(None),
        // Whoever connects waits until there are descriptors again: windows that are there go on.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) => Ok(None),
        Err(error) => Err(error).context("accept"),
    }
}
