//! What Go's decoder does with an input: ours does the same, or says here why not.

use pinfold_gob::{DecodeError, Decoder, Limits, Value};
use serde_json::Value as Json;

use crate::destination::{Destination, canonical};
use crate::vectors::{self, DECODE, ENCODE, hex, list, text};

/// Streams of Go that Go's own decoder cannot skip and ours can.
const SKIPPED_ONLY_BY_US: [(&str, &str); 2] = [
    ("skip_interface_field_nested_inline_type", "after"),
    ("skip_interface_slice_with_nil", "after"),
];

/// There is no registry of names: a dynamic value names its concrete type, whatever it is.
const NAME_NOT_REGISTERED: &str = "unregistered_name";

fn case(name: &str) -> &'static Json {
    DECODE
        .iter()
        .find(|case| case["name"] == name)
        .unwrap_or_else(|| panic!("no case {name}"))
}

fn decoder(case: &Json) -> Decoder {
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&hex(text(case, "hex")));
    decoder
}

/// Whether a described value holds something in an interface, which serde's types cannot take.
pub(crate) fn holds_interface(described: &Json) -> bool {
    match described {
        Json::Object(parts) if parts.get("k") == Some(&Json::from("interface")) => {
            !parts.contains_key("nil")
        }
        Json::Object(parts) => parts.values().any(holds_interface),
        Json::Array(parts) => parts.iter().any(holds_interface),
        _ => false,
    }
}

/// One described call; true if it came out as described.
fn call(decoder: &mut Decoder, call: &Json) -> bool {
    if call["discard"] == true {
        return decoder.skip().is_ok_and(|skipped| skipped.is_some()) == call["error"].is_null();
    }
    let ty = &call["into"];
    let result = &call["result"];
    if holds_interface(result) {
        let expected = crate::encode::as_sent(vectors::value(ty, result));
        return decoder.decode_value() == Ok(Some(expected));
    }
    let before = call.get("destination_before");
    match decoder.decode_seed(Destination { ty, before }) {
        Ok(Some(found)) => !result.is_null() && found == canonical(result),
        // Nothing more to come: Go tells a clean end of the input from an early one.
        Ok(None) => !call["error"].is_null() && decoder.is_clean_end() == (call["eof"] == true),
        Err(_) => !call["error"].is_null(),
    }
}

#[test]
fn inputs_decode_as_in_go() {
    for case in DECODE.iter() {
        let name = text(case, "name");
        if SKIPPED_ONLY_BY_US.iter().any(|(ours, _)| *ours == name) || name == NAME_NOT_REGISTERED {
            continue;
        }
        let mut decoder = decoder(case);
        for (n, described) in list(&case["decodes"]).iter().enumerate() {
            assert!(call(&mut decoder, described), "{name}, call {n}");
        }
    }
}

/// The same streams as for dynamic values, into destinations of the types that Go was given.
#[test]
fn streams_of_go_decode_through_serde_to_what_was_given() {
    let mut decoded = 0;
    for case in ENCODE.iter() {
        for base in ["64", "65"] {
            let mut decoder = Decoder::new(Limits::default());
            decoder.push(&hex(text(&case["streams"][base], "hex")));
            for value in list(&case["values"]) {
                let given = if value["decoded"].is_null() {
                    &value["value"]
                } else {
                    &value["decoded"]
                };
                if holds_interface(given) {
                    decoder.skip().unwrap().unwrap();
                    continue;
                }
                let destination = Destination {
                    ty: &value["type"],
                    before: None,
                };
                let mut found = decoder.decode_seed(destination).unwrap().unwrap();
                let mut expected = canonical(given);
                zero_marshalled(&mut expected, &mut found);
                assert_eq!(found, expected, "{}", text(case, "name"));
                decoded += 1;
            }
        }
    }
    assert!(decoded > 400, "{decoded}");
}

/// Where Go's zero value of a self-marshalling type was sent all the same, its bytes are right.
fn zero_marshalled(expected: &mut Json, found: &mut Json) {
    if expected["k"] == "opaque" && expected["zero"] == true && found["hex"].is_string() {
        *expected = found.clone();
        return;
    }
    match (expected, found) {
        (Json::Object(expected), Json::Object(found)) => {
            for (key, expected) in expected {
                found
                    .get_mut(key)
                    .into_iter()
                    .for_each(|found| zero_marshalled(expected, found));
            }
        }
        (Json::Array(expected), Json::Array(found)) => {
            expected
                .iter_mut()
                .zip(found)
                .for_each(|(e, f)| zero_marshalled(e, f));
        }
        _ => {}
    }
}

