//! The presenter for X11 hosts: one connection (libxcb, which Vulkan and xkbcommon share), EWMH and ICCCM.
//!
//! ```text
//! display's events -> events.rs, pointer.rs -> HostEvent   window.rs  creation     hints.rs     properties
//! session's calls  -> this file -> requests                place.rs   where it is  keyboard.rs  keymap, modifiers
//!                                                drag.rs    drags over windows of ours, drag_source.rs out of them
//! ```

mod acts;
mod cursor;
mod drag;
mod drag_icon;
mod drag_source;
mod events;
mod hints;
mod hold;
mod keyboard;
mod monitors;
mod outline;
mod place;
mod plain;
mod pointer;
mod selection;
mod sheets;
mod sync;
mod window;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use inlay_exchange::x11::xdnd;
use inlay_protocol::display::{Act, Constraint, Icon, Output, Placed, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::selection::Actions;
use wgpu::rwh;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::screensaver::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask};
use x11rb::xcb_ffi::XCBConnection;

use super::image::Image;
use super::{Ended, HostEvent, Keymap, Look, Pixels, PopupLook, Presenter, Selections};
use crate::windows::render::{Device, Renderer, Target};

/// How long an app may take to show its first window and still be given the focus.
const EXPECTED: Duration = Duration::from_secs(60);

x11rb::atom_manager! {
    Atoms: AtomsCookie {
        UTF8_STRING,
        WM_PROTOCOLS,
        WM_DELETE_WINDOW,
        WM_CHANGE_STATE,
        WM_CLIENT_MACHINE,
        _NET_WM_PING,
        _NET_FRAME_EXTENTS,
        _NET_WM_OPAQUE_REGION,
        _NET_WM_SYNC_REQUEST,
        _NET_WM_SYNC_REQUEST_COUNTER,
        _NET_WM_PID,
        _NET_WM_NAME,
        _NET_WM_STATE,
        _NET_WM_STATE_MAXIMIZED_VERT,
        _NET_WM_STATE_MAXIMIZED_HORZ,
        _NET_WM_STATE_FULLSCREEN,
        _NET_WM_STATE_HIDDEN,
        _NET_WM_STATE_MODAL,
        _NET_WM_STATE_DEMANDS_ATTENTION,
        _NET_WM_USER_TIME,
        _NET_WM_ICON,
        _NET_WM_WINDOW_TYPE,
        _NET_WM_WINDOW_TYPE_NORMAL,
        _NET_WM_WINDOW_TYPE_DIALOG,
        _NET_WM_WINDOW_TYPE_UTILITY,
        _NET_WM_WINDOW_TYPE_TOOLBAR,
        _NET_WM_WINDOW_TYPE_MENU,
        _NET_WM_WINDOW_TYPE_SPLASH,
        _NET_WM_WINDOW_TYPE_POPUP_MENU,
        _NET_WM_WINDOW_TYPE_TOOLTIP,
        _NET_WM_WINDOW_TYPE_DND,
        _NET_WM_WINDOW_TYPE_NOTIFICATION,
        _NET_WM_MOVERESIZE,
        _GTK_SHOW_WINDOW_MENU,
        _NET_ACTIVE_WINDOW,
        _NET_STARTUP_ID,
        _NET_STARTUP_INFO,
        _NET_STARTUP_INFO_BEGIN,
        _MOTIF_WM_HINTS,
    }
}

/// What a window of ours is on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Toplevel,
    Popup(PopupLook),
}

/// Why a window can or cannot be seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    mapped: bool,
    obscured: bool,
    hidden: bool,
}

impl Seen {
    fn shown(self) -> bool {
        self.mapped && !self.hidden
    }

    fn visible(self) -> bool {
        self.shown() && !self.obscured
    }
}

