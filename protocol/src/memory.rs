//! The memory channel: what the machine process tells the window process about guest memory. Never reachable for the guest.
//!
//! First [`Notice::Regions`] with one read-only file descriptor for each region, then every virtio-gpu resource that has
//! backing, then changes as they happen. The end of the connection is the end of the machine.

use serde::{Deserialize, Serialize};

use crate::framing::{Invalid, Message};
use crate::limits;

/// A piece of guest memory in a file that travels beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Guest physical address of its first byte.
    pub guest_addr: u64,
    /// Bytes.
    pub size: u64,
    /// Where it begins in the file.
    pub file_offset: u64,
}

/// A run of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Guest physical address of its first byte.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
}

/// From the machine process to the window process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// All of guest memory; replaces what was said before.
    Regions(Vec<Region>),
    /// A resource has backing.
    Resource {
        /// The id that guest and device use.
        id: u32,
        /// Which use of that id, unique in the life of the device.
        generation: u64,
        /// The pages of its bytes, in order.
        runs: Vec<Run>,
    },
    /// The machine is switched off in order: its windows close without a word.
    Ending,
    /// A resource lost its backing.
    ResourceGone {
        /// The id.
        id: u32,
        /// Which use of that id.
        generation: u64,
    },
}

impl Message for Notice {
    const LIMIT: usize = limits::MEMORY_MESSAGE;

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Regions(regions) => Invalid::unless(regions.len() <= limits::PENDING_FDS, "memory regions"),
            Self::Resource { runs, .. } => Invalid::unless(runs.len() <= limits::PAGE_RUNS, "page runs"),
            Self::ResourceGone { .. } | Self::Ending => Ok(()),
        }
    }

    fn descriptors(&self) -> usize {
        if let Self::Regions(regions) = self { regions.len() } else { 0 }
    }
}
