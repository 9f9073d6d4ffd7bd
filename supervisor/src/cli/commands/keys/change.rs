//! `pinfold keys trust` and `revoke`: what the keys directory says, changed, and the daemon told.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::unistd::Gid;
use pinfold_gateway::admin::dto::{Because, PluginDetail};
use pinfold_policy::{
    KEYS_LIMIT, KeyName, KeyRefusal, KeyRules, Moment, Pattern, PluginId, PublicKey, Revoked,
    TrustedKey, nearest,
};
use serde::Serialize;

use super::KeysError;
use super::list::KeyView;
use crate::cli::Context;
use crate::cli::args::TrustArguments;
use crate::cli::client::ClientError;
use crate::cli::exit::Failure;
use crate::cli::installation::Installation;
use crate::cli::lifetime::Lifetime;
use crate::cli::output::{self, Page};
use crate::cli::recorded::{self, Recorded};
use crate::cli::{owned_file, tell};
use crate::keys::{self, Found, KeyFileError};

/// What was done, for programs.
#[derive(Serialize)]
struct Changed {
    key: KeyView,
    /// Whether the daemon was told; it reads the keys for each start in any case.
    told: bool,
    /// Plugins that run and cannot be started again.
    go_on: Vec<GoesOn>,
}

#[derive(Serialize)]
struct GoesOn {
    plugin: PluginId,
    why: String,
}

pub(super) async fn trust(context: &Context, arguments: TrustArguments) -> Result<(), Failure> {
    let TrustArguments {
        file,
        name,
        plugins,
        expires,
    } = arguments;
    let installation = Installation::open(&context.place)?;
    let key = keys::public_key(&file)?;
    let name = match name {
        Some(name) => name,
        None => name_of(&file)?,
    };
    let now = keys::now();
    let mut rules = KeyRules::new(plugins.into_iter().map(Pattern::new).collect());
    rules.expires = expires.map(|lifetime| end(lifetime, now));
    rules.check().map_err(KeysError::Rules)?;
    let trusted = TrustedKey { name, key, rules };
    check(&trusted, keys::all(installation.keys_dir())?)?;
    let because = Because::KeyTrusted;
    let recorded = recorded::key(context, &installation, because, &trusted.name).await?;
    make_directory(installation.keys_dir())?;
    // What the key is good for comes first: a key without it is good for nothing.
    let (directory, group) = (installation.keys_dir(), installation.daemon_group());
    let name = &trusted.name;
    let text = trusted.rules.to_toml();
    owned_file::replace(directory, &name.rules_file(), text.as_bytes(), group)?;
    let text = format!("{}\n", trusted.key);
    owned_file::replace(directory, &name.public_file(), text.as_bytes(), group)?;
    tell(context, &trusted, because, recorded).await
}

pub(super) async fn revoke(
    context: &Context,
    name: &KeyName,
    reason: String,
) -> Result<(), Failure> {
    let installation = Installation::open(&context.place)?;
    let directory = installation.keys_dir();
    let mut key = match keys::one(directory, name) {
        Ok(key) => key,
        // Whatever the file said: what is written now makes the key good for nothing.
        Err(KeyFileError::NoRules { .. } | KeyFileError::Rules { .. }) => {
            let key = keys::public_key(&directory.join(name.public_file()))?;
            unruled(name.clone(), key)
        }
        Err(KeyFileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(unknown(name, directory)?.into());
        }
        Err(error) => return Err(error.into()),
    };
    let because = Because::KeyRevoked;
    let recorded = recorded::key(context, &installation, because, &key.name).await?;
    let group = installation.daemon_group();
    let revoked = Revoked {
        time: keys::now(),
        reason,
    };
    // Under whatever other name it lies there, it is the same key.
    for mut other in keys::all(directory)?.into_iter().filter_map(same_as(&key)) {
        revoke_one(directory, group, &mut other, &revoked)?;
    }
    revoke_one(directory, group, &mut key, &revoked)?;
    tell(context, &key, because, recorded).await
}

/// What the same key is under another name. Where what that one is good for cannot be read, it is
/// written anew, and is then good for nothing.
fn same_as(key: &TrustedKey) -> impl FnMut(Found) -> Option<TrustedKey> {
    move |found| {
        let is_other = found.name != key.name && found.public == Some(key.key);
        is_other.then(|| match found.key {
            Ok(other) => other,
            Err(_) => unruled(found.name, key.key),
        })
    }
}

fn unruled(name: KeyName, key: PublicKey) -> TrustedKey {
    TrustedKey {
        name,
        key,
        rules: KeyRules::new(vec![Pattern::any()]),
    }
}

/// Writes that a key is revoked; one that was keeps its time and reason.
fn revoke_one(
    directory: &Path,
    group: Option<Gid>,
    key: &mut TrustedKey,
    revoked: &Revoked,
) -> Result<(), Failure> {
    if key.rules.revoked.is_some() {
        return Ok(());
    }
    key.rules.revoked = Some(revoked.clone());
    key.rules.check().map_err(KeysError::Rules)?;
    let text = key.rules.to_toml();
    owned_file::replace(directory, &key.name.rules_file(), text.as_bytes(), group)?;
    Ok(())
}

