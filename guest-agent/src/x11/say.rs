//! What the host is told of X11 windows: their whole state when it changed, once a turn of the loop, managed ones first.

use inlay_protocol::display::{
    ContentType, Decoration, Place, Placed, Popup, PopupKind, Request, SurfaceId, Toplevel, WindowKind,
};
use inlay_protocol::geometry::{Point, Rect};

use super::wm::Window;
use super::{Kind, Said, X11, XWindow, Xid, inner, is_menu};
use crate::agent::Agent;
use crate::windows::short;

/// Tells the host of all windows that changed.
pub fn say_changed(agent: &mut Agent) {
    let changed = std::mem::take(&mut agent.x11.changed);
    let is_popup = |id: &Xid| agent.x11.windows.get(id).is_some_and(|w| w.now.override_redirect);
    // A dialog is created after its parent, so its number is larger.
    let (popups, toplevels): (Vec<Xid>, Vec<Xid>) = changed.into_iter().partition(is_popup);
    for id in toplevels.into_iter().chain(popups) {
        say(agent, id);
    }
}

fn say(agent: &mut Agent, id: Xid) {
    if let Some(window) = agent.x11.windows.get_mut(&id).filter(|w| w.said.is_none()) {
        window.chosen = chosen(&window.now);
    }
    let x11 = &agent.x11;
    let Some(window) = x11.windows.get(&id).filter(|w| !w.dismissed) else { return };
    let Some(surface) = window.surface else { return };
    if x11.is_drag_icon(id) {
        return say_icon(agent, id, surface);
    }
    if is_one_pixel(window) {
        return;
    }
    let said = if window.now.override_redirect {
        match x11.toplevel_of(id).and_then(|parent| Some((parent, x11.windows.get(&parent)?))) {
            // Nothing that it could belong to: a window of its own, such as a screen at start.
            None => {
                Said::Toplevel(Toplevel { decoration: Decoration::ClientSide, ..toplevel(x11, id, surface) })
            }
            Some((parent, on)) => {
                let shown = on.surface.filter(|s| agent.surfaces.get(*s).is_some_and(|s| s.last.is_some()));
                let (Some(parent_surface), Some(_)) = (shown, &on.said) else {
                    // It is said after its parent.
                    agent.x11.changed.insert(id);
                    return;
                };
                Said::Popup(popup(x11, id, surface, parent, parent_surface))
            }
        }
    } else {
        Said::Toplevel(toplevel(x11, id, surface))
    };
    let (icons, shape) = (window.now.icons.clone(), window.now.shape.clone());
    let Some(window) = agent.x11.windows.get_mut(&id) else { return };
    let first = window.said.is_none();
    if let (Some(Said::Toplevel(_)), Said::Popup(_)) | (Some(Said::Popup(_)), Said::Toplevel(_)) =
        (&window.said, &said)
    {
        // The host knows it as another kind of window.
        agent.send(&Request::RoleGone { surface });
    }
    let Some(window) = agent.x11.windows.get_mut(&id) else { return };
    let mut requests = Vec::new();
    if window.said.as_ref() != Some(&said) {
        requests.push(match &said {
            Said::Toplevel(toplevel) => Request::Toplevel(toplevel.clone()),
            Said::Popup(popup) => Request::Popup(popup.clone()),
        });
        window.said = Some(said);
    }
    if window.said_icons != icons {
        requests.push(Request::Icons { surface, icons: icons.to_vec() });
        window.said_icons = icons;
    }
    if window.said_shape != shape {
        requests.push(Request::Shape { surface, rects: shape.as_ref().map(|s| s.to_vec()) });
        window.said_shape = shape;
    }
    let early = agent.x11.early.remove(&id).unwrap_or_default();
    requests.extend(early.into_iter().map(|act| Request::Act { surface, act }));
    agent.surfaces.know(surface);
    if first {
        agent.surfaces.mark(surface);
    }
    for request in requests {
        agent.send(&request);
    }
}

