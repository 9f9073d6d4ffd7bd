//! A table of ways in which a plugin misbehaves. Each is run beside a healthy neighbour under load,
//! whose requests all have to be answered, and each has to leave word of what was wrong.

mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pinfold_tests::{LIMIT, deadline, slowness, stretched, tell, wait_for};
use rows::{ROWS, Row, What};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::over::Over;
use super::process;
use super::setup::Setup;

/// Rows at once: most of them wait for something.
const ROWS_AT_ONCE: usize = 3;
/// Callers of the neighbour at once.
const CALLERS: usize = 4;

/// The policy of a row. Short deadlines only for what is to miss them: a Go program may take seconds
/// to start on a busy machine.
fn policy(row: &Row) -> String {
    let start = match row.what {
        What::Start => deadline(3),
        _ => deadline(20),
    };
    // Room to fail at something else than memory.
    let (call, memory) = if row.is_roomy {
        (deadline(20), "1GiB")
    } else {
        (deadline(1), "128MiB")
    };
    format!(
        "[timeouts]
handshake = '{start}'
init = '{start}'
call = '{call}'
shutdown = '300ms'
quit = '300ms'
[limits]
memory = '{memory}'
processes = 64
[permissions]
cache = 'read'
"
    )
}

#[test]
fn each_way_to_misbehave_is_told_and_costs_the_neighbour_no_request() {
    if !super::can_run() {
        return;
    }
    let daemon = Setup::new().hello().start();
    let hello = daemon.plugin_pid("hello");
    let neighbour = Neighbour::default();
    let table = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| neighbour.ask(&daemon));
        }
        let _over = Over(&neighbour.is_over);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..ROWS_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(row) = ROWS.get(at) else { break };
                        let line = line(&daemon, &neighbour, row);
                        table.lock().unwrap().insert(at, line);
                    }
                });
            }
        });
    });
    let table = table.into_inner().unwrap();
    let wrong: Vec<&String> = table
        .values()
        .filter_map(|(line, is_right)| (!is_right).then_some(line))
        .collect();
    println!("kind       plugin                asked failed  told");
    for (line, _) in table.values() {
        println!("{line}");
    }
    let (asked, failed) = neighbour.counts();
    let first = neighbour.first_failure();
    let count = ROWS.len();
    tell(&format!(
        "{count} ways to misbehave, {} told; {asked} requests to the neighbour, {failed} failed",
        count - wrong.len(),
    ));
    assert!(wrong.is_empty(), "{first:?} {wrong:#?}");
    assert_eq!(daemon.plugin_pid("hello"), hello, "never restarted");
    // Nothing of theirs is left: the launcher has the jail of hello alone, process 1 and 2.
    process::so_many_descendants(daemon.launcher_pid(), 2);
    let memory = process::field(daemon.pid(), "VmHWM").unwrap();
    let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap();
    assert!(memory < 1 << 20, "the daemon has used {memory} KiB");
}

/// Runs a row: its line of the table, and whether that is as it has to be.
fn line(daemon: &Daemon, neighbour: &Neighbour, row: &Row) -> (String, bool) {
    let before = neighbour.counts();
    let told = run(daemon, row);
    neighbour.is_asked_again();
    let after = neighbour.counts();
    let (asked, failed) = (after.0 - before.0, after.1 - before.1);
    let is_right = told.is_ok() && failed == 0;
    let told = told.unwrap_or_else(|said| format!("NOT TOLD {said}"));
    let (kind, name) = (row.kind, row.name);
    let line = format!("{kind:<10} {name:<20} {asked:>6} {failed:>6}  {told}");
    (line, is_right)
}

