//! Damage: which pixels of a buffer changed. Rectangles in buffer pixels, bounded in number.

use inlay_protocol::display::Transform;
use inlay_protocol::geometry::{Rect, RectF, Size};
use inlay_protocol::limits;

/// A set of rectangles, at most [`limits::DAMAGE_RECTS`]; more become their bounding box.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    rects: Vec<Rect>,
}

impl Damage {
    /// All of a buffer.
    #[must_use]
    pub fn all(size: Size) -> Self {
        let mut damage = Self::default();
        damage.add(Rect::of_size(size));
        damage
    }

    /// Adds a rectangle.
    pub fn add(&mut self, rect: Rect) {
        if rect.is_empty() || self.rects.iter().any(|r| r.contains(rect)) {
            return;
        }
        self.rects.retain(|r| !rect.contains(*r));
        self.rects.push(rect);
        if self.rects.len() > limits::DAMAGE_RECTS {
            let bound = self.rects.iter().copied().fold(Rect::default(), Rect::union);
            self.rects.clear();
            self.rects.push(bound);
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        other.rects.iter().for_each(|r| self.add(*r));
    }

    /// Leaves only what lies within a buffer of this size.
    pub fn clip(&mut self, size: Size) {
        let bounds = Rect::of_size(size);
        let clipped: Vec<Rect> = self.rects.drain(..).filter_map(|r| r.intersection(bounds)).collect();
        clipped.into_iter().for_each(|r| self.add(r));
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The rectangles.
    #[must_use]
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }
}

/// How a buffer is shown on its surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Size of the buffer in pixels.
    pub buffer: Size,
    /// `set_buffer_scale`, at least 1.
    pub scale: u32,
    /// `set_buffer_transform`.
    pub transform: Transform,
    /// `wp_viewport.set_source`.
    pub source: Option<RectF>,
    /// `wp_viewport.set_destination`.
    pub destination: Option<Size>,
}

impl View {
    /// Size of the buffer in surface coordinates before the viewport: transformed, then divided by the scale.
    #[must_use]
    pub fn unscaled(&self) -> Size {
        use Transform as T;
        let Size { width, height } = self.buffer;
        let (width, height) = match self.transform {
            T::Normal | T::Rotated180 | T::Flipped | T::Flipped180 => (width, height),
            T::Rotated90 | T::Rotated270 | T::Flipped90 | T::Flipped270 => (height, width),
        };
        Size::new(width / self.scale.max(1), height / self.scale.max(1))
    }

    /// Size of the surface in logical pixels.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, sides are positive"
    )]
    pub fn size(&self) -> Size {
        let of_source = |s: RectF| Size::new(s.width as u32, s.height as u32);
        self.destination.or(self.source.map(of_source)).unwrap_or_else(|| self.unscaled())
    }

    /// The buffer pixels that a rectangle of the surface shows, rounded outwards and clipped to the buffer.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the buffer's sides"
    )]
    pub fn to_buffer(self, rect: Rect) -> Option<Rect> {
        let whole = self.unscaled();
        let (mut x, mut y) = (f64::from(rect.x), f64::from(rect.y));
        let (mut right, mut bottom) = (rect.right() as f64, rect.bottom() as f64);
        let source = self.source.unwrap_or(RectF {
            x: 0.0,
            y: 0.0,
            width: whole.width.into(),
            height: whole.height.into(),
        });
        if let Some(to) = self.destination.filter(|to| !to.is_empty()) {
            let (h, v) = (source.width / f64::from(to.width), source.height / f64::from(to.height));
            (x, right) = (x * h, right * h);
            (y, bottom) = (y * v, bottom * v);
        }
        let scale = f64::from(self.scale.max(1));
        (x, right) = ((x + source.x) * scale, (right + source.x) * scale);
        (y, bottom) = ((y + source.y) * scale, (bottom + source.y) * scale);
        let (w, h) = (f64::from(whole.width) * scale, f64::from(whole.height) * scale);
        let (ax, ay) = untransform(self.transform, w, h, x, y);
        let (bx, by) = untransform(self.transform, w, h, right, bottom);
        let (width, height) = (f64::from(self.buffer.width), f64::from(self.buffer.height));
        let (left, right) = (ax.min(bx).floor().clamp(0.0, width), ax.max(bx).ceil().clamp(0.0, width));
        let (top, bottom) = (ay.min(by).floor().clamp(0.0, height), ay.max(by).ceil().clamp(0.0, height));
        let rect = Rect::new(left as i32, top as i32, (right - left) as u32, (bottom - top) as u32);
        (!rect.is_empty()).then_some(rect)
    }
}

