//! Window path, hop 4 of 6: the agent's pool buffers, by id.
//!
//! Messages and virtio-gpu resources are not ordered with each other: a commit may name a resource whose backing this
//! process has not heard of yet. Such a buffer is [`Found::NotYet`], and only its surface waits. Once a buffer was found
//! it is bound to that use of the resource id; when the id is used again, the buffer is dead.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use inlay_protocol::display::{self, BufferId, Content};
use inlay_protocol::limits;

use super::memory::GuestMemory;
use super::pixels::{Backing, Mapping, PixelError};

#[derive(Debug)]
enum Place {
    Memfd(Arc<Backing>),
    Resource { id: u32, bound: Option<u64> },
}

#[derive(Debug)]
struct Buffer {
    size: u64,
    place: Place,
}

/// What a content's buffer is now.
#[derive(Debug)]
pub enum Found {
    /// Its bytes can be read.
    Ready(Arc<Backing>),
    /// Its pages are not known yet.
    NotYet,
    /// It does not exist, is too small, or its pages went.
    Dead,
}

/// Why a buffer cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// More buffers than one connection may have.
    #[error("the agent has more than {} buffers", limits::BUFFERS)]
    TooMany,
    /// The id is in use.
    #[error("the agent uses buffer id {0} twice")]
    Twice(u32),
    /// Its memory cannot be used.
    #[error("the memory of a buffer cannot be used")]
    Memory(#[from] PixelError),
    /// Its kind does not fit this connection.
    #[error("the agent sends a buffer of a kind that this connection does not carry")]
    Kind,
}

/// All buffers of one display connection.
#[derive(Debug, Default)]
pub struct Buffers {
    buffers: HashMap<BufferId, Buffer>,
}

impl Buffers {
    /// Takes a new buffer.
    ///
    /// # Errors
    /// When there are too many, the id is in use, or its memory cannot be mapped.
    pub fn create(
        &mut self,
        buffer: BufferId,
        size: u64,
        backing: display::Backing,
        fd: Option<&OwnedFd>,
    ) -> Result<(), BufferError> {
        if self.buffers.len() >= limits::BUFFERS {
            return Err(BufferError::TooMany);
        }
        if self.buffers.contains_key(&buffer) {
            return Err(BufferError::Twice(buffer.0));
        }
        let place = match (backing, fd) {
            (display::Backing::Memfd, Some(fd)) => {
                Place::Memfd(Arc::new(Backing::whole(Mapping::new(fd, 0, size)?)))
            }
            (display::Backing::VirtioGpu { resource }, None) => Place::Resource { id: resource, bound: None },
            _ => return Err(BufferError::Kind),
        };
        self.buffers.insert(buffer, Buffer { size, place });
        Ok(())
    }

    /// Forgets a buffer.
    pub fn destroy(&mut self, buffer: BufferId) {
        self.buffers.remove(&buffer);
    }

    /// The bytes of a content. Binds the buffer to the use of the resource that it finds.
    pub fn find(&mut self, content: &Content, memory: &GuestMemory) -> Found {
        let Some(buffer) = self.buffers.get_mut(&content.buffer) else { return Found::Dead };
        if content.end().is_none_or(|end| end > buffer.size) {
            return Found::Dead;
        }
        let backing = match &mut buffer.place {
            Place::Memfd(backing) => backing.clone(),
            Place::Resource { id, bound } => match (memory.resource(*id), *bound) {
                (None, None) => return Found::NotYet,
                (Some(resource), None) => {
                    *bound = Some(resource.generation);
                    resource.backing.clone()
                }
                (Some(resource), Some(generation)) if resource.generation == generation => {
                    resource.backing.clone()
                }
                _ => return Found::Dead,
            },
        };
        match content.end() {
            Some(end) if end <= backing.len() as u64 => Found::Ready(backing),
            _ => Found::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inlay_protocol::display::Format;
    use inlay_protocol::geometry::Size;
    use inlay_protocol::memory::{Notice, Region, Run};
    use rustix::fs::{MemfdFlags, SealFlags};

    fn ram(memory: &mut GuestMemory) {
        let fd = rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 20).unwrap();
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        let region = Region { guest_addr: 0, size: 1 << 20, file_offset: 0 };
        memory.apply(Notice::Regions(vec![region]), vec![fd]).unwrap();
    }

    fn content(height: u32) -> Content {
        let size = Size::new(16, height);
        Content { buffer: BufferId(5), offset: 0, size, stride: 64, format: Format::Argb8888 }
    }

    #[test]
    fn a_resource_is_waited_for_then_bound_then_dead() {
        let mut memory = GuestMemory::default();
        ram(&mut memory);
        let mut buffers = Buffers::default();
        let backing = display::Backing::VirtioGpu { resource: 9 };
        buffers.create(BufferId(5), 4096, backing, None).unwrap();
        assert!(matches!(buffers.find(&content(8), &memory), Found::NotYet));
        let runs = || vec![Run { addr: 8192, len: 4096 }];
        memory.apply(Notice::Resource { id: 9, generation: 3, runs: runs() }, vec![]).unwrap();
        assert!(matches!(buffers.find(&content(64), &memory), Found::Ready(_)));
        assert!(matches!(buffers.find(&content(65), &memory), Found::Dead));
        memory.apply(Notice::ResourceGone { id: 9, generation: 3 }, vec![]).unwrap();
        assert!(matches!(buffers.find(&content(8), &memory), Found::Dead));
        memory.apply(Notice::Resource { id: 9, generation: 4, runs: runs() }, vec![]).unwrap();
        assert!(matches!(buffers.find(&content(8), &memory), Found::Dead));
    }

    #[test]
    fn backing_shorter_than_said_is_dead_not_read() {
        let mut memory = GuestMemory::default();
        ram(&mut memory);
        let mut buffers = Buffers::default();
        let backing = display::Backing::VirtioGpu { resource: 9 };
        buffers.create(BufferId(5), 1 << 20, backing, None).unwrap();
        let runs = vec![Run { addr: 8192, len: 4096 }];
        memory.apply(Notice::Resource { id: 9, generation: 3, runs }, vec![]).unwrap();
        assert!(matches!(buffers.find(&content(65), &memory), Found::Dead));
    }

    #[test]
    fn ids_and_kinds_are_checked() {
        let mut buffers = Buffers::default();
        let gpu = display::Backing::VirtioGpu { resource: 1 };
        buffers.create(BufferId(1), 1, gpu, None).unwrap();
        assert!(matches!(buffers.create(BufferId(1), 1, gpu, None), Err(BufferError::Twice(1))));
        let memfd = display::Backing::Memfd;
        assert!(matches!(buffers.create(BufferId(2), 1, memfd, None), Err(BufferError::Kind)));
    }
}
