//! The two structs in front of every argument and every reply.
use serde::{Deserialize, Serialize};

/// `rpc.Request` of Go's net/rpc.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RequestHeader {
    /// `Service.Method`.
    pub(super) service_method: String,
    /// Number of the request, chosen by the client.
    pub(super) seq: u64,
}

/// The same, borrowed, for writing.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestHeaderRef<'a> {
    pub(super) service_method: &'a str,
    pub(super) seq: u64,
}

/// `rpc.Response` of Go's net/rpc.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ResponseHeader {
    /// Number of the request that this answers.
    pub(super) seq: u64,
    /// Empty for success. The echoed `ServiceMethod` is not read.
    pub(super) error: String,
}

/// The same, borrowed, for writing.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResponseHeaderRef<'a> {
    pub(super) service_method: &'a str,
    pub(super) seq: u64,
    pub(super) error: &'a str,
}

pinfold_gob::gob_struct!(RequestHeaderRef<'_> as "Request" { "ServiceMethod": String, "Seq": u64 });
pinfold_gob::gob_struct!(ResponseHeaderRef<'_> as "Response" {
    "ServiceMethod": String,
    "Seq": u64,
    "Error": String,
});
