//! Selections on an X server (ICCCM section 2): who owns them, fetching what an owner has, and owning one for somebody elsewhere.
//!
//! ```text
//! owner's TARGETS -> News::Changed          offer()  -> owned by a window of ours
//! take() -> ConvertSelection, INCR -> pipe  request of an app -> News::Wanted -> pipe -> property, INCR
//! ```
//! Works on any connection: its events are handed to [`Selections::event`], which never waits for an app, and only for the server
//! where a name is new. Times are the server's own, 32 bits that wrap; only it compares them.

mod giving;
mod names;
mod taking;
pub mod xdnd;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use inlay_protocol::selection::Selection;
use x11rb::connection::Connection;
use x11rb::errors::ReplyOrIdError;
use x11rb::protocol::Event;
use x11rb::protocol::xfixes::{ConnectionExt as _, SelectionEvent, SelectionEventMask, SelectionNotifyEvent};
use x11rb::protocol::xproto::{
    Atom, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Timestamp, Window, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use crate::pipe::Pipe;
use crate::{News, kinds};
use giving::{Giving, Multiple};
use names::Names;
use taking::{Sink, Taking};

/// How long an owner may take to list what it has.
const LIST: Duration = Duration::from_secs(5);
/// Conversions at once, each way; more are refused.
const MOST: usize = inlay_protocol::limits::TRANSFERS;

/// What fails is the connection: faults of apps are no errors.
pub type Fault = ReplyOrIdError;

use atoms::Atoms;

#[allow(missing_docs, reason = "the macro writes functions without")]
mod atoms {
    x11rb::atom_manager! {
        /// Numbers of the names that selections need.
        pub Atoms: AtomsCookie {
            CLIPBOARD,
            TARGETS,
            TIMESTAMP,
            MULTIPLE,
            ATOM_PAIR,
            INCR,
            UTF8_STRING,
            COMPOUND_TEXT,
            TEXT,
            XdndSelection,
            _INLAY_TIME,
            _INLAY_DATA,
        }
    }
}

/// What is offered to the server's apps.
#[derive(Debug)]
struct Offered {
    types: Vec<String>,
    /// When it was taken, while it is ours.
    since: Option<Timestamp>,
    /// It is to be taken (again) when the server says the time.
    claims: bool,
}

/// One selection.
#[derive(Debug)]
struct Slot {
    selection: Selection,
    atom: Atom,
    /// Owns it for us.
    window: Window,
    offered: Option<Offered>,
    /// The names that its owner, an app, gave.
    given: Vec<String>,
    /// Counts owners, so that an old one's list is not taken for the new one's.
    owner: u64,
    /// Its owner changed while the one before was being asked.
    stale: bool,
}

impl Slot {
    /// Another owns it; what is to be taken again will be.
    fn lose(&mut self) {
        self.offered = self.offered.take().filter(|o| o.claims).map(|o| Offered { since: None, ..o });
    }
}

/// What is dragged over a window of ours.
#[derive(Debug, Clone, Copy)]
struct Dragged {
    /// Who owns it: what others drag is not for us.
    owner: Window,
    /// The newest time that its source told: it knows the drag by that.
    time: Timestamp,
}

/// All selections of a server.
#[derive(Debug)]
pub struct Selections {
    atoms: Atoms,
    names: Names,
    root: Window,
    /// In the order of [`Selection::index`].
    slots: [Slot; Selection::COUNT],
    taking: Vec<Taking>,
    giving: Vec<Giving>,
    multiples: Vec<Multiple>,
    /// Counts requests for many conversions.
    asked: u64,
    news: Vec<News>,
    drag: Dragged,
    /// Bytes of the largest property that is written at once.
    piece: usize,
    /// What else is selected on windows of apps by this connection, and must stay so.
    mask: EventMask,
}

impl Selections {
    /// Watches the selections of a server. `mask` is what the same connection selects on windows of apps for other purposes.
    ///
    /// # Errors
    /// When the connection fails, or the server has no XFIXES extension.
    pub fn new<C: Connection>(c: &C, root: Window, mask: EventMask) -> Result<Self, Fault> {
        c.xfixes_query_version(5, 0)?.reply()?;
        let atoms = Atoms::new(c)?.reply()?;
        let primary = Atom::from(x11rb::protocol::xproto::AtomEnum::PRIMARY);
        let slot = |selection, atom| -> Result<Slot, Fault> {
            let window = own_window(c, root)?;
            // Who owns what is dragged is no news to anybody.
            if selection == Selection::Drag {
                return Ok(Slot {
                    selection,
                    atom,
                    window,
                    offered: None,
                    given: Vec::new(),
                    owner: 0,
                    stale: false,
                });
            }
            let all = SelectionEventMask::SET_SELECTION_OWNER
                | SelectionEventMask::SELECTION_WINDOW_DESTROY
                | SelectionEventMask::SELECTION_CLIENT_CLOSE;
            c.xfixes_select_selection_input(root, atom, all)?;
            Ok(Slot { selection, atom, window, offered: None, given: Vec::new(), owner: 0, stale: false })
        };
        let slots = [
            slot(Selection::Clipboard, atoms.CLIPBOARD)?,
            slot(Selection::Primary, primary)?,
            slot(Selection::Drag, atoms.XdndSelection)?,
        ];
        let mut this = Self {
            atoms,
            names: Names::default(),
            root,
            slots,
            taking: Vec::new(),
            giving: Vec::new(),
            multiples: Vec::new(),
            asked: 0,
            drag: Dragged { owner: x11rb::NONE, time: x11rb::CURRENT_TIME },
            news: Vec::new(),
            piece: (c.maximum_request_bytes() / 2).min(giving::PIECE),
            mask,
        };
        for index in Selection::ALL.map(Selection::index) {
            if c.get_selection_owner(this.slots[index].atom)?.reply()?.owner != x11rb::NONE {
                this.ask(c, index)?;
            }
        }
        c.flush()?;
        Ok(this)
    }

    /// What happened since this was asked last.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Pipes to wait for, and whether each is to be read or written.
    pub fn wishes(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool, bool)> {
        let taking = self.taking.iter().filter_map(Taking::wish).map(|fd| (fd, false, true));
        let giving = self.giving.iter().filter_map(|g| g.wish(self.piece)).map(|fd| (fd, true, false));
        taking.chain(giving)
    }

    /// When [`Selections::turn`] is due although nothing is ready.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.taking.iter().map(Taking::due).chain(self.giving.iter().map(Giving::due)).min()
    }

    /// Offers what somebody elsewhere has to the apps of this server, by the names of types that travel; nothing withdraws it.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn offer<C: Connection>(
        &mut self,
        c: &C,
        selection: Selection,
        types: Vec<String>,
    ) -> Result<(), Fault> {
        let Self { slots, atoms, .. } = self;
        let slot = &mut slots[selection.index()];
        if types.is_empty() {
            if let Some(Offered { since: Some(since), .. }) = slot.offered.take() {
                c.set_selection_owner(x11rb::NONE, slot.atom, since)?;
            }
        } else {
            let since = slot.offered.take().and_then(|before| before.since);
            slot.offered = Some(Offered { types, since, claims: true });
            // The server tells the time with the change of this property.
            c.change_property8(PropMode::REPLACE, slot.window, atoms._INLAY_TIME, atoms.TEXT, &[])?;
        }
        c.flush()?;
        Ok(())
    }

    /// Fetches what the owner of a selection has into a pipe. What cannot be had is [cut off](Pipe::cut_off).
    ///
    /// # Errors
    /// When the connection fails.
    pub fn take<C: Connection>(
        &mut self,
        c: &C,
        selection: Selection,
        kind: &str,
        pipe: Pipe,
    ) -> Result<(), Fault> {
        let index = selection.index();
        if selection == Selection::Drag
            && c.get_selection_owner(self.slots[index].atom)?.reply()?.owner != self.drag.owner
        {
            // It is another drag by now.
            self.slots[index].given.clear();
        }
        let name = kinds::to_ask(&self.slots[index].given, kind).map(str::to_owned);
        let atom = name.map_or(Ok(None), |name| self.names.number(c, &name))?;
        match atom {
            Some(atom) if self.taking.len() < MOST => {
                let sink = Sink::pipe(pipe);
                self.begin(c, index, atom, sink)
            }
            _ => {
                pipe.cut_off();
                Ok(())
            }
        }
    }

    /// The numbers of the names by which apps of this server know what travels; those are left out that may not be made.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn numbers<C: Connection>(&mut self, c: &C, types: &[String]) -> Result<Vec<Atom>, Fault> {
        let mut numbers = Vec::new();
        for name in kinds::for_x11(types) {
            numbers.extend(self.names.number(c, &name)?);
        }
        Ok(numbers)
    }

    /// Something is dragged that can be had by these names; without any, it is no more.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn dragged<C: Connection>(&mut self, c: &C, names: Vec<String>) -> Result<(), Fault> {
        let slot = &mut self.slots[Selection::Drag.index()];
        self.drag = Dragged { owner: x11rb::NONE, time: x11rb::CURRENT_TIME };
        if !names.is_empty() {
            self.drag.owner = c.get_selection_owner(slot.atom)?.reply()?.owner;
        }
        slot.given = names;
        Ok(())
    }

    /// The source of what is dragged told this time.
    pub fn drag_moved(&mut self, time: Timestamp) {
        self.drag.time = time;
    }

    /// Takes an event of the connection; those that are not about selections are left alone.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn event<C: Connection>(&mut self, c: &C, event: &Event) -> Result<(), Fault> {
        match event {
            Event::XfixesSelectionNotify(e) => self.owner_changed(c, e),
            Event::SelectionNotify(e) => self.answered(c, e),
            Event::SelectionRequest(e) => self.requested(c, e),
            Event::PropertyNotify(e) => {
                if let Some(slot) = self.slots.iter_mut().find(|s| s.window == e.window) {
                    if e.atom == self.atoms._INLAY_TIME
                        && let Some(offered @ Offered { claims: true, .. }) = &mut slot.offered
                    {
                        (offered.since, offered.claims) = (Some(e.time), false);
                        c.set_selection_owner(slot.window, slot.atom, e.time)?;
                        c.flush()?;
                    }
                    return Ok(());
                }
                self.property_changed(c, e)
            }
            Event::SelectionClear(e) => {
                if let Some(slot) =
                    self.slots.iter_mut().find(|s| s.window == e.owner && s.atom == e.selection)
                {
                    slot.lose();
                }
                Ok(())
            }
            Event::DestroyNotify(e) => {
                self.requestor_gone(e.window);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Moves what pipes and properties have, and ends what takes too long.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn turn<C: Connection>(&mut self, c: &C) -> Result<(), Fault> {
        self.turn_taking(c)?;
        self.turn_giving(c)?;
        c.flush()?;
        Ok(())
    }

    fn owner_changed<C: Connection>(&mut self, c: &C, e: &SelectionNotifyEvent) -> Result<(), Fault> {
        let Some(index) = self.slots.iter().position(|s| s.atom == e.selection) else { return Ok(()) };
        if e.subtype != SelectionEvent::SET_SELECTION_OWNER {
            // It ended, maybe in the middle of giving.
            self.owner_gone(index);
        }
        let slot = &mut self.slots[index];
        slot.owner += 1;
        // What the one before had is not to be asked of this one.
        slot.given.clear();
        if e.owner == slot.window {
            return Ok(());
        }
        slot.lose();
        if e.owner == x11rb::NONE {
            slot.given.clear();
            slot.stale = false;
            self.news.push(News::Changed { selection: slot.selection, types: Vec::new() });
            return Ok(());
        }
        self.news.push(News::Taken { selection: slot.selection });
        self.ask(c, index)
    }

    /// Asks the owner what it has; one question at a time.
    fn ask<C: Connection>(&mut self, c: &C, index: usize) -> Result<(), Fault> {
        if self.taking.iter().any(|t| t.slot == index && t.is_list()) {
            self.slots[index].stale = true;
            return Ok(());
        }
        self.slots[index].stale = false;
        let owner = self.slots[index].owner;
        self.begin(c, index, self.atoms.TARGETS, Sink::list(owner))
    }

    /// The owner listed what it has, or did not.
    fn listed<C: Connection>(
        &mut self,
        c: &C,
        index: usize,
        owner: u64,
        targets: &[Atom],
    ) -> Result<(), Fault> {
        let given = self.names.names(c, targets)?;
        let slot = &mut self.slots[index];
        if slot.owner == owner {
            let types = kinds::travelling(&given);
            slot.given = given;
            self.news.push(News::Changed { selection: slot.selection, types });
        }
        if self.slots[index].stale { self.ask(c, index) } else { Ok(()) }
    }
}

/// A window that is never shown, and tells of its properties.
///
/// # Errors
/// When the connection fails.
pub fn own_window<C: Connection>(c: &C, root: Window) -> Result<Window, Fault> {
    let window = c.generate_id()?;
    let aux = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
    c.create_window(
        0,
        window,
        root,
        -1,
        -1,
        1,
        1,
        0,
        WindowClass::INPUT_ONLY,
        x11rb::COPY_FROM_PARENT,
        &aux,
    )?;
    Ok(window)
}
