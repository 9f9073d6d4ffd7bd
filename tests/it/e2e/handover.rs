//! One daemon after another on a launcher that is a service of its own: plugins that go on, plugins that
//! are started anew, and requests that come meanwhile.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use pinfold_tests::{binary, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::audit::records;
use super::daemon::Daemon;
use super::http::Server;
use super::maintenance::change_database;
use super::process;
use super::setup::Setup;

/// Takes the place of the service manager: the sockets, which outlive everything that listens on them.
struct Manager {
    launcher_socket: OwnedFd,
    gateway: TcpListener,
    base: PathBuf,
    /// Of its own: an installation goes with its daemon, before the launcher.
    place: TempDir,
    launcher: Option<Child>,
}

/// What a service manager does for a service with one socket, which is its standard input here.
const PASS: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";

impl Manager {
    /// Sockets beside an installation that is complete, on which no daemon runs.
    fn new(setup: &Setup) -> Self {
        let base = setup.base();
        let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        let launcher_socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let path = base.join("run/launcher.sock");
        let address = UnixAddr::new(&path).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&launcher_socket), &address).unwrap();
        listen(&launcher_socket, Backlog::new(8).unwrap()).unwrap();
        // Who may connect is the launcher's own matter here.
        let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(path, anybody).unwrap();
        Self {
            launcher_socket,
            gateway: TcpListener::bind("127.0.0.1:0").unwrap(),
            base,
            place: pinfold_tests::scratch(),
            launcher: None,
        }
    }

    /// The launcher's service is started by the next connection.
    fn start_launcher(&mut self) {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.log_file())
            .unwrap();
        let child = Command::new("sh")
            .args(["-c", PASS, "sh"])
            .arg(binary("pinfold-launcher"))
            .arg("--config")
            .arg(self.base.join("etc/launcher.toml"))
            .arg("--service")
            .stdin(self.launcher_socket.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.launcher = Some(child);
    }

    /// The same installation for a daemon that this starts.
    fn serve(&self, setup: Setup) -> Setup {
        let socket = self.base.join("run/launcher.sock");
        setup
            .arguments(&["--launcher-socket", socket.to_str().unwrap()])
            .through(&["sh", "-c", PASS, "sh"])
            .environment("LISTEN_FDNAMES", "gateway")
            .stdin(self.gateway.try_clone().unwrap().into())
    }

    fn http(&self) -> Server {
        Server::Tcp(self.gateway.local_addr().unwrap())
    }

    fn launcher_pid(&self) -> u32 {
        self.launcher.as_ref().unwrap().id()
    }

    /// Waits for the launcher's own end.
    fn launcher_ends(&mut self) {
        let mut launcher = self.launcher.take().unwrap();
        let status = wait_for("the launcher to end", || launcher.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.place.path().join("log")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(launcher) = &mut self.launcher {
            process::signal(launcher.id(), Signal::SIGTERM);
            launcher.wait().unwrap();
        }
        if std::thread::panicking() {
            println!("the launcher printed:\n{}", self.log());
        }
    }
}

/// An installation on which a daemon has run, and a manager for it. `launcher` changes launcher.toml.
fn installed(setup: Setup, launcher: impl FnOnce(String) -> String) -> (Manager, Setup) {
    let setup = setup.start().stop();
    let path = setup.base().join("etc/launcher.toml");
    let text = launcher(fs::read_to_string(&path).unwrap());
    fs::write(path, text).unwrap();
    let manager = Manager::new(&setup);
    (manager, setup)
}

fn restart(mut daemon: Daemon) -> Daemon {
    daemon.signal(Signal::SIGUSR2);
    let status = daemon.wait();
    assert!(status.success(), "{status}");
    daemon.again().start()
}

fn kinds(daemon: &Daemon, plugin: &str) -> Vec<String> {
    let path = format!("/api/pinfold/v1/events?plugin={plugin}");
    let events = daemon.admin().get(&path).send().ok();
    let kinds = events.as_array().unwrap().iter();
    kinds
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .collect()
}

fn metric(daemon: &Daemon, line: &str) -> String {
    let metrics = daemon.admin().get("/api/pinfold/v1/metrics").send();
    let text = metrics.text();
    let value = text.lines().find_map(|one| one.strip_prefix(line));
    value
        .unwrap_or_else(|| panic!("{line}: {text}"))
        .trim()
        .to_owned()
}

