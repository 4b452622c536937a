//! Copy and paste between the desktop's apps and the guest's: offers both ways, and data on a stream for each paste.
//!
//! ```text
//! desktop's app copies -> News::Changed -> gate -> Event::Offer   guest's app pastes -> Request::Fetch -> gate -> ticket, Event::Stream -.
//! guest's app copies   -> Request::Offer -> gate -> offer()       desktop's pastes   -> News::Wanted   -> gate -> ticket, Event::Fetch  -+
//!                                                                 the agent opens the stream with the ticket's id <----------------------'
//! ```
//! Where the user is to be asked, the names of types go to the guest while one of its windows has the focus, and data after the answer;
//! what the guest copied takes nothing's place on the desktop before. Drags are in [`drags`], files that are copied in [`files`].

mod drags;
mod files;
mod links;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use inlay_exchange::News;
use inlay_exchange::files::is_translated;
use inlay_exchange::kinds;
use inlay_exchange::pipe::Pipe;
use inlay_exchange::transfer::Transfer;
use inlay_protocol::connection::Connection;
use inlay_protocol::display::{Event, SurfaceId};
use inlay_protocol::limits;
use inlay_protocol::selection::{Actions, Offer, Selection};

use self::drags::{Carried, Dragging};
use self::links::Links;
use super::dialogs::Dialogs;
use super::gate::{Answer, Gate, Pass};
use super::presenter::{Presenter, Selections};
use crate::files::copies::{Copies, Source};
use crate::files::lists::FileLists;
use crate::permissions::{Kind, Resource, Way};

/// How long the agent may take to open a stream.
const OPENING: Duration = Duration::from_secs(10);
/// The desktop hears of copies in the guest so often: the last of many counts.
const PACE: Duration = Duration::from_millis(50);

/// What the desktop has to give.
#[derive(Debug, Default)]
struct Desktop {
    /// The number of the copy.
    copy: u64,
    types: Vec<String>,
    /// What the agent was told, of which copy, and as which offer.
    told: Vec<String>,
    told_of: u64,
    serial: u64,
}

/// What the guest has to give.
#[derive(Debug, Default)]
struct Guest {
    /// The agent's number for it, and ours.
    serial: u64,
    copy: u64,
    types: Vec<String>,
    /// What of it may be had on the desktop.
    shown: Vec<String>,
    /// The desktop is to be told, and when it was told last.
    untold: bool,
    told: Option<Instant>,
}

impl Guest {
    /// When the desktop is to be told.
    fn due(&self) -> Option<Instant> {
        self.untold.then(|| self.told.map_or_else(Instant::now, |at| at + PACE))
    }

    /// Tells the desktop, if it is time to.
    fn tell(&mut self, selection: Selection, selections: &mut dyn Selections) {
        let due = self.due();
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            (self.untold, self.told) = (false, Some(now));
            selections.offer(selection, self.shown.clone());
        }
    }
}

/// A stream that the agent is to open.
#[derive(Debug)]
struct Ticket {
    stream: [u8; 16],
    moving: Moving,
    until: Instant,
}

/// Data on its way.
#[derive(Debug)]
struct Moving {
    transfer: Transfer,
    resource: Resource,
    /// The copy or offer that it is of.
    of: u64,
    /// The number of the copy of files that it is.
    files: Option<u64>,
}

/// A paste of the guest's that waits for the user.
#[derive(Debug)]
struct Waiting {
    transfer: u64,
    selection: Selection,
    serial: u64,
    kind: String,
}

/// What of the desktop is needed.
#[derive(Debug)]
pub struct Outside<'a> {
    /// Its selections.
    pub presenter: &'a mut dyn Presenter,
    /// To ask the user.
    pub dialogs: &'a mut Dialogs,
    /// The machine's window with the focus, and what it is called.
    pub focus: Option<(SurfaceId, String)>,
}

