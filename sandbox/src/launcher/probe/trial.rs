//! A whole launch: what each attempt shows of one control alone, this sees of all together. A built-in
//! program is started by the very steps that start plugins, is looked at from outside like one, and
//! does what no plugin must be able to do; then it says what came of each act.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::{ByteSize, Control, InstanceId, Limits, PluginId, Wanted};
use pinfold_reaper::trial::{ACCOUNT_BYTES, ARGUMENT, Act, LOOKED_AT, PLUGIN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode as FileMode, OFlags};

use super::Setting;
use super::judge::judge;
use crate::jail::{
    self, ExitStatus, Fault, GroupFds, Jail, JailError, JailSpec, Progress, Starting,
};
use crate::launcher::controls::{Findings, Tried, control_of};
use crate::stage::{self, Stage};

/// Longest time for the launch, and again for the program. Both together take some milliseconds, and some seconds on an
/// emulated machine that is busy.
const PATIENCE: Duration = Duration::from_secs(8);

/// Processes and threads of the program's jail, and its memory.
pub(super) const PROCESSES: u32 = 8;
pub(super) const MEMORY: ByteSize = ByteSize::mebibytes(64);

/// What came of it.
pub(super) struct Seen {
    /// Of each act, by its number.
    pub(super) outcomes: BTreeMap<u8, i64>,
    /// How the program ended.
    pub(super) end: Option<ExitStatus>,
}

/// Launches the program, and takes out of `found` what did not hold.
pub(super) fn run(setting: &Setting, groups: &GroupFds, found: &mut Findings) -> Tried {
    run_with(setting, groups, found, None)
}

fn run_with(
    setting: &Setting,
    groups: &GroupFds,
    found: &mut Findings,
    fault: Option<Fault>,
) -> Tried {
    let begun = Instant::now();
    let (spec, stage) = match spec(setting, groups, found) {
        Ok(made) => made,
        Err(reason) => return Tried::missing(reason),
    };
    let launched = launch(setting, &spec, found, fault);
    // Until here: where it is attached, it is so for as long as it lives.
    drop(stage);
    let seen = match launched {
        Ok(seen) => seen,
        Err(error) => {
            let reason = format!(
                "a whole launch failed: {}",
                super::super::log::chain(&error)
            );
            if let Some(control) = error.step().and_then(control_of) {
                found.insert(control, Tried::missing(reason.clone()));
            }
            return Tried::missing(reason);
        }
    };
    let failures = judge(&seen, &spec, found);
    for (control, reason) in &failures {
        if let Some(control) = control {
            let reason = format!("in a whole launch: {reason}");
            found.insert(*control, Tried::missing(reason));
        }
    }
    if failures.is_empty() {
        let millis = begun.elapsed().as_secs_f64() * 1e3;
        return Tried::enforced(format!("{} acts in {millis:.1} ms", Act::ALL.len()));
    }
    let reasons: Vec<String> = failures.into_iter().map(|(_, reason)| reason).collect();
    Tried::missing(reasons.join("; "))
}

/// As the defaults of policies have it, with every control that was found.
fn spec(
    setting: &Setting,
    groups: &GroupFds,
    found: &Findings,
) -> Result<(JailSpec, Stage), String> {
    let filter = setting.filter.as_ref().map_err(Clone::clone)?;
    let ids = setting.trial_ids.clone()?;
    let wanted = |control: Control| {
        let is_there = found
            .get(&control)
            .is_some_and(|tried| tried.state.satisfies());
        match is_there {
            true => Wanted::Preferred,
            false => Wanted::Off,
        }
    };
    let stage = stage::built_in(ARGUMENT, jail::reaper_program(), &setting.attach_dir)
        .map_err(|(step, error)| format!("stage the program: {step}: {error}"))?;
    let copied = |error: io::Error| format!("copy a descriptor: {error}");
    let spec = JailSpec {
        plugin: PluginId::parse(PLUGIN).map_err(|error| error.to_string())?,
        instance: InstanceId(0),
        stage: stage.as_fd().try_clone_to_owned().map_err(copied)?,
        entry: ARGUMENT.to_owned(),
        executes_stage: false,
        args: vec![ARGUMENT.to_owned()],
        runtime: None,
        mounts: Vec::new(),
        env: BTreeMap::new(),
        working_directory: "/".to_owned(),
        tmp_directory: "/tmp/own".to_owned(),
        links: Vec::new(),
        state: None,
        ids,
        limits: Limits {
            memory: MEMORY,
            processes: PROCESSES,
            ..Limits::default()
        },
        filter: filter.killing.to_vec(),
        filter_listener: false,
        groups: copy(groups).map_err(copied)?,
        network: None,
        loopback: true,
        listeners: Vec::new(),
        user_namespace: wanted(Control::UserNamespace),
        landlock: wanted(Control::Landlock),
        write_xor_execute: wanted(Control::WriteXorExecute),
        time_namespace: wanted(Control::TimeNamespace),
        core_scheduling: wanted(Control::CoreScheduling),
        proc: wanted(Control::Proc),
        whole_proc: false,
        memfd_noexec: wanted(Control::MemfdNoexec),
        deadline: PATIENCE,
    };
    Ok((spec, stage))
}

