//! The permission decision: what a plugin effectively may do, and why not.

use crate::http_grant::Portless;
use crate::http_path::{Unclear, shown};
use crate::permission::{Access, Pattern, Permissions};
use crate::{DbGrant, HttpGrant, HttpTarget, Network, PathPattern, TUNNEL};

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
        /// Patterns that are granted for that direction: the first ones, and how many more.
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
        /// Hosts that are granted: the first ones, and how many more.
        allowed: Vec<String>,
    },
    /// Host, port and method are granted, and not this path.
    #[error("HTTP access to the path {path} at {place:?} not permitted (allowed: [{}])", .allowed.join(" "))]
    HttpPath {
        /// Method.
        method: String,
        /// Host and port.
        place: String,
        /// The path, printable and cut.
        path: String,
        /// Paths that are granted there for that method: the first ones, and how many more.
        allowed: Vec<String>,
    },
    /// Host, port and method are granted for some paths, and servers read this one in more than one way.
    #[error(
        "HTTP access to the path {path} at {place:?} not permitted (it has {part:?}: {why}, and its grant is limited to paths)"
    )]
    HttpPathUnclear {
        /// Method.
        method: String,
        /// Host and port.
        place: String,
        /// The path, printable and cut.
        path: String,
        /// The part of it, printable and cut.
        part: String,
        /// What it is to some servers.
        why: &'static str,
    },
    /// A tunnel to a host whose grant permits some methods or paths and does not say `tunnel = true`.
    #[error("a tunnel to {target:?} is not permitted (its grant is limited to {limits})")]
    HttpTunnel {
        /// Host and port that were to be reached.
        target: String,
        /// What the grant is limited to: methods, paths, or both.
        limits: &'static str,
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
        /// Patterns that are granted: the first ones, and how many more.
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
            Self::HttpPath {
                method,
                place,
                path,
                ..
            }
            | Self::HttpPathUnclear {
                method,
                place,
                path,
                ..
            } => format!("http:{method}:{place}{path}"),
            Self::HttpTunnel { target, .. } => format!("http:{TUNNEL}:{target}"),
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

/// Parts of a key that mark it as sensitive: a pattern reaches such a key only if it has one of these too.
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
            let patterns: Vec<&Pattern> = grants().flat_map(|grant| &grant.tables).collect();
            tables.clone().into_iter().try_for_each(|table| {
                table_granted(&patterns, table).map_err(|allowed| Refusal::Table {
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
        let patterns: Vec<&Pattern> = grants().flat_map(|grant| &grant.tables).collect();
        for table in tables.clone() {
            table_granted(&patterns, table).map_err(|allowed| Refusal::Table {
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

    /// May this key of the host's configuration be read? A sensitive key needs a pattern that looks
    /// sensitive itself: who writes `smtp.*` sees what it leads to, who writes `*`, `**` or `s*` may
    /// not.
    ///
    /// # Errors
    /// [`Refusal::Config`] where no key is granted, else [`Refusal::ConfigKey`].
    pub fn config(&self, key: &str) -> Result<(), Refusal> {
        let sensitive = is_sensitive(key);
        self.both(|p| {
            if p.config.is_empty() {
                return Err(Refusal::Config);
            }
            let reaches = |pattern: &Pattern| {
                pattern.matches(key) && (!sensitive || is_sensitive(pattern.as_str()))
            };
            if p.config.iter().any(reaches) {
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
    /// [`Refusal::Http`], [`Refusal::HttpTarget`], [`Refusal::HttpPath`],
    /// [`Refusal::HttpPathUnclear`] or [`Refusal::HttpTunnel`].
    pub fn http_target(&self, target: &HttpTarget<'_>) -> Result<Vec<Network>, Refusal> {
        self.http()?;
        let grants: Vec<_> = (self.granted.http.iter())
            .filter(|grant| grant.reaches(target, Portless::Default))
            .collect();
        if grants.is_empty() {
            return Err(http_refusal(&self.granted, target, Portless::Default));
        }
        let asks = |p: &Permissions| {
            p.http
                .iter()
                .any(|grant| grant.reaches(target, Portless::Any))
        };
        if !self.asked.iter().any(asks) {
            let asked = self.asked.iter().find(|p| !p.http.is_empty());
            let asked = asked.unwrap_or(&self.granted);
            return Err(http_refusal(asked, target, Portless::Any));
        }
        Ok(grants
            .into_iter()
            .flat_map(|grant| grant.addresses.iter().copied())
            .collect())
    }

    /// The grants that reach the target's host and port by its method, whatever its path: which of them
    /// a request rested on where only its path would tell.
    #[must_use]
    pub fn http_grants(&self, target: &HttpTarget<'_>) -> Vec<&HttpGrant> {
        (self.granted.http.iter())
            .filter(|grant| grant.reaches_host(target, Portless::Default))
            .collect()
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
                    allowed: listed(p.plugin_call.iter().map(Pattern::as_str)),
                })
            }
        })
    }
}

/// Why `p` permits no request of `target`.
fn http_refusal(p: &Permissions, target: &HttpTarget<'_>, portless: Portless) -> Refusal {
    let place = || format!("{}:{}", target.host, target.port);
    let of = |is_near: &dyn Fn(&HttpGrant) -> bool| -> Vec<&HttpGrant> {
        p.http.iter().filter(|grant| is_near(grant)).collect()
    };
    if target.method == TUNNEL {
        let named = of(&|grant| grant.names(target, portless));
        if let Some(limits) = named.into_iter().find_map(HttpGrant::limited_to) {
            let target = place();
            return Refusal::HttpTunnel { target, limits };
        }
    }
    let of_path = of(&|grant| grant.reaches_host(target, portless));
    if of_path.is_empty() || target.method == TUNNEL {
        return Refusal::HttpTarget {
            url: target.url.into(),
            target: format!("{}:{}", target.method, place()),
            allowed: listed(
                (p.http.iter())
                    .flat_map(|grant| &grant.hosts)
                    .map(Pattern::as_str),
            ),
        };
    }
    let (method, place, path) = (target.method.to_owned(), place(), shown(target.path));
    match Unclear::find(target.path) {
        Some(Unclear { part, why }) => Refusal::HttpPathUnclear {
            method,
            place,
            path,
            part: shown(&part),
            why,
        },
        None => Refusal::HttpPath {
            method,
            place,
            path,
            allowed: listed(
                (of_path.into_iter())
                    .flat_map(|grant| &grant.paths)
                    .map(PathPattern::as_str),
            ),
        },
    }
}

/// Whether a configuration key, or a pattern of some, looks as if it led to a secret. A part of which
/// a star takes some is no part of a pattern.
pub(crate) fn is_sensitive(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| lower.contains(part))
}

fn grants<'a>(p: &'a Permissions, database: &str) -> impl Iterator<Item = &'a DbGrant> {
    p.db.iter().filter(move |grant| grant.database == database)
}

/// `Err` holds the patterns that are granted.
fn table_granted(patterns: &[&Pattern], table: &str) -> Result<(), Vec<String>> {
    if patterns.iter().any(|pattern| pattern.matches(table)) {
        Ok(())
    } else {
        Err(listed(patterns.iter().map(|pattern| pattern.as_str())))
    }
}

/// Most bytes of patterns that a refusal repeats: a plugin has it for each refused call, and may have
/// asked for a thousand of them itself.
const LISTED_LIMIT_BYTES: usize = 1024;

/// Patterns for a refusal: the first ones, then how many more there are.
fn listed<'a>(patterns: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut left = LISTED_LIMIT_BYTES;
    let mut listed = Vec::new();
    let mut more = 0_usize;
    for pattern in patterns {
        match left.checked_sub(pattern.len() + 1) {
            Some(rest) if more == 0 => {
                left = rest;
                listed.push(pattern.to_owned());
            }
            _ => more += 1,
        }
    }
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed
}

#[cfg(test)]
mod tests;
