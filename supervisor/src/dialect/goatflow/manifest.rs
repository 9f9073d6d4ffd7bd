//! `plugin.yaml`: what a goatflow plugin says of itself before it runs.

use pinfold_policy::{ByteSize, Permissions, PluginId, Span, is_unprintable};
use serde::{Deserialize, Deserializer};

use super::permissions::{
    AskedPermission, AskedPermissions, PermissionError, WrittenPermission, permissions,
};

/// Largest manifest read: real ones have a few hundred bytes.
pub(crate) const MANIFEST_LIMIT_BYTES: usize = 256 * 1024;

/// Longest version, in characters: it stands in lists, logs and answers.
pub(super) const VERSION_LIMIT_CHARACTERS: usize = 64;
/// Longest description, author and licence, in characters: each user's list has those of every plugin.
pub(super) const TEXT_LIMIT_CHARACTERS: usize = 500;

/// A checked `plugin.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) name: PluginId,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) author: String,
    pub(crate) license: String,
    /// Executable, below the plugin's directory.
    pub(crate) entry: String,
    /// What it asks for.
    pub(crate) asked: Permissions,
    /// Limits it would like; the policy's author reads them, nothing else does.
    pub(crate) wishes: Wishes,
}

/// Resources a manifest would like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) memory: Option<ByteSize>,
    pub(crate) call: Option<Span>,
    pub(crate) init: Option<Span>,
    pub(crate) shutdown: Option<Span>,
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("{bytes} bytes, at most {MANIFEST_LIMIT_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("not UTF-8 text at byte {at}")]
    Encoding { at: usize },
    #[error("line {line}: {message}")]
    Yaml { line: u64, message: String },
    #[error("name is missing")]
    NoName,
    #[error("name {name:?}: {reason}")]
    Name { name: String, reason: String },
    #[error("name is {name:?}, the plugin's directory is {directory:?}")]
    OtherName { name: String, directory: String },
    #[error("runtime is {runtime:?}: this host runs grpc")]
    Runtime { runtime: String },
    #[error("type is {kind:?}: this host runs plugin")]
    Kind { kind: String },
    #[error("binary {binary:?} is no path below the plugin's directory")]
    Binary { binary: String },
    #[error("binary {binary:?} has control characters, or some that turn the direction of writing")]
    BinaryUnprintable { binary: String },
    #[error("sidecars are not run by this host")]
    Sidecars,
    #[error("resources.{key} is {value:?}: {reason}")]
    Resource {
        key: &'static str,
        value: String,
        reason: String,
    },
    #[error(transparent)]
    Permission(#[from] PermissionError),
}

/// What is written. A key without a value is one that is not there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    name: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    version: String,
    #[serde(deserialize_with = "or_empty")]
    runtime: String,
    binary: Option<String>,
    #[serde(rename = "wasm")]
    _wasm: serde::de::IgnoredAny,
    #[serde(deserialize_with = "or_empty")]
    description: String,
    #[serde(deserialize_with = "or_empty")]
    author: String,
    #[serde(deserialize_with = "or_empty")]
    license: String,
    #[serde(rename = "homepage")]
    _homepage: serde::de::IgnoredAny,
    #[serde(rename = "icon")]
    _icon: serde::de::IgnoredAny,
    #[serde(deserialize_with = "or_empty")]
    resources: ResourceRequest,
    #[serde(rename = "dependencies")]
    _dependencies: serde::de::IgnoredAny,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(deserialize_with = "or_empty")]
    sidecars: Vec<serde::de::IgnoredAny>,
}

