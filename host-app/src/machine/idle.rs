//! What becomes of a machine that nobody uses: it is paused after some minutes (`autopause`), or switched off soon after its
//! last window closed (`last_window`).
//!
//! It is in use while it has a window, on whatever workspace, while an app of it runs that was opened from here, and while a
//! command line has it do something (`inlay exec`, `inlay run --wait`, `inlay window`). Where its agent is not there nothing of
//! that is known, so it counts as used.

use std::time::{Duration, Instant};

use crate::config::{Config, LastWindow};

/// How long it stays on after its last window closed: an app may close one window and open the next.
const CLOSED: Duration = Duration::from_secs(5);

/// What of a machine is in use.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Its agent is there.
    pub agent: bool,
    /// Windows, when their number is known.
    pub windows: Option<u32>,
    /// Apps that run.
    pub apps: usize,
    /// A command line has it do something.
    pub work: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Pause it.
    Pause,
    /// Switch it off.
    Stop,
}

/// Since when it is not in use.
#[derive(Debug)]
pub struct Idle {
    pause_after: Option<Duration>,
    stops: bool,
    since: Option<Instant>,
    /// It had a window since its agent came.
    had_window: bool,
}

impl Idle {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            pause_after: (config.autopause > 0)
                .then(|| Duration::from_secs(60 * u64::from(config.autopause))),
            stops: config.last_window == LastWindow::Stop,
            since: None,
            had_window: false,
        }
    }

    /// How long it may be unused until something is done.
    fn patience(&self) -> Option<Duration> {
        if self.stops && self.had_window { Some(CLOSED) } else { self.pause_after }
    }

    /// When to look again though nothing changed.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        Some(self.since? + self.patience()?)
    }

    /// Looks at it while it runs; what is to be done now.
    pub fn look(&mut self, now: Instant, usage: &Usage) -> Option<Act> {
        let Usage { agent, windows, apps, work } = *usage;
        self.had_window = agent && (self.had_window || windows.is_some_and(|count| count > 0));
        if !agent || work || apps > 0 || windows != Some(0) {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.patience()? {
            return None;
        }
        // Once it goes on it has all of the time again.
        self.since = None;
        Some(if self.stops && self.had_window { Act::Stop } else { Act::Pause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const UNUSED: Usage = Usage { agent: true, windows: Some(0), apps: 0, work: false };
    const SHOWN: Usage = Usage { windows: Some(1), ..UNUSED };

    fn idle(minutes: u32, last_window: LastWindow) -> Idle {
        Idle::new(&Config { autopause: minutes, last_window, ..Config::new("0".repeat(16)) })
    }

    #[test]
    fn paused_after_its_minutes_and_again_after_it_went_on() {
        let (mut idle, start) = (idle(3, LastWindow::Keep), Instant::now());
        assert_eq!((idle.due(), idle.look(start, &UNUSED)), (None, None));
        assert_eq!(idle.due(), Some(start + 3 * MINUTE));
        assert_eq!(idle.look(start + 2 * MINUTE, &UNUSED), None);
        assert_eq!(idle.look(start + 3 * MINUTE, &UNUSED), Some(Act::Pause));
        let on = start + 90 * MINUTE;
        assert_eq!(idle.look(on, &UNUSED), None);
        assert_eq!(idle.look(on + 3 * MINUTE, &UNUSED), Some(Act::Pause));
    }

    #[test]
    fn never_while_something_of_it_is_in_use() {
        for used in [
            SHOWN,
            Usage { windows: None, ..UNUSED },
            Usage { apps: 1, ..UNUSED },
            Usage { work: true, ..UNUSED },
            Usage { agent: false, ..UNUSED },
        ] {
            let (mut idle, start) = (idle(1, LastWindow::Stop), Instant::now());
            assert_eq!(idle.look(start, &UNUSED), None);
            assert_eq!(idle.look(start + MINUTE, &used), None, "{used:?}");
            assert_eq!(idle.due(), None);
            assert_eq!(idle.look(start + 90 * MINUTE, &used), None, "{used:?}");
        }
        let (mut never, start) = (idle(0, LastWindow::Keep), Instant::now());
        assert_eq!(never.look(start, &UNUSED), None);
        assert_eq!(never.look(start + 9000 * MINUTE, &UNUSED), None);
        assert_eq!(never.due(), None);
    }

    #[test]
    fn stopped_when_its_last_window_closed_and_nothing_of_it_runs() {
        let (mut idle, start) = (idle(0, LastWindow::Stop), Instant::now());
        assert_eq!(idle.look(start, &UNUSED), None);
        assert_eq!(idle.look(start + MINUTE, &UNUSED), None, "it never had one");
        assert_eq!(idle.look(start + MINUTE, &SHOWN), None);
        // Its app still ends.
        let closed = start + 2 * MINUTE;
        assert_eq!(idle.look(closed, &Usage { apps: 1, ..UNUSED }), None);
        assert_eq!(idle.look(closed + CLOSED, &UNUSED), None);
        // Another one opens meanwhile.
        assert_eq!(idle.look(closed + CLOSED, &SHOWN), None);
        let closed = closed + MINUTE;
        assert_eq!(idle.look(closed, &UNUSED), None);
        assert_eq!(idle.due(), Some(closed + CLOSED));
        assert_eq!(idle.look(closed + CLOSED, &UNUSED), Some(Act::Stop));
    }

    #[test]
    fn windows_that_went_with_the_agent_stop_nothing() {
        let (mut idle, start) = (idle(0, LastWindow::Stop), Instant::now());
        assert_eq!(idle.look(start, &SHOWN), None);
        assert_eq!(idle.look(start, &Usage { agent: false, ..UNUSED }), None);
        assert_eq!(idle.look(start + MINUTE, &UNUSED), None);
        assert_eq!(idle.look(start + 2 * MINUTE, &UNUSED), None);
    }
}
