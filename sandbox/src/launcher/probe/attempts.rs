//! The attempts: each does what a launch does, and then sees that it holds.

mod confinement;
mod filters;
mod options;
mod quota;

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use caps::CapSet;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getresuid, pivot_root, sethostname, setresgid, setresuid};
use pinfold_policy::Control;
use rustix::fs::{MemfdFlags, Mode as FileMode, OFlags, memfd_create, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::Setting;
use crate::launcher::controls::Tried;
use crate::launcher::namespace;
use crate::posture::Mode;
use crate::sys::child::{self, Ended};
use crate::sys::socket;

/// Why an attempt failed: the step, and what came of it.
type Outcome = Result<(), String>;

/// Tries every control that is not the groups' and is built.
pub(super) fn all(setting: &Setting) -> Vec<(Control, Tried)> {
    let plain = |control, how: &str, attempt: fn() -> Outcome| (control, tried(how, attempt));
    let mut found = vec![
        plain(Control::PidNamespace, "", pid_namespace),
        plain(Control::MountNamespace, "", mount_namespace),
        plain(
            Control::NetworkNamespace,
            "loopback only",
            network_namespace,
        ),
        plain(Control::IpcNamespace, "", || {
            is_new(CloneFlags::CLONE_NEWIPC, "ipc")
        }),
        plain(Control::UtsNamespace, "", uts_namespace),
        plain(Control::CgroupNamespace, "", || {
            is_new(CloneFlags::CLONE_NEWCGROUP, "cgroup")
        }),
        plain(Control::Root, "tmpfs, pivot_root", root),
        plain(Control::Proc, "hidepid, subset=pid", proc_of_its_own),
        plain(Control::Capabilities, "", capabilities),
        plain(Control::NoNewPrivileges, "", no_new_privileges),
        plain(
            Control::MemfdNoexec,
            "sysctl of the PID namespace",
            memfd_noexec,
        ),
        plain(Control::PassRights, "SO_PASSRIGHTS", pass_rights),
    ];
    let stage =
        || crate::stage::probe(&setting.attach_dir).map_err(|(step, error)| failed(step, error));
    let stage = tried("sealed in memory, at most 64MiB", stage);
    found.push((Control::Stage, stage));
    found.push((Control::Seccomp, filters::seccomp(setting)));
    found.push((Control::SyscallNames, filters::names(setting)));
    found.push((Control::LauncherFilter, filters::of_launcher(setting)));
    found.push((Control::Uid, uid(setting)));
    found.push((Control::UserNamespace, user_namespace(setting)));
    found.push((Control::Landlock, confinement::landlock()));
    found.push((Control::WriteXorExecute, confinement::write_xor_execute()));
    found.push((Control::TimeNamespace, options::time_namespace(setting)));
    found.push((Control::CoreScheduling, options::core_scheduling()));
    found.push((Control::StateQuota, quota::state_quota(setting)));
    found
}

fn tried(how: &str, attempt: impl FnOnce() -> Outcome) -> Tried {
    match in_child(attempt) {
        Ok(()) => Tried::enforced(how),
        Err(reason) => Tried::missing(reason),
    }
}

/// Runs an attempt in a child of its own, so that what it changes ends with it.
fn in_child(attempt: impl FnOnce() -> Outcome) -> Outcome {
    let account = memfd_create("pinfold-attempt", MemfdFlags::CLOEXEC)
        .map_err(|errno| failed("make a memory file", errno))?;
    let mut account = File::from(account);
    let writer = account.try_clone().map_err(|e| failed("copy", e))?;
    let mut child = child::spawn(&[writer.as_fd()], || match attempt() {
        Ok(()) => 0,
        Err(reason) => {
            // Without it the attempt has failed all the same.
            drop((&writer).write_all(reason.as_bytes()));
            1
        }
    })
    .map_err(|error| failed("start a child", error))?;
    let ended = child.wait().map_err(|e| failed("wait for a child", e))?;
    if ended == Ended::Status(0) {
        return Ok(());
    }
    let mut reason = String::new();
    let read = account
        .rewind()
        .and_then(|()| account.read_to_string(&mut reason));
    match read {
        Ok(length) if length > 0 => Err(reason),
        _ => Err(format!("the attempt ended with {ended:?}")),
    }
}

fn failed(step: &str, error: impl Into<io::Error>) -> String {
    format!("{step}: {}", error.into())
}

/// As [`failed`]; the error `old` says that the kernel is older than `since`.
fn failed_before(since: &str, old: Errno, step: &str, error: impl Into<io::Error>) -> String {
    let error = error.into();
    let is_old = error.raw_os_error() == Some(old.raw_os_error());
    let reason = failed(step, error);
    match is_old {
        true => format!("{reason}; it came with Linux {since}"),
        false => reason,
    }
}

fn expect(holds: bool, otherwise: &str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn share_nothing(flags: CloneFlags) -> Outcome {
    unshare(flags).map_err(|errno| failed("unshare", errno))
}

fn namespace_id(name: &str) -> Result<u64, String> {
    fs::metadata(format!("/proc/self/ns/{name}"))
        .map(|metadata| metadata.ino())
        .map_err(|error| failed("look at the namespace", error))
}

/// Makes a namespace and sees that it is another one.
fn is_new(flags: CloneFlags, name: &str) -> Outcome {
    let before = namespace_id(name)?;
    share_nothing(flags)?;
    expect(
        namespace_id(name)? != before,
        "the namespace is still the old one",
    )
}

fn pid_namespace() -> Outcome {
    share_nothing(CloneFlags::CLONE_NEWPID)?;
    in_child(|| {
        expect(
            rustix::process::getpid().as_raw_nonzero().get() == 1,
            "the first process of it is not 1",
        )
    })
}

fn mount_namespace() -> Outcome {
    is_new(CloneFlags::CLONE_NEWNS, "mnt")
}

fn network_namespace() -> Outcome {
    is_new(CloneFlags::CLONE_NEWNET, "net")?;
    let devices = fs::read_to_string("/proc/self/net/dev")
        .map_err(|error| failed("list network devices", error))?;
    let others = devices
        .lines()
        .skip(2)
        .filter(|line| !line.trim_start().starts_with("lo:"))
        .filter(|line| {
            // Tunnels that a module adds to every namespace; they are down and lead nowhere.
            line.split_whitespace().nth(2) != Some("0")
        });
    expect(others.count() == 0, "it has more than loopback")
}

fn uts_namespace() -> Outcome {
    is_new(CloneFlags::CLONE_NEWUTS, "uts")?;
    sethostname("pinfold-probe").map_err(|errno| failed("set the host name", errno))
}

fn memory_file_system() -> Result<OwnedFd, String> {
    let make = || -> Result<OwnedFd, Errno> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "size", "64k")?;
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    };
    make().map_err(|errno| failed("make a file system in memory", errno))
}

