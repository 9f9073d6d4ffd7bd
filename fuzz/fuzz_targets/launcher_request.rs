//! Any bytes into the decoder of the launcher's requests.
#![no_main]

#[path = "../../sandbox/tests/launcher/decoder_body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::fuzz_request(bytes));
