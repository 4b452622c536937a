//! Files of the guest that lie in no shared folder, pasted or dropped on the host: copied when they are fetched, before the list of their paths
//! is given to the app that fetches it.
//!
//! ```text
//!  the list's thread                         the window process's loop                     guest
//!  fetch --- Wish::Copy, a pipe -----------> gate -> Event::CopyOut ---------------------> reads the files
//!  unpack <- the pipe <--------------------- Transfer <------------- a stream ------------ and sends them
//!  store -> paths of the host -> the app      a window with "Cancel", once it takes longer
//! ```
//! An app may fetch the same list more than once, as another type, or again because it did not wait: one copy serves them all for a while.

pub mod store;
pub mod unpack;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inlay_exchange::pipe::Pipe;
use rustix::event::{EventfdFlags, eventfd};

use self::store::Store;
use self::unpack::{CopyError, Progress, unpack};
use crate::machine::door::chain;
use crate::permissions::{Resource, Way};

/// Copies of one machine at once.
const MOST: usize = 2;
/// How long a copy that was given to an app serves others at least, and at most; between them as long as it took.
const SERVES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));
/// How long the end of a copy that failed, or was cancelled, is the answer to other fetches.
const FAILED: Duration = Duration::from_secs(3);
/// How long one waits for the app that did not wait for it.
const WAITS: Duration = Duration::from_secs(3600);
/// A copy that takes longer is shown.
const SHOWN: Duration = Duration::from_secs(1);

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The number of what was copied or dragged.
    pub of: u64,
    /// What the user has permitted.
    pub resource: Resource,
}

impl Source {
    fn is_drag(self) -> bool {
        self.resource == Resource::Drop(Way::Out)
    }
}

/// What the window process is to do.
#[derive(Debug)]
pub enum Wish {
    /// Have the guest send files.
    Copy {
        /// Of this copy.
        number: u64,
        /// Of which list.
        source: Source,
        /// The guest's paths.
        paths: Vec<PathBuf>,
        /// Where they are to be written.
        pipe: Pipe,
    },
    /// Tell the user.
    Say(String),
}

/// A copy that takes its time.
#[derive(Debug, PartialEq)]
pub struct Shown {
    /// Its number.
    pub number: u64,
    /// How far it is.
    pub text: String,
    /// The same, of 1.
    pub part: f32,
}

/// What became of a copy.
#[derive(Debug)]
enum Stage {
    Runs,
    /// Where each path is now; none where nothing was copied.
    Over {
        at: Instant,
        arrived: Option<Vec<Option<PathBuf>>>,
        given: bool,
    },
}

#[derive(Debug)]
struct Job {
    number: u64,
    of: u64,
    paths: Vec<PathBuf>,
    begun: Instant,
    progress: Arc<Progress>,
    stage: Stage,
}

impl Job {
    fn runs(&self) -> bool {
        matches!(self.stage, Stage::Runs)
    }

