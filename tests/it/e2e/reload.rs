//! Plugins change while they serve: by plain copying, under load, half and wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use pinfold_tests::{go_fixture, wait_for};
use serde_json::json;

use super::command_line::pinfold;
use super::daemon::Daemon;
use super::process;
use super::setup::{Setup, write_plugin};

/// Who ask at once.
pub(super) const CALLERS: usize = 64;

/// As a person does it: `cp`, onto the file that is there.
fn cp(from: &Path, to: &Path) {
    let status = Command::new("cp").args([from, to]).status().unwrap();
    assert!(status.success());
}

pub(super) fn program(daemon: &Daemon, plugin: &str) -> PathBuf {
    daemon.base().join("plugins").join(plugin).join(plugin)
}

pub(super) fn wait_for_version(daemon: &Daemon, plugin: &str, version: &str) {
    wait_for(&format!("version {version}"), || {
        let answer = daemon.call(plugin, "version", &json!({}));
        (answer.status == 200 && answer.json() == version).then_some(())
    });
}

/// Asks the plugin from many sides while `work` is done; gives how many answers there were. Each
/// has to be a good one.
pub(super) fn under_load(daemon: &Daemon, plugin: &str, work: impl FnOnce()) -> usize {
    let is_done = AtomicBool::new(false);
    let path = format!("/api/plugins/{plugin}/public");
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !is_done.load(Ordering::Relaxed) {
                        let answer = daemon.http().get(&path).send();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        work();
        is_done.store(true, Ordering::Relaxed);
        callers.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

#[test]
fn a_new_program_copied_over_the_old_one_under_load_fails_no_request() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    let first = daemon.plugin_pid("p");
    let answered = under_load(&daemon, "p", || {
        for n in 0..20 {
            let version = ["v2", "v1"][n % 2];
            cp(
                &go_fixture(&format!("goatflow-{version}")),
                &program(&daemon, "p"),
            );
            wait_for_version(&daemon, "p", version);
        }
    });
    assert!(answered > CALLERS, "{answered}");
    let plugin = daemon.ready("p");
    assert!(plugin["generation"].as_u64().unwrap() > 20, "{plugin}");
    process::all_gone("the first instance", [first]);
    println!("{answered} requests answered over 20 reloads, none failed");
}

#[test]
fn a_new_version_that_fails_its_start_leaves_the_old_one_serving_and_is_told() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    let pid = daemon.plugin_pid("p");
    let answered = under_load(&daemon, "p", || {
        cp(&go_fixture("goatflow-fail-init"), &program(&daemon, "p"));
        let reason = wait_for("the new version to be refused", || {
            daemon.rejections("p").pop()
        });
        assert!(reason.contains("no database for me"), "{reason}");
    });
    assert!(answered > 0);
    assert_eq!(daemon.plugin_pid("p"), pid, "it went on");
    let plugin = daemon.ready("p");
    assert!(plugin["trust_lost"].is_null(), "{}", plugin["trust_lost"]);
    let rejected = plugin["rejected"].clone();
    let reason = rejected["reason"].as_str().unwrap();
    assert!(reason.contains("no database for me"), "{rejected}");
    assert!(rejected["digest"].as_str().unwrap().starts_with("sha256:"));
    // It crashes, and what comes back is what served, not what lies there.
    daemon.call("p", "exit", &json!({"code": 4}));
    wait_for("it to be back", || {
        let plugin = daemon.plugin("p");
        (plugin["state"] == "ready" && plugin["pid"] != pid).then_some(())
    });
    wait_for_version(&daemon, "p", "v1");
    cp(&go_fixture("goatflow-v2"), &program(&daemon, "p"));
    wait_for_version(&daemon, "p", "v2");
    assert!(daemon.ready("p")["rejected"].is_null());
}

#[test]
fn a_grant_that_does_not_come_to_count_fails_and_says_that_the_old_one_goes_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    let pid = daemon.plugin_pid("p");
    cp(&go_fixture("goatflow-fail-init"), &program(&daemon, "p"));
    let granted = pinfold(&daemon.base(), &["plugin", "grant", "--yes", "p"]);
    let said = String::from_utf8_lossy(&granted.stderr);
    assert_eq!(granted.status.code(), Some(1), "{said}");
    let expected = r#"plugin "p" goes on with the files and the policy that it had"#;
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("no database for me"), "{said}");
    assert_eq!(daemon.plugin_pid("p"), pid);
}

