//! The rules of xdg-shell (version 6) which smithay does not hold apps to, or for which it has another error than the protocol:
//! they are looked at here before smithay has its turn. An app that breaks one gets the error and is disconnected.

use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_popup::{self, XdgPopup};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_positioner::{self, XdgPositioner};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_surface::{self, XdgSurface};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::{self, XdgToplevel};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_wm_base::{self, XdgWmBase};
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, Resource, WEnum, delegate_global_dispatch,
};
use smithay::utils::Serial;
use smithay::wayland::compositor::{BufferAssignment, SurfaceAttributes, get_role, with_states};
use smithay::wayland::shell::xdg::{
    PositionerState, SurfaceCachedState, XDG_POPUP_ROLE, XDG_TOPLEVEL_ROLE, XdgPopupSurfaceData,
    XdgPositionerUserData, XdgShellState, XdgShellSurfaceUserData, XdgSurfaceUserData,
    XdgToplevelSurfaceData, XdgWmBaseUserData,
};

use crate::agent::Agent;
use crate::surface::id_of;

/// Whether a positioner has a size and an anchor rectangle, without which it places nothing.
#[must_use]
pub fn is_complete(positioner: &PositionerState) -> bool {
    !positioner.rect_size.is_empty() && !positioner.anchor_rect.size.is_empty()
}

/// Ends an app that places a popup by a positioner without size or anchor rectangle.
pub fn incomplete_positioner(agent: &Agent, popup: &WlSurface) {
    post(
        agent,
        popup,
        xdg_wm_base::Error::InvalidPositioner,
        "the positioner has no size or no anchor rectangle",
    );
}

/// Looks at a surface that is about to commit: a popup needs a parent, which no other protocol here would give it.
pub fn before_commit(agent: &Agent, surface: &WlSurface) {
    if !id_of(surface).is_some_and(|id| agent.windows.popups.contains_key(&id)) {
        return;
    }
    let parent = with_states(surface, |states| {
        let popup = states.data_map.get::<XdgPopupSurfaceData>().and_then(|data| data.lock().ok());
        popup.is_some_and(|popup| popup.parent.is_some())
    });
    if !parent {
        post(agent, surface, xdg_wm_base::Error::InvalidPopupParent, "the popup has no parent");
    }
}

/// Whether the app has acknowledged a configure of this window; where not, it is ended, as it may not show anything yet.
pub fn ensure_configured(xdg: &XdgSurface, surface: &WlSurface) -> bool {
    let configured = with_states(surface, |states| {
        let toplevel = states.data_map.get::<XdgToplevelSurfaceData>().and_then(|data| data.lock().ok());
        let popup = states.data_map.get::<XdgPopupSurfaceData>().and_then(|data| data.lock().ok());
        toplevel.is_some_and(|t| t.configured) || popup.is_some_and(|p| p.configured)
    });
    if !configured {
        xdg.post_error(
            xdg_surface::Error::UnconfiguredBuffer,
            "a buffer before the first configure is acknowledged",
        );
    }
    configured
}

/// Whether the committed smallest and largest size of a toplevel can both be met; where not, its app is ended.
pub fn check_sizes(surface: &WlSurface, toplevel: &XdgToplevel) -> bool {
    let (min, max) = with_states(surface, |states| {
        let mut state = states.cached_state.get::<SurfaceCachedState>();
        (state.current().min_size, state.current().max_size)
    });
    let fits = |min: i32, max: i32| max == 0 || min <= max;
    let good = fits(min.w, max.w) && fits(min.h, max.h);
    if !good {
        toplevel.post_error(xdg_toplevel::Error::InvalidSize, "the smallest size is larger than the largest");
    }
    good
}

/// Errors of `xdg_wm_base` go to an object of that kind; an app has one as a rule.
fn post(agent: &Agent, surface: &WlSurface, error: xdg_wm_base::Error, message: &str) {
    let client = surface.client().map(|client| client.id());
    if let Some(base) = client.and_then(|client| agent.protocols.wm_bases.get(&client)) {
        base.post_error(error, message);
    }
}

impl Dispatch<XdgWmBase, XdgWmBaseUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        wm_base: &XdgWmBase,
        request: xdg_wm_base::Request,
        data: &XdgWmBaseUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        agent.protocols.wm_bases.entry(client.id()).or_insert_with(|| wm_base.clone());
        let wrong = match &request {
            xdg_wm_base::Request::GetXdgSurface { surface, .. } => unfit(agent, surface),
            _ => None,
        };
        <XdgShellState as Dispatch<XdgWmBase, XdgWmBaseUserData, Self>>::request(
            agent, client, wm_base, request, data, display, init,
        );
        // After it: the new object must have been made, whatever becomes of the connection.
        if let Some((error, message)) = wrong {
            wm_base.post_error(error, message);
        }
    }

    fn destroyed(agent: &mut Self, client: ClientId, wm_base: &XdgWmBase, data: &XdgWmBaseUserData) {
        if agent.protocols.wm_bases.get(&client) == Some(wm_base) {
            agent.protocols.wm_bases.remove(&client);
        }
        <XdgShellState as Dispatch<XdgWmBase, XdgWmBaseUserData, Self>>::destroyed(
            agent, client, wm_base, data,
        );
    }
}

