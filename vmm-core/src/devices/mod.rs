//! The virtio devices, each a folder: `device` (the [`Device`](crate::virtio::Device) and its queues), the words of the
//! specification, its parts, tests.

pub mod balloon;
pub mod block;
pub mod console;
pub mod fs;
pub mod gpu;
pub mod input;
pub mod net;
pub mod rng;
pub mod vsock;
