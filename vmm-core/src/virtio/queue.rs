//! A virtqueue as devices see it (virtio 1.2, section 2.7): pop a chain, use it, or give it back.
//!
//! Wraps `virtio_queue::Queue` with what a transport knows (whether the ring runs) and with a budget, so that a driver
//! that refills a ring for ever cannot keep a device from its other work.

use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

use super::{Chain, ChainError, DeviceError, Mem};

/// What a driver did wrong with a ring.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The ring's addresses or indices are not usable.
    #[error("bad ring")]
    Ring(#[from] virtio_queue::Error),
}

/// A set of queue indices below 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSet(u64);

impl QueueSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Adds a queue; indices of 64 and above are ignored (no device has as many).
    pub fn insert(&mut self, index: usize) {
        if index < 64 {
            self.0 |= 1 << index;
        }
    }

    /// Whether a queue is in the set.
    pub fn contains(self, index: usize) -> bool {
        index < 64 && self.0 & (1 << index) != 0
    }

    /// Whether no queue is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes the lowest queue out of the set.
    pub fn pop_first(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let index = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        usize::try_from(index).ok()
    }

    /// The union of two sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One virtqueue of a device.
#[derive(Debug)]
pub struct VirtQueue {
    queue: Queue,
    index: usize,
    active: bool,
    budget: u16,
}

impl VirtQueue {
    /// Makes the stopped queue number `index` with room for at most `max_size` descriptors.
    ///
    /// # Errors
    /// When `max_size` is not a power of two, or above 32768.
    pub fn new(index: usize, max_size: u16) -> Result<Self, QueueError> {
        Ok(Self { queue: Queue::new(max_size)?, index, active: false, budget: 0 })
    }

    /// The queue for the transport's set-up: size, addresses, indices.
    pub fn setup(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Places the rings in guest memory.
    ///
    /// # Errors
    /// When an address is not aligned as the specification says.
    pub fn set_addresses(&mut self, desc: u64, avail: u64, used: u64) -> Result<(), QueueError> {
        self.queue.try_set_desc_table_address(GuestAddress(desc))?;
        self.queue.try_set_avail_ring_address(GuestAddress(avail))?;
        self.queue.try_set_used_ring_address(GuestAddress(used))?;
        Ok(())
    }

    /// Starts or stops the ring.
    pub fn set_active(&mut self, active: bool) {
        self.active = active;
        self.queue.set_ready(active);
    }

    /// Whether the ring runs.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The number of descriptors that the driver chose.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Allows as many pops as the ring has descriptors: once before each [`Device::process`](super::Device::process).
    pub(super) fn refill_budget(&mut self) {
        self.budget = self.queue.size();
    }

    /// The position up to which chains were taken.
    pub(super) fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Takes the next chain of the driver; `None` when there is none, the ring is stopped or the budget is spent.
    ///
    /// # Errors
    /// When the ring or the chain is malformed. The chain is lost then; the device has to stop.
    pub fn pop(&mut self, mem: &Mem) -> Result<Option<Chain>, DeviceError> {
        if !self.active || self.budget == 0 {
            return Ok(None);
        }
        let mut heads = self.queue.iter(mem).map_err(ring_error(self.index))?;
        let Some(descriptors) = heads.next() else { return Ok(None) };
        self.budget -= 1;
        Chain::collect(descriptors, mem).map(Some).map_err(|source| self.chain_error(source))
    }

    /// Gives the chain that was popped last back to the ring, unused.
    pub fn undo_pop(&mut self, chain: Chain) {
        drop(chain);
        self.queue.go_to_previous_position();
        self.budget = self.budget.saturating_add(1);
    }

    /// Returns a chain to the driver; the used length is what was written to it.
    ///
    /// # Errors
    /// When the used ring is not in guest memory.
    pub fn add_used(&mut self, mem: &Mem, chain: Chain) -> Result<(), DeviceError> {
        self.queue.add_used(mem, chain.head(), chain.written()).map_err(ring_error(self.index))
    }

    /// Asks the driver not to kick.
    pub(crate) fn disable_notification(&mut self, mem: &Mem) -> Result<(), DeviceError> {
        self.queue.disable_notification(mem).map_err(ring_error(self.index))
    }

    /// Asks the driver to kick again; true when chains are waiting already.
    pub(crate) fn enable_notification(&mut self, mem: &Mem) -> Result<bool, DeviceError> {
        self.queue.enable_notification(mem).map_err(ring_error(self.index))
    }

    /// Whether the driver has put a chain there that was not taken.
    pub(crate) fn has_next(&self, mem: &Mem) -> Result<bool, DeviceError> {
        let newest = self.queue.avail_idx(mem, Ordering::Acquire).map_err(ring_error(self.index))?;
        Ok(newest.0 != self.queue.next_avail())
    }

    /// Whether the driver wants to hear of the used buffers.
    pub(super) fn needs_notification(&mut self, mem: &Mem) -> Result<bool, DeviceError> {
        self.queue.needs_notification(mem).map_err(ring_error(self.index))
    }

    /// Says that a chain of this queue is malformed.
    pub fn chain_error(&self, source: ChainError) -> DeviceError {
        DeviceError::Chain { queue: self.index, source }
    }
}

fn ring_error(queue: usize) -> impl Fn(virtio_queue::Error) -> DeviceError {
    move |source| DeviceError::Queue { queue, source: source.into() }
}
