//! Window path, hop 5 of 6: surfaces, their commits, and what a window shows of them.
//!
//! [`commits`] moves commits on until they are the state of their surface; here is what that state looks like.

mod commits;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use inlay_protocol::display::{Child, Commit, Format, SurfaceId, Transform};
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use inlay_protocol::limits;

use super::render::{Quad, Texture};
use commits::Waiting;
pub use commits::{Means, Outcome, bands};

/// Largest side of a surface whose pixels are kept for the host's cursor.
pub const CURSOR_SIDE: u32 = 256;
/// Surfaces whose pixels are kept for the host's cursor.
const CURSORS: usize = 64;

/// A surface of the guest.
#[derive(Debug, Default)]
pub struct Surface {
    waiting: Option<Waiting>,
    state: Option<Commit>,
    texture: Option<Texture>,
    /// Whether rows were uploaded since the last tick.
    fresh: bool,
    parent: Option<SurfaceId>,
    /// When it was last asked for again.
    refreshed: Option<Instant>,
    /// Whether it was named as a cursor.
    is_cursor: bool,
    /// Pixels of a small cursor.
    image: Option<(Size, Vec<u8>)>,
}

impl Surface {
    /// The applied state, without its damage.
    #[must_use]
    pub fn state(&self) -> Option<&Commit> {
        self.state.as_ref()
    }

    /// Whether it has content.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.texture.is_some() && self.state.as_ref().is_some_and(|s| s.content.is_some())
    }

    /// The window geometry, or the whole surface where the app set none.
    #[must_use]
    pub fn geometry(&self) -> Rect {
        let Some(state) = &self.state else { return Rect::default() };
        let whole = Rect::of_size(state.size);
        state.geometry.and_then(|g| g.intersection(whole)).unwrap_or(whole)
    }

    /// Pixels for a cursor image: size, then rows of blue, green, red, alpha, premultiplied.
    #[must_use]
    pub fn image(&self) -> Option<&(Size, Vec<u8>)> {
        self.image.as_ref()
    }
}

/// Why the agent is to be disconnected.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// More surfaces than one connection may have.
    #[error("the agent has more than {} surfaces", limits::SURFACES)]
    TooMany,
}

/// Figures of the pixel path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PixelCounters {
    /// Commits taken.
    pub commits: u64,
    /// Commits dropped because their buffer never became ready or went away.
    pub dropped: u64,
    /// Bytes copied into the upload ring.
    pub uploaded_bytes: u64,
}

/// All surfaces of one display connection.
#[derive(Debug, Default)]
pub struct Scene {
    surfaces: HashMap<SurfaceId, Surface>,
    /// Surfaces with waiting commits of one group; at least those.
    groups: HashMap<u64, Vec<SurfaceId>>,
    newest_group: u64,
    /// Bytes copied since the last tick.
    since_tick: u64,
    /// Surfaces that were named as cursors, oldest first.
    cursors: VecDeque<SurfaceId>,
    /// What was counted.
    pub counters: PixelCounters,
}

impl Scene {
    /// A surface, if it ever committed.
    #[must_use]
    pub fn get(&self, surface: SurfaceId) -> Option<&Surface> {
        self.surfaces.get(&surface)
    }

    /// Forgets a surface.
    pub fn destroy(&mut self, surface: SurfaceId) {
        let Some(gone) = self.surfaces.remove(&surface) else { return };
        if let Some(Waiting { group, .. }) = gone.waiting {
            self.leave(group, surface);
        }
        if gone.is_cursor {
            self.cursors.retain(|c| *c != surface);
        }
        for other in self.surfaces.values_mut() {
            if other.parent == Some(surface) {
                other.parent = None;
            }
        }
    }

    /// The surface that a subsurface's tree hangs on; itself when it has no parent.
    #[must_use]
    pub fn root(&self, surface: SurfaceId) -> SurfaceId {
        let mut root = surface;
        for _ in 0..limits::TREE_DEPTH {
            match self.surfaces.get(&root).and_then(|s| s.parent) {
                Some(parent) => root = parent,
                None => break,
            }
        }
        root
    }

