//! `launcher.toml`: the launcher's own, root-owned configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::document::{self, DocumentError, KnownKeys};
use crate::{ByteSize, Span};

/// The variable of GoatFlow's own host that requires signatures: `1`, and here `package` too.
/// Anything but empty, `0` and `false` counts, so that a slip does not open what was meant to be
/// closed.
pub const REQUIRE_SIGNATURES: &str = "GOATFLOW_REQUIRE_SIGNATURES";

/// Most network namespaces that are kept ready: each takes some memory of the kernel's.
pub const NETNS_POOL_LIMIT: usize = 64;

/// The launcher's configuration. Every path is absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LauncherConfig {
    /// Where plugins lie: a directory each.
    pub plugin_dir: PathBuf,
    /// Policy files: `PLUGIN.toml`.
    pub policy_dir: PathBuf,
    /// Keys that may sign plugins: `NAME.pub`, each with its `NAME.toml`.
    pub keys_dir: PathBuf,
    /// The launcher's own state: stages, plugins' lasting directories, their user ids.
    pub state_dir: PathBuf,
    /// Launch templates and syscall profiles that override the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// User ids for plugins and their reapers. Unused where the launcher is no root.
    #[serde(default)]
    pub uid_range: UidRange,
    /// Where blocks of user ids are leased. Unused where the launcher is no root.
    #[serde(default = "uid_lease_dir")]
    pub uid_lease_dir: PathBuf,
    /// The daemon's user: reads the plugin directory with its rights.
    pub daemon_user: String,
    /// Whether only signed plugins start, and by which kind of signature.
    #[serde(default)]
    pub require_signatures: RequireSignatures,
    /// Network namespaces that are kept ready for launches, at most [`NETNS_POOL_LIMIT`].
    #[serde(default = "netns_pool")]
    pub netns_pool: usize,
    /// Between two probes of the controls, from [`PROBE_INTERVAL_LEAST`] up; zero: only at the start and
    /// when somebody asks.
    #[serde(default = "probe_interval")]
    pub probe_interval: Span,
    /// Memory that the stages of all plugins may take together: their files in whole pages, and about
    /// 1 KiB for each file and directory.
    #[serde(default = "stages_memory")]
    pub stages_memory: ByteSize,
    /// Whether an order in `state-dir` to watch a plugin's run is followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watched_runs: bool,
    /// Longest time that jails outlive the daemon's connection on its own request.
    #[serde(default = "handover_limit")]
    pub handover_limit: Span,
    /// `as-asked`: policies that the daemon wrote itself count too. A developer's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_grants: Option<DevGrants>,
    /// Where those policies lie, owned by the daemon's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_policy_dir: Option<PathBuf>,
}

/// Which signatures a plugin needs to start: `false`, `true` or `"package"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Required", into = "Required")]
pub enum RequireSignatures {
    /// None, where its policy asks for none.
    #[default]
    None,
    /// One of its program, or of its whole package.
    Any,
    /// One of its whole package.
    Package,
}

/// The same as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Required {
    Whether(bool),
    Kind(String),
}

impl TryFrom<Required> for RequireSignatures {
    type Error = &'static str;
    fn try_from(required: Required) -> Result<Self, Self::Error> {
        match required {
            Required::Whether(false) => Ok(Self::None),
            Required::Whether(true) => Ok(Self::Any),
            Required::Kind(kind) if kind == "package" => Ok(Self::Package),
            Required::Kind(_) => Err("require-signatures: write false, true or \"package\""),
        }
    }
}

impl From<RequireSignatures> for Required {
    fn from(required: RequireSignatures) -> Self {
        match required {
            RequireSignatures::None => Self::Whether(false),
            RequireSignatures::Any => Self::Whether(true),
            RequireSignatures::Package => Self::Kind("package".into()),
        }
    }
}

/// What development grants are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DevGrants {
    /// What the manifest asks for.
    AsAsked,
}

/// A range of user ids, outside those of logins, dynamic users and containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UidRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Default for UidRange {
    fn default() -> Self {
        Self {
            first: 1_900_000_000,
            count: 65_536,
        }
    }
}

