//! Popups: placed by the compositor from the app's own positioner, with its grab.

use inlay_protocol::display::{
    ConstraintAdjustment as Adjustment, Edges, Place, Popup, Positioner, SurfaceId,
};
use inlay_protocol::geometry::{Point, Rect, Size};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle};
use wayland_protocols::xdg::shell::client::xdg_popup::{self, XdgPopup};
use wayland_protocols::xdg::shell::client::xdg_positioner::{
    Anchor, ConstraintAdjustment, Gravity, XdgPositioner,
};

use super::super::{Announced, HostEvent};
use super::State;
use super::window::{HostWindow, Role};

/// `xdg_popup.reposition` and reactive positioners.
const REPOSITION: u32 = 3;

/// A popup.
#[derive(Debug)]
pub struct PopupRole {
    pub popup: XdgPopup,
    pub parent: SurfaceId,
    /// Room that a frame of ours takes above its parent's content: to the compositor, the window begins there.
    above: u32,
    /// What the compositor says before its `xdg_surface.configure`.
    pending: Rect,
    /// The place that it was last given.
    area: Rect,
    /// What the app last asked for.
    wish: (Place, Option<u32>),
    /// The token of the app's reposition that was answered, and those on their way.
    repositioned: Option<u32>,
    asked: Vec<(u32, Option<u32>)>,
    count: u32,
}

impl PopupRole {
    /// What was decided, and which of the app's repositions it answers.
    pub fn decided(&mut self) -> (Rect, Option<u32>) {
        self.area = Rect { y: self.pending.y.saturating_sub_unsigned(self.above), ..self.pending };
        (self.area, self.repositioned.take())
    }
}

impl State {
    /// Makes a popup, without content, or has it placed anew.
    pub(super) fn announce_popup(&mut self, id: SurfaceId, popup: &Popup) -> Announced {
        let positioner = match &popup.place {
            Place::Positioner(positioner) => *positioner,
            Place::Fixed(area) => fixed(*area),
        };
        if let Some(known) = self.windows.get_mut(&id) {
            let wish = (popup.place, popup.reposition);
            let new = match &mut known.role {
                Role::Popup(popup) => std::mem::replace(&mut popup.wish, wish) != wish,
                Role::Toplevel(_) => false,
            };
            return if new { self.reposition(id, &positioner, popup.reposition) } else { Announced::Waits };
        }
        let Some(parent) = self.windows.get(&popup.parent).filter(|parent| parent.mapped) else {
            return Announced::NotYet;
        };
        let (parent_xdg, scale) = (parent.xdg.clone(), parent.scale);
        let (surface, xdg) = self.surface(id);
        let above = self.above(popup.parent);
        let wire = self.positioner(&positioner, above);
        let xdg_popup = xdg.get_popup(Some(&parent_xdg), &wire, &self.handle, id);
        wire.destroy();
        if popup.grab
            && self.may_grab(popup.parent)
            && let (Some((_, seat)), Some(serial)) = (&self.globals.seat, self.newest_press())
        {
            xdg_popup.grab(seat, serial);
            self.grabs.push(id);
        }
        let role = PopupRole {
            popup: xdg_popup,
            parent: popup.parent,
            above,
            pending: Rect::of_size(positioner.size),
            area: Rect::of_size(positioner.size),
            wish: (popup.place, popup.reposition),
            repositioned: popup.reposition,
            asked: Vec::new(),
            count: 0,
        };
        self.add(id, surface, xdg, Role::Popup(role), scale);
        Announced::Waits
    }

    /// A popup may only take a grab on top of the newest one: anything else ends the connection.
    fn may_grab(&self, parent: SurfaceId) -> bool {
        match self.grabs.last() {
            Some(newest) => *newest == parent,
            None => matches!(self.windows.get(&parent).map(|w| &w.role), Some(Role::Toplevel(_))),
        }
    }

    fn above(&self, parent: SurfaceId) -> u32 {
        match self.windows.get(&parent).map(|window| &window.role) {
            Some(Role::Toplevel(toplevel)) => toplevel.frame.as_ref().map_or(0, |frame| frame.above()),
            _ => 0,
        }
    }

