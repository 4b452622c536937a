//! Resizes in step with the window manager (EWMH `_NET_WM_SYNC_REQUEST`, X Synchronization Extension 3.1): it names a number before it
//! resizes a toplevel, and waits with the next step until the toplevel's counter has it, which is once the app's content of the
//! new size is drawn.

use inlay_protocol::display::SurfaceId;
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::sync::{self, ConnectionExt as _, Counter, Int64};
use x11rb::protocol::xproto::{self, AtomEnum, PropMode};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::xcb_ffi::XCBConnection;

use super::X11;

/// The counter of a toplevel, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Resize {
    counter: Counter,
    /// The number that it is to have, and whether the size that goes with it came.
    asked: Option<(Int64, bool)>,
    /// Whether the frame that is drawn now is of the newest size.
    settled: bool,
}

/// Whether the display has the extension.
///
/// # Errors
/// When the display is gone.
pub fn is_there(connection: &XCBConnection) -> anyhow::Result<bool> {
    if connection.extension_information(sync::X11_EXTENSION_NAME)?.is_none() {
        return Ok(false);
    }
    Ok(connection.sync_initialize(3, 1)?.reply().is_ok())
}

impl Resize {
    /// A counter for a new toplevel; `None` where the display has none.
    pub fn of(x11: &X11, xid: xproto::Window) -> Option<Self> {
        if !x11.has_counters {
            return None;
        }
        let counter = x11.connection.generate_id().ok()?;
        x11.sent(x11.connection.sync_create_counter(counter, Int64::default()));
        let property = x11.atoms._NET_WM_SYNC_REQUEST_COUNTER;
        let kind = AtomEnum::CARDINAL;
        x11.sent(x11.connection.change_property32(PropMode::REPLACE, xid, property, kind, &[counter]));
        Some(Self { counter, asked: None, settled: false })
    }

    /// The window manager names a number: the low word and the high one.
    pub fn ask(&mut self, low: u32, high: u32) {
        self.asked = Some((Int64 { hi: high.cast_signed(), lo: low }, false));
    }
}

impl X11 {
    /// A toplevel was configured; `same` when its size is what it was, so that no frame follows.
    pub(super) fn resize_came(&mut self, id: SurfaceId, same: bool) {
        let resize = self.windows.get_mut(&id).and_then(|window| window.resize.as_mut());
        if let Some(Resize { asked: Some((_, came)), .. }) = resize {
            *came = true;
            if same {
                self.resize_done(id);
            }
        }
    }

    /// A frame of a toplevel begins.
    pub(super) fn resize_drawn(&mut self, id: SurfaceId, settled: bool) {
        if let Some(resize) = self.windows.get_mut(&id).and_then(|window| window.resize.as_mut()) {
            resize.settled = settled;
        }
    }

    /// It is on its way to the display: the window manager may go on, if it is of the size that it waits for.
    pub(super) fn resize_shown(&mut self, id: SurfaceId) {
        let window = self.windows.get(&id).and_then(|window| window.resize);
        if window.is_some_and(|resize| resize.settled) {
            self.resize_done(id);
        }
    }

    fn resize_done(&mut self, id: SurfaceId) {
        let Some(resize) = self.windows.get_mut(&id).and_then(|window| window.resize.as_mut()) else {
            return;
        };
        if let Some((value, _)) = resize.asked.take_if(|(_, came)| *came) {
            let counter = resize.counter;
            self.sent(self.connection.sync_set_counter(counter, value));
        }
    }

    /// A toplevel is gone.
    pub(super) fn resize_ends(&self, resize: Option<Resize>) {
        if let Some(resize) = resize {
            self.sent(self.connection.sync_destroy_counter(resize.counter));
        }
    }
}
