//! The values that net/rpc and go-plugin send, against bytes recorded from Go.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

use std::collections::HashMap;

use pinfold_gob::{
    DecodeError, Decoder, Empty, Encoder, FirstId, GoString, Interface, Kind, Limits, Nothing,
    Schema, Type, Value, gob_struct,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    service_method: String,
    seq: u64,
}

gob_struct!(Request as "Request" { "ServiceMethod": String, "Seq": u64 });

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Payload {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    headers: HashMap<String, String>,
}

gob_struct!(Payload as "Payload" { "Body": Vec<u8>, "Headers": HashMap<String, String> });

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn encoded<T: Serialize + ?Sized>(schema: &Schema, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new().encode(schema, value, &mut out).unwrap();
    out
}

#[test]
fn a_request_has_the_bytes_of_go() {
    let request = Request {
        service_method: "Plugin.Call".into(),
        seq: 1,
    };
    let bytes = hex(
        "2e 7f 03 01 01 07 52657175657374 01 ff80 00 01 02 01 0d 536572766963654d6574686f64
         01 0c 00 01 03 536571 01 06 00 00 00 12 ff80 01 0b 506c7567696e2e43616c6c 01 01 00",
    );
    assert_eq!(encoded(&Schema::of::<Request>(), &request), bytes);
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&bytes);
    assert_eq!(decoder.decode::<Request>(), Ok(Some(request)));
    assert!(decoder.is_clean_end());
}

#[test]
fn a_payload_has_the_bytes_of_go() {
    let headers = HashMap::from([("k".into(), "v".into())]);
    let payload = Payload {
        body: b"hi".to_vec(),
        headers,
    };
    let bytes = hex(
        "2a 7f 03 01 01 07 5061796c6f6164 01 ff80 00 01 02 01 04 426f6479 01 0a 00
         01 07 48656164657273 01 ff82 00 00 00
         21 ff81 04 01 01 11 6d61705b737472696e675d737472696e67 01 ff82 00 01 0c 01 0c 00 00
         0d ff80 01 02 6869 01 01 01 6b 01 76 00",
    );
    assert_eq!(encoded(&Schema::of::<Payload>(), &payload), bytes);
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&bytes);
    assert_eq!(decoder.decode::<Payload>(), Ok(Some(payload)));
}

#[test]
fn values_at_the_top_level_have_the_bytes_of_go() {
    assert_eq!(encoded(&Schema::interface(), &()), hex("03100000"));
    assert_eq!(encoded(&Schema::interface(), &None::<u8>), hex("03100000"));
    assert_eq!(encoded(&Schema::bool(), &true), hex("03020001"));
    assert_eq!(encoded(&Schema::uint(), &1_u32), hex("03060001"));
    assert_eq!(
        encoded(&Schema::bytes(), &serde_bytes::Bytes::new(b"hi")),
        hex("050a00026869")
    );
    assert_eq!(
        encoded(&Schema::bytes(), &b"hi".to_vec()),
        hex("050a00026869")
    );
    assert_eq!(
        encoded(&Schema::string(), "gkplugin"),
        hex("0b0c0008676b706c7567696e")
    );
    let mut out = Vec::new();
    let mut encoder = Encoder::with_first_id(FirstId::Go119);
    encoder
        .encode(&Schema::empty_struct(), &Empty, &mut out)
        .unwrap();
    assert_eq!(out, hex("0aff81030102ff8200000003ff8200"));
    encoder
        .encode(&Schema::empty_struct(), &(), &mut out)
        .unwrap();
    assert_eq!(out, hex("0aff81030102ff8200000003ff820003ff8200"));
}

#[test]
fn nothing_decodes_from_anything() {
    for input in [
        "03100000",
        "03020001",
        "050a00026869",
        "0aff81030102ff8200000003ff8200",
    ] {
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(&hex(input));
        assert_eq!(decoder.decode::<Nothing>(), Ok(Some(Nothing)));
        assert!(decoder.is_clean_end());
    }
}

#[test]
fn the_next_type_shows_once_its_value_is_whole_and_stays() {
    let bytes = encoded(&Schema::of::<Request>(), &Request::default());
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&bytes[..bytes.len() - 1]);
    assert!(decoder.peek_type().unwrap().is_none());
    decoder.push(&bytes[bytes.len() - 1..]);
    for _ in 0..2 {
        let ty = decoder.peek_type().unwrap().unwrap();
        assert_eq!((ty.kind(), ty.name()), (Kind::Struct, "Request"));
        assert_eq!(
            ty.field_names().collect::<Vec<_>>(),
            ["ServiceMethod", "Seq"]
        );
        assert!(ty.has_field("Seq") && !ty.has_field("Error"));
    }
    assert_eq!(decoder.decode(), Ok(Some(Request::default())));
    assert!(decoder.peek_type().unwrap().is_none());
}

#[test]
fn strings_that_are_not_utf8_are_refused_as_text_and_taken_as_go_strings() {
    let bytes = encoded(&Schema::string(), &GoString::from(vec![b'a', 0xff]));
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&bytes);
    decoder.push(&bytes);
    assert!(matches!(
        decoder.decode::<String>(),
        Err(DecodeError::NotUtf8 { .. })
    ));
    let text = decoder.decode::<GoString>().unwrap().unwrap();
    assert_eq!(text.to_str_lossy(), "a\u{fffd}");
}

#[test]
fn interfaces_decode_into_what_takes_anything() {
    let inside = |name: &str, schema, value| {
        let name = name.to_owned();
        Value::Interface(Some(Box::new(Interface {
            name,
            schema,
            value,
        })))
    };
    let map = Value::Map(vec![
        (
            Value::String("n".into()),
            inside("int", Schema::int(), Value::Int(42)),
        ),
        (
            Value::String("s".into()),
            inside("string", Schema::string(), Value::String("x".into())),
        ),
        (Value::String("nil".into()), Value::Interface(None)),
    ]);
    let schema = Schema::new(&Type::map(Type::string(), Type::interface())).unwrap();
    let mut bytes = Vec::new();
    Encoder::new()
        .encode_value(&schema, &map, &mut bytes)
        .unwrap();
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&bytes);
    let found = decoder.decode::<serde_json::Value>().unwrap().unwrap();
    assert_eq!(found, serde_json::json!({"n": 42, "s": "x", "nil": null}));
}

#[test]
fn a_destination_that_stops_early_is_an_error() {
    struct First(i64);
    impl<'de> Deserialize<'de> for First {
        fn deserialize<D: serde::Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
            struct Taker;
            impl<'de> serde::de::Visitor<'de> for Taker {
                type Value = First;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a list")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut seq: A,
                ) -> Result<First, A::Error> {
                    seq.next_element()
                        .map(|first| First(first.unwrap_or_default()))
                }
            }
            de.deserialize_seq(Taker)
        }
    }
    let mut decoder = Decoder::new(Limits::default());
    let schema = Schema::of::<Vec<i64>>();
    let mut encoder = Encoder::new();
    let mut stream = Vec::new();
    encoder.encode(&schema, &[7_i64], &mut stream).unwrap();
    encoder.encode(&schema, &[7_i64, 8], &mut stream).unwrap();
    decoder.push(&stream);
    assert_eq!(decoder.decode::<First>().unwrap().unwrap().0, 7);
    assert!(matches!(
        decoder.decode::<First>(),
        Err(DecodeError::Unread { .. })
    ));
}
