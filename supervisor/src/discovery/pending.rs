//! Which plugins' files have changed, and when they are to be looked at: once nothing has changed
//! for a while, or when that does not come.

use std::collections::BTreeMap;
use std::time::Duration;

use pinfold_policy::PluginId;
use tokio::time::Instant;

/// Plugins whose files have changed. It is told the time and waits for nothing.
#[derive(Debug)]
pub(super) struct Pending {
    debounce: Duration,
    longest: Duration,
    plugins: BTreeMap<PluginId, Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    last: Instant,
}

/// A plugin that is to be looked at now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing of it has changed for the debounce.
    Quiet(PluginId),
    /// It goes on changing.
    Restless(PluginId),
}

impl Pending {
    pub(super) fn new(debounce: Duration, longest: Duration) -> Self {
        Self {
            debounce,
            longest,
            plugins: BTreeMap::new(),
        }
    }

    /// Something of the plugin has changed.
    pub(super) fn changed(&mut self, plugin: PluginId, now: Instant) {
        self.plugins
            .entry(plugin)
            .and_modify(|change| change.last = now)
            .or_insert(Change {
                first: now,
                last: now,
            });
    }

    /// When to ask for what is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.plugins.values().map(|change| self.at(change)).min()
    }

    /// What is due, and not any more when this returns.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let due: Vec<(PluginId, Change)> = self
            .plugins
            .iter()
            .filter(|(_, change)| self.at(change) <= now)
            .map(|(plugin, change)| (plugin.clone(), *change))
            .collect();
        due.into_iter()
            .map(|(plugin, change)| {
                self.plugins.remove(&plugin);
                if change.last + self.debounce <= now {
                    Due::Quiet(plugin)
                } else {
                    Due::Restless(plugin)
                }
            })
            .collect()
    }

    fn at(&self, change: &Change) -> Instant {
        (change.last + self.debounce).min(change.first + self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(5);

    fn id(name: &str) -> PluginId {
        name.parse().unwrap()
    }

    #[test]
    fn a_plugin_is_due_once_it_has_been_quiet_and_then_no_more() {
        let mut pending = Pending::new(DEBOUNCE, LONGEST);
        let start = Instant::now();
        pending.changed(id("a"), start);
        pending.changed(id("b"), start + DEBOUNCE / 2);
        pending.changed(id("a"), start + DEBOUNCE / 2);
        assert_eq!(pending.take_due(start + DEBOUNCE), []);
        let end = start + DEBOUNCE + DEBOUNCE / 2;
        assert_eq!(pending.next(), Some(end));
        let due = [Due::Quiet(id("a")), Due::Quiet(id("b"))];
        assert_eq!(pending.take_due(end), due);
        assert_eq!((pending.take_due(end), pending.next()), (vec![], None));
    }

    #[test]
    fn a_plugin_that_is_never_quiet_is_due_after_the_longest_wait() {
        let mut pending = Pending::new(DEBOUNCE, LONGEST);
        let start = Instant::now();
        let mut now = start;
        while now < start + LONGEST {
            pending.changed(id("a"), now);
            assert_eq!(pending.take_due(now), []);
            now += DEBOUNCE / 5;
        }
        assert_eq!(pending.next(), Some(start + LONGEST));
        assert_eq!(pending.take_due(start + LONGEST), [Due::Restless(id("a"))]);
    }
}
