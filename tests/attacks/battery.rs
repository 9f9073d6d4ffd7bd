//! The attack battery: everything of `attempts.txt`, tried by a hostile plugin in a jail, and once
//! more where there is no jail or no broker, to show that it is they that stop it.
//!
//! `make attacks` prints the table and writes docs/security/attacks.md.

mod acts;
mod attempt;
mod bait;
mod handshakes;
mod identities;
mod known;
mod names;
mod page;
mod races;
mod sql;
mod urls;

use std::collections::{BTreeMap, BTreeSet};

use attempt::{Attempt, Group, Seen, groups};
use pinfold_tests::tell;

use super::daemon::Daemon;
use super::setup::Setup;
use bait::Bait;

/// Fewer would be no battery.
const LEAST: usize = 80;

/// What was seen of each attempt, by its id.
type Results = BTreeMap<&'static str, Seen>;

#[test]
fn every_attempt_fails_inside_and_can_succeed_outside() {
    if !super::can_run_as_root() {
        return;
    }
    let groups = groups();
    let bait = Bait::lay();
    let daemon = bait.daemon();
    let results = run(&daemon, &bait, &groups);
    let mut free = Vec::new();
    let mut wrong = Vec::new();
    let mut not_shown = Vec::new();
    let mut not_held = Vec::new();
    for group in &groups {
        println!("\n{}", group.name);
        for attempt in &group.attempts {
            let Some(seen) = results.get(attempt.id) else {
                wrong.push(format!("{} was not run", attempt.id));
                continue;
            };
            println!("{}", line(attempt, seen));
            if attempt.is_free() && seen.inside == "ok" {
                free.push(attempt.id);
                continue;
            }
            wrong.extend(attempt.wrong(seen));
            if let Some(why) = attempt.not_shown(seen) {
                not_shown.push(format!("{} ({why})", attempt.id));
            }
            if !attempt.is_held() {
                not_held.push(attempt.id);
            }
        }
    }
    let count = results.len();
    tell(&format!(
        "{count} attempts, {} held, not held: {not_held:?}; nothing holds on this kernel: {free:?}; \
         {} cannot be shown outside here: {}",
        count - not_held.len() - free.len(),
        not_shown.len(),
        not_shown.join(", "),
    ));
    assert!(wrong.is_empty(), "{wrong:#?}");
    acts::assert_ordinary_acts_succeed(&daemon);
    daemon.ready(bait::MALLORY);
    daemon.ready(bait::OSCAR);
    daemon.ready("hello");
    if std::env::var_os("PINFOLD_ATTACKS_WRITE").is_some() {
        page::write(&groups, &not_shown);
    }
}

fn run(daemon: &Daemon, bait: &Bait, groups: &[Group]) -> Results {
    let of = |how: &str| -> Vec<&Attempt> {
        let groups = groups.iter().filter(|group| group.how == how);
        groups.flat_map(|group| &group.attempts).collect()
    };
    // At once: most of them wait.
    std::thread::scope(|scope| {
        let acts = scope.spawn(|| {
            let mut results = acts::run(daemon, bait, bait::MALLORY, &of("acts"));
            // Outside, they have files in common.
            let shown = acts::run(daemon, bait, bait::OSCAR, &of("acts-shown"));
            results.extend(shown);
            results
        });
        let races = scope.spawn(|| races::run(daemon, bait, &of("races")));
        let mut results = sql::run(daemon, bait, &of("sql-query"), &of("sql-exec"));
        results.extend(urls::run(daemon, bait, &of("urls")));
        results.extend(identities::run(daemon, &of("identities")));
        results.extend(acts.join().unwrap());
        // They have servers of the host's in common with the acts.
        results.extend(handshakes::run(daemon, bait, &of("handshakes")));
        results.extend(races.join().unwrap());
        results
    })
}

fn line(attempt: &Attempt, seen: &Seen) -> String {
    let shown = |text: &str| -> String { text.chars().take(100).collect() };
    let verdict = match (attempt.wrong(seen).is_some(), attempt.is_held()) {
        (true, _) => "WRONG",
        (false, true) => "held",
        (false, false) => "NOT HELD",
    };
    format!(
        "{verdict:<9}{:<22} inside {:<20} outside {}",
        attempt.id,
        shown(&seen.inside),
        shown(&seen.outside)
    )
}

#[test]
fn the_table_is_a_battery() {
    let groups = groups();
    let mut ids = BTreeSet::new();
    for attempt in groups.iter().flat_map(|group| &group.attempts) {
        assert!(ids.insert(attempt.id), "{} twice", attempt.id);
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(attempt.id.chars().all(is_plain), "{}", attempt.id);
    }
    assert!(ids.len() >= LEAST, "{}", ids.len());
}
