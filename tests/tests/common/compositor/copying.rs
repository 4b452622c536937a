//! Copy and paste as on a desktop without data control: only the app with the focus hears of it, and may set it for what the user did.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use smithay::input::Seat;
use smithay::reexports::wayland_server::DisplayHandle;
use smithay::reexports::wayland_server::Resource as _;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, ServerDndGrabHandler,
    request_data_device_client_selection, set_data_device_focus, set_data_device_selection,
};
use smithay::wayland::selection::primary_selection::{
    PrimarySelectionHandler, PrimarySelectionState, request_primary_client_selection, set_primary_focus,
    set_primary_selection,
};
use smithay::wayland::selection::{SelectionHandler, SelectionSource, SelectionTarget};

use super::Desk;

/// The protocols, and what windows copied last.
#[derive(Debug)]
pub struct Copying {
    data: DataDeviceState,
    primary: PrimarySelectionState,
    copied: [Vec<String>; 2],
}

impl Copying {
    pub fn offer(display: &DisplayHandle) -> Self {
        let (data, primary) =
            (DataDeviceState::new::<Desk>(display), PrimarySelectionState::new::<Desk>(display));
        Self { data, primary, copied: [Vec::new(), Vec::new()] }
    }
}

impl Desk {
    /// The names of types that a window has to give; the clipboard, or what is marked.
    pub fn copied(&self, primary: bool) -> Vec<String> {
        self.copying.copied[usize::from(primary)].clone()
    }

    /// Another app of the desktop copies this.
    pub fn copy(&self, primary: bool, name: &str, bytes: &'static [u8]) {
        let (display, names) = (&self.display, vec![name.to_owned()]);
        if primary {
            set_primary_selection::<Self>(display, &self.seat, names, bytes);
        } else {
            set_data_device_selection::<Self>(display, &self.seat, names, bytes);
        }
    }

    /// Another app of the desktop pastes what a window has, into a pipe.
    pub fn paste(&self, primary: bool, name: &str, to: OwnedFd) {
        if primary {
            request_primary_client_selection::<Self>(&self.seat, name.to_owned(), to).unwrap();
        } else {
            request_data_device_client_selection::<Self>(&self.seat, name.to_owned(), to).unwrap();
        }
    }

    pub(super) fn copying_focus(&self, focus: Option<&WlSurface>) {
        let client = focus.and_then(|surface| surface.client());
        set_data_device_focus(&self.display, &self.seat, client.clone());
        set_primary_focus(&self.display, &self.seat, client);
    }
}

impl SelectionHandler for Desk {
    type SelectionUserData = &'static [u8];

    fn new_selection(&mut self, target: SelectionTarget, source: Option<SelectionSource>, _: Seat<Self>) {
        let names = source.map(|source| source.mime_types()).unwrap_or_default();
        self.copying.copied[usize::from(target == SelectionTarget::Primary)] = names;
    }

    fn send_selection(
        &mut self,
        _: SelectionTarget,
        _: String,
        to: OwnedFd,
        _: Seat<Self>,
        bytes: &&'static [u8],
    ) {
        // Less than a pipe holds.
        std::fs::File::from(to).write_all(bytes).unwrap();
    }
}

impl ClientDndGrabHandler for Desk {}
impl ServerDndGrabHandler for Desk {}

impl DataDeviceHandler for Desk {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.copying.data
    }
}

impl PrimarySelectionHandler for Desk {
    fn primary_selection_state(&self) -> &PrimarySelectionState {
        &self.copying.primary
    }
}

smithay::delegate_data_device!(Desk);
smithay::delegate_primary_selection!(Desk);
