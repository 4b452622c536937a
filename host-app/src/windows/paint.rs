//! What the host itself says in windows, by egui: texts and buttons.

use egui::epaint::ClippedShape;
use egui::epaint::textures::TexturesDelta;
use egui::{Pos2, RawInput, Rect, Ui, ViewportId};
use inlay_protocol::geometry::Size;

use crate::windows::render::{FORMAT, Renderer};

/// egui with its font and its part of the device, for all windows.
pub struct Painter {
    context: egui::Context,
    renderer: egui_wgpu::Renderer,
    /// Changes of textures that nothing was drawn with so far: each has to be applied.
    textures: TexturesDelta,
}

/// Where something is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// What egui remembers between two layouts belongs to this number.
    pub id: u32,
    /// In logical pixels.
    pub size: Size,
    /// Pixels to logical pixels.
    pub scale: f32,
}

/// What is to be drawn.
pub struct Laid {
    shapes: Vec<ClippedShape>,
}

impl std::fmt::Debug for Painter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Painter").finish_non_exhaustive()
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        // Its textures go as well.
        self.textures.clear();
    }
}

impl Painter {
    pub fn new(renderer: &Renderer) -> Self {
        let options = egui_wgpu::RendererOptions { dithering: false, ..Default::default() };
        let context = egui::Context::default();
        // A window is drawn when something happens, not over time.
        context.all_styles_mut(|style| style.animation_time = 0.0);
        let renderer = egui_wgpu::Renderer::new(renderer.device(), FORMAT, options);
        Self { context, renderer, textures: TexturesDelta::default() }
    }

    /// Lays a page out and has it follow what the user did.
    pub fn lay_out(&mut self, page: Page, events: Vec<egui::Event>, ui: impl FnMut(&mut Ui)) -> Laid {
        let viewport = ViewportId::from_hash_of(page.id);
        let screen = egui::vec2(page.size.width as f32, page.size.height as f32);
        let mut input = RawInput {
            viewport_id: viewport,
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, screen)),
            events,
            ..RawInput::default()
        };
        input.viewports.entry(viewport).or_default().native_pixels_per_point = Some(page.scale);
        let output = self.context.run_ui(input, ui);
        self.textures.append(output.textures_delta);
        Laid { shapes: output.shapes }
    }

    /// Draws it.
    #[expect(clippy::too_many_arguments, reason = "the graphics library's own")]
    pub fn paint(
        &mut self,
        laid: Laid,
        pixels: Size,
        scale: f32,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        view: &wgpu::TextureView,
    ) {
        for (id, deltas) in &self.textures.set {
            for delta in deltas {
                self.renderer.update_texture(device, queue, *id, delta);
            }
        }
        let screen = egui_wgpu::ScreenDescriptor {
            size_in_pixels: [pixels.width, pixels.height],
            pixels_per_point: scale,
        };
        let triangles = self.context.tessellate(laid.shapes, scale);
        // Without callbacks there is nothing to submit before.
        self.renderer.update_buffers(device, queue, encoder, &triangles, &screen);
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: None,
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            })],
            ..Default::default()
        });
        self.renderer.render(&mut pass.forget_lifetime(), &triangles, &screen);
        for id in &self.textures.free {
            self.renderer.free_texture(id);
        }
        self.textures.clear();
    }
}