    /// Notes that a surface is a cursor: its pixels are kept from now on. `true` when it has some already, which must be
    /// asked for again.
    pub fn name_cursor(&mut self, id: SurfaceId) -> bool {
        if !self.surfaces.contains_key(&id) && self.surfaces.len() >= limits::SURFACES {
            return false;
        }
        let surface = self.surfaces.entry(id).or_default();
        if surface.is_cursor {
            return false;
        }
        surface.is_cursor = true;
        let mapped = surface.is_mapped();
        self.cursors.push_back(id);
        if self.cursors.len() > CURSORS
            && let Some(old) = self.cursors.pop_front().and_then(|old| self.surfaces.get_mut(&old))
        {
            (old.is_cursor, old.image) = (false, None);
        }
        mapped
    }

    /// Notes the parents of the subsurfaces that a surface lists.
    fn adopt(&mut self, parent: SurfaceId) {
        let listed: Vec<SurfaceId> =
            self.children(parent).filter_map(|(id, _)| (id != parent).then_some(id)).collect();
        for (id, surface) in &mut self.surfaces {
            if surface.parent == Some(parent) && !listed.contains(id) {
                surface.parent = None;
            }
        }
        for id in listed {
            // Its own first commit may come later.
            if self.surfaces.len() < limits::SURFACES || self.surfaces.contains_key(&id) {
                self.surfaces.entry(id).or_default().parent = Some(parent);
            }
        }
    }

    fn children(&self, surface: SurfaceId) -> impl Iterator<Item = (SurfaceId, Point)> {
        let state = self.surfaces.get(&surface).and_then(|s| s.state.as_ref());
        let list = state.map(|s| s.children.as_slice()).unwrap_or_default();
        let alone = list.is_empty().then_some((surface, Point::default()));
        let listed = list.iter().map(move |child| match child {
            Child::Itself => (surface, Point::default()),
            Child::Subsurface { surface, position } => (*surface, *position),
        });
        alone.into_iter().chain(listed)
    }

    /// Every surface of a tree.
    #[must_use]
    pub fn tree(&self, root: SurfaceId) -> Vec<SurfaceId> {
        let mut stack = Vec::new();
        self.stack_into(root, Point::default(), 0, &|_| true, &mut stack);
        stack.into_iter().map(|(id, _)| id).collect()
    }

    /// The surfaces of a tree that are seen, with their places, bottom first: not what hangs on one without content.
    fn stack(&self, root: SurfaceId) -> Vec<(SurfaceId, Point)> {
        let mut stack = Vec::new();
        let seen = |id| self.surfaces.get(&id).is_some_and(Surface::is_mapped);
        self.stack_into(root, Point::default(), 0, &seen, &mut stack);
        stack
    }

    fn stack_into(
        &self,
        id: SurfaceId,
        at: Point,
        depth: usize,
        goes: &dyn Fn(SurfaceId) -> bool,
        stack: &mut Vec<(SurfaceId, Point)>,
    ) {
        if !goes(id) {
            return;
        }
        for (child, offset) in self.children(id) {
            let at = Point::new(at.x.saturating_add(offset.x), at.y.saturating_add(offset.y));
            if child == id {
                stack.push((id, at));
            } else if depth < limits::TREE_DEPTH
                && stack.len() < limits::SURFACES
                && self.surfaces.get(&child).is_some_and(|s| s.parent == Some(id))
            {
                self.stack_into(child, at, depth + 1, goes, stack);
            }
        }
    }

    /// A tick begins: bytes may be copied again.
    pub fn tick(&mut self) {
        self.since_tick = 0;
    }

    /// Marks a tree as shown: its surfaces may upload again.
    pub fn ticked(&mut self, tree: &[SurfaceId]) {
        for id in tree {
            if let Some(surface) = self.surfaces.get_mut(id) {
                surface.fresh = false;
            }
        }
    }

    /// What a window of this root shows at a scale in 120ths: quads in pixels, with the window geometry's corner at the origin.
    #[must_use]
    pub fn quads(&self, root: SurfaceId, scale_120: u32) -> Vec<Quad> {
        let Some(surface) = self.surfaces.get(&root) else { return Vec::new() };
        let geometry = surface.geometry();
        let origin = Point::new(geometry.x.saturating_neg(), geometry.y.saturating_neg());
        self.stack(root)
            .into_iter()
            .filter_map(|(id, at)| {
                let surface = self.surfaces.get(&id)?;
                let state = surface.state.as_ref()?;
                let content = state.content.as_ref()?;
                let texture = surface.texture.clone()?;
                let at = Rect::of_size(state.size).translated(at).translated(origin);
                let corners = texture_corners(content.size, state.scale, state.transform, state.source);
                let [left, right] = edges(at.x, at.width, content.size.width, scale_120);
                let [top, bottom] = edges(at.y, at.height, content.size.height, scale_120);
                let drawn = [right - left, bottom - top];
                let exact = state.source.is_none()
                    && state.transform == Transform::Normal
                    && drawn == [content.size.width, content.size.height].map(i64::from);
                Some(Quad {
                    texture,
                    to: [left, top, right, bottom].map(|edge| edge as f32),
                    corners,
                    opaque: content.format == Format::Xrgb8888
                        || state.opaque.iter().any(|rect| rect.contains(Rect::of_size(state.size))),
                    filtered: !exact,
                })
            })
            .collect()
    }
}

