//! Window path, hops 3 and 6 of 6, and input path, hop 2 of 4: the display session with the agent.
//!
//! Takes the agent's requests, moves commits on, keeps the windows, and answers with releases, configures and frames.
//! All of it runs on the window loop's thread; nothing here waits.

mod alive;
mod copying;
mod desktop;
mod drags;
mod frames;
mod looks;
mod roles;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::{AgentCounters, Commit, Cursor, Event, Request, States, SurfaceId};
use inlay_protocol::geometry::Point;
use inlay_protocol::input::InputEvent;
use inlay_protocol::limits;

use crate::apps::WindowIcons;
use crate::windows::buffers::{BufferError, Buffers};
use crate::windows::dialogs::Dialogs;
use crate::windows::exchange::Exchange;
use crate::windows::focus::Focus;
use crate::windows::memory::GuestMemory;
use crate::windows::presenter::{Keymap, Presenter};
use crate::windows::render::Renderer;
use crate::windows::scene::{PixelCounters, Scene, SceneError};
use crate::windows::uploads::Uploads;
use crate::windows::window::Window;

pub use frames::bordered;

/// How long the agent's requests keep the loop from everything else.
const TURN: Duration = Duration::from_millis(20);

/// Why the agent is disconnected.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection ended or the protocol was broken.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Bounds of surfaces and commits.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// A buffer cannot be taken.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// A request that makes no sense.
    #[error("the agent asks for something impossible: {0}")]
    Nonsense(&'static str),
}

/// The session with one agent connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// The last turn ended before all requests that came were taken.
    more: bool,
    machine: String,
    /// Surfaces.
    pub scene: Scene,
    /// Windows, by their root surface, in the order of their ids.
    pub windows: BTreeMap<SurfaceId, Window>,
    /// Acts asked for before the window was open: its first states.
    early: HashMap<SurfaceId, States>,
    buffers: Buffers,
    focus: Focus,
    /// Whether a key or button reached the agent since popups were last dismissed: only then may an app take a grab.
    prompted: bool,
    cursor: Cursor,
    /// Acts of the agent since that time.
    acts: (Instant, u32),
    /// When the desktop was last told how windows look, and how many were announced to it since.
    told: (Instant, u32),
    /// Whether the desktop decides ([`Presenter::decides`]).
    decides: bool,
    news: News,
    /// The keymap that the agent has.
    keymap: Option<Keymap>,
    /// Where the desktop last told that toplevels are.
    places: HashMap<SurfaceId, Point>,
    serial: u32,
    started: Instant,
    /// Releases that leave with the next frame: an agent that has another buffer is not woken for them alone.
    released: Vec<(SurfaceId, u64)>,
    /// When the newest commits were uploaded.
    pub uploads: Uploads,
    drags: drags::Drags,
    /// The agent's own figures, when they were asked for and came.
    pub agent_counters: Option<AgentCounters>,
}

/// What the desktop or the agent is to be told with the next tick: however often it is asked for, it costs one answer a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct News(u8);

impl News {
    /// The monitors, for the agent.
    const OUTPUTS: Self = Self(1);
    /// The keymap, for the agent, if it is another.
    const KEYBOARD: Self = Self(2);
    /// All that the agent ever was told.
    const EVERYTHING: Self = Self(4);
    /// The cursor, for the desktop.
    const CURSOR: Self = Self(8);

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What the session works with.
#[derive(Debug)]
pub struct Tools<'a> {
    /// The desktop.
    pub presenter: &'a mut dyn Presenter,
    /// The device.
    pub renderer: &'a mut Renderer,
    /// Guest memory.
    pub memory: &'a GuestMemory,
    /// Windows of the host's own.
    pub dialogs: &'a mut Dialogs,
    /// Copy and paste.
    pub exchange: &'a mut Exchange,
    /// Icons for windows that bring none, where the guest has apps of its own.
    pub icons: Option<&'a mut WindowIcons>,
}

