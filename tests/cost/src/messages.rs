//! What a host and a goatflow plugin say to each other at every call: the structs of either side.

use std::sync::LazyLock;

use pinfold_gob::{Schema, gob_struct};
use serde::{Deserialize, Serialize};

/// Argument of `Plugin.Call`, as the host sends it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CallRequest<'a> {
    pub(crate) function: &'a str,
    #[serde(with = "serde_bytes")]
    pub(crate) args: &'a [u8],
    pub(crate) call_token: &'a str,
}

gob_struct!(CallRequest<'_> as "CallRequest" {
    "Function": String,
    "Args": Vec<u8>,
    "CallToken": String,
});

pub(crate) static CALL_REQUEST: LazyLock<Schema> = LazyLock::new(Schema::of::<CallRequest<'_>>);

impl<'a> CallRequest<'a> {
    pub(crate) fn of(args: &'a [u8]) -> Self {
        Self {
            function: "echo",
            args,
            call_token: "0123456789abcdef",
        }
    }
}

/// The same, as it arrives.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CallArrived {
    pub(crate) function: String,
    #[serde(with = "serde_bytes")]
    pub(crate) args: Vec<u8>,
    pub(crate) call_token: String,
}

/// Reply to it, as either side has it.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CallResponse {
    #[serde(with = "serde_bytes")]
    pub(crate) result: Vec<u8>,
    pub(crate) error: String,
}

gob_struct!(CallResponse as "CallResponse" { "Result": Vec<u8>, "Error": String });

pub(crate) static CALL_RESPONSE: LazyLock<Schema> = LazyLock::new(Schema::of::<CallResponse>);

/// As many bytes as asked for, no two neighbours alike.
pub(crate) fn payload(bytes: usize) -> Vec<u8> {
    (b' '..=b'~').cycle().take(bytes).collect()
}
