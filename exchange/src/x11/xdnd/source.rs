//! The side of whoever drags (XDND 5): one target after the other is told that it comes, where it is, and that it is dropped.
//!
//! ```text
//! over() -> XdndEnter   moved() -> XdndPosition <-> XdndStatus -> Answer::Status
//!        -> XdndLeave   dropped() -> XdndDrop   <-> XdndFinished -> Answer::Finished
//! ```
//! The next position waits for the answer to the one before, as the protocol wants it; the newest counts. So does a drop, for a
//! while. The data is [`Selections`](super::super::Selections)' to give.

use std::time::{Duration, Instant};

use inlay_protocol::geometry::{Point, Rect};
use inlay_protocol::selection::Actions;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ClientMessageEvent, ConnectionExt as _, EventMask, PropMode, Timestamp, Window,
};
use x11rb::wrapper::ConnectionExt as _;

use super::{Atoms, Fault, VERSION};

/// How long a target may take to answer before it is dropped upon, or not.
const PATIENCE: Duration = Duration::from_secs(2);
/// Windows inside one another that are looked at.
const DEPTH: usize = 32;

/// What a target answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What it would do; no action: it takes nothing there.
    Status(Actions),
    /// It was dropped there: it takes it, and is at work.
    Dropped,
    /// It is done; no action: nothing came of it.
    Finished(Actions),
    /// It takes nothing of what was dropped.
    Refused,
}

/// A place of the root window, when the pointer was there, and what the source wants then.
type Position = (Point, Timestamp, Actions);

/// An app under the drag.
#[derive(Debug)]
struct Target {
    window: Window,
    /// Who hears for it (`XdndProxy`).
    hears: Window,
    version: u32,
    /// It has not answered the last position.
    asked: bool,
    next: Option<Position>,
    /// Where it needs no more positions.
    quiet: Rect,
    action: Actions,
    /// The user lets go: since, and what was said of the time.
    drops: Option<(Instant, Timestamp)>,
    dropped: bool,
}

/// A drag.
#[derive(Debug)]
pub struct Source {
    atoms: Atoms,
    /// Stands for the source.
    window: Window,
    /// Names of what there is.
    list: Vec<Atom>,
    target: Option<Target>,
}

impl Source {
    /// Drags with a window of the connection that stands for the source and hears the answers; nothing is dragged yet.
    #[must_use]
    pub fn new(atoms: Atoms, window: Window) -> Self {
        Self { atoms, window, list: Vec::new(), target: None }
    }

    /// The window that stands for it.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// The app under it.
    #[must_use]
    pub fn target(&self) -> Option<Window> {
        self.target.as_ref().map(|target| target.window)
    }

    /// A drag begins, of what can be had by these names ([`Selections::numbers`](super::super::Selections::numbers)).
    ///
    /// # Errors
    /// When the connection fails.
    pub fn begin<C: Connection>(&mut self, c: &C, list: Vec<Atom>, actions: Actions) -> Result<(), Fault> {
        self.over(c, None)?;
        self.list = list;
        let each = [Actions::COPY, Actions::MOVE, Actions::ASK].into_iter();
        let actions: Vec<Atom> =
            each.filter(|a| actions.contains(*a)).map(|a| self.atoms.of_action(a)).collect();
        for (property, list) in [(self.atoms.XdndTypeList, &self.list), (self.atoms.XdndActionList, &actions)]
        {
            c.change_property32(PropMode::REPLACE, self.window, property, AtomEnum::ATOM, list)?;
        }
        Ok(())
    }

