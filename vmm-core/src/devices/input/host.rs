//! Events on their way from the host's threads to the device.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

/// Events that wait for the driver; a report that does not fit is dropped.
pub const PENDING: usize = 1024;

/// `struct virtio_input_event` (virtio 1.2, section 5.8.6): the codes are evdev's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `EV_*`.
    pub kind: u16,
    /// `KEY_*`, `BTN_*`, `ABS_*`, `REL_*`.
    pub code: u16,
    /// 1 pressed, 0 released; a place; steps of a wheel.
    pub value: i32,
}

impl Event {
    /// `EV_SYN`, `SYN_REPORT`: the end of a report.
    pub const SYN: Self = Self { kind: 0, code: 0, value: 0 };

    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [[a, b], [c, d]] = [self.kind.to_le_bytes(), self.code.to_le_bytes()];
        let [e, f, g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// The host's side of a device, from any thread.
#[derive(Clone, Debug)]
pub struct InputHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<VecDeque<Event>>,
    wake: OwnedFd,
}

impl InputHandle {
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { pending: Mutex::default(), wake }) })
    }

    /// Queues reports, each ended by [`Event::SYN`]; the last one may lack it. Returns whether all had room: those that had
    /// not are dropped whole.
    pub fn send(&self, events: &[Event]) -> bool {
        let mut all = true;
        let mut pending = self.lock();
        for report in events.split_inclusive(|event| *event == Event::SYN) {
            let end = if report.last() == Some(&Event::SYN) { None } else { Some(Event::SYN) };
            if pending.len() + report.len() + end.iter().len() <= PENDING {
                pending.extend(report.iter().chain(&end));
            } else {
                all = false;
            }
        }
        drop(pending);
        // A full counter means that the device is woken already.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        all
    }

    /// The device was woken.
    pub(super) fn heard(&self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.lock().is_empty()
    }

    pub(super) fn next(&self) -> Option<Event> {
        self.lock().pop_front()
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn pending(&self) -> Vec<Event> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for InputHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}
