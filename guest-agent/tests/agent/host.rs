//! A host for the agent under test: real sockets, the real handshake, the real messages, and no windows.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};

use inlay_protocol::connection::Connection;
use inlay_protocol::control::{Command, Program, Report};
use inlay_protocol::display::{
    AgentCounters, BufferId, Commit, Event, Icon, Place, Popup, Positioner, Request, States, SurfaceId,
    Toplevel,
};
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::handshake::{Capabilities, Hello, Role, Welcome};
use inlay_protocol::input::InputEvent;

/// Longer than anything takes that does not hang.
pub const LONG: Duration = Duration::from_secs(20);

/// What the host does by itself.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Answers new windows with a configure of this size.
    pub configure: Option<Option<Size>>,
    /// Releases each commit.
    pub release: bool,
    /// Ticks whenever a commit waits for a frame callback.
    pub tick: bool,
}

pub const POLITE: Manners = Manners { configure: Some(None), release: true, tick: true };

pub struct Host {
    pub dir: tempfile::TempDir,
    pub agent: Child,
    listeners: [UnixListener; 3],
    pub control: Option<Connection>,
    pub display: Option<Connection>,
    pub manners: Manners,
    pub reports: Vec<Report>,
    /// Requests since the connection, in order.
    pub requests: Vec<Request>,
    pub buffers: BTreeMap<BufferId, (u64, OwnedFd)>,
    /// Newest commit of each surface.
    pub surfaces: BTreeMap<SurfaceId, Commit>,
    pub toplevels: BTreeMap<SurfaceId, Toplevel>,
    pub popups: BTreeMap<SurfaceId, Popup>,
    pub icons: BTreeMap<SurfaceId, Vec<Icon>>,
    pub shapes: BTreeMap<SurfaceId, Option<Vec<Rect>>>,
    pub counters: Option<AgentCounters>,
    serial: u32,
    clock: Instant,
}

fn accept(listener: &UnixListener) -> (Connection, Role) {
    let end = Instant::now() + LONG;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => panic!("the agent does not connect: {error}"),
        }
    };
    let mut connection = Connection::new(stream.into()).unwrap();
    let hello = loop {
        connection.receive().unwrap();
        if let Some(bytes) = connection.next_raw(Hello::SIZE).unwrap() {
            break Hello::decode(&bytes.try_into().unwrap()).unwrap();
        }
        assert!(connection.wait(Some(LONG)).unwrap(), "the agent does not greet");
    };
    let capabilities = Capabilities::MEMFD;
    connection.queue_raw(&Welcome::answer(&hello, capabilities).encode()).unwrap();
    connection.flush().unwrap();
    (connection, hello.role)
}

/// Where an `xdg_popup` wants to be.
#[track_caller]
pub fn positioner_of(popup: &Popup) -> Positioner {
    match popup.place {
        Place::Positioner(positioner) => positioner,
        Place::Fixed(area) => panic!("placed by the app at {area:?}"),
    }
}

impl Host {
    /// The agent, connected, with polite manners.
    pub fn start() -> Self {
        let mut host = Self::start_without_display();
        host.accept_display();
        host
    }

    pub fn start_without_display() -> Self {
        Self::start_with(&[])
    }

    /// The agent with environment entries of its own, without a display session.
    pub fn start_with(environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listeners = ["control", "display", "stream"].map(|name| {
            let listener = UnixListener::bind(dir.path().join(name)).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        });
        let address = |name: &str| format!("unix:{}", dir.path().join(name).display());
        let agent = Process::new(env!("CARGO_BIN_EXE_inlay-agent"))
            .args(["--control", &address("control"), "--display", &address("display")])
            .args(["--stream", &address("stream")])
            .arg("--runtime-dir")
            .arg(dir.path())
            .arg("--share")
            .arg(dir.path().join("share"))
            .env("XDG_RUNTIME_DIR", dir.path())
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        let (control, role) = accept(&listeners[0]);
        assert_eq!(role, Role::Control);
        let mut host = Self {
            dir,
            agent,
            listeners,
            control: Some(control),
            display: None,
            manners: POLITE,
            reports: Vec::new(),
            requests: Vec::new(),
            buffers: BTreeMap::new(),
            surfaces: BTreeMap::new(),
            toplevels: BTreeMap::new(),
            popups: BTreeMap::new(),
            icons: BTreeMap::new(),
            shapes: BTreeMap::new(),
            counters: None,
            serial: 1000,
            clock: Instant::now(),
        };
        host.until("the agent is ready", |host| matches!(host.reports.first(), Some(Report::Ready { .. })));
        host
    }

