//! What is dragged over windows of ours (XDND 5): the target's side.
//!
//! ```text
//! source: XdndEnter, XdndPosition ... -> Dragged::Enter, Motion     answer_drag -> XdndStatus
//!         XdndDrop                    -> Dragged::Drop              end_drag    -> XdndFinished
//! ```
//! Each position is answered at once, with what the guest's app said last; another answer is sent when it comes.

use inlay_exchange::kinds;
use inlay_exchange::x11::xdnd;
use inlay_protocol::display::SurfaceId;
use inlay_protocol::selection::Actions;
use x11rb::protocol::xproto::{self, ConnectionExt as _, EventMask};

use super::super::{Dragged, HostEvent};
use super::X11;

/// A drag over a window of ours, or that was dropped on it.
#[derive(Debug)]
pub struct Drag {
    source: xproto::Window,
    target: xproto::Window,
    window: SurfaceId,
    names: Vec<String>,
    /// It is dragged out of a window of ours.
    own: bool,
    /// The session heard of it.
    told: bool,
    /// What would become of it; no action: nothing.
    action: Actions,
    dropped: bool,
}

/// Takes a message that belongs to a drag; `false` for others.
pub fn message(x11: &mut X11, event: &xproto::ClientMessageEvent, out: &mut Vec<HostEvent>) -> bool {
    let a = x11.xdnd;
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
                if let Some(selections) = x11.selections.as_mut().filter(|_| !drag.own) {
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
    let source = data[0];
    // One that was dropped, and never ended: its source hears that nothing came of it.
    x11.finish(Actions::NONE);
    if x11.drag.take().is_some() {
        out.push(HostEvent::Drag(Dragged::Leave));
    }
    let Some(window) = x11.by_xid.get(&target).copied() else { return };
    let own = x11.selections.as_ref().is_some_and(|selections| selections.drag_window() == source);
    let names = xdnd::types(&*x11.connection, &x11.xdnd, data).unwrap_or_default();
    if let Some(selections) = x11.selections.as_mut().filter(|_| !own) {
        selections.dragged(names.clone());
    }
    let action = Actions::NONE;
    x11.drag = Some(Drag { source, target, window, names, own, told: false, action, dropped: false });
}

fn position(x11: &mut X11, data: [u32; 5], out: &mut Vec<HostEvent>) {
    let [source, _, place, time, wanted] = data;
    let Some((window, told, own)) = x11.drag.as_ref().map(|drag| (drag.window, drag.told, drag.own)) else {
        return;
    };
    if let Some(selections) = x11.selections.as_mut().filter(|_| !own) {
        selections.drag_moved(time);
    }
    let origin = x11.origin_of(window);
    let on = |root: u32, origin: i32| f64::from(root & 0xffff) - f64::from(origin);
    let (x, y) = (on(place >> 16, origin.x), on(place, origin.y));
    if told {
        out.push(HostEvent::Drag(Dragged::Motion { time_ms: time.into(), x, y }));
    } else {
        let actions = x11.xdnd.allowed(&*x11.connection, source, wanted).unwrap_or(Actions::COPY);
        if let Some(drag) = &mut x11.drag {
            drag.told = true;
            let types = kinds::travelling(&drag.names);
            out.push(HostEvent::Drag(Dragged::Enter { window, x, y, types, actions, own }));
        }
    }
    x11.tell_status();
}

impl X11 {
    /// Answers the source: whether it may be dropped, and what becomes of it.
    fn tell_status(&self) {
        let Some(Drag { source, target, action, .. }) = &self.drag else { return };
        // Positions are wanted everywhere.
        let flags = u32::from(!action.is_empty()) | 2;
        let data = [*target, flags, 0, 0, self.xdnd.of_action(*action)];
        let message = xproto::ClientMessageEvent::new(32, *source, self.xdnd.XdndStatus, data);
        self.sent(self.connection.send_event(false, *source, EventMask::NO_EVENT, message));
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
        let action = if kind.is_some() { action } else { Actions::NONE };
        if std::mem::replace(&mut drag.action, action) != action {
            self.tell_status();
        }
    }

    /// What became of what was dropped.
    pub(super) fn finish(&mut self, action: Actions) {
        let Some(drag) = self.drag.take_if(|drag| drag.dropped) else { return };
        let ends = (drag.source, drag.target);
        if let Err(error) = xdnd::finish(&*self.connection, &self.xdnd, ends, action) {
            tracing::debug!("the end of a drag: {error}");
        }
        self.drag_is_over();
    }
}
