//! The units: whether it is a service, and may divide its control group.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Findings, Patient};

const CHECK: &str = "unit";
/// Where systemd looks for units: the first that has one wins (systemd.unit(5)). In the first two is what
/// `systemctl set-property` sets.
const DIRECTORIES: [&str; 6] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const LAUNCHER: &str = "pinfold-launcher.service";
pub(super) const DAEMON: &str = "pinfold.service";
/// Those without which it does not start.
const NEEDED: [&str; 5] = [
    DAEMON,
    LAUNCHER,
    "pinfold-gateway.socket",
    "pinfold-admin.socket",
    "pinfold-launcher.socket",
];

pub(super) fn look(patient: &Patient<'_>, found: &mut Findings) {
    if !patient.is_service {
        found.note(CHECK, "a development installation, no service");
        return;
    }
    if !Path::new("/run/systemd/system").is_dir() {
        found.warn(
            CHECK,
            "systemd does not run here: nothing starts Pinfold again",
            "have your service manager start pinfoldd, and again where it ends with status 75",
        );
        return;
    }
    for name in NEEDED {
        if let Some((message, mend)) = out_of_use(&directories(), name) {
            found.fail(CHECK, message, mend);
            return;
        }
    }
    let launcher = text(LAUNCHER).unwrap_or_default();
    let lacks = not_delegated(&launcher);
    if lacks.is_empty() {
        found.fine(CHECK, format!("{DAEMON} and {LAUNCHER}, with delegation"));
    } else {
        let message = format!(
            "Delegate= of {LAUNCHER} lacks {}: limits of plugins cannot be set",
            lacks.join(", ")
        );
        let mend = format!(
            "sudo systemctl edit {LAUNCHER}: [Service] Delegate=cpu memory pids io; then sudo systemctl restart pinfold"
        );
        // Asked for by a policy with limits.io alone.
        match lacks.as_slice() {
            ["io"] => found.warn(CHECK, message, mend),
            _ => found.fail(CHECK, message, mend),
        }
    }
    let is_enabled = ["pinfold.service", "pinfold-gateway.socket"]
        .iter()
        .any(|unit| {
            ["multi-user.target.wants", "sockets.target.wants"]
                .iter()
                .any(|wants| {
                    Path::new("/etc/systemd/system")
                        .join(wants)
                        .join(unit)
                        .exists()
                })
        });
    if !is_enabled {
        found.warn(
            CHECK,
            "it does not start at boot",
            "sudo systemctl enable --now pinfold.service pinfold-gateway.socket pinfold-admin.socket",
        );
    }
}

/// Why a unit cannot be started, and what mends it.
fn out_of_use(directories: &[PathBuf], name: &str) -> Option<(String, String)> {
    match own_text(directories, name) {
        None => Some((
            format!("there is no unit {name}"),
            "install the package pinfold again".to_owned(),
        )),
        Some(_) if is_masked(directories, name) => Some((
            format!("{name} is masked: it does not start"),
            format!("sudo systemctl unmask {name}"),
        )),
        Some(_) => None,
    }
}

/// The text of an installed unit with its drop-ins; `None` where there is none.
pub(super) fn text(name: &str) -> Option<String> {
    effective(&directories(), name)
}

fn directories() -> Vec<PathBuf> {
    DIRECTORIES.iter().map(PathBuf::from).collect()
}

/// The text of a unit without its drop-ins.
fn own_text(directories: &[PathBuf], name: &str) -> Option<String> {
    directories
        .iter()
        .find_map(|directory| fs::read_to_string(directory.join(name)).ok())
}

/// The text of a unit with its drop-ins, as systemd reads one after the other; `None` where there is
/// none.
fn effective(directories: &[PathBuf], name: &str) -> Option<String> {
    let mut text = own_text(directories, name)?;
    let mut drop_ins: Vec<PathBuf> = Vec::new();
    for directory in directories {
        let entries = fs::read_dir(directory.join(format!("{name}.d")));
        for path in entries.into_iter().flatten().flatten().map(|it| it.path()) {
            let is_there = |one: &PathBuf| one.file_name() == path.file_name();
            if path.extension().is_some_and(|end| end == "conf") && !drop_ins.iter().any(is_there) {
                drop_ins.push(path);
            }
        }
    }
    drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    for path in drop_ins {
        text.push('\n');
        text.push_str(&fs::read_to_string(path).unwrap_or_default());
    }
    Some(text)
}

