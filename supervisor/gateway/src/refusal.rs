//! Why the gateway itself refuses a request, whichever step says no.

use std::time::Duration;

use http::StatusCode;
use pinfold_policy::RouteMethod;

use crate::authenticate::TokensError;

/// A request that goes no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("malformed request: {reason}")]
    Malformed { reason: String },
    #[error("request target is longer than {limit_bytes} bytes")]
    TargetTooLong { limit_bytes: usize },
    #[error("token is not accepted")]
    TokenRefused,
    #[error("tokens cannot be checked at present")]
    TokensUnavailable(#[source] TokensError),
    #[error("not found")]
    NotFound,
    #[error("method not allowed")]
    Method { allowed: Vec<RouteMethod> },
    #[error("authentication required")]
    LoginRequired,
    #[error("admin access required")]
    AdminRequired,
    #[error("a page of another site asks for this")]
    CrossSite,
    #[error("too many requests")]
    Rate { wait: Duration },
    #[error("plugin has as many requests under way as it may have")]
    InFlight,
    #[error("plugins have as many requests under way as they may have together")]
    Busy,
    #[error("request body has more than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    #[error("request body did not arrive in time")]
    BodyTimeOut,
    #[error("request body ended early")]
    BodyCut,
    #[error("bodies of other requests take up all the memory there is for them")]
    BodyBudget,
    #[error("answers that other clients have yet to read take up all the memory there is for them")]
    AnswerBudget,
}

impl Refusal {
    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "gateway.malformed",
            Self::TargetTooLong { .. } => "gateway.target_too_long",
            Self::TokenRefused => "gateway.token_refused",
            Self::TokensUnavailable(_) => "gateway.tokens_unavailable",
            Self::NotFound => "gateway.not_found",
            Self::Method { .. } => "gateway.method_not_allowed",
            Self::LoginRequired => "gateway.login_required",
            Self::AdminRequired => "gateway.admin_required",
            Self::CrossSite => "gateway.cross_site",
            Self::Rate { .. } => "gateway.rate",
            Self::InFlight => "gateway.in_flight",
            Self::Busy => "gateway.busy",
            Self::BodyTooLarge { .. } => "gateway.body_too_large",
            Self::BodyTimeOut => "gateway.body_time_out",
            Self::BodyCut => "gateway.body_cut",
            Self::BodyBudget => "gateway.body_budget",
            Self::AnswerBudget => "gateway.answer_budget",
        }
    }

    /// The HTTP status that the code stands for.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. } | Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::TokenRefused | Self::LoginRequired => StatusCode::UNAUTHORIZED,
            Self::TokensUnavailable(_)
            | Self::InFlight
            | Self::Busy
            | Self::BodyBudget
            | Self::AnswerBudget => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::AdminRequired | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Rate { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeOut => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Whether a caller was weighed and found wanting, which the audit records.
    pub(crate) const fn is_decision(&self) -> bool {
        matches!(
            self,
            Self::TokenRefused
                | Self::LoginRequired
                | Self::AdminRequired
                | Self::CrossSite
                | Self::Rate { .. }
                | Self::InFlight
                | Self::Busy
        )
    }

    /// How long the client shall wait, where waiting helps.
    pub(crate) const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Rate { wait } => Some(*wait),
            Self::TokensUnavailable(_) | Self::InFlight | Self::Busy | Self::BodyBudget => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}
