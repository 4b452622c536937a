//! Window path, hop 6 of 6: what a commit does to its window, configures, and the tick.

use std::time::{Duration, Instant};

use inlay_protocol::display::{Cursor, Event, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};

use super::roles::ANNOUNCED;
use super::{News, Session, SessionError, Tools};
use crate::windows::presenter::framed::{self, Border};
use crate::windows::presenter::{Ended, Presenter};
use crate::windows::render::{self, Drawn, Quad, Renderer};
use crate::windows::scene::{Means, Outcome};
use crate::windows::window::{Pace, Role, Told, Wish};

/// A window whose frame the desktop has not shown for this time cannot be seen.
const STARVED: Duration = Duration::from_secs(1);

/// How windows look is told no oftener, where ticks only gather: each change makes the desktop work.
const TELL: Duration = Duration::from_millis(16);

/// How long a window keeps a size that its app does not follow, before it takes the app's.
const MISFIT: Duration = Duration::from_millis(300);

impl Session {
    /// Moves the waiting commit of a surface on, with those that belong to it, and follows what came of it.
    pub(super) fn advance(
        &mut self,
        surface: SurfaceId,
        now: Instant,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let members: Vec<(SurfaceId, bool)> =
            self.scene.group(surface).into_iter().map(|id| (id, self.is_shown(id))).collect();
        let mut means =
            Means { buffers: &mut self.buffers, memory: tools.memory, renderer: &mut *tools.renderer };
        let outcomes = self.scene.advance(&members, now, &mut means);
        self.follow(outcomes, now, tools)
    }

    pub(super) fn follow(
        &mut self,
        outcomes: Vec<Outcome>,
        now: Instant,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        for outcome in outcomes {
            match outcome {
                Outcome::Released(surface, number) => {
                    self.uploads.note(surface, number);
                    self.released.push((surface, number));
                }
                Outcome::Dropped(surface) => self.tell(&Event::Refresh { surface: Some(surface) })?,
                Outcome::Applied(surface) => self.applied(surface, now, tools)?,
            }
        }
        Ok(())
    }

    pub(super) fn applied(
        &mut self,
        surface: SurfaceId,
        now: Instant,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        if matches!(self.cursor, Cursor::Surface { surface: s, .. } if s == surface) {
            self.news.add(News::CURSOR);
        }
        let root = self.scene.root(surface);
        self.drags.changed(root);
        let wants_frame = self.scene.get(surface).and_then(|s| s.state()).is_some_and(|s| s.wants_frame);
        let Some(window) = self.windows.get_mut(&root) else {
            return Ok(());
        };
        window.dirty = true;
        window.wants_frame |= wants_frame;
        if root != surface {
            return Ok(());
        }
        let Some(content) = self.scene.get(root) else { return Ok(()) };
        let size = content.geometry().size();
        window.acknowledge(content.state().and_then(|s| s.acked), size);
        match (content.is_mapped() && !size.is_empty(), window.is_open()) {
            (true, false) => self.open(root, size, tools)?,
            (false, true) => {
                self.close_window(root, tools);
                self.grab_changed(tools.presenter)?;
            }
            (true, true) => self.fit(root, size, now, &*tools.presenter),
            (false, false) => {}
        }
        Ok(())
    }

    /// Compares the app's size with the host's. An app that chose another size by itself gets it with the next tick.
    pub(super) fn fit(&mut self, root: SurfaceId, size: Size, now: Instant, presenter: &dyn Presenter) {
        let Some(window) = self.windows.get_mut(&root) else { return };
        let size = if size == window.size { size } else { Self::fitting(size, presenter) };
        let mut misfit = size != window.size;
        if presenter.decides() && matches!(window.role, Role::Toplevel(_)) {
            // A window has the size that its app draws, where the desktop does not insist on another.
            let wanted = window.wish.size.filter(|_| window.is_held());
            misfit = wanted.is_some_and(|wanted| wanted != size);
            if !misfit {
                window.size = size;
            }
        }
        let fixed = window.fixed().is_some();
        match &mut window.role {
            Role::Toplevel(_) => window.misfit_since = misfit.then(|| window.misfit_since.unwrap_or(now)),
            Role::Popup(_, area) if misfit && !fixed => {
                (area.width, area.height) = (size.width, size.height);
                window.size = size;
                window.stale.look = true;
            }
            Role::Popup(..) => {}
        }
    }

