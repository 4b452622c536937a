//! Whether something may cross between guest and host: what the user said, and questions where that is "ask".
//!
//! One question at a time; what else wants the same waits for its answer. After a "no" the guest is not heard for a while, the longer
//! the more often it happens: a guest that asks without end gets one question and a pause.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify;

use crate::permissions::{Permissions, Resource, Verdict};

/// The first pause after a "no", which doubles with each, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What the user answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Not now: also where the question was closed.
    No,
    /// This once.
    Once,
    /// Now and later.
    Always,
    /// Neither now nor later.
    Never,
}

/// Whether something may cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Yes,
    /// It may not.
    No,
    /// The user has to be asked.
    Ask,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Its number, for the answer.
    pub number: u64,
    /// What it is about.
    pub resource: Resource,
    /// The copy that it is about.
    pub serial: u64,
}

/// The gate of one machine.
#[derive(Debug)]
pub struct Gate {
    file: Option<PathBuf>,
    permissions: Permissions,
    watch: Option<OwnedFd>,
    open: Option<Question>,
    asked: u64,
    /// Until when the user is not asked, and how often that was said in a row.
    pauses: HashMap<Resource, (Instant, u32)>,
    /// What was allowed once.
    granted: Vec<(Resource, u64)>,
}

impl Gate {
    /// The gate that this file describes; without one everything may pass.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        let watch = file.as_deref().and_then(watch);
        let mut gate = Self {
            file,
            permissions: Permissions::all(Verdict::Always),
            watch,
            open: None,
            asked: 0,
            pauses: HashMap::new(),
            granted: Vec::new(),
        };
        gate.read();
        gate
    }

    /// What to wait for: somebody changed the file.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|fd| fd.as_fd())
    }

    /// Reads the file again if it changed; whether something is different now.
    pub fn turn(&mut self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let mut bytes = [0; 4096];
        let mut changed = false;
        while matches!(rustix::io::read(watch, &mut bytes), Ok(count) if count > 0) {
            changed = true;
        }
        changed && self.read()
    }

    fn read(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        let new = Permissions::read(file).unwrap_or_else(|error| {
            // Nobody knows what the user wants: nothing passes.
            tracing::error!("{error}: nothing may be exchanged until then");
            Permissions::all(Verdict::Never)
        });
        std::mem::replace(&mut self.permissions, new.clone()) != new
    }

    /// Whether the data of this offer may cross now.
    #[must_use]
    pub fn pass(&self, resource: Resource, serial: u64) -> Pass {
        match self.permissions.get(resource) {
            Verdict::Always => Pass::Yes,
            Verdict::Never => Pass::No,
            Verdict::Ask if self.granted.contains(&(resource, serial)) => Pass::Yes,
            Verdict::Ask => Pass::Ask,
        }
    }

    /// Begins to ask; none while another question is open, or after a "no".
    pub fn ask(&mut self, resource: Resource, serial: u64) -> Option<Question> {
        let now = Instant::now();
        if self.open.is_some() || self.pauses.get(&resource).is_some_and(|(until, _)| *until > now) {
            return None;
        }
        self.asked += 1;
        self.open = Some(Question { number: self.asked, resource, serial });
        self.open
    }

    /// The question that is open.
    #[must_use]
    pub fn open(&self) -> Option<Question> {
        self.open
    }

    /// The user answered; the question, unless it is another by now.
    pub fn answered(&mut self, number: u64, answer: Answer) -> Option<Question> {
        let question = self.open.take_if(|q| q.number == number)?;
        let Question { resource, serial, .. } = question;
        let verdict = match answer {
            Answer::No => {
                let (_, times) = self.pauses.get(&resource).copied().unwrap_or((Instant::now(), 0));
                let pause = PAUSE.0.saturating_mul(2_u32.saturating_pow(times)).min(PAUSE.1);
                self.pauses.insert(resource, (Instant::now() + pause, times + 1));
                return Some(question);
            }
            Answer::Once => {
                self.pauses.remove(&resource);
                self.grant(resource, serial);
                return Some(question);
            }
            Answer::Always => Verdict::Always,
            Answer::Never => Verdict::Never,
        };
        self.pauses.remove(&resource);
        self.remember(resource, verdict);
        Some(question)
    }

    /// Allows this once.
    pub fn grant(&mut self, resource: Resource, serial: u64) {
        // Only the newest are ever asked about.
        self.granted.truncate(3);
        self.granted.insert(0, (resource, serial));
    }

    fn remember(&mut self, resource: Resource, verdict: Verdict) {
        self.permissions.set(resource, verdict);
        let Some(file) = &self.file else { return };
        // Others may have changed it meanwhile.
        let written = Permissions::read(file).and_then(|mut newest| {
            newest.set(resource, verdict);
            newest.write(file)
        });
        if let Err(error) = written {
            tracing::error!("your answer counts until the machine's windows end only: {error}");
        }
    }

    /// The agent is gone: what was allowed once was for it, and a question that is open counts as answered with "no".
    pub fn forget(&mut self) {
        self.granted.clear();
        if let Some(question) = self.open {
            self.answered(question.number, Answer::No);
        }
    }
}

