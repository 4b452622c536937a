//! The image of what is dragged: a window at the pointer that lets everything through.

use anyhow::Context as _;
use inlay_protocol::geometry::{Point, Rect, Size};
use x11rb::connection::Connection as _;
use x11rb::protocol::shape::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{
    self, AtomEnum, ClipOrdering, ConnectionExt as _, CreateWindowAux, PropMode, VisualClass, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;
use x11rb::xcb_ffi::XCBConnection;

use super::plain;

/// Rectangles of an outline; what has more of them is shown whole.
const RECTS: usize = 8192;
/// Pixels of at least this alpha are seen where nothing blends windows.
const SEEN: u8 = 128;

/// An image that is shown.
#[derive(Debug)]
pub struct Icon {
    window: xproto::Window,
    hotspot: Point,
}

fn side(v: u32) -> u16 {
    u16::try_from(v).unwrap_or(u16::MAX).max(1)
}

impl Icon {
    /// Shows an image (rows of blue, green, red, alpha, premultiplied) with its hotspot at a place of the root window, in the window
    /// of the one before if there is one.
    ///
    /// # Errors
    /// When the display is gone, or has no windows with alpha.
    pub fn show(
        (c, screen): (&XCBConnection, usize),
        before: Option<Self>,
        (size, bytes): (Size, &[u8]),
        hotspot: Point,
        at: Point,
    ) -> anyhow::Result<Self> {
        let root = c.setup().roots.get(screen).context("the X display has no such screen")?;
        let new = before.is_none();
        let icon = match before {
            Some(before) => Self { hotspot, ..before },
            None => Self { window: create(c, root)?, hotspot },
        };
        // Without a compositing manager, what is transparent would be black.
        let manager = c.intern_atom(false, format!("_NET_WM_CM_S{screen}").as_bytes())?.reply()?.atom;
        let blends = c.get_selection_owner(manager)?.reply()?.owner != x11rb::NONE;
        let outline = if blends { None } else { outline(size, bytes) };
        if blends {
            icon.paint(c, size, bytes)?;
        } else {
            icon.paint(c, size, &opaque(bytes))?;
        }
        let kind = shape::SK::BOUNDING;
        match outline {
            None => drop(c.shape_mask(shape::SO::SET, kind, icon.window, 0, 0, x11rb::NONE)?),
            Some(rects) => {
                let order = ClipOrdering::YX_BANDED;
                c.shape_rectangles(shape::SO::SET, kind, order, icon.window, 0, 0, &rects)?;
            }
        }
        icon.follow(c, at);
        if new {
            c.map_window(icon.window)?;
        }
        Ok(icon)
    }

    fn paint(&self, c: &XCBConnection, size: Size, bytes: &[u8]) -> anyhow::Result<()> {
        let (width, height) = (side(size.width), side(size.height));
        let aux = xproto::ConfigureWindowAux::new().width(u32::from(width)).height(u32::from(height));
        c.configure_window(self.window, &aux)?;
        let [pixmap, gc] = [c.generate_id()?, c.generate_id()?];
        c.create_pixmap(32, pixmap, self.window, width, height)?;
        c.create_gc(gc, pixmap, &xproto::CreateGCAux::new())?;
        let to = plain::To { drawable: pixmap, gc, depth: 32 };
        plain::put(c, to, Rect::of_size(Size::new(width.into(), height.into())), bytes)?;
        // As a background the server shows it whenever the window is uncovered.
        let aux = xproto::ChangeWindowAttributesAux::new().background_pixmap(pixmap);
        c.change_window_attributes(self.window, &aux)?;
        c.clear_area(false, self.window, 0, 0, 0, 0)?;
        c.free_gc(gc)?;
        c.free_pixmap(pixmap)?;
        Ok(())
    }

    /// Moves it to the pointer.
    pub fn follow(&self, c: &XCBConnection, at: Point) {
        let (x, y) = (at.x.saturating_sub(self.hotspot.x), at.y.saturating_sub(self.hotspot.y));
        let aux = xproto::ConfigureWindowAux::new().x(x).y(y).stack_mode(xproto::StackMode::ABOVE);
        // It fails only when the connection is gone, which the next dispatch tells.
        let _ = c.configure_window(self.window, &aux);
    }

    /// Takes it away.
    pub fn destroy(self, c: &XCBConnection) {
        let _ = c.destroy_window(self.window);
    }
}

/// A window with alpha that is not managed and takes no input.
fn create(c: &XCBConnection, screen: &xproto::Screen) -> anyhow::Result<xproto::Window> {
    let depth = screen.allowed_depths.iter().find(|depth| depth.depth == 32);
    let usable = |v: &&xproto::Visualtype| v.class == VisualClass::TRUE_COLOR && v.red_mask == 0xff_0000;
    let visual = depth.and_then(|depth| depth.visuals.iter().find(usable)).map(|v| v.visual_id);
    let visual = visual.context("the X display has no windows with alpha")?;
    let [colormap, window] = [c.generate_id()?, c.generate_id()?];
    c.create_colormap(xproto::ColormapAlloc::NONE, colormap, screen.root, visual)?;
    let aux = CreateWindowAux::new().border_pixel(0).override_redirect(1).colormap(colormap);
    let class = WindowClass::INPUT_OUTPUT;
    c.create_window(32, window, screen.root, -1, -1, 1, 1, 0, class, visual, &aux)?;
    c.free_colormap(colormap)?;
    let [kind, drag] = ["_NET_WM_WINDOW_TYPE", "_NET_WM_WINDOW_TYPE_DND"]
        .map(|name| c.intern_atom(false, name.as_bytes()).map(|cookie| cookie.reply()));
    let drag = [drag??.atom];
    c.change_property32(PropMode::REPLACE, window, kind??.atom, AtomEnum::ATOM, &drag)?;
    c.shape_rectangles(shape::SO::SET, shape::SK::INPUT, ClipOrdering::UNSORTED, window, 0, 0, &[])?;
    Ok(window)
}

/// The colours of an image as they are without what is behind them.
fn opaque(bytes: &[u8]) -> Vec<u8> {
    let straight = |pixel: &[u8]| {
        let alpha = u32::from(pixel[3]);
        let colour = |c: u8| (u32::from(c) * 255 + alpha / 2).checked_div(alpha).map_or(0, |c| c.min(255));
        [colour(pixel[0]), colour(pixel[1]), colour(pixel[2]), 255].map(|c| u8::try_from(c).unwrap_or(255))
    };
    bytes.chunks_exact(4).flat_map(straight).collect()
}

/// Where an image is seen without blending: runs of pixels, row by row; `None` where there are too many, or nothing is.
fn outline(size: Size, bytes: &[u8]) -> Option<Vec<xproto::Rectangle>> {
    let width = usize::try_from(size.width).ok().filter(|width| *width > 0)?;
    let mut rects = Vec::new();
    for (y, row) in bytes.chunks_exact(4 * width).enumerate() {
        let seen: Vec<bool> = row.chunks_exact(4).map(|pixel| pixel[3] >= SEEN).collect();
        let mut at = 0;
        for run in seen.chunk_by(|a, b| a == b) {
            if run[0] {
                let (x, y) = (i16::try_from(at).ok()?, i16::try_from(y).ok()?);
                rects.push(xproto::Rectangle { x, y, width: u16::try_from(run.len()).ok()?, height: 1 });
            }
            at += run.len();
        }
        if rects.len() > RECTS {
            return None;
        }
    }
    Some(rects).filter(|rects| !rects.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_without_blending_are_straight() {
        assert_eq!(
            opaque(&[0, 64, 128, 128, 9, 9, 9, 0, 1, 2, 3, 255]),
            [0, 128, 255, 255, 0, 0, 0, 255, 1, 2, 3, 255]
        );
    }

    #[test]
    fn an_outline_is_what_is_seen() {
        let alpha = [0, 255, 200, 0, 127, 128];
        let bytes: Vec<u8> = alpha.into_iter().flat_map(|a| [0, 0, 0, a]).collect();
        let rects = outline(Size::new(3, 2), &bytes).unwrap();
        let plain: Vec<_> = rects.iter().map(|r| (r.x, r.y, r.width, r.height)).collect();
        assert_eq!(plain, [(1, 0, 2, 1), (2, 1, 1, 1)]);
        assert!(outline(Size::new(3, 2), &[0; 24]).is_none(), "better a black one than none");
        assert!(outline(Size::default(), &[]).is_none());
    }
}
