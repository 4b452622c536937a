//! Window path, hops 5 and 6 of 6: textures of surfaces, and surface trees drawn into windows.
//!
//! One device for all windows. Formats are not sRGB and alpha is premultiplied, so bytes come out as they went in. Copies
//! into textures are recorded while commits arrive and submitted with the next tick, before the windows that show them.

mod picture;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use inlay_protocol::geometry::{Rect, Size};
use rustix::time::ClockId;

pub use upload::Slot;

use super::uploads::nanoseconds;

/// Format of all textures and windows.
pub const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Bgra8Unorm;
/// Bytes that all textures of one window process may have.
const TEXTURE_BUDGET: u64 = 2 << 30;

/// Parts into which an outline may cut a window.
const PARTS: usize = 1 << 15;
/// Bytes that may be recorded before they are submitted without waiting for the tick.
const PENDING: u64 = 256 << 20;

/// The texture of a surface.
#[derive(Debug, Clone)]
pub struct Texture {
    texture: wgpu::Texture,
    bind: wgpu::BindGroup,
    size: Size,
    // Gives its bytes back to the budget when the last clone goes.
    _share: Arc<Share>,
}

#[derive(Debug)]
struct Share {
    bytes: u64,
    used: Arc<std::sync::atomic::AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, std::sync::atomic::Ordering::Relaxed);
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
    /// A window of the display.
    Swapchain {
        /// Its surface.
        surface: wgpu::Surface<'static>,
        /// How it is set up.
        config: wgpu::SurfaceConfiguration,
    },
    /// A texture, to be drawn as a part of another window.
    Texture(Canvas),
    /// No display: drawing is skipped, pictures are made on request.
    None,
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
}

/// What became of drawing a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// On its way to the display.
    Yes,
    /// The display had no room now: try again with the next tick.
    Later,
}

/// The device, and what all windows share.
#[derive(Debug)]
pub struct Renderer {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    exact: wgpu::Sampler,
    smooth: wgpu::Sampler,
    ring: upload::Ring,
    copies: Vec<(Slot, u32, Texture, Rect)>,
    /// Bytes of the recorded copies.
    pending: u64,
    textures: Arc<std::sync::atomic::AtomicU64>,
    largest: u32,
    /// The newest texture of one colour.
    solid: Option<([u8; 4], Texture)>,
    busy_ns: u64,
}

// SAFETY: slots hold raw pointers into mapped buffers that only this struct fills, on one thread at a time.
unsafe impl Send for Renderer {}

