//! What the shipped profile says.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::seccomp::{Action, Arch, Errno, GroupAction, Profile, SyscallData, syscall_number};

fn default() -> Profile {
    Profile::builtin("default").unwrap()
}

fn decide(profile: &Profile, call: &str, args: [u64; 6]) -> Action {
    profile.decide(
        Arch::X86_64,
        syscall_number(Arch::X86_64, call).unwrap(),
        &args,
    )
}

#[test]
fn every_group_has_a_reason_and_no_call_is_in_two() {
    let profile = default();
    let mut calls = HashSet::new();
    assert_eq!(profile.groups().len(), 20);
    for group in profile.groups() {
        assert!(group.why().len() > 20, "{}", group.name());
        for call in group.calls() {
            assert!(
                calls.insert(call.name().to_owned()),
                "{} is in two groups",
                call.name()
            );
        }
    }
}

#[test]
fn every_call_exists_and_is_compiled_where_it_does() {
    let profile = default();
    for arch in Arch::ALL {
        let program = profile.compile(arch).unwrap();
        let length = program.instructions().len();
        assert!(length < 700, "{arch}: {length} instructions");
        assert_eq!(program.to_bytes().len(), length * 8);
    }
}

#[test]
fn the_tree_is_shallow() {
    // What a call costs is the longest way through the tree, not the program's length.
    let program = default().compile(Arch::X86_64).unwrap();
    let comparisons = |number: u32| {
        let (mut at, mut count) = (3, 0);
        loop {
            let instruction = program.instructions()[at];
            match instruction.code {
                0x35 => {
                    count += 1;
                    let skip = if number >= instruction.k {
                        instruction.jt
                    } else {
                        instruction.jf
                    };
                    at += 1 + usize::from(skip);
                }
                0x05 => at += 1 + instruction.k as usize,
                0x06 => return count,
                // The load of the number is the first instruction; another one begins a leaf.
                0x20 if count == 0 => at += 1,
                _ => return count,
            }
        }
    };
    let deepest = (0..1024).map(comparisons).max().unwrap();
    assert!(deepest <= 10, "{deepest} comparisons");
}

