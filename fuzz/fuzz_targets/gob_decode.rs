//! Any bytes into the gob decoder.
#![no_main]

#[path = "../../rpc/gob/tests/fuzz/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::fuzz_decode(bytes));
