//! `xwayland_shell_v1`: Xwayland says which `wl_surface` shows an X11 window by a serial that it also sends to the window manager.

use smithay::reexports::wayland_protocols::xwayland::shell::v1::server::xwayland_shell_v1::{
    self, XwaylandShellV1,
};
use smithay::reexports::wayland_protocols::xwayland::shell::v1::server::xwayland_surface_v1::{
    self, XwaylandSurfaceV1,
};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource,
};
use smithay::wayland::compositor;

use super::ROLE;
use crate::agent::Agent;
use crate::handlers::AppState;
use crate::surface::id_of;

impl GlobalDispatch<XwaylandShellV1, ()> for Agent {
    fn bind(
        _: &mut Self,
        _: &DisplayHandle,
        _: &Client,
        resource: New<XwaylandShellV1>,
        (): &(),
        data_init: &mut DataInit<'_, Self>,
    ) {
        data_init.init(resource, ());
    }

    fn can_view(client: Client, (): &()) -> bool {
        client.get_data::<AppState>().is_some_and(|app| app.xwayland)
    }
}

impl Dispatch<XwaylandShellV1, ()> for Agent {
    fn request(
        _: &mut Self,
        _: &Client,
        shell: &XwaylandShellV1,
        request: xwayland_shell_v1::Request,
        (): &(),
        _: &DisplayHandle,
        data_init: &mut DataInit<'_, Self>,
    ) {
        if let xwayland_shell_v1::Request::GetXwaylandSurface { id, surface } = request {
            if compositor::give_role(&surface, ROLE).is_err() {
                shell.post_error(xwayland_shell_v1::Error::Role, "the surface has a role");
                return;
            }
            data_init.init(id, surface);
        }
    }
}

impl Dispatch<XwaylandSurfaceV1, WlSurface> for Agent {
    fn request(
        agent: &mut Self,
        _: &Client,
        object: &XwaylandSurfaceV1,
        request: xwayland_surface_v1::Request,
        surface: &WlSurface,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        if let xwayland_surface_v1::Request::SetSerial { serial_lo, serial_hi } = request
            && let Some(id) = id_of(surface)
        {
            let serial = u64::from(serial_lo) | u64::from(serial_hi) << 32;
            if !agent.x11.set_serial(id, serial) {
                object.post_error(xwayland_surface_v1::Error::AlreadyAssociated, "the surface has a window");
            }
        }
    }
}
