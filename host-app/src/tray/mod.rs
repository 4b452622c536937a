//! A machine's item in the desktop's tray (StatusNotifierItem, by ksni): its apps, its shared folders, the whole screen, pause, stop.
//!
//! ```text
//!   window loop -- Seen --> tray's thread -- Model --> ksni's threads <== D-Bus ==> the desktop's tray
//!        ^                   ^ inotify: what was opened, shared, installed          |
//!        '-- what failed ----'-------------- Inlay's own commands <-- Act ----------'
//! ```
//!
//! It is in the window process, which has the desktop: the machine process is kept from it. So a machine that was never shown on a desktop
//! (started in the background, or without a display) has none until something of it is opened: nothing that the item does could be shown
//! before. It goes with the window process. What is chosen becomes one of Inlay's own commands, as if the user had typed it, so that the
//! item can do no more and no less than these.
//!
//! Without a session bus, or a tray on it, nothing happens; a tray that comes later finds it.

mod acts;
mod icon;
mod item;
mod model;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use inlay_protocol::memory::State;
use ksni::blocking::{Handle, TrayMethods as _};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;

use self::acts::Acts;
use self::item::Item;
use self::model::Model;
use crate::config::Border;
use crate::paths::{Folders, MachineName};

/// A tray that is there but refuses the item is asked again after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// What changes comes in swarms, when a guest's apps are told; and a guest's agent may come and go as fast as it likes.
const SETTLE: Duration = Duration::from_millis(100);

/// What the window loop knows of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What it does.
    pub state: State,
    /// Whether the windows of its apps are all in one.
    pub together: bool,
}

/// Wakes a loop.
#[derive(Debug, Clone)]
struct Bell(Arc<OwnedFd>);

impl Bell {
    fn new() -> rustix::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    fn ring(&self) {
        // Fails only when it rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn silence(&self) {
        // It may be silent.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// What went wrong, for the user.
#[derive(Debug, Clone)]
struct Said {
    texts: Arc<Mutex<Vec<String>>>,
    bell: Bell,
}

impl Said {
    fn say(&self, text: String) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        self.bell.ring();
    }
}

/// What the window loop says last.
#[derive(Debug, Default)]
struct News {
    seen: Option<Seen>,
    over: bool,
}

/// The window loop's end.
#[derive(Debug)]
pub struct Tray {
    news: Arc<Mutex<News>>,
    bell: Bell,
    told: Option<Seen>,
    said: Said,
}

impl Tray {
    /// Starts the thread that looks after it, which ends with this; the item has this colour, or the one of the machine's name.
    #[must_use]
    pub fn start(folders: Folders, name: MachineName, colour: Option<[u8; 3]>) -> Option<Self> {
        let started = || -> std::io::Result<Self> {
            let news = Arc::<Mutex<News>>::default();
            let bell = Bell::new()?;
            let said = Said { texts: Arc::default(), bell: Bell::new()? };
            let colour = colour.or(Border::Auto.colour(name.as_str())).unwrap_or_default();
            let (told, rung) = (news.clone(), bell.clone());
            let keeper = Keeper { folders, name, colour, news: told, bell: rung, said: said.clone() };
            std::thread::Builder::new().name("tray".into()).spawn(move || keeper.run())?;
            Ok(Self { news, bell, told: None, said })
        };
        started().inspect_err(|error| tracing::warn!("no item in the desktop's tray: {error}")).ok()
    }

    /// Says what is to be shown.
    pub fn tell(&mut self, seen: Seen) {
        if self.told.replace(seen) != Some(seen) {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).seen = Some(seen);
            self.bell.ring();
        }
    }

    /// Readable when something went wrong that the user is to be told.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.said.bell.0.as_fd()
    }

    /// What went wrong.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.bell.silence();
        std::mem::take(&mut *self.said.texts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.bell.ring();
    }
}

/// The thread.
#[derive(Debug)]
struct Keeper {
    folders: Folders,
    name: MachineName,
    colour: [u8; 3],
    news: Arc<Mutex<News>>,
    bell: Bell,
    said: Said,
}

/// The window loop is gone.
#[derive(Debug)]
struct Over;

impl Keeper {
    fn run(self) {
        // Nothing is shown before it is known what.
        let mut seen = loop {
            match self.newest() {
                Ok(Some(seen)) => break seen,
                Ok(None) => self.wait(None, None),
                Err(Over) => return,
            }
        };
        let watch = self.watch();
        let mut handle: Option<Handle<Item>> = None;
        loop {
            let model = Model::read(&self.folders, &self.name, seen);
            let deadline = match &handle {
                Some(handle) => {
                    // Gone with its bus.
                    if handle.update(|item| item.show(model)).is_none() {
                        return tracing::debug!("the session bus is gone");
                    }
                    None
                }
                None => match self.register(model) {
                    Ok(made) => {
                        handle = Some(made);
                        None
                    }
                    Err(ksni::Error::Dbus(error)) => {
                        return tracing::debug!(%error, "no session bus: no item in a tray");
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the desktop's tray does not take the item");
                        Some(Instant::now() + AGAIN)
                    }
                },
            };
            self.wait(watch.as_ref(), deadline);
            match self.newest() {
                Ok(newest) => seen = newest.unwrap_or(seen),
                Err(Over) => return handle.iter().for_each(|handle| handle.shutdown().wait()),
            }
        }
    }

    fn register(&self, model: Model) -> Result<Handle<Item>, ksni::Error> {
        let acts = Acts::new(&self.name, self.said.clone());
        let item = Item::new(self.name.clone(), self.colour, model, acts);
        // A tray that is not there may come.
        item.assume_sni_available(true).spawn()
    }

    /// Tells when lists of what was opened and shared are replaced, and when an app is told.
    fn watch(&self) -> Option<OwnedFd> {
        let files = [self.folders.recent(&self.name), self.folders.shares(&self.name)];
        let apps = self.folders.machine(&self.name).data().join("apps");
        let folders = files.iter().filter_map(|file| file.parent()).chain([apps.as_path()]);
        let made = || -> std::io::Result<OwnedFd> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let what = inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::CLOSE_WRITE
                | inotify::WatchFlags::DELETE;
            for folder in folders {
                std::fs::create_dir_all(folder)?;
                inotify::add_watch(&fd, folder, what)?;
            }
            Ok(fd)
        };
        made().inspect_err(|error| tracing::warn!("the tray's menu does not follow changes: {error}")).ok()
    }

    /// What the window loop said last.
    fn newest(&self) -> Result<Option<Seen>, Over> {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.over { Err(Over) } else { Ok(news.seen) }
    }

    /// Waits until something is to be shown anew.
    fn wait(&self, watch: Option<&OwnedFd>, deadline: Option<Instant>) {
        let mut fds = vec![PollFd::new(&self.bell.0, PollFlags::IN)];
        fds.extend(watch.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: left.subsec_nanos().into(),
        });
        // Interrupted or not: it is looked at again.
        let _ = poll(&mut fds, left.as_ref());
        std::thread::sleep(SETTLE);
        if let Some(watch) = watch {
            while rustix::io::read(watch, &mut [0_u8; 4096]).is_ok_and(|bytes| bytes > 0) {}
        }
        self.bell.silence();
    }
}
