//! What was copied outlives the app: the common types are read soon after they were copied, and given when their app is gone.
//!
//! ```text
//! copied -> waits a moment -> reads each type -> kept -- app ends --> offered in its place
//! ```
//! Up to a limit; what is longer, and what a password manager marked as secret, goes with its app. What the app had not given
//! completely when it ended counts as not given.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_exchange::kinds::TEXT;
use inlay_exchange::pipe::Pipe;
use inlay_protocol::limits;
use inlay_protocol::selection::Selection;
use rustix::io::Errno;

use super::{Origin, Owner, fetch_from_owner, hold, tell_wayland};
use crate::agent::Agent;
use crate::watch::{BorrowedFdKey, Source, Watch, Wish};

/// Many copies in a row are read once.
const MOMENT: Duration = Duration::from_millis(100);
/// Bytes that are kept, of all types together, until the host says otherwise.
const LIMIT: usize = 16 << 20;
/// Types that are worth it.
const KINDS: [&str; 8] = [
    TEXT,
    "text/html",
    "text/rtf",
    "application/rtf",
    "image/png",
    "text/uri-list",
    "x-special/gnome-copied-files",
    "application/x-kde-cutselection",
];
/// How a password manager says that nothing is to be kept.
const SECRET: &str = "x-kde-passwordManagerHint";
/// An app, or a reader, on which nothing moves for this long is given up.
const IDLE: Duration = Duration::from_secs(10);

/// One type that is read.
#[derive(Debug)]
struct Reading {
    kind: String,
    pipe: Pipe,
    bytes: Vec<u8>,
    since: Instant,
    /// The turn in which its end was seen.
    ended: Option<u64>,
    watch: Watch,
}

/// One paste that is written.
#[derive(Debug)]
struct Writing {
    pipe: Pipe,
    bytes: Arc<Vec<u8>>,
    written: usize,
    moved: Instant,
    watch: Watch,
}

/// What is kept of the clipboard.
#[derive(Debug)]
pub struct Keep {
    limit: usize,
    begin: Option<Instant>,
    reading: Vec<Reading>,
    kept: BTreeMap<String, Arc<Vec<u8>>>,
    writing: Vec<Writing>,
    turn: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            limit: LIMIT,
            begin: None,
            reading: Vec::new(),
            kept: BTreeMap::new(),
            writing: Vec::new(),
            turn: 0,
        }
    }
}

/// So many bytes are kept from the next copy on; none: nothing is.
pub fn limit(agent: &mut Agent, bytes: u64) {
    agent.exchange.keep.limit = usize::try_from(bytes).unwrap_or(usize::MAX);
}

/// An app copied something else; nothing was copied where `types` has nothing.
pub fn copied(agent: &mut Agent, types: &[String]) {
    forget(agent);
    let secret = types.iter().any(|kind| kind == SECRET);
    let some = types.iter().any(|kind| KINDS.contains(&kind.as_str()));
    let keep = &mut agent.exchange.keep;
    keep.begin = (some && !secret && keep.limit > 0).then(|| Instant::now() + MOMENT);
}

/// Nothing is kept any more; pastes that are on their way go on.
pub fn forget(agent: &mut Agent) {
    let keep = &mut agent.exchange.keep;
    (keep.begin, keep.kept) = (None, BTreeMap::new());
    for mut reading in std::mem::take(&mut keep.reading) {
        reading.watch.clear(&agent.loop_handle);
    }
}

/// The app that copied is gone: what was kept takes its place; `false` when there is nothing.
pub fn take_over(agent: &mut Agent) -> bool {
    let kept = std::mem::take(&mut agent.exchange.keep.kept);
    forget(agent);
    if kept.is_empty() {
        return false;
    }
    // In the order of preference.
    let types =
        KINDS.iter().filter(|kind| kept.contains_key(**kind)).map(|kind| (*kind).to_owned()).collect();
    agent.exchange.keep.kept = kept;
    hold(agent, Selection::Clipboard, Owner::Other(Origin::Kept), types);
    tell_wayland(agent, Selection::Clipboard);
    true
}

/// Gives what is kept.
pub fn give(agent: &mut Agent, kind: &str, pipe: Pipe) {
    let keep = &mut agent.exchange.keep;
    match keep.kept.get(kind) {
        Some(bytes) if keep.writing.len() < limits::TRANSFERS => {
            let bytes = bytes.clone();
            keep.writing.push(Writing {
                pipe,
                bytes,
                written: 0,
                moved: Instant::now(),
                watch: Watch::default(),
            });
            ready(agent);
        }
        _ => pipe.cut_off(),
    }
}

