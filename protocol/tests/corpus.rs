//! Runs the fuzzers' corpora of the decoders (`fuzz/corpus`) through the code that the fuzzers run.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]
#![allow(clippy::print_stdout, reason = "shown when a test fails")]

#[path = "../../fuzz/src/decode.rs"]
mod decode;

fn replay(target: &str, run: impl Fn(&[u8])) {
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
fn display_requests() {
    replay("display-requests", decode::display_requests);
}

#[test]
fn display_events() {
    replay("display-events", decode::display_events);
}

#[test]
fn control() {
    replay("control", decode::control);
}

#[test]
fn streams() {
    replay("streams", decode::streams);
}
