//! Signatures of whole packages: made by `pinfold sign` and by Go, looked at without a daemon, and
//! what was altered in whatever file not executed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pinfold_tests::{go_fixture, wait_for};
use serde_json::Value;

use super::command_line::{json, pinfold, printed};
use super::daemon::Daemon;
use super::setup::Setup;
use super::trust::{Key, generate};

const FILE: &str = "pinfold-package.sig";

fn sign(directory: &Path, key: &Key, more: &[&str]) -> Value {
    let (directory, key) = (directory.to_str().unwrap(), key.private.to_str().unwrap());
    let sign = ["--json", "sign", "--package", directory, "--key", key];
    json(&pinfold(Path::new("/"), &[&sign, more].concat()))
}

fn verify(directory: &Path, key: &Key, more: &[&str]) -> Output {
    let (directory, key) = (directory.to_str().unwrap(), key.public.to_str().unwrap());
    let verify = ["--json", "verify", directory, "--key", key];
    pinfold(Path::new("/"), &[&verify, more].concat())
}

/// How a command failed.
#[track_caller]
fn failed(output: &Output, status: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(why), "{said} lacks {why}");
}

/// A daemon that serves `hello`, whose package is signed as version 1.2.0.
fn start() -> (Daemon, Key) {
    let setup = Setup::new();
    let key = generate(&setup.path("keys"), "release");
    let setup = setup.hello();
    let source = setup.path("sources/hello");
    let signed = sign(&source, &key, &["--plugin-version", "1.2.0"]);
    assert_eq!(signed["plugin"], "hello");
    let daemon = setup.start();
    let file = key.public.to_str().unwrap();
    printed(&pinfold(
        &daemon.base(),
        &["keys", "trust", file, "--plugin", "hello"],
    ));
    let granted = json(&pinfold(
        &daemon.base(),
        &["plugin", "grant", "hello", "--yes", "--json"],
    ));
    let trusted = granted["plan"]["sections"][1]["lines"].as_array().unwrap();
    let trusted: Vec<_> = trusted.iter().map(|line| &line["text"]).collect();
    assert_eq!(
        trusted,
        ["a package signed by release", "no version below 1.2.0"]
    );
    (daemon, key)
}

const WHOLE: &str = r#"package signed by "release" (version 1.2.0)"#;

#[track_caller]
fn serves(daemon: &Daemon) {
    daemon.rescan(Some("hello")).ok();
    assert_eq!(daemon.ready("hello")["trust"], WHOLE);
    let greeting = daemon.http().get("/api/plugins/hello/greeting?name=Ada");
    assert_eq!(greeting.send().ok()["greeting"], "Hello, Ada!");
}

#[test]
fn a_signed_package_serves_and_no_file_of_it_can_be_another() {
    if !super::can_run() {
        return;
    }
    let (daemon, key) = start();
    serves(&daemon);
    let base = daemon.base();
    let shown = printed(&pinfold(&base, &["plugin", "show", "hello"]));
    assert!(shown.contains(WHOLE), "{shown}");
    let list = printed(&pinfold(&base, &["plugin", "list"]));
    assert!(
        list.contains("SIGNED") && list.contains(" package "),
        "{list}"
    );
    let posture = printed(&pinfold(&base, &["posture", "hello"]));
    assert!(posture.contains(WHOLE), "{posture}");

    let directory = base.join("plugins/hello");
    let manifest = directory.join("plugin.yaml");
    let whole = fs::read(&manifest).unwrap();
    // A new daemon each time, to which no older version is known.
    let mut daemon = Some(daemon);
    let mut is_refused = |why: &str| {
        let stopped = daemon.take().unwrap().stop();
        let daemon = daemon.insert(stopped.start());
        let plugin = daemon.plugin("hello");
        assert_eq!(plugin["state"], "blocked", "{plugin}");
        let reason = plugin["reason"].as_str().unwrap();
        assert!(
            reason.contains(why) && reason.contains("(hint: "),
            "{reason}"
        );
    };
    fs::write(&manifest, [&whole[..], b"\n# more\n"].concat()).unwrap();
    is_refused("does not count: it is of sha256:");
    failed(
        &verify(&directory, &key, &[]),
        65,
        "the plugin's files are sha256:",
    );
    fs::write(&manifest, &whole).unwrap();
    sign(&directory, &key, &["--plugin-version", "1.1.9"]);
    is_refused("it is of version 1.1.9, the policy takes none below 1.2.0");
    failed(
        &verify(&directory, &key, &["--least-version", "1.2"]),
        65,
        "version 1.1.9",
    );
    sign(
        &directory,
        &key,
        &["--plugin-version", "1.2.0", "--platform", "linux-riscv64"],
    );
    is_refused("it is for linux-riscv64");
    fs::remove_file(directory.join(FILE)).unwrap();
    is_refused("\"pinfold-package.sig\" is not there");
    failed(
        &verify(&directory, &key, &[]),
        1,
        "is not signed by a key that counts",
    );
    sign(
        &directory,
        &key,
        &[
            "--plugin-version",
            "1.2.0",
            "--platform",
            "any",
            "--expires",
            "1d",
        ],
    );
    serves(daemon.as_ref().unwrap());

    let list = [
        "audit",
        "list",
        "--json",
        "--plugin",
        "hello",
        "--decision",
        "deny",
    ];
    let refusals = wait_for("the refusals to be written", || {
        let refusals = json(&pinfold(&base, &list));
        let refusals = refusals.as_array().unwrap().clone();
        (refusals.len() >= 4).then_some(refusals)
    });
    let detail = refusals.last().unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("is not there"), "{detail}");
}

#[test]
fn what_go_signs_is_accepted_and_go_accepts_what_is_signed_here() {
    if !super::can_run() {
        return;
    }
    let signer = go_fixture("signer");
    let go = |arguments: &[&str]| {
        let output = Command::new(&signer).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
            said,
        )
    };
    let (daemon, key) = start();
    let directory = daemon.base().join("plugins/hello");
    let place = directory.to_str().unwrap();
    // Ours, by Go.
    let public = fs::read_to_string(&key.public).unwrap();
    let verified = go(&["verify-package", public.trim(), place]);
    assert!(verified.0, "{}", verified.2);
    // Go's, by us.
    let made = go(&["generate"]).1;
    let (private, theirs) = made.trim().split_once('\n').unwrap();
    let platform = format!("linux-{}", std::env::consts::ARCH);
    let from = "2026-01-01T00:00:00Z";
    let signed = go(&[
        "sign-package",
        private,
        place,
        "hello",
        "2.0",
        &platform,
        from,
    ]);
    assert!(signed.0, "{}", signed.2);
    let file = daemon.setup().path("keys/go.pub");
    fs::write(&file, theirs).unwrap();
    let theirs = Key {
        private: file.clone(),
        public: file.clone(),
    };
    let verified = json(&verify(&directory, &theirs, &["--least-version", "1.9"]));
    assert_eq!(
        (&verified["package"][0], &verified["version"]),
        (&"go".into(), &"2.0".into())
    );
    failed(
        &verify(&directory, &key, &[]),
        65,
        "is not a signature of these bytes",
    );
    let file = file.to_str().unwrap();
    printed(&pinfold(
        &daemon.base(),
        &["keys", "trust", file, "--plugin", "hello"],
    ));
    printed(&pinfold(
        &daemon.base(),
        &["plugin", "grant", "hello", "--yes"],
    ));
    let plugin = daemon.ready("hello");
    assert_eq!(plugin["trust"], r#"package signed by "go" (version 2.0)"#);
}
