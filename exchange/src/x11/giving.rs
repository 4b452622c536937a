//! Owning a selection for somebody elsewhere: requests of apps are answered with what comes out of a pipe (ICCCM section 2.2).
//!
//! What comes whole within [`PIECE`] bytes goes in one property; more goes piece by piece (INCR, section 2.7.2), each written when the
//! app has deleted the one before: a slow app slows the source.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use inlay_protocol::selection::Selection;
use rustix::io::Errno;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, EventMask, PropMode,
    SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, SelectionRequestEvent, Timestamp, Window,
};
use x11rb::wrapper::ConnectionExt as _;

use super::{Fault, MOST, Offered, Selections};
use crate::pipe::Pipe;
use crate::transfer::IDLE;
use crate::{News, kinds};

/// Bytes of the largest property that is written at once.
pub const PIECE: usize = 256 * 1024;
/// Pairs of one MULTIPLE request.
const PAIRS: u32 = 64;

/// Whom to tell how a conversion went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    time: Timestamp,
    requestor: Window,
    selection: Atom,
    target: Atom,
    /// [`x11rb::NONE`] once it is refused.
    property: Atom,
}

/// How text is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// As it is.
    Plain,
    /// Latin-1 (`STRING`).
    Latin1,
    /// ISO 2022 with UTF-8 in it (`COMPOUND_TEXT`), begun or not.
    Compound { begun: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may still fit into one property.
    Gathering,
    /// In pieces; whether the app has taken the last one.
    Pieces { taken: bool },
}

/// One conversion.
#[derive(Debug)]
pub struct Giving {
    asker: Asker,
    /// The request of many that it is part of.
    multiple: Option<u64>,
    kind: Atom,
    coding: Coding,
    pipe: Option<Pipe>,
    /// Read, and not yet in a property.
    bytes: Vec<u8>,
    stage: Stage,
    moved: Instant,
}

/// A request for many conversions (ICCCM section 2.6.2, MULTIPLE).
#[derive(Debug)]
pub struct Multiple {
    number: u64,
    asker: Asker,
    pairs: Vec<[Atom; 2]>,
    open: usize,
}

