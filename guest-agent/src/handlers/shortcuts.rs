//! `zwp_keyboard_shortcuts_inhibit_manager_v1`: an app wants the keys that the desktop has shortcuts on (a remote desktop, a game). The
//! host asks its desktop for them, and its user decides; the app is told when it has them.

use inlay_protocol::display::SurfaceId;
use smithay::reexports::wayland_server::Resource as _;
use smithay::wayland::keyboard_shortcuts_inhibit::{
    KeyboardShortcutsInhibitHandler, KeyboardShortcutsInhibitState, KeyboardShortcutsInhibitor,
};

use crate::agent::Agent;
use crate::surface::{id_of, root_of};

impl KeyboardShortcutsInhibitHandler for Agent {
    fn keyboard_shortcuts_inhibit_state(&mut self) -> &mut KeyboardShortcutsInhibitState {
        &mut self.protocols.shortcuts
    }

    fn new_inhibitor(&mut self, inhibitor: KeyboardShortcutsInhibitor) {
        let root = root_of(inhibitor.wl_surface());
        // Those of surfaces that are gone say nothing more; apps may leave any number of them.
        self.windows.inhibitors.retain(|known| known.wl_surface().is_alive());
        self.windows.inhibitors.push(inhibitor);
        if let Some(id) = id_of(&root) {
            self.windows.mark(id);
        }
    }

    fn inhibitor_destroyed(&mut self, inhibitor: KeyboardShortcutsInhibitor) {
        self.windows.inhibitors.retain(|known| *known != inhibitor);
        let surface = inhibitor.wl_surface();
        if surface.is_alive()
            && let Some(id) = id_of(&root_of(surface))
        {
            self.windows.mark(id);
        }
    }
}

/// The host's desktop leaves its shortcuts to a window, or no more.
pub fn answered(agent: &Agent, window: SurfaceId, inhibited: bool) {
    for inhibitor in &agent.windows.inhibitors {
        let surface = inhibitor.wl_surface();
        let of_it = surface.is_alive() && id_of(&root_of(surface)) == Some(window);
        match (of_it, inhibited) {
            (true, true) if !inhibitor.is_active() => inhibitor.activate(),
            (true, false) if inhibitor.is_active() => inhibitor.inactivate(),
            _ => {}
        }
    }
}

smithay::delegate_keyboard_shortcuts_inhibit!(Agent);
