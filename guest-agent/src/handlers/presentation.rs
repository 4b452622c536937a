//! `wp_presentation`: when the user saw what an app drew. A commit counts as seen at the first frame of its window on the host after
//! the host took its pixels; one that a newer commit replaced before it was sent was never seen.

use std::time::Duration;

use smithay::output::Output;
use smithay::reexports::wayland_protocols::wp::presentation_time::server::wp_presentation_feedback::Kind;
use smithay::wayland::presentation::{PresentationFeedbackCallback, Refresh};

use crate::agent::Agent;

/// `CLOCK_MONOTONIC`, in which times are told.
pub const CLOCK: u32 = 1;
/// Answers that one surface may wait for; an app that asks for more is told of the oldest that they were not seen.
const FEEDBACKS: usize = 1024;

/// What an app waits to be told of the commits of one surface.
#[derive(Debug, Default)]
pub struct Feedbacks {
    /// With the number of the commit, once that was sent.
    asked: Vec<(Option<u64>, PresentationFeedbackCallback)>,
    /// The host took the pixels of all commits up to this one.
    taken: u64,
}

impl Feedbacks {
    /// The app committed, and asks about it, or not.
    pub fn committed(&mut self, asked: Vec<PresentationFeedbackCallback>) {
        self.discard(|sent| sent.is_none());
        self.asked.extend(asked.into_iter().map(|feedback| (None, feedback)));
        let late = self.asked.len().saturating_sub(FEEDBACKS);
        self.asked.drain(..late).for_each(|(_, feedback)| feedback.discarded());
    }

    /// What the app committed last was sent under this number.
    pub fn sent(&mut self, number: u64) {
        self.asked.iter_mut().filter(|(sent, _)| sent.is_none()).for_each(|(sent, _)| *sent = Some(number));
    }

    /// The host took the pixels of a commit.
    pub fn taken(&mut self, number: u64) {
        self.taken = self.taken.max(number);
    }

    /// The host shows a frame.
    pub fn frame(&mut self, output: Option<&Output>) {
        if self.asked.is_empty() {
            return;
        }
        let taken = self.taken;
        let Some(output) = output else { return self.clear() };
        let rate = output.current_mode().and_then(|mode| u32::try_from(mode.refresh).ok());
        // The rate is in thousandths of a Hertz.
        let refresh = rate.filter(|rate| *rate > 0).map_or(Refresh::Unknown, |rate| {
            Refresh::fixed(Duration::from_nanos(1_000_000_000_000 / u64::from(rate)))
        });
        let seen = |(sent, _): &mut (Option<u64>, _)| sent.is_some_and(|number| number <= taken);
        for (_, feedback) in self.asked.extract_if(.., seen) {
            // Counted by nobody, and not exact: neither the monitor's clock nor its number of frames reaches the guest.
            feedback.presented(output, now(), refresh, 0, Kind::empty());
        }
    }

    /// Nothing of it will be seen.
    pub fn clear(&mut self) {
        self.discard(|_| true);
    }

    /// Whether the app waits to be told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    fn discard(&mut self, which: impl Fn(Option<u64>) -> bool) {
        for (_, feedback) in self.asked.extract_if(.., |(sent, _)| which(*sent)) {
            feedback.discarded();
        }
    }
}

impl Drop for Feedbacks {
    fn drop(&mut self) {
        self.clear();
    }
}

fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

smithay::delegate_presentation!(Agent);
