//! What Go's encoder wrote: we write the same, and read it as what was given.

use std::collections::BTreeSet;

use pinfold_gob::{Decoder, Encoder, FirstId, Limits, Value};
use serde_json::Value as Json;

use crate::decode::holds_interface;
use crate::source::Source;
use crate::vectors::{self, ENCODE, hex, list, text};

const BASES: [(&str, FirstId); 2] = [("64", FirstId::Go121), ("65", FirstId::Go119)];

/// Cases whose values Go splits over messages, to define types in their midst. We define them
/// before the value, which Go reads as well, so that the bytes differ.
const DEFINED_IN_THE_MIDST_BY_GO: [&str; 18] = [
    "deep_iface",
    "iface_custom_gobencoder",
    "iface_error_field",
    "iface_ints",
    "iface_map_string_string",
    "iface_nested_iface",
    "iface_ptr_registered",
    "iface_ptr_to_value_registered",
    "iface_registered_custom_name",
    "iface_shape_holder",
    "iface_slice_structs",
    "iface_strings",
    "iface_struct",
    "iface_struct_twice",
    "iface_time",
    "iface_two_fields_diff_type",
    "iface_two_fields_same_type",
    "ptr_to_iface_struct_top",
];

fn given(case: &Json) -> Vec<Value> {
    let values = list(&case["values"]).iter();
    values
        .map(|value| vectors::value(&value["type"], &value["value"]))
        .collect()
}

/// What decoding gives: nil and empty are one, and zero fields are absent.
fn expected(case: &Json) -> Vec<Value> {
    let values = list(&case["values"]).iter();
    values
        .map(|value| {
            let decoded = if value["decoded"].is_null() {
                &value["value"]
            } else {
                &value["decoded"]
            };
            as_sent(vectors::value(&value["type"], decoded))
        })
        .collect()
}

pub(crate) fn as_sent(value: Value) -> Value {
    match value {
        Value::Array(elems) => Value::Array(elems.into_iter().map(as_sent).collect()),
        Value::Slice(elems) => Value::Slice(elems.into_iter().map(as_sent).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, elem)| (as_sent(key), as_sent(elem)))
                .collect(),
        ),
        Value::Struct(fields) => Value::Struct(
            fields
                .into_iter()
                .filter(|(_, value)| !is_zero(value))
                .map(|(name, value)| (name, as_sent(value)))
                .collect(),
        ),
        Value::Interface(Some(mut interface)) => {
            interface.value = as_sent(interface.value);
            Value::Interface(Some(interface))
        }
        other => other,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Float(value) => *value == 0.0,
        Value::Complex { re, im } => *re == 0.0 && *im == 0.0,
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Slice(elems) => elems.is_empty(),
        Value::Interface(interface) => interface.is_none(),
        _ => false,
    }
}

/// A form in which NaN equals itself, -0.0 differs from 0.0, and maps have no order.
pub(crate) fn comparable(value: &Value) -> String {
    match value {
        Value::Float(value) => format!("float {:016x}", value.to_bits()),
        Value::Complex { re, im } => format!("complex {:x} {:x}", re.to_bits(), im.to_bits()),
        Value::Array(elems) => format!(
            "array {:?}",
            elems.iter().map(comparable).collect::<Vec<_>>()
        ),
        Value::Slice(elems) => format!(
            "slice {:?}",
            elems.iter().map(comparable).collect::<Vec<_>>()
        ),
        Value::Map(entries) => {
            let entries: BTreeSet<_> = entries
                .iter()
                .map(|(key, elem)| (comparable(key), comparable(elem)))
                .collect();
            format!("map {entries:?}")
        }
        Value::Struct(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name, comparable(value)))
                .collect();
            format!("struct {fields:?}")
        }
        Value::Interface(Some(interface)) => {
            format!(
                "interface {:?} {}",
                interface.name,
                comparable(&interface.value)
            )
        }
        other => format!("{other:?}"),
    }
}

fn decoded(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes);
    let mut values = Vec::new();
    while let Some(value) = decoder.decode_value().unwrap() {
        values.push(value);
    }
    assert!(decoder.is_clean_end());
    values
}

fn assert_same(case: &Json, found: &[Value], expected: &[Value]) {
    let found: Vec<_> = found.iter().map(comparable).collect();
    let expected: Vec<_> = expected.iter().map(comparable).collect();
    assert_eq!(found, expected, "{}", text(case, "name"));
}

#[test]
fn streams_of_go_decode_to_what_was_given() {
    for case in ENCODE.iter() {
        for (base, _) in BASES {
            let stream = hex(text(&case["streams"][base], "hex"));
            assert_same(case, &decoded(&stream), &expected(case));
        }
    }
}

#[test]
fn streams_of_go_decode_alike_when_they_come_byte_by_byte() {
    for case in ENCODE.iter() {
        let mut decoder = Decoder::new(Limits::default());
        let mut values = Vec::new();
        for byte in hex(text(&case["streams"]["64"], "hex")) {
            decoder.push(&[byte]);
            values.extend(decoder.decode_value().unwrap());
        }
        assert!(decoder.is_clean_end());
        assert_same(case, &values, &expected(case));
    }
}

