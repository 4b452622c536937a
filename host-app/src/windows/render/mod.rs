//! Window path, hops 5 and 6 of 6: textures of surfaces, and surface trees drawn into windows.
//!
//! One renderer for all windows. It is a graphics device ([`gpu`]), or the processor ([`cpu`]) where there is none: what a software
//! rasteriser of the graphics libraries does, it does with fewer copies and without their start. Colours are as they came, alpha is
//! premultiplied, so bytes come out as they went in.

pub mod cpu;
mod gpu;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inlay_protocol::geometry::{Rect, Size};
use rustix::time::ClockId;

use super::uploads::nanoseconds;
pub use gpu::{Device, DisplayHandle};

/// Bytes that all textures of one window process may have.
const TEXTURE_BUDGET: u64 = 2 << 30;

/// Parts into which an outline may cut a window.
const PARTS: usize = 1 << 15;

/// The texture of a surface.
#[derive(Debug, Clone)]
pub struct Texture {
    storage: Storage,
    size: Size,
    // Gives its bytes back to the budget when the last clone goes.
    _share: Arc<Share>,
}

/// Where the pixels of a texture are.
#[derive(Debug, Clone)]
enum Storage {
    Device(gpu::Stored),
    Memory(Arc<cpu::Image>),
}

#[derive(Debug)]
struct Share {
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Texture {
    /// Its size in pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }
}

/// One textured rectangle of a window.
#[derive(Debug, Clone)]
pub struct Quad {
    /// What it shows.
    pub texture: Texture,
    /// Where, in pixels of the target: left, top, right, bottom.
    pub to: [f32; 4],
    /// Texture coordinates (0 to 1) of its corners: left top, right top, right bottom, left bottom.
    pub corners: [[f32; 2]; 4],
    /// Whether alpha is to be ignored.
    pub opaque: bool,
    /// Whether texels do not fall on pixels and must be filtered.
    pub filtered: bool,
}

impl Quad {
    /// A rectangle (left, top, right, bottom) of one colour.
    #[must_use]
    pub fn solid(texture: Texture, to: [f32; 4]) -> Self {
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        Self { texture, to, corners, opaque: true, filtered: false }
    }

    /// It, further right and down.
    #[must_use]
    pub fn moved(mut self, by: f32) -> Self {
        self.to = self.to.map(|edge| edge + by);
        self
    }

    /// The part of it within a rectangle (left, top, right, bottom), with its part of the texture.
    fn within(&self, rect: [f32; 4]) -> Option<Self> {
        let [left, top, right, bottom] = self.to;
        let to = [left.max(rect[0]), top.max(rect[1]), right.min(rect[2]), bottom.min(rect[3])];
        if to[0] >= to[2] || to[1] >= to[3] {
            return None;
        }
        let [origin, across, _, down] = self.corners;
        let corner = |x: f32, y: f32| {
            let (u, v) = ((x - left) / (right - left), (y - top) / (bottom - top));
            [0, 1].map(|i| origin[i] + u * (across[i] - origin[i]) + v * (down[i] - origin[i]))
        };
        let corners =
            [corner(to[0], to[1]), corner(to[2], to[1]), corner(to[2], to[3]), corner(to[0], to[3])];
        Some(Self { to, corners, texture: self.texture.clone(), ..*self })
    }
}

/// What of quads lies within an outline, whose rectangles do not overlap; both in pixels. Of what would need more than
/// [`PARTS`] only so many are left.
#[must_use]
pub fn cut_out(quads: &[Quad], outline: &[[f32; 4]]) -> Vec<Quad> {
    let parts = quads.iter().flat_map(|quad| outline.iter().filter_map(|rect| quad.within(*rect)));
    parts.take(PARTS).collect()
}

/// What windows are drawn into.
#[derive(Debug)]
pub enum Target {
    /// A window of the display, drawn by the graphics device.
    Swapchain(gpu::Swapchain),
    /// A window of the display, drawn by the processor.
    Sheets(cpu::Sheets),
    /// A texture, to be drawn as a part of another window.
    Texture(Canvas),
    /// No display: drawing is skipped, pictures are made on request.
    None,
}

impl Target {
    /// A window whose pixels the processor draws, and this sends to the display.
    #[must_use]
    pub fn by_processor(display: Box<dyn cpu::Display>) -> Self {
        Self::Sheets(cpu::Sheets::new(display))
    }
}

/// What a window shows that is a part of another one: for both of them.
#[derive(Debug, Clone, Default)]
pub struct Canvas(Arc<Mutex<Option<Texture>>>);

impl Canvas {
    /// What was drawn last, if anything was.
    #[must_use]
    pub fn texture(&self) -> Option<Texture> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, texture: Option<Texture>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = texture;
    }
}

