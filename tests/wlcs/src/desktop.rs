//! A desktop without pixels: windows have places, a pointer and the focus, and their commits are shown at once.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inlay::windows::placement;
use inlay_protocol::connection::Connection;
use inlay_protocol::control::Report;
use inlay_protocol::display::{
    Act, Commit, Constraint, Edges, Event, Output, Place, Popup, Request, States, SurfaceId,
};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::handshake::{Capabilities, Hello, Welcome};
use inlay_protocol::input::{InputEvent, Modifiers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than anything takes that does not hang.
const LONG: Duration = Duration::from_secs(20);
/// The monitor.
const MONITOR: Rect = Rect::new(0, 0, 1280, 1024);

/// A toplevel or popup.
#[derive(Debug)]
struct Window {
    surface: SurfaceId,
    popup: Option<Popup>,
    /// Where its geometry begins on the monitor.
    at: Point,
}

/// A toplevel that follows the pointer until the button is up.
#[derive(Debug, Clone, Copy)]
struct Drag {
    surface: SurfaceId,
    /// The edges that follow; none for the whole window.
    edges: Edges,
    /// Where the pointer and the window's geometry were at its begin.
    from: (f64, f64),
    area: Rect,
}

/// The desktop; its thread serves the agent.
#[derive(Debug)]
pub struct Desktop {
    inner: Arc<Mutex<Inner>>,
    socket: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    display: Option<Connection>,
    _control: Connection,
    agent: Child,
    _folder: tempfile::TempDir,
    /// The lowest first.
    windows: Vec<Window>,
    commits: BTreeMap<SurfaceId, Commit>,
    /// Where toplevels were put, also when they are shown again.
    places: BTreeMap<SurfaceId, Point>,
    /// All toplevels so far, in the order in which they were told of.
    toplevels: Vec<SurfaceId>,
    pointer: (f64, f64),
    inside: Option<SurfaceId>,
    buttons: u32,
    focus: Option<SurfaceId>,
    /// Toplevels that had it, the last one last.
    had: Vec<SurfaceId>,
    /// States of toplevels beside the focus, and sizes that go with them.
    states: BTreeMap<SurfaceId, (Option<Size>, States)>,
    /// The toplevel that the user moves or resizes by its app's wish.
    dragged: Option<Drag>,
    /// Windows whose apps want the pointer held.
    wanted: BTreeMap<SurfaceId, Constraint>,
    /// The window that it is held in.
    held: Option<SurfaceId>,
    serial: u32,
    answered: bool,
    begin: Instant,
}

fn listen(path: &std::path::Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn accept(listener: &UnixListener) -> Connection {
    let end = Instant::now() + LONG;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("the agent does not connect: {error}"),
        }
    };
    let mut connection = Connection::new(stream.into()).unwrap();
    let hello = loop {
        connection.receive().unwrap();
        if let Some(bytes) = connection.next_raw(Hello::SIZE).unwrap() {
            break Hello::decode(&bytes.try_into().unwrap()).unwrap();
        }
        assert!(connection.wait(Some(LONG)).unwrap(), "the agent does not greet");
    };
    connection.queue_raw(&Welcome::answer(&hello, Capabilities::MEMFD).encode()).unwrap();
    connection.flush().unwrap();
    connection
}

/// The desktop that there is now.
static NOW: Mutex<Weak<Desktop>> = Mutex::new(Weak::new());

/// Waits until agent and desktop have said all that they have to say.
pub fn settle() {
    let now = NOW.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    if let Some(desktop) = now {
        desktop.lock().sync();
    }
}

