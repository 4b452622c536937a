//! The test as the agent: the window process alone, with its display socket in the test's hand.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay::machine::Sockets;
use inlay::windows::api;
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::display::*;
use inlay_protocol::framing;
use inlay_protocol::geometry::{Point, Rect, Size};
use inlay_protocol::handshake::{Capabilities, Hello, Role, VERSION, Welcome};
use rustix::fs::{MemfdFlags, SealFlags};

use super::scripted::Screen;
use super::{Process, eventually, program, shows};

/// `inlay windows` without agent and without machine process.
#[derive(Debug)]
pub struct Windows {
    pub process: Process,
    pub runtime: tempfile::TempDir,
}

impl Windows {
    /// Starts it; without a display unless one is given.
    pub fn start(display: Option<&str>) -> Self {
        Self::start_on(display.map_or(Screen::None, Screen::X11))
    }

    /// Starts it on a display or none.
    pub fn start_on(screen: Screen<'_>) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
        let log = std::fs::File::create(runtime.path().join("log")).unwrap();
        let mut command = Command::new(program("inlay"));
        command.args(["windows", "hostile", "--local", "--runtime"]).arg(runtime.path());
        command.env_remove("INLAY_LOG").stdin(Stdio::null()).stderr(log);
        screen.of(&mut command);
        let mut windows = Self { process: Process::spawn(&mut command), runtime };
        eventually("the window process's sockets", || {
            windows.assert_alive();
            api::windows(&windows.api()).ok()
        });
        windows
    }

    pub fn api(&self) -> PathBuf {
        Sockets::new(self.runtime.path()).windows()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.runtime.path().join("log")).unwrap()
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the window process ended ({status}):\n{}", self.log());
        }
    }

    /// Asks for the windows and says how long the answer took.
    #[track_caller]
    pub fn answers_within(&mut self, limit: Duration) -> Vec<api::WindowInfo> {
        let begin = Instant::now();
        let list = api::windows(&self.api());
        let took = begin.elapsed();
        self.assert_alive();
        assert!(took <= limit, "it answered after {took:?}");
        list.unwrap()
    }

    /// Memory of its own that is resident, without the agent's buffers (`RssAnon`), in MiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.0.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
    }

    /// A connection that has not said anything.
    pub fn stream(&self) -> UnixStream {
        UnixStream::connect(Sockets::new(self.runtime.path()).display()).unwrap()
    }

    /// A session, once the one before is over.
    pub fn connect(&self) -> Agent {
        eventually("a session", || self.try_connect())
    }

    fn try_connect(&self) -> Option<Agent> {
        let mut connection = Connection::new(self.stream().into()).unwrap();
        let hello = Hello { version: VERSION, role: Role::Display, capabilities: Capabilities::MEMFD };
        connection.queue_raw(&hello.encode()).unwrap();
        connection.flush().ok()?;
        let bytes = loop {
            if let Some(bytes) = connection.next_raw(Welcome::SIZE).ok()? {
                break bytes;
            }
            assert!(connection.wait(Some(super::SOON)).unwrap(), "no welcome");
            connection.receive().ok()?;
        };
        // Refused while another session is there.
        Welcome::decode(&bytes.try_into().unwrap()).ok()?;
        Some(Agent { connection, over: false })
    }

    /// An honest session shows its pixels exactly.
    #[track_caller]
    pub fn serves(&mut self) {
        let mut agent = self.connect();
        let (width, height) = (67, 41);
        let bytes = inlay_tests::pattern::picture(9, width, height);
        let file = memory_file(bytes.len());
        assert_eq!(rustix::io::pwrite(&file, &bytes, 0), Ok(bytes.len()));
        agent.buffer(1, bytes.len() as u64, &Arc::new(file));
        agent.send(&toplevel(1, "honest"));
        agent.send(&Request::Transaction(vec![commit(1, 1, Some(content(1, width, height)))]));
        eventually("the honest window", || {
            let windows = api::windows(&self.api()).unwrap();
            windows.iter().any(|w| w.title == "honest").then_some(())
        });
        shows(&self.api(), "honest", &bytes);
        self.assert_alive();
    }
}

/// A session, as the agent sees it.
#[derive(Debug)]
pub struct Agent {
    pub connection: Connection,
    /// Whether the window process ended it.
    pub over: bool,
}

