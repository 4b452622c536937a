//! Copy and paste between the desktop's apps and the guest's: offers both ways, and data on a stream for each paste.
//!
//! ```text
//! desktop's app copies -> News::Changed -> Event::Offer      guest's app pastes -> Request::Fetch -> ticket, Event::Stream -.
//! guest's app copies   -> Request::Offer -> offer()          desktop's pastes   -> News::Wanted   -> ticket, Event::Fetch  -+
//!                                                            the agent opens the stream with the ticket's id <--------------'
//! ```

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use inlay_exchange::News;
use inlay_exchange::kinds;
use inlay_exchange::pipe::Pipe;
use inlay_exchange::transfer::Transfer;
use inlay_protocol::connection::Connection;
use inlay_protocol::display::Event;
use inlay_protocol::limits;
use inlay_protocol::selection::{Offer, Selection};

use super::presenter::Selections;

/// How long the agent may take to open a stream.
const OPENING: Duration = Duration::from_secs(10);

/// What one side offers of one selection.
#[derive(Debug, Default)]
struct Offered {
    serial: u64,
    types: Vec<String>,
}

impl Offered {
    fn has(&self, serial: u64, kind: &str) -> bool {
        self.serial == serial && self.types.iter().any(|t| t == kind)
    }
}

/// A stream that the agent is to open.
#[derive(Debug)]
struct Ticket {
    stream: [u8; 16],
    transfer: Transfer,
    until: Instant,
}

/// All of it.
#[derive(Debug)]
pub struct Exchange {
    /// Host and guest have the same files.
    local: bool,
    /// Counts what the desktop offers.
    serial: u64,
    desktop: [Offered; 2],
    guest: [Offered; 2],
    tickets: Vec<Ticket>,
    streams: Vec<(Connection, Transfer)>,
}

impl Exchange {
    /// Nothing is copied yet. `local` says that host and guest have the same files.
    #[must_use]
    pub fn new(local: bool) -> Self {
        Self {
            local,
            serial: 0,
            desktop: Default::default(),
            guest: Default::default(),
            tickets: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// What may cross: lists of files only where they mean the same on both sides.
    fn crossing(&self, types: Vec<String>) -> Vec<String> {
        types.into_iter().filter(|kind| self.local || !kinds::is_files(kind)).collect()
    }

    /// What the agent is to know when it comes.
    pub fn greeting(&self) -> impl Iterator<Item = Event> {
        let some = Selection::ALL.into_iter().filter(|s| !self.desktop[s.index()].types.is_empty());
        some.map(|selection| self.offer(selection))
    }

    fn offer(&self, selection: Selection) -> Event {
        let Offered { serial, types } = &self.desktop[selection.index()];
        Event::Offer(Offer { selection, serial: *serial, types: types.clone() })
    }

    /// The agent is gone, and with it what its apps had to give.
    pub fn agent_gone(&mut self, selections: Option<&mut dyn Selections>) {
        self.tickets.clear();
        self.streams.clear();
        let Some(selections) = selections else { return };
        for selection in Selection::ALL {
            if !std::mem::take(&mut self.guest[selection.index()]).types.is_empty() {
                selections.offer(selection, Vec::new());
            }
        }
    }

    /// The desktop's apps did something; what the agent is to know.
    pub fn desktop_did(&mut self, news: News, agent: bool) -> Option<Event> {
        match news {
            News::Changed { selection, types } => {
                let types = self.crossing(types);
                let offered = &mut self.desktop[selection.index()];
                if types.is_empty() && offered.types.is_empty() {
                    return None;
                }
                self.serial += 1;
                *offered = Offered { serial: self.serial, types };
                Some(self.offer(selection))
            }
            News::Wanted { selection, kind, pipe } => {
                let Offered { serial, types } = &self.guest[selection.index()];
                if !agent || !types.contains(&kind) {
                    pipe.cut_off();
                    return None;
                }
                let serial = *serial;
                let stream = self.expect(Transfer::take(pipe))?;
                Some(Event::Fetch { stream, selection, serial, kind })
            }
        }
    }

    /// An app of the guest has something to give.
    pub fn guest_offers(&mut self, offer: Offer, selections: Option<&mut dyn Selections>) {
        let Offer { selection, serial, types } = offer;
        let types = self.crossing(kinds::travelling(types));
        if let Some(selections) = selections {
            selections.offer(selection, types.clone());
        }
        // The desktop's app that had it has it no more.
        if !types.is_empty() {
            self.desktop[selection.index()].types.clear();
        }
        self.guest[selection.index()] = Offered { serial, types };
    }

    /// An app of the guest pastes.
    pub fn guest_fetches(
        &mut self,
        transfer: u64,
        (selection, serial, kind): (Selection, u64, &str),
        selections: Option<&mut dyn Selections>,
    ) -> Event {
        let offered = self.desktop[selection.index()].has(serial, kind);
        let stream = selections.filter(|_| offered).and_then(|selections| {
            let (read, write) = Pipe::pair().ok()?;
            let stream = self.expect(Transfer::give(read))?;
            selections.take(selection, kind, write);
            Some(stream)
        });
        Event::Stream { transfer, stream }
    }

    /// A stream for a transfer; none when there are too many.
    fn expect(&mut self, transfer: Transfer) -> Option<[u8; 16]> {
        if self.tickets.len() + self.streams.len() >= 2 * limits::TRANSFERS {
            tracing::warn!("too much is pasted at once: one paste stays empty");
            return None;
        }
        let mut stream = [0; 16];
        let filled = rustix::rand::getrandom(&mut stream, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(stream.len()) {
            tracing::error!("there is no randomness: nothing can be pasted");
            return None;
        }
        self.tickets.push(Ticket { stream, transfer, until: Instant::now() + OPENING });
        Some(stream)
    }

    /// Whether a stream of this id is to be opened.
    #[must_use]
    pub fn expects(&self, stream: [u8; 16]) -> bool {
        self.tickets.iter().any(|t| t.stream == stream)
    }

    /// The agent opened a stream.
    pub fn opened(&mut self, stream: [u8; 16], connection: Connection) {
        if let Some(at) = self.tickets.iter().position(|t| t.stream == stream) {
            let Ticket { transfer, .. } = self.tickets.swap_remove(at);
            self.streams.push((connection, transfer));
        }
    }

    /// Moves what can be moved.
    pub fn turn(&mut self) {
        let now = Instant::now();
        self.tickets.retain(|t| t.until > now);
        self.streams.retain_mut(|(connection, transfer)| match transfer.turn(connection) {
            Ok(over) => !over,
            Err(error) => {
                tracing::info!("a paste ends early: {error}");
                false
            }
        });
    }

    /// What to wait for, and whether it is to be read or written.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool, bool)> {
        self.streams.iter().flat_map(|(connection, transfer)| {
            let stream = (connection.fd(), transfer.reads(), connection.wants_write());
            std::iter::once(stream).chain(transfer.wish(connection.waiting()))
        })
    }

    /// When something is given up.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let tickets = self.tickets.iter().map(|t| t.until);
        tickets.chain(self.streams.iter().map(|(_, transfer)| transfer.due())).min()
    }
}
