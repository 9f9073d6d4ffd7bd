//! What the administration API asks of the daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use pinfold_policy::{CallContext, PluginId};

use super::dto::{
    CreatedToken, EventQuery, EventView, LogFilterView, LogLevel, LogQuery, LogRecord,
    NewLogFilter, NewToken, PluginDetail, PluginView, PostureView, RecordId, RescanQuery,
    StatusView, TokenView, UsageView,
};
use super::follow::Following;
use crate::audit::Actor;
use crate::plugin::{CallError, Fault, Retry};

/// Time for an operation that starts plugins: several of them, each with its own time-outs.
const OPERATION_TIME_OUT: Duration = Duration::from_secs(300);

/// What an operation of [`Control`] that takes time gives back.
pub type ControlFuture<'a, T> = BoxFuture<'a, Result<T, ControlError>>;

/// The daemon as the administration API sees it.
///
/// Each operation that changes something names its actor and is in the audit before it is
/// answered. Whoever calls has been authorised. A client that goes away drops the future that it
/// waits for; what an operation has begun goes on.
pub trait Control: Send + Sync + 'static {
    /// The daemon at a glance. Also asked for readiness, so it must be cheap.
    fn status(&self) -> StatusView;

    /// Every known plugin, by name.
    fn plugins(&self) -> Vec<PluginView>;

    /// Everything about one plugin; `None` where none has that name.
    fn plugin(&self, plugin: &PluginId) -> Option<PluginDetail>;

    /// What the running instance of a plugin uses, by name with its unit; empty where none runs.
    fn stats<'a>(&'a self, plugin: &'a PluginId) -> ControlFuture<'a, BTreeMap<String, u64>>;

    /// Why what runs of a plugin could not be started again now, for want of trust in its bytes;
    /// `None` where it could, or where none runs.
    fn trust_lost<'a>(&'a self, plugin: &'a PluginId) -> ControlFuture<'a, Option<String>>;

    /// What every plugin uses and has used.
    fn usage(&self) -> ControlFuture<'_, UsageView>;

    /// The same and more for a monitoring system: OpenMetrics text, version 1.0.0.
    fn metrics(&self) -> ControlFuture<'_, String>;

    /// What a plugin printed and logged, oldest first, at most `query.limit` of the latest.
    fn logs(&self, plugin: &PluginId, query: LogQuery) -> Vec<LogRecord>;

    /// The latest records of one plugin or of all of them, the newest first, with exactly one of
    /// these levels.
    fn logs_of_all(
        &self,
        plugin: Option<&PluginId>,
        levels: &[LogLevel],
        limit: usize,
    ) -> LogsOfAll;

    /// A plugin's records that the query asks for, oldest first, then each as it comes, until the
    /// plugin or the daemon ends.
    ///
    /// # Errors
    /// [`ControlError::UnknownPlugin`], [`ControlError::Followers`].
    fn follow_logs(&self, plugin: &PluginId, query: LogQuery) -> Result<Following, ControlError>;

    /// What happened to plugins, oldest first, at most `query.limit` of the latest.
    fn events(&self, query: &EventQuery) -> Vec<EventView>;

    /// The same, then each event as it comes, until the daemon ends.
    ///
    /// # Errors
    /// [`ControlError::Followers`]
    fn follow_events(&self, query: &EventQuery) -> Result<Following, ControlError>;

    /// Lets a plugin run, from now on and after restarts of the daemon, and starts it; also clears
    /// a crash loop. Answers when it is ready or has failed.
    fn enable<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail>;

    /// Ends a plugin, which is then not started until it is enabled. Answers when its process is
    /// gone.
    fn disable<'a>(&'a self, plugin: &'a PluginId, actor: Actor)
    -> ControlFuture<'a, PluginDetail>;

    /// Starts a plugin anew from its files and policy as they are, without a gap where it serves.
    /// Answers when the new instance serves, or has failed and the old one goes on.
    fn reload<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail>;

    /// Calls one function of a plugin; arguments and result are JSON text. The context's deadline
    /// is the latest; the plugin's own call time-out may end it earlier.
    fn call<'a>(
        &'a self,
        plugin: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
        actor: Actor,
    ) -> ControlFuture<'a, Bytes>;

    /// Looks again at one plugin's directory and policy, or at all of them, and starts, replaces
    /// or stops what has changed. Answers when each is ready or has failed, with the details of
    /// those that were looked at; a plugin that is gone by then is not among them.
    fn rescan(
        &self,
        plugin: Option<PluginId>,
        why: RescanQuery,
        actor: Actor,
    ) -> ControlFuture<'_, Vec<PluginDetail>>;

    /// Takes a record into the audit trail that the policies' owner has written down. One that is in
    /// it already stays as it is.
    fn take_record(&self, record: RecordId) -> ControlFuture<'_, ()>;

    /// Which controls are in force, here or around one plugin.
    fn posture(&self, plugin: Option<PluginId>) -> ControlFuture<'_, PostureView>;

    /// What the daemon's own log goes by.
    fn log_filter(&self) -> LogFilterView;

    /// Has the log go by something else; by the configuration's filter again where that is `None`.
    fn set_log_filter(
        &self,
        filter: Option<NewLogFilter>,
        actor: Actor,
    ) -> ControlFuture<'_, LogFilterView>;

    /// Makes a token; its text is in the answer and nowhere else.
    fn create_token(&self, token: NewToken, actor: Actor) -> ControlFuture<'_, CreatedToken>;

    /// Every token, without its text.
    fn list_tokens(&self) -> ControlFuture<'_, Vec<TokenView>>;

    /// Ends a token at once.
    fn revoke_token(&self, id: String, actor: Actor) -> ControlFuture<'_, ()>;
}

