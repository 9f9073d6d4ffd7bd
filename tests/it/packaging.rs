//! What the packages are made of: units that systemd takes and finds closed, default configuration that the
//! programs take, manual pages that have every option.

mod manuals;
mod privileges;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pinfold_policy::{LauncherConfig, RequireSignatures};
use pinfold_tests::{repository, require, scratch};

/// Most that `systemd-analyze security` may say of each, in tenths: what docs/operations/privileges.md has.
const EXPOSURES: [(&str, &str); 2] = [
    ("pinfold.service", "11"),
    ("pinfold-launcher.service", "56"),
];

fn units() -> Vec<PathBuf> {
    let mut units: Vec<PathBuf> = fs::read_dir(repository().join("systemd"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let kind = path.extension().and_then(|kind| kind.to_str());
            matches!(kind, Some("service" | "socket" | "slice"))
        })
        .collect();
    units.sort();
    assert_eq!(units.len(), 6, "{units:?}");
    units
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> String {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() {
    if !require(&["systemd-analyze"]) {
        return;
    }
    // The programs and pages are not installed here.
    let directory = scratch();
    let mut copies = Vec::new();
    for unit in units() {
        let mut text = fs::read_to_string(&unit).unwrap();
        for program in ["/usr/bin/pinfoldd", "/usr/libexec/pinfold/pinfold-launcher"] {
            text = text.replace(&format!("ExecStart={program}"), "ExecStart=/bin/true");
        }
        let copy = directory.path().join(unit.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        copies.push(copy);
    }
    let said = analyze(&["verify", "--man=no"], &copies);
    assert!(!said.contains("pinfold"), "{said}");
}

#[test]
fn units_are_exposed_by_no_more_than_their_page_says() {
    if !require(&["systemd-analyze"]) {
        return;
    }
    for (unit, threshold) in EXPOSURES {
        let option = format!("--threshold={threshold}");
        let path = repository().join("systemd").join(unit);
        let said = analyze(
            &["security", "--offline=true", "--no-pager", &option],
            &[path],
        );
        let last = said.lines().rfind(|line| line.contains("exposure"));
        println!("{}", last.expect("an overall line"));
    }
}

/// Every directive that systemd-analyze counts, and every other that could close something, is set, or the
/// unit says why not.
#[test]
fn each_hardening_that_is_left_out_has_its_reason() {
    const COUNTED: [&str; 37] = [
        "AmbientCapabilities",
        "CapabilityBoundingSet",
        "DevicePolicy",
        "DynamicUser",
        "IPAddressDeny",
        "KeyringMode",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "NoExecPaths",
        "NoNewPrivileges",
        "PrivateDevices",
        "PrivateIPC",
        "PrivateMounts",
        "PrivateNetwork",
        "PrivateTmp",
        "PrivateUsers",
        "ProcSubset",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "RemoveIPC",
        "RestrictAddressFamilies",
        "RestrictFileSystems",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "RootDirectory",
        "SocketBindDeny",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "UMask",
    ];
    for unit in ["pinfold.service", "pinfold-launcher.service"] {
        let text = fs::read_to_string(repository().join("systemd").join(unit)).unwrap();
        let (set, reasons) = text
            .split_once("# Not set")
            .expect("a list of what is not set");
        for directive in COUNTED {
            let line = format!("\n{directive}=");
            // Its default is that already.
            let is_default = directive == "AmbientCapabilities";
            assert!(
                is_default || set.contains(&line) || reasons.contains(&format!("{directive}=")),
                "{unit} neither sets {directive}= nor says why not"
            );
        }
    }
}

#[test]
fn the_launcher_takes_its_default_configuration() {
    let path = repository().join("packaging/etc/launcher.toml");
    let launcher = LauncherConfig::parse(&fs::read(path).unwrap()).unwrap();
    assert_eq!(launcher.require_signatures, RequireSignatures::Package);
    assert_eq!(launcher.dev_grants, None);
    assert_eq!(launcher.daemon_user, "pinfold");
    // Nothing that a directory of the units or of tmpfiles does not make.
    let units: String = units().iter().map(|unit| read(unit)).collect();
    let made = units + &read(&repository().join("systemd/pinfold.tmpfiles"));
    for directory in [
        &launcher.plugin_dir,
        &launcher.policy_dir,
        &launcher.keys_dir,
    ] {
        assert!(made.contains(&format!("d {} ", directory.display())));
    }
    assert_eq!(launcher.state_dir, Path::new("/var/lib/pinfold-launcher"));
    assert!(made.contains("StateDirectory=pinfold-launcher pinfold-uids\n"));
}

#[test]
fn the_journal_takes_the_catalog() {
    if !require(&["systemd-analyze"]) {
        return;
    }
    let root = scratch();
    let shipped = repository().join("systemd/pinfold.catalog");
    for directory in ["usr/lib/systemd/catalog", "var/lib/systemd/catalog"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let copy = root.path().join("usr/lib/systemd/catalog/pinfold.catalog");
    fs::copy(&shipped, copy).unwrap();
    let journalctl = |what: &str| {
        let mut command = Command::new("journalctl");
        let output = command.arg("--root").arg(root.path()).arg(what).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    let ids: BTreeSet<&str> = listed.lines().filter_map(|line| line.get(..32)).collect();
    let text = read(&shipped);
    let written: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("-- "))
        .collect();
    assert_eq!(ids, written);
}

#[test]
fn apparmors_parser_takes_the_profile() {
    if !require(&["apparmor"]) {
        return;
    }
    let mut profile = read(&repository().join("packaging/apparmor/pinfold-launcher"));
    let needs_4 = ["abi <abi/4.0>,\n", "  userns,\n"];
    assert!(needs_4.iter().all(|line| profile.contains(line)));
    if !Path::new("/etc/apparmor.d/abi/4.0").exists() {
        // An earlier parser than the one for which the package puts the profile in place.
        for line in needs_4 {
            profile = profile.replace(line, "");
        }
    }
    let directory = scratch();
    let file = directory.path().join("pinfold-launcher");
    for (text, is_taken) in [
        (profile.clone(), true),
        (profile.replace('}', "  made-up,\n}"), false),
    ] {
        fs::write(&file, text).unwrap();
        let mut parser = Command::new("apparmor_parser");
        let parsed = parser
            .arg("--skip-kernel-load")
            .arg("--skip-cache")
            .arg(&file);
        let output = parsed.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_taken, "{said}");
    }
}

#[test]
fn the_launchers_page_has_every_option() {
    let page = read(&repository().join("packaging/man/pinfold-launcher.8")).replace("\\-", "-");
    let source = read(&repository().join("sandbox/src/launcher/args.rs"));
    let (_, help) = source.split_once("const HELP").unwrap();
    let (help, _) = help.split_once("\";").unwrap();
    let options: BTreeSet<&str> = help
        .split(|letter: char| !letter.is_ascii_lowercase() && letter != '-')
        .filter(|word| word.starts_with("--"))
        .collect();
    assert!(options.len() > 4, "{help}");
    for option in options {
        assert!(page.contains(option), "the page lacks {option}");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
