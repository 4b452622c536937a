//! Runs of guest memory, given back to the host page by page.

use std::io;

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{GuestMemory as _, GuestMemoryRegion as _, GuestRegionMmap};

use crate::virtio::Mem;

/// Guest addresses with lengths; neighbours are joined as they come.
#[derive(Debug, Default)]
pub struct Runs(Vec<(u64, u64)>);

impl Runs {
    pub fn push(&mut self, addr: u64, len: u64) {
        let end = addr.saturating_add(len);
        if let Some((last, last_end)) = self.0.last_mut()
            && (*last..=*last_end).contains(&addr)
        {
            *last_end = end.max(*last_end);
            return;
        }
        self.0.push((addr, end));
    }

    /// Gives back the host's pages that lie wholly in a run; what is not guest memory is passed over. They read as zeroes
    /// afterwards.
    ///
    /// # Errors
    /// The host's first refusal; the other runs were tried.
    pub fn give_back(&self, mem: &Mem) -> io::Result<()> {
        let mut first = Ok(());
        for &(addr, end) in &self.0 {
            for region in mem.iter() {
                let start = region.start_addr().0;
                let (from, to) = (addr.max(start), end.min(start.saturating_add(region.len())));
                if from < to {
                    first = first.and(free(region, from - start, to - start));
                }
            }
        }
        first
    }
}

/// Gives back the whole pages from offset `from` to offset `to` of a region; both lie in it.
fn free(region: &GuestRegionMmap, from: u64, to: u64) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    // Mapping and file are made of the same pages.
    let base = region.file_offset().map_or(0, |file| file.start());
    let Some(from) = base.checked_add(from).and_then(|at| at.checked_next_multiple_of(page)) else {
        return Ok(());
    };
    let to = base.saturating_add(to) / page * page;
    let Some(len) = to.checked_sub(from).filter(|len| *len > 0) else { return Ok(()) };
    if let Some(file) = region.file_offset() {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        return Ok(fallocate(file.file(), mode, from, len)?);
    }
    let (Ok(from), Ok(len)) = (usize::try_from(from), usize::try_from(len)) else { return Ok(()) };
    // SAFETY: the range lies in the region's own anonymous mapping, which begins with a page. No Rust reference to guest memory
    // exists that would see its bytes change.
    let done = unsafe { libc::madvise(region.as_ptr().add(from).cast(), len, libc::MADV_DONTNEED) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