    /// Sends the configures that are due.
    pub(super) fn configure_all(&mut self, now: Instant) -> Result<(), SessionError> {
        let mut due = Vec::new();
        for (id, window) in &mut self.windows {
            if matches!(window.role, Role::Toplevel(_))
                && let Some(wish) = window.configure(self.serial.wrapping_add(1), now)
            {
                self.serial = self.serial.wrapping_add(1);
                due.push((*id, self.serial, wish));
            }
        }
        for (surface, serial, wish) in due {
            let Wish { size, states } = wish;
            tracing::debug!(surface = surface.0, serial, ?size, ?states, "configure");
            self.tell(&Event::ConfigureToplevel { surface, serial, size, states, bounds: None })?;
        }
        Ok(())
    }

    /// One tick of the display: draws dirty windows and sends frames. `hidden` is set once a second: apps of windows that
    /// cannot be seen then get their frame callbacks, so that none hangs.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn tick(&mut self, hidden: bool, tools: &mut Tools<'_>) -> Result<(), SessionError> {
        let now = Instant::now();
        let time_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ids: Vec<SurfaceId> = self.windows.keys().copied().collect();
        let starving = self.starving();
        self.scene.tick();
        if !self.decides || now.duration_since(self.told.0) >= TELL {
            self.told = (now, 0);
            self.say_news(tools.presenter)?;
            self.restyle(tools.presenter);
        }
        for id in ids {
            self.settle_size(id, now, tools);
            let corner = self.scene.get(id).map(|s| s.geometry()).unwrap_or_default();
            let Some(window) = self.windows.get_mut(&id) else { continue };
            if hidden
                && let Pace::Waits(since) = window.pace
                && now.duration_since(since) >= STARVED
            {
                (window.visible, window.pace) = (false, Pace::Starved);
            }
            let due = if window.visible {
                window.pace == Pace::Free && (window.dirty || window.wants_frame)
            } else {
                hidden && (window.wants_frame || starving.contains(&id))
            };
            if !due || !window.is_open() {
                continue;
            }
            if window.visible {
                let outline = window.outline(corner);
                let ended = if window.dirty {
                    let settled = window.is_settled(now);
                    let Some(pixels) = tools.presenter.begin_frame(id, window.size, settled) else {
                        continue;
                    };
                    let scale = tools.presenter.scale(id);
                    let mut quads = self.scene.quads(id, scale);
                    if let Some(outline) = &outline
                        && (tools.presenter.decides() || tools.presenter.border().is_some())
                    {
                        quads = render::cut_out(&quads, &in_pixels(outline, scale));
                    }
                    if let Some(border) = tools.presenter.border() {
                        let inside = window.size;
                        quads = bordered(
                            quads,
                            border,
                            (inside, pixels),
                            outline.as_deref(),
                            scale,
                            tools.renderer,
                        );
                    }
                    let drawn = window.target.as_mut().map(|to| tools.renderer.draw(to, pixels, &quads));
                    window.dirty = drawn == Some(Drawn::Later);
                    if window.dirty { Ended::Failed } else { Ended::Presented }
                } else {
                    Ended::Unchanged
                };
                let waits = tools.presenter.end_frame(id, ended);
                window.pace = if waits { Pace::Waits(now) } else { Pace::Free };
                if ended == Ended::Failed {
                    // It is drawn with another tick, and its app hears of that one.
                    continue;
                }
            }
            window.wants_frame = false;
            self.scene.ticked(&self.scene.tree(id));
            self.tell(&Event::Frame { surface: id, time_ms })?;
        }
        // Surfaces without a window: cursor images.
        if let Cursor::Surface { surface, .. } = self.cursor {
            self.scene.ticked(&[surface]);
            if self.scene.get(surface).and_then(|s| s.state()).is_some_and(|s| s.wants_frame) {
                self.tell(&Event::Frame { surface, time_ms })?;
            }
        }
        self.show_drag_icon(now, time_ms, tools)?;
        tools.renderer.submit();
        for surface in self.scene.waiting() {
            if !self.is_open(self.scene.root(surface)) {
                // Without a window there is no tick to wait for.
                self.scene.ticked(&[surface]);
            }
            self.advance(surface, now, tools)?;
        }
        // Parents may be on the screen now.
        self.announce_all(tools.presenter)?;
        self.say_released()?;
        self.configure_all(now)?;
        self.flush()
    }

    /// Gives a window the size that its app insists on, once the desktop left it alone for a moment.
    pub(super) fn settle_size(&mut self, id: SurfaceId, now: Instant, tools: &mut Tools<'_>) {
        let content = self.scene.get(id).map(|s| s.geometry().size());
        let Some(window) = self.windows.get_mut(&id) else { return };
        let Some(since) = window.misfit_since else { return };
        let Some(size) = content.filter(|s| !s.is_empty()) else { return };
        let size = Self::fitting(size, tools.presenter);
        if window.is_held() {
            if tools.presenter.decides() && now.duration_since(since) < MISFIT {
                return;
            }
            // The desktop's size stays; the content is anchored in it.
            window.misfit_since = None;
            if tools.presenter.decides()
                && let Some(wanted) = window.wish.size
            {
                window.dirty |= window.size != wanted;
                window.size = wanted;
            }
            return;
        }
        let patient = window.wish.size.is_none() || now.duration_since(since) >= MISFIT;
        if window.is_open() && patient && window.is_answered(now) {
            window.misfit_since = None;
            window.size = size;
            window.dirty = true;
            window.wish.size = None;
            tracing::debug!(window = id.0, ?size, "the app insists on its size");
            tools.presenter.resize(id, size);
        }
    }

    /// Roots of trees in which a waiting commit wants a frame callback.
    fn starving(&self) -> Vec<SurfaceId> {
        self.scene.wants_frame().into_iter().map(|s| self.scene.root(s)).collect()
    }

    /// Whether a surface belongs to a window that can be seen, or to none.
    fn is_shown(&self, surface: SurfaceId) -> bool {
        self.windows.get(&self.scene.root(surface)).is_none_or(|w| w.visible)
    }

    /// How many toplevels are open.
    #[must_use]
    pub fn open_toplevels(&self) -> usize {
        self.windows.values().filter(|w| w.is_open() && matches!(w.role, Role::Toplevel(_))).count()
    }

    /// Whether the next tick has something to do, and whether only hidden windows wait.
    #[must_use]
    pub fn wants_tick(&self) -> (bool, bool) {
        let open = || self.windows.values().filter(|w| w.is_open());
        let now = self.news != News::default()
            || self.drags.wants_tick()
            || self.windows.values().any(|w| w.stale.any() && (w.is_open() || self.decides))
            || self.told.1 >= ANNOUNCED
            || open().any(|w| w.visible && w.pace == Pace::Free && (w.dirty || w.wants_frame))
            || open().any(|w| w.visible && w.misfit_since.is_some() && (w.may_insist() || w.is_held()))
            || self.scene.waiting().iter().any(|s| self.is_shown(*s))
            || self
                .windows
                .values()
                .any(|w| matches!(w.role, Role::Toplevel(_)) && w.told == Told::Decided && w.has_news());
        let hidden = open().any(|w| if w.visible { w.pace != Pace::Free } else { w.wants_frame });
        (now, hidden || self.starving().iter().any(|id| self.windows.get(id).is_some_and(|w| !w.visible)))
    }
}

