//! Fuzzes the virtio-console device with whole guests and terminals.
#![no_main]

#[path = "../src/console.rs"]
mod console;
#[allow(dead_code, reason = "each device uses a part")]
#[path = "../src/guest.rs"]
mod guest;

thread_local!(static BENCH: std::cell::RefCell<console::Bench> = bench().into());

fn bench() -> console::Bench {
    // SAFETY: no handler is installed. A terminal that is gone is an error to a program of Rust, whose start sees to that;
    // libFuzzer's does not.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    console::Bench::default()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| BENCH.with_borrow_mut(|bench| bench.run(data)));
