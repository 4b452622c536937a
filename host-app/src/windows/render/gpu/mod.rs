//! The graphics device, by wgpu.
//!
//! Formats are not sRGB. Copies into textures are recorded while commits arrive and submitted with the next tick, before the windows
//! that show them.

mod picture;
mod upload;

use std::sync::Arc;

use anyhow::Context;
use inlay_protocol::geometry::{Rect, Size};

use super::{Drawn, Quad, Storage};
use upload::Slot;

/// Format of all textures and windows.
pub const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Bgra8Unorm;
/// Bytes that may be recorded before they are submitted without waiting for the tick.
const PENDING: u64 = 256 << 20;

/// A texture of the device.
#[derive(Debug, Clone)]
pub struct Stored {
    texture: wgpu::Texture,
    bind: wgpu::BindGroup,
}

/// A window of the display.
#[derive(Debug)]
pub struct Swapchain {
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
}

/// The device, and what all windows share.
#[derive(Debug)]
pub struct Device {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    exact: wgpu::Sampler,
    smooth: wgpu::Sampler,
    ring: upload::Ring,
    copies: Vec<(Slot, u32, wgpu::Texture, Rect)>,
    /// Bytes of the recorded copies.
    pending: u64,
    largest: u32,
}

// SAFETY: slots hold raw pointers into mapped buffers that only this struct fills, on one thread at a time.
unsafe impl Send for Device {}

impl Device {
    /// Opens it: whatever this kind of driver has or, if none is named, the hardware that the system prefers.
    ///
    /// # Errors
    /// When no such driver works.
    pub fn open(display: DisplayHandle, backends: Option<wgpu::Backends>) -> anyhow::Result<Self> {
        let (instance, adapter) = adapter(display, backends)?;
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
            largest: limits.max_texture_dimension_2d,
            instance,
            adapter,
            device,
            queue,
            pipeline,
            layout,
        })
    }

    /// The longest side of textures and windows, in pixels.
    pub fn largest(&self) -> u32 {
        self.largest
    }

    /// A texture of this size (within [`Device::largest`]), also to be drawn into.
    pub fn texture(&self, size: Size, drawn: bool) -> Stored {
        let usage =
            if drawn { wgpu::TextureUsages::RENDER_ATTACHMENT } else { wgpu::TextureUsages::COPY_DST };
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
        Stored { texture, bind }
    }

    /// Has `rect` of a texture filled, as [`super::Renderer::upload`] says. The device copies it with the next [`Device::submit`].
    pub fn upload(
        &mut self,
        texture: &Stored,
        rect: Rect,
        fill: impl FnOnce(*mut u8, usize, usize) -> bool,
    ) -> bool {
        let pitch = (4 * rect.width).next_multiple_of(upload::PITCH);
        let Some(slot) = self.ring.slot(u64::from(pitch) * u64::from(rect.height)) else { return false };
        if !fill(slot.to, pitch as usize, slot.len) {
            return false;
        }
        self.pending += slot.len as u64;
        self.copies.push((slot, pitch, texture.texture.clone(), rect));
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
    ) -> anyhow::Result<Swapchain> {
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
        Ok(Swapchain { surface, config })
    }

    /// Whether it is a software rasteriser.
    #[must_use]
    pub fn is_software(&self) -> bool {
        is_software(&self.adapter)
    }

    /// Gives back upload buffers that are kept for reuse.
    pub fn give_back(&mut self) {
        self.ring.give_back();
    }

    /// Submits the recorded copies.
    pub fn submit(&mut self) {
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
                    texture: &texture,
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

    /// Draws a window of this size (not empty). Never waits for the display.
    pub fn present(&self, to: &mut Swapchain, size: Size, quads: &[Quad]) -> Drawn {
        let Swapchain { surface, config } = to;
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
        self.pass(&view, drawn, quads);
        self.queue.present(frame);
        Drawn::Yes
    }

    /// Draws into a texture of this size that was made for that.
    pub fn draw_into(&self, to: &Stored, size: Size, quads: &[Quad]) {
        self.pass(&to.texture.create_view(&wgpu::TextureViewDescriptor::default()), size, quads);
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
                if let Storage::Device(stored) = &quad.texture.storage {
                    pass.set_bind_group(0, &stored.bind, &[]);
                    pass.draw(first..first + 6, 0..1);
                }
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

/// By this kind of driver; else the first hardware of Vulkan, else of OpenGL, which is not even loaded where the first has one.
fn adapter(
    display: DisplayHandle,
    forced: Option<wgpu::Backends>,
) -> anyhow::Result<(wgpu::Instance, wgpu::Adapter)> {
    let attempts = forced.map_or(vec![wgpu::Backends::VULKAN, wgpu::Backends::GL], |one| vec![one]);
    for backends in attempts {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        descriptor.flags = wgpu::InstanceFlags::empty();
        descriptor.display = display.clone().map(|d| Box::new(Shared(d)) as _);
        let instance = wgpu::Instance::new(descriptor);
        let options = wgpu::RequestAdapterOptions::default();
        match pollster::block_on(instance.request_adapter(&options)) {
            Ok(adapter) if forced.is_some() || !is_software(&adapter) => return Ok((instance, adapter)),
            Ok(adapter) => {
                tracing::debug!("{backends:?}: {} does what the processor does", adapter.get_info().name)
            }
            Err(error) => tracing::debug!("{backends:?}: {error}"),
        }
    }
    if forced.is_some() {
        anyhow::bail!(
            "no driver of the kind that WGPU_BACKEND names works here (Debian: install mesa-vulkan-drivers)"
        );
    }
    anyhow::bail!("no Vulkan or OpenGL driver for hardware works here (Debian: install mesa-vulkan-drivers)")
}

fn is_software(adapter: &wgpu::Adapter) -> bool {
    adapter.get_info().device_type == wgpu::DeviceType::Cpu
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