fn copy(groups: &GroupFds) -> io::Result<GroupFds> {
    let copied = |one: &OwnedFd| one.try_clone();
    Ok(GroupFds {
        v1_tasks: groups
            .v1_tasks
            .iter()
            .map(copied)
            .collect::<Result<_, _>>()?,
        v2_dir: groups.v2_dir.as_ref().map(copied).transpose()?,
    })
}

fn launch(
    setting: &Setting,
    spec: &JailSpec,
    found: &mut Findings,
    fault: Option<Fault>,
) -> Result<Seen, JailError> {
    let reaper = setting.reaper.as_fd();
    let jail = ready(match fault {
        Some(fault) => jail::start_with_fault(reaper, spec, fault)?,
        None => jail::start(reaper, spec)?,
    })?;
    for (control, reason) in &jail.missing {
        let reason = format!("in a whole launch: {reason}");
        found.insert(*control, Tried::missing(reason));
    }
    let mut accounts = Accounts::of(&jail);
    // Of all but the last act: before that one it waits to be looked at.
    accounts.read(Act::ALL.len() - 1);
    jail.look(spec)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let mode = FileMode::from_raw_mode(0o644);
    // Without it the program gives up, which is then seen.
    drop(rustix::fs::openat(
        &jail.run_directory,
        LOOKED_AT,
        flags,
        mode,
    ));
    accounts.read(Act::ALL.len());
    is_ready(&jail.reaper, accounts.deadline);
    Ok(Seen {
        outcomes: accounts.outcomes,
        end: jail.plugin_status(),
    })
}

fn ready(mut starting: Starting) -> Result<Jail, JailError> {
    loop {
        if !is_ready(starting.status_fd(), starting.deadline()) {
            return Err(starting.on_deadline());
        }
        if let Progress::Ready(jail) = starting.on_readable()? {
            return Ok(jail);
        }
    }
}

/// What the program has said.
struct Accounts {
    pipe: Option<File>,
    outcomes: BTreeMap<u8, i64>,
    deadline: Instant,
}

impl Accounts {
    fn of(jail: &Jail) -> Self {
        Self {
            pipe: jail.stdout.try_clone().ok().map(File::from),
            outcomes: BTreeMap::new(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Reads until it has told of so many acts, or has ended, or its time is over.
    fn read(&mut self, count: usize) {
        let Some(pipe) = &mut self.pipe else {
            return;
        };
        while self.outcomes.len() < count && is_ready(&*pipe, self.deadline) {
            let mut account = [0; ACCOUNT_BYTES];
            // Each is written at once, and far smaller than what a pipe keeps together.
            if pipe.read_exact(&mut account).is_err() {
                return;
            }
            let [act, outcome @ ..] = account;
            self.outcomes.insert(act, i64::from_le_bytes(outcome));
        }
    }
}

/// Waits until a descriptor is readable or at its end; false where that is not in time.
fn is_ready(descriptor: impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&left)), Ok(1..))
}

#[cfg(test)]
#[path = "trial/tests.rs"]
mod tests;
