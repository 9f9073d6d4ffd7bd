//! A described value, given to serde as a Rust value of that shape would give itself.

use pinfold_gob::{BinaryMarshalled, GoString, GobEncoded, Marshaler};
use serde::ser::{Serialize, SerializeMap, SerializeStruct, SerializeTuple, Serializer};
use serde_json::Value as Json;

use crate::vectors::{
    float, hex, list, marshaler, number, sent_fields, string, target, text, zero_is_omitted,
};

/// A described value of a described type.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) ty: &'a Json,
    pub(crate) value: &'a Json,
}

impl Serialize for Source<'_> {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        let (ty, value) = (target(self.ty), self.value);
        let bits = ty["bits"].as_u64().unwrap_or(64);
        match text(value, "k") {
            "bool" => ser.serialize_bool(value["v"].as_bool().unwrap()),
            "int" if bits == 8 => ser.serialize_i8(number(value)),
            "int" if bits == 32 => ser.serialize_i32(number(value)),
            "int" => ser.serialize_i64(number(value)),
            "uint" if bits == 8 => ser.serialize_u8(number(value)),
            "uint" if bits == 32 => ser.serialize_u32(number(value)),
            "uint" => ser.serialize_u64(number(value)),
            "float" => ser.serialize_f64(float(value)),
            "complex" => (float(&value["re"]), float(&value["im"])).serialize(ser),
            "string" => GoString::from(string(value)).serialize(ser),
            "bytes" => ser.serialize_bytes(&value["hex"].as_str().map(hex).unwrap_or_default()),
            "slice" => ser.collect_seq(self.elements()),
            "array" => {
                let mut tuple = ser.serialize_tuple(self.elements().count())?;
                self.elements()
                    .try_for_each(|elem| tuple.serialize_element(&elem))?;
                tuple.end()
            }
            "map" => {
                let entries = list(&value["entries"]);
                let mut map = ser.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(
                        &Source {
                            ty: &ty["key"],
                            value: &entry[0],
                        },
                        &Source {
                            ty: &ty["elem"],
                            value: &entry[1],
                        },
                    )?;
                }
                map.end()
            }
            "struct" => {
                let mut fields = ser.serialize_struct("", 0)?;
                for (field, given) in sent_fields(ty).zip(list(&value["fields"])) {
                    let name: &'static str =
                        Box::leak(text(field, "name").to_owned().into_boxed_str());
                    let source = Source {
                        ty: &field["type"],
                        value: &given["value"],
                    };
                    fields.serialize_field(name, &Field(source))?;
                }
                fields.end()
            }
            "ptr" => Source {
                ty: &ty["elem"],
                value: &value["to"],
            }
            .serialize(ser),
            "interface" => ser.serialize_unit(),
            "opaque" => {
                let bytes = hex(text(value, "hex"));
                match marshaler(value) {
                    Marshaler::Gob => GobEncoded(bytes).serialize(ser),
                    _ => BinaryMarshalled(bytes).serialize(ser),
                }
            }
            other => panic!("kind {other}"),
        }
    }
}

impl<'a> Source<'a> {
    fn elements(&self) -> impl Iterator<Item = Source<'a>> {
        let elem = &target(self.ty)["elem"];
        list(&self.value["elems"])
            .iter()
            .map(move |value| Source { ty: elem, value })
    }
}

/// A struct field: nil as `None`.
struct Field<'a>(Source<'a>);

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        let Source { ty, value } = self.0;
        let nil = value["nil"] == true && ["ptr", "map"].contains(&text(value, "k"));
        if nil || zero_is_omitted(ty, value) {
            ser.serialize_none()
        } else {
            ser.serialize_some(&self.0)
        }
    }
}