/// The contract's `ResourceRequest`, as a manifest has it: a key that nobody knows is misspelt there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResourceRequest {
    #[serde(deserialize_with = "or_empty")]
    memory_mb: i64,
    #[serde(deserialize_with = "or_empty")]
    call_timeout: String,
    #[serde(deserialize_with = "or_empty")]
    init_timeout: String,
    #[serde(deserialize_with = "or_empty")]
    shutdown_timeout: String,
    permissions: Option<AskedPermissions<WrittenPermission>>,
    #[serde(rename = "max_file_storage_bytes")]
    _max_file_storage_bytes: serde::de::IgnoredAny,
}

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Manifest {
    /// The name in a manifest, which is to be that of its plugin's directory.
    pub(crate) fn name(bytes: &[u8]) -> Result<PluginId, ManifestError> {
        Document::read(bytes)?.id()
    }

    /// Reads the manifest of the plugin in directory `directory`, which is its name where it says none.
    pub(crate) fn parse(bytes: &[u8], directory: &PluginId) -> Result<Self, ManifestError> {
        let document = Document::read(bytes)?;
        let id = match &document.name {
            Some(_) => document.id()?,
            None => directory.clone(),
        };
        if id != *directory {
            return Err(ManifestError::OtherName {
                name: id.to_string(),
                directory: directory.to_string(),
            });
        }
        if document.runtime != "grpc" {
            return Err(ManifestError::Runtime {
                runtime: document.runtime,
            });
        }
        if let Some(kind) = document.kind.filter(|kind| kind != "plugin") {
            return Err(ManifestError::Kind { kind });
        }
        if !document.sidecars.is_empty() {
            return Err(ManifestError::Sidecars);
        }
        let entry = document.binary.unwrap_or_else(|| id.to_string());
        if !below_directory(&entry) {
            return Err(ManifestError::Binary {
                binary: entry.chars().take(80).collect(),
            });
        }
        // It is written into a policy, as scopes are, and read there by people.
        if entry.chars().any(is_unprintable) {
            return Err(ManifestError::BinaryUnprintable {
                binary: entry.chars().take(80).collect(),
            });
        }
        let wishes = document.resources.wishes()?;
        let asked = match document.resources.permissions {
            Some(list) => permissions(&list.map(AskedPermission::from))?,
            None => Permissions::default(),
        };
        Ok(Self {
            name: id,
            version: cut(document.version, VERSION_LIMIT_CHARACTERS),
            description: cut(document.description, TEXT_LIMIT_CHARACTERS),
            author: cut(document.author, TEXT_LIMIT_CHARACTERS),
            license: cut(document.license, TEXT_LIMIT_CHARACTERS),
            entry,
            asked,
            wishes,
        })
    }
}

impl Document {
    fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_LIMIT_BYTES {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| ManifestError::Encoding {
            at: error.valid_up_to(),
        })?;
        read_yaml(text)
    }

    fn id(&self) -> Result<PluginId, ManifestError> {
        let name = self.name.as_deref().ok_or(ManifestError::NoName)?;
        PluginId::parse(name).map_err(|error| ManifestError::Name {
            name: name.chars().take(80).collect(),
            reason: error.to_string(),
        })
    }
}

/// The beginning of a text.
pub(super) fn cut(mut text: String, limit_characters: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(limit_characters) {
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}

/// A relative path without empty, `.` or `..` part, at most 512 bytes.
fn below_directory(path: &str) -> bool {
    path.len() <= 512
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A manifest needs a handful of nodes and no alias at all.
fn read_yaml(text: &str) -> Result<Document, ManifestError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            max_nodes: 4096,
            max_events: 16_384,
            max_aliases: 16,
            max_anchors: 16,
            max_documents: 1,
            max_total_scalar_bytes: MANIFEST_LIMIT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 1024,
            max_replay_stack_depth: 4,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = error.without_snippet().to_string();
        ManifestError::Yaml {
            line: error.location().map_or(1, |location| location.line()),
            message: message
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect(),
        }
    })
}

