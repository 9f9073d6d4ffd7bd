//! kill -9 at random moments, of everything that runs, again and again and under load: nothing is
//! left behind, nothing that was committed is lost, and all plugins answer again.
//!
//! `make chaos` does it two hundred times. A run is repeated by its seed, as far as what is killed and
//! when; what it meets is the machine's.

mod remains;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use pinfold_tests::{tell, wait_for};
use remains::Remains;
use serde_json::json;

use super::daemon::Daemon;
use super::http::Server;
use super::over::Over;
use super::process;
use super::setup::Setup;

/// The plugins, each with a path that it answers.
const PLUGINS: [(&str, &str); 3] = [
    ("hello", "/api/plugins/hello/greeting?name=Ada"),
    ("g3", "/api/plugins/g3/public"),
    ("g4", "/api/plugins/g4/public"),
];

/// Kills where nobody says how many.
const FEW: u64 = 8;
/// Longest life of a daemon that serves, and of one that starts, before something is killed.
const SERVING_LIMIT_MILLIS: u64 = 1200;
const STARTING_LIMIT_MILLIS: u64 = 600;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Daemon,
    Launcher,
    Reaper,
    Plugin,
}

#[test]
fn kills_at_random_moments_leave_nothing_behind_and_lose_nothing() {
    if !super::can_run() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let count = number("CHAOS_COUNT").unwrap_or(FEW);
    let seed = number("CHAOS_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    tell(&format!("chaos: {count} kills with SEED={seed}"));
    let mut chaos = Chaos::new(seed);
    let mut daemon = Setup::new()
        .hello()
        .plugin("g3", "goatflow-g3")
        .plugin("g4", "goatflow-g4")
        .plugin("switched", "goatflow-g2")
        .start();
    let at_first = Remains::files(&daemon);
    for round in 1..=count {
        daemon = chaos.round(round, daemon);
        if round % 20 == 0 {
            tell(&format!("chaos: {round} kills, {}", chaos.told()));
        }
    }
    for (id, token) in &chaos.tokens {
        assert!(is_known(&daemon, token), "token {id} is lost");
    }
    for (id, token) in &chaos.ended {
        assert!(!is_known(&daemon, token), "token {id} is valid again");
    }
    chaos.assert_something_happened();
    assert_eq!(Remains::files(&daemon), at_first, "files left behind");
    chaos.remains.assert_one_lease(&daemon);
    let base = daemon.base();
    let processes = process::descendants(daemon.launcher_pid());
    let setup = daemon.stop();
    process::all_gone("a jail", processes);
    chaos.remains.assert_nothing(&base);
    drop(setup);
    tell(&format!(
        "chaos: SEED={seed}: {count} kills, {}; left behind: no process, group, mount or lease",
        chaos.told()
    ));
}

/// What has happened so far.
struct Chaos {
    random: Random,
    remains: Remains,
    kills: BTreeMap<(Victim, &'static str), u64>,
    /// Tokens that were answered as made, and as ended.
    tokens: Vec<(String, String)>,
    ended: Vec<(String, String)>,
    checked: usize,
    /// Whether `switched` is, where the last change of it was answered.
    is_enabled: Option<bool>,
    switches: u64,
    asked: Arc<Asked>,
    started_by_hand: u64,
}

/// What became of the requests of the load.
#[derive(Default)]
struct Asked {
    answered: AtomicU64,
    unanswered: AtomicU64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            remains: Remains::default(),
            kills: BTreeMap::new(),
            tokens: Vec::new(),
            ended: Vec::new(),
            checked: 0,
            is_enabled: Some(true),
            switches: 0,
            asked: Arc::default(),
            started_by_hand: 0,
        }
    }

    fn told(&self) -> String {
        let kills: Vec<String> = self
            .kills
            .iter()
            .map(|((victim, when), count)| format!("{victim:?} {when} {count}"))
            .collect();
        format!(
            "{}; requests: {} answered, {} not; tokens: {} made, {} ended, none lost or revived; flags: {} changed, none lost; plugins started by hand: {}",
            kills.join(", ").to_lowercase(),
            self.asked.answered.load(Ordering::Relaxed),
            self.asked.unanswered.load(Ordering::Relaxed),
            self.tokens.len() + self.ended.len(),
            self.ended.len(),
            self.switches,
            self.started_by_hand,
        )
    }

    /// What nothing happened to cannot have been lost.
    fn assert_something_happened(&self) {
        assert!(self.asked.answered.load(Ordering::Relaxed) > 0);
        assert!(!self.tokens.is_empty(), "no token was made");
        assert!(self.switches > 0, "no flag was changed");
    }

    /// One kill, and everything in order again.
    fn round(&mut self, round: u64, mut daemon: Daemon) -> Daemon {
        self.remains.note(&daemon);
        let victim = [
            Victim::Daemon,
            Victim::Launcher,
            Victim::Reaper,
            Victim::Plugin,
        ][self.random.below(4)];
        let wait = Duration::from_millis(self.random.below_u64(SERVING_LIMIT_MILLIS));
        let launcher = daemon.launcher_pid();
        let mut before = process::descendants(launcher);
        before.insert(launcher);
        let is_over = AtomicBool::new(false);
        let made = std::thread::scope(|scope| {
            let over = Over(&is_over);
            for (_, path) in PLUGINS {
                let (http, asked) = (daemon.http().clone(), Arc::clone(&self.asked));
                let is_over = &is_over;
                scope.spawn(move || ask(&http, path, is_over, &asked));
            }
            let (admin, is_over) = (daemon.admin().clone(), &is_over);
            let committing = scope.spawn(move || commit(&admin, round, is_over));
            let (admin, was) = (daemon.admin().clone(), self.is_enabled);
            let switching = scope.spawn(move || switch(&admin, was, is_over));
            std::thread::sleep(wait); // at a random moment
            self.kills
                .entry((victim, "serving"))
                .and_modify(|count| *count += 1)
                .or_insert(1);
            match victim {
                Victim::Daemon => {
                    daemon.signal(Signal::SIGKILL);
                    assert!(!daemon.wait().success());
                }
                Victim::Launcher => {
                    process::signal(daemon.launcher_pid(), Signal::SIGKILL);
                    assert_eq!(daemon.wait().code(), Some(75), "start both again");
                }
                Victim::Reaper | Victim::Plugin => self.kill_in_a_jail(&daemon, victim),
            }
            drop(over);
            let (is_enabled, switches) = switching.join().unwrap();
            self.is_enabled = is_enabled;
            self.switches += switches;
            committing.join().unwrap()
        });
        for (id, token, is_ended) in made {
            if is_ended {
                self.ended.push((id, token));
            } else {
                self.tokens.push((id, token));
            }
        }
        if matches!(victim, Victim::Daemon | Victim::Launcher) {
            let base = daemon.base();
            let mut setup = daemon.again();
            match self.random.below(3) {
                // Whoever starts it again does not wait either.
                0 => {}
                1 => self.remains.assert_no_process(&base),
                _ => setup = self.kill_while_starting(setup),
            }
            daemon = setup.start();
            process::all_gone("a process of before", before);
        }
        self.in_order(&daemon);
        daemon
    }

    /// Kills process 1 of some jail, or the plugin in it.
    fn kill_in_a_jail(&mut self, daemon: &Daemon, victim: Victim) {
        let (name, _) = PLUGINS[self.random.below(PLUGINS.len())];
        let plugin = daemon.plugin_pid(name);
        let reaper = process::field(plugin, "PPid").and_then(|pid| pid.parse().ok());
        let pid = match victim {
            Victim::Reaper => reaper.unwrap_or(plugin),
            _ => plugin,
        };
        process::signal(pid, Signal::SIGKILL);
        process::all_gone("the plugin", [plugin]);
        wait_for("its end to be told", || {
            let now = daemon.plugin(name);
            (now["pid"].as_u64() != Some(plugin.into())).then_some(())
        });
    }

    /// Kills a daemon, or its launcher, before it has come to serve.
    fn kill_while_starting(&mut self, setup: Setup) -> Setup {
        let mut child = setup.spawn();
        let wait = Duration::from_millis(self.random.below_u64(STARTING_LIMIT_MILLIS));
        std::thread::sleep(wait); // at a random moment
        let launcher = process::children(child.id()).first().copied();
        let victim = match launcher {
            Some(launcher) if self.random.below(2) == 0 => {
                process::signal(launcher, Signal::SIGKILL);
                Victim::Launcher
            }
            _ => {
                child.kill().unwrap();
                Victim::Daemon
            }
        };
        self.kills
            .entry((victim, "starting"))
            .and_modify(|count| *count += 1)
            .or_insert(1);
        let status = wait_for("the daemon to end", || child.try_wait().unwrap());
        assert!(!status.success(), "{status}");
        if self.random.below(2) == 0 {
            self.remains.assert_no_process(&setup.base());
        }
        setup
    }

    /// Waits until every plugin answers, and looks for what was lost and what was left.
    fn in_order(&mut self, daemon: &Daemon) {
        for (name, path) in PLUGINS {
            let mut is_asked = false;
            wait_for(&format!("{name} to be ready"), || {
                let plugin = daemon.plugin(name);
                // Killed too often in a row, it waits for somebody.
                if plugin["state"] == "failed" && !is_asked {
                    is_asked = true;
                    self.started_by_hand += 1;
                    daemon.rescan(Some(name));
                }
                (plugin["state"] == "ready").then_some(())
            });
            let answer = daemon.http().get(path).send();
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        }
        let switched = daemon.plugin("switched");
        if let Some(expected) = self.is_enabled {
            assert_eq!(switched["enabled"], expected, "the flag is lost");
        }
        let is_enabled = switched["enabled"].as_bool().unwrap();
        self.is_enabled = Some(is_enabled);
        daemon.in_state("switched", if is_enabled { "ready" } else { "disabled" });
        for (id, token) in &self.tokens[self.checked..] {
            assert!(is_known(daemon, token), "token {id} is lost");
        }
        self.checked = self.tokens.len();
        if let Some((id, token)) = self.ended.last() {
            assert!(!is_known(daemon, token), "token {id} is valid again");
        }
        self.remains.assert_only_this_ones_groups(daemon);
    }
}