    /// The window of an app that can be dropped upon, at a place of the root window; the root itself where its owner wants to hear of
    /// it.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn find<C: Connection>(&self, c: &C, root: Window, at: Point) -> Result<Option<Window>, Fault> {
        let place = |v: i32| i16::try_from(v).unwrap_or(0);
        let mut window = root;
        for _ in 0..DEPTH {
            let reply = c.translate_coordinates(root, window, place(at.x), place(at.y))?.reply();
            // Gone meanwhile, or nothing inside.
            let Some(child) = reply.ok().map(|r| r.child).filter(|child| *child != x11rb::NONE) else {
                break;
            };
            window = child;
            if self.hears(c, window)?.is_some() {
                return Ok(Some(window));
            }
        }
        Ok(self.hears(c, root)?.map(|_| root))
    }

    /// Who hears of drags for a window, and the version that it knows.
    fn hears<C: Connection>(&self, c: &C, window: Window) -> Result<Option<(Window, u32)>, Fault> {
        let a = &self.atoms;
        let asked = [(a.XdndProxy, AtomEnum::WINDOW), (a.XdndAware, AtomEnum::ATOM)];
        let ask = |window: Window| -> Result<[Option<u32>; 2], Fault> {
            let [proxy, aware] = asked.map(|(name, kind)| c.get_property(false, window, name, kind, 0, 1));
            let number = |reply: Option<x11rb::protocol::xproto::GetPropertyReply>| reply?.value32()?.next();
            Ok([number(proxy?.reply().ok()), number(aware?.reply().ok())])
        };
        let [proxy, aware] = ask(window)?;
        if let Some(proxy) = proxy {
            // One that was left behind by its app does not name itself.
            let [itself, aware] = ask(proxy)?;
            if itself == Some(proxy) {
                return Ok(aware.map(|version| (proxy, version)));
            }
        }
        Ok(aware.map(|version| (window, version)))
    }

    /// It is over this window now, or over none that takes drops.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn over<C: Connection>(&mut self, c: &C, window: Option<Window>) -> Result<(), Fault> {
        if self.target() == window {
            return Ok(());
        }
        if let Some(before) = self.target.take().filter(|before| !before.dropped) {
            self.tell(c, &before, self.atoms.XdndLeave, [0; 4])?;
        }
        let Some(window) = window else { return Ok(()) };
        let Some((hears, version)) = self.hears(c, window)? else { return Ok(()) };
        let target = Target {
            window,
            hears,
            version,
            asked: false,
            next: None,
            quiet: Rect::default(),
            action: Actions::NONE,
            drops: None,
            dropped: false,
        };
        let first = |at: usize| self.list.get(at).copied().unwrap_or(x11rb::NONE);
        let flags = version.min(VERSION) << 24 | u32::from(self.list.len() > 3);
        self.tell(c, &target, self.atoms.XdndEnter, [flags, first(0), first(1), first(2)])?;
        self.target = Some(target);
        Ok(())
    }

    /// It moves to a place of the root window, at a time of the server.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn moved<C: Connection>(
        &mut self,
        c: &C,
        at: Point,
        time: Timestamp,
        wanted: Actions,
    ) -> Result<(), Fault> {
        let Some(target) = self.target.as_mut().filter(|t| !t.dropped) else { return Ok(()) };
        if target.asked {
            target.next = Some((at, time, wanted));
            return Ok(());
        }
        if Rect::new(at.x, at.y, 1, 1).intersection(target.quiet).is_some() {
            return Ok(());
        }
        target.asked = true;
        let side = |v: i32| v.clamp(0, i32::from(i16::MAX)).cast_unsigned();
        let place = side(at.x) << 16 | side(at.y);
        let data = [0, place, time, self.atoms.of_action(wanted)];
        self.tell_target(c, self.atoms.XdndPosition, data)
    }

    /// The user lets go; an [`Answer`] follows from the target, or from [`Source::turn`].
    ///
    /// # Errors
    /// When the connection fails.
    pub fn dropped<C: Connection>(&mut self, c: &C, time: Timestamp) -> Result<Option<Answer>, Fault> {
        let Some(target) = self.target.as_mut().filter(|t| !t.dropped) else {
            return Ok(Some(Answer::Refused));
        };
        if target.asked {
            target.drops = Some((Instant::now(), time));
            return Ok(None);
        }
        self.drop_or_leave(c, time).map(Some)
    }

    fn drop_or_leave<C: Connection>(&mut self, c: &C, time: Timestamp) -> Result<Answer, Fault> {
        let Some(target) = &mut self.target else { return Ok(Answer::Refused) };
        target.drops = None;
        if target.action.is_empty() {
            self.over(c, None)?;
            return Ok(Answer::Refused);
        }
        target.dropped = true;
        self.tell_target(c, self.atoms.XdndDrop, [0, time, 0, 0])?;
        Ok(Answer::Dropped)
    }

    /// When [`Source::turn`] is due although nothing came.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.target.as_ref()?.drops.map(|(since, _)| since + PATIENCE)
    }

    /// Drops on a target that does not answer as it answered last.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn turn<C: Connection>(&mut self, c: &C) -> Result<Option<Answer>, Fault> {
        match self.target.as_ref().and_then(|target| target.drops) {
            Some((since, time)) if since.elapsed() >= PATIENCE => self.drop_or_leave(c, time).map(Some),
            _ => Ok(None),
        }
    }

    /// Takes a message; `None` where it is no answer to this drag.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn message<C: Connection>(
        &mut self,
        c: &C,
        event: &ClientMessageEvent,
    ) -> Result<Option<Answer>, Fault> {
        let a = self.atoms;
        let known = [a.XdndStatus, a.XdndFinished].contains(&event.type_) && event.format == 32;
        if !known || event.window != self.window {
            return Ok(None);
        }
        let data = event.data.as_data32();
        let Some(target) = self.target.as_mut().filter(|target| target.window == data[0]) else {
            return Ok(None);
        };
        let well = data[1] & 1 != 0;
        if event.type_ == a.XdndFinished {
            let action = match target.version {
                // The app says nothing of how it went.
                0..VERSION => target.action,
                _ if well => a.action(data[2]),
                _ => Actions::NONE,
            };
            self.target = None;
            return Ok(Some(Answer::Finished(action)));
        }
        if target.dropped {
            return Ok(None);
        }
        target.asked = false;
        target.action = match a.action(data[4]) {
            _ if !well => Actions::NONE,
            // Apps that know only one do not name it.
            Actions::NONE => Actions::COPY,
            action => action,
        };
        let whole = |v: u32| ((v >> 16).cast_signed(), (v & 0xffff).cast_signed());
        let ((x, y), (width, height)) = (whole(data[2]), whole(data[3]));
        target.quiet = match data[1] & 2 {
            0 => Rect::new(x, y, width.cast_unsigned(), height.cast_unsigned()),
            _ => Rect::default(),
        };
        let (action, next) = (target.action, target.next.take());
        if let Some((at, time, wanted)) = next {
            self.moved(c, at, time, wanted)?;
        }
        let drops = self.target.as_ref().filter(|target| !target.asked).and_then(|target| target.drops);
        if let Some((_, time)) = drops {
            return self.drop_or_leave(c, time).map(Some);
        }
        Ok(Some(Answer::Status(action)))
    }

    fn tell_target<C: Connection>(&self, c: &C, kind: Atom, rest: [u32; 4]) -> Result<(), Fault> {
        self.target.as_ref().map_or(Ok(()), |target| self.tell(c, target, kind, rest))
    }

    fn tell<C: Connection>(&self, c: &C, to: &Target, kind: Atom, rest: [u32; 4]) -> Result<(), Fault> {
        let [a, b, d, e] = rest;
        let message = ClientMessageEvent::new(32, to.window, kind, [self.window, a, b, d, e]);
        c.send_event(false, to.hears, EventMask::NO_EVENT, message)?;
        c.flush()?;
        Ok(())
    }
}