impl Renderer {
    /// Opens the device: the one that `WGPU_BACKEND` and the system prefer, a software one where there is no other.
    ///
    /// # Errors
    /// When no Vulkan or OpenGL driver works.
    pub fn new(display: DisplayHandle) -> anyhow::Result<Self> {
        let (instance, adapter) = open(display)?;
        let limits = adapter.limits();
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("inlay"),
            required_limits: wgpu::Limits {
                max_texture_dimension_2d: limits.max_texture_dimension_2d,
                max_buffer_size: limits.max_buffer_size,
                ..wgpu::Limits::downlevel_webgl2_defaults()
            },
            ..Default::default()
        }))
        .context("the graphics device cannot be opened")?;
        device.on_uncaptured_error(Arc::new(|error: wgpu::Error| {
            tracing::error!("graphics device: {error}");
        }));
        let info = adapter.get_info();
        tracing::info!("drawing with {} ({})", info.name, info.backend);

        let (layout, pipeline) = pipeline(&device);
        let sampler = |filter| {
            device.create_sampler(&wgpu::SamplerDescriptor {
                mag_filter: filter,
                min_filter: filter,
                ..Default::default()
            })
        };
        Ok(Self {
            exact: sampler(wgpu::FilterMode::Nearest),
            smooth: sampler(wgpu::FilterMode::Linear),
            ring: upload::Ring::new(device.clone()),
            copies: Vec::new(),
            pending: 0,
            textures: Arc::default(),
            largest: limits.max_texture_dimension_2d,
            solid: None,
            busy_ns: 0,
            instance,
            adapter,
            device,
            queue,
            pipeline,
            layout,
        })
    }

    /// A texture for pixels of this size, `None` when it passes the device's limits or the budget.
    #[must_use]
    pub fn texture(&self, size: Size) -> Option<Texture> {
        self.texture_for(size, wgpu::TextureUsages::COPY_DST)
    }

    /// The same, also to be used in this way.
    fn texture_for(&self, size: Size, usage: wgpu::TextureUsages) -> Option<Texture> {
        use std::sync::atomic::Ordering::Relaxed;
        let bytes = 4 * u64::from(size.width) * u64::from(size.height);
        let room = self.textures.load(Relaxed).saturating_add(bytes) <= TEXTURE_BUDGET;
        if size.is_empty() || size.width > self.largest || size.height > self.largest || !room {
            return None;
        }
        self.textures.fetch_add(bytes, Relaxed);
        let share = Arc::new(Share { bytes, used: self.textures.clone() });
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size: extent(size),
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: FORMAT,
            usage: usage | wgpu::TextureUsages::TEXTURE_BINDING,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
        let bind = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &[
                entry(0, wgpu::BindingResource::TextureView(&view)),
                entry(1, wgpu::BindingResource::Sampler(&self.exact)),
                entry(2, wgpu::BindingResource::Sampler(&self.smooth)),
            ],
        });
        Some(Texture { texture, bind, size, _share: share })
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

    /// Has `rect` of a texture (inside it) filled: `fill(to, pitch, room)` writes the rows, `false` gives up. The device
    /// copies them with the next [`Renderer::submit`].
    pub fn upload(
        &mut self,
        texture: &Texture,
        rect: Rect,
        fill: impl FnOnce(*mut u8, usize, usize) -> bool,
    ) -> bool {
        let pitch = (4 * rect.width).next_multiple_of(upload::PITCH);
        let Some(slot) = self.ring.slot(u64::from(pitch) * u64::from(rect.height)) else { return false };
        if !fill(slot.to, pitch as usize, slot.len) {
            return false;
        }
        self.pending += slot.len as u64;
        self.copies.push((slot, pitch, texture.clone(), rect));
        if self.pending > PENDING {
            // More than screens can show between two ticks: whoever sends it waits for the device.
            self.submit();
            let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
        }
        true
    }

    /// Makes a window of the display drawable.
    ///
    /// # Safety
    /// Both handles must be valid, and stay so until the target is dropped.
    ///
    /// # Errors
    /// When the device cannot draw into such a window.
    pub unsafe fn target(
        &self,
        display: wgpu::rwh::RawDisplayHandle,
        window: wgpu::rwh::RawWindowHandle,
        size: Size,
        transparent: bool,
    ) -> anyhow::Result<Target> {
        // SAFETY: the caller's promise.
        let surface = unsafe {
            self.instance.create_surface_unsafe(wgpu::SurfaceTargetUnsafe::RawHandle {
                raw_display_handle: Some(display),
                raw_window_handle: window,
            })
        }
        .context("the graphics device cannot draw into this display's windows")?;
        let can = surface.get_capabilities(&self.adapter);
        let mut config = surface
            .get_default_config(&self.adapter, size.width.max(1), size.height.max(1))
            .context("the graphics device and the display do not fit together")?;
        anyhow::ensure!(can.formats.contains(&FORMAT), "the display has no 32-bit format");
        config.format = FORMAT;
        config.present_mode = wgpu::PresentMode::AutoNoVsync;
        let alpha = wgpu::CompositeAlphaMode::PreMultiplied;
        if transparent && can.alpha_modes.contains(&alpha) {
            config.alpha_mode = alpha;
        }
        surface.configure(&self.device, &config);
        Ok(Target::Swapchain { surface, config })
    }

    /// Whether the device is a software rasteriser.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.adapter.get_info().device_type == wgpu::DeviceType::Cpu
    }

    /// CPU time of this thread inside the graphics library for copies and drawing, in nanoseconds.
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
        self.ring.give_back();
    }

    /// Submits the recorded copies, whether or not anything is drawn.
    pub fn submit(&mut self) {
        self.timed(Self::submit_now);
    }

    fn submit_now(&mut self) {
        if self.copies.is_empty() {
            return;
        }
        self.ring.flush();
        self.pending = 0;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (slot, pitch, texture, rect) in self.copies.drain(..) {
            encoder.copy_buffer_to_texture(
                wgpu::TexelCopyBufferInfo {
                    buffer: &slot.buffer,
                    layout: wgpu::TexelCopyBufferLayout {
                        offset: slot.offset,
                        bytes_per_row: Some(pitch),
                        rows_per_image: None,
                    },
                },
                wgpu::TexelCopyTextureInfo {
                    texture: &texture.texture,
                    mip_level: 0,
                    origin: wgpu::Origin3d { x: rect.x.unsigned_abs(), y: rect.y.unsigned_abs(), z: 0 },
                    aspect: wgpu::TextureAspect::All,
                },
                extent(rect.size()),
            );
        }
        self.queue.submit([encoder.finish()]);
        self.ring.reuse();
    }

    /// Draws a window. Never waits for the display.
    pub fn draw(&mut self, target: &mut Target, size: Size, quads: &[Quad]) -> Drawn {
        self.timed(|this| this.draw_now(target, size, quads))
    }

    fn draw_now(&mut self, target: &mut Target, size: Size, quads: &[Quad]) -> Drawn {
        self.submit_now();
        self.present(target, size, |this, view, drawn| this.pass(view, drawn, quads))
    }

    fn present(
        &self,
        target: &mut Target,
        size: Size,
        draw: impl FnOnce(&Self, &wgpu::TextureView, Size),
    ) -> Drawn {
        if size.is_empty() {
            return Drawn::Yes;
        }
        let (surface, config) = match target {
            Target::Swapchain { surface, config } => (surface, config),
            Target::Texture(canvas) => {
                self.draw_canvas(canvas, size, draw);
                return Drawn::Yes;
            }
            Target::None => return Drawn::Yes,
        };
        if (config.width, config.height) != (size.width, size.height) {
            config.width = size.width.min(self.largest);
            config.height = size.height.min(self.largest);
            surface.configure(&self.device, config);
        }
        let frame = match surface.get_current_texture() {
            wgpu::CurrentSurfaceTexture::Success(frame) | wgpu::CurrentSurfaceTexture::Suboptimal(frame) => {
                frame
            }
            wgpu::CurrentSurfaceTexture::Outdated | wgpu::CurrentSurfaceTexture::Lost => {
                surface.configure(&self.device, config);
                return Drawn::Later;
            }
            other => {
                tracing::debug!("no frame for a window: {other:?}");
                return Drawn::Later;
            }
        };
        let view = frame.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let drawn = Size::new(config.width, config.height);
        draw(self, &view, drawn);
        self.queue.present(frame);
        Drawn::Yes
    }

    fn draw_canvas(&self, canvas: &Canvas, size: Size, draw: impl FnOnce(&Self, &wgpu::TextureView, Size)) {
        let fitting = canvas.texture().filter(|texture| texture.size == size);
        // One that there is no room for shows nothing.
        let texture = fitting.or_else(|| self.texture_for(size, wgpu::TextureUsages::RENDER_ATTACHMENT));
        if let Some(texture) = &texture {
            draw(self, &texture.texture.create_view(&wgpu::TextureViewDescriptor::default()), size);
        }
        *canvas.0.lock().unwrap_or_else(PoisonError::into_inner) = texture;
    }

    fn pass(&self, view: &wgpu::TextureView, size: Size, quads: &[Quad]) {
        let vertices: Vec<u8> = quads.iter().flat_map(|quad| quad_bytes(quad, size)).collect();
        let buffer = (!vertices.is_empty()).then(|| {
            let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("quads"),
                size: vertices.len() as u64,
                usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            self.queue.write_buffer(&buffer, 0, &vertices);
            buffer
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: None,
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..Default::default()
        });
        if let Some(buffer) = &buffer {
            pass.set_pipeline(&self.pipeline);
            pass.set_vertex_buffer(0, buffer.slice(..));
            let mut first = 0;
            for quad in quads {
                pass.set_bind_group(0, &quad.texture.bind, &[]);
                pass.draw(first..first + 6, 0..1);
                first += 6;
            }
        }
        drop(pass);
        self.queue.submit([encoder.finish()]);
    }
}

