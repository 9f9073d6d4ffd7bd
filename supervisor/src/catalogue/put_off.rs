//! Plugins that are there and have no task yet, because the daemon's state could not be read or written.

use std::collections::BTreeMap;
use std::sync::Mutex;

use pinfold_policy::PluginId;

use super::lock;

/// These plugins, each with whether it is to be looked at again. One that is being looked at is not, so
/// that those who wait for the store do not become more and more.
#[derive(Debug, Default)]
pub(super) struct PutOff(Mutex<BTreeMap<PluginId, bool>>);

impl PutOff {
    /// Puts a plugin off, and says whether it was not yet.
    pub(super) fn put(&self, plugin: &PluginId) -> bool {
        lock(&self.0).insert(plugin.clone(), true).is_none()
    }

    /// Nothing came of looking at a plugin: it is to be looked at again, where it is put off.
    pub(super) fn not_looked(&self, plugin: &PluginId) {
        if let Some(is_due) = lock(&self.0).get_mut(plugin) {
            *is_due = true;
        }
    }

    /// It has its task, or is not there any more.
    pub(super) fn is_over(&self, plugin: &PluginId) {
        lock(&self.0).remove(plugin);
    }

    /// Those that are to be looked at again, and not any more when this returns.
    pub(super) fn take_due(&self) -> Vec<PluginId> {
        let mut plugins = lock(&self.0);
        let due = plugins.iter_mut().filter(|(_, is_due)| **is_due);
        due.map(|(plugin, is_due)| {
            *is_due = false;
            plugin.clone()
        })
        .collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_looked_at_once_each_time_it_is_put_off_and_told_of_once() {
        let (put_off, a): (_, PluginId) = (PutOff::default(), "a".parse().unwrap());
        let only_a = std::slice::from_ref(&a);
        assert!(put_off.put(&a));
        assert_eq!(put_off.take_due(), only_a);
        assert_eq!((put_off.take_due(), put_off.count()), (vec![], 1));
        assert!(!put_off.put(&a));
        assert_eq!(put_off.take_due(), only_a);
        // Looked at in vain, it is to be looked at again.
        put_off.not_looked(&a);
        assert_eq!(put_off.take_due(), only_a);
        put_off.is_over(&a);
        // One that is not put off is not by that.
        put_off.not_looked(&a);
        assert_eq!(put_off.count(), 0);
        assert!(put_off.put(&a));
    }
}
