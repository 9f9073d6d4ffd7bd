//! Files that are wrong are refused with their name, the place and the reason; nobody else suffers.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::setup::Setup;

/// Looks at the plugin again, and gives why what was found is not taken, where it is not. What
/// served before goes on in any case.
fn looked_at(daemon: &Daemon, plugin: &str) -> Option<String> {
    let before = daemon.rejections(plugin).len();
    let answer = daemon.rescan(Some(plugin));
    assert_eq!(answer.status, 200, "{}", answer.text());
    daemon.ready(plugin);
    let path = format!("/api/plugins/{plugin}/public");
    assert_eq!(daemon.http().get(&path).send().status, 200);
    let mut rejections = daemon.rejections(plugin);
    (rejections.len() > before).then(|| rejections.pop().unwrap())
}

/// The line with which the daemon gave up.
fn last_word(printed: &str) -> &str {
    let mut lines = printed.lines().rev();
    lines
        .find(|line| line.starts_with("pinfoldd: "))
        .unwrap_or_default()
}

/// What was found of the plugin is not taken, for all of these reasons.
#[track_caller]
fn assert_refused(daemon: &Daemon, plugin: &str, texts: &[&str]) {
    let reason = looked_at(daemon, plugin).expect("it is not taken");
    for text in texts {
        assert!(reason.contains(text), "{text:?} is missing: {reason}");
    }
}

#[test]
fn a_bad_manifest_is_not_taken_with_line_and_reason_and_the_old_one_goes_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    let hello = daemon.plugin_pid("hello");
    let manifest = daemon.base().join("plugins/g4/plugin.yaml");
    let good = fs::read_to_string(&manifest).unwrap();
    for (text, expected) in [
        ("name: g4\nversion: [\n", "plugin.yaml: line "),
        ("name: g4\nruntime: grpc\ncolour: red\n", "line 3: "),
        (
            "runtime: grpc\nresources:\n  permissions:\n    - type: db\n      scopes: [items]\n",
            "line 5: unknown field `scopes`",
        ),
        (
            "name: other\nruntime: grpc\n",
            "name is \"other\", the plugin's directory is \"g4\"",
        ),
        ("name: g4\nruntime: wasm\n", "runtime is \"wasm\""),
        (
            "name: g4\nruntime: grpc\nbinary: ../../bin/sh\n",
            "binary \"../../bin/sh\"",
        ),
        (
            "name: g4\nruntime: grpc\nbinary: other\n",
            "entry: the policy says \"g4\", the manifest \"other\"",
        ),
        ("\u{1}", "plugin.yaml: "),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "plugin.yaml: "),
        (
            "name: g4\nruntime: grpc\nresources:\n  permissions:\n    - type: dbb\n",
            "permission type \"dbb\" is unknown, did you mean \"db\"?",
        ),
    ] {
        fs::write(&manifest, text).unwrap();
        assert_refused(&daemon, "g4", &[expected]);
    }
    fs::remove_file(&manifest).unwrap();
    assert_refused(&daemon, "g4", &["plugin.yaml"]);
    fs::write(&manifest, good).unwrap();
    assert_eq!(looked_at(&daemon, "g4"), None);
    assert_eq!(daemon.plugin_pid("hello"), hello);
}

