//! What the host itself says in windows: texts and buttons, laid out by egui and drawn by the processor.
//!
//! They are small and rarely change, and the first of them is to be there at once: before a graphics device is open, which takes
//! longer than all else of a start, and where there is none that works.

mod raster;

use std::collections::HashMap;

use egui::epaint::textures::TexturesDelta;
use egui::epaint::{ClippedShape, Primitive};
use egui::{Pos2, RawInput, Rect, TextureId, Ui, ViewportId};
use inlay_protocol::geometry::Size;

use raster::{Clip, Image, Raster};

/// egui with its font and its textures, for all windows.
pub struct Painter {
    context: egui::Context,
    images: HashMap<TextureId, Image>,
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

impl Default for Painter {
    fn default() -> Self {
        let context = egui::Context::default();
        // A window is drawn when something happens, not over time.
        context.all_styles_mut(|style| style.animation_time = 0.0);
        Self { context, images: HashMap::new(), textures: TexturesDelta::default() }
    }
}

impl Painter {
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

    /// Draws it: rows of `4 * pixels.width` bytes; blue, green, red, alpha; opaque.
    #[must_use]
    pub fn paint(&mut self, laid: Laid, pixels: Size, scale: f32) -> Vec<u8> {
        for (id, deltas) in self.textures.set.drain() {
            for delta in deltas {
                Image::change(self.images.entry(id).or_default(), &delta);
            }
        }
        let mut raster = Raster::new(pixels);
        for part in self.context.tessellate(laid.shapes, scale) {
            // Nothing of ours draws by callbacks.
            let Primitive::Mesh(mesh) = part.primitive else { continue };
            let Some(image) = self.images.get(&mesh.texture_id) else { continue };
            raster.mesh(&mesh, image, Clip::new(part.clip_rect, scale, pixels), scale);
        }
        for id in self.textures.free.drain() {
            self.images.remove(&id);
        }
        raster.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::Color32;

    #[test]
    fn a_text_is_drawn_on_its_background_and_again_the_same() {
        let mut painter = Painter::default();
        let (size, scale) = (Size::new(80, 20), 1.5);
        let pixels = Size::new(120, 30);
        let mut draw = |colour| {
            let laid = painter.lay_out(Page { id: 0, size, scale }, Vec::new(), |ui| {
                ui.painter().rect_filled(ui.clip_rect(), 0.0, Color32::from_rgb(10, 20, 30));
                let (align, font) = (egui::Align2::LEFT_TOP, egui::FontId::proportional(14.0));
                ui.painter().text(Pos2::new(2.0, 2.0), align, "Inlay", font, colour);
            });
            painter.paint(laid, pixels, scale)
        };
        let green = draw(Color32::GREEN);
        assert_eq!(green.len(), 120 * 30 * 4);
        assert_eq!(green[..4], [30, 20, 10, 255]);
        assert_eq!(green[green.len() - 4..], [30, 20, 10, 255]);
        let full = green.chunks_exact(4).filter(|p| p[1] > 240).count();
        let some = green.chunks_exact(4).filter(|p| (60..200).contains(&p[1])).count();
        assert!((40..600).contains(&full), "{full} pixels of the text itself");
        assert!(some > 20, "{some} pixels of its edges");
        assert_ne!(draw(Color32::RED), green);
        assert!(draw(Color32::GREEN) == green);
    }
}
