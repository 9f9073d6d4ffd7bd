//! What this machine gives: each control that this version has, tried for real and alone, each in a
//! child of its own, and then all together in a whole launch of a built-in program. A file that exists,
//! or a kernel's version, proves nothing.

mod attempts;
mod host;
mod judge;
mod trial;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pinfold_policy::Control;
use rustix::fs::{MemfdFlags, memfd_create};

use super::controls::{Findings, Tried};
use super::files::{Filter, ProfileUse};
use super::ground::Ground;
use super::log;
use crate::cgroup::{Applied, IoLimits, Leaf, Limits, Removal};
use crate::jail::{self, GroupFds, Ids};
use crate::posture::{Mode, State};
use crate::sys::child::{self, Child, Ended};

pub(super) use host::advice;

/// Longest time that the whole probe may take; it takes some tens of milliseconds.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Longest account of a probe: a line for each control.
const ACCOUNT_LIMIT_BYTES: u64 = 64 * 1024;

/// What the attempts need to know.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    /// The compiled default profile; or why there is none.
    pub(super) filter: Result<Filter, String>,
    /// Whether the launcher's own filter is in force; or why not.
    pub(super) own_filter: Result<(), String>,
    /// An id that plugins may have; none in user mode.
    pub(super) uid: Option<u32>,
    /// Where stages are attached on older kernels.
    pub(super) attach_dir: PathBuf,
    /// The directory of plugins' lasting directories.
    pub(super) states_dir: PathBuf,
    /// An id that no plugin has; none in user mode.
    pub(super) project: Option<u32>,
    /// The reaper's program.
    pub(super) reaper: OwnedFd,
    /// Under which ids the whole launch runs; or why there are none.
    pub(super) trial_ids: Result<Ids, String>,
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probing {
    child: Child,
    account: File,
    mode: Mode,
    taken: Taken,
    pub(super) deadline: Instant,
}

/// What the whole launch has of the launcher's while it runs.
#[derive(Debug)]
struct Taken {
    /// Its group; or why there is none.
    leaf: Result<(Leaf, Vec<Applied>), String>,
    ids: Result<Ids, String>,
}

impl Probing {
    /// Starts the child that makes all attempts, one after the other, and then the whole launch.
    pub(super) fn start(ground: &mut Ground) -> io::Result<Self> {
        let account = File::from(memfd_create("pinfold-probe", MemfdFlags::CLOEXEC)?);
        let mode = ground.mode;
        let mut taken = Taken::of(ground);
        let started = taken.groups().and_then(|groups| {
            let setting = setting(ground, taken.ids.clone())?;
            let mut keep = vec![account.as_fd(), setting.reaper.as_fd()];
            keep.extend(groups.v1_tasks.iter().map(AsFd::as_fd));
            keep.extend(groups.v2_dir.iter().map(AsFd::as_fd));
            keep.extend(jail::host_files_descriptor());
            child::spawn(&keep, || match run(&setting, &groups, &account) {
                Ok(()) => 0,
                Err(_) => 1,
            })
        });
        match started {
            Ok(child) => Ok(Self {
                child,
                account,
                mode,
                taken,
                deadline: Instant::now() + PROBE_LIMIT,
            }),
            Err(error) => {
                // Nobody has entered it.
                drop(taken.give_back(ground));
                Err(error)
            }
        }
    }

    /// The findings, once the child has ended; waits for it if it has not. A group that is not empty
    /// yet is given back, to be removed later.
    pub(super) fn finish(mut self, ground: &mut Ground) -> (io::Result<Findings>, Option<Leaf>) {
        let found = self.read();
        let found = found.map(|mut findings| {
            let groups = match &self.taken.leaf {
                Ok((_, applied)) => Ok(of_groups(applied, self.mode)),
                Err(reason) => Err(reason.clone()),
            };
            for (control, tried) in groups.unwrap_or_else(|reason| {
                let missing = |control| (control, Tried::missing(reason.clone()));
                GROUP_CONTROLS.into_iter().map(missing).collect()
            }) {
                // What a whole launch has seen otherwise stays.
                let holds = tried.state.satisfies();
                findings
                    .entry(control)
                    .and_modify(|seen| {
                        if !holds {
                            seen.clone_from(&tried);
                        }
                    })
                    .or_insert(tried);
            }
            if let Err(reason) = &ground.disk {
                findings.insert(Control::Io, Tried::missing(reason.clone()));
            }
            findings
        });
        (found, self.taken.give_back(ground))
    }

    /// Ends it without findings.
    pub(super) fn abandon(self, ground: &mut Ground) -> Option<Leaf> {
        let Self {
            child, mut taken, ..
        } = self;
        // What it started ends with it.
        drop(child);
        taken.give_back(ground)
    }

    fn read(&mut self) -> io::Result<Findings> {
        let ended = self.child.wait()?;
        if ended != Ended::Status(0) {
            return Err(io::Error::other(format!(
                "the probing child ended: {ended:?}"
            )));
        }
        let mut text = String::new();
        self.account.rewind()?;
        (&self.account)
            .take(ACCOUNT_LIMIT_BYTES)
            .read_to_string(&mut text)?;
        Ok(text.lines().filter_map(read_line).collect())
    }

