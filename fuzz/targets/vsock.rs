//! Fuzzes the virtio-vsock device with whole guests and host programs.
#![no_main]

#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;
#[path = "../src/vsock.rs"]
mod vsock;

thread_local!(static BENCH: std::cell::RefCell<vsock::Bench> = vsock::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
