//! Pointer images: the theme's by name, the guest's by RENDER.

use std::collections::HashMap;

use inlay_protocol::geometry::{Point, Size};
use x11rb::connection::Connection as _;
use x11rb::cursor::Handle;
use x11rb::protocol::render::{self, ConnectionExt as _, PictType};
use x11rb::protocol::xproto::{self, ConnectionExt as _, ImageFormat};
use x11rb::resource_manager;
use x11rb::xcb_ffi::XCBConnection;

use super::super::image::{CURSORS, Image, older_cursor, resampled};

/// Cursors made so far.
#[derive(Debug)]
pub struct Cursors {
    theme: Handle,
    root: xproto::Window,
    argb: Option<render::Pictformat>,
    named: HashMap<&'static str, xproto::Cursor>,
    /// The newest image of the guest.
    own: Option<xproto::Cursor>,
    current: xproto::Cursor,
    /// Counts changes of the current one.
    number: u64,
}

impl Cursors {
    /// Reads the theme's settings.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn new(connection: &XCBConnection, screen: usize) -> anyhow::Result<Self> {
        let database = resource_manager::new_from_default(connection)?;
        let theme = Handle::new(connection, screen, &database)?.reply()?;
        let formats = connection.render_query_pict_formats()?.reply()?.formats;
        let argb = formats.iter().find(|f| {
            let d = &f.direct;
            let shifts = (d.alpha_shift, d.red_shift, d.green_shift, d.blue_shift);
            f.type_ == PictType::DIRECT && f.depth == 32 && shifts == (24, 16, 8, 0)
        });
        let root = connection.setup().roots[screen].root;
        let argb = argb.map(|f| f.id);
        Ok(Self { theme, root, argb, named: HashMap::new(), own: None, current: x11rb::NONE, number: 0 })
    }

    /// The cursor that windows are to have now, and its number in the order of changes.
    pub fn current(&self) -> (xproto::Cursor, u64) {
        (self.current, self.number)
    }

    /// Takes an image; the one before stays when it cannot be made.
    pub fn set(&mut self, connection: &XCBConnection, image: Image) {
        let made = match image {
            Image::Named(name) => self.named(connection, &name),
            Image::Hidden => {
                let empty = [0; 4];
                self.pixels(connection, Size::new(1, 1), &empty, Point::default())
            }
            Image::Pixels { size, bytes, logical, hotspot } => {
                let pixels = if size == logical { bytes } else { resampled(size, &bytes, logical) };
                self.pixels(connection, logical, &pixels, hotspot)
            }
        };
        match made {
            Ok(cursor) => {
                self.current = cursor;
                self.number += 1;
            }
            Err(error) => tracing::debug!("a cursor cannot be made: {error:#}"),
        }
    }

    /// The theme's cursor of a CSS name; another name is the default's.
    ///
    /// # Errors
    /// When the display is gone.
    pub fn named(&mut self, connection: &XCBConnection, name: &str) -> anyhow::Result<xproto::Cursor> {
        // The name comes from the guest.
        let name = CURSORS.iter().copied().find(|known| *known == name).unwrap_or("default");
        if let Some(cursor) = self.named.get(name) {
            return Ok(*cursor);
        }
        let mut cursor = self.theme.load_cursor(connection, name)?;
        if cursor == x11rb::NONE {
            cursor = self.theme.load_cursor(connection, older_cursor(name))?;
        }
        self.named.insert(name, cursor);
        Ok(cursor)
    }

    fn pixels(
        &mut self,
        connection: &XCBConnection,
        size: Size,
        bytes: &[u8],
        hotspot: Point,
    ) -> anyhow::Result<xproto::Cursor> {
        let Some(argb) = self.argb else { anyhow::bail!("the X display has no cursors with alpha") };
        let (width, height) = (u16::try_from(size.width)?, u16::try_from(size.height)?);
        let within = |v: i32, most: u16| u16::try_from(v.max(0)).unwrap_or(most).min(most.saturating_sub(1));
        let pixmap = connection.generate_id()?;
        let [gc, picture, cursor] =
            [connection.generate_id()?, connection.generate_id()?, connection.generate_id()?];
        connection.create_pixmap(32, pixmap, self.root, width, height)?;
        connection.create_gc(gc, pixmap, &xproto::CreateGCAux::new())?;
        connection.put_image(ImageFormat::Z_PIXMAP, pixmap, gc, width, height, 0, 0, 0, 32, bytes)?;
        connection.render_create_picture(picture, pixmap, argb, &render::CreatePictureAux::new())?;
        let (x, y) = (within(hotspot.x, width), within(hotspot.y, height));
        connection.render_create_cursor(cursor, picture, x, y)?;
        connection.render_free_picture(picture)?;
        connection.free_gc(gc)?;
        connection.free_pixmap(pixmap)?;
        if let Some(before) = self.own.replace(cursor) {
            // Windows keep it until they get the new one.
            connection.free_cursor(before)?;
        }
        Ok(cursor)
    }
}
