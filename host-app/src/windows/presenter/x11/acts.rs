//! What apps have done with their toplevels, and the pointer grab that open popups need.

use inlay_protocol::display::{Act, Edges, SurfaceId};
use inlay_protocol::geometry::Point;
use x11rb::protocol::xinput::{ConnectionExt as _, GrabOwner};
use x11rb::protocol::xproto::{self, ConnectionExt as _, GrabMode};

use super::{HostWindow, X11, pointer};

impl X11 {
    /// Does what an app asked for.
    pub(super) fn do_act(&mut self, window: SurfaceId, act: Act) {
        let Some(HostWindow { xid, .. }) = self.windows.get(&window) else { return };
        let xid = *xid;
        // The pointer is the user's: an app may only have it dragged from where it is pressed just now.
        let pressed = !self.buttons.is_empty();
        match act {
            Act::Move | Act::Resize(_) if !pressed || self.pointed != Some(window) => return,
            Act::WindowMenu(_) if self.pointed != Some(window) => return,
            _ => {}
        }
        let a = &self.atoms;
        let (vertical, horizontal, full) =
            (a._NET_WM_STATE_MAXIMIZED_VERT, a._NET_WM_STATE_MAXIMIZED_HORZ, a._NET_WM_STATE_FULLSCREEN);
        let state = |on: u32, first, second| (a._NET_WM_STATE, [on, first, second, 1, 0]);
        let (kind, data) = match act {
            Act::Maximize => state(1, vertical, horizontal),
            Act::Unmaximize => state(0, vertical, horizontal),
            Act::Fullscreen => state(1, full, 0),
            Act::Unfullscreen => state(0, full, 0),
            // ICCCM 4.1.4: IconicState.
            Act::Minimize => (a.WM_CHANGE_STATE, [3, 0, 0, 0, 0]),
            Act::WindowMenu(_) => {
                let at = self.pointer_place();
                let [x, y] = [at.x, at.y].map(i32::cast_unsigned);
                self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
                (a._GTK_SHOW_WINDOW_MENU, [0, x, y, 0, 0])
            }
            Act::Activate => return self.activate(window, xid),
            Act::Move => return self.drag(xid, 8),
            Act::Resize(edges) => {
                if let Some(direction) = direction(edges) {
                    self.drag(xid, direction);
                }
                return;
            }
        };
        self.root_message(xid, kind, data);
    }

    /// Gives a toplevel the focus while another window of ours has it: elsewhere the user is not to be disturbed, and sees that
    /// it wants attention.
    fn activate(&mut self, id: SurfaceId, xid: xproto::Window) {
        let focused = self.focus.and_then(|id| self.windows.get(&id)).map(|window| window.xid);
        match (focused, self.user_time) {
            (Some(focused), Some(time)) => {
                // EWMH: an application's own wish is 1.
                self.root_message(xid, self.atoms._NET_ACTIVE_WINDOW, [1, time, focused, 0, 0]);
            }
            _ => self.set_urgent(id, true),
        }
    }

    /// Takes the pointer while a popup with a grab is open in a toplevel, so that clicks elsewhere come here.
    pub(super) fn grab_pointer_for(&mut self, toplevel: Option<SurfaceId>) {
        let window = toplevel.and_then(|id| Some((id, self.windows.get(&id)?.xid)));
        match (window, self.watched) {
            (Some((id, xid)), None) => {
                let grab = self.connection.xinput_xi_grab_device(
                    xid,
                    x11rb::CURRENT_TIME,
                    x11rb::NONE,
                    self.pointer.master,
                    GrabMode::ASYNC,
                    GrabMode::ASYNC,
                    GrabOwner::OWNER,
                    &[pointer::mask().into()],
                );
                let status = grab.map_err(drop).and_then(|c| c.reply().map_err(drop)).map(|r| r.status);
                if status == Ok(xproto::GrabStatus::SUCCESS) {
                    self.watched = Some((id, xid));
                } else {
                    tracing::debug!("no pointer grab for a popup: {status:?}");
                }
            }
            (None, Some(_)) => {
                self.watched = None;
                self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
            }
            _ => {}
        }
    }

    fn pointer_place(&self) -> Point {
        let reply =
            self.connection.query_pointer(self.root).map_err(drop).and_then(|c| c.reply().map_err(drop));
        reply.map_or(Point::default(), |r| Point::new(r.root_x.into(), r.root_y.into()))
    }

    /// Has the window manager move or resize a window by the pointer (`_NET_WM_MOVERESIZE`).
    fn drag(&mut self, xid: xproto::Window, direction: u32) {
        let at = self.pointer_place();
        self.sent(self.connection.ungrab_pointer(x11rb::CURRENT_TIME));
        let [x, y] = [at.x, at.y].map(i32::cast_unsigned);
        self.root_message(xid, self.atoms._NET_WM_MOVERESIZE, [x, y, direction, 1, 1]);
        // The window manager takes the pointer: its release never comes here.
        self.own.extend(pointer::lift_buttons(&mut self.buttons));
    }
}

/// `_NET_WM_MOVERESIZE`'s number for an edge or corner.
fn direction(edges: Edges) -> Option<u32> {
    let [top, bottom, left, right] = [Edges::TOP, Edges::BOTTOM, Edges::LEFT, Edges::RIGHT];
    let order =
        [top.with(left), top, top.with(right), right, bottom.with(right), bottom, bottom.with(left), left];
    (0..).zip(order).find(|(_, e)| *e == edges).map(|(number, _)| number)
}
