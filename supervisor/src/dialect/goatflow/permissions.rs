//! The permissions that a goatflow plugin asks for, in its manifest and when it registers.

use pinfold_policy::{Access, DbGrant, HttpGrant, Pattern, Permissions, is_unprintable, nearest};
use serde::Deserialize;

use super::first::First;

/// Most permissions that are asked for, and most scopes of all of them together.
const PERMISSION_LIMIT: usize = 64;
const SCOPE_LIMIT: usize = 1024;
/// Longest scope: a plugin's name, `/` and a function's are the longest that there is to name.
const SCOPE_LIMIT_BYTES: usize = 320;
/// Most `*` of a scope: each call is compared with every scope.
const STAR_LIMIT: usize = 16;

/// Why an asked permission is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PermissionError {
    #[error("permission type {kind:?} is unknown{}", .nearest.map_or(String::new(), |near| format!(", did you mean {near:?}?")))]
    Kind {
        kind: String,
        nearest: Option<&'static str>,
    },
    #[error("permission {kind}: access {access:?} is unknown, write read, write or readwrite")]
    Access { kind: String, access: String },
    #[error(
        "{count} permissions with {scopes} scopes in all, at most {PERMISSION_LIMIT} and {SCOPE_LIMIT} are read"
    )]
    TooMany { count: usize, scopes: usize },
    #[error(
        "permission {kind}: the scope {start:?}… has {bytes} bytes with {stars} *, at most {SCOPE_LIMIT_BYTES} and {STAR_LIMIT} are read"
    )]
    Scope {
        kind: String,
        /// Its beginning.
        start: String,
        bytes: usize,
        stars: usize,
    },
    #[error(
        "permission {kind}: the scope {scope:?} has control characters, or some that turn the direction of writing"
    )]
    Unprintable { kind: String, scope: String },
}

/// The contract's list of permissions.
pub(super) type AskedPermissions<T = AskedPermission> = First<T, { PERMISSION_LIMIT + 1 }>;

/// The contract's `Permission`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AskedPermission {
    #[serde(rename = "type")]
    kind: String,
    access: Option<String>,
    scope: Option<First<String, { SCOPE_LIMIT + 1 }>>,
}

/// The same in a manifest, where a key that nobody knows is misspelt: without its scope a permission is for everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenPermission {
    #[serde(rename = "type")]
    kind: String,
    access: Option<String>,
    scope: Option<First<String, { SCOPE_LIMIT + 1 }>>,
}

impl From<WrittenPermission> for AskedPermission {
    fn from(written: WrittenPermission) -> Self {
        let WrittenPermission {
            kind,
            access,
            scope,
        } = written;
        Self {
            kind,
            access,
            scope,
        }
    }
}

const KINDS: [&str; 9] = [
    "db",
    "cache",
    "http",
    "email",
    "config",
    "plugin_call",
    "file",
    "article",
    "ticket",
];

/// The contract's list of permissions in our form. Kinds that this host has no service for (`file`,
/// `article`, `ticket`, `entity`) are read and come to nothing: there is nothing to grant.
pub(super) fn permissions(list: &AskedPermissions) -> Result<Permissions, PermissionError> {
    let scopes = list
        .kept
        .iter()
        .map(|one| one.scope.as_ref().map_or(0, |scope| scope.count))
        .sum();
    if list.count > PERMISSION_LIMIT || scopes > SCOPE_LIMIT {
        return Err(PermissionError::TooMany {
            count: list.count,
            scopes,
        });
    }
    let mut asked = Permissions::default();
    for one in &list.kept {
        match one.kind.as_str() {
            "db" => {
                if let Some(access) = one.access()? {
                    let (database, tables) = ("main".into(), one.scope()?);
                    asked.db.push(DbGrant {
                        database,
                        tables,
                        access,
                        ddl: false,
                    });
                }
            }
            "cache" => asked.cache = merge(asked.cache, one.access()?),
            "http" => asked.http.push(HttpGrant {
                hosts: one.scope()?,
                methods: Vec::new(),
                paths: Vec::new(),
                tunnel: false,
                addresses: Vec::new(),
            }),
            "email" => asked.email.extend(one.scope()?),
            "config"
                if one
                    .access()?
                    .is_some_and(|access| access.covers(Access::Read)) =>
            {
                asked.config.extend(one.scope()?);
            }
            "plugin_call" => asked.plugin_call.extend(one.scope()?),
            "config" | "file" | "article" | "ticket" | "entity" => {}
            kind => {
                return Err(PermissionError::Kind {
                    kind: kind.chars().take(40).collect(),
                    nearest: nearest(kind, KINDS),
                });
            }
        }
    }
    Ok(asked)
}

