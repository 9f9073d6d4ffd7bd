//! Which declared routes are not in the table, so that a plugin's loss to another can be told: what of its own is
//! not mounted a plugin says when it begins to serve, and not again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use pinfold_gateway::RouteConflict;
use pinfold_policy::PluginId;

use super::lock;
use crate::chain::Chain;

/// The reasons by plugin, as of the last table.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<BTreeSet<(PluginId, String)>>);

/// What a plugin lost by a change of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) routes: usize,
    /// The first of them, and to whom.
    pub(super) first: String,
}

impl Refused {
    /// Takes in what a new table lacks, and gives what others than `of` lost by it.
    pub(super) fn replace(
        &self,
        conflicts: &[RouteConflict],
        of: Option<&PluginId>,
    ) -> BTreeMap<PluginId, Lost> {
        let reason = |conflict: &RouteConflict| Chain(conflict).to_string();
        let now = conflicts
            .iter()
            .map(|conflict| (conflict.plugin.clone(), reason(conflict)));
        let now: BTreeSet<_> = now.collect();
        let mut before = lock(&self.0);
        let mut lost = BTreeMap::new();
        for (plugin, reason) in now.difference(&before) {
            if of == Some(plugin) {
                continue;
            }
            match lost.entry(plugin.clone()) {
                Entry::Vacant(none) => {
                    let first = reason.clone();
                    none.insert(Lost { routes: 1, first });
                }
                Entry::Occupied(some) => some.into_mut().routes += 1,
            }
        }
        *before = now;
        lost
    }
}

#[cfg(test)]
mod tests {
    use pinfold_gateway::ConflictCause;
    use pinfold_policy::RouteMethod;

    use super::*;

    fn conflict(plugin: &str, path: &str) -> RouteConflict {
        RouteConflict {
            plugin: plugin.parse().unwrap(),
            method: RouteMethod::Get,
            path: path.to_owned(),
            cause: ConflictCause::Under {
                by: "shop".parse().unwrap(),
                path: "/shop/{*path}".to_owned(),
            },
        }
    }

    #[test]
    fn what_others_lose_is_told_once_for_each_plugin() {
        let refused = Refused::default();
        let shop = "shop".parse().unwrap();
        let all = [
            conflict("shop", "/x"),
            conflict("wiki", "/shop/a"),
            conflict("wiki", "/shop/b"),
        ];
        let lost = refused.replace(&all, Some(&shop));
        let first = "route GET /shop/a of plugin \"wiki\" is not mounted: it takes requests of \
                     /shop/{*path} of plugin \"shop\"";
        let wiki = Lost {
            routes: 2,
            first: first.to_owned(),
        };
        assert_eq!(lost, BTreeMap::from([("wiki".parse().unwrap(), wiki)]));
        assert!(refused.replace(&all, None).is_empty(), "it is known");
        assert!(
            refused.replace(&all[..2], None).is_empty(),
            "it has one back"
        );
        assert_eq!(refused.replace(&all, None).len(), 1, "and loses it again");
    }
}
