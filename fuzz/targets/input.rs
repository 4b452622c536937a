//! Fuzzes the virtio-input device with whole guests and hosts that type.
#![no_main]

#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;
#[path = "../src/input.rs"]
mod input;

thread_local!(static BENCH: std::cell::RefCell<input::Bench> = input::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
