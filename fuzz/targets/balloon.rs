//! Fuzzes the virtio-balloon device with whole guests.
#![no_main]

#[path = "../src/balloon.rs"]
mod balloon;
#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;

thread_local!(static BENCH: std::cell::RefCell<balloon::Bench> = balloon::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
