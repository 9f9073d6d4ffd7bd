//! A destination of any described type, filled through serde, and described again.
//!
//! It asks the deserializer for what a Rust type of that shape would ask for.

use std::fmt;

use pinfold_gob::{BinaryMarshalled, GoString, GobEncoded, Marshaler};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Value as Json, json};

use crate::vectors::{hex, list, marshaler, sent_fields, string, target, text};

/// A described type, and what the destination holds before.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) ty: &'a Json,
    pub(crate) before: Option<&'a Json>,
}

impl<'a> Destination<'a> {
    fn fresh(ty: &'a Json) -> Self {
        Self {
            ty: target(ty),
            before: None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Destination<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Json, D::Error> {
        let ty = self.ty;
        let bits = ty["bits"].as_u64().unwrap_or(64);
        Ok(match text(ty, "kind") {
            "bool" => json!({"k": "bool", "v": bool::deserialize(de)?}),
            "int" => int(match bits {
                8 => i8::deserialize(de)?.into(),
                16 => i16::deserialize(de)?.into(),
                32 => i32::deserialize(de)?.into(),
                _ => i64::deserialize(de)?,
            }),
            "uint" => uint(match bits {
                8 => u8::deserialize(de)?.into(),
                16 => u16::deserialize(de)?.into(),
                32 => u32::deserialize(de)?.into(),
                _ => u64::deserialize(de)?,
            }),
            "float" if bits == 32 => float(f32::deserialize(de)?.into()),
            "float" => float(f64::deserialize(de)?),
            "complex" => {
                let (re, im) = <(f64, f64)>::deserialize(de)?;
                complex(re, im)
            }
            "string" => {
                json!({"k": "string", "hex": to_hex(GoString::deserialize(de)?.as_bytes())})
            }
            "bytes" => bytes(&serde_bytes::ByteBuf::deserialize(de)?),
            "slice" => de.deserialize_seq(Elements { ty, k: "slice" })?,
            "array" => {
                let length = usize::try_from(ty["len"].as_u64().unwrap()).unwrap();
                de.deserialize_tuple(length, Elements { ty, k: "array" })?
            }
            "map" => de.deserialize_map(Entries { ty })?,
            "struct" => {
                let names: Vec<&'static str> = sent_fields(ty)
                    .map(|field| &*Box::leak(text(field, "name").to_owned().into_boxed_str()))
                    .collect();
                let names: &'static [&'static str] = Box::leak(names.into_boxed_slice());
                de.deserialize_struct(
                    "",
                    names,
                    Fields {
                        ty,
                        before: self.before,
                    },
                )?
            }
            "ptr" => de.deserialize_option(Pointer { ty })?,
            "interface" => {
                <()>::deserialize(de)?;
                json!({"k": "interface", "nil": true})
            }
            "opaque" => opaque(&match marshaler(ty) {
                Marshaler::Gob => GobEncoded::deserialize(de)?.0,
                _ => BinaryMarshalled::deserialize(de)?.0,
            }),
            other => panic!("kind {other}"),
        })
    }
}

struct Elements<'a> {
    ty: &'a Json,
    k: &'static str,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut elems = Vec::new();
        while let Some(elem) = access.next_element_seed(Destination::fresh(&self.ty["elem"]))? {
            elems.push(elem);
        }
        Ok(json!({"k": self.k, "elems": elems}))
    }
}

struct Entries<'a> {
    ty: &'a Json,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(Json, Json)> = Vec::new();
        while let Some(key) = access.next_key_seed(Destination::fresh(&self.ty["key"]))? {
            let elem = access.next_value_seed(Destination::fresh(&self.ty["elem"]))?;
            // As every Rust map does with a key that comes twice.
            entries.retain(|(present, _)| *present != key);
            entries.push((key, elem));
        }
        Ok(json!({"k": "map", "entries": sorted(entries)}))
    }
}

struct Fields<'a> {
    ty: &'a Json,
    before: Option<&'a Json>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a struct")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut fields: Vec<Json> = sent_fields(self.ty)
            .map(|field| json!({"name": field["name"], "value": zero(&field["type"])}))
            .collect();
        if let Some(before) = self.before {
            fields = list(&canonical(before)["fields"]).to_vec();
        }
        while let Some(name) = access.next_key::<String>()? {
            match sent_fields(self.ty).position(|field| field["name"] == *name) {
                Some(n) => {
                    let field = sent_fields(self.ty).nth(n).unwrap();
                    fields[n]["value"] =
                        access.next_value_seed(Destination::fresh(&field["type"]))?;
                }
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(json!({"k": "struct", "fields": fields}))
    }
}

