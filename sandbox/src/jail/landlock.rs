//! What Landlock (landlock(7)) is asked for: everything that the running kernel can handle is
//! handled, and to each place of the jail no more is granted than it is for.
//!
//! What is beneath a path is granted by path: the rights of a place are those of every directory
//! above it together.

use std::os::fd::AsFd;

use pinfold_policy::Runtime;
use pinfold_reaper::plan::Landlock;

use super::{HostMount, JailSpec, RUN_DIRECTORY, STAGE_DIRECTORY, STATE_DIRECTORY};
use crate::plan::{PlanError, PlanWriter};

/// The version of Landlock's interface that the running kernel has; `None` where it has none, or it is
/// switched off.
#[must_use]
pub fn landlock_abi() -> Option<u32> {
    crate::sys::landlock::abi().ok()
}

/// Rights on files: `LANDLOCK_ACCESS_FS_*` (linux/landlock.h).
mod right {
    pub(super) const EXECUTE: u64 = 1;
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ_DIR: u64 = 1 << 3;
    pub(super) const REMOVE_DIR: u64 = 1 << 4;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_CHAR: u64 = 1 << 6;
    pub(super) const MAKE_DIR: u64 = 1 << 7;
    pub(super) const MAKE_REG: u64 = 1 << 8;
    pub(super) const MAKE_SOCK: u64 = 1 << 9;
    pub(super) const MAKE_BLOCK: u64 = 1 << 11;
    pub(super) const REFER: u64 = 1 << 13;
    pub(super) const TRUNCATE: u64 = 1 << 14;
    pub(super) const IOCTL_DEV: u64 = 1 << 15;
    pub(super) const RESOLVE_UNIX: u64 = 1 << 16;
}

/// A program.
const EXECUTE: u64 = right::EXECUTE | right::READ_FILE;

/// Reading a tree.
const READ: u64 = right::READ_FILE | right::READ_DIR;

/// A directory of the plugin's own: all but executing, devices and their ioctls.
const OWN: u64 = !(right::EXECUTE | right::MAKE_CHAR | right::MAKE_BLOCK | right::IOCTL_DEV);

/// The directory for sockets: files and sockets, neither links nor pipes nor directories.
const RUN: u64 = READ
    | right::WRITE_FILE
    | right::TRUNCATE
    | right::MAKE_REG
    | right::MAKE_SOCK
    | right::REMOVE_FILE
    | right::RESOLVE_UNIX;

/// Writing to a file of the host's.
const HOST_FILE: u64 = right::READ_FILE | right::WRITE_FILE | right::TRUNCATE;

/// Writing to a directory of the host's: files and directories, neither links nor sockets nor pipes, in
/// which whoever of the host looks there could be caught.
const HOST_DIRECTORY: u64 = HOST_FILE
    | READ
    | right::MAKE_REG
    | right::MAKE_DIR
    | right::REMOVE_FILE
    | right::REMOVE_DIR
    | right::REFER;

/// A device node.
const DEVICE: u64 = right::READ_FILE | right::WRITE_FILE;

/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `_CONNECT_TCP`.
const TCP: u64 = 0b11;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `_SIGNAL`.
const SCOPES: u64 = 0b11;
/// `LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF`: a plugin that confines itself further cannot write
/// to the host's audit log by what it then forbids itself.
const LOG_SUBDOMAINS_OFF: u32 = 1 << 2;

/// The newest version of the interface that is used.
pub(crate) const NEWEST: u32 = 9;

/// What each version added, and the jail uses: the number of bits of rights on files that there
/// were then, and what a kernel before it lacks.
const VERSIONS: [(u32, u32, &str); 6] = [
    (2, 14, "moving files between directories"),
    (3, 15, "truncation"),
    (4, 15, "TCP"),
    (5, 16, "device ioctls"),
    (6, 16, "signals and abstract sockets"),
    (9, 17, "sockets by path"),
];
/// Rights on files of the first version.
const FIRST_RIGHTS: u32 = 13;

/// What a kernel with this version of the interface handles, for plugin and reaper.
pub(crate) fn handled(abi: u32) -> Landlock {
    let rights = VERSIONS
        .iter()
        .take_while(|(since, ..)| *since <= abi)
        .last()
        .map_or(FIRST_RIGHTS, |(_, rights, _)| *rights);
    let since = |version, value| if abi >= version { value } else { 0 };
    Landlock {
        files: (1 << rights) - 1,
        // Loopback, which is all the network there is, stays the plugin's where it has one.
        network: 0,
        reaper_network: since(4, TCP),
        scopes: since(6, SCOPES),
        size: match abi {
            ..4 => 8,
            4 | 5 => 16,
            6.. => 24,
        },
        flags: if abi >= 7 { LOG_SUBDOMAINS_OFF } else { 0 },
    }
}

/// What is not confined by a kernel with this version, in words; empty where nothing is missing.
pub(crate) fn lacks(abi: u32) -> String {
    let lacking: Vec<String> = VERSIONS
        .iter()
        .filter(|(since, ..)| abi < *since)
        .map(|(since, _, what)| format!("{what} (ABI {since})"))
        .collect();
    lacking.join(", ")
}

