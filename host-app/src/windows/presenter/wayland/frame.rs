//! What belongs to a frame of a window: the graphics library's commit carries it, and the compositor's callback brings the next.

use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::{Rect, Size};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::{Connection, Dispatch, QueueHandle};

use super::super::{Ended, HostEvent};
use super::State;
use super::window::Role;

impl State {
    /// Requests what the next commit of a window's surface carries. `None` while it may not be drawn.
    pub(super) fn begin_frame(&mut self, id: SurfaceId, size: Size, settled: bool) -> Option<Size> {
        let window = self.windows.get_mut(&id).filter(|w| w.configured)?;
        // What the content does not follow yet is not acknowledged with it; but nothing is shown without the first.
        if let Some(serial) = window.serial.take_if(|_| settled || !window.mapped) {
            window.xdg.ack_configure(serial);
        }
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX).max(1);
        let (width, height) = (side(size.width), side(size.height));
        let frame = match &mut window.role {
            Role::Toplevel(toplevel) => toplevel.frame.as_mut(),
            Role::Popup(_) => None,
        };
        let whole = frame.map_or(Rect::of_size(size), |frame| frame.draw(size, window.scale));
        window.xdg.set_window_geometry(whole.x, whole.y, side(whole.width), side(whole.height));
        match &window.viewport {
            Some(viewport) => viewport.set_destination(width, height),
            None => {
                // Whole scales only; what a fraction is left of is not told to such windows.
                window.scale = (window.scale / 120).max(1) * 120;
                window.surface.set_buffer_scale(side(window.scale / 120));
            }
        }
        if window.callback.is_none() {
            window.callback = Some(window.surface.frame(&self.handle, id));
        }
        Some(window.pixels(size))
    }

    /// A frame ended; whether the next one is to wait for [`HostEvent::Ready`].
    pub(super) fn end_frame(&mut self, id: SurfaceId, ended: Ended) -> bool {
        let Some(window) = self.windows.get_mut(&id) else { return false };
        match ended {
            Ended::Presented => {
                let first = !std::mem::replace(&mut window.mapped, true);
                let waits = window.callback.is_some();
                if first && matches!(window.role, Role::Toplevel(_)) {
                    self.appeared_first(id);
                }
                waits
            }
            Ended::Unchanged if window.mapped => {
                window.callback = Some(window.surface.frame(&self.handle, id));
                window.surface.commit();
                true
            }
            Ended::Unchanged => false,
            // What was requested, the callback too, goes with the next commit.
            Ended::Failed => false,
        }
    }
}

impl Dispatch<WlCallback, SurfaceId> for State {
    fn event(
        state: &mut Self,
        callback: &WlCallback,
        event: wl_callback::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event
            && let Some(window) = state.windows.get_mut(id)
            && window.callback.take_if(|waited| waited == callback).is_some()
        {
            state.events.push(HostEvent::Ready { window: *id });
        }
    }
}
