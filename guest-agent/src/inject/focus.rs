//! The keyboard focus: a surface that gets the host's modifiers instead of those that smithay derives.
//!
//! Modifiers and locks are the host's: they travel as numbers ([`inlay_protocol::input::Modifiers`]). smithay keeps an XKB
//! state of its own, which follows the keys; the host's numbers are written into that same state, and what goes to the app is
//! always read from it.

use std::borrow::Cow;

use smithay::backend::input::KeyState;
use smithay::input::Seat;
use smithay::input::keyboard::{KeyboardTarget, KeysymHandle, ModifiersState, SerializedMods, xkb};
use smithay::reexports::wayland_server::backend::ObjectId;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{IsAlive, Serial};
use smithay::wayland::seat::WaylandFocus;

use crate::agent::Agent;

/// The surface with the keyboard focus.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyboardFocus(pub WlSurface);

impl IsAlive for KeyboardFocus {
    fn alive(&self) -> bool {
        self.0.alive()
    }
}

impl WaylandFocus for KeyboardFocus {
    fn wl_surface(&self) -> Option<Cow<'_, WlSurface>> {
        Some(Cow::Borrowed(&self.0))
    }

    fn same_client_as(&self, object: &ObjectId) -> bool {
        self.0.same_client_as(object)
    }
}

/// The modifiers of an XKB state as `wl_keyboard` sends them.
#[must_use]
pub fn serialized(state: &xkb::State) -> SerializedMods {
    SerializedMods {
        depressed: state.serialize_mods(xkb::STATE_MODS_DEPRESSED),
        latched: state.serialize_mods(xkb::STATE_MODS_LATCHED),
        locked: state.serialize_mods(xkb::STATE_MODS_LOCKED),
        layout_effective: state.serialize_layout(xkb::STATE_LAYOUT_EFFECTIVE),
    }
}

impl KeyboardTarget<Agent> for KeyboardFocus {
    fn enter(&self, seat: &Seat<Agent>, agent: &mut Agent, keys: Vec<KeysymHandle<'_>>, serial: Serial) {
        KeyboardTarget::<Agent>::enter(&self.0, seat, agent, keys, serial);
    }

    fn leave(&self, seat: &Seat<Agent>, agent: &mut Agent, serial: Serial) {
        KeyboardTarget::<Agent>::leave(&self.0, seat, agent, serial);
    }

    fn key(
        &self,
        seat: &Seat<Agent>,
        agent: &mut Agent,
        key: KeysymHandle<'_>,
        state: KeyState,
        serial: Serial,
        time: u32,
    ) {
        KeyboardTarget::<Agent>::key(&self.0, seat, agent, key, state, serial, time);
    }

    fn modifiers(&self, seat: &Seat<Agent>, agent: &mut Agent, modifiers: ModifiersState, serial: Serial) {
        let serialized = agent.input.xkb.as_ref().map_or(modifiers.serialized, serialized);
        let modifiers = ModifiersState { serialized, ..modifiers };
        KeyboardTarget::<Agent>::modifiers(&self.0, seat, agent, modifiers, serial);
    }
}
