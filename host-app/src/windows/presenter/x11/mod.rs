//! The presenter for X11 hosts: one connection (libxcb, which Vulkan and xkbcommon share), EWMH and ICCCM.
//!
//! ```text
//! display's events -> events.rs -> HostEvent        window.rs    properties, creation
//! session's calls  -> this file -> requests         keyboard.rs  keymap, modifiers   cursor.rs  images
//! ```

mod cursor;
mod events;
mod keyboard;
mod monitors;
mod notice;
mod window;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::Context;
use inlay_protocol::display::{Act, Edges, Output, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use wgpu::rwh;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask, GrabMode};
use x11rb::xcb_ffi::XCBConnection;

use super::{HostEvent, Image, Look, Presenter};
use crate::windows::render::{Renderer, Target};

x11rb::atom_manager! {
    Atoms: AtomsCookie {
        UTF8_STRING,
        WM_PROTOCOLS,
        WM_DELETE_WINDOW,
        WM_CHANGE_STATE,
        WM_CLIENT_MACHINE,
        _NET_WM_PING,
        _NET_WM_PID,
        _NET_WM_NAME,
        _NET_WM_STATE,
        _NET_WM_STATE_MAXIMIZED_VERT,
        _NET_WM_STATE_MAXIMIZED_HORZ,
        _NET_WM_STATE_FULLSCREEN,
        _NET_WM_STATE_HIDDEN,
        _NET_WM_WINDOW_TYPE,
        _NET_WM_WINDOW_TYPE_NORMAL,
        _NET_WM_WINDOW_TYPE_DIALOG,
        _NET_WM_WINDOW_TYPE_POPUP_MENU,
        _NET_WM_MOVERESIZE,
        _GTK_SHOW_WINDOW_MENU,
        _MOTIF_WM_HINTS,
    }
}

/// What a window of ours is on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Toplevel,
    Popup { parent: SurfaceId, area: Rect },
}

#[derive(Debug)]
struct HostWindow {
    xid: xproto::Window,
    kind: Kind,
    size: Size,
    states: States,
    obscured: bool,
    hidden: bool,
}

/// The X11 desktop.
#[derive(Debug)]
pub struct X11 {
    connection: Arc<XCBConnection>,
    screen: usize,
    root: xproto::Window,
    atoms: Atoms,
    visual: window::Visual,
    windows: HashMap<SurfaceId, HostWindow>,
    by_xid: HashMap<xproto::Window, SurfaceId>,
    keyboard: keyboard::Keyboard,
    cursors: cursor::Cursors,
    focus: Option<SurfaceId>,
    /// The window that the guest's pointer is in.
    pointed: Option<SurfaceId>,
    /// Buttons held, evdev codes.
    buttons: Vec<u32>,
    /// The pointer left while a button was held.
    left: bool,
    /// The toplevel whose popups are dismissed by clicks elsewhere, and the window that has the pointer grab.
    watched: Option<(SurfaceId, xproto::Window)>,
    notice: Option<notice::Notice>,
    /// Events that requests of ours cause, told with the next dispatch.
    own: Vec<HostEvent>,
}

/// The display handle for wgpu; keeps the connection alive as long as any surface.
#[derive(Debug)]
struct DisplayOf(Arc<XCBConnection>, usize);

impl DisplayOf {
    fn raw(&self) -> rwh::RawDisplayHandle {
        let connection = NonNull::new(self.0.get_raw_xcb_connection());
        let screen = i32::try_from(self.1).unwrap_or(0);
        rwh::XcbDisplayHandle::new(connection, screen).into()
    }
}

impl rwh::HasDisplayHandle for DisplayOf {
    fn display_handle(&self) -> Result<rwh::DisplayHandle<'_>, rwh::HandleError> {
        // SAFETY: the connection lives as long as self, which the handle borrows.
        Ok(unsafe { rwh::DisplayHandle::borrow_raw(self.raw()) })
    }
}

