//! What a policy says of reads and writes, and of devices, is in the plugin's groups.

use std::fs;
use std::path::PathBuf;

use pinfold_policy::Control;
use pinfold_sandbox::posture::State;

use crate::aftermath::groups;
use crate::machine::{Machine, has_root};
use crate::skip::skip;

const LIMITED: &str = "[limits]\nio = { write = \"1MiB\", read-ops = 50 }\n";

/// The text of a file that only one of the groups has.
fn read(groups: &[PathBuf], file: &str) -> Option<String> {
    let mut texts = groups
        .iter()
        .filter_map(|group| fs::read_to_string(group.join(file)).ok());
    texts.next()
}

/// The line of a file of limits without the disk's numbers.
fn of_disk(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split_once(' ').map_or("", |(_, rest)| rest)
}

#[test]
fn limits_of_a_disk_are_in_the_plugins_group_and_in_nobody_elses() {
    let test = "limits_of_a_disk_are_in_the_plugins_group_and_in_nobody_elses";
    if !has_root(test) {
        return;
    }
    let machine = Machine::start();
    let posture = machine.posture(None);
    let control = posture.control(Control::Io).unwrap();
    if !control.state.satisfies() {
        return skip(test, "cgroup-io", &control.reason);
    }
    let launched = machine.run("slow", &["wait"], LIMITED).unwrap();
    assert!(!launched.missing.contains(&"io".to_owned()));
    let of_slow = groups(launched.pid);
    let file = |name: &str| read(&of_slow, &format!("blkio.throttle.{name}_device"));
    match (file("write_bps"), file("read_iops")) {
        (Some(bytes), Some(operations)) => {
            assert_eq!((of_disk(&bytes), of_disk(&operations)), ("1048576", "50"));
            assert_eq!(file("read_bps").as_deref(), Some(""));
        }
        _ => {
            let limits = read(&of_slow, "io.max").unwrap();
            assert_eq!(of_disk(&limits), "rbps=max wbps=1048576 riops=50 wiops=max");
        }
    }
    let launched = machine.run("free", &["wait"], "").unwrap();
    assert!(!launched.missing.contains(&"io".to_owned()));
    let of_free = groups(launched.pid);
    assert_eq!(read(&of_free, "blkio.throttle.write_bps_device"), None);
    assert_eq!(read(&of_free, "io.max").unwrap_or_default(), "");
}

#[test]
fn a_group_of_version_1_has_the_five_devices_and_no_other() {
    let test = "a_group_of_version_1_has_the_five_devices_and_no_other";
    if !has_root(test) {
        return;
    }
    let machine = Machine::start();
    let posture = machine.posture(None);
    let control = posture.control(Control::Devices).unwrap();
    let launched = machine.run("any", &["wait"], "").unwrap();
    let Some(list) = read(&groups(launched.pid), "devices.list") else {
        assert_eq!(
            (control.state, control.how.as_str()),
            (State::Partial, "no-device mounts, no capability")
        );
        return skip(
            test,
            "cgroup-v1",
            "needs the controller devices of version 1",
        );
    };
    assert_eq!(
        (control.state, control.how.as_str()),
        (State::Enforced, "v1")
    );
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw"]
    );
    let off = "[controls]\ndevices = \"off\"\n";
    let launched = machine.run("other", &["wait"], off).unwrap();
    assert_eq!(read(&groups(launched.pid), "devices.list"), None);
}
