use std::fs;
use std::os::unix::fs::PermissionsExt;

use pinfold_policy::{Pattern, PrivateKey, Revoked};

use super::super::files::Place;
use super::*;
use crate::stage::DetachedSignature;

/// A plugin `hello` whose entry `hello` is one byte, and a keys directory.
struct World {
    keys_dir: tempfile::TempDir,
    signatures: Signatures,
    policy: PolicyFile,
    require_signatures: RequireSignatures,
}

const ENTRY: [u8; 32] = [5; 32];
const STAGED: Digest = Digest([1; 32]);

fn private(seed: u8) -> PrivateKey {
    PrivateKey::parse(format!("{seed:02x}").repeat(32).as_bytes()).unwrap()
}

fn moment(seconds: u64) -> Moment {
    Moment::from_unix_seconds(seconds)
}

impl World {
    /// With these lines as `[trust]`.
    fn new(trust: &str) -> Self {
        let keys_dir = tempfile::tempdir().unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(keys_dir.path(), mode).unwrap();
        let policy =
            format!("schema = 1\ndialect = 'goatflow'\nentry = 'hello'\n[trust]\n{trust}\n");
        Self {
            keys_dir,
            signatures: Signatures::default(),
            policy: PolicyFile::parse(policy.as_bytes()).unwrap(),
            require_signatures: RequireSignatures::None,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.keys_dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn key(self, name: &str, seed: u8, edit: impl FnOnce(&mut pinfold_policy::KeyRules)) -> Self {
        let mut rules = pinfold_policy::KeyRules::new(vec![Pattern::any()]);
        edit(&mut rules);
        self.write(
            &format!("{name}.pub"),
            &private(seed).public_key().to_string(),
        );
        self.write(&format!("{name}.toml"), &rules.to_toml());
        self
    }

    fn good_key(self, name: &str, seed: u8) -> Self {
        self.key(name, seed, |_| {})
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.signatures = vec![DetachedSignature {
            file: "hello".into(),
            sha256: ENTRY,
            content: content.to_vec(),
        }]
        .into();
        self
    }

    fn signed(self, seed: u8) -> Self {
        let text = private(seed).sign(&ENTRY).to_string();
        self.content(text.as_bytes())
    }

    fn requiring(mut self) -> Self {
        self.require_signatures = RequireSignatures::Any;
        self
    }

    fn decide(&self) -> Result<String, String> {
        let keys = Keys(Some(Place::Walked {
            path: self.keys_dir.path().to_owned(),
            also: None,
        }));
        let question = Question {
            plugin: &"hello".parse().unwrap(),
            policy: &self.policy,
            staged: STAGED,
            signatures: &self.signatures,
            require_signatures: self.require_signatures,
            now: moment(1000),
        };
        match decide(&question, &keys) {
            Ok(basis) => Ok(basis.to_string()),
            Err(untrusted) => Err(super::super::log::chain(&untrusted)),
        }
    }

    #[track_caller]
    fn is_refused(&self, why: &str) {
        let said = self.decide().unwrap_err();
        assert!(said.contains(why), "{said:?} lacks {why:?}");
    }
}

const SIGNED: &str = "signed-by = ['old', 'release']";
const BY_RELEASE: Result<&str, String> = Ok(r#"program signed by "release" (assets unsigned)"#);

fn pinned(digest: Digest) -> World {
    World::new(&format!("digest = '{digest}'"))
}

#[test]
fn one_of_the_named_keys_must_have_signed_the_entry() {
    let world = || World::new(SIGNED).good_key("old", 1).good_key("release", 2);
    assert_eq!(world().signed(2).decide().as_deref(), BY_RELEASE.as_deref());
    let required = world().signed(2).requiring();
    assert_eq!(required.decide().as_deref(), BY_RELEASE.as_deref());
    world().is_refused(
        r#""hello.sig" is not there, and the policy wants a signature by "old" or "release""#,
    );
    world()
        .good_key("other", 3)
        .signed(3)
        .is_refused(r#""hello.sig" is not a signature of these bytes by "old" or "release""#);
    let of_others = private(2).sign(&[6; 32]).to_string();
    world()
        .content(of_others.as_bytes())
        .is_refused("is not a signature of these bytes");
}

#[test]
fn a_key_that_does_not_count_is_named_with_the_reason() {
    let world = || World::new(SIGNED).good_key("old", 1).signed(2);
    world()
        .key("release", 2, |rules| {
            rules.revoked = Some(Revoked {
                time: moment(900),
                reason: "lost".into(),
            });
        })
        .is_refused(r#"key "release" was revoked at 1970-01-01T00:15:00Z ("lost")"#);
    world()
        .key("release", 2, |rules| rules.expires = Some(moment(1000)))
        .is_refused(r#"key "release" expired at 1970-01-01T00:16:40Z"#);
    world()
        .key("release", 2, |rules| {
            rules.plugins = vec![Pattern::new("mail*")];
        })
        .is_refused(r#"key "release" may not sign plugin "hello" (it may: mail*)"#);
    let later = world().key("release", 2, |rules| rules.expires = Some(moment(1001)));
    assert_eq!(later.decide().as_deref(), BY_RELEASE.as_deref());
}

#[test]
fn a_key_that_cannot_be_used_is_named_with_its_file() {
    let world = || World::new(SIGNED).signed(2);
    world().is_refused(r#"there is no key "old""#);
    world()
        .good_key("old", 1)
        .is_refused(r#"there is no key "release""#);
    let unruled = world().good_key("release", 2);
    fs::remove_file(unruled.keys_dir.path().join("release.toml")).unwrap();
    unruled.is_refused(r#"there is no key "old""#);
    let unruled = unruled.good_key("old", 1);
    unruled.is_refused(r#"key "release" may sign nothing: "#);
    unruled.write("release.toml", "plugin = ['*']\n");
    unruled.is_refused(r#"unknown key "plugin", did you mean "plugins"?"#);
    let small = world().good_key("old", 1).good_key("release", 2);
    small.write("release.pub", &format!("01{}", "00".repeat(31)));
    small.is_refused("it is of small order: anybody can sign for it");
    let open = world().good_key("old", 1).good_key("release", 2);
    let path = open.keys_dir.path().join("release.pub");
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    open.is_refused("can be written by group or others");
    // Of two keys the one that works is enough.
    let one = world().good_key("release", 2);
    assert_eq!(one.decide().as_deref(), BY_RELEASE.as_deref());
}

#[test]
fn a_malformed_signature_is_refused_whatever_the_policy_says() {
    for trust in [SIGNED, "unsigned = true", &format!("digest = '{STAGED}'")] {
        let world = || World::new(trust).good_key("release", 2).good_key("old", 1);
        let good = private(2).sign(&ENTRY).to_string();
        assert!(world().content(good.as_bytes()).decide().is_ok(), "{trust}");
        let newline = format!("{good}\n");
        assert!(world().content(newline.as_bytes()).decide().is_ok());
        for bad in [
            format!("{good}\n\n"),
            good.get(1..).unwrap().into(),
            format!("x{}", good.get(1..).unwrap()),
        ] {
            world()
                .content(bad.as_bytes())
                .is_refused(r#""hello.sig" is no signature: "#);
        }
    }
}

#[test]
fn a_wrong_signature_is_refused_even_where_none_is_needed() {
    for trust in ["unsigned = true", &format!("digest = '{STAGED}'")] {
        let world = || World::new(trust);
        // No key to say anything: as if there were no signature.
        assert!(!world().signed(2).decide().unwrap().contains("signed by"));
        let good = world().good_key("release", 2).good_key("new", 3).signed(2);
        assert!(good.decide().unwrap().contains(r#"signed by "release""#));
        world()
            .good_key("release", 2)
            .signed(3)
            .is_refused(r#"is not a signature of these bytes by "release""#);
        // Keys that may not sign this plugin say nothing of it.
        let foreign = world().signed(3).key("release", 2, |rules| {
            rules.plugins = vec![Pattern::new("mail*")];
        });
        assert!(foreign.decide().is_ok());
        // Nor does one that may sign nothing.
        let unruled = world().signed(3).good_key("release", 2);
        fs::remove_file(unruled.keys_dir.path().join("release.toml")).unwrap();
        assert!(unruled.decide().is_ok());
        // One that cannot be read may be the one that made it.
        let broken = world().signed(3);
        broken.write("broken.pub", "00");
        broken.is_refused("broken.pub");
    }
}

#[test]
fn only_the_pinned_bytes_or_accepted_unsigned_ones_run_and_none_where_signatures_are_required() {
    assert_eq!(pinned(STAGED).decide().as_deref(), Ok("pinned digest"));
    pinned(Digest([2; 32])).is_refused("the policy trusts sha256:0202");
    pinned(STAGED).requiring().is_refused("pins a digest");
    let unsigned = World::new("unsigned = true");
    assert_eq!(unsigned.decide().as_deref(), Ok("unsigned"));
    unsigned.requiring().is_refused("takes unsigned files");
    // A signature by a key that the policy does not name is not what is required.
    pinned(STAGED)
        .good_key("release", 2)
        .signed(2)
        .requiring()
        .is_refused("pins a digest");
}

#[test]
fn too_many_keys_are_refused_and_not_read() {
    let world = World::new("unsigned = true").signed(2);
    for number in 0..=pinfold_policy::KEYS_LIMIT {
        world.write(&format!("key-{number}.pub"), "");
    }
    world.is_refused("has over 256 keys");
}
