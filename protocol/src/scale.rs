//! Pixels and logical pixels. Sizes and places in this protocol are logical; windows and buffers have pixels.

use crate::geometry::{Point, Rect, Size};

/// Pixels to a logical pixel, in 120ths (as `wp_fractional_scale_v1` counts); at least 120.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale(pub u32);

impl Scale {
    /// A pixel is a logical pixel.
    pub const ONE: Self = Self(120);

    /// Whether logical pixels have whole pixels.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.0.is_multiple_of(120)
    }

    fn multiply(value: i64, by: u32, through: u32) -> i64 {
        let (by, through) = (i64::from(by), i64::from(through.max(1)));
        (value * by + through / 2).div_euclid(through)
    }

    /// A coordinate in pixels.
    #[must_use]
    pub fn place(self, logical: i32) -> i32 {
        let pixels = Self::multiply(logical.into(), self.0, 120);
        i32::try_from(pixels).unwrap_or(if logical < 0 { i32::MIN } else { i32::MAX })
    }

    /// A length in pixels.
    #[must_use]
    pub fn length(self, logical: u32) -> u32 {
        u32::try_from(Self::multiply(logical.into(), self.0, 120)).unwrap_or(u32::MAX)
    }

    /// A size in pixels.
    #[must_use]
    pub fn size(self, logical: Size) -> Size {
        Size::new(self.length(logical.width), self.length(logical.height))
    }

    /// A length in logical pixels, not 0 where the pixels are not.
    #[must_use]
    pub fn logical_length(self, pixels: u32) -> u32 {
        let logical = u32::try_from(Self::multiply(pixels.into(), 120, self.0)).unwrap_or(u32::MAX);
        if pixels == 0 { 0 } else { logical.max(1) }
    }

    /// A size in logical pixels, none of them 0 where the pixels are not.
    #[must_use]
    pub fn logical_size(self, pixels: Size) -> Size {
        Size::new(self.logical_length(pixels.width), self.logical_length(pixels.height))
    }

    /// A point in pixels.
    #[must_use]
    pub fn point(self, logical: Point) -> Point {
        Point::new(self.place(logical.x), self.place(logical.y))
    }

    /// A point in logical pixels.
    #[must_use]
    pub fn logical_point(self, pixels: Point) -> Point {
        let place = |v: i32| i32::try_from(Self::multiply(v.into(), 120, self.0)).unwrap_or(0);
        Point::new(place(pixels.x), place(pixels.y))
    }

    /// The pixels that a rectangle touches when its edges are rounded: neighbours stay neighbours.
    #[must_use]
    pub fn rect(self, logical: Rect) -> Rect {
        let span = |start: i32, length: u32| {
            let from = Self::multiply(start.into(), self.0, 120);
            let to = Self::multiply(i64::from(start) + i64::from(length), self.0, 120);
            u32::try_from(to - from).unwrap_or(u32::MAX)
        };
        let at = self.point(Point::new(logical.x, logical.y));
        let (width, height) = (span(logical.x, logical.width), span(logical.y, logical.height));
        Rect::new(at.x, at.y, width, height)
    }

    /// The logical pixels that a rectangle touches.
    #[must_use]
    pub fn logical_bounds(self, pixels: Rect) -> Rect {
        let through = i64::from(self.0.max(1));
        let span = |start: i32, length: u32| {
            let from = (i64::from(start) * 120).div_euclid(through);
            let to = (i64::from(start) + i64::from(length)) * 120;
            (
                i32::try_from(from).unwrap_or(0),
                u32::try_from((to + through - 1).div_euclid(through) - from).unwrap_or(0),
            )
        };
        let ((x, width), (y, height)) = (span(pixels.x, pixels.width), span(pixels.y, pixels.height));
        Rect::new(x, y, width, height)
    }

    /// A rectangle in logical pixels.
    #[must_use]
    pub fn logical_rect(self, pixels: Rect) -> Rect {
        let (at, size) =
            (self.logical_point(Point::new(pixels.x, pixels.y)), self.logical_size(pixels.size()));
        Rect::new(at.x, at.y, size.width, size.height)
    }

    /// A coordinate in logical pixels, with its fraction.
    #[must_use]
    pub fn logical(self, pixels: f64) -> f64 {
        pixels * 120.0 / f64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_sizes_come_back_as_they_went() {
        for scale in [120, 150, 180, 210, 240, 360, 480].map(Scale) {
            for side in 1..2000 {
                let size = Size::new(side, 3 * side);
                assert_eq!(scale.logical_size(scale.size(size)), size, "{scale:?}");
                let at = Point::new(side.cast_signed(), -side.cast_signed());
                assert_eq!(scale.logical_point(scale.point(at)), at, "{scale:?}");
            }
        }
        assert_eq!(Scale(480).logical_size(Size::new(1, 0)), Size::new(1, 0));
        assert_eq!(Scale(240).place(i32::MIN), i32::MIN);
        assert_eq!(Scale(240).length(u32::MAX), u32::MAX);
    }

    #[test]
    fn neighbours_stay_neighbours() {
        let scale = Scale(150);
        let (left, right) = (scale.rect(Rect::new(0, 0, 3, 1)), scale.rect(Rect::new(3, 0, 3, 1)));
        assert_eq!((left, right), (Rect::new(0, 0, 4, 1), Rect::new(4, 0, 4, 1)));
        assert_eq!(scale.rect(Rect::new(-3, 1, 1, 1)), Rect::new(-4, 1, 2, 2));
        assert_eq!(scale.logical_bounds(Rect::new(-4, 1, 2, 2)), Rect::new(-4, 0, 3, 3));
    }
}
