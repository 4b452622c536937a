//! What the command line and a machine process say to each other, on the machine's own socket.
//!
//! Framed like every channel of [`inlay_protocol`]. A client asks one thing at a time; while it waits it may only send
//! [`Request::Signal`]. The socket lies in a folder that is the user's alone; the guest cannot reach it.
//!
//! ```text
//!   Status -> Status          Ready -> Progress* -> Done | NoAgent | Failed          AwaitAgent -> Done | Failed
//!   Launch, Open -> Launched [-> Exited, when asked to wait] | Failed
//!   Exec -> Stream (with the socket: the command line then speaks to the agent itself) | Failed
//!   Stop -> Progress* -> Stopped | Failed          Pause, Resume, Network, Window -> Done | Failed
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use inlay_protocol::catalogue;
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_protocol::control::{Exit, LaunchError, Program, TerminalSize};
use inlay_protocol::framing::{Invalid, Message};
use serde::{Deserialize, Serialize};

/// Where windows shall be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Display {
    /// Wherever they are shown already, else nowhere.
    #[default]
    Any,
    /// On no screen: drawn all the same, for pictures of them.
    Headless,
    /// On the display that these variables name.
    Host(Vec<(String, String)>),
}

/// Variables that say how to reach a display, and how to draw and log there.
const DISPLAY_VARIABLES: [&str; 8] = [
    "DISPLAY",
    "XAUTHORITY",
    "WAYLAND_DISPLAY",
    "XCURSOR_THEME",
    "XCURSOR_SIZE",
    "XDG_CURRENT_DESKTOP",
    "WGPU_BACKEND",
    "INLAY_LOG",
];

impl Display {
    /// The display of this process's environment; [`Display::Any`] when it has none.
    #[must_use]
    pub fn from_env(headless: bool) -> Self {
        if headless {
            return Self::Headless;
        }
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if set("DISPLAY").is_none() && set("WAYLAND_DISPLAY").is_none() {
            return Self::Any;
        }
        let named = |name: &str| {
            let value = set(name)?;
            let value = if name == "WAYLAND_DISPLAY" { absolute(value) } else { value };
            Some((name.to_owned(), value))
        };
        Self::Host(DISPLAY_VARIABLES.iter().filter_map(|name| named(name)).collect())
    }

    /// All variables that name a display: those that a display does not set must not be left over from another.
    #[must_use]
    pub fn variables() -> &'static [&'static str] {
        &DISPLAY_VARIABLES
    }
}

/// The path of a Wayland socket: a plain name is in the runtime folder of whoever says it.
fn absolute(name: String) -> String {
    match std::env::var("XDG_RUNTIME_DIR") {
        Ok(folder) if !name.starts_with('/') && !folder.is_empty() => format!("{folder}/{name}"),
        _ => name,
    }
}

/// To the machine process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// What is the machine doing?
    Status,
    /// Answer when the agent serves; show windows there.
    Ready(Display),
    /// Answer when the agent serves, however long that takes.
    AwaitAgent,
    /// Start an app.
    Launch {
        /// What.
        program: Program,
        /// Whether to tell its end too.
        wait: bool,
        /// Where its windows shall be.
        display: Display,
    },
    /// Open an app as its desktop file says.
    Open {
        /// Its id, without `.desktop`.
        app: String,
        /// One of its actions.
        action: Option<String>,
        /// Files (as the guest finds them) and links to open with it.
        uris: Vec<String>,
        /// Whether to tell its end too.
        wait: bool,
        /// Where its windows shall be.
        display: Display,
    },
    /// Run a command.
    Exec {
        /// What.
        program: Program,
        /// Set to give it a terminal.
        terminal: Option<TerminalSize>,
    },
    /// A signal for the app that was launched and is waited for.
    Signal(i32),
    /// Switch the guest off.
    Stop {
        /// At once, without asking it.
        force: bool,
        /// How long it may take before force is used, in milliseconds.
        grace_ms: u32,
    },
    /// Stop its processors.
    Pause,
    /// Let them run again.
    Resume,
    /// Connect its network, or cut it off.
    Network(bool),
    /// Show the guest's screen in a window; answer when that is closed.
    Window {
        /// On all of a monitor.
        fullscreen: bool,
        /// Where the window shall be.
        display: Display,
    },
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The guest boots.
    Starting,
    /// Its agent has been ready.
    Running,
    /// Its processors stand still.
    Paused,
    /// It is switching off.
    Stopping,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        })
    }
}

