//! Fuzzes the virtio-console device with whole guests and terminals.
#![no_main]

#[path = "../src/console.rs"]
mod console;
#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;

thread_local!(static BENCH: std::cell::RefCell<console::Bench> = console::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
