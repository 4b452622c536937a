//! Something of the host that is dragged over an X11 app (XDND 5): the source's side, by the window manager's own window.
//!
//! The next position waits for the app's answer to the one before, as the protocol wants it; the newest counts.

use inlay_exchange::kinds;
use inlay_protocol::geometry::Point;
use inlay_protocol::selection::{Actions, Selection};
use x11rb::protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask};

use super::{Fault, News, Wm, Xid};

/// The newest version of the protocol.
const VERSION: u32 = 5;

/// What the host's drag does.
#[derive(Debug)]
pub enum Step {
    /// It comes over this window, with what it can be had as.
    Enter(Xid, Vec<String>),
    /// It moves to this place of the root window.
    Move(Point, Actions),
    /// It goes elsewhere.
    Leave,
    /// It is dropped.
    Drop,
}

/// The app under the drag.
#[derive(Debug)]
pub struct Drag {
    target: Xid,
    /// Who hears for it (`XdndProxy`).
    hears: Xid,
    /// The app has not answered the last position.
    asked: bool,
    next: Option<(Point, Actions)>,
}

impl Wm {
    pub(super) fn drag(&mut self, step: Step) -> Result<(), Fault> {
        match step {
            Step::Enter(target, types) => self.drag_enters(target, types),
            Step::Move(at, action) => self.drag_moves(at, action),
            Step::Leave => {
                if let Some(drag) = self.drag.take() {
                    self.tell_target(&drag, self.atoms.XdndLeave, [0; 4])?;
                }
                Ok(())
            }
            Step::Drop => {
                if let Some(drag) = &self.drag {
                    let time = x11rb::CURRENT_TIME;
                    self.tell_target(drag, self.atoms.XdndDrop, [0, time, 0, 0])?;
                }
                Ok(())
            }
        }
    }

    fn drag_enters(&mut self, target: Xid, types: Vec<String>) -> Result<(), Fault> {
        let a = self.atoms;
        let number = |window, property, kind: AtomEnum| -> Result<Option<u32>, Fault> {
            let reply = self.c.get_property(false, window, property, kind, 0, 1)?.reply();
            Ok(reply.ok().and_then(|reply| reply.value32()?.next()))
        };
        let proxy = number(target, a.XdndProxy, AtomEnum::WINDOW)?;
        let hears = proxy.unwrap_or(target);
        let Some(version) = number(hears, a.XdndAware, AtomEnum::ATOM)? else {
            self.drag = None;
            return Ok(());
        };
        let mut list = Vec::new();
        for name in kinds::for_x11(&types) {
            list.push(self.c.intern_atom(false, name.as_bytes())?.reply()?.atom);
        }
        self.selections.offer(&self.c, Selection::Drag, types)?;
        self.set(self.own, a.XdndTypeList, AtomEnum::ATOM, &list)?;
        let first = |at: usize| list.get(at).copied().unwrap_or(x11rb::NONE);
        let flags = version.min(VERSION) << 24 | u32::from(list.len() > 3);
        let drag = Drag { target, hears, asked: false, next: None };
        self.tell_target(&drag, a.XdndEnter, [flags, first(0), first(1), first(2)])?;
        self.drag = Some(drag);
        Ok(())
    }

    fn drag_moves(&mut self, at: Point, action: Actions) -> Result<(), Fault> {
        let Some(drag) = &mut self.drag else { return Ok(()) };
        if drag.asked {
            drag.next = Some((at, action));
            return Ok(());
        }
        drag.asked = true;
        let side = |v: i32| v.clamp(0, i32::from(i16::MAX)).cast_unsigned();
        let place = side(at.x) << 16 | side(at.y);
        let data = [0, place, x11rb::CURRENT_TIME, self.action_atom(action)];
        let drag = self.drag.as_ref().map(|d| (d.target, d.hears));
        let Some((target, hears)) = drag else { return Ok(()) };
        self.tell_target(&Drag { target, hears, asked: true, next: None }, self.atoms.XdndPosition, data)
    }

    fn action_atom(&self, action: Actions) -> u32 {
        match action {
            Actions::MOVE => self.atoms.XdndActionMove,
            Actions::ASK => self.atoms.XdndActionAsk,
            _ => self.atoms.XdndActionCopy,
        }
    }

    fn tell_target(&self, drag: &Drag, kind: u32, rest: [u32; 4]) -> Result<(), Fault> {
        let [a, b, c, d] = rest;
        let message = ClientMessageEvent::new(32, drag.target, kind, [self.own, a, b, c, d]);
        self.c.send_event(false, drag.hears, EventMask::NO_EVENT, message)?;
        Ok(())
    }

    /// The app under the drag answers.
    pub(super) fn drag_answered(&mut self, e: &ClientMessageEvent) -> Result<(), Fault> {
        let a = self.atoms;
        let data = e.data.as_data32();
        let Some(drag) = self.drag.as_mut().filter(|drag| drag.target == data[0]) else { return Ok(()) };
        let action = |atom: u32| match atom {
            atom if atom == a.XdndActionMove => Actions::MOVE,
            atom if atom == a.XdndActionAsk => Actions::ASK,
            atom if atom == x11rb::NONE => Actions::NONE,
            _ => Actions::COPY,
        };
        if e.type_ == a.XdndStatus {
            drag.asked = false;
            let next = drag.next.take();
            let accepted = data[1] & 1 != 0;
            self.news.push(News::DragAnswer(if accepted { action(data[4]) } else { Actions::NONE }));
            return next.map_or(Ok(()), |(at, wanted)| self.drag_moves(at, wanted));
        }
        // Before version 5 the app says nothing of how it went.
        let went_well = data[1] & 1 != 0;
        self.drag = None;
        self.selections.offer(&self.c, Selection::Drag, Vec::new())?;
        self.news.push(News::DragEnd(if went_well { action(data[2]) } else { Actions::NONE }));
        Ok(())
    }
}
