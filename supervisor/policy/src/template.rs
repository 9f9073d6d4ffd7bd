//! Launch templates: how a dialect starts a program, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use serde::Deserialize;

use crate::document::{self, DocumentError, KnownKeys};
use crate::{Permissions, PluginId};

/// Most bytes of all values that may come from the daemon at one launch, together.
pub const FROM_DAEMON_LIMIT_BYTES: usize = 8 * 1024;

/// How a dialect starts a program: `dialects/NAME.toml`, compiled into the launcher.
///
/// `{plugin}` in a path or value stands for the plugin's id.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LaunchTemplate {
    /// Version of this format: 1.
    pub schema: u32,
    /// Name of the dialect.
    pub dialect: String,
    /// Working directory, read-only, made in the jail's root.
    pub working_directory: String,
    /// Temporary directory of its own, mode 0700, in memory; `HOME` and `TMPDIR` point at it, and
    /// sockets that the plugin makes in it can be connected to.
    pub tmp_directory: String,
    /// Whether the plugin has a directory that lasts, at `/state`.
    #[serde(default)]
    pub state: bool,
    /// Symbolic links in the root: path to target.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Fixed variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables passed on from the host where it has them set.
    #[serde(default)]
    pub env_from_host: Vec<String>,
    /// Variables set only where the policy grants no outgoing HTTP.
    #[serde(default)]
    pub env_without_http: BTreeMap<String, String>,
    /// TCP port at 127.0.0.1 of the jail at which the way out for HTTP listens, where the policy
    /// grants outgoing HTTP.
    #[serde(default)]
    pub http_proxy_port: Option<NonZeroU16>,
    /// Variables set only where the policy grants outgoing HTTP; `{http-proxy}` in a value stands for
    /// address and port of the way out.
    #[serde(default)]
    pub env_with_http: BTreeMap<String, String>,
    /// Variables whose values the daemon gives at launch.
    #[serde(default)]
    pub from_daemon: BTreeMap<String, FromDaemon>,
}

/// What a value that the daemon gives may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FromDaemon {
    /// Most bytes.
    pub max_bytes: usize,
    /// Which characters.
    pub characters: CharacterClass,
}

/// A closed set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CharacterClass {
    /// `0-9`.
    Digits,
    /// `0-9` and `,`.
    DigitsAndCommas,
    /// Letters, digits, `-` and `_`.
    Word,
    /// Printable ASCII and line ends: a PEM block.
    Pem,
}

impl CharacterClass {
    fn contains(self, c: char) -> bool {
        match self {
            Self::Digits => c.is_ascii_digit(),
            Self::DigitsAndCommas => c.is_ascii_digit() || c == ',',
            Self::Word => c.is_ascii_alphanumeric() || c == '-' || c == '_',
            Self::Pem => c.is_ascii_graphic() || c == ' ' || c == '\n',
        }
    }
}

impl fmt::Display for CharacterClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digits => "digits",
            Self::DigitsAndCommas => "digits and commas",
            Self::Word => "letters, digits, - and _",
            Self::Pem => "printable ASCII and line ends",
        })
    }
}

/// What the template is filled in with.
#[derive(Clone, Copy, Debug)]
pub struct TemplateInput<'a> {
    /// The plugin.
    pub plugin: &'a PluginId,
    /// What its policy grants.
    pub granted: &'a Permissions,
    /// The policy's own variables.
    pub policy_env: &'a BTreeMap<String, String>,
    /// Values from the daemon, by name.
    pub from_daemon: &'a BTreeMap<String, String>,
    /// The host's own variables, of which only [`LaunchTemplate::env_from_host`] are looked at.
    pub host_env: &'a BTreeMap<String, String>,
}

