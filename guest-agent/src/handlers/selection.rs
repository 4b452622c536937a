//! `wl_data_device`, primary selection and data control among the apps of the guest; [`crate::exchange`] joins them with X11 apps and
//! the host.
//!
//! smithay does not tell which source a selection is, nor that it is gone: both are noted on the way to smithay.

use std::os::fd::OwnedFd;

use inlay_protocol::selection::Selection;
use smithay::input::Seat;
use smithay::reexports::wayland_protocols::ext::data_control::v1::server::ext_data_control_device_v1::{
    self, ExtDataControlDeviceV1,
};
use smithay::reexports::wayland_protocols::ext::data_control::v1::server::ext_data_control_manager_v1::ExtDataControlManagerV1;
use smithay::reexports::wayland_protocols::ext::data_control::v1::server::ext_data_control_source_v1::ExtDataControlSourceV1;
use smithay::reexports::wayland_protocols::wp::primary_selection::zv1::server::zwp_primary_selection_device_manager_v1::ZwpPrimarySelectionDeviceManagerV1;
use smithay::reexports::wayland_protocols::wp::primary_selection::zv1::server::zwp_primary_selection_device_v1::{
    self, ZwpPrimarySelectionDeviceV1,
};
use smithay::reexports::wayland_protocols::wp::primary_selection::zv1::server::zwp_primary_selection_source_v1::ZwpPrimarySelectionSourceV1;
use smithay::reexports::wayland_protocols_wlr::data_control::v1::server::zwlr_data_control_device_v1::{
    self, ZwlrDataControlDeviceV1,
};
use smithay::reexports::wayland_protocols_wlr::data_control::v1::server::zwlr_data_control_manager_v1::ZwlrDataControlManagerV1;
use smithay::reexports::wayland_protocols_wlr::data_control::v1::server::zwlr_data_control_source_v1::ZwlrDataControlSourceV1;
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::protocol::wl_data_device::{self, WlDataDevice};
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::WlDataDeviceManager;
use smithay::reexports::wayland_server::protocol::wl_data_source::{self, WlDataSource};
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource, WEnum, delegate_dispatch, delegate_global_dispatch,
};
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, DataDeviceUserData, DataSourceUserData,
    ServerDndGrabHandler,
};
use smithay::wayland::selection::ext_data_control::{self, DataControlState as ExtState};
use smithay::wayland::selection::primary_selection::{
    PrimaryDeviceManagerGlobalData, PrimaryDeviceUserData, PrimarySelectionHandler, PrimarySelectionState,
    PrimarySourceUserData,
};
use smithay::wayland::selection::wlr_data_control::{self, DataControlState as WlrState};
use smithay::wayland::selection::{SelectionHandler, SelectionSource, SelectionTarget};

use crate::agent::Agent;
use crate::drag;
use crate::exchange::{self, Origin};

impl SelectionHandler for Agent {
    type SelectionUserData = Origin;

    fn new_selection(&mut self, target: SelectionTarget, source: Option<SelectionSource>, _: Seat<Self>) {
        let given = source.map(|source| source.mime_types()).unwrap_or_default();
        exchange::app_copied(self, selection(target), given);
    }

    fn send_selection(
        &mut self,
        target: SelectionTarget,
        name: String,
        fd: OwnedFd,
        _: Seat<Self>,
        origin: &Origin,
    ) {
        exchange::app_pastes(self, selection(target), &name, fd, *origin);
    }
}

fn selection(target: SelectionTarget) -> Selection {
    match target {
        SelectionTarget::Clipboard => Selection::Clipboard,
        SelectionTarget::Primary => Selection::Primary,
    }
}

impl ClientDndGrabHandler for Agent {}

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

impl ext_data_control::DataControlHandler for Agent {
    fn data_control_state(&self) -> &ExtState {
        &self.protocols.ext_data_control
    }
}

impl wlr_data_control::DataControlHandler for Agent {
    fn data_control_state(&self) -> &WlrState {
        &self.protocols.wlr_data_control
    }
}

/// Takes what is about drags: they are [`drag::out`]'s, not smithay's.
fn of_device(
    agent: &mut Agent,
    device: &WlDataDevice,
    request: wl_data_device::Request,
) -> Option<wl_data_device::Request> {
    match request {
        wl_data_device::Request::StartDrag { source, icon, serial, .. } => {
            drag::out::start(agent, device, source, icon, serial.into());
            None
        }
        other => Some(other),
    }
}

