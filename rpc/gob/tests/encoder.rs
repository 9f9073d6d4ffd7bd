//! Encoding through serde: what fits, what is refused, and that a refusal leaves no trace.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

use std::collections::BTreeMap;

use pinfold_gob::{
    Decoder, EncodeError, Encoder, GoString, GobEncoded, Limits, Marshaler, Schema, SchemaError,
    Type, Value, gob_struct,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sample {
    name: String,
    count: u32,
    delta: i16,
    ratio: f32,
    flag: bool,
    #[serde(with = "serde_bytes")]
    blob: Vec<u8>,
    words: Vec<String>,
    labels: BTreeMap<String, i64>,
    fixed: [u8; 2],
    complex: (f64, f64),
    inner: Option<Inner>,
    chain: Option<Box<Inner>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    depth: i64,
    text: GoString,
}

gob_struct!(Inner as "Inner" { "Depth": i64, "Text": GoString });

fn sample_type() -> Type {
    let inner = || Schema::of::<Inner>();
    assert_eq!(inner().field_names().collect::<Vec<_>>(), ["Depth", "Text"]);
    let inner = <Inner as pinfold_gob::GobType>::gob_type;
    Type::structure(
        "Sample",
        [
            ("Name", Type::string()),
            ("Count", Type::uint()),
            ("Delta", Type::int()),
            ("Ratio", Type::float()),
            ("Flag", Type::bool()),
            ("Blob", Type::bytes()),
            ("Words", Type::slice(Type::string())),
            ("Labels", Type::map(Type::string(), Type::int())),
            ("Fixed", Type::array(2, Type::uint())),
            ("Complex", Type::complex()),
            ("Inner", inner().pointer()),
            ("Chain", inner().pointer()),
        ],
    )
}

fn full() -> Sample {
    Sample {
        name: "n".into(),
        count: 3,
        delta: -4,
        ratio: 0.5,
        flag: true,
        blob: vec![0, 255],
        words: vec!["a".into(), String::new()],
        labels: BTreeMap::from([("k".into(), 0), ("l".into(), -1)]),
        fixed: [0, 9],
        complex: (0.0, 1.0),
        inner: Some(Inner::default()),
        chain: Some(Box::new(Inner {
            depth: 1,
            text: vec![0xff, 0xfe].into(),
        })),
    }
}

fn encode<T: Serialize + ?Sized>(ty: &Type, value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    Encoder::new()
        .encode(&Schema::new(ty).unwrap(), value, &mut out)
        .map(|()| out)
}

fn refusal<T: Serialize + ?Sized>(ty: &Type, value: &T) -> String {
    encode(ty, value).unwrap_err().to_string()
}

fn decode_value(bytes: &[u8]) -> Value {
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(bytes);
    decoder.decode_value().unwrap().unwrap()
}

#[test]
fn a_struct_of_every_kind_survives() {
    let schema = Schema::new(&sample_type()).unwrap();
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(Limits::default());
    for sample in [full(), Sample::default(), full()] {
        let mut out = Vec::new();
        encoder.encode(&schema, &sample, &mut out).unwrap();
        decoder.push(&out);
        assert_eq!(decoder.decode::<Sample>(), Ok(Some(sample)));
    }
}

#[test]
fn zero_fields_are_omitted_but_for_arrays_and_empty_maps() {
    let Value::Struct(sent) = decode_value(&encode(&sample_type(), &Sample::default()).unwrap())
    else {
        panic!("a struct was sent")
    };
    let names: Vec<_> = sent.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Labels", "Fixed"]);
}

#[test]
fn a_failed_value_leaves_neither_bytes_nor_definitions_behind() {
    let schema = Schema::new(&sample_type()).unwrap();
    let bad = Schema::new(&Type::slice(sample_type())).unwrap();
    let mut encoder = Encoder::new();
    let mut out = b"before".to_vec();
    // The second element does not fit, after definitions and the first have been written.
    let error = encoder
        .encode(&bad, &[Some(full()), None], &mut out)
        .unwrap_err();
    assert!(matches!(error, EncodeError::NilElement { .. }));
    assert_eq!(out, b"before");
    out.clear();
    encoder.encode(&schema, &full(), &mut out).unwrap();
    assert_eq!(
        out,
        encode(&sample_type(), &full()).unwrap(),
        "as a fresh encoder writes it"
    );
}

#[test]
fn a_failure_does_not_forget_what_was_sent_before_it() {
    let schema = Schema::of::<Inner>();
    let list = Schema::of::<Vec<Inner>>();
    let mut encoder = Encoder::new();
    let mut stream = Vec::new();
    encoder
        .encode(&schema, &Inner::default(), &mut stream)
        .unwrap();
    encoder
        .encode(&list, &[None::<Inner>], &mut stream)
        .unwrap_err();
    encoder
        .encode(
            &list,
            &[Inner {
                depth: 2,
                ..Inner::default()
            }],
            &mut stream,
        )
        .unwrap();
    let mut decoder = Decoder::new(Limits::default());
    decoder.push(&stream);
    assert_eq!(decoder.decode::<Inner>(), Ok(Some(Inner::default())));
    let list = decoder.decode::<Vec<Inner>>().unwrap().unwrap();
    assert_eq!(list[0].depth, 2);
    assert!(decoder.is_clean_end());
}

#[test]
fn equal_types_of_different_schemas_are_defined_once() {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    encoder
        .encode(&Schema::of::<Inner>(), &Inner::default(), &mut out)
        .unwrap();
    let first = out.len();
    encoder
        .encode(&Schema::of::<Inner>(), &Inner::default(), &mut out)
        .unwrap();
    assert_eq!(out.len() - first, 4, "a value alone");
}

#[test]
fn refusals_name_their_place() {
    let point = || Type::structure("P", [("X", Type::int()), ("Y", Type::int())]);
    #[derive(Serialize)]
    struct Swapped {
        #[serde(rename = "Y")]
        y: i64,
        #[serde(rename = "X")]
        x: i64,
    }
    #[derive(Serialize)]
    struct Unsigned {
        #[serde(rename = "X")]
        x: u64,
    }
    let outer = Type::structure("O", [("In", point())]);
    #[derive(Serialize)]
    struct Outer {
        #[serde(rename = "In")]
        inside: Unsigned,
    }
    #[derive(Serialize)]
    enum Choice {
        One,
    }
    for (found, expected) in [
        (
            refusal(&point(), &Swapped { y: 1, x: 2 }),
            "the value: field \"X\" is not in the schema, or out of order",
        ),
        (
            refusal(&point(), &Unsigned { x: 1 }),
            "field \"X\": unsigned integer given, schema has int",
        ),
        (
            refusal(
                &outer,
                &Outer {
                    inside: Unsigned { x: 0 },
                },
            ),
            "field \"In.X\": unsigned integer given, schema has int",
        ),
        (
            refusal(&Type::string(), &serde_bytes::Bytes::new(b"x")[..].to_vec()),
            "the value: list given, schema has string",
        ),
        (
            refusal(&Type::bytes(), "x"),
            "the value: string given, schema has bytes",
        ),
        (
            refusal(&Type::bytes(), &[1_u16]),
            "the value: unsigned integer given, schema has uint",
        ),
        (
            refusal(&Type::uint(), &Choice::One),
            "the value: gob has no enum",
        ),
        (
            refusal(&Type::uint(), &1_u128),
            "the value: gob has no integer of 128 bits",
        ),
        (
            refusal(&Type::array(3, Type::bool()), &[true]),
            "the value: 1 elements given, 3 wanted",
        ),
        (
            refusal(
                &Type::map(Type::string(), Type::bool()),
                &BTreeMap::from([("k", None::<bool>)]),
            ),
            "the value: nothing given where a value is needed",
        ),
        (
            refusal(&Type::opaque("T", Marshaler::Binary), &GobEncoded(vec![1])),
            "the value: value that marshals itself given, schema has value marshalled by MarshalBinary",
        ),
        (
            refusal(&Type::interface(), &1_u8),
            "the value: unsigned integer given, schema has interface",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn lists_of_unknown_length_are_counted() {
    struct Streamed(usize);
    impl Serialize for Streamed {
        fn serialize<S: serde::Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = ser.serialize_seq(None)?;
            (0..self.0).try_for_each(|_| seq.serialize_element(&-1_i64))?;
            seq.end()
        }
    }
    for count in [0, 3, 300] {
        let bytes = encode(&Type::slice(Type::int()), &Streamed(count)).unwrap();
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(&bytes);
        assert_eq!(decoder.decode::<Vec<i64>>().unwrap().unwrap().len(), count);
    }
}

#[test]
fn a_list_that_lies_about_its_length_is_refused() {
    struct Liar;
    impl Serialize for Liar {
        fn serialize<S: serde::Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = ser.serialize_seq(Some(0))?;
            seq.serialize_element(&1_i64)?;
            seq.end()
        }
    }
    let error = encode(&Type::slice(Type::int()), &Liar).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::LengthMismatch {
            wanted: 0,
            found: 1,
            ..
        }
    ));
}

#[test]
fn nesting_beyond_any_reader_is_refused() {
    #[derive(Serialize)]
    struct Nest(Vec<Nest>);
    let ty = Type::slice(Type::reference("Nest")).named("Nest");
    let deep = (0..1_001).fold(Nest(vec![]), |inner, _| Nest(vec![inner]));
    assert_eq!(
        encode(&ty, &deep),
        Err(EncodeError::TooDeep { limit: 1_000 })
    );
    let deep = (0..1_001).fold(Value::Slice(vec![]), |inner, _| Value::Slice(vec![inner]));
    let schema = Schema::new(&ty).unwrap();
    let error = Encoder::new().encode_value(&schema, &deep, &mut Vec::new());
    assert_eq!(error, Err(EncodeError::TooDeep { limit: 1_000 }));
}

#[test]
fn a_reference_to_nothing_is_no_schema() {
    let error = Schema::new(&Type::slice(Type::reference("Node"))).unwrap_err();
    assert_eq!(
        error,
        SchemaError::UnknownReference {
            name: "Node".into()
        }
    );
}