fn uid_lease_dir() -> PathBuf {
    "/var/lib/pinfold-uids".into()
}

/// Network namespaces kept ready where nobody says how many.
pub const NETNS_POOL: usize = 4;

fn netns_pool() -> usize {
    NETNS_POOL
}

/// Between two probes where nobody says how long.
pub const PROBE_INTERVAL: Span = Span::seconds(300);

/// No sooner than that: a probe takes some tens of milliseconds of a processor.
pub const PROBE_INTERVAL_LEAST: Span = Span::seconds(1);

fn probe_interval() -> Span {
    PROBE_INTERVAL
}

/// Memory for stages where nobody says how much: some two hundred Go plugins.
pub const STAGES_MEMORY: ByteSize = ByteSize(2 * 1024 * 1024 * 1024);

fn stages_memory() -> ByteSize {
    STAGES_MEMORY
}

fn handover_limit() -> Span {
    Span::seconds(30)
}

const KEYS: &KnownKeys = &[
    (
        "",
        &[
            "plugin-dir",
            "policy-dir",
            "keys-dir",
            "state-dir",
            "data-dir",
            "uid-range",
            "uid-lease-dir",
            "daemon-user",
            "require-signatures",
            "netns-pool",
            "probe-interval",
            "stages-memory",
            "watched-runs",
            "handover-limit",
            "dev-grants",
            "dev-policy-dir",
        ],
    ),
    ("uid-range", &["first", "count"]),
];

/// Why a launcher configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LauncherConfigError {
    /// Not a document of this shape.
    #[error("{0}")]
    Document(DocumentError),
    /// A relative path.
    #[error("{key} {path:?} is not absolute")]
    Relative {
        /// The key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Fewer ids than one plugin needs, ids of the system, or beyond the last.
    #[error("uid-range {first} + {count}: write at least 16 ids from 100000 up, below 4294967294")]
    UidRange {
        /// First id.
        first: u32,
        /// Number of ids.
        count: u32,
    },
    /// More than are kept.
    #[error("netns-pool is {count}: write 0 to {NETNS_POOL_LIMIT}")]
    NetnsPool {
        /// How many.
        count: usize,
    },
    /// Sooner than is sensible.
    #[error("probe-interval is {interval}: write 0, or {PROBE_INTERVAL_LEAST} or more")]
    ProbeInterval {
        /// How long.
        interval: Span,
    },
    /// One without the other.
    #[error("dev-grants and dev-policy-dir go together: only one is there")]
    DevGrants,
}