/// Something can be read or written.
pub fn ready(agent: &mut Agent) {
    let handle = agent.loop_handle.clone();
    let keep = &mut agent.exchange.keep;
    let (turn, limit) = (keep.turn, keep.limit);
    let mut held: usize = keep.kept.values().map(|bytes| bytes.len()).sum();
    held += keep.reading.iter().map(|r| r.bytes.len()).sum::<usize>();
    keep.reading.retain_mut(|reading| {
        let stays = reading.read(turn, limit, &mut held);
        if !stays {
            reading.watch.clear(&handle);
        }
        stays
    });
    keep.writing.retain_mut(|writing| {
        let stays = writing.write();
        if !stays {
            writing.watch.clear(&handle);
        }
        stays
    });
}

impl Reading {
    /// Takes what is there; `false` when it is given up.
    fn read(&mut self, turn: u64, limit: usize, held: &mut usize) -> bool {
        let mut bytes = vec![0; limits::CHUNK];
        while self.ended.is_none() {
            match rustix::io::read(&self.pipe.fd, &mut bytes) {
                Ok(0) => {
                    self.ended = Some(turn);
                    return !self.pipe.is_cut_off();
                }
                Ok(count) => {
                    *held += count;
                    if *held > limit {
                        *held -= self.bytes.len() + count;
                        return false;
                    }
                    self.bytes.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    self.since = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.ended.is_some() || self.since.elapsed() < IDLE
    }
}

impl Writing {
    /// Writes what fits; `false` when it is over.
    fn write(&mut self) -> bool {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&self.pipe.fd, rest) {
                Ok(count) => {
                    self.written += count;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) if self.moved.elapsed() < IDLE => return true,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.pipe.cut_off();
                    return false;
                }
            }
        }
        false
    }
}

/// Once a turn: begins to read, and takes what was read in an earlier turn. An app that ended in this one may not have given all.
pub fn turn(agent: &mut Agent, now: Instant) {
    agent.exchange.keep.turn += 1;
    if due(agent).is_some_and(|due| due <= now) {
        if agent.exchange.keep.begin.take().is_some() {
            begin(agent);
        }
        ready(agent);
    }
    let handle = agent.loop_handle.clone();
    let keep = &mut agent.exchange.keep;
    let before = keep.turn - 1;
    for mut reading in keep.reading.extract_if(.., |r| r.ended.is_some_and(|at| at < before)) {
        reading.watch.clear(&handle);
        keep.kept.insert(reading.kind, Arc::new(reading.bytes));
    }
}

fn begin(agent: &mut Agent) {
    let types = agent.exchange.held[Selection::Clipboard.index()].types.clone();
    for kind in types.into_iter().filter(|kind| KINDS.contains(&kind.as_str())) {
        let Ok((pipe, theirs)) = Pipe::pair() else { return };
        fetch_from_owner(agent, Selection::Clipboard, &kind, theirs);
        let watch = Watch::default();
        let reading = Reading { kind, pipe, bytes: Vec::new(), since: Instant::now(), ended: None, watch };
        agent.exchange.keep.reading.push(reading);
    }
}

/// When something is due by time.
#[must_use]
pub fn due(agent: &Agent) -> Option<Instant> {
    let keep = &agent.exchange.keep;
    let ended = keep.reading.iter().any(|r| r.ended.is_some()).then(Instant::now);
    let reading = keep.reading.iter().map(|r| r.since + IDLE);
    let writing = keep.writing.iter().map(|w| w.moved + IDLE);
    keep.begin.into_iter().chain(ended).chain(reading).chain(writing).min()
}

/// Says what to wait for.
pub fn watch(agent: &mut Agent) {
    let handle = agent.loop_handle.clone();
    let keep = &mut agent.exchange.keep;
    for Reading { pipe, watch, ended, .. } in &mut keep.reading {
        let fd = BorrowedFdKey { fd: pipe.fd.as_fd(), turn: 0 };
        watch.set(&handle, Source::Keep, ended.is_none().then_some(Wish { fd, read: true, write: false }));
    }
    for Writing { pipe, watch, .. } in &mut keep.writing {
        let fd = BorrowedFdKey { fd: pipe.fd.as_fd(), turn: 0 };
        watch.set(&handle, Source::Keep, Some(Wish { fd, read: false, write: true }));
    }
}
