//! The reaper's own steps, R1 to R16, in their order.

use core::ffi::CStr;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CpuSet, UnshareFlags, sched_setaffinity};

use crate::capabilities;
use crate::failure::{During, Failure};
use crate::landlock;
use crate::message::{LIMIT_BYTES, Message, Optional};
use crate::network;
use crate::plan::{Identities, Plan, Wish, descriptor, resource};
use crate::procfs::OwnProc;
use crate::reap;
use crate::root;
use crate::stage;
use crate::step::Step;
use crate::sys::{self, Side};

/// What the steps work on.
pub(crate) struct Setup {
    pub(crate) plan: Plan<'static>,
    /// The reaper's own view of proc, from R8 on where it can be had.
    pub(crate) proc: Option<OwnProc>,
}

/// Sets the jail up, starts the plugin, and reaps until its main process ends.
///
/// The descriptors of [`descriptor`] are open and nothing else is assumed. The process's status is
/// that of the plugin, or 128 and its signal, or [`FAILED`] where a step failed.
pub fn run() -> ! {
    match set_up() {
        Ok(started) => reap::serve(&started),
        Err(failure) => {
            report(&failed(&failure).as_message());
            sys::exit(FAILED)
        }
    }
}

/// Status of a reaper whose set-up failed.
pub(crate) const FAILED: i32 = 70;

impl Setup {
    /// Opens a step: names the process after it, which is what the launcher reads when a deadline
    /// passes, and fails it where the plan says so.
    pub(crate) fn begin(&self, step: Step) -> Result<(), Failure> {
        name_process(step);
        match self.plan.settings().fault {
            Some(fault) if fault.step == step => {
                Err(Errno::from_raw_os_error(fault.errno)).during(step, "fault on purpose")
            }
            _ => Ok(()),
        }
    }

    /// What follows from an optional control that failed.
    pub(crate) fn optional(
        &self,
        wish: Wish,
        control: Optional,
        failure: Failure,
    ) -> Result<(), Failure> {
        if wish == Wish::Required {
            return Err(failure);
        }
        let mut text = Text::new();
        text.describe(&failure);
        let Failure { step, errno, .. } = failure;
        let is_told = report(&Message::Missing {
            control,
            step,
            errno: errno.raw_os_error(),
            text: text.as_bytes(),
        });
        // A control may be missing only where the launcher knows of it.
        match is_told {
            true => Ok(()),
            false => Err(failure),
        }
    }
}

/// Sends a message on the status channel; whether all of it was sent. When the launcher is gone, so is
/// whom to tell.
pub(crate) fn report(message: &Message<'_>) -> bool {
    let mut packet = [0; LIMIT_BYTES];
    let length = message.write(&mut packet);
    let packet = packet.get(..length).unwrap_or_default();
    rustix::io::write(sys::fixed(descriptor::STATUS), packet) == Ok(length)
}

/// Sends a message with a descriptor on the status channel.
pub(crate) fn report_with(message: &Message<'_>, with: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut packet = [0; LIMIT_BYTES];
    let length = message.write(&mut packet);
    let bytes = [rustix::io::IoSlice::new(
        packet.get(..length).unwrap_or_default(),
    )];
    let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let descriptors = [with];
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors));
    let flags = rustix::net::SendFlags::NOSIGNAL;
    rustix::net::sendmsg(sys::fixed(descriptor::STATUS), &bytes, &mut control, flags).map(drop)
}

/// The message for a failed step.
pub(crate) fn failed(failure: &Failure) -> FailedMessage {
    let mut text = Text::new();
    text.describe(failure);
    FailedMessage {
        step: failure.step,
        errno: failure.errno.raw_os_error(),
        text,
    }
}

