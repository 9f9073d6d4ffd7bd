//! Signatures in the whole: made by Go and by `pinfold sign`, trusted and revoked by `pinfold keys`,
//! and what is not executed told in the log, the API and `pinfold plugin show`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pinfold_tests::{go_fixture, require, wait_for};
use serde_json::Value;

use super::command_line::{json, pinfold, printed};
use super::daemon::Daemon;
use super::reload;
use super::setup::{Setup, write_plugin};

/// A key made by `pinfold keys generate`, in files.
pub(super) struct Key {
    pub(super) private: PathBuf,
    pub(super) public: PathBuf,
}

pub(super) fn generate(directory: &Path, name: &str) -> Key {
    fs::create_dir_all(directory).unwrap();
    let place = directory.to_str().unwrap();
    let arguments = ["keys", "generate", name, "--directory", place, "--json"];
    let made = json(&pinfold(directory, &arguments));
    let path = |member: &str| PathBuf::from(made[member].as_str().unwrap());
    Key {
        private: path("private_key_file"),
        public: path("public_key_file"),
    }
}

pub(super) fn sign(file: &Path, key: &Key) {
    let (file, private) = (file.to_str().unwrap(), key.private.to_str().unwrap());
    let signed = pinfold(Path::new("/"), &["sign", file, "--key", private, "--json"]);
    assert_eq!(
        json(&signed)["signature_file"].as_str(),
        Some(&*format!("{file}.sig"))
    );
}

/// A daemon with plugin `hello`, signed by a key that its policy, made by `pinfold plugin grant`,
/// trusts.
struct Signed {
    /// None while it is started anew.
    daemon: Option<Daemon>,
    /// The program where it is installed.
    entry: PathBuf,
    key: Key,
}

impl Signed {
    fn start() -> Self {
        Self::with(Setup::new())
    }

