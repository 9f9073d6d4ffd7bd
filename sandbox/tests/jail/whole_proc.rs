//! The whole of `/proc`: what is shown of the machine, and that over everything else lies something empty
//! that cannot be changed.

use std::path::Path;

use super::ability;
use super::harness::{inside, launch, lines, no_filter, output, outside, spec};
use pinfold_policy::Wanted;
use pinfold_sandbox::jail::{JailSpec, masked_proc};

fn whole(acts: &[&str]) -> JailSpec {
    JailSpec {
        whole_proc: true,
        ..spec(acts)
    }
}

/// What is in `/proc`, but processes.
fn entries(listed: &str) -> Vec<String> {
    let is_process = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = listed.split_whitespace();
    names
        .filter(|name| !is_process(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_machine_is_shown_and_its_processes_are_not() {
    if !ability::root("the_machine_is_shown_and_its_processes_are_not") {
        return;
    }
    let acts = [
        "read:/proc/cpuinfo",
        "read:/proc/meminfo",
        "read:/proc/stat",
        "read:/proc/self/status",
        "read:/proc/1/status",
        "read:/proc/sys/kernel/hostname",
        "write:/proc/sys/kernel/core_pattern",
    ];
    let jail = launch(&whole(&[&acts[..], &["say:seen", "wait"]].concat())).unwrap();
    let seen: Vec<_> = lines(&jail).take_while(|line| line != "seen").collect();
    jail.look(&whole(&[])).unwrap();
    let last = |line: &String| line.rsplit(' ').next().unwrap().to_owned();
    let outcomes: Vec<String> = seen.iter().map(last).collect();
    assert_eq!(
        outcomes,
        ["ok", "ok", "ok", "ok", "2", "2", "2"],
        "{seen:?}"
    );
    let all_ok: String = acts.iter().map(|act| format!("{act} ok\n")).collect();
    assert_eq!(outside(&acts), all_ok);
    // By default none of that is there.
    let default = inside(&spec(&acts[..3]));
    assert!(
        default.lines().all(|line| line.ends_with(" 2")),
        "{default}"
    );
}

#[test]
fn every_other_entry_is_empty_and_cannot_be_changed() {
    if !ability::root("every_other_entry_is_empty_and_cannot_be_changed") {
        return;
    }
    let listed = inside(&whole(&["ls:/proc"]));
    let masked: Vec<String> = entries(&listed)
        .into_iter()
        .map(|name| format!("/proc/{name}"))
        .filter(|path| masked_proc(path).is_some())
        .collect();
    for name in ["sys", "kcore", "kallsyms", "keys", "sysrq-trigger", "kmsg"] {
        let path = format!("/proc/{name}");
        assert!(
            masked.contains(&path) || !Path::new(&path).exists(),
            "{path}: {listed}"
        );
    }
    let (mut acts, mut expected) = (Vec::new(), String::new());
    for path in &masked {
        acts.push(format!("say:{path}"));
        expected += &format!("{path}\n");
        if Path::new(path).is_dir() {
            acts.extend([format!("ls:{path}"), format!("create:{path}/new")]);
            expected += &format!("\ncreate:{path}/new 30\n");
        } else {
            // The mode says no before the mount does.
            acts.extend([format!("cat:{path}"), format!("write:{path}")]);
            expected += &format!("write:{path} 13\n");
        }
    }
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    // With every layer, and with the mounts alone.
    let bare = JailSpec {
        filter: no_filter(),
        landlock: Wanted::Off,
        user_namespace: Wanted::Off,
        ..whole(&acts)
    };
    for jail in [whole(&acts), bare] {
        assert_eq!(inside(&jail), expected);
    }
}

#[test]
fn masks_are_of_a_read_only_file_system_of_the_jails_own() {
    if !ability::root("masks_are_of_a_read_only_file_system_of_the_jails_own") {
        return;
    }
    let jail = launch(&whole(&["ls:/", "ls:/proc", "cat:/proc/self/mountinfo"])).unwrap();
    let text = output(&jail);
    let (root, rest) = text.split_once('\n').unwrap();
    assert_eq!(root, "app dev etc plugin proc run tmp");
    let (listed, table) = rest.split_once('\n').unwrap();
    let mut masks = 0;
    let mut devices = std::collections::BTreeSet::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(name) = words[4].strip_prefix("/proc/") else {
            continue;
        };
        assert!(masked_proc(words[4]).is_some(), "{line}");
        let from = match Path::new("/proc").join(name).is_dir() {
            true => "/directory",
            false => "/file",
        };
        assert_eq!(words[3], from, "{line}");
        let flags = words[5].replace(",relatime", "").replace(",noatime", "");
        assert_eq!(flags, "ro,nosuid,nodev,noexec", "{line}");
        assert!(line.contains(" - tmpfs "), "{line}");
        devices.insert(words[2]);
        masks += 1;
    }
    let is_masked = |name: &String| masked_proc(&format!("/proc/{name}")).is_some();
    assert_eq!(
        masks,
        entries(listed)
            .iter()
            .filter(|name| is_masked(name))
            .count()
    );
    assert_eq!(devices.len(), 1, "{table}");
}
