//! `Launch`: from a request to a running jail. Everything about the jail is read here, from the
//! files of the launcher's own configuration; the request only chooses among them.

mod half;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pinfold_policy::{
    Control, Digest, Exec, Generation, InstanceId, LaunchTemplate, Moment, PluginId, PolicyFile,
    ProcView, TemplateError, TemplateInput, Wanted,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use self::half::Half;
use super::controls::{self, Findings, Tried, control_of};
use super::decide::{Basis, Question, decide};
use super::ending::ends_soon;
use super::files::{Filter, Policy, ProfileUse};
use super::given::{Ends, Given};
use super::ground::Ground;
use super::handover::Whose;
use super::instance::{Instance, Phase, Running};
use super::mounts::MountError;
use super::quota::Uncounted;
use super::reading::{self, Reading, WentBy};
use super::watching::{self, Watcher};
use super::{failure, log, quota};
use crate::cgroup::{self, Disk, WatchKind};
use crate::jail::{self, Ids, Jail, JailError, JailSpec, Progress, Starting, Step};
use crate::posture;
use crate::protocol::{Failure, FailureKind, Launched, ListenerPurpose, RequestId};
use crate::stage::{Signatures, Stage};

/// Time for the set-up of a jail.
const SET_UP: Duration = Duration::from_secs(5);

/// Most instances at a time, those that start included.
pub(super) const INSTANCES_LIMIT: usize = 1024;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Wanting {
    pub(super) request: RequestId,
    pub(super) plugin: PluginId,
    pub(super) generation: Generation,
    pub(super) digest: Digest,
    pub(super) values: BTreeMap<String, String>,
}

/// A jail that starts, and what its answer needs.
#[derive(Debug)]
pub(super) struct Launching {
    pub(super) request: RequestId,
    starting: Starting,
    spec: JailSpec,
    policy: Policy,
    basis: Basis,
    missing: Vec<Control>,
    went_by: WentBy,
    /// What the spec's listeners are for, in their order.
    purposes: Vec<ListenerPurpose>,
    watched_until: Option<Moment>,
    /// Until it can begin to be watched.
    watch: Option<watching::Plan>,
    watcher: Option<Watcher>,
}

impl Launching {
    pub(super) fn deadline(&self) -> Instant {
        self.starting.deadline()
    }

    pub(super) fn status(&self) -> BorrowedFd<'_> {
        self.starting.status_fd()
    }

    /// Takes in what the jail says; the answer once it runs.
    pub(super) fn on_readable(&mut self) -> Result<Option<Jail>, Failure> {
        match self.starting.on_readable() {
            Ok(Progress::Pending) => {
                self.begin_to_watch()?;
                Ok(None)
            }
            Ok(Progress::Ready(jail)) => Ok(Some(jail)),
            Err(error) => Err(start_failure(&error, &self.policy.file)),
        }
    }

    /// The plugin has installed its filter, and waits until somebody answers for it.
    fn begin_to_watch(&mut self) -> Result<(), Failure> {
        let Some(listener) = self.starting.filter_listener() else {
            return Ok(());
        };
        if let Some(plan) = self.watch.take() {
            let watcher = Watcher::start(plan, listener).map_err(|error| {
                failure::new(FailureKind::Host, format!("watch a run: {error}"))
            })?;
            self.watcher = Some(watcher);
        }
        Ok(())
    }

    /// The failure of a jail that was not ready in time.
    pub(super) fn on_deadline(self) -> Failure {
        let error = self.starting.on_deadline();
        start_failure(&error, &self.policy.file)
    }

