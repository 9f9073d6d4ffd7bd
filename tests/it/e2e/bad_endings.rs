//! What the machine runs out of, or takes away: each is told with what to do about it, costs nothing
//! that serves already, and nothing that was kept.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pinfold_tests::wait_for;
use serde_json::json;

use super::bad_input::lock_database;
use super::daemon::Daemon;
use super::http::Answer;
use super::process;
use super::setup::Setup;

const GREETING: &str = "/api/plugins/hello/greeting?name=Ada";

fn new_token(daemon: &Daemon, name: &str) -> Answer {
    let wanted = json!({ "name": name, "user": name, "roles": [] });
    let asked = daemon.admin().post("/api/pinfold/v1/tokens").json(&wanted);
    asked.send()
}

/// Requires that a token is taken for its user's.
#[track_caller]
fn assert_known(daemon: &Daemon, token: &str) {
    let answer = daemon
        .http()
        .get("/api/plugins/g4/items/1")
        .token(token)
        .send();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[track_caller]
fn assert_all_known(daemon: &Daemon, tokens: &[String]) {
    for token in tokens {
        assert_known(daemon, token);
    }
}

#[track_caller]
fn assert_obstructed(answer: &Answer, what: &str, to_do: &str) {
    let problem = answer.json();
    assert_eq!(answer.status, 503, "{problem}");
    assert_eq!(problem["code"], "control.obstructed");
    let text = problem["detail"].as_str().unwrap();
    assert!(text.contains(what), "{text}");
    assert!(text.contains(to_do), "{text}");
    assert!(answer.header("retry-after").is_some());
}

/// A file system in memory with room for little.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    fn mount(place: &Path) -> Self {
        fs::create_dir_all(place).unwrap();
        let options = Some("size=1m,mode=700");
        mount(
            Some("pinfold-test"),
            place,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .unwrap();
        Self {
            place: place.into(),
        }
    }

    fn fill(&self) {
        let mut file = File::create(self.place.join("fill")).unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        fs::remove_file(self.place.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.place, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_refuses_what_has_to_be_kept_and_loses_nothing() {
    if !super::can_run_as_root() {
        return;
    }
    let setup = Setup::new().hello().plugin("g4", "goatflow-g4");
    let disk = SmallDisk::mount(&setup.base().join("state"));
    let daemon = setup.start();
    let mut kept = vec![daemon.token("before", &[])];
    disk.fill();
    // The write-ahead log may have room left from before.
    let mut refused = None;
    for number in 0..1000 {
        let name = format!("u{number}");
        let answer = new_token(&daemon, &name);
        if answer.status != 201 {
            refused = Some((name, answer));
            break;
        }
        kept.push(answer.json()["token"].as_str().unwrap().to_owned());
    }
    let (name, answer) = refused.expect("a full disk holds no thousand tokens");
    assert_obstructed(
        &answer,
        "disk that holds the daemon's state is full",
        "free space",
    );
    // What serves goes on, also where it would be recorded.
    for _ in 0..20 {
        assert_eq!(daemon.http().get(GREETING).send().status, 200);
        assert_eq!(
            daemon.http().get("/api/plugins/g4/items").send().status,
            405
        );
    }
    wait_for("the trail to be told of", || {
        let printed = daemon.setup().printed();
        let told = printed
            .lines()
            .find(|line| line.contains("audit records not written"));
        told.map(|line| assert!(line.contains("free space"), "{line}"))
    });
    assert_all_known(&daemon, &kept);

    disk.free();
    wait_for("the trail to be written", || {
        let printed = daemon.setup().printed();
        printed
            .contains("audit records written after all")
            .then_some(())
    });
    // Nothing of what was refused is there.
    let answer = new_token(&daemon, &name);
    assert_eq!(answer.status, 201, "{}", answer.text());
    kept.push(answer.json()["token"].as_str().unwrap().to_owned());

    // A daemon does not begin without room, and begins with it.
    let setup = daemon.stop();
    disk.fill();
    let (code, printed) = setup.start_and_fail();
    let last: Vec<&str> = printed.lines().rev().take(2).collect();
    assert_eq!(code, Some(1), "{printed}");
    assert!(last[1].contains("open the daemon's state"), "{printed}");
    assert!(last[0].starts_with("hint: "), "{printed}");
    disk.free();
    let daemon = setup.start();
    for plugin in ["hello", "g4"] {
        daemon.ready(plugin);
    }
    assert_all_known(&daemon, &kept);
    // Each with its record in the trail, written in the same step.
    let setup = daemon.stop();
    let database = fs::read(setup.base().join("state/pinfold.db")).unwrap();
    let record = format!("{name} for {name}").into_bytes();
    assert!(database.windows(record.len()).any(|part| part == record));
    drop(disk);
}

/// Holds the lock that SQLite's writers take in WAL mode (sqlite.org/walformat.html, "WAL locks").
fn lock_writers(file: &File) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 120,
        l_len: 1,
        l_pid: 0,
    };
    wait_for("the lock", || {
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).ok()
    });
}

