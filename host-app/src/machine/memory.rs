//! Window path, hop 4 of 6: guest memory as the machine process gives it away. The other end of `windows::memory`.
//!
//! The gpu device's thread tells which guest pages hold which resource, and where guest RAM is; both are kept in one table
//! here. The main loop brings every connected window process up to date from it: RAM as descriptors that can only be
//! read, resources as page runs. Nothing queues without bound: the table holds what is, not what happened, and a window
//! process that reads slowly gets only the last state of each resource.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::memory::{self, Notice, Region, Run, Show, State, Wish};
use inlay_vmm_core::devices::gpu::{Area, CursorImage, PageRun, ResourceInfo, ResourceObserver, Scanout};
use inlay_vmm_core::transport::vhost_user::{MemoryObserver, RamRegion};
use rustix::event::{EventfdFlags, eventfd};

use super::door;

/// Window processes at once: one, and one that takes over.
const CLIENTS: usize = 4;
/// Bytes that may wait for a window process before the rest waits in the table.
const AHEAD: usize = 4 * 1024 * 1024;

/// Guest RAM and resources now.
#[derive(Debug, Default)]
struct Table {
    /// RAM anew, which the main loop has not looked at.
    mapped: Option<Vec<RamRegion>>,
    regions: Vec<(Region, Arc<OwnedFd>)>,
    /// Counts changes of the regions.
    epoch: u64,
    resources: HashMap<u32, (u64, Arc<[PageRun]>)>,
    /// Ids that changed since the main loop looked.
    changed: BTreeSet<u32>,
    /// Ids that the main loop has seen; others come and go unnoticed.
    seen: BTreeSet<u32>,
    screen: OnScreen,
}

/// What is on the guest's screen, each with a count of its changes.
#[derive(Debug, Default)]
struct OnScreen {
    scanout: (u64, Option<memory::Scanout>),
    cursor: (u64, Option<memory::CursorImage>),
    /// What was drawn since the main loop looked.
    drawn: Option<Rect>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    wake: OwnedFd,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when the counter is full: then it is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// What the gpu device and its transport tell; given to them.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Shared>);

impl ResourceObserver for Observer {
    fn backed(&mut self, resource: &ResourceInfo) {
        let mut table = self.0.table();
        table.resources.insert(resource.id, (resource.generation, resource.runs.clone()));
        table.changed.insert(resource.id);
        drop(table);
        self.0.wake();
    }

    fn gone(&mut self, id: u32, generation: u64) {
        let mut table = self.0.table();
        if table.resources.get(&id).is_some_and(|(known, _)| *known == generation) {
            table.resources.remove(&id);
        }
        if table.seen.contains(&id) {
            table.changed.insert(id);
        } else {
            table.changed.remove(&id);
        }
        drop(table);
        self.0.wake();
    }

    fn scanout(&mut self, shown: Option<Scanout>) {
        self.screen(|screen| {
            let (count, now) = &mut screen.scanout;
            (*count, *now, screen.drawn) = (*count + 1, shown.map(scanout), None);
            true
        });
    }

    fn flushed(&mut self, area: Area) {
        self.screen(|screen| {
            // Until the main loop has looked, more of it is no news.
            let news = screen.drawn.is_none();
            screen.drawn = Some(screen.drawn.map_or(rect(area), |drawn| drawn.union(rect(area))));
            news
        });
    }

