//! What this machine gives: each control that this version has, tried for real and alone, each in a
//! child of its own. A file that exists, or a kernel's version, proves nothing.

mod attempts;
mod host;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pinfold_policy::Control;
use rustix::fs::{MemfdFlags, memfd_create};

use super::controls::{self, Findings, Tried};
use super::files::Filter;
use crate::cgroup::{CgroupError, Parent};
use crate::posture::{Mode, State};
use crate::sys::child::{self, Child, Ended};

pub(super) use host::advice;

/// Longest time that the whole probe may take; it takes some tens of milliseconds.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Longest account of a probe: a line for each control.
const ACCOUNT_LIMIT_BYTES: u64 = 64 * 1024;

/// What the attempts need to know.
#[derive(Clone, Debug)]
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
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probing {
    child: Child,
    account: File,
    mode: Mode,
    pub(super) deadline: Instant,
}

impl Probing {
    /// Starts the child that makes all attempts, one after the other.
    pub(super) fn start(setting: Setting) -> io::Result<Self> {
        let account = File::from(memfd_create("pinfold-probe", MemfdFlags::CLOEXEC)?);
        let mode = setting.mode;
        let child = child::spawn(&[account.as_fd()], || match run(&setting, &account) {
            Ok(()) => 0,
            Err(_) => 1,
        })?;
        Ok(Self {
            child,
            account,
            mode,
            deadline: Instant::now() + PROBE_LIMIT,
        })
    }

    /// The findings, once the child has ended; waits for it if it has not.
    pub(super) fn finish(mut self, groups: &Parent) -> io::Result<Findings> {
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
        let mut findings: Findings = text.lines().filter_map(read_line).collect();
        match of_groups(groups, self.mode) {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let reason = super::log::chain(&error);
                for control in GROUP_CONTROLS {
                    findings.insert(control, Tried::missing(reason.clone()));
                }
            }
        }
        controls::add_not_built(&mut findings);
        Ok(findings)
    }

    pub(super) fn descriptor(&self) -> impl AsFd + '_ {
        self.child.pidfd()
    }
}

const GROUP_CONTROLS: [Control; 5] = [
    Control::Memory,
    Control::MemoryGroupKill,
    Control::Cpu,
    Control::Processes,
    Control::GroupKill,
];

/// The controls of groups are tried by the launcher itself, which holds the parent group: a group
/// with limits is made and removed again.
fn of_groups(groups: &Parent, mode: Mode) -> Result<Findings, CgroupError> {
    let applied = groups.probe()?;
    Ok(applied
        .iter()
        .filter_map(|one| Some((one.control, Tried::group(one, mode)?)))
        .collect())
}

fn run(setting: &Setting, mut account: &File) -> io::Result<()> {
    for (control, tried) in attempts::all(setting) {
        let state = match tried.state {
            State::Enforced => "enforced",
            State::Partial => "partial",
            State::Missing => "missing",
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