#[test]
fn answers_are_those_that_programs_expect() {
    use Errno::{Eafnosupport, Einval, Enosys, Enotty, Eperm, Eprotonosupport};
    let profile = default();
    let refused = Action::Errno;
    let none = [0; 6];
    for (call, args, expected) in [
        ("read", none, Action::Allow),
        ("mount", none, Action::Kill),
        ("unshare", none, refused(Eperm)),
        ("io_uring_setup", none, refused(Enosys)),
        ("clone3", none, refused(Enosys)),
        ("memfd_create", none, refused(Enosys)),
        ("mseal", none, refused(Enosys)),
        ("shmget", none, refused(Eperm)),
        ("mlock", none, refused(Eperm)),
        ("inotify_init1", none, refused(Enosys)),
        // CLONE_VM | CLONE_THREAD | …, as a thread is made; then with CLONE_NEWUSER.
        ("clone", [0x003d_0f00, 0, 0, 0, 0, 0], Action::Allow),
        ("clone", [0x1000_0011, 0, 0, 0, 0, 0], refused(Eperm)),
        // MAP_PRIVATE | MAP_ANONYMOUS, and with MAP_HUGETLB of a size.
        ("mmap", [0, 4096, 3, 0x22, 0, 0], Action::Allow),
        ("mmap", [0, 4096, 3, 0x4_0022, 0, 0], refused(Einval)),
        ("mmap", [0, 4096, 3, 0x1_5404_0022, 0, 0], refused(Einval)),
        ("socket", [1, 0x8_0001, 0, 0, 0, 0], Action::Allow),
        ("socket", [2, 1, 6, 0, 0, 0], Action::Allow),
        ("socket", [2, 1, 262, 0, 0, 0], refused(Eprotonosupport)),
        ("socket", [2, 3, 1, 0, 0, 0], refused(Eprotonosupport)),
        ("socket", [2, 10, 0, 0, 0, 0], refused(Eprotonosupport)),
        ("socket", [16, 2, 0, 0, 0, 0], refused(Eafnosupport)),
        ("socket", [40, 1, 0, 0, 0, 0], refused(Eafnosupport)),
        // An int: the kernel sees AF_VSOCK whatever is in the upper half, and so do we.
        (
            "socket",
            [0xdead_0000_0028, 1, 0, 0, 0, 0],
            refused(Eafnosupport),
        ),
        ("socketpair", [1, 5, 0, 0, 0, 0], Action::Allow),
        ("ioctl", [0, 0x5421, 0, 0, 0, 0], Action::Allow),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], refused(Eperm)),
        ("ioctl", [0, 0x1_0000_5412, 0, 0, 0, 0], refused(Eperm)),
        ("ioctl", [0, 0x1234, 0, 0, 0, 0], refused(Enotty)),
        ("prctl", [15, 0, 0, 0, 0, 0], Action::Allow),
        ("prctl", [22, 2, 0, 0, 0, 0], refused(Eperm)),
        ("prctl", [4, 1, 0, 0, 0, 0], refused(Eperm)),
        ("arch_prctl", [0x1002, 0, 0, 0, 0, 0], Action::Allow),
        ("arch_prctl", [0x3001, 0, 0, 0, 0, 0], refused(Einval)),
        ("prlimit64", [0, 7, 0, 0, 0, 0], Action::Allow),
        ("prlimit64", [0, 7, 0x7fff_0000, 0, 0, 0], Action::Allow),
        ("prlimit64", [1, 7, 0, 0, 0, 0], refused(Eperm)),
        // Lowered to 0, the limit on core dumps would let the kernel start a program for one.
        ("prlimit64", [0, 4, 0, 0x7fff_0000, 0, 0], Action::Allow),
        ("prlimit64", [0, 4, 0x7fff_0000, 0, 0, 0], refused(Eperm)),
        (
            "prlimit64",
            [0, 0x1_0000_0004, 0x7fff_0000, 0, 0, 0],
            refused(Eperm),
        ),
        ("prlimit64", [0, 4, 1 << 32, 0, 0, 0], refused(Eperm)),
        ("setrlimit", [4, 0x7fff_0000, 0, 0, 0, 0], refused(Eperm)),
        ("personality", [0xffff_ffff, 0, 0, 0, 0, 0], Action::Allow),
        ("personality", [0x4_0000, 0, 0, 0, 0, 0], refused(Eperm)),
    ] {
        assert_eq!(decide(&profile, call, args), expected, "{call} {args:x?}");
    }
}

#[test]
fn calls_that_no_group_mentions_have_the_default_answer() {
    let program = default().compile(Arch::X86_64).unwrap();
    for number in [500, 1023, 0x3fff_ffff] {
        let data = SyscallData {
            number,
            arch: Arch::X86_64.audit_value(),
            instruction_pointer: 0,
            args: [0; 6],
        };
        assert_eq!(program.evaluate(&data), Ok(Action::Errno(Errno::Enosys)));
    }
}

#[test]
fn an_optional_group_switched_on_is_allowed_and_changes_the_digest() {
    let mut profile = default();
    let before = profile.digest();
    assert_eq!(
        before,
        <[u8; 32]>::from(Sha256::digest(include_bytes!(
            "../../../profiles/default.toml"
        )))
    );
    profile.enable("@optional-watch").unwrap();
    assert_eq!(decide(&profile, "inotify_init1", [0; 6]), Action::Allow);
    assert_eq!(
        decide(&profile, "mlock", [0; 6]),
        Action::Errno(Errno::Eperm)
    );
    assert_ne!(profile.digest(), before);
    assert!(profile.enable("@refused").is_err());
    assert!(profile.enable("@absent").is_err());
}

