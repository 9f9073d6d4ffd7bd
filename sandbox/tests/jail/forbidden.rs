//! Acts that must fail inside, and the proof that each succeeds outside. A second run without a
//! filter shows what does not rest on it.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::ability;
use super::harness::{
    can_ban_memory_files, end_of, inside, launch, no_filter, output, outside, spec, wait_readable,
};
use pinfold_policy::Wanted;
use pinfold_sandbox::jail::{ExitStatus, Heard};
use pinfold_sandbox::seccomp::{Arch, Profile, syscall_name};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;
const EPROTONOSUPPORT: i32 = 93;
const ECONNREFUSED: i32 = 111;

/// Runs the acts outside, where each must succeed, then inside with and without the filter.
fn compare(acts: &[(&str, i32, i32)]) {
    let names: Vec<_> = acts.iter().map(|(act, ..)| *act).collect();
    for line in outside(&names).lines().filter(|line| *line != "executed") {
        assert!(line.ends_with(" ok"), "outside: {line}");
    }
    let lines = |errnos: Vec<i32>| {
        let pairs = names.iter().zip(errnos);
        pairs
            .map(|(act, errno)| format!("{act} {errno}\n"))
            .collect::<String>()
    };
    let mut spec = spec(&names);
    assert_eq!(
        inside(&spec),
        lines(acts.iter().map(|act| act.1).collect()),
        "with the filter"
    );
    spec.filter = no_filter();
    assert_eq!(
        inside(&spec),
        lines(acts.iter().map(|act| act.2).collect()),
        "without a filter"
    );
}

#[test]
fn the_hosts_files_processes_and_sockets_are_out_of_reach() {
    if !ability::root("the_hosts_files_processes_and_sockets_are_out_of_reach") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("of-the-host");
    std::fs::write(&file, "x").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("pinfold-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    compare(&[
        (&format!("read:{}", file.display()), ENOENT, ENOENT),
        (&format!("signal:{}", std::process::id()), ESRCH, ESRCH),
        (
            &format!("tcp:{}", tcp.local_addr().unwrap()),
            ECONNREFUSED,
            ECONNREFUSED,
        ),
        (&format!("abstract:{name}"), ECONNREFUSED, ECONNREFUSED),
    ]);
}

#[test]
fn nothing_but_the_stage_is_executed() {
    if !ability::root("nothing_but_the_stage_is_executed") {
        return;
    }
    // The memory file is refused by the filter before there is one, and by the ban without it. The
    // last act of each run, because it takes the process over where it succeeds.
    let copy = format!("/tmp/pinfold-probe-copy-{}", std::process::id());
    let (in_tmp, in_memory) = (format!("execute:{copy}"), "execute-memory");
    if can_ban_memory_files() {
        compare(&[
            (in_tmp.as_str(), EACCES, EACCES),
            (in_memory, ENOSYS, EACCES),
        ]);
    } else {
        // Then the filter is the only wall.
        compare(&[(in_tmp.as_str(), EACCES, EACCES)]);
        assert_eq!(outside(&[in_memory]), "executed\n");
        let refused = format!("{in_memory} {ENOSYS}\n");
        assert_eq!(inside(&spec(&[in_memory])), refused);
    }
    std::fs::remove_file(copy).unwrap();
}

#[test]
fn rights_cannot_be_had() {
    if !ability::root("rights_cannot_be_had") {
        return;
    }
    let node = format!("/tmp/pinfold-probe-node-{}", std::process::id());
    let file = format!("/tmp/pinfold-probe-file-{}", std::process::id());
    compare(&[
        // Refused by path first; and there is no such user id in its own namespace.
        (&format!("mknod:{node}"), EPERM, EACCES),
        ("setuid:0", EPERM, EINVAL),
        ("nice:-1", EPERM, EACCES),
        ("unshare:131072", EPERM, EPERM), // CLONE_NEWNS
    ]);
    std::fs::remove_file(node).unwrap();
    let acts = [format!("create:{file}"), format!("chown:{file}")];
    let acts: Vec<_> = acts.iter().map(String::as_str).collect();
    assert_eq!(
        inside(&spec(&acts)),
        format!("create:{file} ok\nchown:{file} 1\n")
    );
    assert_eq!(
        outside(&acts),
        format!("create:{file} ok\nchown:{file} ok\n")
    );
    std::fs::remove_file(file).unwrap();
}