    fn with(setup: Setup) -> Self {
        let key = generate(&setup.path("keys"), "release");
        let setup = setup.hello();
        let source = setup.path("sources/hello/hello");
        sign(&source, &key);
        let daemon = setup.start();
        let entry = daemon.base().join("plugins/hello/hello");
        let signed = Self {
            daemon: Some(daemon),
            entry,
            key,
        };
        signed.trust(&signed.key, &["--plugin", "hello"]);
        let granted = json(&signed.pinfold(&["plugin", "grant", "hello", "--yes", "--json"]));
        let trusted = &granted["plan"]["sections"][1]["lines"][0]["text"];
        assert_eq!(
            trusted,
            "a program signed by release, with whatever lies beside it"
        );
        signed.serves();
        signed
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    fn pinfold(&self, arguments: &[&str]) -> Output {
        pinfold(&self.daemon().base(), arguments)
    }

    fn trust(&self, key: &Key, more: &[&str]) -> Value {
        let file = key.public.to_str().unwrap();
        json(&self.pinfold(&[&["--json", "keys", "trust", file], more].concat()))
    }

    fn show(&self) -> String {
        printed(&self.pinfold(&["plugin", "show", "hello"]))
    }

    /// What the list of plugins says of its signature, and what `status` does.
    fn listings(&self) -> [String; 2] {
        let list = printed(&self.pinfold(&["plugin", "list"]));
        let row = list
            .lines()
            .find(|line| line.starts_with("hello "))
            .unwrap();
        let columns: Vec<&str> = row.split("  ").filter(|one| !one.is_empty()).collect();
        let status = printed(&self.pinfold(&["status"]));
        let row = status.lines().find(|line| line.contains("hello ")).unwrap();
        let (_, signed) = row.split_once(", ").unwrap();
        [columns[4].trim().to_owned(), signed.to_owned()]
    }

    #[track_caller]
    fn serves(&self) {
        let plugin = self.daemon().ready("hello");
        let by = r#"program signed by "release" (assets unsigned)"#;
        assert_eq!(plugin["trust"], by);
        assert_eq!(plugin["trust_lost"], Value::Null);
        assert!(self.show().contains(by));
        let greeting = self
            .daemon()
            .http()
            .get("/api/plugins/hello/greeting?name=Ada");
        assert_eq!(greeting.send().ok()["greeting"], "Hello, Ada!");
    }

    /// Has the daemon start the plugin from what lies there now, and sees it serve.
    #[track_caller]
    fn starts(&self) {
        self.daemon().rescan(Some("hello")).ok();
        self.serves();
    }

    /// Has a new daemon, to which no older version is known, start it from what lies there now; sees
    /// it blocked, with the reason wherever an operator looks.
    #[track_caller]
    fn is_refused(&mut self, why: &str) {
        let daemon = self.daemon.take().expect("it runs");
        self.daemon = Some(daemon.stop().start());
        let plugin = self.daemon().plugin("hello");
        assert_eq!(plugin["state"], "blocked", "{plugin}");
        assert_eq!(plugin["pid"], Value::Null, "nothing runs");
        let reason = plugin["reason"].as_str().unwrap();
        assert!(reason.contains("plugin \"hello\": "), "{reason}");
        assert!(reason.contains("(hint: "), "{reason}");
        for text in [reason, &self.show()] {
            assert!(text.contains(why), "{text} lacks {why}");
        }
        assert!(self.daemon().has_logged("hello", why), "not in its log");
        let printed = self.daemon().setup().printed();
        assert!(printed.contains("blocked") && printed.contains("hello"));
    }

    fn flip(&self, at: usize) {
        let mut bytes = fs::read(&self.entry).unwrap();
        bytes[at] ^= 1;
        replace(&self.entry, &bytes);
    }

    fn put_signature(&self, text: &str) {
        fs::write(signature(&self.entry), text).unwrap();
    }
}

fn signature(entry: &Path) -> PathBuf {
    entry.with_file_name("hello.sig")
}

/// Writes a program anew, as copying does.
fn replace(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_altered_program_is_not_executed_and_the_reason_is_where_operators_look() {
    if !super::can_run() {
        return;
    }
    let mut signed = Signed::start();
    let whole = fs::read(&signed.entry).unwrap();
    signed.flip(whole.len() / 2);
    signed.is_refused("\"hello.sig\" is not a signature of these bytes by \"release\"");
    replace(&signed.entry, &whole);
    signed.starts();

    let good = fs::read_to_string(signature(&signed.entry)).unwrap();
    signed.put_signature(&good[..126]);
    signed.is_refused("\"hello.sig\" is no signature: it has 126 bytes");
    signed.put_signature(&format!("{good}\n\n"));
    signed.is_refused("it has at least 130 bytes");
    signed.put_signature(&format!("{good}\n"));
    signed.starts();
    fs::remove_file(signature(&signed.entry)).unwrap();
    signed
        .is_refused("\"hello.sig\" is not there, and the policy wants a signature by \"release\"");
    signed.put_signature(&good);
    signed.starts();
}

#[test]
fn a_signature_by_another_key_or_for_one_of_small_order_is_not_executed() {
    if !super::can_run() {
        return;
    }
    let mut signed = Signed::start();
    let other = generate(&signed.daemon().setup().path("keys"), "other");
    sign(&signed.entry, &other);
    signed.is_refused("is not a signature of these bytes by \"release\"");
    // Trusted here, but not by this plugin's policy.
    signed.trust(&other, &["--plugin", "*"]);
    signed.is_refused("is not a signature of these bytes by \"release\"");
    // A lax verifier takes this pair for a signature of anything.
    let neutral = format!("01{}", "00".repeat(31));
    signed.put_signature(&format!("{neutral}{}", "00".repeat(32)));
    let file = signed.daemon().base().join("etc/keys.d/release.pub");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &neutral).unwrap();
    signed.is_refused("it is of small order: anybody can sign for it");
    let weak = signed.daemon().setup().path("keys/weak.pub");
    fs::write(&weak, neutral).unwrap();
    let refused = signed.pinfold(&["keys", "trust", weak.to_str().unwrap(), "--plugin", "*"]);
    assert_eq!(refused.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("small order"));
    fs::write(&file, good).unwrap();
    sign(&signed.entry, &signed.key);
    signed.starts();
}

#[test]
fn a_key_that_is_revoked_while_its_plugin_runs_ends_nothing_and_starts_nothing() {
    if !super::can_run() {
        return;
    }
    let mut signed = Signed::start();
    let pid = signed.daemon().plugin_pid("hello");
    assert_eq!(signed.listings(), ["program", "signed: program"]);
    let revoked = json(&signed.pinfold(&[
        "keys",
        "revoke",
        "release",
        "--reason",
        "laptop lost",
        "--json",
    ]));
    assert_eq!(revoked["key"]["state"], "revoked");
    assert_eq!(revoked["go_on"][0]["plugin"], "hello");
    // It goes on, and is shown so.
    assert_eq!(signed.daemon().plugin_pid("hello"), pid);
    assert_eq!(
        signed.listings(),
        ["program, LOST", "signed: program, LOST"]
    );
    let all = json(&signed.pinfold(&["plugin", "list", "--json"]));
    let lost = all[0]["trust_lost"].as_str().unwrap();
    assert!(lost.contains("key \"release\" was revoked at "), "{lost}");
    let plugin = signed.daemon().ready("hello");
    assert_eq!(
        plugin["trust"],
        r#"program signed by "release" (assets unsigned)"#
    );
    let lost = plugin["trust_lost"].as_str().unwrap();
    for text in [lost, &signed.show()] {
        assert!(text.contains("key \"release\" was revoked at "), "{text}");
        assert!(text.contains("(\"laptop lost\")"), "{text}");
    }
    assert!(
        signed
            .daemon()
            .has_logged("hello", "goes on, and cannot be started again: ")
    );
    let log = signed.daemon().setup().printed();
    assert!(log.contains("cannot be started again"), "{log}");
    let greeting = signed
        .daemon()
        .http()
        .get("/api/plugins/hello/greeting?name=Ada");
    assert_eq!(greeting.send().ok()["greeting"], "Hello, Ada!");
    let listed = printed(&signed.pinfold(&["keys", "list"]));
    assert!(
        listed.contains("revoked") && listed.contains("laptop lost"),
        "{listed}"
    );
    // It cannot be started again, by whatever name the key is trusted anew.
    signed.is_refused("key \"release\" was revoked at ");
    let file = signed.key.public.to_str().unwrap();
    for name in ["release", "renamed"] {
        let again = signed.pinfold(&["keys", "trust", file, "--plugin", "*", "--name", name]);
        assert_eq!(again.status.code(), Some(1));
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(said.contains("this key is not trusted again"), "{said}");
    }
    // Another key, and a grant that names it.
    let next = generate(&signed.daemon().setup().path("keys"), "next");
    signed.trust(&next, &["--plugin", "hello"]);
    sign(&signed.entry, &next);
    let granted = signed.pinfold(&["plugin", "grant", "hello", "--yes"]);
    printed(&granted);
    let plugin = signed.daemon().ready("hello");
    assert_eq!(
        plugin["trust"],
        r#"program signed by "next" (assets unsigned)"#
    );
}

#[test]
fn an_expired_key_and_one_for_other_plugins_start_nothing() {
    if !super::can_run() {
        return;
    }
    let mut signed = Signed::start();
    let rules = signed.daemon().base().join("etc/keys.d/release.toml");
    let good = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("{good}expires = 2020-01-01T00:00:00Z\n")).unwrap();
    assert!(printed(&signed.pinfold(&["keys", "list"])).contains("expired"));
    let lost = signed.daemon().ready("hello")["trust_lost"].to_string();
    assert!(lost.contains("expired at 2020-01-01T00:00:00Z"), "{lost}");
    signed.is_refused("key \"release\" expired at 2020-01-01T00:00:00Z");
    signed.trust(&signed.key, &["--plugin", "mail*"]);
    signed.is_refused("key \"release\" may not sign plugin \"hello\" (it may: mail*)");
    // Trusting it to, again, starts what waits for it.
    signed.trust(&signed.key, &["--plugin", "hel*", "--expires", "1d"]);
    signed.serves();
}