    /// P10 and P11: looks at the jail from outside, and makes the answer. Where another daemon may have
    /// to be given the same, `hold` says so.
    pub(super) fn answer(
        self,
        instance: InstanceId,
        mut jail: Jail,
        hold: bool,
    ) -> Result<(Running, Launched), Failure> {
        let pid_namespace = match jail.look(&self.spec) {
            Ok(()) => pid_namespace(jail.plugin_pid),
            // It ran and has ended by itself; why is in its output and in its status.
            Err(JailError::Gone) => None,
            // One that is ending looks like nothing that was planned until it has ended.
            Err(_) if ends_soon(&jail.plugin, jail.plugin_pid) => None,
            Err(error) => return Err(start_failure(&error, &self.policy.file)),
        };
        let mut missing = self.missing;
        for (control, reason) in &jail.missing {
            log::line(&format!(
                "instance {instance} of {}: no {control}: {reason}",
                self.spec.plugin
            ));
            if !missing.contains(control) {
                missing.push(*control);
            }
        }
        missing.sort_unstable();
        let given = Given {
            policy: self.policy,
            tmp_directory: self.spec.tmp_directory,
            missing,
            went_by: self.went_by,
            purposes: self.purposes,
        };
        // A watched run is the daemon's that had it watched.
        let hold = hold && self.watched_until.is_none();
        let ends = match hold {
            true => Ends::Shared,
            false => Ends::Moved,
        };
        let listening = self.spec.listeners;
        let trust = self.basis.to_string();
        let launched = Launched {
            watched_until: self.watched_until,
            ..given.launched(instance, (&mut jail, &listening), trust, ends)?
        };
        let network = self.spec.network.or_else(|| network_of(&jail));
        let running = Running {
            jail,
            pid_namespace,
            network,
            loopback: self.spec.loopback,
            listening,
            watcher: self.watcher,
            held: hold.then(|| Box::new(given)),
        };
        Ok((running, launched))
    }
}

/// The network namespace of a jail that made its own. The reaper never leaves it, and its number is
/// its own until it is reaped, which it is not yet.
fn network_of(jail: &Jail) -> Option<OwnedFd> {
    let path = format!("/proc/{}/ns/net", jail.reaper.pid());
    std::fs::File::open(path).ok().map(OwnedFd::from)
}

/// P1: reads the plugin's policy, and decides by it and the keys of now whether this stage may run.
pub(super) fn judge(
    ground: &Ground,
    plugin: &PluginId,
    staged: Digest,
    signatures: &Signatures,
) -> Result<(Policy, Basis), Failure> {
    let policy = ground
        .files
        .policy(plugin)
        .map_err(|error| failure::of_files(&error))?;
    let question = Question {
        plugin,
        policy: &policy.file,
        staged,
        signatures,
        require_signatures: ground.require_signatures,
        now: ground.clock.now(),
    };
    match decide(&question, &ground.files.keys) {
        Ok(basis) => Ok((policy, basis)),
        Err(untrusted) => {
            let message = format!("plugin \"{plugin}\": {}", log::chain(&untrusted));
            let failure = failure::new(FailureKind::Trust, message);
            Err(match untrusted.hint(plugin) {
                Some(hint) => failure::with_hint(failure, hint),
                None => failure,
            })
        }
    }
}

/// What of a launch can be done when a plugin has been staged: its user id, which is on disk before
/// it is used, its lasting directory, and its filter. Gives what of that directory is to be counted.
/// Where something of it cannot be done, the launch says so.
pub(super) fn prepare(
    ground: &mut Ground,
    findings: &Findings,
    plugin: &PluginId,
) -> Option<Uncounted> {
    let policy = ground.files.policy(plugin).ok()?;
    let file = &policy.file;
    let template = ground.files.template(&file.dialect).ok()?;
    drop(ground.files.filter(ProfileUse::of(file)));
    let uid = ground.uids.as_mut().map(|uids| uids.plugin(plugin));
    let uid = uid.transpose().ok()?;
    let directory = template
        .state
        .then(|| ground.state_of(plugin.as_str(), uid).ok());
    quota::uncounted(findings, plugin, file, directory??, uid)
}