    /// Whether it may serve another fetch.
    fn serves(&self, now: Instant) -> bool {
        let Stage::Over { at, arrived, given } = &self.stage else { return true };
        let time = match arrived {
            None => FAILED,
            Some(_) if *given => at.duration_since(self.begun).clamp(SERVES.0, SERVES.1),
            Some(_) => WAITS,
        };
        now.duration_since(*at) < time
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    begun: u64,
    /// What is dragged, and whether it was dropped.
    drags: HashMap<u64, bool>,
    wishes: Vec<Wish>,
}

#[derive(Debug)]
struct Inner {
    machine: String,
    store: Store,
    state: Mutex<State>,
    changed: Condvar,
    wake: OwnedFd,
}

/// All of them, for one window process.
#[derive(Debug, Clone)]
pub struct Copies(Arc<Inner>);

impl Copies {
    /// None yet.
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub fn new(machine: &str, store: Store) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (old, left) = (store.clone(), store.left());
        std::thread::Builder::new().name("old copies".into()).spawn(move || old.tidy(&left))?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self(Arc::new(Inner { machine: machine.to_owned(), store, state, changed, wake })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        what: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.0.changed.wait_while(state, what).unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, wish: Wish) {
        self.lock().wishes.push(wish);
        // It cannot be full: the loop reads it.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Copies files of the guest, or finds them copied: where each of them is then, nothing for one that could not be; none at all
    /// where the copy failed. Waits for the end, on a thread of the list's.
    pub fn fetch(&self, source: Source, paths: &[PathBuf]) -> Option<Vec<Option<PathBuf>>> {
        let mut state = self.lock();
        if source.is_drag() {
            // An app may look at what is dragged over it: nothing is copied for that.
            state = self.wait_while(state, |state| state.drags.get(&source.of) == Some(&false));
            state.drags.get(&source.of)?;
        }
        let now = Instant::now();
        state.jobs.retain(|job| job.serves(now));
        let known = state.jobs.iter().find(|job| job.of == source.of && job.paths == paths);
        if let Some(number) = known.map(|job| job.number) {
            state = self.wait_while(state, |state| state.jobs.iter().any(|j| j.number == number && j.runs()));
            let job = state.jobs.iter().find(|job| job.number == number)?;
            let Stage::Over { arrived, .. } = &job.stage else { return None };
            return arrived.clone();
        }
        if state.jobs.iter().filter(|job| job.runs()).count() >= MOST {
            drop(state);
            self.say("the files were not copied: others are being copied");
            return None;
        }
        state.begun += 1;
        let (number, progress) = (state.begun, Arc::new(Progress::default()));
        state.jobs.push(Job {
            number,
            of: source.of,
            paths: paths.to_vec(),
            begun: now,
            progress: progress.clone(),
            stage: Stage::Runs,
        });
        drop(state);
        let copied = self.copy(number, source, paths, &progress);
        let arrived = match copied {
            Ok(arrived) => Some(arrived),
            Err(_) if progress.cancelled.load(Relaxed) => {
                tracing::info!("a copy of files out of {} was cancelled", self.0.machine);
                None
            }
            Err(error) => {
                self.say(&format!("the files were not copied: {}", chain(&error)));
                None
            }
        };
        let over = Stage::Over { at: Instant::now(), arrived: arrived.clone(), given: false };
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.number == number) {
            job.stage = over;
        }
        self.0.changed.notify_all();
        // Its window goes.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
        arrived
    }

    fn copy(
        &self,
        number: u64,
        source: Source,
        paths: &[PathBuf],
        progress: &Progress,
    ) -> Result<Vec<Option<PathBuf>>, CopyError> {
        let arriving = self.0.store.begin().map_err(CopyError::Begin)?;
        let (read, pipe) = Pipe::pair().map_err(CopyError::Begin)?;
        self.wish(Wish::Copy { number, source, paths: paths.to_vec(), pipe });
        // It waits without a limit: the transfer that writes has one.
        let came = unpack(File::from(read.into_fd()), arriving.folder(), paths, &self.0.store, progress)?;
        if let Some(missing) = came.missing.told() {
            self.say(&format!("not all files were copied. Left out: {missing}"));
        }
        if came.arrived.iter().all(Option::is_none) {
            return Ok(came.arrived);
        }
        let place = arriving.keep(came.bytes).map_err(CopyError::Begin)?;
        tracing::info!("files of {} are in {}", self.0.machine, place.display());
        Ok(came.arrived.into_iter().map(|below| below.map(|below| place.join(below))).collect())
    }

    /// Tells the user something about the files of this machine.
    pub fn say(&self, text: &str) {
        self.wish(Wish::Say(format!("{}: {text}.", self.0.machine)));
    }

    /// A list with copied files was written for the app that fetched it, or the app did not wait for that.
    pub fn given(&self, source: Source, taken: bool) {
        let mut state = self.lock();
        let of = state.jobs.iter_mut().filter(|job| job.of == source.of);
        let mut place = None;
        for job in of {
            if let Stage::Over { arrived: Some(arrived), given, .. } = &mut job.stage {
                *given |= taken;
                place = arrived.iter().flatten().next().and_then(|path| path.parent()).map(PathBuf::from);
            }
        }
        drop(state);
        if let Some(place) = place.filter(|_| !taken) {
            let again = if source.is_drag() { "" } else { "paste once more, or " };
            self.say(&format!(
                "the app did not wait until its files were copied. They are there now: {again}find them in {}",
                place.display()
            ));
        }
    }

    /// Something is dragged out of the guest.
    pub fn drag_begins(&self, of: u64) {
        self.lock().drags.insert(of, false);
    }

