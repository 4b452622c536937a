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

use super::hints;
use super::outline::{self, Outline};
use super::plain;

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
        let blends = outline::is_blended(c, outline::manager(c, screen)?)?;
        let mut seen = Outline::default();
        if !blends {
            let pixels: Vec<u32> = bytes
                .chunks_exact(4)
                .map(|pixel| u32::from_le_bytes(std::array::from_fn(|byte| pixel[byte])))
                .collect();
            seen.look(size, &pixels, &[]);
        }
        if blends {
            icon.paint(c, size, bytes)?;
        } else {
            icon.paint(c, size, &opaque(bytes))?;
        }
        let kind = shape::SK::BOUNDING;
        match seen.rects() {
            None => drop(c.shape_mask(shape::SO::SET, kind, icon.window, 0, 0, x11rb::NONE)?),
            Some(rects) => {
                let order = ClipOrdering::YX_BANDED;
                let rects = hints::rectangles(&rects);
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
}
