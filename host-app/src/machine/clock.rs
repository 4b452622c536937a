//! The guest's clock: when the agent is to look at it, and what time it is here.
//!
//! ```text
//!   session, resume, clock set, a minute ---- CheckClock ---> agent
//!                                       <---- AskTime -------   (at most limits::TIMES)
//!                                        ---- Time --------->
//! ```
//! The agent measures the round trips and sets the clock. That this host was suspended shows as its clock being set.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use inlay_protocol::control::Command;
use inlay_protocol::limits;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// How long a guest's clock runs by itself: it loses some milliseconds meanwhile at most.
const PAUSE: Duration = Duration::from_secs(60);

/// The host's clock, for one guest.
#[derive(Debug)]
pub struct Clock {
    /// Is readable once the host's clock was set.
    jumps: OwnedFd,
    next: Instant,
    /// Questions that are still answered.
    answers: u32,
}

impl Clock {
    /// Begins to watch the host's clock.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn watch() -> io::Result<Self> {
        let jumps = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let clock = Self { jumps, next: Instant::now() + PAUSE, answers: 0 };
        clock.arm()?;
        Ok(clock)
    }

    /// Has the timer, which never runs out, tell the next jump.
    fn arm(&self) -> rustix::io::Result<()> {
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.jumps, flags, &timer).map(drop)
    }

    /// What to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.jumps.as_fd()
    }

    /// When to look again though nothing came.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Whether the agent is to look at its clock.
    pub fn turn(&mut self, now: Instant) -> bool {
        let jumped = rustix::io::read(&self.jumps, &mut [0_u8; 8]) == Err(Errno::CANCELED);
        if jumped {
            tracing::info!("the host's clock was set");
            if let Err(error) = self.arm() {
                tracing::warn!(%error, "the guest's clock follows late when the host's is set");
            }
        }
        let due = self.next <= now;
        if due {
            self.next = now + PAUSE;
        }
        jumped || due
    }

    /// Has the agent look at its clock.
    pub fn check(&mut self) -> Command {
        self.answers = limits::TIMES;
        self.next = Instant::now() + PAUSE;
        Command::CheckClock { now: now() }
    }

    /// The answer to a question of the agent's; none when it asks more than it may.
    pub fn answer(&mut self, question: u64) -> Option<Command> {
        self.answers = self.answers.checked_sub(1)?;
        Some(Command::Time { question, now: now() })
    }
}

/// The host's time in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_once_a_minute_and_few_questions_are_answered() {
        let mut clock = Clock::watch().unwrap();
        assert!(!clock.turn(Instant::now()), "nobody set the clock");
        assert!(clock.turn(Instant::now() + PAUSE) && !clock.turn(Instant::now()));
        assert_eq!(clock.answer(1), None, "nobody told it to look");
        let before = now();
        let Command::CheckClock { now: told } = clock.check() else { panic!("another command") };
        assert!((before..=now()).contains(&told));
        for question in 0..u64::from(limits::TIMES) {
            let Some(Command::Time { question: of, now: told }) = clock.answer(question) else { panic!() };
            assert!(of == question && told >= before);
        }
        assert_eq!(clock.answer(9), None, "it asks too much");
        clock.check();
        assert!(clock.answer(10).is_some());
    }
}
