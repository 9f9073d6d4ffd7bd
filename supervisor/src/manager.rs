//! The service manager, where one started the daemon: the sockets that it passes, and what it is told
//! (sd_listen_fds(3), sd_notify(3)).

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use pinfold_sandbox::activation::{self, ActivationError, Passed};
use sd_notify::NotifyState;

/// The listening sockets that were passed.
#[derive(Debug, Default)]
pub struct Sockets {
    /// `FileDescriptorName=gateway`.
    pub(crate) gateway: Option<TcpListener>,
    /// `FileDescriptorName=admin`.
    pub(crate) admin: Option<UnixListener>,
}

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketsError {
    /// It cannot be taken over.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// Its name is not known.
    #[error("the service manager passed a socket called {name:?}: gateway and admin are known")]
    Unknown {
        /// `FileDescriptorName=` of its unit.
        name: String,
    },
    /// There are two of a name.
    #[error("the service manager passed two sockets called {name:?}: one ListenStream= is served")]
    Twice {
        /// Their name.
        name: String,
    },
    /// It is not of its kind.
    #[error("the socket {name:?} that the service manager passed is no {kind}")]
    Kind {
        /// Its name.
        name: String,
        /// What it has to be.
        kind: &'static str,
        /// What it answered.
        #[source]
        source: std::io::Error,
    },
}

impl Sockets {
    /// Takes over what was passed. To be called before anything else is opened.
    ///
    /// # Errors
    /// [`SocketsError`].
    pub(crate) fn passed() -> Result<Self, SocketsError> {
        let mut sockets = Self::default();
        for passed in activation::sockets()? {
            sockets.take(passed)?;
        }
        Ok(sockets)
    }

    fn take(&mut self, Passed { name, socket }: Passed) -> Result<(), SocketsError> {
        let kind = |kind| {
            let name = name.clone();
            move |source| SocketsError::Kind { name, kind, source }
        };
        let is_second = match name.as_str() {
            "gateway" => {
                let listener = TcpListener::from(socket);
                let usable = listener.local_addr().map(drop);
                usable
                    .and_then(|()| listener.set_nonblocking(true))
                    .map_err(kind("TCP socket"))?;
                self.gateway.replace(listener).is_some()
            }
            "admin" => {
                let listener = UnixListener::from(socket);
                let usable = listener.local_addr().map(drop);
                usable
                    .and_then(|()| listener.set_nonblocking(true))
                    .map_err(kind("Unix socket"))?;
                self.admin.replace(listener).is_some()
            }
            _ => return Err(SocketsError::Unknown { name }),
        };
        if is_second {
            return Err(SocketsError::Twice { name });
        }
        Ok(())
    }
}

/// Says that what there is serves, and what `systemctl status` is to show.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] is to follow.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "service manager not told of a reload"),
    }
}

/// Says that the end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Gives the sign of life that the service manager asked for, twice as often as it wants it, for as
/// long as this runs: what stops the tasks of this process stops it too.
pub(crate) async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(limit / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "service manager not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str) -> Passed {
        Passed {
            name: name.into(),
            socket: TcpListener::bind("127.0.0.1:0").unwrap().into(),
        }
    }

    #[test]
    fn sockets_are_taken_by_name_and_kind() {
        let mut sockets = Sockets::default();
        sockets.take(passed("gateway")).unwrap();
        assert!(sockets.gateway.is_some());
        for (name, expected) in [
            ("gateway", "two sockets called \"gateway\""),
            (
                "admin",
                "\"admin\" that the service manager passed is no Unix socket",
            ),
            ("unknown", "a socket called \"unknown\""),
        ] {
            let error = sockets.take(passed(name)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
