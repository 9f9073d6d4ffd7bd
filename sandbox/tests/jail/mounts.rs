//! What of the host a policy shows a plugin: what it can do there, and what the kernel keeps it from.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::ability;
use super::harness::{PLUGIN_ID, has_landlock, inside, no_filter, outside, spec, stage};
use pinfold_policy::Wanted;
use pinfold_sandbox::jail::{HostMount, JailSpec};
use rustix::fs::{CWD, FileType, Mode, OFlags};

const EACCES: &str = "13";
const EROFS: &str = "30";
const ELOOP: &str = "40";

/// A directory of the host's that everybody may write to, with one of each kind in it.
fn place() -> tempfile::TempDir {
    // Outside a device has to be one: /tmp may be mounted with nodev.
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = |name: &str| place.path().join(name);
    let open_to_all = |name: &str| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o666)).unwrap();
    };
    fs::write(path("f"), "content\n").unwrap();
    open_to_all("f");
    fs::copy(stage().join("probe"), path("probe")).unwrap();
    symlink("f", path("link")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, path("null"), FileType::CharacterDevice, mode, null).unwrap();
    open_to_all("null");
    place
}

fn shown(place: &Path, target: &str, is_writable: bool) -> HostMount {
    let opened = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    HostMount {
        source: place.display().to_string(),
        target: target.to_owned(),
        opened,
        is_directory: place.is_dir(),
        is_writable,
    }
}

/// What came of acts in a directory, each in `{}`, in a jail in which it is at `/data/here`.
fn inside_of(place: &Path, acts: &[&str], is_writable: bool, jail: JailSpec) -> Vec<String> {
    let acts: Vec<String> = acts
        .iter()
        .map(|act| act.replace("{}", "/data/here"))
        .collect();
    let jail = JailSpec {
        args: acts,
        mounts: vec![shown(place, "/data/here", is_writable)],
        ..jail
    };
    outcomes(&inside(&jail))
}

/// The same acts outside.
fn outside_of(place: &Path, acts: &[&str]) -> Vec<String> {
    let place = place.display().to_string();
    let acts: Vec<String> = acts.iter().map(|act| act.replace("{}", &place)).collect();
    outcomes(&outside(
        &acts.iter().map(String::as_str).collect::<Vec<_>>(),
    ))
}

/// The last word of each line.
fn outcomes(text: &str) -> Vec<String> {
    let last = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
    text.lines().map(last).collect()
}

fn all_ok(count: usize) -> Vec<String> {
    vec!["ok".to_owned(); count]
}

#[test]
fn what_is_shown_can_be_read_and_neither_changed_nor_run_nor_used_as_a_device() {
    let test = "what_is_shown_can_be_read_and_neither_changed_nor_run_nor_used_as_a_device";
    if !ability::root(test) {
        return;
    }
    let place = place();
    let acts = [
        "read:{}/f",
        "write:{}/f",
        "create:{}/new",
        "mkdir:{}/d",
        "read:{}/null",
        "write:{}/null",
        "read:{}/link",
        "spawn:{}/probe",
        "remove:{}/f",
    ];
    // The mount alone, and with what stands behind it.
    let bare = JailSpec {
        filter: no_filter(),
        landlock: Wanted::Off,
        ..spec(&[])
    };
    for jail in [bare, spec(&[])] {
        let found = inside_of(place.path(), &acts, false, jail);
        let expected = [
            "ok", EROFS, EROFS, EROFS, EACCES, EACCES, ELOOP, EACCES, EROFS,
        ];
        assert_eq!(found, expected);
    }
    assert_eq!(outside_of(place.path(), &acts), all_ok(acts.len()));
}

#[test]
fn what_may_be_written_is_the_hosts_own_and_nothing_in_it_is_run() {
    let test = "what_may_be_written_is_the_hosts_own_and_nothing_in_it_is_run";
    if !ability::root(test) {
        return;
    }
    let place = place();
    let acts = [
        "write:{}/f",
        "create:{}/new",
        "mkdir:{}/d",
        "rename:{}/new,{}/kept",
        "read:{}/null",
        "read:{}/link",
        "spawn:{}/probe",
        "execute:{}/run",
    ];
    let expected = ["ok", "ok", "ok", "ok", EACCES, ELOOP, EACCES, EACCES];
    assert_eq!(inside_of(place.path(), &acts, true, spec(&[])), expected);
    let kept = fs::metadata(place.path().join("kept")).unwrap();
    assert_eq!(kept.uid(), PLUGIN_ID);
    let mut outside = all_ok(acts.len());
    // What was executed says so before the act is told.
    outside.insert(acts.len() - 1, "executed".to_owned());
    let another = self::place();
    assert_eq!(outside_of(another.path(), &acts), outside);
}

#[test]
fn landlock_alone_keeps_links_pipes_and_sockets_out_of_what_may_be_written() {
    let test = "landlock_alone_keeps_links_pipes_and_sockets_out_of_what_may_be_written";
    if !ability::root(test) {
        return;
    }
    if !ability::has(test, "landlock", has_landlock(1), "this kernel has none") {
        return;
    }
    let place = place();
    let acts = ["link:{}/l", "fifo:{}/p", "listen:{}/s"];
    let jail = |landlock| JailSpec {
        filter: no_filter(),
        landlock,
        ..spec(&[])
    };
    let refused = inside_of(place.path(), &acts, true, jail(Wanted::Required));
    assert_eq!(refused, [EACCES; 3]);
    let without = inside_of(place.path(), &acts, true, jail(Wanted::Off));
    assert_eq!(without, all_ok(3));
}

#[test]
fn a_socket_that_is_shown_is_reached_unless_landlock_knows_of_it() {
    let test = "a_socket_that_is_shown_is_reached_unless_landlock_knows_of_it";
    if !ability::root(test) {
        return;
    }
    let place = place();
    let path = place.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let acts = ["connect:{}/socket"];
    let expected = match has_landlock(9) {
        true => EACCES,
        false => "ok",
    };
    let found = inside_of(place.path(), &acts, false, spec(&[]));
    assert_eq!(found, [expected]);
    assert_eq!(outside_of(place.path(), &acts), all_ok(1));
}

#[test]
fn single_files_are_shown_and_every_mount_has_its_flags() {
    if !ability::root("single_files_are_shown_and_every_mount_has_its_flags") {
        return;
    }
    let place = place();
    let own = place.path().join("own");
    fs::write(&own, "").unwrap();
    chown(&own, Some(PLUGIN_ID), None).unwrap();
    let mut jail = spec(&[
        "cat:/data/one",
        "write:/data/one",
        "write:/data/two",
        "ls:/data",
        "cat:/proc/self/mountinfo",
    ]);
    jail.mounts = vec![
        shown(&place.path().join("f"), "/data/one", false),
        shown(&own, "/data/two", true),
        shown(place.path(), "/three", true),
    ];
    let text = inside(&jail);
    let mut lines = text.lines();
    let first: Vec<&str> = lines.by_ref().take(4).collect();
    let refused = format!("write:/data/one {EROFS}");
    assert_eq!(
        first,
        ["content", &refused, "write:/data/two ok", "one two"]
    );
    let flags = |target: &str| {
        let line = text
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(target));
        let flags = line.unwrap().split(' ').nth(5).unwrap();
        flags.replace(",relatime", "").replace(",noatime", "")
    };
    let inert = "nosuid,nodev,noexec,nosymfollow";
    assert_eq!(flags("/data/one"), format!("ro,{inert}"));
    assert_eq!(flags("/data/two"), format!("rw,{inert}"));
    assert_eq!(flags("/three"), format!("rw,{inert}"));
}
