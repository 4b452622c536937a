//! Window path, hop 5 of 6: how commits become the state of their surfaces.
//!
//! A commit waits until its buffer is ready, its window is visible and nothing of its surface was uploaded since the last
//! tick. Then its damaged rows go into the upload ring, it is released, and it is the state that the next tick draws. A
//! commit that comes meanwhile is merged with the one that waits: buffers are complete, so the newest content with all
//! the damage says everything. Commits of one transaction go on together or not at all: no tick shows half of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_protocol::display::{Commit, SurfaceId};
use inlay_protocol::geometry::Rect;
use inlay_protocol::limits;

use super::{CURSOR_SIDE, Scene, SceneError, Surface};
use crate::windows::buffers::{Buffers, Found};
use crate::windows::memory::GuestMemory;
use crate::windows::pixels::Backing;
use crate::windows::render::Renderer;

/// Dropped commits that are logged.
const WARNINGS: u64 = 16;
/// Bytes that are copied between two ticks; what comes after them waits for the tick. More than the largest screens need,
/// and little enough for the loop to answer in between.
const PER_TICK: u64 = 128 << 20;
/// How long a commit waits for its buffer's pages.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// The group of commits that came in a transaction of their own.
const ALONE: u64 = 0;

#[derive(Debug)]
pub(super) struct Waiting {
    pub commit: Commit,
    since: Instant,
    /// Commits of one group go on together.
    pub group: u64,
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
    /// Takes the commits of a transaction; [`Scene::advance`] moves them on. Tells of commits that newer ones replaced.
    ///
    /// # Errors
    /// When the agent breaks its bounds.
    pub fn transaction(&mut self, commits: Vec<Commit>, now: Instant) -> Result<Vec<Outcome>, SceneError> {
        let mut group = ALONE;
        if commits.len() > 1 {
            self.newest_group += 1;
            group = self.newest_group;
        }
        let (mut outcomes, mut members, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        for commit in commits {
            let id = commit.surface;
            if !self.surfaces.contains_key(&id) && self.surfaces.len() >= limits::SURFACES {
                return Err(SceneError::TooMany);
            }
            self.counters.commits += 1;
            let surface = self.surfaces.entry(id).or_default();
            let mut waiting = Waiting { commit, since: now, group };
            if let Some(older) = surface.waiting.take() {
                outcomes.push(Outcome::Released(id, older.commit.number));
                if group == ALONE {
                    waiting.group = older.group;
                } else if older.group != group && older.group != ALONE {
                    joined.push(older.group);
                }
                merge(older.commit, &mut waiting.commit);
            }
            surface.waiting = Some(waiting);
            members.push(id);
        }
        // What a waiting transaction shares a surface with can only be shown together with it.
        for older in joined {
            for id in self.groups.remove(&older).unwrap_or_default() {
                if let Some(waiting) = self.surfaces.get_mut(&id).and_then(|s| s.waiting.as_mut())
                    && waiting.group == older
                {
                    waiting.group = group;
                    members.push(id);
                }
            }
        }
        if group != ALONE {
            self.groups.insert(group, members);
        }
        Ok(outcomes)
    }

    /// The surfaces whose waiting commits go on together with this one's.
    #[must_use]
    pub fn group(&self, id: SurfaceId) -> Vec<SurfaceId> {
        let waiting = |id: &SurfaceId| self.surfaces.get(id)?.waiting.as_ref();
        match waiting(&id).map(|w| w.group) {
            None => Vec::new(),
            Some(ALONE) => vec![id],
            Some(group) => {
                let members = self.groups.get(&group).map(Vec::as_slice).unwrap_or_default();
                members.iter().copied().filter(|m| waiting(m).is_some_and(|w| w.group == group)).collect()
            }
        }
    }

    /// A surface of a group has no waiting commit any more.
    pub(super) fn leave(&mut self, group: u64, id: SurfaceId) {
        if let Some(members) = self.groups.get_mut(&group) {
            members.retain(|m| *m != id);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Moves the waiting commits of a group on, if all of them may go now. Those whose window cannot be seen stay behind.
    pub fn advance(
        &mut self,
        members: &[(SurfaceId, bool)],
        now: Instant,
        means: &mut Means<'_>,
    ) -> Vec<Outcome> {
        let mut plans = Vec::new();
        for (id, visible) in members {
            let Some(surface) = self.surfaces.get(id) else { continue };
            let Some(waiting) = &surface.waiting else { continue };
            match plan(surface, waiting, *visible, now, means) {
                Plan::Hidden => {}
                Plan::Wait => return Vec::new(),
                plan => plans.push((*id, plan)),
            }
        }
        let copies = |plan: &Plan| matches!(plan, Plan::Copy(..));
        if self.since_tick >= PER_TICK && plans.iter().any(|(_, plan)| copies(plan)) {
            return Vec::new();
        }
        let mut outcomes = Vec::new();
        for (id, plan) in plans {
            if self.since_tick >= 2 * PER_TICK && copies(&plan) {
                // No screen is that large: such a group is shown piece by piece.
                continue;
            }
            self.carry_out(id, plan, now, means, &mut outcomes);
        }
        outcomes
    }

    fn carry_out(
        &mut self,
        id: SurfaceId,
        plan: Plan,
        now: Instant,
        means: &mut Means<'_>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(surface) = self.surfaces.get_mut(&id) else { return };
        let Some(Waiting { mut commit, group, .. }) = surface.waiting.take() else { return };
        outcomes.push(Outcome::Released(id, commit.number));
        match take(surface, &commit, plan, means) {
            Some(bytes) => {
                self.counters.uploaded_bytes += bytes;
                self.since_tick += bytes;
                surface.fresh |= bytes > 0;
                commit.damage = Vec::new();
                surface.state = Some(commit);
                outcomes.push(Outcome::Applied(id));
                self.adopt(id);
            }
            None => {
                // Not for every one: an agent must not fill the host's log.
                if self.counters.dropped < WARNINGS {
                    let number = commit.number;
                    tracing::warn!("surface {}: dropped commit {number}: its buffer cannot be read", id.0);
                }
                self.counters.dropped += 1;
                if surface.refreshed.is_none_or(|at| now.duration_since(at) >= READY_WITHIN) {
                    surface.refreshed = Some(now);
                    outcomes.push(Outcome::Dropped(id));
                }
            }
        }
        self.leave(group, id);
    }

    /// Surfaces that have commits waiting.
    #[must_use]
    pub fn waiting(&self) -> Vec<SurfaceId> {
        self.surfaces.iter().filter(|(_, s)| s.waiting.is_some()).map(|(id, _)| *id).collect()
    }

    /// Surfaces whose waiting commits want a frame callback.
    #[must_use]
    pub fn wants_frame(&self) -> Vec<SurfaceId> {
        let wants = |s: &Surface| s.waiting.as_ref().is_some_and(|w| w.commit.wants_frame);
        self.surfaces.iter().filter(|(_, s)| wants(s)).map(|(id, _)| *id).collect()
    }
}

/// Puts what an older commit said, and no tick has shown, into the one that replaces it.
fn merge(older: Commit, newer: &mut Commit) {
    let size = |c: &Commit| c.content.map(|c| (c.size, c.format));
    if size(&older) == size(newer) {
        newer.damage.extend(older.damage);
        if newer.damage.len() > limits::DAMAGE_RECTS {
            newer.damage = newer.content.iter().map(|c| Rect::of_size(c.size)).collect();
        }
    } else if let Some(content) = newer.content {
        newer.damage = vec![Rect::of_size(content.size)];
    }
    newer.wants_frame |= older.wants_frame;
    newer.acked = newer.acked.or(older.acked);
}

/// What is to be done with a waiting commit.
enum Plan {
    /// Not now: its window cannot be seen.
    Hidden,
    /// Not now: a tick must come first, or the buffer's pages are not known yet.
    Wait,
    /// The buffer cannot be read.
    Drop,
    /// The surface has no content any more.
    Clear,
    /// No pixel changes.
    Keep,
    /// These rows are to be copied.
    Copy(Vec<Rect>, Arc<Backing>),
}

fn plan(surface: &Surface, waiting: &Waiting, visible: bool, now: Instant, means: &mut Means<'_>) -> Plan {
    let Some(content) = &waiting.commit.content else { return Plan::Clear };
    let whole = Rect::of_size(content.size);
    let fits = surface.texture.as_ref().is_some_and(|t| t.size() == content.size);
    let damage = if fits { tidy(&waiting.commit.damage, whole) } else { vec![whole] };
    if damage.is_empty() {
        return Plan::Keep;
    }
    if !visible {
        return Plan::Hidden;
    }
    if surface.fresh {
        return Plan::Wait;
    }
    match means.buffers.find(content, means.memory) {
        Found::Ready(backing) => Plan::Copy(damage, backing),
        Found::NotYet if now.duration_since(waiting.since) < READY_WITHIN => Plan::Wait,
        Found::NotYet | Found::Dead => Plan::Drop,
    }
}

/// Gives a surface the content of a commit; the bytes that were copied, or nothing when that cannot be done.
fn take(surface: &mut Surface, commit: &Commit, plan: Plan, means: &mut Means<'_>) -> Option<u64> {
    let (damage, backing) = match plan {
        Plan::Hidden | Plan::Wait | Plan::Drop => return None,
        Plan::Clear => {
            (surface.texture, surface.image) = (None, None);
            return Some(0);
        }
        Plan::Keep => return Some(0),
        Plan::Copy(damage, backing) => (damage, backing),
    };
    let content = commit.content.as_ref()?;
    let fitting = surface.texture.clone().filter(|t| t.size() == content.size);
    let texture = fitting.or_else(|| means.renderer.texture(content.size))?;
    let mut bytes = 0;
    for rect in damage.into_iter().flat_map(bands) {
        let done = means.renderer.upload(&texture, rect, |to, pitch, room| {
            // SAFETY: the ring hands out `room` writable bytes of the device's memory, which is not guest memory.
            let copied = unsafe { backing.copy_rect(content, rect, to, pitch, room) };
            bytes += copied.unwrap_or(0) as u64;
            copied.is_some()
        });
        if !done {
            return None;
        }
    }
    surface.texture = Some(texture);
    let small = content.size.width <= CURSOR_SIDE && content.size.height <= CURSOR_SIDE;
    if surface.is_cursor {
        let pixels = small.then(|| backing.pixels(content)).flatten();
        surface.image = pixels.map(|pixels| (content.size, pixels));
    }
    Some(bytes)
}

/// Bands of whole rows that need no more than some megabytes of the upload ring at once.
pub fn bands(rect: Rect) -> impl Iterator<Item = Rect> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::scene::CURSORS;
    use inlay_protocol::display::{self, BufferId, Content};
    use inlay_protocol::display::{Child, Format, Transform};
    use inlay_protocol::geometry::{Point, Size};
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
            buffers.create(BufferId(1), 1 << 16, display::Backing::Memfd, Some(&file)).unwrap();
            let renderer = Renderer::new(None).unwrap();
            Self { scene: Scene::default(), buffers, memory: GuestMemory::default(), renderer, file }
        }

        fn paint(&self, value: u8) {
            rustix::io::pwrite(&self.file, &vec![value; 1 << 16], 0).unwrap();
        }

        fn advance(&mut self, id: SurfaceId, visible: bool, now: Instant) -> Vec<Outcome> {
            let mut means =
                Means { buffers: &mut self.buffers, memory: &self.memory, renderer: &mut self.renderer };
            let members: Vec<_> = self.scene.group(id).into_iter().map(|m| (m, visible)).collect();
            self.scene.advance(&members, now, &mut means)
        }

        fn commit(&mut self, commit: Commit, now: Instant) -> Vec<Outcome> {
            self.scene.transaction(vec![commit], now).unwrap()
        }

        fn picture(&mut self) -> Vec<u8> {
            let quads = self.scene.quads(SURFACE, 120);
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
        f.commit(commit(1, vec![]), now);
        let done = [Outcome::Released(SURFACE, 1), Outcome::Applied(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now), done);
        assert_eq!(f.scene.counters.uploaded_bytes, 4 * 33 * 17, "a first commit is whole");
        f.scene.ticked(&[SURFACE]);
        f.paint(0x22);
        f.commit(commit(2, vec![Rect::new(5, 6, 2, 3), Rect::new(32, 16, 9, 9)]), now);
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
        f.commit(commit(1, vec![]), now);
        f.advance(SURFACE, true, now);
        f.commit(commit(2, vec![Rect::new(0, 0, 1, 1)]), now);
        assert_eq!(f.advance(SURFACE, true, now), []);
        let third = commit(3, vec![Rect::new(9, 9, 1, 1)]);
        assert_eq!(f.commit(third, now), [Outcome::Released(SURFACE, 2)]);
        assert_eq!(f.advance(SURFACE, true, now), []);
        f.scene.ticked(&[SURFACE]);
        let done = [Outcome::Released(SURFACE, 3), Outcome::Applied(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now), done);
        assert_eq!(f.scene.counters.uploaded_bytes, 4 * (33 * 17 + 2));
    }

    #[test]
    fn a_hidden_window_uploads_nothing() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.commit(commit(1, vec![]), now);
        assert_eq!(f.advance(SURFACE, false, now), []);
        assert_eq!(f.scene.counters.uploaded_bytes, 0);
    }

