//! Window path, hop 5 of 6: surfaces, their commits, and what a window shows of them.
//!
//! A commit waits in the queue of its surface until its buffer is ready, its window is visible and nothing of that surface
//! was uploaded since the last tick. Then its damaged rows go into the upload ring, it is released, and it is the state
//! that the next tick draws. Commits that must wait behind another are merged: buffers are complete, so the newest
//! content with all the damage says everything.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use inlay_protocol::display::{Child, Commit, Format, SurfaceId, Transform};
use inlay_protocol::geometry::{Point, Rect, RectF, Size};
use inlay_protocol::limits;

use super::buffers::{Buffers, Found};
use super::memory::GuestMemory;
use super::render::{Quad, Renderer, Texture};

/// How long a commit waits for its buffer's pages.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// Commits of one surface that may wait; the agent has at most two in flight.
const WAITING: usize = 4;
/// Largest side of a surface whose pixels are kept for the host's cursor.
const CURSOR_SIDE: u32 = 256;

#[derive(Debug)]
struct Waiting {
    commit: Commit,
    since: Instant,
}

/// A surface of the guest.
#[derive(Debug, Default)]
pub struct Surface {
    waiting: Vec<Waiting>,
    state: Option<Commit>,
    texture: Option<Texture>,
    /// Whether rows were uploaded since the last tick.
    fresh: bool,
    parent: Option<SurfaceId>,
    /// When it was last asked for again.
    refreshed: Option<Instant>,
    /// Pixels of a small surface, for cursor images.
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

/// What happened to surfaces, for the session to tell the agent and the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The commit's rows are in the upload ring (or it was dropped): its buffer is free.
    Released(SurfaceId, u64),
    /// The surface has a new state.
    Applied(SurfaceId),
    /// A commit was dropped: the surface must be sent again.
    Dropped(SurfaceId),
}

/// Why the agent is to be disconnected.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// More surfaces than one connection may have.
    #[error("the agent has more than {} surfaces", limits::SURFACES)]
    TooMany,
    /// More commits in flight than agreed.
    #[error("the agent sends commits of a surface before earlier ones are released")]
    Flood,
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
    /// What was counted.
    pub counters: PixelCounters,
}

/// What commits need to move on.
#[derive(Debug)]
pub struct Means<'a> {
    /// The agent's buffers.
    pub buffers: &'a mut Buffers,
    /// Guest memory.
    pub memory: &'a GuestMemory,
    /// The device.
    pub renderer: &'a mut Renderer,
}

impl Scene {
    /// A surface, if it ever committed.
    #[must_use]
    pub fn get(&self, surface: SurfaceId) -> Option<&Surface> {
        self.surfaces.get(&surface)
    }

    /// Takes a commit; [`Scene::advance`] moves it on.
    ///
    /// # Errors
    /// When the agent breaks its bounds.
    pub fn commit(&mut self, commit: Commit, now: Instant) -> Result<(), SceneError> {
        if !self.surfaces.contains_key(&commit.surface) && self.surfaces.len() >= limits::SURFACES {
            return Err(SceneError::TooMany);
        }
        let surface = self.surfaces.entry(commit.surface).or_default();
        if surface.waiting.len() >= WAITING {
            return Err(SceneError::Flood);
        }
        self.counters.commits += 1;
        surface.waiting.push(Waiting { commit, since: now });
        Ok(())
    }