/// Where its app put a window that the host does not know yet: later the host says where it is.
fn chosen(window: &Window) -> Option<Placed> {
    let by_user = window.placed?;
    if !by_user && window.place.x == 0 && window.place.y == 0 {
        // What toolkits say that chose none.
        return None;
    }
    let (place, inner) = (window.place, inner(window));
    let at = Point::new(place.x.saturating_add(inner.x), place.y.saturating_add(inner.y));
    at.is_sane().then_some(Placed { at, by_user })
}

/// Whether a window is nothing to look at: toolkits map one of a pixel to own a selection, or to hold the pointer while they drag. As a
/// menu it would take the keys.
fn is_one_pixel(window: &XWindow) -> bool {
    let Rect { width, height, .. } = window.pixels.place;
    window.said.is_none() && window.now.override_redirect && width <= 1 && height <= 1
}

/// The image of what an app drags is no window to the host: it has it at its pointer.
fn say_icon(agent: &mut Agent, id: Xid, surface: SurfaceId) {
    let Some(window) = agent.x11.windows.get_mut(&id) else { return };
    if window.said.take().is_some() {
        agent.send(&Request::RoleGone { surface });
    }
    super::drag::follow_icon(agent);
}

fn toplevel(x11: &X11, id: Xid, surface: SurfaceId) -> Toplevel {
    let Some(window) = x11.windows.get(&id).map(|w| &w.now) else { return Toplevel::default() };
    let parent = window.transient_for.and_then(|p| x11.windows.get(&p)).filter(|p| p.said.is_some());
    let [min_size, max_size, base_size, increment] = window.sizes;
    let frames = window.undecorated || window.extents != [0; 4] || window.kind == Kind::Splash;
    Toplevel {
        surface,
        title: short(window.title.clone()),
        app_id: short(window.class.clone()),
        parent: parent.and_then(|p| p.surface),
        min_size,
        max_size,
        base_size,
        increment,
        decoration: if frames { Decoration::ClientSide } else { Decoration::ServerSide },
        kind: match window.kind {
            Kind::Dialog => WindowKind::Dialog,
            Kind::Utility => WindowKind::Utility,
            Kind::Toolbar => WindowKind::Toolbar,
            Kind::Menu => WindowKind::Menu,
            Kind::Splash => WindowKind::Splash,
            // EWMH: transient windows that say nothing are dialogs.
            Kind::Unsaid if window.transient_for.is_some() => WindowKind::Dialog,
            _ => WindowKind::Normal,
        },
        modal: window.modal,
        urgent: window.attention || window.urgent,
        no_focus: !window.input && !window.takes_focus,
        keeps_awake: false,
        inhibits_shortcuts: false,
        content_type: ContentType::None,
        place: x11.windows.get(&id).and_then(|w| w.chosen),
    }
}

fn popup(x11: &X11, id: Xid, surface: SurfaceId, parent: Xid, parent_surface: SurfaceId) -> Popup {
    let (own, on) = (x11.windows.get(&id).map(|w| &w.now), x11.windows.get(&parent).map(|w| &w.now));
    let (own_inner, on_inner) = (own.map(inner).unwrap_or_default(), on.map(inner).unwrap_or_default());
    let (own_place, on_place) =
        (own.map(|w| w.place).unwrap_or_default(), on.map(|w| w.place).unwrap_or_default());
    let offset = |own: i32, own_inner: i32, on: i32, on_inner: i32| {
        own.saturating_add(own_inner).saturating_sub(on).saturating_sub(on_inner)
    };
    let x = offset(own_place.x, own_inner.x, on_place.x, on_inner.x);
    let y = offset(own_place.y, own_inner.y, on_place.y, on_inner.y);
    Popup {
        surface,
        parent: parent_surface,
        place: Place::Fixed(Rect::new(x, y, own_inner.width.max(1), own_inner.height.max(1))),
        kind: match own.map(|w| w.kind).unwrap_or_default() {
            Kind::Tooltip => PopupKind::Tooltip,
            Kind::Dnd => PopupKind::Drag,
            Kind::Notification => PopupKind::Notification,
            _ => PopupKind::Menu,
        },
        grab: own.is_some_and(is_menu),
        reposition: None,
    }
}