/// The name that a key's file gives.
fn name_of(file: &Path) -> Result<KeyName, KeysError> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| stem.parse().ok())
        .ok_or_else(|| KeysError::NoName {
            file: file.to_owned(),
        })
}

fn end(Lifetime(lifetime): Lifetime, now: Moment) -> Moment {
    Moment::from_unix_seconds(now.unix_seconds().saturating_add(lifetime.as_secs()))
}

/// A key has one name, and a name one key: else what is revoked by the one would count by the other.
/// One that was revoked does not come back. And there are no more than the launcher reads: with one
/// more it trusts none of them.
fn check(trusted: &TrustedKey, here: Vec<Found>) -> Result<(), KeysError> {
    let is_full = here.len() >= KEYS_LIMIT && here.iter().all(|found| found.name != trusted.name);
    let revoked: Vec<KeyName> = (here.iter())
        .filter_map(|found| found.key.as_ref().ok())
        .filter(|key| key.rules.revoked.is_some())
        .map(|key| key.name.clone())
        .collect();
    for found in here {
        let is_same = found.public == Some(trusted.key);
        let has_name = found.name == trusted.name;
        match (found.key, found.public) {
            (Ok(key), _) if is_same => match key.rules.revoked {
                Some(Revoked { time, reason }) => {
                    return Err(KeysError::Revoked(KeyRefusal::Revoked {
                        key: key.name,
                        time,
                        reason,
                    }));
                }
                None if has_name => {}
                None => return Err(KeysError::Known { name: key.name }),
            },
            // What is said of it now is the first that is said.
            (Err(KeyFileError::NoRules { .. }), _) if is_same && has_name => {}
            (_, Some(here)) if has_name && !is_same => {
                return Err(KeysError::OtherKey {
                    name: found.name,
                    here: Box::new(here),
                });
            }
            // It may be one that was revoked, or another key.
            (Err(source), _) if is_same || has_name => {
                let name = found.name;
                return Err(KeysError::Unreadable { name, source });
            }
            _ => {}
        }
    }
    if is_full {
        return Err(KeysError::TooMany { revoked });
    }
    Ok(())
}

fn unknown(name: &KeyName, directory: &Path) -> Result<KeysError, KeyFileError> {
    let all = keys::all(directory)?;
    let names = all.iter().map(|found| found.name.as_str());
    Ok(KeysError::Unknown {
        name: name.clone(),
        directory: directory.to_owned(),
        nearest: nearest(name.as_str(), names).map(str::to_owned),
    })
}