impl Giving {
    pub fn wish(&self, piece: usize) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.bytes.len() <= piece).map(|pipe| pipe.fd.as_fd())
    }

    pub fn due(&self) -> Instant {
        self.moved + IDLE
    }

    /// Reads what fits; `false` when it was cut off.
    fn read(&mut self, piece: usize) -> bool {
        while let Some(pipe) = &self.pipe
            && self.bytes.len() <= piece
        {
            let mut bytes = vec![0; 64 * 1024];
            match rustix::io::read(&pipe.fd, &mut bytes) {
                Ok(0) => {
                    if pipe.is_cut_off() {
                        return false;
                    }
                    self.pipe = None;
                    if self.coding == (Coding::Compound { begun: true }) {
                        self.bytes.extend_from_slice(b"\x1b%@");
                    }
                }
                Ok(count) => {
                    if self.coding == (Coding::Compound { begun: false }) {
                        self.bytes.extend_from_slice(b"\x1b%G");
                        self.coding = Coding::Compound { begun: true };
                    }
                    self.bytes.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => {
                    if pipe.is_at_work() {
                        self.moved = Instant::now();
                    }
                    break;
                }
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// The next piece, at most this long.
    fn piece(&mut self, most: usize) -> Vec<u8> {
        if self.coding == Coding::Latin1 {
            return latin1(&mut self.bytes, self.pipe.is_none(), most);
        }
        let rest = self.bytes.split_off(self.bytes.len().min(most));
        std::mem::replace(&mut self.bytes, rest)
    }
}

/// Takes UTF-8 off the front and gives Latin-1, with a question mark for what that has not. The beginning of a character whose end
/// is to come stays.
fn latin1(bytes: &mut Vec<u8>, ends: bool, most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut used = 0;
    while out.len() < most
        && let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty())
    {
        let longest = rest.get(..rest.len().min(4)).unwrap_or_default();
        let valid = match std::str::from_utf8(longest) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(longest.get(..error.valid_up_to()).unwrap_or_default())
                .unwrap_or_default(),
        };
        match valid.chars().next() {
            Some(c) => {
                out.push(u8::try_from(u32::from(c)).unwrap_or(b'?'));
                used += c.len_utf8();
            }
            None if longest.len() < 4 && !ends => break,
            None => {
                out.push(b'?');
                used += 1;
            }
        }
    }
    bytes.drain(..used);
    out
}

impl Selections {
    /// An app asks for a conversion.
    pub(super) fn requested<C: Connection>(&mut self, c: &C, e: &SelectionRequestEvent) -> Result<(), Fault> {
        // ICCCM section 2.2: old clients name no property.
        let property = if e.property == x11rb::NONE { e.target } else { e.property };
        let asker = Asker {
            time: e.time,
            requestor: e.requestor,
            selection: e.selection,
            target: e.target,
            property,
        };
        if e.target != self.atoms.MULTIPLE {
            return match self.convert(c, asker, None)? {
                Some(done) => tell(c, asker, done),
                None => Ok(()),
            };
        }
        let reply = c.get_property(false, e.requestor, property, self.atoms.ATOM_PAIR, 0, 2 * PAIRS)?.reply();
        let atoms: Vec<Atom> =
            reply.ok().and_then(|r| r.value32().map(Iterator::collect)).unwrap_or_default();
        let pairs: Vec<[Atom; 2]> = atoms.chunks_exact(2).map(|p| [p[0], p[1]]).collect();
        self.asked += 1;
        let number = self.asked;
        self.multiples.push(Multiple { number, asker, pairs: pairs.clone(), open: 1 });
        for (at, [target, property]) in pairs.into_iter().enumerate() {
            let part = Asker { target, property, ..asker };
            let may = target != self.atoms.MULTIPLE && property != x11rb::NONE;
            let done = if may { self.convert(c, part, Some(number))? } else { Some(false) };
            let Some(multiple) = self.multiples.iter_mut().find(|m| m.number == number) else { continue };
            match done {
                Some(true) => {}
                Some(false) => multiple.pairs[at][1] = x11rb::NONE,
                None => multiple.open += 1,
            }
        }
        self.part_done(c, number, None)
    }

    /// One of many is done (or, without a name, all have begun); tells when it was the last.
    fn part_done<C: Connection>(&mut self, c: &C, number: u64, refused: Option<Asker>) -> Result<(), Fault> {
        let Some(at) = self.multiples.iter().position(|m| m.number == number) else { return Ok(()) };
        let multiple = &mut self.multiples[at];
        if let Some(asker) = refused {
            let pair = multiple.pairs.iter_mut().find(|p| **p == [asker.target, asker.property]);
            pair.into_iter().for_each(|p| p[1] = x11rb::NONE);
        }
        multiple.open -= 1;
        if multiple.open > 0 {
            return Ok(());
        }
        let Multiple { asker, pairs, .. } = self.multiples.swap_remove(at);
        let flat: Vec<Atom> = pairs.into_iter().flatten().collect();
        c.change_property32(PropMode::REPLACE, asker.requestor, asker.property, self.atoms.ATOM_PAIR, &flat)?;
        tell(c, asker, true)
    }

    /// Begins a conversion: whether it is done, `None` when it takes its time.
    fn convert<C: Connection>(
        &mut self,
        c: &C,
        asker: Asker,
        multiple: Option<u64>,
    ) -> Result<Option<bool>, Fault> {
        let Asker { requestor, property, target, .. } = asker;
        let slot = self.slots.iter().find(|s| s.atom == asker.selection);
        let Some((slot, Offered { types, since: Some(since), .. })) =
            slot.and_then(|s| Some((s, s.offered.as_ref()?)))
        else {
            return Ok(Some(false));
        };
        let (selection, types, since) = (slot.selection, types.clone(), *since);
        // Times wrap: what is earlier by less than half of the circle is earlier (ICCCM section 2.2).
        // What is dragged is known by its positions' times, of which the first may be before it was taken.
        let timed = selection != Selection::Drag && asker.time != x11rb::CURRENT_TIME;
        if timed && asker.time.wrapping_sub(since) > u32::MAX / 2 {
            return Ok(Some(false));
        }
        if target == self.atoms.TIMESTAMP {
            c.change_property32(PropMode::REPLACE, requestor, property, AtomEnum::INTEGER, &[since])?;
            return Ok(Some(true));
        }
        if target == self.atoms.TARGETS {
            let mut list = vec![self.atoms.TARGETS, self.atoms.TIMESTAMP, self.atoms.MULTIPLE];
            list.extend(self.numbers(c, &types)?);
            c.change_property32(PropMode::REPLACE, requestor, property, AtomEnum::ATOM, &list)?;
            return Ok(Some(true));
        }
        let name = self.names.names(c, &[target])?.pop().unwrap_or_default();
        let kind = kinds::meant(&name);
        if self.giving.len() >= MOST || !types.iter().any(|t| t == kind) {
            return Ok(Some(false));
        }
        let Ok((read, write)) = Pipe::pair() else { return Ok(Some(false)) };
        let is = |atom: Atom| target == atom;
        let (coding, as_type) = match () {
            () if is(AtomEnum::STRING.into()) => (Coding::Latin1, target),
            () if is(self.atoms.COMPOUND_TEXT) => (Coding::Compound { begun: false }, target),
            () if is(self.atoms.TEXT) => (Coding::Plain, self.atoms.UTF8_STRING),
            () => (Coding::Plain, target),
        };
        self.news.push(News::Wanted { selection, kind: kind.to_owned(), pipe: write });
        self.giving.push(Giving {
            asker,
            multiple,
            kind: as_type,
            coding,
            pipe: Some(read),
            bytes: Vec::new(),
            stage: Stage::Gathering,
            moved: Instant::now(),
        });
        Ok(None)
    }

    pub(super) fn turn_giving<C: Connection>(&mut self, c: &C) -> Result<(), Fault> {
        let mut index = 0;
        while index < self.giving.len() {
            if self.step(c, index)? {
                self.giving.swap_remove(index);
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// An app deleted a property: the next piece may be written.
    pub(super) fn property_deleted<C: Connection>(
        &mut self,
        c: &C,
        window: Window,
        atom: Atom,
    ) -> Result<(), Fault> {
        let here = |g: &Giving| g.asker.requestor == window && g.asker.property == atom;
        let Some(index) = self.giving.iter().position(here) else { return Ok(()) };
        if let Stage::Pieces { taken } = &mut self.giving[index].stage {
            *taken = true;
            self.giving[index].moved = Instant::now();
            if self.step(c, index)? {
                self.giving.swap_remove(index);
            }
            c.flush()?;
        }
        Ok(())
    }

    pub(super) fn requestor_gone(&mut self, window: Window) {
        self.giving.retain(|g| g.asker.requestor != window);
        self.multiples.retain(|m| m.asker.requestor != window);
    }

    /// Does what can be done for one conversion; `true` when it is over.
    fn step<C: Connection>(&mut self, c: &C, index: usize) -> Result<bool, Fault> {
        let (piece, incr, mask) = (self.piece, self.atoms.INCR, self.mask);
        let giving = &mut self.giving[index];
        let fine = giving.read(piece) && giving.due() > Instant::now();
        let Asker { requestor, property, .. } = giving.asker;
        match giving.stage {
            Stage::Gathering if !fine => {
                let (asker, multiple) = (giving.asker, giving.multiple);
                self.told(c, asker, multiple, false)?;
                Ok(true)
            }
            Stage::Gathering if giving.pipe.is_none() && giving.bytes.len() <= piece => {
                let bytes = giving.piece(usize::MAX);
                let (asker, multiple) = (giving.asker, giving.multiple);
                c.change_property8(PropMode::REPLACE, requestor, property, giving.kind, &bytes)?;
                self.told(c, asker, multiple, true)?;
                Ok(true)
            }
            Stage::Gathering if giving.bytes.len() > piece => {
                let (asker, multiple) = (giving.asker, giving.multiple);
                giving.stage = Stage::Pieces { taken: false };
                let all = mask | EventMask::PROPERTY_CHANGE | EventMask::STRUCTURE_NOTIFY;
                let aux = ChangeWindowAttributesAux::new().event_mask(all);
                c.change_window_attributes(requestor, &aux)?;
                let least = u32::try_from(giving.bytes.len()).unwrap_or(u32::MAX);
                c.change_property32(PropMode::REPLACE, requestor, property, incr, &[least])?;
                self.told(c, asker, multiple, true)?;
                Ok(false)
            }
            Stage::Gathering => Ok(false),
            Stage::Pieces { taken: false } if fine => Ok(false),
            Stage::Pieces { taken: false } => {
                // The app hears of the end when it takes the last piece, if ever.
                let was_ended = giving.pipe.take().is_none() && giving.bytes.is_empty();
                giving.bytes.clear();
                giving.moved = Instant::now();
                Ok(was_ended)
            }
            Stage::Pieces { taken: true } => {
                let bytes = if fine { giving.piece(piece) } else { Vec::new() };
                let ends = giving.pipe.is_none() || !fine;
                if bytes.is_empty() && !ends {
                    return Ok(false);
                }
                // Nothing ends it: the next time, where this was the last of the data.
                c.change_property8(PropMode::REPLACE, requestor, property, giving.kind, &bytes)?;
                giving.stage = Stage::Pieces { taken: false };
                giving.moved = Instant::now();
                Ok(bytes.is_empty())
            }
        }
    }

    fn told<C: Connection>(
        &mut self,
        c: &C,
        asker: Asker,
        multiple: Option<u64>,
        done: bool,
    ) -> Result<(), Fault> {
        match multiple {
            Some(number) => self.part_done(c, number, (!done).then_some(asker)),
            None => tell(c, asker, done),
        }
    }
}

/// Tells an app how its conversion went.
fn tell<C: Connection>(c: &C, asker: Asker, done: bool) -> Result<(), Fault> {
    let Asker { time, requestor, selection, target, property } = asker;
    let property = if done { property } else { x11rb::NONE };
    let event = SelectionNotifyEvent {
        response_type: SELECTION_NOTIFY_EVENT,
        sequence: 0,
        time,
        requestor,
        selection,
        target,
        property,
    };
    c.send_event(false, requestor, EventMask::NO_EVENT, event)?;
    Ok(())
}