#[test]
fn socket_families_of_the_kernel_are_closed() {
    if !ability::root("socket_families_of_the_kernel_are_closed") {
        return;
    }
    // AF_NETLINK, raw IP, AF_PACKET: without the filter only the capability is missing, and
    // netlink is open.
    compare(&[
        ("socket:2,3,1", EPROTONOSUPPORT, EPERM),
        ("socket:17,3,0", EAFNOSUPPORT, EPERM),
    ]);
    assert_eq!(outside(&["socket:16,3,0"]), "socket:16,3,0 ok\n");
    assert_eq!(
        inside(&spec(&["socket:16,3,0"])),
        format!("socket:16,3,0 {EAFNOSUPPORT}\n")
    );
}

#[test]
fn the_root_the_stage_and_etc_cannot_be_written() {
    if !ability::root("the_root_the_stage_and_etc_cannot_be_written") {
        return;
    }
    let acts = [
        "create:/x",
        "create:/plugin/x",
        "create:/etc/x",
        "create:/app/x",
        "create:/dev/x",
    ];
    let expected: String = acts.iter().map(|act| format!("{act} {EROFS}\n")).collect();
    let mut spec = spec(&acts);
    spec.filter = no_filter();
    assert_eq!(inside(&spec), expected);
    // Where it may write, a link is made but not followed; by path it may not be made at all.
    spec.args = vec!["link:/run/plugin/l".to_owned()];
    assert_eq!(inside(&spec), format!("link:/run/plugin/l {EACCES}\n"));
    spec.landlock = Wanted::Off;
    spec.args = ["link:/run/plugin/l", "read:/run/plugin/l"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        inside(&spec),
        "link:/run/plugin/l ok\nread:/run/plugin/l 40\n"
    );
}

#[test]
fn a_mount_is_the_end_of_the_plugin() {
    if !ability::root("a_mount_is_the_end_of_the_plugin") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let act = format!("mount:{}", directory.path().display());
    assert_eq!(outside(&[&act]), format!("{act} ok\n"));
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    let killed = launch(&spec(&["mount:/tmp"])).unwrap();
    assert_eq!(end_of(&killed), Some(ExitStatus::Signal(31)), "SIGSYS");
    assert_eq!(output(&killed), "");
    let mut unfiltered = spec(&["mount:/tmp"]);
    unfiltered.filter = no_filter();
    assert_eq!(inside(&unfiltered), format!("mount:/tmp {EPERM}\n"));
}

#[test]
fn a_refused_call_is_told_with_its_arguments_and_never_made() {
    if !ability::root("a_refused_call_is_told_with_its_arguments_and_never_made") {
        return;
    }
    let profile = Profile::builtin("default").unwrap();
    let program = profile.compile(Arch::native().unwrap()).unwrap();
    let mut spec = spec(&["say:before", "mount:/tmp", "say:after"]);
    spec.filter = program.notifying().to_bytes();
    spec.filter_listener = true;
    let jail = launch(&spec).unwrap();
    jail.look(&spec).unwrap();
    spec.filter_listener = false;
    assert_eq!(
        jail.look(&spec).unwrap_err().to_string(),
        "P10 look: the filter's listener is held, planned was absent"
    );
    wait_readable(jail.filter_listener.as_ref().unwrap());
    let Heard::Call(stopped) = jail.heard().unwrap() else {
        panic!("nothing was told");
    };
    let name = syscall_name(Arch::native().unwrap(), stopped.number);
    assert_eq!(name, Some("mount"));
    // Source and type are the same text, there are no flags and no data.
    assert_eq!(stopped.arguments[0], stopped.arguments[2]);
    assert_eq!(stopped.arguments[3..5], [0, 0]);
    assert_eq!(jail.heard().unwrap(), Heard::Nothing);
    jail.kill().unwrap();
    wait_readable(&jail.reaper);
    assert_eq!(jail.plugin_status(), None);
    assert_eq!(output(&jail), "before\n");
    assert_eq!(jail.heard().unwrap(), Heard::End);
}
