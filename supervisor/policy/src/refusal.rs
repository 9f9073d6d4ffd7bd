//! The permission decision: what a plugin effectively may do, and why not.

use crate::http_grant::Portless;
use crate::permission::{Access, Pattern, Permissions};
use crate::{DbGrant, HttpTarget, Network, TUNNEL};

/// What a plugin effectively may do: what the policy grants of what the plugin asked for.
///
/// A plugin asks in its manifest and, in some dialects, again when it registers; what either asked
/// for counts, and nothing that the policy does not grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    granted: Permissions,
    asked: Vec<Permissions>,
}

/// Why a call was refused: the permission that was missing.
///
/// The text is one clause without the plugin's name, in the words that GoatFlow's host uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No grant on that database has this direction.
    #[error("database {access} access not granted")]
    Database {
        /// Name of the database.
        database: String,
        /// Direction that was needed.
        access: Access,
    },
    /// A statement that changes the schema.
    #[error("DDL statements not permitted")]
    Ddl {
        /// Name of the database.
        database: String,
    },
    /// The direction is granted, but not on this table.
    #[error("access to table {table:?} not permitted (allowed: [{}])", .allowed.join(" "))]
    Table {
        /// Name of the database.
        database: String,
        /// Direction that was needed.
        access: Access,
        /// The table.
        table: String,
        /// Patterns that are granted for that direction.
        allowed: Vec<String>,
    },
    /// The cache, for `get`, `set` (write) or `delete`.
    #[error("cache {}access not granted", verb(.operation))]
    Cache {
        /// `get`, `set` or `delete`.
        operation: &'static str,
    },
    /// Outgoing HTTP altogether.
    #[error("HTTP outbound access not granted")]
    Http,
    /// This host, port or method.
    #[error("HTTP access to {url:?} not permitted (allowed: [{}])", .allowed.join(" "))]
    HttpTarget {
        /// The URL that was to be reached.
        url: String,
        /// Method, host and port.
        target: String,
        /// Hosts that are granted.
        allowed: Vec<String>,
    },
    /// A tunnel to a host whose grant permits some methods and does not say `tunnel = true`.
    #[error("a tunnel to {target:?} is not permitted (its grant is limited to methods)")]
    HttpTunnel {
        /// Host and port that were to be reached.
        target: String,
    },
    /// The host is granted, but its address is in a range that is not public.
    #[error("HTTP access to {url:?} not permitted (its address is not public, and not granted)")]
    HttpAddress {
        /// The URL that was to be reached.
        url: String,
        /// The address, which the text leaves out: names of a private network are nobody's to ask for.
        address: String,
    },
    /// Mail altogether.
    #[error("email access not granted")]
    Email,
    /// The host's configuration altogether.
    #[error("config access not granted")]
    Config,
    /// This configuration key.
    #[error("config key {key:?} access denied")]
    ConfigKey {
        /// The key.
        key: String,
    },
    /// Calls of other plugins altogether.
    #[error("plugin-to-plugin calls not granted")]
    PluginCalls,
    /// Calls of this plugin.
    #[error("not permitted to call plugin {target:?} (allowed: [{}])", .allowed.join(" "))]
    PluginCall {
        /// The plugin that was to be called.
        target: String,
        /// Its function.
        function: String,
        /// Patterns that are granted.
        allowed: Vec<String>,
    },
}

fn verb(operation: &str) -> &'static str {
    match operation {
        "set" => "write ",
        "delete" => "delete ",
        _ => "",
    }
}

impl Refusal {
    /// The missing permission in the form of [`Permissions::lines`].
    #[must_use]
    pub fn permission(&self) -> String {
        match self {
            Self::Database { database, access } => format!("db:{access}:{database}"),
            Self::Ddl { database } => format!("db:ddl:{database}"),
            Self::Table {
                database,
                access,
                table,
                ..
            } => {
                format!("db:{access}:{database}/{table}")
            }
            Self::Cache { operation: "get" } => "cache:read".into(),
            Self::Cache { .. } => "cache:write".into(),
            Self::Http => "http".into(),
            Self::HttpTarget { target, .. } => format!("http:{target}"),
            Self::HttpTunnel { target } => format!("http:{TUNNEL}:{target}"),
            Self::HttpAddress { address, .. } => format!("http:address:{address}"),
            Self::Email => "email:send".into(),
            Self::Config => "config:read".into(),
            Self::ConfigKey { key } => format!("config:read:{key}"),
            Self::PluginCalls => "plugin:call".into(),
            Self::PluginCall {
                target, function, ..
            } => format!("plugin:call:{target}/{function}"),
        }
    }
}

