//! Calls from plugin to plugin: scope, depth and what is under way. How a target is found and
//! called is behind a trait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pinfold_policy::{CallContext, PluginId};

use crate::error::{CONTENTION_RETRY, Fault, Retry};
use crate::{Caller, HostError};

/// Longest chain of calls from plugin to plugin: the figure that GoatFlow documents. Two plugins
/// that call each other are stopped here.
pub const PLUGIN_CALL_DEPTH_LIMIT: u32 = 10;

/// Calls of other plugins that one plugin may have under way. One more is refused, never queued:
/// a call that waited here could be waiting for itself.
pub const PLUGIN_CALLS_AT_ONCE: usize = 64;

/// Most bytes of a call's arguments, and of its result: what the gateway takes by default.
pub const PLUGIN_CALL_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// Longest name of a function.
pub const FUNCTION_NAME_LIMIT_BYTES: usize = 256;

/// Longest name of a plugin that is looked for: no plugin's is longer.
const PLUGIN_NAME_LIMIT_BYTES: usize = 63;

/// How long past its deadline a call is given up here: who carries it out knows the deadline too,
/// and tells more of it.
const GRACE: Duration = Duration::from_millis(250);

/// Finds plugins and calls their functions.
pub trait PluginCalls: Send + Sync {
    /// Calls `function` of the instance of `target` that serves now. `context` has the caller's
    /// depth already counted in, and a deadline that is not later than the caller's own.
    ///
    /// # Cancellation
    /// Dropping the future cancels the call.
    fn call<'a>(
        &'a self,
        target: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Bytes, PluginCallError>>;
}

/// Why a call of another plugin gave no result. Its text may be shown to the calling plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PluginCallError {
    /// No plugin has that name.
    #[error("plugin not found")]
    NotFound,
    /// An operator has switched it off.
    #[error("plugin is disabled")]
    Disabled,
    /// It is there and serves nobody now.
    #[error("plugin takes no calls: it is {state}")]
    NotReady {
        /// Its state.
        state: String,
    },
    /// It did not answer in time.
    #[error("deadline exceeded")]
    Deadline,
    /// It has as many calls under way as it may have.
    #[error("plugin has as many calls under way as it may have")]
    Overloaded,
    /// It answered with an error of its own.
    #[error("{text}")]
    Plugin {
        /// Its text.
        text: String,
    },
    /// It ended, or gave an answer that cannot be used. The cause is the operator's to read.
    #[error("plugin gave no usable answer")]
    Broken,
}

impl PluginCallError {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "hostapi.plugin.not-found",
            Self::Disabled => "hostapi.plugin.disabled",
            Self::NotReady { .. } => "hostapi.plugin.not-ready",
            Self::Deadline => "hostapi.plugin.deadline",
            Self::Overloaded => "hostapi.plugin.overloaded",
            Self::Plugin { .. } => "hostapi.plugin.failed",
            Self::Broken => "hostapi.plugin.broken",
        }
    }

    pub(crate) const fn fault(&self) -> Fault {
        match self {
            Self::NotFound | Self::Disabled => Fault::Operator,
            _ => Fault::Upstream,
        }
    }

    pub(crate) const fn retry(&self) -> Retry {
        match self {
            Self::NotReady { .. } | Self::Overloaded => Retry::After(CONTENTION_RETRY),
            _ => Retry::Never,
        }
    }
}

/// Names are compared and repeated in refusals: their length comes first.
pub(crate) fn check_names(plugin: &str, function: &str) -> Result<(), HostError> {
    for (what, text, limit_bytes) in [
        ("plugin name", plugin, PLUGIN_NAME_LIMIT_BYTES),
        ("function name", function, FUNCTION_NAME_LIMIT_BYTES),
    ] {
        if text.len() > limit_bytes {
            return Err(HostError::TooLarge { what, limit_bytes });
        }
    }
    Ok(())
}

/// Makes one call that is authorised and metered.
pub(crate) async fn call(
    calls: &Arc<dyn PluginCalls>,
    caller: &Caller,
    (target, function): (String, String),
    arguments: Bytes,
    context: &CallContext,
) -> Result<Bytes, HostError> {
    if context.depth >= PLUGIN_CALL_DEPTH_LIMIT {
        return Err(HostError::PluginCallDepth {
            caller: caller.plugin.clone(),
            target,
        });
    }
    check_size("arguments of a plugin call", &arguments)?;
    let _place = caller
        .allowance
        .plugin_calls
        .enter(PLUGIN_CALLS_AT_ONCE)
        .ok_or(HostError::TooManyUnderWay {
            what: "plugin calls",
            limit: PLUGIN_CALLS_AT_ONCE,
        })?;
    let context = CallContext {
        depth: context.depth + 1,
        ..context.clone()
    };
    let given_up = context.deadline.max(Instant::now()) + GRACE;
    let outcome = match PluginId::parse(&target) {
        Ok(id) => {
            let called = calls.call(&id, &function, arguments, context);
            tokio::time::timeout_at(given_up.into(), called)
                .await
                .unwrap_or(Err(PluginCallError::Deadline))
        }
        // No plugin has a name of that form.
        Err(_) => Err(PluginCallError::NotFound),
    };
    let result = outcome.map_err(|source| HostError::PluginCall {
        target,
        function,
        source,
    })?;
    check_size("result of the plugin call", &result)?;
    Ok(result)
}

fn check_size(what: &'static str, bytes: &[u8]) -> Result<(), HostError> {
    if bytes.len() > PLUGIN_CALL_LIMIT_BYTES {
        return Err(HostError::TooLarge {
            what,
            limit_bytes: PLUGIN_CALL_LIMIT_BYTES,
        });
    }
    Ok(())
}
