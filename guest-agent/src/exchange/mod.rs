//! Copy and paste inside the guest and with the host: who has a selection, Wayland's apps, X11's or the host's, and how the others
//! get at it.
//!
//! ```text
//!              Wayland's apps <- smithay      X11's apps <- x11/wm        host <- display session
//! copied:      app_copied                     x11_did (Changed)           Event::Offer  -> the other two are told
//! pasted:      app_pastes                     x11_did (Wanted)            Event::Fetch  -> fetched from who has it, by a pipe
//! ```
//! What an app copied outlives it ([`keep`]). What crosses to or from the host goes on a stream of its own ([`inlay_exchange::transfer`]); within the guest the pipe is all.

mod keep;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use inlay_exchange::transfer::{Transfer, TransferError};
use inlay_exchange::{News, kinds};
use inlay_protocol::display::Request;
use inlay_protocol::handshake::{Capabilities, Role};
use inlay_protocol::limits;
use inlay_protocol::selection::{Offer, Selection};
use smithay::reexports::wayland_server::backend::ObjectId;
use smithay::wayland::selection::data_device::{
    clear_data_device_selection, request_data_device_client_selection, set_data_device_selection,
};
use smithay::wayland::selection::primary_selection::{
    clear_primary_selection, request_primary_client_selection, set_primary_selection,
};

use crate::agent::Agent;
use crate::channel::{Link, LinkError};
use crate::watch::{BorrowedFdKey, Source, Watch, Wish};
use crate::x11;
use crate::{copying, drag};

/// How long the host may take to say where the data comes: the user may have to be asked.
const ANSWER: Duration = Duration::from_secs(120);
/// How long a stream may take to come up.
const CONNECT: Duration = Duration::from_secs(10);

/// Who else than a Wayland app has what is pasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An X11 app.
    X11,
    /// The host, by this offer.
    Host(u64),
    /// Nobody any more: it was kept.
    Kept,
}

/// Who has a selection.
#[derive(Debug, Default)]
enum Owner {
    #[default]
    Nobody,
    /// A Wayland app: its source, and the names that it gave.
    Wayland(Option<ObjectId>, Vec<String>),
    Other(Origin),
}

#[derive(Debug, Default)]
struct Held {
    owner: Owner,
    /// What there is, by the names that travel.
    types: Vec<String>,
    /// The newest offer that the host was told.
    serial: u64,
}

/// Data on its way from or to the host.
#[derive(Debug)]
struct Active {
    /// None until the host said where.
    link: Option<Link>,
    transfer: Transfer,
    /// When it is given up unless the stream is up.
    until: Instant,
    watches: [Watch; 2],
}

/// All of it.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The source that the request in hand names.
    pub named: Option<ObjectId>,
    held: [Held; Selection::COUNT],
    serial: u64,
    transfers: BTreeMap<u64, Active>,
    next: u64,
    keep: keep::Keep,
    /// What is to be copied to the host on a stream, as far as it was named.
    named_paths: Option<([u8; 16], Vec<PathBuf>)>,
}

/// A Wayland app copied something, or (without names) takes it back. smithay tells Wayland's other apps itself.
pub fn app_copied(agent: &mut Agent, selection: Selection, given: Vec<String>) {
    let types = kinds::travelling(&given);
    let source = agent.exchange.named.take();
    let owner = if given.is_empty() { Owner::Nobody } else { Owner::Wayland(source, given) };
    hold(agent, selection, owner, types);
    kept_is_old(agent, selection);
}

/// Another app copied: what is kept is of the one before.
fn kept_is_old(agent: &mut Agent, selection: Selection) {
    if selection == Selection::Clipboard {
        let types = agent.exchange.held[selection.index()].types.clone();
        keep::copied(agent, &types);
    }
}

/// The app that copied is gone, and nothing was kept of it.
fn gone(agent: &mut Agent, selection: Selection) {
    if selection == Selection::Clipboard && keep::take_over(agent) {
        return;
    }
    hold(agent, selection, Owner::Nobody, Vec::new());
    tell_wayland(agent, selection);
}

/// Whether a Wayland app's source is a selection.
#[must_use]
pub fn is_copied(agent: &Agent, source: &ObjectId) -> bool {
    let is = |held: &Held| matches!(&held.owner, Owner::Wayland(Some(own), _) if own == source);
    agent.exchange.held.iter().any(is)
}

