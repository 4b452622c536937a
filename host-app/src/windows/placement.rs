//! Where a popup goes on hosts that do not place popups themselves: `xdg_positioner` solved against a monitor.
//!
//! The rules are those of xdg-shell: anchor point, gravity, offset; then for each axis flip, slide and resize, in that
//! order, each only where the app allows it. What still does not fit is slid onto the monitor all the same: a menu that
//! cannot be reached helps nobody.

use inlay_protocol::display::{ConstraintAdjustment, Edges, Positioner};
use inlay_protocol::geometry::Rect;

/// One axis of the problem, in the coordinates of the parent's window geometry.
#[derive(Debug, Clone, Copy)]
struct Axis {
    anchor_start: i64,
    anchor_len: i64,
    /// -1 is the start edge, 1 the end edge, 0 the middle.
    anchor: i64,
    gravity: i64,
    offset: i64,
    len: i64,
    flip: bool,
    slide: bool,
    resize: bool,
}

impl Axis {
    fn start(&self, anchor: i64, gravity: i64, offset: i64) -> i64 {
        let point = self.anchor_start + (anchor + 1) * self.anchor_len / 2;
        point + offset - (1 - gravity) * self.len / 2
    }

    /// Start and length within `low..high`.
    fn solve(&self, low: i64, high: i64) -> (i64, i64) {
        let fits = |start: i64| start >= low && start + self.len <= high;
        let first = self.start(self.anchor, self.gravity, self.offset);
        if fits(first) {
            return (first, self.len);
        }
        let flipped = self.start(-self.anchor, -self.gravity, -self.offset);
        if self.flip && fits(flipped) {
            return (flipped, self.len);
        }
        if self.resize && !self.slide {
            let start = first.clamp(low, high);
            let end = (first + self.len).clamp(low, high);
            if end > start {
                return (start, end - start);
            }
        }
        let len = if self.resize { self.len.min(high - low) } else { self.len };
        // The start stays visible when the popup is larger than the monitor.
        ((high - len).min(first).max(low), len)
    }
}

/// Place and size of a popup relative to its parent's window geometry, for a monitor given in the same coordinates.
#[must_use]
pub fn place(positioner: &Positioner, monitor: Rect) -> Rect {
    let side = |edges: Edges, start: Edges, end: Edges| {
        i64::from(edges.contains(end)) - i64::from(edges.contains(start))
    };
    let may = |what| positioner.adjustment.contains(what);
    let p = positioner;
    let x = Axis {
        anchor_start: p.anchor_rect.x.into(),
        anchor_len: p.anchor_rect.width.into(),
        anchor: side(p.anchor, Edges::LEFT, Edges::RIGHT),
        gravity: side(p.gravity, Edges::LEFT, Edges::RIGHT),
        offset: p.offset.x.into(),
        len: p.size.width.into(),
        flip: may(ConstraintAdjustment::FLIP_X),
        slide: may(ConstraintAdjustment::SLIDE_X),
        resize: may(ConstraintAdjustment::RESIZE_X),
    };
    let y = Axis {
        anchor_start: p.anchor_rect.y.into(),
        anchor_len: p.anchor_rect.height.into(),
        anchor: side(p.anchor, Edges::TOP, Edges::BOTTOM),
        gravity: side(p.gravity, Edges::TOP, Edges::BOTTOM),
        offset: p.offset.y.into(),
        len: p.size.height.into(),
        flip: may(ConstraintAdjustment::FLIP_Y),
        slide: may(ConstraintAdjustment::SLIDE_Y),
        resize: may(ConstraintAdjustment::RESIZE_Y),
    };
    let (left, width) = x.solve(monitor.x.into(), monitor.right());
    let (top, height) = y.solve(monitor.y.into(), monitor.bottom());
    let place = |v: i64| i32::try_from(v).unwrap_or(0);
    let extent = |v: i64| u32::try_from(v).unwrap_or(1).max(1);
    Rect::new(place(left), place(top), extent(width), extent(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::geometry::{Point, Size};

    const MONITOR: Rect = Rect::new(-100, -50, 1000, 800);

    fn menu(anchor: Edges, gravity: Edges, adjustment: u8) -> Positioner {
        Positioner {
            size: Size::new(200, 300),
            anchor_rect: Rect::new(10, 20, 60, 24),
            anchor,
            gravity,
            adjustment: ConstraintAdjustment(adjustment),
            offset: Point::new(0, 0),
            reactive: false,
        }
    }

    const BELOW: Edges = Edges(2 | 4);
    const DOWN_RIGHT: Edges = Edges(2 | 8);

    #[test]
    fn a_menu_hangs_below_its_button() {
        assert_eq!(place(&menu(BELOW, DOWN_RIGHT, 63), MONITOR), Rect::new(10, 44, 200, 300));
    }

    #[test]
    fn no_anchor_and_gravity_is_centred() {
        let got = place(&menu(Edges(0), Edges(0), 0), MONITOR);
        assert_eq!(got, Rect::new(40 - 100, 32 - 150 + 68, 200, 300), "slid down to the monitor's top");
    }

    #[test]
    fn near_the_lower_edge_it_flips_above() {
        let mut p = menu(BELOW, DOWN_RIGHT, 63);
        p.anchor_rect.y = 700;
        assert_eq!(place(&p, MONITOR), Rect::new(10, 400, 200, 300));
        p.adjustment = ConstraintAdjustment(2);
        assert_eq!(place(&p, MONITOR), Rect::new(10, 450, 200, 300), "may only slide");
        p.adjustment = ConstraintAdjustment(32);
        assert_eq!(place(&p, MONITOR), Rect::new(10, 724, 200, 26), "may only shrink");
    }

    #[test]
    fn near_the_right_edge_it_slides_left() {
        let mut p = menu(BELOW, DOWN_RIGHT, 1);
        p.anchor_rect.x = 880;
        assert_eq!(place(&p, MONITOR).x, 700);
    }

    #[test]
    fn it_stays_on_the_monitor_even_when_the_app_forgot() {
        let mut p = menu(BELOW, DOWN_RIGHT, 0);
        p.anchor_rect.x = 5000;
        p.anchor_rect.y = -5000;
        let got = place(&p, MONITOR);
        assert!(MONITOR.contains(got), "{got:?}");
    }

    #[test]
    fn larger_than_the_monitor_it_shows_its_start() {
        let mut p = menu(BELOW, DOWN_RIGHT, 1 | 2);
        p.size = Size::new(5000, 5000);
        assert_eq!((place(&p, MONITOR).x, place(&p, MONITOR).y), (-100, -50));
    }
}