#[test]
fn without_internet_only_sockets_for_ip_are_refused_and_the_digest_is_another() {
    let mut profile = default();
    let before = profile.digest();
    profile.refuse_internet();
    assert_ne!(profile.digest(), before);
    let refused = Action::Errno(Errno::Eafnosupport);
    let socket =
        |family, kind, protocol| decide(&profile, "socket", [family, kind, protocol, 0, 0, 0]);
    // AF_INET and AF_INET6, with streams, datagrams and raw packets; the upper half is not looked at.
    for family in [2, 10, 2 | 1 << 32] {
        for kind in [1, 2, 3] {
            assert_eq!(socket(family, kind, 0), refused, "{family} {kind}");
        }
    }
    assert_eq!(socket(1, 1, 0), Action::Allow);
    assert_eq!(socket(1, 3, 0), Action::Errno(Errno::Eprotonosupport));
    assert_eq!(socket(40, 1, 0), refused);
}

#[test]
fn a_profile_that_kills_for_ip_still_does_without_internet() {
    let text = "schema = 1\nname = 'mine'\narch = ['x86_64']\ndefault = 'enosys'\n\
                [[group]]\nname = '@net'\nwhy = 'Unix alone.'\naction = 'allow'\n\
                [[group.call]]\nname = 'socket'\nelse = 'eperm'\n\
                [[group.call.rule]]\nwhen = [{ arg = 0, width = 32, equals = 'AF_INET6' }]\n\
                action = 'kill'\n\
                [[group.call.rule]]\nwhen = [{ arg = 0, width = 32, in = ['AF_UNIX', 'AF_INET'] },\
                { arg = 1, width = 32, equals = 'SOCK_STREAM' }, { arg = 2, width = 32, equals = 0 }]\n\
                action = 'allow'\n[use]\ninclude = ['@net']\n";
    let mut profile = Profile::parse(text, "mine").unwrap();
    profile.refuse_internet();
    let socket = |family| decide(&profile, "socket", [family, 1, 0, 0, 0, 0]);
    assert_eq!(socket(10), Action::Kill);
    assert_eq!(socket(2), Action::Errno(Errno::Eafnosupport));
    assert_eq!(socket(1), Action::Allow);
    assert_eq!(socket(16), Action::Errno(Errno::Eperm));
}

#[test]
fn what_the_runtimes_were_seen_to_use_is_allowed() {
    // Traced from servers in Go, CPython and Node; plain calls alone, those with argument tests
    // are above. Taken from traces, not from the profile.
    let traced = "accept4 access bind brk capget chdir clock_nanosleep clone close close_range \
        connect copy_file_range dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 \
        execve exit exit_group fadvise64 fchmod fchmodat fcntl fdatasync flock fstat ftruncate \
        futex getcwd getdents64 getegid geteuid getgid getpeername getpid getrandom getsockname \
        getsockopt gettid getuid kill link listen lseek madvise mkdir mkdirat mmap mprotect \
        mremap munmap nanosleep newfstatat openat pidfd_open pidfd_send_signal pipe2 poll pread64 \
        pwrite64 read readlink readlinkat recvfrom recvmsg rename renameat rmdir rseq \
        rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendfile sendto \
        set_robust_list set_tid_address setsockopt shutdown sigaltstack statx sysinfo tgkill \
        uname unlink unlinkat vfork wait4 waitid write writev";
    let profile = default();
    for call in traced.split_whitespace() {
        assert_eq!(decide(&profile, call, [0; 6]), Action::Allow, "{call}");
    }
}

#[test]
fn the_wire_trips_on_what_nothing_innocent_calls() {
    let profile = default();
    let group = profile
        .groups()
        .iter()
        .find(|group| group.name() == "@tripwire")
        .unwrap();
    assert_eq!(group.action(), GroupAction::Fixed(Action::Kill));
    assert!(group.calls().iter().any(|call| call.name() == "bpf"));
}