/// Waits for an operation, five minutes at most. It goes on when nobody waits any longer.
///
/// # Errors
/// [`ControlError::Failed`] when that time is over, and the operation's own.
pub(crate) async fn in_time<T>(operation: ControlFuture<'_, T>) -> Result<T, ControlError> {
    let ended = tokio::time::timeout(OPERATION_TIME_OUT, operation).await;
    ended.unwrap_or_else(|_| {
        Err(ControlError::Failed {
            action: "wait for the operation",
            cause: format!("it took over {} s", OPERATION_TIME_OUT.as_secs()),
        })
    })
}

/// Records of several plugins.
#[derive(Clone, Debug, Default)]
pub struct LogsOfAll {
    /// The newest first, each with its plugin.
    pub records: Vec<(PluginId, LogRecord)>,
    /// Records that are kept, of whatever plugin and level.
    pub total: usize,
}

/// Why an operation of [`Control`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No plugin has that name.
    #[error("plugin {plugin:?} not found", plugin = plugin.as_str())]
    UnknownPlugin {
        /// The name.
        plugin: PluginId,
    },
    /// No token has that id.
    #[error("token {id:?} not found")]
    UnknownToken {
        /// The id.
        id: String,
    },
    /// No such record waits to be taken into the audit trail, or it is not to be trusted.
    #[error("no record {record:?} waits", record = record.as_str())]
    UnknownRecord {
        /// Its id.
        record: RecordId,
    },
    /// Something asked for cannot be.
    #[error("{what}: {reason}")]
    Invalid {
        /// The offending part of the request, such as `expires`.
        what: &'static str,
        /// Why, for the client to read.
        reason: String,
    },
    /// The call of a plugin failed.
    #[error("call plugin {plugin:?}", plugin = plugin.as_str())]
    Call {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The plugin is switched off.
    #[error("plugin {plugin:?} is disabled: enable it first", plugin = plugin.as_str())]
    Disabled {
        /// The plugin.
        plugin: PluginId,
    },
    /// The new instance does not come to serve; the old one goes on.
    #[error("the new instance is not taken, the old one goes on: {reason}")]
    Rejected {
        /// Why, for administrators.
        reason: String,
    },
    /// As many follow events and logs as may.
    #[error("{limit} follow events and logs already")]
    Followers {
        /// How many may.
        limit: usize,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// Something keeps the daemon from it that an operator can take away: a full disk, a lock.
    #[error("{action}: {cause}")]
    Obstructed {
        /// What was attempted, for the client to read: `store token`.
        action: &'static str,
        /// What is in the way, for the client to read.
        obstacle: &'static str,
        /// What to do about it, for the client to read.
        hint: &'static str,
        /// Why, for the operator's log alone.
        cause: String,
    },
    /// The daemon could not do it.
    #[error("{action}: {cause}")]
    Failed {
        /// What was attempted, for the client to read: `store token`.
        action: &'static str,
        /// Why, for the operator's log alone.
        cause: String,
    },
}

impl ControlError {
    /// The stable code, a dotted text.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownPlugin { .. } => "control.unknown_plugin",
            Self::UnknownToken { .. } => "control.unknown_token",
            Self::UnknownRecord { .. } => "control.unknown_record",
            Self::Invalid { .. } => "control.invalid",
            Self::Call { source, .. } => source.code(),
            Self::Disabled { .. } => "control.disabled",
            Self::Rejected { .. } => "control.rejected",
            Self::Followers { .. } => "control.followers",
            Self::Stopping => "control.stopping",
            Self::Obstructed { .. } => "control.obstructed",
            Self::Failed { .. } => "control.failed",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::UnknownPlugin { .. }
            | Self::UnknownToken { .. }
            | Self::UnknownRecord { .. }
            | Self::Invalid { .. }
            | Self::Followers { .. } => Fault::Client,
            Self::Disabled { .. } => Fault::Operator,
            Self::Rejected { .. } => Fault::Plugin,
            Self::Call { source, .. } => source.fault(),
            Self::Obstructed { .. } => Fault::Operator,
            Self::Stopping | Self::Failed { .. } => Fault::Host,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Call { source, .. } => source.retry(),
            Self::Stopping | Self::Followers { .. } | Self::Obstructed { .. } => {
                Retry::After(Duration::from_secs(5))
            }
            _ => Retry::Never,
        }
    }

    /// The HTTP status that the code stands for.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPlugin { .. } | Self::UnknownToken { .. } | Self::UnknownRecord { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Call { source, .. } => source.status(),
            Self::Disabled { .. } | Self::Rejected { .. } => StatusCode::CONFLICT,
            Self::Followers { .. } | Self::Stopping | Self::Obstructed { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What a client may read.
    #[must_use]
    pub fn external_text(&self) -> String {
        match self {
            Self::Call { source, .. } => source.external_text(),
            Self::Obstructed {
                action,
                obstacle,
                hint,
                ..
            } => format!("{action}: {obstacle} (hint: {hint})"),
            Self::Failed { action, .. } => format!("{action} failed; the log says why"),
            _ => self.to_string(),
        }
    }
}