impl Session {
    /// A session over a connection whose handshake is done. Says outputs and keymap.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn new(
        connection: Connection,
        machine: &str,
        presenter: &mut dyn Presenter,
    ) -> Result<Self, SessionError> {
        let mut session = Self {
            connection,
            more: false,
            machine: machine.to_owned(),
            scene: Scene::default(),
            windows: BTreeMap::new(),
            early: HashMap::new(),
            buffers: Buffers::default(),
            focus: Focus::default(),
            prompted: false,
            cursor: Cursor::Named("default".to_owned()),
            acts: (Instant::now(), 0),
            told: (Instant::now(), 0),
            decides: presenter.decides(),
            news: News::default(),
            keymap: None,
            places: HashMap::new(),
            serial: 0,
            started: Instant::now(),
            released: Vec::new(),
            uploads: Uploads::default(),
            drags: drags::Drags::default(),
            agent_counters: None,
        };
        session.say_all(presenter)?;
        Ok(session)
    }

    /// The connection, to be polled.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What was counted on the pixel path.
    #[must_use]
    pub fn counters(&self) -> PixelCounters {
        self.scene.counters
    }

    /// Asks the agent for its figures; they arrive in [`Session::agent_counters`].
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn query_counters(&mut self) -> Result<(), SessionError> {
        self.agent_counters = None;
        self.tell(&Event::QueryCounters)
    }

    /// Tells the agent something; it leaves with the next [`Session::flush`].
    ///
    /// # Errors
    /// When more waits for it than a live agent would leave.
    pub fn tell(&mut self, event: &Event) -> Result<(), SessionError> {
        Ok(self.connection.queue(event)?)
    }

    fn say_all(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        self.say_outputs(presenter)?;
        self.keymap = None;
        self.say_keymap(presenter)
    }

    fn say_outputs(&mut self, presenter: &dyn Presenter) -> Result<(), SessionError> {
        self.tell(&Event::Outputs(presenter.outputs().to_vec()))
    }

    /// Tells the keymap if the agent has another.
    fn say_keymap(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let Some(keymap) = presenter.keyboard().filter(|k| self.keymap.as_ref() != Some(k)) else {
            return Ok(());
        };
        if keymap.text.len() <= limits::KEYMAP {
            self.tell(&Event::Input(InputEvent::Keymap(keymap.text.clone())))?;
        }
        self.tell(&Event::Input(InputEvent::Repeat { rate: keymap.rate, delay: keymap.delay }))?;
        self.keymap = Some(keymap);
        Ok(())
    }

    /// Tells what was put off to the tick.
    fn say_news(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let news = std::mem::take(&mut self.news);
        if news.has(News::EVERYTHING) {
            self.say_all(presenter)?;
            self.focus.forget();
            self.update_focus()?;
            self.windows.values_mut().for_each(Window::forget_configured);
            for (surface, at) in self.places.clone() {
                self.tell(&Event::Place { surface, at })?;
            }
        }
        if news.has(News::OUTPUTS) {
            self.say_outputs(presenter)?;
        }
        if news.has(News::OUTPUTS) || news.has(News::EVERYTHING) {
            self.say_shown(presenter)?;
        }
        if news.has(News::KEYBOARD) {
            self.say_keymap(presenter)?;
        }
        if news.has(News::CURSOR) {
            self.show_cursor(presenter);
        }
        Ok(())
    }

    /// Reads what the agent sent and acts on it.
    ///
    /// # Errors
    /// When the agent is to be disconnected.
    pub fn receive(&mut self, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        if !self.more {
            self.connection.receive()?;
        }
        let end = Instant::now() + TURN;
        self.more = true;
        while self.more && Instant::now() < end {
            match self.connection.next_message::<Request>()? {
                Some((request, fds)) => self.request(request, fds, tools)?,
                None => self.more = false,
            }
        }
        self.announce_all(tools.presenter)?;
        self.configure_all(Instant::now())?;
        let (tick, _) = self.wants_tick();
        if !tick {
            self.say_released()?;
        }
        self.flush()
    }

    pub(super) fn say_released(&mut self) -> Result<(), SessionError> {
        for (surface, number) in std::mem::take(&mut self.released) {
            self.tell(&Event::Release { surface, number })?;
        }
        Ok(())
    }

    /// Whether requests that came wait for the next turn.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Writes what waits for the agent.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn flush(&mut self) -> Result<(), SessionError> {
        Ok(self.connection.flush()?)
    }

    fn request(
        &mut self,
        request: Request,
        fds: Vec<OwnedFd>,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        match request {
            Request::CreateBuffer { buffer, size, backing } => {
                self.buffers.create(buffer, size, backing, fds.first())?;
            }
            Request::DestroyBuffer { buffer } => self.buffers.destroy(buffer),
            Request::Transaction(commits) => self.transaction(commits, tools)?,
            Request::DestroySurface { surface } => {
                self.drop_window(surface, tools);
                self.scene.destroy(surface);
                self.drags.changed(surface);
            }
            Request::Toplevel(toplevel) => self.toplevel(toplevel, tools.presenter)?,
            Request::Popup(popup) => self.popup(popup, tools)?,
            Request::RoleGone { surface } => self.drop_window(surface, tools),
            Request::Act { surface, act } => self.act(surface, act, tools),
            Request::Cursor(cursor) => self.take_cursor(cursor)?,
            Request::Icons { surface, icons } => self.icons(surface, icons),
            Request::Shape { surface, rects } => self.shape(surface, rects),
            Request::Pong { surface, serial } => self.pong(surface, serial, tools.dialogs),
            Request::Counters(counters) => self.agent_counters = Some(counters),
            Request::Constrain { surface, how } => self.constrain(surface, how, tools),
            Request::Offer(offer) => self.copied(offer, tools)?,
            Request::Fetch { transfer, selection, serial, kind } => {
                self.pastes(transfer, (selection, serial, kind), tools)?;
            }
            Request::DragAnswer { serial, kind, action } => {
                tools.exchange.drag_answered(serial, kind.as_deref(), action, tools.presenter);
            }
            Request::DragEnd { serial, action } => tools.exchange.drag_ended(serial, action, tools.presenter),
            Request::DragStart(start) => self.drag_starts(start, tools)?,
            Request::DragIcon { serial, icon } => self.drag_icon(serial, icon, tools),
            Request::OpenLink(uri) => self.link(uri, tools)?,
            Request::DragCancel { serial } => tools.exchange.drag_cancelled(serial, tools.presenter),
            Request::SayAgain => self.news.add(News::EVERYTHING),
        }
        Ok(())
    }

    fn transaction(&mut self, commits: Vec<Commit>, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let now = Instant::now();
        let surfaces: Vec<SurfaceId> = commits.iter().map(|c| c.surface).collect();
        let outcomes = self.scene.transaction(commits, now)?;
        self.follow(outcomes, now, tools)?;
        for surface in surfaces {
            self.advance(surface, now, tools)?;
        }
        Ok(())
    }
}
