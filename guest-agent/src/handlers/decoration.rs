//! `zxdg_decoration_manager_v1`: the host draws frames unless the app insists.

use inlay_protocol::display::Decoration;
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode;
use smithay::wayland::shell::xdg::ToplevelSurface;
use smithay::wayland::shell::xdg::decoration::XdgDecorationHandler;

use crate::agent::Agent;
use crate::surface::id_of;

impl Agent {
    fn decorate(&mut self, toplevel: &ToplevelSurface, mode: Mode) {
        let decoration = match mode {
            Mode::ClientSide => Decoration::ClientSide,
            _ => Decoration::ServerSide,
        };
        toplevel.with_pending_state(|state| state.decoration_mode = Some(mode));
        if toplevel.is_initial_configure_sent() {
            toplevel.send_configure();
        }
        let Some(id) = id_of(toplevel.wl_surface()) else { return };
        if let Some(window) = self.windows.toplevels.get_mut(&id) {
            window.decoration = decoration;
            self.windows.mark(id);
        }
    }
}

impl XdgDecorationHandler for Agent {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        self.decorate(&toplevel, Mode::ServerSide);
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, mode: Mode) {
        self.decorate(&toplevel, mode);
    }

    fn unset_mode(&mut self, toplevel: ToplevelSurface) {
        self.decorate(&toplevel, Mode::ServerSide);
    }
}

smithay::delegate_xdg_decoration!(Agent);
