//! Why the daemon is told to look again.

use pinfold_policy::KeyName;
use serde::{Deserialize, Serialize};

use super::RecordId;

/// What stands behind the `?` of a rescan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RescanQuery {
    /// What was done before, by whoever asks: the audit trail has it in place of the rescan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// The key that it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// What it was written down as before it was done: the record in the audit trail has it, and what
    /// was written down is not told again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
}

impl RescanQuery {
    /// After something was done to a plugin.
    #[must_use]
    pub fn because(because: Because) -> Self {
        Self {
            because: Some(because),
            ..Self::default()
        }
    }

    /// After something was done to a key.
    #[must_use]
    pub fn because_of_key(because: Because, key: KeyName) -> Self {
        Self {
            key: Some(key),
            ..Self::because(because)
        }
    }
}

/// What was written, by the policies' owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// A plugin was put in.
    PluginAdded,
    /// A plugin was granted something.
    PluginGranted,
    /// A plugin was taken away.
    PluginRemoved,
    /// A plugin is to run watched: `pinfold policy learn`.
    LearnBegun,
    /// It is to run unwatched again.
    LearnEnded,
    /// A key may sign from now on.
    KeyTrusted,
    /// A key may sign no more.
    KeyRevoked,
}

impl Because {
    /// The action, as the audit trail names it.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::PluginAdded => "admin.plugin.add",
            Self::PluginGranted => "admin.plugin.grant",
            Self::PluginRemoved => "admin.plugin.remove",
            Self::LearnBegun => "admin.policy.learn",
            Self::LearnEnded => "admin.policy.learn-end",
            Self::KeyTrusted => "admin.key.trust",
            Self::KeyRevoked => "admin.key.revoke",
        }
    }
}
