//! The smallest parts of a set of permissions, to say which of them a decision rests on.

use crate::{DbGrant, HttpGrant, Permissions};

/// One part of a set of permissions that stands by itself in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Dotted path in a policy file, as [`crate::Places`] has it.
    pub path: String,
    /// That part alone.
    pub permissions: Permissions,
}

impl Permissions {
    /// The parts of it, in the document's order: together they permit what the whole does.
    #[must_use]
    pub fn grains(&self) -> Vec<Grain> {
        let Self {
            db,
            cache,
            http,
            email,
            config,
            plugin_call,
        } = self;
        let mut grains = Vec::new();
        let mut add = |path: String, permissions| grains.push(Grain { path, permissions });
        for (number, grant) in db.iter().enumerate() {
            for (at, table) in grant.tables.iter().enumerate() {
                let tables = vec![table.clone()];
                let one = DbGrant {
                    tables,
                    ..grant.clone()
                };
                let permissions = Self {
                    db: vec![one],
                    ..Self::default()
                };
                add(
                    format!("permissions.db[{number}].tables[{at}]"),
                    permissions,
                );
            }
        }
        if cache.is_some() {
            let permissions = Self {
                cache: *cache,
                ..Self::default()
            };
            add("permissions.cache".into(), permissions);
        }
        for (number, grant) in http.iter().enumerate() {
            for (at, host) in grant.hosts.iter().enumerate() {
                let hosts = vec![host.clone()];
                let one = HttpGrant {
                    hosts,
                    ..grant.clone()
                };
                let permissions = Self {
                    http: vec![one],
                    ..Self::default()
                };
                add(
                    format!("permissions.http[{number}].hosts[{at}]"),
                    permissions,
                );
            }
        }
        for (at, to) in email.iter().enumerate() {
            let permissions = Self {
                email: vec![to.clone()],
                ..Self::default()
            };
            add(format!("permissions.email[{at}]"), permissions);
        }
        for (at, key) in config.iter().enumerate() {
            let permissions = Self {
                config: vec![key.clone()],
                ..Self::default()
            };
            add(format!("permissions.config[{at}]"), permissions);
        }
        for (at, target) in plugin_call.iter().enumerate() {
            let permissions = Self {
                plugin_call: vec![target.clone()],
                ..Self::default()
            };
            add(format!("permissions.plugin-call[{at}]"), permissions);
        }
        grains
    }

    /// Both together.
    #[must_use]
    fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.db.extend(other.db.iter().cloned());
        both.cache = match (both.cache, other.cache) {
            (Some(a), Some(b)) if a != b => Some(crate::Access::ReadWrite),
            (a, b) => a.or(b),
        };
        both.http.extend(other.http.iter().cloned());
        both.email.extend(other.email.iter().cloned());
        both.config.extend(other.config.iter().cloned());
        both.plugin_call.extend(other.plugin_call.iter().cloned());
        both
    }
}

/// The paths of the parts of `permissions` that a decision rests on: each that is enough by itself,
/// or else the fewest, from the end, without which the answer would be no. Empty where it is no for
/// the whole. `permits` is asked and nothing else decides.
pub fn sources(permissions: &Permissions, permits: impl Fn(&Permissions) -> bool) -> Vec<String> {
    if !permits(permissions) {
        return Vec::new();
    }
    let grains = permissions.grains();
    let enough = |grain: &&Grain| permits(&grain.permissions);
    let alone: Vec<String> = (grains.iter().filter(enough))
        .map(|grain| grain.path.clone())
        .collect();
    if !alone.is_empty() {
        return alone;
    }
    let together = |of: &[&Grain]| {
        of.iter().fold(Permissions::default(), |all, grain| {
            all.with(&grain.permissions)
        })
    };
    let mut needed: Vec<&Grain> = grains.iter().collect();
    let mut at = 0;
    while at < needed.len() {
        let left_out = needed.remove(at);
        if !permits(&together(&needed)) {
            needed.insert(at, left_out);
            at += 1;
        }
    }
    needed.into_iter().map(|grain| grain.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Effective};

    const TEXT: &str = r#"
db = [
  { tables = ["items", "log_*"], access = "read" },
  { tables = ["*"], access = "read" },
  { tables = ["log_a"], access = "write" },
]
cache = "read"
http = [{ hosts = ["a.test", "b.test"], methods = ["GET"] }]
email = ["@a.test"]
config = ["app.*"]
plugin-call = ["stats", "mail/send"]
"#;

    fn permissions() -> Permissions {
        toml::from_str(TEXT).unwrap()
    }

    fn effective(granted: &Permissions) -> Effective {
        Effective::new(granted.clone(), vec![granted.clone()])
    }

    #[test]
    fn the_parts_together_permit_what_the_whole_does() {
        let whole = permissions();
        let grains = whole.grains();
        assert_eq!(grains.len(), 11);
        let parts = grains.iter().fold(Permissions::default(), |all, grain| {
            all.with(&grain.permissions)
        });
        assert_eq!(parts.lines(), whole.lines());
    }

    #[test]
    fn a_decision_names_each_part_that_is_enough() {
        let reads = |p: &Permissions| {
            effective(p)
                .database("main", Access::Read, ["items"])
                .is_ok()
        };
        assert_eq!(
            sources(&permissions(), reads),
            ["permissions.db[0].tables[0]", "permissions.db[1].tables[0]"]
        );
        let writes = |p: &Permissions| {
            effective(p)
                .database("main", Access::Write, ["items"])
                .is_ok()
        };
        assert_eq!(sources(&permissions(), writes), Vec::<String>::new());
    }

    #[test]
    fn a_decision_that_needs_two_parts_names_both() {
        let both = |p: &Permissions| {
            let effective = effective(p);
            effective.database("main", Access::Write, ["log_a"]).is_ok()
                && effective.database("main", Access::Read, ["items"]).is_ok()
        };
        assert_eq!(
            sources(&permissions(), both),
            ["permissions.db[1].tables[0]", "permissions.db[2].tables[0]"]
        );
    }
}
