//! vhost-user, both ends. The back end carries any [`Device`] over a Unix socket into QEMU; the front end ([`FrontEnd`]) puts a
//! device that another process serves on our own bus.
//!
//! The back end:
//! One thread per device owns everything: it waits for the front end's messages, the rings' kicks, the device's host
//! source and the handle's stop. The device needs no lock. The thread ends when the front end disconnects (QEMU ended),
//! when it breaks the protocol, or when the handle is dropped; the device is reset then, so its observers learn that
//! everything is gone.
//!
//! The crate `vhost` speaks the messages. Its companion `vhost-user-backend` is not used: its worker threads need a
//! lock around the device, and end silently on the first error.

mod backend;
mod front_end;
mod memory;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

pub use self::front_end::{FrontEnd, FrontEndConfig};
pub use self::memory::{MemoryObserver, RamRegion};
use crate::confine;
use crate::virtio::{Device, Wake};
use backend::Backend;

/// Why a device could not be offered.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// The socket could not be made.
    #[error("cannot listen on {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A ring could not be made: the device states an impossible queue size.
    #[error("cannot make the device's queues")]
    Queues(#[from] crate::virtio::QueueError),
    /// The thread or its descriptors could not be made.
    #[error("cannot start the device's thread")]
    Start(#[source] io::Error),
}

/// A device that is offered on, or connected through, a vhost-user socket. Dropping it ends the device.
#[derive(Debug)]
pub struct VhostUser {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl VhostUser {
    /// Listens on `path` and serves `device` to the first front end that connects. On return the socket exists.
    ///
    /// `memory` learns of guest RAM each time it changes. An old socket file at `path` is replaced. The socket's folder
    /// must be private to the user: who connects first is the front end.
    ///
    /// # Errors
    /// When the socket, the queues or the thread cannot be made.
    pub fn spawn(
        device: Box<dyn Device>,
        path: &Path,
        memory: Option<Box<dyn MemoryObserver>>,
    ) -> Result<Self, VhostUserError> {
        Self::serve(device, listen(path)?, path, memory, confine::Thread::Device)
    }

    /// The same on a socket that listens at `path` already ([`listen`]), by a thread of this kind.
    ///
    /// # Errors
    /// When the queues or the thread cannot be made.
    pub fn serve(
        device: Box<dyn Device>,
        listener: UnixListener,
        path: &Path,
        memory: Option<Box<dyn MemoryObserver>>,
        kind: confine::Thread,
    ) -> Result<Self, VhostUserError> {
        let backend = Backend::new(device, memory)?;
        let start = |e: rustix::io::Errno| VhostUserError::Start(e.into());
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(start)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(start)?;
        watch(&epoll, stop.as_fd(), Token::Stop).map_err(start)?;
        let mut worker = Worker { backend: Arc::new(Mutex::new(backend)), epoll };
        let name = path.file_stem().map_or_else(|| "vhost-user".into(), |n| n.to_string_lossy().into_owned());
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                confine::here(kind);
                worker.run(&name, listener);
            })
            .map_err(VhostUserError::Start)?;
        Ok(Self { stop, thread: Some(thread), path: path.to_owned() })
    }

    /// Whether the device's thread has ended: the front end is gone.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Listens for a front end. An old socket file at `path` is replaced.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, VhostUserError> {
    let failed = |source| VhostUserError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Drop for VhostUser {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.stop, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "cannot stop a device");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "a device's thread panicked");
        }
        // Gone already when a front end had connected.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What the thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Stop,
    Listener,
    FrontEnd,
    Host,
    Kick(u32),
}

impl Token {
    fn to_data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Stop => 0,
            Self::Listener => 1,
            Self::FrontEnd => 2,
            Self::Host => 3,
            Self::Kick(queue) => 4 + u64::from(queue),
        })
    }

    fn from_data(data: epoll::EventData) -> Self {
        match data.u64() {
            0 => Self::Stop,
            1 => Self::Listener,
            2 => Self::FrontEnd,
            3 => Self::Host,
            kick => Self::Kick(u32::try_from(kick - 4).unwrap_or(u32::MAX)),
        }
    }
}

fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, token: Token) -> rustix::io::Result<()> {
    epoll::add(epoll, fd, token.to_data(), epoll::EventFlags::IN)
}

/// The thread's own.
struct Worker {
    /// The mutex is what `vhost` asks for; no other thread ever takes it.
    backend: Arc<Mutex<Backend>>,
    epoll: OwnedFd,
}

