//! Runs the fuzzers' corpora of the devices (`fuzz/corpus`) through the code that the fuzzers run.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::print_stdout, reason = "shown when a test fails")]

#[path = "../../fuzz/src/balloon.rs"]
mod balloon;
#[path = "../../fuzz/src/block.rs"]
mod block;
#[path = "../../fuzz/src/console.rs"]
mod console;
#[path = "../../fuzz/src/gpu.rs"]
mod gpu;
#[path = "../../fuzz/src/guest.rs"]
mod guest;
#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/net.rs"]
mod net;
#[path = "../../fuzz/src/rng.rs"]
mod rng;
#[path = "../../fuzz/src/vsock.rs"]
mod vsock;

fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        // Shown when it fails.
        println!("{}", file.display());
        run(&std::fs::read(file).unwrap());
    }
}

#[test]
fn balloon() {
    let mut bench = balloon::Bench::default();
    replay("balloon", |data| bench.run(data));
}

#[test]
fn block() {
    let mut bench = block::Bench::default();
    replay("block", |data| bench.run(data));
}

#[test]
fn console() {
    let mut bench = console::Bench::default();
    replay("console", |data| bench.run(data));
}

#[test]
fn gpu() {
    let mut bench = gpu::Bench::default();
    replay("gpu", |data| bench.run(data));
}

#[test]
fn input() {
    let mut bench = input::Bench::default();
    replay("input", |data| bench.run(data));
}

#[test]
fn net() {
    let mut bench = net::Bench::default();
    replay("net", |data| bench.run(data));
}

#[test]
fn rng() {
    let mut bench = rng::Bench::default();
    replay("rng", |data| bench.run(data));
}

#[test]
fn vsock() {
    let mut bench = vsock::Bench::default();
    replay("vsock", |data| bench.run(data));
}
