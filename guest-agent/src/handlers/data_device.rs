//! `wl_data_device` and primary selection among the apps of the guest. The bridge to the host's selections is not here.

use smithay::input::Seat;
use smithay::reexports::wayland_server::protocol::wl_data_source::WlDataSource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::selection::SelectionHandler;
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, ServerDndGrabHandler,
};
use smithay::wayland::selection::primary_selection::{PrimarySelectionHandler, PrimarySelectionState};

use crate::agent::Agent;
use crate::surface::id_of;

impl SelectionHandler for Agent {
    type SelectionUserData = ();
}

impl ClientDndGrabHandler for Agent {
    fn started(&mut self, _source: Option<WlDataSource>, icon: Option<WlSurface>, _seat: Seat<Self>) {
        if let Some(id) = icon.as_ref().and_then(id_of) {
            self.surfaces.mark(id);
        }
    }
}

impl ServerDndGrabHandler for Agent {}

impl DataDeviceHandler for Agent {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.protocols.data_device
    }
}

impl PrimarySelectionHandler for Agent {
    fn primary_selection_state(&self) -> &PrimarySelectionState {
        &self.protocols.primary_selection
    }
}

smithay::delegate_data_device!(Agent);
smithay::delegate_primary_selection!(Agent);
