//! The guest's apps as the machine process hears of them: what it does not know yet it asks for, one at a time, and stores.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use inlay_protocol::catalogue::{App, Listed};
use inlay_protocol::control::Command;

use crate::apps::{Apps, Stored};
use crate::locale;

/// What is known, and what is asked for.
#[derive(Debug)]
pub struct Catalogue {
    apps: Apps,
    /// Digests of what is stored.
    known: BTreeMap<String, u64>,
    wanted: VecDeque<Listed>,
    asked: Option<Listed>,
    /// Since menus were made anew.
    changed: bool,
    /// When they may be again.
    free: Instant,
}

/// Menus are made anew at most this often, however often a guest says that its apps changed: a process of the host's does it.
const PACE: Duration = Duration::from_secs(5);

impl Catalogue {
    /// With what an earlier run stored.
    #[must_use]
    pub fn new(apps: Apps) -> Self {
        let known = apps.each().map(|stored| (stored.app.id, stored.digest)).collect();
        Self { apps, known, wanted: VecDeque::new(), asked: None, changed: false, free: Instant::now() }
    }

    /// The first question to an agent: nothing of what another was asked will come.
    pub fn begin(&mut self) -> Command {
        self.wanted.clear();
        self.asked = None;
        Command::ListApps { locale: locale::named() }
    }

    /// The apps that there are now.
    pub fn listed(&mut self, list: Vec<Listed>) {
        let gone: Vec<String> =
            self.known.keys().filter(|id| !list.iter().any(|app| app.id == **id)).cloned().collect();
        gone.iter().for_each(|id| self.forget(id));
        self.wanted = list.into_iter().filter(|app| self.known.get(&app.id) != Some(&app.digest)).collect();
    }

    /// One of them, as it was asked for.
    pub fn told(&mut self, app: App) {
        let Some(asked) = self.asked.take_if(|asked| asked.id == app.id) else {
            return tracing::debug!("the agent tells of an app that nobody asked for");
        };
        let stored = Stored { digest: asked.digest, app };
        match self.apps.put(&stored) {
            Ok(()) => {
                self.known.insert(asked.id, asked.digest);
                self.changed = true;
            }
            Err(error) => tracing::warn!(app = asked.id, %error, "an app of the guest is not stored"),
        }
    }

    /// It went before it could be told of.
    pub fn missing(&mut self, id: &str) {
        if self.asked.take_if(|asked| asked.id == id).is_some() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &str) {
        if self.known.remove(id).is_some() {
            self.apps.remove(id);
            self.changed = true;
        }
    }

    /// What to ask next.
    pub fn question(&mut self) -> Option<Command> {
        if self.asked.is_some() {
            return None;
        }
        let next = self.wanted.pop_front()?;
        let question = Command::DescribeApp(next.id.clone());
        self.asked = Some(next);
        Some(question)
    }

    /// Whether menus have to be made anew, now that all is known and it is time to; asked once.
    pub fn take_changed(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            (self.changed, self.free) = (false, now + PACE);
        }
        due
    }

    /// When [`Catalogue::take_changed`] will say so.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let known = self.asked.is_none() && self.wanted.is_empty();
        (known && self.changed).then_some(self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Folders;
    use inlay_protocol::catalogue::Text;

    fn listed(apps: &[(&str, u64)]) -> Vec<Listed> {
        apps.iter().map(|(id, digest)| Listed { id: (*id).into(), digest: *digest }).collect()
    }

    fn app(id: &str) -> App {
        App { id: id.into(), name: Text { plain: id.into(), local: None }, ..App::default() }
    }

    fn asked(catalogue: &mut Catalogue) -> Option<String> {
        match catalogue.question()? {
            Command::DescribeApp(id) => Some(id),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_not_known_is_asked_for_and_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut apps = Apps::of(&Folders::below(dir.path()).unwrap().machine(&"m".parse().unwrap()));
        let mut catalogue = Catalogue::new(apps.clone());
        catalogue.listed(listed(&[("a", 1), ("b", 2)]));
        assert_eq!(asked(&mut catalogue).as_deref(), Some("a"));
        assert_eq!(asked(&mut catalogue), None);
        catalogue.told(app("b"));
        assert!(apps.get("b").is_none(), "not asked for");
        catalogue.told(app("a"));
        catalogue.told(app("a"));
        let soon = Instant::now();
        assert!(!catalogue.take_changed(soon), "not all is known yet");
        assert_eq!(asked(&mut catalogue).as_deref(), Some("b"));
        catalogue.missing("b");
        assert!(catalogue.take_changed(soon) && !catalogue.take_changed(soon));
        // A guest whose apps change all the time has menus made anew now and then.
        catalogue.listed(Vec::new());
        assert!(!catalogue.take_changed(soon) && catalogue.take_changed(soon + PACE));
        apps.put(&Stored { digest: 1, app: app("a") }).unwrap();
        // The next run knows it, until it is another or gone.
        let mut catalogue = Catalogue::new(apps.clone());
        catalogue.listed(listed(&[("a", 1)]));
        assert_eq!(asked(&mut catalogue), None);
        catalogue.listed(listed(&[("a", 3)]));
        assert_eq!(asked(&mut catalogue).as_deref(), Some("a"));
        assert!(matches!(catalogue.begin(), Command::ListApps { .. }));
        catalogue.listed(Vec::new());
        assert!(catalogue.take_changed(Instant::now()) && apps.all().is_empty());
    }
}