/// A Wayland app's source is gone.
pub fn source_gone(agent: &mut Agent, source: &ObjectId) {
    drag::out::source_gone(agent, source);
    for selection in Selection::ALL {
        let owner = &agent.exchange.held[selection.index()].owner;
        if matches!(owner, Owner::Wayland(Some(own), _) if own == source) {
            gone(agent, selection);
        }
    }
}

/// A Wayland app pastes what another kind of app, or the host, has.
pub fn app_pastes(agent: &mut Agent, selection: Selection, name: &str, fd: OwnedFd, origin: Origin) {
    match Pipe::foreign(fd) {
        Ok(pipe) => fetch(agent, selection, kinds::meant(name), pipe, origin),
        Err(error) => tracing::debug!(%error, "an app pastes into no pipe"),
    }
}

/// X11's apps did something.
pub fn x11_did(agent: &mut Agent, news: News) {
    match news {
        News::Changed { selection, types } => {
            let had = matches!(agent.exchange.held[selection.index()].owner, Owner::Other(Origin::X11));
            if !types.is_empty() {
                hold(agent, selection, Owner::Other(Origin::X11), types);
                tell_wayland(agent, selection);
                kept_is_old(agent, selection);
            } else if had {
                gone(agent, selection);
            }
        }
        News::Wanted { selection: Selection::Drag, kind, pipe } => drag::x11_fetches(agent, &kind, pipe),
        News::Wanted { selection, kind, pipe } => fetch_from_owner(agent, selection, &kind, pipe),
        // The host hears of an app's copy with its types. Drags are told apart from selections (`x11/wm`).
        News::Taken { .. } | News::Drag { .. } => {}
    }
}

/// Fetches what somebody has into a pipe, whoever it is.
fn fetch_from_owner(agent: &mut Agent, selection: Selection, kind: &str, pipe: Pipe) {
    match agent.exchange.held[selection.index()].owner {
        Owner::Nobody => pipe.cut_off(),
        Owner::Wayland(..) => ask_wayland(agent, selection, kind, pipe),
        Owner::Other(origin) => fetch(agent, selection, kind, pipe, origin),
    }
}

/// X11's apps are there (again).
pub fn x11_up(agent: &mut Agent) {
    for selection in Selection::ALL {
        let Held { owner, types, .. } = &agent.exchange.held[selection.index()];
        if !types.is_empty() && !matches!(owner, Owner::Other(Origin::X11)) {
            x11::offer(agent, selection, types.clone());
        }
    }
}

/// X11's apps are gone.
pub fn x11_down(agent: &mut Agent) {
    for selection in Selection::ALL {
        x11_did(agent, News::Changed { selection, types: Vec::new() });
    }
}

/// The host has something to give, or (without types) has it no more.
pub fn host_offers(agent: &mut Agent, offer: Offer) {
    let Offer { selection, serial, types } = offer;
    let had = matches!(agent.exchange.held[selection.index()].owner, Owner::Other(Origin::Host(_)));
    let types = kinds::travelling(types);
    if !types.is_empty() {
        hold(agent, selection, Owner::Other(Origin::Host(serial)), types);
        if selection == Selection::Clipboard {
            keep::forget(agent);
        }
    } else if had {
        hold(agent, selection, Owner::Nobody, types);
    } else {
        return;
    }
    tell_wayland(agent, selection);
}

/// Somebody on the host pastes: whatever becomes of it, the stream is opened, so that nobody waits for it.
pub fn host_fetches(agent: &mut Agent, stream: [u8; 16], (selection, serial, kind): (Selection, u64, &str)) {
    let Ok((read, write)) = Pipe::pair() else { return };
    let held = &agent.exchange.held[selection.index()];
    let dragged = selection == Selection::Drag;
    let current = !dragged && held.serial == serial && held.types.iter().any(|t| t == kind);
    if dragged {
        drag::out::give(agent, serial, kind, write);
    } else if current && !matches!(held.owner, Owner::Other(Origin::Host(_))) {
        fetch_from_owner(agent, selection, kind, write);
    } else {
        write.cut_off();
    }
    let mut active = Active::new(Transfer::give(read));
    active.open(agent, stream);
    let id = agent.exchange.new_id();
    agent.exchange.transfers.insert(id, active);
    ready(agent, id);
}

