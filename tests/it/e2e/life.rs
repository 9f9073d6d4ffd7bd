//! Start, stop and sudden ends of the daemon, the launcher and plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use pinfold_tests::wait_for;
use serde_json::json;

use super::command_line::{pinfold, printed};
use super::daemon::Daemon;
use super::process;
use super::setup::Setup;

#[test]
fn readiness_is_told_to_the_service_manager_once_plugins_serve() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new()
        .file("etc/pinfold.toml", "[gateway]\ndrain = '90s'\n")
        .plugin("g4", "goatflow-g4");
    let (setup, manager) = notified(setup);
    let daemon = setup.start();
    let ready = told(&manager);
    let (ready, status) = ready.split_once('\n').expect("two lines");
    assert_eq!(ready, "READY=1");
    assert!(status.starts_with("STATUS=serves on http://"), "{status}");
    assert_eq!(daemon.http().get("/readyz").send().status, 200);
    assert_eq!(daemon.http().get("/healthz").send().status, 200);
    assert_eq!(
        daemon.http().get("/api/plugins/g4/public").send().status,
        200
    );
    daemon.stop();
    let end = told(&manager);
    let longest = end
        .strip_prefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=")
        .unwrap_or_else(|| panic!("{end}"));
    // The drain, and what the plugin's policy gives it.
    assert!(longest.parse::<u64>().unwrap() > 90_000_000, "{end}");
}

#[test]
fn readiness_is_told_and_requests_are_served_while_one_plugin_still_starts() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new()
        .plugin("g4", "goatflow-g4")
        .plugin("silent", "goatflow-silent")
        .policy("silent", "[timeouts]\nhandshake = '1h'\n");
    let (setup, manager) = notified(setup);
    let daemon =
        setup.start_until(|status| status["plugins"] == json!({"ready": 1, "starting": 1}));
    let early = daemon.http().get("/readyz").send().status;
    manager.set_nonblocking(true).unwrap();
    let mut buffer = [0; 256];
    let already = manager.recv(&mut buffer);
    manager.set_nonblocking(false).unwrap();
    let ready = match already {
        // On a busy machine it may have been told while this was asked.
        Ok(count) => String::from_utf8_lossy(&buffer[..count]).trim().to_owned(),
        Err(_) => {
            assert_eq!(early, 503);
            told(&manager)
        }
    };
    assert!(ready.starts_with("READY=1\nSTATUS=serves on "), "{ready}");
    assert!(ready.ends_with("; plugins still starting: 1"), "{ready}");
    let public = daemon.http().get("/api/plugins/g4/public").send();
    assert_eq!(public.status, 200);
    assert_eq!(daemon.http().get("/readyz").send().status, 200);
    let status = daemon.status();
    let late = (&status["state"], &status["still_starting"]);
    assert_eq!(late, (&json!("ready"), &json!(1)));
    let page = printed(&pinfold(&daemon.base(), &["status"]));
    assert!(
        page.contains(" is ready; plugins still starting: 1\n"),
        "{page}"
    );
    daemon.stop();
    assert!(told(&manager).starts_with("STOPPING=1\n"));
}

/// What the service manager is told goes to the socket.
fn notified(setup: Setup) -> (Setup, UnixDatagram) {
    let path = setup.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    manager
        .set_read_timeout(Some(pinfold_tests::LIMIT))
        .unwrap();
    let path = path.to_str().unwrap().to_owned();
    (setup.environment("NOTIFY_SOCKET", &path), manager)
}

fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let count = manager.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
}

#[test]
fn a_request_under_way_is_answered_before_the_daemon_ends() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let admin = daemon.token("root", &["admin"]);
    let plugin = daemon.plugin_pid("g4");
    let jails = process::descendants(daemon.launcher_pid());
    let http = daemon.http().clone();
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let call = http.post("/api/v1/plugins/g4/call/spin").token(&admin);
            call.json(&json!({"ms": 1500})).send()
        });
        let before = process::user_ticks(plugin).unwrap();
        wait_for("the plugin to be at work", || {
            (process::user_ticks(plugin)? > before + 5).then_some(())
        });
        daemon.stop();
        asked.join().unwrap()
    });
    assert!(answer.ok()["cpu_ms"].as_u64().unwrap() > 0);
    assert!(http.get("/healthz").try_send().is_err(), "nobody listens");
    process::all_gone("a jail", jails);
}