#[test]
fn interfaces_that_go_cannot_skip_are_skipped() {
    for (name, after) in SKIPPED_ONLY_BY_US {
        let case = case(name);
        let destination = Destination {
            ty: &case["decodes"][0]["into"],
            before: None,
        };
        let found = decoder(case).decode_seed(destination).unwrap().unwrap();
        let field = list(&found["fields"])
            .iter()
            .find(|field| field["name"] == "After")
            .unwrap();
        let expected = canonical(&serde_json::json!({"k": "string", "v": after}));
        assert_eq!(field["value"], expected, "{name}");
    }
}

#[test]
fn a_concrete_type_of_any_name_is_given_to_the_caller() {
    let found = decoder(case(NAME_NOT_REGISTERED))
        .decode_value()
        .unwrap()
        .unwrap();
    let Some(Value::Interface(Some(interface))) = found.field("V") else {
        panic!("{found:?}")
    };
    assert_eq!(
        (interface.name.as_str(), &interface.value),
        ("main.Nop", &Value::Int(3))
    );
}

#[test]
fn refusals_name_their_reason() {
    let refusal = |name: &str| {
        let case = case(name);
        let destination = Destination {
            ty: &case["decodes"][0]["into"],
            before: None,
        };
        let mut decoder = decoder(case);
        let error = decoder.decode_seed(destination).unwrap_err();
        (error.to_string(), decoder.is_broken())
    };
    let goes_on = |text: &str| (text.to_owned(), false);
    let broken = |text: &str| (text.to_owned(), true);
    for (name, expected) in [
        (
            "int_into_uint",
            goes_on("field \"X\": int received, uint64 wanted"),
        ),
        (
            "int_into_int8_overflow",
            goes_on("field \"X\": number out of range of int8"),
        ),
        (
            "float64_into_float32_overflow",
            goes_on("field \"V\": number out of range of float32"),
        ),
        (
            "bytes_into_string",
            goes_on("field \"V\": bytes received, string wanted"),
        ),
        (
            "string_into_bytes",
            goes_on("field \"V\": string received, bytes wanted"),
        ),
        (
            "array_len_mismatch",
            goes_on("field \"V\": 3 elements received, 2 wanted"),
        ),
        (
            "array_into_slice",
            goes_on("field \"V\": array received, slice wanted"),
        ),
        (
            "struct_into_top_level_int",
            goes_on("the value: struct received, int64 wanted"),
        ),
        ("undefined_type", goes_on("type 65 is not defined")),
        (
            "singleton_delta_not_zero",
            goes_on("value of a type that is no struct begins with 1 instead of zero"),
        ),
        ("uint_byte_count_9", goes_on("integer of 9 bytes")),
        (
            "slice_longer_than_message",
            goes_on("127 elements announced in 1 bytes"),
        ),
        ("type_defined_twice", broken("second definition of type 65")),
        ("type_id_below_64", broken("definition of reserved type 63")),
        (
            "zero_length_message_reads_as_eof",
            broken("message of length zero"),
        ),
        (
            "message_length_8GiB",
            broken("message of 8589934592 bytes exceeds the limit of 16777216"),
        ),
    ] {
        assert_eq!(refusal(name), expected, "{name}");
    }
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut decoder = decoder(case("zero_length_message_reads_as_eof"));
    assert_eq!(decoder.decode::<i64>(), Err(DecodeError::EmptyMessage));
    decoder.push(&hex("03040006"));
    assert_eq!(decoder.decode::<i64>(), Err(DecodeError::Broken));
    assert!(!decoder.is_clean_end());
}

#[test]
fn a_stream_goes_on_after_a_value_that_does_not_fit() {
    let mut decoder = decoder(case("int_into_uint"));
    decoder.push(&hex("03040006"));
    let destination = Destination {
        ty: &case("int_into_uint")["decodes"][0]["into"],
        before: None,
    };
    decoder.decode_seed(destination).unwrap_err();
    assert_eq!(decoder.decode::<i64>(), Ok(Some(3)));
}
