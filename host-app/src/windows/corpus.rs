//! Runs the corpus of the fuzzer `windows` (`fuzz/corpus`) through the code that the fuzzer runs.

use super::{buffers, memory, placement};

#[path = "../../../fuzz/src/windows.rs"]
mod fuzzed;

#[test]
fn windows() {
    let folder = format!("{}/../fuzz/corpus/windows", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    let mut bench = fuzzed::Bench::default();
    for file in files {
        // Shown when it fails.
        println!("{}", file.display());
        bench.run(&std::fs::read(file).unwrap());
    }
}
