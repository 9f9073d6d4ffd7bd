//! P10: believe nothing, look. What the plugin really has, read through proc from the launcher's
//! side.

use std::ffi::CString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use pinfold_policy::{Control, Wanted};
use pinfold_reaper::step::Step;
use pinfold_reaper::whole_proc::is_shown;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::{During, JailError, inject};
use super::{Ids, Jail, JailSpec};
use crate::sys;

const STEP: Step = Step::P10;

pub(super) fn look(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    inject(jail.fault, STEP)?;
    let seen = status(jail, spec)
        .and_then(|()| namespaces(jail, spec))
        .and_then(|()| groups(jail, spec))
        .and_then(|()| core(jail, spec))
        .and_then(|()| program(jail, spec))
        .and_then(|()| masks(jail, spec))
        .and_then(|()| listeners(jail, spec));
    // Last: only while the process is still there was the number its own.
    if has_ended(jail.plugin.as_fd()).during(STEP, "poll the plugin")? {
        return Err(JailError::Gone);
    }
    seen
}

/// The sockets that came up listen where the plan says, and no other came.
fn listeners(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    equal("listeners", jail.listeners.len(), spec.listeners.len())?;
    for (socket, port) in jail.listeners.iter().zip(&spec.listeners) {
        let listens = rustix::net::sockopt::socket_acceptconn(socket);
        let listens = listens.during(STEP, "look at a listener")?;
        equal("listening of a listener", listens, true)?;
        let address = rustix::net::getsockname(socket)
            .and_then(SocketAddrV4::try_from)
            .during(STEP, "address of a listener")?;
        let planned = SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port);
        equal("address of a listener", address, planned)?;
    }
    Ok(())
}

fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(rustix::event::poll(&mut polled, Some(&now))? > 0)
}

fn status(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    let plugin = Status::read(&format!("/proc/{}/status", jail.plugin_pid))?;
    let own = Status::read("/proc/self/status")?;
    let id = match spec.ids {
        Ids::Root { plugin, .. } => plugin,
        // Seen from the namespace in which the launcher is 0.
        Ids::User => 0,
    };
    let ids = [
        id.to_string(),
        id.to_string(),
        id.to_string(),
        id.to_string(),
    ]
    .join(" ");
    plugin.expect("Uid", &ids)?;
    plugin.expect("Gid", &ids)?;
    if matches!(spec.ids, Ids::Root { .. }) {
        plugin.expect("Groups", "")?;
    }
    for (field, planned) in PRIVILEGES {
        plugin.expect(field, planned)?;
    }
    if !spec.limits.cpu_affinity.is_empty() {
        plugin.expect(PROCESSORS, &spec.limits.processors())?;
    }
    let listener = |is_there| if is_there { "held" } else { "absent" };
    equal(
        "the filter's listener",
        listener(jail.filter_listener.is_some()),
        listener(spec.filter_listener),
    )?;
    let filters = own.number("Seccomp_filters")? + 1;
    plugin.expect("Seccomp_filters", &filters.to_string())?;
    let depth = own.field("NSpid")?.split(' ').count() + 1;
    let found = plugin.field("NSpid")?.split(' ').count();
    equal("depth of PID namespaces", found, depth)
}

/// Fields of `/proc/PID/status` that are the same for every plugin (proc_pid_status(5)).
pub(super) const PRIVILEGES: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// The processors that a process may run on (proc_pid_status(5)).
pub(super) const PROCESSORS: &str = "Cpus_allowed_list";

pub(super) struct Status(String);

