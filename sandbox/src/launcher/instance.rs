//! One instance: a jail, its group, and why it ended.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pinfold_policy::{Generation, PluginId, Wanted};

use super::given::Given;
use super::handover::Whose;
use super::launch::Launching;
use super::watching::Watcher;
use crate::cgroup::{Leaf, Watch};
use crate::jail::{ExitStatus, Jail};
use crate::protocol::{ExitCause, KillHow, RefusedCall};
use crate::stage::Stage;

/// Between looks at the count of processes killed for want of memory: version 1 tells of the
/// pressure before it kills, and counts after.
pub(super) const MEMORY_LOOK: Duration = Duration::from_millis(10);

/// How often it is looked at after one such word.
pub(super) const MEMORY_LOOKS: u32 = 100;

/// After that long a jail that was killed is killed again, and the log says so.
pub(super) const KILL_AGAIN: Duration = Duration::from_secs(5);

/// An instance from its group on.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) plugin: PluginId,
    /// Counter of its plugin's instances, by the daemon that started it.
    pub(super) generation: Generation,
    /// What it runs from; held so that the stage stays.
    pub(super) stage: Rc<Stage>,
    pub(super) leaf: Leaf,
    pub(super) memory: Option<Watch>,
    /// The plugin's user id as the launcher sees it.
    pub(super) uid: u32,
    pub(super) reaper_uid: Option<u32>,
    /// Whether sockets to the plugin must refuse descriptors.
    pub(super) pass_rights: Wanted,
    pub(super) phase: Phase,
    /// The daemon's wish for its end.
    pub(super) asked: Option<KillHow>,
    /// The call that it was ended for.
    pub(super) refused: Option<RefusedCall>,
    /// The launcher's own reason for its end.
    pub(super) reason: Option<String>,
    /// The jail was ended because the kernel had killed one of it for want of memory.
    pub(super) memory_killed: bool,
    pub(super) memory_look: Option<(Instant, u32)>,
    pub(super) kill_again: Option<Instant>,
    /// When it ends because the run in which it is watched is over.
    pub(super) watched_until: Option<Instant>,
    pub(super) whose: Whose,
}

/// How far an instance is.
#[derive(Debug)]
pub(super) enum Phase {
    Starting(Box<Launching>),
    Running(Running),
    /// Between the two, and after the end.
    Gone,
}

/// A jail that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) jail: Jail,
    /// Device and inode of its PID namespace; none where the plugin had ended before it could be
    /// looked at.
    pub(super) pid_namespace: Option<(u64, u64)>,
    /// Its network namespace, for connections into it; none where the jail was over before it could
    /// be opened.
    pub(super) network: Option<OwnedFd>,
    /// Whether its loopback is up.
    pub(super) loopback: bool,
    /// The ports of its loopback at which sockets of the host listen.
    pub(super) listening: Vec<u16>,
    /// Who answers for it, where it is watched.
    pub(super) watcher: Option<Watcher>,
    /// What another daemon is to be given with it, where it can be kept for one. The reading ends of
    /// its pipes and its listeners are then still in the jail's place here.
    pub(super) held: Option<Box<Given>>,
}

impl Instance {
    pub(super) fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// When this instance next needs to be looked at without anything having happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let starting = match &self.phase {
            Phase::Starting(launching) => Some(launching.deadline()),
            _ => None,
        };
        let look = self.memory_look.map(|(at, _)| at);
        let adopted = self.adoptable_until();
        [starting, look, self.kill_again, self.watched_until, adopted]
            .into_iter()
            .flatten()
            .min()
    }

    /// Why it ended, from how its main process did.
    pub(super) fn cause(&self, status: Option<ExitStatus>) -> ExitCause {
        let oom_kills = self.leaf.oom_kills().unwrap_or(0);
        cause(&End {
            status,
            oom_kills,
            memory_killed: self.memory_killed,
            asked: self.asked,
            refused: self.refused,
            reason: self.reason.as_deref(),
        })
    }
}

/// What is known of an end.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    status: Option<ExitStatus>,
    oom_kills: u64,
    memory_killed: bool,
    asked: Option<KillHow>,
    refused: Option<RefusedCall>,
    reason: Option<&'a str>,
}

