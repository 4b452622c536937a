//! The committed state of a surface in the protocol's words, from smithay's. Everything here comes from an app: it is brought
//! within the limits that the host checks.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use inlay_protocol::display::{Child, Commit, SurfaceId, Transform};
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use inlay_protocol::limits;
use inlay_protocol::scale::Scale;
use smithay::reexports::wayland_server::protocol::wl_output;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Rectangle};
use smithay::wayland::compositor::{
    RectangleKind, RegionAttributes, SurfaceAttributes, SurfaceData, TraversalAction, with_states,
    with_surface_tree_upward,
};
use smithay::wayland::shell::xdg::SurfaceCachedState;
use smithay::wayland::viewporter::ViewportCachedState;

use super::damage::View;
use crate::surface::id_of;

/// A coordinate within the limits.
fn coordinate(value: i32) -> i32 {
    value.clamp(-limits::COORDINATE, limits::COORDINATE)
}

/// A point within the limits.
#[must_use]
pub fn point(x: i32, y: i32) -> Point {
    Point::new(coordinate(x), coordinate(y))
}

/// A size within the limits of a surface.
#[must_use]
pub fn size(size: smithay::utils::Size<i32, Logical>) -> Size {
    let side = |v: i32| u32::try_from(v).unwrap_or(0).min(limits::DIMENSION);
    Size::new(side(size.w), side(size.h))
}

/// A rectangle within the limits; what lies outside of them is cut off.
#[must_use]
pub fn rect(rect: Rectangle<i32, Logical>) -> Rect {
    let side = |v: i32| u32::try_from(v).unwrap_or(0);
    let all = Rect::new(
        -limits::COORDINATE,
        -limits::COORDINATE,
        limits::COORDINATE.unsigned_abs() * 2,
        limits::COORDINATE.unsigned_abs() * 2,
    );
    let cut = Rect::new(rect.loc.x, rect.loc.y, side(rect.size.w), side(rect.size.h)).intersection(all);
    let limit = limits::COORDINATE.unsigned_abs();
    cut.map(|r| Rect { width: r.width.min(limit), height: r.height.min(limit), ..r }).unwrap_or_default()
}

/// The protocol's word for a transform.
fn transform(transform: wl_output::Transform) -> Transform {
    match transform {
        wl_output::Transform::_90 => Transform::Rotated90,
        wl_output::Transform::_180 => Transform::Rotated180,
        wl_output::Transform::_270 => Transform::Rotated270,
        wl_output::Transform::Flipped => Transform::Flipped,
        wl_output::Transform::Flipped90 => Transform::Flipped90,
        wl_output::Transform::Flipped180 => Transform::Flipped180,
        wl_output::Transform::Flipped270 => Transform::Flipped270,
        _ => Transform::Normal,
    }
}

/// Pixels to logical ones of an app that knows pixels only, in 120ths.
#[derive(Debug)]
struct PixelScale(AtomicU32);

/// Counts a new surface of such an app at this scale.
pub fn begin_pixel_scale(states: &SurfaceData, scale: Scale) {
    states.data_map.insert_if_missing_threadsafe(|| PixelScale(AtomicU32::new(scale.0)));
}

/// Another scale, where the surface is one of such an app.
pub fn set_pixel_scale(states: &SurfaceData, scale: Scale) {
    if let Some(known) = states.data_map.get::<PixelScale>() {
        known.0.store(scale.0, Ordering::Relaxed);
    }
}

/// How a buffer of this size is shown on a surface.
#[must_use]
pub fn view(states: &SurfaceData, buffer: Size) -> View {
    let (scale, turned) = {
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        let attributes = attributes.current();
        (u32::try_from(attributes.buffer_scale).unwrap_or(1), transform(attributes.buffer_transform))
    };
    let viewport = *states.cached_state.get::<ViewportCachedState>().current();
    let pixels = states.data_map.get::<PixelScale>().map(|scale| Scale(scale.0.load(Ordering::Relaxed)));
    let shrunk = pixels.filter(|scale| *scale != Scale::ONE).map(|scale| scale.logical_size(buffer));
    let source = viewport.src.map(|s| RectF { x: s.loc.x, y: s.loc.y, width: s.size.w, height: s.size.h });
    View {
        buffer,
        scale: scale.clamp(1, 64),
        transform: turned,
        source: source.filter(|s| s.is_sane()),
        destination: viewport.dst.map(size).or(shrunk.filter(|size| !size.is_empty())),
    }
}

