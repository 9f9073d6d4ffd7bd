//! Why the daemon does not begin, or ends otherwise than on request.

use std::net::SocketAddr;
use std::path::PathBuf;

use pinfold_gateway::{Drained, ServeError};
use pinfold_hostapi::OpenDatabaseError;
use pinfold_sandbox::client::ClientError;
use tokio::task::JoinError;

use crate::store::StoreError;

/// Why the daemon ended otherwise than on request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The launcher is gone: both must be started again.
    #[error("the launcher is gone")]
    LauncherGone(#[source] ClientError),
    /// The launcher refused to start: starting both again would change nothing.
    #[error("the launcher did not start: it says why above")]
    LauncherNotStarted,
    /// Another daemon runs on the same state.
    #[error("another pinfoldd uses the state directory {}", .state.display())]
    InUse {
        /// The directory.
        state: PathBuf,
    },
    /// A service manager's socket is open to the network, and nothing here has TLS.
    #[error(
        "the gateway's socket {address} is not on loopback: this version has no TLS: listen on \
         loopback (ListenStream= of pinfold-gateway.socket), or set behind-proxy = true"
    )]
    Exposed {
        /// Its address.
        address: SocketAddr,
    },
    /// A restore was cut off: part of the installation is the backup's, part is what was there before.
    #[error("a restore was cut off: {} is there", .marker.display())]
    Unfinished {
        /// What says so.
        marker: PathBuf,
    },
    /// The gateway ended without having been told to, or did not begin.
    #[error("serve the gateway")]
    Gateway(#[source] GatewayEnd),
    /// A database for plugins cannot be opened.
    #[error("open the application's databases")]
    Databases(#[source] OpenDatabaseError),
    /// The state cannot be opened.
    #[error("open the daemon's state")]
    Store(#[source] StoreError),
    /// Something that is needed to begin is not to be had.
    #[error("{step}")]
    Begin {
        /// What was attempted.
        step: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why the gateway serves no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayEnd {
    /// It refuses what it was given.
    #[error(transparent)]
    Refused(ServeError),
    /// It stopped, or its task did.
    #[error("it ended by itself")]
    ByItself,
}

impl GatewayEnd {
    /// What an end that nobody asked for was.
    pub(super) fn of(ended: Result<Result<Drained, ServeError>, JoinError>) -> Self {
        match ended {
            Ok(Err(error)) => Self::Refused(error),
            Ok(Ok(_)) | Err(_) => Self::ByItself,
        }
    }
}

impl RunError {
    /// What the operator can do, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Unfinished { .. } => {
                Some("run the same `pinfold restore` again; what was there before is kept".into())
            }
            _ => None,
        }
    }

    /// Whether starting again changes nothing until somebody has done something: a database of a
    /// later version, an unfinished restore, a listener or a database that the configuration cannot have.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store(StoreError::Schema { .. })
            | Self::Unfinished { .. }
            | Self::Exposed { .. }
            | Self::Gateway(GatewayEnd::Refused(ServeError::Config(_))) => true,
            Self::Databases(error) => error.cause.is_final(),
            _ => false,
        }
    }
}

/// Names what was attempted.
pub(super) fn begin<E>(step: impl Into<String>) -> impl FnOnce(E) -> RunError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let step = step.into();
    move |error| RunError::Begin {
        step,
        source: error.into(),
    }
}
