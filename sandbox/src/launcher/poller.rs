//! One epoll(7) for everything that the launcher waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::InstanceId;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The daemon's socket.
    Socket,
    /// A signal to this process.
    Signals,
    /// A copying child, by its number.
    Staging(u32),
    /// A child that counts the files of a lasting directory, by its number.
    Counting(u32),
    /// A connecting child, by its number.
    Port(u32),
    /// The probing child.
    Probe,
    /// The child that prepares network namespaces.
    Networks,
    /// The status channel of a jail that starts.
    Starting(InstanceId),
    /// The end of a jail's reaper.
    Ended(InstanceId),
    /// A jail's memory limit.
    Memory(InstanceId),
    /// A call that a jail's filter has stopped.
    Refused(InstanceId),
    /// Another daemon comes.
    Door,
}

/// Most events taken at once.
const EVENTS: usize = 64;

/// An instance's number has this many bits; there will never be as many.
const ID_BITS: u32 = 56;

impl Source {
    fn token(self) -> u64 {
        let (kind, id) = match self {
            Self::Socket => (0, 0),
            Self::Signals => (1, 0),
            Self::Staging(number) => (2, number.into()),
            Self::Probe => (3, 0),
            Self::Starting(id) => (4, id.0),
            Self::Ended(id) => (5, id.0),
            Self::Memory(id) => (6, id.0),
            Self::Networks => (7, 0),
            Self::Port(number) => (8, number.into()),
            Self::Refused(id) => (9, id.0),
            Self::Counting(number) => (10, number.into()),
            Self::Door => (11, 0),
        };
        (kind << ID_BITS) | (id & ((1 << ID_BITS) - 1))
    }

    fn from_token(token: u64) -> Option<Self> {
        let id = token & ((1 << ID_BITS) - 1);
        Some(match token >> ID_BITS {
            0 => Self::Socket,
            1 => Self::Signals,
            2 => Self::Staging(u32::try_from(id).ok()?),
            3 => Self::Probe,
            4 => Self::Starting(InstanceId(id)),
            5 => Self::Ended(InstanceId(id)),
            6 => Self::Memory(InstanceId(id)),
            7 => Self::Networks,
            8 => Self::Port(u32::try_from(id).ok()?),
            9 => Self::Refused(InstanceId(id)),
            10 => Self::Counting(u32::try_from(id).ok()?),
            11 => Self::Door,
            _ => return None,
        })
    }
}

/// The poller. Level-triggered; closing a descriptor that nobody else has open takes it out.
#[derive(Debug)]
pub(super) struct Poller(OwnedFd);

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    pub(super) fn add(
        &self,
        source: Source,
        descriptor: impl AsFd,
        interest: epoll::EventFlags,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(source.token());
        Ok(epoll::add(&self.0, descriptor, data, interest)?)
    }

    pub(super) fn modify(
        &self,
        source: Source,
        descriptor: impl AsFd,
        interest: epoll::EventFlags,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(source.token());
        Ok(epoll::modify(&self.0, descriptor, data, interest)?)
    }

    /// Takes a descriptor out that stays open elsewhere, such as in a child.
    pub(super) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, descriptor)?)
    }

    /// Waits until something is ready, or until `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<Vec<Source>> {
        let timeout = deadline.map(|deadline| {
            // Up to a whole millisecond: not to wake before it is due, again and again.
            let left = deadline.saturating_duration_since(Instant::now());
            timespec(left + Duration::from_millis(1))
        });
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(
            &self.0,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(events
            .iter()
            .filter_map(|event| Source::from_token(event.data.u64()))
            .collect())
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for source in [
            Source::Socket,
            Source::Signals,
            Source::Staging(u32::MAX),
            Source::Probe,
            Source::Starting(InstanceId(7)),
            Source::Ended(InstanceId((1 << ID_BITS) - 1)),
            Source::Memory(InstanceId(0)),
            Source::Networks,
            Source::Port(u32::MAX),
            Source::Refused(InstanceId(9)),
            Source::Counting(u32::MAX),
            Source::Door,
        ] {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert_eq!(Source::from_token(u64::MAX), None);
    }
}
