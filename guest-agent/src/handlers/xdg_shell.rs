//! `xdg_wm_base`: toplevels and popups. Their life is in [`crate::windows`]; here are the requests of apps.

use inlay_protocol::display::{Act, Edges, Request, SurfaceId};
use rustix::process::{Pid, Signal, kill_process};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_popup;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::ResizeEdge;
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_output::WlOutput;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, SERIAL_COUNTER, Serial};
use smithay::wayland::shell::xdg::{
    Configure, PopupSurface, PositionerState, ShellClient, ToplevelSurface, XdgShellHandler, XdgShellState,
};

use crate::agent::Agent;
use crate::export::state::point;
use crate::handlers::{output, xdg_rules};
use crate::surface::id_of;
use crate::windows::{self, Stage};

impl Agent {
    fn act(&mut self, toplevel: &ToplevelSurface, act: Act) {
        if let Some(id) = id_of(toplevel.wl_surface()) {
            windows::act(self, id, act);
        }
    }

    /// As [`Agent::act`], for what the protocol wants to be answered by a configure even when nothing changes.
    fn act_answered(&mut self, toplevel: &ToplevelSurface, act: Act) {
        self.act(toplevel, act);
        if !self.display.is_up() && toplevel.is_initial_configure_sent() {
            toplevel.send_configure();
        }
    }

    fn mark_window(&mut self, surface: &WlSurface) {
        if let Some(id) = id_of(surface) {
            self.windows.mark(id);
        }
    }
}

impl XdgShellHandler for Agent {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.protocols.xdg_shell
    }

    fn client_pong(&mut self, client: ShellClient) {
        let (answered, waiting) =
            std::mem::take(&mut self.windows.pings).into_iter().partition(|(c, ..)| *c == client);
        self.windows.pings = waiting;
        let answered: Vec<(ShellClient, SurfaceId, u32)> = answered;
        for (_, surface, serial) in answered {
            self.send(&Request::Pong { surface, serial });
        }
    }

    fn new_toplevel(&mut self, toplevel: ToplevelSurface) {
        if let (Some(id), Some(xdg)) = (id_of(toplevel.wl_surface()), self.windows.making.take()) {
            output::follow(self, toplevel.wl_surface());
            self.windows.add_toplevel(id, toplevel, xdg);
        }
    }

    fn new_popup(&mut self, popup: PopupSurface, positioner: PositionerState) {
        if let (Some(id), Some(xdg)) = (id_of(popup.wl_surface()), self.windows.making.take()) {
            let surface = popup.wl_surface().clone();
            if !xdg_rules::is_complete(&positioner) {
                xdg_rules::incomplete_positioner(self, &surface);
            }
            self.windows.add_popup(id, popup, xdg, positioner);
            output::follow(self, &surface);
        }
    }

    fn move_request(&mut self, toplevel: ToplevelSurface, _seat: WlSeat, _serial: Serial) {
        self.act(&toplevel, Act::Move);
    }

    fn resize_request(&mut self, toplevel: ToplevelSurface, _: WlSeat, _: Serial, edges: ResizeEdge) {
        // xdg_toplevel.resize_edge has the bits that the protocol has.
        let edges = Edges(u8::try_from(edges as u32).unwrap_or(0));
        if edges.is_sane() {
            self.act(&toplevel, Act::Resize(edges));
        }
    }

    fn show_window_menu(&mut self, toplevel: ToplevelSurface, _: WlSeat, _: Serial, at: Point<i32, Logical>) {
        self.act(&toplevel, Act::WindowMenu(point(at.x, at.y)));
    }

    fn maximize_request(&mut self, toplevel: ToplevelSurface) {
        self.act_answered(&toplevel, Act::Maximize);
    }

    fn unmaximize_request(&mut self, toplevel: ToplevelSurface) {
        self.act_answered(&toplevel, Act::Unmaximize);
    }

    fn fullscreen_request(&mut self, toplevel: ToplevelSurface, _output: Option<WlOutput>) {
        self.act_answered(&toplevel, Act::Fullscreen);
    }

    fn unfullscreen_request(&mut self, toplevel: ToplevelSurface) {
        self.act_answered(&toplevel, Act::Unfullscreen);
    }

    fn minimize_request(&mut self, toplevel: ToplevelSurface) {
        self.act(&toplevel, Act::Minimize);
    }

    fn grab(&mut self, popup: PopupSurface, _seat: WlSeat, _serial: Serial) {
        // The host decides about the grab itself: it sees the clicks, and answers with popup_done when it is refused.
        if let Some(id) = id_of(popup.wl_surface())
            && let Some(window) = self.windows.popups.get_mut(&id)
        {
            if window.stage == Stage::Mapped {
                let error = xdg_popup::Error::InvalidGrab;
                popup.xdg_popup().post_error(error, "a popup must grab before it is mapped");
            } else {
                window.grab = true;
            }
        }
    }

    fn reposition_request(&mut self, popup: PopupSurface, positioner: PositionerState, token: u32) {
        let up = self.display.is_up();
        let Some(id) = id_of(popup.wl_surface()) else { return };
        let Some(window) = self.windows.popups.get_mut(&id) else { return };
        if !xdg_rules::is_complete(&positioner) {
            xdg_rules::incomplete_positioner(self, popup.wl_surface());
            return;
        }
        window.positioner = positioner;
        if up {
            window.reposition = Some(token);
            self.windows.mark(id);
        } else {
            popup.with_pending_state(|state| {
                state.geometry = positioner.get_geometry();
                state.positioner = positioner;
            });
            popup.send_repositioned(token);
        }
    }

    fn ack_configure(&mut self, surface: WlSurface, configure: Configure) {
        let Some(id) = id_of(&surface) else { return };
        match configure {
            Configure::Toplevel(configure) => {
                if let Some(window) = self.windows.toplevels.get_mut(&id) {
                    window.serials.acked(configure.serial);
                }
            }
            Configure::Popup(configure) => {
                if let Some(window) = self.windows.popups.get_mut(&id) {
                    window.serials.acked(configure.serial);
                }
            }
        }
    }

    fn toplevel_destroyed(&mut self, toplevel: ToplevelSurface) {
        if let Some(id) = id_of(toplevel.wl_surface()) {
            windows::role_gone(self, id);
        }
    }

    fn popup_destroyed(&mut self, popup: PopupSurface) {
        if let Some(id) = id_of(popup.wl_surface()) {
            windows::role_gone(self, id);
        }
    }

    fn title_changed(&mut self, toplevel: ToplevelSurface) {
        self.mark_window(toplevel.wl_surface());
    }

    fn app_id_changed(&mut self, toplevel: ToplevelSurface) {
        self.mark_window(toplevel.wl_surface());
    }

    fn parent_changed(&mut self, toplevel: ToplevelSurface) {
        self.mark_window(toplevel.wl_surface());
    }
}