    fn cursor(&mut self, shown: Option<CursorImage>) {
        self.screen(|screen| {
            screen.cursor = (screen.cursor.0 + 1, shown.and_then(cursor));
            true
        });
    }
}

impl Observer {
    fn screen(&self, change: impl FnOnce(&mut OnScreen) -> bool) {
        let mut table = self.0.table();
        let news = change(&mut table.screen);
        drop(table);
        if news {
            self.0.wake();
        }
    }
}

/// A rectangle of the device's, which has checked that it is no larger than a resource.
fn rect(area: Area) -> Rect {
    let place = |place: u32| i32::try_from(place).unwrap_or(i32::MAX);
    Rect { x: place(area.x), y: place(area.y), width: area.width, height: area.height }
}

fn scanout(shown: Scanout) -> memory::Scanout {
    let Area { x, y, width, height } = shown.area;
    let offset = u64::from(y) * u64::from(shown.stride) + 4 * u64::from(x);
    let (resource, generation, stride) = (shown.id, shown.generation, shown.stride);
    memory::Scanout { resource, generation, offset, stride, size: Size::new(width, height) }
}

/// A pointer's image; none that is larger than pointers are.
fn cursor(shown: CursorImage) -> Option<memory::CursorImage> {
    let (resource, generation, size) = (shown.id, shown.generation, Size::new(shown.width, shown.height));
    let place = |at: u32, side: u32| i32::try_from(at.min(side.saturating_sub(1))).unwrap_or(0);
    let hotspot = Point::new(place(shown.hot_x, size.width), place(shown.hot_y, size.height));
    let small = size.width.max(size.height) <= memory::CURSOR;
    small.then_some(memory::CursorImage { resource, generation, size, hotspot })
}

impl MemoryObserver for Observer {
    fn memory_changed(&mut self, regions: &[RamRegion]) {
        // Opened by the main loop: a device's thread may open nothing.
        let mut table = self.0.table();
        table.mapped = Some(regions.to_vec());
        drop(table);
        self.0.wake();
    }
}

impl Table {
    /// Takes RAM anew.
    fn look(&mut self) {
        let Some(mapped) = self.mapped.take() else { return };
        match mapped.iter().map(read_only).collect::<io::Result<Vec<_>>>() {
            Ok(regions) => self.regions = regions,
            Err(error) => {
                tracing::error!(%error, "guest memory cannot be given to the window process");
                self.regions.clear();
            }
        }
        self.epoch += 1;
    }
}

/// The same memory by a descriptor that can only be read.
fn read_only(region: &RamRegion) -> io::Result<(Region, Arc<OwnedFd>)> {
    let file = File::open(format!("/proc/self/fd/{}", region.file.as_raw_fd()))?;
    let said = Region { guest_addr: region.guest_addr, size: region.size, file_offset: region.file_offset };
    Ok((said, Arc::new(file.into())))
}

/// A window process and what it knows.
#[derive(Debug)]
struct Client {
    connection: Connection,
    epoch: u64,
    known: HashMap<u32, u64>,
    todo: BTreeSet<u32>,
    /// How many windows it shows, once it said so.
    windows: Option<u32>,
    /// What the machine does, as it was told.
    state: Option<State>,
    /// How the screen is shown, as it was told.
    show: Option<Show>,
    /// Counts of the scanout and the cursor that it was told of.
    scanout: u64,
    cursor: u64,
    /// What was drawn that it does not know of.
    drawn: Option<Rect>,
    /// Whether it is at work on what was drawn.
    drawing: bool,
}

/// Serves window processes.
#[derive(Debug)]
pub struct MemoryServer {
    listener: UnixListener,
    shared: Arc<Shared>,
    clients: Vec<Client>,
    state: State,
}

impl MemoryServer {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { table: Mutex::default(), wake });
        Ok(Self { listener: door::listen(path)?, shared, clients: Vec::new(), state: State::default() })
    }

    /// What to give to the gpu device and its transport.
    pub fn observer(&self) -> Observer {
        Observer(self.shared.clone())
    }

    /// What to wait for; `true` for those that shall be written to.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        [self.listener.as_fd(), self.shared.wake.as_fd()]
            .into_iter()
            .map(|fd| (fd, false))
            .chain(self.clients.iter().map(|c| (c.connection.fd(), c.connection.wants_write())))
    }

    /// Has the main loop look here again: what is shown changed.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// How many windows are shown, when that is known: a window process that has just started has not said so yet.
    #[must_use]
    pub fn windows(&self) -> Option<u32> {
        self.clients.iter().try_fold(0_u32, |sum, client| Some(sum.saturating_add(client.windows?)))
    }

    /// Whether a window process is connected.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// What the machine does now: all window processes hear of it.
    pub fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.wake();
        }
    }

    /// Tells all window processes that the machine is being switched off.
    pub fn ending(&mut self) {
        self.tell(&Notice::Ending);
    }

    /// Tells all window processes that the guest's apps are others than before.
    pub fn apps_changed(&mut self) {
        self.tell(&Notice::Apps);
    }

    /// Has window processes tell the user something.
    pub fn say(&mut self, text: &str) {
        self.tell(&Notice::Say(text.to_owned()));
    }

    fn tell(&mut self, notice: &Notice) {
        self.clients.retain_mut(|client| {
            client.connection.queue(notice).and_then(|()| client.connection.flush()).is_ok()
        });
    }

    /// Takes new window processes and brings all up to date; what they wish for.
    pub fn turn(&mut self, show: Option<Show>) -> Vec<Wish> {
        // Empty or not: only its being full would matter.
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        while let Some(connection) = door::accept(&self.listener) {
            if self.clients.len() >= CLIENTS {
                tracing::warn!("too many window processes: one is turned away");
                continue;
            }
            let todo = self.shared.table().resources.keys().copied().collect();
            self.clients.push(Client {
                connection,
                epoch: 0,
                known: HashMap::new(),
                todo,
                windows: None,
                state: None,
                show: None,
                scanout: 0,
                cursor: 0,
                drawn: None,
                drawing: false,
            });
        }
        let mut table = self.shared.table();
        table.look();
        let changed = std::mem::take(&mut table.changed);
        for id in changed {
            if table.resources.contains_key(&id) {
                table.seen.insert(id);
            } else {
                table.seen.remove(&id);
            }
            for client in &mut self.clients {
                client.todo.insert(id);
            }
        }
        // While nobody looks, the first of it is all that wakes the main loop.
        let drawn = if show.is_some() { table.screen.drawn.take() } else { None };
        let mut wishes = Vec::new();
        let shown = (show, self.state);
        self.clients.retain_mut(|client| match client.bring_up_to_date(&table, drawn, shown, &mut wishes) {
            Ok(()) => true,
            Err(ConnectionError::Closed) => {
                // What it held is held no more.
                wishes.push(Wish::Released);
                false
            }
            Err(error) => {
                tracing::warn!(error = %door::chain(&error), "a window process is dropped");
                wishes.push(Wish::Released);
                false
            }
        });
        wishes
    }
}

