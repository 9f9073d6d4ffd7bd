//! The vector files, and their descriptions of types and values.

use std::collections::HashMap;
use std::sync::LazyLock;

use pinfold_gob::{Interface, Marshaler, Opaque, Schema, Type, Value};
use serde_json::Value as Json;

/// Types whose marshal method sits on the pointer: Go never omits them by value.
const POINTER_RECEIVERS: [&str; 2] = ["main.CustomPtr", "big.Int"];

pub(crate) static ENCODE: LazyLock<Vec<Json>> =
    LazyLock::new(|| cases(include_str!("../vectors/gob-encode.json")));

pub(crate) static DECODE: LazyLock<Vec<Json>> =
    LazyLock::new(|| cases(include_str!("../vectors/gob-decode.json")));

/// Descriptions of all types in the encoder's vectors, by their Go spelling.
static TYPES: LazyLock<HashMap<String, Json>> = LazyLock::new(|| {
    let mut types = HashMap::new();
    for case in ENCODE.iter() {
        for value in list(&case["values"]) {
            collect(&value["type"], &mut types);
        }
    }
    types
});

fn cases(text: &str) -> Vec<Json> {
    let file: Json = serde_json::from_str(text).unwrap();
    list(&file["cases"]).to_vec()
}

fn collect(ty: &Json, types: &mut HashMap<String, Json>) {
    if let Some(go) = ty["go"].as_str() {
        types.entry(go.to_owned()).or_insert_with(|| ty.clone());
    }
    for part in ["elem", "key"] {
        if ty[part].is_object() {
            collect(&ty[part], types);
        }
    }
    for field in list(&ty["fields"]) {
        collect(&field["type"], types);
    }
}

pub(crate) fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {json}"))
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The description that a reference stands for, else the description itself.
pub(crate) fn target(ty: &Json) -> &Json {
    match ty["ref"].as_str() {
        Some(name) => TYPES
            .values()
            .find(|ty| ty["name"] == name && ty["kind"] != "ptr")
            .unwrap_or_else(|| panic!("no type {name}")),
        None => ty,
    }
}

pub(crate) fn schema(ty: &Json) -> Schema {
    Schema::new(&described(ty)).unwrap()
}

fn described(ty: &Json) -> Type {
    if ty["ref"].is_string() {
        let found = target(ty);
        if found["kind"] == "interface" {
            return Type::interface();
        }
        return Type::reference(text(ty, "ref"));
    }
    let name = ty["name"].as_str().unwrap_or_default();
    let composite = match text(ty, "kind") {
        "bool" => return Type::bool(),
        "int" => return Type::int(),
        "uint" => return Type::uint(),
        "float" => return Type::float(),
        "complex" => return Type::complex(),
        "string" => return Type::string(),
        "bytes" => return Type::bytes(),
        "interface" => return Type::interface(),
        "ptr" => return described(&ty["elem"]).pointer(),
        "slice" => Type::slice(described(&ty["elem"])),
        "array" => {
            let length = usize::try_from(ty["len"].as_u64().unwrap()).unwrap();
            Type::array(length, described(&ty["elem"]))
        }
        "map" => Type::map(described(&ty["key"]), described(&ty["elem"])),
        "struct" => Type::structure(
            name,
            sent_fields(ty).map(|field| (text(field, "name"), described(&field["type"]))),
        ),
        "opaque" if ty["go"] == "url.URL" => {
            // Its one exported field of struct type.
            let user = Type::structure("Userinfo", [] as [(&str, Type); 0]);
            Type::opaque_with_fields(name, marshaler(ty), vec![user])
        }
        "opaque" => Type::opaque(name, marshaler(ty)),
        other => panic!("kind {other}"),
    };
    composite.named(name).spelled(text(ty, "go"))
}

pub(crate) fn marshaler(description: &Json) -> Marshaler {
    match text(description, "how") {
        "gob" => Marshaler::Gob,
        "binary" => Marshaler::Binary,
        other => panic!("marshaler {other}"),
    }
}

pub(crate) fn sent_fields(ty: &Json) -> impl Iterator<Item = &Json> {
    list(&ty["fields"])
        .iter()
        .filter(|field| field["sent"] != false)
}

pub(crate) fn float(description: &Json) -> f64 {
    f64::from_bits(u64::from_str_radix(text(description, "bits"), 16).unwrap())
}

pub(crate) fn number<T: std::str::FromStr>(description: &Json) -> T {
    text(description, "v").parse().ok().unwrap()
}

