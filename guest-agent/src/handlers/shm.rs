//! `wl_shm`: ARGB8888 and XRGB8888, as every compositor must have them; and `wp_single_pixel_buffer_manager_v1`.

use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::shm::{ShmHandler, ShmState};

use crate::agent::Agent;

impl BufferHandler for Agent {
    fn buffer_destroyed(&mut self, _buffer: &WlBuffer) {
        // Pixels that wait to be copied stay readable: smithay keeps the pool mapped while the buffer is referred to.
    }
}

impl ShmHandler for Agent {
    fn shm_state(&self) -> &ShmState {
        &self.protocols.shm
    }
}

smithay::delegate_shm!(Agent);
smithay::delegate_single_pixel_buffer!(Agent);
