//! Signatures: what the launcher executes and what not, on the bytes that it has staged.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use pinfold_policy::{KeyRules, Moment, Pattern, PrivateKey, RequireSignatures, Revoked};
use pinfold_sandbox::protocol::{ExitCause, Failure, FailureKind, KillHow, Reply, Request};
use sha2::{Digest as _, Sha256};

use crate::machine::{Machine, Setup, has_root, id, output};

pub(crate) const BY_RELEASE: &str = "[trust]\nsigned-by = [\"release\"]\n";

/// A machine, as root's or a user's, with a signed plugin `hello` that its policy trusts by key `release`.
struct Signed {
    machine: Machine,
    entry: PathBuf,
}

pub(crate) fn private(seed: u8) -> PrivateKey {
    PrivateKey::parse(format!("{seed:02x}").repeat(32).as_bytes()).unwrap()
}

/// Writes a file that belongs to whoever owns its directory, and that all may read.
pub(crate) fn write(path: PathBuf, text: &str) {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let owner = fs::metadata(path.parent().unwrap()).unwrap().uid();
    std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
}

impl Signed {
    fn new() -> Self {
        Self::with(Setup::default())
    }

    fn with(setup: Setup<'_>) -> Self {
        let machine = Machine::with(setup);
        let entry = machine.add_plugin("hello").join("probe");
        machine.add_policy("hello", &["exit=0"], BY_RELEASE);
        let signed = Self { machine, entry };
        signed.key("release", 1, |_| {});
        signed.sign(1);
        signed
    }

    fn key(&self, name: &str, seed: u8, edit: impl FnOnce(&mut KeyRules)) {
        let mut rules = KeyRules::new(vec![Pattern::any()]);
        edit(&mut rules);
        let keys = self.machine.path("keys");
        write(
            keys.join(format!("{name}.pub")),
            &private(seed).public_key().to_string(),
        );
        write(keys.join(format!("{name}.toml")), &rules.to_toml());
    }

    fn signature(&self, seed: u8) -> String {
        let hash = Sha256::digest(fs::read(&self.entry).unwrap()).into();
        private(seed).sign(&hash).to_string()
    }

    fn sign(&self, seed: u8) {
        self.put_signature(&self.signature(seed));
    }

    fn put_signature(&self, text: &str) {
        write(self.entry.with_file_name("probe.sig"), text);
    }

    /// Stages, launches, and waits for the plugin's own end.
    #[track_caller]
    fn runs(&self) {
        let (digest, _) = self.machine.stage("hello").unwrap();
        let launched = self.machine.launch_with("hello", digest, &[]).unwrap();
        assert_eq!(
            launched.trust,
            r#"program signed by "release" (assets unsigned)"#
        );
        let cause = self.machine.exited(launched.instance);
        assert_eq!(cause, ExitCause::Code(0));
    }

    #[track_caller]
    fn is_refused(&self, why: &str) -> Failure {
        let (digest, _) = self.machine.stage("hello").unwrap();
        let failure = self.machine.launch_with("hello", digest, &[]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Trust, "{failure}");
        for part in ["plugin \"hello\"", why] {
            assert!(failure.message.contains(part), "{failure} lacks {part}");
        }
        assert!(failure.hint.is_some(), "{failure} has no hint");
        let asked = self.trust(digest).unwrap_err();
        assert_eq!(asked, failure, "asked without a launch the same is said");
        failure
    }

