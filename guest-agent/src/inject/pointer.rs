//! The pointer. Input path, hop 3 of 4: from the host's messages into the seat.
//!
//! The host names the window that it entered (a toplevel or a popup) and gives places relative to its root surface, also while
//! a button is held and the pointer is elsewhere. Which surface of the tree gets the event is decided here; while a button is
//! held, smithay keeps it on the surface where it went down.

use inlay_protocol::display::{Child, SurfaceId};
use inlay_protocol::input::{AxisSource, Scroll};
use smithay::backend::input::{Axis, AxisSource as SeatSource, ButtonState};
use smithay::input::pointer::{AxisFrame, ButtonEvent, MotionEvent};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, SERIAL_COUNTER};
use smithay::wayland::compositor::{SurfaceAttributes, with_states};

use crate::agent::Agent;
use crate::export::state;
use crate::surface::id_of;

type At = Point<f64, Logical>;

/// The pointer enters a window.
pub fn enter(agent: &mut Agent, surface: SurfaceId, x: f64, y: f64) {
    agent.input.pointer_root = Some(surface);
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
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let root = agent.input.pointer_root.and_then(|id| agent.surfaces.get(id)).map(|s| s.wl.clone());
    let location = At::from((x, y));
    let focus = root.and_then(|root| under(agent, &root, (0, 0), location, 0));
    let serial = SERIAL_COUNTER.next_serial();
    pointer.motion(agent, focus, &MotionEvent { location, serial, time });
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

/// The topmost surface of a tree that takes input at `at`, with its place; both relative to the root.
fn under(
    agent: &Agent,
    surface: &WlSurface,
    place: (i32, i32),
    at: At,
    depth: usize,
) -> Option<(WlSurface, At)> {
    if depth > inlay_protocol::limits::TREE_DEPTH {
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
