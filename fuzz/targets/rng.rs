//! Fuzzes the virtio-rng device with whole guests.
#![no_main]

#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;
#[path = "../src/rng.rs"]
mod rng;

thread_local!(static BENCH: std::cell::RefCell<rng::Bench> = rng::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
