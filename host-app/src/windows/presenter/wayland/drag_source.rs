//! What apps of the guest drag: a source of ours that the compositor carries (`wl_data_device.start_drag`), with its icon.

use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_exchange::{News, kinds};
use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::Point;
use inlay_protocol::selection::{Actions, Feedback, Selection};
use wayland_client::protocol::wl_data_source::{self, WlDataSource};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum};
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;

use super::super::image::{Image, resampled};
use super::State;
use super::drag::{actions, to_wayland};

/// The version of `wl_surface` that moves a buffer by a request of its own.
const MOVES: u32 = 5;
/// How long the compositor may take to say what became of a drag after the pointer came back.
const SILENT: Duration = Duration::from_secs(2);

/// Something that the compositor carries, or that was dropped and is still fetched.
#[derive(Debug)]
pub struct Source {
    source: WlDataSource,
    icon: Icon,
    /// What was told of the app under it.
    target: (Option<String>, Actions),
    dropped: bool,
    /// The pointer is in a window of ours again, although nobody said that the drag is over.
    returned: Option<Instant>,
}

#[derive(Debug)]
struct Icon {
    surface: WlSurface,
    viewport: Option<WpViewport>,
    /// Where it is, from the pointer's place.
    at: Point,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.source.destroy();
        if let Some(viewport) = &self.icon.viewport {
            viewport.destroy();
        }
        self.icon.surface.destroy();
    }
}

impl State {
    /// Has the compositor carry something out of a window, while it is pressed.
    pub(super) fn start_drag(&mut self, id: SurfaceId, types: &[String], allowed: Actions) -> bool {
        if self.source.as_ref().is_some_and(|source| !source.dropped) {
            return false;
        }
        let (Some(press), Some(window)) = (self.pointer.press(id), self.windows.get(&id)) else {
            return false;
        };
        let origin = window.surface.clone();
        let Some((manager, device)) = self.selections.for_drags() else {
            tracing::debug!("nothing can be dragged out of a window: the desktop lacks wl_data_device 3");
            return false;
        };
        let (source, device) = (manager.create_data_source(&self.handle, ()), device.clone());
        for name in kinds::for_wayland(types) {
            self.make_room();
            source.offer(name);
        }
        // Last: some apps say that they would take the first, whatever it is.
        source.offer(self.selections.mark().to_owned());
        source.set_actions(to_wayland(allowed));
        let surface = self.globals.compositor.create_surface(&self.handle, ());
        let viewport = self.globals.viewporter.as_ref().map(|v| v.get_viewport(&surface, &self.handle, ()));
        device.start_drag(Some(&source), &origin, Some(&surface), press);
        let icon = Icon { surface, viewport, at: Point::default() };
        let target = (None, Actions::NONE);
        self.source = Some(Source { source, icon, target, dropped: false, returned: None });
        true
    }

    /// Shows the image of what is dragged.
    pub(super) fn set_drag_icon(&mut self, image: Image) {
        let result = self.show_icon(image);
        if let Err(error) = result {
            tracing::debug!("the image of what is dragged cannot be shown: {error:#}");
        }
    }