/// Where an extent of logical pixels begins and ends in pixels: on whole ones, and as long as its content where rounding allows
/// that, so that text stays crisp.
fn edges(start: i32, length: u32, content: u32, scale_120: u32) -> [i64; 2] {
    let round = |v: i64| (v * i64::from(scale_120) + 60).div_euclid(120);
    let first = round(start.into());
    let last = round(i64::from(start) + i64::from(length));
    let whole = first + i64::from(content);
    if last.abs_diff(whole) <= 1 { [first, whole] } else { [first, last] }
}

/// Texture coordinates of the surface's corners: `wl_surface.set_buffer_transform` and `wp_viewport.set_source`.
#[expect(clippy::cast_possible_truncation, reason = "texture coordinates need no more than single precision")]
fn texture_corners(buffer: Size, scale: u32, transform: Transform, source: Option<RectF>) -> [[f32; 2]; 4] {
    use Transform::{Flipped, Flipped90, Flipped180, Flipped270, Normal, Rotated90, Rotated180, Rotated270};
    let turned = matches!(transform, Rotated90 | Rotated270 | Flipped90 | Flipped270);
    let (width, height) = if turned { (buffer.height, buffer.width) } else { (buffer.width, buffer.height) };
    let (width, height) = (f64::from(width) / f64::from(scale), f64::from(height) / f64::from(scale));
    let whole = RectF { x: 0.0, y: 0.0, width, height };
    let part = source.unwrap_or(whole);
    let left = part.x / width;
    let top = part.y / height;
    let right = (part.x + part.width) / width;
    let bottom = (part.y + part.height) / height;
    [(left, top), (right, top), (right, bottom), (left, bottom)].map(|(u, v)| {
        let (u, v) = match transform {
            Normal => (u, v),
            Rotated90 => (v, 1.0 - u),
            Rotated180 => (1.0 - u, 1.0 - v),
            Rotated270 => (1.0 - v, u),
            Flipped => (1.0 - u, v),
            Flipped90 => (v, u),
            Flipped180 => (u, 1.0 - v),
            Flipped270 => (1.0 - v, 1.0 - u),
        };
        [u as f32, v as f32]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_a_fraction_fall_on_texels() {
        assert_eq!(edges(3, 10, 10, 120), [3, 13]);
        assert_eq!(edges(-3, 10, 20, 240), [-6, 14]);
        // 801 * 1.25 = 1001.25; what begins at 5 * 1.25 = 6.25 ends at 1007.5.
        assert_eq!(edges(0, 801, 1001, 150), [0, 1001]);
        assert_eq!(edges(5, 801, 1001, 150), [6, 1007]);
        // Made for another scale: filtered into its place.
        assert_eq!(edges(5, 801, 801, 150), [6, 1008]);
    }

    #[test]
    fn turned_buffers_show_their_corners_where_they_belong() {
        let at = |t| texture_corners(Size::new(4, 2), 1, t, None)[0];
        assert_eq!(at(Transform::Normal), [0.0, 0.0]);
        // The buffer holds the image turned counter-clockwise: its upper left corner is at the lower left.
        assert_eq!(at(Transform::Rotated90), [0.0, 1.0]);
        assert_eq!(at(Transform::Rotated180), [1.0, 1.0]);
        assert_eq!(at(Transform::Rotated270), [1.0, 0.0]);
        let source = Some(RectF { x: 1.0, y: 1.0, width: 2.0, height: 1.0 });
        let part = texture_corners(Size::new(8, 4), 2, Transform::Normal, source);
        assert_eq!(part, [[0.25, 0.5], [0.75, 0.5], [0.75, 1.0], [0.25, 1.0]]);
    }
}
