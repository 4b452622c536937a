//! Pointer images: by name through `wp_cursor_shape_v1` or from the theme, the guest's own in shared memory.

use std::collections::BTreeMap;

use inlay_protocol::geometry::{Point, Size};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_pointer::WlPointer;
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_cursor::CursorTheme;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_device_v1::{
    Shape, WpCursorShapeDeviceV1,
};

use super::super::image::{CURSORS, Image, older_cursor, resampled};
use super::State;
use super::globals::Globals;

/// Pixels of the theme's cursors where the user set none (`XCURSOR_SIZE`).
const SIZE: u32 = 24;
/// Scales of themes that are read.
const MOST: u32 = 4;
/// What `XCURSOR_SIZE` may be.
const LARGEST: u32 = 256;
/// Names that `wp_cursor_shape_v1` has in its first version, in the order of its numbers from 1.
const SHAPES: usize = 34;

/// The pointer image.
#[derive(Debug)]
pub struct Cursor {
    surface: WlSurface,
    shapes: Option<WpCursorShapeDeviceV1>,
    /// Where shapes are not offered, by the scale that they were read for: a theme is never freed.
    themes: BTreeMap<u32, CursorTheme>,
    connection: Connection,
    image: Image,
    /// The name of the image over a frame of ours, while the pointer is there.
    pub on_frame: &'static str,
}

impl Cursor {
    pub fn new(connection: &Connection, globals: &Globals, handle: &QueueHandle<State>) -> Self {
        Self {
            surface: globals.compositor.create_surface(handle, ()),
            shapes: None,
            themes: BTreeMap::new(),
            connection: connection.clone(),
            image: Image::Named("default".to_owned()),
            on_frame: "default",
        }
    }

    /// There is a pointer now.
    pub fn follow(&mut self, pointer: &WlPointer, globals: &Globals, handle: &QueueHandle<State>) {
        self.shapes = globals.cursor_shape.as_ref().map(|manager| manager.get_pointer(pointer, handle, ()));
    }

    /// There is none any more.
    pub fn leave(&mut self) {
        if let Some(shapes) = self.shapes.take() {
            shapes.destroy();
        }
    }
}

impl State {
    /// Takes an image for the pointer over all our windows.
    pub(super) fn set_cursor(&mut self, image: Image) {
        if self.cursor.image != image {
            self.cursor.image = image;
            self.dress();
        }
    }

    /// Gives the pointer its image.
    pub(super) fn dress(&mut self) {
        let (inside, on_frame) = (self.pointer.inside, self.pointer.frame.as_ref());
        let serial = inside.map(|(_, serial)| serial).or(on_frame.map(|on| on.serial));
        let (Some(pointer), Some(serial)) = (self.pointer.pointer.clone(), serial) else { return };
        let image = match inside {
            Some(_) => self.cursor.image.clone(),
            None => Image::Named(self.cursor.on_frame.to_owned()),
        };
        let result = match image {
            Image::Hidden => {
                pointer.set_cursor(serial, None, 0, 0);
                Ok(())
            }
            Image::Named(name) => self.dress_by_name(&pointer, serial, &name),
            Image::Pixels { size, bytes, logical, hotspot } => {
                // More pixels than its extent has are for a monitor of that scale.
                let scale = (size.width / logical.width.max(1)).max(1);
                let size_at = |scale: u32| Size::new(logical.width * scale, logical.height * scale);
                let (scale, pixels) = match size_at(scale) == size {
                    true => (scale, bytes),
                    false => (1, resampled(size, &bytes, logical)),
                };
                self.dress_in_pixels(&pointer, serial, (size_at(scale), scale), &pixels, hotspot)
            }
        };
        if let Err(error) = result {
            tracing::debug!("a cursor cannot be made: {error:#}");
        }
    }

    fn dress_by_name(&mut self, pointer: &WlPointer, serial: u32, name: &str) -> anyhow::Result<()> {
        // The name comes from the guest.
        let at = CURSORS.iter().position(|known| *known == name).unwrap_or(0);
        if let Some(shapes) = &self.cursor.shapes {
            let number = if at < SHAPES { u32::try_from(at)? + 1 } else { 1 };
            shapes.set_shape(serial, Shape::try_from(number).unwrap_or(Shape::Default));
            return Ok(());
        }
        let under = self.pointer.inside.map(|(window, _)| window);
        let window = under.or_else(|| self.pointer.frame.as_ref().map(|on| on.window));
        let scale = window.map_or(1, |window| self.scale(window).div_ceil(120).clamp(1, MOST));
        let cursor = &mut self.cursor;
        if !cursor.themes.contains_key(&scale) {
            let shm = self.globals.shm.clone();
            let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            let size = set("XCURSOR_SIZE").and_then(|size| size.parse().ok()).unwrap_or(SIZE);
            let name = set("XCURSOR_THEME").unwrap_or_else(|| "default".to_owned());
            let theme =
                CursorTheme::load_from_name(&cursor.connection, shm, &name, size.min(LARGEST) * scale)?;
            cursor.themes.insert(scale, theme);
        }
        let Some(theme) = cursor.themes.get_mut(&scale) else { return Ok(()) };
        let name = CURSORS.get(at).copied().unwrap_or("default");
        let known = if theme.get_cursor(name).is_some() { name } else { older_cursor(name) };
        let Some(image) = theme.get_cursor(known).filter(|cursor| cursor.image_count() > 0) else {
            anyhow::bail!("the theme has no cursor {name}");
        };
        let image = &image[0];
        let ((width, height), (x, y)) = (image.dimensions(), image.hotspot());
        // A theme has few sizes: what is no multiple of the scale is shown pixel by pixel.
        let scale = if width % scale == 0 && height % scale == 0 { scale } else { 1 };
        let place = |v: u32| i32::try_from(v / scale).unwrap_or(0);
        cursor.surface.set_buffer_scale(i32::try_from(scale)?);
        cursor.surface.attach(Some(image), 0, 0);
        cursor.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        cursor.surface.commit();
        pointer.set_cursor(serial, Some(&cursor.surface), place(x), place(y));
        Ok(())
    }

    fn dress_in_pixels(
        &self,
        pointer: &WlPointer,
        serial: u32,
        (size, scale): (Size, u32),
        bytes: &[u8],
        hotspot: Point,
    ) -> anyhow::Result<()> {
        let buffer = self.picture(size, bytes)?.buffer;
        let surface = &self.cursor.surface;
        surface.set_buffer_scale(i32::try_from(scale)?);
        surface.attach(Some(&buffer), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        surface.commit();
        pointer.set_cursor(serial, Some(surface), hotspot.x, hotspot.y);
        Ok(())
    }
}

impl Dispatch<WlBuffer, ()> for State {
    fn event(
        _: &mut Self,
        buffer: &WlBuffer,
        event: wl_buffer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        // An image of the guest is shown once.
        if let wl_buffer::Event::Release = event {
            buffer.destroy();
        }
    }
}

delegate_noop!(State: WlShmPool);
delegate_noop!(State: ignore WlSurface);
delegate_noop!(State: WpCursorShapeDeviceV1);
