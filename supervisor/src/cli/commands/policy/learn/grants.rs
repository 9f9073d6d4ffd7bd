//! From the records of a run to the smallest grants that cover what was allowed.
//!
//! The records are the daemon's own. So what they say was allowed is held against the policy of now once
//! more: nothing is proposed that it does not grant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use pinfold_policy::{
    Access, DbGrant, Effective, HttpGrant, HttpTarget, Network, PathPattern, Pattern, Permissions,
    TUNNEL, is_unprintable,
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
    hosts: BTreeMap<Place, Host>,
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

/// A host by the grants that it was reached by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The host, with its port unless that is the scheme's own.
    name: String,
    /// The same as a grant has it: without a port where the one of now has both schemes' own.
    granted: String,
    reach: Reach,
}

/// What a grant says beside hosts and methods. Grants that differ in it are never made one: each holds for its own
/// methods alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    paths: Vec<PathPattern>,
    addresses: BTreeSet<Network>,
}

/// How a host is used.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Host {
    methods: BTreeSet<String>,
    tunnel: bool,
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
            if !is_plain(table) {
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
        let effective = &self.effective;
        let grants = effective.http_grants(&target);
        if grants.is_empty() || !is_plain(host) {
            return None;
        }
        // Without a port a policy's host means both schemes' own.
        let of_both = [80, 443].map(|port| {
            effective.http_grants(&HttpTarget {
                port,
                default_port: true,
                ..target
            })
        });
        let is_portless = |grant: &HttpGrant| {
            default_port && of_both.iter().all(|grants| grants.contains(&grant))
        };
        let written = |without_port: bool| match without_port {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        for grant in needed(grants, is_portless) {
            let place = Place {
                name: written(default_port),
                granted: written(is_portless(grant)),
                reach: Reach {
                    paths: grant.paths.clone(),
                    addresses: grant.addresses.iter().copied().collect(),
                },
            };
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

/// Whether a name stands for itself alone in a policy, to who reads it too, and was recorded whole.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['*', '…', '\u{fffd}']) && !name.contains(is_unprintable)
}

/// The grants that a call needs, of all that it can rest on. A record has neither its path, which may hold a
/// secret, nor its address: a grant goes only where others permit the same path and networks.
fn needed(
    mut grants: Vec<&HttpGrant>,
    is_portless: impl Fn(&HttpGrant) -> bool,
) -> Vec<&HttpGrant> {
    // Those that may stand for others come first, and of equal ones that of a port.
    grants.sort_by_key(|grant| {
        let networks = Reverse(grant.addresses.len());
        (!grant.paths.is_empty(), networks, is_portless(grant))
    });
    let mut needed: Vec<&HttpGrant> = Vec::new();
    for grant in grants {
        let others: Vec<&HttpGrant> = (needed.iter().copied())
            .filter(|other| other.paths.is_empty() || other.paths == grant.paths)
            .collect();
        let has = |address: &Network| others.iter().any(|one| one.addresses.contains(address));
        if others.is_empty() || !grant.addresses.iter().all(has) {
            needed.push(grant);
        }
    }
    needed
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
fn http(hosts: &BTreeMap<Place, Host>) -> Vec<HttpGrant> {
    let mut grants: BTreeMap<(Host, Reach), BTreeSet<Pattern>> = BTreeMap::new();
    for (place, how) in hosts {
        let mut how = how.clone();
        let mut reach = place.reach.clone();
        let limits = std::mem::take(&mut how.limits);
        let requests =
            |(other, host): (&Place, &Host)| other.name == place.name && !host.methods.is_empty();
        let is_limited = !(limits.is_empty() && reach.paths.is_empty());
        let name = match how.methods.is_empty() {
            false => place.granted.clone(),
            // Not reached by tunnels alone: what requests to it are held to stays.
            true if is_limited && hosts.iter().any(requests) => {
                how.methods = limits;
                place.granted.clone()
            }
            // What is said in a tunnel nobody sees: a host of tunnels alone is granted as what it is, one
            // port and whatever is said there.
            true => {
                reach.paths.clear();
                match has_port(&place.granted) {
                    true => place.granted.clone(),
                    false => format!("{}:443", place.granted),
                }
            }
        };
        let hosts = grants.entry((how, reach)).or_default();
        hosts.insert(Pattern::new(name));
    }
    grants
        .into_iter()
        .map(|((how, reach), hosts)| HttpGrant {
            hosts: hosts.into_iter().collect(),
            tunnel: how.tunnel && !(how.methods.is_empty() && reach.paths.is_empty()),
            methods: how.methods.into_iter().collect(),
            paths: reach.paths,
            addresses: reach.addresses.into_iter().collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
