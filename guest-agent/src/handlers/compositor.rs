//! `wl_compositor` and `wl_subcompositor`. Window path, hop 1 of 6: an app's commit. Its new buffer, damage and frame callbacks
//! are taken out of smithay's state; [`crate::export`] goes on after the turn of the loop.
//!
//! Synchronised subsurfaces are cached by smithay: [`CompositorHandler::commit`] is called for them when their parent's commit
//! applies them, in the same turn.

use inlay_protocol::display::Request;
use inlay_protocol::limits;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Resource};
use smithay::utils::Transform;
use smithay::wayland::compositor::{
    self, BufferAssignment, CompositorClientState, CompositorHandler, CompositorState,
    Damage as SurfaceDamage, SubsurfaceCachedState, SurfaceAttributes, SurfaceData,
};
use smithay::wayland::presentation::PresentationFeedbackCachedState;
use smithay::wayland::viewporter::ensure_viewport_valid;

use super::{AppState, content_type, output, xdg_rules};
use crate::agent::Agent;
use crate::export::damage::{Damage, View};
use crate::export::{self, copy, state};
use crate::surface::{ClientBuffer, Surface, id_of, root_of};
use crate::windows;

/// `wl_display.error.no_memory`.
const NO_MEMORY: u32 = 2;

/// Damage requests of one commit that are followed one by one.
const DAMAGE_WORK: usize = 1024;

impl CompositorHandler for Agent {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.protocols.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        // Every client is inserted with an `AppState`; another one would be an error of this program.
        static NONE: std::sync::OnceLock<CompositorClientState> = std::sync::OnceLock::new();
        match client.get_data::<AppState>() {
            Some(app) => &app.compositor,
            None => NONE.get_or_init(CompositorClientState::default),
        }
    }

    fn new_surface(&mut self, surface: &WlSurface) {
        if self.surfaces.len() >= limits::SURFACES || self.surfaces.add(surface).is_none() {
            tracing::warn!("an app makes more surfaces than the host takes");
            surface.post_error(NO_MEMORY, "too many surfaces");
            return;
        }
        if surface
            .client()
            .is_some_and(|client| client.get_data::<AppState>().is_some_and(|app| app.xwayland))
        {
            let scale = self.x11.scale();
            compositor::with_states(surface, |states| state::begin_pixel_scale(states, scale));
        }
        compositor::add_pre_commit_hook::<Self, _>(surface, |agent, _, surface| {
            stage_places(surface);
            xdg_rules::before_commit(agent, surface);
        });
    }

    fn commit(&mut self, wl: &WlSurface) {
        let Some(id) = id_of(wl) else { return };
        let ((scale, _), now) = (output::scale_of(self, wl), self.now_ms());
        let Some(surface) = self.surfaces.get_mut(id) else { return };
        let (attached, content) = compositor::with_states(wl, |states| {
            compositor::send_surface_state(wl, states, scale, Transform::Normal);
            (take_commit(surface, states, now), content_type::of(states))
        });
        let shows = std::mem::replace(&mut surface.content_type, content);
        if shows != content
            && let Some(root) = id_of(&root_of(wl))
        {
            self.windows.mark(root);
        }
        place_subsurfaces(wl);
        windows::committed(self, id, attached);
        crate::cursor::committed(self, id);
        crate::drag::out::committed(self, wl);
        self.surfaces.mark(id);
    }

    fn destroyed(&mut self, wl: &WlSurface) {
        let Some(id) = id_of(wl) else { return };
        windows::role_gone(self, id);
        crate::x11::surface_gone(self, id);
        if let Some(surface) = self.surfaces.remove(id) {
            let known = surface.known;
            export::retire(self, surface);
            if known {
                self.send(&Request::DestroySurface { surface: id });
            }
        }
        crate::inject::surface_gone(self, wl);
    }
}

/// The places of subsurfaces are applied with their parent's state (`wl_subsurface.set_position`); smithay applies them with the
/// subsurface's own, so they are noted apart: here the parent commits, and they wait for its state to be applied.
fn stage_places(parent: &WlSurface) {
    for child in compositor::get_children(parent) {
        compositor::with_states(&child, |states| {
            let place = states.cached_state.get::<SubsurfaceCachedState>().pending().location;
            state::stage_place(states, place);
        });
    }
}

/// The parent's state is applied.
fn place_subsurfaces(parent: &WlSurface) {
    for child in compositor::get_children(parent) {
        compositor::with_states(&child, state::place_subsurface);
    }
}

/// Takes what a commit brought; whether the surface has content now.
fn take_commit(surface: &mut Surface, states: &SurfaceData, now_ms: u32) -> bool {
    let (assignment, damage, callbacks) = {
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        let attributes = attributes.current();
        (
            attributes.buffer.take(),
            std::mem::take(&mut attributes.damage),
            std::mem::take(&mut attributes.frame_callbacks),
        )
    };
    surface.add_callbacks(callbacks, now_ms);
    let asked = {
        let mut asked = states.cached_state.get::<PresentationFeedbackCachedState>();
        std::mem::take(&mut asked.current().callbacks)
    };
    surface.asks_frame |= !asked.is_empty();
    surface.feedbacks.committed(asked);
    match assignment {
        Some(BufferAssignment::NewBuffer(buffer)) => match copy::layout(&buffer) {
            Ok(layout) => {
                surface.waiting = Some(ClientBuffer::new(buffer, layout));
                let view = state::view(states, layout.size);
                let resized = surface.view.is_none_or(|v| v.buffer != layout.size);
                surface.view = Some(view);
                if resized {
                    surface.damage = Damage::all(layout.size);
                } else {
                    add_damage(&mut surface.damage, &view, &damage);
                }
            }
            Err(error) => {
                tracing::warn!(surface = surface.id.0, %error, "a buffer of an app is not shown");
                unmap(surface);
            }
        },
        Some(BufferAssignment::Removed) => unmap(surface),
        None => {
            // The scale, transform or viewport may have changed. Damage without a new buffer changes no pixel.
            if let Some(view) = &mut surface.view {
                *view = state::view(states, view.buffer);
            }
        }
    }
    if let Some(view) = &surface.view {
        let unscaled = view.unscaled();
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
        ensure_viewport_valid(states, (side(unscaled.width), side(unscaled.height)).into());
    }
    surface.view.is_some()
}

fn unmap(surface: &mut Surface) {
    surface.waiting = None;
    surface.view = None;
    surface.damage = Damage::default();
    surface.slots.unmap();
}

/// Adds an app's damage in buffer pixels.
fn add_damage(to: &mut Damage, view: &View, damage: &[SurfaceDamage]) {
    if damage.len() > DAMAGE_WORK {
        *to = Damage::all(view.buffer);
        return;
    }
    for rect in damage {
        match rect {
            SurfaceDamage::Surface(rect) => {
                let rect = state::rect(*rect);
                view.to_buffer(rect).into_iter().for_each(|r| to.add(r));
            }
            SurfaceDamage::Buffer(rect) => {
                let rect = smithay::utils::Rectangle::new(
                    (rect.loc.x, rect.loc.y).into(),
                    (rect.size.w, rect.size.h).into(),
                );
                let bounds = inlay_protocol::geometry::Rect::of_size(view.buffer);
                state::rect(rect).intersection(bounds).into_iter().for_each(|r| to.add(r));
            }
        }
    }
}

smithay::delegate_compositor!(Agent);
