//! Access to the recorded data.
use std::path::Path;

use serde_json::Value;

/// One file of `tests/vectors`.
pub(crate) fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The array `key` of a file.
pub(crate) fn cases(name: &str, key: &str) -> Vec<Value> {
    load(name)[key].as_array().unwrap().clone()
}

/// The text under `key`, or nothing.
pub(crate) fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

/// Bytes out of lower-case hexadecimal.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap())
        .collect()
}

/// The text under `key`, or under `key_parts` as a list of texts and how often each is repeated.
pub(crate) fn output(case: &Value, key: &str) -> Vec<u8> {
    if let Some(text) = case[key].as_str() {
        return text.as_bytes().to_vec();
    }
    let parts = case[&format!("{key}_parts")].as_array().unwrap();
    parts
        .iter()
        .flat_map(|part| {
            let times = usize::try_from(part[1].as_u64().unwrap()).unwrap();
            part[0].as_str().unwrap().repeat(times).into_bytes()
        })
        .collect()
}