impl Desktop {
    /// An agent with its own folder, and a monitor.
    pub fn start() -> Arc<Self> {
        let folder = tempfile::Builder::new().prefix("inlay-wlcs-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| folder.path().join(name);
        let [control, display] = ["control", "display"].map(|name| listen(&path(name)));
        let address = |name: &str| format!("unix:{}", path(name).display());
        let agent = std::env::var_os("INLAY_AGENT").expect("INLAY_AGENT names the agent's program");
        let agent = Command::new(agent)
            .args(["--control", &address("control"), "--display", &address("display")])
            .args(["--stream", &address("stream")])
            .arg("--runtime-dir")
            .arg(folder.path())
            .env("XDG_RUNTIME_DIR", folder.path())
            // What mends wlcs is not for the agent.
            .env_remove("LD_PRELOAD")
            .env_remove("WAYLAND_DEBUG")
            .spawn()
            .unwrap();
        let mut control = accept(&control);
        let ready = control.wait_message::<Report>(Some(LONG)).unwrap().expect("the agent is ready");
        assert!(matches!(ready.0, Report::Ready { .. }), "first came {ready:?}");
        let socket = folder.path().join("inlay-0");
        let display = accept(&display);
        let mut inner = Inner {
            display: Some(display),
            _control: control,
            agent,
            _folder: folder,
            windows: Vec::new(),
            commits: BTreeMap::new(),
            places: BTreeMap::new(),
            toplevels: Vec::new(),
            pointer: (-1.0, -1.0),
            inside: None,
            buttons: 0,
            focus: None,
            had: Vec::new(),
            states: BTreeMap::new(),
            dragged: None,
            wanted: BTreeMap::new(),
            held: None,
            serial: 0,
            answered: false,
            begin: Instant::now(),
        };
        inner.send(&Event::Outputs(vec![Output {
            name: "WLCS-1".to_owned(),
            area: MONITOR,
            mode: MONITOR.size(),
            refresh: 60_000,
            scale_120: 120,
        }]));
        inner.sync();
        let inner = Arc::new(Mutex::new(inner));
        let served = Arc::clone(&inner);
        let thread = std::thread::spawn(move || serve(&served));
        let desktop = Arc::new(Self { inner, socket, thread: Mutex::new(Some(thread)) });
        *NOW.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&desktop);
        desktop
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for an app.
    pub fn client(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// Ends the agent.
    pub fn stop(&self) {
        {
            let mut inner = self.lock();
            inner.display = None;
            let _ = inner.agent.kill();
            let _ = inner.agent.wait();
        }
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }

    /// Moves the toplevel that was told of as this one of all.
    pub fn place(&self, index: usize, x: i32, y: i32) {
        let mut inner = self.lock();
        inner.sync();
        let surface = inner.toplevels.get(index).copied();
        let inner = &mut *inner;
        if let Some(window) = inner.windows.iter_mut().find(|w| Some(w.surface) == surface) {
            window.at = Point::new(x, y);
            inner.places.insert(window.surface, window.at);
        }
        inner.point();
        inner.sync();
    }

    /// Moves the pointer to a place of the monitor.
    pub fn move_to(&self, x: f64, y: f64) {
        let mut inner = self.lock();
        inner.sync();
        inner.pointer = (x, y);
        inner.point();
        inner.sync();
    }

    /// Moves it from where it is.
    pub fn move_by(&self, dx: f64, dy: f64) {
        let mut inner = self.lock();
        inner.sync();
        inner.move_by(dx, dy);
        inner.sync();
    }

    /// Presses a button, or lifts it.
    pub fn button(&self, button: u32, pressed: bool) {
        let mut inner = self.lock();
        inner.sync();
        inner.press(button, pressed);
        inner.sync();
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Serves the agent as long as the display session is there.
fn serve(inner: &Mutex<Inner>) {
    loop {
        let fd = {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.take_all(Duration::ZERO);
            let Some(display) = &inner.display else { return };
            display.fd().try_clone_to_owned().unwrap()
        };
        let limit = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit));
    }
}

impl Inner {
    fn send(&mut self, event: &Event) {
        if let Some(display) = &mut self.display {
            let sent = display.queue(event).and_then(|()| display.flush());
            if sent.is_err() {
                self.display = None;
            }
        }
    }

    fn input(&mut self, event: InputEvent) {
        self.send(&Event::Input(event));
    }

    fn time(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap()
    }

    /// Waits until the agent has done all that it was told, and has told all that it knows.
    fn sync(&mut self) {
        self.answered = false;
        self.send(&Event::QueryCounters);
        let end = Instant::now() + LONG;
        while !self.answered && self.display.is_some() && Instant::now() < end {
            self.take_all(Duration::from_millis(100));
        }
    }

    /// Takes what came; waits for something as long as `patience`.
    fn take_all(&mut self, patience: Duration) {
        let mut patience = patience;
        while let Some(display) = &mut self.display {
            match display.receive().and_then(|()| display.wait_message::<Request>(Some(patience))) {
                Ok(Some((request, _))) => self.take(request),
                Ok(None) => return,
                Err(_) => self.display = None,
            }
            patience = Duration::ZERO;
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Transaction(commits) => commits.into_iter().for_each(|commit| self.commit(commit)),
            Request::DestroySurface { surface } => {
                self.commits.remove(&surface);
                self.close(surface);
            }
            Request::RoleGone { surface } => self.close(surface),
            Request::Toplevel(toplevel) => {
                if self.windows.iter().any(|w| w.surface == toplevel.surface) {
                    return;
                }
                let surface = toplevel.surface;
                let at = self.places.get(&surface).copied().unwrap_or_default();
                self.windows.push(Window { surface, popup: None, at });
                self.toplevels.push(surface);
                self.configure(surface, None, States::default());
            }
            Request::Popup(popup) => self.popup(popup),
            Request::Act { surface, act } => {
                let (size, states) = match act {
                    Act::Maximize => (Some(MONITOR.size()), States::MAXIMIZED),
                    Act::Fullscreen => (Some(MONITOR.size()), States::FULLSCREEN),
                    Act::Unmaximize | Act::Unfullscreen => (None, States::default()),
                    Act::Move => return self.drag(surface, Edges::default()),
                    Act::Resize(edges) => return self.drag(surface, edges),
                    _ => return,
                };
                self.configure(surface, size, states);
            }
            Request::Constrain { surface, how } => {
                match how {
                    Some(how) => drop(self.wanted.insert(surface, how)),
                    None => drop(self.wanted.remove(&surface)),
                }
                if self.held == Some(surface) && how.is_none() {
                    self.held = None;
                }
                self.hold();
            }
            Request::Counters(_) => self.answered = true,
            _ => {}
        }
    }

    fn configure(&mut self, surface: SurfaceId, size: Option<Size>, states: States) {
        self.serial += 1;
        self.states.insert(surface, (size, states));
        let states = states.set(States::ACTIVATED, self.focus == Some(surface));
        self.send(&Event::ConfigureToplevel { surface, serial: self.serial, size, states, bounds: None });
    }

    fn popup(&mut self, popup: Popup) {
        let (surface, reposition) = (popup.surface, popup.reposition);
        let parent =
            self.windows.iter().find(|w| w.surface == popup.parent).map_or(Point::default(), |w| w.at);
        let area = match popup.place {
            Place::Positioner(positioner) => {
                let monitor = Rect { x: MONITOR.x - parent.x, y: MONITOR.y - parent.y, ..MONITOR };
                placement::place(&positioner, monitor)
            }
            Place::Fixed(area) => area,
        };
        let at = Point::new(parent.x + area.x, parent.y + area.y);
        match self.windows.iter_mut().find(|w| w.surface == surface) {
            Some(window) => {
                window.at = at;
                window.popup = Some(popup);
                if reposition.is_none() {
                    return;
                }
            }
            None => self.windows.push(Window { surface, popup: Some(popup), at }),
        }
        self.serial += 1;
        self.send(&Event::ConfigurePopup { surface, serial: self.serial, area, reposition });
    }

    fn commit(&mut self, commit: Commit) {
        let (surface, number, wants_frame) = (commit.surface, commit.number, commit.wants_frame);
        let first = commit.content.is_some() && !self.is_shown(surface);
        self.commits.insert(surface, commit);
        self.send(&Event::Release { surface, number });
        let root = self.root(surface);
        if wants_frame && let Some(root) = root {
            let time_ms = self.time();
            self.send(&Event::Frame { surface: root, time_ms });
        }
        if first && root == Some(surface) {
            let popup = self.windows.iter().find(|w| w.surface == surface).map(|w| w.popup.as_ref());
            match popup {
                // A new window ends all menus.
                Some(None) => {
                    self.dismiss();
                    self.focus(surface);
                }
                Some(Some(popup)) if popup.grab => self.focus(surface),
                _ => {}
            }
        }
        if self.buttons == 0 {
            self.point();
        }
    }

    fn is_shown(&self, surface: SurfaceId) -> bool {
        self.commits.get(&surface).is_some_and(|commit| commit.content.is_some())
    }

    /// The window that a surface is in.
    fn root(&self, surface: SurfaceId) -> Option<SurfaceId> {
        let mut at = surface;
        for _ in 0..64 {
            if self.windows.iter().any(|w| w.surface == at) {
                return Some(at);
            }
            let parent =
                self.commits.values().find(|c| c.children.iter().any(|child| child.surface() == Some(at)));
            at = parent?.surface;
        }
        None
    }

    fn close(&mut self, surface: SurfaceId) {
        self.windows.retain(|w| w.surface != surface);
        if self.inside == Some(surface) {
            self.inside = None;
            self.buttons = 0;
        }
        self.dragged = self.dragged.filter(|drag| drag.surface != surface);
        self.had.retain(|had| *had != surface);
        self.states.remove(&surface);
        self.wanted.remove(&surface);
        self.held = self.held.filter(|held| *held != surface);
        if self.focus == Some(surface) {
            self.focus = None;
            let next = self.had.last().copied();
            if let Some(next) = next {
                self.focus(next);
            }
        }
        self.point();
    }

    fn focus(&mut self, surface: SurfaceId) {
        if self.focus != Some(surface) {
            let before = self.focus.replace(surface);
            self.had.retain(|had| *had != surface);
            self.had.push(surface);
            for changed in before.into_iter().chain([surface]) {
                if let Some((size, states)) = self.states.get(&changed).copied() {
                    self.configure(changed, size, states);
                }
            }
            self.input(InputEvent::KeyboardEnter {
                surface,
                keys: Vec::new(),
                modifiers: Modifiers::default(),
            });
            self.hold();
        }
    }

    /// The user drags a toplevel: its app has the pointer no more.
    fn drag(&mut self, surface: SurfaceId, edges: Edges) {
        let window = self.windows.iter().find(|w| w.surface == surface);
        let area = window.filter(|_| self.buttons > 0).map(|window| self.area(window));
        if let Some(area) = area {
            self.dragged = Some(Drag { surface, edges, from: self.pointer, area });
            self.inside = None;
            self.input(InputEvent::PointerLeave);
        }
    }

    fn drag_on(&mut self, drag: Drag) {
        #[expect(clippy::cast_possible_truncation, reason = "places of a monitor")]
        let moved = |from: f64, to: f64| (to - from) as i32;
        let (dx, dy) = (moved(drag.from.0, self.pointer.0), moved(drag.from.1, self.pointer.1));
        let whole = drag.edges == Edges::default();
        let follows = |edge| whole || drag.edges.contains(edge);
        let at = Point::new(
            drag.area.x + if follows(Edges::LEFT) { dx } else { 0 },
            drag.area.y + if follows(Edges::TOP) { dy } else { 0 },
        );
        if let Some(window) = self.windows.iter_mut().find(|w| w.surface == drag.surface) {
            window.at = at;
        }
        if !whole {
            let side = |length: u32, less: bool, more: bool, by: i32| {
                let by = if less { -by } else { by };
                if less || more { length.saturating_add_signed(by).max(1) } else { length }
            };
            let has = |edge| drag.edges.contains(edge);
            let size = Size::new(
                side(drag.area.width, has(Edges::LEFT), has(Edges::RIGHT), dx),
                side(drag.area.height, has(Edges::TOP), has(Edges::BOTTOM), dy),
            );
            self.configure(drag.surface, Some(size), States::default().set(States::RESIZING, true));
        }
    }

    /// Holds the pointer in the window that it is in, where that wants it and has the focus; else lets it go.
    fn hold(&mut self) {
        let here = self.inside.filter(|id| self.focus == Some(*id) && self.wanted.contains_key(id));
        if here == self.held {
            return;
        }
        if let Some(surface) = std::mem::replace(&mut self.held, here) {
            self.send(&Event::Constrained { surface, held: false });
        }
        if let Some(surface) = here {
            self.send(&Event::Constrained { surface, held: true });
        }
    }

    fn move_by(&mut self, dx: f64, dy: f64) {
        let to = (self.pointer.0 + dx, self.pointer.1 + dy);
        let held = self.held.and_then(|id| Some((id, *self.wanted.get(&id)?)));
        match held {
            Some((_, Constraint::Locked)) => {}
            Some((id, Constraint::Confined)) => {
                let area = self.windows.iter().find(|w| w.surface == id).map(|w| self.area(w));
                if let Some(area) = area {
                    // On its last pixels at most.
                    let last = |start: i32, length: u32| f64::from(start) + f64::from(length) - 1.0;
                    self.pointer = (
                        to.0.clamp(f64::from(area.x), last(area.x, area.width)),
                        to.1.clamp(f64::from(area.y), last(area.y, area.height)),
                    );
                }
            }
            None => self.pointer = to,
        }
        let time_us = 1000 * self.time();
        self.input(InputEvent::PointerRelative { time_us, delta: (dx, dy), unaccelerated: (dx, dy) });
        self.point();
    }

    /// Where a window's geometry is.
    fn area(&self, window: &Window) -> Rect {
        let size = self.commits.get(&window.surface).map_or(Size::default(), |commit| {
            commit.geometry.map_or(commit.size, |geometry| geometry.size())
        });
        Rect::new(window.at.x, window.at.y, size.width, size.height)
    }

    /// Whether a window takes input at a place of the monitor.
    fn takes(&self, window: &Window, at: (f64, f64)) -> bool {
        let Some(commit) = self.commits.get(&window.surface).filter(|c| c.content.is_some()) else {
            return false;
        };
        let geometry = commit.geometry.unwrap_or(Rect::of_size(commit.size));
        let origin = Point::new(window.at.x - geometry.x, window.at.y - geometry.y);
        self.accepts(commit, origin, at)
    }

    /// Whether a surface or one of those that hang on it accepts input at a place, when it begins at `origin`.
    fn accepts(&self, commit: &Commit, origin: Point, at: (f64, f64)) -> bool {
        let inside = |rect: &Rect| {
            let (x, y) = (at.0 - f64::from(origin.x + rect.x), at.1 - f64::from(origin.y + rect.y));
            (0.0..f64::from(rect.width)).contains(&x) && (0.0..f64::from(rect.height)).contains(&y)
        };
        let own = inside(&Rect::of_size(commit.size))
            && commit.input.as_ref().is_none_or(|rects| rects.iter().any(inside));
        own || commit.children.iter().any(|child| {
            let inlay_protocol::display::Child::Subsurface { surface, position } = child else {
                return false;
            };
            let shown = self.commits.get(surface).filter(|c| c.content.is_some());
            let origin = Point::new(origin.x + position.x, origin.y + position.y);
            shown.is_some_and(|commit| self.accepts(commit, origin, at))
        })
    }

    /// Tells where the pointer is.
    fn point(&mut self) {
        self.tell_place();
        self.hold();
    }

    fn tell_place(&mut self) {
        if let Some(drag) = self.dragged {
            return self.drag_on(drag);
        }
        let at = self.pointer;
        let under = self.windows.iter().rev().find(|w| self.takes(w, at)).map(|w| w.surface);
        let held = self.inside.filter(|_| self.buttons > 0);
        let window = held.or(under).and_then(|id| self.windows.iter().find(|w| w.surface == id));
        let Some(window) = window else {
            if self.inside.take().is_some() {
                self.input(InputEvent::PointerLeave);
            }
            return;
        };
        let surface = window.surface;
        let geometry = self.commits.get(&surface).and_then(|commit| commit.geometry).unwrap_or_default();
        let x = at.0 - f64::from(window.at.x - geometry.x);
        let y = at.1 - f64::from(window.at.y - geometry.y);
        if self.inside == Some(surface) {
            let time_ms = self.time();
            self.input(InputEvent::PointerMotion { time_ms, x, y });
        } else {
            self.inside = Some(surface);
            self.input(InputEvent::PointerEnter { surface, x, y });
        }
    }

    /// Closes all popups that have a grab.
    fn dismiss(&mut self) {
        let lowest = self.windows.iter().find(|w| w.popup.as_ref().is_some_and(|p| p.grab));
        if let Some(surface) = lowest.map(|w| w.surface) {
            self.send(&Event::PopupDone { surface });
        }
    }

    fn press(&mut self, button: u32, pressed: bool) {
        if pressed {
            let over = self.inside.and_then(|id| self.windows.iter().find(|w| w.surface == id));
            let on_popup = over.is_some_and(|w| w.popup.is_some());
            if !on_popup {
                self.dismiss();
            }
            if let Some(id) = self.inside.filter(|_| !on_popup) {
                if let Some(index) = self.windows.iter().position(|w| w.surface == id) {
                    // With its popups above it, which were there after it.
                    let popups = self.windows.iter().any(|w| w.popup.is_some());
                    if !popups {
                        let window = self.windows.remove(index);
                        self.windows.push(window);
                    }
                }
                self.focus(id);
            }
        }
        self.buttons = if pressed { self.buttons + 1 } else { self.buttons.saturating_sub(1) };
        if self.dragged.is_some() && self.buttons == 0 {
            self.dragged = None;
            return self.point();
        }
        if self.inside.is_some() {
            let time_ms = self.time();
            self.input(InputEvent::PointerButton { time_ms, button, pressed });
        }
        if self.buttons == 0 {
            self.point();
        }
    }
}
