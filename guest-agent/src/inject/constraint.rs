//! Locked and confined pointers (`zwp_pointer_constraints_v1`). The pointer is the host's: what the surface under it wants is asked
//! of the host, and the app is told once the host has done it.

use inlay_protocol::display::{Constraint, Request, SurfaceId};
use smithay::input::pointer::PointerHandle;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point};
use smithay::wayland::pointer_constraints::{
    PointerConstraint, PointerConstraintsHandler, with_pointer_constraint,
};

use crate::agent::Agent;
use crate::surface::{id_of, root_of};

impl PointerConstraintsHandler for Agent {
    // What is wanted is looked at once a turn of the loop: it changes with the pointer's place as well.
    fn new_constraint(&mut self, _: &WlSurface, _: &PointerHandle<Self>) {}

    fn cursor_position_hint(&mut self, _: &WlSurface, _: &PointerHandle<Self>, _: Point<f64, Logical>) {}
}

/// What the surface under the pointer wants, with the root of its window.
fn wanted(agent: &Agent) -> Option<(SurfaceId, Constraint)> {
    let pointer = agent.seat.get_pointer()?;
    let focus = pointer.current_focus()?;
    let how = with_pointer_constraint(&focus, &pointer, |constraint| match &*constraint? {
        PointerConstraint::Locked(_) => Some(Constraint::Locked),
        // Within a part of a window is more than the host is asked for: the app goes without.
        PointerConstraint::Confined(confined) => confined.region().is_none().then_some(Constraint::Confined),
    })?;
    Some((id_of(&root_of(&focus))?, how))
}

/// Asks the host for what is wanted now, when that is new.
pub fn say(agent: &mut Agent) {
    let now = wanted(agent).filter(|_| agent.display.is_up());
    let before = agent.input.constraint;
    if now == before {
        return;
    }
    agent.input.constraint = now;
    if let Some((surface, _)) = before.filter(|(before, _)| now.is_none_or(|(now, _)| now != *before)) {
        agent.send(&Request::Constrain { surface, how: None });
    }
    if let Some((surface, how)) = now {
        agent.send(&Request::Constrain { surface, how: Some(how) });
    }
}

/// The host holds the pointer in a window, or no more.
pub fn answered(agent: &mut Agent, surface: SurfaceId, held: bool) {
    let Some(pointer) = agent.seat.get_pointer() else { return };
    let Some(focus) = pointer.current_focus().filter(|focus| id_of(&root_of(focus)) == Some(surface)) else {
        return;
    };
    with_pointer_constraint(&focus, &pointer, |constraint| match constraint {
        Some(constraint) if held && !constraint.is_active() => constraint.activate(),
        Some(constraint) if !held && constraint.is_active() => constraint.deactivate(),
        _ => {}
    });
}

smithay::delegate_pointer_constraints!(Agent);
smithay::delegate_relative_pointer!(Agent);
