//! All windows of a machine in one window of the desktop, and back: nothing of it reaches the guest, whose apps go on.
//!
//! This stands between the session and the desktop's presenter. While windows are apart, as they are at first, it passes everything on. While
//! they are together it is itself the desktop: it decides places and sizes, draws frames and a panel, aims pointer and keys, and shows all
//! of it in one window, which is the only one that the real desktop sees. The session draws each window into a texture of its own
//! ([`Target::Texture`]); what changes is put together with the next frame.
//!
//! ```text
//!   apart    -- Desk::put_together (the session closes its windows before, and opens them again after) -->    together
//!   together -- Desk::put_apart, wished by Ctrl-S, the panel, the close button of the one window, or a command -->  apart
//! ```
//!
//! The host's own questions and the guest's screen stay windows of the desktop.

mod draw;
mod input;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use inlay_protocol::display::{
    Act, Constraint, ContentType, Decoration, Icon, Output, States, SurfaceId, WindowKind,
};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::scale::Scale;
use inlay_protocol::selection::Actions;

use self::draw::Drawing;
use self::input::Hands;
use self::stack::{Popup, Stack, Toplevel};
use super::framed::Border;
use super::image::Image;
use super::{
    Announce, Announced, Ended, HostEvent, Keymap, Look, Pixels, PopupLook, Presenter, Selections, open_own,
};
use crate::windows::dialogs;
use crate::windows::render::{Canvas, Drawn, Quad, Renderer, Target};
use crate::windows::session::bordered;
use crate::windows::window::{Told, titled};

/// The id of the one window: neither the guest's windows nor the host's questions have it, nor the guest's screen.
pub const WINDOW: SurfaceId = SurfaceId(u32::MAX - 1);
/// What it is called, before the machine's name.
pub const TITLE: &str = "Apps";
/// Its size where the monitors have none, and the part of the largest one, in percent, that it takes at first.
const FIRST: Size = Size::new(1280, 800);
const PART: u32 = 85;
/// Places that are remembered of windows for the next time.
const REMEMBERED: usize = 512;

/// The one window on the desktop.
#[derive(Debug, Default)]
struct Host {
    told: Told,
    target: Option<Target>,
    /// Of its content, with the border, in logical pixels.
    size: Size,
    states: States,
    visible: bool,
    dirty: bool,
    /// The desktop is to say when the next frame may be drawn.
    waits: bool,
    last_frame: Option<Instant>,
    /// As the desktop was last told.
    look: Option<Look>,
}

/// A presenter that can have all windows in one.
#[derive(Debug)]
pub struct Desk {
    desktop: Box<dyn Presenter>,
    machine: String,
    border: Option<Border>,
    /// Set while windows are together.
    host: Option<Host>,
    /// The size of the one window, and whether it had the full screen, the last time.
    last: Option<(Size, bool)>,
    stack: Stack,
    /// What each window shows.
    canvases: BTreeMap<SurfaceId, Canvas>,
    /// Windows whose next frame waits for one of the one window.
    waiting: BTreeSet<SurfaceId>,
    /// Where windows were the last time.
    remembered: BTreeMap<SurfaceId, Rect>,
    output: Vec<Output>,
    hands: Hands,
    drawing: Drawing,
    events: Vec<HostEvent>,
    /// The user wants windows apart.
    apart: bool,
}

impl Desk {
    /// Windows of this machine, on a desktop; the border is around the one window.
    #[must_use]
    pub fn new(desktop: Box<dyn Presenter>, machine: &str, border: Option<Border>) -> Self {
        Self {
            desktop,
            machine: machine.to_owned(),
            border,
            host: None,
            last: None,
            stack: Stack::default(),
            canvases: BTreeMap::new(),
            waiting: BTreeSet::new(),
            remembered: BTreeMap::new(),
            output: Vec::new(),
            hands: Hands::default(),
            drawing: Drawing::default(),
            events: Vec::new(),
            apart: false,
        }
    }

