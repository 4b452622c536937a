//! Fetching what the owner of a selection has: one property, or many after another (ICCCM sections 2.4 and 2.7.2).
//!
//! Each fetch has a window of its own, so that the properties of two never mix. The owner writes the next piece when the last was
//! deleted, which happens when the pipe has taken it: a slow reader slows the owner.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use inlay_protocol::selection::Selection;
use rustix::io::Errno;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Atom, AtomEnum, ConnectionExt as _, Property, PropertyNotifyEvent, SelectionNotifyEvent, Window,
};

use super::{Fault, LIST, Selections, Slot, own_window};
use crate::pipe::Pipe;
use crate::transfer::IDLE;

/// Bytes read from a property at once.
const READ: u32 = 256 * 1024;
/// Bytes that wait for the pipe before no more is read.
const WAITING: usize = 512 * 1024;
/// Targets of one owner that are looked at.
const TARGETS: usize = 1024;

/// Where it goes.
#[derive(Debug)]
pub enum Sink {
    /// The list of targets of this owner.
    List(u64),
    /// A pipe, what waits for it, and how much of that is written.
    Pipe(Pipe, Vec<u8>, usize),
}

impl Sink {
    pub fn list(owner: u64) -> Self {
        Self::List(owner)
    }

    pub fn pipe(pipe: Pipe) -> Self {
        Self::Pipe(pipe, Vec::new(), 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The owner has not answered.
    Asked,
    /// A property is there, read up to this offset (in units of four bytes).
    Reading { offset: u32 },
    /// The next piece is to come.
    Between,
    /// All was read; what waits is still to be written.
    Read,
}

/// One fetch.
#[derive(Debug)]
pub struct Taking {
    pub slot: usize,
    /// Of which of its owners.
    owner: u64,
    window: Window,
    sink: Sink,
    stage: Stage,
    pieces: bool,
    latin1: bool,
    moved: Instant,
}

impl Taking {
    pub fn is_list(&self) -> bool {
        matches!(self.sink, Sink::List(_))
    }

    pub fn wish(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Pipe(pipe, waiting, written) if waiting.len() > *written => Some(pipe.fd.as_fd()),
            _ => None,
        }
    }

    pub fn due(&self) -> Instant {
        self.moved + if self.is_list() { LIST } else { IDLE }
    }

    fn waiting(&self) -> usize {
        if let Sink::Pipe(_, waiting, written) = &self.sink { waiting.len() - written } else { 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let Sink::Pipe(_, waiting, _) = &mut self.sink else { return };
        if self.latin1 {
            waiting.extend(bytes.iter().flat_map(|b| char::from(*b).to_string().into_bytes()));
        } else {
            waiting.extend_from_slice(bytes);
        }
        self.moved = Instant::now();
    }

    /// Writes what the pipe takes; `false` when it has no reader any more.
    fn write(&mut self) -> bool {
        let Sink::Pipe(pipe, waiting, written) = &mut self.sink else { return true };
        while let Some(rest) = waiting.get(*written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&pipe.fd, rest) {
                Ok(count) => {
                    *written += count;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        if waiting.len() == *written || *written >= WAITING {
            waiting.drain(..*written);
            *written = 0;
        }
        true
    }
}

/// How reading went.
enum Read {
    /// There is no more for now.
    Paused,
    /// All was read.
    All,
    /// The targets.
    Targets(Vec<Atom>),
    /// It will not come.
    Failed,
}

impl Selections {
    /// Asks the owner of a selection to convert it.
    pub(super) fn begin<C: Connection>(
        &mut self,
        c: &C,
        slot: usize,
        target: Atom,
        sink: Sink,
    ) -> Result<(), Fault> {
        let window = own_window(c, self.root)?;
        let Slot { selection, atom, owner, .. } = self.slots[slot];
        let time = if selection == Selection::Drag { self.drag.time } else { x11rb::CURRENT_TIME };
        c.convert_selection(window, atom, target, self.atoms._INLAY_DATA, time)?;
        c.flush()?;
        let moved = Instant::now();
        let taking =
            Taking { slot, owner, window, sink, stage: Stage::Asked, pieces: false, latin1: false, moved };
        self.taking.push(taking);
        Ok(())
    }

    /// The owner answered a conversion.
    pub(super) fn answered<C: Connection>(&mut self, c: &C, e: &SelectionNotifyEvent) -> Result<(), Fault> {
        let Some(index) = self.taking.iter().position(|t| t.window == e.requestor) else { return Ok(()) };
        let taking = &mut self.taking[index];
        if taking.stage != Stage::Asked {
            return Ok(());
        }
        taking.moved = Instant::now();
        // What another owner has is not what was asked for.
        let other = !taking.is_list() && self.slots[taking.slot].owner != taking.owner;
        if e.property == x11rb::NONE || other {
            return self.end(c, index, Read::Failed);
        }
        taking.stage = Stage::Reading { offset: 0 };
        self.go_on(c, index)
    }

    /// A property changed on a window: the next piece for a fetch, or place for one that is given.
    pub(super) fn property_changed<C: Connection>(
        &mut self,
        c: &C,
        e: &PropertyNotifyEvent,
    ) -> Result<(), Fault> {
        let new = e.state == Property::NEW_VALUE && e.atom == self.atoms._INLAY_DATA;
        match self.taking.iter().position(|t| t.window == e.window) {
            Some(index) if new && self.taking[index].stage == Stage::Between => {
                self.taking[index].stage = Stage::Reading { offset: 0 };
                self.go_on(c, index)
            }
            Some(_) => Ok(()),
            None if e.state == Property::DELETE => self.property_deleted(c, e.window, e.atom),
            None => Ok(()),
        }
    }

    /// The owner of a selection is gone: what it has not given will not come.
    pub(super) fn owner_gone(&mut self, slot: usize) {
        // Found due in the next turn.
        let past = Instant::now().checked_sub(IDLE);
        for taking in self.taking.iter_mut().filter(|t| t.slot == slot && t.stage != Stage::Read) {
            taking.moved = past.unwrap_or(taking.moved);
        }
    }

    pub(super) fn turn_taking<C: Connection>(&mut self, c: &C) -> Result<(), Fault> {
        let now = Instant::now();
        let mut index = 0;
        while let Some(taking) = self.taking.get_mut(index) {
            let window = taking.window;
            if !taking.write() || taking.due() <= now {
                self.end(c, index, Read::Failed)?;
            } else if taking.stage == Stage::Read {
                if taking.waiting() == 0 {
                    self.end(c, index, Read::All)?;
                }
            } else {
                self.go_on(c, index)?;
            }
            // One that ended made place for another.
            index += usize::from(self.taking.get(index).is_some_and(|t| t.window == window));
        }
        Ok(())
    }

    /// Reads on as long as the pipe takes it.
    fn go_on<C: Connection>(&mut self, c: &C, index: usize) -> Result<(), Fault> {
        let Some(taking) = self.taking.get_mut(index) else { return Ok(()) };
        if !taking.write() {
            return self.end(c, index, Read::Failed);
        }
        match read(c, &self.atoms, taking)? {
            Read::Paused => Ok(()),
            Read::All if taking.waiting() > 0 => {
                taking.stage = Stage::Read;
                Ok(())
            }
            how => self.end(c, index, how),
        }
    }

    fn end<C: Connection>(&mut self, c: &C, index: usize, how: Read) -> Result<(), Fault> {
        let Taking { slot, window, sink, .. } = self.taking.swap_remove(index);
        c.destroy_window(window)?;
        c.flush()?;
        match (sink, how) {
            (Sink::List(owner), Read::Targets(targets)) => self.listed(c, slot, owner, &targets),
            (Sink::List(owner), _) => self.listed(c, slot, owner, &[]),
            (Sink::Pipe(..), Read::All) => Ok(()),
            (Sink::Pipe(pipe, ..), _) => {
                pipe.cut_off();
                Ok(())
            }
        }
    }
}

/// Reads the property that is there, as far as there is room for it.
fn read<C: Connection>(c: &C, atoms: &super::Atoms, taking: &mut Taking) -> Result<Read, Fault> {
    while let Stage::Reading { offset } = taking.stage
        && taking.waiting() < WAITING
    {
        let any = AtomEnum::ANY;
        let reply = c.get_property(true, taking.window, atoms._INLAY_DATA, any, offset, READ / 4)?.reply()?;
        if reply.type_ == x11rb::NONE {
            return Ok(Read::Failed);
        }
        if reply.type_ == atoms.INCR && !taking.pieces {
            taking.pieces = true;
            taking.stage = Stage::Between;
            break;
        }
        if taking.is_list() {
            let targets = reply.value32().into_iter().flatten().take(TARGETS).collect();
            return Ok(Read::Targets(targets));
        }
        if offset == 0 && reply.value.is_empty() && taking.pieces {
            return Ok(Read::All);
        }
        if offset == 0 {
            taking.latin1 = reply.type_ == u32::from(AtomEnum::STRING);
        }
        taking.push(&reply.value);
        if reply.bytes_after > 0 {
            taking.stage = Stage::Reading { offset: offset + READ / 4 };
        } else if taking.pieces {
            taking.stage = Stage::Between;
        } else {
            return Ok(Read::All);
        }
        if !taking.write() {
            return Ok(Read::Failed);
        }
    }
    Ok(Read::Paused)
}
