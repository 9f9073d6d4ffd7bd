//! What of the walls is in force here: each control of the jail, with how it was found out.
//!
//! The launcher makes a posture by trying each control for real in a throw-away child; it crosses
//! the socket as TOML. A control that this version does not have is `not-built`, which is a state
//! like `missing`: where a policy requires it, the launch is refused with that word.

use pinfold_policy::{Control, Moment, RequireSignatures, Wanted};
use serde::{Deserialize, Serialize};

/// What is in force on this machine, or would be for one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Posture {
    /// With which rights the launcher works.
    pub mode: Mode,
    /// Whose policies count.
    pub policy_trust: PolicyTrust,
    /// Which signatures plugins need to start here.
    #[serde(default)]
    pub require_signatures: RequireSignatures,
    /// Of that plugin's newest stage: what a launch would now say to the trust in it, the words of
    /// [`crate::protocol::Launched::trust`], or `refused: ` and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// Until when that plugin's instances are watched, by an order that counts now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_until: Option<Moment>,
    /// The plugin whose policy decided what is wanted; none: the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What of the host that plugin runs on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime: Vec<RuntimeState>,
    /// What of the host that plugin is shown beside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountState>,
    /// Every control, in the order of [`Control::ALL`].
    pub controls: Vec<ControlState>,
    /// Settings of the host that would add to the walls. Advice only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<Advice>,
    /// Stages that are kept: what is in memory and charged to the launcher.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageState>,
}

/// What the launcher finds at a path of the host that a policy names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostPathState {
    /// Who owns it: a user id, as the launcher sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// Its permission bits, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Why a launch with it is refused; empty: it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

/// One path of a plugin's runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuntimeState {
    /// Where it is, in the host and in the jail.
    pub path: String,
    /// Whether the plugin may execute it, and not only read it.
    pub is_executed: bool,
    /// What is there.
    #[serde(flatten)]
    pub found: HostPathState,
}

/// One mount of a plugin's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MountState {
    /// Where it is in the host.
    pub source: String,
    /// Where it is in the jail.
    pub target: String,
    /// Whether the plugin may write there.
    pub is_writable: bool,
    /// What is there.
    #[serde(flatten)]
    pub found: HostPathState,
}

/// With which rights the launcher works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As root.
    Root,
    /// As a user, inside a user namespace of its own.
    User,
}

/// Whose policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyTrust {
    /// The operator's alone.
    Operator,
    /// Also those that the daemon wrote itself (development grants).
    Development,
}

/// One control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ControlState {
    /// Which.
    pub id: Control,
    /// How much it is wanted.
    pub wanted: Wanted,
    /// Whether it is in force.
    pub state: State,
    /// By what means: `v1`, `v2`, the profile's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
    /// Why it is not, or not wholly, in force: the step and the errno.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The control that still holds where this one does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backed_by: String,
}

/// Whether a control is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Tried here, and it held.
    Enforced,
    /// All that it is for, but for the gap that is its reason.
    Partial,
    /// This machine cannot give it.
    Missing,
    /// It was in force since the launcher's start, and is no more.
    Failed,
    /// This version does not have it.
    NotBuilt,
}

impl State {
    /// The word that a posture shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Partial => "partial",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::NotBuilt => "not built",
        }
    }

    /// Whether a policy that requires the control is satisfied. What is partial does, and is told:
    /// docs/policy.md has the gaps of each control. One that would leave it without effect is
    /// [`Self::Missing`].
    #[must_use]
    pub const fn satisfies(self) -> bool {
        matches!(self, Self::Enforced | Self::Partial)
    }
}

/// One setting of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Advice {
    /// The setting: a name below `/proc/sys`, with dots; or `swap`.
    pub setting: String,
    /// Its value here; for `swap` the areas on disks.
    pub found: String,
    /// The value that hardens.
    pub advised: String,
    /// Why.
    pub why: String,
}

/// One stage that the launcher keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageState {
    /// The plugin it was made for last.
    pub plugin: String,
    /// Its digest.
    pub digest: pinfold_policy::Digest,
    /// The memory that it takes, of `stages-memory`.
    pub bytes: u64,
    /// Instances that run from it.
    pub instances: u32,
}

/// Why a posture cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read a posture: {message}")]
pub struct PostureError {
    message: String,
}

impl Posture {
    /// As TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form, scalars before tables")
    }

    /// From [`Self::to_toml`]'s text.
    ///
    /// # Errors
    /// [`PostureError`] with the reason.
    pub fn from_toml(text: &str) -> Result<Self, PostureError> {
        toml::from_str(text).map_err(|error| PostureError {
            message: error.message().to_owned(),
        })
    }

    /// The state of one control.
    #[must_use]
    pub fn control(&self, id: Control) -> Option<&ControlState> {
        self.controls.iter().find(|control| control.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posture_round_trips_as_toml() {
        let posture = Posture {
            mode: Mode::User,
            policy_trust: PolicyTrust::Development,
            require_signatures: RequireSignatures::Package,
            trust: Some("pinned digest".into()),
            watched_until: Some(Moment::from_unix_seconds(1_800_000_000)),
            plugin: Some("hello".into()),
            runtime: vec![RuntimeState {
                path: "/usr/bin/python3.11".into(),
                is_executed: true,
                found: HostPathState {
                    owner: Some(0),
                    mode: Some("0755".into()),
                    problem: String::new(),
                },
            }],
            mounts: vec![MountState {
                source: "/srv/geo".into(),
                target: "/data/geo".into(),
                is_writable: false,
                found: HostPathState {
                    problem: "open \"/srv/geo\"".into(),
                    ..HostPathState::default()
                },
            }],
            controls: Control::ALL
                .iter()
                .map(|id| ControlState {
                    id: *id,
                    wanted: id.default_wanted(),
                    state: State::NotBuilt,
                    how: "v1".into(),
                    reason: "mount /proc: operation not permitted (EPERM)".into(),
                    backed_by: "seccomp".into(),
                })
                .collect(),
            host: vec![Advice {
                setting: "kernel.kptr_restrict".into(),
                found: "0".into(),
                advised: "2".into(),
                why: "hides kernel addresses".into(),
            }],
            stages: vec![StageState {
                plugin: "hello".into(),
                digest: pinfold_policy::Digest([7; 32]),
                bytes: 5,
                instances: 1,
            }],
        };
        let text = posture.to_toml();
        assert!(text.contains("policy-trust = \"development\""), "{text}");
        assert!(text.contains("state = \"not-built\""), "{text}");
        assert_eq!(Posture::from_toml(&text), Ok(posture));
        assert!(Posture::from_toml("mode = 1").is_err());
    }
}
