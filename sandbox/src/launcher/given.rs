//! What a daemon is given with an instance: the answer to a launch, and to an adoption.

use std::io;
use std::os::fd::OwnedFd;

use pinfold_policy::{Control, InstanceId};

use super::files::Policy;
use super::reading::WentBy;
use super::{failure, sealed};
use crate::jail::Jail;
use crate::protocol::{Failure, FailureKind, Launched, Listener, ListenerPurpose};

/// What an instance was launched by, and what its daemon is told of it beside what the jail has.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) policy: Policy,
    pub(super) tmp_directory: String,
    pub(super) missing: Vec<Control>,
    /// What it was launched by beside its policy.
    pub(super) went_by: WentBy,
    /// What the jail's listeners are for, in their order.
    pub(super) purposes: Vec<ListenerPurpose>,
}

/// What becomes of the pipes and listeners that a daemon is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// They are its alone.
    Moved,
    /// They stay here too: another daemon may have to be given the same.
    Shared,
}

impl Given {
    /// The answer, of an instance that is not watched. `ports` are those of the jail's listeners, in their
    /// order; `trust` is what the trust in it rests on now.
    pub(super) fn launched(
        &self,
        instance: InstanceId,
        (jail, ports): (&mut Jail, &[u16]),
        trust: String,
        ends: Ends,
    ) -> Result<Launched, Failure> {
        let host = |error: io::Error| failure::of(FailureKind::Host, &error);
        let sockets = match ends {
            Ends::Shared => jail.listeners.iter().map(OwnedFd::try_clone).collect(),
            Ends::Moved => Ok(std::mem::take(&mut jail.listeners)),
        };
        let sockets: Vec<OwnedFd> = sockets.map_err(host)?;
        let listeners = sockets
            .into_iter()
            .zip(self.purposes.iter().copied())
            .zip(ports)
            .map(|((socket, purpose), port)| Listener {
                purpose,
                port: *port,
                socket,
            });
        let missing = self.missing.iter().map(|one| one.id().to_owned());
        Ok(Launched {
            instance,
            pid: u32::try_from(jail.plugin_pid).unwrap_or(0),
            pidfd: jail.plugin.try_clone().map_err(host)?,
            stdout: ends.give(&mut jail.stdout).map_err(host)?,
            stderr: ends.give(&mut jail.stderr).map_err(host)?,
            policy: sealed::file("pinfold-policy", &self.policy.bytes).map_err(host)?,
            tmp_directory: self.tmp_directory.clone(),
            development_policy: self.policy.is_development,
            missing: missing.collect(),
            trust,
            watched_until: None,
            listeners: listeners.collect(),
        })
    }
}

impl Ends {
    fn give(self, place: &mut OwnedFd) -> io::Result<OwnedFd> {
        match self {
            Self::Shared => place.try_clone(),
            Self::Moved => take(place),
        }
    }
}

/// Takes a descriptor out of its place and leaves `/dev/null` there: the reading end of a pipe
/// that the daemon has must not stay open here, or the plugin would never hear of its end.
fn take(place: &mut OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(std::mem::replace(place, null))
}