#[test]
fn logs_are_json_where_that_is_configured_and_hold_no_secret() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .file("etc/pinfold.toml", "log = 'debug'\nlog-format = 'json'\n")
        .plugin("g4", "goatflow-g4")
        .start();
    let token = daemon.token("ann", &["admin"]);
    let path = "/api/v1/plugins/g4/call/host";
    let secret =
        json!({"method": "cache_set", "args": {"key": "k", "value": "c3dvcmRmaXNo", "ttl": 0}});
    let answer = daemon.http().post(path).token(&token).json(&secret).send();
    let id = answer.header("x-request-id").unwrap().to_owned();
    answer.ok();
    daemon.result("g4", "print", &json!({"text": "swordfish\n"}));
    let printed = daemon.stop().all_printed();
    let records: Vec<serde_json::Value> = printed
        .lines()
        .filter(|line| !line.starts_with("pinfold-launcher: "))
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}: {printed}"))
        })
        .collect();
    let is_ready = |record: &serde_json::Value| {
        let fields = &record["fields"];
        fields["message"] == "plugin ready" && fields["plugin.id"] == "g4"
    };
    assert!(records.iter().any(is_ready), "{printed}");
    let access = |record: &serde_json::Value| {
        let fields = &record["fields"];
        fields["message"] == "request answered" && fields["request.id"] == id.as_str()
    };
    assert!(records.iter().any(access), "{printed}");
    for secret in [token.as_str(), "swordfish", "c3dvcmRmaXNo"] {
        assert!(
            !printed.contains(secret),
            "{secret} is in the log: {printed}"
        );
    }
}

#[test]
fn a_daemon_that_is_told_to_stop_while_a_plugin_hangs_in_its_start_ends_in_order() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .plugin("silent", "goatflow-silent")
        .policy("silent", "[timeouts]\nhandshake = '60s'\n")
        .start_until(|status| status["plugins"] == json!({"ready": 1, "starting": 1}));
    // What serves already does so.
    assert_eq!(
        daemon.http().get("/api/plugins/g4/public").send().status,
        200
    );
    let traces = Traces::of(&daemon, &["g4"]);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    traces.assert_no_process_and_mount();
    traces.assert_no_group();
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let pid = daemon.plugin_pid("g4");
    let (code, printed) = daemon.setup().start_and_fail();
    assert_eq!(code, Some(1), "{printed}");
    let own = daemon.base().join("state");
    let why = format!(
        "another pinfoldd uses the state directory {}",
        own.display()
    );
    assert!(printed.contains(&why), "{printed}");
    assert_eq!(daemon.plugin_pid("g4"), pid);
    assert_eq!(daemon.result("g4", "echo", &json!([1])), json!([1]));
}

/// What must not outlive a daemon.
struct Traces {
    processes: Vec<u32>,
    groups: Vec<PathBuf>,
    directory: PathBuf,
}

impl Traces {
    fn of(daemon: &Daemon, plugins: &[&str]) -> Self {
        let launcher = daemon.launcher_pid();
        let mut processes = vec![launcher];
        processes.extend(process::descendants(launcher));
        assert!(processes.len() > 2 * plugins.len(), "{processes:?}");
        let mut groups = Vec::new();
        for plugin in plugins {
            let pid = daemon.plugin_pid(plugin);
            for controller in ["memory", "cpu", "pids"] {
                // Where no group can be made, it is in the one that we are in.
                let group = process::try_group(pid, controller);
                if let Some(group) = group
                    && Some(&group) != process::try_group(std::process::id(), controller).as_ref()
                {
                    assert!(group.is_dir(), "{group:?}");
                    groups.push(group);
                }
            }
        }
        Self {
            processes,
            groups,
            directory: daemon.base(),
        }
    }

    fn assert_no_process_and_mount(&self) {
        process::all_gone("what it left", self.processes.iter().copied());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let directory = self.directory.to_str().unwrap();
        assert!(!mounts.contains(directory), "{mounts}");
    }

    fn assert_no_group(&self) {
        for group in &self.groups {
            wait_for(&format!("{group:?} to be gone"), || {
                (!group.exists()).then_some(())
            });
        }
    }
}