/// The state of a machine that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Whether the agent is connected.
    pub agent: bool,
    /// The guest's operating system, once it was told.
    pub system: Option<String>,
    /// Who runs the guest.
    pub engine: String,
    /// Process of the engine.
    pub engine_pid: u32,
    /// The machine process.
    pub pid: u32,
    /// Process that shows its windows.
    pub windows_pid: Option<u32>,
    /// Why its windows are not shown, when they should be.
    pub windows_failed: Option<String>,
    /// Why its shared folders are gone, when they are.
    pub files_failed: Option<String>,
    /// Whether its network is connected; nothing where it has none.
    pub network: Option<bool>,
    /// Apps that were launched and run.
    pub apps: u32,
}

/// From the machine process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// What it is doing.
    Status(Status),
    /// Something goes on; more will come.
    Progress(String),
    /// Done.
    Done,
    /// The app runs; its process id in the guest.
    Launched(u32),
    /// The app that was waited for ended.
    Exited(Exit),
    /// The stream of the command travels beside this message.
    Stream,
    /// The guest is off.
    Stopped {
        /// It was switched off by force, because of this.
        forced: Option<String>,
    },
    /// The program could not be started.
    LaunchFailed(LaunchError),
    /// The guest runs, and nothing of us is in it: one line.
    NoAgent(String),
    /// It could not be done: one line.
    Failed(String),
}

impl Message for Request {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Launch { program, .. } | Self::Exec { program, .. } => program.check(),
            Self::Open { app, action, uris, .. } => catalogue::check_open(app, action.as_ref(), uris),
            Self::Signal(signal) => Invalid::unless((1..=64).contains(signal), "signal"),
            Self::Status
            | Self::Ready(_)
            | Self::AwaitAgent
            | Self::Stop { .. }
            | Self::Pause
            | Self::Resume
            | Self::Network(_)
            | Self::Window { .. } => Ok(()),
        }
    }
}

impl Message for Reply {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Stream))
    }
}

/// Why a machine process did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Its socket cannot be used.
    #[error("cannot speak to the machine process")]
    Socket(#[from] io::Error),
    /// The conversation broke.
    #[error("the machine process does not answer")]
    Connection(#[from] ConnectionError),
    /// Nothing came in time.
    #[error("the machine process did not answer within {0:?}")]
    TimedOut(Duration),
    /// It said no.
    #[error("{0}")]
    Failed(String),
    /// The guest runs without an agent.
    #[error("{0}")]
    NoAgent(String),
    /// The guest could not start the program.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// An answer to another question.
    #[error("the machine process gave an answer that does not fit")]
    Unexpected,
}

/// The command line's end.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects; `None` when no machine process listens there.
    ///
    /// # Errors
    /// The socket is there but cannot be used.
    pub fn connect(socket: &Path) -> Result<Option<Self>, ApiError> {
        match UnixStream::connect(socket) {
            Ok(stream) => Ok(Some(Self { connection: Connection::new(stream.into())? })),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The connection, to wait for it beside other things.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Asks, without waiting for the answer.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, request: &Request) -> Result<(), ApiError> {
        self.connection.queue(request)?;
        Ok(self.connection.flush()?)
    }

    /// Waits for the next answer; a failure becomes an error.
    ///
    /// # Errors
    /// It said no, the connection is gone or nothing came in time.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<(Reply, Option<OwnedFd>), ApiError> {
        match self.connection.wait_message::<Reply>(timeout)? {
            Some((Reply::Failed(why), _)) => Err(ApiError::Failed(why)),
            Some((Reply::NoAgent(why), _)) => Err(ApiError::NoAgent(why)),
            Some((Reply::LaunchFailed(why), _)) => Err(why.into()),
            Some((reply, fds)) => Ok((reply, fds.into_iter().next())),
            None => Err(ApiError::TimedOut(timeout.unwrap_or_default())),
        }
    }

    /// Asks and waits for the answer behind all progress, which is told to `progress`.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub fn ask(
        &mut self,
        request: &Request,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(Reply, Option<OwnedFd>), ApiError> {
        self.send(request)?;
        loop {
            match self.next(None)? {
                (Reply::Progress(text), _) => progress(&text),
                other => return Ok(other),
            }
        }
    }
}
