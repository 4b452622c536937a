//! Roles that make a surface a window of the host: toplevels and popups, their life stages and the serials of their configures.
//!
//! ```text
//!            initial commit           host's configure          first buffer
//! Unmapped ------------------> Asked ------------------> Configured ------> Mapped
//!    ^                                                                        |
//!    +---------------------------- null buffer -------------------------------+
//! ```
//! The host decides sizes and places: the app's first configure waits for the host's answer (or is a plain one when no host is
//! connected). A configure of the host has its own serial; it is mapped to the serial that the app sees, and back on ack.

mod say;

pub use say::{choose_icons, say_changed, short};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use inlay_protocol::display::{Act, Decoration, Icon, Request, SurfaceId, Toplevel};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_popup::XdgPopup;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_surface::XdgSurface;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::Serial;
use smithay::wayland::keyboard_shortcuts_inhibit::KeyboardShortcutsInhibitor;
use smithay::wayland::shell::xdg::{PopupSurface, PositionerState, ShellClient, ToplevelSurface};

use crate::agent::Agent;
use crate::handlers::xdg_rules;
use crate::surface::id_of;

/// Configures that the app has not acknowledged; older ones are forgotten.
const UNACKED: usize = 256;

/// Where a window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The app has a role for it, and has not committed yet.
    Unmapped,
    /// The host knows it and owes the first configure.
    Asked,
    /// The app owes the first buffer.
    Configured,
    /// It has a buffer.
    Mapped,
}

/// Which configure of the host the app has answered.
#[derive(Debug, Default)]
pub struct Serials {
    given: VecDeque<(Serial, u32)>,
    pending: Option<u32>,
    committed: Option<u32>,
}

impl Serials {
    /// A configure with the host's serial went to the app under `serial`.
    pub fn sent(&mut self, serial: Serial, host: u32) {
        if self.given.len() == UNACKED {
            self.given.pop_front();
        }
        self.given.push_back((serial, host));
    }

    /// The app acknowledged `serial`, and with it all older ones.
    pub fn acked(&mut self, serial: Serial) {
        while self.given.front().is_some_and(|(given, _)| serial.is_no_older_than(given)) {
            self.pending = self.given.pop_front().map(|(_, host)| host);
        }
    }

    /// The app committed: what it acknowledged before counts from now on.
    pub fn commit(&mut self) {
        self.committed = self.pending;
    }

    /// A configure that cannot reach the app counts as answered.
    pub fn settle(&mut self, host: u32) {
        self.pending = Some(host);
        self.committed = Some(host);
    }
}

/// A toplevel.
#[derive(Debug)]
pub struct ToplevelWindow {
    /// The app's object.
    pub handle: ToplevelSurface,
    /// What that was made of.
    xdg: XdgSurface,
    /// Where it stands.
    pub stage: Stage,
    /// Who draws its frame.
    pub decoration: Decoration,
    /// Configures of the host.
    pub serials: Serials,
    /// Whether it asks for attention.
    pub urgent: bool,
    /// Its pictures.
    pub icons: Arc<Vec<Icon>>,
    /// What the host knows of it.
    said: Option<Toplevel>,
    /// The pictures that the host knows, if it knows the window.
    said_icons: Arc<Vec<Icon>>,
    /// What the app asked for before the host knew it.
    early: Vec<Act>,
}

/// A popup.
#[derive(Debug)]
pub struct PopupWindow {
    /// The app's object.
    pub handle: PopupSurface,
    /// What that was made of.
    xdg: XdgSurface,
    /// Where it stands.
    pub stage: Stage,
    /// Where it wants to be.
    pub positioner: PositionerState,
    /// Whether it took a grab.
    pub grab: bool,
    /// Token of the newest reposition.
    pub reposition: Option<u32>,
    /// Configures of the host.
    pub serials: Serials,
    /// The host has closed it: it is no popup any more, whatever its app does with it.
    pub dismissed: bool,
    /// Whether the host knows it.
    said: bool,
}

/// All windows.
#[derive(Debug, Default)]
pub struct Windows {
    /// Toplevels by surface.
    pub toplevels: BTreeMap<SurfaceId, ToplevelWindow>,
    /// Popups by surface.
    pub popups: BTreeMap<SurfaceId, PopupWindow>,
    /// Pings of the host that apps have not answered: the app, the window it was about, the host's serial.
    pub pings: Vec<(ShellClient, SurfaceId, u32)>,
    /// Surfaces for which the screen is to stay on while they are seen.
    pub awake: Vec<WlSurface>,
    /// Wishes for the keys that the desktop has shortcuts on.
    pub inhibitors: Vec<KeyboardShortcutsInhibitor>,
    /// The `xdg_surface` whose request is looked at: what is made now is made of it.
    pub making: Option<XdgSurface>,
    changed: BTreeSet<SurfaceId>,
}

