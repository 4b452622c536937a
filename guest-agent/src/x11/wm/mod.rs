//! The window manager of Xwayland, on a thread of its own: requests that wait for the X server must not hold the agent up,
//! for an X client may grab the server for as long as it likes.
//!
//! ```text
//! X events -> events.rs -> windows, what is stale -> refreshed once a round -> News   -> agent
//! X requests <- orders.rs                                                   <- Orders <- agent
//! ```
//! Windows are not reparented: a frame, if any, is the host's.

mod atoms;
mod drag;
mod dragged;
mod events;
mod orders;
mod settings;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_exchange::x11::{Selections, xdnd};
use inlay_protocol::display::{Act, States};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::scale::Scale;
use inlay_protocol::selection::{Actions, Selection};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use smithay::reexports::calloop::channel as calloop_channel;
use x11rb::connection::Connection as _;
use x11rb::protocol::composite::{ConnectionExt as _, Redirect};
use x11rb::protocol::res::ConnectionExt as _;
use x11rb::protocol::shape::ConnectionExt as _;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEventMask};
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, CreateWindowAux, EventMask, PropMode,
    WindowClass,
};
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

use atoms::Atoms;
pub use drag::Step;
pub use dragged::Dragging;
use window::Part;
pub use window::{Association, Kind, Window, Xid};

/// News that may wait for the agent; more make the thread wait.
const NEWS: usize = 512;
/// Events of one round: a client that never stops must not keep the news of others back, nor pile them up.
const EVENTS: usize = 256;
/// Windows that are followed; an app that makes more has them ignored.
const WINDOWS: usize = 4096;
/// A server without a window for this long, and without a client but this one, is not needed any more.
const IDLE: Duration = Duration::from_secs(10);
/// Java knows a few window managers by name that put windows in no frame of theirs; with any other it takes the width of a frame off
/// its windows, which cuts dialogs. This is the one of them that never did anything else.
const NAME: &[u8] = b"LG3D";
/// Pause after a failed wait, so that a fault never spins.
const PAUSE: Duration = Duration::from_millis(50);

/// From the window manager to the agent.
#[derive(Debug)]
pub enum News {
    /// It manages.
    Ready,
    /// A mapped window, with all its state: it is new or something changed.
    Window(Box<Window>),
    /// The window is not mapped any more, or gone.
    Unmapped(Xid),
    /// The app asks for something to be done with its window.
    Act(Xid, Act),
    /// The app asks for its window to be closed (`_NET_CLOSE_WINDOW`).
    CloseAsked(Xid),
    /// It answered a ping.
    Pong(Xid, u32),
    /// What the app under the host's drag would do with it; no action: nothing.
    DragAnswer(Actions),
    /// What it did with what was dropped.
    DragEnd(Actions),
    /// An app drags something.
    Dragging(Dragging),
    /// Apps copy or paste.
    Selection(inlay_exchange::News),
    /// The server is gone, or no window manager can run on it.
    Ended,
}

/// From the agent to the window manager.
#[derive(Debug)]
pub enum Order {
    /// A managed window goes to this place on the root window.
    Move(Xid, Point),
    /// A managed window gets this size, if any, and these states.
    Configure {
        /// Which.
        window: Xid,
        /// None leaves it as it is.
        size: Option<Size>,
        /// Its states.
        states: States,
    },
    /// A managed window gets this size.
    Resize(Xid, Size),
    /// Apps are to draw at this scale.
    Scale(Scale),
    /// A managed window goes above the others: the server finds the window under the pointer by their stack.
    Raise(Xid),
    /// This window gets the keyboard; none takes it from all.
    Focus(Option<Xid>),
    /// The window is asked to close.
    Close(Xid),
    /// Its app is to answer this ping.
    Ping(Xid, u32),
    /// Its app is disconnected.
    Kill(Xid),
    /// Somebody else has this to give to apps; nothing withdraws it.
    Offer(Selection, Vec<String>),
    /// What is dragged over an app.
    Drag(Step),
    /// The window that stands for others where an app drags something lies above all, or goes.
    Cover(bool),
    /// What would become there of what an app drags.
    DragStatus(Actions),
    /// What became of it.
    DragFinished(Actions),
    /// Its app is to let go once it has heard all of this.
    LetGo,
    /// What an app has is to be fetched.
    Take(Selection, String, Pipe),
}

/// The agent's end of the window manager's thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Manager {
    orders: Sender<Order>,
    wake: Arc<OwnedFd>,
}