#[test]
fn a_bad_policy_is_not_taken_with_file_line_and_reason_and_the_old_one_goes_on() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .policy("g4", "")
        .start();
    let hello = daemon.plugin_pid("hello");
    let path = daemon.base().join("etc/policy.d/g4.toml");
    let name = path.to_str().unwrap();
    let digest = daemon.ready("g4")["digest"].as_str().unwrap().to_owned();
    let head = "schema = 1\ndialect = \"goatflow\"\nentry = \"g4\"\n";
    let write = |text: &str| fs::write(&path, text).unwrap();
    let unsigned = "[trust]\nunsigned = true\n";
    for (more, expected) in [
        (format!("{unsigned}[limits\n"), "line 6: "),
        (
            format!("{unsigned}[limits]\nmemroy = '1GiB'\n"),
            "did you mean \"memory\"?",
        ),
        (format!("{unsigned}[limits]\nmemory = 'lots'\n"), "line 7: "),
        (
            format!("{unsigned}[limits]\nmemory = '1MiB'\n"),
            "no program starts in less than 8MiB",
        ),
        (
            format!("{unsigned}[env]\nLD_PRELOAD = 'x'\n"),
            "may not set \"LD_PRELOAD\"",
        ),
        (
            format!("{unsigned}[controls]\nseccomp = 'off'\n"),
            "seccomp cannot be off",
        ),
        (String::new(), "trust"),
        (
            format!("[trust]\nunsigned = true\ndigest = '{digest}'\n"),
            "needs exactly one of",
        ),
    ] {
        write(&format!("{head}{more}"));
        assert_refused(&daemon, "g4", &[name, expected]);
    }
    // Read, understood, and not satisfied.
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (more, expected) in [
        (format!("[trust]\ndigest = '{zeros}'\n"), zeros.as_str()),
        ("[trust]\nsigned-by = ['release']\n".to_owned(), "sign"),
        (
            format!("{unsigned}[controls]\nstate-quota = 'required'\n"),
            "state-quota",
        ),
    ] {
        write(&format!("{head}{more}"));
        assert_refused(&daemon, "g4", &[expected]);
    }
    write(&format!(
        "{head}{unsigned}[controls]\nstate-quota = 'required'\n"
    ));
    assert_refused(&daemon, "g4", &["state-quota is required and "]);

    // Somebody else's, or for others to write.
    let daemons = nix::unistd::User::from_name("pinfold").unwrap().unwrap();
    write(&format!("{head}{unsigned}"));
    chown(&path, Some(daemons.uid.as_raw()), None).unwrap();
    assert_refused(&daemon, "g4", &[name, "only uid 0 may own it"]);
    chown(&path, Some(0), None).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    assert_refused(&daemon, "g4", &[name, "can be written by group or others"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    assert!(looked_at(&daemon, "g4").is_some());
    fs::remove_file(&path).unwrap();
    fs::rename(&moved, &path).unwrap();

    write(&format!("{head}[trust]\ndigest = '{digest}'\n"));
    assert_eq!(looked_at(&daemon, "g4"), None);
    assert_eq!(daemon.plugin_pid("hello"), hello);
}

#[test]
fn a_bad_configuration_of_the_daemon_is_refused_with_file_line_and_nearest_key() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new();
    let path = setup.base().join("etc/pinfold.toml");
    let mut setup = setup;
    for (text, expected) in [
        (
            "lisen = '127.0.0.1:0'\n",
            "line 1: unknown key \"lisen\", did you mean \"listen\"?",
        ),
        ("\n[gateway]\nbody-limit = 5\n", "line 3: "),
        ("[gateway]\ndrain = 'soon'\n", "line 2: "),
        ("listen = [\n", "line "),
        ("listen = '0.0.0.0:8080'\n", "this version has no TLS"),
        ("log-format = 'xml'\n", "line 1: "),
        ("log = 'pinfold=loud'\n", "log filter \"pinfold=loud\""),
        ("[gateway]\nbody-limit = '1GiB'\n", "at most 256MiB"),
        (
            "[hostapi.database.main]\nurl = 'main.db'\n",
            "hostapi.database.main: url \"main.db\"",
        ),
        (
            "[hostapi.database.main]\nurl = 'sqlite:///srv/main.db'\nwrite-time = '0s'\n",
            "write-time 0s: at least 100ms",
        ),
    ] {
        setup = setup.file("etc/pinfold.toml", text);
        let (code, printed) = setup.start_and_fail();
        let last = last_word(&printed);
        assert_eq!(code, Some(78), "{text}: {printed}");
        let file = format!("pinfoldd: {}: ", path.display());
        assert!(last.starts_with(&file), "{last}");
        assert_eq!(
            last.matches(expected).count(),
            1,
            "{expected:?} once: {last}"
        );
    }
    // Plugins' statements never reach Pinfold's own database.
    let own = setup.base().join("state/pinfold.db");
    for (file, expected, status) in [
        // That may come yet.
        ("/nowhere/main.db", "is not there", 1),
        (own.to_str().unwrap(), "is Pinfold's own database", 78),
    ] {
        let database = format!("[hostapi.database.main]\nurl = 'sqlite://{file}'\n");
        setup = setup.file("etc/pinfold.toml", &database);
        let (code, printed) = setup.start_and_fail();
        assert_eq!(code, Some(status), "{printed}");
        let last = last_word(&printed);
        assert!(last.contains("\"main\""), "{printed}");
        assert!(last.contains(&format!("{file} {expected}")), "{printed}");
    }
}

#[test]
fn a_launcher_configuration_that_is_not_there_is_a_refused_configuration() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new().arguments(&["--launcher-config", "/nowhere/launcher.toml"]);
    let (code, printed) = setup.start_and_fail();
    assert_eq!(code, Some(78), "{printed}");
    let last = last_word(&printed);
    assert!(last.contains("read /nowhere/launcher.toml"), "{last}");
}