/// Parts of a key that mark it as sensitive: `*` alone never grants these.
const SENSITIVE: [&str; 26] = [
    "database.",
    "db.",
    "mysql.",
    "postgres.",
    "mariadb.",
    "smtp.",
    "mail.",
    "email.",
    "secret",
    "password",
    "credential",
    "token",
    "key",
    "private",
    "auth",
    "session",
    "cookie",
    "ldap.",
    "oauth.",
    "saml.",
    "aws.",
    "gcp.",
    "azure.",
    "cloud.",
    "kms.",
    "vault.",
];

impl Effective {
    /// What `granted` leaves of what was `asked` for.
    #[must_use]
    pub fn new(granted: Permissions, asked: Vec<Permissions>) -> Self {
        Self { granted, asked }
    }

    /// What the policy grants, asked for or not.
    #[must_use]
    pub fn granted(&self) -> &Permissions {
        &self.granted
    }

    /// What was asked for, once for each place that asked.
    #[must_use]
    pub fn asked(&self) -> &[Permissions] {
        &self.asked
    }

    /// Granted, and asked for by one of those that asked. The refusal is the grant's where it
    /// refuses, for that is what an operator can change, else the first asker's.
    fn both(&self, check: impl Fn(&Permissions) -> Result<(), Refusal>) -> Result<(), Refusal> {
        check(&self.granted)?;
        let mut first = None;
        for asked in &self.asked {
            match check(asked) {
                Ok(()) => return Ok(()),
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
        match first {
            Some(refusal) => Err(refusal),
            // Nobody asked for anything: as if an empty set had asked.
            None => check(&Permissions::default()),
        }
    }

    /// May tables of `database` be read, or written, by one statement? An empty `tables` (a
    /// statement without tables) needs the direction alone.
    ///
    /// # Errors
    /// [`Refusal::Database`] or, for the first table not covered, [`Refusal::Table`].
    pub fn database<'a>(
        &self,
        database: &str,
        access: Access,
        tables: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<(), Refusal> {
        self.both(|p| {
            let grants = || grants(p, database).filter(|grant| grant.access.covers(access));
            if grants().next().is_none() {
                return Err(Refusal::Database {
                    database: database.into(),
                    access,
                });
            }
            tables.clone().into_iter().try_for_each(|table| {
                table_granted(grants(), table).map_err(|allowed| Refusal::Table {
                    database: database.into(),
                    access,
                    table: table.into(),
                    allowed,
                })
            })
        })
    }

    /// May a statement change the schema of these tables?
    ///
    /// # Errors
    /// [`Refusal::Ddl`] where no grant has `ddl`, else [`Refusal::Table`].
    pub fn ddl<'a>(
        &self,
        database: &str,
        tables: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<(), Refusal> {
        let access = Access::Write;
        // A manifest cannot ask for DDL (no dialect has a word for it): the grant alone decides on
        // it, and the ordinary check on whether the tables were asked for.
        let grants = || grants(&self.granted, database).filter(|grant| grant.ddl);
        if grants().next().is_none() {
            return Err(Refusal::Ddl {
                database: database.into(),
            });
        }
        for table in tables.clone() {
            table_granted(grants(), table).map_err(|allowed| Refusal::Table {
                database: database.into(),
                access,
                table: table.into(),
                allowed,
            })?;
        }
        self.database(database, access, tables)
    }

    /// May the cache be read (`get`) or changed (`set`, `delete`)?
    ///
    /// # Errors
    /// [`Refusal::Cache`].
    pub fn cache(&self, operation: &'static str) -> Result<(), Refusal> {
        let wanted = if operation == "get" {
            Access::Read
        } else {
            Access::Write
        };
        self.both(|p| match p.cache {
            Some(access) if access.covers(wanted) => Ok(()),
            _ => Err(Refusal::Cache { operation }),
        })
    }

    /// May this key of the host's configuration be read? A sensitive key needs a pattern more
    /// particular than `*`.
    ///
    /// # Errors
    /// [`Refusal::Config`] where no key is granted, else [`Refusal::ConfigKey`].
    pub fn config(&self, key: &str) -> Result<(), Refusal> {
        let sensitive = is_sensitive(key);
        self.both(|p| {
            if p.config.is_empty() {
                return Err(Refusal::Config);
            }
            let reaches = |pattern: &Pattern| !(sensitive && pattern.as_str() == "*");
            if p.config
                .iter()
                .any(|pattern| reaches(pattern) && pattern.matches(key))
            {
                Ok(())
            } else {
                Err(Refusal::ConfigKey { key: key.into() })
            }
        })
    }

    /// May anything be reached over HTTP at all?
    ///
    /// # Errors
    /// [`Refusal::Http`].
    pub fn http(&self) -> Result<(), Refusal> {
        self.both(|p| {
            if p.http.is_empty() {
                Err(Refusal::Http)
            } else {
                Ok(())
            }
        })
    }

    /// May this be reached over HTTP? Gives the networks that are not public and in which its
    /// address may be.
    ///
    /// # Errors
    /// [`Refusal::Http`], [`Refusal::HttpTarget`] or [`Refusal::HttpTunnel`].
    pub fn http_target(&self, target: &HttpTarget<'_>) -> Result<Vec<Network>, Refusal> {
        self.http()?;
        let refused = |p: &Permissions, portless| {
            let is_limited =
                target.method == TUNNEL && p.http.iter().any(|grant| grant.names(target, portless));
            if is_limited {
                let target = format!("{}:{}", target.host, target.port);
                return Refusal::HttpTunnel { target };
            }
            Refusal::HttpTarget {
                url: target.url.into(),
                target: format!("{}:{}:{}", target.method, target.host, target.port),
                allowed: (p.http.iter())
                    .flat_map(|grant| &grant.hosts)
                    .map(Pattern::to_string)
                    .collect(),
            }
        };
        let grants: Vec<_> = (self.granted.http.iter())
            .filter(|grant| grant.reaches(target, Portless::Default))
            .collect();
        if grants.is_empty() {
            return Err(refused(&self.granted, Portless::Default));
        }
        let asks = |p: &Permissions| {
            p.http
                .iter()
                .any(|grant| grant.reaches(target, Portless::Any))
        };
        if !self.asked.iter().any(asks) {
            let asked = self.asked.iter().find(|p| !p.http.is_empty());
            return Err(refused(asked.unwrap_or(&self.granted), Portless::Any));
        }
        Ok(grants
            .into_iter()
            .flat_map(|grant| grant.addresses.iter().copied())
            .collect())
    }

    /// May mail be sent at all?
    ///
    /// # Errors
    /// [`Refusal::Email`].
    pub fn email(&self) -> Result<(), Refusal> {
        self.both(|p| {
            if p.email.is_empty() {
                Err(Refusal::Email)
            } else {
                Ok(())
            }
        })
    }

    /// May this function of `target` be called?
    ///
    /// # Errors
    /// [`Refusal::PluginCalls`] or [`Refusal::PluginCall`].
    pub fn plugin_call(&self, target: &str, function: &str) -> Result<(), Refusal> {
        self.both(|p| {
            if p.plugin_call.is_empty() {
                Err(Refusal::PluginCalls)
            } else if p.may_call(target, function) {
                Ok(())
            } else {
                Err(Refusal::PluginCall {
                    target: target.into(),
                    function: function.into(),
                    allowed: p.plugin_call.iter().map(Pattern::to_string).collect(),
                })
            }
        })
    }
}

/// Whether a configuration key, or a pattern of some, looks as if it led to a secret.
pub(crate) fn is_sensitive(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| lower.contains(part))
}

fn grants<'a>(p: &'a Permissions, database: &str) -> impl Iterator<Item = &'a DbGrant> {
    p.db.iter().filter(move |grant| grant.database == database)
}

