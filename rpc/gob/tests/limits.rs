//! What a peer can make a decoder hold: each limit from both sides, and hostile input that would
//! cost memory or stack without them.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

use pinfold_gob::{DecodeError, Decoder, Encoder, Interface, Limits, Nothing, Schema, Type, Value};

fn encoded(ty: &Type, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new()
        .encode_value(&Schema::new(ty).unwrap(), value, &mut out)
        .unwrap();
    out
}

fn decoder(limits: Limits, bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(limits);
    decoder.push(bytes);
    decoder
}

/// A slice of slices, `depth` of them, the innermost empty.
fn nested(depth: usize) -> Vec<u8> {
    let ty = Type::slice(Type::reference("Nest")).named("Nest");
    let value = (1..depth).fold(Value::Slice(vec![]), |inner, _| Value::Slice(vec![inner]));
    encoded(&ty, &value)
}

fn uint(value: u64) -> Vec<u8> {
    let mut out = vec![0xf8];
    out.extend(value.to_be_bytes());
    out
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut out = uint(u64::try_from(body.len()).unwrap());
    out.extend(body);
    out
}

/// `[]int` as type 65, then a value that announces `count` elements and has `given`.
fn ints(count: u64, given: usize) -> Vec<u8> {
    let mut bytes = vec![
        0x0c, 0xff, 0x81, 0x02, 0x01, 0x02, 0xff, 0x82, 0x00, 0x01, 0x04, 0, 0,
    ];
    let mut body = vec![0xff, 0x82, 0x00];
    body.extend(uint(count));
    body.extend(vec![2; given]);
    bytes.extend(message(&body));
    bytes
}

#[test]
fn a_message_at_the_limit_decodes_and_one_above_is_refused_by_its_beginning() {
    let limits = Limits::default().with_message_bytes(1000);
    let text = |length: usize| encoded(&Type::string(), &Value::String("x".repeat(length).into()));
    // Type id, zero, three bytes of count.
    let mut fits = decoder(limits.clone(), &text(995));
    assert!(fits.decode::<String>().unwrap().is_some());
    let mut too_large = decoder(limits, &text(996)[..3]);
    assert_eq!(too_large.decode::<String>(), Ok(None));
    too_large.push(&text(996)[3..4]);
    let error = too_large.decode::<String>().unwrap_err();
    assert_eq!(
        error,
        DecodeError::MessageTooLarge {
            length: 1001,
            limit: 1000
        }
    );
}

#[test]
fn a_value_above_the_limit_is_passed_over_and_the_next_is_read() {
    let large = encoded(&Type::string(), &Value::String("x".repeat(1 << 20).into()));
    let small = encoded(&Type::string(), &Value::String("small".into()));
    for piece in [1 << 10, 1000, large.len(), large.len() + small.len()] {
        let mut decoder = Decoder::new(Limits::default().with_message_bytes(1000));
        let mut outcomes = Vec::new();
        for bytes in [&large[..], &small].concat().chunks(piece) {
            decoder.push(bytes);
            while let Some(outcome) = decoder.decode::<String>().transpose() {
                outcomes.push(outcome);
            }
            assert!(decoder.buffered() <= piece, "{}", decoder.buffered());
        }
        assert!(
            matches!(
                &outcomes[..],
                [Err(DecodeError::MessageTooLarge { .. }), Ok(text)] if text == "small"
            ),
            "{outcomes:?}"
        );
        assert!(decoder.is_clean_end());
    }
}

#[test]
fn a_stream_does_not_end_in_a_value_that_is_passed_over() {
    let large = encoded(&Type::string(), &Value::String("x".repeat(2000).into()));
    let mut decoder = decoder(
        Limits::default().with_message_bytes(1000),
        &large[..large.len() - 1],
    );
    decoder.decode::<String>().unwrap_err();
    assert_eq!(decoder.decode::<String>(), Ok(None));
    assert!(!decoder.is_clean_end());
}