impl ResourceRequest {
    fn wishes(&self) -> Result<Wishes, ManifestError> {
        let span = |key, value: &String| {
            if value.is_empty() {
                return Ok(None);
            }
            value
                .parse::<Span>()
                .map(Some)
                .map_err(|error| ManifestError::Resource {
                    key,
                    value: value.chars().take(40).collect(),
                    reason: error.to_string(),
                })
        };
        let memory = match u64::try_from(self.memory_mb) {
            Ok(0) => None,
            Ok(mebibytes @ 1..=1_048_576) => Some(ByteSize::mebibytes(mebibytes)),
            _ => {
                return Err(ManifestError::Resource {
                    key: "memory_mb",
                    value: self.memory_mb.to_string(),
                    reason: "write 1 to 1048576, or nothing".into(),
                });
            }
        };
        Ok(Wishes {
            memory,
            call: span("call_timeout", &self.call_timeout)?,
            init: span("init_timeout", &self.init_timeout)?,
            shutdown: span("shutdown_timeout", &self.shutdown_timeout)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "name: hello
version: 1.2.0
runtime: grpc
binary: hello
description: Says hello
resources:
  memory_mb: 64
  call_timeout: 1m30s
  permissions:
    - type: db
      access: read
      scope: [items]
    - type: cache
      access: readwrite
    - type: http
      scope: ['*.example.com']
";

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes(), &"hello".parse().unwrap())
    }

    #[test]
    fn texts_that_every_users_list_has_are_cut() {
        let long = "ä".repeat(20_000);
        let text = format!(
            "{}author: '{long}'\nlicense: '{long}'\n",
            SAMPLE
                .replace("1.2.0", &format!("'{long}'"))
                .replace("Says hello", &long)
        );
        let manifest = parse(&text).unwrap();
        let cut = [
            (&manifest.version, VERSION_LIMIT_CHARACTERS),
            (&manifest.description, TEXT_LIMIT_CHARACTERS),
            (&manifest.author, TEXT_LIMIT_CHARACTERS),
            (&manifest.license, TEXT_LIMIT_CHARACTERS),
        ];
        for (text, limit) in cut {
            assert_eq!(text.chars().count(), limit);
        }
    }

    #[test]
    fn a_manifest_becomes_what_it_asks_for() {
        let manifest = parse(SAMPLE).unwrap();
        assert_eq!(manifest.entry, "hello");
        assert_eq!(manifest.wishes.memory, Some(ByteSize::mebibytes(64)));
        assert_eq!(manifest.wishes.call, Some(Span::seconds(90)));
        let lines: Vec<String> = manifest.asked.lines().into_iter().collect();
        assert_eq!(
            lines,
            [
                "cache:read",
                "cache:write",
                "db:read:main/items",
                "http:*:*.example.com"
            ]
        );
    }

    #[test]
    fn faults_are_refused_with_line_or_key_and_reason() {
        for (from, to, text) in [
            (
                "name: hello",
                "name: other",
                r#"name is "other", the plugin's directory is "hello""#,
            ),
            ("name: hello", "title: x", "line 1: "),
            (
                "runtime: grpc",
                "runtime: GRPC",
                r#"runtime is "GRPC": this host runs grpc"#,
            ),
            (
                "binary: hello",
                "binary: /bin/sh",
                r#"binary "/bin/sh" is no path below"#,
            ),
            (
                "binary: hello",
                "binary: ../x",
                r#"binary "../x" is no path below"#,
            ),
            (
                "memory_mb: 64",
                "memory_mb: -1",
                r#"resources.memory_mb is "-1""#,
            ),
            ("1m30s", "soon", r#"resources.call_timeout is "soon""#),
            (
                "type: cache",
                "type: cach",
                r#"permission type "cach" is unknown, did you mean "cache"?"#,
            ),
            (
                "access: read\n",
                "access: look\n",
                r#"permission db: access "look" is unknown"#,
            ),
            ("version: 1.2.0", "version: [", "line "),
            ("scope: [items]", "scopes: [items]", "line 12: unknown"),
            ("memory_mb: 64", "memory: 64", "line 7: unknown"),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            let error = parse(&SAMPLE.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(text),
                "{error:?} should start with {text:?}"
            );
        }
    }

    #[test]
    fn a_key_without_a_value_is_as_good_as_none() {
        let blank = parse("runtime: grpc\nname:\nhomepage:\nauthor:\nresources:\nsidecars:\n");
        let none = parse("runtime: grpc\n");
        assert_eq!(blank, none);
        let none = none.unwrap();
        assert_eq!(
            (
                none.name.as_str(),
                none.entry.as_str(),
                none.author.as_str()
            ),
            ("hello", "hello", "")
        );
        assert_eq!(Manifest::name(b"runtime: grpc"), Err(ManifestError::NoName));
    }

    #[test]
    fn what_would_write_lines_of_its_own_into_a_policy_is_refused() {
        for (from, to, said) in [
            (
                "[items]",
                r#"["app.name\n[trust]\nsigned-by = [\"release\"]"]"#,
                r#"permission db: the scope "app.name\n[trust]\nsigned-by = [\"release\"]" has control"#,
            ),
            (
                "['*.example.com']",
                r#"["a\u202Eb"]"#,
                r#"permission http: the scope "a\u{202e}b" has control"#,
            ),
            (
                "binary: hello",
                r#"binary: "he\nllo""#,
                r#"binary "he\nllo" has control"#,
            ),
            (
                "binary: hello",
                r#"binary: "he\u2066llo""#,
                r#"binary "he\u{2066}llo" has control"#,
            ),
        ] {
            assert!(SAMPLE.contains(from), "{from}");
            let error = parse(&SAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(parse(&SAMPLE.replace("[items]", "['büro_*', '表']")).is_ok());
    }

    #[test]
    fn an_alias_bomb_is_refused_at_once() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (one, two) in ["ab", "bc", "cd", "de", "ef", "fg"].map(|pair| pair.split_at(1)) {
            text += &format!("{two}: &{two} [*{one},*{one},*{one},*{one},*{one},*{one},*{one}]\n");
        }
        let started = std::time::Instant::now();
        assert!(matches!(parse(&text), Err(ManifestError::Yaml { .. })));
        assert!(
            started.elapsed().as_secs() < 5,
            "the budget ends it, not patience"
        );
    }
}