#[test]
fn a_locked_state_refuses_what_has_to_be_kept_and_serves_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().hello().plugin("g4", "goatflow-g4").start();
    let before = daemon.token("before", &[]);
    let open = |name: &str| {
        let path = daemon.base().join("state").join(name);
        File::options().read(true).write(true).open(path).unwrap()
    };
    let held = open("pinfold.db-shm");
    lock_writers(&held);
    let answer = new_token(&daemon, "late");
    assert_obstructed(
        &answer,
        "another process holds pinfold.db locked",
        "end that process",
    );
    assert_eq!(daemon.http().get(GREETING).send().status, 200);
    assert_known(&daemon, &before);
    drop(held);
    let answer = new_token(&daemon, "late");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let late = answer.json()["token"].as_str().unwrap().to_owned();

    let held = open("pinfold.db");
    let setup = daemon.stop();
    lock_database(&held);
    let (code, printed) = setup.start_and_fail();
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("locked"), "{printed}");
    assert!(printed.contains("hint: end that process"), "{printed}");
    drop(held);
    let daemon = setup.start();
    assert_all_known(&daemon, &[before, late]);
}

#[test]
fn a_start_that_cannot_be_recorded_is_no_crash_and_is_made_once_it_can() {
    if !super::can_run() {
        return;
    }
    // Where any crash would be the last.
    let daemon = Setup::new()
        .plugin("g4", "goatflow-g4")
        .without_restarts()
        .start();
    daemon.call("g4", "exit", &json!({"code": 5}));
    daemon.in_state("g4", "failed");
    let shm = daemon.base().join("state/pinfold.db-shm");
    let held = File::options().read(true).write(true).open(shm).unwrap();
    lock_writers(&held);
    // Other files are another chance.
    fs::write(daemon.base().join("plugins/g4/note"), "").unwrap();
    let plugin = daemon.in_state("g4", "backing-off");
    let reason = plugin["reason"].as_str().unwrap();
    assert!(reason.contains("end that process"), "{reason}");
    assert_eq!(plugin["last_exit"], "exited with status 5");
    drop(held);
    // Nor is it a restart, which is what an end by itself is followed by.
    assert_eq!(daemon.in_state("g4", "ready")["restarts"], 0);
}

#[test]
fn clients_that_take_all_descriptors_wait_and_everything_else_goes_on() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().hello().open_files(300).start();
    let hello = daemon.plugin_pid("hello");
    // Connected before; its connection and the plugin's are there already.
    let mut early = daemon.http().connect().unwrap();
    let ask = format!("GET {GREETING} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut answered = || {
        early.write_all(ask.as_bytes()).unwrap();
        let mut answer = vec![0; 4096];
        let count = early.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    };
    assert!(answered().starts_with("HTTP/1.1 200"));
    // More than there are descriptors for, and no more than the kernel's queue takes beside.
    let held: Vec<_> = (0..300).map(|_| daemon.http().connect().unwrap()).collect();
    wait_for("the limit to be told", || {
        let printed = daemon.setup().printed();
        let told = printed
            .lines()
            .find(|line| line.contains("connections cannot be accepted"));
        told.map(|line| assert!(line.contains("LimitNOFILE"), "{line}"))
    });
    let answer = answered();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
    // Whoever waited in the queue is answered now.
    assert_eq!(daemon.http().get(GREETING).send().status, 200);
    assert_eq!(daemon.plugin_pid("hello"), hello);
    let printed = daemon.setup().printed();
    // Said once, however often it was tried.
    let told = printed.matches("connections cannot be accepted").count();
    let over = printed.matches("connections are accepted again").count();
    assert!(told <= over + 1 && told < 16, "{printed}");
}

#[test]
fn a_plugin_directory_that_cannot_be_read_is_told_and_what_runs_goes_on() {
    if !super::can_run_as_root() {
        return;
    }
    let daemon = Setup::new().hello().plugin("g4", "goatflow-g4").start();
    let pids = ["hello", "g4"].map(|name| daemon.plugin_pid(name));
    let plugins = daemon.base().join("plugins");
    let close = |is_closed: bool| {
        let mode = if is_closed { 0o700 } else { 0o750 };
        fs::set_permissions(&plugins, fs::Permissions::from_mode(mode)).unwrap();
    };
    close(true); // root's, and the daemon is another user
    assert_obstructed(&daemon.rescan(None), "may not read it", "mode 0750");
    assert_eq!(daemon.http().get(GREETING).send().status, 200);
    assert_eq!(["hello", "g4"].map(|name| daemon.plugin_pid(name)), pids);

    // Also from the start: there is a daemon, and what it found out.
    let setup = daemon.stop();
    let daemon = setup.start();
    assert!(
        daemon
            .setup()
            .printed()
            .contains("read the plugin directory")
    );
    assert_eq!(daemon.http().get("/healthz").send().status, 200);
    close(false);
    assert_eq!(daemon.rescan(None).status, 200);
    for plugin in ["hello", "g4"] {
        daemon.ready(plugin);
        assert!(process::lives(daemon.plugin_pid(plugin)));
    }
}

#[test]
fn a_killed_daemon_is_started_again_at_once_and_waits_for_its_launchers_end() {
    if !super::can_run() {
        return;
    }
    let mut daemon = Setup::new()
        .hello()
        .plugin("g4", "goatflow-g4")
        .plugin("stubborn", "goatflow-ignore-quit")
        .start();
    for _ in 0..3 {
        let launcher = daemon.launcher_pid();
        let mut before = process::descendants(launcher);
        before.insert(launcher);
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
        daemon.wait();
        // Whoever starts it does not look whether the launcher has gone.
        daemon = daemon.again().start();
        process::all_gone("a process of before", before);
        for plugin in ["hello", "g4", "stubborn"] {
            daemon.ready(plugin);
        }
    }
}
