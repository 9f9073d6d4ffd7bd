//! Signatures of whole packages: what the launcher executes and what not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pinfold_policy::{
    Digest, KeyRules, Moment, PACKAGE_SIGNATURE_FILE, Pattern, Platform, RequireSignatures,
    Revoked, Statement,
};
use pinfold_sandbox::protocol::{ExitCause, Failure, FailureKind};
use sha2::Digest as _;

use crate::machine::{Machine, Setup, has_root};
use crate::trust::{private, write};

const BY_RELEASE: &str = "[trust]\nsigned-by = [\"release\"]\npackage = true\n";

/// A machine with a plugin `hello` of three files, whose package is signed by key `release`.
struct Signed {
    machine: Machine,
    directory: PathBuf,
}

impl Signed {
    fn new() -> Self {
        Self::with(Setup::default(), BY_RELEASE)
    }

    fn with(setup: Setup<'_>, trust: &str) -> Self {
        let machine = Machine::with(setup);
        let directory = machine.add_plugin("hello");
        fs::create_dir(directory.join("assets")).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.join("assets"), open).unwrap();
        write(directory.join("plugin.yaml"), "name: hello\n");
        write(directory.join("assets/page.html"), "<p>");
        machine.add_policy("hello", &["exit=0"], trust);
        let signed = Self { machine, directory };
        signed.key("release", 1, |_| {});
        signed.sign(|_| {});
        signed
    }

    fn key(&self, name: &str, seed: u8, edit: impl FnOnce(&mut KeyRules)) {
        let mut rules = KeyRules::new(vec![Pattern::any()]);
        edit(&mut rules);
        let keys = self.machine.path("keys");
        let public = private(seed).public_key().to_string();
        write(keys.join(format!("{name}.pub")), &public);
        write(keys.join(format!("{name}.toml")), &rules.to_toml());
    }

    fn digest(&self) -> Digest {
        let (digest, _) = self.machine.stage("hello").unwrap();
        digest
    }

    fn statement(&self) -> Statement {
        Statement {
            plugin: "hello".parse().unwrap(),
            version: Some("1.2.0".parse().unwrap()),
            platform: Platform::here(),
            digest: self.digest(),
            key: private(1).public_key(),
            from: Moment::from_unix_seconds(1_700_000_000),
            until: None,
        }
    }

    /// Signs what is there by key 1, after a change of what is stated.
    fn sign(&self, edit: impl FnOnce(&mut Statement)) {
        let mut statement = self.statement();
        edit(&mut statement);
        self.put(&statement.sign(&private(1)).to_text());
    }

    fn put(&self, text: &str) {
        write(self.directory.join(PACKAGE_SIGNATURE_FILE), text);
    }

    /// Signs the program alone as well.
    fn sign_program(&self, seed: u8) {
        let program = fs::read(self.directory.join("probe")).unwrap();
        let hash = sha2::Sha256::digest(program).into();
        let signature = private(seed).sign(&hash).to_string();
        write(self.directory.join("probe.sig"), &signature);
    }

    #[track_caller]
    fn runs(&self) -> String {
        let launched = self.machine.launch_with("hello", self.digest(), &[]);
        let launched = launched.unwrap();
        let cause = self.machine.exited(launched.instance);
        assert_eq!(cause, ExitCause::Code(0));
        launched.trust
    }

    #[track_caller]
    fn is_refused(&self, why: &str) -> Failure {
        let launched = self.machine.launch_with("hello", self.digest(), &[]);
        let failure = launched.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Trust, "{failure}");
        assert!(failure.message.contains(why), "{failure} lacks {why}");
        assert!(failure.hint.is_some(), "{failure} has no hint");
        failure
    }
}

const WHOLE: &str = r#"package signed by "release" (version 1.2.0)"#;

#[test]
fn a_signed_package_starts_and_none_with_a_file_altered_added_removed_or_renamed_does() {
    if !has_root(
        "a_signed_package_starts_and_none_with_a_file_altered_added_removed_or_renamed_does",
    ) {
        return;
    }
    let signed = Signed::new();
    assert_eq!(signed.runs(), WHOLE);
    let at = |name: &str| signed.directory.join(name);
    let other_files = "the plugin's files are sha256:";
    for name in ["probe", "plugin.yaml", "assets/page.html"] {
        let whole = fs::read(at(name)).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(at(name), flipped).unwrap();
        let failure = signed.is_refused(other_files);
        assert!(failure.hint.unwrap().contains("altered"));
        fs::write(at(name), whole).unwrap();
    }
    write(at("assets/more.js"), "");
    signed.is_refused(other_files);
    fs::remove_file(at("assets/more.js")).unwrap();
    fs::rename(at("assets/page.html"), at("assets/index.html")).unwrap();
    signed.is_refused(other_files);
    fs::rename(at("assets/index.html"), at("assets/page.html")).unwrap();
    let mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(at("assets/page.html"), permissions).unwrap();
    };
    mode(0o755);
    signed.is_refused(other_files);
    mode(0o644);
    assert_eq!(signed.runs(), WHOLE);
    fs::remove_file(at("assets/page.html")).unwrap();
    signed.is_refused(other_files);
}

