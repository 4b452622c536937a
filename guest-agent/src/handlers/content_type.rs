//! `wp_content_type_manager_v1`: what a surface shows. The host is told the most demanding kind of a window's surfaces.

use inlay_protocol::display::ContentType;
use inlay_protocol::limits;
use smithay::reexports::wayland_protocols::wp::content_type::v1::server::wp_content_type_v1::Type;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::compositor::{SurfaceData, TraversalAction, with_surface_tree_downward};
use smithay::wayland::content_type::ContentTypeSurfaceCachedState;

use crate::agent::Agent;

/// What one surface shows.
#[must_use]
pub fn of(states: &SurfaceData) -> ContentType {
    match states.cached_state.get::<ContentTypeSurfaceCachedState>().current().content_type() {
        Type::Photo => ContentType::Photo,
        Type::Video => ContentType::Video,
        Type::Game => ContentType::Game,
        _ => ContentType::None,
    }
}

/// What a window shows.
#[must_use]
pub fn of_tree(root: &WlSurface) -> ContentType {
    let mut most = ContentType::None;
    with_surface_tree_downward(
        root,
        0,
        |_, _, depth| {
            let deep = *depth >= limits::TREE_DEPTH;
            if deep { TraversalAction::SkipChildren } else { TraversalAction::DoChildren(depth + 1) }
        },
        |_, states, _| most = most.max(of(states)),
        |_, _, _| true,
    );
    most
}

smithay::delegate_content_type!(Agent);