#[test]
fn what_is_above_the_limit_and_no_whole_value_breaks_the_stream() {
    let limits = Limits::default().with_message_bytes(1000);
    // A definition, a type that nobody defined, an interface, which can go on in further messages, more than 1 GiB.
    let definition = [&[0xff, 0x81][..], &[0; 1000]].concat();
    let undefined = [&[0xff, 0x82][..], &[0; 1000]].concat();
    let interface = [&[0x10][..], &[0; 1000]].concat();
    let messages = [
        message(&definition),
        message(&undefined),
        message(&interface),
        [uint((1 << 30) + 1), vec![0x0c]].concat(),
    ];
    for bytes in messages {
        let mut broken = decoder(limits.clone(), &bytes);
        let error = broken.is_ready().unwrap_err();
        assert!(
            matches!(error, DecodeError::MessageTooLarge { limit: 1000, .. }),
            "{error:?}"
        );
        assert!(broken.is_broken(), "{:?}", &bytes[..10]);
    }
    let mut most = decoder(limits, &[uint(1 << 30), vec![0x0c]].concat());
    most.is_ready().unwrap_err();
    assert!(!most.is_broken());
}

#[test]
fn the_messages_of_one_value_share_the_limit() {
    // An interface whose type is defined in its midst, so that it spans two messages.
    let bytes = b"\x2b\x10\x00\x0amain.Point\x7f\x03\x01\x01\x05Point\x01\xff\x80\x00\x01\x02\
        \x01\x01X\x01\x04\x00\x01\x01Y\x01\x04\x00\x00\x00\x08\xff\x80\x05\x01\x02\x01\x04\x00";
    let fits = Limits::default().with_message_bytes(51);
    assert!(decoder(fits, bytes).decode_value().unwrap().is_some());
    let error = decoder(Limits::default().with_message_bytes(50), bytes).decode_value();
    assert_eq!(
        error,
        Err(DecodeError::MessageTooLarge {
            length: 51,
            limit: 50
        })
    );
}

#[test]
fn nesting_is_limited_alike_for_values_serde_and_skipping() {
    let limits = Limits::default().with_depth(10);
    let refused = DecodeError::TooDeep { limit: 10 };
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Nest(Vec<Nest>);
    assert!(
        decoder(limits.clone(), &nested(10))
            .decode_value()
            .unwrap()
            .is_some()
    );
    assert!(
        decoder(limits.clone(), &nested(10))
            .decode::<Nest>()
            .unwrap()
            .is_some()
    );
    assert!(
        decoder(limits.clone(), &nested(10))
            .skip()
            .unwrap()
            .is_some()
    );
    let deep = nested(11);
    assert_eq!(
        decoder(limits.clone(), &deep).decode_value(),
        Err(refused.clone())
    );
    assert_eq!(
        decoder(limits.clone(), &deep).decode::<Nest>(),
        Err(refused.clone())
    );
    assert_eq!(
        decoder(limits.clone(), &deep).decode::<Nothing>(),
        Err(refused.clone())
    );
    assert_eq!(decoder(limits, &deep).skip(), Err(refused));
}

#[test]
fn nesting_far_beyond_any_stack_is_refused() {
    // A value of `type Nest []Nest` that is a million deep, in a million bytes.
    let mut bytes = vec![
        0x0d, 0xff, 0x81, 0x02, 0x01, 0x02, 0xff, 0x82, 0, 1, 0xff, 0x82, 0, 0,
    ];
    let mut body = vec![0xff, 0x82, 0x00];
    body.extend(vec![1; 1_000_000]);
    body.push(0);
    bytes.extend(message(&body));
    let refused = DecodeError::TooDeep { limit: 100 };
    assert_eq!(
        decoder(Limits::default(), &bytes).decode_value(),
        Err(refused.clone())
    );
    assert_eq!(
        decoder(Limits::default(), &bytes).skip(),
        Err(refused.clone())
    );
    assert_eq!(
        decoder(Limits::default(), &bytes)
            .decode::<serde::de::IgnoredAny>()
            .err(),
        Some(refused)
    );
}