/// Where a point of the transformed image (`w` x `h`) lies in the buffer. A buffer with `Rotated90` holds the image turned by
/// 90 degrees counter-clockwise (`wl_output.transform`).
fn untransform(transform: Transform, w: f64, h: f64, x: f64, y: f64) -> (f64, f64) {
    match transform {
        Transform::Normal => (x, y),
        Transform::Rotated90 => (y, w - x),
        Transform::Rotated180 => (w - x, h - y),
        Transform::Rotated270 => (h - y, x),
        Transform::Flipped => (w - x, y),
        Transform::Flipped90 => (y, x),
        Transform::Flipped180 => (x, h - y),
        Transform::Flipped270 => (h - y, w - x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(width: u32, height: u32) -> View {
        View {
            buffer: Size::new(width, height),
            scale: 1,
            transform: Transform::Normal,
            source: None,
            destination: None,
        }
    }

    #[test]
    fn rects_within_others_are_dropped() {
        let mut damage = Damage::default();
        damage.add(Rect::new(10, 10, 5, 5));
        damage.add(Rect::new(11, 11, 2, 2));
        assert_eq!(damage.rects(), [Rect::new(10, 10, 5, 5)]);
        damage.add(Rect::new(0, 0, 100, 100));
        assert_eq!(damage.rects(), [Rect::new(0, 0, 100, 100)]);
    }

    #[test]
    fn too_many_rects_become_their_bounds() {
        let mut damage = Damage::default();
        for n in 0..=64 {
            damage.add(Rect::new(n * 4, n * 4, 2, 2));
        }
        assert_eq!(damage.rects(), [Rect::new(0, 0, 258, 258)]);
    }

    #[test]
    fn scale_multiplies() {
        let view = View { scale: 2, ..view(200, 100) };
        assert_eq!(view.size(), Size::new(100, 50));
        assert_eq!(view.to_buffer(Rect::new(3, 4, 5, 6)), Some(Rect::new(6, 8, 10, 12)));
        assert_eq!(view.to_buffer(Rect::new(-3, 40, 500, 600)), Some(Rect::new(0, 80, 200, 20)));
    }

    #[test]
    fn every_transform_maps_the_corner_where_the_protocol_says() {
        use Transform as T;
        // A 100 x 50 buffer; the first pixel of the surface, by hand from the definition of the transforms.
        let corner =
            |transform| View { transform, ..view(100, 50) }.to_buffer(Rect::new(0, 0, 1, 1)).unwrap();
        let at = |x, y| Rect::new(x, y, 1, 1);
        assert_eq!(corner(T::Normal), at(0, 0));
        assert_eq!(corner(T::Rotated90), at(0, 49));
        assert_eq!(corner(T::Rotated180), at(99, 49));
        assert_eq!(corner(T::Rotated270), at(99, 0));
        assert_eq!(corner(T::Flipped), at(99, 0));
        assert_eq!(corner(T::Flipped90), at(0, 0));
        assert_eq!(corner(T::Flipped180), at(0, 49));
        assert_eq!(corner(T::Flipped270), at(99, 49));
    }

    #[test]
    fn a_turned_surface_is_as_wide_as_its_buffer_is_high() {
        let view = View { transform: Transform::Rotated90, ..view(100, 50) };
        assert_eq!(view.size(), Size::new(50, 100));
        assert_eq!(view.to_buffer(Rect::new(0, 0, 50, 100)), Some(Rect::new(0, 0, 100, 50)));
        assert_eq!(view.to_buffer(Rect::new(10, 20, 3, 4)), Some(Rect::new(20, 37, 4, 3)));
    }

    #[test]
    fn a_viewport_scales_and_crops() {
        let source = Some(RectF { x: 10.0, y: 20.0, width: 50.0, height: 30.0 });
        let view = View { source, destination: Some(Size::new(100, 60)), ..view(200, 100) };
        assert_eq!(view.size(), Size::new(100, 60));
        assert_eq!(view.to_buffer(Rect::new(0, 0, 100, 60)), Some(Rect::new(10, 20, 50, 30)));
        assert_eq!(view.to_buffer(Rect::new(1, 1, 1, 1)), Some(Rect::new(10, 20, 1, 1)));
        let cropped = View { destination: None, ..view };
        assert_eq!(cropped.to_buffer(Rect::new(1, 1, 1, 1)), Some(Rect::new(11, 21, 1, 1)));
    }

    #[test]
    fn extremes_stay_within_the_buffer() {
        let view = View { scale: 64, ..view(640, 640) };
        let far = Rect::new(i32::MIN, i32::MIN, u32::MAX, u32::MAX);
        assert_eq!(view.to_buffer(far), Some(Rect::new(0, 0, 640, 640)));
        assert_eq!(view.to_buffer(Rect::new(i32::MAX, 0, 5, 5)), None);
    }
}