    /// Forgets a surface.
    pub fn destroy(&mut self, surface: SurfaceId) {
        if self.surfaces.remove(&surface).is_none() {
            return;
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

    /// Moves the waiting commits of a surface on, as far as they may go now.
    pub fn advance(
        &mut self,
        id: SurfaceId,
        visible: bool,
        now: Instant,
        means: &mut Means<'_>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Some(surface) = self.surfaces.get_mut(&id) else { return outcomes };
        while !surface.waiting.is_empty() {
            if !merge(surface, &mut outcomes, id) {
                break;
            }
            let Some(Waiting { commit, since }) = surface.waiting.first() else { break };
            match take(surface.texture.as_ref(), commit, surface.fresh, visible, means) {
                Step::Wait => break,
                Step::NotReady if now.duration_since(*since) < READY_WITHIN => break,
                Step::NotReady | Step::Drop => {
                    tracing::warn!(
                        "surface {}: dropped commit {}: its buffer cannot be read",
                        id.0,
                        commit.number
                    );
                    self.counters.dropped += 1;
                    outcomes.push(Outcome::Released(id, commit.number));
                    if surface.refreshed.is_none_or(|at| now.duration_since(at) >= READY_WITHIN) {
                        surface.refreshed = Some(now);
                        outcomes.push(Outcome::Dropped(id));
                    }
                    surface.waiting.remove(0);
                    continue;
                }
                Step::Taken { texture, bytes, image } => {
                    self.counters.uploaded_bytes += bytes;
                    surface.fresh |= bytes > 0;
                    surface.texture = texture;
                    if image.is_some() || commit.content.is_none() {
                        surface.image = image;
                    }
                }
            }
            let mut commit = surface.waiting.remove(0).commit;
            outcomes.push(Outcome::Released(id, commit.number));
            outcomes.push(Outcome::Applied(id));
            commit.damage = Vec::new();
            surface.state = Some(commit);
        }
        if outcomes.contains(&Outcome::Applied(id)) {
            self.adopt(id);
        }
        outcomes
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
        self.stack(root).into_iter().map(|(id, _)| id).collect()
    }

    /// The tree's surfaces with their places, bottom first.
    fn stack(&self, root: SurfaceId) -> Vec<(SurfaceId, Point)> {
        let mut stack = Vec::new();
        self.stack_into(root, Point::default(), 0, &mut stack);
        stack
    }

    fn stack_into(&self, id: SurfaceId, at: Point, depth: usize, stack: &mut Vec<(SurfaceId, Point)>) {
        for (child, offset) in self.children(id) {
            let at = Point::new(at.x.saturating_add(offset.x), at.y.saturating_add(offset.y));
            if child == id {
                stack.push((id, at));
            } else if depth < limits::TREE_DEPTH
                && stack.len() < limits::SURFACES
                && self.surfaces.get(&child).is_some_and(|s| s.parent == Some(id))
            {
                self.stack_into(child, at, depth + 1, stack);
            }
        }
    }

    /// Marks a tree as shown: its surfaces may upload again.
    pub fn ticked(&mut self, tree: &[SurfaceId]) {
        for id in tree {
            if let Some(surface) = self.surfaces.get_mut(id) {
                surface.fresh = false;
            }
        }
    }

    /// Surfaces that have commits waiting.
    #[must_use]
    pub fn waiting(&self) -> Vec<SurfaceId> {
        self.surfaces.iter().filter(|(_, s)| !s.waiting.is_empty()).map(|(id, _)| *id).collect()
    }

    /// Surfaces whose waiting commits want a frame callback.
    #[must_use]
    pub fn wants_frame(&self) -> Vec<SurfaceId> {
        let wants = |s: &Surface| s.waiting.iter().any(|w| w.commit.wants_frame);
        self.surfaces.iter().filter(|(_, s)| wants(s)).map(|(id, _)| *id).collect()
    }

    /// What a window of this root shows: quads in pixels, with the window geometry's corner at the origin.
    #[must_use]
    pub fn quads(&self, root: SurfaceId) -> Vec<Quad> {
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
                let exact = state.source.is_none()
                    && state.transform == Transform::Normal
                    && state.size == content.size;
                Some(Quad {
                    texture,
                    to: [at.x as f32, at.y as f32, at.right() as f32, at.bottom() as f32],
                    corners,
                    opaque: content.format == Format::Xrgb8888,
                    filtered: !exact,
                })
            })
            .collect()
    }
}

/// Merges commits that wait behind each other, so that at most one upload is left. `false` when there is nothing to do.
fn merge(surface: &mut Surface, outcomes: &mut Vec<Outcome>, id: SurfaceId) -> bool {
    while surface.waiting.len() > 1 {
        let older = surface.waiting.remove(0);
        let Some(newer) = surface.waiting.first_mut() else { return false };
        outcomes.push(Outcome::Released(id, older.commit.number));
        let size = |c: &Commit| c.content.map(|c| (c.size, c.format));
        if size(&older.commit) == size(&newer.commit) {
            newer.commit.damage.extend(older.commit.damage);
            if newer.commit.damage.len() > limits::DAMAGE_RECTS {
                newer.commit.damage = newer.commit.content.iter().map(|c| Rect::of_size(c.size)).collect();
            }
        } else if let Some(content) = newer.commit.content {
            newer.commit.damage = vec![Rect::of_size(content.size)];
        }
        newer.commit.wants_frame |= older.commit.wants_frame;
        newer.commit.acked = newer.commit.acked.or(older.commit.acked);
    }
    true
}

enum Step {
    /// Not now: a tick must come first, or the window is hidden.
    Wait,
    /// The buffer's pages are not known yet.
    NotReady,
    /// The buffer cannot be read.
    Drop,
    /// Its rows, if any, are in the ring.
    Taken { texture: Option<Texture>, bytes: u64, image: Option<(Size, Vec<u8>)> },
}

