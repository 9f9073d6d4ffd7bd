//! The devices that a jail may open, on version 1: the five of its `/dev`, and no other.
//!
//! Version 2 has no controller for it but programs of bpf(2), which the launcher has forbidden itself.
//! There what the jail has without it is all: no mount but those five lets a device be opened, and no
//! capability to make one.

use std::path::Path;

use pinfold_policy::Control;

use super::dir::Dir;
use super::{Applied, How, Reason};

/// Major and minor number of each: null, zero, full, random, urandom (linux/major.h, and the
/// kernel's list of devices).
pub const JAIL_DEVICES: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Takes every device from a group that nobody has entered, and gives it the five; then reads what
/// it has.
pub(super) fn limit(dir: &Dir) -> Applied {
    let write = |file: &str, rule: &str| {
        dir.write(file, rule)
            .map_err(|error| Reason::refused(format!("write {file}"), dir.path(), &error))
    };
    let mut set = write("devices.deny", "a");
    for device in JAIL_DEVICES {
        set = set.and_then(|()| write("devices.allow", &rule(device)));
    }
    let seen = set.and_then(|()| {
        dir.read("devices.list")
            .map_err(|error| Reason::refused("read devices.list", dir.path(), &error))
    });
    match seen.and_then(|list| check(&list, dir.path())) {
        Ok(()) => Applied::enforced(Control::Devices, How::V1),
        Err(reason) => Applied::missing(Control::Devices, reason),
    }
}

/// Reading and writing, not making.
fn rule((major, minor): (u32, u32)) -> String {
    format!("c {major}:{minor} rw")
}

fn check(list: &str, path: &Path) -> Result<(), Reason> {
    let mut found: Vec<&str> = list.lines().collect();
    found.sort_unstable();
    let mut expected = JAIL_DEVICES.map(rule);
    expected.sort_unstable();
    match found == expected {
        true => Ok(()),
        false => {
            let detail = format!("{} has {found:?}", path.display());
            Err(Reason::absent("read devices.list", detail))
        }
    }
}
