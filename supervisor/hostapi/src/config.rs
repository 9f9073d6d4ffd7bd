//! The configuration service: values that the operator has put there for plugins.

use std::collections::BTreeMap;

use crate::HostError;

/// Longest key asked for, in bytes.
pub const CONFIG_KEY_LIMIT_BYTES: usize = 256;

pub(crate) fn check_key(key: &str) -> Result<(), HostError> {
    if key.len() > CONFIG_KEY_LIMIT_BYTES {
        return Err(HostError::TooLarge {
            what: "config key",
            limit_bytes: CONFIG_KEY_LIMIT_BYTES,
        });
    }
    Ok(())
}

pub(crate) fn get(values: &BTreeMap<String, String>, key: &str) -> Result<String, HostError> {
    values
        .get(key)
        .cloned()
        .ok_or_else(|| HostError::UnknownConfigKey { key: key.into() })
}