impl Windows {
    /// A new toplevel.
    pub fn add_toplevel(&mut self, id: SurfaceId, handle: ToplevelSurface, xdg: XdgSurface) {
        let window = ToplevelWindow {
            handle,
            xdg,
            stage: Stage::Unmapped,
            decoration: Decoration::ClientSide,
            urgent: false,
            serials: Serials::default(),
            icons: Arc::default(),
            said: None,
            said_icons: Arc::default(),
            early: Vec::new(),
        };
        self.toplevels.insert(id, window);
    }

    /// A new popup.
    pub fn add_popup(
        &mut self,
        id: SurfaceId,
        handle: PopupSurface,
        xdg: XdgSurface,
        positioner: PositionerState,
    ) {
        let window = PopupWindow {
            handle,
            xdg,
            stage: Stage::Unmapped,
            positioner,
            grab: false,
            reposition: None,
            serials: Serials::default(),
            dismissed: false,
            said: false,
        };
        self.popups.insert(id, window);
    }

    /// The newest configure serial of the host that the app had acknowledged when it committed.
    #[must_use]
    pub fn acked(&self, id: SurfaceId) -> Option<u32> {
        let toplevel = self.toplevels.get(&id).map(|t| &t.serials);
        toplevel.or_else(|| self.popups.get(&id).map(|p| &p.serials))?.committed
    }

    /// The state of a window may have changed: the host is told after this turn of the loop.
    pub fn mark(&mut self, id: SurfaceId) {
        self.changed.insert(id);
    }

    /// Whether the host knows this toplevel.
    fn is_said(&self, id: SurfaceId) -> bool {
        self.toplevels.get(&id).is_some_and(|t| t.said.is_some())
            || self.popups.get(&id).is_some_and(|p| p.said)
    }

    /// The connection is gone: everything is to be said again.
    pub fn disconnected(&mut self) {
        for toplevel in self.toplevels.values_mut() {
            toplevel.said = None;
            toplevel.serials = Serials::default();
        }
        for popup in self.popups.values_mut() {
            popup.said = false;
            popup.serials = Serials::default();
        }
        self.pings.clear();
        self.changed.extend(self.toplevels.keys().chain(self.popups.keys()));
    }

    /// The surface of the toplevel or popup that was made of an `xdg_surface`.
    #[must_use]
    pub fn surface_of(&self, xdg: &XdgSurface) -> Option<&WlSurface> {
        let mut toplevels = self.toplevels.values().map(|t| (&t.xdg, t.handle.wl_surface()));
        let mut popups = self.popups.values().map(|p| (&p.xdg, p.handle.wl_surface()));
        toplevels
            .find(|(x, _)| *x == xdg)
            .or_else(|| popups.find(|(x, _)| *x == xdg))
            .map(|(_, surface)| surface)
    }

    /// The surface of a popup.
    #[must_use]
    pub fn popup_of(&self, popup: &XdgPopup) -> Option<(SurfaceId, WlSurface)> {
        let found = self.popups.iter().find(|(_, p)| p.handle.xdg_popup() == popup);
        found.map(|(id, p)| (*id, p.handle.wl_surface().clone()))
    }

    /// Whether a popup has not been closed by the host.
    #[must_use]
    pub fn is_shown(&self, popup: SurfaceId) -> bool {
        self.popups.get(&popup).is_some_and(|popup| !popup.dismissed)
    }

    /// The popups above a window, the topmost first.
    #[must_use]
    pub fn popups_above(&self, id: SurfaceId) -> Vec<SurfaceId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(below) = found.get(next).copied() {
            next += 1;
            let above = self.popups.iter().filter(|(popup, window)| {
                !found.contains(popup)
                    && window.handle.get_parent_surface().as_ref().and_then(id_of) == Some(below)
            });
            let above: Vec<SurfaceId> = above.map(|(popup, _)| *popup).collect();
            found.extend(above);
        }
        found.reverse();
        found.pop();
        found
    }
}

/// An app asks the host to do something with its toplevel; what it asks before the host knows the toplevel is kept.
pub fn act(agent: &mut Agent, id: SurfaceId, act: Act) {
    let Some(window) = agent.windows.toplevels.get_mut(&id) else { return };
    if window.said.is_some() {
        agent.send_act(id, act);
    } else if agent.display.is_up() || window.stage == Stage::Unmapped {
        let kind = std::mem::discriminant(&act);
        window.early.retain(|early| std::mem::discriminant(early) != kind);
        window.early.push(act);
    }
}

