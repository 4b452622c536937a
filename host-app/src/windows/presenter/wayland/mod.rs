//! The presenter for Wayland hosts: a client of the desktop's compositor, which decides sizes and places of windows and popups
//! itself ([`Presenter::decides`]).
//!
//! ```text
//! compositor's events -> globals.rs, outputs.rs, pointer.rs, keyboard.rs, window.rs, popup.rs -> HostEvent
//! session's calls     -> this file -> requests                                    frame.rs    what belongs to a frame
//!                                                              decor.rs    title and edges where the desktop draws none
//!                                             activation.rs, constraint.rs, icons.rs, cursor.rs, selection.rs, drag.rs, drag_source.rs
//! ```
//! One thread, one queue. The graphics library commits a window's surface when it presents; what belongs to that commit
//! (acknowledgement, geometry, scale, frame callback) is requested just before.

mod activation;
mod constraint;
mod cursor;
mod decor;
mod drag;
mod drag_source;
mod frame;
mod globals;
mod icons;
mod keyboard;
mod outputs;
mod pointer;
mod popup;
mod selection;
mod sheets;
mod window;
mod wishes;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use inlay_protocol::display::{Act, Constraint, Icon, Output, States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::selection::Actions;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayland_client::backend::WaylandError;
use wayland_client::globals::registry_queue_init;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, EventQueue, Proxy as _, QueueHandle};
use wgpu::rwh;

use super::image::Image;
use super::{Announce, Announced, Ended, HostEvent, Keymap, Look, Pixels, PopupLook, Presenter, Selections};
use crate::windows::render::{Renderer, Target};
use globals::Globals;
use window::{HostWindow, Role};

/// How long the compositor may take nothing of what is requested before it counts as gone.
const DEAF: Duration = Duration::from_secs(10);

/// A focus that leaves one window of ours comes to another at once, if at all.
const FOCUS_GAP: Duration = Duration::from_millis(5);

/// The Wayland desktop.
#[derive(Debug)]
pub struct Wayland {
    connection: Connection,
    queue: EventQueue<State>,
    state: State,
}

/// What events change.
#[derive(Debug)]
pub struct State {
    connection: Connection,
    /// Why nothing can be requested any more.
    lost: Option<&'static str>,
    handle: QueueHandle<State>,
    globals: Globals,
    outputs: outputs::Outputs,
    windows: HashMap<SurfaceId, HostWindow>,
    pointer: pointer::Pointer,
    keyboard: keyboard::Keyboard,
    cursor: cursor::Cursor,
    /// Popups with a grab, outermost first: each is the parent of the next.
    grabs: Vec<SurfaceId>,
    /// Told with the end of a dispatch.
    events: Vec<HostEvent>,
    /// Pictures of icons that are shown no more.
    idle_pictures: Vec<icons::Picture>,
    /// The launcher's token for the next toplevel, and since when it is there.
    expected: Option<(Instant, String)>,
    /// Toplevels whose size or states changed: told once with the last.
    configured: BTreeSet<SurfaceId>,
    selections: selection::Desktop,
    drag: Option<drag::Drag>,
    /// What an app of the guest drags.
    source: Option<drag_source::Source>,
}

/// The display handle for wgpu; keeps the connection alive as long as any surface.
#[derive(Debug)]
struct DisplayOf(Connection);

impl DisplayOf {
    fn raw(&self) -> Result<rwh::RawDisplayHandle, rwh::HandleError> {
        let display = NonNull::new(self.0.backend().display_ptr()).ok_or(rwh::HandleError::Unavailable)?;
        Ok(rwh::WaylandDisplayHandle::new(display.cast()).into())
    }
}

impl rwh::HasDisplayHandle for DisplayOf {
    fn display_handle(&self) -> Result<rwh::DisplayHandle<'_>, rwh::HandleError> {
        // SAFETY: the connection lives as long as self, which the handle borrows.
        Ok(unsafe { rwh::DisplayHandle::borrow_raw(self.raw()?) })
    }
}

