//! What apps want of the desktop for their toplevels, where it is offered: a screen that stays on (idle-inhibit), the keys that it has
//! shortcuts on (keyboard-shortcuts-inhibit; the desktop asks the user), to know what they show (content-type), and that a dialog has
//! to be answered first (xdg-dialog).

use inlay_protocol::display::{ContentType, SurfaceId};
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::WpContentTypeManagerV1;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_v1::{Type, WpContentTypeV1};
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibit_manager_v1::ZwpIdleInhibitManagerV1;
use wayland_protocols::wp::idle_inhibit::zv1::client::zwp_idle_inhibitor_v1::ZwpIdleInhibitorV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibit_manager_v1::ZwpKeyboardShortcutsInhibitManagerV1;
use wayland_protocols::wp::keyboard_shortcuts_inhibit::zv1::client::zwp_keyboard_shortcuts_inhibitor_v1::{
    self, ZwpKeyboardShortcutsInhibitorV1,
};
use wayland_protocols::xdg::dialog::v1::client::xdg_dialog_v1::XdgDialogV1;
use wayland_protocols::xdg::dialog::v1::client::xdg_wm_dialog_v1::XdgWmDialogV1;

use super::super::HostEvent;
use super::State;
use super::window::{HostWindow, Role};

/// The wishes of one toplevel that the desktop knows.
#[derive(Debug, Default)]
pub struct Wishes {
    awake: Option<ZwpIdleInhibitorV1>,
    shortcuts: Option<ZwpKeyboardShortcutsInhibitorV1>,
    content: Option<WpContentTypeV1>,
    shows: ContentType,
    dialog: Option<XdgDialogV1>,
}

impl Wishes {
    pub fn destroy(self) {
        if let Some(awake) = self.awake {
            awake.destroy();
        }
        if let Some(shortcuts) = self.shortcuts {
            shortcuts.destroy();
        }
        if let Some(content) = self.content {
            content.destroy();
        }
        if let Some(dialog) = self.dialog {
            dialog.destroy();
        }
    }
}

impl State {
    /// Tells the desktop what is new of a toplevel's wishes.
    pub(super) fn wish(&mut self, id: SurfaceId) {
        let Some(HostWindow { role: Role::Toplevel(toplevel), surface, .. }) = self.windows.get_mut(&id)
        else {
            return;
        };
        let (look, wishes, handle) = (&toplevel.look, &mut toplevel.wishes, &self.handle);
        match (look.keeps_awake, wishes.awake.take()) {
            (false, Some(awake)) => awake.destroy(),
            (true, None) => {
                let manager = self.globals.idle_inhibit.as_ref();
                wishes.awake = manager.map(|m| m.create_inhibitor(surface, handle, ()));
            }
            (_, same) => wishes.awake = same,
        }
        match (look.inhibits_shortcuts, wishes.shortcuts.take()) {
            (false, Some(shortcuts)) => shortcuts.destroy(),
            (true, None) => {
                let offered = self.globals.shortcuts.as_ref().zip(self.globals.seat.as_ref());
                wishes.shortcuts =
                    offered.map(|(manager, (_, seat))| manager.inhibit_shortcuts(surface, seat, handle, id));
            }
            (_, same) => wishes.shortcuts = same,
        }
        if wishes.content.is_none() && look.content_type != ContentType::None {
            let manager = self.globals.content_type.as_ref();
            wishes.content = manager.map(|m| m.get_surface_content_type(surface, handle, ()));
        }
        if let Some(content) = wishes.content.as_ref().filter(|_| wishes.shows != look.content_type) {
            wishes.shows = look.content_type;
            // It counts from the next commit on, which is with the next frame.
            self.events.push(HostEvent::Exposed { window: id });
            content.set_content_type(match look.content_type {
                ContentType::None => Type::None,
                ContentType::Photo => Type::Photo,
                ContentType::Video => Type::Video,
                ContentType::Game => Type::Game,
            });
        }
        if wishes.dialog.is_none() && look.modal {
            let manager = self.globals.dialog.as_ref();
            wishes.dialog = manager.map(|m| m.get_xdg_dialog(&toplevel.toplevel, handle, ()));
        }
        match &wishes.dialog {
            Some(dialog) if look.modal => dialog.set_modal(),
            Some(dialog) => dialog.unset_modal(),
            None => {}
        }
    }
}

impl Dispatch<ZwpKeyboardShortcutsInhibitorV1, SurfaceId> for State {
    fn event(
        state: &mut Self,
        _: &ZwpKeyboardShortcutsInhibitorV1,
        event: zwp_keyboard_shortcuts_inhibitor_v1::Event,
        id: &SurfaceId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let inhibited = matches!(event, zwp_keyboard_shortcuts_inhibitor_v1::Event::Active);
        state.events.push(HostEvent::ShortcutsInhibited { window: *id, inhibited });
    }
}

delegate_noop!(State: ZwpIdleInhibitManagerV1);
delegate_noop!(State: ZwpIdleInhibitorV1);
delegate_noop!(State: ZwpKeyboardShortcutsInhibitManagerV1);
delegate_noop!(State: WpContentTypeManagerV1);
delegate_noop!(State: WpContentTypeV1);
delegate_noop!(State: XdgWmDialogV1);
delegate_noop!(State: XdgDialogV1);
