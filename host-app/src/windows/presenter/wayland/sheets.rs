//! Windows that the processor draws: buffers in shared memory (`wl_shm`), of which the compositor has some and this the others.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inlay_protocol::geometry::{Rect, Size};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle};

use super::State;
use crate::windows::render::cpu::{self, Display, Filled, Memory, Shown};

/// Buffers of a window: one on the screen, one that is to come there, one that is drawn.
const MOST: usize = 3;

/// Whether the compositor reads a buffer.
#[derive(Debug, Clone, Default)]
pub struct Read(Arc<AtomicBool>);

impl Read {
    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, read: bool) {
        self.0.store(read, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Sheet {
    memory: Memory,
    pool: WlShmPool,
    buffer: Option<(Size, WlBuffer)>,
    read: Read,
    shown: Shown,
}

impl Sheet {
    fn new(shm: &WlShm, handle: &QueueHandle<State>, size: Size) -> anyhow::Result<Self> {
        let (memory, file) = Memory::new(size)?;
        let pool = shm.create_pool(file.as_fd(), i32::try_from(memory.len())?, handle, ());
        Ok(Self { memory, pool, buffer: None, read: Read::default(), shown: Shown::default() })
    }

    /// The buffer for pictures of this size (which its memory fits).
    fn buffer(&mut self, size: Size, handle: &QueueHandle<State>) -> anyhow::Result<&WlBuffer> {
        if let Some((_, old)) = self.buffer.take_if(|(known, _)| *known != size) {
            old.destroy();
        }
        if self.buffer.is_none() {
            let (width, height) = (i32::try_from(size.width)?, i32::try_from(size.height)?);
            let read = self.read.clone();
            let new = self.pool.create_buffer(0, width, height, 4 * width, Format::Argb8888, handle, read);
            self.buffer = Some((size, new));
        }
        self.buffer.as_ref().map(|(_, buffer)| buffer).ok_or_else(|| anyhow::anyhow!("there is no buffer"))
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        if let Some((_, buffer)) = self.buffer.take() {
            buffer.destroy();
        }
        self.pool.destroy();
    }
}

/// The buffers of a window.
#[derive(Debug)]
pub struct Sheets {
    surface: WlSurface,
    compositor: WlCompositor,
    shm: WlShm,
    handle: QueueHandle<State>,
    sheets: Vec<Sheet>,
    /// The one that was asked for last.
    current: (usize, Size),
    /// The surface was said to let nothing through.
    opaque: bool,
}

impl Sheets {
    /// None so far.
    pub fn new(state: &State, surface: WlSurface) -> Self {
        let (compositor, shm) = (state.globals.compositor.clone(), state.globals.shm.clone());
        let (sheets, current) = (Vec::new(), (0, Size::default()));
        Self { surface, compositor, shm, handle: state.handle.clone(), sheets, current, opaque: false }
    }
}

impl Display for Sheets {
    fn sheet(&mut self, size: Size) -> anyhow::Result<Option<cpu::Sheet<'_>>> {
        self.sheets.retain(|sheet| sheet.read.get() || sheet.memory.fits(size));
        let free = self.sheets.iter().position(|sheet| !sheet.read.get());
        let at = match free {
            Some(at) => at,
            None if self.sheets.len() >= MOST => return Ok(None),
            None => {
                self.sheets.push(Sheet::new(&self.shm, &self.handle, size)?);
                self.sheets.len() - 1
            }
        };
        self.current = (at, size);
        let sheet = &mut self.sheets[at];
        Ok(Some(cpu::Sheet { pixels: sheet.memory.pixels(size), shown: &mut sheet.shown }))
    }

    fn show(&mut self, damage: &[Rect], filled: Filled) -> anyhow::Result<()> {
        let opaque = filled == Filled::Opaque;
        let (at, size) = self.current;
        let Some(sheet) = self.sheets.get_mut(at) else { return Ok(()) };
        self.surface.attach(Some(sheet.buffer(size, &self.handle)?), 0, 0);
        sheet.read.set(true);
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
        if self.surface.version() >= wl_surface::REQ_DAMAGE_BUFFER_SINCE {
            for rect in damage {
                self.surface.damage_buffer(rect.x, rect.y, side(rect.width), side(rect.height));
            }
        } else {
            self.surface.damage(0, 0, i32::MAX, i32::MAX);
        }
        if std::mem::replace(&mut self.opaque, opaque) != opaque {
            let region = opaque.then(|| self.compositor.create_region(&self.handle, ()));
            if let Some(region) = &region {
                // However large it becomes: all of it.
                region.add(0, 0, i32::MAX, i32::MAX);
            }
            self.surface.set_opaque_region(region.as_ref());
            if let Some(region) = region {
                region.destroy();
            }
        }
        self.surface.commit();
        Ok(())
    }

    fn keep(&mut self) {
        self.surface.commit();
    }
}

impl Dispatch<WlBuffer, Read> for State {
    fn event(
        _: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        read: &Read,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event {
            read.set(false);
        }
    }
}
