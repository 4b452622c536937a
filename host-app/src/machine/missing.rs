//! An agent that does not come within its time, or went and does not come back: the user is offered the guest's screen, where a window
//! process is on a desktop to ask.
//!
//! ```text
//!            lost                 its time is over             answered
//!   there ---------> away since T -----------------> asked ----------------> known
//!     ^                 |                              |                       |
//!     '-----------------'------ the agent is ready ----'-----------------------'
//! ```
//!
//! A guest that restarts has the time of a start. What an agent that comes and goes can cause is one question a minute.

use std::time::{Duration, Instant};

use inlay_protocol::memory::{self, Show};

use super::clients::Doing;
use super::guest::Guest;
use super::running::{Phase, Running};
use crate::api::Reply;

/// How long a lost agent may take to come back: it is started again at once when it died, and a guest that switches itself off is off by
/// then, mostly.
const RETURN: Duration = Duration::from_secs(10);
/// Questions are at least this far from each other.
const BETWEEN: Duration = Duration::from_secs(60);

/// What is known of an agent that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is there, or boots, which has a limit of its own.
    There,
    /// It went then; it was there last when the guest had restarted so often.
    Away { since: Instant, restarts: u64 },
    /// The user is asked.
    Asked,
    /// The user knows.
    Answered,
}

/// Whether the agent is missed.
#[derive(Debug)]
pub struct Missing {
    /// How long a start may take.
    start_limit: Duration,
    known: Known,
    asked: Option<Instant>,
    /// How often the guest had restarted when the agent came last.
    restarts: u64,
}

impl Missing {
    /// Of a guest whose start may take so long.
    #[must_use]
    pub fn new(start_limit: Duration) -> Self {
        Self { start_limit, known: Known::There, asked: None, restarts: 0 }
    }

    /// How long a start may take.
    #[must_use]
    pub fn start_limit(&self) -> Duration {
        self.start_limit
    }

    /// It is ready, in a guest that has restarted so often.
    pub fn came(&mut self, restarts: u64) {
        (self.known, self.restarts) = (Known::There, restarts);
    }

    /// It is gone. The guest may have restarted already: its devices are set up anew some time later.
    pub fn lost(&mut self, now: Instant) {
        if self.known == Known::There {
            self.known = Known::Away { since: now, restarts: self.restarts };
        }
    }

    /// The guest stood still, and goes on: so does its time.
    pub fn went_on(&mut self, now: Instant) {
        if let Known::Away { since, .. } = &mut self.known {
            *since = now;
        }
    }

    /// Whether the user is asked.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.known == Known::Asked
    }

    /// Its time is over: the user is asked.
    pub fn ask(&mut self, now: Instant) {
        self.known = Known::Asked;
        self.asked = Some(now);
    }

    /// The user answered, or sees it already; whether that was asked.
    pub fn answered(&mut self) -> bool {
        std::mem::replace(&mut self.known, Known::Answered) == Known::Asked
    }

    /// When the time of one that went is over.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let Known::Away { since, .. } = self.known else { return None };
        let again = self.asked.map(|asked| asked + BETWEEN);
        Some(again.map_or(since + RETURN, |again| again.max(since + RETURN)))
    }

    /// Whether one that went is missed now, by a guest that has restarted so often.
    pub fn is_due(&mut self, now: Instant, restarts_now: u64) -> bool {
        let Some(due) = self.due() else { return false };
        if now < due {
            return false;
        }
        if let Known::Away { since, restarts } = &mut self.known
            && *restarts != restarts_now
        {
            // Since it restarted, which was between then and now.
            (*since, *restarts) = (now + self.start_limit.saturating_sub(RETURN), restarts_now);
            return false;
        }
        true
    }
}

impl Running {
    /// What window processes are to show of the machine.
    pub(super) fn state(&self, guest: &dyn Guest) -> memory::State {
        let phase = match self.phase {
            Phase::Starting { .. } => memory::Phase::Starting,
            Phase::Running => memory::Phase::Running,
            Phase::Paused { .. } => memory::Phase::Paused,
            Phase::Stopping { .. } | Phase::Failing { .. } => memory::Phase::Stopping,
        };
        let waits = matches!(self.phase, Phase::Starting { .. } | Phase::Running);
        let agent = match self.control.ready() {
            true => memory::Agent::Ready,
            false if self.missing.asks() && waits => memory::Agent::Missing,
            false => memory::Agent::Away,
        };
        memory::State { phase, agent, network: guest.network() }
    }