fn take(
    texture: Option<&Texture>,
    commit: &Commit,
    fresh: bool,
    visible: bool,
    means: &mut Means<'_>,
) -> Step {
    let Some(content) = &commit.content else { return Step::Taken { texture: None, bytes: 0, image: None } };
    let whole = Rect::of_size(content.size);
    let fitting = texture.filter(|t| t.size() == content.size);
    let damage = match fitting {
        None => vec![whole],
        Some(_) => tidy(&commit.damage, whole),
    };
    if damage.is_empty() {
        return Step::Taken { texture: fitting.cloned(), bytes: 0, image: None };
    }
    if fresh || !visible {
        return Step::Wait;
    }
    let backing = match means.buffers.find(content, means.memory) {
        Found::Ready(backing) => backing,
        Found::NotYet => return Step::NotReady,
        Found::Dead => return Step::Drop,
    };
    let Some(texture) = fitting.cloned().or_else(|| means.renderer.texture(content.size)) else {
        return Step::Drop;
    };
    let mut bytes = 0;
    for rect in damage.into_iter().flat_map(bands) {
        let done = means.renderer.upload(&texture, rect, |to, pitch, room| {
            // SAFETY: the ring hands out `room` writable bytes of the device's memory, which is not guest memory.
            let copied = unsafe { backing.copy_rect(content, rect, to, pitch, room) };
            bytes += copied.unwrap_or(0) as u64;
            copied.is_some()
        });
        if !done {
            return Step::Drop;
        }
    }
    let small = content.size.width <= CURSOR_SIDE && content.size.height <= CURSOR_SIDE;
    let image = small.then(|| backing.pixels(content)).flatten().map(|pixels| (content.size, pixels));
    Step::Taken { texture: Some(texture), bytes, image }
}

/// Bands of whole rows that need no more than some megabytes of the upload ring at once.
fn bands(rect: Rect) -> impl Iterator<Item = Rect> {
    const MOST: u32 = 2 << 20;
    let rows = (MOST / rect.width.max(1)).max(1);
    (0..rect.height.div_ceil(rows)).map(move |band| {
        let top = band * rows;
        let height = rows.min(rect.height - top);
        Rect { y: rect.y.saturating_add_unsigned(top), height, ..rect }
    })
}

