//! The pointer. Input path, hop 3 of 4: from the host's messages into the seat.
//!
//! The host names the window that it entered (a toplevel or a popup) and gives places relative to its root surface, also while
//! a button is held and the pointer is elsewhere. Which surface of the tree gets the event is decided here; while a button is
//! held, smithay keeps it on the surface where it went down.

use inlay_protocol::display::{Child, SurfaceId};
use inlay_protocol::geometry::Point as Place;
use inlay_protocol::input::{AxisSource, Scroll};
use smithay::backend::input::{Axis, AxisSource as SeatSource, ButtonState};
use smithay::input::pointer::{AxisFrame, ButtonEvent, MotionEvent, RelativeMotionEvent};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, SERIAL_COUNTER};
use smithay::wayland::compositor::{SurfaceAttributes, with_states};

use crate::agent::Agent;
use crate::export::state;
use crate::surface::id_of;

/// A place as the seat has it.
pub type At = Point<f64, Logical>;

/// `BTN_LEFT`.
const LEFT: u32 = 0x110;

/// The pointer enters a window.
pub fn enter(agent: &mut Agent, surface: SurfaceId, x: f64, y: f64) {
    agent.input.pointer_root = Some(surface);
    crate::x11::entered(agent, surface);
    let time = agent.input.last_ms;
    motion(agent, time, x, y);
}

/// It leaves all windows: held buttons are up, and nobody is told (the host's own drag may have taken them).
pub fn leave(agent: &mut Agent) {
    agent.input.pointer_root = None;
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let (serial, time) = (SERIAL_COUNTER.next_serial(), agent.input.last_ms);
    if !agent.input.buttons.is_empty() {
        pointer.unset_grab(agent, serial, time);
    }
    let location = pointer.current_location();
    pointer.motion(agent, None, &MotionEvent { location, serial, time });
    for button in std::mem::take(&mut agent.input.buttons) {
        let state = ButtonState::Released;
        pointer.button(agent, &ButtonEvent { serial, time, button, state });
    }
    pointer.frame(agent);
}

/// It moves.
pub fn motion(agent: &mut Agent, time: u32, x: f64, y: f64) {
    agent.input.pointer_at = (x, y);
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let (location, focus) = match agent.input.pointer_root {
        Some(root) => find(agent, root, x, y),
        None => (At::from((x, y)), None),
    };
    let serial = SERIAL_COUNTER.next_serial();
    pointer.motion(agent, focus, &MotionEvent { location, serial, time });
    pointer.frame(agent);
}

/// It is moved to a place of the seat for an app that holds it, whatever is there.
pub fn held_at(agent: &mut Agent, location: At) {
    let Some(pointer) = agent.seat.get_pointer().filter(|pointer| pointer.is_grabbed()) else { return };
    let (serial, time) = (SERIAL_COUNTER.next_serial(), agent.input.last_ms);
    pointer.motion(agent, None, &MotionEvent { location, serial, time });
    pointer.frame(agent);
}

/// A place in a window as the seat has it, and what is there.
pub fn find(agent: &Agent, root: SurfaceId, x: f64, y: f64) -> (At, Option<(WlSurface, At)>) {
    let root = agent.surfaces.get(root).map(|s| (s.id, s.wl.clone()));
    // Popups are where they are on their toplevel, so that a drag from one into the other stays one movement.
    let origin = root.as_ref().map(|(id, _)| origin(agent, *id, 0)).unwrap_or_default();
    let location = At::from((x + f64::from(origin.0), y + f64::from(origin.1)));
    let there = root.and_then(|(_, root)| under(agent, &root, origin, location, 0));
    (location, there)
}

/// It is moved, whether its place changes or not.
pub fn relative(agent: &mut Agent, utime: u64, delta: (f64, f64), unaccelerated: (f64, f64)) {
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let focus = pointer.current_focus().map(|surface| (surface, At::default()));
    let event = RelativeMotionEvent { delta: delta.into(), delta_unaccel: unaccelerated.into(), utime };
    pointer.relative_motion(agent, focus, &event);
    pointer.frame(agent);
}

/// A button goes down or up; what it does already is ignored.
pub fn button(agent: &mut Agent, time: u32, button: u32, pressed: bool) {
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let changed =
        if pressed { agent.input.buttons.insert(button) } else { agent.input.buttons.remove(&button) };
    if !changed {
        return;
    }
    let state = if pressed { ButtonState::Pressed } else { ButtonState::Released };
    let serial = SERIAL_COUNTER.next_serial();
    pointer.button(agent, &ButtonEvent { serial, time, button, state });
    pointer.frame(agent);
}

