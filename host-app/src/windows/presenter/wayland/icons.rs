//! Pictures in shared memory: windows that the processor draws, and the icons of toplevels where the desktop takes them (xdg-toplevel-icon).

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use anyhow::ensure;
use inlay_protocol::display::{Icon, SurfaceId};
use inlay_protocol::geometry::Size;
use rustix::fs::{MemfdFlags, memfd_create};
use wayland_client::QueueHandle;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_surface::WlSurface;

use super::State;
use super::window::{HostWindow, Role};
use crate::windows::presenter::Pixels;

/// Pictures that wait for another icon of their size.
const IDLE: usize = 64;

/// A buffer and the file that its pixels lie in.
#[derive(Debug)]
pub struct Picture {
    pub buffer: WlBuffer,
    file: File,
    size: Size,
}

impl Picture {
    /// One with these pixels: rows of blue, green, red, alpha, premultiplied.
    pub fn new(shm: &WlShm, handle: &QueueHandle<State>, size: Size, bytes: &[u8]) -> anyhow::Result<Self> {
        let (width, height) = (i32::try_from(size.width)?, i32::try_from(size.height)?);
        let length = i32::try_from(bytes.len())?;
        let whole = width.checked_mul(height).and_then(|n| n.checked_mul(4));
        ensure!(length > 0 && Some(length) == whole, "{} bytes are no picture of {size:?}", bytes.len());
        let file = File::from(memfd_create("inlay-picture", MemfdFlags::CLOEXEC)?);
        file.write_all_at(bytes, 0)?;
        let pool = shm.create_pool(file.as_fd(), length, handle, ());
        let buffer = pool.create_buffer(0, width, height, 4 * width, Format::Argb8888, handle, ());
        pool.destroy();
        Ok(Self { buffer, file, size })
    }
}

/// A window that the processor draws; it is closed by its presenter.
#[derive(Debug)]
pub struct Plain {
    pub surface: WlSurface,
    pub shm: WlShm,
    pub handle: QueueHandle<State>,
}

impl Pixels for Plain {
    fn show(&mut self, size: Size, bytes: &[u8]) -> anyhow::Result<()> {
        // It goes when the desktop gives it back.
        let buffer = Picture::new(&self.shm, &self.handle, size, bytes)?.buffer;
        self.surface.attach(Some(&buffer), 0, 0);
        self.surface.damage(0, 0, i32::MAX, i32::MAX);
        self.surface.commit();
        Ok(())
    }
}

impl State {
    pub(super) fn picture(&self, size: Size, bytes: &[u8]) -> anyhow::Result<Picture> {
        Picture::new(&self.globals.shm, &self.handle, size, bytes)
    }

    /// Gives a toplevel its icons, those that are square; none takes them away.
    pub(super) fn set_icons(&mut self, id: SurfaceId, icons: &[Icon]) {
        // Another shape is a protocol error.
        let square = icons.iter().filter(|icon| icon.size.width == icon.size.height);
        let pictures: Vec<Picture> = square.filter_map(|icon| self.icon_picture(icon).ok()).collect();
        let (Some(manager), Some(HostWindow { role: Role::Toplevel(toplevel), .. })) =
            (&self.globals.icons, self.windows.get_mut(&id))
        else {
            return;
        };
        let icon = (!pictures.is_empty()).then(|| manager.create_icon(&self.handle, ()));
        if let Some(icon) = &icon {
            pictures.iter().for_each(|picture| icon.add_buffer(&picture.buffer, 1));
        }
        manager.set_icon(&toplevel.toplevel, icon.as_ref());
        if let Some(icon) = icon {
            // The toplevel has it from here on.
            icon.destroy();
        }
        let before = std::mem::replace(&mut toplevel.icons, pictures);
        self.keep_pictures(before);
    }

    fn icon_picture(&mut self, icon: &Icon) -> anyhow::Result<Picture> {
        let Some(at) = self.idle_pictures.iter().position(|idle| idle.size == icon.size) else {
            return self.picture(icon.size, &icon.pixels);
        };
        let picture = self.idle_pictures.swap_remove(at);
        picture.file.write_all_at(&icon.pixels, 0)?;
        Ok(picture)
    }

    /// Keeps pictures of icons that are shown no more for others. Desktops by smithay end the connection when a buffer goes that
    /// was once part of an icon (its issue 1962).
    pub(super) fn keep_pictures(&mut self, pictures: Vec<Picture>) {
        self.idle_pictures.extend(pictures);
        let many = self.idle_pictures.len().saturating_sub(IDLE);
        self.idle_pictures.drain(..many).for_each(|picture| picture.buffer.destroy());
    }
}
