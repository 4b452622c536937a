//! Fuzzes `decode::display_requests`.
#![no_main]

#[allow(dead_code, reason = "one of several entries")]
#[path = "../src/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decode::display_requests(data));
