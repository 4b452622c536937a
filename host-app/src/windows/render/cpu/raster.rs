//! Textured rectangles with premultiplied alpha, drawn by the processor: what `gpu/quads.wgsl` has a device do.
//!
//! A pixel belongs to the rectangle that its centre lies in. Two colours of a pixel are worked on at once, in the halves of a number.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "places are cut to the picture and to the texture; casts of floats saturate"
)]

use inlay_protocol::geometry::{Rect, Size};

use super::{area, image};
use crate::windows::render::Quad;

/// Fractions of a texel, as places in textures have them.
const ONE: f64 = (1_u64 << 32) as f64;
/// Half of one.
const HALFWAY: i64 = 1 << 31;
/// Every other byte of a pixel.
const HALF: u32 = 0x00ff_00ff;
const OPAQUE: u32 = 0xff00_0000;

/// The first pixel whose centre is not before an edge.
fn first(edge: f32) -> i32 {
    (edge - 0.5).ceil() as i32
}

/// The pixels of a rectangle (left, top, right, bottom).
pub fn bounds([left, top, right, bottom]: [f32; 4]) -> Rect {
    let (x, y) = (first(left), first(top));
    let side = |from: i32, to: f32| (i64::from(first(to)) - i64::from(from)).clamp(0, i32::MAX.into()) as u32;
    Rect { x, y, width: side(x, right), height: side(y, bottom) }
}

/// Whether a quad has all pixels of a rectangle.
pub fn covers(quad: &Quad, rect: Rect) -> bool {
    bounds(quad.to).contains(rect)
}

/// A place in a texture, in texels, by a place in pixels: `[u, v]` at the origin, and how they grow to the right and downwards.
#[derive(Debug, Clone, Copy)]
struct Place {
    origin: [f64; 2],
    right: [f64; 2],
    down: [f64; 2],
}

impl Place {
    fn of(quad: &Quad, texture: Size) -> Self {
        let [left, top, right, bottom] = quad.to.map(f64::from);
        let sides = [f64::from(texture.width), f64::from(texture.height)];
        let corner = |at: usize, i: usize| f64::from(quad.corners[at][i]) * sides[i];
        let right = [0, 1].map(|i| (corner(1, i) - corner(0, i)) / (right - left));
        let down = [0, 1].map(|i| (corner(3, i) - corner(0, i)) / (bottom - top));
        let origin = [0, 1].map(|i| corner(0, i) - left * right[i] - top * down[i]);
        Self { origin, right, down }
    }

    fn at(&self, x: f64, y: f64) -> [f64; 2] {
        [0, 1].map(|i| self.origin[i] + x * self.right[i] + y * self.down[i])
    }

    /// The other way round; nothing where pixels have no place of their own.
    fn back(&self, [u, v]: [f64; 2]) -> Option<[f64; 2]> {
        let det = self.right[0] * self.down[1] - self.down[0] * self.right[1];
        let (u, v) = (u - self.origin[0], v - self.origin[1]);
        let x = (u * self.down[1] - v * self.down[0]) / det;
        let y = (v * self.right[0] - u * self.right[1]) / det;
        (x.is_finite() && y.is_finite()).then_some([x, y])
    }

    /// Whether texels fall on pixels, one by one.
    fn is_exact(&self) -> bool {
        let about = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).abs() < 1e-4 && (a[1] - b[1]).abs() < 1e-4;
        about(self.right, [1.0, 0.0]) && about(self.down, [0.0, 1.0])
    }
}

/// The pixels of a quad that show a part of its texture.
pub fn place(quad: &Quad, texture: Size, part: Rect) -> Rect {
    let whole = bounds(quad.to);
    let place = Place::of(quad, texture);
    // A filter looks at the neighbours.
    let wider = if quad.filtered { 1.0 } else { 0.0 };
    let [left, top] = [f64::from(part.x) - wider, f64::from(part.y) - wider];
    let [right, bottom] = [part.right() as f64 + wider, part.bottom() as f64 + wider];
    let corners = [[left, top], [right, top], [right, bottom], [left, bottom]].map(|at| place.back(at));
    let mut edges = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for corner in corners {
        let Some([x, y]) = corner else { return whole };
        edges = [edges[0].min(x), edges[1].min(y), edges[2].max(x), edges[3].max(y)];
    }
    let [left, top, right, bottom] = edges;
    // What is a hair beside a pixel's edge by rounding alone is on it.
    let (x, y) = ((left + 1e-3).floor() as i32, (top + 1e-3).floor() as i32);
    let side = |from: i32, to: f64| ((to - 1e-3).ceil() - f64::from(from)).max(0.0) as u32;
    let found = Rect { x, y, width: side(x, right), height: side(y, bottom) };
    found.intersection(whole).unwrap_or_default()
}