/// Has a plugin misbehave, and gives what was told of it, or what was told instead.
fn run(daemon: &Daemon, row: &Row) -> Result<String, String> {
    let name = row.name;
    let printed = daemon.setup().printed().len();
    daemon.add_policy(name, &policy(row));
    let program = match row.what {
        What::Function(..) => "goatflow-g4",
        _ => "goatflow-any",
    };
    daemon.add_plugin(name, program);
    assert_eq!(daemon.rescan(Some(name)).status, 200, "{name}");
    let mut answers = String::new();
    match row.what {
        What::Start => {}
        What::Call => {
            let late = stretched(1).as_millis() * 3 / 2;
            answers += &call(daemon, name, "go", &json!({ "late_ms": late }));
        }
        What::Calls => {
            let (one, other) = std::thread::scope(|scope| {
                let one = scope.spawn(|| call(daemon, name, "go", &json!([1])));
                let other = scope.spawn(|| call(daemon, name, "go", &json!([2])));
                (one.join().unwrap(), other.join().unwrap())
            });
            answers = format!("{one} {other}");
        }
        What::Function(function, arguments) => {
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            answers += &call(daemon, name, function, &arguments);
        }
        What::Stop => {
            daemon.ready(name);
        }
    }
    if row.is_well_after {
        answers += &call(daemon, name, "echo", &json!("well"));
    }
    let told = row
        .told
        .replace("within 3s", &format!("within {}", deadline(3)));
    let find = || {
        let mut said = vec![answers.clone()];
        let plugin = daemon.plugin(name);
        for key in ["reason", "last_exit"] {
            said.extend(plugin[key].as_str().map(str::to_owned));
        }
        said.extend(
            daemon
                .logs(name)
                .iter()
                .filter_map(|record| Some(record["message"].as_str()?.to_owned())),
        );
        // What the daemon printed meanwhile, for what concerns one call.
        let all = daemon.setup().printed();
        let of_it = all[printed..].lines().filter(|line| line.contains(name));
        said.extend(of_it.map(str::to_owned));
        let found = said.iter().find(|text| text.contains(&told)).cloned();
        found.ok_or(said)
    };
    if matches!(row.what, What::Stop) {
        // Another instance takes its place, and it ends, however unwilling it is.
        assert_eq!(daemon.rescan(Some(name)).status, 200, "{name}");
    }
    let limit = std::time::Instant::now() + LIMIT / 3;
    let found = loop {
        match find() {
            Err(_) if std::time::Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(20));
            }
            found => break found,
        }
    };
    if row.kind == "end" && matches!(row.what, What::Function(..)) {
        // It crashed while it served: it is started again by itself.
        let again = daemon.in_state(name, "ready");
        assert!(again["generation"].as_u64() > Some(1), "{name}: {again}");
    }
    fs::remove_dir_all(daemon.base().join("plugins").join(name)).unwrap();
    assert_eq!(daemon.rescan(Some(name)).status, 204, "{name}");
    match found {
        Ok(text) => Ok(shown(&text)),
        Err(_) if row.is_fast && slowness() > 1 => Ok("too slow a machine for it".to_owned()),
        Err(said) => Err(format!("{said:#?}")),
    }
}

/// What came of a call, in one line.
fn call(daemon: &Daemon, name: &str, function: &str, arguments: &Value) -> String {
    let answer = daemon.call(name, function, arguments);
    format!("{function}: {} {}", answer.status, shown(&answer.text()))
}

/// The start of a text, for a line of the table.
fn shown(text: &str) -> String {
    text.chars().take(160).collect()
}

/// The healthy plugin, and what became of its requests.
#[derive(Default)]
struct Neighbour {
    asked: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    is_over: AtomicBool,
}

impl Neighbour {
    /// Asks until it is over.
    fn ask(&self, daemon: &Daemon) {
        while !self.is_over.load(Ordering::Relaxed) {
            let answer = daemon
                .http()
                .get("/api/plugins/hello/greeting?name=Ada")
                .try_send();
            let is_good = answer
                .as_ref()
                .is_ok_and(|answer| answer.status == 200 && answer.text().contains("Hello, Ada!"));
            if !is_good {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut first = self
                    .first_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| format!("{answer:?}"));
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10)); // a client's pace, nothing is waited for
        }
    }

    /// Waits until requests were answered that began after this was called.
    fn is_asked_again(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        let again = before + 2 * CALLERS as u64;
        wait_for("the neighbour to be asked", || {
            (self.asked.load(Ordering::Relaxed) >= again).then_some(())
        });
    }

    fn counts(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.asked), load(&self.failed))
    }

    fn first_failure(&self) -> Option<String> {
        let first = self
            .first_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}