/// Why the thread ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the handle was dropped")]
    Stopped,
    #[error("the front end is gone")]
    Disconnected,
    #[error("the front end broke the protocol")]
    Protocol(#[source] ProtocolError),
    #[error("cannot wait for events")]
    Wait(#[from] rustix::io::Errno),
}

impl Worker {
    fn run(&mut self, name: &str, listener: UnixListener) {
        let end = match self.accept(&listener) {
            Ok(stream) => {
                // One front end for the life of the device: a second one is refused, not left waiting.
                drop(listener);
                match self.serve(stream) {
                    Ok(never) => match never {},
                    Err(end) => end,
                }
            }
            Err(end) => end,
        };
        match &end {
            End::Stopped | End::Disconnected => tracing::debug!(device = name, %end, "device ends"),
            _ => tracing::warn!(device = name, error = &end as &dyn std::error::Error, "device ends"),
        }
        lock(&self.backend).shut_down();
    }

    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, End> {
        watch(&self.epoll, listener.as_fd(), Token::Listener)?;
        loop {
            if self.wait(true)?.contains(&Token::Stop) {
                return Err(End::Stopped);
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    epoll::delete(&self.epoll, listener)?;
                    return Ok(stream);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(End::Protocol(ProtocolError::SocketConnect(e))),
            }
        }
    }

    fn serve(&mut self, stream: UnixStream) -> Result<std::convert::Infallible, End> {
        let socket = stream.try_clone().map_err(|e| End::Protocol(ProtocolError::SocketError(e)))?;
        watch(&self.epoll, socket.as_fd(), Token::FrontEnd)?;
        let mut host_watched = false;
        let mut front_end = BackendReqHandler::from_stream(stream, Arc::clone(&self.backend));
        let mut kicks = Vec::new();
        loop {
            self.update_host(&mut host_watched)?;
            let idle = !lock(&self.backend).has_work();
            for token in self.wait(idle)? {
                match token {
                    Token::Stop => return Err(End::Stopped),
                    Token::Listener => {}
                    Token::FrontEnd => match front_end.handle_request() {
                        Ok(()) => self.update_kicks(&mut kicks)?,
                        Err(
                            ProtocolError::Disconnected
                            | ProtocolError::PartialMessage
                            | ProtocolError::SocketBroken(_),
                        ) => return Err(End::Disconnected),
                        Err(error) => return Err(End::Protocol(error)),
                    },
                    Token::Host => lock(&self.backend).work(Wake::HostSource),
                    Token::Kick(queue) => lock(&self.backend).kicked(queue),
                }
            }
            let mut backend = lock(&self.backend);
            backend.work_pending();
            backend.look_on();
        }
    }

    /// Waits for events, or only looks when there is work to do.
    fn wait(&self, idle: bool) -> Result<Vec<Token>, End> {
        let mut events = Vec::with_capacity(8);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), (!idle).then_some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().map(|e: &epoll::Event| Token::from_data(e.data)).collect())
    }

    /// Waits for the device's host source as long as the device serves it.
    fn update_host(&self, watched: &mut bool) -> Result<(), End> {
        let backend = lock(&self.backend);
        let wanted = backend.host_source().is_some();
        if let Some(source) = backend.any_host_source()
            && wanted != *watched
        {
            if wanted {
                watch(&self.epoll, source, Token::Host)?;
            } else {
                epoll::delete(&self.epoll, source)?;
            }
            *watched = wanted;
        }
        Ok(())
    }

    /// Waits for the kicks of exactly those rings that run. A kick descriptor that was dropped left epoll by itself
    /// when it was its last copy; QEMU holds another, so each is taken out by its own copy here.
    fn update_kicks(&self, kicks: &mut Vec<Option<Arc<OwnedFd>>>) -> Result<(), End> {
        let wanted = lock(&self.backend).kicks();
        kicks.resize(wanted.len(), None);
        for (index, (old, new)) in kicks.iter_mut().zip(wanted).enumerate() {
            let same = match (&old, &new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            if let Some(old) = old.take() {
                epoll::delete(&self.epoll, &old)?;
            }
            if let Some(new) = new {
                let queue = u32::try_from(index).unwrap_or(u32::MAX);
                watch(&self.epoll, new.as_fd(), Token::Kick(queue))?;
                *old = Some(new);
            }
        }
        Ok(())
    }
}

fn lock(backend: &Mutex<Backend>) -> std::sync::MutexGuard<'_, Backend> {
    backend.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("epoll", &self.epoll.as_raw_fd()).finish_non_exhaustive()
    }
}
