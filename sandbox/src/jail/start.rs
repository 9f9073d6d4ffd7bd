//! P5 to P8: everything that is ready before the reaper runs, and starting it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pinfold_policy::{Control, Wanted};
use pinfold_reaper::plan::{Fault, Identities, Landlock, Settings, Wish, resource};
use pinfold_reaper::step::Step;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::channels::{Channels, Given};
use super::core_dumps;
use super::error::{During, JailError, inject};
use super::layout::{self, Handles, TMP_INODES};
use super::mounts::{INERT_WITHOUT_LINKS, Memory};
use super::reaper::Reaper;
use super::starting::Starting;
use super::{Ids, JailSpec, STAGE_DIRECTORY, USER_MODE_ID};
use crate::plan::{self, PlanWriter};
use crate::sys::{self, clone, slice};

/// The run directory holds sockets and nothing else.
const RUN_SIZE_BYTES: u64 = 64 * 1024;
const RUN_INODES: u32 = 32;
/// The plugin's group makes sockets in it and cannot list it.
const RUN_MODE: u32 = 0o730;
const PRIVATE_MODE: u32 = 0o700;

/// The plugin dies before the launcher does when the machine is out of memory.
const OOM_SCORE_ADJ: i32 = 500;

/// How long the threads of a jail run at a time that may have less than a processor. The kernel's own
/// is a few milliseconds at most: everybody else who wakes up comes before them, while as much time is
/// theirs as before.
const SLICE: Duration = Duration::from_millis(10);

/// Limits that no policy changes; see getrlimit(2).
const FIXED_LIMITS: [(u32, u64); 7] = [
    (resource::LOCKED_MEMORY, 0),
    (resource::MESSAGE_QUEUES, 0),
    (resource::PENDING_SIGNALS, 128),
    (resource::NICE, 0),
    (resource::REAL_TIME_PRIORITY, 0),
    (resource::LOCKS, 1024),
    (resource::STACK, 8 * 1024 * 1024),
];

/// Starts a jail, from P5 to P8. Returns when the reaper executes; what it does then is told by
/// [`Starting`]. `reaper` is what [`super::sealed_reaper`] gave.
///
/// The calling thread is the jail's parent: when it ends, so does the jail.
///
/// # Errors
/// [`JailError::Step`] and [`JailError::Plan`]; nothing is left behind.
pub fn start(reaper: BorrowedFd<'_>, spec: &JailSpec) -> Result<Starting, JailError> {
    start_planned(reaper, spec, None)
}

/// The same with a step that fails on purpose: how tests see that each failure is told and leaves
/// nothing behind.
///
/// # Errors
/// Those of [`start`].
pub fn start_with_fault(
    reaper: BorrowedFd<'_>,
    spec: &JailSpec,
    fault: Fault,
) -> Result<Starting, JailError> {
    start_planned(reaper, spec, Some(fault))
}

fn start_planned(
    reaper: BorrowedFd<'_>,
    spec: &JailSpec,
    fault: Option<Fault>,
) -> Result<Starting, JailError> {
    let deadline = Instant::now() + spec.deadline;
    let mut missing = Vec::new();
    let landlock = landlock(spec, &mut missing)?;
    inject(fault, Step::P5)?;
    let (run_directory, tmp_directory) = own_directories(spec)?;
    inject(fault, Step::P6)?;
    let handles = Handles::open(spec, run_directory.as_fd(), tmp_directory.as_fd())?;
    inject(fault, Step::P7)?;
    let channels = Channels::open()?;
    let plan = write_plan(spec, &handles, landlock.as_ref(), fault)
        .and_then(|bytes| {
            plan::seal(
                "pinfold-plan",
                &bytes,
                MemfdFlags::empty(),
                SealFlags::empty(),
            )
            .map_err(plan::PlanError::Seal)
        })
        .map_err(JailError::Plan)?;
    inject(fault, Step::P8)?;
    let reaper = clone(reaper, spec, &plan, &channels.given, &handles)?;
    let starting = Starting::new(
        reaper,
        channels.kept,
        run_directory,
        tmp_directory,
        missing,
        deadline,
    )?;
    Ok(starting.failing(fault))
}

/// P5: the run directory and the template's temporary one.
fn own_directories(spec: &JailSpec) -> Result<(OwnedFd, OwnedFd), JailError> {
    let (id, run_mode) = match spec.ids {
        Ids::Root { plugin, .. } => (plugin, RUN_MODE),
        Ids::User => (0, PRIVATE_MODE),
    };
    let run = Memory {
        size_bytes: RUN_SIZE_BYTES,
        inodes: RUN_INODES,
        mode: run_mode,
        uid: 0,
        gid: id,
    };
    let tmp = Memory {
        size_bytes: spec.limits.tmp.0,
        inodes: TMP_INODES,
        mode: PRIVATE_MODE,
        uid: id,
        gid: id,
    };
    Ok((
        run.mount(INERT_WITHOUT_LINKS)
            .during(Step::P5, "run directory")?,
        tmp.mount(INERT_WITHOUT_LINKS)
            .during(Step::P5, "temporary directory")?,
    ))
}