/// P1 to P8.
pub(super) fn start(
    ground: &mut Ground,
    findings: &Findings,
    (stage, signatures): (Rc<Stage>, Rc<Signatures>),
    id: InstanceId,
    wanting: Wanting,
) -> Result<Instance, Failure> {
    let plugin = &wanting.plugin;
    let (policy, basis) = judge(ground, plugin, stage.digest(), &signatures)?;
    let file = &policy.file;
    if policy.is_development && !file.mounts.is_empty() {
        return Err(failure::of(FailureKind::Policy, &MountError::Development));
    }
    let Reading {
        template,
        filter,
        runtime,
        mounts,
        digest,
    } = reading::read(ground, plugin, file)?;
    let env = template
        .environment(TemplateInput {
            plugin,
            granted: &file.permissions,
            policy_env: &file.env,
            from_daemon: &wanting.values,
            host_env: &ground.host_env,
        })
        .map_err(|error| template_failure(&error))?;
    check_loopback(&template, file)?;
    let is_interpreted = runtime
        .as_ref()
        .is_some_and(|runtime| runtime.interpreter.is_some());
    check_entry(&stage, &file.entry, is_interpreted)?;

    let host = |what: &str, error: &dyn std::error::Error| {
        failure::new(FailureKind::Host, format!("{what}: {}", log::chain(error)))
    };
    let own_stage = stage
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| host("copy the stage's handle", &error))?;
    let uid = match &mut ground.uids {
        Some(uids) => Some(
            uids.plugin(plugin)
                .map_err(|error| host("user id", &error))?,
        ),
        None => None,
    };
    let state = match template.state {
        true => Some(
            ground
                .state_of(plugin.as_str(), uid)
                .map_err(|error| host("the plugin's lasting directory", &error))?,
        ),
        false => None,
    };
    let this: Findings = quota::limit(findings, file, state.as_ref(), uid)
        .map(|tried| (Control::StateQuota, tried))
        .into_iter()
        .collect();
    let limits = group_limits(file, ground.disk.as_ref().ok().copied());
    let (leaf, applied) = ground
        .groups
        .leaf(&format!("{plugin}-{id}"), &limits)
        .map_err(|error| host("control group", &error))?;
    let mut half = Half {
        leaf: Some(leaf),
        reaper_uid: None,
        ground,
    };
    let mut missing = controls::missing(findings, &applied, &this, half.ground.mode, file)?;
    let of = (plugin, wanting.generation);
    let watch = watching::plan(half.ground, findings, (&filter, file), of)?;
    let (filter, filter_listener) = match &watch {
        Some(plan) => (&*plan.filter, true),
        None => choose(&filter, findings, file, &mut missing)?,
    };
    let ids = half.ids(uid)?;
    let network = half.network(file)?;
    let (purposes, listeners) = listeners(&template, file).into_iter().unzip();
    let spec = JailSpec {
        plugin: plugin.clone(),
        instance: id,
        stage: own_stage,
        entry: file.entry.clone(),
        executes_stage: file.exec == Exec::Stage,
        args: file.args.clone(),
        runtime,
        mounts,
        env,
        working_directory: template.working_directory.clone(),
        tmp_directory: template.tmp_directory(plugin),
        links: template.links(plugin).collect(),
        state,
        ids,
        limits: file.limits.clone(),
        filter: filter.to_vec(),
        filter_listener,
        groups: half.group_files()?,
        network,
        loopback: file.loopback,
        listeners,
        user_namespace: user_namespace(ids, findings, file),
        landlock: file.wanted(Control::Landlock),
        write_xor_execute: file.wanted(Control::WriteXorExecute),
        time_namespace: file.wanted(Control::TimeNamespace),
        core_scheduling: file.wanted(Control::CoreScheduling),
        proc: file.wanted(Control::Proc),
        whole_proc: file.proc == ProcView::Full,
        memfd_noexec: file.wanted(Control::MemfdNoexec),
        deadline: SET_UP,
    };
    let memory = match half
        .leaf
        .as_ref()
        .map(|leaf| leaf.watch(WatchKind::OutOfMemory))
    {
        Some(Ok(watch)) => watch,
        Some(Err(error)) => return Err(host("watch the memory limit", &error)),
        None => None,
    };
    let starting = jail::start(half.ground.reaper.as_fd(), &spec)
        .map_err(|error| start_failure(&error, file))?;
    log::line(&format!(
        "instance {id} of {plugin}, generation {}, starts from {}: {basis}",
        wanting.generation,
        stage.digest()
    ));
    let watched_until = watch.as_ref().map(|plan| plan.until);
    let watch_ends = watch.as_ref().map(|plan| plan.begins(half.ground, id));
    let (leaf, reaper_uid) = half.whole()?;
    Ok(Instance {
        plugin: plugin.clone(),
        generation: wanting.generation,
        stage,
        leaf,
        memory,
        uid: uid.unwrap_or(0),
        reaper_uid,
        pass_rights: file.wanted(Control::PassRights),
        phase: Phase::Starting(Box::new(Launching {
            request: wanting.request,
            starting,
            spec,
            policy,
            basis,
            missing,
            went_by: WentBy {
                digest,
                applied,
                this,
            },
            purposes,
            watched_until,
            watch,
            watcher: None,
        })),
        asked: None,
        refused: None,
        reason: None,
        memory_killed: false,
        memory_look: None,
        kill_again: None,
        watched_until: watch_ends,
        whose: Whose::Daemons,
    })
}

