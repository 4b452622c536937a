//! virtio-vsock (virtio 1.2, section 5.10) with a "hybrid" host side: guest sockets are Unix sockets of the host.
//!
//! - The guest connects to host port P: the device connects to the Unix socket `<base>_<P>`, and refuses (RST) when
//!   nobody listens there. Ports in [`VsockConfig::privileged_ports`] accept only guest ports below 1024, which only the guest's
//!   root can bind.
//! - A host program connects to the Unix socket `<base>` and writes `CONNECT <port>\n`; when the guest accepts it reads
//!   `OK <host port>\n`, and then the guest's bytes. It reads end of file when the guest refuses.
//!
//! ```text
//!              REQUEST, connected                      SHUTDOWN both ways, flushed
//!   guest  ---------------------------> established ------------------------------> RST, closed
//!   host   --- CONNECT ---> requested --- RESPONSE --^        ^-- half-closed: each direction ends by itself
//! ```
//!
//! Bytes go between guest memory and the socket without a buffer; only what a socket does not take waits in the connection's
//! backlog, which the credit that the guest was given bounds. All sockets hang in one epoll descriptor, edge-triggered: readiness
//! is remembered until the socket says that it would block, so no state of guest or host makes the loop spin.

mod connection;
mod device;
mod handshake;
mod host;
mod io;
mod packet;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use device::Vsock;

/// How a vsock device is set up.
#[derive(Clone, Debug)]
pub struct VsockConfig {
    /// The guest's context id: 3 or above.
    pub guest_cid: u32,
    /// Base path of the Unix sockets. Its folder must be private to the user: who can connect there can talk to the guest.
    pub socket: PathBuf,
    /// Host ports that accept only guest ports below 1024.
    pub privileged_ports: BTreeSet<u32>,
    /// What the guest may use.
    pub limits: VsockLimits,
}

/// What a guest may use at most.
#[derive(Clone, Copy, Debug)]
pub struct VsockLimits {
    /// Connections at a time, in both directions together.
    pub connections: usize,
    /// How many of them the guest cannot take, so that the host can always reach it.
    pub reserved_for_host: usize,
    /// Bytes per connection that wait for a slow host program: the credit that the guest gets.
    pub buffer: u32,
}

impl Default for VsockLimits {
    fn default() -> Self {
        Self { connections: 256, reserved_for_host: 32, buffer: 256 << 10 }
    }
}

/// Why a vsock device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// Context ids 0 to 2 are not for guests.
    #[error("{0} is not a guest's context id")]
    ContextId(u32),
    /// The Unix socket for the host's programs could not be made.
    #[error("cannot listen on {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No epoll descriptor.
    #[error("cannot watch sockets")]
    Epoll(#[source] std::io::Error),
}