#[test]
fn a_killed_daemon_leaves_no_process_no_group_and_no_mount() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .plugin("stubborn", "goatflow-ignore-quit")
        .start();
    daemon.result("g4", "spawn", &json!({"n": 2}));
    let traces = Traces::of(&daemon, &["hello", "g4", "stubborn"]);
    daemon.signal(Signal::SIGKILL);
    assert!(!daemon.wait().success());
    traces.assert_no_process_and_mount();
    traces.assert_no_group();
}

#[test]
fn a_killed_launcher_ends_the_daemon_with_75_and_both_can_be_started_again() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new().hello().plugin("g4", "goatflow-g4").start();
    daemon.result("g4", "spawn", &json!({"n": 2}));
    let traces = Traces::of(&daemon, &["hello", "g4"]);
    process::signal(daemon.launcher_pid(), Signal::SIGKILL);
    assert_eq!(daemon.wait().code(), Some(75), "start both again");
    assert!(daemon.setup().printed().contains("the launcher is gone"));
    traces.assert_no_process_and_mount();

    let daemon = daemon.again().start();
    daemon.ready("hello");
    daemon.ready("g4");
    // Nobody was left to remove them: the next launcher does.
    traces.assert_no_group();
}

#[test]
fn plugins_in_the_directory_are_started_and_an_added_one_is_there_after_a_restart() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new().hello();
    // Comes with its own manifest, and is only put in by the command line.
    let source = setup.path("sources/late");
    super::setup::write_plugin(&source, "goatflow-g4", "");
    let daemon = setup.start();
    assert_eq!(daemon.status()["plugins"], json!({"ready": 1}));

    let add = ["plugin", "add", "--yes", source.to_str().unwrap()];
    let said = printed(&pinfold(&daemon.base(), &add));
    assert!(said.contains("/api/plugins/late/public"), "{said}");
    let path = "/api/plugins/late/public";
    assert_eq!(daemon.http().get(path).send().status, 200);

    let daemon = daemon.stop().start();
    assert_eq!(daemon.status()["plugins"], json!({"ready": 2}));
    assert_eq!(daemon.http().get(path).send().status, 200);
    daemon.ready("hello");
}

#[test]
fn a_removed_plugin_has_ended_when_it_was_looked_for() {
    if !super::can_run() {
        return;
    }
    // Nobody looks by itself.
    let daemon = Setup::new()
        .file(
            "etc/pinfold.toml",
            "[discovery]\ndebounce = '1h'\nlongest-wait = '1h'\n",
        )
        .hello()
        .plugin("g3", "goatflow-g3")
        .plugin("g4", "goatflow-g4")
        .start();
    let hello = daemon.plugin_pid("hello");
    for (name, only) in [("g4", Some("g4")), ("g3", None)] {
        let pid = daemon.plugin_pid(name);
        let path = format!("/api/plugins/{name}/public");
        assert_eq!(daemon.http().get(&path).send().status, 200);
        fs::remove_dir_all(daemon.base().join("plugins").join(name)).unwrap();
        // It runs from its sealed copy until somebody looks.
        assert_eq!(daemon.http().get(&path).send().status, 200);
        let expected = if only.is_some() { 204 } else { 200 };
        assert_eq!(daemon.rescan(only).status, expected);
        process::all_gone("the plugin", [pid]);
        assert_eq!(daemon.http().get(&path).send().status, 404);
        let path = format!("/api/pinfold/v1/plugins/{name}");
        assert_eq!(daemon.admin().get(&path).send().status, 404);
    }
    assert_eq!(daemon.plugin_pid("hello"), hello);
}

#[test]
fn unchanged_files_are_left_alone_when_they_are_looked_at() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().plugin("g", "goatflow-g3").start();
    let pid = daemon.plugin_pid("g");
    assert_eq!(daemon.rescan(None).status, 200);
    assert_eq!(daemon.plugin_pid("g"), pid);
    // Written into, not replaced: with a plugin running from this very file it would be busy.
    let digest = daemon.ready("g")["digest"].clone();
    let program = daemon.base().join("plugins/g/g");
    let new = fs::read(pinfold_tests::go_fixture("goatflow-g4")).unwrap();
    fs::write(&program, new).unwrap();
    assert_eq!(daemon.rescan(None).status, 200);
    assert_ne!(
        daemon.result("g", "token", &json!({})),
        "",
        "the third generation has none, the fourth has"
    );
    assert_ne!(daemon.ready("g")["digest"], digest);
}
