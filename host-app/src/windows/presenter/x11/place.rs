//! Where windows are on the root window: toplevels where the window manager has them, popups relative to their parents.

use inlay_protocol::display::SurfaceId;
use inlay_protocol::geometry::{Point, Rect};
use inlay_protocol::limits;
use x11rb::cookie::Cookie;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, TranslateCoordinatesReply};
use x11rb::xcb_ffi::XCBConnection;

use super::{HostEvent, Kind, X11};
use crate::windows::placement;

impl X11 {
    fn ask_origin(
        &self,
        xid: xproto::Window,
    ) -> Option<Cookie<'_, XCBConnection, TranslateCoordinatesReply>> {
        let connection: &XCBConnection = &self.connection;
        connection.translate_coordinates(xid, self.root, 0, 0).ok()
    }

    /// Where a window's content begins on the root window.
    pub(super) fn origin_of(&mut self, id: SurfaceId) -> Point {
        let Some(window) = self.windows.get(&id) else { return Point::default() };
        match (window.kind, window.at) {
            (Kind::Popup(look), _) => {
                let base = self.origin_of(look.parent);
                Point::new(base.x.saturating_add(look.area.x), base.y.saturating_add(look.area.y))
            }
            (Kind::Toplevel, Some(at)) => at,
            (Kind::Toplevel, None) => {
                let reply = self.ask_origin(window.xid).and_then(|cookie| cookie.reply().ok());
                let at = reply.map_or(Point::default(), |r| Point::new(r.dst_x.into(), r.dst_y.into()));
                if let Some(window) = self.windows.get_mut(&id) {
                    window.at = Some(at);
                }
                at
            }
        }
    }

    /// Finds where the toplevels are that may have moved, with one wait for all, and tells of those that did. Their popups
    /// follow them.
    pub(super) fn find_moved(&mut self, events: &mut Vec<HostEvent>) {
        let unknown = self.windows.iter().filter(|(_, w)| w.kind == Kind::Toplevel && w.at.is_none());
        let asked: Vec<_> = unknown.map(|(id, w)| (*id, self.ask_origin(w.xid))).collect();
        let found: Vec<(SurfaceId, Point)> = asked
            .into_iter()
            .filter_map(|(id, cookie)| {
                let reply = cookie?.reply().ok()?;
                Some((id, Point::new(reply.dst_x.into(), reply.dst_y.into())))
            })
            .collect();
        for (id, at) in found {
            if let Some(window) = self.windows.get_mut(&id) {
                window.at = Some(at);
            }
        }
        let mut moved = Vec::new();
        for (id, window) in &mut self.windows {
            if let Some(at) = window.at.filter(|at| window.seen.mapped && window.told_at != Some(*at)) {
                window.told_at = Some(at);
                moved.push(*id);
                events.push(HostEvent::Moved { window: *id, at });
            }
        }
        for id in moved {
            self.follow(id);
        }
    }

    /// A window came up, or has its frame: where its app chose the place of its content, the title is on the monitor as well.
    pub(super) fn fit_frame(&mut self, xid: xproto::Window) {
        let Some(id) = self.by_xid.get(&xid).copied() else { return };
        let Some(window) = self.windows.get_mut(&id) else { return };
        let size = window.size;
        if !window.chosen || !window.seen.mapped {
            return;
        }
        let cookie =
            self.connection.get_property(false, xid, self.atoms._NET_FRAME_EXTENTS, AtomEnum::CARDINAL, 0, 4);
        let reply = cookie.ok().and_then(|cookie| cookie.reply().ok());
        let sides: Vec<u32> =
            reply.as_ref().and_then(|r| r.value32()).map(Iterator::collect).unwrap_or_default();
        let [left, _, top, _] = sides[..] else { return };
        if let Some(window) = self.windows.get_mut(&id) {
            window.chosen = false;
        }
        let side = |v: u32| v.min(limits::DIMENSION).cast_signed();
        let (left, top, at) = (side(left), side(top), self.origin_of(id));
        let monitor = placement::monitor(&self.outputs, Rect::of_size(size).translated(at));
        let title = Rect::new(at.x, at.y.saturating_sub(top), size.width.max(1), 1);
        let is_seen = self.outputs.iter().any(|o| o.area.intersection(title).is_some());
        let y = if is_seen { at.y } else { at.y.max(monitor.y.saturating_add(top)) };
        let x = if at.x == monitor.x { at.x.saturating_add(left) } else { at.x };
        if Point::new(x, y) != at {
            let aux = xproto::ConfigureWindowAux::new().x(x).y(y);
            self.sent(self.connection.configure_window(xid, &aux));
        }
    }

    /// Moves the popups of a window that moved.
    pub(super) fn follow(&mut self, moved: SurfaceId) {
        let child = |kind: Kind| matches!(kind, Kind::Popup(look) if look.parent == moved);
        let popups: Vec<SurfaceId> =
            self.windows.iter().filter(|(_, w)| child(w.kind)).map(|(id, _)| *id).collect();
        for id in popups {
            let at = self.origin_of(id);
            if let Some(window) = self.windows.get(&id) {
                let aux = xproto::ConfigureWindowAux::new().x(at.x).y(at.y);
                self.sent(self.connection.configure_window(window.xid, &aux));
            }
            self.follow(id);
        }
    }

    /// The place of a popup on the root window.
    pub(super) fn popup_place(&mut self, parent: SurfaceId, area: Rect) -> Rect {
        area.translated(self.origin_of(parent))
    }
}