    fn positioner(&self, of: &Positioner, above: u32) -> XdgPositioner {
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX).max(1);
        let wire = self.globals.wm_base.create_positioner(&self.handle, ());
        wire.set_size(side(of.size.width), side(of.size.height));
        let anchor = of.anchor_rect;
        // An empty anchor is incomplete to some.
        let y = anchor.y.saturating_add_unsigned(above);
        wire.set_anchor_rect(anchor.x, y, side(anchor.width), side(anchor.height));
        wire.set_anchor(edge(of.anchor, Anchor::None, ANCHORS));
        wire.set_gravity(edge(of.gravity, Gravity::None, GRAVITIES));
        wire.set_constraint_adjustment(ConstraintAdjustment::from_bits_truncate(of.adjustment.0.into()));
        wire.set_offset(of.offset.x, of.offset.y);
        if of.reactive && wire.version() >= REPOSITION {
            wire.set_reactive();
        }
        wire
    }

    fn reposition(&mut self, id: SurfaceId, to: &Positioner, token: Option<u32>) -> Announced {
        let Some(HostWindow { role: Role::Popup(PopupRole { parent, .. }), .. }) = self.windows.get(&id)
        else {
            return Announced::Free;
        };
        let above = self.above(*parent);
        let wire = self.positioner(to, above);
        let Some(HostWindow { role: Role::Popup(popup), .. }) = self.windows.get_mut(&id) else {
            wire.destroy();
            return Announced::Free;
        };
        popup.above = above;
        if popup.popup.version() >= REPOSITION {
            popup.count = popup.count.wrapping_add(1);
            popup.asked.push((popup.count, token));
            popup.popup.reposition(&wire, popup.count);
        } else {
            // It stays where it is, with the size that it wants now.
            let Size { width, height } = to.size;
            popup.pending = Rect { width, height, ..popup.pending };
            let (area, _) = popup.decided();
            self.events.push(HostEvent::Placed { window: id, area, reposition: token });
        }
        wire.destroy();
        Announced::Waits
    }
}

/// A place that the app chose: the compositor may only slide what nobody could reach.
fn fixed(area: Rect) -> Positioner {
    let slide = Adjustment::SLIDE_X.0 | Adjustment::SLIDE_Y.0;
    Positioner {
        size: area.size(),
        anchor_rect: Rect::new(0, 0, 1, 1),
        anchor: Edges::TOP.with(Edges::LEFT),
        gravity: Edges::BOTTOM.with(Edges::RIGHT),
        adjustment: Adjustment(slide),
        offset: Point::new(area.x, area.y),
        reactive: false,
    }
}

/// In the order top, bottom, left, right, then the corners: top left, bottom left, top right, bottom right.
const ANCHORS: [Anchor; 8] = [
    Anchor::Top,
    Anchor::Bottom,
    Anchor::Left,
    Anchor::Right,
    Anchor::TopLeft,
    Anchor::BottomLeft,
    Anchor::TopRight,
    Anchor::BottomRight,
];
const GRAVITIES: [Gravity; 8] = [
    Gravity::Top,
    Gravity::Bottom,
    Gravity::Left,
    Gravity::Right,
    Gravity::TopLeft,
    Gravity::BottomLeft,
    Gravity::TopRight,
    Gravity::BottomRight,
];

/// An edge or corner by its name on the wire.
fn edge<T: Copy>(edges: Edges, none: T, [top, bottom, left, right, corners @ ..]: [T; 8]) -> T {
    let [top_left, bottom_left, top_right, bottom_right] = corners;
    let has = |edge| edges.contains(edge);
    match (has(Edges::TOP), has(Edges::BOTTOM), has(Edges::LEFT), has(Edges::RIGHT)) {
        (true, _, true, _) => top_left,
        (_, true, true, _) => bottom_left,
        (true, _, _, true) => top_right,
        (_, true, _, true) => bottom_right,
        (true, ..) => top,
        (_, true, ..) => bottom,
        (_, _, true, _) => left,
        (_, _, _, true) => right,
        _ => none,
    }
}

impl Dispatch<XdgPopup, SurfaceId> for State {
    fn event(
        state: &mut Self,
        xdg: &XdgPopup,
        event: xdg_popup::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(HostWindow { role: Role::Popup(popup), .. }) = state.windows.get_mut(id) else { return };
        if popup.popup != *xdg {
            return;
        }
        match event {
            xdg_popup::Event::Configure { x, y, width, height } => {
                let side = |v: i32, before: u32| u32::try_from(v).ok().filter(|v| *v > 0).unwrap_or(before);
                let area = Rect::new(x, y, side(width, popup.area.width), side(height, popup.area.height));
                if area.is_sane() {
                    popup.pending = area;
                }
            }
            xdg_popup::Event::Repositioned { token } => {
                let at = popup.asked.iter().position(|(count, _)| *count == token);
                if let Some((_, theirs)) = at.and_then(|at| popup.asked.drain(..=at).next_back()) {
                    popup.repositioned = theirs;
                }
            }
            xdg_popup::Event::PopupDone => state.events.push(HostEvent::Destroyed { window: *id }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_and_corners_have_their_names() {
        let anchor = |edges| edge(edges, Anchor::None, ANCHORS);
        assert_eq!(anchor(Edges::BOTTOM.with(Edges::LEFT)), Anchor::BottomLeft);
        assert_eq!(anchor(Edges::TOP), Anchor::Top);
        assert_eq!(anchor(Edges(0)), Anchor::None);
        assert_eq!(edge(Edges::BOTTOM.with(Edges::RIGHT), Gravity::None, GRAVITIES), Gravity::BottomRight);
    }

    #[test]
    fn a_place_that_the_app_chose_is_an_offset_from_the_corner() {
        let p = fixed(Rect::new(-5, 70, 200, 30));
        assert_eq!((p.size, p.offset), (Size::new(200, 30), Point::new(-5, 70)));
        // Where nothing stands in the way it is there.
        let got = crate::windows::placement::place(&p, Rect::new(-100, -100, 900, 900));
        assert_eq!(got, Rect::new(-5, 70, 200, 30));
    }
}