impl Client {
    fn bring_up_to_date(
        &mut self,
        table: &Table,
        drawn: Option<Rect>,
        (show, state): (Option<Show>, State),
        wishes: &mut Vec<Wish>,
    ) -> Result<(), ConnectionError> {
        self.connection.receive()?;
        while let Some((wish, _)) = self.connection.next_message::<Wish>()? {
            match wish {
                Wish::Drawn => self.drawing = false,
                Wish::Windows(count) => self.windows = Some(count),
                wish => wishes.push(wish),
            }
        }
        if self.state != Some(state) {
            self.state = Some(state);
            self.connection.queue(&Notice::State(state))?;
        }
        self.tell_resources(table)?;
        self.tell_screen(&table.screen, drawn, show)?;
        self.connection.flush()
    }

    /// Tells what is on the screen, once the resource that it is of was told.
    fn tell_screen(
        &mut self,
        screen: &OnScreen,
        drawn: Option<Rect>,
        show: Option<Show>,
    ) -> Result<(), ConnectionError> {
        if self.show != show {
            self.show = show;
            self.connection.queue(&Notice::Screen(show))?;
        }
        let known = |resource: u32, generation: u64| self.known.get(&resource) == Some(&generation);
        let (count, shown) = screen.scanout;
        if self.scanout != count && shown.is_none_or(|s| known(s.resource, s.generation)) {
            (self.scanout, self.drawn) = (count, None);
            self.connection.queue(&Notice::Scanout(shown))?;
        }
        let (count, image) = screen.cursor;
        if self.cursor != count && image.is_none_or(|c| known(c.resource, c.generation)) {
            self.cursor = count;
            self.connection.queue(&Notice::Cursor(image))?;
        }
        if let Some(drawn) = drawn {
            self.drawn = Some(self.drawn.map_or(drawn, |before| before.union(drawn)));
        }
        if !self.drawing
            && self.show.is_some()
            && let Some(drawn) = self.drawn.take()
        {
            self.drawing = true;
            self.connection.queue(&Notice::Flushed(drawn))?;
        }
        Ok(())
    }

