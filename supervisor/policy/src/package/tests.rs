use super::*;
use crate::{StageManifest, StagedFile};

/// RFC 8032, section 7.1, test 1: seed and public key.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// Made by Go's crypto/ed25519: `go run . sign-package SEED+PUBLIC DIR hello 1.2.0 linux-x86_64
/// 2026-11-21T09:00:00Z` in tests/fixtures/go/signer, of the files of [`files`].
const BY_GO: &str = "\
pinfold package signature 1
plugin: hello
version: 1.2.0
platform: linux-x86_64
digest: sha256:47aae6b0334ad3fed0536a1949ea2b2977a3970735f175837ff947829df40600
key: d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
from: 2026-11-21T09:00:00Z
signature: 9b475ef67c7592b5c5f591379ce4f7faa66ef8ba5eb1e703ca224ece4516f1e2d265dce5ab6b659c39b1db91909cdb7cec411e4e897bdad45a9b4018d482da0c
";

fn files() -> StageManifest {
    use sha2::{Digest as _, Sha256};
    let file = |path: &str, content: &str, executable| StagedFile {
        path: path.into(),
        size: content.len() as u64,
        executable,
        sha256: Sha256::digest(content).into(),
    };
    StageManifest::new(vec![
        file("hello", "#!/bin/sh\nexit 0\n", true),
        file("plugin.yaml", "name: hello\n", false),
        file("assets/a.txt", "x", false),
        file("assets-b", "y", false),
        file("pinfold-package.sig", "whatever", false),
    ])
}

fn private() -> PrivateKey {
    PrivateKey::parse(SEED.as_bytes()).unwrap()
}

fn at(time: &str) -> Moment {
    time.parse().unwrap()
}

fn by_go() -> PackageSignature {
    PackageSignature::parse(BY_GO.as_bytes()).unwrap()
}

#[test]
fn what_go_signs_is_accepted_and_written_the_same_here() {
    let read = by_go();
    let key: PublicKey = PUBLIC.parse().unwrap();
    assert!(read.is_by(&key));
    assert_eq!(read.to_text(), BY_GO);
    let now = at("2026-11-22T09:00:00Z");
    let (plugin, machine) = ("hello".parse().unwrap(), Platform::linux("x86_64"));
    let covers = read
        .statement
        .covers(&plugin, files().digest(), &machine, now);
    assert_eq!(covers, Ok(()));
    // ed25519 is deterministic: the same bytes.
    let signed = read.statement.clone().sign(&private());
    assert_eq!(signed.to_text(), BY_GO);
}

#[test]
fn every_line_is_signed() {
    let key: PublicKey = PUBLIC.parse().unwrap();
    for (from, to) in [
        ("plugin: hello", "plugin: hellp"),
        ("1.2.0", "1.3.0"),
        ("version: 1.2.0\n", ""),
        ("x86_64", "aarch64"),
        ("47aae6", "57aae6"),
        ("11-21T09", "11-20T09"),
        ("00Z\n", "00Z\nuntil: 2030-01-01T00:00:00Z\n"),
    ] {
        let other = BY_GO.replacen(from, to, 1);
        assert_ne!(other, BY_GO);
        let other = PackageSignature::parse(other.as_bytes()).unwrap();
        assert!(!other.is_by(&key), "{to}");
    }
    // Another's name on it verifies for neither.
    let other = PrivateKey::parse("1".repeat(64).as_bytes()).unwrap();
    let named = BY_GO.replacen(PUBLIC, &other.public_key().to_string(), 1);
    let named = PackageSignature::parse(named.as_bytes()).unwrap();
    assert!(!named.is_by(&key) && !named.is_by(&other.public_key()));
    let crossed = by_go().statement.sign(&other);
    assert!(!crossed.is_by(&key) && !crossed.is_by(&other.public_key()));
}

