//! The device with guest memory in files, whose holes are counted.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use super::{Balloon, DEFLATE, INFLATE, PAGE, REPORTING, feature};
use crate::virtio::testing::{Driver, RAM};
use crate::virtio::{Device as _, Mem, Wake};

/// Bytes of the file before guest memory begins.
const AHEAD: u64 = 3 * PAGE;
/// Guest pages that no ring or buffer of the driver has.
const FREE: u64 = 0x310;
/// A page with something on it.
const FILLED: [u8; 4096] = [0xa5; 4096];
/// The first page of the second region.
const HIGH: u64 = (8 << 20) / PAGE;

struct Bench {
    driver: Driver,
    balloon: Balloon,
    file: Arc<File>,
}

impl Bench {
    /// Memory of one file, all of it written to.
    fn new() -> Self {
        let file = rustix::fs::memfd_create("balloon-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .unwrap();
        let file = Arc::new(File::from(file));
        file.set_len(AHEAD + RAM.iter().map(|(_, size)| *size as u64).sum::<u64>()).unwrap();
        // As the engine seals guest memory.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
        let mut at = AHEAD;
        let regions = RAM.map(|(addr, size)| {
            let mapping = MmapRegion::from_file(FileOffset::from_arc(file.clone(), at), size).unwrap();
            at += size as u64;
            GuestRegionMmap::new(mapping, addr).unwrap()
        });
        let mem = Mem::from_regions(regions.into()).unwrap();
        Self { driver: Driver::with_memory(3, mem), balloon: Balloon::new().unwrap(), file }.filled()
    }

    fn filled(mut self) -> Self {
        for page in (FREE..0x400).chain(HIGH..HIGH + 0x100) {
            self.driver.mem.write_slice(&FILLED, GuestAddress(page * PAGE)).unwrap();
        }
        self.balloon.accept_features(feature::REPORTING);
        self
    }

    fn pages(&self) -> u64 {
        self.file.metadata().unwrap().blocks() * 512 / PAGE
    }

    /// Looking at a page that is not there brings it back: the file's pages are to be counted before.
    fn is_zero(&self, page: u64) -> bool {
        let mut bytes = [1; FILLED.len()];
        self.driver.mem.read_slice(&mut bytes, GuestAddress(page * PAGE)).unwrap();
        assert!(bytes == [0; FILLED.len()] || bytes == FILLED, "whole pages");
        bytes[0] == 0
    }

    /// The pages with numbers from `first` on that are zero.
    fn zero(&self, first: u64, count: u64) -> Vec<u64> {
        (0..count).filter(|page| self.is_zero(first + page)).collect()
    }

    fn inflate(&mut self, numbers: &[u32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.send(INFLATE, &[&bytes]);
    }

    fn send(&mut self, queue: usize, parts: &[&[u8]]) {
        self.driver.submit(queue, parts, &[]);
        let outcome = self.driver.drive(&mut self.balloon, Wake::Queue(queue)).unwrap();
        assert!(outcome.notify.contains(queue));
        assert_eq!(self.driver.used(queue).len(), 1);
    }

    fn report(&mut self, buffers: &[(u64, u32)]) {
        let buffers: Vec<_> = buffers.iter().map(|(addr, len)| (*addr, *len, 2)).collect();
        self.driver.submit_raw(REPORTING, &buffers);
        self.driver.drive(&mut self.balloon, Wake::Queue(REPORTING)).unwrap();
        let used = self.driver.used(REPORTING);
        assert!(used.len() == 1 && used[0].data.is_empty());
    }
}

fn number(page: u64) -> u32 {
    u32::try_from(page).unwrap()
}

#[test]
fn inflated_pages_go_back_to_the_host() {
    let mut b = Bench::new();
    // The pages of rings and buffers are not touched yet.
    b.inflate(&[u32::MAX]);
    let before = b.pages();
    // Downwards, twice the same, and one of the other region.
    b.inflate(&[FREE + 3, FREE + 2, FREE + 2, FREE + 7, HIGH].map(number));
    assert_eq!(before - b.pages(), 4);
    assert_eq!(b.zero(FREE, 10), [2, 3, 7]);
    assert_eq!(b.zero(HIGH, 10), [0]);
    // A deflated page is there again when it is written to.
    b.send(DEFLATE, &[&number(FREE + 2).to_le_bytes()]);
    b.driver.mem.write_slice(&FILLED, GuestAddress((FREE + 2) * PAGE)).unwrap();
    assert_eq!(b.zero(FREE, 10), [3, 7]);
}

#[test]
fn the_last_page_and_pages_that_are_none() {
    let mut b = Bench::new();
    b.inflate(&[u32::MAX]);
    let before = b.pages();
    let bad = [0x400, 0x7ff, number(HIGH + 0x100), 0xf_ffff, 0x10_0000, u32::MAX];
    b.inflate(&bad);
    assert_eq!(before, b.pages());
    // Half a number behind a whole one, cut in two.
    let last = number(HIGH + 0xff).to_le_bytes();
    b.send(INFLATE, &[&last[..1], &last[1..], &[1, 3]]);
    assert_eq!(before - b.pages(), 1);
    assert!(b.is_zero(HIGH + 0xff));
    // More numbers than a chain may have: the guest keeps those behind.
    let mut many = vec![number(FREE); super::MOST_PAGES];
    many.push(number(FREE + 1));
    b.inflate(&many);
    assert_eq!(b.zero(FREE, 3), [0]);
}

#[test]
fn reported_pages_go_back_to_the_host() {
    let mut b = Bench::new();
    b.report(&[(FREE * PAGE, 4096)]);
    b.driver.mem.write_slice(&FILLED, GuestAddress(FREE * PAGE)).unwrap();
    let before = b.pages();
    // Only whole pages: a start and an end in the middle of one; two buffers that only together have page 21.
    let at = (FREE + 2) * PAGE;
    b.report(&[
        (at, 3 * 4096),
        (at + 8 * PAGE - 100, 4096 + 300),
        (at + 18 * PAGE, 4096 + 96),
        (at + 19 * PAGE + 96, 4000),
    ]);
    assert_eq!(before - b.pages(), 6);
    assert_eq!(b.zero(FREE, 30), [2, 3, 4, 10, 20, 21]);
}

#[test]
fn nothing_is_reported_without_the_feature() {
    let mut b = Bench::new();
    b.balloon.accept_features(feature::DEFLATE_ON_OOM);
    b.report(&[(FREE * PAGE, 4096)]);
    assert!(!b.is_zero(FREE));
    // Pages outside of memory stop the device, as with any other chain.
    b.balloon.accept_features(feature::REPORTING);
    b.driver.submit_raw(REPORTING, &[(5 << 20, 4096, 2)]);
    assert!(b.driver.drive(&mut b.balloon, Wake::Queue(REPORTING)).is_err());
}

#[test]
fn memory_without_a_file() {
    let mut b = Bench::new();
    b.driver = Driver::new(3);
    b = b.filled();
    b.inflate(&[FREE + 1, FREE + 5].map(number));
    b.report(&[((FREE + 6) * PAGE + 1, 3 * 4096)]);
    assert_eq!(b.zero(FREE, 10), [1, 5, 7, 8]);
}

#[test]
fn the_host_asks_and_the_driver_answers() {
    let mut b = Bench::new();
    let handle = b.balloon.handle();
    handle.set_target(0x1234);
    assert_eq!(b.balloon.config(), [0x34, 0x12, 0, 0, 0, 0, 0, 0]);
    b.driver.drive(&mut b.balloon, Wake::HostSource).unwrap();
    assert!(b.balloon.config_changed() && !b.balloon.config_changed());
    // Only what it has is the driver's to write.
    b.balloon.write_config(0, &[9; 4]);
    b.balloon.write_config(8, &[9; 4]);
    b.balloon.write_config(usize::MAX, &[9; 4]);
    assert_eq!((handle.target(), handle.actual()), (0x1234, 0));
    b.balloon.write_config(4, &0x1200_u32.to_le_bytes());
    b.balloon.write_config(5, &[0x11]);
    assert_eq!((handle.target(), handle.actual()), (0x1234, 0x1100));
    b.balloon.reset();
    assert_eq!((handle.target(), handle.actual()), (0x1234, 0));
}

#[test]
fn state_survives_as_json() {
    let mut b = Bench::new();
    b.balloon.handle().set_target(77);
    b.balloon.write_config(4, &[70, 0, 0, 0]);
    let state = b.balloon.save().to_string();
    let mut other = Balloon::new().unwrap();
    other.restore(serde_json::from_str(&state).unwrap(), &b.driver.mem).unwrap();
    assert_eq!(other.config(), b.balloon.config());
    for garbage in ["null", "{\"target\":1}", "{\"target\":1,\"actual\":-1}", "[[]]"] {
        assert!(other.restore(serde_json::from_str(garbage).unwrap(), &b.driver.mem).is_err());
    }
    assert_eq!(other.config(), b.balloon.config());
}