/// The value described, as gob sees it. A nil map at the top level is an empty one.
pub(crate) fn value(ty: &Json, described: &Json) -> Value {
    present(ty, described).unwrap_or_else(|| Value::Map(Vec::new()))
}

/// `None` for a nil pointer or map.
fn present(ty: &Json, described: &Json) -> Option<Value> {
    let ty = target(ty);
    Some(match text(described, "k") {
        "bool" => Value::Bool(described["v"].as_bool().unwrap()),
        "int" => Value::Int(number(described)),
        "uint" => Value::Uint(number(described)),
        "float" => Value::Float(float(described)),
        "complex" => Value::Complex {
            re: float(&described["re"]),
            im: float(&described["im"]),
        },
        "string" => Value::String(string(described).into()),
        "bytes" => Value::Bytes(described["hex"].as_str().map(hex).unwrap_or_default()),
        "slice" => Value::Slice(elements(ty, described)),
        "array" => Value::Array(elements(ty, described)),
        "map" if described["nil"] == true => return None,
        "map" => Value::Map(
            list(&described["entries"])
                .iter()
                .map(|entry| (value(&ty["key"], &entry[0]), value(&ty["elem"], &entry[1])))
                .collect(),
        ),
        "struct" => Value::Struct(fields(ty, described)),
        "ptr" if described["nil"] == true => return None,
        "ptr" => return present(&ty["elem"], &described["to"]),
        "interface" if described["nil"] == true => Value::Interface(None),
        "interface" => Value::Interface(Some(Box::new(interface(described)))),
        "opaque" => Value::Opaque(Opaque {
            how: marshaler(described),
            bytes: hex(text(described, "hex")),
        }),
        other => panic!("kind {other}"),
    })
}

pub(crate) fn string(described: &Json) -> Vec<u8> {
    match described["hex"].as_str() {
        Some(digits) => hex(digits),
        None => text(described, "v").as_bytes().to_vec(),
    }
}

fn elements(ty: &Json, described: &Json) -> Vec<Value> {
    list(&described["elems"])
        .iter()
        .map(|elem| value(&ty["elem"], elem))
        .collect()
}

fn fields(ty: &Json, described: &Json) -> Vec<(std::sync::Arc<str>, Value)> {
    let mut given = Vec::new();
    for (field, described) in sent_fields(ty).zip(list(&described["fields"])) {
        assert_eq!(field["name"], described["name"]);
        let (ty, described) = (&field["type"], &described["value"]);
        if zero_is_omitted(ty, described) {
            continue;
        }
        if let Some(value) = present(ty, described) {
            given.push((text(field, "name").into(), value));
        }
    }
    given
}

/// Whether a field is left out since Go knows its self-marshalling value to be zero.
pub(crate) fn zero_is_omitted(ty: &Json, described: &Json) -> bool {
    described["k"] == "opaque"
        && described["zero"] == true
        && !POINTER_RECEIVERS.contains(&text(ty, "go"))
}

fn interface(described: &Json) -> Interface {
    let concrete = text(described, "go_type");
    let known = TYPES
        .get(concrete)
        .or_else(|| TYPES.get(concrete.trim_start_matches('*')));
    let ty = match known {
        Some(ty) => ty.clone(),
        None => inferred(concrete.trim_start_matches('*'), &described["value"]),
    };
    // A pointer is described as one, a type registered by value not.
    let ty = if ty["kind"] != "ptr" && described["value"]["k"] == "ptr" {
        serde_json::json!({"kind": "ptr", "go": concrete, "elem": ty})
    } else {
        ty
    };
    Interface {
        name: text(described, "name").to_owned(),
        schema: schema(&ty),
        value: value(&ty, &described["value"]),
    }
}

/// Description of a struct type that occurs only inside interfaces.
fn inferred(go: &str, described: &Json) -> Json {
    let described = if described["k"] == "ptr" {
        &described["to"]
    } else {
        described
    };
    assert_eq!(described["k"], "struct", "{go}");
    let fields: Vec<Json> = list(&described["fields"])
        .iter()
        .map(|field| {
            let kind = field["value"]["k"].clone();
            serde_json::json!({"name": field["name"], "type": {"kind": kind, "go": kind}})
        })
        .collect();
    let name = go.rsplit('.').next();
    serde_json::json!({"kind": "struct", "go": go, "name": name, "fields": fields})
}
