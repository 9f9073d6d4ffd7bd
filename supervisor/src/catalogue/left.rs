//! What the daemon before has left and no plugin of this one goes on with.

use pinfold_policy::PluginId;
use pinfold_sandbox::protocol::EndedKept;

use super::Catalogue;
use crate::chain::Chain;
use crate::lifecycle::Handle;
use crate::state::State;
use crate::store::audit::{Entry, PLUGIN_END, instance};

impl Catalogue {
    /// Has everything end that the daemon before has left and nobody has asked for, once each plugin has
    /// had its turn. Where one tries again that has not asked yet, or has no task yet to ask, what it may then
    /// ask for is left to the launcher's own limit.
    pub(crate) async fn discard_all_left(&self) {
        let may_ask = |handle: &Handle| {
            handle.snapshot().state == State::BackingOff && !handle.has_asked_for_left()
        };
        if self.count_put_off() == 0 && !self.plugins().values().any(may_ask) {
            self.discard_left(None).await;
        }
    }

    /// Has what the daemon before has left of a plugin end, or of any, as far as nobody has asked for it.
    pub(crate) async fn discard_left(&self, plugin: Option<&PluginId>) {
        loop {
            match self.launcher().discard(plugin.cloned()).await {
                Ok(Some(ended)) => self.tell_of_discarded(&ended),
                Ok(None) => return,
                Err(error) => {
                    return tracing::warn!(
                        error = %Chain(&error),
                        "plugins left by the daemon before not ended, they go on until handover-limit"
                    );
                }
            }
        }
    }

    fn tell_of_discarded(&self, ended: &EndedKept) {
        let EndedKept {
            plugin,
            generation,
            reason,
        } = ended;
        // Its number is not another's.
        if let Some(handle) = self.handle(plugin) {
            handle.go_on_after(*generation);
        }
        tracing::info!(plugin.id = %plugin, plugin.generation = generation.0, reason, "plugin left by the daemon before has ended");
        let entry = Entry {
            decision: "allow",
            detail: Some(format!("left by the daemon before: {reason}")),
            ..Entry::of_daemon(PLUGIN_END, instance(*generation)).about(plugin)
        };
        self.trail().note(entry);
    }
}