/// Most rectangles of a region that are followed one by one.
const REGION_WORK: usize = 512;

/// A region as rectangles that do not overlap; `None` where those would be too many.
fn exact(region: &RegionAttributes) -> Option<Vec<Rect>> {
    if region.rects.len() > REGION_WORK {
        return None;
    }
    let mut rects: Vec<Rectangle<i32, Logical>> = Vec::new();
    for (kind, next) in &region.rects {
        let next = rect(*next);
        let (w, h) = (i32::try_from(next.width).ok()?, i32::try_from(next.height).ok()?);
        let next = Rectangle::new((next.x, next.y).into(), (w, h).into());
        rects = Rectangle::subtract_rects_many_in_place(rects, [next]);
        if matches!(kind, RectangleKind::Add) && !next.is_empty() {
            rects.push(next);
        }
        if rects.len() > REGION_WORK {
            return None;
        }
    }
    let rects: Vec<Rect> = rects.into_iter().map(rect).filter(|r| !r.is_empty()).collect();
    (rects.len() <= limits::REGION_RECTS).then_some(rects)
}

/// A region, or its bounds where it has too many rectangles.
fn region_or_bounds(region: &RegionAttributes) -> Vec<Rect> {
    exact(region).unwrap_or_else(|| {
        let added = region.rects.iter().filter(|(kind, _)| matches!(kind, RectangleKind::Add));
        let bounds = added.map(|(_, r)| rect(*r)).fold(Rect::default(), Rect::union);
        let limit = limits::COORDINATE.unsigned_abs();
        vec![Rect { width: bounds.width.min(limit), height: bounds.height.min(limit), ..bounds }]
    })
}

/// Where a subsurface is, and where it will be with its parent's next state.
#[derive(Debug, Default)]
struct Placed(Mutex<(Point, Option<Point>)>);

/// Notes the place that a subsurface gets with its parent's next state.
pub fn stage_place(states: &SurfaceData, at: smithay::utils::Point<i32, Logical>) {
    states.data_map.insert_if_missing_threadsafe(Placed::default);
    if let Some(placed) = states.data_map.get::<Placed>() {
        placed.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(point(at.x, at.y));
    }
}

/// Its parent's state is applied.
pub fn place_subsurface(states: &SurfaceData) {
    if let Some(placed) = states.data_map.get::<Placed>() {
        let mut placed = placed.0.lock().unwrap_or_else(PoisonError::into_inner);
        placed.0 = placed.1.take().unwrap_or(placed.0);
    }
}

fn placed(states: &SurfaceData) -> Point {
    let placed = states.data_map.get::<Placed>();
    placed.map(|placed| placed.0.lock().unwrap_or_else(PoisonError::into_inner).0).unwrap_or_default()
}

/// The stack of a surface and its subsurfaces, bottom first; empty when it has none.
#[must_use]
pub fn children(surface: &WlSurface) -> Vec<(WlSurface, Child)> {
    let mut stack = Vec::new();
    with_surface_tree_upward(
        surface,
        0,
        |_, _, depth| {
            if *depth == 0 { TraversalAction::DoChildren(1) } else { TraversalAction::SkipChildren }
        },
        |child, states, _| {
            if child == surface {
                stack.push((child.clone(), Child::Itself));
            } else if let Some(id) = states.data_map.get::<SurfaceId>() {
                let position = placed(states);
                stack.push((child.clone(), Child::Subsurface { surface: *id, position }));
            }
        },
        |_, _, _| true,
    );
    while stack.len() > limits::CHILDREN + 1 {
        let last = stack.iter().rposition(|(_, child)| *child != Child::Itself);
        let Some(last) = last else { break };
        stack.remove(last);
    }
    if stack.len() <= 1 {
        stack.clear();
    }
    stack
}

