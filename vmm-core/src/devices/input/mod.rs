//! `input` (virtio 1.2, section 5.8): a keyboard, or a pointer that names places.
//!
//! The host's side is an [`InputHandle`]: it queues whole reports and wakes the device's thread, which puts them into the
//! driver's event buffers. Reports that the guest has no room for are dropped whole.

mod config;
mod host;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use serde::{Deserialize, Serialize};

use self::config::Select;
use self::host::PENDING;
pub use self::host::{Event, InputHandle};
use crate::virtio::{Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 18;
/// The greatest value of both axes of a pointer.
pub const AXIS_MAX: u32 = 32767;
const EVENT: usize = 0;
const STATUS: usize = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];

/// What the device is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Keys 1 to 248; the guest makes repeats itself.
    Keyboard,
    /// `ABS_X` and `ABS_Y` from 0 to [`AXIS_MAX`], five buttons, two wheels.
    Pointer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputState {
    kind: Kind,
    select: Select,
    pending: Vec<Event>,
}

/// The device.
#[derive(Debug)]
pub struct Input {
    kind: Kind,
    select: Select,
    handle: InputHandle,
}

impl Input {
    /// A device of this kind.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new(kind: Kind) -> io::Result<Self> {
        Ok(Self { kind, select: Select::default(), handle: InputHandle::new()? })
    }

    /// The host's side.
    #[must_use]
    pub fn handle(&self) -> InputHandle {
        self.handle.clone()
    }

    /// Puts events into the driver's buffers, one into each, until there are no more of either.
    fn deliver(&self, mem: &Mem, queue: &mut VirtQueue) -> Result<bool, DeviceError> {
        if !queue.is_active() {
            // Nobody is there to whom it would be news.
            self.handle.clear();
            return Ok(false);
        }
        let mut used = false;
        while self.handle.is_waiting()
            && let Some(mut chain) = queue.pop(mem)?
        {
            let Some(event) = self.handle.next() else {
                queue.undo_pop(chain);
                break;
            };
            chain.write(mem, &event.to_bytes()).map_err(|source| queue.chain_error(source))?;
            queue.add_used(mem, chain)?;
            used = true;
        }
        Ok(used)
    }
}

impl Device for Input {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> Vec<u8> {
        self.select.answer(self.kind)
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        self.select.write(offset, data);
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.handle.as_fd())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        let [events, status] = queues else { return Ok(used) };
        match wake {
            Wake::HostSource => self.handle.heard(),
            // Lights and the like, which no keyboard of the host has to show: its own desktop does that.
            Wake::Queue(STATUS) => {
                while let Some(chain) = status.pop(mem)? {
                    status.add_used(mem, chain)?;
                    used.insert(STATUS);
                }
            }
            Wake::Queue(_) => {}
        }
        if self.deliver(mem, events)? {
            used.insert(EVENT);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        self.select = Select::default();
        self.handle.clear();
    }

    fn save(&self) -> serde_json::Value {
        to_json(&InputState { kind: self.kind, select: self.select, pending: self.handle.pending() })
    }

    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: InputState = serde_json::from_value(state)?;
        if state.kind != self.kind {
            return Err(RestoreError::Content("it is of another kind of input device"));
        }
        if state.pending.len() > PENDING {
            return Err(RestoreError::Content("too many events wait"));
        }
        self.select = state.select;
        self.handle.clear();
        self.handle.send(&state.pending);
        Ok(())
    }
}