    fn show_icon(&mut self, image: Image) -> anyhow::Result<()> {
        let Some(Source { icon, dropped: false, .. }) = &self.source else { return Ok(()) };
        let surface = &icon.surface;
        let Image::Pixels { size, bytes, logical, hotspot } = image else {
            surface.attach(None, 0, 0);
            surface.commit();
            return Ok(());
        };
        let whole = (size.width / logical.width.max(1)).max(1);
        let fits = (logical.width * whole, logical.height * whole) == (size.width, size.height);
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX).max(1);
        let buffer = match &icon.viewport {
            Some(viewport) => {
                viewport.set_destination(side(logical.width), side(logical.height));
                self.picture(size, &bytes)?.buffer
            }
            None if fits => {
                surface.set_buffer_scale(side(whole));
                self.picture(size, &bytes)?.buffer
            }
            None => {
                surface.set_buffer_scale(1);
                self.picture(logical, &resampled(size, &bytes, logical))?.buffer
            }
        };
        let at = Point::new(hotspot.x.saturating_neg(), hotspot.y.saturating_neg());
        let by = (at.x.saturating_sub(icon.at.x), at.y.saturating_sub(icon.at.y));
        if surface.version() >= MOVES {
            surface.attach(Some(&buffer), 0, 0);
            if by != (0, 0) {
                surface.offset(by.0, by.1);
            }
        } else {
            surface.attach(Some(&buffer), by.0, by.1);
        }
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        surface.commit();
        if let Some(source) = &mut self.source {
            source.icon.at = at;
        }
        Ok(())
    }

    /// The source of a drag goes: to the compositor that ends it.
    pub(super) fn cancel_drag(&mut self) {
        self.source = None;
    }

    /// A button went up in a window of ours: the compositor did not take the pointer from us for a drag.
    pub(super) fn drag_was_refused(&mut self) {
        if self.source.take_if(|source| !source.dropped).is_some() {
            self.tell_drag(Feedback::Cancelled);
        }
    }

    /// The pointer is in a window of ours.
    pub(super) fn pointer_is_back(&mut self) {
        if let Some(source) = self.source.as_mut().filter(|source| !source.dropped) {
            source.returned.get_or_insert_with(Instant::now);
        }
    }

    /// When [`State::end_silent_drag`] is due.
    pub(super) fn drag_due(&self) -> Option<Instant> {
        self.source.as_ref()?.returned.map(|since| since + SILENT)
    }

    /// Ends a drag that the compositor has ended without a word.
    pub(super) fn end_silent_drag(&mut self) {
        if self.drag_due().is_some_and(|due| due <= Instant::now()) {
            self.drag_was_refused();
        }
    }

    fn tell_drag(&mut self, feedback: Feedback) {
        let own = self.drag.as_ref().is_some_and(|drag| drag.own);
        self.selections.news.push(News::Drag { feedback, own });
    }

    /// What becomes of it.
    fn source_event(&mut self, event: wl_data_source::Event) {
        let Some(source) = &mut self.source else { return };
        let before = source.target.clone();
        match event {
            wl_data_source::Event::Send { mime_type, fd } => match Pipe::foreign(fd) {
                Ok(pipe) => {
                    let (selection, kind) = (Selection::Drag, kinds::meant(&mime_type).to_owned());
                    self.selections.news.push(News::Wanted { selection, kind, pipe });
                }
                Err(error) => tracing::debug!("an app fetches what is dragged into no pipe: {error}"),
            },
            wl_data_source::Event::Target { mime_type } => {
                source.target.0 = kinds::travelling(mime_type.as_slice()).pop();
            }
            wl_data_source::Event::Action { dnd_action: WEnum::Value(action) } => {
                source.target.1 = actions(action);
            }
            wl_data_source::Event::DndDropPerformed => {
                source.dropped = true;
                self.tell_drag(Feedback::Dropped);
                return;
            }
            wl_data_source::Event::DndFinished => {
                let action = source.target.1;
                self.source = None;
                return self.tell_drag(Feedback::Finished { action });
            }
            wl_data_source::Event::Cancelled => {
                self.source = None;
                return self.tell_drag(Feedback::Cancelled);
            }
            _ => {}
        }
        let Some(source) = self.source.as_ref().filter(|source| source.target != before) else { return };
        let (kind, action) = source.target.clone();
        self.tell_drag(Feedback::Target { kind, action });
    }
}

impl Dispatch<WlDataSource, ()> for State {
    fn event(
        state: &mut Self,
        source: &WlDataSource,
        event: wl_data_source::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if state.source.as_ref().is_some_and(|own| own.source == *source) {
            return state.source_event(event);
        }
        match event {
            wl_data_source::Event::Send { mime_type, fd } => {
                state.selections.asked(&source.id(), &mime_type, fd);
            }
            wl_data_source::Event::Cancelled => state.selections.cancelled(&source.id()),
            _ => {}
        }
    }
}
