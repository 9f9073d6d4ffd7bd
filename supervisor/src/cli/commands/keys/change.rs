//! `pinfold keys trust` and `revoke`: what the keys directory says, changed, and the daemon told.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use pinfold_gateway::admin::dto::PluginDetail;
use pinfold_policy::{
    KeyName, KeyRefusal, KeyRules, Moment, Pattern, PluginId, Revoked, TrustedKey, nearest,
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
    check(&trusted, &keys::all(installation.keys_dir())?)?;
    make_directory(installation.keys_dir())?;
    // What the key is good for comes first: without it a key is good for nothing, and with one that
    // is of another key for what was just said.
    let (directory, group) = (installation.keys_dir(), installation.daemon_group());
    let name = &trusted.name;
    let text = trusted.rules.to_toml();
    owned_file::replace(directory, &name.rules_file(), text.as_bytes(), group)?;
    let text = format!("{}\n", trusted.key);
    owned_file::replace(directory, &name.public_file(), text.as_bytes(), group)?;
    tell(context, &trusted, "trusted").await
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
        Err(KeyFileError::NoRules { .. } | KeyFileError::Rules { .. }) => TrustedKey {
            name: name.clone(),
            key: keys::public_key(&directory.join(name.public_file()))?,
            rules: KeyRules::new(vec![Pattern::any()]),
        },
        Err(KeyFileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(unknown(name, directory)?.into());
        }
        Err(error) => return Err(error.into()),
    };
    if key.rules.revoked.is_none() {
        key.rules.revoked = Some(Revoked {
            time: keys::now(),
            reason,
        });
        key.rules.check().map_err(KeysError::Rules)?;
        let text = key.rules.to_toml();
        let group = installation.daemon_group();
        owned_file::replace(directory, &name.rules_file(), text.as_bytes(), group)?;
    }
    tell(context, &key, "revoked").await
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

/// A key does not take another's name, and one that was revoked does not come back under any.
fn check(trusted: &TrustedKey, here: &[Found]) -> Result<(), KeysError> {
    for found in here.iter().filter_map(|found| found.key.as_ref().ok()) {
        if found.name == trusted.name && found.key != trusted.key {
            return Err(KeysError::OtherKey {
                name: found.name.clone(),
                here: Box::new(found.key),
            });
        }
        if let (true, Some(revoked)) = (found.key == trusted.key, &found.rules.revoked) {
            return Err(KeysError::Revoked(KeyRefusal::Revoked {
                key: found.name.clone(),
                time: revoked.time,
                reason: revoked.reason.clone(),
            }));
        }
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
async fn tell(context: &Context, key: &TrustedKey, done: &str) -> Result<(), Failure> {
    if output::is_watched() {
        output::note("it is written; the daemon looks at every plugin again …");
    }
    let (told, plugins, not_told) = match context.client.rescan_all().await {
        Ok(plugins) => (true, plugins, None),
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
        why: detail.trust_lost?,
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
            key: Ok(key),
        }
    }

    #[test]
    fn a_key_takes_no_others_name_and_a_revoked_one_does_not_come_back() {
        let here = [found(key("a", "1", false)), found(key("b", "2", true))];
        check(&key("a", "1", false), &here).unwrap();
        check(&key("c", "3", false), &here).unwrap();
        let said = |key: &TrustedKey| Failure::from(check(key, &here).unwrap_err());
        let other = said(&key("a", "3", false));
        assert!(
            other
                .to_string()
                .starts_with("there is another key \"a\" here: ")
        );
        for name in ["b", "renamed"] {
            let revoked = said(&key(name, "2", false));
            assert_eq!(
                revoked.to_string(),
                "this key is not trusted again: key \"b\" was revoked at 1970-01-01T00:00:05Z (\"lost\")"
            );
        }
    }

    #[test]
    fn a_keys_file_gives_its_name() {
        let named = |file: &str| name_of(Path::new(file)).map(|name| name.to_string());
        assert_eq!(named("/x/release.pub").unwrap(), "release");
        assert!(named("Release.pub").is_err());
        assert!(named("/").is_err());
    }
}
