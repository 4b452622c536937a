//! Window path, hops 3 and 6 of 6, and input path, hop 2 of 4: the display session with the agent.
//!
//! Takes the agent's requests, moves commits on, keeps the windows, and answers with releases, configures and frames.
//! All of it runs on the window loop's thread; nothing here waits.

mod desktop;
mod frames;
mod roles;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::time::Instant;

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::{AgentCounters, Commit, Cursor, Event, Request, States, SurfaceId};
use inlay_protocol::input::InputEvent;
use inlay_protocol::limits;

use crate::windows::buffers::{BufferError, Buffers};
use crate::windows::focus::Focus;
use crate::windows::memory::GuestMemory;
use crate::windows::presenter::Presenter;
use crate::windows::render::Renderer;
use crate::windows::scene::{PixelCounters, Scene, SceneError};
use crate::windows::uploads::Uploads;
use crate::windows::window::Window;

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
    serial: u32,
    started: Instant,
    /// Releases that leave with the next frame: an agent that has another buffer is not woken for them alone.
    released: Vec<(SurfaceId, u64)>,
    /// When the newest commits were uploaded.
    pub uploads: Uploads,
    /// The agent's own figures, when they were asked for and came.
    pub agent_counters: Option<AgentCounters>,
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
            machine: machine.to_owned(),
            scene: Scene::default(),
            windows: BTreeMap::new(),
            early: HashMap::new(),
            buffers: Buffers::default(),
            focus: Focus::default(),
            prompted: false,
            cursor: Cursor::Named("default".to_owned()),
            serial: 0,
            started: Instant::now(),
            released: Vec::new(),
            uploads: Uploads::default(),
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

    pub(super) fn tell(&mut self, event: &Event) -> Result<(), SessionError> {
        Ok(self.connection.queue(event)?)
    }

    fn say_all(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        self.tell(&Event::Outputs(presenter.outputs()))?;
        if let Some((keymap, rate, delay)) = presenter.keyboard() {
            if keymap.len() <= limits::KEYMAP {
                self.tell(&Event::Input(InputEvent::Keymap(keymap)))?;
            }
            self.tell(&Event::Input(InputEvent::Repeat { rate, delay }))?;
        }
        Ok(())
    }

    /// Reads what the agent sent and acts on it.
    ///
    /// # Errors
    /// When the agent is to be disconnected.
    pub fn receive(&mut self, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        self.connection.receive()?;
        while let Some((request, fds)) = self.connection.next_message::<Request>()? {
            self.request(request, fds, tools)?;
        }
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
            }
            Request::Toplevel(toplevel) => self.toplevel(toplevel, tools)?,
            Request::Popup(popup) => self.popup(popup, tools)?,
            Request::RoleGone { surface } => self.drop_window(surface, tools),
            Request::Act { surface, act } => self.act(surface, act, tools),
            Request::Cursor(cursor) => {
                self.cursor = cursor;
                self.show_cursor(tools.presenter);
            }
            Request::Counters(counters) => self.agent_counters = Some(counters),
            // Not shown yet.
            Request::Icons { .. } | Request::Shape { .. } | Request::Pong { .. } => {}
            Request::SayAgain => {
                self.say_all(tools.presenter)?;
                self.focus.forget();
                self.update_focus()?;
                self.windows.values_mut().for_each(Window::forget_configured);
            }
        }
        Ok(())
    }

    fn transaction(&mut self, commits: Vec<Commit>, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let now = Instant::now();
        let surfaces: Vec<SurfaceId> = commits.iter().map(|c| c.surface).collect();
        for commit in commits {
            self.scene.commit(commit, now)?;
        }
        for surface in surfaces {
            self.advance(surface, now, tools)?;
        }
        Ok(())
    }
}