/// What became of drawing a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// On its way to the display.
    Yes,
    /// The display had no room now: try again with the next tick.
    Later,
}

/// Whatever draws, and what all windows share.
#[derive(Debug)]
pub struct Renderer {
    /// None: the processor draws.
    device: Option<gpu::Device>,
    /// Bytes of all textures.
    used: Arc<AtomicU64>,
    /// The newest texture of one colour.
    solid: Option<([u8; 4], Texture)>,
    busy_ns: u64,
}

impl Renderer {
    /// Opens the graphics device that the system prefers; where there is none but a software one, the processor draws. `WGPU_BACKEND`
    /// (`vulkan`, `gl`) has the device of such a driver taken, whatever it is; `none` has the processor draw.
    ///
    /// # Errors
    /// When `WGPU_BACKEND` names a driver that does not work here.
    pub fn new(display: DisplayHandle) -> anyhow::Result<Self> {
        // An empty one means no driver to wgpu; people who clear it mean the default.
        let chosen = std::env::var("WGPU_BACKEND").unwrap_or_default();
        match chosen.trim() {
            "none" => {
                tracing::info!("drawing with the processor, as WGPU_BACKEND says");
                Ok(Self::with(None))
            }
            "" if !has_graphics() => {
                tracing::info!("drawing with the processor: the system has no graphics device");
                Ok(Self::with(None))
            }
            "" => {
                let device = gpu::Device::open(display, None).inspect_err(|error| {
                    tracing::warn!("drawing with the processor: {error:#}");
                });
                Ok(Self::with(device.ok()))
            }
            _ => Ok(Self::with(Some(gpu::Device::open(display, wgpu::Backends::from_env())?))),
        }
    }

    fn with(device: Option<gpu::Device>) -> Self {
        Self { device, used: Arc::default(), solid: None, busy_ns: 0 }
    }

    /// The graphics device, unless the processor draws.
    #[must_use]
    pub fn device(&self) -> Option<&gpu::Device> {
        self.device.as_ref()
    }

    /// A texture for pixels of this size, `None` when it passes the limits or the budget.
    #[must_use]
    pub fn texture(&self, size: Size) -> Option<Texture> {
        self.texture_for(size, false)
    }

