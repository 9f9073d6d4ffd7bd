//! Permissions: what a plugin may ask of the host, as asked for by a manifest and as granted by a
//! policy file.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{HttpGrant, PathPattern, TUNNEL};

/// Direction of access to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reading alone.
    Read,
    /// Writing alone.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether this covers `wanted`.
    #[must_use]
    pub fn covers(self, wanted: Self) -> bool {
        self == Self::ReadWrite || self == wanted
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
        })
    }
}

/// A name with `*` for any run of characters, compared whole and without regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Takes a pattern as written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern that matches everything.
    #[must_use]
    pub fn any() -> Self {
        Self("*".into())
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` as a whole matches. Linear in both lengths, whatever they are.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        is_match(&self.0, name)
    }
}

/// As [`Pattern::matches`], of a part of a pattern too.
///
/// What stands between two stars is looked for once, behind what was found before it: the first place
/// leaves the most to what follows, so there is nothing to come back to.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern.eq_ignore_ascii_case(name);
    };
    let (between, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(name) = after(name, start).and_then(|name| before(name, end)) else {
        return false;
    };
    if between.is_empty() {
        return true;
    }
    let (between, name) = (lower(between), lower(name));
    let mut left: &str = &name;
    between.split('*').all(|part| match left.split_once(part) {
        Some((_, behind)) => {
            left = behind;
            true
        }
        None => false,
    })
}

/// What follows `start` in `name`.
fn after<'a>(name: &'a str, start: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// What comes before `end` in `name`.
fn before<'a>(name: &'a str, end: &str) -> Option<&'a str> {
    let (rest, tail) = name.split_at_checked(name.len().checked_sub(end.len())?)?;
    tail.eq_ignore_ascii_case(end).then_some(rest)
}

/// In lower case. Most names and patterns are, and are not copied.
fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Access to tables of one named database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DbGrant {
    /// Name of the database in the daemon's configuration.
    #[serde(default = "main_database")]
    pub database: String,
    /// Tables; `*` is a wildcard.
    pub tables: Vec<Pattern>,
    /// Read for queries, write for statements that change rows.
    pub access: Access,
    /// Whether statements that change the schema are allowed on these tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ddl: bool,
}

fn main_database() -> String {
    "main".into()
}

/// A set of permissions. What is not listed is not there: the default is nothing.
///
/// Always allowed and therefore absent: `log`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Permissions {
    /// Databases and tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub db: Vec<DbGrant>,
    /// The plugin's own name space of the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Access>,
    /// Outgoing HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// Recipients of mail: `@domain` or a whole address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<Pattern>,
    /// Keys of the host's configuration that may be read. Sensitive keys are read by patterns that look sensitive themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Pattern>,
    /// Other plugins whose functions may be called: a plugin for all of its functions, or
    /// `plugin/function`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugin_call: Vec<Pattern>,
}

impl Permissions {
    /// One line for each thing permitted, sorted, in the form `service:access:scope`; the
    /// difference of two sets of permissions is the difference of their lines.
    ///
    /// ```
    /// let asked: pinfold_policy::Permissions = toml::from_str("cache = 'read'").unwrap();
    /// assert!(asked.lines().contains("cache:read"));
    /// ```
    #[must_use]
    pub fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for DbGrant {
            database,
            tables,
            access,
            ddl,
        } in &self.db
        {
            for table in tables {
                for one in [Access::Read, Access::Write] {
                    if access.covers(one) {
                        lines.insert(format!("db:{one}:{database}/{table}"));
                    }
                }
                if *ddl {
                    lines.insert(format!("db:ddl:{database}/{table}"));
                }
            }
        }
        for one in [Access::Read, Access::Write] {
            if self.cache.is_some_and(|access| access.covers(one)) {
                lines.insert(format!("cache:{one}"));
            }
        }
        for HttpGrant {
            hosts,
            methods,
            paths,
            tunnel,
            addresses,
        } in &self.http
        {
            let paths: Vec<&str> = match paths.as_slice() {
                [] => vec![""],
                paths => paths.iter().map(PathPattern::as_str).collect(),
            };
            let methods: Vec<&str> = match methods.as_slice() {
                [] => vec!["*"],
                methods => methods.iter().map(String::as_str).collect(),
            };
            let is_limited = methods != ["*"] || paths != [""];
            for host in hosts {
                let mut ways: Vec<String> = (methods.iter())
                    .flat_map(|method| paths.iter().map(move |path| (method, path)))
                    .map(|(method, path)| format!("{method}:{host}{path}"))
                    .collect();
                if *tunnel && is_limited {
                    ways.push(format!("{TUNNEL}:{host}"));
                }
                for way in ways {
                    // The networks hold for the ways of their own grant alone.
                    lines.extend(
                        addresses
                            .iter()
                            .map(|network| format!("http:address:{network}:{way}")),
                    );
                    lines.insert(format!("http:{way}"));
                }
            }
        }
        lines.extend(self.email.iter().map(|to| format!("email:send:{to}")));
        lines.extend(self.config.iter().map(|key| format!("config:read:{key}")));
        lines.extend(
            self.plugin_call
                .iter()
                .map(|plugin| format!("plugin:call:{plugin}")),
        );
        lines
    }

    /// Whether nothing at all is permitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether calls of this function of `target` are permitted. A pattern with a `/` names plugin
    /// and function, any other one all functions of the plugins that it matches.
    #[must_use]
    pub fn may_call(&self, target: &str, function: &str) -> bool {
        self.plugin_call
            .iter()
            .any(|pattern| match pattern.as_str().split_once('/') {
                Some((plugin, one)) => is_match(plugin, target) && is_match(one, function),
                None => pattern.matches(target),
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The textbook definition, exponential and obviously right.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((b'*', after)), None) => naive(after, name),
            (Some((b'*', after)), Some((_, rest))) => naive(after, name) || naive(pattern, rest),
            (Some(_), None) => false,
            (Some((p, after)), Some((n, rest))) => p.eq_ignore_ascii_case(n) && naive(after, rest),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(
            pattern in "[abA\u{e9}*]{0,8}",
            name in "[abB\u{e9}]{0,8}",
        ) {
            prop_assert_eq!(
                Pattern::new(pattern.clone()).matches(&name),
                naive(pattern.as_bytes(), name.as_bytes())
            );
        }
    }

    /// Every text of at most `longest` of these letters.
    fn texts(letters: &[char], longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..longest {
            let until = all.len();
            for at in from..until {
                for letter in letters {
                    all.push(format!("{}{letter}", all[at]));
                }
            }
            from = until;
        }
        all
    }

    #[test]
    fn every_short_pattern_matches_what_the_definition_says() {
        let names = texts(&['a', 'b'], 6);
        for pattern in texts(&['a', 'B', '*'], 5) {
            let matcher = Pattern::new(pattern.clone());
            for name in &names {
                let expected = naive(pattern.as_bytes(), name.as_bytes());
                assert_eq!(matcher.matches(name), expected, "{pattern} {name}");
            }
        }
    }

    /// Whoever came back to the last star for each character would not see the end of these.
    #[test]
    fn long_patterns_and_names_take_no_longer_than_they_are() {
        let name = "a".repeat(1_000_000);
        let half = "a".repeat(500_000);
        for (at, (pattern, expected)) in [
            (format!("*{half}b"), false),
            (format!("*{half}b*"), false),
            (format!("A*{half}B*a"), false),
            ("*a".repeat(300_000) + "*b*", false),
            ("*a".repeat(300_000), true),
            ("*".repeat(500_000), true),
            (format!("*{half}*{half}*"), true),
            (format!("*{half}*{half}*a*"), false),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(Pattern::new(pattern).matches(&name), expected, "{at}");
        }
        let mixed = "Ab".repeat(500_000);
        assert!(Pattern::new(format!("*{}*", "aB".repeat(400_000))).matches(&mixed));
    }

    #[test]
    fn patterns_are_anchored_at_both_ends() {
        assert!(!Pattern::new("item").matches("items"));
        assert!(!Pattern::new("*_log").matches("a_log_b"));
        assert!(Pattern::new("Gk_*").matches("gk_items"));
    }

    #[test]
    fn calls_of_plugins_are_scoped_by_plugin_and_function() {
        let granted: Permissions =
            toml::from_str(r#"plugin-call = ["stats", "kb-*", "mail/send_*"]"#).unwrap();
        for (target, function, may) in [
            ("stats", "anything", true),
            ("stats2", "anything", false),
            ("kb-one", "anything", true),
            ("mail", "send_one", true),
            ("mail", "read", false),
            ("mail2", "send_one", false),
            ("stats/x", "send_one", false),
        ] {
            assert_eq!(
                granted.may_call(target, function),
                may,
                "{target} {function}"
            );
        }
    }

    #[test]
    fn lines_name_each_table_and_direction() {
        let text = r#"db = [{ tables = ["a", "b"], access = "readwrite", ddl = true }]
            cache = "write"
            http = [
                { hosts = ["x.test"], methods = ["GET"] },
                { hosts = ["y.test:81"], methods = ["GET", "PUT"], paths = ["/a", "/b/**"] },
                { hosts = ["z.test"], paths = ["/"], tunnel = true },
            ]"#;
        let lines: Vec<String> = toml::from_str::<Permissions>(text)
            .unwrap()
            .lines()
            .into_iter()
            .collect();
        assert_eq!(
            lines,
            [
                "cache:write",
                "db:ddl:main/a",
                "db:ddl:main/b",
                "db:read:main/a",
                "db:read:main/b",
                "db:write:main/a",
                "db:write:main/b",
                "http:*:z.test/",
                "http:CONNECT:z.test",
                "http:GET:x.test",
                "http:GET:y.test:81/a",
                "http:GET:y.test:81/b/**",
                "http:PUT:y.test:81/a",
                "http:PUT:y.test:81/b/**",
            ]
        );
    }

    #[test]
    fn lines_name_networks_with_the_methods_and_paths_that_they_are_granted_for() {
        let lines = |http: &str| {
            let permissions: Permissions = toml::from_str(&format!("http = [{http}]")).unwrap();
            permissions.lines().into_iter().collect::<Vec<String>>()
        };
        let host = r#"hosts = ["a.test"]"#;
        let near = r#"addresses = ["10.0.0.0/8"]"#;
        let apart =
            format!(r#"{{ {host}, methods = ["GET"], {near} }}, {{ {host}, methods = ["POST"] }}"#);
        let both = format!(r#"{{ {host}, methods = ["GET", "POST"], {near} }}"#);
        assert_ne!(lines(&apart), lines(&both));
        let limited = format!(r#"methods = ["GET"], paths = ["/x"], tunnel = true, {near}"#);
        assert_eq!(
            lines(&format!("{{ {host}, {limited} }}")),
            [
                "http:CONNECT:a.test",
                "http:GET:a.test/x",
                "http:address:10.0.0.0/8:CONNECT:a.test",
                "http:address:10.0.0.0/8:GET:a.test/x",
            ]
        );
        assert_eq!(
            lines(&format!("{{ {host}, {near} }}")),
            ["http:*:a.test", "http:address:10.0.0.0/8:*:a.test"]
        );
    }
}
