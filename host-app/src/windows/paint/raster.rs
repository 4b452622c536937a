//! Triangles with colours and a texture, drawn by the processor.
//!
//! Colours are premultiplied and blended as they are, without regard to gamma, which is how egui means them. A pixel belongs to the
//! triangle that its centre lies in; of two that share an edge to one of them, so nothing is blended twice there.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places are cut to the picture, colours to 0 to 255; casts of floats saturate"
)]

use egui::epaint::textures::TextureFilter;
use egui::epaint::{ImageData, ImageDelta, Mesh, Vertex};
use egui::{Color32, Rect};
use inlay_protocol::geometry::Size;

/// A texture.
#[derive(Debug, Default)]
pub struct Image {
    size: [usize; 2],
    pixels: Vec<Color32>,
    smooth: bool,
}

impl Image {
    /// Has it be what the change says: another image, or a part of it.
    pub fn change(&mut self, delta: &ImageDelta) {
        let ImageData::Color(new) = &delta.image;
        self.smooth = delta.options.magnification == TextureFilter::Linear;
        let Some([left, top]) = delta.pos else {
            (self.size, self.pixels) = (new.size, new.pixels.clone());
            return;
        };
        let width = new.size[0];
        for (row, pixels) in new.pixels.chunks_exact(width.max(1)).enumerate() {
            let begin = (top + row) * self.size[0] + left;
            if let Some(to) = self.pixels.get_mut(begin..begin + width) {
                to.copy_from_slice(pixels);
            }
        }
    }

    fn pixel(&self, x: f32, y: f32) -> [f32; 4] {
        let [width, height] = self.size;
        let at = |place: f32, side: usize| (place.max(0.0) as usize).min(side.saturating_sub(1));
        let colour = self.pixels.get(at(y, height) * width + at(x, width)).copied().unwrap_or_default();
        colour.to_array().map(f32::from)
    }

    /// Its colour at a place from 0 to 1 each.
    fn at(&self, u: f32, v: f32) -> [f32; 4] {
        let (x, y) = (u * self.size[0] as f32, v * self.size[1] as f32);
        if !self.smooth {
            return self.pixel(x, y);
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (right, down) = (x - left, y - top);
        let mix = |a: [f32; 4], b: [f32; 4], part: f32| -> [f32; 4] {
            std::array::from_fn(|i| a[i] + (b[i] - a[i]) * part)
        };
        if right == 0.0 && down == 0.0 {
            return self.pixel(left, top);
        }
        let upper = mix(self.pixel(left, top), self.pixel(left + 1.0, top), right);
        let lower = mix(self.pixel(left, top + 1.0), self.pixel(left + 1.0, top + 1.0), right);
        mix(upper, lower, down)
    }
}

/// The pixels that may be drawn: columns and rows, from and to.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    columns: [usize; 2],
    rows: [usize; 2],
}

impl Clip {
    /// A rectangle in logical pixels, as far as it lies within the picture.
    pub fn new(rect: Rect, scale: f32, pixels: Size) -> Self {
        let place = |v: f32, side: u32| (v * scale).round().clamp(0.0, side as f32) as usize;
        Self {
            columns: [place(rect.min.x, pixels.width), place(rect.max.x, pixels.width)],
            rows: [place(rect.min.y, pixels.height), place(rect.max.y, pixels.height)],
        }
    }
}

/// The numbers of a vertex: colour (0 to 255), then the place in the texture.
type Values = [f32; 6];

/// A vertex, in pixels.
#[derive(Debug, Clone, Copy)]
struct Corner {
    x: f32,
    y: f32,
    values: Values,
}

impl Corner {
    fn new(vertex: &Vertex, scale: f32) -> Self {
        let [red, green, blue, alpha] = vertex.color.to_array().map(f32::from);
        let values = [red, green, blue, alpha, vertex.uv.x, vertex.uv.y];
        Self { x: vertex.pos.x * scale, y: vertex.pos.y * scale, values }
    }
}

/// A picture that is drawn.
#[derive(Debug)]
pub struct Raster {
    width: usize,
    bytes: Vec<u8>,
}

impl Raster {
    /// A black one.
    pub fn new(pixels: Size) -> Self {
        let (width, height) = (pixels.width as usize, pixels.height as usize);
        Self { width, bytes: [0, 0, 0, 255].repeat(width * height) }
    }

