//! `wl_output` and `xdg_output`: the host's monitors. Before the host said which, there is one of 1920 x 1080.

use inlay_protocol::display::{Output as HostOutput, SurfaceId};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::limits;
use smithay::output::{Mode, Output, PhysicalProperties, Scale, Subpixel};
use smithay::reexports::wayland_server::DisplayHandle;
use smithay::reexports::wayland_server::backend::GlobalId;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::Transform;
use smithay::wayland::compositor::{send_surface_state, with_states};
use smithay::wayland::output::OutputHandler;

use crate::agent::Agent;
use crate::export::state;
use crate::handlers::viewporter;
use crate::surface::{Shown, id_of, root_of};

/// The monitors that apps see.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<(Output, GlobalId)>,
}

/// The monitor that apps see before the host said anything.
#[must_use]
pub fn default_output() -> HostOutput {
    HostOutput {
        name: "INLAY-1".into(),
        area: Rect::new(0, 0, 1920, 1080),
        mode: Size::new(1920, 1080),
        refresh: 60_000,
        scale_120: 120,
    }
}

impl Outputs {
    /// Replaces the monitors: those that stay keep their global.
    pub fn set(&mut self, display: &DisplayHandle, wanted: &[HostOutput]) {
        let fallback = [default_output()];
        let wanted = if wanted.is_empty() { &fallback } else { wanted };
        self.list.retain(|(output, global)| {
            let stays = wanted.iter().any(|w| w.name == output.name());
            if !stays {
                display.remove_global::<Agent>(global.clone());
            }
            stays
        });
        for host in wanted {
            let known = self.list.iter().find(|(output, _)| output.name() == host.name);
            if let Some((output, _)) = known {
                update(output, host);
            } else {
                let output = Output::new(
                    host.name.clone(),
                    PhysicalProperties {
                        size: millimetres(host.area.size()),
                        subpixel: Subpixel::Unknown,
                        make: "Inlay".into(),
                        model: host.name.clone(),
                    },
                );
                update(&output, host);
                let global = output.create_global::<Agent>(display);
                self.list.push((output, global));
            }
        }
        let place = |name: &str| wanted.iter().position(|w| w.name == name);
        self.list.sort_by_key(|(output, _)| place(&output.name()));
    }

    /// Tells the monitors again, as they are: to a client that counts in other pixels now.
    pub fn tell_again(&self) {
        for (output, _) in &self.list {
            let (mode, place) = (output.current_mode(), output.current_location());
            let (transform, scale) = (output.current_transform(), output.current_scale());
            output.change_current_state(mode, Some(transform), Some(scale), Some(place));
        }
    }

    /// The smallest rectangle that holds all monitors, in logical pixels.
    #[must_use]
    pub fn bounds(&self) -> Rect {
        let areas = self.list.iter().map(|(output, _)| {
            let (place, mode) = (output.current_location(), output.current_mode());
            let scale = output.current_scale().fractional_scale();
            let size = mode
                .map_or_else(Default::default, |m| m.size.to_f64().to_logical(scale).to_i32_round::<i32>());
            smithay::utils::Rectangle::new(place, size)
        });
        areas.reduce(|a, b| a.merge(b)).map(state::rect).unwrap_or_default()
    }

    /// The scale that apps should draw at, rounded up.
    #[must_use]
    pub fn scale(&self) -> i32 {
        self.list.iter().map(|(o, _)| o.current_scale().integer_scale()).max().unwrap_or(1)
    }

    /// The scale that apps should draw at.
    #[must_use]
    pub fn fractional_scale(&self) -> f64 {
        self.list.iter().map(|(o, _)| o.current_scale().fractional_scale()).reduce(f64::max).unwrap_or(1.0)
    }

    /// A surface is shown here; as long as the host does not say where, it counts as shown everywhere.
    pub fn enter(&self, surface: &WlSurface, shown: Option<&Shown>) {
        for (at, (output, _)) in self.list.iter().enumerate() {
            if shown.is_none_or(|shown| shown.outputs.iter().any(|on| usize::from(*on) == at)) {
                output.enter(surface);
            } else {
                output.leave(surface);
            }
        }
    }
}

