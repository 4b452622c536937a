//! Points, sizes and rectangles with checked arithmetic. Units are pixels of the space that the using field names.

use serde::{Deserialize, Serialize};

use crate::limits;

/// A point or an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Point {
    /// To the right.
    pub x: i32,
    /// Downwards.
    pub y: i32,
}

/// A width and a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// A rectangle: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: i32,
    /// Top edge.
    pub y: i32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// A rectangle with fractions, as `wp_viewport.set_source` has it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RectF {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Point {
    /// A point from its coordinates.
    #[must_use]
    pub const fn new(x: i32, y: i32) -> Self {
        Self { x, y }
    }

    /// Whether both coordinates are within [`limits::COORDINATE`].
    #[must_use]
    pub fn is_sane(self) -> bool {
        self.x.unsigned_abs() <= limits::COORDINATE.unsigned_abs()
            && self.y.unsigned_abs() <= limits::COORDINATE.unsigned_abs()
    }
}

impl Size {
    /// A size from its sides.
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Whether either side is zero.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Whether both sides are within [`limits::DIMENSION`].
    #[must_use]
    pub const fn is_sane(self) -> bool {
        self.width <= limits::DIMENSION && self.height <= limits::DIMENSION
    }
}

impl Rect {
    /// A rectangle from its left, top, width and height.
    #[must_use]
    pub const fn new(x: i32, y: i32, width: u32, height: u32) -> Self {
        Self { x, y, width, height }
    }

    /// The rectangle at the origin with this size.
    #[must_use]
    pub const fn of_size(size: Size) -> Self {
        Self::new(0, 0, size.width, size.height)
    }

    /// Its size.
    #[must_use]
    pub const fn size(self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Whether it covers nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// One past the right edge.
    #[must_use]
    pub fn right(self) -> i64 {
        i64::from(self.x) + i64::from(self.width)
    }

    /// One past the bottom edge.
    #[must_use]
    pub fn bottom(self) -> i64 {
        i64::from(self.y) + i64::from(self.height)
    }

    /// The part inside both, or nothing.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let x = self.x.max(other.x);
        let y = self.y.max(other.y);
        let width = u32::try_from(self.right().min(other.right()) - i64::from(x)).ok()?;
        let height = u32::try_from(self.bottom().min(other.bottom()) - i64::from(y)).ok()?;
        (width > 0 && height > 0).then_some(Self { x, y, width, height })
    }

    /// The smallest rectangle around both; an empty one adds nothing. Sides saturate.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let x = self.x.min(other.x);
        let y = self.y.min(other.y);
        let side = |end: i64, start: i32| u32::try_from(end - i64::from(start)).unwrap_or(u32::MAX);
        Self {
            x,
            y,
            width: side(self.right().max(other.right()), x),
            height: side(self.bottom().max(other.bottom()), y),
        }
    }

    /// Whether it covers every point of `other`.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        other.x >= self.x
            && other.y >= self.y
            && other.right() <= self.right()
            && other.bottom() <= self.bottom()
    }

    /// Smaller by this on each side, as far as it goes.
    #[must_use]
    pub fn shrunk(self, by: u32) -> Self {
        let by = by.min(self.width / 2).min(self.height / 2);
        let at = self.translated(Point::new(by.cast_signed(), by.cast_signed()));
        Self { width: self.width - 2 * by, height: self.height - 2 * by, ..at }
    }

    /// Moved by an offset; edges saturate.
    #[must_use]
    pub fn translated(self, by: Point) -> Self {
        Self { x: self.x.saturating_add(by.x), y: self.y.saturating_add(by.y), ..self }
    }

    /// Whether its corner and its size are within the limits.
    #[must_use]
    pub fn is_sane(self) -> bool {
        Point::new(self.x, self.y).is_sane()
            && self.width <= limits::COORDINATE.unsigned_abs()
            && self.height <= limits::COORDINATE.unsigned_abs()
    }
}

impl RectF {
    /// Whether it is finite, not negative and within the limits.
    #[must_use]
    pub fn is_sane(self) -> bool {
        let limit = f64::from(limits::COORDINATE);
        [self.x, self.y, self.width, self.height].iter().all(|v| v.is_finite() && (0.0..=limit).contains(v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersection_is_what_both_cover() {
        let a = Rect::new(0, 0, 10, 10);
        assert_eq!(a.intersection(Rect::new(5, -5, 10, 10)), Some(Rect::new(5, 0, 5, 5)));
        assert_eq!(a.intersection(Rect::new(10, 0, 1, 1)), None);
        assert_eq!(a.intersection(Rect::new(3, 3, 0, 5)), None);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let far = Rect::new(i32::MAX, i32::MAX, u32::MAX, u32::MAX);
        let near = Rect::new(i32::MIN, i32::MIN, u32::MAX, u32::MAX);
        assert!(!far.is_sane());
        assert_eq!(far.intersection(near), None);
        assert_eq!(far.union(near).width, u32::MAX);
        assert_eq!(far.translated(Point::new(i32::MAX, 1)).x, i32::MAX);
    }
}
