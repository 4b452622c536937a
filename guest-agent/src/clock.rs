//! The guest's clock, set to the host's: after a pause, and whenever the host says so (`Command::CheckClock`).
//!
//! The host's time came with the message: a clock that is behind it is set at once, so that what runs next finds it right. Then
//! the agent asks some times, and takes the answer with the shortest round trip: the host's clock was read in the middle of it,
//! give or take half of it.
//!
//! What differs much is stepped, what differs little is slewed (`adjtimex`), unless somebody else keeps the clock (NTP). In local
//! mode the clock is the host's own.

use std::time::Duration;

use inlay_protocol::control::Report;
use inlay_protocol::limits;
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::agent::Agent;

/// Nanoseconds, of a time or between two.
type Nanos = i128;

const SECOND: Nanos = 1_000_000_000;
/// A clock that is off by more is stepped.
const STEP: Nanos = 50_000_000;

/// What the clocks say at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Since the guest's start; nobody sets it.
    monotonic: Nanos,
    /// Since 1970: the clock that is to be right.
    real: Nanos,
}

impl Reading {
    fn now() -> Self {
        Self { monotonic: nanos(ClockId::Monotonic), real: nanos(ClockId::Realtime) }
    }
}

fn nanos(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock);
    Nanos::from(time.tv_sec) * SECOND + Nanos::from(time.tv_nsec)
}

/// What is to be done about the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing.
    None,
    /// It is set, this much further.
    Step(Nanos),
    /// It runs faster, or slower, until it has this much more.
    Slew(Nanos),
}

/// One answer of the host's.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The host's time less the guest's monotonic time.
    ahead: Nanos,
    /// How wrong that can be.
    error: Nanos,
}

/// The exchange with the host about the time.
#[derive(Debug, Default)]
pub struct Clock {
    /// Number of the last question; it is not answered yet while there is a time when it was asked.
    question: u64,
    asked: Option<Nanos>,
    /// Questions that are left.
    left: u32,
    best: Option<Sample>,
    /// The system does not let it be set.
    denied: bool,
}

impl Clock {
    /// Another session: what was asked in the one before is not answered any more.
    pub fn begin(&mut self) {
        self.asked = None;
        self.left = 0;
    }

    /// The host says that it was `now` there when it said so.
    fn check(&mut self, now: Nanos, at: Reading) -> Change {
        // A question that is on its way may be answered with the time before a pause.
        self.asked = None;
        self.left = limits::TIMES;
        self.best = None;
        // The message was on its way since, so this much it is behind at least. Whether it is ahead only a question can tell.
        if now - at.real > STEP { Change::Step(now - at.real) } else { Change::None }
    }

    /// The number of the next question, if there is one.
    fn ask(&mut self, at: Reading) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.question += 1;
        self.asked = Some(at.monotonic);
        Some(self.question)
    }

    /// The host answers.
    fn told(&mut self, question: u64, now: Nanos, at: Reading) -> Change {
        let Some(asked) = self.asked.take_if(|_| question == self.question) else { return Change::None };
        let error = (at.monotonic - asked) / 2;
        let sample = Sample { ahead: now + error - at.monotonic, error };
        if self.best.is_none_or(|best| sample.error < best.error) {
            self.best = Some(sample);
        }
        let best = self.best.unwrap_or(sample);
        let off = best.ahead + at.monotonic - at.real;
        // That far off it is in any case: better now than after the last question.
        if off.abs() > STEP + best.error || (self.left == 0 && off.abs() > STEP) {
            Change::Step(off)
        } else if self.left == 0 && off.abs() > best.error {
            Change::Slew(off)
        } else {
            Change::None
        }
    }
}

/// The host has the guest look at its clock.
pub fn check(agent: &mut Agent, now: u64) {
    if agent.control.address().is_local() || agent.clock.denied {
        return;
    }
    let change = agent.clock.check(now.into(), Reading::now());
    apply(&mut agent.clock, change);
    ask(agent);
}

/// The host tells the time.
pub fn told(agent: &mut Agent, question: u64, now: u64) {
    if agent.control.address().is_local() {
        return;
    }
    let change = agent.clock.told(question, now.into(), Reading::now());
    apply(&mut agent.clock, change);
    ask(agent);
}

fn ask(agent: &mut Agent) {
    if !agent.clock.denied
        && agent.clock.asked.is_none()
        && let Some(question) = agent.clock.ask(Reading::now())
    {
        agent.report(&Report::AskTime(question));
    }
}

fn apply(clock: &mut Clock, change: Change) {
    let done = match change {
        Change::None => return,
        Change::Step(by) => step(by),
        Change::Slew(by) => slew(by),
    };
    match done {
        Ok(()) => {}
        Err(Errno::PERM) => {
            tracing::warn!(
                "the agent may not set the clock (CAP_SYS_TIME): it is not kept right after a pause"
            );
            clock.denied = true;
        }
        Err(error) => tracing::warn!(%error, "the clock cannot be set"),
    }
}

