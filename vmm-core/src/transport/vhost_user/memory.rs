//! Guest RAM as the front end shares it: mapped here for the device, and told to an observer that maps it itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use vhost::vhost_user::Error as ProtocolError;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::virtio::Mem;

/// A piece of guest RAM.
#[derive(Clone, Debug)]
pub struct RamRegion {
    /// Guest physical address of the first byte.
    pub guest_addr: u64,
    /// Length in bytes.
    pub size: u64,
    /// The memory: a memfd of the engine.
    pub file: Arc<File>,
    /// Where in `file` the region starts.
    pub file_offset: u64,
}

/// Learns of guest RAM. Called on the device's thread: it must not block.
pub trait MemoryObserver: Send {
    /// Guest RAM consists of exactly these regions from now on. Called only when that differs from before.
    fn memory_changed(&mut self, regions: &[RamRegion]);
}

/// One front end's memory table.
pub struct MemoryTable {
    pub mem: Mem,
    pub regions: Vec<RamRegion>,
    /// Where the front end has each region in its own address space.
    user_addrs: Vec<u64>,
}

impl MemoryTable {
    /// Maps what a SET_MEM_TABLE names.
    pub fn map(table: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self, ProtocolError> {
        let mut mapped = Vec::new();
        let mut regions = Vec::new();
        let mut user_addrs = Vec::new();
        for (region, file) in table.iter().zip(files) {
            let region = *region;
            let file = Arc::new(file);
            let offset = FileOffset::from_arc(Arc::clone(&file), region.mmap_offset);
            let size = usize::try_from(region.memory_size).map_err(|_| ProtocolError::InvalidParam)?;
            let mapping = MmapRegion::from_file(offset, size)
                .map_err(|e| ProtocolError::ReqHandlerError(io::Error::other(e)))?;
            let mapping = GuestRegionMmap::new(mapping, GuestAddress(region.guest_phys_addr))
                .ok_or(ProtocolError::InvalidParam)?;
            mapped.push(mapping);
            regions.push(RamRegion {
                guest_addr: region.guest_phys_addr,
                size: region.memory_size,
                file,
                file_offset: region.mmap_offset,
            });
            user_addrs.push(region.user_addr);
        }
        mapped.sort_by_key(|r| vm_memory::GuestMemoryRegion::start_addr(r).0);
        let mem =
            Mem::from_regions(mapped).map_err(|e| ProtocolError::ReqHandlerError(io::Error::other(e)))?;
        Ok(Self { mem, regions, user_addrs })
    }

    /// The guest physical address of an address in the front end's address space.
    pub fn translate(&self, user_addr: u64) -> Option<u64> {
        self.regions.iter().zip(&self.user_addrs).find_map(|(region, start)| {
            let offset = user_addr.checked_sub(*start)?;
            (offset < region.size).then(|| region.guest_addr.checked_add(offset))?
        })
    }

    /// Whether both tables show the same memory at the same places.
    pub fn same_ram(&self, other: &Self) -> bool {
        self.regions.len() == other.regions.len()
            && self.regions.iter().zip(&other.regions).all(|(a, b)| {
                (a.guest_addr, a.size, a.file_offset) == (b.guest_addr, b.size, b.file_offset)
                    && same_file(&a.file, &b.file)
            })
    }
}

fn same_file(a: &File, b: &File) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
