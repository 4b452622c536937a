//! Sizes and places: logical where the host and the rest of the agent count, pixels where the X server does.

use inlay_protocol::display::{States, SurfaceId};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::limits;
use inlay_protocol::scale::Scale;
use smithay::wayland::compositor;

use super::wm::{Order, Window};
use crate::agent::Agent;
use crate::export::state;
use crate::handlers::AppState;

/// What the app calls its window, without what it draws around it.
pub fn inner(window: &Window) -> Rect {
    within(window.place.size(), window.extents)
}

/// What of a window of this size is its own.
pub fn within(whole: Size, [left, right, top, bottom]: [u32; 4]) -> Rect {
    let edge = |v: u32| i32::try_from(v).unwrap_or(0);
    let width = whole.width.saturating_sub(left + right).max(1);
    let height = whole.height.saturating_sub(top + bottom).max(1);
    Rect::new(edge(left), edge(top), width, height)
}

/// `xdg_toplevel.configure`, for an X11 window. `false` when the surface shows none.
pub fn configure(
    agent: &mut Agent,
    surface: SurfaceId,
    serial: u32,
    size: Option<Size>,
    states: States,
) -> bool {
    let scale = agent.x11.scale;
    let Some((id, window)) = agent.x11.window_mut(surface) else { return false };
    let now = inner(&window.now).size();
    window.asked = Some((serial, size.unwrap_or(now)));
    let whole = size.map(|s| in_pixels(scale.size(s), window.pixels.extents));
    agent.x11.order(Order::Configure { window: id, size: whole, states });
    if size.is_none_or(|s| s == now) {
        // Nothing will be drawn for it.
        agent.surfaces.mark(surface);
    }
    true
}

/// The host tells where a window is.
pub fn place(agent: &mut Agent, surface: SurfaceId, at: Point) {
    let scale = agent.x11.scale;
    let Some((id, window)) = agent.x11.window_mut(surface) else { return };
    window.at = Some(at);
    let corner = corner(&window.pixels, scale.point(at));
    agent.x11.order(Order::Move(id, corner));
}

/// Where a window begins whose own part begins at `inner`, in pixels.
fn corner(window: &Window, inner: Point) -> Point {
    let [left, _, top, _] = window.extents.map(u32::cast_signed);
    Point::new(inner.x.saturating_sub(left), inner.y.saturating_sub(top))
}

/// The whole of a window whose own part has this size, in pixels.
fn in_pixels(inner: Size, [left, right, top, bottom]: [u32; 4]) -> Size {
    let side = |inner: u32, more: u32| inner.saturating_add(more).min(limits::DIMENSION);
    Size::new(side(inner.width, left + right), side(inner.height, top + bottom))
}

/// The host's monitors may have another scale: apps draw at that of the sharpest.
pub fn rescale(agent: &mut Agent, sharpest: Scale) {
    agent.x11.sharpest = sharpest;
    draw_at(agent, if agent.x11.enlarged { Scale::ONE } else { sharpest });
}

/// The user has apps draw at that scale, or at 1: many that are old know no other, and are enlarged then.
pub fn sharpen(agent: &mut Agent, sharp: bool) {
    agent.x11.enlarged = !sharp;
    let before = agent.x11.scale;
    rescale(agent, agent.x11.sharpest);
    if agent.x11.scale != before {
        // The server is told them in its pixels.
        agent.outputs.tell_again();
    }
}

fn draw_at(agent: &mut Agent, scale: Scale) {
    let x11 = &mut agent.x11;
    let before = std::mem::replace(&mut x11.scale, scale);
    let Some(server) = x11.server.as_ref().filter(|_| before != scale) else { return };
    if let Some(app) = server.client.get_data::<AppState>() {
        app.compositor.set_client_scale(f64::from(scale.0) / 120.0);
    }
    x11.order(Order::Scale(scale));
    let mut orders = Vec::new();
    for (id, window) in &mut x11.windows {
        if !window.now.override_redirect {
            // It stays where and as large as the host has it.
            let size = window.asked.map_or(inner(&window.now).size(), |(_, size)| size);
            let whole = in_pixels(scale.size(size), window.pixels.extents);
            let moved = window.at.map(|at| Order::Move(*id, corner(&window.pixels, scale.point(at))));
            orders.extend(moved.into_iter().chain([Order::Resize(*id, whole)]));
        }
        window.now = window.pixels.clone().logical(scale);
    }
    orders.into_iter().for_each(|order| x11.order(order));
    x11.changed.extend(x11.windows.keys());
    for surface in agent.surfaces.iter_mut() {
        compositor::with_states(&surface.wl, |states| state::set_pixel_scale(states, scale));
    }
    for id in agent.x11.by_surface.keys() {
        agent.surfaces.mark(*id);
    }
}