/// Writes what the plugin keeps.
pub(super) fn write(
    spec: &JailSpec,
    landlock: &Landlock,
    plan: &mut PlanWriter,
) -> Result<(), PlanError> {
    plan.landlock(landlock);
    let mounts: Vec<MountPlace<'_>> = spec.mounts.iter().map(MountPlace::of).collect();
    let places = FilePlaces {
        entry: &spec.entry,
        executes_stage: spec.executes_stage,
        interpreters: &super::interpreters::of(spec.stage.as_fd(), &spec.entry),
        tmp_directory: &spec.tmp_directory,
        has_state: spec.state.is_some(),
        runtime: spec.runtime.as_ref().map(|runtime| &runtime.named),
        mounts: &mounts,
    };
    rules(&places)
        .into_iter()
        .try_for_each(|(path, rights)| plan.landlock_rule(&path, rights & landlock.files))
}

/// What of a plugin decides on its places in the jail.
#[derive(Clone, Copy, Debug)]
pub struct FilePlaces<'a> {
    /// What is executed, below the plugin's directory.
    pub entry: &'a str,
    /// Whether any other file of its own may be executed too.
    pub executes_stage: bool,
    /// What the kernel executes for it: [`super::interpreters_of`] the plugin's files.
    pub interpreters: &'a [String],
    /// The launch template's temporary directory.
    pub tmp_directory: &'a str,
    /// Whether it has a directory that lasts.
    pub has_state: bool,
    /// What of the host it runs on.
    pub runtime: Option<&'a Runtime>,
    /// What of the host it is shown beside that.
    pub mounts: &'a [MountPlace<'a>],
}

/// A directory or file of the host, where it is in the jail.
#[derive(Clone, Copy, Debug)]
pub struct MountPlace<'a> {
    /// Absolute path in the jail.
    pub target: &'a str,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether the plugin may write there.
    pub is_writable: bool,
}

impl<'a> MountPlace<'a> {
    fn of(mount: &'a HostMount) -> Self {
        Self {
            target: &mount.target,
            is_directory: mount.is_directory,
            is_writable: mount.is_writable,
        }
    }