fn make_directory(path: &Path) -> Result<(), KeysError> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|source| KeysError::Make {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Has the daemon look again: what waits for the key starts, and what it can start no more is named.
async fn tell(
    context: &Context,
    key: &TrustedKey,
    because: Because,
    recorded: Recorded,
) -> Result<(), Failure> {
    let done = match because {
        Because::KeyRevoked => "revoked",
        _ => "trusted",
    };
    let why = recorded.because_of_key(because, key.name.clone());
    if output::is_watched() {
        output::note("it is written; the daemon looks at every plugin again …");
    }
    let (told, plugins, not_told) = match context.client.rescan_all(&why).await {
        Ok(plugins) => {
            recorded.forget();
            (true, plugins, None)
        }
        Err(error) => (false, Vec::new(), Some(error)),
    };
    let changed = Changed {
        key: KeyView::of(key, keys::now()),
        told,
        go_on: plugins.into_iter().filter_map(goes_on).collect(),
    };
    context
        .output
        .give(&changed, |changed| page(changed, done))?;
    match not_told {
        None => Ok(()),
        Some(ClientError::NotRunning { .. }) => {
            let what = format!("the key is {done} for every start from now on");
            tell::note_not_running(&what, context.development);
            Ok(())
        }
        // What was asked for is done all the same: the launcher reads the keys by itself.
        Some(error) => Err(error.into()),
    }
}

fn goes_on(detail: PluginDetail) -> Option<GoesOn> {
    Some(GoesOn {
        plugin: detail.view.id,
        why: detail.view.trust_lost?,
    })
}

fn page(changed: &Changed, done: &str) -> Page {
    let key = &changed.key;
    let mut page = Page::default();
    page.line(format_args!("key {} is {done}", key.name))
        .field("key", key.public_key.as_deref().unwrap_or_default())
        .field("may sign", key.plugins.join(" "))
        .field("expires", key.expires.as_deref().unwrap_or_default())
        .field("revoked", key.revoked.as_deref().unwrap_or_default())
        .field("why", key.reason.as_deref().unwrap_or_default())
        .list(
            "goes on, and cannot be started again:",
            changed
                .go_on
                .iter()
                .map(|one| format!("{}: {}", one.plugin, one.why)),
        );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, digit: &str, revoked: bool) -> TrustedKey {
        let private = pinfold_policy::PrivateKey::parse(digit.repeat(64).as_bytes()).unwrap();
        let mut rules = KeyRules::new(vec![Pattern::any()]);
        rules.revoked = revoked.then(|| Revoked {
            time: Moment::from_unix_seconds(5),
            reason: "lost".into(),
        });
        TrustedKey {
            name: name.parse().unwrap(),
            key: private.public_key(),
            rules,
        }
    }

    fn found(key: TrustedKey) -> Found {
        Found {
            name: key.name.clone(),
            public: Some(key.key),
            key: Ok(key),
        }
    }

    fn unusable(name: &str, digit: &str, error: KeyFileError) -> Found {
        Found {
            key: Err(error),
            ..found(key(name, digit, false))
        }
    }

    fn here() -> Vec<Found> {
        let path = std::path::PathBuf::from("keys.d/rules");
        let no_rules = KeyFileError::NoRules { path: path.clone() };
        let bad_rules = KeyFileError::Rules {
            path,
            source: KeyRules::parse(b"plugins = 5").unwrap_err(),
        };
        vec![
            found(key("a", "1", false)),
            found(key("b", "2", true)),
            unusable("unruled", "4", no_rules),
            unusable("broken", "5", bad_rules),
        ]
    }

    fn said(name: &str, digit: &str) -> String {
        let error = check(&key(name, digit, false), here()).unwrap_err();
        Failure::from(error).to_string()
    }

    #[test]
    fn a_key_takes_no_others_name_and_a_revoked_one_does_not_come_back() {
        check(&key("a", "1", false), here()).unwrap();
        check(&key("c", "3", false), here()).unwrap();
        for name in ["a", "unruled", "broken"] {
            let other = said(name, "3");
            let expected = format!("there is another key \"{name}\" here: ");
            assert!(other.starts_with(&expected), "{other}");
        }
        for name in ["b", "renamed"] {
            assert_eq!(
                said(name, "2"),
                "this key is not trusted again: key \"b\" was revoked at 1970-01-01T00:00:05Z (\"lost\")"
            );
        }
    }

    #[test]
    fn a_key_has_one_name_and_one_that_cannot_be_read_may_be_a_revoked_one() {
        assert_eq!(said("c", "1"), "this key is trusted already, as \"a\"");
        check(&key("unruled", "4", false), here()).unwrap();
        for (name, digit, known) in [
            ("c", "4", "unruled"),
            ("broken", "5", "broken"),
            ("c", "5", "broken"),
        ] {
            let expected = format!("what key \"{known}\" is good for cannot be read: ");
            let said = said(name, digit);
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn there_is_no_key_more_than_the_launcher_reads() {
        let full = |revoked: usize| -> Vec<Found> {
            let others = (1..KEYS_LIMIT)
                .map(|number| found(key(&format!("k-{number:03}"), "9", number <= revoked)));
            others.chain([found(key("a", "1", false))]).collect()
        };
        let new = key("new", "3", false);
        let refused = |revoked| Failure::from(check(&new, full(revoked)).unwrap_err());
        let none_revoked = refused(0);
        assert_eq!(
            none_revoked.to_string(),
            "256 keys are here already, and the launcher reads no more"
        );
        let hint = none_revoked.hint_text().unwrap();
        assert!(
            hint.ends_with("of keys that sign nothing any longer"),
            "{hint}"
        );
        let some = refused(2);
        let hint = some.hint_text().unwrap();
        assert!(hint.ends_with("; revoked are k-001 k-002"), "{hint}");
        let many = refused(20);
        let hint = many.hint_text().unwrap();
        assert!(hint.ends_with(" k-008 and 12 more"), "{hint}");
        // One that is there already may have what it is good for said anew; and one may be replaced.
        check(&key("a", "1", false), full(0)).unwrap();
        check(&new, full(0).split_off(1)).unwrap();
    }

    #[test]
    fn a_revoked_key_is_revoked_under_its_other_names_and_keeps_the_first_reason() {
        let directory = tempfile::tempdir().unwrap();
        let lost = key("a", "1", false);
        let others = [
            found(key("b", "1", true)),
            found(key("c", "2", false)),
            found(key("a", "1", false)),
            unusable("d", "1", KeyFileError::NoRules { path: "d".into() }),
        ];
        let revoked = Revoked {
            time: Moment::from_unix_seconds(9),
            reason: "stolen".into(),
        };
        let mut done = Vec::new();
        for mut other in others.into_iter().filter_map(same_as(&lost)) {
            revoke_one(directory.path(), None, &mut other, &revoked).unwrap();
            done.push((other.name.to_string(), other.rules.revoked.unwrap().reason));
        }
        let expected = [("b", "lost"), ("d", "stolen")];
        assert_eq!(done, expected.map(|(name, why)| (name.into(), why.into())));
        let written = fs::read(directory.path().join("d.toml")).unwrap();
        assert_eq!(KeyRules::parse(&written).unwrap().revoked, Some(revoked));
    }

    #[test]
    fn a_keys_file_gives_its_name() {
        let named = |file: &str| name_of(Path::new(file)).map(|name| name.to_string());
        assert_eq!(named("/x/release.pub").unwrap(), "release");
        assert!(named("Release.pub").is_err());
        assert!(named("/").is_err());
    }
}
