//! The guest's apps, as desktop files tell of them, for the host's menus (`inlay_protocol::catalogue`).
//!
//! Everything that reads files is on a thread of its own, which begins when the host asks and steps back behind all else that runs: the
//! loop never waits for a disk, and a start of the guest does not wait for this.

mod command;
mod entry;
mod folders;
pub mod icons;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use inlay_protocol::catalogue::{App, Listed};
use inlay_protocol::control::{LaunchError, Program, Report};
use inlay_protocol::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::reexports::calloop::channel::{self, Event};

use self::command::Field;
use self::entry::{Entry, Locale};
use self::folders::{Changes, DataFolders};
use self::icons::Icons;
use crate::agent::Agent;
use crate::{apps, spawn};

/// A package is installed in many steps: this long nothing must have changed,
const QUIET: Duration = Duration::from_secs(2);
/// or this long something has.
const IMPATIENT: Duration = Duration::from_secs(15);
/// Terminals that show an app which needs one.
const TERMINALS: [&str; 3] = ["x-terminal-emulator", "foot", "xterm"];

/// What the thread is asked.
#[derive(Debug)]
pub enum Ask {
    /// Tell which apps there are, now and after changes.
    List(String),
    /// Tell all of one.
    Describe(String),
    /// Find the program of one.
    Open(Open),
}

/// An app to be opened: [`inlay_protocol::control::Command::Open`].
#[derive(Debug)]
pub struct Open {
    /// Of the launch.
    pub id: u64,
    /// Which.
    pub app: String,
    /// One of its actions.
    pub action: Option<String>,
    /// What to open with it.
    pub uris: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
}

/// What the thread answers.
#[derive(Debug)]
enum Answer {
    Report(Report),
    Program(u64, Result<Program, LaunchError>),
}

/// The loop's end of the thread.
#[derive(Debug, Default)]
pub struct Catalogue(Option<(mpsc::Sender<Ask>, UnixStream)>);

/// Asks the thread; it is started with the first question.
pub fn ask(agent: &mut Agent, ask: Ask) {
    if agent.catalogue.0.is_none() {
        match start(agent) {
            Ok(started) => agent.catalogue.0 = Some(started),
            Err(error) => return tracing::error!(%error, "the guest's apps cannot be looked for"),
        }
    }
    if let Some((asks, wake)) = &mut agent.catalogue.0 {
        // It lives as long as the agent does.
        let _ = asks.send(ask);
        let _ = wake.write_all(&[0]);
    }
}

fn start(agent: &Agent) -> anyhow::Result<(mpsc::Sender<Ask>, UnixStream)> {
    let (asks, asked) = mpsc::channel();
    let (answers, answered) = channel::channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let inserted = agent.loop_handle.insert_source(answered, |event, (), agent| match event {
        Event::Msg(Answer::Report(report)) => agent.report(&report),
        Event::Msg(Answer::Program(id, Ok(program))) => apps::launch(agent, id, program),
        Event::Msg(Answer::Program(id, Err(error))) => apps::failed(agent, id, error),
        Event::Closed => tracing::error!("the thread that looks for apps has ended"),
    });
    inserted.map_err(|error| anyhow::anyhow!("{error}"))?;
    let thread = Thread { data: DataFolders::from_env(), asked, answers, locale: None, told: None };
    std::thread::Builder::new().name("catalogue".into()).spawn(move || thread.run(&woken))?;
    Ok((asks, wake))
}

struct Thread {
    data: DataFolders,
    asked: mpsc::Receiver<Ask>,
    answers: channel::Sender<Answer>,
    /// Once the host wants the list.
    locale: Option<Locale>,
    /// The list that the host has.
    told: Option<Vec<Listed>>,
}

/// An app that menus show.
struct Found {
    entry: Entry,
    /// Changes with its desktop file.
    digest: u64,
    icon: Option<String>,
}