/// A root surface committed; `attached` when it has a buffer now.
pub fn committed(agent: &mut Agent, id: SurfaceId, attached: bool) {
    let up = agent.display.is_up();
    let (stage, lost, mark) = if let Some(window) = agent.windows.toplevels.get_mut(&id) {
        window.serials.commit();
        let before = window.stage;
        if !xdg_rules::check_sizes(window.handle.wl_surface(), window.handle.xdg_toplevel()) {
            return;
        }
        window.stage = next_stage(before, attached, || {
            xdg_rules::ensure_configured(&window.xdg, window.handle.wl_surface())
        });
        if window.stage == Stage::Asked && !up {
            plain_configure_toplevel(window);
        }
        let unmapped = (before, window.stage) == (Stage::Mapped, Stage::Unmapped);
        if unmapped {
            window.serials = Serials::default();
            window.handle.reset_initial_configure_sent();
        }
        (window.stage, unmapped && window.said.take().is_some(), true)
    } else if let Some(window) = agent.windows.popups.get_mut(&id) {
        window.serials.commit();
        let before = window.stage;
        window.stage = next_stage(before, attached, || {
            xdg_rules::ensure_configured(&window.xdg, window.handle.wl_surface())
        });
        let asked = (before, window.stage) == (Stage::Unmapped, Stage::Asked);
        if asked && !up {
            plain_configure_popup(window);
        }
        let unmapped = (before, window.stage) == (Stage::Mapped, Stage::Unmapped);
        if unmapped {
            window.serials = Serials::default();
            window.handle.reset_initial_configure_sent();
        }
        (window.stage, unmapped && std::mem::take(&mut window.said), asked)
    } else {
        return;
    };
    tracing::trace!(surface = id.0, ?stage, "a window's surface committed");
    if lost {
        agent.send(&Request::RoleGone { surface: id });
    }
    if mark {
        agent.windows.mark(id);
    }
}

/// The stage after a commit. `configured` says whether the app has acknowledged a configure, and ends the app when not.
fn next_stage(stage: Stage, attached: bool, configured: impl Fn() -> bool) -> Stage {
    match (stage, attached) {
        (Stage::Unmapped, false) => Stage::Asked,
        (Stage::Configured, true) if configured() => Stage::Mapped,
        (Stage::Unmapped | Stage::Asked, true) => {
            configured();
            stage
        }
        (Stage::Mapped, false) => Stage::Unmapped,
        _ => stage,
    }
}

/// The app destroyed its toplevel or popup.
pub fn role_gone(agent: &mut Agent, id: SurfaceId) {
    let toplevel = agent.windows.toplevels.remove(&id).is_some_and(|t| t.said.is_some());
    let popup = agent.windows.popups.remove(&id).is_some_and(|p| p.said);
    if toplevel || popup {
        agent.send(&Request::RoleGone { surface: id });
    }
}

/// No host will answer: windows that wait for their first configure get a plain one.
pub fn configure_waiting(agent: &mut Agent) {
    let toplevels = agent.windows.toplevels.values_mut();
    toplevels.filter(|t| t.stage == Stage::Asked).for_each(plain_configure_toplevel);
    let popups = agent.windows.popups.values_mut();
    popups.filter(|p| p.stage == Stage::Asked).for_each(plain_configure_popup);
}

fn plain_configure_toplevel(window: &mut ToplevelWindow) {
    if window.handle.alive() {
        window.handle.send_configure();
        window.stage = Stage::Configured;
    }
}

fn plain_configure_popup(window: &mut PopupWindow) {
    if window.handle.alive() {
        let geometry = window.positioner.get_geometry();
        window.handle.with_pending_state(|state| state.geometry = geometry);
        if window.handle.send_configure().is_ok() {
            window.stage = Stage::Configured;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_names_the_newest_configure_of_the_host() {
        let mut serials = Serials::default();
        serials.sent(Serial::from(10), 100);
        serials.sent(Serial::from(12), 101);
        serials.sent(Serial::from(15), 102);
        serials.acked(Serial::from(13));
        assert_eq!(serials.committed, None);
        serials.commit();
        assert_eq!(serials.committed, Some(101));
        serials.acked(Serial::from(15));
        serials.commit();
        assert_eq!(serials.committed, Some(102));
    }
}