/// Why a template cannot be used or filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not a document of this shape.
    #[error("{0}")]
    Document(DocumentError),
    /// A format of another time.
    #[error("schema is {schema}, this version reads 1")]
    Schema {
        /// What the file says.
        schema: u32,
    },
    /// A path that is not absolute or has an empty, `.` or `..` part.
    #[error("{key} {path:?} is no plain absolute path")]
    Path {
        /// The key.
        key: &'static str,
        /// Its value.
        path: String,
    },
    /// Variables point at a way out that has no port.
    #[error("env-with-http names {{http-proxy}}, and http-proxy-port is not set")]
    NoHttpProxy,
    /// A value that the daemon may not give.
    #[error("the daemon may not set {name:?}")]
    NotFromDaemon {
        /// The variable.
        name: String,
    },
    /// A value from the daemon that breaks its bounds.
    #[error(
        "the daemon's value for {name:?} ({bytes} bytes) is not at most {max_bytes} {characters}"
    )]
    DaemonValue {
        /// The variable.
        name: String,
        /// Its length.
        bytes: usize,
        /// Its limit.
        max_bytes: usize,
        /// Its characters.
        characters: CharacterClass,
    },
    /// All values from the daemon together are too long.
    #[error("the daemon's values have {bytes} bytes, at most {FROM_DAEMON_LIMIT_BYTES} are taken")]
    DaemonValues {
        /// Their length.
        bytes: usize,
    },
}

/// What stands for address and port of the way out.
const HTTP_PROXY: &str = "{http-proxy}";

const KEYS: &KnownKeys = &[
    (
        "",
        &[
            "schema",
            "dialect",
            "working-directory",
            "tmp-directory",
            "state",
            "links",
            "env",
            "env-from-host",
            "env-without-http",
            "env-with-http",
            "http-proxy-port",
            "from-daemon",
        ],
    ),
    ("from-daemon.*", &["max-bytes", "characters"]),
];

impl LaunchTemplate {
    /// Reads and checks a template.
    ///
    /// # Errors
    /// [`TemplateError`] with the line or the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        let template: Self = document::read(bytes, KEYS).map_err(TemplateError::Document)?;
        if template.schema != 1 {
            return Err(TemplateError::Schema {
                schema: template.schema,
            });
        }
        let check = |key, path: &String| {
            let plain = path
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
            if plain {
                Ok(())
            } else {
                Err(TemplateError::Path {
                    key,
                    path: path.clone(),
                })
            }
        };
        check("working-directory", &template.working_directory)?;
        check("tmp-directory", &template.tmp_directory)?;
        for (link, target) in &template.links {
            check("links", link)?;
            check("links", target)?;
        }
        let names_proxy = |value: &String| value.contains(HTTP_PROXY);
        if template.http_proxy_port.is_none() && template.env_with_http.values().any(names_proxy) {
            return Err(TemplateError::NoHttpProxy);
        }
        Ok(template)
    }

    /// The temporary directory for a plugin.
    #[must_use]
    pub fn tmp_directory(&self, plugin: &PluginId) -> String {
        fill(&self.tmp_directory, plugin)
    }

    /// The links for a plugin: path and target.
    pub fn links(&self, plugin: &PluginId) -> impl Iterator<Item = (String, String)> {
        self.links
            .iter()
            .map(|(path, target)| (fill(path, plugin), fill(target, plugin)))
    }

    /// The whole environment of the program, sorted by name: the template's, then the policy's,
    /// then the daemon's values, then `HOME` and `TMPDIR`; later ones win.
    ///
    /// # Errors
    /// [`TemplateError`] where the daemon's values break their bounds.
    pub fn environment(
        &self,
        input: TemplateInput<'_>,
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            env.insert(name.clone(), fill(value, input.plugin));
        }
        for name in &self.env_from_host {
            if let Some(value) = input.host_env.get(name) {
                env.insert(name.clone(), value.clone());
            }
        }
        if input.granted.http.is_empty() {
            env.extend(self.env_without_http.clone());
        } else {
            let port = self.http_proxy_port.map_or(0, NonZeroU16::get);
            let place = format!("127.0.0.1:{port}");
            for (name, value) in &self.env_with_http {
                let value = fill(value, input.plugin).replace(HTTP_PROXY, &place);
                env.insert(name.clone(), value);
            }
        }
        env.extend(input.policy_env.clone());
        let bytes = input
            .from_daemon
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > FROM_DAEMON_LIMIT_BYTES {
            return Err(TemplateError::DaemonValues { bytes });
        }
        for (name, value) in input.from_daemon {
            let Some(bounds) = self.from_daemon.get(name) else {
                return Err(TemplateError::NotFromDaemon { name: name.clone() });
            };
            let fits = value.len() <= bounds.max_bytes
                && value.chars().all(|c| bounds.characters.contains(c));
            if !fits {
                return Err(TemplateError::DaemonValue {
                    name: name.clone(),
                    bytes: value.len(),
                    max_bytes: bounds.max_bytes,
                    characters: bounds.characters,
                });
            }
            env.insert(name.clone(), value.clone());
        }
        let tmp = self.tmp_directory(input.plugin);
        env.insert("HOME".into(), tmp.clone());
        env.insert("TMPDIR".into(), tmp);
        Ok(env)
    }
}

