//! Fuzzes the virtio-gpu device with whole guests.
#![no_main]

#[path = "../src/gpu.rs"]
mod gpu;
#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;

thread_local!(static BENCH: std::cell::RefCell<gpu::Bench> = gpu::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
