//! The display session: events of the window process. Input path, hop 2 of 4 ends here; the requests of the window path leave in
//! [`crate::export`] and [`crate::windows`].

use inlay_protocol::display::{AgentCounters, Event, Request, States, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::State;
use smithay::wayland::compositor::get_role;
use smithay::wayland::shell::xdg::{ToplevelState, XDG_TOPLEVEL_ROLE};

use crate::agent::Agent;
use crate::handlers::{output, shortcuts, xdg_shell};
use crate::surface::{Shown, Surface, root_of};
use crate::windows::Stage;
use crate::{drag, exchange, export, inject, x11};

/// Handles one event.
pub fn handle(agent: &mut Agent, event: Event) {
    match event {
        Event::Outputs(outputs) => output::changed(agent, &outputs),
        Event::ConfigureToplevel { surface, serial, size, states, bounds } => {
            if x11::configure(agent, surface, serial, size, states) {
                return;
            }
            if let Some(window) = agent.windows.toplevels.get_mut(&surface)
                && states.contains(States::ACTIVATED)
                && std::mem::take(&mut window.urgent)
            {
                agent.windows.mark(surface);
            }
            configure_toplevel(agent, surface, serial, |state| {
                state.size = size.map(logical);
                state.bounds = bounds.map(logical);
                set_states(state, states);
            });
        }
        Event::ConfigurePopup { surface, serial, area, reposition } => {
            configure_popup(agent, surface, serial, area, reposition);
        }
        Event::PopupDone { surface } => {
            if !x11::dismiss(agent, surface) {
                xdg_shell::dismiss(agent, surface);
            }
        }
        Event::Close { surface } => match agent.windows.toplevels.get(&surface) {
            Some(window) => window.handle.send_close(),
            None => x11::close(agent, surface),
        },
        Event::Ping { surface, serial } => {
            if agent.x11.has(surface) {
                x11::ping(agent, surface, serial);
            } else {
                xdg_shell::ping(agent, surface, serial);
            }
        }
        Event::Kill { surface } => {
            if agent.x11.has(surface) {
                x11::kill(agent, surface);
            } else {
                xdg_shell::kill(agent, surface);
            }
        }
        // Wayland apps do not know where they are.
        Event::Place { surface, at } => x11::place(agent, surface, at),
        Event::Release { surface, number } => export::released(agent, surface, number),
        Event::Frame { surface, time_ms } => frame(agent, surface, inject::wire_ms(time_ms)),
        Event::Refresh { surface } => export::refresh(agent, surface),
        Event::Input(event) => inject::handle(agent, event),
        Event::Shown { surface, outputs, scale_120 } => {
            output::shown(agent, surface, Shown { outputs, scale_120 });
        }
        Event::Constrained { surface, held } => inject::constraint::answered(agent, surface, held),
        Event::ShortcutsInhibited { surface, inhibited } => shortcuts::answered(agent, surface, inhibited),
        Event::Links(taken) => agent.links.to_host = taken,
        Event::Offer(offer) => exchange::host_offers(agent, offer),
        Event::Fetch { stream, selection, serial, kind } => {
            exchange::host_fetches(agent, stream, (selection, serial, &kind));
        }
        Event::Stream { transfer, stream } => exchange::host_answers(agent, transfer, stream),
        Event::CopyOut { stream, paths, last } => exchange::host_copies(agent, stream, paths, last),
        Event::Drag(event) => drag::handle(agent, event),
        Event::DragFeedback { serial, feedback } => drag::out::feedback(agent, serial, feedback),
        Event::QueryCounters => {
            let counters = counters(agent);
            agent.send(&Request::Counters(counters));
        }
    }
}

fn logical(size: Size) -> smithay::utils::Size<i32, smithay::utils::Logical> {
    let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    (side(size.width), side(size.height)).into()
}

fn set_states(state: &mut ToplevelState, states: States) {
    let known = [
        (States::MAXIMIZED, State::Maximized),
        (States::FULLSCREEN, State::Fullscreen),
        (States::RESIZING, State::Resizing),
        (States::ACTIVATED, State::Activated),
        (States::TILED_LEFT, State::TiledLeft),
        (States::TILED_RIGHT, State::TiledRight),
        (States::TILED_TOP, State::TiledTop),
        (States::TILED_BOTTOM, State::TiledBottom),
        (States::SUSPENDED, State::Suspended),
    ];
    for (bit, word) in known {
        if states.contains(bit) {
            state.states.set(word);
        } else {
            state.states.unset(word);
        }
    }
}

fn configure_toplevel(agent: &mut Agent, id: SurfaceId, host: u32, set: impl FnOnce(&mut ToplevelState)) {
    let Some(window) = agent.windows.toplevels.get_mut(&id) else { return };
    if window.stage == Stage::Unmapped || !window.handle.alive() {
        return;
    }
    window.handle.with_pending_state(set);
    let serial = window.handle.send_configure();
    window.serials.sent(serial, host);
    if window.stage == Stage::Asked {
        window.stage = Stage::Configured;
    }
}

fn configure_popup(agent: &mut Agent, id: SurfaceId, host: u32, area: Rect, reposition: Option<u32>) {
    let Some(window) = agent.windows.popups.get_mut(&id) else { return };
    if window.stage == Stage::Unmapped || !window.handle.alive() {
        return;
    }
    let positioner = window.positioner;
    let size = logical(area.size());
    window.handle.with_pending_state(|state| {
        state.geometry = smithay::utils::Rectangle::new((area.x, area.y).into(), size);
        state.positioner = positioner;
    });
    let serial = match reposition {
        Some(token) if window.reposition == Some(token) => {
            window.reposition = None;
            Ok(window.handle.send_repositioned(token))
        }
        _ => window.handle.send_configure(),
    };
    match serial {
        Ok(serial) => window.serials.sent(serial, host),
        // The app's version or positioner takes no second place: it stays where it is.
        Err(_) => {
            window.serials.settle(host);
            agent.surfaces.mark(id);
            return;
        }
    }
    if window.stage == Stage::Asked {
        window.stage = Stage::Configured;
    }
}

/// Frame callbacks of a window's surfaces, and of all surfaces that belong to no window (cursors, drag icons).
fn frame(agent: &mut Agent, root: SurfaceId, time_ms: u32) {
    let Some(root) = agent.surfaces.get(root).map(|s| s.wl.clone()) else { return };
    let output = output::on(agent, &root);
    let waits = |s: &&mut Surface| !s.callbacks.is_empty() || !s.feedbacks.is_empty();
    for surface in agent.surfaces.iter_mut().filter(waits) {
        let of = root_of(&surface.wl);
        let is_window = || matches!(get_role(&of), Some(XDG_TOPLEVEL_ROLE | "xdg_popup" | x11::ROLE));
        if of == root || !is_window() {
            surface.frame(time_ms, output.as_ref());
        }
    }
}

fn counters(agent: &Agent) -> AgentCounters {
    AgentCounters {
        commits: agent.exported.commits,
        copied_bytes: agent.exported.copied_bytes,
        socket_bytes: agent.display.written(),
        cpu_micros: cpu_micros(),
        resident_bytes: resident_bytes().unwrap_or(0),
    }
}

fn cpu_micros() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let part = |v: i64| u64::try_from(v).unwrap_or(0);
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1000
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
