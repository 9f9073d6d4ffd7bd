//! What went wrong, in the terms of an answer: made from the error of any step, rendered by
//! `respond`.

use std::time::Duration;

use http::StatusCode;
use pinfold_policy::RouteMethod;

use crate::admin::ControlError;
use crate::plugin::{CallError, Fault, Retry};
use crate::refusal::Refusal;

/// A failed request.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// The stable code.
    pub(crate) code: &'static str,
    /// For the client.
    pub(crate) text: String,
    /// For the log, where it says more.
    pub(crate) internal: Option<String>,
    /// Whether an operator has to look into it.
    pub(crate) is_ours: bool,
    /// When the client may try again.
    pub(crate) wait: Option<Duration>,
    /// For 405.
    pub(crate) allowed: Vec<RouteMethod>,
}

impl Failure {
    /// A failure that the status, the code and one text say all about.
    pub(crate) fn plain(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            code,
            text: text.into(),
            internal: None,
            is_ours: false,
            wait: None,
            allowed: Vec::new(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = Self::plain(refusal.status(), refusal.code(), refusal.to_string());
        failure.wait = refusal.wait();
        match refusal {
            Refusal::Method { allowed } => failure.allowed = allowed,
            Refusal::TokensUnavailable(error) => {
                failure.internal = Some(error.to_string());
                failure.is_ours = true;
            }
            _ => {}
        }
        failure
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self {
            status: error.status(),
            code: error.code(),
            text: error.external_text(),
            internal: Some(error.to_string()),
            is_ours: error.fault() == Fault::Host,
            wait: wait(error.retry()),
            allowed: Vec::new(),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let internal = match &error {
            ControlError::Call { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self {
            status: error.status(),
            code: error.code(),
            text: error.external_text(),
            internal: Some(internal),
            is_ours: match error {
                ControlError::Stopping => false,
                ControlError::Obstructed { .. } => true,
                _ => error.fault() == Fault::Host,
            },
            wait: wait(error.retry()),
            allowed: Vec::new(),
        }
    }
}

const fn wait(retry: Retry) -> Option<Duration> {
    match retry {
        Retry::After(wait) => Some(wait),
        Retry::Now => Some(Duration::ZERO),
        Retry::Never => None,
    }
}

#[cfg(test)]
mod tests {
    /// Every code in the sources has its row in the documentation, so that none is made up twice
    /// or forgotten.
    #[test]
    fn every_code_is_documented() {
        let documentation = include_str!("../../../docs/http.md");
        let sources = [
            include_str!("admin/control.rs"),
            include_str!("admin/problem.rs"),
            include_str!("failure.rs"),
            include_str!("goatflow.rs"),
            include_str!("goatflow/logs.rs"),
            include_str!("plugin.rs"),
            include_str!("refusal.rs"),
        ];
        let mut codes: Vec<_> = sources
            .iter()
            .flat_map(|source| source.split('"').skip(1).step_by(2))
            .filter(|text| {
                ["call.", "control.", "gateway."].iter().any(|area| {
                    text.strip_prefix(area).is_some_and(|name| {
                        !name.is_empty()
                            && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
                    })
                })
            })
            .collect();
        codes.sort_unstable();
        codes.dedup();
        assert!(codes.len() > 30, "{codes:?}");
        for code in codes {
            assert!(
                documentation.contains(&format!("| `{code}` |")),
                "{code} has no row"
            );
        }
    }
}