    /// The same, also to be drawn into.
    fn texture_for(&self, size: Size, drawn: bool) -> Option<Texture> {
        let bytes = 4 * u64::from(size.width) * u64::from(size.height);
        let room = self.used.load(Ordering::Relaxed).saturating_add(bytes) <= TEXTURE_BUDGET;
        if !self.may_be(size) || !room {
            return None;
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let share = Arc::new(Share { bytes, used: self.used.clone() });
        let storage = match &self.device {
            Some(device) => Storage::Device(device.texture(size, drawn)),
            None => Storage::Memory(Arc::new(cpu::Image::new(size)?)),
        };
        Some(Texture { storage, size, _share: share })
    }

    /// Whether pictures of this size can be drawn.
    fn may_be(&self, size: Size) -> bool {
        let largest = self.device.as_ref().map_or(cpu::LARGEST, gpu::Device::largest);
        !size.is_empty() && size.width <= largest && size.height <= largest
    }

    /// A texture of one opaque pixel; `None` when the device refuses.
    pub fn solid(&mut self, [red, green, blue]: [u8; 3]) -> Option<Texture> {
        let pixel = [blue, green, red, 255];
        if let Some((_, texture)) = self.solid.as_ref().filter(|(known, _)| *known == pixel) {
            return Some(texture.clone());
        }
        let size = Size::new(1, 1);
        let texture = self.texture(size)?;
        let filled = self.upload(&texture, Rect::of_size(size), |to, _, _| {
            // SAFETY: there is room for the row of one pixel.
            unsafe { to.copy_from_nonoverlapping(pixel.as_ptr(), pixel.len()) };
            true
        });
        self.solid = filled.then(|| (pixel, texture.clone()));
        filled.then_some(texture)
    }

    /// Has `rect` of a texture (inside it) filled: `fill(to, pitch, room)` writes its rows, each `pitch` bytes after the one before, and
    /// nothing between them; `false` gives up. What is drawn from here on shows them.
    pub fn upload(
        &mut self,
        texture: &Texture,
        rect: Rect,
        fill: impl FnOnce(*mut u8, usize, usize) -> bool,
    ) -> bool {
        match (&texture.storage, &mut self.device) {
            (Storage::Device(to), Some(device)) => device.upload(to, rect, fill),
            (Storage::Memory(image), _) => image.fill(rect, fill),
            // Textures are made by the renderer that draws them.
            (Storage::Device(_), None) => false,
        }
    }

    /// CPU time of this thread for copies and drawing, in nanoseconds.
    #[must_use]
    pub fn busy_ns(&self) -> u64 {
        self.busy_ns
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = nanoseconds(ClockId::ThreadCPUTime);
        let done = work(self);
        self.busy_ns += nanoseconds(ClockId::ThreadCPUTime).saturating_sub(start);
        done
    }

    /// Gives back upload buffers that are kept for reuse.
    pub fn give_back(&mut self) {
        if let Some(device) = &mut self.device {
            device.give_back();
        }
    }

    /// Submits the recorded copies, whether or not anything is drawn.
    pub fn submit(&mut self) {
        self.timed(|this| {
            if let Some(device) = &mut this.device {
                device.submit();
            }
        });
    }

    /// Draws a window. Never waits for the display.
    pub fn draw(&mut self, target: &mut Target, size: Size, quads: &[Quad]) -> Drawn {
        self.timed(|this| this.draw_now(target, size, quads))
    }

    fn draw_now(&mut self, target: &mut Target, size: Size, quads: &[Quad]) -> Drawn {
        if let Some(device) = &mut self.device {
            device.submit();
        }
        if size.is_empty() {
            return Drawn::Yes;
        }
        let quads = if self.device.is_none() { cpu::affordable(size, quads) } else { quads };
        match (target, &mut self.device) {
            (Target::Swapchain(swapchain), Some(device)) => device.present(swapchain, size, quads),
            (Target::Sheets(sheets), _) => sheets.draw(size, quads),
            (Target::Texture(canvas), _) => {
                self.draw_canvas(canvas, size, quads);
                Drawn::Yes
            }
            (Target::Swapchain(_), None) | (Target::None, _) => Drawn::Yes,
        }
    }

    fn draw_canvas(&self, canvas: &Canvas, size: Size, quads: &[Quad]) {
        let fitting = canvas.texture().filter(|texture| texture.size == size);
        // One that there is no room for shows nothing.
        let texture = fitting.or_else(|| self.texture_for(size, true));
        match (texture.as_ref().map(|texture| &texture.storage), &self.device) {
            (Some(Storage::Device(to)), Some(device)) => device.draw_into(to, size, quads),
            (Some(Storage::Memory(image)), _) => image.draw(quads),
            _ => {}
        }
        canvas.set(texture);
    }

    /// The picture of a window: rows of `4 * width` bytes, blue first, premultiplied. Waits for the device.
    ///
    /// # Errors
    /// When the size passes the limits or the device fails.
    pub fn picture(&mut self, size: Size, quads: &[Quad]) -> anyhow::Result<Vec<u8>> {
        let Size { width, height } = size;
        anyhow::ensure!(self.may_be(size), "no picture of {width}x{height} pixels can be made");
        match &mut self.device {
            Some(device) => device.picture(size, quads),
            None => Ok(cpu::picture(size, cpu::affordable(size, quads))),
        }
    }
}

/// Whether the system has a graphics device: opening the libraries to learn that there is none takes longer than all else of a start.
fn has_graphics() -> bool {
    let entries = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    let rendering =
        entries.into_iter().any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"render"));
    // NVIDIA's own driver, and the one of guests of Windows, have others.
    rendering || ["/dev/nvidiactl", "/dev/dxg"].iter().any(|node| Path::new(node).exists())
}

#[cfg(test)]
mod tests;
