//! Pointer and keys in the one window: who gets them, and what the user does with titles, edges and the panel.
//!
//! The right Ctrl key is the window's own, as in the window of the guest's screen: held down, S puts the windows apart, F is full screen,
//! and Tab goes to the next window.

use inlay_protocol::display::{Act, Edges, States, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::input::{InputEvent, Modifiers};
use inlay_protocol::selection::Actions;

use super::stack::{Button, Spot};
use super::{Desk, WINDOW};
use crate::windows::own_key::{Kept, OwnKey};
use crate::windows::presenter::image::Image;
use crate::windows::presenter::{Dragged, HostEvent};

/// `BTN_LEFT`.
const LEFT: u32 = 0x110;
/// Milliseconds between two clicks that are one double click.
const DOUBLE: u64 = 400;
/// How much of a moved window stays in the room, in logical pixels.
const LEFT_OVER: f64 = 48.0;
/// evdev's codes.
const KEY_TAB: u32 = 15;
const KEY_S: u32 = 31;
const KEY_F: u32 = 33;

/// A window that is moved or resized by the pointer.
#[derive(Debug, Clone, Copy)]
struct Grip {
    window: SurfaceId,
    /// The edges that are moved; none moves all of it.
    edges: Option<Edges>,
    /// Where the pointer was.
    at: (f64, f64),
    /// Where the window was.
    from: Rect,
}

/// What pointer and keys are at.
#[derive(Debug, Default)]
pub(super) struct Hands {
    /// The pointer's place in the room, while it is in the one window.
    at: Option<(f64, f64)>,
    /// The window whose app has the pointer.
    over: Option<SurfaceId>,
    /// Buttons that are held, pressed in [`Self::over`].
    held: Vec<u32>,
    grip: Option<Grip>,
    /// A button of a title that is pressed.
    pressed: Option<(SurfaceId, Button)>,
    /// The title that was clicked last, and when.
    clicked: Option<(SurfaceId, u64)>,
    /// The toplevel that has the keyboard while the one window has.
    active: Option<SurfaceId>,
    /// Whether the one window has it.
    focused: bool,
    keys: Vec<u32>,
    modifiers: Modifiers,
    /// A popup with a grab is open in this toplevel.
    watched: Option<SurfaceId>,
    constrained: Option<SurfaceId>,
    /// The pointer's image over apps.
    image: Option<Image>,
    /// The pointer's image over frames, while it is there.
    own_image: Option<&'static str>,
    /// Something is dragged over the one window, and over this window in it.
    dragged: Option<Option<SurfaceId>>,
    /// What that can be had as, what its app allows, and whether it comes from here.
    offered: Option<(Vec<String>, Actions, bool)>,
    own_key: OwnKey,
}

impl Hands {
    /// The toplevel that has the keyboard.
    pub fn active(&self) -> Option<SurfaceId> {
        self.active
    }

    /// The toplevel whose size is being changed.
    pub fn resizes(&self) -> Option<SurfaceId> {
        self.grip.filter(|grip| grip.edges.is_some()).map(|grip| grip.window)
    }

    /// Whether a button is held that was pressed in a window.
    pub fn presses_in(&self, window: SurfaceId) -> bool {
        self.over == Some(window) && !self.held.is_empty()
    }

    /// Another toplevel, or none, has the keyboard.
    pub fn focus(&mut self, window: Option<SurfaceId>, events: &mut Vec<HostEvent>) {
        if self.active != window {
            self.active = window;
            if self.focused {
                let keys = self.keys.clone();
                events.push(HostEvent::Focus { window, keys, modifiers: self.modifiers });
            }
        }
    }

    /// Clicks outside of a toplevel are to be told.
    pub fn watch(&mut self, toplevel: Option<SurfaceId>) {
        self.watched = toplevel;
    }

    /// A window wants the pointer held in it, or no more.
    pub fn constrain(&mut self, window: SurfaceId, wanted: bool) {
        self.constrained = wanted.then_some(window);
    }

    /// The window that the pointer is held in, or was.
    pub fn constrained(&self) -> Option<SurfaceId> {
        self.constrained
    }

    /// The pointer's image over apps is another: the one to be shown now, if that changes.
    pub fn cursor(&mut self, image: Image) -> Option<Image> {
        self.image = Some(image.clone());
        self.own_image.is_none().then_some(image)
    }

    /// The app under the pointer has it no more; what it held is up.
    pub fn let_go(&mut self, events: &mut Vec<HostEvent>) {
        self.held.clear();
        if self.over.take().is_some() {
            events.push(HostEvent::Input(InputEvent::PointerLeave));
        }
    }

    /// A window is gone, or off the screen.
    pub fn forget(&mut self, window: SurfaceId, events: &mut Vec<HostEvent>) {
        if self.over == Some(window) {
            self.let_go(events);
        }
        self.grip = self.grip.filter(|grip| grip.window != window);
        self.pressed = self.pressed.filter(|(id, _)| *id != window);
        self.constrained = self.constrained.filter(|id| *id != window);
        self.watched = self.watched.filter(|id| *id != window);
        if self.dragged == Some(Some(window)) {
            self.dragged = Some(None);
        }
    }
}

impl Desk {
    /// The keyboard comes to the one window or goes.
    pub(super) fn focused(
        &mut self,
        window: Option<SurfaceId>,
        keys: Vec<u32>,
        modifiers: Modifiers,
    ) -> HostEvent {
        let here = window == Some(WINDOW);
        self.hands.focused = here;
        self.hands.own_key = OwnKey::default();
        (self.hands.keys, self.hands.modifiers) =
            if here { (keys.clone(), modifiers) } else { Default::default() };
        self.touch();
        HostEvent::Focus { window: if here { self.hands.active } else { window }, keys, modifiers }
    }

    /// What comes to the one window goes to one in it; all else passes.
    pub(super) fn input(&mut self, event: InputEvent) {
        let edge = f64::from(self.edge());
        let here = self.hands.at.is_some();
        match event {
            InputEvent::PointerEnter { surface: WINDOW, x, y } => {
                self.hands.at = Some((x - edge, y - edge));
                self.point(None);
            }
            InputEvent::PointerEnter { .. } => {
                self.leave();
                self.pass(event);
            }
            InputEvent::PointerMotion { time_ms, x, y } if here => {
                self.hands.at = Some((x - edge, y - edge));
                self.point(Some(time_ms));
            }
            InputEvent::PointerLeave if here => self.leave(),
            InputEvent::PointerButton { time_ms, button, pressed } if here => {
                self.button(time_ms, button, pressed);
            }
            InputEvent::PointerAxis { .. } | InputEvent::PointerRelative { .. } if here => {
                if self.hands.over.is_some() {
                    self.pass(event);
                }
            }
            InputEvent::Key { key, pressed, .. } if self.hands.focused => self.key(key, pressed, event),
            InputEvent::Modifiers(modifiers) => {
                self.hands.modifiers = modifiers;
                self.pass(event);
            }
            other => self.pass(other),
        }
    }

    fn pass(&mut self, event: InputEvent) {
        self.events.push(HostEvent::Input(event));
    }

    fn leave(&mut self) {
        if self.hands.at.take().is_some() {
            self.hands.let_go(&mut self.events);
            self.end_grip();
            self.hands.pressed = None;
            self.hands.own_image = None;
            self.touch();
        }
    }

    /// The pointer is somewhere else, or something else is under it.
    fn point(&mut self, time_ms: Option<u64>) {
        let Some((x, y)) = self.hands.at else { return };
        if let Some(grip) = self.hands.grip {
            self.drag(grip, x, y);
            return;
        }
        if let (Some(over), false) = (self.hands.over, self.hands.held.is_empty())
            && let Some(area) = self.stack.area(over)
        {
            let (x, y) = (x - f64::from(area.x), y - f64::from(area.y));
            self.pass(InputEvent::PointerMotion { time_ms: time_ms.unwrap_or(0), x, y });
            return;
        }
        let spot = self.stack.at(x, y);
        match (spot, time_ms) {
            (Spot::Content(id, x, y), Some(time_ms)) if self.hands.over == Some(id) => {
                self.pass(InputEvent::PointerMotion { time_ms, x, y });
            }
            (Spot::Content(surface, x, y), _) => {
                self.hands.over = Some(surface);
                self.pass(InputEvent::PointerEnter { surface, x, y });
            }
            _ => self.hands.let_go(&mut self.events),
        }
        self.set_own_image(match spot {
            Spot::Content(..) => None,
            Spot::Edge(_, edges) => Some(name(edges)),
            _ => Some("default"),
        });
    }

    fn set_own_image(&mut self, image: Option<&'static str>) {
        if self.hands.own_image == image {
            return;
        }
        self.hands.own_image = image;
        let shown = match image {
            Some(name) => Some(Image::Named(name.to_owned())),
            None => self.hands.image.clone(),
        };
        if let Some(shown) = shown {
            self.desktop.set_cursor(shown);
        }
    }

    fn button(&mut self, time_ms: u64, button: u32, pressed: bool) {
        let Some((x, y)) = self.hands.at else { return };
        let event = InputEvent::PointerButton { time_ms, button, pressed };
        if !pressed {
            if let Some(at) = self.hands.held.iter().position(|held| *held == button) {
                self.hands.held.swap_remove(at);
                self.pass(event);
            } else if button == LEFT {
                self.release(x, y);
            }
            if self.hands.held.is_empty() {
                self.point(None);
            }
            return;
        }
        if self.hands.grip.is_some() {
            return;
        }
        if !self.hands.held.is_empty() {
            // One more, wherever the pointer went since.
            self.hands.held.push(button);
            self.pass(event);
            return;
        }
        let spot = self.stack.at(x, y);
        self.tell_click(spot);
        match spot {
            Spot::Content(id, ..) => {
                if let Some(toplevel) = self.stack.toplevel_of(id) {
                    self.activate(toplevel);
                }
                self.hands.held.push(button);
                self.pass(event);
            }
            _ if button != LEFT => {}
            Spot::Title(id) => {
                self.activate(id);
                let twice = self
                    .hands
                    .clicked
                    .take()
                    .is_some_and(|(before, at)| before == id && time_ms.saturating_sub(at) <= DOUBLE);
                if twice {
                    self.toggle_maximized(id);
                } else {
                    self.hands.clicked = Some((id, time_ms));
                    self.take_grip(id, None, (x, y));
                }
            }
            Spot::Button(id, button) => {
                self.hands.pressed = Some((id, button));
                self.touch();
            }
            Spot::Edge(id, edges) => {
                self.activate(id);
                self.take_grip(id, Some(edges), (x, y));
            }
            Spot::Entry(id) if self.hands.active == Some(id) => self.set_minimized(id, true),
            Spot::Entry(id) => self.activate(id),
            Spot::Apart => self.apart = true,
            Spot::Panel | Spot::Nothing => {}
        }
    }

    /// Popups with a grab close when the user clicks elsewhere.
    fn tell_click(&mut self, spot: Spot) {
        let Some(watched) = self.hands.watched else { return };
        let window = match spot {
            Spot::Content(id, ..) => self.stack.toplevel_of(id),
            _ => None,
        };
        if window != Some(watched) || matches!(spot, Spot::Content(id, ..) if id == watched) {
            self.events.push(HostEvent::ClickOutside { window });
        }
    }

    fn release(&mut self, x: f64, y: f64) {
        if self.hands.grip.is_some() {
            self.end_grip();
        }
        if let Some((id, button)) = self.hands.pressed.take() {
            self.touch();
            if self.stack.at(x, y) != Spot::Button(id, button) {
                return;
            }
            match button {
                Button::Minimize => self.set_minimized(id, true),
                Button::Maximize => self.toggle_maximized(id),
                Button::Close => self.events.push(HostEvent::Close { window: id }),
            }
        }
    }

    fn toggle_maximized(&mut self, id: SurfaceId) {
        let whole = self.stack.get(id).is_some_and(|toplevel| toplevel.states.contains(States::MAXIMIZED));
        self.act_here(id, if whole { Act::Unmaximize } else { Act::Maximize });
    }

    /// An app has its window moved or resized from where the pointer is pressed in it.
    pub(super) fn grip(&mut self, id: SurfaceId, edges: Option<Edges>) {
        let pressed = self.hands.over.and_then(|over| self.stack.toplevel_of(over)) == Some(id);
        if let Some(at) = self.hands.at.filter(|_| pressed && !self.hands.held.is_empty()) {
            self.take_grip(id, edges, at);
        }
    }

    fn take_grip(&mut self, window: SurfaceId, edges: Option<Edges>, at: (f64, f64)) {
        let Some(toplevel) = self.stack.get(window) else { return };
        if toplevel.states.contains(States::FULLSCREEN) || edges.is_some() && toplevel.is_whole() {
            return;
        }
        let from = toplevel.area;
        self.hands.let_go(&mut self.events);
        self.hands.grip = Some(Grip { window, edges, at, from });
    }

    fn end_grip(&mut self) {
        if let Some(grip) = self.hands.grip.take().filter(|grip| grip.edges.is_some()) {
            self.tell(grip.window);
        }
    }

    /// Moves or resizes what is held.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    fn drag(&mut self, grip: Grip, x: f64, y: f64) {
        let work = self.stack.work();
        let (right, bottom) = (f64::from(work.width), f64::from(work.height));
        let (x, y) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
        let (dx, dy) = (x - grip.at.0, y - grip.at.1);
        let Some(toplevel) = self.stack.get_mut(grip.window) else { return };
        let Some(edges) = grip.edges else {
            if dx.abs().max(dy.abs()) < 2.0 && toplevel.area == grip.from {
                // A click, so far.
                return;
            }
            let mut from = grip.from;
            if toplevel.is_whole() {
                // Dragged off: it has its own size again, below the pointer.
                let Some(before) = toplevel.before else { return };
                let part = (grip.at.0 - f64::from(from.x)) / f64::from(from.width.max(1));
                from = Rect { x: (grip.at.0 - part * f64::from(before.width)) as i32, ..before };
                from.y = grip.from.y;
                toplevel.states = toplevel.states.set(States::MAXIMIZED, false);
                self.hands.grip = Some(Grip { from, ..grip });
            }
            let least = f64::from(from.width).mul_add(-1.0, LEFT_OVER);
            let x = (f64::from(from.x) + dx).clamp(least.min(0.0), (right - LEFT_OVER).max(0.0)) as i32;
            let title = if toplevel.is_framed() { super::stack::TITLE.cast_signed() } else { 0 };
            let y = (f64::from(from.y) + dy).clamp(f64::from(title), bottom.max(f64::from(title))) as i32;
            self.move_to(grip.window, Rect { x, y, ..from });
            return;
        };
        let side = |start: u32, by: f64| (f64::from(start) + by).clamp(1.0, 32_767.0) as u32;
        let (mut width, mut height) = (grip.from.width, grip.from.height);
        if edges.contains(Edges::RIGHT) {
            width = side(width, dx);
        } else if edges.contains(Edges::LEFT) {
            width = side(width, -dx);
        }
        if edges.contains(Edges::BOTTOM) {
            height = side(height, dy);
        } else if edges.contains(Edges::TOP) {
            height = side(height, -dy);
        }
        let size = toplevel.fitting(Size::new(width, height));
        let far = |start: i32, before: u32, now: u32, edge| {
            if edges.contains(edge) { start + before.cast_signed() - now.cast_signed() } else { start }
        };
        let area = Rect {
            x: far(grip.from.x, grip.from.width, size.width, Edges::LEFT),
            y: far(grip.from.y, grip.from.height, size.height, Edges::TOP),
            width: size.width,
            height: size.height,
        };
        self.move_to(grip.window, area);
    }

    fn key(&mut self, key: u32, pressed: bool, event: InputEvent) {
        match self.hands.own_key.take(key, pressed) {
            Kept::No => {
                self.hands.keys.retain(|held| *held != key);
                if pressed && self.hands.keys.len() < inlay_protocol::limits::KEYS {
                    self.hands.keys.push(key);
                }
                self.pass(event);
            }
            Kept::Pressed(KEY_S) => self.apart = true,
            Kept::Pressed(KEY_F) => {
                let whole = self.host.as_ref().is_some_and(|host| host.states.contains(States::FULLSCREEN));
                self.desktop.act(WINDOW, if whole { Act::Unfullscreen } else { Act::Fullscreen });
            }
            Kept::Pressed(KEY_TAB) => {
                if let Some(next) = self.stack.next(self.hands.active) {
                    self.activate(next);
                }
            }
            Kept::Pressed(_) | Kept::Tapped | Kept::Yes => {}
        }
    }

    /// Something is dragged over the one window.
    pub(super) fn dragged(&mut self, dragged: Dragged) {
        let edge = f64::from(self.edge());
        match dragged {
            Dragged::Enter { window: WINDOW, x, y, types, actions, own } => {
                self.hands.dragged = Some(None);
                self.hands.offered = Some((types, actions, own));
                self.drag_over(None, x - edge, y - edge);
            }
            Dragged::Motion { time_ms, x, y } if self.hands.dragged.is_some() => {
                self.drag_over(Some(time_ms), x - edge, y - edge);
            }
            Dragged::Leave if self.hands.dragged.is_some() => {
                if self.hands.dragged.take().flatten().is_some() {
                    self.events.push(HostEvent::Drag(Dragged::Leave));
                }
            }
            Dragged::Drop if self.hands.dragged.is_some() => {
                if self.hands.dragged.take().flatten().is_some() {
                    self.events.push(HostEvent::Drag(Dragged::Drop));
                } else {
                    self.desktop.end_drag(Actions::default());
                }
            }
            other => {
                self.hands.dragged = None;
                self.events.push(HostEvent::Drag(other));
            }
        }
    }

    fn drag_over(&mut self, time_ms: Option<u64>, x: f64, y: f64) {
        let before = self.hands.dragged.flatten();
        let spot = match self.stack.at(x, y) {
            Spot::Content(id, x, y) => Some((id, x, y)),
            _ => None,
        };
        match (spot, before) {
            (Some((window, x, y)), before) if before != Some(window) => {
                if before.is_some() {
                    self.events.push(HostEvent::Drag(Dragged::Leave));
                }
                let Some((types, actions, own)) = self.hands.offered.clone() else { return };
                self.events.push(HostEvent::Drag(Dragged::Enter { window, x, y, types, actions, own }));
            }
            (Some((_, x, y)), _) => {
                let time_ms = time_ms.unwrap_or(0);
                self.events.push(HostEvent::Drag(Dragged::Motion { time_ms, x, y }));
            }
            (None, Some(_)) => {
                self.events.push(HostEvent::Drag(Dragged::Leave));
                self.desktop.answer_drag(None, Actions::default());
            }
            (None, None) => self.desktop.answer_drag(None, Actions::default()),
        }
        self.hands.dragged = Some(spot.map(|(window, ..)| window));
    }
}

/// The pointer's image over an edge or a corner.
fn name(edges: Edges) -> &'static str {
    let (top, bottom) = (edges.contains(Edges::TOP), edges.contains(Edges::BOTTOM));
    let (left, right) = (edges.contains(Edges::LEFT), edges.contains(Edges::RIGHT));
    match (top, bottom, left, right) {
        (true, _, true, _) => "nw-resize",
        (true, _, _, true) => "ne-resize",
        (_, true, true, _) => "sw-resize",
        (_, true, _, true) => "se-resize",
        (true, ..) => "n-resize",
        (_, true, ..) => "s-resize",
        (_, _, true, _) => "w-resize",
        _ => "e-resize",
    }
}
