//! `xdg_activation_v1`: an app asks that a toplevel, its own or another app's, gets the focus. The host decides; with a token that
//! names something the user did it is asked for the focus, else only for attention.

use std::time::Duration;

use inlay_protocol::display::Act;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::wayland::xdg_activation::{
    XdgActivationHandler, XdgActivationState, XdgActivationToken, XdgActivationTokenData,
};

use crate::agent::Agent;
use crate::surface::id_of;
use crate::windows;

/// How long a token is good for: an app may take a while to start.
const FRESH: Duration = Duration::from_secs(60);
/// Tokens at once; more are not kept.
const TOKENS: usize = 256;

impl XdgActivationHandler for Agent {
    fn activation_state(&mut self) -> &mut XdgActivationState {
        &mut self.protocols.activation
    }

    fn token_created(&mut self, _: XdgActivationToken, _: XdgActivationTokenData) -> bool {
        let state = &mut self.protocols.activation;
        state.retain_tokens(|_, data| data.timestamp.elapsed() < FRESH);
        state.tokens().count() <= TOKENS
    }

    fn request_activation(
        &mut self,
        token: XdgActivationToken,
        data: XdgActivationTokenData,
        surface: WlSurface,
    ) {
        self.protocols.activation.remove_token(&token);
        let Some(id) = id_of(&surface) else { return };
        if data.serial.is_some() && data.timestamp.elapsed() < FRESH {
            windows::act(self, id, Act::Activate);
        } else if let Some(window) = self.windows.toplevels.get_mut(&id) {
            window.urgent = true;
            self.windows.mark(id);
        }
    }
}

smithay::delegate_xdg_activation!(Agent);
