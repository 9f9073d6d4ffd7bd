//! Why the daemon did not do what it was asked, how the command line ends for it, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use pinfold_gateway::admin::dto::Problem;

use crate::cli::exit::{Exit, Failure};

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    #[error("pinfoldd is not running: connect to {socket}")]
    NotRunning {
        socket: PathBuf,
        #[source]
        source: io::Error,
        development: bool,
    },
    #[error("connect to {socket}")]
    Forbidden {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("connect to {socket}")]
    Connect {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no answer to {request} within {} s", .limit.as_secs())]
    Deadline { request: String, limit: Duration },
    #[error("ask the daemon for {request}")]
    Transport {
        request: String,
        #[source]
        source: hyper::Error,
    },
    #[error("the answer to {request} has over {limit_bytes} bytes")]
    TooLarge { request: String, limit_bytes: usize },
    #[error("the answer to {request} is not understood")]
    NotUnderstood {
        request: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{request} was answered with status {status}")]
    Status { request: String, status: StatusCode },
    #[error("nothing more to follow: {why}")]
    Ended { why: String },
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
}

impl ClientError {
    /// How the command line ends for it.
    fn exit(&self) -> Exit {
        match self {
            Self::NotRunning { .. } | Self::Connect { .. } | Self::Transport { .. } => {
                Exit::Unavailable
            }
            Self::Forbidden { .. } => Exit::NoPermission,
            Self::Deadline { .. } | Self::Ended { .. } => Exit::Temporary,
            Self::TooLarge { .. } | Self::NotUnderstood { .. } | Self::Status { .. } => {
                Exit::Protocol
            }
            Self::Refused(problem) if problem.code == "control.stopping" => Exit::Temporary,
            Self::Refused(_) => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotRunning {
                development: true, ..
            } => "start it with `make run`, or name another installation with --dev-dir".into(),
            Self::NotRunning { .. } => {
                "`sudo pinfold doctor` says what is wrong; --dev means a development installation"
                    .into()
            }
            Self::Forbidden { .. } => {
                "run it with sudo, or join the group that owns the socket".into()
            }
            Self::NotUnderstood { .. } | Self::Status { .. } => {
                "are `pinfold --version` and the daemon's version in `pinfold status` the same?"
                    .into()
            }
            Self::Refused(problem) => return advice(problem),
            _ => return None,
        })
    }
}

fn advice(problem: &Problem) -> Option<String> {
    Some(match problem.code.as_str() {
        "control.unknown_plugin" => "`pinfold plugin list` names those that are there".into(),
        "control.unknown_token" => "`pinfold token list` names those that are there".into(),
        "control.stopping" => "try again when it has started".into(),
        "control.rejected" => "`pinfold plugin logs` shows what the new instance printed".into(),
        "call.not_ready" => "`pinfold plugin list` says why".into(),
        code if code.starts_with("call.") => {
            "`pinfold plugin logs` shows what the plugin printed meanwhile".into()
        }
        _ if problem.status >= 500 => format!(
            "the daemon's log says more, under request id {}",
            problem.request_id
        ),
        _ => return None,
    })
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = error.hint();
        let failure = Self::new(error.exit(), error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
