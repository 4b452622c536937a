//! PCI and virtio-pci (virtio 1.2, section 4.1; modern devices only): carries any [`Device`](crate::virtio::Device) in a guest
//! whose engine is in this process.
//!
//! ```text
//!   a processor reads or writes            [root] finds the function        its device's thread
//!   configuration space (ECAM, 0xcf8) --->  config.rs: header, BARs, capabilities
//!   a BAR ------------------------------->  virtio.rs: registers   <-- one lock -->   worker.rs: kicks, host source
//!   a doorbell ----------------------------- the engine's own road (eventfd) ------->
//! ```
//!
//! This module knows no engine: what it needs of one is [`Platform`].

mod config;
mod msix;
mod root;
mod virtio;
mod worker;

use std::io;
use std::os::fd::BorrowedFd;

pub use self::msix::Message;
pub use self::root::{Root, Slot};
pub use self::virtio::VirtioPci;

/// What an engine does for one PCI function.
pub trait Platform: Send + Sync + std::fmt::Debug {
    /// Has an interrupt of the function send this message from now on.
    ///
    /// # Errors
    /// The engine cannot.
    fn set_message(&self, vector: u16, message: Message) -> io::Result<()>;

    /// Has an interrupt's [line](Self::line) send its message, or keep signals until it does again.
    ///
    /// # Errors
    /// The engine cannot.
    fn connect(&self, vector: u16, connected: bool) -> io::Result<()>;

    /// An interrupt's eventfd: who signals it sends the message.
    fn line(&self, vector: u16) -> Option<BorrowedFd<'_>>;

    /// Signals an eventfd whenever the guest writes to an address, until [`forget_doorbell`](Self::forget_doorbell). Where it
    /// cannot, writes come to the function's registers as others do.
    ///
    /// # Errors
    /// The engine cannot.
    fn watch_doorbell(&self, address: u64, kick: BorrowedFd<'_>) -> io::Result<()>;

    /// Ends that.
    fn forget_doorbell(&self, address: u64, kick: BorrowedFd<'_>);
}

/// Why a function could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// The device states an impossible queue size.
    #[error("cannot make the device's queues")]
    Queues(#[from] crate::virtio::QueueError),
    /// Its descriptors or thread.
    #[error("cannot start the device's thread")]
    Start(#[source] io::Error),
    /// All slots are taken.
    #[error("more devices than a PCI bus has slots")]
    Full,
}