/// The display that a device draws on, if there is one.
pub type DisplayHandle = Option<Arc<dyn wgpu::wgt::WgpuHasDisplayHandle>>;

/// The display handle as wgpu takes it, once for each attempt.
#[derive(Debug)]
struct Shared(Arc<dyn wgpu::wgt::WgpuHasDisplayHandle>);

impl wgpu::rwh::HasDisplayHandle for Shared {
    fn display_handle(&self) -> Result<wgpu::rwh::DisplayHandle<'_>, wgpu::rwh::HandleError> {
        self.0.display_handle()
    }
}

/// Vulkan, else OpenGL: the second is not even loaded where the first works. `WGPU_BACKEND` overrides.
fn open(display: DisplayHandle) -> anyhow::Result<(wgpu::Instance, wgpu::Adapter)> {
    // An empty WGPU_BACKEND means no backend to wgpu; people who clear it mean the default.
    let chosen = std::env::var("WGPU_BACKEND").is_ok_and(|value| !value.trim().is_empty());
    let forced = if chosen { wgpu::Backends::from_env() } else { None };
    let attempts = forced.map_or(vec![wgpu::Backends::VULKAN, wgpu::Backends::GL], |one| vec![one]);
    for backends in attempts {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.flags = wgpu::InstanceFlags::empty();
        descriptor.display = display.clone().map(|d| Box::new(Shared(d)) as _);
        let instance = wgpu::Instance::new(descriptor);
        let options = wgpu::RequestAdapterOptions::default();
        match pollster::block_on(instance.request_adapter(&options)) {
            Ok(adapter) => return Ok((instance, adapter)),
            Err(error) => tracing::debug!("{backends:?}: {error}"),
        }
    }
    anyhow::bail!("no Vulkan or OpenGL driver works here (Debian: install mesa-vulkan-drivers)")
}