    pub fn accept_display(&mut self) {
        let (display, role) = accept(&self.listeners[1]);
        assert_eq!(role, Role::Display);
        self.display = Some(display);
    }

    pub fn accept_stream(&mut self) -> (Connection, [u8; 16]) {
        match accept(&self.listeners[2]) {
            (stream, Role::Stream(id)) => (stream, id),
            (_, role) => panic!("not a stream: {role:?}"),
        }
    }

    /// What the agent sends on this stream, to which it connects by the display's address; `serve` serves the app that has it.
    pub fn read_stream(&mut self, id: [u8; 16], serve: impl FnMut()) -> Vec<u8> {
        let (mut stream, role) = accept(&self.listeners[1]);
        assert_eq!(role, Role::Stream(id));
        crate::drag::read_all(&mut stream, serve)
    }

    /// Closes the display session and forgets all that was said.
    pub fn drop_display(&mut self) {
        self.display = None;
        self.requests.clear();
        self.buffers.clear();
        self.surfaces.clear();
        self.toplevels.clear();
        self.popups.clear();
        self.icons.clear();
        self.shapes.clear();
    }

    pub fn wayland_socket(&self) -> PathBuf {
        self.dir.path().join("inlay-0")
    }

    pub fn command(&mut self, command: &Command) {
        let control = self.control.as_mut().unwrap();
        control.queue(command).unwrap();
        control.flush().unwrap();
    }

    pub fn launch(&mut self, id: u64, argv: &[&str]) {
        let argv = argv.iter().map(ToString::to_string).collect();
        let program = Program { argv, ..Program::default() };
        self.command(&Command::Launch { id, program });
    }

    pub fn send(&mut self, event: &Event) {
        let display = self.display.as_mut().unwrap();
        display.queue(event).unwrap();
        display.flush().unwrap();
    }

    pub fn input(&mut self, event: InputEvent) {
        self.send(&Event::Input(event));
    }

    pub fn configure(&mut self, surface: SurfaceId, size: Option<Size>, states: States) -> u32 {
        self.serial += 1;
        let serial = self.serial;
        self.send(&Event::ConfigureToplevel { surface, serial, size, states, bounds: None });
        serial
    }

    pub fn release(&mut self, surface: SurfaceId, number: u64) {
        self.send(&Event::Release { surface, number });
    }

    pub fn tick(&mut self, surface: SurfaceId) {
        let time_ms = u64::try_from(self.clock.elapsed().as_millis()).unwrap();
        self.send(&Event::Frame { surface, time_ms });
    }