#[test]
fn plugins_go_on_over_restarts_under_load_and_no_request_fails() {
    if !super::can_run_as_root() {
        return;
    }
    let plugins = Setup::new()
        .plugin("g4", "goatflow-g4")
        .plugin("g1", "goatflow-g1")
        .policy("g4", "[permissions]\ncache = 'readwrite'\n");
    let (mut manager, setup) = installed(plugins, |text| text);
    manager.start_launcher();
    let daemon = manager.serve(setup).start();
    let pids = |daemon: &Daemon| ["g4", "g1"].map(|name| daemon.plugin_pid(name));
    let before = pids(&daemon);
    let stored = json!({"key": "k", "value": "djE=", "ttl": 0});
    assert!(daemon.host("g4", "cache_set", &stored)["error"] == "");
    let http = manager.http();
    let (stop, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    let load = || {
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match http.get("/api/plugins/g4/public").try_send() {
                Ok(answer) if answer.status == 200 => {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => failed.push(format!("{}: {}", answer.status, answer.text())),
                Err(error) => failed.push(error.to_string()),
            }
        }
        failed
    };
    let more = || {
        let before = answered.load(Ordering::Relaxed);
        wait_for("requests to be answered", || {
            (answered.load(Ordering::Relaxed) > before + 50).then_some(())
        });
    };
    let (failures, daemon) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        let mut daemon = daemon;
        for _ in 0..3 {
            more();
            daemon = restart(daemon);
        }
        more();
        stop.store(true, Ordering::Relaxed);
        let clients = clients.into_iter();
        let failures: Vec<String> = clients.flat_map(|one| one.join().unwrap()).collect();
        (failures, daemon)
    });
    let answered = answered.into_inner();
    println!(
        "{answered} requests over three restarts, {} failed",
        failures.len()
    );
    assert_eq!(failures, [""; 0], "of {answered}");
    assert_eq!(pids(&daemon), before);

    let shown = daemon.ready("g4");
    assert_eq!(
        (&shown["taken_over"], &shown["handover"]),
        (&json!(true), &json!("taken over"))
    );
    assert_eq!(shown["generation"], 1);
    assert_eq!(daemon.status()["handover"], json!({"taken-over": 2}));
    assert!(kinds(&daemon, "g4").contains(&"taken-over".to_owned()));
    let taken = "pinfold_plugin_handovers_total{plugin=\"g4\",outcome=\"taken-over\"}";
    assert_eq!(metric(&daemon, taken), "1");
    // The plugin calls its new host, which is the same to it.
    assert!(daemon.host("g4", "cache_set", &stored)["error"] == "");
    // go-plugin still has a reader of its standard output for each connection that it ever had: each takes
    // one piece more before it finds out that nobody is there.
    wait_for("what it prints to be read", || {
        daemon.result("g4", "print", &json!({"text": "printed after\n"}));
        daemon.has_logged("g4", "printed after").then_some(())
    });
    // And it is started anew, and ended, like any other.
    let reloaded = daemon
        .admin()
        .post("/api/pinfold/v1/plugins/g4/reload")
        .send();
    reloaded.ok();
    let shown = daemon.ready("g4");
    assert_ne!(shown["pid"], before[0]);
    assert_eq!(
        (&shown["taken_over"], &shown["generation"]),
        (&json!(false), &json!(2))
    );
    let left = process::descendants(manager.launcher_pid());
    daemon.stop();
    manager.launcher_ends();
    process::all_gone("a jail", left);
}

