//! Links that apps of the guest open on the host.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Exchange, Outside};
use crate::permissions::Resource;
use crate::process;
use crate::windows::dialogs::Dialogs;
use crate::windows::gate::Pass;

/// So many links are opened within a time: more is no user who clicks.
const MOST: usize = 5;
const TIME: Duration = Duration::from_secs(10);
/// Characters of a link in a question.
const SHOWN: usize = 300;
/// What opens links on a desktop, the first that there is.
const OPENERS: [&[&str]; 2] = [&["xdg-open"], &["gio", "open"]];

/// Links of one machine.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// One that waits for the user's answer, with its number.
    waiting: Option<(u64, String)>,
    /// When the last ones were opened.
    opened: Vec<Instant>,
    /// When the user was last told that there are too many: a guest must not fill the log with it.
    told_of_many: Option<Instant>,
    /// The agent knows that they are taken.
    told: Option<bool>,
}

impl Exchange {
    /// An app of the guest wants a link to be opened.
    pub fn link(&mut self, uri: String, outside: &mut Outside<'_>) {
        self.copies += 1;
        let of = self.copies;
        match self.gate.pass(Resource::Links, of) {
            Pass::Yes => self.open_link(&uri, outside.dialogs),
            Pass::No => tracing::debug!("a link is not opened: that is not permitted"),
            Pass::Ask => {
                self.ask_about(Resource::Links, of, Some(&shown(&uri)), outside);
                if self.gate.open().is_some_and(|q| (q.resource, q.serial) == (Resource::Links, of)) {
                    self.links.waiting = Some((of, uri));
                }
            }
        }
    }

    /// The user answered the question about one.
    pub(super) fn link_if_permitted(&mut self, outside: &mut Outside<'_>) {
        if let Some((of, uri)) = self.links.waiting.take()
            && self.gate.pass(Resource::Links, of) == Pass::Yes
        {
            self.open_link(&uri, outside.dialogs);
        }
    }

    /// Whether the agent is to send links, if it does not know; else they stay in the guest.
    pub(super) fn links_news(&mut self, anew: bool) -> Option<inlay_protocol::display::Event> {
        // In local mode both have the same programs.
        let taken = !self.local && self.gate.pass(Resource::Links, 0) != Pass::No;
        let known = !anew && self.links.told == Some(taken);
        self.links.told = Some(taken);
        (!known).then_some(inlay_protocol::display::Event::Links(taken))
    }

    fn open_link(&mut self, uri: &str, dialogs: &mut Dialogs) {
        let now = Instant::now();
        self.links.opened.retain(|at| now.duration_since(*at) < TIME);
        if self.links.opened.len() >= MOST {
            if self.links.told_of_many.is_some_and(|at| now.duration_since(at) < TIME) {
                return;
            }
            self.links.told_of_many = Some(now);
            let machine = &self.machine;
            return dialogs
                .say(&format!("{machine} opens more links than anybody can click: they are left out."));
        }
        self.links.opened.push(now);
        let started = OPENERS.iter().find_map(|opener| start(opener, uri).ok());
        if started.is_none() {
            dialogs.say(&format!(
                "{} cannot be opened: this host has no xdg-open (package xdg-utils).",
                shown(uri)
            ));
        }
    }
}

/// A link as the user sees it: it is ASCII and has no spaces.
fn shown(uri: &str) -> String {
    if uri.len() <= SHOWN { uri.to_owned() } else { format!("{}...", &uri[..SHOWN]) }
}

/// Starts the desktop's own program; nobody waits for it.
fn start(opener: &[&str], uri: &str) -> std::io::Result<()> {
    let mut command = Command::new(opener[0]);
    // It has one of three schemes, so it is no option.
    command.args(&opener[1..]).arg(uri).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = process::in_own_session(&mut command).spawn()?;
    std::thread::Builder::new().name("link".into()).spawn(move || match child.wait() {
        Ok(status) if !status.success() => tracing::warn!(%status, "the desktop did not open a link"),
        _ => {}
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Permissions, Verdict};
    use crate::windows::gate::{Answer, Gate};
    use crate::windows::presenter::headless::Headless;
    use inlay_protocol::display::{Event, SurfaceId};

    struct Bench {
        exchange: Exchange,
        presenter: Headless,
        dialogs: Dialogs,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(verdict: Verdict) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("m.toml");
            Permissions::all(verdict).write(&file).unwrap();
            let exchange = Exchange::new("work", false, None, Gate::new(Some(file)));
            Self { exchange, presenter: Headless::default(), dialogs: Dialogs::default(), folder }
        }

        fn link(&mut self, uri: &str) {
            let focus = Some((SurfaceId(7), "app".to_owned()));
            let mut outside = Outside { presenter: &mut self.presenter, dialogs: &mut self.dialogs, focus };
            self.exchange.link(uri.to_owned(), &mut outside);
        }

        fn answer(&mut self, answer: Answer) {
            let number = self.exchange.gate.open().unwrap().number;
            let mut outside =
                Outside { presenter: &mut self.presenter, dialogs: &mut self.dialogs, focus: None };
            self.exchange.answered(number, answer, &mut outside);
            self.dialogs.permit_no_more();
        }

        fn opened(&self) -> usize {
            self.exchange.links.opened.len()
        }
    }

    #[test]
    fn a_link_waits_for_the_answer_and_a_thousand_are_one_question() {
        let mut bench = Bench::new(Verdict::Ask);
        (0..1000).for_each(|number| bench.link(&format!("https://nowhere.invalid/{number}")));
        assert!(bench.dialogs.asks_permission());
        assert_eq!(
            bench.exchange.links.waiting.as_ref().map(|(_, uri)| uri.as_str()),
            Some("https://nowhere.invalid/0")
        );
        bench.answer(Answer::No);
        assert_eq!(bench.opened(), 0);
        bench.link("https://nowhere.invalid/");
        assert!(!bench.dialogs.asks_permission() && bench.exchange.gate.open().is_none(), "a pause");
    }

    #[test]
    fn at_never_nothing_is_asked_and_the_guest_keeps_its_links() {
        let mut bench = Bench::new(Verdict::Never);
        bench.link("https://nowhere.invalid/");
        assert!(!bench.dialogs.asks_permission() && bench.opened() == 0);
        assert_eq!(bench.exchange.links_news(true), Some(Event::Links(false)));
        Permissions::all(Verdict::Ask).write(&bench.folder.path().join("m.toml")).unwrap();
        assert!(bench.exchange.gate.turn());
        assert_eq!(bench.exchange.links_news(false), Some(Event::Links(true)));
        assert_eq!(bench.exchange.links_news(false), None);
    }
}