#[test]
fn a_signature_of_another_plugin_version_machine_or_time_is_refused() {
    if !has_root("a_signature_of_another_plugin_version_machine_or_time_is_refused") {
        return;
    }
    let signed = Signed::new();
    signed.sign(|statement| statement.plugin = "other".parse().unwrap());
    signed.is_refused(r#"it is of plugin "other", not of "hello""#);
    signed.sign(|statement| statement.platform = Platform::linux("riscv64"));
    signed.is_refused("it is for linux-riscv64, this machine is linux-");
    signed.sign(|statement| statement.platform = Platform::any());
    assert_eq!(signed.runs(), WHOLE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    signed.sign(|statement| statement.until = Some(Moment::from_unix_seconds(now - 1)));
    signed.is_refused("it counted until ");
    signed.sign(|statement| statement.from = Moment::from_unix_seconds(now + 3600));
    signed.is_refused("which is not yet");

    // An older version, although its signature is good.
    let least = format!("{BY_RELEASE}least-version = \"1.2.0\"\n");
    signed.machine.add_policy("hello", &["exit=0"], &least);
    signed.sign(|statement| statement.version = Some("1.10".parse().unwrap()));
    signed.runs();
    signed.sign(|statement| statement.version = Some("1.1.9".parse().unwrap()));
    signed.is_refused("it is of version 1.1.9, the policy takes none below 1.2.0");
    signed.sign(|statement| statement.version = None);
    signed.is_refused("it states no version, the policy takes none below 1.2.0");
}

#[test]
fn a_package_signature_by_another_key_or_cut_is_refused_and_so_is_the_key_that_does_not_count() {
    if !has_root(
        "a_package_signature_by_another_key_or_cut_is_refused_and_so_is_the_key_that_does_not_count",
    ) {
        return;
    }
    let signed = Signed::new();
    let statement = signed.statement();
    let not_by = "\"pinfold-package.sig\" is not a signature of these bytes by \"release\"";
    let by_other = Statement {
        key: private(2).public_key(),
        ..statement.clone()
    };
    signed.put(&by_other.sign(&private(2)).to_text());
    signed.is_refused(not_by);
    // Trusted, but not by this policy; and a key that signs in another's name.
    signed.key("other", 2, |_| {});
    signed.is_refused(not_by);
    signed.put(&statement.clone().sign(&private(2)).to_text());
    signed.is_refused(not_by);
    let good = statement.clone().sign(&private(1)).to_text();
    signed.put(good.get(..good.len() - 1).unwrap());
    signed.is_refused("\"pinfold-package.sig\" is no package's signature");
    signed.put("");
    signed.is_refused("line 1 is not");
    // A key for which anybody can sign.
    let small = format!("01{}", "00".repeat(31));
    let public = private(1).public_key().to_string();
    signed.put(&good.replace(&public, &small));
    signed.is_refused("line 6 is not \"key:\"");
    fs::remove_file(signed.directory.join(PACKAGE_SIGNATURE_FILE)).unwrap();
    signed.is_refused("\"pinfold-package.sig\" is not there");

    signed.put(&good);
    assert_eq!(signed.runs(), WHOLE);
    signed.key("release", 1, |rules| {
        rules.expires = Some(Moment::from_unix_seconds(1_700_000_000));
    });
    signed.is_refused("key \"release\" expired at");
    signed.key("release", 1, |rules| {
        rules.plugins = vec![Pattern::new("mail*")];
    });
    signed.is_refused("key \"release\" may not sign plugin \"hello\"");
    signed.key("release", 1, |rules| {
        rules.revoked = Some(Revoked {
            time: Moment::from_unix_seconds(5),
            reason: "lost".into(),
        });
    });
    signed.is_refused("key \"release\" was revoked");
}

#[test]
fn where_the_whole_package_is_to_be_signed_a_signed_program_alone_does_not_start() {
    if !has_root("where_the_whole_package_is_to_be_signed_a_signed_program_alone_does_not_start") {
        return;
    }
    let by_any = "[trust]\nsigned-by = [\"release\"]\n";
    for setup in [
        Setup {
            config: "require-signatures = \"package\"\n",
            ..Setup::default()
        },
        Setup {
            environment: &[("GOATFLOW_REQUIRE_SIGNATURES", "package")],
            ..Setup::default()
        },
    ] {
        let signed = Signed::with(setup, by_any);
        let required = signed.machine.posture(None).require_signatures;
        assert_eq!(required, RequireSignatures::Package);
        signed.sign_program(1);
        assert_eq!(signed.runs(), WHOLE);
        fs::remove_file(signed.directory.join(PACKAGE_SIGNATURE_FILE)).unwrap();
        signed.is_refused("the program alone is signed, and this machine requires");
        fs::remove_file(signed.directory.join("probe.sig")).unwrap();
        signed.is_refused("\"pinfold-package.sig\" is not there");
        signed.machine.add_policy("hello", &["exit=0"], "");
        signed.is_refused("this machine requires signatures");
    }
    // By the policy; and where nothing asks for it, the program's is enough.
    let signed = Signed::new();
    signed.sign_program(1);
    fs::remove_file(signed.directory.join(PACKAGE_SIGNATURE_FILE)).unwrap();
    signed.is_refused("the program alone is signed, and the policy wants");
    signed.machine.add_policy("hello", &["exit=0"], by_any);
    assert_eq!(
        signed.runs(),
        r#"program signed by "release" (assets unsigned)"#
    );
}

#[test]
fn a_wrong_signature_beside_is_refused_though_the_other_is_right_or_none_is_needed() {
    if !has_root("a_wrong_signature_beside_is_refused_though_the_other_is_right_or_none_is_needed")
    {
        return;
    }
    let signed = Signed::new();
    signed.sign_program(2);
    signed.is_refused("\"probe.sig\" is not a signature of these bytes by \"release\"");
    fs::remove_file(signed.directory.join("probe.sig")).unwrap();
    signed
        .machine
        .add_policy("hello", &["exit=0"], "[trust]\nunsigned = true\n");
    let trust = format!("unsigned files taken ({WHOLE})");
    assert_eq!(signed.runs(), trust);
    write(signed.directory.join("assets/page.html"), "<p>altered");
    signed.is_refused("the plugin's files are sha256:");
    signed.put("nonsense");
    signed.is_refused("is no package's signature");
}