/// All of it.
#[derive(Debug)]
pub struct Exchange {
    machine: String,
    /// Host and guest have the same files.
    local: bool,
    /// How lists of files cross, where they have not, and the files of the guest that are in them.
    lists: Option<(FileLists, Copies)>,
    gate: Gate,
    /// Whether a window of the machine has the focus.
    focused: bool,
    /// Counts offers to the agent.
    serial: u64,
    /// Counts all that is copied, marked and dragged, on either side: what is allowed once is allowed for one of them.
    copies: u64,
    desktop: [Desktop; Selection::COUNT],
    guest: [Guest; Selection::COUNT],
    waiting: Vec<Waiting>,
    /// What is dragged over windows of the machine.
    drag: Dragging,
    /// What an app of the guest drags.
    carried: Option<Carried>,
    links: Links,
    /// What the user is to be told about files.
    said: Vec<String>,
    tickets: Vec<Ticket>,
    streams: Vec<(Connection, Moving)>,
}

impl Exchange {
    /// Nothing is copied yet. `local` says that host and guest have the same files; where they have not, `lists` says how lists of
    /// files cross, if they do.
    #[must_use]
    pub fn new(machine: &str, local: bool, lists: Option<FileLists>, gate: Gate) -> Self {
        let lists = lists.and_then(|lists| {
            let copies = Copies::new(machine, lists.store());
            let copies = copies.inspect_err(|error| tracing::error!(%error, "no files cross")).ok()?;
            Some((lists, copies))
        });
        Self {
            machine: machine.to_owned(),
            local,
            lists,
            gate,
            focused: false,
            serial: 0,
            copies: 0,
            desktop: Default::default(),
            guest: Default::default(),
            waiting: Vec::new(),
            drag: Dragging::Nothing,
            carried: None,
            links: Links::default(),
            said: Vec::new(),
            tickets: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// What may cross: lists of files only where they mean the same on both sides, or can be made to.
    fn crossing(&self, way: Way, types: Vec<String>) -> Vec<String> {
        let lists = match (&self.lists, way) {
            (None, _) => false,
            // Out of the guest they need no file server.
            (Some(_), Way::Out) => true,
            (Some((lists, _)), Way::In) => lists.is_served(),
        };
        let may = |kind: &String| self.local || !kinds::is_files(kind) || (lists && is_translated(kind));
        types.into_iter().filter(may).collect()
    }

    /// How a list of files is to be made one of the other side's; nothing for all else.
    fn translator(&self, kind: &str) -> Option<&(FileLists, Copies)> {
        self.lists.as_ref().filter(|_| !self.local && kinds::is_files(kind))
    }

    /// Where what comes out of the guest is to be written, for an app's pipe.
    fn outward(&self, kind: &str, pipe: Pipe, source: Source) -> Option<Pipe> {
        let Some((lists, copies)) = self.translator(kind) else { return Some(pipe) };
        let outward = lists.out_of_guest(kind, pipe, copies, source);
        outward.inspect_err(|error| tracing::warn!(%error, "a list of files is not given")).ok()
    }

    /// An agent is there: what it is to know.
    pub fn greet(&mut self) -> Vec<Event> {
        self.desktop.iter_mut().for_each(|desktop| desktop.told.clear());
        self.links_news(true).into_iter().chain(self.tell()).collect()
    }

    /// The agent is gone, and with it what its apps had to give.
    pub fn agent_gone(&mut self, presenter: &mut dyn Presenter) {
        self.tickets.clear();
        self.streams.clear();
        self.waiting.clear();
        self.gate.forget();
        self.focused = false;
        if self.carried.take().is_some() {
            presenter.cancel_drag();
        }
        let dropped = matches!(self.drag, Dragging::Waits(_) | Dragging::Dropped(_));
        self.drag_is_over();
        if dropped {
            presenter.end_drag(Actions::NONE);
        }
        let shown = self.guest.iter_mut().map(|guest| std::mem::take(guest).shown);
        let shown: Vec<bool> = shown.map(|types| !types.is_empty()).collect();
        let Some(selections) = presenter.selections_mut() else { return };
        for selection in Selection::ALL.into_iter().filter(|s| shown[s.index()]) {
            selections.offer(selection, Vec::new());
        }
    }

    /// A window of the machine has the focus, or none has; what the agent is to know.
    pub fn focus(&mut self, focused: bool) -> Vec<Event> {
        let came = focused && !self.focused;
        self.focused = focused;
        // What it knows already is not taken back when the focus goes.
        if came { self.tell() } else { Vec::new() }
    }

    /// Offers that changed since the agent was told.
    fn tell(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for selection in Selection::ALL {
            let Desktop { copy, types, told, told_of, .. } = &self.desktop[selection.index()];
            let knows = |kind: &String| told_of == copy && told.contains(kind);
            let visible = |kind: &&String| match self.gate.pass(resource(Way::In, kind), *copy) {
                Pass::Yes => true,
                Pass::No => false,
                Pass::Ask => self.focused || knows(kind),
            };
            let now: Vec<String> = types.iter().filter(visible).cloned().collect();
            if now == *told && (told_of == copy || now.is_empty()) {
                continue;
            }
            self.serial += 1;
            let desktop = &mut self.desktop[selection.index()];
            (desktop.told, desktop.told_of, desktop.serial) = (now.clone(), desktop.copy, self.serial);
            events.push(Event::Offer(Offer { selection, serial: self.serial, types: now }));
        }
        events
    }

    /// The desktop's apps did something; what the agent is to know.
    pub fn desktop_did(&mut self, news: News, agent: bool) -> Vec<Event> {
        match news {
            News::Taken { selection } => {
                // What was copied in the guest before must not take it back, though the desktop was to be told in a moment.
                self.guest[selection.index()].untold = false;
                Vec::new()
            }
            News::Changed { selection, types } => {
                let types = self.crossing(Way::In, types);
                if !types.is_empty() {
                    // The newest copy counts, also where the guest must not know of it.
                    let guest = &mut self.guest[selection.index()];
                    (guest.types, guest.shown, guest.untold) = (Vec::new(), Vec::new(), false);
                }
                self.copies += 1;
                let desktop = &mut self.desktop[selection.index()];
                (desktop.copy, desktop.types) = (self.copies, types);
                if agent { self.tell() } else { Vec::new() }
            }
            News::Wanted { selection: Selection::Drag, kind, pipe } => self.carried_is_wanted(kind, pipe),
            // Told by the session ([`Exchange::carried`]).
            News::Drag { .. } => Vec::new(),
            News::Wanted { selection, kind, pipe } => {
                let Guest { serial, copy, shown, .. } = &self.guest[selection.index()];
                let (serial, copy, resource) = (*serial, *copy, resource(Way::Out, &kind));
                let may = agent && shown.contains(&kind) && self.gate.pass(resource, copy) == Pass::Yes;
                if !may {
                    pipe.cut_off();
                    return Vec::new();
                }
                let source = Source { of: copy, resource };
                let Some(pipe) = self.outward(&kind, pipe, source) else { return Vec::new() };
                let moving = Moving { transfer: Transfer::take(pipe), resource, of: copy, files: None };
                let stream = self.expect(moving);
                stream.map(|stream| Event::Fetch { stream, selection, serial, kind }).into_iter().collect()
            }
        }
    }

    /// An app of the guest has something to give.
    pub fn guest_offers(&mut self, offer: Offer, outside: &mut Outside<'_>) {
        let Offer { selection, serial, types } = offer;
        let types = self.crossing(Way::Out, kinds::travelling(types));
        let guest = &mut self.guest[selection.index()];
        // The same as before where its app ended and the agent kept it.
        let same = serial == guest.serial && types.iter().all(|kind| guest.types.contains(kind));
        if !same || guest.types.is_empty() {
            self.copies += 1;
            guest.copy = self.copies;
        }
        (guest.serial, guest.types) = (serial, types);
        self.show(selection, outside.presenter.selections_mut(), true);
        let Guest { copy, types, shown, .. } = &self.guest[selection.index()];
        let copy = *copy;
        // What is marked is not worth a question: that happens with every click.
        if !shown.is_empty() || selection == Selection::Primary {
            return;
        }
        let asks = |kind: &&String| self.gate.pass(resource(Way::Out, kind), copy) == Pass::Ask;
        if let Some(kind) = types.iter().find(asks) {
            let about = Kind::of(kind);
            self.ask(Resource::Clipboard(Way::Out, about), copy, outside);
        }
    }

    /// Offers the desktop what may cross of what the guest has; `new` says that it is another copy than before.
    fn show(&mut self, selection: Selection, selections: Option<&mut dyn Selections>, new: bool) {
        let Guest { copy, types, shown, .. } = &self.guest[selection.index()];
        let may = |kind: &&String| self.gate.pass(resource(Way::Out, kind), *copy) == Pass::Yes;
        let now: Vec<String> = types.iter().filter(may).cloned().collect();
        let untold = now != *shown || (new && !now.is_empty());
        // The desktop's app that had it has it no more.
        if !now.is_empty() {
            let desktop = &mut self.desktop[selection.index()];
            desktop.types.clear();
            desktop.told.clear();
        }
        let guest = &mut self.guest[selection.index()];
        guest.shown = now;
        if let Some(selections) = selections {
            guest.untold |= untold;
            guest.tell(selection, selections);
        }
    }

    /// An app of the guest pastes; what the agent is to know.
    pub fn guest_fetches(
        &mut self,
        transfer: u64,
        (selection, serial, kind): (Selection, u64, String),
        outside: &mut Outside<'_>,
    ) -> Option<Event> {
        let waiting = Waiting { transfer, selection, serial, kind };
        if selection == Selection::Drag {
            // Asked about when it was dropped.
            return Some(self.serve(&waiting, outside.presenter.selections_mut()));
        }
        let desktop = &self.desktop[selection.index()];
        let (resource, copy) = (resource(Way::In, &waiting.kind), desktop.copy);
        if self.gate.pass(resource, copy) == Pass::Ask && self.is_current(&waiting) {
            self.ask(resource, copy, outside);
            let asked = self.gate.open().is_some_and(|q| (q.resource, q.serial) == (resource, copy));
            if asked && self.waiting.len() < limits::TRANSFERS {
                self.waiting.push(waiting);
                return None;
            }
        }
        Some(self.serve(&waiting, outside.presenter.selections_mut()))
    }

    fn is_current(&self, waiting: &Waiting) -> bool {
        let Desktop { types, told, serial, .. } = &self.desktop[waiting.selection.index()];
        *serial == waiting.serial && told.contains(&waiting.kind) && types.contains(&waiting.kind)
    }

    /// Gives the agent a stream for what may pass.
    fn serve(&mut self, waiting: &Waiting, selections: Option<&mut dyn Selections>) -> Event {
        let Waiting { transfer, selection, kind, .. } = waiting;
        let copy = self.desktop[selection.index()].copy;
        let resource = match selection {
            Selection::Drag => Resource::Drop(Way::In),
            Selection::Clipboard | Selection::Primary => resource(Way::In, kind),
        };
        let dragged =
            *selection != Selection::Drag || matches!(self.drag, Dragging::Over | Dragging::Dropped(_));
        let may = dragged && self.is_current(waiting) && self.gate.pass(resource, copy) == Pass::Yes;
        let stream = selections.filter(|_| may).and_then(|selections| {
            let (read, write) = Pipe::pair().ok()?;
            let read = match self.translator(kind) {
                // What is dropped on an app is to be worked with; what is pasted is copied from.
                Some((lists, _)) => lists.into_guest(kind, read, *selection != Selection::Drag).ok()?,
                None => read,
            };
            let moving = Moving { transfer: Transfer::give(read), resource, of: copy, files: None };
            let stream = self.expect(moving)?;
            selections.take(*selection, kind, write);
            Some(stream)
        });
        Event::Stream { transfer: *transfer, stream }
    }

    /// Asks the user, if somebody looks at the machine at all.
    fn ask(&mut self, resource: Resource, of: u64, outside: &mut Outside<'_>) {
        self.ask_about(resource, of, None, outside);
    }

    /// The same, about one thing that is shown.
    fn ask_about(&mut self, resource: Resource, of: u64, what: Option<&str>, outside: &mut Outside<'_>) {
        let Some((window, app)) = &outside.focus else { return };
        let Some(question) = self.gate.ask(resource, of) else { return };
        let machine = &self.machine;
        let text = match resource {
            Resource::Clipboard(Way::In, kind) => {
                format!("\"{app}\" of {machine} wants to paste {} that you copied elsewhere.", kind.words())
            }
            Resource::Clipboard(Way::Out, kind) => {
                format!("\"{app}\" of {machine} wants to copy {} to your clipboard.", kind.words())
            }
            Resource::Drop(Way::In) => format!("\"{app}\" of {machine} is to get what you dropped on it."),
            Resource::Drop(Way::Out) => {
                format!("\"{app}\" of {machine} is to give what you dragged out of it to another app.")
            }
            Resource::Links => {
                format!("{machine} wants to open a link on this host:\n{}", what.unwrap_or_default())
            }
        };
        outside.dialogs.permit(question.number, &text, *window);
    }

    /// The user answered; what the agent is to know.
    pub fn answered(&mut self, number: u64, answer: Answer, outside: &mut Outside<'_>) -> Vec<Event> {
        let Some(question) = self.gate.answered(number, answer) else { return Vec::new() };
        if answer == Answer::Once && matches!(question.resource, Resource::Clipboard(Way::Out, _)) {
            // It may have copied again meanwhile: that is what the user sees.
            self.gate.grant(question.resource, self.guest[Selection::Clipboard.index()].copy);
        }
        match question.resource {
            Resource::Drop(Way::In) => return self.drop_if_permitted(outside).into_iter().collect(),
            Resource::Drop(Way::Out) => return self.give_if_permitted(),
            Resource::Links => {
                self.link_if_permitted(outside);
                return self.links_news(false).into_iter().collect();
            }
            Resource::Clipboard(..) => {}
        }
        let about = |waiting: &mut Waiting| resource(Way::In, &waiting.kind) == question.resource;
        let served: Vec<Waiting> = self.waiting.extract_if(.., about).collect();
        let mut events = Vec::new();
        for waiting in served {
            events.push(self.serve(&waiting, outside.presenter.selections_mut()));
        }
        events.extend(self.reconsider(outside.presenter));
        events
    }

    /// Follows changes of what is permitted; what the agent is to know.
    fn reconsider(&mut self, presenter: &mut dyn Presenter) -> Vec<Event> {
        let gate = &self.gate;
        let may = |moving: &Moving| gate.pass(moving.resource, moving.of) == Pass::Yes;
        self.tickets.retain(|ticket| may(&ticket.moving));
        self.streams.retain(|(_, moving)| may(moving));
        for selection in Selection::ALL {
            self.show(selection, presenter.selections_mut(), false);
        }
        self.links_news(false).into_iter().chain(self.tell()).collect()
    }

    /// A stream for data; none when there are too many.
    fn expect(&mut self, moving: Moving) -> Option<[u8; 16]> {
        if self.tickets.len() + self.streams.len() >= 2 * limits::TRANSFERS {
            // The guest can have it happen as often as it likes: no line in the log for each.
            tracing::debug!("too much is pasted at once: one paste stays empty");
            return None;
        }
        let mut stream = [0; 16];
        let filled = rustix::rand::getrandom(&mut stream, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(stream.len()) {
            tracing::error!("there is no randomness: nothing can be pasted");
            return None;
        }
        self.tickets.push(Ticket { stream, moving, until: Instant::now() + OPENING });
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
            let Ticket { moving, .. } = self.tickets.swap_remove(at);
            self.streams.push((connection, moving));
        }
    }

    /// Moves what can be moved, and looks whether something else is permitted now; what the agent is to know.
    pub fn turn(&mut self, presenter: &mut dyn Presenter) -> Vec<Event> {
        let now = Instant::now();
        if let Some(selections) = presenter.selections_mut() {
            for selection in Selection::ALL {
                self.guest[selection.index()].tell(selection, selections);
            }
        }
        let mut events = if self.gate.turn() { self.reconsider(presenter) } else { Vec::new() };
        events.extend(self.begin_copies());
        events.extend(self.give_drags_up(now, presenter));
        self.tickets.retain(|t| t.until > now);
        self.streams.retain_mut(|(connection, moving)| match moving.transfer.turn(connection) {
            Ok(over) => !over,
            Err(error) => {
                tracing::debug!("a paste ends early: {error}");
                false
            }
        });
        events
    }

    /// What to wait for, and whether it is to be read or written.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool, bool)> {
        let streams = self.streams.iter().flat_map(|(connection, moving)| {
            let stream = (connection.fd(), moving.transfer.reads(), connection.wants_write());
            std::iter::once(stream).chain(moving.transfer.wish(connection.waiting()))
        });
        let others = self.gate.fd().into_iter().chain(self.copies().map(Copies::fd));
        streams.chain(others.map(|fd| (fd, true, false)))
    }

    /// When something is given up.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let tickets = self.tickets.iter().map(|t| t.until).chain(self.guest.iter().filter_map(Guest::due));
        let tickets = tickets.chain(self.drags_due()).chain(self.copies_due());
        tickets.chain(self.streams.iter().map(|(_, moving)| moving.transfer.due())).min()
    }
}

fn resource(way: Way, kind: &str) -> Resource {
    Resource::Clipboard(way, Kind::of(kind))
}
