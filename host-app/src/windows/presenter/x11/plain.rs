//! Pictures that are sent to the display as they are.

use std::sync::Arc;

use inlay_protocol::geometry::{Rect, Size};
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{self, ConnectionExt as _, ImageFormat};
use x11rb::xcb_ffi::XCBConnection;

use crate::windows::presenter::Pixels;

/// Bytes of an image that are sent at once.
const BAND: usize = 256 * 1024;

/// A drawable, a context of it, and its depth.
#[derive(Debug, Clone, Copy)]
pub struct To {
    /// Where pictures go.
    pub drawable: xproto::Drawable,
    /// By this.
    pub gc: xproto::Gcontext,
    /// Bits of a pixel.
    pub depth: u8,
}

/// Sends the rows of a picture (4 bytes a pixel) to a place in a drawable.
///
/// # Errors
/// When the display is gone.
pub fn put(c: &XCBConnection, to: To, at: Rect, bytes: &[u8]) -> anyhow::Result<()> {
    let To { drawable, gc, depth } = to;
    let (width, x) = (u16::try_from(at.width)?, i16::try_from(at.x)?);
    let row = 4 * usize::from(width);
    let rows = (BAND / row.max(1)).max(1);
    let mut y = i16::try_from(at.y)?;
    for band in bytes.chunks(rows * row.max(1)) {
        let lines = u16::try_from(band.len() / row.max(1))?;
        c.put_image(ImageFormat::Z_PIXMAP, drawable, gc, width, lines, x, y, 0, depth, band)?;
        y = y.saturating_add_unsigned(lines);
    }
    Ok(())
}

/// A window of the host's own; it is closed by its presenter.
#[derive(Debug)]
pub struct Plain {
    connection: Arc<XCBConnection>,
    to: To,
}

impl Plain {
    /// What draws into this window of this depth.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn new(connection: &Arc<XCBConnection>, xid: xproto::Window, depth: u8) -> anyhow::Result<Self> {
        let gc = connection.generate_id()?;
        connection.create_gc(gc, xid, &xproto::CreateGCAux::new())?;
        Ok(Self { connection: connection.clone(), to: To { drawable: xid, gc, depth } })
    }
}

impl Pixels for Plain {
    fn show(&mut self, size: Size, bytes: &[u8]) -> anyhow::Result<()> {
        put(&self.connection, self.to, Rect::of_size(size), bytes)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It fails only when the connection is gone, which the next dispatch tells.
        let _ = self.connection.free_gc(self.to.gc);
    }
}