#[test]
fn where_signatures_are_required_a_developers_signed_plugin_starts_and_the_unsigned_does_not() {
    if !super::can_run() {
        return;
    }
    let setup = Setup::new().environment("GOATFLOW_REQUIRE_SIGNATURES", "1");
    let key = generate(&setup.path("keys"), "release");
    let setup = setup.hello().plugin("bare", "goatflow-g4");
    sign(&setup.path("sources/hello/hello"), &key);
    let daemon = setup.start();
    for name in ["hello", "bare"] {
        assert_eq!(daemon.plugin(name)["state"], "blocked");
    }
    let file = key.public.to_str().unwrap();
    printed(&pinfold(
        &daemon.base(),
        &["keys", "trust", file, "--plugin", "*"],
    ));
    let hello = daemon.ready("hello");
    assert_eq!(
        hello["trust"],
        r#"program signed by "release" (assets unsigned)"#
    );
    let bare = daemon.plugin("bare");
    assert_eq!(bare["state"], "blocked");
    let reason = bare["reason"].as_str().unwrap();
    assert!(
        reason.contains("this machine requires signatures"),
        "{reason}"
    );
}

#[test]
fn signed_programs_copied_over_each_other_under_load_fail_no_request_and_an_altered_one_never_runs()
{
    if !super::can_run() {
        return;
    }
    let setup = Setup::new();
    let key = generate(&setup.path("keys"), "release");
    let [v1, v2] = ["v1", "v2"].map(|version| {
        let directory = setup.path(version);
        write_plugin(&directory.join("p"), &format!("goatflow-{version}"), "");
        let program = directory.join("p/p");
        sign(&program, &key);
        program
    });
    let setup = setup.plugin("p", "goatflow-v1");
    sign(&setup.path("sources/p/p"), &key);
    let daemon = setup.start();
    let trusted = key.public.to_str().unwrap();
    for arguments in [
        &["keys", "trust", trusted, "--plugin", "p"][..],
        &["plugin", "grant", "p", "--yes"],
    ] {
        printed(&pinfold(&daemon.base(), arguments));
    }
    let by = r#"program signed by "release" (assets unsigned)"#;
    assert_eq!(daemon.ready("p")["trust"], by);

    let installed = reload::program(&daemon, "p");
    let copy = |from: &Path, suffix: &str| {
        let named = |path: &Path| format!("{}{suffix}", path.display());
        let copied = Command::new("cp")
            .args([named(from), named(&installed)])
            .status();
        assert!(copied.unwrap().success());
    };
    let answered = reload::under_load(&daemon, "p", || {
        for n in 0..20 {
            let (version, program) = [("v2", &v2), ("v1", &v1)][n % 2];
            // One after the other, as `cp *` does: for a moment the signature is of another program.
            copy(program, "");
            copy(program, ".sig");
            reload::wait_for_version(&daemon, "p", version);
        }
    });
    assert!(answered > reload::CALLERS, "{answered}");
    println!("{answered} requests answered over 20 reloads of signed programs, none failed");

    // The next version comes altered: what serves goes on, and the reason is told.
    let pid = daemon.plugin_pid("p");
    let answered = reload::under_load(&daemon, "p", || {
        let mut altered = fs::read(&v2).unwrap();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        fs::write(&installed, altered).unwrap();
        copy(&v2, ".sig");
        wait_for("the altered version to be refused", || {
            let reason = daemon.rejections("p").pop()?;
            let why = "\"p.sig\" is not a signature of these bytes by \"release\"";
            reason.contains(why).then_some(())
        });
    });
    assert!(answered > 0);
    assert_eq!(daemon.plugin_pid("p"), pid, "it went on");
    assert_eq!(daemon.ready("p")["trust"], by);
    copy(&v2, "");
    reload::wait_for_version(&daemon, "p", "v2");
}

