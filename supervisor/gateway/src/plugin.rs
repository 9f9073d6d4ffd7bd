//! The running side of the common model: what the gateway asks of an instance of a plugin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use pinfold_policy::{CallContext, Route};

/// One running process of a plugin, whatever its dialect.
///
/// Every call has a deadline in its [`CallContext`]; dropping the future cancels the call.
pub trait Instance: Send + Sync + 'static {
    /// One HTTP request for a route of this plugin.
    ///
    /// # Errors
    /// [`CallError`]; the gateway turns it into the answer that its code stands for.
    fn http(
        &self,
        request: PluginRequest,
        context: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>>;

    /// One function by name; arguments and result are JSON text.
    ///
    /// # Errors
    /// [`CallError`]
    fn call(
        &self,
        function: &str,
        arguments: Bytes,
        context: CallContext,
    ) -> BoxFuture<'_, Result<Bytes, CallError>>;

    /// Asks whether the instance still answers.
    ///
    /// # Errors
    /// [`CallError`]
    fn ping(&self, context: CallContext) -> BoxFuture<'_, Result<(), CallError>>;
}

/// A request as an instance gets it: authorised, limited, its body whole.
#[derive(Clone, Debug)]
pub struct PluginRequest {
    /// The route's method; a HEAD request arrives as the GET that it stands for.
    pub method: Method,
    /// The path as requested, percent-decoded.
    pub path: String,
    /// The route that matched.
    pub route: Arc<Route>,
    /// Name and percent-decoded value of each parameter, in the order of the path.
    pub path_parameters: Vec<(String, String)>,
    /// What follows `?`, as sent.
    pub query: Option<String>,
    /// The client's headers without `Authorization`, `Cookie` and those of the connection. A
    /// dialect passes on what its contract says, which may be nothing.
    pub headers: HeaderMap,
    /// The body, at most [`crate::GatewayConfig::body_limit_bytes`] long.
    pub body: Bytes,
}

/// An instance's answer to a [`PluginRequest`].
#[derive(Clone, Debug)]
pub struct PluginResponse {
    /// 200 to 599.
    pub status: StatusCode,
    /// Headers of the answer; only those of a fixed list are passed on, foremost `content-type`
    /// and `location`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why a call of a plugin gave no result.
///
/// `Display` is for the operator's log; what a client may read is
/// [`external_text`](CallError::external_text).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin answered with an error of its own.
    #[error("plugin answered with an error: {text}")]
    Plugin {
        /// The plugin's text, at most a few KiB.
        text: String,
    },
    /// The caller sent what cannot be handed to the plugin.
    #[error("request cannot be passed to the plugin: {text}")]
    BadRequest {
        /// What is wrong with it, for the client to read.
        text: String,
    },
    /// There was no answer before the deadline.
    #[error("plugin did not answer before the deadline")]
    Deadline,
    /// The process or its connection ended before the answer came.
    #[error("plugin ended before it answered: {cause}")]
    Gone {
        /// The cause of the end, for the operator.
        cause: String,
    },
    /// The plugin is in a state in which it takes no calls.
    #[error("plugin takes no calls: it is {state}")]
    NotReady {
        /// The state's name.
        state: String,
    },
    /// An operator has switched the plugin off.
    #[error("plugin is disabled")]
    Disabled,
    /// More calls are under way than the plugin may have.
    #[error("plugin has as many calls under way as it may have")]
    Overloaded,
    /// A request or a reply over its limit.
    #[error("{what} has {bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// `arguments` or `reply`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The plugin's dialect has no such operation.
    #[error("plugin does not support {what}")]
    Unsupported {
        /// The operation.
        what: &'static str,
    },
    /// The plugin's answer breaks its contract.
    #[error("plugin broke its contract: {text}")]
    Protocol {
        /// What is wrong with it, for the operator.
        text: String,
    },
    /// Pinfold itself could not make the call.
    #[error("call could not be made: {text}")]
    Host {
        /// What went wrong, for the operator.
        text: String,
    },
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Who sent the request.
    Client,
    /// Who runs and configures Pinfold.
    Operator,
    /// The plugin.
    Plugin,
    /// Pinfold.
    Host,
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Not unchanged.
    Never,
    /// At once.
    Now,
    /// After this time.
    After(Duration),
}

impl CallError {
    /// The stable code, a dotted text.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Plugin { .. } => "call.plugin",
            Self::BadRequest { .. } => "call.bad_request",
            Self::Deadline => "call.deadline",
            Self::Gone { .. } => "call.gone",
            Self::NotReady { .. } => "call.not_ready",
            Self::Disabled => "call.disabled",
            Self::Overloaded => "call.overloaded",
            Self::TooLarge { .. } => "call.too_large",
            Self::Unsupported { .. } => "call.unsupported",
            Self::Protocol { .. } => "call.protocol",
            Self::Host { .. } => "call.host",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::BadRequest { .. } | Self::Unsupported { .. } => Fault::Client,
            Self::TooLarge { what, .. } if is_arguments(what) => Fault::Client,
            Self::Disabled => Fault::Operator,
            Self::Host { .. } => Fault::Host,
            _ => Fault::Plugin,
        }
    }

    /// Whether the same call may succeed later. A call that may have run is not to be repeated.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::NotReady { .. } => Retry::After(Duration::from_secs(2)),
            Self::Overloaded => Retry::After(Duration::from_secs(1)),
            _ => Retry::Never,
        }
    }

    /// What a client may read; causes and contract breaches stay with the operator.
    #[must_use]
    pub fn external_text(&self) -> String {
        match self {
            Self::Plugin { text } | Self::BadRequest { text } => text.clone(),
            Self::Gone { .. } => "plugin ended before it answered".into(),
            Self::Protocol { .. } => "plugin gave an unusable answer".into(),
            Self::Host { .. } => "call could not be made".into(),
            Self::Deadline
            | Self::NotReady { .. }
            | Self::Disabled
            | Self::Overloaded
            | Self::TooLarge { .. }
            | Self::Unsupported { .. } => self.to_string(),
        }
    }

    /// The HTTP status that the code stands for, where the contract in question names no other.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Plugin { .. } | Self::Host { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Gone { .. } | Self::Protocol { .. } => StatusCode::BAD_GATEWAY,
            Self::NotReady { .. } | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Disabled => StatusCode::FORBIDDEN,
            Self::TooLarge { what, .. } if is_arguments(what) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooLarge { .. } => StatusCode::BAD_GATEWAY,
            Self::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// Compares bytes: text comparison is not `const`.
const fn is_arguments(what: &str) -> bool {
    matches!(what.as_bytes(), b"arguments")
}
