//! Input of the host into the seat. Input path, hop 3 of 4: hop 2 is the host's session, hop 4 the app.

pub mod constraint;
pub mod focus;
pub mod keyboard;
pub mod pointer;

use std::collections::BTreeSet;

use inlay_protocol::display::{Constraint, SurfaceId};
use inlay_protocol::input::InputEvent;
use smithay::input::keyboard::{KeyboardHandle, xkb};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;

use crate::agent::Agent;
use crate::drag;
use crate::surface::id_of;

/// What is held and where.
#[derive(Default)]
pub struct InputState {
    /// The seat's keyboard, where XKB data was found.
    pub keyboard: Option<KeyboardHandle<Agent>>,
    /// smithay's XKB state, shared: the host's modifiers are written into it.
    pub xkb: Option<xkb::State>,
    /// What the guest's consoles were told of the host's keymap.
    pub console_keys: Option<String>,
    /// Keys that are held, evdev codes.
    pub keys: BTreeSet<u32>,
    /// Buttons that are held.
    pub buttons: BTreeSet<u32>,
    /// The window that the pointer entered.
    pub pointer_root: Option<SurfaceId>,
    /// Where in it the host has it.
    pub pointer_at: (f64, f64),
    /// What the host was asked for: how the pointer is held in a window.
    pub constraint: Option<(SurfaceId, Constraint)>,
    /// Time of the newest event that had one.
    pub last_ms: u32,
}

/// Wayland's times are 32 bits of milliseconds, and wrap.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the Wayland protocol lets times wrap")]
pub fn wire_ms(time_ms: u64) -> u32 {
    time_ms as u32
}

/// Handles one event of the host.
pub fn handle(agent: &mut Agent, event: InputEvent) {
    if let InputEvent::Key { time_ms, .. }
    | InputEvent::PointerMotion { time_ms, .. }
    | InputEvent::PointerButton { time_ms, .. }
    | InputEvent::PointerAxis { time_ms, .. } = event
    {
        agent.input.last_ms = wire_ms(time_ms);
    }
    if drag::out::takes_pointer(agent, &event) {
        return;
    }
    match event {
        InputEvent::Keymap(text) => keyboard::keymap(agent, text),
        InputEvent::Repeat { rate, delay } => keyboard::repeat(agent, rate, delay),
        InputEvent::KeyboardEnter { surface, keys, modifiers } => {
            keyboard::enter(agent, surface, &keys, modifiers);
        }
        InputEvent::KeyboardLeave => keyboard::leave(agent),
        InputEvent::Key { time_ms, key, pressed } => {
            keyboard::key(agent, wire_ms(time_ms), key, pressed);
        }
        InputEvent::Modifiers(modifiers) => keyboard::set_modifiers(agent, modifiers),
        InputEvent::PointerEnter { surface, x, y } => pointer::enter(agent, surface, x, y),
        InputEvent::PointerLeave => pointer::leave(agent),
        InputEvent::PointerMotion { time_ms, x, y } => pointer::motion(agent, wire_ms(time_ms), x, y),
        InputEvent::PointerButton { time_ms, button, pressed } => {
            pointer::button(agent, wire_ms(time_ms), button, pressed);
        }
        InputEvent::PointerAxis { time_ms, source, horizontal, vertical } => {
            pointer::axis(agent, wire_ms(time_ms), source, horizontal, vertical);
        }
        InputEvent::PointerRelative { time_us, delta, unaccelerated } => {
            pointer::relative(agent, time_us, delta, unaccelerated);
        }
    }
}

/// The host is gone: nothing is held, nothing has the focus.
pub fn disconnected(agent: &mut Agent) {
    keyboard::leave(agent);
    pointer::leave(agent);
    agent.input.constraint = None;
}

/// A surface is gone.
pub fn surface_gone(agent: &mut Agent, surface: &WlSurface) {
    if agent.input.pointer_root.is_some() && agent.input.pointer_root == id_of(surface) {
        pointer::leave(agent);
    }
}