fn step(by: Nanos) -> rustix::io::Result<()> {
    let to = nanos(ClockId::Realtime) + by;
    let time = Timespec {
        tv_sec: i64::try_from(to.div_euclid(SECOND)).map_err(|_| Errno::INVAL)?,
        tv_nsec: i64::try_from(to.rem_euclid(SECOND)).map_err(|_| Errno::INVAL)?,
    };
    clock_settime(ClockId::Realtime, time)?;
    let far = Duration::from_nanos(u64::try_from(by.unsigned_abs()).unwrap_or(u64::MAX));
    tracing::info!(by = ?far, ahead = by < 0, "the clock is set to the host's");
    Ok(())
}

fn slew(by: Nanos) -> rustix::io::Result<()> {
    // SAFETY: all bytes of a timex may be zero; then it changes nothing and is filled in.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    adjtimex(&mut timex)?;
    if timex.status & libc::STA_UNSYNC == 0 {
        tracing::debug!("somebody else keeps the clock");
        return Ok(());
    }
    timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
    timex.offset = i64::try_from(by / 1000).map_err(|_| Errno::INVAL)?;
    adjtimex(&mut timex)?;
    tracing::debug!(microseconds = timex.offset, "the clock is slewed towards the host's");
    Ok(())
}

fn adjtimex(timex: &mut libc::timex) -> rustix::io::Result<()> {
    // SAFETY: the structure is valid, and nobody else has it.
    if unsafe { libc::adjtimex(timex) } >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// A guest whose real clock is behind the host's by so much, and a host that answers after so long.
    struct Bed {
        clock: Clock,
        monotonic: Nanos,
        behind: Nanos,
    }

    impl Bed {
        const HOST: Nanos = 1_800_000_000 * SECOND;

        fn new(behind: Nanos) -> Self {
            Self { clock: Clock::default(), monotonic: 77 * SECOND, behind }
        }

        fn host(&self) -> Nanos {
            Self::HOST + self.monotonic
        }

        fn reading(&self) -> Reading {
            Reading { monotonic: self.monotonic, real: self.host() - self.behind }
        }

        fn apply(&mut self, change: Change) -> Change {
            if let Change::Step(by) | Change::Slew(by) = change {
                self.behind -= by;
            }
            change
        }

        fn check(&mut self, on_its_way: Nanos) -> Change {
            let now = self.host();
            self.monotonic += on_its_way;
            let change = self.clock.check(now, self.reading());
            self.apply(change)
        }

        /// A question that is answered after these two times.
        fn round(&mut self, there: Nanos, back: Nanos) -> Change {
            let question = self.clock.ask(self.reading()).unwrap();
            self.monotonic += there;
            let now = self.host();
            self.monotonic += back;
            let change = self.clock.told(question, now, self.reading());
            self.apply(change)
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_set_by_the_first_word_and_finely_by_the_shortest_round() {
        let mut bed = Bed::new(3600 * SECOND);
        assert!(matches!(bed.check(20 * MS), Change::Step(_)));
        assert_eq!(bed.behind, 20 * MS, "the message was on its way so long");
        for (there, back) in [(30, 2), (1, 3), (9, 9), (2, 90), (40, 1), (5, 5), (6, 6)] {
            assert_eq!(bed.round(there * MS, back * MS), Change::None);
        }
        assert_eq!(bed.round(70 * MS, MS), Change::Slew(19 * MS), "the second was the shortest");
        assert_eq!(bed.clock.ask(bed.reading()), None, "and that was the last");
    }

    #[test]
    fn a_clock_that_is_ahead_is_set_by_the_first_answer() {
        let mut bed = Bed::new(-3600 * SECOND);
        assert_eq!(bed.check(20 * MS), Change::None);
        assert!(matches!(bed.round(30 * MS, 10 * MS), Change::Step(_)));
        assert!(bed.behind.abs() <= 20 * MS);
        bed.round(2 * MS, 2 * MS);
        for _ in 0..6 {
            bed.round(9 * MS, 90 * MS);
        }
        assert_eq!(bed.behind, 0);
    }

    #[test]
    fn a_clock_that_is_right_stays_as_it_is() {
        let mut bed = Bed::new(MS);
        assert_eq!(bed.check(5 * MS), Change::None);
        for _ in 0..limits::TIMES {
            assert_eq!(bed.round(3 * MS, 2 * MS), Change::None);
        }
    }

    #[test]
    fn an_answer_to_another_question_says_nothing() {
        let mut bed = Bed::new(0);
        bed.check(0);
        let first = bed.clock.ask(bed.reading()).unwrap();
        assert_eq!(bed.clock.told(first + 1, 0, bed.reading()), Change::None);
        bed.clock.begin();
        assert_eq!(bed.clock.told(first, 0, bed.reading()), Change::None, "another session");
        bed.check(0);
        let second = bed.clock.ask(bed.reading()).unwrap();
        assert_eq!(bed.clock.told(first, 0, bed.reading()), Change::None, "it was asked before");
        assert!(matches!(bed.clock.told(second, 0, bed.reading()), Change::Step(_)));
    }
}
