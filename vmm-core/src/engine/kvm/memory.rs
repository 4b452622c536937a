//! Guest RAM: one memfd, mapped once, in two pieces around the hole below 4 GiB where devices are.
//!
//! ```text
//!   0        LOW_END (3 GiB)   ECAM  BARs ... IOAPIC, LAPIC   4 GiB            HIGH + rest   shared memory windows
//!   | RAM ...|-------------------- devices ------------------|  RAM (the rest) |............|
//! ```

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{FileOffset, GuestAddress, GuestMemory as _, GuestRegionMmap, MmapRegion};

use super::KvmError;
use crate::transport::vhost_user::RamRegion;
use crate::virtio::Mem;

/// RAM below 4 GiB ends here at the latest.
pub const LOW_END: u64 = 0xc000_0000;
/// RAM goes on here.
pub const HIGH: u64 = 1 << 32;
/// PCI's extended configuration space (one bus).
pub const ECAM: u64 = 0xd000_0000;
/// Its size: 32 slots of 8 functions of 4 KiB.
pub const ECAM_SIZE: u64 = 1 << 20;
/// Where BARs may be.
pub const BARS: u64 = 0xe000_0000;
/// Size of that window.
pub const BARS_SIZE: u64 = 0x1000_0000;
/// The in-kernel I/O APIC.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The in-kernel local APICs.
pub const LAPIC: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel processors for real mode.
pub const TSS: usize = 0xfffb_d000;
/// One more page of that kind.
pub const IDENTITY_MAP: u64 = 0xfffb_c000;

/// Guest RAM.
#[derive(Debug, Clone)]
pub struct Ram {
    /// Its mapping in this process.
    pub mem: Mem,
    /// The same as descriptors.
    pub regions: Vec<RamRegion>,
}

impl Ram {
    /// Makes `mib` MiB of it. Pages are taken from the host when they are first touched.
    ///
    /// # Errors
    /// The host refuses.
    pub fn new(mib: u32) -> Result<Self, KvmError> {
        let size = u64::from(mib) << 20;
        let os = |act| move |e: rustix::io::Errno| KvmError::Os { act, source: e.into() };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("guest-ram", flags).map_err(os("make guest memory"))?;
        rustix::fs::ftruncate(&fd, size).map_err(os("make guest memory"))?;
        // Who maps it can rely on its being there.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(os("make guest memory"))?;
        let file = Arc::new(File::from(fd));
        let low = size.min(LOW_END);
        let mut regions = vec![RamRegion { guest_addr: 0, size: low, file: file.clone(), file_offset: 0 }];
        if size > low {
            regions.push(RamRegion { guest_addr: HIGH, size: size - low, file, file_offset: low });
        }
        let mapped = regions.iter().map(map).collect::<Result<Vec<_>, _>>()?;
        let mem = Mem::from_regions(mapped).map_err(|e| KvmError::Config(e.to_string()))?;
        for region in mem.iter() {
            // SAFETY: the range is the region's own mapping. Huge pages are a wish; hosts without them refuse it.
            unsafe {
                libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE);
                libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_DONTDUMP);
            }
        }
        Ok(Self { mem, regions })
    }

    /// The end of RAM below the hole.
    pub fn low_end(&self) -> u64 {
        self.regions.first().map_or(0, |r| r.size)
    }

    /// The end of RAM above the hole, or 4 GiB.
    pub fn high_end(&self) -> u64 {
        self.regions.get(1).map_or(HIGH, |r| r.guest_addr + r.size)
    }
}

fn map(region: &RamRegion) -> Result<GuestRegionMmap, KvmError> {
    let failed =
        |error: &dyn std::fmt::Display| KvmError::Config(format!("cannot map guest memory: {error}"));
    let offset = FileOffset::from_arc(region.file.clone(), region.file_offset);
    let size = usize::try_from(region.size).map_err(|e| failed(&e))?;
    let mapping = MmapRegion::from_file(offset, size).map_err(|e| failed(&e))?;
    GuestRegionMmap::new(mapping, GuestAddress(region.guest_addr))
        .ok_or_else(|| failed(&"its end is beyond all addresses"))
}