    /// It was dropped on an app of the host, which may have it.
    pub fn drag_dropped(&self, of: u64) {
        if let Some(dropped) = self.lock().drags.get_mut(&of) {
            *dropped = true;
        }
        self.0.changed.notify_all();
    }

    /// It is over.
    pub fn drag_ends(&self, of: u64) {
        self.lock().drags.remove(&of);
        self.0.changed.notify_all();
    }

    /// Readable when there are wishes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    /// What the window process is to do.
    pub fn wishes(&self) -> Vec<Wish> {
        let mut count = [0; 8];
        // Nothing is there most of the time.
        let _ = rustix::io::read(&self.0.wake, &mut count);
        std::mem::take(&mut self.lock().wishes)
    }

    /// Whether one is on its way.
    pub fn runs(&self) -> bool {
        self.lock().jobs.iter().any(Job::runs)
    }

    /// Those that take their time.
    pub fn shown(&self) -> Vec<Shown> {
        let state = self.lock();
        let slow = state.jobs.iter().filter(|job| job.runs() && job.begun.elapsed() >= SHOWN);
        slow.map(|job| {
            let (text, part) = job.progress.told();
            let text = format!("Copying files from {}: {text}", self.0.machine);
            Shown { number: job.number, text, part }
        })
        .collect()
    }