/// Files of the guest are pasted on the host: the paths come in several messages.
pub fn host_copies(agent: &mut Agent, stream: [u8; 16], paths: Vec<Vec<u8>>, last: bool) {
    let named = &mut agent.exchange.named_paths;
    if named.as_ref().is_none_or(|(of, _)| *of != stream) {
        *named = Some((stream, Vec::new()));
    }
    let Some((_, all)) = named else { return };
    if all.len() + paths.len() > limits::COPY_CHOSEN {
        tracing::warn!("too many files are to be copied at once");
        *named = None;
        return;
    }
    all.extend(paths.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))));
    let Some((_, all)) = named.take_if(|_| last) else { return };
    let Ok((read, write)) = Pipe::pair() else { return };
    if let Err(error) = copying::begin(all, write) {
        tracing::warn!(%error, "no files are copied to the host");
        return;
    }
    let mut active = Active::new(Transfer::give(read));
    active.open(agent, stream);
    let id = agent.exchange.new_id();
    agent.exchange.transfers.insert(id, active);
    ready(agent, id);
}

/// The host says where the data for a paste comes, or that there is none.
pub fn host_answers(agent: &mut Agent, transfer: u64, stream: Option<[u8; 16]>) {
    let Some(mut active) = agent.exchange.transfers.remove(&transfer) else { return };
    if let Some(stream) = stream.filter(|_| active.link.is_none()) {
        active.open(agent, stream);
        agent.exchange.transfers.insert(transfer, active);
        ready(agent, transfer);
    }
}

/// The display session is up: the host is told what there is.
pub fn up(agent: &mut Agent) {
    for selection in Selection::ALL {
        if !agent.exchange.held[selection.index()].types.is_empty() {
            tell_host(agent, selection);
        }
    }
}

/// The window process is gone, and with it what the host had to give.
pub fn disconnected(agent: &mut Agent) {
    let handle = agent.loop_handle.clone();
    agent.exchange.named_paths = None;
    for (_, mut active) in std::mem::take(&mut agent.exchange.transfers) {
        active.watches.iter_mut().for_each(|w| w.clear(&handle));
    }
    for selection in Selection::ALL {
        host_offers(agent, Offer { selection, serial: 0, types: Vec::new() });
    }
}

/// Another has a selection now: X11's apps and the host are told, unless it is theirs.
fn hold(agent: &mut Agent, selection: Selection, owner: Owner, types: Vec<String>) {
    let held = &mut agent.exchange.held[selection.index()];
    let was_host = matches!(held.owner, Owner::Other(Origin::Host(_)));
    (held.owner, held.types) = (owner, types.clone());
    let [is_x11, is_host] = match held.owner {
        Owner::Other(Origin::X11) => [true, false],
        Owner::Other(Origin::Host(_)) => [false, true],
        // What the host takes back is no news to it.
        Owner::Nobody => [false, was_host],
        Owner::Wayland(..) | Owner::Other(Origin::Kept) => [false, false],
    };
    if !is_x11 {
        x11::offer(agent, selection, types);
    }
    if !is_host {
        tell_host(agent, selection);
    }
}

fn tell_host(agent: &mut Agent, selection: Selection) {
    let exchange = &mut agent.exchange;
    let held = &mut exchange.held[selection.index()];
    if matches!(held.owner, Owner::Other(Origin::Host(_))) {
        return;
    }
    // What is kept is the same copy as before.
    if !matches!(held.owner, Owner::Other(Origin::Kept)) {
        exchange.serial += 1;
        held.serial = exchange.serial;
    }
    let offer = Offer { selection, serial: held.serial, types: held.types.clone() };
    agent.send(&Request::Offer(offer));
}

/// Wayland's apps are told what others have.
fn tell_wayland(agent: &mut Agent, selection: Selection) {
    let Held { owner, types, .. } = &agent.exchange.held[selection.index()];
    let (display, seat, names) = (&agent.display_handle, &agent.seat, kinds::for_wayland(types));
    match (selection, owner) {
        (Selection::Clipboard, Owner::Other(origin)) => {
            set_data_device_selection(display, seat, names, *origin)
        }
        (Selection::Primary, Owner::Other(origin)) => set_primary_selection(display, seat, names, *origin),
        (Selection::Clipboard, _) => clear_data_device_selection(display, seat),
        (Selection::Primary, _) => clear_primary_selection(display, seat),
        // Told by the drag itself.
        (Selection::Drag, _) => {}
    }
}

/// Fetches what a Wayland app has.
fn ask_wayland(agent: &mut Agent, selection: Selection, kind: &str, pipe: Pipe) {
    let Owner::Wayland(_, given) = &agent.exchange.held[selection.index()].owner else {
        return pipe.cut_off();
    };
    let Some(name) = kinds::to_ask(given, kind).map(str::to_owned) else { return pipe.cut_off() };
    let asked = match selection {
        Selection::Drag => return pipe.cut_off(),
        Selection::Clipboard => request_data_device_client_selection(&agent.seat, name, pipe.into_fd()),
        Selection::Primary => request_primary_client_selection(&agent.seat, name, pipe.into_fd())
            .map_err(|_| smithay::wayland::selection::data_device::SelectionRequestError::NoSelection),
    };
    if let Err(error) = asked {
        tracing::debug!(%error, "an app has no more what it copied");
    }
}

