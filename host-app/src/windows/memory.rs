//! Window path, hop 4 of 6: guest memory as this process sees it. The other end of `machine::memory`.
//!
//! The machine process sends the guest's RAM as read-only descriptors and the page runs of every virtio-gpu resource
//! ([`inlay_protocol::memory`]); here they become [`Backing`]s. In local mode there is none of this: buffers are memory
//! descriptors that come with the messages.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use inlay_protocol::memory::{Notice, Region, Run};

use super::pixels::{Backing, Mapping, PixelError};

/// Guest RAM and the resources in it.
#[derive(Debug, Default)]
pub struct GuestMemory {
    regions: Vec<(Region, Arc<Mapping>)>,
    resources: HashMap<u32, Resource>,
}

/// A virtio-gpu resource with backing.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Which use of its id.
    pub generation: u64,
    /// Its bytes.
    pub backing: Arc<Backing>,
}

impl GuestMemory {
    /// Takes one notice of the machine process.
    ///
    /// # Errors
    /// When memory cannot be mapped or a run lies outside it.
    pub fn apply(&mut self, notice: Notice, fds: Vec<OwnedFd>) -> Result<(), PixelError> {
        match notice {
            Notice::Regions(regions) => {
                self.resources.clear();
                self.regions = regions
                    .into_iter()
                    .zip(&fds)
                    .map(|(r, fd)| Ok((r, Arc::new(Mapping::new(fd, r.file_offset, r.size)?))))
                    .collect::<Result<_, PixelError>>()?;
            }
            Notice::Resource { id, generation, runs } => {
                let parts = runs.iter().map(|run| self.part(run)).collect::<Result<Vec<_>, _>>()?;
                let backing = Arc::new(Backing::gather(parts)?);
                self.resources.insert(id, Resource { generation, backing });
            }
            // For the loop, and for the screen.
            Notice::Ending
            | Notice::Say(_)
            | Notice::State(_)
            | Notice::Apps
            | Notice::Screen(_)
            | Notice::Scanout(_)
            | Notice::Flushed(_)
            | Notice::Cursor(_) => {}
            Notice::ResourceGone { id, generation } => {
                if self.resources.get(&id).is_some_and(|r| r.generation == generation) {
                    self.resources.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// The resource that has this id now.
    #[must_use]
    pub fn resource(&self, id: u32) -> Option<&Resource> {
        self.resources.get(&id)
    }

    fn part(&self, run: &Run) -> Result<(Arc<Mapping>, usize, usize), PixelError> {
        let outside = || PixelError::Outside(run.addr);
        let end = run.addr.checked_add(run.len).ok_or_else(outside)?;
        let inside = |r: &Region| run.addr >= r.guest_addr && end <= r.guest_addr.saturating_add(r.size);
        let (region, mapping) = self.regions.iter().find(|(r, _)| inside(r)).ok_or_else(outside)?;
        let offset = usize::try_from(run.addr - region.guest_addr).map_err(|_| outside())?;
        Ok((mapping.clone(), offset, usize::try_from(run.len).map_err(|_| outside())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, SealFlags};

    fn ram() -> GuestMemory {
        let fd = rustix::fs::memfd_create("ram", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 1 << 20).unwrap();
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        let region = Region { guest_addr: 0x10_0000, size: 1 << 20, file_offset: 0 };
        let mut memory = GuestMemory::default();
        memory.apply(Notice::Regions(vec![region]), vec![fd]).unwrap();
        memory
    }

    #[test]
    fn runs_outside_memory_are_refused() {
        let mut memory = ram();
        let mut with = |addr, len| {
            memory.apply(Notice::Resource { id: 1, generation: 1, runs: vec![Run { addr, len }] }, vec![])
        };
        assert!(with(0x10_0000, 1 << 20).is_ok());
        assert!(with(0xf_ffff, 2).is_err());
        assert!(with(0x10_0000, (1 << 20) + 1).is_err());
        assert!(with(u64::MAX, 2).is_err());
    }

    #[test]
    fn only_the_named_generation_goes() {
        let mut memory = ram();
        let runs = || vec![Run { addr: 0x10_0000, len: 4096 }];
        memory.apply(Notice::Resource { id: 7, generation: 1, runs: runs() }, vec![]).unwrap();
        memory.apply(Notice::Resource { id: 7, generation: 2, runs: runs() }, vec![]).unwrap();
        memory.apply(Notice::ResourceGone { id: 7, generation: 1 }, vec![]).unwrap();
        assert_eq!(memory.resource(7).map(|r| r.generation), Some(2));
        memory.apply(Notice::ResourceGone { id: 7, generation: 2 }, vec![]).unwrap();
        assert!(memory.resource(7).is_none());
    }
}
