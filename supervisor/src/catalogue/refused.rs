//! Which declared routes are not in the table, so that a plugin's loss to another can be told: what of its own is
//! not mounted a plugin says when it begins to serve, and not again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use pinfold_gateway::RouteConflict;
use pinfold_policy::{PluginId, RouteMethod};

use super::lock;
use crate::chain::Chain;

/// As of the last table.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<BTreeSet<Declared>>);

/// A plugin's route as it declares it, whoever has it instead.
type Declared = (PluginId, RouteMethod, String);

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
        let mut now = BTreeSet::new();
        let mut before = lock(&self.0);
        let mut lost = BTreeMap::new();
        for conflict in conflicts {
            let RouteConflict {
                plugin,
                method,
                path,
                ..
            } = conflict;
            let declared = (plugin.clone(), *method, path.clone());
            let is_new = !before.contains(&declared);
            now.insert(declared);
            if !is_new || of == Some(plugin) {
                continue;
            }
            let lost = lost.entry(plugin.clone()).or_insert_with(|| Lost {
                routes: 0,
                first: Chain(conflict).to_string(),
            });
            lost.routes += 1;
        }
        *before = now;
        lost
    }
}

#[cfg(test)]
mod tests {
    use pinfold_gateway::ConflictCause;

    use super::*;

    fn conflict(plugin: &str, path: &str, by: &str) -> RouteConflict {
        RouteConflict {
            plugin: plugin.parse().unwrap(),
            method: RouteMethod::Get,
            path: path.to_owned(),
            cause: ConflictCause::Under {
                by: by.parse().unwrap(),
                path: "/shop/{*path}".to_owned(),
            },
        }
    }

    #[test]
    fn what_others_lose_is_told_once_for_each_plugin() {
        let refused = Refused::default();
        let shop = "shop".parse().unwrap();
        let all = [
            conflict("shop", "/x", "first"),
            conflict("wiki", "/shop/a", "shop"),
            conflict("wiki", "/shop/b", "shop"),
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
        let others = all.map(|one| conflict(one.plugin.as_str(), &one.path, "other"));
        let lost = refused.replace(&others, None);
        assert!(lost.is_empty(), "to whom is nothing new: {lost:?}");
    }
}
