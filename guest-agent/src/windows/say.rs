//! What the host is told of windows: their whole state when it changed, once a turn of the loop, parents first.

use std::sync::Arc;

use inlay_protocol::display::{Icon, Place, Popup, PopupKind, Request, SurfaceId, Toplevel, WindowKind};
use inlay_protocol::limits;
use smithay::reexports::wayland_server::Resource as _;
use smithay::wayland::compositor::with_states;
use smithay::wayland::keyboard_shortcuts_inhibit::KeyboardShortcutsInhibitor;
use smithay::wayland::shell::xdg::{SurfaceCachedState, XdgToplevelSurfaceData};

use super::{Stage, ToplevelWindow, Windows};
use crate::agent::Agent;
use crate::export::state::size;
use crate::handlers::{content_type, positioner};
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

/// The icons worth sending: of those that the protocol carries the smallest, the largest, and those nearest to common sizes.
#[must_use]
pub fn choose_icons(mut found: Vec<Icon>) -> Vec<Icon> {
    let side = |icon: &Icon| icon.size.width.max(icon.size.height);
    found.sort_by_key(side);
    let mut chosen: Vec<Icon> = Vec::new();
    for wanted in [16, 32, 48, 128] {
        let best = found.iter().min_by_key(|icon| side(icon).abs_diff(wanted));
        if let Some(best) = best.filter(|b| chosen.iter().all(|c| c.size != b.size)) {
            chosen.push(best.clone());
        }
    }
    chosen.truncate(limits::ICONS);
    chosen
}

fn toplevel_state(windows: &Windows, id: SurfaceId, window: &ToplevelWindow) -> Toplevel {
    let surface = window.handle.wl_surface();
    let (title, app_id, parent, modal) = with_states(surface, |states| {
        let data = states.data_map.get::<XdgToplevelSurfaceData>().and_then(|data| data.lock().ok());
        data.map(|d| (d.title.clone(), d.app_id.clone(), d.parent.clone(), d.modal)).unwrap_or_default()
    });
    let (min, max) = with_states(surface, |states| {
        let mut cached = states.cached_state.get::<SurfaceCachedState>();
        let cached = cached.current();
        (cached.min_size, cached.max_size)
    });
    let parent = parent.as_ref().and_then(id_of).filter(|p| *p != id && windows.is_said(*p));
    let is_dialog = parent.is_some() || modal;
    let mut inhibitors = windows.inhibitors.iter().map(KeyboardShortcutsInhibitor::wl_surface);
    Toplevel {
        surface: id,
        title: short(title.unwrap_or_default()),
        app_id: short(app_id.unwrap_or_default()),
        parent,
        min_size: size(min),
        max_size: size(max),
        decoration: window.decoration,
        kind: if is_dialog { WindowKind::Dialog } else { WindowKind::Normal },
        modal,
        urgent: window.urgent,
        inhibits_shortcuts: inhibitors.any(|on| on.is_alive() && root_of(on) == *surface),
        content_type: content_type::of_tree(surface),
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
    let mut news = Vec::new();
    if window.said.is_none() {
        window.said_icons = Arc::default();
    }
    if window.said.as_ref() != Some(&state) {
        window.said = Some(state.clone());
        news.push(Request::Toplevel(state));
    }
    if window.said_icons != window.icons {
        window.said_icons = Arc::clone(&window.icons);
        news.push(Request::Icons { surface: id, icons: window.icons.to_vec() });
    }
    let early = std::mem::take(&mut window.early);
    agent.surfaces.know(id);
    news.iter().for_each(|request| agent.send(request));
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
