//! Where a popup goes on hosts that do not place popups themselves: `xdg_positioner` solved against a monitor.
//!
//! The rules are those of xdg-shell: anchor point, gravity, offset; then for each axis flip, slide and resize, in that
//! order, each only where the app allows it. What still does not fit is slid onto the monitor all the same: a menu that
//! cannot be reached helps nobody.

use inlay_protocol::display::{ConstraintAdjustment, Edges, Output, Positioner};
use inlay_protocol::geometry::{Point, Rect};

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

/// The place that an app gave its popup, or where it touches none of the monitors the nearest on this one. All in the
/// coordinates of the parent's window geometry.
#[must_use]
pub fn fixed(area: Rect, mut monitors: impl Iterator<Item = Rect>, nearest: Rect) -> Rect {
    if monitors.any(|m| m.intersection(area).is_some()) {
        return area;
    }
    let within = |start: i32, len: u32, low: i32, high: i64| {
        let last = (high - i64::from(len)).max(i64::from(low));
        i32::try_from(i64::from(start).clamp(low.into(), last)).unwrap_or(low)
    };
    let x = within(area.x, area.width, nearest.x, nearest.right());
    let y = within(area.y, area.height, nearest.y, nearest.bottom());
    Rect { x, y, ..area }
}

/// The monitor that has most of an area; the first when none has any.
#[must_use]
pub fn monitor(outputs: &[Output], area: Rect) -> Rect {
    let share = |o: &&Output| {
        let probe = Rect { width: area.width.max(1), height: area.height.max(1), ..area };
        o.area.intersection(probe).map_or(0, |r| u64::from(r.width) * u64::from(r.height))
    };
    let best = outputs.iter().rev().max_by_key(share);
    best.map_or(Rect::new(0, 0, 1024, 768), |o| o.area)
}

/// An area of the desktop in the coordinates of a window whose content begins there.
#[must_use]
pub fn relative(area: Rect, origin: Point) -> Rect {
    area.translated(Point::new(origin.x.saturating_neg(), origin.y.saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::geometry::Size;

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
    fn a_fixed_popup_stays_where_its_app_put_it_unless_nobody_could_see_it() {
        let second = Rect::new(900, -50, 500, 500);
        let place = |area| fixed(area, [MONITOR, second].into_iter(), MONITOR);
        for area in [Rect::new(-290, 10, 200, 20), Rect::new(1399, 449, 9, 9), Rect::new(5, 5, 9000, 9000)] {
            assert_eq!(place(area), area);
        }
        assert_eq!(place(Rect::new(-300, 10, 200, 20)), Rect::new(-100, 10, 200, 20));
        assert_eq!(place(Rect::new(5000, 5000, 200, 20)), Rect::new(700, 730, 200, 20));
        assert_eq!(place(Rect::new(5, 750, 2000, 20)), Rect::new(-100, 730, 2000, 20));
    }

    #[test]
    fn the_monitor_is_that_of_the_greatest_part() {
        let output = |area: Rect| Output {
            name: String::new(),
            area,
            mode: area.size(),
            refresh: 60_000,
            scale_120: 120,
        };
        let outputs = [Rect::new(0, 0, 100, 100), Rect::new(100, 0, 100, 100)].map(output);
        assert_eq!(monitor(&outputs, Rect::new(90, 0, 15, 10)).x, 0);
        assert_eq!(monitor(&outputs, Rect::new(90, 0, 50, 10)).x, 100);
        assert_eq!(monitor(&outputs, Rect::new(900, 900, 5, 5)).x, 0);
        assert_eq!(relative(outputs[1].area, Point::new(90, 7)), Rect::new(10, -7, 100, 100));
    }

    #[test]
    fn larger_than_the_monitor_it_shows_its_start() {
        let mut p = menu(BELOW, DOWN_RIGHT, 1 | 2);
        p.size = Size::new(5000, 5000);
        assert_eq!((place(&p, MONITOR).x, place(&p, MONITOR).y), (-100, -50));
    }
}