/// The form of a filter that tells what it refuses, where that is wanted and can be had; and
/// whether it is that one.
fn choose<'f>(
    filter: &'f Filter,
    findings: &Findings,
    file: &PolicyFile,
    missing: &mut Vec<Control>,
) -> Result<(&'f [u8], bool), Failure> {
    let control = Control::SyscallNames;
    let wanted = file.wanted(control);
    let is_there = findings
        .get(&control)
        .is_some_and(|tried| tried.state.satisfies());
    match (&filter.telling, wanted) {
        (_, Wanted::Off) => {}
        (_, Wanted::Preferred) if !is_there => {}
        (Some(telling), _) => return Ok((telling, true)),
        (None, Wanted::Preferred) => missing.push(control),
        (None, Wanted::Required) => {
            let reason = format!("the profile {:?} does not allow sendmsg", file.profile);
            return Err(controls::refused(control, &Tried::missing(reason)));
        }
    }
    Ok((&filter.killing, false))
}

/// One that is only preferred is not begun where the probe could not make one whole: what a system
/// allows to be made and then to hold no right cannot be left again.
fn user_namespace(ids: Ids, findings: &Findings, file: &PolicyFile) -> Wanted {
    let control = Control::UserNamespace;
    let is_there = findings
        .get(&control)
        .is_some_and(|tried| tried.state.satisfies());
    match (ids, file.wanted(control)) {
        (Ids::User, _) => Wanted::Required,
        (Ids::Root { .. }, Wanted::Preferred) if !is_there => Wanted::Off,
        (Ids::Root { .. }, wanted) => wanted,
    }
}

/// A jail without loopback has no way out for HTTP of the plugin's own.
fn check_loopback(template: &LaunchTemplate, file: &PolicyFile) -> Result<(), Failure> {
    match listeners(template, file) {
        Some((ListenerPurpose::HttpProxy, port)) if !file.loopback => {
            let message = format!(
                "loopback = false, and the way out for the HTTP that is granted listens there, on \
                 port {port} by the launch template of dialect {:?}",
                file.dialect
            );
            let failure = failure::new(FailureKind::Policy, message);
            let hint = "take permissions.http away, or let the plugin have its loopback";
            Err(failure::with_hint(failure, hint))
        }
        _ => Ok(()),
    }
}

/// What listens in the jail's network: the way out, where HTTP is granted and the dialect has a port
/// for it.
fn listeners(template: &LaunchTemplate, file: &PolicyFile) -> Option<(ListenerPurpose, u16)> {
    let port = template.http_proxy_port?;
    (!file.permissions.http.is_empty()).then_some((ListenerPurpose::HttpProxy, port.get()))
}

