//! From the records of a run to the smallest grants that cover what was allowed.
//!
//! The records are the daemon's own. So what they say was allowed is held against the policy of now once
//! more: nothing is proposed that it does not grant.

use std::collections::{BTreeMap, BTreeSet};

use pinfold_policy::{
    Access, DbGrant, Effective, HttpGrant, HttpTarget, Network, PathPattern, Pattern, Permissions,
    TUNNEL,
};
use serde::Serialize;

use crate::store::audit::OTHERS;
use crate::store::audit::reader::RecordView;

/// What of the permissions a run needed.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// The smallest that cover it.
    pub(super) permissions: Permissions,
    /// What was asked for and refused: never proposed.
    pub(super) refused: Vec<Asked>,
    /// What was not told precisely enough, and was therefore left as it is.
    pub(super) notes: Vec<String>,
}

/// One kind of call that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Asked {
    /// `db.query`, `http.request`.
    pub(super) call: String,
    /// What it was about; empty where it was refused before that was known.
    pub(super) subject: String,
    /// What was missing, or why else it was refused.
    pub(super) why: String,
    pub(super) count: i64,
}

/// Folds the records of one plugin's host calls.
pub(super) fn fold(records: &[RecordView], present: &Permissions) -> Grants {
    let mut fold = Fold {
        effective: Effective::new(present.clone(), vec![present.clone()]),
        ..Fold::default()
    };
    for record in records {
        let Some(call) = record.action.strip_prefix("hostapi.") else {
            continue;
        };
        match record.decision.as_str() {
            // One that failed was allowed first.
            "allow" | "error" => fold.allowed(call, record),
            "limit" => fold.refuse(call, record, "over a rate"),
            _ => {
                let missing = record.permission.as_deref();
                let why = match record.subject == OTHERS {
                    true => "more kinds of calls at once than the audit trail tells apart",
                    false => "never allowed",
                };
                fold.refuse(call, record, missing.unwrap_or(why));
            }
        }
    }
    fold.end(present)
}

#[derive(Default)]
struct Fold {
    effective: Effective,
    /// By database and table.
    tables: BTreeMap<(String, String), Table>,
    reads_cache: bool,
    writes_cache: bool,
    config: BTreeSet<String>,
    calls: BTreeSet<String>,
    /// By host, and the paths of the grants: methods, tunnels, networks.
    hosts: BTreeMap<(String, Vec<PathPattern>), Host>,
    refused: BTreeMap<(String, String, String), i64>,
    /// Services whose records did not tell all.
    unclear: BTreeSet<&'static str>,
    /// Services of which more was asked at once than is told apart.
    crowded: BTreeSet<&'static str>,
}

/// How a table is used.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Table {
    reads: bool,
    writes: bool,
    schema: bool,
}

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Host {
    methods: BTreeSet<String>,
    tunnel: bool,
    addresses: Vec<String>,
    /// Methods of the grants that tunnels rest on.
    limits: BTreeSet<String>,
}

impl Fold {
    fn refuse(&mut self, call: &str, record: &RecordView, why: &str) {
        let key = (call.to_owned(), record.subject.clone(), why.to_owned());
        let count = self.refused.entry(key).or_default();
        *count = count.saturating_add(record.count);
    }

    fn allowed(&mut self, call: &str, record: &RecordView) {
        let subject = record.subject.as_str();
        let is_failed = record.decision == "error";
        // It failed before it was known what it is about.
        if subject.is_empty() && is_failed {
            return;
        }
        // What a cache was asked for does not count, only how.
        if subject == OTHERS && !call.starts_with("cache.") {
            self.crowded.extend(service(call));
            return;
        }
        let taken = match call {
            "log.record" => Some(()),
            "db.query" | "db.exec" => self.tables(subject),
            "cache.get" => self.cache("get"),
            "cache.set" | "cache.delete" => self.cache("set"),
            "config.get" => self.config(subject),
            "plugin.call" => self.plugin_call(subject),
            "http.request" | "http.forward" => self.requests(subject),
            "http.tunnel" => self.tunnel(subject),
            _ => None,
        };
        match (taken, service(call)) {
            (Some(()), _) => {}
            // A statement that could not be run may name anything.
            (None, _) if is_failed => {}
            (None, Some(service)) => {
                self.unclear.insert(service);
            }
            (None, None) => {}
        }
    }