/// A wheel or a finger scrolls.
pub fn axis(agent: &mut Agent, time: u32, source: AxisSource, horizontal: Scroll, vertical: Scroll) {
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let source = match source {
        AxisSource::Wheel => SeatSource::Wheel,
        AxisSource::Finger => SeatSource::Finger,
        AxisSource::Continuous => SeatSource::Continuous,
    };
    let mut frame = AxisFrame::new(time).source(source);
    for (axis, scroll) in [(Axis::Horizontal, horizontal), (Axis::Vertical, vertical)] {
        frame = frame.value(axis, scroll.pixels);
        if scroll.v120 != 0 {
            frame = frame.v120(axis, scroll.v120);
        }
        if scroll.stop {
            frame = frame.stop(axis);
        }
    }
    pointer.axis(agent, frame);
    pointer.frame(agent);
}

/// A click at a place of the X11 root window, while the pointer is elsewhere: it closes menus.
pub fn click_at(agent: &mut Agent, window: &WlSurface, origin: Place, at: Place) {
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let (serial, time) = (SERIAL_COUNTER.next_serial(), agent.input.last_ms);
    let (before, focus) = (pointer.current_location(), pointer.current_focus());
    let place = |p: Place| At::from((f64::from(p.x), f64::from(p.y)));
    if !agent.input.buttons.is_empty() {
        pointer.unset_grab(agent, serial, time);
    }
    let target = Some((window.clone(), place(origin)));
    pointer.motion(agent, target, &MotionEvent { location: place(at), serial, time });
    for state in [ButtonState::Pressed, ButtonState::Released] {
        pointer.button(agent, &ButtonEvent { serial, time, button: LEFT, state });
        pointer.frame(agent);
    }
    // The pointer is where it was; the next motion finds its surface.
    let still_there = focus.and_then(|wl| {
        let origin = origin_of(agent, &wl);
        Some((wl, At::from((f64::from(origin?.0), f64::from(origin?.1)))))
    });
    pointer.motion(agent, still_there, &MotionEvent { location: before, serial, time });
    pointer.frame(agent);
}

fn origin_of(agent: &Agent, wl: &WlSurface) -> Option<(i32, i32)> {
    Some(origin(agent, id_of(&crate::surface::root_of(wl))?, 0))
}

/// Where the surface of a window begins: an X11 window's on the root window, a popup's relative to its toplevel's surface.
fn origin(agent: &Agent, id: SurfaceId, depth: usize) -> (i32, i32) {
    if let Some(at) = agent.x11.origin(id) {
        return (at.x, at.y);
    }
    let Some(popup) = agent.windows.popups.get(&id).filter(|_| depth < inlay_protocol::limits::TREE_DEPTH)
    else {
        return (0, 0);
    };
    let Some(parent) = popup.handle.get_parent_surface() else { return (0, 0) };
    let Some(parent_id) = id_of(&parent) else { return (0, 0) };
    let corner = |wl: &WlSurface| state::geometry(wl).map_or((0, 0), |g| (g.x, g.y));
    let (base, own, on) =
        (origin(agent, parent_id, depth + 1), corner(popup.handle.wl_surface()), corner(&parent));
    let place = popup.handle.with_pending_state(|state| state.geometry.loc);
    let sum = |base: i32, on: i32, place: i32, own: i32| {
        base.saturating_add(on).saturating_add(place).saturating_sub(own)
    };
    (sum(base.0, on.0, place.x, own.0), sum(base.1, on.1, place.y, own.1))
}

/// The topmost surface of a tree that takes input at `at`, with its place; both relative to the root.
fn under(
    agent: &Agent,
    surface: &WlSurface,
    place: (i32, i32),
    at: At,
    depth: usize,
) -> Option<(WlSurface, At)> {
    // What hangs on a surface without content is not seen either.
    let shown = agent.surfaces.get(id_of(surface)?)?.view.is_some();
    if !shown || depth > inlay_protocol::limits::TREE_DEPTH {
        return None;
    }
    let stack = state::children(surface);
    if stack.is_empty() {
        return takes_input(agent, surface, place, at);
    }
    stack.iter().rev().find_map(|(child, kind)| match kind {
        Child::Itself => takes_input(agent, surface, place, at),
        Child::Subsurface { position, .. } => {
            let place = (place.0.saturating_add(position.x), place.1.saturating_add(position.y));
            under(agent, child, place, at, depth + 1)
        }
    })
}

fn takes_input(agent: &Agent, surface: &WlSurface, place: (i32, i32), at: At) -> Option<(WlSurface, At)> {
    let view = agent.surfaces.get(id_of(surface)?)?.view?;
    let place = At::from((f64::from(place.0), f64::from(place.1)));
    let at = at - place;
    let size = view.size();
    let inside = at.x >= 0.0 && at.y >= 0.0 && at.x < f64::from(size.width) && at.y < f64::from(size.height);
    let takes = inside
        && with_states(surface, |states| {
            let mut attributes = states.cached_state.get::<SurfaceAttributes>();
            let region = attributes.current().input_region.as_ref();
            region.is_none_or(|region| region.contains(at.to_i32_floor()))
        });
    takes.then(|| (surface.clone(), place))
}
