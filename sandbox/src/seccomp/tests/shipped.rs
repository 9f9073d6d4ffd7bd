//! The narrower profiles that are shipped, beside the default that they build on. That each lets its
//! runtime work and keeps nothing without a reason is shown in the jail, by the launcher's tests.

use crate::seccomp::{Action, Arch, Errno, GroupAction, Profile, syscall_number};

/// Arguments that the default's tests of arguments tell apart: nothing set, everything set, and
/// those of ordinary sockets, threads and namespaces.
const ARGUMENTS: [[u64; 6]; 6] = [
    [0; 6],
    [u64::MAX; 6],
    [1, 1, 0, 0, 0, 0],
    [2, 0x8_0001, 6, 0, 0, 0],
    [0x003d_0f00, 0x5421, 0, 0x22, 0, 0],
    [0x1000_0011, 0x5412, 0, 0x4_0022, 0, 0],
];

fn narrower() -> impl Iterator<Item = Profile> {
    Profile::builtin_names()
        .filter(|name| *name != "default")
        .map(|name| Profile::builtin(name).unwrap())
}

#[test]
fn each_compiles_for_each_architecture_to_a_small_program() {
    assert_eq!(
        Profile::builtin_names().collect::<Vec<_>>(),
        ["default", "go", "python", "node", "static"]
    );
    for profile in narrower() {
        assert_eq!(profile.arches(), Arch::ALL);
        for arch in Arch::ALL {
            let length = profile.compile(arch).unwrap().instructions().len();
            assert!(length < 700, "{} {arch}: {length}", profile.name());
        }
    }
}

#[test]
fn none_lets_the_limit_on_core_dumps_be_changed_and_where_one_does_it_is_seen() {
    for name in Profile::builtin_names() {
        let profile = Profile::builtin(name).unwrap();
        assert!(!profile.may_change_core_limit(), "{name}");
    }
    let of_own = |call: &str| {
        let text = format!(
            "schema = 1\nname = \"mine\"\narch = [\"x86_64\", \"aarch64\"]\ndefault = \"enosys\"\n\
             [[group]]\nname = \"@mine\"\nwhy = \"A test.\"\naction = \"allow\"\n\
             [[group.call]]\nname = \"prlimit64\"\nwhy = \"A test.\"\n{call}\n[use]\ninclude = [\"@mine\"]\n"
        );
        Profile::parse(&text, "mine").unwrap()
    };
    for (call, may) in [
        // The one that `default` had.
        (
            "when = [{ arg = 0, width = 32, equals = 0 }]\nelse = \"eperm\"",
            true,
        ),
        // Past rules that look at more than the kernel does, or at less.
        (
            "when = [{ arg = 1, width = 64, in = [0, 1, 7, 0x100000004] }]\nelse = \"eperm\"",
            true,
        ),
        (
            "when = [{ arg = 2, width = 32, equals = 0 }]\nelse = \"eperm\"",
            true,
        ),
        (
            "when = [{ arg = 0, width = 32, equals = 2 }]\nelse = \"eperm\"",
            true,
        ),
        (
            "when = [{ arg = 1, width = 32, in = [3, 7] }]\nelse = \"eperm\"",
            false,
        ),
        (
            "when = [{ arg = 2, width = 64, equals = 0 }]\nelse = \"eperm\"",
            false,
        ),
    ] {
        assert_eq!(of_own(call).may_change_core_limit(), may, "{call}");
    }
}

#[test]
fn none_allows_what_the_default_refuses_nor_answers_it_otherwise() {
    let default = Profile::builtin("default").unwrap();
    for profile in narrower() {
        for arch in Arch::ALL {
            let mut less = 0;
            for number in (0..1024).chain([0x3fff_ffff]) {
                for arguments in &ARGUMENTS {
                    let (wide, narrow) = (
                        default.decide(arch, number, arguments),
                        profile.decide(arch, number, arguments),
                    );
                    if wide == narrow {
                        continue;
                    }
                    let name = profile.name();
                    assert_eq!(
                        narrow,
                        Action::Errno(Errno::Enosys),
                        "{name} {arch} {number}"
                    );
                    less += 1;
                }
            }
            assert!(less > 0, "{} is the default", profile.name());
        }
    }
}

#[test]
fn each_group_that_allows_is_reviewed_and_every_group_of_the_default_is_used() {
    let default = Profile::builtin("default").unwrap();
    let names = |profile: &Profile| -> Vec<String> {
        let groups = profile.groups().iter();
        groups.map(|group| group.name().to_owned()).collect()
    };
    for profile in narrower() {
        assert_eq!(names(&profile), names(&default), "{}", profile.name());
        for narrowed in profile.narrowed() {
            let what = format!("{} {}", profile.name(), narrowed.group());
            assert!(narrowed.why().len() > 10, "{what}");
            for also in narrowed.also() {
                assert!(also.needed_by.len() > 10, "{what}");
            }
        }
    }
}

#[test]
fn each_keeps_what_the_jail_itself_does_after_the_filter_is_in_force() {
    // It executes the plugin, or tells why it could not and ends.
    for profile in narrower() {
        for arch in Arch::ALL {
            for call in ["execve", "write", "exit_group", "sendmsg"] {
                let number = syscall_number(arch, call).unwrap();
                let action = profile.decide(arch, number, &[0; 6]);
                assert_eq!(action, Action::Allow, "{} {arch} {call}", profile.name());
            }
        }
    }
}

#[test]
fn what_an_architecture_has_instead_of_an_older_call_is_allowed_with_it() {
    // aarch64 has none of the older ones: its C libraries make the newer for the same functions.
    let pairs = "open openat creat openat stat newfstatat lstat newfstatat access faccessat \
        mkdir mkdirat rmdir unlinkat unlink unlinkat rename renameat link linkat symlink symlinkat \
        readlink readlinkat chmod fchmodat getdents getdents64 utime utimensat utimes utimensat \
        futimesat utimensat epoll_create epoll_create1 epoll_wait epoll_pwait poll ppoll \
        select pselect6 eventfd eventfd2 pipe pipe2 dup2 dup3 fork clone vfork clone \
        getpgrp getpgid alarm setitimer pause ppoll";
    let words: Vec<&str> = pairs.split_whitespace().collect();
    for pair in words.chunks_exact(2) {
        let (older, newer) = (pair[0], pair[1]);
        assert!(syscall_number(Arch::Aarch64, older).is_none(), "{older}");
        assert!(syscall_number(Arch::Aarch64, newer).is_some(), "{newer}");
        for profile in Profile::builtin_names().map(|name| Profile::builtin(name).unwrap()) {
            let name = profile.name();
            let is_there = profile.find(older).is_none() || profile.find(newer).is_some();
            assert!(is_there, "{name}: {older} without {newer}");
        }
    }
}

#[test]
fn what_kills_under_the_default_kills_under_each() {
    let is_fatal =
        |profile: &Profile, name: &str| match profile.find(name).map(|(group, _)| group.action()) {
            Some(GroupAction::Fixed(action)) => action == Action::Kill,
            _ => false,
        };
    for profile in narrower() {
        for call in ["mount", "bpf", "init_module", "open_by_handle_at"] {
            assert!(is_fatal(&profile, call), "{} {call}", profile.name());
        }
    }
}