/// A picture that is drawn.
#[derive(Debug)]
pub struct Picture<'a> {
    pixels: &'a mut [u32],
    size: Size,
}

impl<'a> Picture<'a> {
    /// One of this size, in rows; nothing if there is not as much memory.
    pub fn new(pixels: &'a mut [u32], size: Size) -> Option<Self> {
        (pixels.len() >= area(size)).then_some(Self { pixels, size })
    }

    /// Draws a part of it: what quads show there, from the lowest to the highest, on nothing.
    pub fn draw(&mut self, clip: Rect, quads: &[Quad]) {
        let Some(clip) = clip.intersection(Rect::of_size(self.size)) else { return };
        let lowest =
            quads.iter().rposition(|quad| quad.opaque && image(quad).is_some() && covers(quad, clip));
        if lowest.is_none() {
            self.rows(clip, |row, _| row.fill(0));
        }
        for quad in &quads[lowest.unwrap_or(0)..] {
            if let Some(part) = bounds(quad.to).intersection(clip) {
                self.quad(quad, part);
            }
        }
    }

    /// The pixels of a part (within the picture), row by row, and the row's number.
    fn rows(&mut self, part: Rect, mut with: impl FnMut(&mut [u32], i32)) {
        let (left, width) = (part.x as usize, self.size.width as usize);
        for y in part.y..part.y + part.height as i32 {
            let begin = y as usize * width + left;
            with(&mut self.pixels[begin..begin + part.width as usize], y);
        }
    }

    /// Draws a part (within the picture and the quad) of a quad.
    fn quad(&mut self, quad: &Quad, part: Rect) {
        let Some(image) = image(quad) else { return };
        let content = image.content();
        let (size, texels) = (content.size, content.pixels.as_slice());
        if let [colour] = texels {
            return self.rows(part, |row, _| lay_colour(row, *colour, quad.opaque));
        }
        let place = Place::of(quad, size);
        let [u, v] = place.at(f64::from(part.x) + 0.5, f64::from(part.y) + 0.5).map(f64::floor);
        let (width, height) = (f64::from(part.width), f64::from(part.height));
        let inside = u >= 0.0
            && v >= 0.0
            && u + width <= f64::from(size.width)
            && v + height <= f64::from(size.height);
        if !quad.filtered && place.is_exact() && inside {
            let (u, v) = (u as usize, v as usize);
            return self.rows(part, |row, y| {
                let begin = (v + (y - part.y) as usize) * size.width as usize + u;
                lay(row, &texels[begin..begin + row.len()], quad.opaque);
            });
        }
        let sampler = Sampler::new(texels, size, &place, bounds(quad.to));
        let mut line = vec![0; part.width as usize];
        self.rows(part, |row, y| {
            if quad.filtered {
                sampler.smooth(&mut line, part.x, y);
            } else {
                sampler.nearest(&mut line, part.x, y);
            }
            lay(row, &line, quad.opaque);
        });
    }
}

/// A texture that is looked up at places between its texels. Beyond its edge it is as on it.
#[derive(Debug)]
struct Sampler<'a> {
    texels: &'a [u32],
    size: Size,
    /// A pixel, and the place of its centre; how far it is to the next one to the right and below. In whole numbers of fractions, so that
    /// a pixel is the same whichever part of a picture is drawn.
    first: [i32; 2],
    origin: [i64; 2],
    right: [i64; 2],
    down: [i64; 2],
}