    /// Whether windows are together.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.host.is_some()
    }

    /// Whether a window is one of those that are together.
    fn holds(&self, window: SurfaceId) -> bool {
        self.is_on() && window.0 < dialogs::FIRST
    }

    /// Has all windows in one from now on; none may be open.
    pub fn put_together(&mut self, fullscreen: bool) {
        if self.is_on() {
            return;
        }
        let monitors = self.desktop.outputs().iter().map(|output| output.area.size());
        let most =
            monitors.max_by_key(|size| u64::from(size.width) * u64::from(size.height)).unwrap_or(FIRST);
        let part = |side: u32| side / 100 * PART + side % 100 * PART / 100;
        let first = Size::new(part(most.width), part(most.height));
        let (size, whole) = self.last.unwrap_or((first, false));
        let size = Size::new(size.width.min(most.width), size.height.min(most.height));
        let states = States::default().set(States::FULLSCREEN, whole || fullscreen);
        self.host = Some(Host { size, states, visible: true, dirty: true, ..Host::default() });
        self.desktop.watch_clicks(None);
        self.follow_size();
    }

    /// Has windows apart from now on; none may be open.
    pub fn put_apart(&mut self) {
        let Some(host) = self.host.take() else { return };
        let whole = host.states.contains(States::FULLSCREEN);
        // One that had the full screen says nothing of the size that it would have else.
        self.last = if whole { self.last.map(|(size, _)| (size, true)) } else { Some((host.size, false)) };
        drop(host.target);
        if host.told.is_known() {
            self.desktop.close(WINDOW);
        }
        self.desktop.watch_clicks(None);
        self.stack = Stack::default();
        self.canvases.clear();
        self.waiting.clear();
        self.hands = Hands::default();
        self.drawing = Drawing::default();
        self.events.push(HostEvent::Outputs);
        self.apart = false;
    }

    /// Whether the user wants windows apart; told once.
    pub fn wants_apart(&mut self) -> bool {
        std::mem::take(&mut self.apart)
    }

    /// The one window's title without the machine, its class and the size of its content; while it is open.
    #[must_use]
    pub fn info(&self) -> Option<(&'static str, String, Size)> {
        let host = self.host.as_ref().filter(|host| host.target.is_some())?;
        Some((TITLE, class(&self.machine), self.inside(host.size)))
    }

    /// Where the content of a toplevel is within the one window's border, without a border of its own.
    #[must_use]
    pub fn area(&self, window: SurfaceId) -> Option<Rect> {
        let area = self.stack.get(window)?.area;
        let edge = self.edge().cast_signed();
        Some(Rect::new(
            area.x + edge,
            area.y + edge,
            self.inside(area.size()).width,
            self.inside(area.size()).height,
        ))
    }

    /// The width of the border.
    fn edge(&self) -> u32 {
        self.border.map_or(0, |border| border.width)
    }

    fn inside(&self, size: Size) -> Size {
        let less = 2 * self.edge();
        Size::new(size.width.saturating_sub(less).max(1), size.height.saturating_sub(less).max(1))
    }

    fn desk_scale(&self) -> Scale {
        Scale(self.desktop.scale(WINDOW).max(1))
    }

    /// The room has the size of the one window; so has the only monitor that apps know.
    fn follow_size(&mut self) {
        let Some(size) = self.host.as_ref().map(|host| self.inside(host.size)) else { return };
        let scale = self.desk_scale();
        let refresh = self.desktop.outputs().iter().map(|output| output.refresh).max().unwrap_or(60_000);
        let output = Output {
            name: "Inlay-1".to_owned(),
            area: Rect::of_size(size),
            mode: scale.size(size),
            refresh,
            scale_120: scale.0,
        };
        if self.output.first() != Some(&output) {
            self.output = vec![output];
            self.events.push(HostEvent::Outputs);
        }
        for id in self.stack.resize(size) {
            self.tell(id);
        }
        self.touch();
    }

    fn touch(&mut self) {
        if let Some(host) = &mut self.host {
            host.dirty = true;
        }
    }

    /// Tells where a toplevel is and what it is.
    fn tell(&mut self, id: SurfaceId) {
        let Some(toplevel) = self.stack.get(id) else { return };
        let (size, at) = (toplevel.area.size(), Point::new(toplevel.area.x, toplevel.area.y));
        let resizing = self.hands.resizes() == Some(id);
        let states = toplevel.states.set(States::RESIZING, resizing);
        self.events.push(HostEvent::Configured { window: id, size, states });
        self.events.push(HostEvent::Moved { window: id, at });
        self.touch();
    }

    /// Gives a toplevel a place, as far as it takes the size.
    fn move_to(&mut self, id: SurfaceId, area: Rect) {
        if let Some(toplevel) = self.stack.get_mut(id).filter(|toplevel| toplevel.area != area) {
            toplevel.area = area;
            self.tell(id);
        }
    }

    /// Has a toplevel take all of the room, or its own place again.
    fn set_states(&mut self, id: SurfaceId, states: States) {
        let Some(toplevel) = self.stack.get_mut(id) else { return };
        if !toplevel.is_whole() {
            toplevel.before = Some(toplevel.area);
        }
        toplevel.states = states;
        let before = toplevel.before;
        let Some(toplevel) = self.stack.get(id) else { return };
        let area = if toplevel.is_whole() { Some(self.stack.whole(toplevel)) } else { before };
        if let Some(toplevel) = self.stack.get_mut(id) {
            toplevel.area = area.unwrap_or(toplevel.area);
        }
        self.tell(id);
    }

    /// Takes a toplevel off the screen or brings it back.
    fn set_minimized(&mut self, id: SurfaceId, minimized: bool) {
        let Some(toplevel) = self.stack.get_mut(id).filter(|t| t.minimized != minimized) else { return };
        toplevel.minimized = minimized;
        let seen = self.host.as_ref().is_some_and(|host| host.visible) && !minimized;
        self.events.push(HostEvent::Visible { window: id, visible: seen, shown: !minimized });
        if minimized {
            self.hands.forget(id, &mut self.events);
            self.give_focus(self.stack.top());
        }
        self.touch();
    }

    /// Gives a toplevel the keyboard, and puts it above the others.
    fn activate(&mut self, id: SurfaceId) {
        self.set_minimized(id, false);
        self.stack.raise(id);
        match self.stack.focusable(id) {
            Some(focus) => {
                self.stack.raise(focus);
                self.give_focus(Some(focus));
            }
            None => self.touch(),
        }
    }

    fn give_focus(&mut self, window: Option<SurfaceId>) {
        self.hands.focus(window, &mut self.events);
        self.touch();
    }

    fn act_here(&mut self, id: SurfaceId, act: Act) {
        let Some(toplevel) = self.stack.get(id) else { return };
        let states = toplevel.states;
        match act {
            Act::Maximize => self.set_states(id, states.set(States::MAXIMIZED, true)),
            Act::Unmaximize => self.set_states(id, states.set(States::MAXIMIZED, false)),
            Act::Fullscreen => {
                self.activate(id);
                self.set_states(id, states.set(States::FULLSCREEN, true));
            }
            Act::Unfullscreen => self.set_states(id, states.set(States::FULLSCREEN, false)),
            Act::Minimize => self.set_minimized(id, true),
            Act::Activate => self.activate(id),
            Act::Move => self.grip(id, None),
            Act::Resize(edges) => self.grip(id, Some(edges)),
            // There is none.
            Act::WindowMenu(_) => {}
        }
    }

    /// Takes what the desktop tells; what is left is for the session.
    fn take(&mut self, event: HostEvent) -> Option<HostEvent> {
        let Some(host) = &mut self.host else { return Some(event) };
        match event {
            HostEvent::Configured { window: WINDOW, size, states } => {
                (host.told, host.states) = (Told::Decided, states);
                if !size.is_empty() {
                    host.size = size;
                }
                self.follow_size();
            }
            HostEvent::Ready { window: WINDOW } => host.waits = false,
            HostEvent::Visible { window: WINDOW, visible, shown } => {
                host.dirty |= visible && !host.visible;
                host.visible = visible;
                let seen = self.stack.shown().map(|toplevel| toplevel.id);
                let told = seen.map(|window| HostEvent::Visible { window, visible, shown });
                self.events.extend(told);
            }
            HostEvent::Exposed { window: WINDOW } => self.touch(),
            HostEvent::Close { window: WINDOW } | HostEvent::Destroyed { window: WINDOW } => {
                self.apart = true;
            }
            HostEvent::Shown { window: WINDOW, .. } => self.follow_size(),
            HostEvent::Outputs => {
                self.follow_size();
                return Some(HostEvent::Outputs);
            }
            HostEvent::Constrained { window: WINDOW, held } => {
                let window = self.hands.constrained()?;
                return Some(HostEvent::Constrained { window, held });
            }
            HostEvent::Moved { window: WINDOW, .. }
            | HostEvent::ShortcutsInhibited { window: WINDOW, .. } => {}
            HostEvent::ClickOutside { window } => {
                // A click in the one window is looked at where it is.
                return (window != Some(WINDOW)).then_some(HostEvent::ClickOutside { window: None });
            }
            HostEvent::Focus { window, keys, modifiers } => {
                return Some(self.focused(window, keys, modifiers));
            }
            HostEvent::Input(event) => self.input(event),
            HostEvent::Drag(dragged) => self.dragged(dragged),
            other => return Some(other),
        }
        None
    }

    fn look(&self) -> Look {
        Look {
            title: titled(TITLE, &self.machine),
            class: class(&self.machine),
            parent: None,
            min_size: Size::new(320, 200),
            max_size: Size::default(),
            base_size: Size::default(),
            increment: Size::default(),
            decoration: Decoration::ServerSide,
            kind: WindowKind::Normal,
            modal: false,
            urgent: self.stack.toplevels.iter().any(|toplevel| toplevel.look.urgent),
            no_focus: false,
            keeps_awake: self.stack.shown().any(|toplevel| toplevel.look.keeps_awake),
            inhibits_shortcuts: false,
            content_type: ContentType::None,
            place: None,
        }
    }

    /// Opens the one window, and draws it if it changed.
    pub fn turn(&mut self, interval: Duration, renderer: &mut Renderer) {
        if !self.is_on() {
            return;
        }
        self.open(renderer);
        let look = self.look();
        if let Some(host) = self.host.as_mut().filter(|host| host.target.is_some())
            && host.look.as_ref() != Some(&look)
        {
            self.desktop.update(WINDOW, &look);
            host.look = Some(look);
        }
        if self.due(interval).is_some_and(|at| at <= Instant::now()) {
            self.show(renderer);
        }
    }

    /// When there is something to draw.
    #[must_use]
    pub fn due(&self, interval: Duration) -> Option<Instant> {
        let host = self.host.as_ref()?;
        let wanted = host.dirty || !self.waiting.is_empty();
        (wanted && host.visible && !host.waits && host.target.is_some())
            .then(|| host.last_frame.map_or_else(Instant::now, |last| last + interval))
    }

    fn open(&mut self, renderer: &Renderer) {
        let look = self.look();
        let Some(host) = self.host.as_mut().filter(|host| host.target.is_none()) else { return };
        let wanted = (host.size, host.states);
        match open_own(self.desktop.as_mut(), renderer, WINDOW, &mut host.told, &look, wanted) {
            Ok(Some(target)) => (host.target, host.look) = (Some(target), Some(look)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("windows cannot be shown together: {error:#}");
                self.apart = true;
            }
        }
    }

    fn show(&mut self, renderer: &mut Renderer) {
        let scale = self.desktop.scale(WINDOW);
        let Some(host) = &mut self.host else { return };
        host.last_frame = Some(Instant::now());
        let (size, dirty) = (host.size, host.dirty);
        let inside = self.inside(size);
        let mut ended = Ended::Unchanged;
        if dirty {
            let Some(pixels) = self.desktop.begin_frame(WINDOW, size, true) else { return };
            let mut quads = self.quads(scale, renderer);
            if let Some(border) = self.border {
                quads = bordered(quads, border, (inside, pixels), None, scale, renderer);
            }
            let drawn = self
                .host
                .as_mut()
                .and_then(|host| host.target.as_mut())
                .map(|target| renderer.draw(target, pixels, &quads));
            ended = if drawn == Some(Drawn::Later) { Ended::Failed } else { Ended::Presented };
        }
        let waits = self.desktop.end_frame(WINDOW, ended);
        if let Some(host) = &mut self.host {
            host.dirty = ended == Ended::Failed;
            host.waits = waits;
        }
        let ready = std::mem::take(&mut self.waiting).into_iter();
        self.events.extend(ready.map(|window| HostEvent::Ready { window }));
    }

    /// What the one window shows, in pixels of a scale in 120ths, without its border.
    pub fn quads(&mut self, scale_120: u32, renderer: &mut Renderer) -> Vec<Quad> {
        self.drawing.quads(&self.stack, &self.canvases, self.hands.active(), Scale(scale_120), renderer)
    }

    /// Brings a toplevel to where it was the last time, or finds a place. One that is larger than the room becomes smaller.
    fn place_new(&mut self, id: SurfaceId, look: &Look, size: Size) -> Rect {
        let size = self.stack.fitting(look, size);
        let Size { width, height } = size;
        match self.remembered.get(&id) {
            Some(area) => self.stack.kept_for(look, Rect { width, height, ..*area }),
            None => self.stack.place(look, size),
        }
    }

    fn remember(&mut self, id: SurfaceId) {
        let Some(toplevel) = self.stack.get(id) else { return };
        let area = toplevel.before.filter(|_| toplevel.is_whole()).unwrap_or(toplevel.area);
        if self.remembered.len() >= REMEMBERED {
            self.remembered.pop_first();
        }
        self.remembered.insert(id, area);
    }
}

