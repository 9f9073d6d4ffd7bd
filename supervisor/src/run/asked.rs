//! The signals by which the daemon is asked to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::End;

/// They are received from the moment that this is there, also before anybody waits: until then each of
/// them ends the process in its ordinary way, and with it what the daemon before has left.
pub(super) struct Asked {
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Asked {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the first of them.
    pub(super) async fn wait(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Asked,
            _ = self.interrupt.recv() => End::Asked,
            // What the unit has systemd send in place of SIGTERM where it starts it again at once.
            _ = self.restart.recv() => End::HandOver,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_before_anybody_waits_is_heard() {
        let mut asked = Asked::listen().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        assert!(matches!(asked.wait().await, End::HandOver));
    }
}
