//! `xdg_positioner` in the protocol's words.

use inlay_protocol::display::{ConstraintAdjustment, Edges, Positioner};
use inlay_protocol::geometry::Size;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_positioner::{Anchor, Gravity};
use smithay::wayland::shell::xdg::PositionerState;

use crate::export::state::{point, rect, size};

/// A positioner of an app, within the limits.
#[must_use]
pub fn translate(state: &PositionerState) -> Positioner {
    let wanted = size(state.rect_size);
    Positioner {
        size: Size::new(wanted.width.max(1), wanted.height.max(1)),
        anchor_rect: rect(state.anchor_rect),
        anchor: anchor(state.anchor_edges),
        gravity: gravity(state.gravity),
        adjustment: ConstraintAdjustment(u8::try_from(state.constraint_adjustment.bits() & 63).unwrap_or(0)),
        offset: point(state.offset.x, state.offset.y),
        reactive: state.reactive,
    }
}

fn anchor(anchor: Anchor) -> Edges {
    match anchor {
        Anchor::Top => Edges::TOP,
        Anchor::Bottom => Edges::BOTTOM,
        Anchor::Left => Edges::LEFT,
        Anchor::Right => Edges::RIGHT,
        Anchor::TopLeft => Edges::TOP.with(Edges::LEFT),
        Anchor::BottomLeft => Edges::BOTTOM.with(Edges::LEFT),
        Anchor::TopRight => Edges::TOP.with(Edges::RIGHT),
        Anchor::BottomRight => Edges::BOTTOM.with(Edges::RIGHT),
        _ => Edges::default(),
    }
}

fn gravity(gravity: Gravity) -> Edges {
    match gravity {
        Gravity::Top => Edges::TOP,
        Gravity::Bottom => Edges::BOTTOM,
        Gravity::Left => Edges::LEFT,
        Gravity::Right => Edges::RIGHT,
        Gravity::TopLeft => Edges::TOP.with(Edges::LEFT),
        Gravity::BottomLeft => Edges::BOTTOM.with(Edges::LEFT),
        Gravity::TopRight => Edges::TOP.with(Edges::RIGHT),
        Gravity::BottomRight => Edges::BOTTOM.with(Edges::RIGHT),
        _ => Edges::default(),
    }
}