/// The quads of a content with a border around them. `inside` and `whole` are the content's size in logical pixels and the window's in
/// pixels; an outline is the content's.
pub fn bordered(
    content: Vec<Quad>,
    border: Border,
    (inside, whole): (Size, Size),
    outline: Option<&[Rect]>,
    scale_120: u32,
    renderer: &mut Renderer,
) -> Vec<Quad> {
    let pixel = |logical: u32| (logical as f32 * scale_120 as f32 / 120.0).round();
    let edge = pixel(border.width);
    let Some(colour) = renderer.solid(border.colour) else { return content };
    let (right, bottom) = (whole.width as f32, whole.height as f32);
    let sides = match outline {
        // What is left of it beside the content is the border.
        Some(outline) => in_pixels(&framed::widened(outline, border.width), scale_120),
        None => {
            let (far_x, far_y) = (edge + pixel(inside.width), edge + pixel(inside.height));
            vec![
                [0.0, 0.0, right, edge],
                [0.0, far_y.min(bottom - 1.0), right, bottom],
                [0.0, edge, edge, far_y],
                [far_x.min(right - 1.0), edge, right, far_y],
            ]
        }
    };
    let mut quads: Vec<Quad> = sides.into_iter().map(|to| Quad::solid(colour.clone(), to)).collect();
    let content = content.into_iter().map(|quad| quad.moved(edge));
    if outline.is_some() {
        quads.extend(content);
        quads
    } else {
        // The border is above all that an app draws.
        content.chain(quads).collect()
    }
}

/// Rectangles of a window in pixels: left, top, right, bottom.
fn in_pixels(outline: &[Rect], scale_120: u32) -> Vec<[f32; 4]> {
    let scale = scale_120 as f32 / 120.0;
    let edges = |r: &Rect| [r.x as f32, r.y as f32, r.right() as f32, r.bottom() as f32];
    outline.iter().map(|rect| edges(rect).map(|edge| (edge * scale).round())).collect()
}
