//! Window path, hops 3 and 6 of 6, and input path, hop 2 of 4: the display session with the agent.
//!
//! Takes the agent's requests, moves commits on, keeps the windows, and answers with releases, configures and frames.
//! All of it runs on the window loop's thread; nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::{
    Act, AgentCounters, Commit, Cursor, Event, Popup, Request, States, SurfaceId, Toplevel,
};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::InputEvent;
use inlay_protocol::limits;

use super::buffers::{BufferError, Buffers};
use super::focus::Focus;
use super::memory::GuestMemory;
use super::placement;
use super::presenter::{HostEvent, Image, Presenter};
use super::render::{Drawn, Renderer};
use super::scene::{Means, Outcome, PixelCounters, Scene, SceneError};
use super::uploads::Uploads;
use super::window::{self, Role, Window};

/// How long a window keeps a size that its app does not follow, before it takes the app's.
const MISFIT: Duration = Duration::from_millis(300);

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
    cursor: Cursor,
    serial: u32,
    started: Instant,
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
            cursor: Cursor::Named("default".to_owned()),
            serial: 0,
            started: Instant::now(),
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

    fn tell(&mut self, event: &Event) -> Result<(), SessionError> {
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
        self.flush()
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
            Request::SayAgain => {
                self.say_all(tools.presenter)?;
                self.focus.forget();
                self.update_focus(tools.presenter)?;
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

    /// Moves a surface's commits on and follows what came of it.
    fn advance(
        &mut self,
        surface: SurfaceId,
        now: Instant,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let root = self.scene.root(surface);
        let visible = self.windows.get(&root).is_none_or(|w| w.visible);
        let mut means =
            Means { buffers: &mut self.buffers, memory: tools.memory, renderer: &mut *tools.renderer };
        for outcome in self.scene.advance(surface, visible, now, &mut means) {
            match outcome {
                Outcome::Released(surface, number) => {
                    self.uploads.note(surface, number);
                    self.tell(&Event::Release { surface, number })?;
                }
                Outcome::Dropped(surface) => self.tell(&Event::Refresh { surface: Some(surface) })?,
                Outcome::Applied(surface) => self.applied(surface, now, tools)?,
            }
        }
        Ok(())
    }

    fn applied(
        &mut self,
        surface: SurfaceId,
        now: Instant,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        if matches!(self.cursor, Cursor::Surface { surface: s, .. } if s == surface) {
            self.show_cursor(tools.presenter);
        }
        let root = self.scene.root(surface);
        let wants_frame = self.scene.get(surface).and_then(|s| s.state()).is_some_and(|s| s.wants_frame);
        let Some(window) = self.windows.get_mut(&root) else {
            return Ok(());
        };
        window.dirty = true;
        window.wants_frame |= wants_frame;
        if root != surface {
            return Ok(());
        }
        let Some(content) = self.scene.get(root) else { return Ok(()) };
        window.acknowledge(content.state().and_then(|s| s.acked));
        let size = content.geometry().size();
        match (content.is_mapped() && !size.is_empty(), window.is_open()) {
            (true, false) => self.open(root, size, tools)?,
            (false, true) => self.close_window(root, tools),
            (true, true) => self.fit(root, size, now, tools.presenter),
            (false, false) => {}
        }
        Ok(())
    }

    /// Compares the app's size with the host's. An app that chose another size by itself gets it with the next tick.
    fn fit(&mut self, root: SurfaceId, size: Size, now: Instant, presenter: &mut dyn Presenter) {
        let Some(window) = self.windows.get_mut(&root) else { return };
        let misfit = size != window.size;
        match &mut window.role {
            Role::Toplevel(_) => window.misfit_since = misfit.then(|| window.misfit_since.unwrap_or(now)),
            Role::Popup(_, area) if misfit => {
                (area.width, area.height) = (size.width, size.height);
                window.size = size;
                presenter.place_popup(root, *area);
            }
            Role::Popup(..) => {}
        }
    }

    fn open(&mut self, root: SurfaceId, size: Size, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let Some(window) = self.windows.get(&root) else { return Ok(()) };
        let states = self.early.remove(&root).unwrap_or_default();
        let opened = match &window.role {
            Role::Toplevel(toplevel) => {
                let look = window::look(toplevel, &self.machine, |p| self.is_open(p));
                tools.presenter.open_toplevel(root, &look, size, states, tools.renderer)
            }
            Role::Popup(popup, area) => {
                if !self.is_open(popup.parent) {
                    return self.tell(&Event::PopupDone { surface: root });
                }
                let area = Rect { width: size.width, height: size.height, ..*area };
                tools.presenter.open_popup(root, popup.parent, area, tools.renderer)
            }
        };
        match opened {
            Ok(target) => {
                if let Some(window) = self.windows.get_mut(&root) {
                    window.target = Some(target);
                    window.size = size;
                    window.dirty = true;
                }
            }
            Err(error) => {
                tracing::warn!("a window cannot be opened: {error:#}");
                return match self.windows.get(&root).map(|w| &w.role) {
                    Some(Role::Popup(..)) => self.tell(&Event::PopupDone { surface: root }),
                    _ => Ok(()),
                };
            }
        }
        self.grab_changed(tools.presenter)
    }

    fn is_open(&self, surface: SurfaceId) -> bool {
        self.windows.get(&surface).is_some_and(Window::is_open)
    }

    fn close_window(&mut self, root: SurfaceId, tools: &mut Tools<'_>) {
        // Popups of it go first: they are drawn in relation to it.
        let children: Vec<SurfaceId> = self
            .windows
            .iter()
            .filter(|(_, w)| w.is_open() && matches!(&w.role, Role::Popup(p, _) if p.parent == root))
            .map(|(id, _)| *id)
            .collect();
        for child in children {
            if child != root {
                self.close_window(child, tools);
            }
        }
        if let Some(window) = self.windows.get_mut(&root)
            && window.target.take().is_some()
        {
            window.misfit_since = None;
            window.forget_configured();
            window.wish = window::Wish::default();
            tools.presenter.close(root);
        }
    }

    fn drop_window(&mut self, surface: SurfaceId, tools: &mut Tools<'_>) {
        self.close_window(surface, tools);
        self.early.remove(&surface);
        if self.windows.remove(&surface).is_some()
            && let Err(error) = self.grab_changed(tools.presenter)
        {
            tracing::debug!("focus after a closed window: {error}");
        }
    }

    /// Closes all windows: the agent is gone.
    pub fn end(mut self, tools: &mut Tools<'_>) -> usize {
        let open: Vec<SurfaceId> =
            self.windows.iter().filter(|(_, w)| w.is_open()).map(|(id, _)| *id).collect();
        let toplevels = open.iter().filter(|id| matches!(self.windows[*id].role, Role::Toplevel(_))).count();
        for id in open {
            self.close_window(id, tools);
        }
        tools.presenter.watch_clicks(None);
        tools.presenter.flush();
        toplevels
    }

    fn toplevel(&mut self, toplevel: Toplevel, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let surface = toplevel.surface;
        if self.windows.len() >= limits::SURFACES {
            return Err(SessionError::Nonsense("too many windows"));
        }
        if toplevel.parent == Some(surface) {
            return Err(SessionError::Nonsense("a toplevel that is its own parent"));
        }
        match self.windows.get_mut(&surface) {
            Some(Window { role: Role::Popup(..), .. }) => {
                return Err(SessionError::Nonsense("a popup that becomes a toplevel"));
            }
            Some(window) => window.role = Role::Toplevel(toplevel.clone()),
            None => {
                self.windows.insert(surface, Window::announced(Role::Toplevel(toplevel.clone())));
            }
        }
        if self.is_open(surface) {
            let look = window::look(&toplevel, &self.machine, |p| self.is_open(p));
            tools.presenter.update(surface, &look);
        }
        Ok(())
    }

    fn popup(&mut self, popup: Popup, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let surface = popup.surface;
        if self.windows.len() >= limits::SURFACES {
            return Err(SessionError::Nonsense("too many windows"));
        }
        if self.toplevel_of(popup.parent).is_none() || popup.parent == surface {
            // The parent went at the same moment; the app is told to take the popup back.
            return self.tell(&Event::PopupDone { surface });
        }
        let monitor = tools.presenter.monitor(popup.parent);
        let area = placement::place(&popup.positioner, monitor);
        let reposition = popup.reposition;
        match self.windows.get_mut(&surface) {
            Some(Window { role: Role::Toplevel(_), .. }) => {
                return Err(SessionError::Nonsense("a toplevel that becomes a popup"));
            }
            Some(window) => {
                window.role = Role::Popup(popup, area);
                if window.is_open() {
                    tools.presenter.place_popup(surface, area);
                }
            }
            None => {
                self.windows.insert(surface, Window::announced(Role::Popup(popup, area)));
            }
        }
        self.serial += 1;
        self.tell(&Event::ConfigurePopup { surface, serial: self.serial, area, reposition })
    }

    /// The toplevel that a popup hangs on; itself for a toplevel.
    fn toplevel_of(&self, surface: SurfaceId) -> Option<SurfaceId> {
        let mut at = surface;
        for _ in 0..limits::TREE_DEPTH {
            match &self.windows.get(&at)?.role {
                Role::Toplevel(_) => return Some(at),
                Role::Popup(popup, _) => at = popup.parent,
            }
        }
        None
    }

    fn act(&mut self, surface: SurfaceId, act: Act, tools: &mut Tools<'_>) {
        if self.is_open(surface) {
            tools.presenter.act(surface, act);
        } else if self.windows.contains_key(&surface) {
            let early = self.early.entry(surface).or_default();
            *early = match act {
                Act::Maximize => early.set(States::MAXIMIZED, true),
                Act::Unmaximize => early.set(States::MAXIMIZED, false),
                Act::Fullscreen => early.set(States::FULLSCREEN, true),
                Act::Unfullscreen => early.set(States::FULLSCREEN, false),
                Act::Move | Act::Resize(_) | Act::WindowMenu(_) | Act::Minimize => *early,
            };
        }
    }

    fn show_cursor(&self, presenter: &mut dyn Presenter) {
        let image = match &self.cursor {
            Cursor::Hidden => Image::Hidden,
            Cursor::Named(name) => Image::Named(name.clone()),
            Cursor::Surface { surface, hotspot } => match self.scene.get(*surface).and_then(|s| s.image()) {
                Some((size, bytes)) => Image::Pixels { size: *size, bytes: bytes.clone(), hotspot: *hotspot },
                None => return,
            },
        };
        presenter.set_cursor(image);
    }

    /// Follows what the desktop tells.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn host_event(&mut self, event: HostEvent, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        match event {
            HostEvent::Configured { window, size, states } => {
                tracing::debug!(window = window.0, ?size, ?states, "the desktop decided");
                if let Some(w) = self.windows.get_mut(&window) {
                    let activated = w.wish.states.contains(States::ACTIVATED);
                    w.wish.states = states.set(States::ACTIVATED, activated);
                    w.dirty |= w.size != size;
                    w.size = size;
                    let content = self.scene.get(window).map(|s| s.geometry().size());
                    if content != Some(size) || w.wish.size.is_some() {
                        w.wish.size = (!size.is_empty()).then_some(size);
                    }
                    w.misfit_since = None;
                }
            }
            HostEvent::Visible { window, visible } => {
                if let Some(w) = self.windows.get_mut(&window) {
                    w.visible = visible;
                    w.dirty |= visible;
                }
            }
            HostEvent::Exposed { window } => {
                if let Some(w) = self.windows.get_mut(&window) {
                    w.dirty = true;
                }
            }
            HostEvent::Destroyed { window } => {
                let popup = matches!(self.windows.get(&window).map(|w| &w.role), Some(Role::Popup(..)));
                self.close_window(window, tools);
                let surface = window;
                self.tell(&if popup { Event::PopupDone { surface } } else { Event::Close { surface } })?;
            }
            HostEvent::Close { window } => self.tell(&Event::Close { surface: window })?,
            HostEvent::Focus { window, keys, modifiers } => {
                if window.is_none() {
                    self.dismiss_popups(None)?;
                }
                for (id, w) in &mut self.windows {
                    w.wish.states = w.wish.states.set(States::ACTIVATED, Some(*id) == window);
                }
                self.focus.host(window, keys, modifiers);
                self.update_focus(tools.presenter)?;
            }
            HostEvent::ClickOutside { window } => self.dismiss_popups(window)?,
            HostEvent::Input(input) => self.input(input)?,
            HostEvent::Outputs => self.say_all(tools.presenter)?,
        }
        self.configure_all(Instant::now())
    }

    /// Dismisses popups with a grab, unless they belong to the toplevel that was clicked (its app decides).
    fn dismiss_popups(&mut self, clicked: Option<SurfaceId>) -> Result<(), SessionError> {
        let grabs: Vec<SurfaceId> = self.grabs().collect();
        for popup in grabs.into_iter().rev() {
            if clicked.is_none() || self.toplevel_of(popup) != clicked {
                self.tell(&Event::PopupDone { surface: popup })?;
            }
        }
        Ok(())
    }

    /// Open popups that took a grab, oldest first.
    fn grabs(&self) -> impl Iterator<Item = SurfaceId> {
        self.windows
            .iter()
            .filter(|(_, w)| w.is_open() && matches!(&w.role, Role::Popup(p, _) if p.grab))
            .map(|(id, _)| *id)
    }

    fn grab_changed(&mut self, presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let top = self.grabs().last();
        presenter.watch_clicks(top.and_then(|popup| self.toplevel_of(popup)));
        self.update_focus(presenter)
    }

    /// Keys go to the newest popup with a grab in the focused toplevel, else to the toplevel.
    fn update_focus(&mut self, _presenter: &mut dyn Presenter) -> Result<(), SessionError> {
        let focused = self.focus.window();
        let grab = self.grabs().filter(|p| focused.is_some() && self.toplevel_of(*p) == focused).last();
        let target = grab.or_else(|| focused.filter(|f| self.is_open(*f)));
        if let Some(input) = self.focus.aim(target) {
            self.tell(&Event::Input(input))?;
        }
        Ok(())
    }

    fn input(&mut self, mut input: InputEvent) -> Result<(), SessionError> {
        let pointed = match &input {
            InputEvent::PointerEnter { surface, .. } => Some(*surface),
            _ => self.focus.pointed(),
        };
        if let InputEvent::PointerEnter { x, y, .. } | InputEvent::PointerMotion { x, y, .. } = &mut input
            && let Some(surface) = pointed.and_then(|s| self.scene.get(s))
        {
            let corner = surface.geometry();
            *x += f64::from(corner.x);
            *y += f64::from(corner.y);
        }
        if self.focus.passes(&input) { self.tell(&Event::Input(input)) } else { Ok(()) }
    }

    /// Sends the configures that are due.
    fn configure_all(&mut self, now: Instant) -> Result<(), SessionError> {
        let mut due = Vec::new();
        for (id, window) in &mut self.windows {
            if matches!(window.role, Role::Toplevel(_))
                && let Some(wish) = window.configure(self.serial + 1, now)
            {
                self.serial += 1;
                due.push((*id, self.serial, wish));
            }
        }
        for (surface, serial, wish) in due {
            let window::Wish { size, states } = wish;
            tracing::debug!(surface = surface.0, serial, ?size, ?states, "configure");
            self.tell(&Event::ConfigureToplevel { surface, serial, size, states, bounds: None })?;
        }
        Ok(())
    }

    /// One tick of the display: draws dirty windows and sends frames. `hidden` is set once a second: apps of windows that
    /// cannot be seen then get their frame callbacks, so that none hangs.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn tick(&mut self, hidden: bool, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let now = Instant::now();
        let time_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ids: Vec<SurfaceId> = self.windows.keys().copied().collect();
        for id in ids {
            self.settle_size(id, now, tools);
            let Some(window) = self.windows.get_mut(&id) else { continue };
            let due = if window.visible {
                window.dirty || window.wants_frame
            } else {
                hidden && window.wants_frame
            };
            if !due || !window.is_open() {
                continue;
            }
            if window.visible && window.dirty {
                let quads = self.scene.quads(id);
                if let Some(target) = &mut window.target {
                    window.dirty = tools.renderer.draw(target, window.size, &quads) == Drawn::Later;
                }
            }
            window.wants_frame = false;
            self.scene.ticked(&self.scene.tree(id));
            self.tell(&Event::Frame { surface: id, time_ms })?;
        }
        // Surfaces without a window: cursor images.
        if let Cursor::Surface { surface, .. } = self.cursor {
            self.scene.ticked(&[surface]);
            if self.scene.get(surface).and_then(|s| s.state()).is_some_and(|s| s.wants_frame) {
                self.tell(&Event::Frame { surface, time_ms })?;
            }
        }
        tools.renderer.submit();
        for surface in self.scene.waiting() {
            self.advance(surface, now, tools)?;
        }
        self.configure_all(now)?;
        self.flush()
    }

    /// Gives a window the size that its app insists on, once the desktop left it alone for a moment.
    fn settle_size(&mut self, id: SurfaceId, now: Instant, tools: &mut Tools<'_>) {
        let content = self.scene.get(id).map(|s| s.geometry().size());
        let Some(window) = self.windows.get_mut(&id) else { return };
        let Some(since) = window.misfit_since else { return };
        let Some(size) = content.filter(|s| !s.is_empty()) else { return };
        let held = States(States::MAXIMIZED.0 | States::FULLSCREEN.0);
        let free = window.wish.states.0 & held.0 == 0;
        let patient = window.wish.size.is_none() || now.duration_since(since) >= MISFIT;
        if window.is_open() && free && patient && !window.is_settling(now) && !window.has_news() {
            window.misfit_since = None;
            window.size = size;
            window.dirty = true;
            window.wish.size = None;
            tracing::debug!(window = id.0, ?size, "the app insists on its size");
            tools.presenter.resize(id, size);
        }
    }

    /// Whether the next tick has something to do, and whether only hidden windows wait.
    #[must_use]
    pub fn wants_tick(&self) -> (bool, bool) {
        let open = || self.windows.values().filter(|w| w.is_open());
        let now = open().any(|w| w.visible && (w.dirty || w.wants_frame || w.misfit_since.is_some()))
            || !self.scene.waiting().is_empty()
            || self.windows.values().any(|w| matches!(w.role, Role::Toplevel(_)) && w.has_news());
        (now, open().any(|w| !w.visible && w.wants_frame))
    }
}
