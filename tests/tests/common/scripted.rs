//! The test in the place of the agent: the window process on a real display, or on none.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay::machine::Sockets;
use inlay_protocol::connection::Connection;
use inlay_protocol::display::*;
use inlay_protocol::geometry::{Rect, Size};
use inlay_protocol::handshake::{Capabilities, HandshakeError, Hello, Role, VERSION, Welcome};
use inlay_protocol::stream::Chunk;
use rustix::fs::{MemfdFlags, SealFlags};

use super::{Process, SOON, eventually, program};

pub const RED: [u8; 4] = [0, 0, 255, 255];
pub const GREEN: [u8; 4] = [0, 200, 0, 255];

/// Where windows are shown.
#[derive(Debug, Clone, Copy)]
pub enum Screen<'a> {
    /// An X display.
    X11(&'a str),
    /// A Wayland socket.
    Wayland(&'a Path),
    /// Nowhere.
    None,
}

impl Screen<'_> {
    /// Has a command of ours show its windows there; before the arguments of an app.
    pub fn of(self, command: &mut Command) {
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        match self {
            Screen::X11(display) => command.env("DISPLAY", display),
            Screen::Wayland(socket) => command.env("WAYLAND_DISPLAY", socket),
            Screen::None => command.arg("--headless"),
        };
    }
}

/// A window process, and the agent's end of its display connection.
#[derive(Debug)]
pub struct Agent {
    pub connection: Connection,
    /// What came, until the test clears it.
    pub events: Vec<Event>,
    commits: u64,
    // Dropped in this order: the process before its folder.
    process: Process,
    runtime: tempfile::TempDir,
    /// The machine process's end, where the window process has one.
    _machine: Option<UnixStream>,
}

/// Says hello, and waits for the welcome; none is said where the connection is closed instead.
fn greet(
    connection: &mut Connection,
    role: Role,
    capabilities: Capabilities,
) -> Result<(), Option<HandshakeError>> {
    connection.queue_raw(&Hello { version: VERSION, role, capabilities }.encode()).unwrap();
    connection.flush().unwrap();
    loop {
        connection.receive().unwrap();
        match connection.next_raw(Welcome::SIZE) {
            Ok(Some(bytes)) => {
                return Welcome::decode(&bytes.try_into().unwrap()).map(drop).map_err(Some);
            }
            Ok(None) => assert!(connection.wait(Some(SOON)).unwrap(), "no answer to the hello"),
            Err(_) => return Err(None),
        }
    }
}

impl Agent {
    pub fn start(screen: Screen<'_>) -> Self {
        Self::start_with(screen, &[])
    }

    /// A window process with more arguments.
    pub fn start_with(screen: Screen<'_>, arguments: &[&str]) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
        let mut command = Command::new(program("inlay"));
        command.args(["windows", "guest", "--local", "--runtime"]).arg(runtime.path());
        command.args(arguments);
        screen.of(&mut command);
        Self::begin(&mut command, runtime, None)
    }