impl LauncherConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`LauncherConfigError`] with the line or the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, LauncherConfigError> {
        let config: Self = document::read(bytes, KEYS).map_err(LauncherConfigError::Document)?;
        config.check()?;
        Ok(config)
    }

    /// Which signatures plugins need to start, by this file or by the variable [`REQUIRE_SIGNATURES`] of
    /// the launcher's environment, which can only tighten.
    #[must_use]
    pub fn requires_signatures(&self, variable: Option<&str>) -> RequireSignatures {
        let by_variable = match variable {
            None | Some("" | "0" | "false") => RequireSignatures::None,
            Some("package") => RequireSignatures::Package,
            Some(_) => RequireSignatures::Any,
        };
        self.require_signatures.max(by_variable)
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form, scalars before tables")
    }

    fn check(&self) -> Result<(), LauncherConfigError> {
        let paths = [
            ("plugin-dir", Some(&self.plugin_dir)),
            ("policy-dir", Some(&self.policy_dir)),
            ("keys-dir", Some(&self.keys_dir)),
            ("state-dir", Some(&self.state_dir)),
            ("data-dir", self.data_dir.as_ref()),
            ("uid-lease-dir", Some(&self.uid_lease_dir)),
            ("dev-policy-dir", self.dev_policy_dir.as_ref()),
        ];
        for (key, path) in paths
            .into_iter()
            .filter_map(|(key, path)| Some((key, path?)))
        {
            if !path.is_absolute() {
                return Err(LauncherConfigError::Relative {
                    key,
                    path: path.clone(),
                });
            }
        }
        let UidRange { first, count } = self.uid_range;
        if first < 100_000
            || count < 16
            || first
                .checked_add(count)
                .is_none_or(|end| end > u32::MAX - 1)
        {
            return Err(LauncherConfigError::UidRange { first, count });
        }
        if self.netns_pool > NETNS_POOL_LIMIT {
            return Err(LauncherConfigError::NetnsPool {
                count: self.netns_pool,
            });
        }
        let interval = self.probe_interval;
        if !interval.0.is_zero() && interval.0 < PROBE_INTERVAL_LEAST.0 {
            return Err(LauncherConfigError::ProbeInterval { interval });
        }
        if self.dev_grants.is_some() != self.dev_policy_dir.is_some() {
            return Err(LauncherConfigError::DevGrants);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
plugin-dir = "/var/lib/pinfold-plugins"
policy-dir = "/etc/pinfold/policy.d"
keys-dir = "/etc/pinfold/keys.d"
state-dir = "/var/lib/pinfold-launcher"
daemon-user = "pinfold"
uid-range = { first = 1900000000, count = 65536 }
"#;

    #[test]
    fn a_whole_file_is_read_and_written_back_the_same() {
        let config = LauncherConfig::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(config.uid_range, UidRange::default());
        assert_eq!(
            LauncherConfig::parse(config.to_toml().as_bytes()),
            Ok(config)
        );
    }

    #[test]
    fn the_environment_only_tightens() {
        use RequireSignatures::{Any, None, Package};
        let config = |line: &str| {
            let text = format!("{line}\n{SAMPLE}");
            LauncherConfig::parse(text.as_bytes()).unwrap()
        };
        for (line, variable, required) in [
            ("", Option::None, None),
            ("", Some("0"), None),
            ("", Some("1"), Any),
            ("", Some("yes"), Any),
            ("", Some("package"), Package),
            ("require-signatures = false", Some("1"), Any),
            ("require-signatures = true", Some("0"), Any),
            ("require-signatures = true", Some("package"), Package),
            ("require-signatures = 'package'", Option::None, Package),
            ("require-signatures = 'package'", Some("1"), Package),
        ] {
            let config = config(line);
            assert_eq!(
                config.requires_signatures(variable),
                required,
                "{line} {variable:?}"
            );
            let again = LauncherConfig::parse(config.to_toml().as_bytes());
            assert_eq!(again, Ok(config));
        }
    }

    #[test]
    fn faults_are_refused_with_their_key() {
        for (from, to, text) in [
            (
                "keys-dir",
                "key-dir",
                r#"line 4: unknown key "key-dir", did you mean "keys-dir"?"#,
            ),
            (
                "\"/etc/pinfold/policy.d\"",
                "\"policy.d\"",
                r#"policy-dir "policy.d" is not absolute"#,
            ),
            (
                "1900000000",
                "1000",
                "uid-range 1000 + 65536: write at least 16 ids from 100000 up, below 4294967294",
            ),
            (
                "daemon-user",
                "require-signatures = 'all'\ndaemon-user",
                "line 6: require-signatures: write false, true or \"package\"",
            ),
            (
                "daemon-user",
                "netns-pool = 65\ndaemon-user",
                "netns-pool is 65: write 0 to 64",
            ),
            (
                "daemon-user",
                "probe-interval = '10ms'\ndaemon-user",
                "probe-interval is 10ms: write 0, or 1s or more",
            ),
            (
                "daemon-user",
                "dev-grants = \"as-asked\"\ndaemon-user",
                "dev-grants and dev-policy-dir go together: only one is there",
            ),
        ] {
            let error = LauncherConfig::parse(SAMPLE.replace(from, to).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../../docs/configuration.md");
        for key in KEYS[0].1.iter().filter(|key| **key != "uid-range") {
            assert!(
                reference.contains(&format!("| `{key}` |")),
                "{key} has no row"
            );
        }
        for key in KEYS[1].1 {
            assert!(
                reference.contains(&format!("`uid-range.{key}`")),
                "uid-range.{key} has no row"
            );
        }
    }
}
