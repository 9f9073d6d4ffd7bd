//! Which plugins there were when the plugin directory was last read, for when it cannot be.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pinfold_policy::PluginId;

/// The plugins that had a directory then; none before it was read for the first time.
#[derive(Debug, Default)]
pub(super) struct Listed(ArcSwapOption<BTreeSet<PluginId>>);

impl Listed {
    /// It was read: these have one.
    pub(super) fn keep(&self, found: &BTreeSet<PluginId>) {
        self.0.store(Some(Arc::new(found.clone())));
    }

    /// These plugins and `others`. `None` before it was read: who else there is, is then not known.
    pub(super) fn with(&self, others: BTreeSet<PluginId>) -> Option<BTreeSet<PluginId>> {
        let listed = self.0.load_full()?;
        Some(others.into_iter().chain(listed.iter().cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins(names: &[&str]) -> BTreeSet<PluginId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_plugin_that_has_no_task_yet_is_known_once_the_directory_was_read_and_nobody_is_before() {
        let listed = Listed::default();
        assert_eq!(listed.with(plugins(&["foo"])), None);
        listed.keep(&plugins(&["foo", "foo-bar"]));
        let known = listed.with(plugins(&["foo", "gone"]));
        assert_eq!(known, Some(plugins(&["foo", "foo-bar", "gone"])));
        listed.keep(&plugins(&["foo"]));
        assert_eq!(listed.with(plugins(&[])), Some(plugins(&["foo"])));
    }
}