/// Limits of the group; those that are not wanted are not set. One process more than the policy
/// says is the jail's own process 1.
fn group_limits(file: &PolicyFile, disk: Option<Disk>) -> cgroup::Limits {
    let is_wanted = |control| file.wanted(control) != Wanted::Off;
    cgroup::Limits {
        memory_bytes: is_wanted(Control::Memory).then_some(file.limits.memory.0),
        cpu_percent: is_wanted(Control::Cpu).then_some(file.limits.cpu.percent),
        pids: is_wanted(Control::Processes).then(|| u64::from(file.limits.processes) + 1),
        io: disk
            .filter(|_| is_wanted(Control::Io))
            .map(|disk| cgroup::IoLimits {
                disk,
                read_bytes: file.limits.io.read.map(|size| size.0),
                write_bytes: file.limits.io.write.map(|size| size.0),
                read_operations: file.limits.io.read_ops,
                write_operations: file.limits.io.write_ops,
            }),
        devices: is_wanted(Control::Devices),
    }
}

/// The entry must be in the stage, a regular file; with an execute bit, unless it is only read.
fn check_entry(stage: &Stage, entry: &str, is_interpreted: bool) -> Result<(), Failure> {
    let refuse = |why: String| {
        let message = format!("entry {entry:?} of the policy {why}");
        failure::with_hint(
            failure::new(FailureKind::Stage, message),
            "the policy's entry is a path below the plugin's directory",
        )
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(stage, entry, flags, Mode::empty(), resolve);
    let opened = opened.map_err(|errno| {
        let error = std::io::Error::from(errno);
        refuse(format!("cannot be opened in the plugin's files: {error}"))
    })?;
    let stat = rustix::fs::fstat(&opened)
        .map_err(|errno| failure::of(FailureKind::Host, &std::io::Error::from(errno)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse("is no regular file".into()));
    }
    if stat.st_mode & 0o111 == 0 && !is_interpreted {
        return Err(refuse(
            "is not executable: its execute bit is not set".into(),
        ));
    }
    Ok(())
}

fn template_failure(error: &TemplateError) -> Failure {
    let kind = match error {
        TemplateError::NotFromDaemon { .. }
        | TemplateError::DaemonValue { .. }
        | TemplateError::DaemonValues { .. } => FailureKind::Request,
        _ => FailureKind::Policy,
    };
    failure::of(kind, error)
}

/// A step that failed is the plugin's, a control's or the machine's.
fn start_failure(error: &JailError, file: &PolicyFile) -> Failure {
    if let Some(control) = error.step().and_then(control_of)
        && file.wanted(control) == Wanted::Required
    {
        return controls::refused(
            control,
            &Tried {
                state: posture::State::Missing,
                how: String::new(),
                reason: log::chain(error),
            },
        );
    }
    let kind = match error.step() {
        Some(Step::C12) => FailureKind::Plugin,
        _ => FailureKind::Host,
    };
    failure::of(kind, error)
}

/// Device and inode of a process's PID namespace.
pub(super) fn pid_namespace(pid: i32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// The descriptor that the daemon gets for a stage.
pub(super) fn root_of(stage: &Stage) -> Result<OwnedFd, Failure> {
    stage
        .root()
        .map_err(|error| failure::of(FailureKind::Host, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_names_the_required_control_and_the_reason() {
        let policy = |wanted: &str| {
            let text = format!(
                "schema = 1\ndialect = 'goatflow'\nentry = 'x'\n[trust]\nunsigned = true\n\
                 [controls]\nlandlock = '{wanted}'\nuser-namespace = '{wanted}'\n\
                 write-xor-execute = '{wanted}'\n"
            );
            PolicyFile::parse(text.as_bytes()).unwrap()
        };
        for (step, control) in [
            (Step::C5, "user-namespace"),
            (Step::C8, "landlock"),
            (Step::C9, "write-xor-execute"),
        ] {
            let error = JailError::Step {
                step,
                detail: "try".to_owned(),
                errno: libc::EPERM,
            };
            let reason = format!("{step}: try: operation not permitted (EPERM)");
            let refused = start_failure(&error, &policy("required"));
            assert_eq!(refused.kind, FailureKind::Control);
            assert_eq!(
                refused.message,
                format!("control {control} is required and missing: {reason}")
            );
            let failed = start_failure(&error, &policy("preferred"));
            assert_eq!((failed.kind, failed.message), (FailureKind::Host, reason));
        }
    }
}