    /// `main/items:r main/notes:w`; a database alone, where a statement is of no table.
    fn tables(&mut self, subject: &str) -> Option<()> {
        for token in subject.split(' ') {
            let (place, access) = token.rsplit_once(':')?;
            let (database, table) = place.split_once('/')?;
            if table.is_empty() || table.contains('*') {
                return None;
            }
            let effective = &self.effective;
            let granted = |access| effective.database(database, access, [table]).is_ok();
            let key = (database.to_owned(), table.to_owned());
            match access {
                "r" if granted(Access::Read) => self.tables.entry(key).or_default().reads = true,
                "w" if granted(Access::Write) => self.tables.entry(key).or_default().writes = true,
                "ddl" if effective.ddl(database, [table]).is_ok() => {
                    let entry = self.tables.entry(key).or_default();
                    (entry.writes, entry.schema) = (true, true);
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn cache(&mut self, operation: &'static str) -> Option<()> {
        self.effective.cache(operation).ok()?;
        match operation {
            "get" => self.reads_cache = true,
            _ => self.writes_cache = true,
        }
        Some(())
    }

    fn config(&mut self, key: &str) -> Option<()> {
        self.effective.config(key).ok()?;
        is_plain(key).then(|| self.config.insert(key.to_owned()))?;
        Some(())
    }

    fn plugin_call(&mut self, subject: &str) -> Option<()> {
        let (plugin, function) = subject.split_once('/')?;
        self.effective.plugin_call(plugin, function).ok()?;
        is_plain(subject).then(|| self.calls.insert(subject.to_owned()))?;
        Some(())
    }

    /// `GET https://a:443 -> GET https://b:443`: one for each redirect.
    fn requests(&mut self, subject: &str) -> Option<()> {
        for hop in subject.split(" -> ") {
            let (method, place) = hop.split_once(' ')?;
            let (scheme, authority) = place.split_once("://")?;
            let (host, port) = authority.rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            let default_port = matches!((scheme, port), ("http", 80) | ("https", 443));
            self.host((method, host, port), default_port)?;
        }
        Some(())
    }

    /// `CONNECT a:443`.
    fn tunnel(&mut self, subject: &str) -> Option<()> {
        let authority = subject.strip_prefix("CONNECT ")?;
        let (host, port) = authority.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        self.host((TUNNEL, host, port), port == 443)
    }

    fn host(&mut self, (method, host, port): (&str, &str, u16), default_port: bool) -> Option<()> {
        let target = HttpTarget {
            method,
            host,
            port,
            default_port,
            path: "",
            url: host,
        };
        let grants = self.effective.http_grants(&target);
        if grants.is_empty() || !is_plain(host) {
            return None;
        }
        let key = match default_port {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        // A record has no path, which may hold a secret: those of each grant that it can rest on stay,
        // unless another one permits the same without.
        let open: Vec<&HttpGrant> = (grants.iter().copied())
            .filter(|grant| grant.paths.is_empty())
            .collect();
        let adds = |grant: &HttpGrant| {
            let is_new =
                |address: &Network| !open.iter().any(|open| open.addresses.contains(address));
            grant.paths.is_empty() || open.is_empty() || grant.addresses.iter().any(is_new)
        };
        for grant in grants.into_iter().filter(|grant| adds(grant)) {
            let place = (key.clone(), grant.paths.clone());
            let entry = self.hosts.entry(place).or_default();
            match method {
                TUNNEL => {
                    entry.tunnel = true;
                    entry.limits.extend(grant.methods.iter().cloned());
                }
                method => {
                    entry.methods.insert(method.to_owned());
                }
            }
            for address in grant.addresses.iter().map(Network::to_string) {
                if !entry.addresses.contains(&address) {
                    entry.addresses.push(address);
                }
            }
        }
        Some(())
    }

    fn end(self, present: &Permissions) -> Grants {
        let mut notes: Vec<String> = Vec::new();
        let mut permissions = Permissions {
            db: databases(&self.tables),
            cache: match (self.reads_cache, self.writes_cache) {
                (false, false) => None,
                (true, false) => Some(Access::Read),
                (false, true) => Some(Access::Write),
                (true, true) => Some(Access::ReadWrite),
            },
            http: http(&self.hosts),
            email: Vec::new(),
            config: self.config.into_iter().map(Pattern::new).collect(),
            plugin_call: self.calls.into_iter().map(Pattern::new).collect(),
        };
        for service in self.unclear.union(&self.crowded) {
            match *service {
                "db" => permissions.db.clone_from(&present.db),
                "cache" => permissions.cache = present.cache,
                "http" => permissions.http.clone_from(&present.http),
                "config" => permissions.config.clone_from(&present.config),
                _ => permissions.plugin_call.clone_from(&present.plugin_call),
            }
            notes.push(match self.crowded.contains(service) {
                true => format!(
                    "{service}: more kinds of calls at once than the audit trail tells apart: its grants stay as \
                     they are; a run that asks for less at once tells more"
                ),
                false => format!(
                    "{service}: a record does not say all that a call was about: its grants stay as they are"
                ),
            });
        }
        let refused = self.refused.into_iter();
        Grants {
            permissions,
            refused: refused
                .map(|((call, subject, why), count)| Asked {
                    call,
                    subject,
                    why,
                    count,
                })
                .collect(),
            notes,
        }
    }
}

/// The service of a call that can be granted.
fn service(call: &str) -> Option<&'static str> {
    let (service, _) = call.split_once('.')?;
    ["db", "cache", "http", "config", "plugin"]
        .into_iter()
        .find(|known| *known == service)
}

/// Whether a host is followed by a port; an IPv6 address is in brackets.
fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'))
}

/// Whether a name stands for itself alone in a policy, and was recorded whole.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['*', '…', '\u{fffd}'])
}

/// One grant for all tables of a database that are used in the same way.
fn databases(tables: &BTreeMap<(String, String), Table>) -> Vec<DbGrant> {
    let mut grants: BTreeMap<(&str, Table), Vec<Pattern>> = BTreeMap::new();
    for ((database, table), how) in tables {
        let key = (database.as_str(), *how);
        grants.entry(key).or_default().push(Pattern::new(table));
    }
    grants
        .into_iter()
        .map(|((database, how), tables)| DbGrant {
            database: database.to_owned(),
            tables,
            access: match (how.reads, how.writes) {
                (true, true) => Access::ReadWrite,
                (false, true) => Access::Write,
                (_, false) => Access::Read,
            },
            ddl: how.schema,
        })
        .collect()
}

/// One grant for all hosts that are used in the same way.
fn http(hosts: &BTreeMap<(String, Vec<PathPattern>), Host>) -> Vec<HttpGrant> {
    let mut grants: BTreeMap<(Host, Vec<PathPattern>), BTreeSet<Pattern>> = BTreeMap::new();
    for ((name, paths), how) in hosts {
        let mut how = how.clone();
        let limits = std::mem::take(&mut how.limits);
        let requests = |(other, host): (&(String, Vec<PathPattern>), &Host)| {
            other.0 == *name && !host.methods.is_empty()
        };
        let (name, paths) = match how.methods.is_empty() {
            false => (name.clone(), paths.clone()),
            // Not reached by tunnels alone: what requests to it are held to stays.
            true if !(limits.is_empty() && paths.is_empty()) && hosts.iter().any(requests) => {
                how.methods = limits;
                (name.clone(), paths.clone())
            }
            // What is said in a tunnel nobody sees: a host of tunnels alone is granted as what it is, one
            // port and whatever is said there.
            true if has_port(name) => (name.clone(), Vec::new()),
            true => (format!("{name}:443"), Vec::new()),
        };
        let key = (how, paths);
        grants.entry(key).or_default().insert(Pattern::new(name));
    }
    grants
        .into_iter()
        .map(|((how, paths), hosts)| HttpGrant {
            hosts: hosts.into_iter().collect(),
            tunnel: how.tunnel && !(how.methods.is_empty() && paths.is_empty()),
            methods: how.methods.into_iter().collect(),
            paths,
            addresses: how
                .addresses
                .iter()
                .filter_map(|network| network.parse().ok())
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(action: &str, subject: &str, decision: &str, permission: Option<&str>) -> RecordView {
        RecordView {
            number: 1,
            part: "traffic",
            time: String::new(),
            actor: "plugin:hello".into(),
            action: format!("hostapi.{action}"),
            subject: subject.into(),
            decision: decision.into(),
            plugin: Some("hello".into()),
            permission: permission.map(str::to_owned),
            detail: None,
            request_id: None,
            count: 2,
            hash: None,
        }
    }

    fn present() -> Permissions {
        toml::from_str(
            r#"
            cache = "readwrite"
            config = ["app.*"]
            plugin-call = ["stats"]
            http = [
              { hosts = ["*.example.com", "*.example.com:8443"] },
              { hosts = ["stock.internal"], addresses = ["10.0.0.0/8"] },
            ]
            [[db]]
            tables = ["*"]
            access = "readwrite"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn what_was_allowed_comes_to_the_smallest_grants_that_cover_it() {
        let records = [
            record("db.query", "main/items:r", "allow", None),
            record("db.query", "main/items:r main/notes:r", "allow", None),
            record("db.exec", "main/notes:w main/items:r", "allow", None),
            record("cache.get", "k", "allow", None),
            record("config.get", "app.name", "allow", None),
            record("plugin.call", "stats/sum", "allow", None),
            record(
                "http.request",
                "GET https://api.example.com:443 -> GET https://www.example.com:8443",
                "allow",
                None,
            ),
            record(
                "http.forward",
                "POST http://stock.internal:80",
                "error",
                None,
            ),
            record("http.tunnel", "CONNECT git.example.com:443", "allow", None),
            record("log.record", "", "allow", None),
        ];
        let grants = fold(&records, &present());
        assert!(grants.notes.is_empty() && grants.refused.is_empty());
        let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
        assert_eq!(
            lines,
            [
                "cache:read",
                "config:read:app.name",
                "db:read:main/items",
                "db:read:main/notes",
                "db:write:main/notes",
                "http:*:git.example.com:443",
                "http:GET:api.example.com",
                "http:GET:www.example.com:8443",
                "http:POST:stock.internal",
                "http:address:10.0.0.0/8:stock.internal",
                "plugin:call:stats/sum",
            ]
        );
    }

    #[test]
    fn what_was_refused_is_told_apart_and_never_proposed() {
        let records = [
            record("db.query", "main", "deny", Some("db:read:main/secrets")),
            record("db.query", "main", "deny", Some("db:read:main/secrets")),
            record("cache.set", "k", "limit", None),
        ];
        let grants = fold(&records, &present());
        assert!(grants.permissions.is_empty());
        let asked = |call: &str, subject: &str, why: &str, count| Asked {
            call: call.into(),
            subject: subject.into(),
            why: why.into(),
            count,
        };
        assert_eq!(
            grants.refused,
            [
                asked("cache.set", "k", "over a rate", 2),
                asked("db.query", "main", "db:read:main/secrets", 4),
            ]
        );
    }

    #[test]
    fn nothing_is_proposed_that_the_policy_does_not_grant_whatever_the_records_say() {
        let present: Permissions =
            toml::from_str("db = [{ tables = ['items'], access = 'read' }]").unwrap();
        let records = [
            record("db.query", "main/items:r", "allow", None),
            record("db.exec", "main/items:w", "allow", None),
            record("db.query", "main/secrets:r", "allow", None),
            record("cache.get", "k", "allow", None),
            record("config.get", "app.password", "allow", None),
            record("plugin.call", "admin/all", "allow", None),
            record("http.request", "GET https://evil.test:443", "allow", None),
        ];
        let grants = fold(&records, &present);
        assert!(grants.permissions.lines().is_subset(&present.lines()));
    }

    #[test]
    fn a_tunnel_opens_nothing_that_requests_to_the_same_host_were_held_to() {
        let present: Permissions = toml::from_str(
            r#"http = [
              { hosts = ["api.example.com"], methods = ["GET"], paths = ["/v1/**"] },
              { hosts = ["api.example.com"], methods = ["POST"], tunnel = true },
            ]"#,
        )
        .unwrap();
        let host = "api.example.com:443";
        let records = [
            record(
                "http.request",
                &format!("GET https://{host}"),
                "allow",
                None,
            ),
            record("http.tunnel", &format!("CONNECT {host}"), "allow", None),
        ];
        let grants = fold(&records, &present);
        assert_eq!(grants.permissions.lines(), present.lines());
    }

    #[test]
    fn paths_stay_as_they_are_for_what_was_reached() {
        let present: Permissions = toml::from_str(
            r#"http = [
              { hosts = ["*.example.com"], methods = ["GET", "PUT"], paths = ["/v1/**", "/x"] },
              { hosts = ["api.example.com"], methods = ["POST"], paths = ["/y"], addresses = ["10.0.0.0/8"] },
              { hosts = ["cdn.example.com"] },
              { hosts = ["git.example.com"], paths = ["/z"], tunnel = true },
              { hosts = ["other.example.com"], paths = ["/o"] },
            ]"#,
        )
        .unwrap();
        let records = [
            record(
                "http.request",
                "GET https://api.example.com:443",
                "allow",
                None,
            ),
            record(
                "http.request",
                "POST https://api.example.com:443",
                "allow",
                None,
            ),
            record(
                "http.request",
                "GET https://cdn.example.com:443",
                "allow",
                None,
            ),
            record("http.tunnel", "CONNECT git.example.com:443", "allow", None),
        ];
        let grants = fold(&records, &present);
        assert!(grants.notes.is_empty() && grants.refused.is_empty());
        let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
        assert_eq!(
            lines,
            [
                "http:*:git.example.com:443",
                "http:GET:api.example.com/v1/**",
                "http:GET:api.example.com/x",
                "http:GET:cdn.example.com",
                "http:POST:api.example.com/y",
                "http:address:10.0.0.0/8:api.example.com",
            ]
        );
    }

    #[test]
    fn what_is_not_told_apart_leaves_its_services_grants_as_they_are() {
        let present: Permissions = toml::from_str(
            "config = ['*']
             cache = 'readwrite'
             plugin-call = ['stats']
             db = [{ tables = ['*'], access = 'readwrite' }]",
        )
        .unwrap();
        let records = [
            record("config.get", "app.name", "allow", None),
            record("config.get", OTHERS, "allow", None),
            record("cache.get", OTHERS, "allow", None),
            record("db.query", "main/items:r", "allow", None),
            // It was allowed, and failed elsewhere.
            record("plugin.call", OTHERS, "error", None),
            record("db.exec", OTHERS, "deny", None),
            record("log.record", OTHERS, "allow", None),
        ];
        let grants = fold(&records, &present);
        let lines: Vec<String> = grants.permissions.lines().into_iter().collect();
        assert_eq!(
            lines,
            [
                "cache:read",
                "config:read:*",
                "db:read:main/items",
                "plugin:call:stats"
            ]
        );
        assert_eq!(grants.notes.len(), 2, "{:?}", grants.notes);
        let asks_for_less = |note: &String| note.contains("a run that asks for less at once");
        assert!(grants.notes.iter().all(asks_for_less), "{:?}", grants.notes);
        assert!(grants.refused[0].why.starts_with("more kinds"));
    }

    #[test]
    fn a_record_that_was_cut_leaves_its_services_grants_as_they_are() {
        let records = [
            record("db.query", "main/items:r main/no…", "allow", None),
            record("cache.get", "k", "allow", None),
        ];
        let grants = fold(&records, &present());
        assert_eq!(grants.permissions.db, present().db);
        assert_eq!(grants.permissions.cache, Some(Access::Read));
        assert_eq!(grants.notes.len(), 1);
    }
}
