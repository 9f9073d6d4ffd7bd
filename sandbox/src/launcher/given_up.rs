//! Children that were given up: killed, and not waited for, because the kernel ends one that waits for a file
//! server or a disk only once that has answered. The launcher has one thread, which must not wait with it.

use std::collections::BTreeMap;

use pinfold_policy::PluginId;

use crate::sys::child::Killed;

/// Children of one kind of work that were given up and have not ended, under the numbers that they had before; by
/// these the poller tells of their end.
#[derive(Debug)]
pub(super) struct GivenUp {
    killed: BTreeMap<u32, (PluginId, Killed)>,
    /// What they did with a plugin.
    work: &'static str,
    /// Most children of that kind, with those that are not given up: each is a process, and holds memory.
    limit: usize,
}

impl GivenUp {
    pub(super) fn new(work: &'static str, limit: usize) -> Self {
        Self {
            killed: BTreeMap::new(),
            work,
            limit,
        }
    }

    pub(super) fn keep(&mut self, number: u32, plugin: PluginId, killed: Killed) {
        if !killed.reap() {
            self.killed.insert(number, (plugin, killed));
        }
    }

    /// The poller says that the child of this one has ended.
    pub(super) fn ended(&mut self, number: u32) {
        if let Some((_, killed)) = self.killed.remove(&number) {
            let _reaped = killed.reap();
        }
    }

    /// Whether a child may begin for a plugin, beside so many under way. Fails, saying why, where the plugin's last one
    /// has not ended, and where there are too many.
    pub(super) fn check(&mut self, plugin: &PluginId, under_way: usize) -> Result<(), String> {
        // One that was killed a moment ago has ended by now, if it can.
        self.killed.retain(|_, (_, killed)| !killed.reap());
        let work = self.work;
        if self.killed.values().any(|(one, _)| one == plugin) {
            return Err(format!(
                "the child that {work} plugin \"{plugin}\" was killed and has not ended"
            ));
        }
        let hanging = self.killed.len();
        if hanging.saturating_add(under_way) >= self.limit {
            return Err(format!(
                "there are {under_way} children that {work} plugins, and {hanging} that were killed and have not ended"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child::living::Living;

    fn plugin(name: &str) -> PluginId {
        name.parse().unwrap()
    }

    #[test]
    fn none_begins_beside_one_of_the_same_plugin_that_does_not_end() {
        let living = Living::start();
        let mut given_up = GivenUp::new("copied", 4);
        given_up.keep(1, plugin("a"), living.hanging());
        given_up.check(&plugin("b"), 0).unwrap();
        let refused = given_up.check(&plugin("a"), 0).unwrap_err();
        assert_eq!(
            refused,
            "the child that copied plugin \"a\" was killed and has not ended"
        );
        drop(living);
        given_up.check(&plugin("a"), 0).unwrap();
    }

    #[test]
    fn none_begins_beside_too_many() {
        let living = Living::start();
        let mut given_up = GivenUp::new("copied", 4);
        for (number, name) in (1..).zip(["a", "b", "c"]) {
            given_up.check(&plugin("e"), 0).unwrap();
            given_up.keep(number, plugin(name), living.hanging());
        }
        given_up.check(&plugin("e"), 0).unwrap();
        let refused = given_up.check(&plugin("e"), 1).unwrap_err();
        assert_eq!(
            refused,
            "there are 1 children that copied plugins, and 3 that were killed and have not ended"
        );
        // The poller has said so of one.
        given_up.ended(3);
        given_up.check(&plugin("e"), 1).unwrap();
    }
}