#[test]
fn interfaces_inside_interfaces_count_as_nesting() {
    let nest = |depth| {
        let inside = |value| {
            let schema = Schema::interface();
            Value::Interface(Some(Box::new(Interface {
                name: "x".into(),
                schema,
                value,
            })))
        };
        (0..depth).fold(Value::Interface(None), |value, _| inside(value))
    };
    let limits = Limits::default().with_depth(10);
    let bytes = encoded(&Type::interface(), &nest(10));
    assert_eq!(
        decoder(limits.clone(), &bytes).decode_value(),
        Ok(Some(nest(10)))
    );
    let bytes = encoded(&Type::interface(), &nest(11));
    let error = decoder(limits, &bytes).decode_value();
    assert_eq!(error, Err(DecodeError::TooDeep { limit: 10 }));
}

#[test]
fn elements_are_limited_over_the_whole_value() {
    let limits = Limits::default().with_elements(12);
    let ty = Type::slice(Type::slice(Type::int()));
    let rows =
        |rows: usize| Value::Slice(vec![Value::Slice(vec![Value::Int(1), Value::Int(2)]); rows]);
    assert!(
        decoder(limits.clone(), &encoded(&ty, &rows(4)))
            .decode_value()
            .unwrap()
            .is_some()
    );
    let too_many = encoded(&ty, &rows(5));
    let refused = DecodeError::TooManyElements { limit: 12 };
    assert_eq!(
        decoder(limits.clone(), &too_many).decode_value(),
        Err(refused.clone())
    );
    assert_eq!(
        decoder(limits.clone(), &too_many).decode::<Vec<Vec<i64>>>(),
        Err(refused.clone())
    );
    assert_eq!(decoder(limits, &too_many).skip(), Err(refused));
}

#[test]
fn definitions_are_limited_in_number_fields_and_bytes() {
    let ty = |fields: usize| {
        Type::structure("T", (0..fields).map(|n| (format!("Field{n}"), Type::int())))
    };
    let bytes = encoded(&ty(8), &Value::Struct(vec![]));
    let fits = Limits::default()
        .with_fields(8)
        .with_types(1)
        .with_definition_bytes(200);
    assert!(decoder(fits, &bytes).decode_value().unwrap().is_some());
    let error = |limits| decoder(limits, &bytes).decode_value().unwrap_err();
    let limits = Limits::default;
    assert_eq!(
        error(limits().with_fields(7)),
        DecodeError::TooManyFields { count: 8, limit: 7 }
    );
    assert_eq!(
        error(limits().with_types(0)),
        DecodeError::TooManyTypes { limit: 0 }
    );
    assert_eq!(
        error(limits().with_definition_bytes(50)),
        DecodeError::DefinitionsTooLarge { limit: 50 }
    );
}

#[test]
fn counts_are_checked_against_the_input_before_anything_is_set_aside() {
    for count in [4, 1_000, 1 << 20, 1 << 40, u64::MAX] {
        let bytes = ints(count, 3);
        let refused = DecodeError::CountExceedsInput {
            count,
            available: 3,
        };
        assert_eq!(
            decoder(Limits::default(), &bytes).decode_value(),
            Err(refused.clone())
        );
        assert_eq!(
            decoder(Limits::default(), &bytes).decode::<Vec<i64>>(),
            Err(refused.clone())
        );
        assert_eq!(decoder(Limits::default(), &bytes).skip(), Err(refused));
    }
    assert_eq!(
        decoder(Limits::default(), &ints(3, 3)).decode(),
        Ok(Some(vec![1_i64; 3]))
    );
}