fn set_up() -> Result<reap::Started, Failure> {
    let bytes = sys::map(sys::fixed(descriptor::PLAN)).during(Step::R1, "map the plan")?;
    let plan = Plan::parse(bytes)
        .map_err(|_| Errno::INVAL)
        .during(Step::R1, "read the plan")?;
    let mut setup = Setup { plan, proc: None };
    sanitise(&setup)?;
    die_with_parent(&setup)?;
    enter_groups(&setup)?;
    let root = root::build(&mut setup)?;
    root::pivot(&setup, &root)?;
    drop(root);
    network::network(&setup)?;
    names(&setup)?;
    keyring(&setup)?;
    limits(&setup)?;
    core_scheduling(&setup)?;
    let started = fork(&setup)?;
    give_up(setup)?;
    Ok(started)
}

fn sanitise(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R1;
    setup.begin(step)?;
    let settings = setup.plan.settings();
    let first_unknown = network_descriptor(setup).saturating_add(i32::from(settings.network));
    sys::close_from(first_unknown, 0).during(step, "close descriptors")?;
    sys::clear_signals().during(step, "reset signals")?;
    sys::clear_personality().during(step, "reset personality")?;
    rustix::process::umask(PRIVATE);
    Ok(())
}

/// Nobody else's: the mask for what is created, but for the files of the root.
pub(crate) const PRIVATE: rustix::fs::Mode = rustix::fs::Mode::from_raw_mode(0o077);

/// Where the network namespace is, if one is given: after everything else.
pub(crate) fn network_descriptor(setup: &Setup) -> i32 {
    let settings = setup.plan.settings();
    let before = i32::try_from(settings.tasks + settings.mounts).unwrap_or(i32::MAX);
    descriptor::FIRST_TASKS.saturating_add(before)
}

fn die_with_parent(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R2;
    setup.begin(step)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .during(step, "not dumpable")?;
    follow_parent(step)
}

/// Asks for SIGKILL when the launcher ends, then looks whether it already has: `getppid` tells
/// nothing in a PID namespace of its own, the pipe does.
fn follow_parent(step: Step) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during(step, "death signal")?;
    let [gone] = sys::wait_readable([descriptor::LIFE], true).during(step, "life pipe")?;
    if gone {
        Err(Errno::PIPE).during(step, "launcher is gone")
    } else {
        Ok(())
    }
}

fn enter_groups(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R3;
    setup.begin(step)?;
    let settings = setup.plan.settings();
    for tasks in (descriptor::FIRST_TASKS..).take(settings.tasks as usize) {
        rustix::io::write(sys::fixed(tasks), b"0").during(step, "enter control group")?;
    }
    if settings.cgroup_namespace {
        sys::unshare(UnshareFlags::NEWCGROUP).during(step, "cgroup namespace")?;
    }
    // Outside a group of its own a new session is a group for the scheduler (sched(7), autogroup): in
    // this order there is one move, after which others run first, and not three.
    rustix::process::setsid()
        .during(step, "new session")
        .map(drop)
}

fn names(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R12;
    setup.begin(step)?;
    let host = setup.plan.host_name().to_bytes();
    rustix::system::sethostname(host).during(step, "host name")?;
    rustix::system::setdomainname(b"").during(step, "domain name")
}

fn keyring(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R13;
    setup.begin(step)?;
    match sys::join_session_keyring() {
        // A kernel without keys has none to share.
        Err(Errno::NOSYS) => Ok(()),
        joined => joined.during(step, "new session keyring"),
    }
}

fn limits(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R14;
    setup.begin(step)?;
    sys::clear_priority().during(step, "ordinary priority")?;
    for limit in setup.plan.limits() {
        sys::set_limit(limit.resource, limit.value).during(step, resource_name(limit.resource))?;
    }
    let mut processors = CpuSet::new();
    let mut is_bound = false;
    for number in setup.plan.processors() {
        processors.set(number.into());
        is_bound = true;
    }
    // The launcher looks whether it has them all: the kernel leaves out what it has not.
    if is_bound {
        sched_setaffinity(None, &processors).during(step, "processors")?;
    }
    // Without a proc of our own the value stays the launcher's; R9 has reported that there is none.
    if let Some(proc) = &setup.proc {
        let value = setup.plan.settings().oom_score_adj;
        proc.write_number(c"self/oom_score_adj", value)
            .during(step, "oom_score_adj")?;
    }
    Ok(())
}

