//! Calls from plugin to plugin, over the table of what serves now: whichever instance is in it when
//! a call is made answers it, so that a reload in between is not seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::{CallError, Shared};
use pinfold_hostapi::{PluginCallError, PluginCalls};
use pinfold_policy::{CallContext, PluginId};

use crate::catalogue::Catalogue;
use crate::chain::Chain;
use crate::state::State;

/// Calls of other plugins that one plugin may be serving at once, beside what the gateway lets
/// through to it: half of that by default, so that other plugins cannot keep its users out.
const CALLS_OF_ONE_PLUGIN: usize = 128;

/// Finds a call's target in the table.
pub(crate) struct TableCalls {
    table: Shared,
    /// Says why a plugin is not in the table; set once there is one.
    catalogue: OnceLock<Weak<Catalogue>>,
    under_way: Mutex<HashMap<PluginId, usize>>,
}

impl TableCalls {
    pub(crate) fn new(table: Shared) -> Arc<Self> {
        Arc::new(Self {
            table,
            catalogue: OnceLock::new(),
            under_way: Mutex::default(),
        })
    }

    /// Tells where what is known of plugins that do not serve is. The first one told counts.
    pub(crate) fn set_catalogue(&self, catalogue: &Arc<Catalogue>) {
        self.catalogue
            .set(Arc::downgrade(catalogue))
            .unwrap_or_default();
    }

    fn absent(&self, target: &PluginId) -> PluginCallError {
        let catalogue = self.catalogue.get().and_then(Weak::upgrade);
        match catalogue.and_then(|catalogue| catalogue.handle(target)) {
            None => PluginCallError::NotFound,
            Some(handle) => match handle.snapshot().state {
                State::Disabled => PluginCallError::Disabled,
                state => PluginCallError::NotReady {
                    state: state.as_str().to_owned(),
                },
            },
        }
    }

    fn enter(&self, target: &PluginId) -> Result<UnderWay<'_>, PluginCallError> {
        let mut under_way = self.under_way();
        let count = under_way.entry(target.clone()).or_default();
        if *count >= CALLS_OF_ONE_PLUGIN {
            return Err(PluginCallError::Overloaded);
        }
        *count += 1;
        Ok(UnderWay {
            calls: self,
            target: target.clone(),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<PluginId, usize>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's place among those of its target.
struct UnderWay<'a> {
    calls: &'a TableCalls,
    target: PluginId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.calls.under_way();
        if let Some(count) = under_way.get_mut(&self.target) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.target);
            }
        }
    }
}

impl PluginCalls for TableCalls {
    fn call<'a>(
        &'a self,
        target: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Bytes, PluginCallError>> {
        async move {
            let entry = self.table.load().entry(target).cloned();
            let entry = entry.ok_or_else(|| self.absent(target))?;
            let _of_plugins = self.enter(target)?;
            let called = entry.call(function, arguments, context).await;
            called.map_err(|error| failure(target, error))
        }
        .boxed()
    }
}

/// What the calling plugin is told. Why the other one ended is not its business.
fn failure(target: &PluginId, error: CallError) -> PluginCallError {
    match error {
        CallError::Plugin { text } | CallError::BadRequest { text } => {
            PluginCallError::Plugin { text }
        }
        CallError::Deadline => PluginCallError::Deadline,
        CallError::NotReady { state } => PluginCallError::NotReady { state },
        CallError::Disabled => PluginCallError::Disabled,
        CallError::Overloaded => PluginCallError::Overloaded,
        error @ (CallError::TooLarge { .. } | CallError::Unsupported { .. }) => {
            PluginCallError::Plugin {
                text: error.external_text(),
            }
        }
        error => {
            tracing::debug!(
                plugin.id = %target,
                error = %Chain(&error),
                "plugin called by another gave no usable answer"
            );
            PluginCallError::Broken
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_serves_so_many_calls_of_others_and_no_more() {
        let calls = TableCalls::new(Shared::default());
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut held: Vec<_> = (0..CALLS_OF_ONE_PLUGIN)
            .map(|_| calls.enter(&a).unwrap())
            .collect();
        assert_eq!(calls.enter(&a).err(), Some(PluginCallError::Overloaded));
        assert!(calls.enter(&b).is_ok());
        held.pop();
        assert!(calls.enter(&a).is_ok());
        held.clear();
        assert!(calls.under_way().is_empty(), "nothing is kept of the idle");
    }
}