/// Asks one plugin until it is over.
fn ask(http: &Server, path: &str, is_over: &AtomicBool, asked: &Asked) {
    while !is_over.load(Ordering::Relaxed) {
        let answer = http.get(path).try_send();
        let is_good = answer.is_ok_and(|answer| answer.status == 200);
        let count = if is_good {
            &asked.answered
        } else {
            &asked.unanswered
        };
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5)); // a client's pace, nothing is waited for
    }
}

/// Makes tokens until it is over, and ends every fourth; gives those that were answered for, with
/// whether they were ended. What is cut off in the middle may be either.
fn commit(admin: &Server, round: u64, is_over: &AtomicBool) -> Vec<(String, String, bool)> {
    let mut made = Vec::new();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("{round}.{number}");
        let wanted = json!({ "name": name, "user": "chaos", "roles": [] });
        let answer = admin
            .post("/api/pinfold/v1/tokens")
            .json(&wanted)
            .try_send();
        let Some(answer) = answer.ok().filter(|answer| answer.status == 201) else {
            continue;
        };
        let token = answer.json();
        let text = |key: &str| token[key].as_str().unwrap().to_owned();
        let (id, token) = (text("id"), text("token"));
        let is_to_end = made.len() % 4 == 3;
        if is_to_end {
            let path = format!("/api/pinfold/v1/tokens/{id}");
            let ended = admin.request("DELETE", &path).try_send();
            if ended.is_ok_and(|answer| answer.status == 204) {
                made.push((id, token, true));
            }
        } else {
            made.push((id, token, false));
        }
        std::thread::sleep(Duration::from_millis(20)); // an administrator's pace
    }
    made
}