/// The state of a surface as a commit without pixels; `view` is how its buffer is shown.
#[must_use]
pub fn commit(surface: &WlSurface, shown: Option<View>, children: &[(WlSurface, Child)]) -> Option<Commit> {
    let id = id_of(surface)?;
    Some(with_states(surface, |states| {
        let view = view(states, shown.map(|v| v.buffer).unwrap_or_default());
        let (input, opaque) = {
            let mut attributes = states.cached_state.get::<SurfaceAttributes>();
            let attributes = attributes.current();
            // Bounds would claim more than the app did; an opaque region may always be smaller.
            let opaque = attributes.opaque_region.as_ref().and_then(exact).unwrap_or_default();
            (attributes.input_region.as_ref().map(region_or_bounds), opaque)
        };
        let geometry = geometry_of(states);
        let side = |v: u32| v.min(limits::DIMENSION);
        let size = view.size();
        Commit {
            surface: id,
            number: 0,
            content: None,
            damage: Vec::new(),
            scale: view.scale,
            transform: view.transform,
            source: view.source,
            size: Size::new(side(size.width), side(size.height)),
            children: children.iter().map(|(_, child)| *child).collect(),
            input,
            opaque,
            geometry: geometry.filter(|g| !g.is_empty()),
            acked: None,
            wants_frame: false,
        }
    }))
}

fn geometry_of(states: &SurfaceData) -> Option<Rect> {
    let known = states.cached_state.has::<SurfaceCachedState>();
    known.then(|| states.cached_state.get::<SurfaceCachedState>().current().geometry.map(rect)).flatten()
}

/// The window geometry that an app set, in the surface's coordinates.
#[must_use]
pub fn geometry(surface: &WlSurface) -> Option<Rect> {
    with_states(surface, geometry_of)
}

/// The surfaces of a tree with their stacks, the root first; what is deeper than the limit is left out.
#[must_use]
pub fn tree(root: &WlSurface) -> Vec<(WlSurface, Vec<(WlSurface, Child)>)> {
    let mut found = vec![];
    let mut level = vec![root.clone()];
    for _ in 0..limits::TREE_DEPTH {
        let mut next = Vec::new();
        for surface in level {
            let stack = children(&surface);
            let below = stack.iter().filter(|(_, child)| *child != Child::Itself);
            next.extend(below.map(|(child, _)| child.clone()));
            found.push((surface, stack));
        }
        level = next;
        if level.is_empty() || found.len() > limits::COMMITS {
            break;
        }
    }
    found.truncate(limits::COMMITS);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(rects: &[(RectangleKind, [i32; 4])]) -> RegionAttributes {
        let rect = |[x, y, w, h]: [i32; 4]| Rectangle::new((x, y).into(), (w, h).into());
        RegionAttributes { rects: rects.iter().map(|(kind, r)| (*kind, rect(*r))).collect() }
    }

    #[test]
    fn a_region_is_what_is_left() {
        let region = attributes(&[
            (RectangleKind::Add, [0, 0, 100, 100]),
            (RectangleKind::Subtract, [0, 50, 100, 50]),
            (RectangleKind::Add, [0, 0, 10, 10]),
        ]);
        let rects = exact(&region).unwrap();
        let area: u32 = rects.iter().map(|r| r.width * r.height).sum();
        assert_eq!(area, 5000);
        let none = attributes(&[(RectangleKind::Subtract, [0, 0, 5, 5])]);
        assert_eq!(exact(&none), Some(Vec::new()));
    }

    #[test]
    fn a_long_region_becomes_its_bounds() {
        let dots: Vec<_> = (0..100).map(|n| (RectangleKind::Add, [n * 10, 0, 1, 1])).collect();
        let region = attributes(&dots);
        assert_eq!(exact(&region), None);
        assert_eq!(region_or_bounds(&region), [Rect::new(0, 0, 991, 1)]);
    }

    #[test]
    fn rectangles_are_brought_within_the_limits() {
        let wild = Rectangle::new((i32::MIN, -5).into(), (i32::MAX, i32::MAX).into());
        assert!(rect(wild).is_sane());
        assert_eq!(rect(Rectangle::new((i32::MAX, 0).into(), (5, 5).into())), Rect::default());
    }
}
