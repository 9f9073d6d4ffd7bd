//! The size limit of a plugin's lasting directory: set at each launch, once the files that were there
//! before are counted, which a child does when the plugin is staged.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::{Control, PluginId, PolicyFile, Wanted};
use rustix::event::epoll::EventFlags;

use super::controls::{Findings, Tried};
use super::log;
use super::poller::Source;
use super::serve::Launcher;
use crate::protocol::{Reply, RequestId};
use crate::quota::{self, QuotaLimits};
use crate::sys::child::{self, Child};

/// Longest time for counting. What is done by then stays done, and the next stage goes on from there.
const COUNTING: Duration = Duration::from_secs(20);

/// Most children that count, or were given up.
pub(super) const COUNTING_LIMIT: usize = 32;

/// A directory with files that are not in its project yet.
#[derive(Debug)]
pub(super) struct Uncounted {
    plugin: PluginId,
    directory: OwnedFd,
    project: u32,
    limits: QuotaLimits,
}

/// A child that counts, and the answer that waits for it.
#[derive(Debug)]
pub(super) struct Counting {
    request: RequestId,
    reply: Reply,
    plugin: PluginId,
    child: Child,
    pub(super) deadline: Instant,
}

impl Uncounted {
    /// Starts a child that counts.
    fn start(&self) -> io::Result<Child> {
        child::spawn(&[self.directory.as_fd()], || {
            match quota::count(&self.directory, self.project, self.limits) {
                Ok(()) => 0,
                Err(error) => {
                    say(&self.plugin, &log::chain(&error));
                    1
                }
            }
        })
    }
}

impl Launcher {
    /// Answers a request once what is to be counted has been; at once where there is nothing.
    pub(super) fn count(&mut self, uncounted: Option<Uncounted>, request: RequestId, reply: Reply) {
        let Some(uncounted) = uncounted else {
            return self.outbox.reply(request, Ok(reply));
        };
        let under_way = self.countings.len();
        let plugin = &uncounted.plugin;
        if let Err(why) = self.countings_given_up.check(plugin, under_way) {
            say(plugin, &why);
            return self.outbox.reply(request, Ok(reply));
        }
        self.next_counting = self.next_counting.wrapping_add(1);
        let source = Source::Counting(self.next_counting);
        let started = uncounted.start().and_then(|child| {
            self.poller.add(source, child.pidfd(), EventFlags::IN)?;
            Ok(child)
        });
        match started {
            Ok(child) => {
                let counting = Counting {
                    request,
                    reply,
                    plugin: uncounted.plugin,
                    child,
                    deadline: Instant::now() + COUNTING,
                };
                self.countings.insert(self.next_counting, counting);
            }
            Err(error) => {
                say(&uncounted.plugin, &log::chain(&error));
                self.outbox.reply(request, Ok(reply));
            }
        }
    }

    pub(super) fn on_counted(&mut self, number: u32) {
        match self.countings.remove(&number) {
            // The launch looks for itself whether it is done.
            Some(counting) => self.outbox.reply(counting.request, Ok(counting.reply)),
            None => self.countings_given_up.ended(number),
        }
    }

    /// Ends all of them, for which nobody waits any more.
    pub(super) fn drop_countings(&mut self) {
        for (number, one) in std::mem::take(&mut self.countings) {
            let killed = one.child.kill();
            self.countings_given_up.keep(number, one.plugin, killed);
        }
    }

    pub(super) fn countings_on_time(&mut self, now: Instant) {
        let numbers: Vec<u32> = self
            .countings
            .iter()
            .filter(|(_, counting)| now >= counting.deadline)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            // What its child has done stays done. Nobody waits for it: a disk may not answer it.
            if let Some(counting) = self.countings.remove(&number) {
                say(&counting.plugin, &format!("not within {COUNTING:?}"));
                let killed = counting.child.kill();
                self.countings_given_up
                    .keep(number, counting.plugin, killed);
                self.outbox.reply(counting.request, Ok(counting.reply));
            }
        }
    }
}

fn say(plugin: &PluginId, why: &str) {
    log::line(&format!(
        "the files of plugin {plugin}'s lasting directory are not counted: {why}"
    ));
}

/// What of a directory has to be counted before it can be limited, where the policy wants that and
/// this machine can.
pub(super) fn uncounted(
    findings: &Findings,
    plugin: &PluginId,
    file: &PolicyFile,
    directory: OwnedFd,
    uid: Option<u32>,
) -> Option<Uncounted> {
    let project = uid.filter(|_| is_wanted(findings, file))?;
    match quota::is_counted(&directory, project) {
        Ok(true) => None,
        Ok(false) => Some(Uncounted {
            plugin: plugin.clone(),
            directory,
            project,
            limits: limits(file),
        }),
        // The launch will say so too, and refuse if it has to.
        Err(error) => {
            say(plugin, &log::chain(&error));
            None
        }
    }
}

/// Limits the directory of a plugin that is launched, and says what came of it. `None`: what the probe
/// found holds for it.
pub(super) fn limit(
    findings: &Findings,
    file: &PolicyFile,
    directory: Option<&OwnedFd>,
    uid: Option<u32>,
) -> Option<Tried> {
    let Some(directory) = directory else {
        return Some(Tried::enforced("it has no lasting directory"));
    };
    let project = uid.filter(|_| is_there(findings))?;
    if file.wanted(Control::StateQuota) == Wanted::Off {
        // One that an earlier policy has set.
        if let Err(error) = quota::lift(directory, project) {
            log::line(&log::chain(&error));
        }
        return None;
    }
    Some(match quota::limit(directory, project, limits(file)) {
        Ok(()) => Tried::enforced(format!("project {project}")),
        Err(error) => Tried::missing(log::chain(&error)),
    })
}

fn is_wanted(findings: &Findings, file: &PolicyFile) -> bool {
    is_there(findings) && file.wanted(Control::StateQuota) != Wanted::Off
}

fn is_there(findings: &Findings) -> bool {
    findings
        .get(&Control::StateQuota)
        .is_some_and(|tried| tried.state.satisfies())
}

fn limits(file: &PolicyFile) -> QuotaLimits {
    QuotaLimits {
        bytes: file.limits.state.0,
        files: file.limits.state_files.into(),
    }
}
