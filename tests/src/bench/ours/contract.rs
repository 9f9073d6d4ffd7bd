//! What crosses the wire between a host and a plugin of the goatflow dialect.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pinfold_gob::{Schema, gob_struct};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(super) struct InitRequest {
    #[serde(rename = "Config")]
    config: BTreeMap<String, String>,
    #[serde(rename = "HostAPIID")]
    host_api_id: u32,
}
gob_struct!(InitRequest as "InitRequest" { "Config": BTreeMap<String, String>, "HostAPIID": u32 });

impl InitRequest {
    pub(super) fn new(host_api_id: u32) -> Self {
        Self {
            config: BTreeMap::new(),
            host_api_id,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CallRequest<'a> {
    pub(super) function: &'a str,
    #[serde(with = "serde_bytes")]
    pub(super) args: &'a [u8],
}
gob_struct!(CallRequest<'_> as "CallRequest" { "Function": String, "Args": Vec<u8> });

pub(super) static CALL: LazyLock<Schema> = LazyLock::new(Schema::of::<CallRequest<'_>>);

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CallResponse {
    #[serde(with = "serde_bytes")]
    pub(super) result: Vec<u8>,
    pub(super) error: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostResponse {
    #[serde(with = "serde_bytes")]
    result: Vec<u8>,
}
gob_struct!(HostResponse as "HostAPIResponse" { "Result": Vec<u8> });

impl HostResponse {
    pub(super) fn ok() -> Self {
        Self {
            result: br#"{"ok":true}"#.to_vec(),
        }
    }
}