    /// Asks the user about an agent that did not come in time; `false` when there is nobody to ask, or no answer came.
    pub(super) fn offers_screen(&mut self, now: Instant) -> bool {
        let asks = !self.missing.asks() && self.windows.on_desktop() && self.memory.has_clients();
        if asks {
            tracing::warn!("the guest's agent is not ready: the user is offered its screen");
            self.missing.ask(now);
            self.phase = Phase::Starting { until: now + self.missing.start_limit().max(BETWEEN) };
        }
        asks
    }

    /// Looks whether an agent that went is missed by now.
    pub(super) fn look_for_agent(&mut self, guest: &dyn Guest) {
        let now = Instant::now();
        if !matches!(self.phase, Phase::Running) || !self.missing.is_due(now, guest.restarts()) {
            return;
        }
        if self.screen.shown().is_none() && self.windows.on_desktop() && self.memory.has_clients() {
            tracing::warn!("the guest's agent does not come back: the user is offered its screen");
            self.missing.ask(now);
        } else {
            // Whoever looks at its screen sees what it does; where nobody can be asked, command lines are told.
            self.missing.answered();
        }
    }

    /// The user answered: the screen is to be shown, or the agent is waited for.
    pub(super) fn agent_answer(&mut self, screen: bool) {
        if !self.missing.answered() {
            return;
        }
        let starts = matches!(self.phase, Phase::Starting { .. });
        if screen {
            self.screen.show(Show::default());
            self.memory.wake();
            if starts {
                self.goes_on_without();
            }
        } else if starts {
            self.missing.known = Known::There;
            self.phase = Phase::Starting { until: Instant::now() + self.missing.start_limit() };
        }
    }

    /// The machine goes on without its agent, whose screen is looked at.
    pub(super) fn goes_on_without(&mut self) {
        tracing::warn!("the guest's agent is not ready; its screen is shown, so it goes on without");
        self.missing.answered();
        self.phase = Phase::Running;
        let reply =
            Reply::Failed("the guest's agent was not ready in time: its screen is shown instead".into());
        self.answer_where(|doing| doing == Doing::Ready, &reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[test]
    fn one_that_comes_back_is_not_missed() {
        let (mut missing, start) = (Missing::new(LIMIT), Instant::now());
        assert_eq!(missing.due(), None);
        missing.lost(start);
        assert_eq!(missing.due(), Some(start + RETURN));
        assert!(!missing.is_due(start + RETURN / 2, 0));
        missing.came(0);
        assert!(missing.due().is_none() && !missing.is_due(start + LIMIT, 0));
        // It went, the guest stood still for an hour, and the agent came back.
        missing.lost(start);
        let on = start + Duration::from_secs(3600);
        missing.went_on(on);
        assert!(!missing.is_due(on + RETURN / 2, 0) && missing.is_due(on + RETURN, 0));
    }

    #[test]
    fn a_guest_that_restarts_has_the_time_of_a_start() {
        let (mut missing, start) = (Missing::new(LIMIT), Instant::now());
        missing.came(3);
        missing.lost(start);
        let looked = start + RETURN;
        assert!(!missing.is_due(looked, 4));
        assert_eq!(missing.due(), Some(looked + LIMIT));
        assert!(!missing.is_due(looked + LIMIT / 2, 4) && missing.is_due(looked + LIMIT, 4));
    }

    #[test]
    fn one_question_and_none_soon_after_it() {
        let (mut missing, start) = (Missing::new(LIMIT), Instant::now());
        missing.lost(start);
        let asked = start + RETURN;
        assert!(missing.is_due(asked, 0));
        missing.ask(asked);
        assert!(missing.asks() && !missing.is_due(start + LIMIT, 0));
        // Another end of the same agent's is no news.
        missing.lost(asked);
        assert!(missing.asks() && missing.answered());
        missing.lost(asked);
        assert!(!missing.answered() && !missing.asks() && missing.due().is_none());
        missing.came(0);
        missing.lost(asked + RETURN);
        assert_eq!(missing.due(), Some(asked + BETWEEN));
    }
}
