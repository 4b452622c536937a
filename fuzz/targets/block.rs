//! Fuzzes the virtio-blk device with whole guests.
#![no_main]

#[path = "../src/block.rs"]
mod block;
#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;

thread_local!(static BENCH: std::cell::RefCell<block::Bench> = block::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