/// R14a: from here on no other process is on the same processor core at the same time but those of this jail,
/// which inherit what tells them apart.
fn core_scheduling(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R14a;
    setup.begin(step)?;
    match setup.plan.settings().core_scheduling {
        Wish::Off => Ok(()),
        wish => sys::own_core()
            .during(step, "make a core scheduling cookie")
            .or_else(|failure| setup.optional(wish, Optional::CoreScheduling, failure)),
    }
}

const fn resource_name(resource: u32) -> &'static str {
    match resource {
        resource::CORE => "core limit",
        resource::FILE_SIZE => "file size limit",
        resource::FILES => "open files limit",
        resource::STACK => "stack limit",
        _ => "resource limit",
    }
}

fn fork(setup: &Setup) -> Result<reap::Started, Failure> {
    let step = Step::R15;
    setup.begin(step)?;
    let signals = sys::child_signals().during(step, "signal descriptor")?;
    let (errors, child_errors) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).during(step, "error pipe")?;
    match sys::fork().during(step, "clone3")? {
        Side::Child => {
            drop(errors);
            stage::become_plugin(setup, &child_errors)
        }
        Side::Parent { pid, pidfd } => {
            report_with(&Message::Plugin, pidfd.as_fd()).during(step, "send the pidfd")?;
            // What the plugin writes ends when the plugin does, not when the reaper does: these
            // take the place of the reaper's copies of the plugin's streams.
            sys::place(errors.as_fd(), reap::ERRORS, libc::O_CLOEXEC).during(step, "keep")?;
            sys::place(signals.as_fd(), reap::SIGNALS, libc::O_CLOEXEC).during(step, "keep")?;
            Ok(reap::Started { plugin: pid })
        }
    }
}

fn give_up(setup: Setup) -> Result<(), Failure> {
    let step = Step::R16;
    setup.begin(step)?;
    capabilities::drop_bounding_set(step)?;
    capabilities::lock_securebits(step)?;
    if let Identities::Root { reaper, .. } = setup.plan.settings().identities {
        capabilities::change_ids(step, reaper)?;
    }
    capabilities::empty_sets(step)?;
    rustix::thread::set_no_new_privs(true).during(step, "no new privileges")?;
    follow_parent(step)?;
    landlock::confine_reaper(&setup)?;
    drop(setup);
    sys::close_fixed(descriptor::PLAN);
    sys::close_from(descriptor::FIRST_TASKS, 0).during(step, "close descriptors")?;
    rustix::thread::set_name(c"pinfold-reaper").unwrap_or_default();
    sys::install_own_filter().during(step, "own filter")
}

fn name_process(step: Step) {
    let mut name = [0; 16];
    let text = b"jail ".iter().chain(step.id().as_bytes());
    for (to, from) in name.iter_mut().take(15).zip(text) {
        *to = *from;
    }
    if let Ok(name) = CStr::from_bytes_until_nul(&name) {
        // Only a hint for whoever looks.
        rustix::thread::set_name(name).unwrap_or_default();
    }
}

/// A failed step, with its text.
pub(crate) struct FailedMessage {
    step: Step,
    errno: i32,
    text: Text,
}

impl FailedMessage {
    /// As it goes into a packet.
    pub(crate) fn as_message(&self) -> Message<'_> {
        Message::Failed {
            step: self.step,
            errno: self.errno,
            text: self.text.as_bytes(),
        }
    }
}

/// A short text without an allocator.
struct Text {
    bytes: [u8; LIMIT_BYTES],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; LIMIT_BYTES],
            length: 0,
        }
    }

    fn describe(&mut self, failure: &Failure) {
        self.push(failure.what.as_bytes());
        if let Some(path) = failure.path {
            self.push(b" ");
            self.push(path.to_bytes());
        }
    }

    fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(more) {
            *to = *from;
            self.length += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
