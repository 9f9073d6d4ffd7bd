//! The structs that travel between host and plugin. gob matches fields by name, so one form serves
//! every generation of the contract.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use pinfold_gob::{Schema, gob_struct};
use serde::{Deserialize, Serialize};

/// Argument of `Plugin.Init`.
#[derive(Debug, Serialize)]
pub(super) struct InitRequest {
    #[serde(rename = "Config")]
    pub(super) config: BTreeMap<String, String>,
    #[serde(rename = "HostAPIID")]
    pub(super) host_api_id: u32,
}

gob_struct!(InitRequest as "InitRequest" {
    "Config": BTreeMap<String, String>,
    "HostAPIID": u32,
});

/// Argument of `Plugin.Call`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CallRequest<'a> {
    pub(super) function: &'a str,
    #[serde(serialize_with = "bytes")]
    pub(super) args: Bytes,
    pub(super) call_token: &'a str,
}

fn bytes<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

gob_struct!(CallRequest<'_> as "CallRequest" {
    "Function": String,
    "Args": Vec<u8>,
    "CallToken": String,
});

/// Made once: every call sends this.
pub(super) static CALL_REQUEST: LazyLock<Schema> = LazyLock::new(Schema::of::<CallRequest<'_>>);

/// Reply to `Plugin.Call`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CallResponse {
    #[serde(with = "serde_bytes")]
    pub(super) result: Vec<u8>,
    pub(super) error: String,
}

/// Argument of the plugin's calls into the host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostRequest {
    pub(super) method: String,
    #[serde(with = "serde_bytes")]
    pub(super) args: Vec<u8>,
    /// Sent by generation 4: the call on whose behalf this is made. `CallerPlugin`, a claim, is not
    /// read.
    pub(super) call_token: String,
}

/// Reply to them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostResponse {
    #[serde(with = "serde_bytes")]
    pub(super) result: Vec<u8>,
    pub(super) error: String,
}

gob_struct!(HostResponse as "HostAPIResponse" {
    "Result": Vec<u8>,
    "Error": String,
});