/// A plausible size of the monitor: the host does not tell it, and apps take 0 for a fault. 96 logical pixels are an inch.
fn millimetres(size: Size) -> smithay::utils::Size<i32, smithay::utils::Raw> {
    let side = |pixels: u32| i32::try_from(u64::from(pixels) * 254 / 960).unwrap_or(0);
    (side(size.width), side(size.height)).into()
}

fn update(output: &Output, host: &HostOutput) {
    let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    let mode = Mode {
        size: (side(host.mode.width), side(host.mode.height)).into(),
        refresh: i32::try_from(host.refresh).unwrap_or(60_000),
    };
    let scale = Scale::Custom {
        advertised_integer: side(host.scale_120.div_ceil(120)),
        fractional: f64::from(host.scale_120) / 120.0,
    };
    if let Some(old) = output.current_mode().filter(|old| *old != mode) {
        output.delete_mode(old);
    }
    output.set_preferred(mode);
    let place = (host.area.x, host.area.y);
    output.change_current_state(Some(mode), Some(Transform::Normal), Some(scale), Some(place.into()));
}

/// The host said its monitors.
pub fn changed(agent: &mut Agent, outputs: &[HostOutput]) {
    let mut named: Vec<HostOutput> = Vec::new();
    for output in outputs {
        if !named.iter().any(|n| n.name == output.name) {
            named.push(output.clone());
        }
    }
    // Before the monitors: they are told to X11 in its pixels. What a host takes for a scale is not unbounded.
    let largest = named.iter().map(|output| output.scale_120).max().unwrap_or(120);
    crate::x11::rescale(agent, inlay_protocol::scale::Scale(largest.clamp(120, 960)));
    agent.outputs.set(&agent.display_handle, &named);
    for surface in agent.surfaces.iter_mut().map(|surface| surface.wl.clone()).collect::<Vec<_>>() {
        follow(agent, &surface);
    }
    crate::apps::monitors_told(agent);
}

/// The host said where a window is.
pub fn shown(agent: &mut Agent, id: SurfaceId, shown: Shown) {
    let Some(root) = agent.surfaces.get_mut(id) else { return };
    root.shown = Some(shown);
    let root = root.wl.clone();
    let all: Vec<WlSurface> = agent.surfaces.iter_mut().map(|surface| surface.wl.clone()).collect();
    for surface in all.into_iter().filter(|surface| root_of(surface) == root) {
        follow(agent, &surface);
    }
}

/// Tells an app where its surface is, and the scale to draw it at.
pub fn follow(agent: &Agent, surface: &WlSurface) {
    let (whole, scale) = scale_of(agent, surface);
    viewporter::prefer(surface, scale);
    with_states(surface, |states| send_surface_state(surface, states, whole, Transform::Normal));
    agent.outputs.enter(surface, shown_of(agent, surface));
}

/// Where the window of a surface is; a popup that the host said nothing about is where its parent is.
fn shown_of<'a>(agent: &'a Agent, surface: &WlSurface) -> Option<&'a Shown> {
    let mut at = root_of(surface);
    for _ in 0..limits::TREE_DEPTH {
        let id = id_of(&at)?;
        if let Some(shown) = agent.surfaces.get(id).and_then(|root| root.shown.as_ref()) {
            return Some(shown);
        }
        at = root_of(&agent.windows.popups.get(&id)?.handle.get_parent_surface()?);
    }
    None
}

/// The monitor that a surface is on.
pub fn on(agent: &Agent, surface: &WlSurface) -> Option<Output> {
    let place = shown_of(agent, surface).and_then(|shown| shown.outputs.first()).copied().unwrap_or(0);
    let list = &agent.outputs.list;
    list.get(usize::from(place)).or(list.first()).map(|(output, _)| output.clone())
}

/// The scale to draw a surface at, rounded up and as it is.
pub fn scale_of(agent: &Agent, surface: &WlSurface) -> (i32, f64) {
    match shown_of(agent, surface).map(|shown| shown.scale_120) {
        Some(scale) => (i32::try_from(scale.div_ceil(120)).unwrap_or(1), f64::from(scale) / 120.0),
        None => (agent.outputs.scale(), agent.outputs.fractional_scale()),
    }
}

impl OutputHandler for Agent {}

smithay::delegate_output!(Agent);
