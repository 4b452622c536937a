//! What apps of the guest drag over the desktop (XDND 5): the pointer, the keys and the image while the user holds it. The words with the
//! apps under it are [`super::selection`]'s.
//!
//! The grabs are of a window that no guest knows of: whatever it closes, the button's release comes here, and ends them.

use inlay_exchange::x11::xdnd;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::Point;
use inlay_protocol::input::InputEvent;
use inlay_protocol::selection::Actions;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xinput::{self, ConnectionExt as _, GrabOwner, XIEventMask};
use x11rb::protocol::xproto::{
    self, ConnectionExt as _, CreateWindowAux, GrabMode, GrabStatus, KeyButMask, WindowClass,
};

use super::super::HostEvent;
use super::super::image::Image;
use super::drag_icon::Icon;
use super::{X11, pointer};

/// The X keycode of Escape.
const ESCAPE: u8 = 9;
/// Modifiers by their bits.
const SHIFT: u32 = 1;
const CONTROL: u32 = 4;

/// What the user holds.
#[derive(Debug)]
pub struct Source {
    /// Has the grabs.
    window: xproto::Window,
    icon: Option<Icon>,
    allowed: Actions,
    /// Buttons, evdev codes: with the last of them it is dropped.
    buttons: Vec<u32>,
    /// Where the pointer is, and since when.
    at: (Point, xproto::Timestamp),
    modifiers: u32,
    /// Nobody was told of that place.
    moved: bool,
    /// What the cursor says.
    shown: Option<Actions>,
}

