//! Copies that were given up: their children are killed, and nobody waits for them, because the kernel
//! ends one that waits for a file server or a disk only once that has answered. The launcher has one
//! thread, which must not wait with it.

use std::collections::BTreeMap;

use pinfold_policy::PluginId;

use super::failure;
use crate::protocol::{Failure, FailureKind};
use crate::sys::child::Killed;

/// Most whose child has not ended: each is a process, and holds the memory of what it has copied.
const GIVEN_UP_LIMIT: usize = 4;

/// Those whose child has not ended, under the numbers that they had as copies; by these the poller
/// tells of their end.
#[derive(Debug, Default)]
pub(super) struct GivenUp(BTreeMap<u32, (PluginId, Killed)>);

impl GivenUp {
    pub(super) fn keep(&mut self, number: u32, plugin: PluginId, killed: Killed) {
        if !killed.reap() {
            self.0.insert(number, (plugin, killed));
        }
    }

    /// The poller says that the child of this one has ended.
    pub(super) fn ended(&mut self, number: u32) {
        if let Some((_, killed)) = self.0.remove(&number) {
            let _reaped = killed.reap();
        }
    }

    /// Refuses to begin a copy of a plugin whose last one has not ended, and any where there are too many.
    pub(super) fn check(&mut self, plugin: &PluginId) -> Result<(), Failure> {
        // One that was killed a moment ago has ended by now, if it can.
        self.0.retain(|_, (_, killed)| !killed.reap());
        let is_its_own = self.0.values().any(|(one, _)| one == plugin);
        let message = if is_its_own {
            format!("the child that copied plugin \"{plugin}\" was killed and has not ended")
        } else if self.0.len() >= GIVEN_UP_LIMIT {
            format!("{GIVEN_UP_LIMIT} children that copied plugins were killed and have not ended")
        } else {
            return Ok(());
        };
        let failure = failure::new(FailureKind::Host, message);
        Err(failure::with_hint(
            failure,
            "look at the file system of the plugin directory: it does not answer",
        ))
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
    fn no_copy_begins_beside_one_of_the_same_plugin_that_does_not_end() {
        let living = Living::start();
        let mut given_up = GivenUp::default();
        given_up.keep(1, plugin("a"), living.hanging());
        given_up.check(&plugin("b")).unwrap();
        let refused = given_up.check(&plugin("a")).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Host);
        assert!(refused.message.contains("\"a\""), "{refused}");
        drop(living);
        given_up.check(&plugin("a")).unwrap();
    }

    #[test]
    fn no_copy_begins_beside_too_many_that_do_not_end() {
        let living = Living::start();
        let mut given_up = GivenUp::default();
        for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
            given_up.check(&plugin("e")).unwrap();
            given_up.keep(number, plugin(name), living.hanging());
        }
        let refused = given_up.check(&plugin("e")).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Host);
        // The poller has said so of one.
        given_up.ended(4);
        given_up.check(&plugin("e")).unwrap();
    }
}
