//! Pointer images: the theme's by name, the guest's by RENDER.

use std::collections::HashMap;

use inlay_protocol::geometry::{Point, Size};
use x11rb::connection::Connection as _;
use x11rb::cursor::Handle;
use x11rb::protocol::render::{self, ConnectionExt as _, PictType};
use x11rb::protocol::xproto::{self, ConnectionExt as _, ImageFormat};
use x11rb::resource_manager;
use x11rb::xcb_ffi::XCBConnection;

use super::super::Image;

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

/// CSS's cursor names: the only ones that reach the theme's folders.
const NAMES: [&str; 36] = [
    "default",
    "context-menu",
    "help",
    "pointer",
    "progress",
    "wait",
    "cell",
    "crosshair",
    "text",
    "vertical-text",
    "alias",
    "copy",
    "move",
    "no-drop",
    "not-allowed",
    "grab",
    "grabbing",
    "e-resize",
    "n-resize",
    "ne-resize",
    "nw-resize",
    "s-resize",
    "se-resize",
    "sw-resize",
    "w-resize",
    "ew-resize",
    "ns-resize",
    "nesw-resize",
    "nwse-resize",
    "col-resize",
    "row-resize",
    "all-scroll",
    "zoom-in",
    "zoom-out",
    "dnd-ask",
    "all-resize",
];

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
            Image::Named(name) => self.by_name(connection, &name),
            Image::Hidden => {
                let empty = [0; 4];
                self.pixels(connection, Size::new(1, 1), &empty, Point::default())
            }
            Image::Pixels { size, bytes, hotspot } => self.pixels(connection, size, &bytes, hotspot),
        };
        match made {
            Ok(cursor) => {
                self.current = cursor;
                self.number += 1;
            }
            Err(error) => tracing::debug!("a cursor cannot be made: {error:#}"),
        }
    }

    fn by_name(&mut self, connection: &XCBConnection, name: &str) -> anyhow::Result<xproto::Cursor> {
        // The name comes from the guest.
        let name = NAMES.iter().copied().find(|known| *known == name).unwrap_or("default");
        if let Some(cursor) = self.named.get(name) {
            return Ok(*cursor);
        }
        let mut cursor = self.theme.load_cursor(connection, name)?;
        if cursor == x11rb::NONE {
            cursor = self.theme.load_cursor(connection, older_name(name))?;
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

/// The X cursor font's name for a CSS one, for themes without the latter.
fn older_name(name: &str) -> &str {
    match name {
        "text" => "xterm",
        "pointer" => "hand2",
        "wait" | "progress" => "watch",
        "crosshair" => "crosshair",
        "move" | "all-scroll" | "grab" | "grabbing" => "fleur",
        "n-resize" => "top_side",
        "s-resize" => "bottom_side",
        "e-resize" => "right_side",
        "w-resize" => "left_side",
        "ne-resize" | "nesw-resize" => "top_right_corner",
        "nw-resize" | "nwse-resize" => "top_left_corner",
        "se-resize" => "bottom_right_corner",
        "sw-resize" => "bottom_left_corner",
        "ew-resize" | "col-resize" => "sb_h_double_arrow",
        "ns-resize" | "row-resize" => "sb_v_double_arrow",
        "not-allowed" | "no-drop" => "X_cursor",
        "help" => "question_arrow",
        _ => "left_ptr",
    }
}
