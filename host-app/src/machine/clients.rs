//! The command lines that are connected to a machine process, and what each waits for.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlay_protocol::connection::{Connection, ConnectionError};

use super::door::{self, chain};
use crate::api::{Reply, Request};

/// Command lines at once.
const CLIENTS: usize = 64;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing: it may ask.
    Nothing,
    /// The agent.
    Ready,
    /// The agent, however long that takes.
    Agent,
    /// The start of an app; and whether also its end.
    Launch {
        /// The launch.
        id: u64,
        /// Whether it wants to know the end.
        wait: bool,
    },
    /// The end of an app.
    Exit {
        /// The launch.
        id: u64,
    },
    /// The start of a command, and its stream; they come on different connections, in any order.
    Exec {
        /// The command.
        id: u64,
        /// Names the stream that the agent opens.
        stream: [u8; 16],
    },
    /// The guest's end.
    Stop,
    /// The end of the full window.
    Window,
}

/// What has come of a command.
#[derive(Debug, Default)]
pub struct ExecParts {
    /// It runs.
    pub launched: bool,
    /// Its stream.
    pub stream: Option<OwnedFd>,
}

/// A connected command line.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    /// What it waits for.
    pub doing: Doing,
    /// How long it waits at most.
    pub deadline: Option<Instant>,
    /// What has come of a command that it waits for.
    pub exec: ExecParts,
    /// It asked for more than the machine's state: until it goes, something is done for it.
    works: bool,
    gone: bool,
}

impl Client {
    /// Answers; nothing more is awaited unless this is progress.
    pub fn answer(&mut self, reply: &Reply) {
        self.answer_with(reply, Vec::new());
        if !matches!(reply, Reply::Progress(_)) {
            self.rest();
        }
    }

    /// Answers with the stream of the command it asked for, once the command runs.
    pub fn answer_stream(&mut self) {
        if !self.exec.launched {
            return;
        }
        let Some(stream) = self.exec.stream.take() else { return };
        self.answer_with(&Reply::Stream, vec![Arc::new(stream)]);
        self.rest();
    }

    fn rest(&mut self) {
        self.doing = Doing::Nothing;
        self.deadline = None;
        self.exec = ExecParts::default();
    }

    fn answer_with(&mut self, reply: &Reply, fds: Vec<Arc<OwnedFd>>) {
        let sent = self.connection.queue_with(reply, fds).and_then(|()| self.connection.flush());
        if let Err(error) = sent {
            tracing::debug!(error = %chain(&error), "a command line did not wait for its answer");
            self.gone = true;
        }
    }
}

/// All connected command lines.
#[derive(Debug)]
pub struct Clients {
    listener: UnixListener,
    clients: Vec<Client>,
}

impl Clients {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: door::listen(path)?, clients: Vec::new() })
    }

    /// What to wait for; `true` for those that shall be written to.
    pub fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let listener = (self.clients.len() < CLIENTS).then(|| (self.listener.as_fd(), false));
        let clients = self.clients.iter().map(|c| (c.connection.fd(), c.connection.wants_write()));
        listener.into_iter().chain(clients)
    }

    /// When to look again though nothing came.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.deadline).min()
    }

    /// Whether one of them has the machine do something. A command's connection stays while the command runs.
    #[must_use]
    pub fn work(&self) -> bool {
        self.clients.iter().any(|client| client.works)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.iter_mut()
    }

    /// The client at this place of [`Clients::turn`]'s list.
    pub fn get(&mut self, index: usize) -> Option<&mut Client> {
        self.clients.get_mut(index)
    }

    /// Takes new clients and what the known ones ask, forgets who is gone. The places in the list are good until the next
    /// turn.
    pub fn turn(&mut self) -> Vec<(usize, Request)> {
        while self.clients.len() < CLIENTS
            && let Some(connection) = door::accept(&self.listener)
        {
            let (doing, exec) = (Doing::Nothing, ExecParts::default());
            self.clients.push(Client { connection, doing, deadline: None, exec, works: false, gone: false });
        }
        let mut asked = Vec::new();
        let mut index = 0;
        self.clients.retain_mut(|client| match take(client) {
            Ok(request) => {
                asked.extend(request.map(|request| (index, request)));
                index += 1;
                true
            }
            Err(ConnectionError::Closed) => false,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a command line is dropped");
                false
            }
        });
        asked
    }

    /// Writes what still waits, for a short while: before the process ends.
    pub fn flush_all(&mut self) {
        let end = Instant::now() + Duration::from_millis(500);
        for client in &mut self.clients {
            while client.connection.flush().is_ok()
                && client.connection.wants_write()
                && let Some(left) = end.checked_duration_since(Instant::now())
                && client.connection.wait(Some(left)).is_ok()
            {}
        }
    }
}

/// The next thing that a client asks.
fn take(client: &mut Client) -> Result<Option<Request>, ConnectionError> {
    if client.gone {
        return Err(ConnectionError::Closed);
    }
    client.connection.flush()?;
    client.connection.receive()?;
    let Some((request, _)) = client.connection.next_message::<Request>()? else { return Ok(None) };
    if client.doing != Doing::Nothing && !matches!(request, Request::Signal(_)) {
        client.answer(&Reply::Failed("one thing at a time".into()));
        return Ok(None);
    }
    client.works |= request != Request::Status;
    Ok(Some(request))
}
