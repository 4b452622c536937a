//! `zwp_idle_inhibit_manager_v1`: the screen is to stay on while a surface is seen, such as a video. The host keeps it on for the
//! toplevel that the surface belongs to.

use smithay::reexports::wayland_server::Resource as _;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::idle_inhibit::IdleInhibitHandler;

use crate::agent::Agent;
use crate::surface::{id_of, root_of};

impl IdleInhibitHandler for Agent {
    fn inhibit(&mut self, surface: WlSurface) {
        self.windows.awake.retain(|awake| awake.is_alive() && *awake != surface);
        self.windows.awake.push(surface.clone());
        mark(self, &surface);
    }

    fn uninhibit(&mut self, surface: WlSurface) {
        self.windows.awake.retain(|awake| awake.is_alive() && *awake != surface);
        mark(self, &surface);
    }
}

fn mark(agent: &mut Agent, surface: &WlSurface) {
    if let Some(id) = id_of(&root_of(surface)) {
        agent.windows.mark(id);
    }
}

smithay::delegate_idle_inhibit!(Agent);
