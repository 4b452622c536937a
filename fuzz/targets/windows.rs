//! Fuzzes what the window process does without a graphics device: guest memory, pool buffers, copies, popups' places.
#![no_main]

// As in `host-app/src/windows`, whose files these are.
#[allow(dead_code, reason = "a part of the window process")]
#[path = "../../host-app/src/windows/buffers.rs"]
mod buffers;
#[allow(dead_code, reason = "a part of the window process")]
#[path = "../../host-app/src/windows/memory.rs"]
mod memory;
#[allow(dead_code, reason = "a part of the window process")]
#[path = "../../host-app/src/windows/pixels.rs"]
mod pixels;
#[allow(dead_code, reason = "a part of the window process")]
#[path = "../../host-app/src/windows/placement.rs"]
mod placement;

#[path = "../src/windows.rs"]
mod windows;

thread_local!(static BENCH: std::cell::RefCell<windows::Bench> = windows::Bench::default().into());

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