impl X11 {
    /// Takes the pointer for a drag out of a window, while a button is held that was pressed there.
    pub(super) fn start_drag(&mut self, window: SurfaceId, types: &[String], allowed: Actions) -> bool {
        let pressed = !self.buttons.is_empty() && self.pointed == Some(window);
        if !pressed || self.selections.is_none() || self.source.is_some() {
            return false;
        }
        match self.grab_for_drag() {
            Ok(Some((grab, at))) => {
                let (buttons, modifiers) = (self.buttons.clone(), 0);
                self.own.extend(pointer::lift_buttons(&mut self.buttons));
                self.own.push(HostEvent::Input(InputEvent::PointerLeave));
                (self.pointed, self.left, self.watched) = (None, false, None);
                let at = (at, x11rb::CURRENT_TIME);
                let (moved, shown) = (true, None);
                self.source =
                    Some(Source { window: grab, icon: None, allowed, buttons, at, modifiers, moved, shown });
                if let Some(selections) = &mut self.selections {
                    selections.drag_starts(types, allowed);
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!("nothing can be dragged out of a window: {error:#}");
                false
            }
        }
    }

    /// A window that has the pointer and the keys, and where the pointer is; none where somebody else has it, or no button is down.
    fn grab_for_drag(&self) -> anyhow::Result<Option<(xproto::Window, Point)>> {
        let c = &self.connection;
        let pointer = c.query_pointer(self.root)?.reply()?;
        let buttons = KeyButMask::BUTTON1 | KeyButMask::BUTTON2 | KeyButMask::BUTTON3;
        if u16::from(pointer.mask) & u16::from(buttons) == 0 {
            return Ok(None);
        }
        let window = c.generate_id()?;
        let aux = CreateWindowAux::new().override_redirect(1);
        let only = WindowClass::INPUT_ONLY;
        c.create_window(0, window, self.root, -2, -2, 1, 1, 0, only, x11rb::COPY_FROM_PARENT, &aux)?;
        c.map_window(window)?;
        let mask = XIEventMask::BUTTON_PRESS | XIEventMask::BUTTON_RELEASE | XIEventMask::MOTION;
        let grabbed = c
            .xinput_xi_grab_device(
                window,
                x11rb::CURRENT_TIME,
                x11rb::NONE,
                self.pointer.master,
                GrabMode::ASYNC,
                GrabMode::ASYNC,
                GrabOwner::NO_OWNER,
                &[mask.into()],
            )?
            .reply()?;
        if grabbed.status != GrabStatus::SUCCESS {
            c.destroy_window(window)?;
            return Ok(None);
        }
        // Without the keys there is no Escape, and no more.
        let keys = c.grab_keyboard(false, window, x11rb::CURRENT_TIME, GrabMode::ASYNC, GrabMode::ASYNC)?;
        tracing::debug!("keys of a drag: {:?}", keys.reply()?.status);
        Ok(Some((window, Point::new(pointer.root_x.into(), pointer.root_y.into()))))
    }

    /// Takes an event while something is dragged; `false` for those that mean nothing to it.
    pub(super) fn drag_event(&mut self, event: &Event) -> bool {
        let Some(source) = &mut self.source else { return false };
        let place = |e: &xinput::ButtonPressEvent| {
            Point::new((e.root_x >> 16).clamp(-32768, 32767), (e.root_y >> 16).clamp(-32768, 32767))
        };
        match event {
            Event::XinputMotion(e) => {
                (source.at, source.moved) = ((place(e), e.time), true);
                source.modifiers = e.mods.effective;
            }
            Event::XinputButtonRelease(e) => {
                let code = pointer::button_code(e.detail);
                source.buttons.retain(|held| Some(*held) != code);
                if source.buttons.is_empty() {
                    (source.at, source.moved) = ((place(e), e.time), true);
                    self.follow_drag();
                    self.drop_drag(e.time);
                }
            }
            Event::KeyPress(e) if e.detail == ESCAPE => self.escape_drag(),
            // The pointer is nobody else's.
            Event::XinputButtonPress(_) | Event::XinputEnter(_) | Event::XinputLeave(_) => {}
            _ => return false,
        }
        true
    }

    /// Tells the app under the pointer of the newest place; the image and the cursor follow.
    pub(super) fn follow_drag(&mut self) {
        let (Some(source), Some(selections)) = (&mut self.source, &mut self.selections) else { return };
        let (at, time) = source.at;
        if std::mem::take(&mut source.moved) {
            if let Some(icon) = &source.icon {
                icon.follow(&self.connection, at);
            }
            let target = selections.drag_target(at);
            let own = target.is_some_and(|target| self.by_xid.contains_key(&target));
            selections.drag_to((target, own), at, time, wanted(source.allowed, source.modifiers));
        }
        let action = selections.drag_action();
        if source.shown != Some(action) {
            source.shown = Some(action);
            let (window, name) = (source.window, cursor_name(action));
            match self.cursors.named(&self.connection, name) {
                Ok(cursor) => {
                    let aux = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
                    self.sent(self.connection.change_window_attributes(window, &aux));
                }
                Err(error) => tracing::debug!("a drag's cursor: {error:#}"),
            }
        }
    }

    /// The user lets go.
    fn drop_drag(&mut self, time: xproto::Timestamp) {
        self.release_drag();
        if let Some(selections) = &mut self.selections {
            selections.drag_drops(time);
        }
    }

    /// The user wants it no more.
    fn escape_drag(&mut self) {
        self.release_drag();
        if let Some(selections) = &mut self.selections {
            selections.drag_ends();
        }
    }

    /// Its app takes it back, held or dropped.
    pub(super) fn take_drag_back(&mut self) {
        self.release_drag();
        if let Some(selections) = &mut self.selections {
            selections.drag_forgets();
        }
    }

    /// Gives the pointer and the keys back.
    fn release_drag(&mut self) {
        let Some(source) = self.source.take() else { return };
        if let Some(icon) = source.icon {
            icon.destroy(&self.connection);
        }
        self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
        self.sent(self.connection.ungrab_keyboard(x11rb::CURRENT_TIME));
        self.sent(self.connection.destroy_window(source.window));
    }

    /// Shows the image of what is dragged.
    pub(super) fn show_drag_icon(&mut self, image: Image) {
        let Some(source) = &mut self.source else { return };
        let before = source.icon.take();
        let result = match image {
            Image::Pixels { size, bytes, hotspot, .. } => {
                let screen = (&*self.connection, self.screen);
                Icon::show(screen, before, (size, &bytes), hotspot, source.at.0).map(Some)
            }
            Image::Named(_) | Image::Hidden => {
                if let Some(icon) = before {
                    icon.destroy(&self.connection);
                }
                Ok(None)
            }
        };
        match result {
            Ok(icon) => source.icon = icon,
            Err(error) => tracing::debug!("the image of what is dragged cannot be shown: {error:#}"),
        }
    }
}

/// What the keys say that the user wants, of what there is.
fn wanted(allowed: Actions, modifiers: u32) -> Actions {
    let by_keys = match (modifiers & CONTROL != 0, modifiers & SHIFT != 0) {
        (true, true) => Actions::ASK,
        (true, false) => Actions::COPY,
        (false, true) => Actions::MOVE,
        (false, false) => Actions::NONE,
    };
    let known = [by_keys, Actions::COPY, Actions::MOVE, Actions::ASK];
    known.into_iter().find(|a| !a.is_empty() && allowed.contains(*a)).unwrap_or(Actions::NONE)
}

fn cursor_name(action: Actions) -> &'static str {
    match action {
        Actions::COPY => "copy",
        Actions::MOVE => "move",
        Actions::ASK => "dnd-ask",
        _ => "no-drop",
    }
}

/// Asks for the numbers of the protocol's names.
///
/// # Errors
/// When the display is gone.
pub fn atoms(connection: &x11rb::xcb_ffi::XCBConnection) -> anyhow::Result<xdnd::Atoms> {
    Ok(xdnd::Atoms::new(connection)?.reply()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose_among_what_there_is() {
        let all = Actions(7);
        assert_eq!(wanted(all, 0), Actions::COPY);
        assert_eq!(wanted(all, SHIFT), Actions::MOVE);
        assert_eq!(wanted(all, CONTROL | SHIFT), Actions::ASK);
        assert_eq!(wanted(Actions::MOVE, CONTROL), Actions::MOVE);
        assert_eq!(wanted(Actions::COPY, SHIFT), Actions::COPY);
        assert_eq!(wanted(Actions::NONE, SHIFT), Actions::NONE);
    }
}