#[test]
fn values_encode_to_the_bytes_of_go() {
    let mut exact = 0;
    for case in ENCODE
        .iter()
        .filter(|case| case["map_order_unspecified"] != true)
    {
        if DEFINED_IN_THE_MIDST_BY_GO.contains(&text(case, "name")) {
            continue;
        }
        for (base, first) in BASES {
            let mut encoder = Encoder::with_first_id(first);
            let values = given(case);
            for (n, described) in list(&case["values"]).iter().enumerate() {
                let mut out = Vec::new();
                let schema = vectors::schema(&described["type"]);
                encoder.encode_value(&schema, &values[n], &mut out).unwrap();
                let messages = list(&case["streams"][base]["messages"][n]).iter();
                let messages: String = messages.map(|hex| hex.as_str().unwrap()).collect();
                assert_eq!(to_hex(&out), messages, "{} from {base}", text(case, "name"));
            }
        }
        exact += 1;
    }
    assert_eq!(exact, ENCODE.len() - 2 - DEFINED_IN_THE_MIDST_BY_GO.len());
}

#[test]
fn values_encode_through_serde_to_the_bytes_of_go() {
    let mut exact = 0;
    for case in ENCODE.iter() {
        if case["map_order_unspecified"] == true || holds_interface(&case["values"]) {
            continue;
        }
        for (base, first) in BASES {
            let mut encoder = Encoder::with_first_id(first);
            let mut out = Vec::new();
            for value in list(&case["values"]) {
                let (ty, value) = (&value["type"], &value["value"]);
                let schema = vectors::schema(ty);
                encoder
                    .encode(&schema, &Source { ty, value }, &mut out)
                    .unwrap();
            }
            let stream = text(&case["streams"][base], "hex");
            assert_eq!(to_hex(&out), stream, "{}", text(case, "name"));
        }
        exact += 1;
    }
    assert!(exact > 190, "{exact}");
}

#[test]
fn values_with_types_defined_in_the_midst_by_go_decode_the_same_when_defined_up_front() {
    for case in ENCODE.iter() {
        if !DEFINED_IN_THE_MIDST_BY_GO.contains(&text(case, "name")) {
            continue;
        }
        for (base, first) in BASES {
            let out = encoded(case, first);
            assert_ne!(
                to_hex(&out),
                text(&case["streams"][base], "hex"),
                "{}",
                text(case, "name")
            );
            assert_same(case, &decoded(&out), &expected(case));
        }
    }
}

#[test]
fn maps_whose_order_is_open_decode_the_same() {
    for case in ENCODE
        .iter()
        .filter(|case| case["map_order_unspecified"] == true)
    {
        for (_, first) in BASES {
            assert_same(case, &decoded(&encoded(case, first)), &expected(case));
        }
    }
}

/// A value and the type it came with are enough to send it on.
#[test]
fn decoded_values_encode_again_with_their_received_types() {
    for case in ENCODE.iter() {
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(&hex(text(&case["streams"]["64"], "hex")));
        let mut encoder = Encoder::new();
        let mut out = Vec::new();
        while let Some(ty) = decoder.peek_type().unwrap() {
            let value = decoder.decode_value().unwrap().unwrap();
            encoder.encode_value(ty.schema(), &value, &mut out).unwrap();
        }
        assert_same(case, &decoded(&out), &expected(case));
    }
}

#[test]
fn a_cut_stream_gives_the_values_before_the_cut_and_no_more() {
    for case in ENCODE.iter() {
        let stream = hex(text(&case["streams"]["64"], "hex"));
        let mut ends = vec![0];
        for messages in list(&case["streams"]["64"]["messages"]) {
            let length: usize = list(messages)
                .iter()
                .map(|hex| hex.as_str().unwrap().len() / 2)
                .sum();
            ends.push(ends[ends.len() - 1] + length);
        }
        for cut in 0..stream.len() {
            let mut decoder = Decoder::new(Limits::default());
            decoder.push(&stream[..cut]);
            let mut count = 0;
            while decoder.decode_value().unwrap().is_some() {
                count += 1;
            }
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            assert_eq!(count, whole, "{} cut at {cut}", text(case, "name"));
            assert_eq!(
                decoder.is_clean_end(),
                ends.contains(&cut),
                "{}",
                text(case, "name")
            );
            assert!(!decoder.is_broken());
        }
    }
}

#[test]
fn skipping_ends_where_decoding_ends() {
    for case in ENCODE.iter() {
        let stream = hex(text(&case["streams"]["65"], "hex"));
        let mut skipping = Decoder::new(Limits::default());
        let mut decoding = Decoder::new(Limits::default());
        skipping.push(&stream);
        decoding.push(&stream);
        while decoding.decode_value().unwrap().is_some() {
            assert_eq!(skipping.skip(), Ok(Some(())));
            assert_eq!(
                skipping.buffered(),
                decoding.buffered(),
                "{}",
                text(case, "name")
            );
        }
        assert_eq!(skipping.skip(), Ok(None));
        assert!(skipping.is_clean_end());
    }
}

fn encoded(case: &Json, first: FirstId) -> Vec<u8> {
    let mut encoder = Encoder::with_first_id(first);
    let mut out = Vec::new();
    for (described, value) in list(&case["values"]).iter().zip(given(case)) {
        encoder
            .encode_value(&vectors::schema(&described["type"]), &value, &mut out)
            .unwrap();
    }
    out
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
