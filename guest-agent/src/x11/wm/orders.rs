//! What the agent orders: places, focus, closing.

use inlay_protocol::display::States;
use inlay_protocol::geometry::{Point, Rect, Size};
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureNotifyEvent, ConfigureWindowAux, ConnectionExt as _, EventMask,
    InputFocus, StackMode,
};

use super::{Fault, Order, Wm, Xid};

impl Wm {
    pub(super) fn obey(&mut self, order: Order) -> Result<(), Fault> {
        match order {
            Order::Move(window, at) => self.move_to(window, at),
            Order::Configure { window, size, states } => self.configure(window, size, states),
            Order::Resize(window, size) => self.resize(window, size),
            Order::Scale(scale) => self.publish_scale(scale),
            Order::Raise(window) => self.raise(window),
            Order::Focus(window) => self.give_focus(window),
            Order::Close(window) => self.close(window),
            Order::Ping(window, serial) => {
                let data = [self.atoms._NET_WM_PING, serial, window, 0, 0];
                self.tell(window, data)
            }
            Order::Kill(window) => {
                self.c.kill_client(window)?;
                Ok(())
            }
            Order::Drag(step) => self.drag(step),
            Order::Cover(on) => self.cover(on),
            Order::DragStatus(action) => self.drag_status(action),
            Order::DragFinished(action) => self.drag_finished(action),
            Order::LetGo => self.let_go(),
            Order::Offer(selection, types) => Ok(self.selections.offer(&self.c, selection, types)?),
            Order::Take(selection, kind, pipe) => {
                Ok(self.selections.take(&self.c, selection, &kind, pipe)?)
            }
        }
    }

    /// Where a managed window may be changed by orders.
    fn managed(&mut self, id: Xid) -> Option<&mut super::Entry> {
        self.windows.get_mut(&id).filter(|e| !e.window.override_redirect)
    }

    fn configure(&mut self, id: Xid, size: Option<Size>, states: States) -> Result<(), Fault> {
        let Some(entry) = self.managed(id) else { return Ok(()) };
        let before = std::mem::replace(&mut entry.states, states);
        if before != states {
            self.write_states(id)?;
        }
        size.map_or(Ok(()), |size| self.resize(id, size))
    }

    fn resize(&mut self, id: Xid, size: Size) -> Result<(), Fault> {
        if self.managed(id).is_some() {
            let aux =
                ConfigureWindowAux::new().width(size.width.max(1)).height(size.height.max(1)).border_width(0);
            self.c.configure_window(id, &aux)?;
        }
        Ok(())
    }

    fn move_to(&mut self, id: Xid, at: Point) -> Result<(), Fault> {
        if self.managed(id).is_some() {
            self.c.configure_window(id, &ConfigureWindowAux::new().x(at.x).y(at.y))?;
        }
        Ok(())
    }

    /// Tells an app that its window stays as it is.
    pub(super) fn repeat_place(&mut self, id: Xid) -> Result<(), Fault> {
        let Some(entry) = self.windows.get(&id) else { return Ok(()) };
        let Rect { x, y, width, height } = entry.window.place;
        let place = |v: i32| i16::try_from(v).unwrap_or(0);
        let side = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
        let event = ConfigureNotifyEvent {
            response_type: x11rb::protocol::xproto::CONFIGURE_NOTIFY_EVENT,
            sequence: 0,
            event: id,
            window: id,
            above_sibling: x11rb::NONE,
            x: place(x),
            y: place(y),
            width: side(width),
            height: side(height),
            border_width: 0,
            override_redirect: false,
        };
        self.c.send_event(false, id, EventMask::STRUCTURE_NOTIFY, event)?;
        Ok(())
    }

    /// A message of `WM_PROTOCOLS`.
    fn tell(&self, id: Xid, data: [u32; 5]) -> Result<(), Fault> {
        let event = ClientMessageEvent::new(32, id, self.atoms.WM_PROTOCOLS, data);
        self.c.send_event(false, id, EventMask::NO_EVENT, event)?;
        Ok(())
    }

    fn raise(&mut self, id: Xid) -> Result<(), Fault> {
        // What bypasses the window manager stays above: menus, tool tips.
        let above = self.windows.values().filter(|e| e.mapped && e.window.override_redirect);
        for window in std::iter::once(id).chain(above.map(|e| e.window.id)) {
            self.c.configure_window(window, &ConfigureWindowAux::new().stack_mode(StackMode::ABOVE))?;
        }
        Ok(())
    }

    /// Gives the keyboard to a window by its input model (ICCCM 4.1.7), and raises it.
    fn give_focus(&mut self, id: Option<Xid>) -> Result<(), Fault> {
        let before = std::mem::replace(&mut self.focus, id);
        if before == id {
            return Ok(());
        }
        if let Some(before) = before {
            self.write_states(before)?;
        }
        let Some(id) = id else {
            self.c.set_input_focus(InputFocus::NONE, x11rb::NONE, x11rb::CURRENT_TIME)?;
            return Ok(self.set(self.root, self.atoms._NET_ACTIVE_WINDOW, AtomEnum::WINDOW, &[0])?);
        };
        let Some(entry) = self.windows.get_mut(&id).filter(|e| e.mapped) else { return Ok(()) };
        // The user is there: it has the attention it asked for.
        entry.window.attention = false;
        let (input, takes) = (entry.window.input, entry.window.takes_focus);
        self.raise(id)?;
        if input {
            self.c.set_input_focus(InputFocus::POINTER_ROOT, id, x11rb::CURRENT_TIME)?;
        }
        if takes {
            self.tell(id, [self.atoms.WM_TAKE_FOCUS, self.time, 0, 0, 0])?;
        }
        self.set(self.root, self.atoms._NET_ACTIVE_WINDOW, AtomEnum::WINDOW, &[id])?;
        self.write_states(id)
    }

    /// Has a window closed: asked where it takes that, else its client is disconnected (ICCCM 4.2.8.1).
    fn close(&mut self, id: Xid) -> Result<(), Fault> {
        let Some(entry) = self.windows.get(&id) else { return Ok(()) };
        if entry.window.deletes {
            self.tell(id, [self.atoms.WM_DELETE_WINDOW, self.time, 0, 0, 0])
        } else {
            self.c.kill_client(id)?;
            Ok(())
        }
    }
}