    /// Rows of blue, green, red, alpha.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Draws triangles over what is there.
    pub fn mesh(&mut self, mesh: &Mesh, image: &Image, clip: Clip, scale: f32) {
        for corners in mesh.indices.chunks_exact(3) {
            let corner = |index: u32| mesh.vertices.get(index as usize).map(|v| Corner::new(v, scale));
            if let (Some(a), Some(b), Some(c)) = (corner(corners[0]), corner(corners[1]), corner(corners[2]))
            {
                self.triangle([a, b, c], image, clip);
            }
        }
    }

    fn triangle(&mut self, [a, b, c]: [Corner; 3], image: &Image, clip: Clip) {
        let area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
        if area == 0.0 || !area.is_finite() {
            return;
        }
        // How fast each value grows to the right and downwards.
        let across: Values = std::array::from_fn(|i| {
            let (ab, ac) = (b.values[i] - a.values[i], c.values[i] - a.values[i]);
            (ab * (c.y - a.y) - ac * (b.y - a.y)) / area
        });
        let down: Values = std::array::from_fn(|i| {
            let (ab, ac) = (b.values[i] - a.values[i], c.values[i] - a.values[i]);
            (ac * (b.x - a.x) - ab * (c.x - a.x)) / area
        });
        let even = across == [0.0; 6] && down == [0.0; 6];
        let source = |values: &Values| {
            let texel = image.at(values[4], values[5]);
            std::array::from_fn(|i| values[i].clamp(0.0, 255.0) * texel[i] / 255.0)
        };
        let same = even.then(|| source(&a.values));
        let (top, bottom) = (a.y.min(b.y).min(c.y), a.y.max(b.y).max(c.y));
        for row in first(top).max(clip.rows[0])..first(bottom).min(clip.rows[1]) {
            let y = row as f32 + 0.5;
            let [mut left, mut right] = [f32::INFINITY, f32::NEG_INFINITY];
            for (from, to) in [(a, b), (b, c), (c, a)] {
                // From above, so that both triangles of an edge find the same place.
                let (from, to) = if from.y <= to.y { (from, to) } else { (to, from) };
                if from.y <= y && y < to.y {
                    let x = from.x + (y - from.y) / (to.y - from.y) * (to.x - from.x);
                    (left, right) = (left.min(x), right.max(x));
                }
            }
            let columns = first(left).max(clip.columns[0])..first(right).min(clip.columns[1]);
            let Some(line) = self
                .bytes
                .get_mut(4 * (row * self.width + columns.start)..4 * (row * self.width + columns.end))
            else {
                continue;
            };
            for (column, pixel) in columns.zip(line.chunks_exact_mut(4)) {
                let colour = same.unwrap_or_else(|| {
                    let (dx, dy) = (column as f32 + 0.5 - a.x, y - a.y);
                    source(&std::array::from_fn(|i| a.values[i] + across[i] * dx + down[i] * dy))
                });
                blend(pixel, colour);
            }
        }
    }
}

/// The first pixel whose centre is not before an edge.
fn first(edge: f32) -> usize {
    (edge - 0.5).ceil().max(0.0) as usize
}