    /// The window process of a machine, which has files of its own. The user's folders are below [`Agent::runtime`].
    pub fn start_apart(screen: Screen<'_>, arguments: &[&str]) -> Self {
        let runtime = tempfile::Builder::new().prefix("inlay-").tempdir_in("/tmp").unwrap();
        let machine = UnixListener::bind(Sockets::new(runtime.path()).memory()).unwrap();
        let mut command = Command::new(program("inlay"));
        command.args(["windows", "guest", "--runtime"]).arg(runtime.path()).args(arguments);
        for (variable, name) in
            [("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(variable, runtime.path().join(name));
        }
        screen.of(&mut command);
        Self::begin(&mut command, runtime, Some(&machine))
    }

    fn begin(command: &mut Command, runtime: tempfile::TempDir, machine: Option<&UnixListener>) -> Self {
        let process = Process::spawn(command.stdin(Stdio::null()));
        let machine = machine.map(|machine| machine.accept().unwrap().0);
        let kind = if machine.is_some() { Capabilities::VIRTIO_GPU } else { Capabilities::MEMFD };
        let socket = Sockets::new(runtime.path()).display();
        let stream = eventually("the window process", || UnixStream::connect(&socket).ok());
        let mut connection = Connection::new(stream.into()).unwrap();
        greet(&mut connection, Role::Display, kind).unwrap();
        Self { connection, events: Vec::new(), commits: 0, process, runtime, _machine: machine }
    }

    /// The window process.
    pub fn process_id(&self) -> u32 {
        self.process.0.id()
    }

    pub fn send(&mut self, request: &Request) {
        self.connection.queue(request).unwrap();
        self.connection.flush().unwrap();
        while self.connection.wants_write() {
            // The window process is behind.
            self.listen(Duration::from_millis(1));
        }
    }

    /// Takes the events that come within a time.
    pub fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if let Some((event, _)) = self.connection.wait_message::<Event>(Some(left)).unwrap() {
                self.events.push(event);
            }
        }
    }

    /// Waits for an event, from the beginning on.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            if let Some(found) = self.events.iter().find_map(&find) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{what}: not within {SOON:?}; came last: {:?}",
                self.events.iter().rev().take(20).collect::<Vec<_>>()
            );
            self.listen(Duration::from_millis(20));
        }
    }

    pub fn has(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|e| which(e)).count()
    }

    /// Commits a surface filled with one colour.
    pub fn paint(&mut self, surface: u32, size: Size, colour: [u8; 4]) -> u64 {
        let bytes: Vec<u8> = colour.repeat((size.width * size.height) as usize);
        self.show(surface, size, &bytes, |_| {})
    }

    /// Commits pixels of a surface; `change` says more of the commit.
    pub fn show(&mut self, surface: u32, size: Size, bytes: &[u8], change: impl FnOnce(&mut Commit)) -> u64 {
        self.commits += 1;
        let number = self.commits;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd: OwnedFd = rustix::fs::memfd_create("pool", flags).unwrap();
        let mut done = 0;
        while done < bytes.len() {
            done += rustix::io::write(&fd, &bytes[done..]).unwrap();
        }
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        let buffer = BufferId(u32::try_from(number).unwrap());
        let create = Request::CreateBuffer { buffer, size: bytes.len() as u64, backing: Backing::Memfd };
        self.connection.queue_with(&create, vec![Arc::new(fd)]).unwrap();
        let stride = 4 * size.width;
        let content = Content { buffer, offset: 0, size, stride, format: Format::Argb8888 };
        let mut commit = super::agent::commit(surface, number, Some(content));
        change(&mut commit);
        self.send(&Request::Transaction(vec![commit]));
        number
    }

    /// A toplevel with this title, open.
    pub fn window(&mut self, surface: u32, title: &str, size: Size) {
        self.toplevel(surface, title, |_| {});
        self.paint(surface, size, RED);
    }

    pub fn toplevel(&mut self, surface: u32, title: &str, change: impl FnOnce(&mut Toplevel)) {
        let mut toplevel = Toplevel {
            surface: SurfaceId(surface),
            title: title.to_owned(),
            app_id: "app".to_owned(),
            decoration: Decoration::ServerSide,
            ..Toplevel::default()
        };
        change(&mut toplevel);
        self.send(&Request::Toplevel(toplevel));
    }

    pub fn popup(&mut self, surface: u32, parent: u32, area: Rect, kind: PopupKind) {
        self.send(&Request::Popup(Popup {
            surface: SurfaceId(surface),
            parent: SurfaceId(parent),
            place: Place::Fixed(area),
            kind,
            grab: false,
            reposition: None,
        }));
    }

    /// Opens a stream that the window process expects.
    ///
    /// # Errors
    /// It refuses, or closes the connection.
    pub fn open(&self, stream: [u8; 16]) -> Result<Connection, Option<HandshakeError>> {
        let mut connection =
            Connection::new(UnixStream::connect(Sockets::new(self.runtime()).display()).unwrap().into())
                .unwrap();
        greet(&mut connection, Role::Stream(stream), Capabilities::default())?;
        Ok(connection)
    }

    /// What comes on a stream.
    pub fn read(&self, stream: [u8; 16]) -> Vec<u8> {
        let mut connection = self.open(stream).unwrap();
        let mut all = Vec::new();
        loop {
            match connection.wait_message::<Chunk>(Some(SOON)).unwrap().unwrap().0 {
                Chunk::Data(bytes) => all.extend(bytes),
                Chunk::End => return all,
            }
        }
    }

    /// The folder of its sockets.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    pub fn socket(&self) -> std::path::PathBuf {
        Sockets::new(self.runtime.path()).windows()
    }
}
