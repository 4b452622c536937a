//! What windows want beside being shown: the focus, icons, the pointer, a screen that stays on, the desktop's shortcuts.

use smithay::input::pointer::{PointerHandle, RelativeMotionEvent};
use smithay::reexports::wayland_protocols::wp::content_type::v1::server::wp_content_type_v1::Type;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::XdgToplevel;
use smithay::reexports::wayland_server::DisplayHandle;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point};
use smithay::wayland::compositor::with_states;
use smithay::wayland::content_type::{ContentTypeState, ContentTypeSurfaceCachedState};
use smithay::wayland::idle_inhibit::{IdleInhibitHandler, IdleInhibitManagerState};
use smithay::wayland::keyboard_shortcuts_inhibit::{
    KeyboardShortcutsInhibitHandler, KeyboardShortcutsInhibitState, KeyboardShortcutsInhibitor,
};
use smithay::wayland::pointer_constraints::{
    PointerConstraint, PointerConstraintsHandler, PointerConstraintsState, with_pointer_constraint,
};
use smithay::wayland::relative_pointer::RelativePointerManagerState;
use smithay::wayland::shell::xdg::ToplevelSurface;
use smithay::wayland::shell::xdg::dialog::{XdgDialogHandler, XdgDialogState};
use smithay::wayland::xdg_activation::{
    XdgActivationHandler, XdgActivationState, XdgActivationToken, XdgActivationTokenData,
};
use smithay::wayland::xdg_toplevel_icon::{
    ToplevelIconCachedState, XdgToplevelIconHandler, XdgToplevelIconManager,
};

use super::{Asked, Desk, Pixels, copy};

/// How a window has the pointer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Locked,
    Confined,
}

/// What a window shows.
pub type Kind = Type;

/// The protocols.
#[derive(Debug)]
pub struct Wishes {
    activation: XdgActivationState,
    shortcuts: KeyboardShortcutsInhibitState,
    inhibitors: Vec<KeyboardShortcutsInhibitor>,
}

impl Wishes {
    pub fn offer(display: &DisplayHandle) -> Self {
        XdgToplevelIconManager::new::<Desk>(display);
        IdleInhibitManagerState::new::<Desk>(display);
        PointerConstraintsState::new::<Desk>(display);
        RelativePointerManagerState::new::<Desk>(display);
        ContentTypeState::new::<Desk>(display);
        XdgDialogState::new::<Desk>(display);
        Self {
            activation: XdgActivationState::new::<Desk>(display),
            shortcuts: KeyboardShortcutsInhibitState::new::<Desk>(display),
            inhibitors: Vec::new(),
        }
    }
}

impl Desk {
    /// A launcher's token that is good for a window.
    pub fn launch(&mut self) -> String {
        let (token, _) = self.wishes.activation.create_external_token(None);
        token.as_str().to_owned()
    }

    /// Moves the device by so much, which moves the pointer unless a window has it locked.
    pub fn push(&mut self, x: i32, y: i32) {
        let pointer = self.seat.get_pointer().unwrap();
        let delta = Point::<i32, Logical>::from((x, y)).to_f64();
        let delta_unaccel = delta.upscale(0.5);
        let focus = self.under(pointer.current_location());
        let utime = u64::from(self.now()) * 1000;
        pointer.relative_motion(self, focus, &RelativeMotionEvent { delta, delta_unaccel, utime });
        if !matches!(self.held(), Some(Held::Locked)) {
            let at = (pointer.current_location() + delta).to_i32_round();
            self.point(at.x, at.y);
        } else {
            pointer.frame(self);
        }
    }

    /// How the window under the pointer has it held.
    pub fn held(&self) -> Option<Held> {
        let pointer = self.seat.get_pointer()?;
        let focus = pointer.current_focus()?;
        with_pointer_constraint(&focus, &pointer, |constraint| {
            let constraint = constraint.filter(|constraint| constraint.is_active())?;
            Some(match &*constraint {
                PointerConstraint::Locked(_) => Held::Locked,
                PointerConstraint::Confined(_) => Held::Confined,
            })
        })
    }