#[test]
fn what_cannot_be_taken_over_is_started_anew_and_the_rest_goes_on() {
    if !super::can_run_as_root() {
        return;
    }
    let plugins = Setup::new()
        .plugin("kept", "goatflow-g4")
        .plugin("policy", "goatflow-g4")
        .plugin("files", "goatflow-g3")
        .plugin("gone", "goatflow-g2")
        .plugin("off", "goatflow-g1")
        .policy("policy", "");
    // What ends because nobody goes on with it does not wait for this.
    let longer = |text: String| text.replace("handover-limit = \"30s\"", "handover-limit = \"1h\"");
    let (mut manager, setup) = installed(plugins, longer);
    manager.start_launcher();
    let mut daemon = manager.serve(setup).start();
    let names = ["kept", "policy", "files", "gone", "off"];
    let before = names.map(|name| daemon.plugin_pid(name));
    daemon.signal(Signal::SIGUSR2);
    assert!(daemon.wait().success());
    assert!(before.iter().all(|pid| process::lives(*pid)));
    let base = daemon.base();
    daemon.add_policy("policy", "[limits]\nprocesses = 50\n");
    fs::write(base.join("plugins/files/more"), "x").unwrap();
    fs::remove_dir_all(base.join("plugins/gone")).unwrap();
    change_database(&base, "UPDATE plugin_flag SET enabled = 0 WHERE id = 'off'");
    let daemon = daemon.again().start();
    assert_eq!(daemon.plugin_pid("kept"), before[0]);
    for (name, pid, why) in [
        ("policy", before[1], "replaced: its policy has changed"),
        ("files", before[2], "replaced: its files have changed"),
    ] {
        let shown = daemon.ready(name);
        assert_ne!(shown["pid"], pid);
        assert_eq!(
            (&shown["taken_over"], &shown["handover"]),
            (&json!(false), &json!(why))
        );
        assert!(kinds(&daemon, name).contains(&"replaced".to_owned()));
        // The number of the one that it replaces is not its own.
        assert_eq!(shown["generation"], 2);
        process::all_gone(name, [pid]);
    }
    assert_eq!(
        daemon.status()["handover"],
        json!({"taken-over": 1, "replaced": 2})
    );
    // Nobody goes on with these.
    process::all_gone("the plugin that was removed", [before[3]]);
    process::all_gone("the plugin that was switched off", [before[4]]);
    let ends = || {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |it: &Value| ["plugin", "subject", "detail"].map(|key| text(&it[key]));
        let records = records(&base, &["--action", "plugin.end"]);
        records.iter().map(told).collect::<Vec<_>>()
    };
    for (name, detail) in [
        ("policy", "not taken over: its policy has changed"),
        ("files", "not taken over: its files have changed"),
        (
            "gone",
            "left by the daemon before: the next daemon does not go on with it",
        ),
        (
            "off",
            "left by the daemon before: the next daemon does not go on with it",
        ),
    ] {
        let wanted = [name, "generation 1", detail].map(str::to_owned);
        wait_for("the audit trail", || ends().contains(&wanted).then_some(()));
    }
    // And its number is not that of the one that is switched on again.
    let enabled = daemon
        .admin()
        .post("/api/pinfold/v1/plugins/off/enable")
        .send();
    enabled.ok();
    assert_eq!(daemon.ready("off")["generation"], 2);
}

#[test]
fn a_daemon_that_is_killed_or_told_to_stop_takes_its_plugins_with_it() {
    if !super::can_run_as_root() {
        return;
    }
    let plugins = Setup::new().plugin("g4", "goatflow-g4");
    let (mut manager, mut setup) = installed(plugins, |text| text);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        manager.start_launcher();
        let mut daemon = manager.serve(setup).start();
        let jails = process::descendants(manager.launcher_pid());
        daemon.signal(signal);
        daemon.wait();
        manager.launcher_ends();
        process::all_gone("a jail", jails);
        setup = daemon.again();
    }
}

#[test]
fn where_no_daemon_comes_in_time_nothing_is_left() {
    if !super::can_run_as_root() {
        return;
    }
    let plugins = Setup::new().plugin("g4", "goatflow-g4");
    let shorter =
        |text: String| text.replace("handover-limit = \"30s\"", "handover-limit = \"1s\"");
    let (mut manager, setup) = installed(plugins, shorter);
    manager.start_launcher();
    let mut daemon = manager.serve(setup).start();
    let mut groups = process::groups(daemon.plugin_pid("g4"));
    // Not each tree is mounted where it says.
    groups.retain(|group| group.to_str().unwrap().contains("/pinfold-") && group.exists());
    assert!(!groups.is_empty());
    let jails = process::descendants(manager.launcher_pid());
    daemon.signal(Signal::SIGUSR2);
    assert!(daemon.wait().success());
    manager.launcher_ends();
    process::all_gone("a jail", jails);
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(daemon.base().to_str().unwrap()),
        "{mounts}"
    );
    assert!(
        manager
            .log()
            .contains("no other daemon has come within handover-limit")
    );
    // The next one starts everything anew, as after any end.
    manager.start_launcher();
    let daemon = daemon.again().start();
    assert_eq!(daemon.ready("g4")["handover"], Value::Null);
}

#[test]
fn without_a_launcher_that_stays_the_plugins_end_in_order() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new().plugin("g4", "goatflow-g4").start();
    let jails = process::descendants(daemon.launcher_pid());
    daemon.signal(Signal::SIGUSR2);
    assert!(daemon.wait().success());
    process::all_gone("a jail", jails);
    let printed = daemon.setup().all_printed();
    assert!(
        printed.contains("plugins end with this daemon"),
        "{printed}"
    );
}
