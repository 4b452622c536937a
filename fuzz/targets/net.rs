//! Fuzzes the virtio-net device with whole guests and networks.
#![no_main]

#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;
#[path = "../src/net.rs"]
mod net;

thread_local!(static BENCH: std::cell::RefCell<net::Bench> = net::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