/// Switches a plugin off and on until it is over. Gives what was answered last, nothing where a change
/// was cut off, and how many changes were answered.
fn switch(admin: &Server, was: Option<bool>, is_over: &AtomicBool) -> (Option<bool>, u64) {
    let (mut is_enabled, mut count) = (was, 0);
    while !is_over.load(Ordering::Relaxed) {
        let wanted = !is_enabled.unwrap_or(true);
        let verb = if wanted { "enable" } else { "disable" };
        let path = format!("/api/pinfold/v1/plugins/switched/{verb}");
        let answer = admin.post(&path).try_send();
        if answer.is_ok_and(|answer| answer.status == 200) {
            (is_enabled, count) = (Some(wanted), count + 1);
        } else {
            is_enabled = None;
        }
        std::thread::sleep(Duration::from_millis(50)); // an operator's pace
    }
    (is_enabled, count)
}

/// Whether a token is taken for its user's.
fn is_known(daemon: &Daemon, token: &str) -> bool {
    let path = "/api/plugins/g4/items/1"; // for everybody who is known
    let answer = daemon.http().get(path).token(token).send();
    assert!([200, 401].contains(&answer.status), "{}", answer.text());
    answer.status == 200
}

/// SplitMix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below_u64(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.below_u64(limit as u64)).unwrap()
    }
}

/// A number that the environment gives.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}
