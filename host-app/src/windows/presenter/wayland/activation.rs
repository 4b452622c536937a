//! Who gets the focus (xdg-activation): the desktop decides. An app's wish carries the serial of what the user did last in a window
//! of ours; a wish for attention carries none. A window that the user waits for carries the launcher's own token.

use std::time::{Duration, Instant};

use inlay_protocol::display::SurfaceId;
use wayland_client::{Connection, Dispatch, QueueHandle};
use wayland_protocols::xdg::activation::v1::client::xdg_activation_token_v1::{self, XdgActivationTokenV1};

use super::State;
use super::window::{HostWindow, Role};

/// How long the launcher's token waits for a window.
const EXPECTED: Duration = Duration::from_secs(60);
/// No token is longer.
const TOKEN: usize = 1024;

impl State {
    /// Asks the desktop to give a toplevel the focus; `serial` of what the user did, or none when it only wants attention.
    pub(super) fn activate(&self, id: SurfaceId, serial: Option<u32>) {
        let (Some(activation), Some(window)) = (&self.globals.activation, self.windows.get(&id)) else {
            return;
        };
        let Role::Toplevel(toplevel) = &window.role else { return };
        let token = activation.get_activation_token(&self.handle, id);
        token.set_app_id(toplevel.look.class.clone());
        if let (Some(serial), Some((_, seat))) = (serial, &self.globals.seat) {
            token.set_serial(serial, seat);
            let focused = self.keyboard.focus().and_then(|id| self.windows.get(&id));
            if let Some(focused) = focused {
                token.set_surface(&focused.surface);
            }
        }
        token.commit();
    }

    /// The launcher's token for the next toplevel.
    pub(super) fn expect(&mut self, token: Option<String>) {
        let sane = |token: &String| (1..=TOKEN).contains(&token.len()) && !token.contains('\0');
        self.expected = token.filter(sane).map(|token| (Instant::now(), token));
    }

    /// A toplevel is on the screen for the first time.
    pub(super) fn appeared_first(&mut self, id: SurfaceId) {
        if let Some((since, token)) = self.expected.take()
            && since.elapsed() < EXPECTED
            && let Some(activation) = &self.globals.activation
            && let Some(window) = self.windows.get(&id)
        {
            activation.activate(token, &window.surface);
        }
    }
}

impl Dispatch<XdgActivationTokenV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        token: &XdgActivationTokenV1,
        event: xdg_activation_token_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_activation_token_v1::Event::Done { token: text } = event {
            if let (Some(activation), Some(HostWindow { surface, .. })) =
                (&state.globals.activation, state.windows.get(id))
            {
                activation.activate(text, surface);
            }
            token.destroy();
        }
    }
}