#[test]
fn sockets_that_cannot_be_served_end_the_daemon_for_good_and_turn_away_who_waits() {
    if !super::can_run() {
        return;
    }
    // Two ListenStream= of one unit.
    let two = "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=gateway:gateway; \
               exec \"$@\" 3<&0 4<&0 </dev/null";
    // An address that the gateway refuses only when it is to serve.
    let open = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=gateway; p=$1; shift 4; \
                exec \"$p\" --dev --listen 0.0.0.0:0 \"$@\" 3<&0 </dev/null";
    for (script, expected) in [
        (two, "two sockets called \"gateway\""),
        (open, "serve the gateway: listen address 0.0.0.0:0"),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let setup = Setup::new()
            .through(&["sh", "-c", script, "sh"])
            .stdin(socket.try_clone().unwrap().into());
        let (code, printed) = setup.start_and_fail();
        assert_eq!(code, Some(78), "{printed}");
        assert!(last_word(&printed).contains(expected), "{printed}");
        client.set_read_timeout(Some(pinfold_tests::LIMIT)).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "turned away");
    }
}

#[test]
fn a_bad_configuration_of_the_launcher_is_refused_with_file_line_and_nearest_key() {
    if !super::can_run_as_root() {
        return;
    }
    // Made by a first start, and then spoilt.
    let setup = Setup::new().plugin("g4", "goatflow-g4").start().stop();
    let path = setup.base().join("etc/launcher.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        (
            "plugin-dir",
            "plugin-dirr",
            "unknown key \"plugin-dirr\", did you mean \"plugin-dir\"?",
        ),
        ("as-asked", "as-wished", "line "),
        ("keys-dir = \"", "keys-dir = \"not/absolute", "not absolute"),
    ] {
        assert!(good.contains(from), "{good}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let (code, printed) = setup.start_and_fail();
        let last = last_word(&printed);
        assert_eq!(code, Some(78), "{to}: {printed}");
        assert!(last.contains(path.to_str().unwrap()), "{last}");
        assert!(last.contains(expected), "{expected:?} is missing: {last}");
    }
    // The launcher itself looks whose it is.
    fs::write(&path, &good).unwrap();
    chown(&path, Some(12_345), None).unwrap();
    let (code, printed) = setup.start_and_fail();
    // Not 75: starting both again would change nothing.
    assert_eq!(code, Some(1), "{printed}");
    let why = format!("{path:?} belongs to uid 12345");
    assert!(printed.contains(&why), "{printed}");
    assert!(printed.contains("the launcher did not start"), "{printed}");
    chown(&path, Some(0), None).unwrap();
    setup.start().ready("g4");
}

/// SQLite's lock bytes (file format, "The Lock-Byte Page"): held whole, nobody else reads or writes.
pub(super) fn lock_database(file: &File) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 0x4000_0000,
        l_len: 512,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
}

#[test]
fn a_locked_database_fails_the_call_and_nothing_else() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .policy(
            "g4",
            "[permissions]\ndb = [{ tables = ['items'], access = 'readwrite' }]\n[timeouts]\ncall = '10s'\n",
        )
        .start();
    let update = json!({"query": "UPDATE items SET price = price WHERE id = 1", "args": null});
    let good = |answer: &Value| answer["error"] == "" && answer["result"] == json!({"affected": 1});
    assert!(good(&daemon.host("g4", "db_exec", &update)));
    let pids = ["g4", "hello"].map(|name| daemon.plugin_pid(name));

    let path = daemon.base().join("state/main.db");
    let file = File::options().read(true).write(true).open(path).unwrap();
    lock_database(&file);
    let refused = daemon.host("g4", "db_exec", &update);
    let text = refused["error"].as_str().unwrap();
    assert!(text.contains("locked"), "{text}");
    assert_eq!(
        daemon
            .http()
            .get("/api/plugins/hello/greeting")
            .send()
            .status,
        200
    );
    daemon.token("somebody", &[]);
    drop(file);
    assert!(good(&daemon.host("g4", "db_exec", &update)));
    assert_eq!(["g4", "hello"].map(|name| daemon.plugin_pid(name)), pids);
}

#[test]
fn a_directory_that_is_no_plugin_is_left_alone_and_odd_files_are_refused() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new().hello().plugin("g4", "goatflow-g4").start();
    let plugins = daemon.base().join("plugins");
    fs::create_dir(plugins.join("Not a plugin")).unwrap();
    fs::write(plugins.join("file"), "").unwrap();
    std::os::unix::fs::symlink(plugins.join("g4"), plugins.join("link")).unwrap();
    fs::create_dir(plugins.join("empty")).unwrap();
    // Root would read it; the launcher reads with the daemon's rights.
    std::os::unix::fs::symlink("/etc/shadow", plugins.join("g4/notes")).unwrap();
    assert_eq!(daemon.rescan(None).status, 200);
    let listed = daemon.admin().get("/api/pinfold/v1/plugins").send().ok();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| plugin["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["empty", "g4", "hello"]);
    let empty = daemon.plugin("empty");
    assert_eq!(empty["state"], "blocked", "{empty}");
    assert_refused(&daemon, "g4", &["notes"]);
    daemon.ready("hello");
}
