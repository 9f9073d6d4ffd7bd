//! What a plugin finds around itself.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::ability;
use super::harness::{PLUGIN_ID, directory, inside, launch, lines, output, spec};
use pinfold_policy::{ByteSize, Wanted};
use rustix::fs::{Mode, OFlags};

#[test]
fn the_root_is_small_read_only_and_shows_nothing_of_the_host() {
    if !ability::root("the_root_is_small_read_only_and_shows_nothing_of_the_host") {
        return;
    }
    let text = inside(&spec(&[
        "ls:/",
        "ls:/etc",
        "ls:/dev",
        "cwd",
        "ls:/app/config/plugins",
        "ls:/plugin",
    ]));
    let seen: Vec<_> = text.lines().collect();
    assert_eq!(seen[0], "app dev etc plugin proc run tmp");
    for name in ["group", "hosts", "nsswitch.conf", "passwd", "resolv.conf"] {
        assert!(
            seen[1].split(' ').any(|found| found == name),
            "{name} in {}",
            seen[1]
        );
    }
    assert!(!seen[1].contains("shadow"));
    assert_eq!(
        seen[2],
        "fd full null random shm stderr stdin stdout urandom zero"
    );
    assert_eq!(seen[3..], ["/app", "probe", "probe"]);
}

#[test]
fn mounts_have_their_flags_and_name_no_host_path() {
    if !ability::root("mounts_have_their_flags_and_name_no_host_path") {
        return;
    }
    let text = inside(&spec(&["cat:/proc/self/mountinfo"]));
    let mut seen: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        // Root within its file system: the stage is a directory here, the devices are files.
        let is_whole = words[3] == "/" || words[4] == "/plugin" || words[4].starts_with("/dev/");
        assert!(is_whole, "{line}");
        // When access times are kept is the host's affair.
        let flags = words[5].replace(",relatime", "").replace(",noatime", "");
        seen.push((words[4].to_owned(), flags));
    }
    seen.sort();
    let inert = "rw,nosuid,nodev,noexec";
    let device = "rw,nosuid,noexec";
    let mut expected = vec![
        ("/", "ro,nosuid,nodev,noexec".to_owned()),
        ("/dev/full", device.to_owned()),
        ("/dev/null", device.to_owned()),
        ("/dev/random", device.to_owned()),
        ("/dev/shm", inert.to_owned()),
        ("/dev/urandom", device.to_owned()),
        ("/dev/zero", device.to_owned()),
        ("/plugin", "ro,nosuid,nodev".to_owned()),
        ("/proc", inert.to_owned()),
        ("/run/plugin", format!("{inert},nosymfollow")),
        ("/tmp", inert.to_owned()),
        ("/tmp/probe-home", format!("{inert},nosymfollow")),
    ];
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        expected.push((
            "/etc/ssl/certs",
            "ro,nosuid,nodev,noexec,nosymfollow".to_owned(),
        ));
    }
    expected.sort();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(path, flags)| (path.to_owned(), flags))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn proc_shows_its_own_processes_and_nothing_of_the_kernel() {
    if !ability::root("proc_shows_its_own_processes_and_nothing_of_the_kernel") {
        return;
    }
    let text = inside(&spec(&[
        "ls:/proc",
        "read:/proc/1/status",
        "read:/proc/cpuinfo",
    ]));
    assert_eq!(
        text,
        "2 self thread-self\nread:/proc/1/status 2\nread:/proc/cpuinfo 2\n"
    );
    let mut without = spec(&["ls:/proc"]);
    without.proc = Wanted::Off;
    assert_eq!(inside(&without), "\n");
}

#[test]
fn only_the_standard_streams_are_open_and_the_arguments_are_the_specs() {
    if !ability::root("only_the_standard_streams_are_open_and_the_arguments_are_the_specs") {
        return;
    }
    let text = inside(&spec(&["fds", "args", "cat:/proc/sys/kernel/hostname"]));
    assert_eq!(
        text,
        "0 1 2\n/plugin/probe\nfds\nargs\ncat:/proc/sys/kernel/hostname\n\
         cat:/proc/sys/kernel/hostname 2\n"
    );
}

