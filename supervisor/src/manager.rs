//! The service manager, where one started the daemon: the sockets that it passes, and what it is told
//! (sd_listen_fds(3), sd_notify(3)).

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use pinfold_sandbox::activation::{self, ActivationError, Passed};
use sd_notify::NotifyState;

/// Most clients that are turned away at once: as many as wait in the kernel's queue, somaxconn of
/// listen(2), and some that come meanwhile.
const TURNED_AWAY_LIMIT: usize = 8192;

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
        let all = activation::sockets()?;
        let again: Vec<Passed> = all.iter().filter_map(once_more).collect();
        for passed in all {
            if let Err(error) = sockets.take(passed) {
                turn_all_away(again);
                return Err(error);
            }
        }
        Ok(sockets)
    }

    /// The same sockets once more, for [`Sockets::turn_away`].
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn again(&self) -> std::io::Result<Self> {
        Ok(Self {
            gateway: self
                .gateway
                .as_ref()
                .map(TcpListener::try_clone)
                .transpose()?,
            admin: self
                .admin
                .as_ref()
                .map(UnixListener::try_clone)
                .transpose()?,
        })
    }

    /// Closes, unanswered, the connections that wait in them, where this process ends for good: nobody
    /// is to come who would answer, and for one that waits the service manager would start this
    /// process again at once, without end.
    pub(crate) fn turn_away(&self) {
        for _ in 0..TURNED_AWAY_LIMIT {
            let gateway = self.gateway.as_ref().map(|socket| socket.accept().is_ok());
            let admin = self.admin.as_ref().map(|socket| socket.accept().is_ok());
            if gateway != Some(true) && admin != Some(true) {
                break;
            }
        }
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

fn once_more(Passed { name, socket }: &Passed) -> Option<Passed> {
    Some(Passed {
        name: name.clone(),
        socket: socket.try_clone().ok()?,
    })
}

/// [`Sockets::turn_away`] for what was passed and is refused, each by itself.
fn turn_all_away(all: Vec<Passed>) {
    for passed in all {
        let mut one = Sockets::default();
        if one.take(passed).is_ok() {
            one.turn_away();
        }
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

/// Says what `systemctl status` is to show, and nothing else.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Beyond what the configuration allows, for what it does not count: the log, the store, the launcher.
const END_MARGIN: Duration = Duration::from_secs(15);
/// Longest end that is asked for, whatever the configuration allows: who stops a service is to see it stop.
const END_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Says that the end has begun, and how long it may take: where that is more than the unit's
/// `TimeoutStopSec=`, the service manager waits as long. At most an hour is asked for.
pub(crate) fn stopping(longest: Duration) {
    let microseconds = longest
        .saturating_add(END_MARGIN)
        .min(END_LIMIT)
        .as_micros();
    let extended = u32::try_from(microseconds).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(extended),
    ]);
}

/// How often more time for the start is asked for. The unit has `TimeoutStartSec=300`.
const START_STEP: Duration = Duration::from_secs(60);
/// For how long a start is lengthened: what has not come to its end by then hangs.
const START_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Asks for more time for the start, for as long as this runs, but for an hour at most: for what takes as
/// long as there is data.
pub(crate) async fn ask_for_time() {
    let begun = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(begun + START_STEP, START_STEP);
    while ticks.tick().await < begun + START_LIMIT {
        let microseconds = (START_STEP * 3).as_micros();
        let extended = u32::try_from(microseconds).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(extended)]);
    }
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

    #[test]
    fn who_waits_in_sockets_that_are_refused_is_turned_away() {
        use std::io::Read as _;

        let both = [passed("gateway"), passed("gateway")];
        let mut waiting: Vec<_> = both
            .iter()
            .map(|passed| {
                let listener = TcpListener::from(passed.socket.try_clone().unwrap());
                std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap()
            })
            .collect();
        turn_all_away(both.iter().filter_map(once_more).collect());
        for client in &mut waiting {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn who_waits_is_turned_away_and_what_is_served_stays_open() {
        use std::io::Read as _;

        let mut sockets = Sockets::default();
        sockets.take(passed("gateway")).unwrap();
        let address = sockets.gateway.as_ref().unwrap().local_addr().unwrap();
        let again = sockets.again().unwrap();
        drop(sockets);
        let mut waiting: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        again.turn_away();
        for client in &mut waiting {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        std::net::TcpStream::connect(address).unwrap();
    }
}