fn fill(text: &str, plugin: &PluginId) -> String {
    text.replace("{plugin}", plugin.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
schema = 1
dialect = "sample"
working-directory = "/app"
tmp-directory = "/tmp/sample-{plugin}"
env-from-host = ["TZ"]
http-proxy-port = 3128
[links]
"/app/{plugin}" = "/plugin"
[env]
PATH = "/usr/bin"
[env-without-http]
NO_NETWORK = "1"
[env-with-http]
WAY_OUT = "http://{http-proxy}/"
[from-daemon]
VERSIONS = { max-bytes = 4, characters = "digits-and-commas" }
"#;

    fn fill_in(
        granted: &str,
        from_daemon: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        LaunchTemplate::parse(SAMPLE.as_bytes())
            .unwrap()
            .environment(TemplateInput {
                plugin: &"hello".parse().unwrap(),
                granted: &toml::from_str(granted).unwrap(),
                policy_env: &pairs(&[("EXTRA", "1"), ("HOME", "/elsewhere")]),
                from_daemon: &pairs(from_daemon),
                host_env: &pairs(&[("TZ", "UTC"), ("SECRET", "s")]),
            })
    }

    #[test]
    fn the_environment_is_the_template_and_nothing_of_the_host_but_what_it_names() {
        let env = fill_in("", &[("VERSIONS", "1,2")]).unwrap();
        let lines: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            lines,
            [
                "EXTRA=1",
                "HOME=/tmp/sample-hello",
                "NO_NETWORK=1",
                "PATH=/usr/bin",
                "TMPDIR=/tmp/sample-hello",
                "TZ=UTC",
                "VERSIONS=1,2",
            ]
        );
        let with_http = fill_in("http = [{ hosts = ['a'] }]", &[]).unwrap();
        assert!(!with_http.contains_key("NO_NETWORK"));
        assert!(!env.contains_key("WAY_OUT"));
        assert_eq!(with_http["WAY_OUT"], "http://127.0.0.1:3128/");
        let no_port = SAMPLE.replace("http-proxy-port = 3128", "");
        assert_eq!(
            LaunchTemplate::parse(no_port.as_bytes()),
            Err(TemplateError::NoHttpProxy)
        );
    }

    #[test]
    fn values_from_the_daemon_keep_their_bounds() {
        assert!(matches!(
            fill_in("", &[("PATH", "/x")]),
            Err(TemplateError::NotFromDaemon { .. })
        ));
        for value in ["1,2,3", "1 2"] {
            let refused = fill_in("", &[("VERSIONS", value)]);
            assert!(
                matches!(refused, Err(TemplateError::DaemonValue { .. })),
                "{value}"
            );
        }
    }

    #[test]
    fn paths_must_be_plain() {
        let text = SAMPLE.replace("\"/app\"", "\"/app/../etc\"");
        assert!(matches!(
            LaunchTemplate::parse(text.as_bytes()),
            Err(TemplateError::Path {
                key: "working-directory",
                ..
            })
        ));
    }
}