    pub(super) fn descriptor(&self) -> impl AsFd + '_ {
        self.child.pidfd()
    }
}

impl Taken {
    fn of(ground: &mut Ground) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let limits = Limits {
            memory_bytes: Some(trial::MEMORY.0),
            cpu_percent: Some(100),
            // One more for its process 1.
            pids: Some(u64::from(trial::PROCESSES) + 1),
            io: ground.disk.as_ref().ok().map(|disk| IoLimits::ample(*disk)),
            devices: true,
        };
        let leaf = ground
            .groups
            .leaf(&group_name(number), &limits)
            .map_err(|error| log::chain(&error));
        let ids = match (&mut ground.uids, ground.mode) {
            (Some(uids), Mode::Root) => uids
                .reaper()
                .and_then(|plugin| match uids.reaper() {
                    Ok(reaper) => Ok(Ids::Root { plugin, reaper }),
                    Err(error) => {
                        uids.release_reaper(plugin);
                        Err(error)
                    }
                })
                .map_err(|error| log::chain(&error)),
            (None, Mode::Root) => Err("there are no user ids".to_owned()),
            (_, Mode::User) => Ok(Ids::User),
        };
        Self { leaf, ids }
    }

    fn groups(&self) -> io::Result<GroupFds> {
        let Ok((leaf, _)) = &self.leaf else {
            return Ok(GroupFds::default());
        };
        let files = leaf.enter_files().map_err(io::Error::other)?;
        Ok(GroupFds {
            v1_tasks: files.tasks,
            v2_dir: files.birth,
        })
    }

    fn give_back(&mut self, ground: &mut Ground) -> Option<Leaf> {
        if let (Ok(Ids::Root { plugin, reaper }), Some(uids)) = (&self.ids, &mut ground.uids) {
            uids.release_reaper(*plugin);
            uids.release_reaper(*reaper);
        }
        let (mut leaf, _) = std::mem::replace(&mut self.leaf, Err(String::new())).ok()?;
        match leaf.remove() {
            Ok(Removal::Gone) => None,
            Ok(Removal::Busy) => Some(leaf),
            Err(error) => {
                log::line(&log::chain(&error));
                None
            }
        }
    }
}

/// The group of a whole launch. Those of instances are named after their plugins, of which none begins
/// like this.
fn group_name(number: u64) -> String {
    format!("_trial-{number}")
}

/// What the probe tries, from what a launch would use.
fn setting(ground: &mut Ground, trial_ids: Result<Ids, String>) -> io::Result<Setting> {
    Ok(Setting {
        mode: ground.mode,
        filter: ground
            .files
            .filter(ProfileUse::plain("default"))
            .map_err(|error| log::chain(&error)),
        own_filter: ground.own_filter.clone(),
        uid: match ground.mode {
            Mode::Root => ground.uids.as_ref().map(|uids| uids.block().0),
            Mode::User => None,
        },
        attach_dir: ground.attach_dir.clone(),
        states_dir: ground.states.path().to_owned(),
        // The last one is a reaper's.
        project: ground.uids.as_ref().map(|uids| {
            let (first, count) = uids.block();
            first + count - 1
        }),
        reaper: ground.reaper.try_clone()?,
        trial_ids,
    })
}

const GROUP_CONTROLS: [Control; 8] = [
    Control::Memory,
    Control::MemoryGroupKill,
    Control::Cpu,
    Control::Processes,
    Control::Io,
    Control::Devices,
    Control::GroupKill,
    Control::GroupFreeze,
];

/// The controls of groups are those that the group of the whole launch has.
fn of_groups(applied: &[Applied], mode: Mode) -> Findings {
    applied
        .iter()
        .filter_map(|one| Some((one.control, Tried::group(one, mode)?)))
        .collect()
}

fn run(setting: &Setting, groups: &GroupFds, mut account: &File) -> io::Result<()> {
    let mut found: Findings = attempts::all(setting).into_iter().collect();
    let trial = trial::run(setting, groups, &mut found);
    found.insert(Control::Trial, trial);
    for (control, tried) in found {
        let state = match tried.state {
            State::Enforced => "enforced",
            State::Partial => "partial",
            State::Missing | State::Failed => "missing",
            State::NotBuilt => "not-built",
        };
        let reason = tried.reason.replace(['\t', '\n'], " ");
        writeln!(account, "{control}\t{state}\t{}\t{reason}", tried.how)?;
    }
    Ok(())
}

fn read_line(line: &str) -> Option<(Control, Tried)> {
    let mut fields = line.splitn(4, '\t');
    let control = Control::from_id(fields.next()?)?;
    let state = match fields.next()? {
        "enforced" => State::Enforced,
        "partial" => State::Partial,
        "missing" => State::Missing,
        _ => State::NotBuilt,
    };
    Some((
        control,
        Tried {
            state,
            how: fields.next()?.to_owned(),
            reason: fields.next()?.to_owned(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use pinfold_policy::PluginId;

    use super::*;

    #[test]
    fn no_plugins_instance_is_in_a_group_of_the_probes() {
        let name = group_name(1);
        let (plugin, _) = name.rsplit_once('-').unwrap();
        assert!(PluginId::parse(plugin).is_err(), "{plugin}");
        assert!(PluginId::parse("trial").is_ok());
    }
}
