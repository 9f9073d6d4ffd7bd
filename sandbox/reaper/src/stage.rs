//! The plugin stage, C1 to C12: what the child of the reaper does until it is the plugin.

mod time;

use core::ffi::{CStr, c_char};

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::UnshareFlags;

use crate::capabilities;
use crate::failure::{During, Failure};
use crate::landlock;
use crate::message::{LIMIT_BYTES, Message, Optional};
use crate::plan::{ARGUMENTS_LIMIT, Identities, VARIABLES_LIMIT, Wish, descriptor, resource};
use crate::procfs::{Decimal, OwnProc};
use crate::setup::{self, Setup};
use crate::step::Step;
use crate::sys;

/// First descriptor after the standard streams.
const FIRST_OTHER: i32 = 3;

/// Goes through the steps and executes the plugin. A failure is written to `errors`, which a
/// successful exec closes.
pub(crate) fn become_plugin(setup: &Setup, errors: &OwnedFd) -> ! {
    let failure = match prepare(setup) {
        Ok(()) => execute(setup),
        Err(failure) => failure,
    };
    let failed = setup::failed(&failure);
    let mut packet = [0; LIMIT_BYTES];
    let length = failed.as_message().write(&mut packet);
    if let Some(packet) = packet.get(..length) {
        rustix::io::write(errors, packet).unwrap_or_default();
    }
    sys::exit(setup::FAILED)
}

fn prepare(setup: &Setup) -> Result<(), Failure> {
    session(setup)?;
    standard_streams(setup)?;
    setup.begin(Step::C3)?;
    capabilities::drop_bounding_set(Step::C3)?;
    capabilities::lock_securebits(Step::C3)?;
    setup.begin(Step::C4)?;
    if let Identities::Root { plugin, .. } = setup.plan.settings().identities {
        capabilities::change_ids(Step::C4, plugin)?;
    }
    user_namespace(setup)?;
    setup.begin(Step::C6)?;
    capabilities::empty_sets(Step::C6)?;
    no_new_privileges(setup)?;
    landlock::confine_plugin(setup)?;
    write_xor_execute(setup)?;
    descriptors(setup)?;
    setup.begin(Step::C11)?;
    // The last name of this process before exec gives it the plugin's.
    setup.begin(Step::C12)?;
    filter(setup)
}

/// C11. Where there is a listener it is sent up, the one call between the filter and exec.
fn filter(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C11;
    let program = setup.plan.filter();
    if !setup.plan.settings().filter_listener {
        return sys::install_filter(program).during(step, "install the filter");
    }
    let listener = sys::install_filter_with_listener(program).during(step, "install the filter")?;
    setup::report_with(&Message::FilterListener, listener.as_fd()).during(step, "send the listener")
}

fn session(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C1;
    setup.begin(step)?;
    sys::unblock_signals().during(step, "unblock signals")?;
    rustix::process::setsid().during(step, "new session")?;
    death_signal(step)
}

fn death_signal(step: Step) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during(step, "death signal")
}

fn standard_streams(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C2;
    setup.begin(step)?;
    // 0 is /dev/null from the start.
    sys::place(sys::fixed(descriptor::STDOUT), 1, 0).during(step, "standard output")?;
    sys::place(sys::fixed(descriptor::STDERR), 2, 0).during(step, "standard error")
}

/// C5: a user namespace of the plugin's own, with nothing in it but its one id, and in which no
/// other can be made. All its other namespaces belong to the one around it, in which it has no
/// right. Then the limit on processes, which must not be set before a namespace is made: it would
/// become the ceiling of all the launcher's namespaces together.
fn user_namespace(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C5;
    setup.begin(step)?;
    let settings = setup.plan.settings();
    let (wish, inside, outside) = match settings.identities {
        // Zero is the launcher's own id in its namespace.
        Identities::User { inside } => (Wish::Required, inside, 0),
        Identities::Root { plugin, .. } => (settings.user_namespace, plugin, plugin),
    };
    if wish == Wish::Off {
        time::time_namespace(setup, None)?;
    } else {
        enter_user_namespace(setup, wish, inside, outside)?;
    }
    sys::set_limit(resource::PROCESSES, u64::from(settings.processes))
        .during(step, "processes limit")
}