fn extent(size: Size) -> wgpu::Extent3d {
    wgpu::Extent3d { width: size.width, height: size.height, depth_or_array_layers: 1 }
}

/// Six vertices of six floats each.
#[expect(clippy::cast_precision_loss, reason = "sizes of windows are far below 2^24")]
fn quad_bytes(quad: &Quad, size: Size) -> Vec<u8> {
    let [left, top, right, bottom] = quad.to;
    let place = |x: f32, y: f32| [2.0 * x / size.width as f32 - 1.0, 1.0 - 2.0 * y / size.height as f32];
    let places = [place(left, top), place(right, top), place(right, bottom), place(left, bottom)];
    let flag = |on| if on { 1.0_f32 } else { 0.0 };
    let mode = [flag(!quad.opaque), flag(quad.filtered)];
    [0, 1, 2, 0, 2, 3]
        .iter()
        .flat_map(|i: &usize| [places[*i], quad.corners[*i], mode])
        .flatten()
        .flat_map(f32::to_ne_bytes)
        .collect()
}

fn pipeline(device: &wgpu::Device) -> (wgpu::BindGroupLayout, wgpu::RenderPipeline) {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::FRAGMENT,
        ty,
        count: None,
    };
    let texture = wgpu::BindingType::Texture {
        sample_type: wgpu::TextureSampleType::Float { filterable: true },
        view_dimension: wgpu::TextureViewDimension::D2,
        multisampled: false,
    };
    let sampler = wgpu::BindingType::Sampler(wgpu::SamplerBindingType::Filtering);
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("quads"),
        entries: &[entry(0, texture), entry(1, sampler), entry(2, sampler)],
    });
    let shader = device.create_shader_module(wgpu::include_wgsl!("quads.wgsl"));
    let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("quads"),
        layout: Some(&device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("quads"),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        })),
        vertex: wgpu::VertexState {
            module: &shader,
            entry_point: Some("vertex"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[Some(wgpu::VertexBufferLayout {
                array_stride: 24,
                step_mode: wgpu::VertexStepMode::Vertex,
                attributes: &wgpu::vertex_attr_array![0 => Float32x2, 1 => Float32x2, 2 => Float32x2],
            })],
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &shader,
            entry_point: Some("fragment"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(wgpu::ColorTargetState {
                format: FORMAT,
                blend: Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING),
                write_mask: wgpu::ColorWrites::ALL,
            })],
        }),
        multiview_mask: None,
        cache: None,
    });
    (layout, pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(renderer: &mut Renderer, size: Size, bytes: &[u8]) -> Texture {
        let texture = renderer.texture(size).unwrap();
        let row = 4 * size.width as usize;
        let ok = renderer.upload(&texture, Rect::of_size(size), |to, pitch, room| {
            assert!(room >= pitch * (size.height as usize - 1) + row);
            for (y, line) in bytes.chunks(row).enumerate() {
                // SAFETY: the slot has `room` bytes, checked above.
                unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), to.add(y * pitch), row) };
            }
            true
        });
        assert!(ok);
        texture
    }

    const UPRIGHT: [[f32; 2]; 4] = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut renderer = Renderer::new(None).unwrap();
        let size = Size::new(333, 217);
        // Premultiplied: no colour above its alpha.
        let bytes: Vec<u8> = (0..333 * 217_u32)
            .flat_map(|i| {
                let a = i % 256;
                [i, i * 3, i * 7]
                    .map(|c| u8::try_from(c % (a + 1)).unwrap())
                    .into_iter()
                    .chain([u8::try_from(a).unwrap()])
            })
            .collect();
        let texture = filled(&mut renderer, size, &bytes);
        let quad = |opaque| Quad {
            texture: texture.clone(),
            to: [0.0, 0.0, 333.0, 217.0],
            corners: UPRIGHT,
            opaque,
            filtered: false,
        };
        assert!(renderer.picture(size, &[quad(false)]).unwrap() == bytes, "argb differs");
        let picture = renderer.picture(size, &[quad(true)]).unwrap();
        let same = |(a, b): (&[u8], &[u8])| a[..3] == b[..3] && a[3] == 255;
        assert!(picture.chunks(4).zip(bytes.chunks(4)).all(same), "xrgb differs");
    }

    #[test]
    fn a_quad_over_another_blends_premultiplied() {
        let mut renderer = Renderer::new(None).unwrap();
        let one = Size::new(1, 1);
        let below = filled(&mut renderer, one, &[200, 100, 50, 255]);
        let above = filled(&mut renderer, one, &[10, 20, 30, 128]);
        let quad = |texture| Quad {
            texture,
            to: [0.0, 0.0, 1.0, 1.0],
            corners: UPRIGHT,
            opaque: false,
            filtered: false,
        };
        let got = renderer.picture(one, &[quad(below), quad(above)]).unwrap();
        let want = [10.0 + 200.0 * 127.0 / 255.0, 20.0 + 100.0 * 127.0 / 255.0, 30.0 + 50.0 * 127.0 / 255.0];
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() <= 1.0, "{got} is not {want}");
        }
    }

    #[test]
    fn outside_of_an_outline_nothing_is_drawn() {
        let mut renderer = Renderer::new(None).unwrap();
        let size = Size::new(16, 8);
        let bytes: Vec<u8> = (0..16 * 8_u8).flat_map(|i| [i, 2 * i, 255 - i, 255]).collect();
        let texture = filled(&mut renderer, size, &bytes);
        let quad =
            Quad { texture, to: [0.0, 0.0, 16.0, 8.0], corners: UPRIGHT, opaque: true, filtered: false };
        let outline = [[2.0, 1.0, 7.0, 3.0], [9.0, 3.0, 99.0, 99.0], [-5.0, -5.0, 0.0, 9.0]];
        let picture = renderer.picture(size, &cut_out(&[quad], &outline)).unwrap();
        for (i, (got, whole)) in picture.chunks(4).zip(bytes.chunks(4)).enumerate() {
            let (x, y) = (i % 16, i / 16);
            let inside = (2..7).contains(&x) && (1..3).contains(&y) || x >= 9 && y >= 3;
            assert_eq!(got, if inside { whole } else { &[0; 4] }, "{x}, {y}");
        }
    }

    #[test]
    fn sizes_beyond_the_device_are_refused() {
        let renderer = Renderer::new(None).unwrap();
        assert!(renderer.texture(Size::new(0, 5)).is_none());
        assert!(renderer.texture(Size::new(1 << 20, 1)).is_none());
        let big = Size::new(8192, 8192);
        let kept: Vec<_> = (0..20).filter_map(|_| renderer.texture(big)).collect();
        assert!(kept.len() as u64 <= TEXTURE_BUDGET / (8192 * 8192 * 4));
    }
}