#[test]
fn generated_names_resolve_to_the_plugins_own_id() {
    if !ability::root("generated_names_resolve_to_the_plugins_own_id") {
        return;
    }
    let text = inside(&spec(&["cat:/etc/passwd", "cat:/etc/hosts", "tcp-self"]));
    let own = format!("probe:x:{PLUGIN_ID}:{PLUGIN_ID}::/tmp/probe-home:/nonexistent");
    assert!(text.lines().any(|line| line == own), "{text}");
    assert!(text.contains("127.0.0.1\tlocalhost probe\n"));
    assert!(text.ends_with("tcp-self ok\n"), "loopback is down: {text}");
}

#[test]
fn sockets_in_both_directories_are_reached_through_the_kept_descriptors() {
    if !ability::root("sockets_in_both_directories_are_reached_through_the_kept_descriptors") {
        return;
    }
    let acts = [
        "listen:/run/plugin/a.sock",
        "listen:/tmp/probe-home/b.sock",
        "say:made",
        "wait",
    ];
    let jail = launch(&spec(&acts)).unwrap();
    assert!(lines(&jail).any(|line| line == "made"));
    for (directory, name) in [
        (&jail.run_directory, "a.sock"),
        (&jail.tmp_directory, "b.sock"),
    ] {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::openat(directory, name, flags, Mode::empty()).unwrap();
        let found = rustix::fs::fstat(&socket).unwrap();
        assert_eq!(
            rustix::fs::FileType::from_raw_mode(found.st_mode),
            rustix::fs::FileType::Socket
        );
        assert_eq!(found.st_uid, PLUGIN_ID);
    }
}

#[test]
fn state_is_writable_and_lasts() {
    if !ability::root("state_is_writable_and_lasts") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(state.path(), Some(PLUGIN_ID), Some(PLUGIN_ID)).unwrap();
    let mut spec = spec(&["create:/state/kept", "execute:/state/run"]);
    spec.state = Some(directory(state.path()));
    assert_eq!(
        inside(&spec),
        "create:/state/kept ok\nexecute:/state/run 13\n"
    );
    let kept = std::fs::metadata(state.path().join("kept")).unwrap();
    assert_eq!(
        (kept.uid(), kept.permissions().mode() & 0o777),
        (PLUGIN_ID, 0o600)
    );
}

#[test]
fn memory_file_systems_are_bounded() {
    if !ability::root("memory_file_systems_are_bounded") {
        return;
    }
    let mut spec = spec(&[
        "fill:/tmp/a",
        "fill:/tmp/probe-home/b",
        "fill:/run/plugin/c",
    ]);
    spec.limits.tmp = ByteSize::mebibytes(1);
    assert_eq!(
        inside(&spec),
        "wrote 1024 KiB\nfill:/tmp/a 28\nwrote 1024 KiB\nfill:/tmp/probe-home/b 28\n\
         wrote 64 KiB\nfill:/run/plugin/c 28\n"
    );
}

#[test]
fn the_temporary_directory_may_be_tmp_itself() {
    if !ability::root("the_temporary_directory_may_be_tmp_itself") {
        return;
    }
    let mut spec = spec(&["create:/tmp/a", "ls:/tmp"]);
    spec.tmp_directory = "/tmp".to_owned();
    assert_eq!(inside(&spec), "create:/tmp/a ok\na\n");
}

#[test]
fn standard_error_is_a_pipe_of_its_own() {
    if !ability::root("standard_error_is_a_pipe_of_its_own") {
        return;
    }
    // No program there: the jail tells, and both streams end.
    let jail = launch(&spec(&["say:out"])).unwrap();
    assert_eq!(output(&jail), "out\n");
    let mut errors = String::new();
    let stderr = std::fs::File::from(jail.stderr.try_clone().unwrap());
    { stderr }.read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "");
}
