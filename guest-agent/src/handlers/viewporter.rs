//! `wp_viewporter` and `wp_fractional_scale_v1`: cropped and scaled surfaces, and the scale that apps should draw at.

use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::compositor::with_states;
use smithay::wayland::fractional_scale::{FractionalScaleHandler, with_fractional_scale};

use super::output;
use crate::agent::Agent;

impl FractionalScaleHandler for Agent {
    fn new_fractional_scale(&mut self, surface: WlSurface) {
        prefer(&surface, output::scale_of(self, &surface).1);
    }
}

/// Tells an app the scale to draw a surface at.
pub fn prefer(surface: &WlSurface, scale: f64) {
    with_states(surface, |states| {
        with_fractional_scale(states, |fractional| fractional.set_preferred_scale(scale));
    });
}

smithay::delegate_viewporter!(Agent);
smithay::delegate_fractional_scale!(Agent);
