//! Watched runs: a plugin in its whole jail, whose system calls are noted.
//!
//! Ordered by a file in the launcher's own state directory, which no daemon can write, and followed only
//! where `launcher.toml` says so. The plugin's filter then stops every call that a profile may decide on,
//! and a child of the launcher answers: it does what the plugin's profile says, and writes down what was
//! asked. What no profile may allow the kernel goes on refusing by itself. A watched instance may
//! therefore do what it may do unwatched; it is slower.

mod child;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pinfold_policy::{
    Control, Generation, InstanceId, Moment, PluginId, PolicyFile, WATCH_RECORDS_LIMIT, WatchHead,
    WatchOrder,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use self::child::{Word, answer_calls};
use super::controls::{self, Findings, Tried};
use super::files::Filter;
use super::ground::Ground;
use super::{failure, log};
use crate::jail::Stopped;
use crate::protocol::{Failure, FailureKind};
use crate::seccomp::Program;
use crate::sys::child::{Child, spawn};

/// An order is a few lines.
const ORDER_LIMIT_BYTES: u64 = 4096;

/// How long a watcher may take to write its last lines once its jail is over.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Between looks at whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// The order to watch a plugin, where there is one that counts now.
pub(super) fn order(ground: &Ground, plugin: &PluginId) -> Option<WatchOrder> {
    let ignored = |why: &dyn std::error::Error| {
        log::line(&format!(
            "the order to watch {plugin} does not count: {}",
            log::chain(why)
        ));
    };
    let bytes = match ground
        .watches
        .read(format!("{plugin}.toml"), ORDER_LIMIT_BYTES)
    {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return None,
        Err(error) => {
            ignored(&error);
            return None;
        }
    };
    if !ground.config.watched_runs {
        log::line(&format!(
            "the order to watch {plugin} does not count: launcher.toml has no watched-runs = true"
        ));
        return None;
    }
    WatchOrder::parse(&bytes, ground.clock.now())
        .inspect_err(|error| ignored(error))
        .ok()
}

/// Everything that watching an instance needs, before it starts.
#[derive(Debug)]
pub(super) struct Plan {
    plugin: PluginId,
    /// When it is over.
    pub(super) until: Moment,
    /// The filter in place of the profile's own.
    pub(super) filter: Rc<[u8]>,
    program: Rc<Program>,
    record: Record,
}

impl Plan {
    /// Says so; gives when it is over.
    pub(super) fn begins(&self, ground: &Ground, id: InstanceId) -> Instant {
        let (plugin, until) = (&self.plugin, self.until);
        log::line(&format!(
            "instance {id} of {plugin} is WATCHED until {until}"
        ));
        let now = ground.clock.now().unix_seconds();
        Instant::now() + Duration::from_secs(until.unix_seconds().saturating_sub(now))
    }
}

/// What a watched launch installs and writes to; none where no order counts.
///
/// # Errors
/// Where calls cannot be told here, or the profile does not allow the handing over; and where there are
/// too many records.
pub(super) fn plan(
    ground: &Ground,
    findings: &Findings,
    (filter, file): (&Filter, &PolicyFile),
    (plugin, generation): (&PluginId, Generation),
) -> Result<Option<Plan>, Failure> {
    let Some(order) = order(ground, plugin) else {
        return Ok(None);
    };
    let control = Control::SyscallNames;
    let found = findings.get(&control);
    if !found.is_some_and(|tried| tried.state.satisfies()) {
        let tried = found.cloned();
        let tried = tried.unwrap_or_else(|| Tried::missing("it was not tried"));
        return Err(controls::refused(control, &tried));
    }
    let refuse = |why: String| failure::new(FailureKind::Policy, why);
    let watched = filter.watched.as_ref().ok_or_else(|| {
        refuse(format!(
            "the profile {:?} does not allow sendmsg, without which a run cannot be watched",
            file.profile
        ))
    })?;
    let head = WatchHead {
        plugin: plugin.clone(),
        run: order.run.clone(),
        generation,
        profile: file.profile.clone(),
        arch: filter.program.arch().to_string(),
    };
    Ok(Some(Plan {
        plugin: plugin.clone(),
        until: order.until,
        filter: Rc::clone(watched),
        program: Rc::clone(&filter.program),
        record: record(ground, &head)
            .map_err(|error| failure::new(FailureKind::Host, format!("watch a run: {error}")))?,
    }))
}

/// The file that is written to. It goes again where nobody comes to write to it, so that starts that
/// fail do not use up the names.
#[derive(Debug)]
struct Record {
    file: File,
    /// Directory and name, until somebody answers for the plugin.
    place: Option<(OwnedFd, String)>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some((directory, name)) = self.place.take() else {
            return;
        };
        // Whoever ordered the run removes records too, and the name may be another one's by now.
        let is_there = rustix::fs::fstat(&self.file).is_ok_and(|found| found.st_nlink > 0);
        if is_there && let Err(errno) = rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            log::line(&format!("remove the record {name}: {errno}"));
        }
    }
}