    #[test]
    fn a_resource_that_never_comes_costs_one_second_and_one_commit() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.buffers.create(BufferId(2), 4096, display::Backing::VirtioGpu { resource: 4 }, None).unwrap();
        let mut late = commit(1, vec![]);
        late.content.as_mut().unwrap().buffer = BufferId(2);
        f.commit(late, now);
        assert_eq!(f.advance(SURFACE, true, now + READY_WITHIN / 2), []);
        let dropped = [Outcome::Released(SURFACE, 1), Outcome::Dropped(SURFACE)];
        assert_eq!(f.advance(SURFACE, true, now + READY_WITHIN), dropped);
        assert_eq!(f.scene.counters.dropped, 1);
    }

    #[test]
    fn a_flood_of_commits_is_one_commit() {
        let mut f = Fixture::new();
        let now = Instant::now();
        for n in 1..1000 {
            f.commit(commit(n, vec![Rect::new(1, 1, 1, 1); 9]), now);
        }
        let waiting = f.scene.surfaces[&SURFACE].waiting.as_ref().unwrap();
        assert!(waiting.commit.damage.len() <= limits::DAMAGE_RECTS + 9);
        assert_eq!(f.advance(SURFACE, true, now)[0], Outcome::Released(SURFACE, 999));
    }

    fn of(surface: u32, number: u64) -> Commit {
        Commit { surface: SurfaceId(surface), ..commit(number, vec![Rect::new(0, 0, 1, 1)]) }
    }

    #[test]
    fn commits_of_a_transaction_go_on_together() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.scene.transaction(vec![of(1, 1), of(2, 1)], now).unwrap();
        assert_eq!(f.advance(SURFACE, true, now).len(), 4, "released and applied, both");
        f.scene.ticked(&[SURFACE, SurfaceId(2)]);
        // The first surface is shown with a commit of its own: its next one waits for the tick, and the other with it.
        f.commit(of(1, 2), now);
        assert_eq!(f.advance(SURFACE, true, now).len(), 2);
        f.scene.transaction(vec![of(1, 3), of(2, 3)], now).unwrap();
        assert_eq!(f.advance(SurfaceId(2), true, now), []);
        // A transaction that shares a surface with one that waits joins it.
        f.scene.transaction(vec![of(2, 4), of(3, 4)], now).unwrap();
        assert_eq!(f.advance(SurfaceId(3), true, now), []);
        f.commit(of(3, 5), now);
        f.scene.ticked(&[SURFACE]);
        let mut done: Vec<_> = f.advance(SurfaceId(3), true, now);
        done.retain(|o| matches!(o, Outcome::Released(..)));
        done.sort_by_key(|o| match o {
            Outcome::Released(surface, _) => surface.0,
            _ => 0,
        });
        let all = [(1, 3), (2, 4), (3, 5)].map(|(s, n)| Outcome::Released(SurfaceId(s), n));
        assert_eq!(done, all);
        assert!(f.scene.groups.is_empty(), "{:?}", f.scene.groups);
    }

    #[test]
    fn a_group_does_not_wait_for_what_cannot_come() {
        let mut f = Fixture::new();
        let now = Instant::now();
        let mut dead = of(2, 1);
        dead.content.as_mut().unwrap().buffer = BufferId(77);
        f.scene.transaction(vec![of(1, 1), dead], now).unwrap();
        let done = f.advance(SURFACE, true, now);
        assert!(done.contains(&Outcome::Applied(SURFACE)) && done.contains(&Outcome::Dropped(SurfaceId(2))));
        // One that cannot be seen stays behind, and one that is destroyed leaves nothing.
        f.scene.ticked(&[SURFACE]);
        f.scene.transaction(vec![of(1, 2), of(3, 2)], now).unwrap();
        let mut means = Means { buffers: &mut f.buffers, memory: &f.memory, renderer: &mut f.renderer };
        let done = f.scene.advance(&[(SURFACE, true), (SurfaceId(3), false)], now, &mut means);
        assert_eq!(done, [Outcome::Released(SURFACE, 2), Outcome::Applied(SURFACE)]);
        f.scene.destroy(SurfaceId(3));
        assert!(f.scene.groups.is_empty() && f.scene.waiting().is_empty());
    }

    #[test]
    fn pixels_are_kept_of_cursors_only_and_of_few() {
        let mut f = Fixture::new();
        let now = Instant::now();
        f.commit(of(1, 1), now);
        f.advance(SURFACE, true, now);
        assert!(f.scene.get(SURFACE).unwrap().image().is_none());
        assert!(f.scene.name_cursor(SURFACE), "it must be sent again");
        assert!(!f.scene.name_cursor(SURFACE));
        f.scene.ticked(&[SURFACE]);
        f.commit(of(1, 2), now);
        f.advance(SURFACE, true, now);
        assert!(f.scene.get(SURFACE).unwrap().image().is_some());
        assert!((2..200).all(|id| !f.scene.name_cursor(SurfaceId(id))));
        assert!(f.scene.get(SURFACE).unwrap().image().is_none(), "the oldest was forgotten");
        assert_eq!(f.scene.surfaces.values().filter(|s| s.is_cursor).count(), CURSORS);
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
            f.commit(c, now);
            f.advance(SurfaceId(id), true, now);
        }
        assert!(f.scene.tree(SURFACE).len() <= limits::SURFACES + 1);
        assert!([1, 2].map(SurfaceId).contains(&f.scene.root(SURFACE)));
    }
}
