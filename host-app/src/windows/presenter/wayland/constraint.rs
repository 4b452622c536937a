//! Locked and confined pointers, and how far a pointer is moved whatever its place (pointer-constraints, relative-pointer). The desktop
//! decides when it holds the pointer, and lets it go when the user goes elsewhere.

use inlay_protocol::display::{Constraint, SurfaceId};
use inlay_protocol::input::InputEvent;
use wayland_client::{Connection, Dispatch, QueueHandle};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_confined_pointer_v1::{
    self, ZwpConfinedPointerV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_locked_pointer_v1::{
    self, ZwpLockedPointerV1,
};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1::Lifetime;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::{
    self, ZwpRelativePointerV1,
};

use super::super::HostEvent;
use super::State;

/// A pointer that is held in a window, or will be while it is there.
#[derive(Debug)]
pub enum Held {
    Locked(ZwpLockedPointerV1),
    Confined(ZwpConfinedPointerV1),
}

impl Held {
    pub fn release(&self) {
        match self {
            Self::Locked(locked) => locked.destroy(),
            Self::Confined(confined) => confined.destroy(),
        }
    }
}

impl State {
    /// Has the desktop hold the pointer in a window, or no more.
    pub(super) fn constrain(&mut self, id: SurfaceId, how: Option<Constraint>) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        // One at a time: another one before the first is gone is a protocol error.
        if let Some(held) = window.held.take() {
            held.release();
        }
        let (Some(constraints), Some(pointer)) = (&self.globals.constraints, &self.pointer.pointer) else {
            return;
        };
        let (surface, handle) = (&window.surface, &self.handle);
        window.held = how.map(|how| match how {
            Constraint::Locked => Held::Locked(constraints.lock_pointer(
                surface,
                pointer,
                None,
                Lifetime::Persistent,
                handle,
                id,
            )),
            Constraint::Confined => Held::Confined(constraints.confine_pointer(
                surface,
                pointer,
                None,
                Lifetime::Persistent,
                handle,
                id,
            )),
        });
        self.pointer.relative_wanted = self.windows.values().any(|window| window.held.is_some());
    }

    fn held(&mut self, window: SurfaceId, held: bool) {
        self.events.push(HostEvent::Constrained { window, held });
    }
}

impl Dispatch<ZwpLockedPointerV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        _: &ZwpLockedPointerV1,
        event: zwp_locked_pointer_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.held(*id, matches!(event, zwp_locked_pointer_v1::Event::Locked));
    }
}

impl Dispatch<ZwpConfinedPointerV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        _: &ZwpConfinedPointerV1,
        event: zwp_confined_pointer_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        state.held(*id, matches!(event, zwp_confined_pointer_v1::Event::Confined));
    }
}

impl Dispatch<ZwpRelativePointerV1, ()> for State {
    fn event(
        state: &mut Self,
        _: &ZwpRelativePointerV1,
        event: zwp_relative_pointer_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let zwp_relative_pointer_v1::Event::RelativeMotion {
            utime_hi,
            utime_lo,
            dx,
            dy,
            dx_unaccel,
            dy_unaccel,
        } = event
        else {
            return;
        };
        if state.pointer.relative_wanted && state.pointer.inside.is_some() {
            state.events.push(HostEvent::Input(InputEvent::PointerRelative {
                time_us: u64::from(utime_hi) << 32 | u64::from(utime_lo),
                delta: (dx, dy),
                unaccelerated: (dx_unaccel, dy_unaccel),
            }));
        }
    }
}