    const fn rights(&self) -> u64 {
        match (self.is_directory, self.is_writable) {
            (true, true) => HOST_DIRECTORY,
            (true, false) => READ,
            (false, true) => HOST_FILE,
            (false, false) => right::READ_FILE,
        }
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Reading its content.
    Read,
    /// Changing its content.
    Write,
    /// Executing it.
    Execute,
}

/// The place of the jail whose rule lets a plugin do that to the file at `path`, an absolute path
/// without `.`, `..` and links; none where nothing does.
#[must_use]
pub fn place_of_access(places: &FilePlaces<'_>, access: FileAccess, path: &str) -> Option<String> {
    let wanted = match access {
        FileAccess::Read => right::READ_FILE,
        FileAccess::Write => right::WRITE_FILE,
        FileAccess::Execute => right::EXECUTE,
    };
    let covers = |place: &str| {
        let rest = path.strip_prefix(place.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    rules(places)
        .into_iter()
        .find(|(place, rights)| covers(place) && rights & wanted != 0)
        .map(|(place, _)| place)
}

/// Whether it is the entry that is executed. What an interpreter of the host reads is not.
fn is_executed(places: &FilePlaces<'_>) -> bool {
    let runtime = places.runtime;
    runtime.is_none_or(|runtime| runtime.interpreter.is_none())
}

/// Every place with its rights.
fn rules(places: &FilePlaces<'_>) -> Vec<(String, u64)> {
    let mut rules = Vec::new();
    let mut rule = |path: &str, rights: u64| rules.push((path.to_owned(), rights));
    // The root is read-only and made for this jail: what is in it may be listed, and what of it
    // has no rule of its own not even opened.
    rule("/", right::READ_DIR);
    let executed = if places.executes_stage { EXECUTE } else { 0 };
    rule(STAGE_DIRECTORY, READ | executed);
    // A file has no entries.
    let entry = format!("{STAGE_DIRECTORY}/{}", places.entry);
    if is_executed(places) {
        rule(&entry, EXECUTE);
        for interpreter in places.interpreters {
            rule(interpreter, EXECUTE);
        }
    }
    if let Some(runtime) = places.runtime {
        for path in &runtime.paths {
            rule(path, READ);
        }
        for program in runtime.programs() {
            rule(program, EXECUTE);
        }
    }
    for mount in places.mounts {
        rule(mount.target, mount.rights());
    }
    rule("/etc", READ);
    rule("/proc", READ);
    rule(RUN_DIRECTORY, RUN);
    for device in super::mounts::DEVICES.map(|(name, ..)| format!("/dev/{name}")) {
        rule(&device, DEVICE);
    }
    rule("/dev/shm", OWN);
    rule("/tmp", OWN);
    // Beneath `/tmp` it needs none of its own.
    if !places.tmp_directory.starts_with("/tmp/") && places.tmp_directory != "/tmp" {
        rule(places.tmp_directory, OWN);
    }
    if places.has_state {
        rule(STATE_DIRECTORY, OWN);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_handles_what_it_has_and_no_bit_more() {
        // The last right of each version, as linux/landlock.h has them.
        for (abi, last) in [
            (1, 12),
            (2, 13),
            (3, 14),
            (4, 14),
            (5, 15),
            (6, 15),
            (7, 15),
            (8, 15),
            (9, 16),
            (10, 16),
        ] {
            let handled = handled(abi);
            assert_eq!(handled.files.trailing_ones(), last + 1, "ABI {abi}");
            assert_eq!(handled.files.count_ones(), last + 1, "ABI {abi}");
        }
        assert_eq!((handled(3).size, handled(3).reaper_network), (8, 0));
        assert_eq!((handled(5).size, handled(5).scopes), (16, 0));
        assert_eq!((handled(6).size, handled(6).scopes), (24, SCOPES));
        assert_eq!(
            (handled(6).flags, handled(7).flags),
            (0, LOG_SUBDOMAINS_OFF)
        );
    }

    #[test]
    fn files_are_reached_where_a_place_above_them_has_the_right() {
        let places = FilePlaces {
            entry: "bin/hello",
            executes_stage: false,
            interpreters: &["/plugin/lib/ld.so".into()],
            tmp_directory: "/tmp/own",
            has_state: true,
            runtime: None,
            mounts: &[],
        };
        use FileAccess::{Execute, Read, Write};
        for (access, path, place) in [
            (Write, "/state/x", Some("/state")),
            (Write, "/tmp/own/a/b", Some("/tmp")),
            (Write, "/plugin/x", None),
            (Read, "/plugin/x", Some("/plugin")),
            (Read, "/pluginx", None),
            (Execute, "/plugin/bin/hello", Some("/plugin/bin/hello")),
            (Execute, "/plugin/lib/ld.so", Some("/plugin/lib/ld.so")),
            (Execute, "/plugin/other", None),
            (Execute, "/tmp/x", None),
            (Read, "/etc/passwd", Some("/etc")),
            (Write, "/etc/passwd", None),
            (Read, "/var/x", None),
            (Write, "/dev/null", Some("/dev/null")),
        ] {
            let found = place_of_access(&places, access, path);
            assert_eq!(found.as_deref(), place, "{access:?} {path}");
        }
        let without = FilePlaces {
            has_state: false,
            ..places
        };
        assert_eq!(place_of_access(&without, Write, "/state/x"), None);
        let any = FilePlaces {
            executes_stage: true,
            ..places
        };
        let found = place_of_access(&any, Execute, "/plugin/other");
        assert_eq!(found.as_deref(), Some("/plugin"));
        assert_eq!(place_of_access(&any, Execute, "/tmp/x"), None);
        let python = Runtime {
            interpreter: Some("/usr/bin/python3.11".into()),
            loader: Some("/usr/lib/gnu/ld.so".into()),
            paths: vec!["/usr/lib/gnu".into()],
            ..Runtime::default()
        };
        let interpreted = FilePlaces {
            runtime: Some(&python),
            ..places
        };
        for (access, path, place) in [
            (Execute, "/plugin/bin/hello", None),
            (Read, "/plugin/bin/hello", Some("/plugin")),
            (Execute, "/usr/bin/python3.11", Some("/usr/bin/python3.11")),
            (Execute, "/usr/lib/gnu/ld.so", Some("/usr/lib/gnu/ld.so")),
            (Execute, "/usr/lib/gnu/libc.so.6", None),
            (Read, "/usr/lib/gnu/libc.so.6", Some("/usr/lib/gnu")),
            (Write, "/usr/lib/gnu/libc.so.6", None),
            (Read, "/usr/bin/perl", None),
        ] {
            let found = place_of_access(&interpreted, access, path);
            assert_eq!(found.as_deref(), place, "{access:?} {path}");
        }
        let mount = |target, is_writable| MountPlace {
            target,
            is_directory: true,
            is_writable,
        };
        let shown = FilePlaces {
            mounts: &[mount("/data/in", false), mount("/data/out", true)],
            ..places
        };
        for (access, path, place) in [
            (Read, "/data/in/x", Some("/data/in")),
            (Write, "/data/in/x", None),
            (Read, "/data/out/x", Some("/data/out")),
            (Write, "/data/out/x", Some("/data/out")),
            (Execute, "/data/out/x", None),
            (Read, "/data/x", None),
        ] {
            let found = place_of_access(&shown, access, path);
            assert_eq!(found.as_deref(), place, "{access:?} {path}");
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_named_with_the_version_that_has_it() {
        assert_eq!(lacks(NEWEST), "");
        assert_eq!(lacks(8), "sockets by path (ABI 9)");
        assert_eq!(
            lacks(4),
            "device ioctls (ABI 5), signals and abstract sockets (ABI 6), sockets by path (ABI 9)"
        );
    }
}