/// Damage inside the content; the whole of it when the rectangles together are no smaller.
fn tidy(damage: &[Rect], whole: Rect) -> Vec<Rect> {
    let inside: Vec<Rect> = damage.iter().filter_map(|r| r.intersection(whole)).collect();
    let area = |r: &Rect| u64::from(r.width) * u64::from(r.height);
    if inside.iter().map(area).sum::<u64>() >= area(&whole) { vec![whole] } else { inside }
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
    use inlay_protocol::display::{Backing, BufferId, Content};
    use rustix::fs::{MemfdFlags, SealFlags};
    use std::os::fd::OwnedFd;

    struct Fixture {
        scene: Scene,
        buffers: Buffers,
        memory: GuestMemory,
        renderer: Renderer,
        file: OwnedFd,
    }

    const SURFACE: SurfaceId = SurfaceId(1);
    const SIZE: Size = Size::new(33, 17);

    impl Fixture {
        fn new() -> Self {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = rustix::fs::memfd_create("pool", flags).unwrap();
            rustix::fs::ftruncate(&file, 1 << 16).unwrap();
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
            let mut buffers = Buffers::default();
            buffers.create(BufferId(1), 1 << 16, Backing::Memfd, Some(&file)).unwrap();
            let renderer = Renderer::new(None).unwrap();
            Self { scene: Scene::default(), buffers, memory: GuestMemory::default(), renderer, file }
        }

        fn paint(&self, value: u8) {
            rustix::io::pwrite(&self.file, &vec![value; 1 << 16], 0).unwrap();
        }

        fn advance(&mut self, id: SurfaceId, visible: bool, now: Instant) -> Vec<Outcome> {
            let mut means =
                Means { buffers: &mut self.buffers, memory: &self.memory, renderer: &mut self.renderer };
            self.scene.advance(id, visible, now, &mut means)
        }

        fn picture(&mut self) -> Vec<u8> {
            let quads = self.scene.quads(SURFACE);
            self.renderer.picture(SIZE, &quads).unwrap()
        }
    }

    fn commit(number: u64, damage: Vec<Rect>) -> Commit {
        let content = Content {
            buffer: BufferId(1),
            offset: 0,
            size: SIZE,
            stride: 4 * SIZE.width,
            format: Format::Argb8888,
        };
        Commit {
            surface: SURFACE,
            number,
            content: Some(content),
            damage,
            scale: 1,
            transform: Transform::Normal,
            source: None,
            size: SIZE,
            children: vec![],
            input: None,
            opaque: vec![],
            geometry: None,
            acked: None,
            wants_frame: false,
        }
    }

    #[test]
    fn only_damaged_rows_are_copied_and_drawn() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.paint(0x11);
        f.scene.commit(commit(1, vec![]), now).unwrap();
        let done = [Outcome::Released(SURFACE, 1), Outcome::Applied(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now), done);
        assert_eq!(f.scene.counters.uploaded_bytes, 4 * 33 * 17, "a first commit is whole");
        f.scene.ticked(&[SURFACE]);
        f.paint(0x22);
        f.scene.commit(commit(2, vec![Rect::new(5, 6, 2, 3), Rect::new(32, 16, 9, 9)]), now).unwrap();
        f.advance(SURFACE, true, now);
        assert_eq!(f.scene.counters.uploaded_bytes, 4 * (33 * 17 + 6 + 1));
        let picture = f.picture();
        let painted = picture.chunks(4).filter(|p| p[0] == 0x22).count();
        assert_eq!((painted, picture[4 * (6 * 33 + 5)]), (7, 0x22));
    }

    #[test]
    fn a_second_commit_waits_for_the_tick_and_merges_with_a_third() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.scene.commit(commit(1, vec![]), now).unwrap();
        f.advance(SURFACE, true, now);
        f.scene.commit(commit(2, vec![Rect::new(0, 0, 1, 1)]), now).unwrap();
        assert_eq!(f.advance(SURFACE, true, now), []);
        f.scene.commit(commit(3, vec![Rect::new(9, 9, 1, 1)]), now).unwrap();
        assert_eq!(f.advance(SURFACE, true, now), [Outcome::Released(SURFACE, 2)]);
        f.scene.ticked(&[SURFACE]);
        let done = [Outcome::Released(SURFACE, 3), Outcome::Applied(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now), done);
        assert_eq!(f.scene.counters.uploaded_bytes, 4 * (33 * 17 + 2));
    }

    #[test]
    fn a_hidden_window_uploads_nothing() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.scene.commit(commit(1, vec![]), now).unwrap();
        assert_eq!(f.advance(SURFACE, false, now), []);
        assert_eq!(f.scene.counters.uploaded_bytes, 0);
    }

    #[test]
    fn a_resource_that_never_comes_costs_one_second_and_one_commit() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.buffers.create(BufferId(2), 4096, Backing::VirtioGpu { resource: 4 }, None).unwrap();
        let mut late = commit(1, vec![]);
        late.content.as_mut().unwrap().buffer = BufferId(2);
        f.scene.commit(late, now).unwrap();
        assert_eq!(f.advance(SURFACE, true, now + READY_WITHIN / 2), []);
        let dropped = [Outcome::Released(SURFACE, 1), Outcome::Dropped(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now + READY_WITHIN), dropped);
        assert_eq!(f.scene.counters.dropped, 1);
    }

    #[test]
    fn a_flood_of_commits_is_an_error() {
        let mut f = Fixture::new();
        let now = Instant::now();
        let flood = (1..10).try_for_each(|n| f.scene.commit(commit(n, vec![]), now));
        assert!(matches!(flood, Err(SceneError::Flood)));
    }

    #[test]
    fn bands_cover_a_rectangle_once() {
        for rect in [Rect::new(3, 5, 16_384, 16_384), Rect::new(0, 7, 1, 3), Rect::new(1, 1, 1920, 1080)] {
            let all: Vec<Rect> = bands(rect).collect();
            assert_eq!(all.iter().map(|r| r.height).sum::<u32>(), rect.height);
            assert!(all.windows(2).all(|w| w[0].bottom() == i64::from(w[1].y)));
            assert!(all.iter().all(|r| r.width == rect.width && r.width * r.height <= 2 << 20));
        }
    }

    #[test]
    fn trees_with_loops_end() {
        let mut f = Fixture::new();
        let now = Instant::now();
        let child = |id| Child::Subsurface { surface: SurfaceId(id), position: Point::new(1, 1) };
        for (id, other) in [(1, 2), (2, 1)] {
            let mut c = commit(1, vec![]);
            c.surface = SurfaceId(id);
            c.children = vec![Child::Itself, child(other)];
            f.scene.commit(c, now).unwrap();
            f.advance(SurfaceId(id), true, now);
        }
        assert!(f.scene.tree(SURFACE).len() <= limits::SURFACES + 1);
        assert!([1, 2].map(SurfaceId).contains(&f.scene.root(SURFACE)));
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
