//! Fuzzes `decode::streams`.
#![no_main]

#[allow(dead_code, reason = "one of several entries")]
#[path = "../src/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::streams(data));
