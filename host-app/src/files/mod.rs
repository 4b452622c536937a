//! The file server's process: `inlay files NAME`. It begins as the user, takes what the list of shared folders names, goes into its
//! jail, and serves the guest from there until the machine process is gone.
//!
//! ```text
//!  guest's kernel --virtio-fs--> engine --vhost-user--> this process --system calls--> mounts without a place
//!  inlay share ------------------- files.sock, with a mount --^
//! ```

mod control;
pub mod copies;
pub mod hold;
pub mod lists;
pub mod open;

use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use inlay_file_server::jail::{Namespaces, most_descriptors};
use inlay_file_server::{Message, Owner, Refused, Server, Share};
use inlay_protocol::connection::{Connection, ConnectionError};
use inlay_vmm_core::confine;
use inlay_vmm_core::devices::fs::{self, Fs, Request};
use inlay_vmm_core::transport::vhost_user::{VhostUser, listen};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use self::control::{Answer, PATIENCE};
pub use self::control::{Ask, FilesClient, FilesError};
use crate::machine::Sockets;
use crate::machine::door::chain;
use crate::paths::{Folders, MachineName};
use crate::shares::{SharedFolder, Shares};

/// What the guest mounts.
pub const TAG: &str = "inlay";
/// What an imported guest mounts for its agent.
pub const AGENT_TAG: &str = "inlay-agent";
/// What it finds there, beside nothing.
pub const AGENT_NAME: &str = "agent";
/// The guest's user, in whose name apps run.
const GUEST_USER: (u32, u32) = (1000, 1000);

/// What a file server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The folders that the user shares.
    Shares,
    /// What an imported guest gets of us: one folder, to be read.
    Agent,
}

/// A server that the device's thread and the control socket share.
#[derive(Clone)]
struct Shared(Arc<Mutex<Server>>);

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Server) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request of the device as one of the server.
struct Carried<'a, 'b>(&'a mut Request<'b>);

impl Message for Carried<'_, '_> {
    fn left(&self) -> usize {
        self.0.left()
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.0.read(out).map_err(io::Error::other)
    }

    fn room(&self) -> usize {
        self.0.room()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes).map_err(io::Error::other)
    }

    fn write_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize) -> io::Result<usize> {
        self.0.write_file(file, at, length)
    }

    fn read_file(&mut self, file: BorrowedFd<'_>, at: u64, length: usize, skip: usize) -> io::Result<usize> {
        self.0.read_file(file, at, length, skip)
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }
}

impl fs::Server for Shared {
    fn serve(&mut self, request: &mut Request<'_>) {
        self.with(|server| server.serve(&mut Carried(request)));
    }

    fn reset(&mut self) {
        self.with(Server::reset);
    }
}

/// Serves a machine's shared folders. Must be called on the main thread of a process that has no other.
///
/// `ready` is called when the guest's end can connect, with what the user should know, if there is something. Ends when standard input
/// does, which is the machine process's.
///
/// # Errors
/// The list, the sockets or the jail.
pub fn serve(
    folders: &Folders,
    name: &MachineName,
    serves: Serves,
    ready: impl FnOnce(Option<&str>),
) -> anyhow::Result<()> {
    let paths = folders.machine(name);
    let sockets = Sockets::new(paths.runtime());
    let (shared, hidden, socket, tag) = match serves {
        Serves::Shares => {
            let list = Shares::read(&folders.shares(name))?;
            (list.iter().cloned().collect(), folders.own(), sockets.vhost_files(), TAG)
        }
        // It is our own, and nothing else is served.
        Serves::Agent => {
            let path = paths.agent_folder().canonicalize().context("the agent's folder")?;
            let folder = SharedFolder { name: AGENT_NAME.into(), path, read_only: true };
            (vec![folder], Vec::new(), sockets.vhost_agent(), AGENT_TAG)
        }
    };
    let device_socket = listen(&socket)?;
    let control = (serves == Serves::Shares).then(|| listen(&sockets.files())).transpose()?;
    let namespaces = Namespaces::enter(&hidden)?;
    let mut server = Server::new(Owner::new(GUEST_USER), most_descriptors());
    let mut notes = Vec::new();
    for folder in &shared {
        // As when it was added, it must be a folder, and what it is called after.
        let real = folder.path.canonicalize().is_ok_and(|real| real == folder.path);
        let held = if real && folder.path.is_dir() {
            namespaces.hold(&folder.path, folder.read_only).map_err(|error| chain(&error))
        } else {
            Err(format!("{} is not there any more, or another folder", folder.path.display()))
        };
        let added = held.and_then(|root| {
            let share = Share {
                name: folder.name.clone().into_bytes(),
                root,
                read_only: folder.read_only,
                granted: false,
            };
            server.add(share).map(drop).map_err(|why| words(why, &folder.name))
        });
        if let Err(why) = added {
            tracing::warn!("a folder is not shared: {why}");
            notes.push(why);
        }
    }
    namespaces.close()?;
    let shared = Shared(Arc::new(Mutex::new(server)));
    let device = Fs::new(tag, shared.clone()).map_err(anyhow::Error::msg)?;
    let device = VhostUser::serve(Box::new(device), device_socket, &socket, None, confine::Thread::Files)?;
    ready((!notes.is_empty()).then(|| notes.join("; ")).as_deref());
    confine::here(confine::Thread::Files);
    let end = listen_to_user(control.as_ref(), &shared);
    // What it has to remove is outside of the jail.
    std::mem::forget(device);
    end.context("the file server cannot wait")
}