impl Manager {
    /// Starts the thread on the server's connection for window managers; apps are to draw at `scale`. News come out of the returned channel.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn start(
        stream: UnixStream,
        scale: Scale,
    ) -> std::io::Result<(Self, calloop_channel::Channel<News>)> {
        let (news, newspaper) = calloop_channel::sync_channel(NEWS);
        let (orders, incoming) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let woken = wake.clone();
        std::thread::Builder::new().name("x11-wm".into()).spawn(move || {
            if let Err(error) = run(stream, scale, &news, &incoming, &woken) {
                tracing::info!(%error, "the X server's window manager ends");
            }
            // The agent may be gone itself.
            let _ = news.send(News::Ended);
        })?;
        Ok((Self { orders, wake }, newspaper))
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        // A thread that is gone has told so.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // The sender goes with this: the thread wakes and sees it gone.
        let (gone, _) = channel();
        self.orders = gone;
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// A window as the thread keeps it.
#[derive(Debug)]
struct Entry {
    window: Window,
    mapped: bool,
    states: States,
    stale: BTreeSet<Part>,
    dirty: bool,
}

/// The thread's state.
struct Wm {
    c: RustConnection,
    atoms: Atoms,
    root: Xid,
    own: Xid,
    windows: BTreeMap<Xid, Entry>,
    /// The window that the agent gave the keyboard to.
    focus: Option<Xid>,
    /// Mapped managed windows, oldest first.
    clients: Vec<Xid>,
    /// The newest time that the server told.
    time: u32,
    /// Counts what was said of the scale.
    serial: u32,
    news: Vec<News>,
    selections: Selections,
    xdnd: xdnd::Atoms,
    /// What is dragged over an app.
    source: xdnd::Source,
    /// What an app drags.
    cover: dragged::Cover,
}

/// What is heard of windows of apps.
fn heard() -> EventMask {
    EventMask::PROPERTY_CHANGE | EventMask::FOCUS_CHANGE
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn run(
    stream: UnixStream,
    scale: Scale,
    news: &calloop_channel::SyncSender<News>,
    orders: &Receiver<Order>,
    wake: &OwnedFd,
) -> Result<(), Fault> {
    let mut wm = Wm::new(stream, scale)?;
    news.send(News::Ready)?;
    loop {
        for _ in 0..EVENTS {
            match wm.c.poll_for_event()? {
                Some(event) => wm.take(event)?,
                None => break,
            }
        }
        loop {
            match orders.try_recv() {
                Ok(order) => wm.obey(order)?,
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
            }
        }
        wm.refresh()?;
        wm.selections.turn(&wm.c)?;
        let answer = wm.source.turn(&wm.c)?;
        wm.drag_answered(answer)?;
        wm.news.extend(wm.selections.news().into_iter().map(News::Selection));
        wm.c.flush()?;
        for piece in wm.news.drain(..) {
            news.send(piece)?;
        }
        // Replies and writes take events off the socket into the library's queue, where poll does not see them.
        if let Some(event) = wm.c.poll_for_event()? {
            wm.take(event)?;
            continue;
        }
        let look_again = wm.windows.is_empty().then_some(IDLE);
        if wait(&wm, wake, look_again) && wm.is_unused()? {
            tracing::info!("no X11 app is left");
            return Ok(());
        }
    }
}

/// Until the server or the agent has something; `true` when nothing came in that time.
fn wait(wm: &Wm, wake: &OwnedFd, idle: Option<Duration>) -> bool {
    let mut fds = vec![PollFd::new(wm.c.stream(), PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
    for (fd, read, write) in wm.selections.wishes() {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        fds.push(PollFd::from_borrowed_fd(fd, flags));
    }
    let due = [wm.selections.due(), wm.source.due()].into_iter().flatten().min();
    let due = due.map(|at| at.saturating_duration_since(Instant::now()));
    let most = idle.into_iter().chain(due).min().and_then(|most| Timespec::try_from(most).ok());
    match poll(&mut fds, most.as_ref()) {
        Ok(0) => return idle.is_some() && due.is_none(),
        Ok(_) => {
            // Not blocking: nothing to read is no fault.
            let _ = rustix::io::read(wake.as_fd(), &mut [0; 8]);
        }
        Err(rustix::io::Errno::INTR) => {}
        Err(_) => std::thread::sleep(PAUSE),
    }
    false
}

impl Wm {
    fn new(stream: UnixStream, scale: Scale) -> Result<Self, Fault> {
        let (stream, _) = DefaultStream::from_unix_stream(stream)?;
        let c = RustConnection::connect_to_stream(stream, 0)?;
        let atoms = Atoms::new(&c)?.reply()?;
        let screen = c.setup().roots.first().ok_or("the X server has no screen")?;
        let (root, depth) = (screen.root, screen.root_depth);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT
            | EventMask::SUBSTRUCTURE_NOTIFY
            | EventMask::PROPERTY_CHANGE
            | EventMask::FOCUS_CHANGE;
        c.change_window_attributes(root, &ChangeWindowAttributesAux::new().event_mask(mask))?.check()?;
        c.composite_redirect_subwindows(root, Redirect::MANUAL)?.check()?;
        let own = c.generate_id()?;
        let (only, none) = (WindowClass::INPUT_OUTPUT, &CreateWindowAux::new());
        c.create_window(depth, own, root, -1, -1, 1, 1, 0, only, x11rb::COPY_FROM_PARENT, none)?;
        let selections = Selections::new(&c, root, heard())?;
        let xdnd = xdnd::Atoms::new(&c)?.reply()?;
        let all = SelectionEventMask::SET_SELECTION_OWNER
            | SelectionEventMask::SELECTION_WINDOW_DESTROY
            | SelectionEventMask::SELECTION_CLIENT_CLOSE;
        c.xfixes_select_selection_input(root, xdnd.XdndSelection, all)?;
        let cover = dragged::Cover::new(&c, root, &xdnd)?;
        let mut wm = Self {
            c,
            atoms,
            root,
            own,
            windows: BTreeMap::new(),
            focus: None,
            clients: Vec::new(),
            time: x11rb::CURRENT_TIME,
            serial: 0,
            news: Vec::new(),
            selections,
            xdnd,
            source: xdnd::Source::new(xdnd, own),
            cover,
        };
        // Before the first client can ask.
        wm.publish_scale(scale)?;
        wm.introduce()?;
        Ok(wm)
    }

    /// Says what this window manager can do (EWMH, root window properties). The server lets clients in from then on.
    fn introduce(&mut self) -> Result<(), Fault> {
        let a = self.atoms;
        let supported = [
            a._NET_SUPPORTED,
            a._NET_SUPPORTING_WM_CHECK,
            a._NET_WM_NAME,
            a._NET_WM_ICON,
            a._NET_WM_PING,
            a._NET_WM_MOVERESIZE,
            a._NET_CLOSE_WINDOW,
            a._NET_ACTIVE_WINDOW,
            a._NET_CLIENT_LIST,
            a._NET_CLIENT_LIST_STACKING,
            a._NET_FRAME_EXTENTS,
            a._NET_REQUEST_FRAME_EXTENTS,
            a._NET_WM_STATE,
            a._NET_WM_STATE_MODAL,
            a._NET_WM_STATE_FOCUSED,
            a._NET_WM_STATE_FULLSCREEN,
            a._NET_WM_STATE_MAXIMIZED_VERT,
            a._NET_WM_STATE_MAXIMIZED_HORZ,
            a._NET_WM_STATE_DEMANDS_ATTENTION,
            a._NET_WM_WINDOW_TYPE,
            a._NET_WM_WINDOW_TYPE_NORMAL,
            a._NET_WM_WINDOW_TYPE_DIALOG,
            a._NET_WM_WINDOW_TYPE_UTILITY,
            a._NET_WM_WINDOW_TYPE_TOOLBAR,
            a._NET_WM_WINDOW_TYPE_MENU,
            a._NET_WM_WINDOW_TYPE_SPLASH,
            a._GTK_FRAME_EXTENTS,
            a._GTK_SHOW_WINDOW_MENU,
        ];
        let (root, own) = (self.root, self.own);
        self.set(root, a._NET_SUPPORTED, AtomEnum::ATOM, &supported)?;
        for window in [root, own] {
            self.set(window, a._NET_SUPPORTING_WM_CHECK, AtomEnum::WINDOW, &[own])?;
        }
        self.c.change_property8(PropMode::REPLACE, own, a._NET_WM_NAME, a.UTF8_STRING, NAME)?;
        self.set(root, a._NET_ACTIVE_WINDOW, AtomEnum::WINDOW, &[0])?;
        self.list_clients()?;
        self.c.set_selection_owner(own, a._NET_WM_CM_S0, x11rb::CURRENT_TIME)?;
        self.c.set_selection_owner(own, a.WM_S0, x11rb::CURRENT_TIME)?;
        self.c.flush()?;
        Ok(())
    }

    fn set(
        &self,
        window: Xid,
        property: u32,
        kind: impl Into<u32>,
        values: &[u32],
    ) -> Result<(), x11rb::errors::ConnectionError> {
        self.c.change_property32(PropMode::REPLACE, window, property, kind.into(), values).map(drop)
    }

    /// `_NET_CLIENT_LIST`; stacking is the host's, so both lists are the same.
    fn list_clients(&self) -> Result<(), x11rb::errors::ConnectionError> {
        let window = AtomEnum::WINDOW;
        self.set(self.root, self.atoms._NET_CLIENT_LIST, window, &self.clients)?;
        self.set(self.root, self.atoms._NET_CLIENT_LIST_STACKING, window, &self.clients)
    }

    /// Whether this is the server's only client.
    fn is_unused(&self) -> Result<bool, Fault> {
        let (own, mask) = (self.own, self.c.setup().resource_id_mask);
        let clients = self.c.res_query_clients()?.reply()?.clients;
        // The server counts itself, with the ids from 0.
        Ok(clients.iter().all(|c| c.resource_base == 0 || c.resource_base == own & !mask))
    }

    /// A window that was created, or came back to the root.
    fn follow(&mut self, id: Xid, override_redirect: bool, place: Rect) -> Result<(), Fault> {
        let is_ours = |id: Xid| id & !self.c.setup().resource_id_mask == self.c.setup().resource_id_base;
        if is_ours(id) || self.windows.len() >= WINDOWS {
            return Ok(());
        }
        let aux = ChangeWindowAttributesAux::new().event_mask(heard());
        self.c.change_window_attributes(id, &aux)?;
        self.c.shape_select_input(id, true)?;
        let entry = Entry {
            window: Window::new(id, override_redirect, place),
            mapped: false,
            states: States::default(),
            stale: Part::ALL.into(),
            dirty: false,
        };
        self.windows.insert(id, entry);
        Ok(())
    }

    /// A window that was destroyed, or went to another parent.
    fn forget(&mut self, id: Xid) -> Result<(), Fault> {
        if self.windows.get(&id).is_some_and(|e| e.mapped) {
            self.unmapped(id)?;
        }
        self.windows.remove(&id);
        Ok(())
    }

    fn unmapped(&mut self, id: Xid) -> Result<(), Fault> {
        let Some(entry) = self.windows.get_mut(&id).filter(|e| e.mapped) else { return Ok(()) };
        entry.mapped = false;
        entry.states = States::default();
        // The next mapping gets another surface.
        entry.window.surface = None;
        self.news.push(News::Unmapped(id));
        if self.focus == Some(id) {
            self.focus = None;
            self.set(self.root, self.atoms._NET_ACTIVE_WINDOW, AtomEnum::WINDOW, &[0])?;
        }
        if self.clients.contains(&id) {
            self.clients.retain(|c| *c != id);
            self.list_clients()?;
        }
        Ok(())
    }

    /// Reads what is stale of mapped windows: all requests go out before the first reply is waited for.
    fn refresh(&mut self) -> Result<(), Fault> {
        let mut asked = Vec::new();
        for (id, entry) in self.windows.iter_mut().filter(|(_, e)| e.mapped) {
            for part in std::mem::take(&mut entry.stale) {
                asked.extend(part.ask(*id, &self.c, &self.atoms).map(|a| (*id, a)));
            }
        }
        for (id, replies) in asked {
            if let Some(entry) = self.windows.get_mut(&id) {
                let before = entry.window.clone();
                replies.fill(&mut entry.window, &self.atoms);
                entry.dirty |= before != entry.window;
            }
        }
        for entry in self.windows.values_mut().filter(|e| e.mapped && e.dirty) {
            entry.dirty = false;
            self.news.push(News::Window(Box::new(entry.window.clone())));
        }
        Ok(())
    }

    /// Writes `_NET_WM_STATE` and what else says how a window is.
    fn write_states(&self, id: Xid) -> Result<(), Fault> {
        let Some(entry) = self.windows.get(&id) else { return Ok(()) };
        let a = &self.atoms;
        let mut values = Vec::new();
        if entry.states.contains(States::MAXIMIZED) {
            values.extend([a._NET_WM_STATE_MAXIMIZED_VERT, a._NET_WM_STATE_MAXIMIZED_HORZ]);
        }
        let single = [
            (entry.states.contains(States::FULLSCREEN), a._NET_WM_STATE_FULLSCREEN),
            (self.focus == Some(id), a._NET_WM_STATE_FOCUSED),
            (entry.window.modal, a._NET_WM_STATE_MODAL),
            (entry.window.attention, a._NET_WM_STATE_DEMANDS_ATTENTION),
        ];
        values.extend(single.iter().filter(|(on, _)| *on).map(|(_, atom)| *atom));
        self.set(id, a._NET_WM_STATE, AtomEnum::ATOM, &values)?;
        Ok(())
    }
}