impl Wayland {
    /// Connects to the display that `WAYLAND_DISPLAY` names.
    ///
    /// # Errors
    /// When there is none, or it lacks what is needed.
    pub fn connect() -> anyhow::Result<Self> {
        let connection = Connection::connect_to_env().context("the Wayland display cannot be opened")?;
        let (list, mut queue) = registry_queue_init::<State>(&connection)?;
        let handle = queue.handle();
        let globals = Globals::bind(&list, &handle)?;
        let mut state = State {
            connection: connection.clone(),
            lost: None,
            outputs: outputs::Outputs::default(),
            windows: HashMap::new(),
            pointer: pointer::Pointer::default(),
            keyboard: keyboard::Keyboard::default(),
            cursor: cursor::Cursor::new(&connection, &globals, &handle),
            grabs: Vec::new(),
            events: Vec::new(),
            idle_pictures: Vec::new(),
            expected: None,
            configured: BTreeSet::new(),
            selections: selection::Desktop::bind(&list, &handle),
            drag: None,
            source: None,
            globals,
            handle,
        };
        for global in list.contents().clone_list() {
            state.appeared(list.registry(), global.name, &global.interface, global.version);
        }
        // Outputs and the seat are told in the first, the keymap in the second.
        for _ in 0..2 {
            queue.roundtrip(&mut state).context("the Wayland display went away")?;
        }
        state.tell_outputs();
        state.events.clear();
        Ok(Self { connection, queue, state })
    }

    /// The display, for the graphics device.
    #[must_use]
    pub fn display(&self) -> Arc<dyn wgpu::wgt::WgpuHasDisplayHandle> {
        Arc::new(DisplayOf(self.connection.clone()))
    }

    fn target(&self, surface: &WlSurface, size: Size, renderer: &Renderer) -> anyhow::Result<Target> {
        let Some(device) = renderer.device() else {
            return Ok(Target::by_processor(Box::new(sheets::Sheets::new(&self.state, surface.clone()))));
        };
        let pointer = NonNull::new(surface.id().as_ptr()).context("the window's surface is gone")?;
        let handle = rwh::WaylandWindowHandle::new(pointer.cast());
        let display = DisplayOf(self.connection.clone()).raw()?;
        // SAFETY: the connection lives as long as this presenter and the renderer's instance; the session drops the
        // target before it has the window closed.
        Ok(Target::Swapchain(unsafe { device.target(display, handle.into(), size, true) }?))
    }

    /// Takes what came, without waiting.
    fn take(&mut self) -> anyhow::Result<()> {
        self.queue.dispatch_pending(&mut self.state)?;
        if let Some(guard) = self.queue.prepare_read() {
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.queue.dispatch_pending(&mut self.state)?;
        self.state.lost.map_or(Ok(()), |lost| Err(anyhow::anyhow!(lost)))
    }
}

impl Presenter for Wayland {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        self.take()?;
        if self.state.keyboard.left_for_nowhere() {
            let limit = Timespec { tv_sec: 0, tv_nsec: FOCUS_GAP.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
            if poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0) {
                self.take()?;
            }
        }
        let told = self.state.told();
        // What was answered there and then (a ping, a button of a frame) waits for nothing else to be drawn.
        self.state.make_room();
        Ok(told)
    }

    fn outputs(&self) -> &[Output] {
        self.state.outputs.told()
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        self.state.keyboard.keymap()
    }

    fn decides(&self) -> bool {
        true
    }

    fn announce(&mut self, window: SurfaceId, what: Announce<'_>) -> Announced {
        self.state.make_room();
        match what {
            Announce::Toplevel { look, states } => self.state.announce_toplevel(window, look, states),
            Announce::Popup(popup) => self.state.announce_popup(window, popup),
        }
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        _states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        self.update(window, look);
        self.open(window, size, renderer)
    }

    fn open_plain(&mut self, window: SurfaceId, look: &Look, _size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        self.update(window, look);
        let surface = self.surface(window)?.surface.clone();
        let (shm, handle) = (self.state.globals.shm.clone(), self.state.handle.clone());
        Ok(Box::new(icons::Plain { surface, shm, handle }))
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        self.open(window, look.area.size(), renderer)
    }

    fn expect_window(&mut self, token: Option<String>) {
        self.state.expect(token);
    }

    fn watch_clicks(&mut self, _toplevel: Option<SurfaceId>) {
        // The compositor dismisses popups with a grab itself.
    }

    fn close(&mut self, window: SurfaceId) {
        self.state.make_room();
        self.state.close(window);
    }