/// Only a namespace that cannot be had at all may be missing: in one that is half made nothing runs.
fn enter_user_namespace(
    setup: &Setup,
    wish: Wish,
    inside: u32,
    outside: u32,
) -> Result<(), Failure> {
    let step = Step::C5;
    let proc = setup
        .proc
        .as_ref()
        .ok_or(Errno::NOENT)
        .during(step, "proc of our own")?;
    // While it is not dumpable, its own files in proc belong to root.
    dumpable(step, DumpableBehavior::Dumpable)?;
    match sys::unshare(UnshareFlags::NEWUSER).during(step, "new user namespace") {
        Ok(()) => {
            map_one_id(proc, inside, outside)?;
            // It belongs to the namespace of now, and must be there before others are forbidden.
            time::time_namespace(setup, Some(proc))?;
            small_quotas(proc)?;
            // The namespace has filled them again.
            capabilities::drop_bounding_set(step)?;
            capabilities::lock_securebits(step)?;
        }
        Err(failure) => {
            setup.optional(wish, Optional::UserNamespace, failure)?;
            time::time_namespace(setup, None)?;
        }
    }
    dumpable(step, DumpableBehavior::NotDumpable)
}

fn dumpable(step: Step, behaviour: DumpableBehavior) -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(behaviour).during(step, "dumpable")
}

fn map_one_id(proc: &OwnProc, inside: u32, outside: u32) -> Result<(), Failure> {
    let step = Step::C5;
    let (mut inside, mut outside) = (
        Decimal::new(u64::from(inside)),
        Decimal::new(u64::from(outside)),
    );
    let mut line = [0; 32];
    let mut length = 0;
    let text = inside.text(false).to_bytes().iter().chain(b" ");
    let text = text.chain(outside.text(false).to_bytes()).chain(b" 1");
    for (to, from) in line.iter_mut().zip(text) {
        *to = *from;
        length += 1;
    }
    let line = line.get(..length).unwrap_or_default();
    proc.write(c"self/setgroups", b"deny")
        .during(step, "deny setgroups")?;
    proc.write(c"self/uid_map", line)
        .during(step, "map the user id")?;
    proc.write(c"self/gid_map", line)
        .during(step, "map the group id")
}

/// Quotas of the new user namespace: no namespace can be made in it, even without the filter, and
/// of the kernel's tables for watching files it fills little.
fn small_quotas(proc: &OwnProc) -> Result<(), Failure> {
    const QUOTAS: [(&CStr, &[u8]); 10] = [
        (c"sys/user/max_user_namespaces", b"0"),
        (c"sys/user/max_pid_namespaces", b"0"),
        (c"sys/user/max_mnt_namespaces", b"0"),
        (c"sys/user/max_net_namespaces", b"0"),
        (c"sys/user/max_ipc_namespaces", b"0"),
        (c"sys/user/max_uts_namespaces", b"0"),
        (c"sys/user/max_cgroup_namespaces", b"0"),
        (c"sys/user/max_time_namespaces", b"0"),
        (c"sys/user/max_inotify_instances", b"16"),
        (c"sys/user/max_inotify_watches", b"1024"),
    ];
    for (quota, value) in QUOTAS {
        match proc.write(quota, value) {
            // A kernel built without it has none of the kind.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).during_on(Step::C5, "write", quota),
        }
    }
    Ok(())
}

fn no_new_privileges(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C7;
    setup.begin(step)?;
    rustix::thread::set_no_new_privs(true).during(step, "no new privileges")?;
    // A change of credentials has cleared it.
    death_signal(step)
}

/// C9.
fn write_xor_execute(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C9;
    setup.begin(step)?;
    match setup.plan.settings().write_xor_execute {
        Wish::Off => Ok(()),
        wish => sys::forbid_making_code()
            .during(step, "refuse to make code")
            .or_else(|failure| setup.optional(wish, Optional::WriteXorExecute, failure)),
    }
}

fn descriptors(setup: &Setup) -> Result<(), Failure> {
    let step = Step::C10;
    setup.begin(step)?;
    rustix::process::chdir(setup.plan.working_directory()).during_on(
        step,
        "chdir",
        setup.plan.working_directory(),
    )?;
    sys::close_from(FIRST_OTHER, libc::CLOSE_RANGE_CLOEXEC)
        .during(step, "close all but the standard streams at exec")
}

fn execute(setup: &Setup) -> Failure {
    let mut arguments = [core::ptr::null::<c_char>(); ARGUMENTS_LIMIT + 1];
    let mut variables = [core::ptr::null::<c_char>(); VARIABLES_LIMIT + 1];
    // The plan keeps both within their limits, so that a null pointer is left at the end.
    for (to, from) in arguments
        .iter_mut()
        .take(ARGUMENTS_LIMIT)
        .zip(setup.plan.arguments())
    {
        *to = from.as_ptr();
    }
    for (to, from) in variables
        .iter_mut()
        .take(VARIABLES_LIMIT)
        .zip(setup.plan.variables())
    {
        *to = from.as_ptr();
    }
    let entry = setup.plan.entry();
    let errno = sys::execute(entry, &arguments, &variables);
    Failure {
        step: Step::C12,
        what: "execute",
        path: Some(entry),
        errno,
    }
}