/// A mask is a link to /dev/null, or an empty file, in the place of the unit, whatever drop-ins there are
/// (systemd.unit(5)).
fn is_masked(directories: &[PathBuf], name: &str) -> bool {
    own_text(directories, name).is_some_and(|text| text.is_empty())
}

/// The controllers that a unit is not given (systemd.resource-control(5), `Delegate=`): the lists of
/// all lines together, an empty one takes back what was before.
fn not_delegated(text: &str) -> Vec<&'static str> {
    let mut given: Vec<&str> = Vec::new();
    let mut all = false;
    let values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Delegate="));
    for value in values {
        match value.trim() {
            "" | "no" | "false" | "0" | "off" => (given, all) = (Vec::new(), false),
            "yes" | "true" | "1" | "on" => all = true,
            list => given.extend(list.split_whitespace()),
        }
    }
    let wanted = ["cpu", "memory", "pids", "io"];
    let lacks = wanted
        .into_iter()
        .filter(|one| !all && !given.contains(one));
    lacks.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn delegation_is_read_as_systemd_reads_it() {
        let all = vec!["cpu", "memory", "pids", "io"];
        for (text, lacks) in [
            ("[Service]\nDelegate=yes\n", vec![]),
            ("Delegate=cpu memory pids io", vec![]),
            ("Delegate=cpu io\nDelegate=memory pids", vec![]),
            ("Delegate=cpu memory pids", vec!["io"]),
            ("Delegate=memory pids io", vec!["cpu"]),
            ("Delegate=yes\nDelegate=no\n", all.clone()),
            ("[Service]\n#Delegate=yes\n", all.clone()),
        ] {
            assert_eq!(not_delegated(text), lacks, "{text}");
        }
    }

    #[test]
    fn a_drop_in_of_an_operator_comes_after_the_unit() {
        let base = tempfile::tempdir().unwrap();
        let directories = ["etc", "lib"].map(|name| base.path().join(name)).to_vec();
        for (path, text) in [
            ("lib/x.service", "Delegate=yes\n"),
            ("lib/x.service.d/20-b.conf", "Delegate=pids\n"),
            ("etc/x.service.d/10-a.conf", "Delegate=no\n"),
            ("etc/x.service.d/notes", "Delegate=cpu memory\n"),
        ] {
            let path = base.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let text = effective(&directories, "x.service").unwrap();
        assert_eq!(not_delegated(&text), ["cpu", "memory", "io"]);
        assert_eq!(effective(&directories, "y.service"), None);
        assert!(!is_masked(&directories, "x.service"));
        symlink("/dev/null", base.path().join("etc/masked.service")).unwrap();
        fs::write(base.path().join("lib/masked.service"), "Delegate=yes\n").unwrap();
        let drop_ins = base.path().join("etc/masked.service.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::write(drop_ins.join("50-a.conf"), "[Service]\nType=notify\n").unwrap();
        assert!(is_masked(&directories, "masked.service"));
        let (message, mend) = out_of_use(&directories, "masked.service").unwrap();
        assert!(message.contains("is masked"), "{message}");
        assert_eq!(mend, "sudo systemctl unmask masked.service");
        let (message, _) = out_of_use(&directories, "y.service").unwrap();
        assert!(message.contains("there is no unit"), "{message}");
        assert_eq!(out_of_use(&directories, "x.service"), None);
    }

    #[test]
    fn every_unit_of_the_package_that_starts_is_looked_at() {
        let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd");
        let mut shipped: Vec<String> = fs::read_dir(units)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".service") || name.ends_with(".socket"))
            .collect();
        shipped.sort();
        let mut needed = NEEDED.to_vec();
        needed.sort_unstable();
        assert_eq!(needed, shipped);
    }

    #[test]
    fn what_set_property_sets_counts_before_a_drop_in_of_the_same_name() {
        let base = tempfile::tempdir().unwrap();
        // In the order in which they are looked at, below a root of their own.
        let below = |directory: &str| base.path().join(directory.trim_start_matches('/'));
        let directories: Vec<PathBuf> = DIRECTORIES.into_iter().map(below).collect();
        for (directory, path, text) in [
            ("/etc/systemd/system", "x.service", "Delegate=yes\n"),
            (
                "/etc/systemd/system",
                "x.service.d/50-a.conf",
                "Delegate=no\n",
            ),
            (
                "/etc/systemd/system.control",
                "x.service.d/50-a.conf",
                "Delegate=cpu\n",
            ),
        ] {
            let path = below(directory).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let text = effective(&directories, "x.service").unwrap();
        assert_eq!(text, "Delegate=yes\n\nDelegate=cpu\n");
    }
}
