//! The pointer image that the app under the pointer wants. A cursor surface's pixels are exported like any other's.

use inlay_protocol::display::{Cursor, Request, SurfaceId};
use inlay_protocol::geometry::Point;
use smithay::input::pointer::{CursorImageStatus, CursorImageSurfaceData};
use smithay::wayland::compositor::{SurfaceAttributes, with_states};

use crate::agent::Agent;
use crate::export::state::point;
use crate::surface::id_of;

/// The cursor, and what the host knows of it.
#[derive(Debug)]
pub struct CursorState {
    image: CursorImageStatus,
    said: Option<Cursor>,
}

impl Default for CursorState {
    fn default() -> Self {
        Self { image: CursorImageStatus::default_named(), said: None }
    }
}

impl CursorState {
    /// The connection is gone: the cursor is to be said again.
    pub fn disconnected(&mut self) {
        self.said = None;
    }

    fn surface(&self) -> Option<SurfaceId> {
        if let CursorImageStatus::Surface(surface) = &self.image { id_of(surface) } else { None }
    }
}

/// The app under the pointer set its cursor.
pub fn set(agent: &mut Agent, image: CursorImageStatus) {
    agent.cursor.image = image;
    if let Some(id) = agent.cursor.surface() {
        agent.surfaces.mark(id);
    }
}

/// A surface committed: the cursor's own hotspot moves with `wl_surface.offset`.
pub fn committed(agent: &mut Agent, id: SurfaceId) {
    if agent.cursor.surface() != Some(id) {
        return;
    }
    if let CursorImageStatus::Surface(surface) = &agent.cursor.image {
        with_states(surface, |states| {
            let delta = states.cached_state.get::<SurfaceAttributes>().current().buffer_delta.take();
            let data = states.data_map.get::<CursorImageSurfaceData>().and_then(|d| d.lock().ok());
            if let (Some(delta), Some(mut data)) = (delta, data) {
                data.hotspot.x = data.hotspot.x.saturating_sub(delta.x);
                data.hotspot.y = data.hotspot.y.saturating_sub(delta.y);
            }
        });
    }
}

fn hotspot(image: &CursorImageStatus) -> Point {
    let CursorImageStatus::Surface(surface) = image else { return Point::default() };
    with_states(surface, |states| {
        let data = states.data_map.get::<CursorImageSurfaceData>().and_then(|d| d.lock().ok());
        data.map(|d| point(d.hotspot.x, d.hotspot.y)).unwrap_or_default()
    })
}

/// Tells the host, if the cursor is another one than it knows. Called after each turn of the loop.
pub fn say(agent: &mut Agent) {
    if !agent.display.is_up() {
        return;
    }
    let cursor = match &agent.cursor.image {
        CursorImageStatus::Hidden => Cursor::Hidden,
        CursorImageStatus::Named(icon) => Cursor::Named(icon.name().into()),
        image @ CursorImageStatus::Surface(_) => match agent.cursor.surface() {
            Some(surface) if agent.surfaces.get(surface).is_some() => {
                Cursor::Surface { surface, hotspot: hotspot(image) }
            }
            _ => Cursor::Named("default".into()),
        },
    };
    if agent.cursor.said.as_ref() != Some(&cursor) {
        if let Cursor::Surface { surface, .. } = &cursor {
            agent.surfaces.know(*surface);
        }
        agent.send(&Request::Cursor(cursor.clone()));
        agent.cursor.said = Some(cursor);
    }
}