/// `Err` holds the patterns that are granted.
fn table_granted<'a>(
    grants: impl Iterator<Item = &'a DbGrant>,
    table: &str,
) -> Result<(), Vec<String>> {
    let patterns: Vec<&Pattern> = grants.flat_map(|grant| &grant.tables).collect();
    if patterns.iter().any(|pattern| pattern.matches(table)) {
        Ok(())
    } else {
        Err(patterns.into_iter().map(Pattern::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(text: &str) -> Permissions {
        toml::from_str(text).unwrap()
    }

    fn effective(granted: &str, asked: &[&str]) -> Effective {
        Effective::new(
            permissions(granted),
            asked.iter().map(|text| permissions(text)).collect(),
        )
    }

    const ITEMS: &str = r#"db = [{ tables = ["items"], access = "read" }]"#;

    #[test]
    fn a_table_needs_both_the_grant_and_the_asking() {
        let both = effective(ITEMS, &[ITEMS]);
        assert_eq!(both.database("main", Access::Read, ["items"]), Ok(()));
        let refusal = both
            .database("main", Access::Read, ["items", "users"])
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            r#"access to table "users" not permitted (allowed: [items])"#
        );
        assert_eq!(refusal.permission(), "db:read:main/users");
        assert_eq!(
            both.database("main", Access::Write, ["items"])
                .unwrap_err()
                .to_string(),
            "database write access not granted"
        );
        assert!(both.database("other", Access::Read, ["items"]).is_err());
        assert!(
            effective(ITEMS, &[])
                .database("main", Access::Read, ["items"])
                .is_err()
        );
        assert!(
            effective("", &[ITEMS])
                .database("main", Access::Read, ["items"])
                .is_err()
        );
    }

    #[test]
    fn either_place_of_asking_counts() {
        let wide = r#"db = [{ tables = ["*"], access = "readwrite" }]"#;
        let late = effective(
            wide,
            &[ITEMS, r#"db = [{ tables = ["notes"], access = "write" }]"#],
        );
        assert_eq!(late.database("main", Access::Read, ["items"]), Ok(()));
        assert_eq!(late.database("main", Access::Write, ["notes"]), Ok(()));
        assert!(late.database("main", Access::Write, ["items"]).is_err());
    }

    #[test]
    fn schema_changes_need_a_grant_that_says_so() {
        let write = r#"db = [{ tables = ["*"], access = "readwrite" }]"#;
        let ddl = r#"db = [{ tables = ["gk_*"], access = "readwrite", ddl = true }]"#;
        assert_eq!(
            effective(write, &[write])
                .ddl("main", ["gk_a"])
                .unwrap_err()
                .to_string(),
            "DDL statements not permitted"
        );
        assert_eq!(effective(ddl, &[write]).ddl("main", ["gk_a"]), Ok(()));
        assert!(effective(ddl, &[write]).ddl("main", ["items"]).is_err());
    }

    #[test]
    fn a_bare_star_never_reaches_sensitive_keys() {
        let star = effective("config = ['*']", &["config = ['*']"]);
        assert_eq!(star.config("app.name"), Ok(()));
        assert!(star.config("smtp.host").is_err());
        assert!(star.config("API_TOKEN").is_err());
        let named = effective("config = ['smtp.*']", &["config = ['smtp.host']"]);
        assert_eq!(named.config("smtp.host"), Ok(()));
        assert!(named.config("smtp.password").is_err());
    }

    #[test]
    fn a_host_needs_both_the_grant_and_the_asking_and_networks_the_grant() {
        let granted = r#"http = [{ hosts = ["api.test", "in.test:8443"], addresses = ["10.0.0.0/8"] },
            { hosts = ["*.test"], methods = ["GET"] }]"#;
        let asked = r#"http = [{ hosts = ["api.test"] }, { hosts = ["in.test"] }]"#;
        let both = effective(granted, &[asked]);
        let target = |method, host, port| HttpTarget {
            method,
            host,
            port,
            default_port: port == 443,
            url: "u",
        };
        let ten: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(
            both.http_target(&target("POST", "api.test", 443)),
            Ok(ten.clone())
        );
        assert_eq!(both.http_target(&target("GET", "in.test", 8443)), Ok(ten));
        assert_eq!(both.http_target(&target("GET", "in.test", 443)), Ok(vec![]));
        for (method, host, port) in [
            ("POST", "in.test", 443),
            ("GET", "api.test", 8443),
            ("GET", "other.test", 443),
        ] {
            let refusal = both.http_target(&target(method, host, port)).unwrap_err();
            assert_eq!(refusal.permission(), format!("http:{method}:{host}:{port}"));
        }
        let refusal = both
            .http_target(&target("GET", "x.example", 443))
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            r#"HTTP access to "u" not permitted (allowed: [api.test in.test:8443 *.test])"#
        );
        let refusal = effective("", &[asked]).http_target(&target("GET", "api.test", 443));
        assert_eq!(refusal, Err(Refusal::Http));
    }

    #[test]
    fn a_tunnel_that_is_refused_says_what_its_grant_lacks() {
        let granted = "http = [{ hosts = ['a.test'], methods = ['GET'] }]";
        let both = effective(granted, &["http = [{ hosts = ['*'] }]"]);
        let tunnel = |host| HttpTarget {
            method: TUNNEL,
            host,
            port: 443,
            default_port: true,
            url: host,
        };
        let limited = both.http_target(&tunnel("a.test")).unwrap_err();
        assert_eq!(
            limited.to_string(),
            r#"a tunnel to "a.test:443" is not permitted (its grant is limited to methods)"#
        );
        assert_eq!(limited.permission(), "http:CONNECT:a.test:443");
        let other = both.http_target(&tunnel("b.test")).unwrap_err();
        assert!(matches!(other, Refusal::HttpTarget { .. }), "{other}");
        let tunnelled = granted.replace("['GET']", "['GET'], tunnel = true");
        let both = effective(&tunnelled, &["http = [{ hosts = ['*'] }]"]);
        assert_eq!(both.http_target(&tunnel("a.test")), Ok(vec![]));
        let lines: Vec<String> = toml::from_str::<Permissions>(&tunnelled)
            .unwrap()
            .lines()
            .into_iter()
            .collect();
        assert_eq!(lines, ["http:CONNECT:a.test", "http:GET:a.test"]);
    }

    #[test]
    fn cache_directions_are_told_apart() {
        let read = effective("cache = 'read'", &["cache = 'readwrite'"]);
        assert_eq!(read.cache("get"), Ok(()));
        assert_eq!(
            read.cache("set").unwrap_err().to_string(),
            "cache write access not granted"
        );
        assert_eq!(
            effective("", &[]).cache("get").unwrap_err().to_string(),
            "cache access not granted"
        );
    }
}