impl AskedPermission {
    /// What it is about; where nothing is written, everything.
    fn scope(&self) -> Result<Vec<Pattern>, PermissionError> {
        let pattern = |scope: &String| {
            let (bytes, stars) = (scope.len(), scope.matches('*').count());
            if bytes > SCOPE_LIMIT_BYTES || stars > STAR_LIMIT {
                return Err(PermissionError::Scope {
                    kind: self.kind.clone(),
                    start: scope.chars().take(40).collect(),
                    bytes,
                    stars,
                });
            }
            if scope.chars().any(is_unprintable) {
                return Err(PermissionError::Unprintable {
                    kind: self.kind.clone(),
                    scope: scope.chars().take(80).collect(),
                });
            }
            Ok(Pattern::new(scope))
        };
        match self.scope.as_ref().map(|scope| scope.kept.as_slice()) {
            None | Some([]) => Ok(vec![Pattern::any()]),
            Some(scope) => scope.iter().map(pattern).collect(),
        }
    }

    /// `None` where it is absent, which for a service that needs one grants nothing.
    fn access(&self) -> Result<Option<Access>, PermissionError> {
        match self.access.as_deref() {
            None | Some("") => Ok(None),
            Some("read") => Ok(Some(Access::Read)),
            Some("write") => Ok(Some(Access::Write)),
            Some("readwrite") => Ok(Some(Access::ReadWrite)),
            Some(access) => Err(PermissionError::Access {
                kind: self.kind.clone(),
                access: access.chars().take(40).collect(),
            }),
        }
    }
}

fn merge(a: Option<Access>, b: Option<Access>) -> Option<Access> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Some(Access::ReadWrite),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<Permissions, String> {
        let list: AskedPermissions = serde_json::from_str(json).unwrap();
        permissions(&list).map_err(|error| error.to_string())
    }

    #[test]
    fn scopes_are_as_long_as_what_they_can_name() {
        let with = |kind: &str, scope: &str| {
            asked(&format!(
                r#"[{{"type":"{kind}","access":"read","scope":["{scope}"]}}]"#
            ))
        };
        let longest = "t".repeat(SCOPE_LIMIT_BYTES - STAR_LIMIT) + &"*".repeat(STAR_LIMIT);
        assert!(with("db", &longest).is_ok());
        for (scope, said) in [
            (
                "t".repeat(SCOPE_LIMIT_BYTES + 1),
                "permission db: the scope \"tttt",
            ),
            ("*a".repeat(STAR_LIMIT + 1), "has 34 bytes with 17 *"),
        ] {
            let error = with("db", &scope).unwrap_err();
            assert!(error.contains(said) && error.len() < 200, "{error}");
        }
        // What comes to nothing is compared with nothing.
        assert!(with("file", &"f".repeat(1_000)).is_ok());
    }

    #[test]
    fn what_is_written_has_no_key_that_nobody_knows() {
        let newer = r#"[{"type":"cache","access":"read","reason":"speed"}]"#;
        assert!(asked(newer).unwrap().cache.is_some());
        let written = serde_json::from_str::<AskedPermissions<WrittenPermission>>(newer);
        let error = written.unwrap_err().to_string();
        assert!(error.contains("unknown field `reason`"), "{error}");
    }
}