#[derive(Debug)]
struct HostWindow {
    xid: xproto::Window,
    kind: Kind,
    size: Size,
    states: States,
    seen: Seen,
    /// Where a toplevel's content begins on the root window; `None` when it may have moved.
    at: Option<Point>,
    told_at: Option<Point>,
    /// It comes up where its app wants its content, and has not been looked at there.
    chosen: bool,
    /// How a toplevel looks.
    look: Option<Look>,
    /// Whether a toplevel is shown as urgent.
    urgent: bool,
    /// The number of the cursor that it has.
    cursor: u64,
    /// A toplevel's resizes in step with the window manager.
    resize: Option<sync::Resize>,
}

impl HostWindow {
    fn new(xid: xproto::Window, kind: Kind, size: Size) -> Self {
        let (states, seen) = (States::default(), Seen::default());
        let (at, told_at, look, resize) = (None, None, None, None);
        let (chosen, urgent) = (false, false);
        Self { xid, kind, size, states, seen, at, told_at, chosen, look, urgent, cursor: 0, resize }
    }
}

/// A window that the user waits for.
#[derive(Debug)]
struct Expected {
    until: Instant,
    /// The launcher's id of this start.
    startup: Option<String>,
}

/// The X11 desktop.
#[derive(Debug)]
pub struct X11 {
    connection: Arc<XCBConnection>,
    screen: usize,
    root: xproto::Window,
    atoms: Atoms,
    /// The visual of windows of the host's own, which are opaque.
    plain: window::Visual,
    /// The one of windows of apps, once it is known what draws them.
    visual: Option<window::Visual>,
    /// What the display does with windows that the processor draws.
    pictures: sheets::News,
    /// The selection whose owner blends windows.
    manager: xproto::Atom,
    windows: HashMap<SurfaceId, HostWindow>,
    by_xid: HashMap<xproto::Window, SurfaceId>,
    /// The monitors, as they were last told.
    outputs: Vec<Output>,
    keyboard: keyboard::Keyboard,
    pointer: pointer::Pointer,
    /// The keymap, until it changes.
    keymap: Option<Keymap>,
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
    /// When the user last did something in a window of ours, by the display's clock.
    user_time: Option<xproto::Timestamp>,
    /// Until when a new window is one that the user waits for.
    expected: Option<Expected>,
    /// Whether the screen is kept on.
    awake: bool,
    /// Whether the display has counters.
    has_counters: bool,
    /// The window that the pointer is to be held in.
    held: Option<hold::Hold>,
    /// Devices that tell places.
    places: hold::Places,
    /// Events that requests of ours cause, told with the next dispatch.
    own: Vec<HostEvent>,
    /// What is copied and pasted.
    selections: Option<selection::Clipboards>,
    xdnd: xdnd::Atoms,
    /// What is dragged over a window of ours.
    drag: Option<drag::Drag>,
    /// What an app of the guest drags, while the user holds it.
    source: Option<drag_source::Source>,
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
        let plain = window::Visual::choose(&connection, screen, true)?;
        let keyboard = keyboard::Keyboard::new(&connection)?;
        let pointer = pointer::Pointer::new(&connection, root)?;
        let cursors = cursor::Cursors::new(&connection, screen)?;
        monitors::watch(&connection, root)?;
        let has_counters = sync::is_there(&connection)?;
        let manager = outline::manager(&connection, screen)?;
        if let Err(error) = outline::watch(&connection, root, manager) {
            tracing::warn!("a compositing manager that comes later is not noticed: {error:#}");
        }
        let pictures = sheets::News::new(&connection, outline::is_blended(&connection, manager)?)?;
        let outputs = monitors::outputs(&connection, root);
        connection.flush()?;
        let selections = selection::Clipboards::connect()
            .inspect_err(|error| tracing::warn!("there is no copy and paste with this display: {error:#}"))
            .ok();
        Ok(Self {
            selections,
            xdnd: drag_source::atoms(&connection)?,
            drag: None,
            source: None,
            connection,
            screen,
            root,
            atoms,
            plain,
            visual: None,
            pictures,
            manager,
            windows: HashMap::new(),
            by_xid: HashMap::new(),
            outputs,
            keyboard,
            pointer,
            keymap: None,
            cursors,
            focus: None,
            pointed: None,
            buttons: Vec::new(),
            left: false,
            watched: None,
            user_time: None,
            expected: None,
            awake: false,
            has_counters,
            held: None,
            places: HashMap::new(),
            own: Vec::new(),
        })
    }

    /// The visual of windows of apps: with alpha, where what draws them can.
    fn visual(&mut self, renderer: &Renderer) -> anyhow::Result<window::Visual> {
        let visual = match self.visual {
            Some(visual) => visual,
            None if renderer.device().is_some_and(Device::is_software) => self.plain,
            None => window::Visual::choose(&self.connection, self.screen, false)?,
        };
        self.visual = Some(visual);
        Ok(visual)
    }

    /// The display, for the graphics device.
    #[must_use]
    pub fn display(&self) -> Arc<dyn wgpu::wgt::WgpuHasDisplayHandle> {
        Arc::new(DisplayOf(self.connection.clone(), self.screen))
    }

    fn target(
        &self,
        xid: xproto::Window,
        size: Size,
        renderer: &Renderer,
        visual: window::Visual,
    ) -> anyhow::Result<Target> {
        let Some(device) = renderer.device() else {
            let (to, news) = ((xid, visual.depth), self.pictures.clone());
            let sheets = sheets::Sheets::new(&self.connection, to, news, self.atoms._NET_WM_OPAQUE_REGION)?;
            return Ok(Target::by_processor(Box::new(sheets)));
        };
        let mut handle =
            rwh::XcbWindowHandle::new(NonZeroU32::new(xid).context("the display gave no window id")?);
        handle.visual_id = NonZeroU32::new(visual.id);
        let display = DisplayOf(self.connection.clone(), self.screen).raw();
        // SAFETY: the connection lives as long as this presenter and the renderer's instance; the session drops the
        // target before it has the window closed.
        let swapchain = unsafe { device.target(display, handle.into(), size, visual.depth == 32) }?;
        Ok(Target::Swapchain(swapchain))
    }

    /// A toplevel that is not mapped yet.
    fn add_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        visual: window::Visual,
    ) -> anyhow::Result<xproto::Window> {
        let area = |at: Point| Rect::new(at.x, at.y, size.width, size.height);
        let seen =
            |place: &Placed| self.outputs.iter().any(|o| o.area.intersection(area(place.at)).is_some());
        // One where no monitor is would never be found.
        let look = &Look { place: look.place.filter(seen), ..look.clone() };
        let at = look.place.map(|place| place.at).unwrap_or_default();
        let xid = window::create(self, area(at), false, visual)?;
        hints::describe(self, xid, look, None)?;
        hints::set_wm_hints(self, xid, look, look.urgent)?;
        window::first_states(self, xid, states, look)?;
        let expected = self.expected.take().filter(|expected| Instant::now() < expected.until);
        if let Some(startup) = expected.as_ref().and_then(|expected| expected.startup.as_deref()) {
            hints::end_startup(self, xid, startup);
        } else if let Some(time) = self.user_time.filter(|_| expected.is_none()) {
            // Without it the window manager decides, as for any new app.
            hints::set_user_time(self, xid, time);
        }
        let (chosen, urgent, resize) = (look.place.is_some(), look.urgent, sync::Resize::of(self, xid));
        let look = Some(look.clone());
        let new = HostWindow::new(xid, Kind::Toplevel, size);
        let new = HostWindow { states, chosen, look, urgent, resize, ..new };
        self.windows.insert(window, new);
        self.by_xid.insert(xid, window);
        Ok(xid)
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

    /// Adds or removes a state of a mapped window (EWMH `_NET_WM_STATE`).
    fn change_state(&self, xid: xproto::Window, on: bool, state: xproto::Atom) {
        self.root_message(xid, self.atoms._NET_WM_STATE, [u32::from(on), state, 0, 1, 0]);
    }

    /// Keeps the screen on while a toplevel wants that and is not minimised (MIT-SCREEN-SAVER 1.1); the server ends it with the
    /// connection.
    fn keep_awake(&mut self) {
        let wants = |w: &HostWindow| w.look.as_ref().is_some_and(|look| look.keeps_awake) && w.seen.shown();
        let awake = self.windows.values().any(wants);
        if std::mem::replace(&mut self.awake, awake) != awake
            && self
                .connection
                .extension_information(screensaver::X11_EXTENSION_NAME)
                .is_ok_and(|e| e.is_some())
        {
            // The server takes no other request of it before this one.
            self.sent(self.connection.screensaver_query_version(1, 1));
            self.sent(self.connection.screensaver_suspend(u32::from(awake)));
        }
    }

    /// Shows a toplevel as urgent or not.
    fn set_urgent(&mut self, id: SurfaceId, urgent: bool) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        if std::mem::replace(&mut window.urgent, urgent) == urgent {
            return;
        }
        let xid = window.xid;
        self.change_state(xid, urgent, self.atoms._NET_WM_STATE_DEMANDS_ATTENTION);
        self.set_wm_hints(id);
    }

    fn set_wm_hints(&self, id: SurfaceId) {
        if let Some(HostWindow { xid, look: Some(look), urgent, .. }) = self.windows.get(&id)
            && let Err(error) = hints::set_wm_hints(self, *xid, look, *urgent)
        {
            tracing::debug!("a window's hints: {error:#}");
        }
    }

    /// Gives the window under the pointer the newest cursor; others get it when the pointer comes to them.
    fn dress(&mut self) {
        let (cursor, number) = self.cursors.current();
        if let Some(window) = self.pointed.and_then(|id| self.windows.get_mut(&id))
            && window.cursor != number
        {
            window.cursor = number;
            let aux = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
            let sent = self.connection.change_window_attributes(window.xid, &aux);
            self.sent(sent);
        }
    }
}