struct Pointer<'a> {
    ty: &'a Json,
}

impl<'de> Visitor<'de> for Pointer<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pointer")
    }

    fn visit_some<D: Deserializer<'de>>(self, de: D) -> Result<Json, D::Error> {
        let to = Destination::fresh(&self.ty["elem"]).deserialize(de)?;
        Ok(json!({"k": "ptr", "to": to}))
    }

    fn visit_none<E: Error>(self) -> Result<Json, E> {
        Err(E::custom("nil interface for a pointer"))
    }
}

fn int(value: i64) -> Json {
    json!({"k": "int", "v": value.to_string()})
}

fn uint(value: u64) -> Json {
    json!({"k": "uint", "v": value.to_string()})
}

fn float(value: f64) -> Json {
    json!({"k": "float", "bits": format!("{:016x}", value.to_bits())})
}

fn complex(re: f64, im: f64) -> Json {
    json!({"k": "complex", "re": float(re), "im": float(im)})
}

fn bytes(value: &[u8]) -> Json {
    json!({"k": "bytes", "hex": to_hex(value)})
}

fn opaque(value: &[u8]) -> Json {
    json!({"k": "opaque", "hex": to_hex(value)})
}

/// The zero value of a described type.
fn zero(ty: &Json) -> Json {
    let ty = target(ty);
    match text(ty, "kind") {
        "bool" => json!({"k": "bool", "v": false}),
        "int" => int(0),
        "uint" => uint(0),
        "float" => float(0.0),
        "complex" => complex(0.0, 0.0),
        "string" => json!({"k": "string", "hex": ""}),
        "bytes" => bytes(&[]),
        "slice" => json!({"k": "slice", "elems": []}),
        "array" => {
            let length = usize::try_from(ty["len"].as_u64().unwrap()).unwrap();
            json!({"k": "array", "elems": vec![zero(&ty["elem"]); length]})
        }
        "map" => json!({"k": "map", "entries": []}),
        "struct" => {
            let fields: Vec<Json> = sent_fields(ty)
                .map(|field| json!({"name": field["name"], "value": zero(&field["type"])}))
                .collect();
            json!({"k": "struct", "fields": fields})
        }
        "ptr" => json!({"k": "ptr", "nil": true}),
        "interface" => json!({"k": "interface", "nil": true}),
        // The zero of what marshals itself is Go's to know.
        "opaque" => json!({"k": "opaque", "zero": true}),
        other => panic!("kind {other}"),
    }
}

/// A described value without what is there for reading only, nil and empty alike, maps sorted.
pub(crate) fn canonical(described: &Json) -> Json {
    let elems = || {
        list(&described["elems"])
            .iter()
            .map(canonical)
            .collect::<Vec<_>>()
    };
    match text(described, "k") {
        "float" => json!({"k": "float", "bits": described["bits"]}),
        "complex" => json!({
            "k": "complex", "re": canonical(&described["re"]), "im": canonical(&described["im"]),
        }),
        "string" => json!({"k": "string", "hex": to_hex(&string(described))}),
        "bytes" => bytes(&described["hex"].as_str().map(hex).unwrap_or_default()),
        kind @ ("slice" | "array") => json!({"k": kind, "elems": elems()}),
        "map" => {
            let entries = list(&described["entries"]).iter();
            let entries = entries.map(|entry| (canonical(&entry[0]), canonical(&entry[1])));
            json!({"k": "map", "entries": sorted(entries.collect())})
        }
        "struct" => {
            let fields: Vec<Json> = list(&described["fields"])
                .iter()
                .map(|field| json!({"name": field["name"], "value": canonical(&field["value"])}))
                .collect();
            json!({"k": "struct", "fields": fields})
        }
        "ptr" if described["nil"] == true => json!({"k": "ptr", "nil": true}),
        "ptr" => json!({"k": "ptr", "to": canonical(&described["to"])}),
        // Omitted as a field, and its zero is Go's to know.
        "opaque" if described["zero"] == true => json!({"k": "opaque", "zero": true}),
        "opaque" => json!({"k": "opaque", "hex": described["hex"]}),
        _ => described.clone(),
    }
}

fn sorted(mut entries: Vec<(Json, Json)>) -> Vec<(Json, Json)> {
    entries.sort_by_key(|(key, _)| key.to_string());
    entries
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
