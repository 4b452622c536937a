//! `xdg_wm_dialog_v1`: dialogs that have to be answered before their parent goes on.

use smithay::wayland::shell::xdg::ToplevelSurface;
use smithay::wayland::shell::xdg::dialog::XdgDialogHandler;

use crate::agent::Agent;
use crate::surface::id_of;

impl XdgDialogHandler for Agent {
    fn modal_changed(&mut self, toplevel: ToplevelSurface, _modal: bool) {
        if let Some(id) = id_of(toplevel.wl_surface()) {
            self.windows.mark(id);
        }
    }
}

smithay::delegate_xdg_dialog!(Agent);
