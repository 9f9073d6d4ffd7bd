//! Files that are exchanged while they are staged and started: under the daemon, which takes signed
//! programs alone, and under go-plugin's own checksum, which is of a path.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pinfold_tests::{go_fixture, slowness};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::command_line::pinfold;
use super::super::trust::{generate, sign};
use super::attempt::{Attempt, Seen};
use super::bait::Bait;
use super::{Daemon, Results, Setup};

/// The ways to exchange it; each has a plugin of that name.
const KINDS: [&str; 5] = [
    "race-rename",
    "race-link",
    "race-rewrite",
    "race-truncate",
    "race-signature",
];

/// Starts of each under the daemon.
const STARTS: u32 = 5;
/// Most starts of each under go-plugin, until one ran the other program.
const TRIES: u32 = 60;
/// Between two exchanges: about as long as hashing takes.
const PACE: Duration = Duration::from_millis(15);

/// The signed program says `v1`, the other one `v2`.
const SIGNED: &str = "goatflow-v1";
const OTHER: &str = "goatflow-v2";

fn keys(place: &Path) -> PathBuf {
    place.join("keys")
}

/// Adds a signed plugin for each race.
pub(super) fn prepare(mut setup: Setup, place: &Path) -> Setup {
    let key = generate(&keys(place), "release");
    for kind in KINDS {
        setup = setup.plugin(kind, SIGNED);
        let program = setup.path("sources").join(kind).join(kind);
        sign(&program, &key);
        let policy = format!(
            "schema = 1\ndialect = \"goatflow\"\nentry = \"{kind}\"\n[trust]\nsigned-by = [\"release\"]\n"
        );
        setup = setup.file(&format!("etc/policy.d/{kind}.toml"), &policy);
    }
    setup
}

pub(super) fn run(daemon: &Daemon, bait: &Bait, attempts: &[&Attempt]) -> Results {
    let place = bait.path();
    let key = keys(place).join("release.pub");
    let key = key.to_str().unwrap();
    for kind in KINDS {
        let arguments = [
            "keys", "trust", key, "--name", "release", "--plugin", "race-*",
        ];
        let trusted = pinfold(&daemon.base(), &arguments);
        assert!(trusted.status.success(), "{trusted:?}");
        daemon.rescan(Some(kind)).ok();
        daemon.ready(kind);
    }
    // Signed as well, by somebody whom no policy names.
    let other = place.join("other");
    fs::copy(go_fixture(OTHER), &other).unwrap();
    sign(&other, &generate(&keys(place), "somebody"));
    let both = |id: &'static str| {
        let outside = match id {
            "race-truncate" | "race-signature" => "it is not asked".to_owned(),
            _ => under_go(place, id, &other),
        };
        let inside = under_daemon(daemon, id, &other);
        (id, Seen { inside, outside })
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = attempts
            .iter()
            .map(|attempt| scope.spawn(|| both(attempt.id)))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// Two programs that take each other's place.
struct Exchange<'a> {
    kind: &'a str,
    entry: PathBuf,
    good: PathBuf,
    other: &'a Path,
    /// Files that are renamed over others, beside the plugin's directory.
    beside: PathBuf,
}

impl Exchange<'_> {
    /// Exchanges until it is over, and leaves the signed program there.
    fn run(&self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.put(self.other, true);
            std::thread::sleep(PACE * slowness()); // a race has a pace; nothing is waited for
            self.put(&self.good, false);
            std::thread::sleep(PACE * slowness());
        }
    }

    fn put(&self, program: &Path, is_other: bool) {
        match self.kind {
            "race-link" if is_other => {
                self.replace(&self.entry, |new| symlink(program, new).unwrap())
            }
            "race-rewrite" => self.rewrite(&fs::read(program).unwrap()),
            "race-truncate" => {
                let whole = fs::read(&self.good).unwrap();
                let end = if is_other {
                    whole.len() / 2
                } else {
                    whole.len()
                };
                self.rewrite(&whole[..end]);
            }
            _ => {
                self.replace(&self.entry, |new| copy(program, new));
                if self.kind == "race-signature" {
                    let signature = |of: &Path| PathBuf::from(format!("{}.sig", of.display()));
                    self.replace(&signature(&self.entry), |new| {
                        copy(&signature(program), new)
                    });
                }
            }
        }
    }

    fn replace(&self, path: &Path, make: impl FnOnce(&Path)) {
        fs::remove_file(&self.beside).ok();
        make(&self.beside);
        fs::rename(&self.beside, path).unwrap();
    }

    /// In place: whoever has it open sees it change.
    fn rewrite(&self, bytes: &[u8]) {
        // A Go host may be executing it at this moment.
        let Ok(mut file) = File::options().write(true).open(&self.entry) else {
            return;
        };
        file.rewind().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(u64::try_from(bytes.len()).unwrap()).unwrap();
    }
}

/// With the same rights.
fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

fn under_daemon(daemon: &Daemon, kind: &str, other: &Path) -> String {
    let plugins = daemon.base().join("plugins");
    let entry = plugins.join(kind).join(kind);
    let good = daemon.base().join(format!("{kind}.good"));
    copy(&entry, &good);
    fs::copy(
        format!("{}.sig", entry.display()),
        format!("{}.sig", good.display()),
    )
    .unwrap();
    let exchange = Exchange {
        kind,
        beside: daemon.base().join(format!("{kind}.beside")),
        entry,
        good,
        other,
    };
    let is_over = AtomicBool::new(false);
    let said: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| exchange.run(&is_over));
        let said = (0..STARTS).map(|_| {
            daemon.rescan(Some(kind));
            daemon.call(kind, "version", &json!({})).text()
        });
        let said = said.collect();
        is_over.store(true, Ordering::Relaxed);
        said
    });
    // Whole again, it starts.
    daemon.rescan(Some(kind)).ok();
    assert_eq!(daemon.result(kind, "version", &json!({})), "v1", "{kind}");
    match said.iter().any(|text| text.contains("v2")) {
        true => "ok".to_owned(),
        false => "signed bytes alone ran".to_owned(),
    }
}

/// Until go-plugin has checked one program and run the other.
fn under_go(place: &Path, kind: &str, other: &Path) -> String {
    let directory = place.join(format!("{kind}.go"));
    fs::create_dir_all(&directory).unwrap();
    let exchange = Exchange {
        kind,
        entry: directory.join(kind),
        good: go_fixture(SIGNED),
        beside: directory.join("beside"),
        other,
    };
    copy(&exchange.good, &exchange.entry);
    fs::set_permissions(&exchange.entry, fs::Permissions::from_mode(0o755)).unwrap();
    let sum = Sha256::digest(fs::read(&exchange.good).unwrap());
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange.run(&is_over));
        let ran_other = (0..TRIES).any(|_| {
            let output = Command::new(go_fixture("host"))
                .args(["-call", "version", "-checksum", &sum])
                .arg(&exchange.entry)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .unwrap();
            output.stdout.starts_with(b"\"v2\"")
        });
        is_over.store(true, Ordering::Relaxed);
        match ran_other {
            true => "ok".to_owned(),
            false => format!("not in {TRIES} tries"),
        }
    })
}
