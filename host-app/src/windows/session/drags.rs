//! What is dragged over windows of the machine, and what its apps drag out of them, with its image.

use std::time::{Duration, Instant};

use inlay_protocol::display::{Event, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::scale::Scale;
use inlay_protocol::selection::{DragIcon, DragStart, Feedback};

use super::{Session, SessionError, Tools};
use crate::windows::presenter::Dragged;
use crate::windows::presenter::image::Image;

/// Largest side of the image of what is dragged, in logical pixels: of a larger one its upper left part is shown.
const ICON_SIDE: u32 = 1024;
/// The image is drawn anew no oftener.
const ICON_TIME: Duration = Duration::from_millis(16);

/// Drags, as the session sees them.
#[derive(Debug, Default)]
pub(super) struct Drags {
    /// The window that something is dragged over, or was dropped on.
    over: Option<SurfaceId>,
    /// The window that the newest drag of an app began in.
    from: Option<SurfaceId>,
    /// What is shown at the pointer.
    icon: Option<DragIcon>,
    /// The desktop has an older image, or none.
    stale: bool,
    /// When it was given the newest.
    drawn: Option<Instant>,
}

impl Drags {
    /// The surface that is shown at the pointer.
    pub fn icon(&self) -> Option<SurfaceId> {
        self.icon.map(|icon| icon.surface)
    }

    /// The content of a tree of surfaces is another.
    pub fn changed(&mut self, root: SurfaceId) {
        self.stale |= self.icon() == Some(root);
    }

    /// Whether the next tick has something to do.
    pub fn wants_tick(&self) -> bool {
        self.stale
    }
}

impl Session {
    /// Something is dragged over a window.
    pub(super) fn dragged(
        &mut self,
        mut dragged: Dragged,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let over = match &dragged {
            Dragged::Enter { window, .. } => Some(*window),
            _ => self.drags.over,
        };
        self.drags.over = over.filter(|_| !matches!(dragged, Dragged::Leave));
        if let Dragged::Enter { x, y, .. } | Dragged::Motion { x, y, .. } = &mut dragged
            && let Some(surface) = over.and_then(|window| self.scene.get(window))
        {
            let corner = surface.geometry();
            *x += f64::from(corner.x);
            *y += f64::from(corner.y);
        }
        let (exchange, mut outside) = self.outside(tools);
        // Who is dropped upon need not have the focus.
        outside.focus = over.and_then(|id| self.toplevel_of(id)).map(|id| (id, self.quotable(id)));
        if let Some(drag) = exchange.dragged(dragged, &mut outside) {
            self.tell(&Event::Drag(drag))?;
        }
        self.clear_for_question(tools)
    }

    /// An app drags something out of a window.
    pub(super) fn drag_starts(
        &mut self,
        start: DragStart,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let window = start.surface;
        let toplevel = self.toplevel_of(window).filter(|_| self.is_open(window));
        let from = toplevel.map(|id| (id, self.quotable(id)));
        let events = tools.exchange.drag_starts(start, from, tools.presenter);
        (self.drags.from, self.drags.icon, self.drags.stale) = (Some(window), None, false);
        events.iter().try_for_each(|event| self.tell(event))
    }

    /// It has another image.
    pub(super) fn drag_icon(&mut self, serial: u64, icon: Option<DragIcon>, tools: &mut Tools<'_>) {
        if tools.exchange.is_held(serial) && self.drags.icon != icon {
            (self.drags.icon, self.drags.stale) = (icon, true);
        }
    }

    /// What becomes of it on the desktop, `own` where it is over a window of the machine.
    ///
    /// # Errors
    /// When the agent cannot be told.
    pub fn carried(
        &mut self,
        feedback: Feedback,
        own: bool,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        if !matches!(feedback, Feedback::Target { .. }) {
            (self.drags.icon, self.drags.stale) = (None, false);
        }
        let (exchange, mut outside) = self.outside(tools);
        let events = exchange.carried(feedback, own, &mut outside);
        events.iter().try_for_each(|event| self.tell(event))?;
        self.clear_for_question(tools)
    }

    /// Gives the desktop the newest image of what is dragged, and the app its frame callbacks.
    pub(super) fn show_drag_icon(
        &mut self,
        now: Instant,
        time_ms: u64,
        tools: &mut Tools<'_>,
    ) -> Result<(), SessionError> {
        let early = self.drags.drawn.is_some_and(|drawn| now.duration_since(drawn) < ICON_TIME);
        if early || !std::mem::take(&mut self.drags.stale) {
            return Ok(());
        }
        self.drags.drawn = Some(now);
        let image = self.drag_image(tools).unwrap_or(Image::Hidden);
        tools.presenter.set_drag_icon(image);
        let Some(surface) = self.drags.icon() else { return Ok(()) };
        self.scene.ticked(&self.scene.tree(surface));
        if self.scene.get(surface).and_then(|s| s.state()).is_some_and(|s| s.wants_frame) {
            self.tell(&Event::Frame { surface, time_ms })?;
        }
        Ok(())
    }

    fn drag_image(&self, tools: &mut Tools<'_>) -> Option<Image> {
        let DragIcon { surface, offset } = self.drags.icon?;
        let scale = tools.presenter.scale(self.drags.from?);
        let content = self.scene.get(surface).filter(|content| content.is_mapped())?;
        let Rect { width, height, .. } = content.geometry();
        let logical = Size::new(width.min(ICON_SIDE), height.min(ICON_SIDE));
        let size = Scale(scale).size(logical);
        let bytes = tools.renderer.picture(size, &self.scene.quads(surface, scale));
        let bytes =
            bytes.inspect_err(|error| tracing::warn!("no image of what is dragged: {error:#}")).ok()?;
        let hotspot = Point::new(offset.x.saturating_neg(), offset.y.saturating_neg());
        Some(Image::Pixels { size, bytes, logical, hotspot })
    }
}