/// Lays a colour (red, green, blue, alpha) over a pixel (blue, green, red, alpha).
fn blend(pixel: &mut [u8], [red, green, blue, alpha]: [f32; 4]) {
    let behind = 1.0 - alpha / 255.0;
    for (to, over) in pixel.iter_mut().zip([blue, green, red, alpha]) {
        *to = (f32::from(*to).mul_add(behind, over) + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::epaint::ColorImage;
    use egui::{Pos2, TextureOptions, pos2};

    fn image(size: [usize; 2], pixels: Vec<Color32>) -> Image {
        let mut image = Image::default();
        image.change(&ImageDelta::full(ColorImage::new(size, pixels), TextureOptions::LINEAR));
        image
    }

    fn white() -> Image {
        image([1, 1], vec![Color32::WHITE])
    }

    fn quad(corners: [Pos2; 4], colours: [Color32; 4], uv: [Pos2; 4]) -> Mesh {
        let vertices = (0..4).map(|i| Vertex { pos: corners[i], color: colours[i], uv: uv[i] }).collect();
        Mesh { indices: vec![0, 1, 2, 0, 2, 3], vertices, ..Mesh::default() }
    }

    fn rect(left: f32, top: f32, right: f32, bottom: f32) -> [Pos2; 4] {
        [pos2(left, top), pos2(right, top), pos2(right, bottom), pos2(left, bottom)]
    }

    fn whole(size: Size) -> Clip {
        Clip::new(Rect::EVERYTHING, 1.0, size)
    }

    const SIZE: Size = Size::new(8, 8);

    #[test]
    fn triangles_that_share_an_edge_leave_no_gap_and_no_seam() {
        let half = Color32::from_rgba_premultiplied(100, 0, 0, 128);
        // Crooked on purpose.
        let corners = [pos2(0.3, 0.2), pos2(7.9, 0.7), pos2(7.4, 7.8), pos2(0.1, 7.2)];
        let mesh = quad(corners, [half; 4], [pos2(0.5, 0.5); 4]);
        let mut raster = Raster::new(SIZE);
        raster.mesh(&mesh, &white(), whole(SIZE), 1.0);
        let bytes = raster.into_bytes();
        let red: Vec<u8> = bytes.chunks_exact(4).map(|p| p[2]).collect();
        assert!(red.iter().all(|r| *r == 0 || *r == 100), "{red:?}");
        for y in 1..7 {
            assert!(red[8 * y + 1..8 * y + 7].iter().all(|r| *r == 100), "row {y}: {red:?}");
        }
    }

    #[test]
    fn a_rectangle_fills_the_pixels_whose_centres_it_has_and_none_outside_its_clip() {
        let mesh = quad(rect(1.0, 1.0, 3.0, 3.0), [Color32::WHITE; 4], [pos2(0.5, 0.5); 4]);
        let mut raster = Raster::new(SIZE);
        let clip = Clip::new(Rect::from_min_max(pos2(0.0, 0.0), pos2(2.0, 100.0)), 2.0, SIZE);
        raster.mesh(&mesh, &white(), clip, 2.0);
        let lit: Vec<usize> = raster
            .into_bytes()
            .chunks_exact(4)
            .enumerate()
            .filter(|(_, p)| p[0] == 255)
            .map(|(i, _)| i)
            .collect();
        let want: Vec<usize> = (2..6).flat_map(|y| (2..4).map(move |x| 8 * y + x)).collect();
        assert_eq!(lit, want);
    }

    #[test]
    fn colours_and_textures_run_from_corner_to_corner() {
        let (red, blue) = (Color32::from_rgb(255, 0, 0), Color32::from_rgb(0, 0, 255));
        let mesh = quad(rect(0.0, 0.0, 8.0, 8.0), [red, blue, blue, red], [pos2(0.5, 0.5); 4]);
        let mut raster = Raster::new(SIZE);
        raster.mesh(&mesh, &white(), whole(SIZE), 1.0);
        let bytes = raster.into_bytes();
        assert_eq!((bytes[2], bytes[0]), (239, 16));
        assert_eq!((bytes[4 * 7 + 2], bytes[4 * 7]), (16, 239));

        let checks = image([2, 1], vec![red, blue]);
        let uv = rect(0.0, 0.0, 1.0, 1.0);
        let mesh = quad(rect(0.0, 0.0, 2.0, 1.0), [Color32::WHITE; 4], uv);
        let mut raster = Raster::new(SIZE);
        raster.mesh(&mesh, &checks, whole(SIZE), 1.0);
        // Texel by pixel: no filter blurs it.
        assert_eq!(raster.into_bytes()[..8], [0, 0, 255, 255, 255, 0, 0, 255]);
    }

    #[test]
    fn a_part_of_a_texture_is_replaced_and_nothing_beside_it() {
        let mut image = image([3, 2], vec![Color32::BLACK; 6]);
        let part = ColorImage::new([2, 1], vec![Color32::WHITE; 2]);
        image.change(&ImageDelta::partial([1, 1], part.clone(), TextureOptions::NEAREST));
        let white = |image: &Image| image.pixels.iter().map(|p| *p == Color32::WHITE).collect::<Vec<_>>();
        assert_eq!(white(&image), [false, false, false, false, true, true]);
        // Out of it: refused.
        image.change(&ImageDelta::partial([2, 7], part, TextureOptions::NEAREST));
        assert_eq!(image.pixels.len(), 6);
    }

    #[test]
    fn what_is_no_triangle_draws_nothing() {
        let nan = [pos2(f32::NAN, 0.0), pos2(8.0, f32::INFINITY), pos2(1.0, 1.0), pos2(-1e30, 1e30)];
        for corners in [nan, [pos2(3.0, 3.0); 4], rect(-9.0, -9.0, -1.0, -1.0), rect(100.0, 0.0, 200.0, 8.0)]
        {
            let mesh = quad(corners, [Color32::WHITE; 4], [pos2(0.5, 0.5); 4]);
            let mut raster = Raster::new(SIZE);
            raster.mesh(&mesh, &white(), whole(SIZE), 1.0);
            let lit = raster.into_bytes().chunks_exact(4).filter(|p| p[0] != 0).count();
            assert_eq!(lit, 0, "{corners:?}");
        }
    }
}