fn listen_to_user(control: Option<&UnixListener>, shared: &Shared) -> io::Result<()> {
    let input = io::stdin();
    loop {
        let listens = control.map(|control| PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN));
        let mut fds: Vec<_> = [PollFd::new(&input, PollFlags::IN)].into_iter().chain(listens).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut came = fds.iter().map(|fd| !fd.revents().is_empty());
        if came.next() == Some(true) {
            // Nothing is ever said there.
            return Ok(());
        }
        let (Some(true), Some(control)) = (came.next(), control) else { continue };
        match control.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream.into(), shared) {
                    tracing::warn!(error = %chain(&error), "who asked the file server something is gone");
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Answers the questions of one of the user's programs, until it goes or is silent for too long: there are others.
fn answer(stream: OwnedFd, shared: &Shared) -> Result<(), ConnectionError> {
    let mut connection = Connection::new(stream)?;
    loop {
        match connection.wait_message::<Ask>(Some(PATIENCE)) {
            Ok(Some((ask, fds))) => {
                connection.queue(&act(ask, fds.into_iter().next(), shared))?;
                connection.flush()?;
            }
            Ok(None) | Err(ConnectionError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn act(ask: Ask, root: Option<OwnedFd>, shared: &Shared) -> Answer {
    let done = match (ask, root) {
        (Ask::Share { name, read_only }, Some(root)) => share(shared, name, root, read_only),
        (Ask::Grant { name, read_only }, Some(root)) => {
            let grant = Share { name, root, read_only, granted: true };
            return match shared.with(|server| server.grant(grant)) {
                Ok(id) => Answer::Granted(id.0),
                Err(error) => Answer::Refused(error.to_string()),
            };
        }
        (Ask::Share { .. } | Ask::Grant { .. }, None) => Err("nothing came with it".into()),
        (Ask::Remove(name), _) => {
            let gone = shared.with(|server| server.by_name(name.as_bytes()).and_then(|id| server.remove(id)));
            if gone.is_some() { Ok(()) } else { Err(format!("the guest sees no folder {name:?}")) }
        }
    };
    done.map_or_else(Answer::Refused, |()| Answer::Done)
}

fn share(shared: &Shared, name: String, root: OwnedFd, read_only: bool) -> Result<(), String> {
    shared.with(|server| match server.by_name(name.as_bytes()) {
        Some(id) => server.change(id, root, read_only).map_err(|error| format!("{name:?}: {error}")),
        None => {
            let share = Share { name: name.clone().into_bytes(), root, read_only, granted: false };
            server.add(share).map(drop).map_err(|why| words(why, &name))
        }
    })
}

fn words(why: Refused, name: &str) -> String {
    match why {
        Refused::Taken => format!("another folder is shared as {name:?}"),
        Refused::Name => format!("{name:?} cannot be the name of a shared folder"),
        Refused::TooMany => "too many folders are shared".into(),
    }
}