fn root() -> Outcome {
    namespace::own_mounts().map_err(|error| failed("make a mount namespace", error))?;
    let new = memory_file_system()?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&new, "", rustix::fs::CWD, "/", flags)
        .map_err(|errno| failed("attach a new root", errno))?;
    rustix::process::fchdir(&new).map_err(|errno| failed("enter the new root", errno))?;
    pivot_root(".", ".").map_err(|errno| failed("pivot_root", errno))?;
    unmount(".", UnmountFlags::DETACH).map_err(|errno| failed("detach the old root", errno))?;
    rustix::process::chdir("/").map_err(|errno| failed("change to /", errno))?;
    let entries = fs::read_dir("/").map_err(|error| failed("list the new root", error))?;
    expect(entries.count() == 0, "the new root is not empty")
}

fn own_proc(options: &[(&str, &str)]) -> Result<OwnedFd, String> {
    let make = || -> Result<OwnedFd, Errno> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(&context, *key, *value)?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|errno| failed("mount /proc", errno))
}

fn proc_of_its_own() -> Outcome {
    share_nothing(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    in_child(|| {
        let mount = own_proc(&[("hidepid", "invisible"), ("subset", "pid")])?;
        let open = |name: &str| openat(&mount, name, OFlags::PATH, FileMode::empty());
        open("1").map_err(|errno| failed("find process 1 in it", errno))?;
        expect(
            open("sys").fails_with(Errno::NOENT),
            "it shows more than processes",
        )
    })
}

/// `OwnedFd` has no equality; the attempt only asks for the errno.
trait FailsWith {
    fn fails_with(&self, errno: Errno) -> bool;
}

impl<T> FailsWith for Result<T, Errno> {
    fn fails_with(&self, errno: Errno) -> bool {
        self.as_ref().err() == Some(&errno)
    }
}

fn capabilities() -> Outcome {
    let sets = [
        CapSet::Bounding,
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ];
    for set in sets {
        // The bounding set is dropped one by one, up to what this kernel knows.
        let dropped = match set {
            CapSet::Bounding => caps::read(None, set).and_then(|held| {
                held.into_iter()
                    .try_for_each(|capability| caps::drop(None, set, capability))
            }),
            _ => caps::clear(None, set),
        };
        dropped.map_err(|error| format!("drop {set:?}: {error}"))?;
    }
    for set in sets {
        let held = caps::read(None, set).map_err(|error| format!("read {set:?}: {error}"))?;
        expect(held.is_empty(), "some are left")?;
    }
    Ok(())
}

fn no_new_privileges() -> Outcome {
    rustix::thread::set_no_new_privs(true).map_err(|errno| failed("set it", errno))?;
    let is_set = rustix::thread::no_new_privs().map_err(|errno| failed("read it", errno))?;
    expect(is_set, "it is not set")
}

fn memfd_noexec() -> Outcome {
    let executable = |name: &str| memfd_create(name, MemfdFlags::CLOEXEC | EXECUTABLE);
    let step = "make an executable memory file";
    executable("before").map_err(|errno| failed_before("6.3", Errno::INVAL, step, errno))?;
    share_nothing(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    in_child(|| {
        let mount = own_proc(&[])?;
        let setting = openat(
            &mount,
            "sys/vm/memfd_noexec",
            OFlags::WRONLY | OFlags::CLOEXEC,
            FileMode::empty(),
        )
        .map_err(|errno| failed("open vm.memfd_noexec", errno))?;
        File::from(setting)
            .write_all(b"2")
            .map_err(|error| failed("write vm.memfd_noexec", error))?;
        expect(
            executable("after").fails_with(Errno::ACCESS),
            "an executable memory file could be made",
        )
    })
}

/// `MFD_EXEC` (linux/memfd.h), Linux 6.3.
const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

fn pass_rights() -> Outcome {
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, sendmsg, socketpair,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| failed("make sockets", errno))?;
    let pass = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed = [theirs.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&passed));
        sendmsg(
            &theirs,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    };
    pass().map_err(|errno| failed("pass a descriptor", errno))?;
    socket::refuse_rights(&ours)
        .map_err(|error| failed_before("6.16", Errno::NOPROTOOPT, "set SO_PASSRIGHTS", error))?;
    expect(
        pass().fails_with(Errno::PERM),
        "a descriptor could be passed",
    )
}

