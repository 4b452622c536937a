//! When commits reached the upload ring: the figures behind the latency benchmark.

use std::collections::VecDeque;

use inlay_protocol::display::SurfaceId;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Entries kept.
const KEPT: usize = 4096;

/// One commit in the upload ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its surface.
    pub surface: SurfaceId,
    /// Its number.
    pub number: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
}

/// The newest uploads.
#[derive(Debug, Default)]
pub struct Uploads(VecDeque<Upload>);

impl Uploads {
    /// Notes that a commit is in the ring now.
    pub fn note(&mut self, surface: SurfaceId, number: u64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Upload { surface, number, at_ns: nanoseconds(ClockId::Monotonic) });
    }

    /// The newest, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Upload> {
        self.0.iter().copied().collect()
    }
}

/// A clock's time in nanoseconds.
#[must_use]
pub fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}