impl X11 {
    /// Connects to the display that `DISPLAY` names.
    ///
    /// # Errors
    /// When there is none, or it lacks what is needed.
    pub fn connect() -> anyhow::Result<Self> {
        let (connection, screen) = XCBConnection::connect(None).context("the X display cannot be opened")?;
        let connection = Arc::new(connection);
        let roots = &connection.setup().roots;
        let root = roots.get(screen).context("the X display has no such screen")?.root;
        let atoms = Atoms::new(&*connection)?.reply()?;
        let visual = window::Visual::choose(&connection, screen, true)?;
        let keyboard = keyboard::Keyboard::new(&connection)?;
        let cursors = cursor::Cursors::new(&connection, screen)?;
        monitors::watch(&connection, root)?;
        connection.flush()?;
        Ok(Self {
            connection,
            screen,
            root,
            atoms,
            visual,
            windows: HashMap::new(),
            by_xid: HashMap::new(),
            keyboard,
            cursors,
            focus: None,
            pointed: None,
            buttons: Vec::new(),
            left: false,
            watched: None,
            notice: None,
            own: Vec::new(),
        })
    }

    /// Gives windows alpha where the graphics device can draw it.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn allow_alpha(&mut self, renderer: &Renderer) -> anyhow::Result<()> {
        self.visual = window::Visual::choose(&self.connection, self.screen, renderer.is_software())?;
        Ok(())
    }

    /// The display, for the graphics device.
    #[must_use]
    pub fn display(&self) -> Arc<dyn wgpu::wgt::WgpuHasDisplayHandle> {
        Arc::new(DisplayOf(self.connection.clone(), self.screen))
    }

    fn target(&self, xid: xproto::Window, size: Size, renderer: &Renderer) -> anyhow::Result<Target> {
        let mut handle =
            rwh::XcbWindowHandle::new(NonZeroU32::new(xid).context("the display gave no window id")?);
        handle.visual_id = NonZeroU32::new(self.visual.id);
        let display = DisplayOf(self.connection.clone(), self.screen).raw();
        // SAFETY: the connection lives as long as this presenter and the renderer's instance; the session drops the
        // target before it has the window closed.
        unsafe { renderer.target(display, handle.into(), size, self.visual.depth == 32) }
    }

    /// Where a window's content begins on the root window.
    fn origin(&self, xid: xproto::Window) -> Point {
        let place = self.connection.translate_coordinates(xid, self.root, 0, 0);
        let reply = place.map_err(drop).and_then(|cookie| cookie.reply().map_err(drop));
        reply.map_or(Point::default(), |r| Point::new(r.dst_x.into(), r.dst_y.into()))
    }

    /// The place of a popup on the root window.
    fn popup_origin(&self, parent: SurfaceId, area: Rect) -> Point {
        let Some(parent) = self.windows.get(&parent) else { return Point::default() };
        let base = match parent.kind {
            Kind::Toplevel => self.origin(parent.xid),
            Kind::Popup { parent, area } => self.popup_origin(parent, area),
        };
        Point::new(base.x.saturating_add(area.x), base.y.saturating_add(area.y))
    }

    /// Moves the popups of a window that moved.
    fn follow(&self, moved: SurfaceId) {
        for (id, window) in &self.windows {
            if let Kind::Popup { parent, area } = window.kind
                && parent == moved
            {
                let at = self.popup_origin(parent, area);
                let aux = xproto::ConfigureWindowAux::new().x(at.x).y(at.y);
                self.sent(self.connection.configure_window(window.xid, &aux));
                self.follow(*id);
            }
        }
    }

    /// Requests fail only when the connection is gone, which the next dispatch tells.
    fn sent<T>(&self, result: Result<T, x11rb::errors::ConnectionError>) {
        if let Err(error) = result {
            tracing::debug!("X request: {error}");
        }
    }

    fn root_message(&self, xid: xproto::Window, kind: xproto::Atom, data: [u32; 5]) {
        let event = xproto::ClientMessageEvent::new(32, xid, kind, data);
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.sent(self.connection.send_event(false, self.root, mask, event));
    }

    fn pointer(&self) -> Point {
        let reply =
            self.connection.query_pointer(self.root).map_err(drop).and_then(|c| c.reply().map_err(drop));
        reply.map_or(Point::default(), |r| Point::new(r.root_x.into(), r.root_y.into()))
    }

    /// Has the window manager move or resize a window by the pointer (`_NET_WM_MOVERESIZE`).
    fn drag(&mut self, xid: xproto::Window, direction: u32) {
        let at = self.pointer();
        self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
        let [x, y] = [at.x, at.y].map(i32::cast_unsigned);
        self.root_message(xid, self.atoms._NET_WM_MOVERESIZE, [x, y, direction, 1, 1]);
        // The window manager takes the pointer: its release never comes here.
        self.own.extend(events::lift_buttons(&mut self.buttons));
    }
}