/// What of Landlock there is for this jail.
fn landlock(
    spec: &JailSpec,
    missing: &mut Vec<(Control, String)>,
) -> Result<Option<Landlock>, JailError> {
    if spec.landlock == Wanted::Off {
        return Ok(None);
    }
    let version = sys::landlock::abi()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOSYS))
        .during(Step::C8, "ask for the version of landlock");
    match version {
        Ok(abi) => {
            let mut handled = super::landlock::handled(abi);
            if !spec.loopback {
                handled.network = handled.reaper_network;
            }
            Ok(Some(handled))
        }
        Err(error) if spec.landlock == Wanted::Preferred => {
            missing.push((Control::Landlock, error.to_string()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn write_plan(
    spec: &JailSpec,
    handles: &Handles,
    landlock: Option<&Landlock>,
    fault: Option<Fault>,
) -> Result<Vec<u8>, plan::PlanError> {
    let (identities, plugin_id, processes) = match spec.ids {
        // Two generations share the id during a reload; the group's limit is the tighter one.
        Ids::Root { plugin, reaper } => (
            Identities::Root { plugin, reaper },
            plugin,
            spec.limits.processes.saturating_mul(2),
        ),
        Ids::User => {
            let identities = Identities::User {
                inside: USER_MODE_ID,
            };
            (identities, USER_MODE_ID, spec.limits.processes)
        }
    };
    let mut plan = PlanWriter::new(&Settings {
        identities,
        tasks: u32::try_from(spec.groups.v1_tasks.len()).unwrap_or(u32::MAX),
        mounts: handles.count(),
        network: spec.network.is_some(),
        loopback: spec.loopback,
        cgroup_namespace: late_cgroup_namespace(spec),
        processes,
        oom_score_adj: OOM_SCORE_ADJ,
        proc: wish(spec.proc),
        whole_proc: spec.whole_proc,
        memfd_noexec: wish(spec.memfd_noexec),
        user_namespace: wish(spec.user_namespace),
        landlock: landlock.map_or(Wish::Off, |_| wish(spec.landlock)),
        write_xor_execute: wish(spec.write_xor_execute),
        time_namespace: wish(spec.time_namespace),
        core_scheduling: wish(spec.core_scheduling),
        filter_listener: spec.filter_listener,
        fault,
    })?;
    plan.limit(resource::CORE, core_dumps::limit());
    for (resource, value) in FIXED_LIMITS {
        plan.limit(resource, value);
    }
    plan.limit(resource::FILES, u64::from(spec.limits.files));
    plan.limit(resource::FILE_SIZE, spec.limits.file_size.0);
    for number in &spec.limits.cpu_affinity {
        plan.processor(*number);
    }
    layout::write(spec, handles, plugin_id, &mut plan)?;
    plan.host_name(spec.plugin.as_str())?;
    plan.working_directory(&spec.working_directory)?;
    let entry = format!("{STAGE_DIRECTORY}/{}", spec.entry);
    let runtime = spec.runtime.as_ref().map(|runtime| &runtime.named);
    match runtime.and_then(|runtime| Some((runtime, runtime.interpreter.as_ref()?))) {
        Some((runtime, interpreter)) => {
            plan.entry(interpreter)?;
            plan.argument(interpreter)?;
            for argument in &runtime.args {
                plan.argument(argument)?;
            }
        }
        None => plan.entry(&entry)?,
    }
    plan.argument(&entry)?;
    for argument in &spec.args {
        plan.argument(argument)?;
    }
    for (name, value) in &spec.env {
        plan.variable(name, value)?;
    }
    if let Some(landlock) = landlock {
        super::landlock::write(spec, landlock, &mut plan)?;
    }
    plan.filter(&spec.filter)?;
    for port in &spec.listeners {
        plan.listener(*port);
    }
    plan.finish()
}

fn wish(wanted: Wanted) -> Wish {
    match wanted {
        Wanted::Required => Wish::Required,
        Wanted::Preferred => Wish::Preferred,
        Wanted::Off => Wish::Off,
    }
}

/// A cgroup namespace made before the v1 groups were entered has the wrong root for them.
fn late_cgroup_namespace(spec: &JailSpec) -> bool {
    !spec.groups.v1_tasks.is_empty()
}

/// P8.
fn clone(
    reaper: BorrowedFd<'_>,
    spec: &JailSpec,
    plan: &OwnedFd,
    given: &Given,
    handles: &Handles,
) -> Result<Reaper, JailError> {
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spec.network.is_none() {
        namespaces |= libc::CLONE_NEWNET;
    }
    if !late_cgroup_namespace(spec) {
        namespaces |= libc::CLONE_NEWCGROUP;
    }
    // In the order of `pinfold_reaper::plan::descriptor`.
    let null = given.null.as_fd();
    let mut descriptors = vec![null, null, null, plan.as_fd()];
    for end in [&given.status, &given.life, &given.stdout, &given.stderr] {
        descriptors.push(end.as_fd());
    }
    descriptors.extend(spec.groups.v1_tasks.iter().map(AsFd::as_fd));
    descriptors.extend(handles.descriptors());
    descriptors.extend(spec.network.as_ref().map(AsFd::as_fd));
    let slice = (spec.limits.cpu.percent < 100).then_some(SLICE);
    let started = slice::with(slice, || {
        clone::start(&clone::Start {
            program: reaper,
            name: c"pinfold-reaper",
            namespaces,
            group: spec.groups.v2_dir.as_ref().map(AsFd::as_fd),
            descriptors: &descriptors,
        })
    });
    match started {
        Ok(started) => Ok(Reaper::new(started.pid, started.pidfd)),
        Err(failure) => Err(failure.errno).during(Step::P8, failure.call),
    }
}