impl Status {
    pub(super) fn read(path: &str) -> Result<Self, JailError> {
        let text = fs::read_to_string(path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .during(STEP, format!("read {path}"))?;
        Ok(Self(text))
    }

    /// A field's words, separated by one space.
    pub(super) fn field(&self, name: &str) -> Result<String, JailError> {
        let value = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = value
            .ok_or(Errno::NODATA)
            .during(STEP, format!("field {name} of status"))?;
        Ok(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn number(&self, name: &str) -> Result<u64, JailError> {
        self.field(name)?
            .parse()
            .map_err(|_| Errno::NODATA)
            .during(STEP, format!("field {name} of status"))
    }

    fn expect(&self, name: &str, planned: &str) -> Result<(), JailError> {
        equal(name, self.field(name)?.as_str(), planned)
    }
}

fn equal<T: PartialEq + std::fmt::Display>(
    what: &str,
    found: T,
    planned: T,
) -> Result<(), JailError> {
    if found == planned {
        return Ok(());
    }
    Err(JailError::Mismatch {
        what: what.to_owned(),
        found: found.to_string(),
        planned: planned.to_string(),
    })
}

/// Every namespace that was planned is another than the launcher's own, and that of the network the given one.
fn namespaces(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    let is_missing = |control| jail.missing.iter().any(|(missing, _)| *missing == control);
    let has_users = match spec.ids {
        Ids::User => true,
        Ids::Root { .. } => {
            spec.user_namespace != Wanted::Off && !is_missing(Control::UserNamespace)
        }
    };
    let user = has_users.then_some("user");
    let has_clocks = spec.time_namespace != Wanted::Off && !is_missing(Control::TimeNamespace);
    let time = has_clocks.then_some("time");
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"]
        .into_iter()
        .chain(user)
        .chain(time)
    {
        let of = |process: &str| {
            let path = format!("/proc/{process}/ns/{kind}");
            let found = rustix::fs::stat(&path).during(STEP, path)?;
            Ok::<_, JailError>((found.st_dev, found.st_ino))
        };
        let found = of(&jail.plugin_pid.to_string())?;
        if found == of("self")? {
            return Err(JailError::Mismatch {
                what: format!("{kind} namespace"),
                found: "the launcher's".to_owned(),
                planned: "its own".to_owned(),
            });
        }
        if let ("net", Some(given)) = (kind, &spec.network) {
            let given = rustix::fs::fstat(given).during(STEP, "the given network namespace")?;
            equal(
                "network namespace (device:inode)",
                format!("{}:{}", found.0, found.1),
                format!("{}:{}", given.st_dev, given.st_ino),
            )?;
        }
    }
    Ok(())
}

/// Over every entry of the whole of `/proc` that is not shown lies something else.
fn masks(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    let is_missing = |control| jail.missing.iter().any(|(missing, _)| *missing == control);
    if !spec.whole_proc || spec.proc == Wanted::Off || is_missing(Control::Proc) {
        return Ok(());
    }
    let path = format!("/proc/{}/root/proc", jail.plugin_pid);
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let look = || -> std::io::Result<Option<String>> {
        let device = fs::metadata(&path)?.dev();
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_masked = CString::new(name.as_bytes()).is_ok_and(|name| !is_shown(&name));
            if !is_masked {
                continue;
            }
            match entry.metadata() {
                Ok(found) if found.dev() == device => {
                    return Ok(Some(name.to_string_lossy().into_owned()));
                }
                Ok(_) => {}
                // Gone since it was listed: nothing is left to be masked.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    };
    match look()
        .map_err(failed)
        .during(STEP, "look at the plugin's /proc")?
    {
        None => Ok(()),
        Some(name) => Err(JailError::Mismatch {
            what: format!("/proc/{name}"),
            found: "the kernel's".to_owned(),
            planned: "a mask".to_owned(),
        }),
    }
}

/// The plugin has a core scheduling cookie, where that was planned, and not the launcher's.
fn core(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    let control = Control::CoreScheduling;
    let is_missing = jail.missing.iter().any(|(missing, _)| *missing == control);
    if spec.core_scheduling == Wanted::Off || is_missing {
        return Ok(());
    }
    let cookie = |pid| {
        sys::core::core_cookie(pid)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .during(STEP, "read the core scheduling cookie")
    };
    let is_own = |cookie| match cookie {
        0 => "none",
        _ => "one",
    };
    let found = cookie(jail.plugin_pid)?;
    equal("core scheduling cookie", is_own(found), "one")?;
    equal(
        "core scheduling cookie of the launcher",
        found == cookie(0)?,
        false,
    )
}

/// The plugin is a member of each group of the plan.
fn groups(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    for tasks in &spec.groups.v1_tasks {
        // Ours is open for writing.
        let path = format!("/proc/self/fd/{}", tasks.as_raw_fd());
        member(jail.plugin_pid, &path)?;
    }
    if let Some(directory) = &spec.groups.v2_dir {
        member(
            jail.plugin_pid,
            &format!("/proc/self/fd/{}/cgroup.procs", directory.as_raw_fd()),
        )?;
    }
    Ok(())
}

fn member(pid: i32, list: &str) -> Result<(), JailError> {
    let text = fs::read_to_string(list)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .during(STEP, "read the members of a control group")?;
    if text.lines().any(|line| line.parse() == Ok(pid)) {
        return Ok(());
    }
    let group = fs::read_link(list)
        .or_else(|_| fs::canonicalize(list))
        .map_or_else(|_| list.to_owned(), |path| path.display().to_string());
    Err(JailError::Mismatch {
        what: format!("control group {group}"),
        found: "without the plugin".to_owned(),
        planned: "with it".to_owned(),
    })
}

/// What runs is the file of the stage.
fn program(jail: &Jail, spec: &JailSpec) -> Result<(), JailError> {
    let path = format!("/proc/{}/exe", jail.plugin_pid);
    let found = rustix::fs::stat(&path).during(STEP, path)?;
    let interpreter = spec
        .runtime
        .as_ref()
        .and_then(|runtime| runtime.interpreter);
    if let Some((device, inode)) = interpreter {
        return equal(
            "program (device:inode)",
            format!("{}:{}", found.st_dev, found.st_ino),
            format!("{device}:{inode}"),
        );
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(&spec.stage, spec.entry.as_str(), flags, Mode::empty())
        .during(STEP, "open the entry in the stage")?;
    let planned = rustix::fs::statat(&entry, "", AtFlags::EMPTY_PATH).during(STEP, "entry")?;
    equal(
        "program (device:inode)",
        format!("{}:{}", found.st_dev, found.st_ino),
        format!("{}:{}", planned.st_dev, planned.st_ino),
    )
}