    fn trust(&self, digest: pinfold_policy::Digest) -> Result<String, Failure> {
        let plugin = id("hello");
        match self.machine.call(&Request::Trust { plugin, digest })? {
            Reply::Trusted { basis } => Ok(basis),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_signed_plugin_starts_and_one_with_a_flipped_byte_does_not() {
    if !has_root("a_signed_plugin_starts_and_one_with_a_flipped_byte_does_not") {
        return;
    }
    let signed = Signed::new();
    signed.runs();
    let whole = fs::read(&signed.entry).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&signed.entry, flipped).unwrap();
        let failure =
            signed.is_refused("\"probe.sig\" is not a signature of these bytes by \"release\"");
        assert!(failure.hint.unwrap().contains("altered"));
    }
    fs::write(&signed.entry, whole).unwrap();
    signed.runs();
}

#[test]
fn a_signature_by_another_key_or_of_another_shape_is_refused() {
    if !has_root("a_signature_by_another_key_or_of_another_shape_is_refused") {
        return;
    }
    let signed = Signed::new();
    signed.sign(2);
    signed.is_refused("is not a signature of these bytes");
    // Trusted, but not by this policy.
    signed.key("other", 2, |_| {});
    signed.is_refused("is not a signature of these bytes");
    let good = signed.signature(1);
    for (text, why) in [
        (good.get(..127).unwrap(), "it has 127 bytes"),
        ("", "it has 0 bytes"),
        (&format!("{good}\n\n"), "it has at least 130 bytes"),
        (&format!("{good}{good}"), "it has at least 130 bytes"),
        (&format!("{good} "), "it has 129 bytes"),
        (
            &good.replacen(|_: char| true, "g", 1),
            "byte 0 of it is no hex digit",
        ),
    ] {
        signed.put_signature(text);
        signed.is_refused(why);
    }
    for text in [format!("{good}\n"), good.to_uppercase(), good] {
        signed.put_signature(&text);
        signed.runs();
    }
    fs::remove_file(signed.entry.with_file_name("probe.sig")).unwrap();
    let failure = signed.is_refused("\"probe.sig\" is not there");
    assert_eq!(
        failure.hint.as_deref(),
        Some("sign it: pinfold sign probe --key FILE")
    );
}

#[test]
fn the_signature_of_the_last_staging_decides_and_no_signature_is_in_a_stage() {
    if !has_root("the_signature_of_the_last_staging_decides_and_no_signature_is_in_a_stage") {
        return;
    }
    let signed = Signed::new();
    let notes = signed.entry.with_file_name("notes.sig");
    write(notes.clone(), "signs nothing");
    let files = |root: OwnedFd| {
        let directory = format!("/proc/self/fd/{}", root.as_raw_fd());
        let names = fs::read_dir(directory).unwrap();
        names
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let (first, root) = signed.machine.stage("hello").unwrap();
    assert_eq!(files(root), ["probe"]);
    assert!(signed.trust(first).is_ok());
    // The same bytes under the same digest, and another signature beside them.
    signed.sign(2);
    fs::remove_file(notes).unwrap();
    let (second, root) = signed.machine.stage("hello").unwrap();
    assert_eq!((second, files(root)), (first, vec!["probe".into()]));
    signed.is_refused("is not a signature of these bytes by \"release\"");
    signed.sign(1);
    signed.runs();
    // Nor is one what is executed, whatever a policy says.
    let text = format!("schema = 1\ndialect = \"goatflow\"\nentry = \"probe.sig\"\n{BY_RELEASE}");
    let policy = signed.machine.path("policies/hello.toml");
    fs::write(policy, text).unwrap();
    let failure = signed.machine.launch_with("hello", first, &[]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Policy);
    assert!(failure.message.contains("is a signature"), "{failure}");
}

#[test]
fn a_key_of_small_order_is_refused_though_it_verifies_the_signature() {
    if !has_root("a_key_of_small_order_is_refused_though_it_verifies_the_signature") {
        return;
    }
    let signed = Signed::new();
    // The neutral point as key and as the signature's point, and the zero scalar: a lax verifier
    // takes this for a signature of anything (tests/fixtures/vectors/signatures.toml).
    let neutral = format!("01{}", "00".repeat(31));
    signed.put_signature(&format!("{neutral}{}", "00".repeat(32)));
    signed.is_refused("is not a signature of these bytes");
    write(signed.machine.path("keys/release.pub"), &neutral);
    signed.is_refused("it is of small order: anybody can sign for it");
    signed.key("release", 1, |_| {});
    signed.sign(1);
    signed.runs();
}

#[test]
fn a_key_that_is_revoked_expired_or_for_others_starts_nothing_and_ends_nothing() {
    if !has_root("a_key_that_is_revoked_expired_or_for_others_starts_nothing_and_ends_nothing") {
        return;
    }
    let signed = Signed::new();
    signed.runs();
    signed.machine.add_policy("hello", &["wait"], BY_RELEASE);
    let (digest, _) = signed.machine.stage("hello").unwrap();
    let running = signed.machine.launch_with("hello", digest, &[]).unwrap();
    assert_eq!(signed.trust(digest).as_deref(), Ok(&*running.trust));
    let moment = |text: &str| text.parse::<Moment>().unwrap();
    signed.key("release", 1, |rules| {
        rules.revoked = Some(Revoked {
            time: moment("2020-01-01T00:00:00Z"),
            reason: "laptop lost".into(),
        });
    });
    signed.is_refused("key \"release\" was revoked at 2020-01-01T00:00:00Z (\"laptop lost\")");
    let said = signed.machine.posture(Some("hello")).trust.unwrap();
    assert!(
        said.starts_with("refused: ") && said.contains("revoked"),
        "{said}"
    );
    signed.key("release", 1, |rules| {
        rules.expires = Some(moment("2020-01-01T00:00:00Z"));
    });
    signed.is_refused("key \"release\" expired at 2020-01-01T00:00:00Z");
    signed.key("release", 1, |rules| {
        rules.plugins = vec![Pattern::new("mail*")];
    });
    signed.is_refused("key \"release\" may not sign plugin \"hello\" (it may: mail*)");
    // What runs goes on through all of this.
    signed.machine.stats(running.instance).unwrap();
    signed
        .machine
        .kill(running.instance, KillHow::Kill)
        .unwrap();
    assert_eq!(signed.machine.exited(running.instance), ExitCause::Killed);
    signed.machine.add_policy("hello", &["exit=0"], BY_RELEASE);
    signed.key("release", 1, |rules| {
        rules.expires = Some(moment("9999-01-01T00:00:00Z"));
        rules.plugins = vec![Pattern::new("hel*")];
    });
    signed.runs();
}

#[test]
fn a_key_that_others_can_write_is_refused_with_path_owner_and_mode() {
    if !has_root("a_key_that_others_can_write_is_refused_with_path_owner_and_mode") {
        return;
    }
    let signed = Signed::new();
    for name in ["release.pub", "release.toml", ""] {
        let path = signed.machine.path("keys").join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        let mode = if name.is_empty() { 0o777 } else { 0o666 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (digest, _) = signed.machine.stage("hello").unwrap();
        let failure = signed
            .machine
            .launch_with("hello", digest, &[])
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Trust);
        let text = format!("(uid 0, mode {mode:04o}) can be written by group or others");
        assert!(failure.message.contains(&text), "{failure}");
        fs::set_permissions(&path, before).unwrap();
        signed.runs();
    }
    fs::remove_file(signed.machine.path("keys/release.toml")).unwrap();
    signed.is_refused("key \"release\" may sign nothing");
}

#[test]
fn what_is_swapped_after_staging_does_not_run() {
    if !has_root("what_is_swapped_after_staging_does_not_run") {
        return;
    }
    let signed = Signed::new();
    let machine = &signed.machine;
    machine.add_policy("hello", &["boo"], BY_RELEASE);
    let (digest, _) = machine.stage("hello").unwrap();
    // Written over in place, with a program that runs as well and says something else.
    let mut bytes = fs::read(&signed.entry).unwrap();
    let (before, after) = (b"unknown act", b"ANOTHER ONE");
    let at = bytes
        .windows(before.len())
        .position(|window| window == before);
    bytes[at.unwrap()..][..after.len()].copy_from_slice(after);
    fs::write(&signed.entry, bytes).unwrap();
    let says = |digest| {
        let launched = machine.launch_with("hello", digest, &[]).unwrap();
        let said = output(launched.stdout);
        machine.exited(launched.instance);
        said
    };
    assert_eq!(says(digest), "unknown act boo\n");
    // Staged anew it is what it is: not what was signed.
    signed.is_refused("is not a signature of these bytes");
    // The old digest still names the old bytes, with the signature that they had.
    assert_eq!(says(digest), "unknown act boo\n");
    // It would have run.
    fs::remove_file(signed.entry.with_file_name("probe.sig")).unwrap();
    machine.add_policy("hello", &["boo"], "");
    assert_eq!(says(machine.stage("hello").unwrap().0), "ANOTHER ONE boo\n");
}

#[test]
fn a_signature_that_comes_after_its_binary_counts_when_staged_again() {
    if !has_root("a_signature_that_comes_after_its_binary_counts_when_staged_again") {
        return;
    }
    let signed = Signed::new();
    let path = signed.entry.with_file_name("probe.sig");
    fs::remove_file(&path).unwrap();
    signed.is_refused("\"probe.sig\" is not there");
    let (before, _) = signed.machine.stage("hello").unwrap();
    signed.sign(1);
    let (after, _) = signed.machine.stage("hello").unwrap();
    assert_eq!(before, after, "signatures are not part of the digest");
    signed.runs();
    // And one that is taken away counts no more.
    fs::remove_file(&path).unwrap();
    signed.is_refused("\"probe.sig\" is not there");
}

#[test]
fn a_wrong_signature_is_refused_where_none_is_needed() {
    if !has_root("a_wrong_signature_is_refused_where_none_is_needed") {
        return;
    }
    let signed = Signed::new();
    let machine = &signed.machine;
    machine.add_policy("hello", &["exit=0"], "");
    let (digest, _) = machine.stage("hello").unwrap();
    let started = || machine.launch_with("hello", machine.stage("hello")?.0, &[]);
    let told = started().unwrap();
    machine.exited(told.instance);
    assert_eq!(
        told.trust,
        r#"unsigned files taken (entry signed by "release")"#
    );
    signed.sign(2);
    signed.is_refused("is not a signature of these bytes by \"release\"");
    signed.put_signature("nonsense");
    signed.is_refused("is no signature");
    let pinned = format!("[trust]\ndigest = \"{digest}\"\n");
    machine.add_policy("hello", &["exit=0"], &pinned);
    signed.is_refused("is no signature");
    signed.sign(1);
    let told = started().unwrap();
    machine.exited(told.instance);
    assert_eq!(told.trust, r#"pinned digest (entry signed by "release")"#);
    fs::remove_file(signed.entry.with_file_name("probe.sig")).unwrap();
    let told = started().unwrap();
    machine.exited(told.instance);
    assert_eq!(told.trust, "pinned digest");
}

#[test]
fn where_signatures_are_required_the_signed_plugin_starts() {
    if !has_root("where_signatures_are_required_the_signed_plugin_starts") {
        return;
    }
    for setup in [
        Setup {
            config: "require-signatures = true\n",
            ..Setup::default()
        },
        Setup {
            environment: &[("GOATFLOW_REQUIRE_SIGNATURES", "1")],
            ..Setup::default()
        },
    ] {
        let signed = Signed::with(setup);
        let required = signed.machine.posture(None).require_signatures;
        assert_eq!(required, RequireSignatures::Any);
        signed.runs();
        signed.machine.add_policy("hello", &["exit=0"], "");
        signed.is_refused("this machine requires signatures");
    }
}

#[test]
fn more_signatures_than_any_plugin_has_refuse_the_package() {
    if !has_root("more_signatures_than_any_plugin_has_refuse_the_package") {
        return;
    }
    let signed = Signed::new();
    let directory = signed.entry.parent().unwrap();
    for number in 0..31 {
        fs::write(directory.join(number.to_string()), "").unwrap();
        fs::write(directory.join(format!("{number}.sig")), "").unwrap();
    }
    signed.runs();
    fs::write(directory.join("more"), "").unwrap();
    fs::write(directory.join("more.sig"), "").unwrap();
    let failure = signed.machine.stage("hello").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Stage);
    assert!(failure.message.contains("over 32 signatures"), "{failure}");
}