fn cause(end: &End<'_>) -> ExitCause {
    // It was ended for this before anything else could be.
    if end.refused.is_some() {
        return ExitCause::SyscallRefused(end.refused);
    }
    let is_killed = matches!(end.status, None | Some(ExitStatus::Signal(libc::SIGKILL)));
    // A child of the plugin may have been killed long ago, and the plugin have gone on without it:
    // only an end by force is for want of memory.
    if end.memory_killed || (end.oom_kills > 0 && is_killed && end.asked.is_none()) {
        return ExitCause::OutOfMemory;
    }
    if let Some(reason) = end.reason {
        return ExitCause::Launcher(reason.to_owned());
    }
    match end.status {
        Some(ExitStatus::Signal(libc::SIGSYS)) => ExitCause::SyscallRefused(None),
        Some(ExitStatus::Signal(libc::SIGXFSZ)) => {
            ExitCause::Limit("file-size (RLIMIT_FSIZE)".into())
        }
        Some(ExitStatus::Signal(libc::SIGXCPU)) => ExitCause::Limit("cpu-time (RLIMIT_CPU)".into()),
        _ if end.asked.is_some() => ExitCause::Killed,
        Some(ExitStatus::Code(code)) => ExitCause::Code(code),
        Some(ExitStatus::Signal(signal)) => ExitCause::Signal(signal),
        // Process 1 of the jail went first, and nobody of ours ended it.
        None => ExitCause::Signal(libc::SIGKILL),
    }
}

/// A group whose last process has ended, to be removed.
#[derive(Debug)]
pub(super) struct Removing {
    pub(super) leaf: Leaf,
    pub(super) reaper_uid: Option<u32>,
    pub(super) attempts: u32,
    pub(super) next: Instant,
}

impl Removing {
    /// The group of a probe's whole launch.
    pub(super) fn of_probe(leaf: Leaf) -> Self {
        Self {
            leaf,
            reaper_uid: None,
            attempts: 0,
            next: Instant::now(),
        }
    }

    /// The wait before the next attempt: 1 ms, doubled up to 1 s.
    pub(super) fn back_off(&self) -> Duration {
        Duration::from_millis(1 << self.attempts.min(10))
    }
}

/// After that many attempts, some minutes, a group is left to the next sweep.
pub(super) const REMOVE_ATTEMPTS: u32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: End<'static> = End {
        status: None,
        oom_kills: 0,
        memory_killed: false,
        asked: None,
        refused: None,
        reason: None,
    };

    fn by(status: ExitStatus) -> End<'static> {
        End {
            status: Some(status),
            ..PLAIN
        }
    }

    #[test]
    fn causes_are_told_apart() {
        use ExitStatus::{Code, Signal};
        for (end, expected) in [
            (by(Code(3)), ExitCause::Code(3)),
            (by(Signal(11)), ExitCause::Signal(11)),
            (by(Signal(libc::SIGSYS)), ExitCause::SyscallRefused(None)),
            (
                by(Signal(libc::SIGXFSZ)),
                ExitCause::Limit("file-size (RLIMIT_FSIZE)".into()),
            ),
            (PLAIN, ExitCause::Signal(libc::SIGKILL)),
        ] {
            assert_eq!(cause(&end), expected);
        }
    }

    #[test]
    fn an_end_that_was_asked_for_is_told_as_such_unless_something_worse_came_first() {
        let asked = |end: End<'static>| End {
            asked: Some(KillHow::Terminate),
            ..end
        };
        let term = ExitStatus::Signal(libc::SIGTERM);
        assert_eq!(cause(&asked(by(term))), ExitCause::Killed);
        assert_eq!(cause(&asked(by(ExitStatus::Code(0)))), ExitCause::Killed);
        assert_eq!(cause(&asked(PLAIN)), ExitCause::Killed);
        let refused = asked(by(ExitStatus::Signal(libc::SIGSYS)));
        assert_eq!(cause(&refused), ExitCause::SyscallRefused(None));
        let call = Some(RefusedCall {
            number: 1,
            arguments: [0; 6],
        });
        let told = End {
            refused: call,
            ..asked(PLAIN)
        };
        assert_eq!(cause(&told), ExitCause::SyscallRefused(call));
    }

    #[test]
    fn memory_counts_only_where_it_ended_the_plugin() {
        let oom = |end: End<'static>| End {
            oom_kills: 1,
            ..end
        };
        let kill = ExitStatus::Signal(libc::SIGKILL);
        assert_eq!(cause(&oom(by(kill))), ExitCause::OutOfMemory);
        assert_eq!(cause(&oom(PLAIN)), ExitCause::OutOfMemory);
        assert_eq!(cause(&oom(by(ExitStatus::Code(0)))), ExitCause::Code(0));
        let by_us = End {
            memory_killed: true,
            ..by(ExitStatus::Code(0))
        };
        assert_eq!(cause(&by_us), ExitCause::OutOfMemory);
    }

    #[test]
    fn a_reason_of_the_launchers_is_kept() {
        let end = End {
            reason: Some("mismatch"),
            ..PLAIN
        };
        assert_eq!(cause(&end), ExitCause::Launcher("mismatch".into()));
    }
}
