//! What a Go host logs of a plugin's standard error, and what this crate makes of it.
use pinfold_rpc::log::{Level, LogReader, Piece, Record};
use serde_json::{Value, json};

use crate::vectors::{cases, output, text};

/// All records, and the raw copy as go-plugin writes it: each line with a line feed.
fn read(bytes: &[u8], piece_length: usize) -> (Vec<Record>, Vec<u8>) {
    let (mut records, mut raw) = (Vec::new(), Vec::new());
    let mut note = |piece: Piece<'_>, record: Record| {
        raw.extend_from_slice(piece.text);
        if piece.ends {
            raw.push(b'\n');
        }
        records.push(record);
    };
    let mut reader = LogReader::new();
    for piece in bytes.chunks(piece_length) {
        reader.push(piece, &mut note);
    }
    reader.finish(&mut note);
    (records, raw)
}

#[test]
fn every_line_is_logged_as_by_the_go_host() {
    for case in cases("stderr-log.json", "cases") {
        let input = output(&case, "stderr");
        for piece_length in [1, 7, 4096, usize::MAX] {
            let (records, raw) = read(&input, piece_length);
            if let Some(lengths) = case["log_lengths"].as_array() {
                let found: Vec<Value> = records
                    .iter()
                    .map(|record| json!([record.level.as_str(), record.message.len()]))
                    .collect();
                assert_eq!(&found, lengths);
                assert_eq!(Some(raw.len() as u64), case["raw_copy_length"].as_u64());
                continue;
            }
            let found: Vec<Value> = records.iter().map(as_json).collect();
            assert_eq!(Value::Array(found), case["log"], "{case}");
            assert_eq!(raw, text(&case, "raw_copy").as_bytes(), "{case}");
        }
    }
}

fn as_json(record: &Record) -> Value {
    let mut value = json!({ "level": record.level.as_str(), "message": record.message });
    if !record.fields.is_empty() {
        value["fields"] = Value::Object(record.fields.clone());
    }
    value
}

#[test]
fn own_keys_that_are_no_strings_make_a_line_plain_text() {
    for line in [
        r#"{"@level":"info","@message":5}"#,
        r#"{"@level":["info"],"@message":"m"}"#,
        r#"{"@level":"info","@message":"m","@timestamp":0}"#,
    ] {
        let (records, _) = read(line.as_bytes(), usize::MAX);
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].level, records[0].message.as_str()),
            (Level::Debug, line)
        );
    }
}

#[test]
fn invalid_text_and_depth_without_end_are_survived() {
    let mut deep = b"{\"a\":".repeat(10_000);
    deep.push(b'\n');
    let inputs: [&[u8]; 3] = [
        b"\xff\xfe\x00\n",
        b"{\"@level\":\"info\",\"@message\":\"\xff\"}\n",
        &deep,
    ];
    for input in inputs {
        assert_eq!(read(input, 100).0.len(), 1);
    }
}