impl Thread {
    fn run(mut self, woken: &UnixStream) {
        // Of this thread alone, on Linux. It is no harm where it cannot be had.
        let _ = rustix::process::nice(10);
        let mut changes: Option<Changes> = None;
        let mut changed: Option<(Instant, Instant)> = None;
        loop {
            let mut bytes = [0; 64];
            while matches!(rustix::io::read(woken, &mut bytes), Ok(count) if count > 0) {}
            loop {
                match self.asked.try_recv() {
                    Ok(Ask::List(locale)) => {
                        self.locale = Some(Locale::new(&locale));
                        self.told = None;
                        changed = Some((Instant::now(), Instant::now()));
                    }
                    Ok(Ask::Describe(id)) => self.describe(&id),
                    Ok(Ask::Open(open)) => {
                        let answer = Answer::Program(open.id, self.program(&open));
                        let _ = self.answers.send(answer);
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            let now = Instant::now();
            if changes.as_ref().is_some_and(Changes::take) {
                let since = changed.map_or(now, |(since, _)| since);
                changed = Some((since, (now + QUIET).min(since + IMPATIENT)));
            }
            if changed.is_some_and(|(_, due)| due <= now) {
                // Watched before it is read: what changes meanwhile is seen.
                changes = Changes::watch(&self.data)
                    .inspect_err(
                        |error| tracing::warn!(%error, "changes of the guest's apps are not noticed"),
                    )
                    .ok();
                changed = None;
                self.list();
            }
            wait(woken, changes.as_ref(), changed.map(|(_, due)| due));
        }
    }

    /// Tells which apps there are, if that is news.
    fn list(&mut self) {
        let Some(locale) = &self.locale else { return };
        let list = list(&self.data, locale);
        if self.told.as_ref() != Some(&list) {
            tracing::info!(apps = list.len(), "apps for the host's menus");
            self.told = Some(list.clone());
            let _ = self.answers.send(Answer::Report(Report::Apps(list)));
        }
    }

    fn one(&self, id: &str) -> Option<(PathBuf, Found)> {
        let path = self.data.desktop_files().remove(id)?;
        let found = found(&path)?;
        Some((path, found))
    }

    fn describe(&self, id: &str) {
        let answer =
            self.all_of(id).map_or_else(|| Report::NoApp(id.to_owned()), |app| Report::App(Box::new(app)));
        let _ = self.answers.send(Answer::Report(answer));
    }

    fn all_of(&self, id: &str) -> Option<App> {
        let (_, found) = self.one(id)?;
        let mut app = found.entry.describe(id, self.locale.as_ref()?)?;
        if let Some(icon) = found.icon {
            app.icons = Icons::find(&self.data, &HashSet::from([icon.clone()])).load(&icon);
        }
        Some(app)
    }

    /// The program that opens an app.
    fn program(&self, open: &Open) -> Result<Program, LaunchError> {
        let no_app = || LaunchError::NoApp(open.app.clone());
        let (path, found) = self.one(&open.app).ok_or_else(no_app)?;
        let exec = found.entry.exec(open.action.as_deref()).ok_or_else(|| match &open.action {
            Some(action) => LaunchError::Other(format!("{} has no action {action}", open.app)),
            None => no_app(),
        })?;
        let name = found.entry.describe(&open.app, &self.locale.clone().unwrap_or_default());
        let field = Field {
            uris: &open.uris,
            name: name.as_ref().map(|app| app.name.shown()).unwrap_or_default(),
            icon: found.icon.as_deref(),
            file: &path.to_string_lossy(),
        };
        let mut argv = command::expand(&exec, &field)
            .map_err(|error| LaunchError::Other(format!("{}: {error}", open.app)))?;
        if found.entry.needs_terminal() {
            let terminal = terminal().ok_or_else(|| LaunchError::NotFound("a terminal".into()))?;
            argv.splice(0..0, [terminal.to_owned(), "-e".to_owned()]);
        }
        Ok(Program { argv, env: open.env.clone(), directory: found.entry.string("Path") })
    }
}

/// The apps that menus show. Of each no more is kept than its line and the name of its icon: there may be many, with long files.
fn list(data: &DataFolders, locale: &Locale) -> Vec<Listed> {
    let files = data.desktop_files().into_iter();
    let mut apps = files.filter_map(|(id, path)| {
        let Found { digest, icon, .. } = found(&path)?;
        Some((id, digest, icon))
    });
    let first: Vec<(String, u64, Option<String>)> = apps.by_ref().take(limits::APPS).collect();
    if apps.next().is_some() {
        tracing::warn!(most = limits::APPS, "the host is not told of all apps");
    }
    let wanted = first.iter().filter_map(|(_, _, icon)| icon.clone()).collect();
    let icons = Icons::find(data, &wanted);
    let listed = first.into_iter().map(|(id, digest, icon)| {
        let mut hasher = DefaultHasher::new();
        // What is told of an app may change with the agent.
        (env!("CARGO_PKG_VERSION"), digest, format!("{locale:?}")).hash(&mut hasher);
        if let Some(icon) = &icon {
            icons.stamp(icon, &mut hasher);
        }
        Listed { id, digest: hasher.finish() }
    });
    listed.collect()
}

/// An app that menus show and that can be started.
fn found(path: &Path) -> Option<Found> {
    let text = folders::read_text(path)?;
    let entry = Entry::parse(&text);
    let there = |program: &str| spawn::is_there(program);
    let program = entry.exec(None).and_then(|exec| command::program(&exec));
    let usable = entry.is_for_menus()
        && program.is_some_and(|program| there(&program))
        && entry.string("TryExec").is_none_or(|program| there(&program))
        && (!entry.needs_terminal() || terminal().is_some());
    let icon = entry.string("Icon").map(|icon| icons::name(&icon).to_owned());
    let icon = icon.filter(|icon| icon.len() < limits::PATH);
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    usable.then_some(Found { entry, digest: hasher.finish(), icon })
}

fn terminal() -> Option<&'static str> {
    TERMINALS.into_iter().find(|terminal| spawn::is_there(terminal))
}

fn wait(woken: &UnixStream, changes: Option<&Changes>, due: Option<Instant>) {
    let mut fds = vec![PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN)];
    // While a change settles it is enough to look at the end, and now and then.
    fds.extend(changes.map(|changes| PollFd::from_borrowed_fd(changes.as_fd(), PollFlags::IN)));
    let limit = due.map(|due| due.saturating_duration_since(Instant::now()));
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let _ = poll(&mut fds, limit.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set where this test is the process whose memory is looked at.
    const FOLDER: &str = "INLAY_TEST_FOLDER";
    /// What the agent may need at most for the list, in MiB; the files have 200.
    const MOST: u64 = 40;

    /// The most memory that this process had so far, in MiB.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    }

    #[test]
    fn a_hundred_thousand_apps_are_no_more_than_the_host_takes_in_bounded_memory() {
        if let Some(folder) = std::env::var_os(FOLDER) {
            let data = DataFolders::of(&[Path::new(&folder)]);
            let before = peak();
            let listed = list(&data, &Locale::default());
            assert_eq!(listed.len(), limits::APPS);
            let needed = peak() - before;
            assert!(needed < MOST, "{needed} MiB");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let apps = dir.path().join("applications");
        std::fs::create_dir(&apps).unwrap();
        let entry = "[Desktop Entry]\nType=Application\nName=App\nExec=sh\nIcon=app\n";
        let first = apps.join("a.desktop");
        std::fs::write(&first, format!("{entry}# {}", "x".repeat(100 * 1024))).unwrap();
        // One file by many names, as many as file systems give one.
        let mut file = first;
        for n in 0..100_000_u32 {
            let name = apps.join(format!("{n:06}.desktop"));
            if std::fs::hard_link(&file, &name).is_err() {
                std::fs::copy(&file, &name).unwrap();
                file = name;
            }
        }
        let own =
            "catalogue::tests::a_hundred_thousand_apps_are_no_more_than_the_host_takes_in_bounded_memory";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", own, "--nocapture"])
            .env(FOLDER, dir.path())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }
}
