//! `balloon` (virtio 1.2, section 5.5): guest pages go back to the host, those that the host asks for and those that the guest
//! has free.
//!
//! ```text
//!   set_target -> num_pages -- the driver --> inflate queue: page numbers --+
//!                                             reporting queue: free pages --+--> holes in the file behind guest memory
//!                                             deflate queue: nothing to do; a page comes back, zero, when it is touched
//! ```

mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};

use self::pages::Runs;
use crate::virtio::{
    Chain, ChainError, Device, DeviceError, Mem, QueueSet, RestoreError, VirtQueue, Wake, to_json,
};

/// The virtio device id.
pub const DEVICE_TYPE: u32 = 5;
/// Bytes of a page of the balloon, whatever the pages of guest and host are.
pub const PAGE: u64 = 4096;
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// Queues are numbered in the order of those that exist: statistics and hints are not offered.
const REPORTING: usize = 2;
const QUEUE_SIZES: [u16; 3] = [64, 64, 64];
/// Page numbers of one chain; no stock driver sends more than a page of them. The guest keeps what is named behind them.
const MOST_PAGES: usize = 1024;
/// Where the driver writes how many pages the balloon has.
const ACTUAL: usize = 4;

mod feature {
    pub const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub const REPORTING: u64 = 1 << 5;
}

/// The host's side of the device, from any thread.
#[derive(Clone, Debug)]
pub struct BalloonHandle {
    numbers: Arc<Numbers>,
    wake: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Numbers {
    target: AtomicU32,
    actual: AtomicU32,
}

impl BalloonHandle {
    /// Asks for a balloon of so many [`PAGE`]s; the driver is told.
    pub fn set_target(&self, pages: u32) {
        self.numbers.target.store(pages, Ordering::Relaxed);
        // A full counter means that the device is woken already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The [`PAGE`]s that the balloon shall have.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.numbers.target.load(Ordering::Relaxed)
    }

    /// The [`PAGE`]s that it has, as the driver says.
    #[must_use]
    pub fn actual(&self) -> u32 {
        self.numbers.actual.load(Ordering::Relaxed)
    }

    fn set_actual(&self, pages: u32) {
        self.numbers.actual.store(pages, Ordering::Relaxed);
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BalloonState {
    target: u32,
    actual: u32,
}

/// The device.
#[derive(Debug)]
pub struct Balloon {
    handle: BalloonHandle,
    /// The target that the driver was told.
    told: u32,
    /// Whether the driver may report free pages.
    reporting: bool,
    /// The host's refusal was logged.
    warned: bool,
}

impl Balloon {
    /// An empty balloon.
    ///
    /// # Errors
    /// The host has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let handle = BalloonHandle { numbers: Arc::default(), wake: Arc::new(wake) };
        Ok(Self { handle, told: 0, reporting: false, warned: false })
    }

    /// The host's side.
    #[must_use]
    pub fn handle(&self) -> BalloonHandle {
        self.handle.clone()
    }

    /// Takes the pages whose numbers a chain has; half a number at its end is none.
    fn inflate(&mut self, chain: &mut Chain, mem: &Mem) -> Result<(), ChainError> {
        let count = (chain.readable_len() / 4).min(MOST_PAGES);
        let mut bytes = [0; 4 * MOST_PAGES];
        let numbers = bytes.get_mut(..4 * count).unwrap_or_default();
        chain.read(mem, numbers)?;
        let page = |number: &[u8]| u64::from(u32::from_le_bytes(std::array::from_fn(|i| number[i]))) * PAGE;
        let mut pages: Vec<u64> = numbers.chunks_exact(4).map(page).collect();
        // Drivers allocate downwards as often as upwards.
        pages.sort_unstable();
        let mut runs = Runs::default();
        for page in pages {
            runs.push(page, PAGE);
        }
        self.give_back(mem, &runs);
        Ok(())
    }

    /// Takes the free pages that a chain consists of (section 5.5.6.7).
    fn report(&mut self, chain: &Chain, mem: &Mem) {
        let mut runs = Runs::default();
        for span in chain.writable_spans() {
            runs.push(span.addr.0, span.len as u64);
        }
        self.give_back(mem, &runs);
    }

    fn give_back(&mut self, mem: &Mem, runs: &Runs) {
        // The guest has lost nothing then: it only costs the host memory.
        if let Err(error) = runs.give_back(mem)
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!(%error, "the host does not take back guest memory");
        }
    }
}

impl Device for Balloon {
    fn device_type(&self) -> u32 {
        DEVICE_TYPE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        feature::DEFLATE_ON_OOM | feature::REPORTING
    }

    fn accept_features(&mut self, accepted: u64) {
        self.reporting = accepted & feature::REPORTING != 0;
    }

    fn config(&self) -> Vec<u8> {
        [self.handle.target().to_le_bytes(), self.handle.actual().to_le_bytes()].concat()
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        let mut actual = self.handle.actual().to_le_bytes();
        for (at, byte) in data.iter().enumerate() {
            let place = offset.checked_add(at).and_then(|at| at.checked_sub(ACTUAL));
            if let Some(to) = place.and_then(|at| actual.get_mut(at)) {
                *to = *byte;
            }
        }
        self.handle.set_actual(u32::from_le_bytes(actual));
    }

    fn config_changed(&mut self) -> bool {
        let target = self.handle.target();
        std::mem::replace(&mut self.told, target) != target
    }

    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.handle.wake.as_fd())
    }

    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError> {
        let mut used = QueueSet::EMPTY;
        if wake == Wake::HostSource {
            let _ = rustix::io::read(&self.handle.wake, &mut [0; 8]);
        }
        let Wake::Queue(index @ (INFLATE | DEFLATE | REPORTING)) = wake else { return Ok(used) };
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        while let Some(mut chain) = queue.pop(mem)? {
            match index {
                INFLATE => self.inflate(&mut chain, mem).map_err(|source| queue.chain_error(source))?,
                REPORTING if self.reporting => self.report(&chain, mem),
                _ => {}
            }
            queue.add_used(mem, chain)?;
            used.insert(index);
        }
        Ok(used)
    }

    fn reset(&mut self) {
        // A new driver has an empty balloon; what the host wants of it stays.
        self.handle.set_actual(0);
        self.reporting = false;
    }

    fn save(&self) -> serde_json::Value {
        to_json(&BalloonState { target: self.handle.target(), actual: self.handle.actual() })
    }

    fn restore(&mut self, state: serde_json::Value, _mem: &Mem) -> Result<(), RestoreError> {
        let state: BalloonState = serde_json::from_value(state)?;
        self.handle.set_target(state.target);
        self.handle.set_actual(state.actual);
        Ok(())
    }
}
