//! What the host is told of windows: their whole state when it changed, once a turn of the loop, parents first.

use inlay_protocol::display::{Place, Popup, PopupKind, Request, SurfaceId, Toplevel, WindowKind};
use inlay_protocol::limits;
use smithay::wayland::compositor::with_states;
use smithay::wayland::shell::xdg::{SurfaceCachedState, XdgToplevelSurfaceData};

use super::{Stage, ToplevelWindow, Windows};
use crate::agent::Agent;
use crate::export::state::size;
use crate::handlers::positioner;
use crate::surface::{id_of, root_of};

/// Text of an app within the protocol's limit.
#[must_use]
pub fn short(mut text: String) -> String {
    let mut end = text.len().min(limits::TITLE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn toplevel_state(windows: &Windows, id: SurfaceId, window: &ToplevelWindow) -> Toplevel {
    let surface = window.handle.wl_surface();
    let (title, app_id, parent) = with_states(surface, |states| {
        let data = states.data_map.get::<XdgToplevelSurfaceData>().and_then(|data| data.lock().ok());
        data.map(|d| (d.title.clone(), d.app_id.clone(), d.parent.clone())).unwrap_or_default()
    });
    let (min, max) = with_states(surface, |states| {
        let mut cached = states.cached_state.get::<SurfaceCachedState>();
        let cached = cached.current();
        (cached.min_size, cached.max_size)
    });
    let parent = parent.as_ref().and_then(id_of).filter(|p| *p != id && windows.is_said(*p));
    Toplevel {
        surface: id,
        title: short(title.unwrap_or_default()),
        app_id: short(app_id.unwrap_or_default()),
        parent,
        min_size: size(min),
        max_size: size(max),
        decoration: window.decoration,
        kind: if parent.is_some() { WindowKind::Dialog } else { WindowKind::Normal },
        urgent: window.urgent,
        keeps_awake: windows.awake.iter().any(|awake| root_of(awake) == *surface),
        ..Toplevel::default()
    }
}

/// Tells the host of all windows that changed, parents first.
pub fn say_changed(agent: &mut Agent) {
    let mut changed: Vec<SurfaceId> = std::mem::take(&mut agent.windows.changed).into_iter().collect();
    changed.sort_by_key(|id| depth(&agent.windows, *id));
    for id in changed {
        say_toplevel(agent, id);
        say_popup(agent, id);
    }
}

/// Windows below this one, as far as they are known; popups count after all toplevels.
fn depth(windows: &Windows, id: SurfaceId) -> usize {
    let mut depth = 0;
    let mut at = id;
    for _ in 0..64 {
        let parent = if let Some(popup) = windows.popups.get(&at) {
            depth += 100;
            popup.handle.get_parent_surface()
        } else {
            windows.toplevels.get(&at).and_then(|t| t.handle.parent())
        };
        let Some(parent) = parent.as_ref().and_then(id_of) else { break };
        depth += 1;
        at = parent;
    }
    depth
}

fn say_toplevel(agent: &mut Agent, id: SurfaceId) {
    let Some(window) = agent.windows.toplevels.get(&id) else { return };
    if window.stage == Stage::Unmapped || !window.handle.alive() {
        return;
    }
    let state = toplevel_state(&agent.windows, id, window);
    let Some(window) = agent.windows.toplevels.get_mut(&id) else { return };
    if window.said.as_ref() == Some(&state) {
        return;
    }
    window.said = Some(state.clone());
    let early = std::mem::take(&mut window.early);
    agent.surfaces.know(id);
    agent.send(&Request::Toplevel(state));
    early.into_iter().for_each(|act| agent.send(&Request::Act { surface: id, act }));
}

fn say_popup(agent: &mut Agent, id: SurfaceId) {
    let Some(window) = agent.windows.popups.get_mut(&id) else { return };
    if window.stage == Stage::Unmapped || !window.handle.alive() {
        return;
    }
    let Some(parent) = window.handle.get_parent_surface().as_ref().and_then(id_of) else { return };
    window.said = true;
    let popup = Popup {
        surface: id,
        parent,
        place: Place::Positioner(positioner::translate(&window.positioner)),
        kind: PopupKind::Menu,
        grab: window.grab,
        reposition: window.reposition,
    };
    agent.surfaces.know(id);
    agent.send(&Request::Popup(popup));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_cut_between_characters() {
        let text = short("ä".repeat(limits::TITLE));
        assert_eq!(text.len(), limits::TITLE);
        let text = short(format!("a{}", "ä".repeat(limits::TITLE)));
        assert_eq!(text.len(), limits::TITLE - 1);
    }
}
