//! The device contract (virtio 1.2, section 2): what a device is, without threads, locks or interrupts.
//!
//! A [`Device`] is a state machine. Its transport owns queues, memory and notifications, and calls
//! [`drive`](drive::drive) when a queue was kicked or the device's host source is ready; `drive` calls
//! [`Device::process`] and says which queues the driver must be told of. A unit test of a device is the same call
//! with a mock queue.

mod chain;
mod drive;
mod queue;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::os::fd::BorrowedFd;

pub use chain::{Chain, ChainError, Span};
pub use drive::{Outcome, drive};
pub use queue::{QueueError, QueueSet, VirtQueue};

/// Guest memory as transports map it.
pub type Mem = vm_memory::GuestMemoryMmap<()>;

/// Feature bits that every transport offers for every device (virtio 1.2, section 6).
pub mod features {
    use virtio_bindings::bindings::virtio_config::{VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1};
    use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

    /// `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
    /// `VIRTIO_F_RING_RESET`.
    pub const RING_RESET: u64 = 1 << VIRTIO_F_RING_RESET;
    /// All feature bits that belong to the transport and not to a device.
    pub const TRANSPORT: u64 =
        1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | EVENT_IDX | RING_RESET;
}

/// Why a device is asked to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The driver made buffers available on this queue (an index into `queues`).
    Queue(usize),
    /// The device's [host source](Device::host_source) is readable.
    HostSource,
}

/// Why a device stopped: the transport reports it to the driver (DEVICE_NEEDS_RESET, or a stopped vring).
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A ring does not hold what a driver may put there.
    #[error("the driver broke queue {queue}")]
    Queue {
        /// Index of the queue.
        queue: usize,
        /// What is wrong with it.
        source: QueueError,
    },
    /// A descriptor chain is too short, too long, or not in guest memory.
    #[error("bad descriptor chain on queue {queue}")]
    Chain {
        /// Index of the queue.
        queue: usize,
        /// What is wrong with it.
        source: ChainError,
    },
    /// The host refused something that the device cannot work without.
    #[error("cannot {act}")]
    Host {
        /// What was tried.
        act: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// Why a saved state was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It does not have the form of this device's states.
    #[error("this is not a saved state of the device")]
    Form(#[from] serde_json::Error),
    /// It says what this device cannot be.
    #[error("the saved state does not fit the device: {0}")]
    Content(&'static str),
}

/// A virtio device as a state machine.
///
/// All methods are called from one thread of the transport. None may block.
pub trait Device: Send {
    /// The virtio device id (virtio 1.2, section 5).
    fn device_type(&self) -> u32;

    /// The largest size of each queue, in descriptors; a power of two each.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits of this device, without those of [`features::TRANSPORT`].
    fn features(&self) -> u64 {
        0
    }

    /// Takes the device's own feature bits that the driver accepted.
    fn accept_features(&mut self, _accepted: u64) {}

    /// Those of [`features::TRANSPORT`] that it can do.
    fn transport_features(&self) -> u64 {
        features::TRANSPORT
    }

    /// For a device whose queues another process serves. Its transport lends it rings and doorbells then, and
    /// [`process`](Self::process) is called for the [host source](Self::host_source) alone.
    fn remote(&mut self) -> Option<&mut dyn Remote> {
        None
    }

    /// The whole configuration space.
    fn config(&self) -> Vec<u8>;

    /// Takes the driver's write to the configuration space; writes to read-only fields are ignored.
    fn write_config(&mut self, _offset: usize, _data: &[u8]) {}

    /// Whether the configuration space changed by the host's doing since the last call; the transport tells the driver. Asked
    /// after each [`process`](Self::process).
    fn config_changed(&mut self) -> bool {
        false
    }

    /// One descriptor that becomes readable when the host side needs the device; an epoll descriptor nests many.
    fn host_source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether the driver of a queue often waits for one answer before it asks the next: then it is worth a moment of looking for that,
    /// where waking up costs more than the work.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// Does all work that `wake` allows, without blocking, and returns the queues that got used buffers.
    ///
    /// # Errors
    /// Any error stops the device until the driver resets it.
    fn process(&mut self, wake: Wake, mem: &Mem, queues: &mut [VirtQueue]) -> Result<QueueSet, DeviceError>;

    /// Forgets everything that the driver did since the last reset.
    fn reset(&mut self);

    /// What a device made anew needs to go on from here. Accepted features, rings and guest memory are not part of it: their
    /// owners save them. Nor is anything that only this process has (addresses, descriptors, locks).
    fn save(&self) -> serde_json::Value;

    /// Takes a saved state in place of the present one; guest memory is there already.
    ///
    /// # Errors
    /// It is no state of this device. The device is as it was then.
    fn restore(&mut self, state: serde_json::Value, mem: &Mem) -> Result<(), RestoreError>;
}

/// A queue as another process needs it.
#[derive(Clone, Copy, Debug)]
pub struct RemoteRing<'a> {
    /// Descriptors.
    pub size: u16,
    /// Guest addresses of descriptor table, available ring and used ring.
    pub desc: u64,
    /// See `desc`.
    pub avail: u64,
    /// See `desc`.
    pub used: u64,
    /// The place in the available ring from which on nothing was taken yet.
    pub base: u16,
    /// The driver's doorbell, an eventfd.
    pub kick: BorrowedFd<'a>,
    /// Interrupts the driver; none where it wants none.
    pub call: Option<BorrowedFd<'a>>,
}

/// A device whose queues another process serves. Calls wait for that process, for a bounded time.
pub trait Remote {
    /// The driver is ready, with these features (the transport's among them).
    ///
    /// # Errors
    /// The other process refuses or does not answer.
    fn begin(&mut self, accepted: u64, mem: &Mem) -> io::Result<()>;

    /// Has a queue served from now on.
    ///
    /// # Errors
    /// As above, or the ring is not in guest memory.
    fn start(&mut self, index: usize, ring: &RemoteRing<'_>, mem: &Mem) -> io::Result<()>;

    /// Interrupts of a queue go elsewhere.
    ///
    /// # Errors
    /// As above.
    fn set_call(&mut self, index: usize, call: Option<BorrowedFd<'_>>) -> io::Result<()>;

    /// Has a queue no longer served; the base to start from again.
    ///
    /// # Errors
    /// As above.
    fn stop(&mut self, index: usize) -> io::Result<u16>;
}

/// The JSON form of a device's state.
pub(crate) fn to_json(state: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(state).unwrap_or_else(|error| {
        tracing::error!(%error, "a device's state has no JSON form");
        serde_json::Value::Null
    })
}