/// Fetches what an X11 app or the host has, or what is kept.
pub fn fetch(agent: &mut Agent, selection: Selection, kind: &str, pipe: Pipe, origin: Origin) {
    let serial = match origin {
        Origin::X11 => return x11::take(agent, selection, kind.to_owned(), pipe),
        Origin::Kept => return keep::give(agent, kind, pipe),
        Origin::Host(serial) => serial,
    };
    if !agent.display.is_up() || agent.exchange.transfers.len() >= limits::TRANSFERS {
        return pipe.cut_off();
    }
    let transfer = agent.exchange.new_id();
    agent.exchange.transfers.insert(transfer, Active::new(Transfer::take(pipe)));
    agent.send(&Request::Fetch { transfer, selection, serial, kind: kind.to_owned() });
}

impl Exchange {
    fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Active {
    fn new(transfer: Transfer) -> Self {
        Self { link: None, transfer, until: Instant::now() + ANSWER, watches: Default::default() }
    }

    fn open(&mut self, agent: &Agent, stream: [u8; 16]) {
        let address = agent.settings.display.clone();
        self.link = Some(Link::new(Role::Stream(stream), address, Capabilities::default()));
        self.until = Instant::now() + CONNECT;
    }

    /// Does what can be done; `true` when it is over.
    fn step(&mut self) -> Result<bool, StepError> {
        let Some(link) = &mut self.link else { return Ok(false) };
        if link.is_down() {
            // Whether it is connected is told by the loop: asked now, a socket that is still at it says that nothing is wrong.
            link.try_connect()?;
        } else if !link.is_up() {
            link.ready()?;
        }
        Ok(match link.connection_mut() {
            Some(connection) => self.transfer.turn(connection)?,
            None => false,
        })
    }

    fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_up)
    }

    fn due(&self) -> Instant {
        if self.is_up() { self.transfer.due() } else { self.until }
    }
}

/// Why a transfer ends early.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// So much of what was copied is kept when its app ends.
pub fn keep_up_to(agent: &mut Agent, bytes: u64) {
    keep::limit(agent, bytes);
}

/// Something of what is kept is ready.
pub fn kept_ready(agent: &mut Agent) {
    keep::ready(agent);
}

/// Something of a transfer is ready.
pub fn ready(agent: &mut Agent, id: u64) {
    let Some(active) = agent.exchange.transfers.get_mut(&id) else { return };
    let over = match active.step() {
        // A transfer that is up gives itself up.
        Ok(over) => over || (!active.is_up() && active.until <= Instant::now()),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a paste ends early");
            true
        }
    };
    if over && let Some(mut active) = agent.exchange.transfers.remove(&id) {
        active.watches.iter_mut().for_each(|w| w.clear(&agent.loop_handle));
    }
}

/// Once a turn: what is due by time.
pub fn turn(agent: &mut Agent, now: Instant) {
    keep::turn(agent, now);
    let due = agent.exchange.transfers.iter().filter(|(_, active)| active.due() <= now);
    for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
        ready(agent, id);
    }
}

/// When something is due by time.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    agent.exchange.transfers.values().map(Active::due).chain(keep::due(agent)).min()
}

/// Says what to wait for.
pub fn watch(agent: &mut Agent) {
    keep::watch(agent);
    let handle = agent.loop_handle.clone();
    for (id, Active { link, transfer, watches, .. }) in &mut agent.exchange.transfers {
        let source = Source::Transfer(*id);
        let [on_link, on_pipe] = watches;
        let mut wish = link.as_ref().and_then(Link::wish);
        let up = link.as_ref().is_some_and(Link::is_up);
        if let Some(wish) = wish.as_mut().filter(|_| up) {
            wish.read = transfer.reads();
        }
        on_link.set(&handle, source, wish);
        let waiting = link.as_ref().map_or(0, Link::waiting);
        let pipe = transfer.wish(waiting).filter(|_| up);
        let wish = |(fd, read, write)| Wish { fd: BorrowedFdKey { fd, turn: 0 }, read, write };
        on_pipe.set(&handle, source, pipe.map(wish));
    }
}