fn class(machine: &str) -> String {
    format!("inlay.{machine}")
}

impl Presenter for Desk {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.desktop.fd()
    }

    fn dispatch(&mut self) -> anyhow::Result<Vec<HostEvent>> {
        let mut events = std::mem::take(&mut self.events);
        for event in self.desktop.dispatch()? {
            let left = self.take(event);
            events.append(&mut self.events);
            events.extend(left);
        }
        Ok(events)
    }

    fn outputs(&self) -> &[Output] {
        if self.is_on() { &self.output } else { self.desktop.outputs() }
    }

    fn keyboard(&mut self) -> Option<Keymap> {
        self.desktop.keyboard()
    }

    fn decides(&self) -> bool {
        !self.is_on() && self.desktop.decides()
    }

    fn desk(&self) -> Option<&Desk> {
        Some(self)
    }

    fn desk_mut(&mut self) -> Option<&mut Desk> {
        Some(self)
    }

    fn announce(&mut self, window: SurfaceId, what: Announce<'_>) -> Announced {
        if self.holds(window) {
            return Announced::Free;
        }
        match what {
            Announce::Toplevel { look, states } => {
                let look = self.outside(look);
                self.desktop.announce(window, Announce::Toplevel { look: &look, states })
            }
            Announce::Popup(popup) => self.desktop.announce(window, Announce::Popup(popup)),
        }
    }

    fn scale(&self, window: SurfaceId) -> u32 {
        if self.holds(window) { self.desk_scale().0 } else { self.desktop.scale(window) }
    }

    fn begin_frame(&mut self, window: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        if self.holds(window) {
            return Some(self.desk_scale().size(size));
        }
        self.desktop.begin_frame(window, size, settled)
    }

    fn end_frame(&mut self, window: SurfaceId, ended: Ended) -> bool {
        if !self.holds(window) {
            return self.desktop.end_frame(window, ended);
        }
        if ended == Ended::Presented {
            self.touch();
        }
        self.waiting.insert(window);
        true
    }

    fn open_toplevel(
        &mut self,
        window: SurfaceId,
        look: &Look,
        size: Size,
        states: States,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        if !self.holds(window) {
            let look = self.outside(look);
            return self.desktop.open_toplevel(window, &look, size, states, renderer);
        }
        let area = self.place_new(window, look, size);
        self.stack.toplevels.push(Toplevel {
            id: window,
            look: look.clone(),
            area,
            states: States::default(),
            before: None,
            minimized: false,
            shape: None,
        });
        let whole = States(states.0 & (States::MAXIMIZED.0 | States::FULLSCREEN.0));
        if whole == States::default() {
            self.tell(window)
        } else {
            self.set_states(window, whole)
        }
        self.activate(window);
        let canvas = Canvas::default();
        self.canvases.insert(window, canvas.clone());
        Ok(Target::Texture(canvas))
    }

    fn open_plain(&mut self, window: SurfaceId, look: &Look, size: Size) -> anyhow::Result<Box<dyn Pixels>> {
        let look = self.outside(look);
        self.desktop.open_plain(window, &look, size)
    }

    fn open_popup(
        &mut self,
        window: SurfaceId,
        look: PopupLook,
        renderer: &Renderer,
    ) -> anyhow::Result<Target> {
        if !self.holds(window) {
            return self.desktop.open_popup(window, look, renderer);
        }
        self.stack.popups.push(Popup { id: window, look, shape: None });
        let canvas = Canvas::default();
        self.canvases.insert(window, canvas.clone());
        self.touch();
        Ok(Target::Texture(canvas))
    }

    fn expect_window(&mut self, token: Option<String>) {
        self.desktop.expect_window(token);
    }

    fn watch_clicks(&mut self, toplevel: Option<SurfaceId>) {
        if self.is_on() {
            self.hands.watch(toplevel);
            // One that is not on the screen yet cannot be watched.
            let open = self.host.as_ref().is_some_and(|host| host.target.is_some());
            self.desktop.watch_clicks(toplevel.filter(|_| open).map(|_| WINDOW));
        } else {
            self.desktop.watch_clicks(toplevel);
        }
    }

    fn close(&mut self, window: SurfaceId) {
        if !self.holds(window) {
            self.desktop.close(window);
            return;
        }
        self.remember(window);
        self.stack.remove(window);
        self.canvases.remove(&window);
        self.waiting.remove(&window);
        self.drawing.forget(window);
        let active = self.hands.active() == Some(window);
        self.hands.forget(window, &mut self.events);
        if active {
            self.give_focus(self.stack.top());
        }
        self.touch();
    }

    fn update(&mut self, window: SurfaceId, look: &Look) {
        if !self.holds(window) {
            let look = self.outside(look);
            self.desktop.update(window, &look);
            return;
        }
        if let Some(toplevel) = self.stack.get_mut(window) {
            toplevel.look = look.clone();
        }
        self.touch();
    }

    fn set_icons(&mut self, window: SurfaceId, icons: &[Icon]) {
        if self.holds(window) {
            self.drawing.set_icon(window, icons);
            self.touch();
        } else {
            self.desktop.set_icons(window, icons);
        }
    }

    fn set_shape(&mut self, window: SurfaceId, rects: Option<&[Rect]>) {
        if self.holds(window) {
            self.stack.set_shape(window, rects.map(<[Rect]>::to_vec));
            self.touch();
        } else {
            self.desktop.set_shape(window, rects);
        }
    }

    fn resize(&mut self, window: SurfaceId, size: Size) {
        if !self.holds(window) {
            self.desktop.resize(window, size);
            return;
        }
        if let Some(toplevel) = self.stack.get_mut(window) {
            (toplevel.area.width, toplevel.area.height) = (size.width, size.height);
            self.tell(window);
        }
    }

    fn place_popup(&mut self, window: SurfaceId, look: PopupLook) {
        if !self.holds(window) {
            self.desktop.place_popup(window, look);
            return;
        }
        if let Some(popup) = self.stack.popups.iter_mut().find(|popup| popup.id == window) {
            popup.look = look;
            self.touch();
        }
    }

    fn origin(&mut self, window: SurfaceId) -> Point {
        if self.holds(window) {
            self.stack.area(window).map(|area| Point::new(area.x, area.y)).unwrap_or_default()
        } else {
            self.desktop.origin(window)
        }
    }

    fn act(&mut self, window: SurfaceId, act: Act) {
        if self.holds(window) {
            self.act_here(window, act);
        } else {
            self.desktop.act(window, act);
        }
    }

    fn constrain(&mut self, window: SurfaceId, how: Option<Constraint>) {
        if self.holds(window) {
            self.hands.constrain(window, how.is_some());
            self.desktop.constrain(WINDOW, how);
        } else {
            self.desktop.constrain(window, how);
        }
    }

    fn answer_drag(&mut self, kind: Option<&str>, action: Actions) {
        self.desktop.answer_drag(kind, action);
    }

    fn end_drag(&mut self, action: Actions) {
        self.desktop.end_drag(action);
    }

    fn start_drag(&mut self, window: SurfaceId, types: &[String], actions: Actions) -> bool {
        if !self.holds(window) {
            return self.desktop.start_drag(window, types, actions);
        }
        if !self.hands.presses_in(window) || !self.desktop.start_drag(WINDOW, types, actions) {
            return false;
        }
        self.hands.let_go(&mut self.events);
        true
    }

    fn set_drag_icon(&mut self, image: Image) {
        self.desktop.set_drag_icon(image);
    }

    fn cancel_drag(&mut self) {
        self.desktop.cancel_drag();
    }

    fn selections(&self) -> Option<&dyn Selections> {
        self.desktop.selections()
    }

    fn selections_mut(&mut self) -> Option<&mut dyn Selections> {
        self.desktop.selections_mut()
    }

    fn set_cursor(&mut self, image: Image) {
        if let Some(image) = self.hands.cursor(image) {
            self.desktop.set_cursor(image);
        }
    }

    fn flush(&mut self) {
        self.desktop.flush();
    }
}

impl Desk {
    /// How a window of the desktop looks while guest windows, one of which it may belong to, are no windows of it.
    fn outside(&self, look: &Look) -> Look {
        let parent = look.parent.map(|parent| if self.holds(parent) { WINDOW } else { parent });
        Look { parent, ..look.clone() }
    }
}