/// Why a surface cannot become an `xdg_surface`.
fn unfit(agent: &Agent, surface: &WlSurface) -> Option<(xdg_wm_base::Error, &'static str)> {
    let attached = with_states(surface, |states| {
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        matches!(attributes.pending().buffer, Some(BufferAssignment::NewBuffer(_)))
    });
    let shown = || id_of(surface).and_then(|id| agent.surfaces.get(id)).is_some_and(|s| s.view.is_some());
    if get_role(surface).is_some_and(|role| role != XDG_TOPLEVEL_ROLE && role != XDG_POPUP_ROLE) {
        Some((xdg_wm_base::Error::Role, "the surface has another role"))
    } else if attached || shown() {
        Some((xdg_wm_base::Error::InvalidSurfaceState, "the surface has a buffer already"))
    } else {
        None
    }
}

/// An anchor rectangle without an extent is a point, here a pixel: smithay refuses what the protocol allows.
impl Dispatch<XdgPositioner, XdgPositionerUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        positioner: &XdgPositioner,
        mut request: xdg_positioner::Request,
        data: &XdgPositionerUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let xdg_positioner::Request::SetAnchorRect { width, height, .. } = &mut request {
            for extent in [width, height] {
                *extent = if *extent == 0 { 1 } else { *extent };
            }
        }
        <XdgShellState as Dispatch<XdgPositioner, XdgPositionerUserData, Self>>::request(
            agent, client, positioner, request, data, display, init,
        );
    }
}

impl Dispatch<XdgSurface, XdgSurfaceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        xdg: &XdgSurface,
        request: xdg_surface::Request,
        data: &XdgSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        use xdg_surface::Error;
        use xdg_surface::Request::{AckConfigure, Destroy, GetPopup, GetToplevel, SetWindowGeometry};
        let window = agent.windows.surface_of(xdg).cloned();
        let wrong = match &request {
            Destroy if window.is_some() => {
                Some((Error::DefunctRoleObject, "its toplevel or popup is still there"))
            }
            GetToplevel { .. } | GetPopup { .. } if window.is_some() => {
                Some((Error::AlreadyConstructed, "it is a toplevel or popup already"))
            }
            SetWindowGeometry { width, height, .. } if *width <= 0 || *height <= 0 => {
                Some((Error::InvalidSize, "a window without extent"))
            }
            SetWindowGeometry { .. } | AckConfigure { .. } if window.is_none() => {
                Some((Error::NotConstructed, "it is no toplevel or popup"))
            }
            AckConfigure { serial } if !window.is_some_and(|w| was_sent(&w, Serial::from(*serial))) => {
                Some((Error::InvalidSerial, "no configure with this serial waits for an answer"))
            }
            _ => None,
        };
        if let Some((error, message)) = wrong {
            xdg.post_error(error, message);
            return;
        }
        agent.windows.making = Some(xdg.clone());
        <XdgShellState as Dispatch<XdgSurface, XdgSurfaceUserData, Self>>::request(
            agent, client, xdg, request, data, display, init,
        );
        agent.windows.making = None;
    }
}

/// Whether a configure with this serial waits for being acknowledged.
fn was_sent(surface: &WlSurface, serial: Serial) -> bool {
    with_states(surface, |states| {
        let toplevel = states.data_map.get::<XdgToplevelSurfaceData>().and_then(|data| data.lock().ok());
        let popup = states.data_map.get::<XdgPopupSurfaceData>().and_then(|data| data.lock().ok());
        toplevel.is_some_and(|t| t.pending_configures().iter().any(|c| c.serial == serial))
            || popup.is_some_and(|p| p.pending_configures().iter().any(|c| c.serial == serial))
    })
}

impl Dispatch<XdgToplevel, XdgShellSurfaceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        toplevel: &XdgToplevel,
        request: xdg_toplevel::Request,
        data: &XdgShellSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        use xdg_toplevel::Error;
        use xdg_toplevel::Request::{Resize, SetMaxSize, SetMinSize};
        match &request {
            SetMaxSize { width, height } | SetMinSize { width, height } if *width < 0 || *height < 0 => {
                toplevel.post_error(Error::InvalidSize, "a negative size");
            }
            Resize { edges: WEnum::Unknown(_), .. } => {
                toplevel.post_error(Error::InvalidResizeEdge, "no such edge");
            }
            _ => <XdgShellState as Dispatch<XdgToplevel, XdgShellSurfaceUserData, Self>>::request(
                agent, client, toplevel, request, data, display, init,
            ),
        }
    }

    fn destroyed(agent: &mut Self, client: ClientId, toplevel: &XdgToplevel, data: &XdgShellSurfaceUserData) {
        <XdgShellState as Dispatch<XdgToplevel, XdgShellSurfaceUserData, Self>>::destroyed(
            agent, client, toplevel, data,
        );
    }
}

impl Dispatch<XdgPopup, XdgShellSurfaceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        popup: &XdgPopup,
        request: xdg_popup::Request,
        data: &XdgShellSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if matches!(request, xdg_popup::Request::Destroy)
            && let Some((id, surface)) = agent.windows.popup_of(popup)
            && agent.windows.popups_above(id).iter().any(|id| agent.windows.is_shown(*id))
        {
            post(agent, &surface, xdg_wm_base::Error::NotTheTopmostPopup, "another popup lies above it");
        }
        <XdgShellState as Dispatch<XdgPopup, XdgShellSurfaceUserData, Self>>::request(
            agent, client, popup, request, data, display, init,
        );
    }

    fn destroyed(agent: &mut Self, client: ClientId, popup: &XdgPopup, data: &XdgShellSurfaceUserData) {
        <XdgShellState as Dispatch<XdgPopup, XdgShellSurfaceUserData, Self>>::destroyed(
            agent, client, popup, data,
        );
    }
}

delegate_global_dispatch!(Agent: [XdgWmBase: ()] => XdgShellState);