#[test]
fn a_signature_has_one_form() {
    let upper = PUBLIC.to_uppercase();
    let small = format!("01{}", "00".repeat(31));
    for (from, to, said) in [
        ("signature 1\n", "signature 2\n", "line 1 is not"),
        (
            "plugin: hello",
            "plugin: Hello",
            "line 2 is not \"plugin:\"",
        ),
        ("plugin: ", "plugin:  ", "line 2 is not"),
        ("1.2.0", "v1", "line 3 is not \"version:\""),
        ("linux-x86_64", "windows", "line 4 is not \"platform:\""),
        ("sha256:47", "sha512:47", "line 5 is not \"digest:\""),
        (PUBLIC, &small, "line 6 is not \"key:\""),
        (PUBLIC, &upper, "not written as"),
        ("09:00:00Z", "10:00:00+01:00", "not written as"),
        ("\n", "\r\n", "not written as"),
        ("0c\n", "0c", "not written as"),
        ("0c\n", "0c\n\n", "not written as"),
        ("0c\n", "\n", "no signature"),
        ("signature: 9b", "signature: 9B", "not written as"),
        ("from: ", "when: ", "line 7 is not \"from:\""),
        ("key: ", "digest: ", "line 6 is not \"key:\""),
    ] {
        let text = BY_GO.replacen(from, to, 1);
        let error = PackageSignature::parse(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(said), "{to:?}: {error}");
    }
    for end in 0..BY_GO.len() {
        assert!(
            PackageSignature::parse(&BY_GO.as_bytes()[..end]).is_err(),
            "{end}"
        );
    }
    let long = format!("{BY_GO}{}", " ".repeat(PACKAGE_SIGNATURE_LIMIT_BYTES));
    let error = PackageSignature::parse(long.as_bytes()).unwrap_err();
    assert_eq!(error, PackageSignatureError::Length);
}

#[test]
fn a_statement_is_of_these_files_this_plugin_this_machine_and_time() {
    let statement = Statement {
        until: Some(at("2027-01-01T00:00:00Z")),
        ..by_go().statement
    };
    let digest = files().digest();
    let hello: PluginId = "hello".parse().unwrap();
    let here = Platform::linux("x86_64");
    let said = |statement: &Statement, plugin: &PluginId, digest, machine: &Platform, now: &str| {
        let covers = statement.covers(plugin, digest, machine, at(now));
        covers.map_or_else(|refused| refused.to_string(), |()| "covered".into())
    };
    let now = "2026-12-01T00:00:00Z";
    assert_eq!(said(&statement, &hello, digest, &here, now), "covered");
    let other = "other".parse().unwrap();
    assert_eq!(
        said(&statement, &other, digest, &here, now),
        r#"it is of plugin "hello", not of "other""#
    );
    let altered = said(&statement, &hello, Digest([0; 32]), &here, now);
    assert!(altered.starts_with("it is of sha256:47aa"), "{altered}");
    let arm = Platform::linux("aarch64");
    assert_eq!(
        said(&statement, &hello, digest, &arm, now),
        "it is for linux-x86_64, this machine is linux-aarch64"
    );
    let anywhere = Statement {
        platform: Platform::any(),
        ..statement.clone()
    };
    assert_eq!(said(&anywhere, &hello, digest, &arm, now), "covered");
    for (now, expected) in [
        ("2026-11-21T08:55:00Z", "covered"),
        (
            "2026-11-21T08:54:59Z",
            "it counts from 2026-11-21T09:00:00Z on, which is not yet",
        ),
        ("2026-12-31T23:59:59Z", "covered"),
        (
            "2027-01-01T00:00:00Z",
            "it counted until 2027-01-01T00:00:00Z",
        ),
    ] {
        assert_eq!(said(&statement, &hello, digest, &here, now), expected);
    }
    let least = |version: &str| statement.is_at_least(&version.parse().unwrap());
    assert_eq!((least("1.2"), least("1.2.0-rc.1")), (Ok(()), Ok(())));
    assert_eq!(
        least("1.2.1").unwrap_err().to_string(),
        "it is of version 1.2.0, the policy takes none below 1.2.1"
    );
    let unnamed = Statement {
        version: None,
        ..statement.clone()
    };
    let error = unnamed.is_at_least(&"0".parse().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it states no version, the policy takes none below 0"
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_signature_or_an_error(
        at in 0..BY_GO.len(),
        with in proptest::collection::vec(proptest::num::u8::ANY, 0..20),
    ) {
        let mut bytes = BY_GO.as_bytes().to_vec();
        bytes.splice(at..(at + with.len() / 2).min(BY_GO.len()), with);
        if let Ok(read) = PackageSignature::parse(&bytes) {
            proptest::prop_assert_eq!(read.to_text().into_bytes(), bytes);
        }
    }
}
