//! Windows that the processor draws: their pixels are sent as images.

use std::sync::Arc;

use inlay_protocol::geometry::Size;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{self, ConnectionExt as _, ImageFormat};
use x11rb::xcb_ffi::XCBConnection;

use crate::windows::presenter::Pixels;

/// Bytes of an image that are sent at once.
const BAND: usize = 256 * 1024;

/// Sends rows of an image (4 bytes a pixel) to a drawable, by a context, of this depth.
///
/// # Errors
/// When the display is gone.
pub fn put(
    c: &XCBConnection,
    (to, gc, depth): (xproto::Drawable, xproto::Gcontext, u8),
    width: u16,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let row = 4 * usize::from(width);
    let rows = (BAND / row.max(1)).max(1);
    let mut y = 0_i16;
    for band in bytes.chunks(rows * row.max(1)) {
        let lines = u16::try_from(band.len() / row.max(1))?;
        c.put_image(ImageFormat::Z_PIXMAP, to, gc, width, lines, 0, y, 0, depth, band)?;
        y = y.saturating_add_unsigned(lines);
    }
    Ok(())
}

/// A window; it is closed by its presenter.
#[derive(Debug)]
pub struct Plain {
    connection: Arc<XCBConnection>,
    to: (xproto::Window, xproto::Gcontext, u8),
}

impl Plain {
    /// What draws into this window of this depth.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn new(connection: &Arc<XCBConnection>, xid: xproto::Window, depth: u8) -> anyhow::Result<Self> {
        let gc = connection.generate_id()?;
        connection.create_gc(gc, xid, &xproto::CreateGCAux::new())?;
        Ok(Self { connection: connection.clone(), to: (xid, gc, depth) })
    }
}

impl Pixels for Plain {
    fn show(&mut self, size: Size, bytes: &[u8]) -> anyhow::Result<()> {
        put(&self.connection, self.to, u16::try_from(size.width)?, bytes)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It fails only when the connection is gone, which the next dispatch tells.
        let _ = self.connection.free_gc(self.to.1);
    }
}