    /// The user does not want this one; its transfer is to be ended.
    pub fn cancel(&self, number: u64) {
        if let Some(job) = self.lock().jobs.iter().find(|job| job.number == number) {
            job.progress.cancelled.store(true, Relaxed);
        }
    }
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    let units = ["KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for larger in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Folders;
    use crate::permissions::Kind;
    use inlay_protocol::copying::{Item, Left, Node};
    use inlay_protocol::framing::encode;
    use std::io::Write as _;
    use std::path::Path;
    use std::thread::JoinHandle;

    const COPIED: Source = Source { of: 7, resource: Resource::Clipboard(Way::Out, Kind::Files) };
    const DRAGGED: Source = Source { of: 8, resource: Resource::Drop(Way::Out) };

    struct Bench {
        copies: Copies,
        _root: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let store = Store::new(&Folders::below(root.path()).unwrap(), &"work".parse().unwrap());
            Self { copies: Copies::new("work", store).unwrap(), _root: root }
        }

        fn fetch(&self, source: Source, path: &str) -> JoinHandle<Option<Vec<Option<PathBuf>>>> {
            let (copies, paths) = (self.copies.clone(), vec![PathBuf::from(path)]);
            std::thread::spawn(move || copies.fetch(source, &paths))
        }

        /// The next wish.
        fn wish(&self) -> Wish {
            for _ in 0..500 {
                if let Some(wish) = self.copies.wishes().pop() {
                    return wish;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("nothing is wished");
        }

        fn pipe(&self) -> File {
            let Wish::Copy { pipe, .. } = self.wish() else { panic!("not a copy") };
            File::from(pipe.into_fd())
        }

        fn said(&self) -> String {
            let Wish::Say(text) = self.wish() else { panic!("nothing is said") };
            text
        }

        /// Nothing is wished within a moment.
        fn is_quiet(&self) -> bool {
            std::thread::sleep(Duration::from_millis(200));
            self.copies.wishes().is_empty()
        }
    }

    fn send(pipe: &mut File, items: &[Item]) {
        for item in items {
            pipe.write_all(&encode(item).unwrap()).unwrap();
        }
    }

    fn letter() -> Vec<Item> {
        let node = Node { name: b"letter".to_vec(), executable: false, modified: (0, 0) };
        vec![Item::Chosen(0), Item::File(node), Item::Data(b"dear".to_vec()), Item::Close, Item::Done]
    }

    #[test]
    fn one_copy_serves_all_that_fetch_the_list() {
        let bench = Bench::new();
        let first = bench.fetch(COPIED, "/letter");
        let mut pipe = bench.pipe();
        let second = bench.fetch(COPIED, "/letter");
        assert!(bench.is_quiet() && bench.copies.runs());
        send(&mut pipe, &letter());
        let there = first.join().unwrap().unwrap();
        assert_eq!(second.join().unwrap().unwrap(), there);
        assert_eq!(std::fs::read(there[0].as_ref().unwrap()).unwrap(), b"dear");
        assert!(!bench.copies.runs() && bench.copies.shown().is_empty());
        // Again, soon after; but not for another list.
        assert_eq!(bench.fetch(COPIED, "/letter").join().unwrap().unwrap(), there);
        let other = bench.fetch(Source { of: 9, ..COPIED }, "/letter");
        send(&mut bench.pipe(), &letter());
        assert_ne!(other.join().unwrap().unwrap(), there);
        // Who did not wait is told where they are.
        bench.copies.given(COPIED, false);
        let said = bench.said();
        let place = there[0].as_ref().unwrap().parent().unwrap();
        assert!(said.contains("paste once more") && said.contains(place.to_str().unwrap()), "{said}");
        bench.copies.given(COPIED, true);
        assert!(bench.is_quiet());
    }

    #[test]
    fn what_fails_or_is_cancelled_leaves_nothing() {
        let bench = Bench::new();
        // With the folder of the one that asks.
        let folders = |store: &Store| {
            let asks = store.begin().unwrap();
            std::fs::read_dir(asks.folder().parent().unwrap()).unwrap().count() - 1
        };
        let fetch = bench.fetch(COPIED, "/letter");
        let mut pipe = bench.pipe();
        send(&mut pipe, &letter()[..2]);
        drop(pipe);
        assert_eq!(fetch.join().unwrap(), None);
        assert!(bench.said().contains("work: the files were not copied: they stopped coming"));
        assert_eq!(bench.fetch(COPIED, "/letter").join().unwrap(), None, "the other type of the same paste");
        let fetch = bench.fetch(COPIED, "/other");
        let Wish::Copy { number, pipe, .. } = bench.wish() else { panic!() };
        bench.copies.cancel(number);
        drop(pipe);
        assert_eq!(fetch.join().unwrap(), None);
        assert!(bench.is_quiet(), "the user knows");
        assert_eq!(folders(&bench.copies.0.store), 0);
        // Some of it is there: it is told what is not.
        let fetch = bench.fetch(COPIED, "/gone");
        send(&mut bench.pipe(), &[Item::Chosen(0), Item::Left(Left::Unreadable), Item::Done]);
        assert_eq!(fetch.join().unwrap(), Some(vec![None]));
        assert!(bench.said().contains("Left out: 1 (cannot be read)"));
        assert_eq!(folders(&bench.copies.0.store), 0);
    }

    #[test]
    fn nothing_is_copied_for_a_drag_before_it_is_dropped() {
        let bench = Bench::new();
        bench.copies.drag_begins(DRAGGED.of);
        let fetch = bench.fetch(DRAGGED, "/letter");
        assert!(bench.is_quiet());
        bench.copies.drag_dropped(DRAGGED.of);
        send(&mut bench.pipe(), &letter());
        let there = fetch.join().unwrap().unwrap();
        bench.copies.given(DRAGGED, false);
        let said = bench.said();
        assert!(!said.contains("paste") && said.contains("find them in"), "{said}");
        assert!(Path::new(there[0].as_ref().unwrap()).exists());
        // One that is taken back.
        let other = Source { of: 10, ..DRAGGED };
        bench.copies.drag_begins(other.of);
        let fetch = bench.fetch(other, "/letter");
        assert!(bench.is_quiet());
        bench.copies.drag_ends(other.of);
        assert_eq!(fetch.join().unwrap(), None);
        assert_eq!(bench.fetch(other, "/letter").join().unwrap(), None, "it is over");
        assert!(bench.is_quiet());
    }

    #[test]
    fn few_are_copied_at_once() {
        let bench = Bench::new();
        let mut running: Vec<_> =
            (0..MOST).map(|n| (bench.fetch(COPIED, &format!("/{n}")), bench.pipe())).collect();
        assert_eq!(bench.fetch(COPIED, "/more").join().unwrap(), None);
        assert!(bench.said().contains("others are being copied"));
        for (_, pipe) in &mut running {
            send(pipe, &letter());
        }
        assert!(running.into_iter().all(|(fetch, _)| fetch.join().unwrap().is_some()));
    }

    #[test]
    fn sizes_are_short() {
        let of = [0, 999, 1000, 1_250_000, 7_000_000_000, u64::MAX].map(size);
        assert_eq!(of, ["0 bytes", "999 bytes", "1.0 KB", "1.2 MB", "7.0 GB", "18446744.1 TB"]);
    }
}