    /// Lets the pointer go, whatever the window wants.
    pub fn let_go(&mut self) {
        let pointer = self.seat.get_pointer().unwrap();
        let focus = pointer.current_focus().unwrap();
        with_pointer_constraint(&focus, &pointer, |constraint| constraint.unwrap().deactivate());
    }

    /// Leaves its shortcuts to those that want them, or no more.
    pub fn leave_shortcuts(&self, leave: bool) {
        for inhibitor in &self.wishes.inhibitors {
            if leave {
                inhibitor.activate();
            } else {
                inhibitor.inactivate();
            }
        }
    }

    /// What a window shows.
    pub fn kind(&self, window: usize) -> Kind {
        with_states(self.windows()[window].wl_surface(), |states| {
            *states.cached_state.get::<ContentTypeSurfaceCachedState>().current().content_type()
        })
    }
}

impl XdgActivationHandler for Desk {
    fn activation_state(&mut self) -> &mut XdgActivationState {
        &mut self.wishes.activation
    }

    fn request_activation(&mut self, _: XdgActivationToken, data: XdgActivationTokenData, _: WlSurface) {
        let client = data.client_id.is_some();
        self.asked.push(match (client, data.serial) {
            (false, _) => Asked::Launched,
            (true, Some(_)) => Asked::Focus,
            (true, None) => Asked::Attention,
        });
    }
}

impl XdgToplevelIconHandler for Desk {
    fn set_icon(&mut self, _: XdgToplevel, surface: WlSurface) {
        self.icons = with_states(&surface, |states| {
            let mut cached = states.cached_state.get::<ToplevelIconCachedState>();
            let buffers = cached.pending().buffers();
            let pictures: Vec<Pixels> = buffers.iter().filter_map(|(buffer, _)| copy(buffer)).collect();
            let first = pictures.first().map(|picture| picture.bytes.clone()).unwrap_or_default();
            (pictures.iter().map(|picture| picture.size.0).collect(), first)
        });
    }
}

impl IdleInhibitHandler for Desk {
    fn inhibit(&mut self, _: WlSurface) {
        self.asked.push(Asked::Awake(true));
    }

    fn uninhibit(&mut self, _: WlSurface) {
        self.asked.push(Asked::Awake(false));
    }
}

impl PointerConstraintsHandler for Desk {
    fn new_constraint(&mut self, surface: &WlSurface, pointer: &PointerHandle<Self>) {
        if pointer.current_focus().as_ref() == Some(surface) {
            with_pointer_constraint(surface, pointer, |constraint| constraint.unwrap().activate());
        }
    }

    fn cursor_position_hint(&mut self, _: &WlSurface, _: &PointerHandle<Self>, _: Point<f64, Logical>) {}
}

impl KeyboardShortcutsInhibitHandler for Desk {
    fn keyboard_shortcuts_inhibit_state(&mut self) -> &mut KeyboardShortcutsInhibitState {
        &mut self.wishes.shortcuts
    }

    fn new_inhibitor(&mut self, inhibitor: KeyboardShortcutsInhibitor) {
        self.wishes.inhibitors.push(inhibitor);
        self.asked.push(Asked::Shortcuts(true));
    }

    fn inhibitor_destroyed(&mut self, inhibitor: KeyboardShortcutsInhibitor) {
        self.wishes.inhibitors.retain(|known| *known != inhibitor);
        self.asked.push(Asked::Shortcuts(false));
    }
}

impl XdgDialogHandler for Desk {
    fn modal_changed(&mut self, _: ToplevelSurface, modal: bool) {
        self.asked.push(Asked::Modal(modal));
    }
}

smithay::delegate_content_type!(Desk);
smithay::delegate_idle_inhibit!(Desk);
smithay::delegate_keyboard_shortcuts_inhibit!(Desk);
smithay::delegate_pointer_constraints!(Desk);
smithay::delegate_relative_pointer!(Desk);
smithay::delegate_xdg_activation!(Desk);
smithay::delegate_xdg_dialog!(Desk);
smithay::delegate_xdg_toplevel_icon!(Desk);
