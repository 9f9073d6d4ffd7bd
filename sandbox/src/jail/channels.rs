//! P7: the ways between launcher and jail.

use std::os::fd::OwnedFd;

use pinfold_reaper::step::Step;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use super::error::{During, JailError};

/// Both ends of every channel of one launch.
pub(super) struct Channels {
    pub(super) kept: Kept,
    pub(super) given: Given,
}

/// The launcher's ends.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where the reaper's messages arrive, one packet each.
    pub(super) status: OwnedFd,
    /// While it is open the launcher lives.
    pub(super) life: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The jail's ends.
pub(super) struct Given {
    pub(super) null: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) life: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Channels {
    pub(super) fn open() -> Result<Self, JailError> {
        let step = Step::P7;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .during(step, "open /dev/null")?;
        let (status, given_status) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .during(step, "status channel")?;
        let pipe = |what| rustix::pipe::pipe_with(PipeFlags::CLOEXEC).during(step, what);
        let (given_life, life) = pipe("life pipe")?;
        let (stdout, given_stdout) = pipe("standard output")?;
        let (stderr, given_stderr) = pipe("standard error")?;
        Ok(Self {
            kept: Kept {
                status,
                life,
                stdout,
                stderr,
            },
            given: Given {
                null,
                status: given_status,
                life: given_life,
                stdout: given_stdout,
                stderr: given_stderr,
            },
        })
    }
}