/// Asks the app of a toplevel whether it is alive.
pub fn ping(agent: &mut Agent, surface: SurfaceId, serial: u32) {
    let Some(client) = agent.windows.toplevels.get(&surface).map(|t| t.handle.client()) else { return };
    // While an older ping is not answered there is no new one: the answer to that one answers this one too.
    if let Err(error) = client.send_ping(SERIAL_COUNTER.next_serial()) {
        tracing::debug!(%error, "no new ping");
    }
    agent.windows.pings.push((client, surface, serial));
    agent.windows.pings.retain(|(client, ..)| client.alive());
}

/// Ends the app of a toplevel by force: its process, where that is known, and its connection.
pub fn kill(agent: &mut Agent, surface: SurfaceId) {
    let Some(window) = agent.windows.toplevels.get(&surface) else { return };
    let Some(client) = window.handle.wl_surface().client() else { return };
    let shell = window.handle.client();
    let pid = client.get_credentials(&agent.display_handle).ok().and_then(|c| Pid::from_raw(c.pid));
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::KILL)
    {
        tracing::warn!(%error, "an app cannot be ended");
    }
    if shell.unresponsive().is_err() {
        tracing::debug!(surface = surface.0, "the app is gone already");
    }
}

/// `xdg_popup.popup_done` for a popup and all above it, the topmost first.
pub fn dismiss(agent: &mut Agent, id: SurfaceId) {
    let mut all = agent.windows.popups_above(id);
    all.push(id);
    for popup in all {
        if let Some(window) = agent.windows.popups.get_mut(&popup) {
            window.dismissed = true;
            window.handle.send_popup_done();
        }
    }
}
