//! What other apps of the desktop drag over windows of ours (XDND 5): the target's side.
//!
//! ```text
//! source: XdndEnter, XdndPosition ... -> Dragged::Enter, Motion     answer_drag -> XdndStatus
//!         XdndDrop                    -> Dragged::Drop              end_drag    -> XdndFinished
//! ```
//! Each position is answered at once, with what the guest's app said last; another answer is sent when it comes.

use inlay_exchange::kinds;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::selection::Actions;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, EventMask};

use super::super::{Dragged, HostEvent};
use super::X11;

/// The newest version of the protocol, which windows of ours know.
pub const VERSION: u32 = 5;
/// Types of a drag that are looked at.
const TYPES: u32 = 256;

/// A drag over a window of ours, or that was dropped on it.
#[derive(Debug)]
pub struct Drag {
    source: xproto::Window,
    target: xproto::Window,
    window: SurfaceId,
    names: Vec<String>,
    /// The session heard of it.
    told: bool,
    accepted: bool,
    action: Actions,
    dropped: bool,
}

/// Takes a message that belongs to a drag; `false` for others.
pub fn message(x11: &mut X11, event: &xproto::ClientMessageEvent, out: &mut Vec<HostEvent>) -> bool {
    let a = x11.atoms;
    let data = event.data.as_data32();
    let from_source = |x11: &X11| {
        x11.drag.as_ref().is_some_and(|d| d.source == data[0] && d.target == event.window && !d.dropped)
    };
    match event.type_ {
        kind if kind == a.XdndEnter => enter(x11, event.window, data, out),
        kind if kind == a.XdndPosition => {
            if from_source(x11) {
                position(x11, data, out);
            }
        }
        kind if kind == a.XdndLeave => {
            if from_source(x11) {
                x11.drag = None;
                x11.drag_is_over();
                out.push(HostEvent::Drag(Dragged::Leave));
            }
        }
        kind if kind == a.XdndDrop => {
            if from_source(x11)
                && let Some(drag) = &mut x11.drag
            {
                drag.dropped = true;
                if let Some(selections) = &mut x11.selections {
                    selections.drag_moved(data[2]);
                }
                out.push(HostEvent::Drag(Dragged::Drop));
            }
        }
        _ => return false,
    }
    true
}

fn enter(x11: &mut X11, target: xproto::Window, data: [u32; 5], out: &mut Vec<HostEvent>) {
    let [source, flags, first @ ..] = data;
    // One that was dropped, and never ended: its source hears that nothing came of it.
    x11.finish(Actions::NONE);
    if x11.drag.take().is_some() {
        out.push(HostEvent::Drag(Dragged::Leave));
    }
    let Some(window) = x11.by_xid.get(&target).copied() else { return };
    let mut types = first.to_vec();
    if flags & 1 != 0 {
        let c = &x11.connection;
        let list = c.get_property(false, source, x11.atoms.XdndTypeList, AtomEnum::ATOM, 0, TYPES);
        let list = list.ok().and_then(|cookie| cookie.reply().ok());
        types = list.and_then(|reply| reply.value32().map(Iterator::collect)).unwrap_or(types);
    }
    types.retain(|atom| *atom != x11rb::NONE);
    // All questions go out before the first answer is waited for.
    let asked: Vec<_> = types.into_iter().map(|atom| x11.connection.get_atom_name(atom)).collect();
    let name = |reply: xproto::GetAtomNameReply| String::from_utf8(reply.name).ok();
    let names: Vec<String> = asked.into_iter().filter_map(|c| name(c.ok()?.reply().ok()?)).collect();
    if let Some(selections) = &mut x11.selections {
        selections.dragged(names.clone());
    }
    let action = Actions::NONE;
    x11.drag =
        Some(Drag { source, target, window, names, told: false, accepted: false, action, dropped: false });
}

fn position(x11: &mut X11, data: [u32; 5], out: &mut Vec<HostEvent>) {
    let [_, _, place, time, wanted] = data;
    if let Some(selections) = &mut x11.selections {
        selections.drag_moved(time);
    }
    let Some((window, told)) = x11.drag.as_ref().map(|drag| (drag.window, drag.told)) else { return };
    let origin = x11.origin_of(window);
    let on = |root: u32, origin: i32| f64::from(root & 0xffff) - f64::from(origin);
    let (x, y) = (on(place >> 16, origin.x), on(place, origin.y));
    if told {
        out.push(HostEvent::Drag(Dragged::Motion { time_ms: time.into(), x, y }));
    } else if let Some(drag) = &mut x11.drag {
        drag.told = true;
        let types = kinds::travelling(&drag.names);
        // What the keys say now; sources that offer a choice let it be asked for.
        let a = &x11.atoms;
        let actions = match wanted {
            atom if atom == a.XdndActionMove => Actions::MOVE.with(Actions::COPY),
            atom if atom == a.XdndActionAsk => Actions::ASK.with(Actions::MOVE).with(Actions::COPY),
            _ => Actions::COPY,
        };
        out.push(HostEvent::Drag(Dragged::Enter { window, x, y, types, actions }));
    }
    x11.tell_status();
}

impl X11 {
    /// Answers the source: whether it may be dropped, and what becomes of it.
    fn tell_status(&self) {
        let Some(Drag { source, target, accepted, action, .. }) = &self.drag else { return };
        // Positions are wanted everywhere.
        let flags = u32::from(*accepted) | 2;
        let action = if *accepted { self.action_atom(*action) } else { x11rb::NONE };
        self.tell_source(*source, self.atoms.XdndStatus, [*target, flags, 0, 0, action]);
    }

    fn action_atom(&self, action: Actions) -> xproto::Atom {
        match action {
            Actions::COPY => self.atoms.XdndActionCopy,
            Actions::MOVE => self.atoms.XdndActionMove,
            Actions::ASK => self.atoms.XdndActionAsk,
            _ => x11rb::NONE,
        }
    }

    fn tell_source(&self, source: xproto::Window, kind: xproto::Atom, data: [u32; 5]) {
        let message = xproto::ClientMessageEvent::new(32, source, kind, data);
        self.sent(self.connection.send_event(false, source, EventMask::NO_EVENT, message));
    }

    /// Nothing of it can be had any more.
    fn drag_is_over(&mut self) {
        if let Some(selections) = &mut self.selections {
            selections.dragged(Vec::new());
        }
    }

    /// What would be done with what is dragged.
    pub(super) fn answer(&mut self, kind: Option<&str>, action: Actions) {
        let Some(drag) = &mut self.drag else { return };
        let accepted = kind.is_some() && !action.is_empty();
        if (drag.accepted, drag.action) != (accepted, action) {
            (drag.accepted, drag.action) = (accepted, action);
            self.tell_status();
        }
    }

    /// What became of what was dropped.
    pub(super) fn finish(&mut self, action: Actions) {
        let Some(drag) = self.drag.take_if(|drag| drag.dropped) else { return };
        let done = u32::from(!action.is_empty());
        let data = [drag.target, done, self.action_atom(action), 0, 0];
        self.tell_source(drag.source, self.atoms.XdndFinished, data);
        self.drag_is_over();
    }
}
