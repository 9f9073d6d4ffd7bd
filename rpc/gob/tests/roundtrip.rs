//! Values of random types survive, through every way in and out.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

use pinfold_gob::{Decoder, Encoder, Interface, Limits, Marshaler, Opaque, Schema, Type, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// A type without pointers: those show only in what is absent.
fn types() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Bool),
        Just(Shape::Int),
        Just(Shape::Uint),
        Just(Shape::Float),
        Just(Shape::Complex),
        Just(Shape::Bytes),
        Just(Shape::Text),
        Just(Shape::Opaque),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|elem| Shape::Slice(Box::new(elem))),
            (0..4_usize, inner.clone()).prop_map(|(len, elem)| Shape::Array(len, Box::new(elem))),
            inner.clone().prop_map(|elem| Shape::Map(Box::new(elem))),
            inner
                .clone()
                .prop_map(|held| Shape::Interface(Box::new(held))),
            vec(inner, 0..5).prop_map(Shape::Struct),
        ]
    })
}

#[derive(Debug, Clone)]
enum Shape {
    Bool,
    Int,
    Uint,
    Float,
    Complex,
    Bytes,
    Text,
    Opaque,
    Slice(Box<Shape>),
    Array(usize, Box<Shape>),
    Map(Box<Shape>),
    Interface(Box<Shape>),
    Struct(Vec<Shape>),
}

impl Shape {
    fn ty(&self) -> Type {
        match self {
            Self::Bool => Type::bool(),
            Self::Int => Type::int(),
            Self::Uint => Type::uint(),
            Self::Float => Type::float(),
            Self::Complex => Type::complex(),
            Self::Bytes => Type::bytes(),
            Self::Text => Type::string(),
            Self::Opaque => Type::opaque("Time", Marshaler::Gob),
            Self::Slice(elem) => Type::slice(elem.ty()),
            Self::Array(len, elem) => Type::array(*len, elem.ty()),
            Self::Map(elem) => Type::map(Type::string(), elem.ty()),
            Self::Interface(_) => Type::interface(),
            Self::Struct(fields) => Type::structure(
                "",
                fields
                    .iter()
                    .enumerate()
                    .map(|(n, field)| (format!("F{n}"), field.ty())),
            ),
        }
    }

    /// Values of this type; as struct fields without those that are not sent.
    fn values(&self) -> BoxedStrategy<Value> {
        match self.clone() {
            Self::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
            Self::Int => any::<i64>().prop_map(Value::Int).boxed(),
            Self::Uint => any::<u64>().prop_map(Value::Uint).boxed(),
            Self::Float => any::<f64>().prop_map(Value::Float).boxed(),
            Self::Complex => any::<(f64, f64)>()
                .prop_map(|(re, im)| Value::Complex { re, im })
                .boxed(),
            Self::Bytes => vec(any::<u8>(), 0..200).prop_map(Value::Bytes).boxed(),
            Self::Text => vec(any::<u8>(), 0..200)
                .prop_map(|bytes| Value::String(bytes.into()))
                .boxed(),
            Self::Opaque => vec(any::<u8>(), 0..20)
                .prop_map(|bytes| {
                    Value::Opaque(Opaque {
                        how: Marshaler::Gob,
                        bytes,
                    })
                })
                .boxed(),
            Self::Slice(elem) => vec(elem.values(), 0..4).prop_map(Value::Slice).boxed(),
            Self::Array(len, elem) => vec(elem.values(), len).prop_map(Value::Array).boxed(),
            Self::Map(elem) => {
                let key = ".{0,9}".prop_map(|key| Value::String(key.into()));
                vec((key, elem.values()), 0..4).prop_map(Value::Map).boxed()
            }
            Self::Interface(held) => {
                let schema = Schema::new(&held.ty()).unwrap();
                proptest::option::of(("[a-z.]{1,12}", held.values()))
                    .prop_map(move |held| {
                        Value::Interface(held.map(|(name, value)| {
                            Box::new(Interface {
                                name,
                                schema: schema.clone(),
                                value,
                            })
                        }))
                    })
                    .boxed()
            }
            Self::Struct(fields) => {
                let fields: Vec<_> = fields.iter().map(Self::values).collect();
                fields
                    .prop_map(|values| {
                        let fields = values.into_iter().enumerate();
                        Value::Struct(
                            fields
                                .filter(|(_, value)| !is_zero(value))
                                .map(|(n, value)| (format!("F{n}").into(), value))
                                .collect(),
                        )
                    })
                    .boxed()
            }
        }
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

fn typed_values() -> impl Strategy<Value = (Type, Vec<Value>)> {
    types().prop_flat_map(|shape| (Just(shape.ty()), vec(shape.values(), 1..3)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn values_of_any_type_survive((ty, values) in typed_values(), piece in 1..60_usize) {
        let schema = Schema::new(&ty).unwrap();
        let mut encoder = Encoder::new();
        let mut stream = Vec::new();
        for value in &values {
            encoder.encode_value(&schema, value, &mut stream).unwrap();
        }
        let mut decoder = Decoder::new(Limits::default());
        let mut found = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.push(piece);
            while let Some(value) = decoder.decode_value().unwrap() {
                found.push(value);
            }
        }
        prop_assert!(decoder.is_clean_end());
        prop_assert_eq!(found, values);
    }

    #[test]
    fn a_cut_stream_of_any_type_gives_no_value((ty, values) in typed_values()) {
        let schema = Schema::new(&ty).unwrap();
        let mut stream = Vec::new();
        Encoder::new().encode_value(&schema, &values[0], &mut stream).unwrap();
        for cut in 1..stream.len() {
            let mut decoder = Decoder::new(Limits::default());
            decoder.push(&stream[..cut]);
            prop_assert_eq!(decoder.decode_value(), Ok(None));
            prop_assert!(!decoder.is_clean_end());
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes in vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new(Limits::default());
        decoder.push(&bytes);
        while !decoder.is_broken() && !matches!(decoder.decode_value(), Ok(None)) {}
    }

    #[test]
    fn numbers_survive_in_static_types(int: i64, uint: u64, float: f64, small: i8) {
        fn survives<T>(schema: &Schema, value: T) -> Result<(), TestCaseError>
        where
            T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
        {
            let mut out = Vec::new();
            Encoder::new().encode(schema, &value, &mut out).unwrap();
            let mut decoder = Decoder::new(Limits::default());
            decoder.push(&out);
            prop_assert_eq!(decoder.decode::<T>(), Ok(Some(value)));
            Ok(())
        }
        survives(&Schema::int(), int)?;
        survives(&Schema::uint(), uint)?;
        survives(&Schema::float(), float)?;
        survives(&Schema::int(), small)?;
    }
}