    /// Serves the agent until the condition holds.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < end, "never: {what}");
            self.serve(Duration::from_millis(5));
        }
    }

    /// Serves the agent for some time.
    pub fn serve_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.serve(Duration::from_millis(2));
        }
    }

    /// Takes what the agent says within `time`, and does what manners ask for.
    pub fn serve(&mut self, time: Duration) {
        let short = Some(Duration::from_millis(1));
        while let Some(control) = &mut self.control {
            match control.wait_message::<Report>(short) {
                Ok(Some((report, _))) => self.reports.push(report),
                Ok(None) => break,
                Err(_) => self.control = None,
            }
        }
        while let Some(display) = &mut self.display {
            match display.wait_message::<Request>(Some(time)) {
                Ok(Some((request, fds))) => self.take(request, fds),
                Ok(None) => break,
                Err(error) => {
                    eprintln!("the display session ended: {error}");
                    self.display = None;
                }
            }
        }
        if self.display.is_none() {
            std::thread::sleep(time);
        }
    }

    fn take(&mut self, request: Request, fds: Vec<OwnedFd>) {
        match &request {
            Request::CreateBuffer { buffer, size, .. } => {
                let fd = fds.into_iter().next().unwrap();
                assert_eq!(u64::try_from(rustix::fs::fstat(&fd).unwrap().st_size).unwrap(), *size);
                assert!(self.buffers.insert(*buffer, (*size, fd)).is_none(), "{buffer:?} is used twice");
            }
            Request::DestroyBuffer { buffer } => {
                assert!(self.buffers.remove(buffer).is_some(), "{buffer:?} is not known");
            }
            Request::Transaction(commits) => {
                for commit in commits.clone() {
                    self.commit(commit);
                }
            }
            Request::DestroySurface { surface } => {
                self.surfaces.remove(surface);
                self.toplevels.remove(surface);
                self.popups.remove(surface);
            }
            Request::Toplevel(toplevel) => {
                let id = toplevel.surface;
                let new = self.toplevels.insert(id, toplevel.clone()).is_none();
                if let Some(size) = self.manners.configure.filter(|_| new) {
                    self.configure(id, size, States::ACTIVATED);
                }
            }
            Request::Popup(popup) => {
                self.popups.insert(popup.surface, popup.clone());
            }
            Request::RoleGone { surface } => {
                self.toplevels.remove(surface);
                self.popups.remove(surface);
            }
            Request::Counters(counters) => self.counters = Some(*counters),
            Request::Icons { surface, icons } => {
                self.icons.insert(*surface, icons.clone());
            }
            Request::Shape { surface, rects } => {
                self.shapes.insert(*surface, rects.clone());
            }
            Request::Act { .. }
            | Request::Cursor(_)
            | Request::Pong { .. }
            | Request::Constrain { .. }
            | Request::Offer(_)
            | Request::Fetch { .. }
            | Request::DragAnswer { .. }
            | Request::DragEnd { .. }
            | Request::DragStart(_)
            | Request::DragIcon { .. }
            | Request::DragCancel { .. }
            | Request::OpenLink(_)
            | Request::SayAgain => {}
        }
        self.requests.push(request);
    }

    fn commit(&mut self, commit: Commit) {
        let (id, number, wants_frame) = (commit.surface, commit.number, commit.wants_frame);
        if let Some(content) = &commit.content {
            let (size, _) = &self.buffers[&content.buffer];
            assert!(content.end().unwrap() <= *size, "content leaves its buffer");
        }
        if let Some(before) = self.surfaces.get(&id) {
            assert!(number > before.number, "commits are not numbered upwards");
        }
        self.surfaces.insert(id, commit);
        if self.manners.release {
            self.release(id, number);
        }
        if self.manners.tick && wants_frame {
            self.tick(id);
        }
    }

    /// The pixels of a surface's newest commit, row by row without padding.
    pub fn pixels(&self, surface: SurfaceId) -> Vec<u8> {
        let content = self.surfaces[&surface].content.unwrap();
        let (_, fd) = &self.buffers[&content.buffer];
        let width = content.size.width as usize * 4;
        let mut pixels = vec![0; width * content.size.height as usize];
        for (row, bytes) in pixels.chunks_mut(width).enumerate() {
            let at = content.offset + row as u64 * u64::from(content.stride);
            assert_eq!(rustix::io::pread(fd, bytes, at).unwrap(), width);
        }
        pixels
    }

    /// The only toplevel.
    #[track_caller]
    pub fn toplevel(&self) -> SurfaceId {
        assert_eq!(self.toplevels.len(), 1);
        *self.toplevels.keys().next().unwrap()
    }

    pub fn is_mapped(&self, surface: SurfaceId) -> bool {
        self.surfaces.get(&surface).is_some_and(|c| c.content.is_some())
    }

    /// Serves until the only toplevel has a content; its id.
    #[track_caller]
    pub fn until_mapped(&mut self) -> SurfaceId {
        self.until("a toplevel is mapped", |host| host.toplevels.keys().any(|id| host.is_mapped(*id)));
        self.toplevel()
    }

    pub fn count(&mut self) -> AgentCounters {
        self.counters = None;
        self.send(&Event::QueryCounters);
        self.until("counters", |host| host.counters.is_some());
        self.counters.unwrap()
    }

    pub fn client_stream(&self) -> UnixStream {
        UnixStream::connect(self.wayland_socket()).unwrap()
    }

    /// Closes the control session and waits for the agent's end.
    pub fn end(&mut self) -> std::process::ExitStatus {
        self.control = None;
        let end = Instant::now() + LONG;
        loop {
            if let Some(status) = self.agent.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the agent does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.control = None;
        for _ in 0..800 {
            if self.agent.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
        assert!(std::thread::panicking(), "the agent had to be killed");
    }
}