/// A list of structs that announces a million of them and ends: the structs' terminators must not
/// be taken as implied, or they would come from nowhere.
#[test]
fn elements_take_a_byte_each_even_without_terminators() {
    let million = |fields: &[(&str, Type)]| {
        let ty = Type::slice(Type::structure("", fields.to_vec()));
        let mut bytes = encoded(&ty, &Value::Slice(vec![]));
        // The empty list: length, id 65, zero, count.
        assert_eq!(bytes.split_off(bytes.len() - 5), [4, 0xff, 0x82, 0, 0]);
        let mut body = vec![0xff, 0x82, 0x00];
        body.extend(uint(1_000_000));
        bytes.extend(message(&body));
        bytes
    };
    let error = decoder(Limits::default(), &million(&[]))
        .decode_value()
        .unwrap_err();
    assert_eq!(
        error,
        DecodeError::CountExceedsInput {
            count: 1_000_000,
            available: 0
        }
    );
    // With interfaces in them, they might have come in further messages.
    let error = decoder(Limits::default(), &million(&[("I", Type::interface())])).decode_value();
    assert_eq!(
        error,
        Err(DecodeError::UnexpectedEnd {
            reading: "a struct"
        })
    );
}

/// Types that refer twice to the next: as a tree they would have 2^200 parts.
#[test]
fn types_that_are_small_as_a_graph_and_huge_as_a_tree_cost_little() {
    let mut bytes = Vec::new();
    for id in 65..265_i64 {
        let mut body = Vec::new();
        let int = |value: i64, out: &mut Vec<u8>| {
            let zigzag = (value << 1) ^ (value >> 63);
            out.extend(uint(zigzag.cast_unsigned()));
        };
        int(-id, &mut body);
        body.extend([3, 1, 2]);
        int(id, &mut body);
        body.extend([0, 1, 2]);
        for name in [b'A', b'B'] {
            body.extend([1, 1, name, 1]);
            int(if id == 264 { 8 } else { id + 1 }, &mut body);
            body.push(0);
        }
        body.extend([0, 0]);
        bytes.extend(message(&body));
    }
    // The first type, all fields omitted.
    bytes.extend([0x03, 0xff, 0x82, 0x00]);
    let mut decoder = decoder(Limits::default(), &bytes);
    let ty = decoder.peek_type().unwrap().unwrap();
    assert_eq!(ty.field_names().collect::<Vec<_>>(), ["A", "B"]);
    let value = decoder.decode_value().unwrap().unwrap();
    let mut out = Vec::new();
    Encoder::new()
        .encode_value(ty.schema(), &value, &mut out)
        .unwrap();
    assert!(out.len() < 10_000);
}

/// Peak memory of this process, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn hostile_input_costs_memory_in_proportion_to_its_size() {
    let dense = {
        // A million bools: the most values that a byte each can make.
        let ty = Type::slice(Type::bool());
        encoded(&ty, &Value::Slice(vec![Value::Bool(false); 1_000_000]))
    };
    let interfaces = {
        // []interface{} that announces a million and ends.
        let mut bytes = vec![
            0x0c, 0xff, 0x81, 0x02, 0x01, 0x02, 0xff, 0x82, 0, 1, 0x10, 0, 0,
        ];
        let mut body = vec![0xff, 0x82, 0x00];
        body.extend(uint(1_000_000));
        bytes.extend(message(&body));
        bytes
    };
    let announced = [0xfd, 0xff, 0xff, 0xff];
    let before = peak();
    for _ in 0..3 {
        let mut decoders = Vec::new();
        for input in [&dense[..], &interfaces, &announced, &ints(1 << 50, 3)] {
            let mut decoder = decoder(Limits::default(), input);
            decoder.decode_value().ok();
            decoders.push(decoder);
        }
    }
    let grown = peak().saturating_sub(before);
    // 40 bytes for each of a million values, the input buffered, and room for the other tests.
    assert!(grown < 100 << 10, "{grown} KiB");
}