#[test]
fn what_go_signs_is_accepted_and_go_accepts_what_is_signed_here() {
    if !super::can_run() {
        return;
    }
    let signer = go_fixture("signer");
    let go = |arguments: &[&str]| {
        let output = Command::new(&signer).args(arguments).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let mut signed = Signed::start();
    let entry = signed.entry.to_str().unwrap().to_owned();
    let entry = entry.as_str();
    let public = |key: &Key| fs::read_to_string(&key.public).unwrap();
    // Ours, by Go.
    assert!(go(&["verify", &public(&signed.key), entry]).0);
    // Go's, by us: its own key, and ours in its form.
    let made = go(&["generate"]).1;
    let (private, theirs) = made.trim().split_once('\n').unwrap();
    fs::remove_file(signature(&signed.entry)).unwrap();
    assert!(go(&["sign", private, entry]).0);
    signed.is_refused("is not a signature of these bytes by \"release\"");
    let file = signed.daemon().setup().path("keys/go.pub");
    fs::write(&file, theirs).unwrap();
    printed(&signed.pinfold(&["keys", "trust", file.to_str().unwrap(), "--plugin", "hello"]));
    printed(&signed.pinfold(&["plugin", "grant", "hello", "--yes"]));
    let plugin = signed.daemon().ready("hello");
    assert_eq!(
        plugin["trust"],
        r#"program signed by "go" (assets unsigned)"#
    );
    // A key that Go made signs here, and Go verifies that.
    let file = signed.daemon().setup().path("keys/go.key");
    fs::write(&file, private).unwrap();
    let sign_with = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        signed.pinfold(&["sign", entry, "--key", file.to_str().unwrap()])
    };
    assert_eq!(sign_with(0o644).status.code(), Some(77));
    fs::remove_file(signature(&signed.entry)).unwrap();
    let printed = printed(&sign_with(0o600));
    assert!(
        !printed.contains(private),
        "the key itself is never printed"
    );
    assert!(go(&["verify", theirs, entry]).0);
    signed.daemon().rescan(Some("hello")).ok();
    signed.daemon().ready("hello");
}