    fn update(&mut self, window: SurfaceId, look: &Look) {
        self.state.make_room();
        self.state.describe(window, look);
    }

    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]) {
        self.state.make_room();
        self.state.set_icons(window, icons);
    }

    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>) {
        self.state.set_input(window, rects);
    }

    fn resize(&mut self, _window: SurfaceId, _size: Size) {
        // A window has the size that is drawn.
    }

    fn place_popup(&mut self, _window: SurfaceId, _look: PopupLook) {
        // It is announced anew when its app wants another place.
    }

    fn origin(&mut self, _window: SurfaceId) -> Point {
        Point::default()
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        self.state.make_room();
        self.state.act(window, act);
    }

    fn constrain(&mut self, window: SurfaceId, how: Option<Constraint>) {
        self.state.make_room();
        self.state.constrain(window, how);
    }

    fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        self.state.answer_drag(kind, action);
        self.state.make_room();
    }

    fn end_drag(&mut self, action: Actions) {
        self.state.end_drag(action);
        self.state.make_room();
    }

    fn start_drag(&mut self, window: SurfaceId, types: &[String], actions: Actions) -> bool {
        self.state.make_room();
        let starts = self.state.start_drag(window, types, actions);
        self.state.make_room();
        starts
    }

    fn set_drag_icon(&mut self, image: Image) {
        self.state.set_drag_icon(image);
        self.state.make_room();
    }

    fn cancel_drag(&mut self) {
        self.state.cancel_drag();
        self.state.make_room();
    }

    fn selections(&self) -> Option<&dyn Selections> {
        Some(self)
    }

    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        Some(self)
    }

    fn set_cursor(&mut self, image: Image) {
        self.state.make_room();
        self.state.set_cursor(image);
    }

    fn scale(&self, window: SurfaceId) -> u32 {
        self.state.scale(window)
    }

    fn begin_frame(&mut self, window: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        self.state.make_room();
        self.state.begin_frame(window, size, settled)
    }

    fn end_frame(&mut self, window: SurfaceId, ended: Ended) -> bool {
        self.state.end_frame(window, ended)
    }

    fn flush(&mut self) {
        self.state.make_room();
    }
}

impl Wayland {
    /// A window that was announced and configured.
    fn surface(&self, window: SurfaceId) -> anyhow::Result<&HostWindow> {
        let known = self.state.windows.get(&window).context("the window was not announced")?;
        anyhow::ensure!(known.configured, "the desktop has not placed the window yet");
        Ok(known)
    }

    /// A target for it.
    fn open(&mut self, window: SurfaceId, size: Size, renderer: &Renderer) -> anyhow::Result<Target> {
        let known = self.surface(window)?;
        let surface = known.surface.clone();
        let pixels = known.pixels(size);
        self.target(&surface, pixels, renderer)
    }
}

impl State {
    /// Sends what was requested, and waits while the compositor is behind: there is room for 4 KiB of requests then. The
    /// connection's own buffer holds no more, and one that overflows ends it.
    fn make_room(&mut self) {
        let begin = Instant::now();
        let mut writable = 0;
        while self.lost.is_none() {
            match self.connection.flush() {
                Ok(()) => return,
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    // The dispatch says why.
                    return;
                }
            }
            if writable > 3 {
                self.lost = Some("requests to the Wayland display were lost");
            } else if begin.elapsed() >= DEAF {
                self.lost = Some("the Wayland display takes no requests");
            }
            let mut fds = [PollFd::new(&self.connection, PollFlags::IN | PollFlags::OUT)];
            let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = poll(&mut fds, Some(&limit));
            let ready = fds[0].revents();
            writable += u32::from(ready.contains(PollFlags::OUT));
            if ready.contains(PollFlags::IN)
                && let Some(guard) = self.connection.prepare_read()
            {
                // So that it, too, gets rid of what it has for us; told later.
                let _ = guard.read();
            }
        }
    }

    /// What is to be told, in the order in which it matters: sizes, then focus, then the rest was in order already.
    fn told(&mut self) -> Vec<HostEvent> {
        let mut events = std::mem::take(&mut self.events);
        for id in std::mem::take(&mut self.configured) {
            if let Some(HostWindow { role: Role::Toplevel(toplevel), .. }) = self.windows.get(&id) {
                let (size, states) = (toplevel.size, toplevel.states);
                let shown = !states.contains(States::SUSPENDED);
                events.push(HostEvent::Configured { window: id, size, states });
                events.push(HostEvent::Visible { window: id, visible: shown, shown });
            }
        }
        if let Some(event) = self.tell_focus() {
            events.push(event);
        }
        events
    }

    /// The toplevel that a window of ours hangs on; itself for a toplevel.
    fn toplevel_of(&self, window: SurfaceId) -> Option<SurfaceId> {
        let mut at = window;
        loop {
            match &self.windows.get(&at)?.role {
                Role::Toplevel(_) => return Some(at),
                // Parents exist before their popups: no circle.
                Role::Popup(popup) => at = popup.parent,
            }
        }
    }
}