impl Presenter for X11 {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection.as_fd())
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        events::dispatch(self)
    }

    fn outputs(&self) -> Vec<Output> {
        monitors::outputs(&self.connection, self.root)
    }

    fn keyboard(&mut self) -> Option<(String, u32, u32)> {
        self.keyboard.describe(&self.connection)
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let xid = window::create(self, Rect::of_size(size), false)?;
        window::describe(self, xid, look)?;
        window::first_states(self, xid, states)?;
        let target = self.target(xid, size, renderer);
        if target.is_err() {
            self.sent(self.connection.destroy_window(xid));
        }
        let target = target?;
        let kind = Kind::Toplevel;
        self.windows.insert(window, HostWindow { xid, kind, size, states, obscured: false, hidden: false });
        self.by_xid.insert(xid, window);
        self.connection.map_window(xid)?;
        Ok(target)
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        parent: SurfaceId,
        area: Rect,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let at = self.popup_origin(parent, area);
        let xid = window::create(self, Rect { x: at.x, y: at.y, ..area }, true)?;
        window::describe_popup(self, xid, parent)?;
        let target = self.target(xid, area.size(), renderer);
        if target.is_err() {
            self.sent(self.connection.destroy_window(xid));
        }
        let target = target?;
        let kind = Kind::Popup { parent, area };
        let size = area.size();
        let states = States::default();
        self.windows.insert(window, HostWindow { xid, kind, size, states, obscured: false, hidden: false });
        self.by_xid.insert(xid, window);
        let aux = xproto::ConfigureWindowAux::new().stack_mode(xproto::StackMode::ABOVE);
        self.connection.configure_window(xid, &aux)?;
        self.connection.map_window(xid)?;
        Ok(target)
    }

    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>) {
        let window = toplevel.and_then(|id| Some((id, self.windows.get(&id)?.xid)));
        match (window, self.watched) {
            (Some((id, xid)), None) => {
                let mask = EventMask::BUTTON_PRESS
                    | EventMask::BUTTON_RELEASE
                    | EventMask::POINTER_MOTION
                    | EventMask::ENTER_WINDOW
                    | EventMask::LEAVE_WINDOW;
                let grab = self.connection.grab_pointer(
                    true,
                    xid,
                    mask,
                    GrabMode::ASYNC,
                    GrabMode::ASYNC,
                    x11rb::NONE,
                    x11rb::NONE,
                    x11rb::CURRENT_TIME,
                );
                let status = grab.map_err(drop).and_then(|c| c.reply().map_err(drop)).map(|r| r.status);
                if status == Ok(xproto::GrabStatus::SUCCESS) {
                    self.watched = Some((id, xid));
                } else {
                    tracing::debug!("no pointer grab for a popup: {status:?}");
                }
            }
            (None, Some(_)) => {
                self.watched = None;
                self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
            }
            _ => {}
        }
    }

    fn close(&mut self, window: SurfaceId) {
        let Some(gone) = self.windows.remove(&window) else { return };
        self.by_xid.remove(&gone.xid);
        self.sent(self.connection.destroy_window(gone.xid));
        if self.pointed == Some(window) {
            self.pointed = None;
            self.buttons.clear();
            self.own.push(HostEvent::Input(inlay_protocol::input::InputEvent::PointerLeave));
        }
        if self.watched.is_some_and(|(id, _)| id == window) {
            self.watched = None;
        }
        if self.focus == Some(window) {
            self.focus = None;
            let modifiers = inlay_protocol::input::Modifiers::default();
            self.own.push(HostEvent::Focus { window: None, keys: Vec::new(), modifiers });
        }
    }

    fn update(&mut self, window: SurfaceId, look: &Look) {
        if let Some(window) = self.windows.get(&window)
            && let Err(error) = window::describe(self, window.xid, look)
        {
            tracing::debug!("a window's properties: {error:#}");
        }
    }

    fn resize(&mut self, window: SurfaceId, size: Size) {
        if let Some(window) = self.windows.get_mut(&window) {
            let aux = xproto::ConfigureWindowAux::new().width(size.width).height(size.height);
            let sent = self.connection.configure_window(window.xid, &aux);
            self.sent(sent);
        }
    }

    fn place_popup(&mut self, window: SurfaceId, area: Rect) {
        let Some(HostWindow { xid, kind: Kind::Popup { parent, .. }, .. }) = self.windows.get(&window) else {
            return;
        };
        let (xid, parent) = (*xid, *parent);
        let at = self.popup_origin(parent, area);
        if let Some(window) = self.windows.get_mut(&window) {
            window.kind = Kind::Popup { parent, area };
            window.size = area.size();
        }
        let aux = xproto::ConfigureWindowAux::new().x(at.x).y(at.y).width(area.width).height(area.height);
        self.sent(self.connection.configure_window(xid, &aux));
    }

    fn monitor(&self, window: SurfaceId) -> Rect {
        let area = match self.windows.get(&window) {
            Some(HostWindow { xid, kind: Kind::Toplevel, size, .. }) => {
                let at = self.origin(*xid);
                Rect::new(at.x, at.y, size.width, size.height)
            }
            Some(HostWindow { kind: Kind::Popup { parent, area }, .. }) => {
                let at = self.popup_origin(*parent, *area);
                Rect::new(at.x, at.y, area.width, area.height)
            }
            None => Rect::default(),
        };
        let monitor = monitors::containing(&self.outputs(), area);
        monitor.translated(Point::new(area.x.saturating_neg(), area.y.saturating_neg()))
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        let Some(HostWindow { xid, .. }) = self.windows.get(&window) else { return };
        let xid = *xid;
        // The pointer is the user's: an app may only have it dragged from where it is pressed just now.
        let pressed = !self.buttons.is_empty();
        match act {
            Act::Move | Act::Resize(_) if !pressed || self.pointed != Some(window) => return,
            Act::WindowMenu(_) if self.pointed != Some(window) => return,
            _ => {}
        }
        let a = &self.atoms;
        let (vertical, horizontal, full) =
            (a._NET_WM_STATE_MAXIMIZED_VERT, a._NET_WM_STATE_MAXIMIZED_HORZ, a._NET_WM_STATE_FULLSCREEN);
        let state = |on: u32, first, second| (a._NET_WM_STATE, [on, first, second, 1, 0]);
        let (kind, data) = match act {
            Act::Maximize => state(1, vertical, horizontal),
            Act::Unmaximize => state(0, vertical, horizontal),
            Act::Fullscreen => state(1, full, 0),
            Act::Unfullscreen => state(0, full, 0),
            // ICCCM 4.1.4: IconicState.
            Act::Minimize => (a.WM_CHANGE_STATE, [3, 0, 0, 0, 0]),
            Act::WindowMenu(_) => {
                let at = self.pointer();
                let [x, y] = [at.x, at.y].map(i32::cast_unsigned);
                self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
                (a._GTK_SHOW_WINDOW_MENU, [0, x, y, 0, 0])
            }
            Act::Move => return self.drag(xid, 8),
            Act::Resize(edges) => {
                if let Some(direction) = direction(edges) {
                    self.drag(xid, direction);
                }
                return;
            }
        };
        self.root_message(xid, kind, data);
    }

    fn set_cursor(&mut self, image: Image) {
        let cursor = self.cursors.get(&self.connection, image);
        let aux = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
        for window in self.windows.values() {
            self.sent(self.connection.change_window_attributes(window.xid, &aux));
        }
    }

    fn notice(&mut self, text: &str) {
        match notice::show(self, text) {
            Ok(notice) => {
                // One at a time: a guest must not cover the desktop with them.
                if let Some(before) = self.notice.replace(notice) {
                    before.close(self);
                }
            }
            Err(error) => tracing::warn!("a notice cannot be shown: {error:#}"),
        }
    }

    fn flush(&mut self) {
        self.sent(self.connection.flush());
    }
}

/// `_NET_WM_MOVERESIZE`'s number for an edge or corner.
fn direction(edges: Edges) -> Option<u32> {
    let [top, bottom, left, right] = [Edges::TOP, Edges::BOTTOM, Edges::LEFT, Edges::RIGHT];
    let order =
        [top.with(left), top, top.with(right), right, bottom.with(right), bottom, bottom.with(left), left];
    (0..).zip(order).find(|(_, e)| *e == edges).map(|(number, _)| number)
}
