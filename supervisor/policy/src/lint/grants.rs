//! Grants that are wider than most plugins need.

use super::{Found, Rule};
use crate::refusal::is_sensitive;
use crate::{Access, PathPattern, Pattern, Permissions};

pub(super) fn look(permissions: &Permissions, found: &mut Found<'_>) {
    databases(permissions, found);
    hosts(permissions, found);
    for (at, pattern) in permissions.config.iter().enumerate() {
        let path = format!("permissions.config[{at}]");
        if is_all(pattern) {
            found.add(
                Rule::ConfigAll,
                &path,
                "every key of [hostapi.config] may be read that does not look sensitive".into(),
                "name the keys, or a common beginning: \"app.*\"",
            );
        // A pattern that does not look so reaches none of them: Effective::config asks the same.
        } else if is_sensitive(pattern.as_str()) {
            found.add(
                Rule::ConfigSensitive,
                &path,
                format!("keys that look sensitive may be read: {pattern}"),
                "make sure that the plugin needs them, and which of them",
            );
        }
    }
    for (at, pattern) in permissions.plugin_call.iter().enumerate() {
        let plugin = pattern.as_str().split('/').next().unwrap_or_default();
        if is_stars(plugin) {
            found.add(
                Rule::CallsAll,
                &format!("permissions.plugin-call[{at}]"),
                format!("functions of every plugin may be called: {pattern}"),
                "name the plugins: \"stats\", or \"stats/summary\" for one function",
            );
        }
    }
    if !permissions.email.is_empty() {
        found.add(
            Rule::EmailNotServed,
            "permissions.email",
            "mail is granted, and this version serves none".into(),
            "take it away until it is needed",
        );
    }
}

fn databases(permissions: &Permissions, found: &mut Found<'_>) {
    for (number, grant) in permissions.db.iter().enumerate() {
        let path = format!("permissions.db[{number}]");
        let database = &grant.database;
        if grant.tables.is_empty() {
            found.add(
                Rule::GrantEmpty,
                &path,
                format!("the grant on database {database:?} has no tables and permits nothing"),
                "name tables, or take it away",
            );
        }
        for (at, table) in grant.tables.iter().enumerate() {
            if !is_all(table) {
                continue;
            }
            let path = format!("{path}.tables[{at}]");
            let (rule, what) = if grant.access.covers(Access::Write) {
                (Rule::WriteAll, "written to")
            } else {
                (Rule::TablesAll, "read")
            };
            found.add(
                rule,
                &path,
                format!("every table of database {database:?} may be {what}"),
                "name the tables, or a common beginning: \"kb_*\"",
            );
        }
        if grant.ddl {
            found.add(
                Rule::SchemaChanges,
                &format!("{path}.ddl"),
                format!("tables of database {database:?} may be made, changed and dropped"),
                "grant it for an installation or a migration only, and on the plugin's own tables",
            );
        }
    }
}

/// What to do about a tunnel that hides something.
const BY_BROKER: &str = "take tunnel = true away where requests through the broker are enough";

fn hosts(permissions: &Permissions, found: &mut Found<'_>) {
    for (number, grant) in permissions.http.iter().enumerate() {
        let path = format!("permissions.http[{number}]");
        if grant.hosts.is_empty() {
            found.add(
                Rule::GrantEmpty,
                &path,
                "the grant of HTTP has no hosts and permits nothing".into(),
                "name hosts, or take it away",
            );
        }
        for (at, host) in grant.hosts.iter().enumerate() {
            let path = format!("{path}.hosts[{at}]");
            let text = host.as_str();
            let (name, port) = match text.rsplit_once(':') {
                Some((name, port)) if !port.contains(']') => (name, Some(port)),
                _ => (text, None),
            };
            if is_wide(name) {
                found.add(
                    Rule::HostsAll,
                    &path,
                    format!("hosts of anybody may be reached: {host}"),
                    "name the hosts, or the domain of one owner: \"*.example.org\"",
                );
            }
            if port == Some("*") {
                found.add(
                    Rule::PortsAll,
                    &path,
                    format!("any port may be reached: {host}"),
                    "name the port, or leave it out for 80 and 443",
                );
            }
        }
        if grant.methods.is_empty() && !grant.hosts.is_empty() {
            found.add(
                Rule::MethodsAll,
                &path,
                "any method may be used, those that change things too".into(),
                "add methods = [\"GET\"] where reading is enough",
            );
        }
        if grant.tunnel && !grant.methods.is_empty() {
            found.add(
                Rule::TunnelHidesMethods,
                &format!("{path}.tunnel"),
                format!(
                    "{} alone may be used, but by tunnel any method: nobody sees inside one",
                    grant.methods.join(" and ")
                ),
                BY_BROKER,
            );
        }
        if grant.tunnel && !grant.paths.is_empty() {
            let paths: Vec<&str> = grant.paths.iter().map(PathPattern::as_str).collect();
            found.add(
                Rule::TunnelHidesPaths,
                &format!("{path}.tunnel"),
                format!(
                    "{} alone may be asked for, but by tunnel any path: nobody sees inside one",
                    paths.join(" and ")
                ),
                BY_BROKER,
            );
        }
        for (at, network) in grant.addresses.iter().enumerate() {
            let more = match network.prefix() {
                0 => ": every address, the metadata services of cloud providers too",
                _ if network.contains([169, 254, 169, 254].into()) => {
                    ": the metadata services of cloud providers, which hand out credentials"
                }
                _ if network.contains([127, 0, 0, 1].into())
                    || network.contains(std::net::Ipv6Addr::LOCALHOST.into()) =>
                {
                    ": this very host, whatever listens there"
                }
                _ => "",
            };
            found.add(
                Rule::AddressesPrivate,
                &format!("{path}.addresses[{at}]"),
                format!("addresses in {network} may be reached{more}"),
                "grant single addresses, and make sure what else listens there",
            );
        }
    }
}

fn is_all(pattern: &Pattern) -> bool {
    is_stars(pattern.as_str())
}

fn is_stars(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c == b'*')
}

/// Whether a host pattern leaves open whose host it is: a wildcard before less than two labels.
fn is_wide(name: &str) -> bool {
    let Some(star) = name.rfind('*') else {
        return false;
    };
    let after = name.get(star + 1..).unwrap_or_default();
    after
        .split('.')
        .skip(1)
        .filter(|label| !label.is_empty())
        .count()
        < 2
}

#[cfg(test)]
mod tests {
    use super::is_wide;

    #[test]
    fn a_wildcard_needs_an_owner_behind_it() {
        for wide in ["*", "**", "*.com", "api.*", "*.", "*example.com", "*.co*"] {
            assert!(is_wide(wide), "{wide}");
        }
        for named in [
            "example.com",
            "*.example.com",
            "a*.b.example.com",
            "10.0.0.1",
        ] {
            assert!(!is_wide(named), "{named}");
        }
    }
}