#[test]
fn half_a_copy_is_not_taken_and_the_whole_one_is() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("p", "goatflow-v1").start();
    let pid = daemon.plugin_pid("p");
    let new = fs::read(go_fixture("goatflow-v2")).unwrap();
    let half = new.len() / 2;
    fs::write(program(&daemon, "p"), &new[..half]).unwrap();
    wait_for("half a program to be refused", || {
        daemon.rejections("p").pop()
    });
    assert_eq!(daemon.plugin_pid("p"), pid);
    wait_for_version(&daemon, "p", "v1");
    let mut file = fs::File::options()
        .append(true)
        .open(program(&daemon, "p"))
        .unwrap();
    std::io::Write::write_all(&mut file, &new[half..]).unwrap();
    drop(file);
    wait_for_version(&daemon, "p", "v2");
}

#[test]
fn plugins_are_found_when_they_come_and_unloaded_when_they_go() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().hello().start();
    let hello = daemon.plugin_pid("hello");
    daemon.add_plugin("late", "goatflow-v1");
    wait_for_version(&daemon, "late", "v1");
    let pid = daemon.plugin_pid("late");
    fs::remove_dir_all(daemon.base().join("plugins/late")).unwrap();
    process::all_gone("the removed plugin", [pid]);
    let path = "/api/plugins/late/public";
    wait_for("its route to be gone", || {
        (daemon.http().get(path).send().status == 404).then_some(())
    });
    wait_for("it to be forgotten", || {
        let path = "/api/pinfold/v1/plugins/late";
        (daemon.admin().get(path).send().status == 404).then_some(())
    });
    assert_eq!(daemon.plugin_pid("hello"), hello);
}

#[test]
fn a_plugin_directory_that_is_replaced_is_found_again() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .file("etc/pinfold.toml", "[discovery]\ninterval = '100ms'\n")
        .plugin("p", "goatflow-v1")
        .start();
    let pid = daemon.plugin_pid("p");
    let plugins = daemon.base().join("plugins");
    fs::rename(&plugins, daemon.base().join("old")).unwrap();
    wait_for("the fault to be told", || warned(&daemon).then_some(()));
    assert_eq!(daemon.plugin_pid("p"), pid, "it runs from its sealed copy");
    copy_directory(&daemon.base().join("old"), &plugins);
    cp(&go_fixture("goatflow-v2"), &plugins.join("p/p"));
    wait_for_version(&daemon, "p", "v2");
    assert!(!warned(&daemon), "{}", daemon.status());
    daemon.add_plugin("q", "goatflow-v1");
    wait_for_version(&daemon, "q", "v1");
}

#[test]
fn an_unreadable_plugin_directory_is_told_and_ends_nothing() {
    use std::os::unix::fs::PermissionsExt;
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .file("etc/pinfold.toml", "[discovery]\ninterval = '100ms'\n")
        .plugin("p", "goatflow-v1")
        .start();
    let pid = daemon.plugin_pid("p");
    let plugins = daemon.base().join("plugins");
    let mode = |mode| fs::set_permissions(&plugins, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    wait_for("the fault to be told", || warned(&daemon).then_some(()));
    assert_eq!(daemon.plugin_pid("p"), pid);
    // One that ends meanwhile is started again, from its sealed copy.
    process::signal(pid, nix::sys::signal::Signal::SIGKILL);
    let plugin = wait_for("it to be back", || {
        Some(daemon.plugin("p")).filter(|p| p["state"] == "ready" && p["generation"] == 2)
    });
    let pid = daemon.plugin_pid("p");
    assert!(warned(&daemon), "{plugin}");
    write_plugin(&plugins.join("q"), "goatflow-v2", "");
    mode(0o750);
    wait_for_version(&daemon, "q", "v2");
    wait_for("the fault to be over", || (!warned(&daemon)).then_some(()));
    assert_eq!(daemon.plugin_pid("p"), pid);
}

fn warned(daemon: &Daemon) -> bool {
    let status = daemon.status();
    let warnings = status["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| {
        let text = warning.as_str().unwrap();
        text.starts_with("plugin directory: read the plugin directory")
    })
}

/// With owner and mode.
fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.unwrap().success());
}