impl Agent {
    /// Sends a message without caring what becomes of it.
    pub fn send(&mut self, request: &Request) {
        self.send_with(request, Vec::new());
    }

    fn send_with(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>) {
        if self.connection.queue_with(request, fds).is_err() || self.connection.flush().is_err() {
            self.over = true;
        }
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if self.connection.queue_raw(bytes).is_err() || self.connection.flush().is_err() {
            self.over = true;
        }
    }

    pub fn buffer(&mut self, id: u32, size: u64, file: &Arc<OwnedFd>) {
        let request = Request::CreateBuffer { buffer: BufferId(id), size, backing: Backing::Memfd };
        self.send_with(&request, vec![file.clone()]);
    }

    /// A message whose descriptor does not come along.
    pub fn without_descriptor(&mut self, request: &Request) {
        self.send_raw(&framing::encode(request).unwrap());
    }

    /// Writes what waits and takes what came; `None` when nothing did within the time or the session is over.
    pub fn event(&mut self, time: Duration) -> Option<Event> {
        if self.over {
            return None;
        }
        match self.connection.wait_message::<Event>(Some(time)) {
            Ok(event) => event.map(|(event, _)| event),
            Err(ConnectionError::Protocol(error)) => panic!("the window process sends nonsense: {error}"),
            Err(_) => {
                self.over = true;
                None
            }
        }
    }

    /// Waits for an event that fits.
    #[track_caller]
    pub fn expect<T>(&mut self, what: &str, fits: impl FnMut(Event) -> Option<T>) -> T {
        self.until(what, super::SOON, fits).unwrap_or_else(|| panic!("{what}: it did not come"))
    }

    /// Waits for an event that fits, for at most a time.
    pub fn until<T>(
        &mut self,
        _what: &str,
        time: Duration,
        mut fits: impl FnMut(Event) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + time;
        while !self.over && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(found) = self.event(left).and_then(&mut fits) {
                return Some(found);
            }
        }
        None
    }

    /// Takes all that came, unread.
    pub fn drain(&mut self) {
        while self.event(Duration::ZERO).is_some() {}
    }

    /// Waits until the window process ended the session.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let none = self.until("the end", super::SOON, |_| None::<()>);
        assert!(none.is_none() && self.over, "the session goes on");
    }

    /// Writes all that waits, as fast as it is taken, for at most a time; reads meanwhile.
    pub fn push(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.over && self.connection.wants_write() && Instant::now() < end {
            let _ = self.event(Duration::from_millis(1));
        }
    }
}

/// A memory file that the window process takes: sealed against shrinking.
pub fn memory_file(size: usize) -> OwnedFd {
    let file = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&file, size as u64).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

pub fn content(buffer: u32, width: u32, height: u32) -> Content {
    let size = Size::new(width, height);
    Content { buffer: BufferId(buffer), offset: 0, size, stride: 4 * width, format: Format::Argb8888 }
}

/// A commit that damages all of its content, one logical pixel for each of the buffer.
pub fn commit(surface: u32, number: u64, content: Option<Content>) -> Commit {
    let size = content.map_or(Size::default(), |c| c.size);
    Commit {
        surface: SurfaceId(surface),
        number,
        content,
        damage: vec![Rect::of_size(size)],
        scale: 1,
        transform: Transform::Normal,
        source: None,
        size,
        children: Vec::new(),
        input: None,
        opaque: Vec::new(),
        geometry: None,
        acked: None,
        wants_frame: false,
    }
}

pub fn toplevel(surface: u32, title: &str) -> Request {
    Request::Toplevel(Toplevel {
        surface: SurfaceId(surface),
        title: title.to_owned(),
        app_id: "hostile".to_owned(),
        ..Toplevel::default()
    })
}

/// A popup of this size below the parent's corner.
pub fn popup(surface: u32, parent: u32, size: Size, grab: bool) -> Request {
    let positioner = Positioner {
        size,
        anchor_rect: Rect::new(10, 10, 1, 1),
        anchor: Edges::BOTTOM,
        gravity: Edges::BOTTOM.with(Edges::RIGHT),
        adjustment: ConstraintAdjustment(63),
        offset: Point::default(),
        reactive: false,
    };
    Request::Popup(Popup {
        surface: SurfaceId(surface),
        parent: SurfaceId(parent),
        place: Place::Positioner(positioner),
        kind: PopupKind::Menu,
        grab,
        reposition: None,
    })
}