/// A new record with its head.
fn record(ground: &Ground, head: &WatchHead) -> io::Result<Record> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let directory = ground.watches.as_fd().try_clone_to_owned()?;
    for number in 0..WATCH_RECORDS_LIMIT {
        let name = format!("{}.{number}.calls", head.plugin);
        match rustix::fs::openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR) {
            Err(rustix::io::Errno::EXIST) => {}
            opened => {
                let mut record = Record {
                    file: File::from(opened?),
                    place: Some((directory, name)),
                };
                record.file.write_all(head.to_string().as_bytes())?;
                return Ok(record);
            }
        }
    }
    Err(io::Error::other(format!(
        "there are {WATCH_RECORDS_LIMIT} records of {} already",
        head.plugin
    )))
}

/// Who answers for a watched instance. Dropping it ends it; the jail's calls then fail with ENOSYS.
#[derive(Debug)]
pub(super) struct Watcher {
    child: Child,
    words: File,
}

/// What a watcher says.
#[derive(Debug)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// The profile kills for this call, which has not been made.
    Refused(Stopped),
    /// Nobody has the filter any more; the record is whole.
    End,
    /// It has ended before the jail.
    Gone,
}

impl Watcher {
    /// Begins to answer.
    pub(super) fn start(plan: Plan, listener: &OwnedFd) -> io::Result<Self> {
        let Plan {
            program,
            mut record,
            ..
        } = plan;
        let (words, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let keep = [listener.as_fd(), record.file.as_fd(), theirs.as_fd()];
        let child = spawn(&keep, || {
            answer_calls(listener.as_fd(), &program, &record.file, theirs.as_fd())
        })?;
        // It is written to from here on, and stays.
        record.place = None;
        Ok(Self {
            child,
            words: words.into(),
        })
    }

    /// Readable when it has something to say.
    pub(super) fn words(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// What it says. Never waits.
    pub(super) fn said(&self) -> Said {
        let mut bytes = [0; Word::BYTES];
        match (&self.words).read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Said::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Said::Nothing,
            // A word is written at once, and a pipe keeps it whole.
            Ok(Word::BYTES) => match Word::from_bytes(&bytes) {
                Some(Word::End) => Said::End,
                Some(Word::Refused(call)) => Said::Refused(call),
                None => Said::Gone,
            },
            Ok(_) | Err(_) => Said::Gone,
        }
    }

    fn has_ended(&self) -> bool {
        let pidfd = self.child.pidfd();
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1))
    }
}

/// A watcher whose jail is over.
#[derive(Debug)]
pub(super) struct Ending {
    watcher: Watcher,
    limit: Instant,
}

/// Those that write their last lines.
#[derive(Debug, Default)]
pub(super) struct Endings(Vec<Ending>);

impl Endings {
    pub(super) fn push(&mut self, watcher: Watcher) {
        let limit = Instant::now() + LAST_LINES;
        self.0.push(Ending { watcher, limit });
    }

    /// When they are to be looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.0.is_empty()).then(|| Instant::now() + LOOK)
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        self.0
            .retain(|one| !one.watcher.has_ended() && now < one.limit);
    }
}