impl Presenter for X11 {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection.as_fd())
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        events::dispatch(self)
    }

    fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        if self.keymap.is_none() {
            self.keymap = self.keyboard.describe(&self.connection);
        }
        self.keymap.clone()
    }

    fn begin_frame(&mut self, window: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        self.resize_drawn(window, settled);
        Some(size)
    }

    fn end_frame(&mut self, window: SurfaceId, ended: Ended) -> bool {
        if ended == Ended::Presented {
            self.resize_shown(window);
        }
        false
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let visual = self.visual(renderer)?;
        let xid = self.add_toplevel(window, look, size, states, visual)?;
        let target = self.target(xid, size, renderer, visual);
        if target.is_err() {
            self.close(window);
        } else {
            self.connection.map_window(xid)?;
        }
        target
    }

    fn open_plain(&mut self, window: SurfaceId, look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        let xid = self.add_toplevel(window, look, size, States::default(), self.plain)?;
        let pixels = plain::Plain::new(&self.connection, xid, self.plain.depth);
        if pixels.is_err() {
            self.close(window);
        } else {
            self.connection.map_window(xid)?;
        }
        Ok(Box::new(pixels?))
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        let at = self.popup_place(look.parent, look.area);
        let visual = self.visual(renderer)?;
        let xid = window::create(self, at, true, visual)?;
        hints::describe_popup(self, xid, look)?;
        let target = self.target(xid, at.size(), renderer, visual);
        if target.is_err() {
            self.sent(self.connection.destroy_window(xid));
        }
        let target = target?;
        self.windows.insert(window, HostWindow::new(xid, Kind::Popup(look), at.size()));
        self.by_xid.insert(xid, window);
        let aux = xproto::ConfigureWindowAux::new().stack_mode(xproto::StackMode::ABOVE);
        self.connection.configure_window(xid, &aux)?;
        self.connection.map_window(xid)?;
        Ok(target)
    }

    fn expect_window(&mut self, token: Option<String>) {
        self.expected = Some(Expected { until: Instant::now() + EXPECTED, startup: token });
    }

    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>) {
        self.grab_pointer_for(toplevel);
        self.hold_or_not();
    }

    fn close(&mut self, window: SurfaceId) {
        let Some(gone) = self.windows.remove(&window) else { return };
        self.by_xid.remove(&gone.xid);
        self.pictures.closed(gone.xid);
        self.sent(self.connection.destroy_window(gone.xid));
        self.resize_ends(gone.resize);
        self.keep_awake();
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
        let Some(HostWindow { xid, look: before, .. }) = self.windows.get(&window) else { return };
        let xid = *xid;
        if let Err(error) = hints::describe(self, xid, look, before.as_ref()) {
            tracing::debug!("a window's properties: {error:#}");
        }
        let Some(changed) = self.windows.get_mut(&window) else { return };
        let before = changed.look.replace(look.clone());
        let was = |flag: fn(&Look) -> bool| before.as_ref().is_some_and(flag);
        if was(|b| b.modal) != look.modal {
            self.change_state(xid, look.modal, self.atoms._NET_WM_STATE_MODAL);
        }
        if was(|b| b.no_focus) != look.no_focus {
            self.set_wm_hints(window);
        }
        if was(|b| b.urgent) != look.urgent {
            self.set_urgent(window, look.urgent && self.focus != Some(window));
        }
        self.keep_awake();
    }

    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]) {
        if let Some(window) = self.windows.get(&window) {
            hints::set_icons(self, window.xid, icons);
        }
    }

    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>) {
        if let Some(window) = self.windows.get(&window) {
            self.pictures.outlined(window.xid, rects.is_some());
            hints::set_shape(self, window.xid, rects);
        }
    }

    fn resize(&mut self, window: SurfaceId, size: Size) {
        if let Some(window) = self.windows.get_mut(&window) {
            let aux = xproto::ConfigureWindowAux::new().width(size.width).height(size.height);
            let sent = self.connection.configure_window(window.xid, &aux);
            self.sent(sent);
        }
    }

    fn place_popup(&mut self, window: SurfaceId, look: PopupLook) {
        let place = self.popup_place(look.parent, look.area);
        let Some(popup) = self.windows.get_mut(&window) else { return };
        let Kind::Popup(before) = std::mem::replace(&mut popup.kind, Kind::Popup(look)) else { return };
        popup.size = place.size();
        let xid = popup.xid;
        if before.kind != look.kind {
            hints::set_popup_kind(self, xid, look.kind);
        }
        let aux = xproto::ConfigureWindowAux::new().x(place.x).y(place.y);
        let aux = aux.width(place.width.max(1)).height(place.height.max(1));
        self.sent(self.connection.configure_window(xid, &aux));
        self.follow(window);
    }

    fn origin(&mut self, window: SurfaceId) -> Point {
        self.origin_of(window)
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        self.do_act(window, act);
    }

    fn constrain(&mut self, window: SurfaceId, how: Option<Constraint>) {
        self.hold(window, how);
    }

    fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        self.answer(kind, action);
    }

    fn end_drag(&mut self, action: Actions) {
        self.finish(action);
    }

    fn start_drag(&mut self, window: SurfaceId, types: &[String], actions: Actions) -> bool {
        X11::start_drag(self, window, types, actions)
    }

    fn set_drag_icon(&mut self, image: Image) {
        self.show_drag_icon(image);
    }

    fn cancel_drag(&mut self) {
        self.take_drag_back();
    }

    fn selections(&self) -> Option<&dyn Selections> {
        self.selections.as_ref().map(|selections| selections as &dyn Selections)
    }

    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        self.selections.as_mut().map(|selections| selections as &mut dyn Selections)
    }

    fn set_cursor(&mut self, image: Image) {
        self.cursors.set(&self.connection, image);
        self.dress();
    }

    fn flush(&mut self) {
        self.sent(self.connection.flush());
    }
}