    fn tell_resources(&mut self, table: &Table) -> Result<(), ConnectionError> {
        if self.epoch != table.epoch {
            let (regions, fds) = table.regions.iter().cloned().unzip();
            self.connection.queue_with(&Notice::Regions(regions), fds)?;
            self.epoch = table.epoch;
            // Regions replace everything that was said before.
            self.known.clear();
            (self.scanout, self.cursor) = (0, 0);
            self.todo.extend(table.resources.keys());
        }
        while self.epoch != 0
            && self.connection.waiting() < AHEAD
            && let Some(id) = self.todo.pop_first()
        {
            let now = table.resources.get(&id);
            if let Some(generation) = self.known.get(&id).copied()
                && now.is_none_or(|(new, _)| *new != generation)
            {
                self.known.remove(&id);
                self.connection.queue(&Notice::ResourceGone { id, generation })?;
            }
            if let Some((generation, runs)) = now
                && !self.known.contains_key(&id)
                && let Some(runs) = split(runs, &table.regions)
            {
                self.known.insert(id, *generation);
                self.connection.queue(&Notice::Resource { id, generation: *generation, runs })?;
            }
        }
        Ok(())
    }
}

/// The runs cut where one region of RAM ends and the next begins; `None` when they are too many or lie outside.
fn split(runs: &[PageRun], regions: &[(Region, Arc<OwnedFd>)]) -> Option<Vec<Run>> {
    let mut out = Vec::with_capacity(runs.len());
    for run in runs {
        let mut left = Run { addr: run.addr, len: run.len };
        while left.len > 0 {
            let offset = |r: &Region| left.addr.checked_sub(r.guest_addr).filter(|o| *o < r.size);
            let inside = regions.iter().find_map(|(r, _)| Some(r.size - offset(r)?))?;
            let len = left.len.min(inside);
            out.push(Run { addr: left.addr, len });
            left = Run { addr: left.addr.checked_add(len)?, len: left.len - len };
        }
    }
    (out.len() <= inlay_protocol::limits::PAGE_RUNS).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn ram(regions: &[(u64, u64)]) -> Vec<RamRegion> {
        let fd = rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 20).unwrap();
        let file = Arc::new(File::from(fd));
        let region = |&(guest_addr, size)| RamRegion { guest_addr, size, file: file.clone(), file_offset: 0 };
        regions.iter().map(region).collect()
    }

    fn resource(id: u32, generation: u64, addr: u64, len: u64) -> ResourceInfo {
        let runs = [PageRun { addr, len }].into();
        ResourceInfo { id, generation, width: 1, height: 1, format: 1, runs }
    }

    struct Bed {
        server: MemoryServer,
        window: Connection,
        show: Option<Show>,
        wishes: Vec<Wish>,
        states: Vec<State>,
        _folder: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("memory.sock");
            let server = MemoryServer::open(&path).unwrap();
            let window = Connection::new(UnixStream::connect(&path).unwrap().into()).unwrap();
            Self { server, window, show: None, wishes: Vec::new(), states: Vec::new(), _folder: folder }
        }

        fn said(&mut self) -> Vec<(Notice, Vec<OwnedFd>)> {
            self.wishes = self.server.turn(self.show);
            let mut got = Vec::new();
            while let Some((notice, fds)) = self.window.wait_message(Some(Duration::from_millis(20))).unwrap()
            {
                match notice {
                    Notice::State(state) => self.states.push(state),
                    notice => got.push((notice, fds)),
                }
            }
            got
        }
    }

    #[test]
    fn what_the_machine_does_is_told_at_once_and_when_it_changes() {
        let mut bed = Bed::new();
        bed.said();
        bed.said();
        assert_eq!(bed.states, [State::default()]);
        let paused =
            State { phase: memory::Phase::Paused, agent: memory::Agent::Ready, network: Some(false) };
        bed.server.set_state(State { agent: memory::Agent::Missing, ..State::default() });
        bed.server.set_state(paused);
        bed.said();
        bed.said();
        assert_eq!(bed.states, [State::default(), paused], "what is, not what was");
    }

    #[test]
    fn a_window_process_learns_what_is_and_what_changes() {
        let mut bed = Bed::new();
        let mut observer = bed.server.observer();
        observer.backed(&resource(3, 1, 0, 4096));
        assert!(bed.said().is_empty(), "nothing before memory is known");
        observer.memory_changed(&ram(&[(0, 1 << 20)]));
        let got = bed.said();
        assert!(matches!(&got[0].0, Notice::Regions(r) if r.len() == 1));
        let flags = rustix::fs::fcntl_getfl(&got[0].1[0]).unwrap();
        assert!(!flags.intersects(rustix::fs::OFlags::RDWR | rustix::fs::OFlags::WRONLY), "read-only");
        assert!(matches!(got[1].0, Notice::Resource { id: 3, generation: 1, .. }));

        observer.gone(3, 1);
        observer.backed(&resource(3, 2, 4096, 4096));
        observer.backed(&resource(4, 3, 0, 4096));
        observer.gone(4, 3);
        let got: Vec<_> = bed.said().into_iter().map(|(notice, _)| notice).collect();
        assert_eq!(got[0], Notice::ResourceGone { id: 3, generation: 1 });
        assert!(matches!(got[1], Notice::Resource { id: 3, generation: 2, .. }));
        assert_eq!(got.len(), 2, "what came and went meanwhile is not told: {got:?}");
        assert!(bed.said().is_empty());
    }

    #[test]
    fn runs_are_cut_at_the_ends_of_regions() {
        let mut bed = Bed::new();
        let mut observer = bed.server.observer();
        observer.memory_changed(&ram(&[(0, 8192), (8192, 8192)]));
        observer.backed(&resource(1, 1, 4096, 8192));
        observer.backed(&resource(2, 2, 12288, 8192));
        let got = bed.said();
        let runs = vec![Run { addr: 4096, len: 4096 }, Run { addr: 8192, len: 4096 }];
        assert_eq!(got[1].0, Notice::Resource { id: 1, generation: 1, runs });
        assert_eq!(got.len(), 2, "what lies outside memory is not told");
    }

    #[test]
    fn a_guest_that_makes_and_unmakes_costs_no_memory() {
        let bed = Bed::new();
        let mut observer = bed.server.observer();
        for id in 0..10_000 {
            observer.backed(&resource(id, u64::from(id), 0, 4096));
            observer.gone(id, u64::from(id));
        }
        assert!(bed.server.shared.table().changed.is_empty());
    }

    fn scanout(id: u32, generation: u64) -> Scanout {
        Scanout { id, generation, stride: 64, area: Area { x: 1, y: 2, width: 8, height: 4 } }
    }

    #[test]
    fn the_screen_follows_its_resource_and_flushes_wait_for_the_window_process() {
        let mut bed = Bed::new();
        let mut observer = bed.server.observer();
        let flushed = |x| Area { x, y: 0, width: 1, height: 1 };
        observer.memory_changed(&ram(&[(0, 1 << 20)]));
        observer.scanout(Some(scanout(7, 1)));
        observer.flushed(flushed(1));
        bed.show = Some(Show::default());
        let got: Vec<_> = bed.said().into_iter().map(|(notice, _)| notice).collect();
        assert!(
            !got.iter().any(|n| matches!(n, Notice::Scanout(Some(_)))),
            "its pages are not known: {got:?}"
        );
        assert!(got.contains(&Notice::Screen(bed.show)));
        observer.backed(&resource(7, 1, 0, 4096));
        let got: Vec<_> = bed.said().into_iter().map(|(notice, _)| notice).collect();
        let size = Size::new(8, 4);
        let shown = memory::Scanout { resource: 7, generation: 1, offset: 132, stride: 64, size };
        assert_eq!(got[1..], [Notice::Scanout(Some(shown))]);
        // One at a time, and what came meanwhile in one.
        bed.window.queue(&Wish::Drawn).unwrap();
        bed.window.flush().unwrap();
        for _ in 0..1000 {
            for x in 2..5 {
                observer.flushed(flushed(x));
            }
        }
        let notices = |bed: &mut Bed| bed.said().into_iter().map(|(notice, _)| notice).collect::<Vec<_>>();
        assert_eq!(notices(&mut bed), [Notice::Flushed(Rect { x: 2, y: 0, width: 3, height: 1 })]);
        observer.flushed(flushed(0));
        assert!(notices(&mut bed).is_empty());
        observer.flushed(flushed(7));
        for wish in [Wish::Drawn, Wish::Key { key: 30, pressed: true }] {
            bed.window.queue(&wish).unwrap();
        }
        bed.window.flush().unwrap();
        assert_eq!(notices(&mut bed), [Notice::Flushed(Rect { x: 0, y: 0, width: 8, height: 1 })]);
        assert_eq!(bed.wishes, [Wish::Key { key: 30, pressed: true }]);
        observer.scanout(None);
        assert_eq!(notices(&mut bed), [Notice::Scanout(None)]);
    }

    #[test]
    fn a_window_process_that_comes_later_learns_of_the_screen() {
        let mut bed = Bed::new();
        let mut observer = bed.server.observer();
        observer.memory_changed(&ram(&[(0, 1 << 20)]));
        observer.backed(&resource(7, 1, 0, 4096));
        observer.scanout(Some(scanout(7, 1)));
        let image = CursorImage { id: 7, generation: 1, width: 64, height: 64, hot_x: u32::MAX, hot_y: 3 };
        observer.cursor(Some(image));
        bed.said();
        observer.cursor(Some(CursorImage { width: memory::CURSOR + 1, ..image }));
        let got: Vec<_> = bed.said().into_iter().map(|(notice, _)| notice).collect();
        assert_eq!(got, [Notice::Cursor(None)], "too large");
        observer.cursor(Some(image));
        let stream = UnixStream::connect(bed._folder.path().join("memory.sock")).unwrap();
        bed.window = Connection::new(stream.into()).unwrap();
        let got: Vec<_> = bed.said().into_iter().map(|(notice, _)| notice).collect();
        assert!(got.iter().any(|n| matches!(n, Notice::Scanout(Some(s)) if s.resource == 7)), "{got:?}");
        let hotspot = Point::new(63, 3);
        assert!(got.iter().any(|n| matches!(n, Notice::Cursor(Some(c)) if c.hotspot == hotspot)), "{got:?}");
        assert_eq!(bed.wishes, [Wish::Released], "of the one that is gone");
    }

    #[test]
    fn a_window_process_that_ends_is_forgotten() {
        let mut bed = Bed::new();
        bed.server.turn(None);
        assert_eq!(bed.server.clients.len(), 1);
        bed.window = Connection::new(UnixStream::pair().unwrap().0.into()).unwrap();
        bed.server.turn(None);
        assert!(bed.server.clients.is_empty());
    }
}