#[test]
fn keys_are_made_and_signed_with_by_people_who_run_no_daemon() {
    if !require(&[]) {
        return;
    }
    let place = pinfold_tests::scratch();
    let key = generate(place.path(), "release");
    let program = place.path().join("hello");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    sign(&program, &key);
    let first = fs::read(signature(&program)).unwrap();
    assert_eq!(
        first.len(),
        128,
        "no newline: GoatFlow's own host takes none"
    );
    sign(&program, &key);
    assert_eq!(fs::read(signature(&program)).unwrap(), first);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4);
    let again = pinfold(
        place.path(),
        &[
            "keys",
            "generate",
            "release",
            "--directory",
            place.path().to_str().unwrap(),
        ],
    );
    assert_eq!(again.status.code(), Some(73));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("a key is never overwritten"), "{said}");
    for (arguments, status) in [
        (vec!["keys", "generate", "../x"], 2),
        (vec!["keys", "trust", "release.pub"], 2),
        (
            vec!["sign", "/absent", "--key", key.private.to_str().unwrap()],
            66,
        ),
        (
            vec!["sign", "/", "--key", key.private.to_str().unwrap()],
            65,
        ),
        (vec!["sign", "/etc/passwd", "--key", "/absent"], 66),
        (vec!["keys", "list"], 78),
    ] {
        let output = pinfold(place.path(), &arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    }
}