/// Tells when a file is replaced.
fn watch(file: &Path) -> Option<OwnedFd> {
    let folder = file.parent()?;
    let made = std::fs::create_dir_all(folder).map_err(anyhow::Error::from).and_then(|()| {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let what =
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::DELETE;
        inotify::add_watch(&fd, folder, what)?;
        Ok(fd)
    });
    made.inspect_err(|error| {
        tracing::error!("changes of permissions count from the next start only: {error:#}")
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Kind, Way};

    const TEXT: Resource = Resource::Clipboard(Way::In, Kind::Text);

    #[test]
    fn one_question_then_a_pause_that_grows() {
        let folder = tempfile::tempdir().unwrap();
        let mut gate = Gate::new(Some(folder.path().join("m.toml")));
        assert_eq!(gate.pass(TEXT, 1), Pass::Ask);
        let question = gate.ask(TEXT, 1).unwrap();
        assert!((0..1000).all(|_| gate.ask(TEXT, 1).is_none()), "one at a time");
        assert_eq!(gate.answered(question.number + 1, Answer::Always), None);
        assert_eq!(gate.answered(question.number, Answer::No), Some(question));
        assert!((0..1000).all(|n| gate.ask(TEXT, n).is_none()), "a pause");
        assert_eq!(gate.pass(TEXT, 1), Pass::Ask);
        let left = |gate: &Gate| gate.pauses[&TEXT].0.saturating_duration_since(Instant::now());
        let first = left(&gate);
        gate.pauses.get_mut(&TEXT).unwrap().0 = Instant::now();
        let again = gate.ask(TEXT, 2).unwrap();
        gate.answered(again.number, Answer::No);
        assert!(left(&gate) > first + PAUSE.0 / 2);
        // Another resource is another matter.
        assert!(gate.ask(Resource::Clipboard(Way::Out, Kind::Text), 1).is_some());
    }

    #[test]
    fn once_is_for_that_offer_and_always_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.toml");
        let mut gate = Gate::new(Some(file.clone()));
        let question = gate.ask(TEXT, 7).unwrap();
        gate.answered(question.number, Answer::Once);
        assert_eq!([gate.pass(TEXT, 7), gate.pass(TEXT, 8)], [Pass::Yes, Pass::Ask]);
        let question = gate.ask(TEXT, 8).unwrap();
        gate.answered(question.number, Answer::Always);
        assert_eq!(gate.pass(TEXT, 9), Pass::Yes);
        assert_eq!(Gate::new(Some(file.clone())).pass(TEXT, 1), Pass::Yes);
        // Somebody changes the file.
        let mut permissions = Permissions::read(&file).unwrap();
        permissions.set(TEXT, Verdict::Never);
        permissions.write(&file).unwrap();
        assert!(gate.turn());
        assert_eq!(gate.pass(TEXT, 7), Pass::No);
        // And breaks it.
        std::fs::write(&file, "nonsense").unwrap();
        gate.turn();
        assert_eq!(gate.pass(Resource::Clipboard(Way::Out, Kind::Other), 7), Pass::No);
    }
}