impl<'a> Sampler<'a> {
    fn new(texels: &'a [u32], size: Size, place: &Place, quad: Rect) -> Self {
        let fixed = |at: [f64; 2]| at.map(|v| (v * ONE) as i64);
        let origin = fixed(place.at(f64::from(quad.x) + 0.5, f64::from(quad.y) + 0.5));
        let (right, down) = (fixed(place.right), fixed(place.down));
        Self { texels, size, first: [quad.x, quad.y], origin, right, down }
    }

    /// The place of a pixel's centre.
    fn begin(&self, x: i32, y: i32) -> [i64; 2] {
        let [x, y] = [i64::from(x) - i64::from(self.first[0]), i64::from(y) - i64::from(self.first[1])];
        [0, 1].map(|i| {
            let (right, down) = (self.right[i].wrapping_mul(x), self.down[i].wrapping_mul(y));
            self.origin[i].wrapping_add(right).wrapping_add(down)
        })
    }

    fn texel(&self, u: i64, v: i64) -> u32 {
        let cut = |at: i64, side: u32| at.clamp(0, i64::from(side) - 1) as usize;
        self.texels[cut(v, self.size.height) * self.size.width as usize + cut(u, self.size.width)]
    }

    /// The nearest texels of a row of pixels.
    fn nearest(&self, line: &mut [u32], x: i32, y: i32) {
        let [mut u, mut v] = self.begin(x, y);
        for pixel in line {
            *pixel = self.texel(u >> 32, v >> 32);
            (u, v) = (u.wrapping_add(self.right[0]), v.wrapping_add(self.right[1]));
        }
    }

    /// Those around them, mixed by how near they are.
    fn smooth(&self, line: &mut [u32], x: i32, y: i32) {
        let [mut u, mut v] = self.begin(x, y).map(|at| at.wrapping_sub(HALFWAY));
        let part = |at: i64| (at >> 24) as u32 & 0xff;
        for pixel in line {
            let (left, top) = (u >> 32, v >> 32);
            let upper = mix(self.texel(left, top), self.texel(left + 1, top), part(u));
            let lower = mix(self.texel(left, top + 1), self.texel(left + 1, top + 1), part(u));
            *pixel = mix(upper, lower, part(v));
            (u, v) = (u.wrapping_add(self.right[0]), v.wrapping_add(self.right[1]));
        }
    }
}

/// A colour between two: `part` 256ths of the second.
fn mix(a: u32, b: u32, part: u32) -> u32 {
    let halves = |a: u32, b: u32| (a & HALF) * (256 - part) + (b & HALF) * part + 0x0080_0080;
    ((halves(a, b) >> 8) & HALF) | (halves(a >> 8, b >> 8) & !HALF)
}

/// A colour over another.
fn over(below: u32, above: u32) -> u32 {
    let behind = 255 - (above >> 24);
    // Divided by 255, rounded; then the sum, which a colour above its alpha could carry over.
    let halves = |below: u32, above: u32| {
        let product = (below & HALF) * behind + 0x0080_0080;
        let sum = (((product + ((product >> 8) & HALF)) >> 8) & HALF) + (above & HALF);
        let carried = (sum >> 8) & 0x0001_0001;
        (sum | (carried * 0xff)) & HALF
    };
    halves(below, above) | (halves(below >> 8, above >> 8) << 8)
}

fn lay(row: &mut [u32], line: &[u32], opaque: bool) {
    if opaque {
        row.iter_mut().zip(line).for_each(|(pixel, texel)| *pixel = texel | OPAQUE);
        return;
    }
    // Most of what may be transparent is not, or wholly.
    for (pixels, texels) in row.chunks_mut(8).zip(line.chunks(8)) {
        if texels.iter().all(|texel| texel >> 24 == 0xff) {
            pixels.copy_from_slice(texels);
        } else if texels.iter().any(|texel| *texel != 0) {
            pixels.iter_mut().zip(texels).for_each(|(pixel, texel)| *pixel = over(*pixel, *texel));
        }
    }
}

fn lay_colour(row: &mut [u32], colour: u32, opaque: bool) {
    if opaque {
        row.fill(colour | OPAQUE);
    } else {
        row.iter_mut().for_each(|pixel| *pixel = over(*pixel, colour));
    }
}