fn uid(setting: &Setting) -> Tried {
    let Some(uid) = setting.uid else {
        return Tried::missing("every plugin runs under the one user of the launcher");
    };
    tried("one for each plugin, another for its reaper", || {
        let uid = Uid::from_raw(uid);
        setresuid(uid, uid, uid).map_err(|errno| failed("take a user id", errno))?;
        let now = getresuid().map_err(|errno| failed("read the user id", errno))?;
        expect(
            now.real == uid && now.effective == uid && now.saved == uid,
            "the user id is another",
        )
    })
}

/// Why there is no [`Mapped`].
const NO_PLUGIN_ID: &str = "there is no user id for plugins";

/// The one id of a plugin's user namespace.
#[derive(Clone, Copy)]
struct Mapped {
    inside: u32,
    /// Zero in user mode, where it is the launcher's own.
    outside: u32,
}

impl Mapped {
    fn of(setting: &Setting) -> Option<Self> {
        let (inside, outside) = match setting.mode {
            Mode::User => (crate::jail::USER_MODE_ID, 0),
            Mode::Root => (setting.uid?, setting.uid?),
        };
        Some(Self { inside, outside })
    }

    /// Takes the id and makes the namespace, as the plugin stage does.
    fn enter(self) -> Outcome {
        let Self { inside, outside } = self;
        if outside != 0 {
            let (uid, gid) = (Uid::from_raw(outside), Gid::from_raw(outside));
            setresgid(gid, gid, gid).map_err(|errno| failed("take a group id", errno))?;
            setresuid(uid, uid, uid).map_err(|errno| failed("take a user id", errno))?;
        }
        // What is not dumpable does not own its own maps; a plugin stage is, for this moment, too.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .map_err(|errno| failed("become dumpable", errno))?;
        share_nothing(CloneFlags::CLONE_NEWUSER)?;
        namespace::map(inside, outside, inside, outside)
            .map_err(|error| failed("map one id", error))
    }
}

/// As the plugin stage makes it: by the id that the plugin has, with that one id in it, and with
/// quotas that let no other namespace be made in it.
fn user_namespace(setting: &Setting) -> Tried {
    let Some(mapped) = Mapped::of(setting) else {
        return Tried::missing(NO_PLUGIN_ID);
    };
    let how = match setting.mode {
        Mode::User => "maps one id that is not root",
        Mode::Root => "last, maps the plugin's id alone",
    };
    tried(how, || {
        mapped.enter()?;
        let now = rustix::process::getuid().as_raw();
        expect(now == mapped.inside, "the id is not the mapped one")?;
        fs::write("/proc/sys/user/max_user_namespaces", "0")
            .map_err(|error| failed("set a quota", error))?;
        expect(
            unshare(CloneFlags::CLONE_NEWUSER) == Err(nix::errno::Errno::ENOSPC),
            "another one could be made in it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_told_with_the_one_that_is_not() {
        let reason = |errno| failed_before("6.16", Errno::NOPROTOOPT, "set it", errno);
        assert_eq!(
            reason(Errno::NOPROTOOPT),
            "set it: Protocol not available (os error 92); it came with Linux 6.16"
        );
        assert!(!reason(Errno::PERM).contains("Linux"));
    }
}
