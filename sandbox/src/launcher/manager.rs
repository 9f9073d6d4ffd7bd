//! The service manager that started the launcher, told what it does (sd_notify(3)). Where none did,
//! nobody is told.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use super::log;

/// Variables that it sets: where it listens, how often it wants to hear, and from whom.
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What the environment says of the service manager, before it is emptied.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<&'static str, String>);

impl Told {
    pub(super) fn of_environment() -> Self {
        let names = [SOCKET, WATCHDOG_USEC, WATCHDOG_PID];
        let set = |name| Some((name, std::env::var(name).ok()?));
        Self(names.into_iter().filter_map(set).collect())
    }

    fn is(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// A sign of life that is due again and again.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl Manager {
    /// Connects now: later the launcher has a mount table and a root of its own.
    pub(super) fn connect(told: &Told) -> Self {
        let socket = told.is(SOCKET).and_then(|name| match connect(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                log::line(&format!("the service manager at {name:?}: {error}"));
                None
            }
        });
        let watchdog = watchdog(told, std::process::id()).map(|every| Watchdog {
            every,
            due: Instant::now() + every,
        });
        Self { socket, watchdog }
    }

    /// Says that the launcher takes connections. From here on it is told without waiting.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
        if let Some(socket) = &self.socket
            && let Err(error) = socket.set_nonblocking(true)
        {
            log::line(&format!("the service manager's socket: {error}"));
        }
    }

    /// What `systemctl status` shows.
    pub(super) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    pub(super) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// When the next sign of life is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && now >= watchdog.due
        {
            watchdog.due = now + watchdog.every;
            self.tell("WATCHDOG=1");
        }
    }

    /// One that cannot be told is no reason to stop jailing: the watchdog ends what it does not hear.
    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            log::line(&format!("the service manager is not told: {error}"));
        }
    }
}

/// A name that begins with `@` is abstract.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How often it is to hear from the process `pid`: half of the time after which it gives up.
fn watchdog(told: &Told, pid: u32) -> Option<Duration> {
    if told
        .is(WATCHDOG_PID)
        .is_some_and(|meant| meant != pid.to_string())
    {
        return None;
    }
    let limit_us: u64 = told.is(WATCHDOG_USEC)?.parse().ok()?;
    (limit_us > 0).then(|| Duration::from_micros(limit_us / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&'static str, &str)]) -> Told {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        Told(variables.iter().map(owned).collect())
    }

    #[test]
    fn it_hears_twice_as_often_as_it_wants_to() {
        let half = Some(Duration::from_secs(15));
        assert_eq!(watchdog(&told(&[(WATCHDOG_USEC, "30000000")]), 7), half);
        let mine = told(&[(WATCHDOG_USEC, "30000000"), (WATCHDOG_PID, "7")]);
        assert_eq!(watchdog(&mine, 7), half);
        assert_eq!(watchdog(&mine, 8), None);
        for none in ["0", "", "-1", "x"] {
            assert_eq!(watchdog(&told(&[(WATCHDOG_USEC, none)]), 7), None, "{none}");
        }
        assert_eq!(watchdog(&told(&[]), 7), None);
    }

    #[test]
    fn a_manager_is_told_by_either_kind_of_name() {
        let name = format!("pinfold-manager-test-{}", std::process::id());
        let abstract_one = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&abstract_one).unwrap();
        Manager::connect(&told(&[(SOCKET, &format!("@{name}"))])).ready("waits");
        assert_eq!(received(&heard), "READY=1\nSTATUS=waits");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let variables = [(SOCKET, path.to_str().unwrap()), (WATCHDOG_USEC, "20")];
        let mut manager = Manager::connect(&told(&variables));
        manager.on_time(Instant::now() + Duration::from_secs(1));
        assert_eq!(received(&heard), "WATCHDOG=1");
        manager.stopping("SIGTERM");
        assert_eq!(received(&heard), "STOPPING=1\nSTATUS=SIGTERM");
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}
