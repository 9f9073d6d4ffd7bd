//! The Go types of the recorded calls, and values of them out of their JSON.
use pinfold_gob::{GoString, Interface, Schema, Type, Value};
use serde_json::Value as Json;

fn args() -> Type {
    Type::structure("Args", [("A", Type::int()), ("B", Type::int())])
}

fn payload() -> Type {
    let headers = Type::map(Type::string(), Type::string());
    Type::structure("Payload", [("Body", Type::bytes()), ("Headers", headers)])
}

/// The gob type of a Go type's spelling.
pub(crate) fn schema(go: &str) -> Schema {
    let ty = match go.trim_start_matches('*') {
        "main.Args" => args(),
        "main.Quotient" => {
            Type::structure("Quotient", [("Quo", Type::int()), ("Rem", Type::int())])
        }
        "main.Payload" => payload(),
        "map[string]interface {}" => Type::map(Type::string(), Type::interface()),
        "bool" => Type::bool(),
        "string" => Type::string(),
        "int" => Type::int(),
        "interface {}" => Type::interface(),
        other => panic!("{other}"),
    };
    Schema::new(&ty).unwrap()
}

/// The value of a Go type's spelling that this JSON stands for, as gob carries it: without zero fields.
pub(crate) fn value(go: &str, json: &Json) -> Value {
    let integer = |key: &str| (key.into(), Value::Int(json[key].as_i64().unwrap()));
    let fields = |all: Vec<(std::sync::Arc<str>, Value)>| {
        Value::Struct(
            all.into_iter()
                .filter(|(_, value)| *value != Value::Int(0))
                .collect(),
        )
    };
    match go.trim_start_matches('*') {
        "main.Args" => fields(vec![integer("A"), integer("B")]),
        "main.Quotient" => fields(vec![integer("Quo"), integer("Rem")]),
        "main.Payload" if json["Body"].is_null() => Value::Struct(Vec::new()),
        "main.Payload" => {
            let headers = json["Headers"].as_object().unwrap().iter();
            let text = |text: &str| Value::String(GoString::from(text));
            let entries = headers.map(|(key, value)| (text(key), text(value.as_str().unwrap())));
            fields(vec![
                (
                    "Body".into(),
                    Value::Bytes(base64(json["Body"].as_str().unwrap())),
                ),
                ("Headers".into(), Value::Map(entries.collect())),
            ])
        }
        "map[string]interface {}" => {
            let (key, bytes) = json.as_object().unwrap().iter().next().unwrap();
            let held = Interface {
                name: "[]uint8".to_owned(),
                schema: Schema::bytes(),
                value: Value::Bytes(base64(bytes.as_str().unwrap())),
            };
            let key = Value::String(GoString::from(key.as_str()));
            Value::Map(vec![(key, Value::Interface(Some(Box::new(held))))])
        }
        "map[string]int" => Value::Map(Vec::new()),
        "bool" => Value::Bool(json.as_bool().unwrap()),
        "string" => Value::String(GoString::from(json.as_str().unwrap())),
        "int" => Value::Int(json.as_i64().unwrap()),
        "uint32" => Value::Uint(json.as_u64().unwrap()),
        "[]uint8" => Value::Bytes(base64(json.as_str().unwrap())),
        "struct {}" => Value::Struct(Vec::new()),
        "interface {}" => Value::Interface(None),
        other => panic!("{other}"),
    }
}

/// The few padded texts that the recording holds.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let place = ALPHABET.iter().position(|known| *known == byte).unwrap();
        bits = bits << 6 | u32::try_from(place).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff).try_into().unwrap());
        }
    }
    bytes
}