/// Looks for what breaks the rules of drags.
fn of_source(source: &WlDataSource, request: wl_data_source::Request) -> Option<wl_data_source::Request> {
    if let wl_data_source::Request::SetActions { dnd_actions: WEnum::Unknown(_) } = request {
        source.post_error(wl_data_source::Error::InvalidActionMask, "there is no such action");
        return None;
    }
    Some(request)
}

/// smithay's implementation of one protocol, with a note of the source that a request names and of sources that go.
macro_rules! noted {
    ($state:ty, $device:ident: $device_data:ty, $source:ident: $source_data:ty, $($request:pat_param)|+ => $named:ident
        $(, $on_device:path, $on_source:path)?) => {
        impl Dispatch<$device, $device_data> for Agent {
            fn request(
                agent: &mut Self,
                client: &Client,
                resource: &$device,
                request: <$device as Resource>::Request,
                data: &$device_data,
                display: &DisplayHandle,
                init: &mut DataInit<'_, Self>,
            ) {
                $(let Some(request) = $on_device(agent, resource, request) else { return };)?
                if let $($request)|+ = &request {
                    agent.exchange.named = $named.as_ref().map(Resource::id);
                }
                <$state as Dispatch<$device, $device_data, Self>>::request(
                    agent, client, resource, request, data, display, init,
                );
            }

            fn destroyed(agent: &mut Self, client: ClientId, resource: &$device, data: &$device_data) {
                <$state as Dispatch<$device, $device_data, Self>>::destroyed(agent, client, resource, data);
            }
        }

        impl Dispatch<$source, $source_data> for Agent {
            fn request(
                agent: &mut Self,
                client: &Client,
                resource: &$source,
                request: <$source as Resource>::Request,
                data: &$source_data,
                display: &DisplayHandle,
                init: &mut DataInit<'_, Self>,
            ) {
                $(let Some(request) = $on_source(resource, request) else { return };)?
                <$state as Dispatch<$source, $source_data, Self>>::request(
                    agent, client, resource, request, data, display, init,
                );
            }

            fn destroyed(agent: &mut Self, client: ClientId, resource: &$source, data: &$source_data) {
                <$state as Dispatch<$source, $source_data, Self>>::destroyed(agent, client, resource, data);
                exchange::source_gone(agent, &resource.id());
            }
        }
    };
}

noted!(DataDeviceState, WlDataDevice: DataDeviceUserData, WlDataSource: DataSourceUserData,
    wl_data_device::Request::SetSelection { source, .. } => source, of_device, of_source);
noted!(PrimarySelectionState, ZwpPrimarySelectionDeviceV1: PrimaryDeviceUserData,
    ZwpPrimarySelectionSourceV1: PrimarySourceUserData,
    zwp_primary_selection_device_v1::Request::SetSelection { source, .. } => source);
noted!(ExtState, ExtDataControlDeviceV1: ext_data_control::ExtDataControlDeviceUserData,
    ExtDataControlSourceV1: ext_data_control::ExtDataControlSourceUserData,
    ext_data_control_device_v1::Request::SetSelection { source }
        | ext_data_control_device_v1::Request::SetPrimarySelection { source } => source);
noted!(WlrState, ZwlrDataControlDeviceV1: wlr_data_control::DataControlDeviceUserData,
    ZwlrDataControlSourceV1: wlr_data_control::DataControlSourceUserData,
    zwlr_data_control_device_v1::Request::SetSelection { source }
        | zwlr_data_control_device_v1::Request::SetPrimarySelection { source } => source);

delegate_global_dispatch!(Agent: [WlDataDeviceManager: ()] => DataDeviceState);
delegate_dispatch!(Agent: [WlDataDeviceManager: ()] => DataDeviceState);
delegate_global_dispatch!(Agent: [ZwpPrimarySelectionDeviceManagerV1: PrimaryDeviceManagerGlobalData] => PrimarySelectionState);
delegate_dispatch!(Agent: [ZwpPrimarySelectionDeviceManagerV1: ()] => PrimarySelectionState);
delegate_global_dispatch!(Agent: [ExtDataControlManagerV1: ext_data_control::ExtDataControlManagerGlobalData] => ExtState);
delegate_dispatch!(Agent: [ExtDataControlManagerV1: ext_data_control::ExtDataControlManagerUserData] => ExtState);
delegate_global_dispatch!(Agent: [ZwlrDataControlManagerV1: wlr_data_control::DataControlManagerGlobalData] => WlrState);
delegate_dispatch!(Agent: [ZwlrDataControlManagerV1: wlr_data_control::DataControlManagerUserData] => WlrState);
