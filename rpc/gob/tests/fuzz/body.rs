//! What must hold for any input at all, by whoever runs it: the fuzzer, or a test over a corpus.

use std::collections::HashMap;

use pinfold_gob::{Decoder, Encoder, GoString, GobEncoded, Limits, Nothing};
use serde::Deserialize;

/// A destination with a field of each kind; names as in the vectors that feed the corpus.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Everything {
    service_method: String,
    seq: u64,
    error: GoString,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    headers: HashMap<String, String>,
    x: Option<i32>,
    y: i8,
    v: Vec<Everything>,
    m: HashMap<String, Everything>,
    #[serde(rename = "F")]
    float: f32,
    #[serde(rename = "C")]
    complex: (f64, f64),
    #[serde(rename = "A")]
    array: [u16; 3],
    at: Option<GobEncoded>,
    n: Nothing,
    next: Option<Box<Everything>>,
}

/// Decodes arbitrary bytes in every way there is, and checks that the ways agree.
pub(crate) fn fuzz_decode(bytes: &[u8]) {
    let whole = outcomes(bytes, bytes.len().max(1));
    assert_eq!(whole, outcomes(bytes, 1), "pieces of one byte");
    assert_eq!(whole, outcomes(bytes, 7), "pieces of seven bytes");
    skipping_agrees_with_decoding(bytes);
    received_values_can_be_sent_on(bytes);
    drain::<Everything>(bytes);
    drain::<Nothing>(bytes);
    drain::<(i64, i64)>(bytes);
    drain::<Vec<Vec<u8>>>(bytes);
    drain::<serde_json::Value>(bytes);
}

/// Tight, so that the corpus meets them.
fn limits() -> Limits {
    Limits::default()
        .with_message_bytes(64 << 10)
        .with_depth(16)
        .with_elements(4096)
        .with_types(32)
        .with_fields(32)
}

fn decoder(bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(limits());
    decoder.push(bytes);
    decoder
}

/// Values and errors in order, of input that comes in pieces.
fn outcomes(bytes: &[u8], piece: usize) -> Vec<String> {
    let mut decoder = Decoder::new(limits());
    let mut outcomes = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while !decoder.is_broken() {
            match decoder.decode_value() {
                Ok(None) => break,
                Ok(Some(value)) => outcomes.push(format!("{value:?}")),
                Err(error) => outcomes.push(error.to_string()),
            }
        }
    }
    outcomes
}

fn skipping_agrees_with_decoding(bytes: &[u8]) {
    let (mut decoding, mut skipping) = (decoder(bytes), decoder(bytes));
    while !decoding.is_broken() {
        match (decoding.decode_value(), skipping.skip()) {
            (Ok(None), Ok(None)) => break,
            (Ok(Some(_)), Ok(Some(()))) | (Err(_), _) => {}
            (decoded, skipped) => panic!("decoded {decoded:?}, skipped {skipped:?}"),
        }
        assert_eq!(decoding.buffered(), skipping.buffered());
        assert_eq!(decoding.is_broken(), skipping.is_broken());
    }
}

fn received_values_can_be_sent_on(bytes: &[u8]) {
    let mut receiving = decoder(bytes);
    let mut encoder = Encoder::new();
    let mut forwarded = Decoder::new(Limits::default());
    while !receiving.is_broken() {
        let ty = match receiving.peek_type() {
            Ok(Some(ty)) => ty,
            Ok(None) => break,
            Err(_) => continue,
        };
        let Ok(Some(value)) = receiving.decode_value() else {
            continue;
        };
        let mut out = Vec::new();
        if encoder.encode_value(ty.schema(), &value, &mut out).is_err() {
            panic!("{value:?} was decoded and cannot be encoded");
        }
        forwarded.push(&out);
        let again = forwarded.decode_value();
        // Zero fields that were sent all the same are not sent again.
        assert!(matches!(again, Ok(Some(_))), "{value:?} became {again:?}");
    }
}

fn drain<T: serde::de::DeserializeOwned>(bytes: &[u8]) {
    let mut decoder = decoder(bytes);
    while !decoder.is_broken() && !matches!(decoder.decode::<T>(), Ok(None)) {}
}
