//! `wl_seat` and `wp_cursor_shape_v1`: who has the focus, and the cursor that apps set. Input itself comes by [`crate::inject`].

use smithay::input::pointer::CursorImageStatus;
use smithay::input::{Seat, SeatHandler, SeatState};
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::selection::data_device::set_data_device_focus;
use smithay::wayland::selection::primary_selection::set_primary_focus;
use smithay::wayland::tablet_manager::TabletSeatHandler;

use crate::agent::Agent;
use crate::cursor;
use crate::inject::focus::KeyboardFocus;

impl SeatHandler for Agent {
    type KeyboardFocus = KeyboardFocus;
    type PointerFocus = WlSurface;
    type TouchFocus = WlSurface;

    fn seat_state(&mut self) -> &mut SeatState<Self> {
        &mut self.seat_state
    }

    fn focus_changed(&mut self, seat: &Seat<Self>, focused: Option<&KeyboardFocus>) {
        let client = focused.and_then(|focus| focus.0.client());
        set_data_device_focus(&self.display_handle, seat, client.clone());
        set_primary_focus(&self.display_handle, seat, client);
    }

    fn cursor_image(&mut self, _seat: &Seat<Self>, image: CursorImageStatus) {
        cursor::set(self, image);
    }
}

impl TabletSeatHandler for Agent {}

smithay::delegate_seat!(Agent);
smithay::delegate_cursor_shape!(Agent);
