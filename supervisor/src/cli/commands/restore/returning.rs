//! Keys that a restore lets sign again: a backup has them as they were when it was made.

use std::fs;
use std::path::Path;

use pinfold_policy::{KEYS_LIMIT, KeyName, KeyRules, Moment, TrustedKey};
use serde::Serialize;

use crate::keys::{self, Found, KeyFileError};

/// A key of a backup that counts, and does not count the same as it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Returning {
    pub(super) name: KeyName,
    /// What it is here.
    pub(super) here: String,
}

/// The keys that sign again, or sign otherwise, once the keys directory `backup` is in the place of `here`. At
/// most as many as such a directory may have.
pub(super) fn of(backup: &Path, here: &Path, now: Moment) -> Vec<Returning> {
    let here = keys::all(here);
    let returning = counting(backup, now).into_iter().filter_map(|key| {
        Some(Returning {
            here: differs(&key, &here, now)?,
            name: key.name,
        })
    });
    returning.collect()
}

/// The keys of a backup that count at that time, by name.
fn counting(directory: &Path, now: Moment) -> Vec<TrustedKey> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".pub")?.parse::<KeyName>().ok()
    });
    // A link, which the launcher does not follow, may lead to what never ends.
    let is_file = |name: String| {
        fs::symlink_metadata(directory.join(name)).is_ok_and(|metadata| metadata.is_file())
    };
    let mut found: Vec<TrustedKey> = names
        .filter(|name| is_file(name.public_file()) && is_file(name.rules_file()))
        .filter_map(|name| keys::one(directory, &name).ok())
        .filter(|key| counts(&key.rules, now))
        .take(KEYS_LIMIT)
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn counts(rules: &KeyRules, now: Moment) -> bool {
    rules.revoked.is_none() && rules.expires.is_none_or(|expires| expires > now)
}

/// What a key that counts in the backup is here; nothing where it counts here the same.
fn differs(
    theirs: &TrustedKey,
    here: &Result<Vec<Found>, KeyFileError>,
    now: Moment,
) -> Option<String> {
    let here = match here {
        Ok(here) => here,
        Err(error) => return Some(format!("not known: {error}")),
    };
    let Some(found) = here.iter().find(|found| found.name == theirs.name) else {
        return Some("not there".into());
    };
    let ours = match &found.key {
        Ok(ours) => ours,
        Err(error) => return Some(format!("good for nothing: {error}")),
    };
    if ours.key != theirs.key {
        return Some("another key".into());
    }
    match (&ours.rules.revoked, ours.rules.expires) {
        (Some(revoked), _) => Some(format!("revoked at {}", revoked.time)),
        (None, Some(expired)) if expired <= now => Some(format!("expired at {expired}")),
        _ if ours.rules != theirs.rules => {
            Some("good for other plugins, or until another time".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pinfold_policy::{Pattern, PrivateKey, Revoked};
    use tempfile::TempDir;

    use super::*;

    const NOW: Moment = Moment::from_unix_seconds(1_000);

    fn put(directory: &TempDir, name: &str, digit: &str, rules: &KeyRules) {
        let private = PrivateKey::parse(digit.repeat(64).as_bytes()).unwrap();
        let public = directory.path().join(format!("{name}.pub"));
        fs::write(public, private.public_key().to_string()).unwrap();
        let path = directory.path().join(format!("{name}.toml"));
        fs::write(path, rules.to_toml()).unwrap();
    }

    fn until(expires: u64) -> KeyRules {
        KeyRules {
            expires: Some(Moment::from_unix_seconds(expires)),
            ..KeyRules::new(vec![Pattern::new("hello")])
        }
    }

    fn revoked() -> KeyRules {
        KeyRules {
            revoked: Some(Revoked {
                time: Moment::from_unix_seconds(900),
                reason: "laptop lost".into(),
            }),
            ..until(2_000)
        }
    }

    #[test]
    fn keys_that_count_in_a_backup_and_not_here_are_named_with_what_they_are_here() {
        let (backup, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = ["expired", "gone", "other", "revoked", "same", "wider"];
        for name in names {
            put(&backup, name, "1", &until(2_000));
        }
        // What does not count there comes back as nothing.
        put(&backup, "dead", "1", &revoked());
        put(&backup, "old", "1", &until(1_000));
        fs::write(backup.path().join("unruled.pub"), "").unwrap();
        symlink("/dev/zero", backup.path().join("endless.pub")).unwrap();
        symlink("/dev/zero", backup.path().join("endless.toml")).unwrap();
        put(&here, "expired", "1", &until(1_000));
        put(&here, "other", "2", &until(2_000));
        put(&here, "revoked", "1", &revoked());
        put(&here, "same", "1", &until(2_000));
        put(&here, "wider", "1", &until(3_000));
        let told = |here: &Path| -> Vec<(String, String)> {
            let found = of(backup.path(), here, NOW).into_iter();
            found.map(|one| (one.name.to_string(), one.here)).collect()
        };
        let expected = [
            ("expired", "expired at 1970-01-01T00:16:40Z"),
            ("gone", "not there"),
            ("other", "another key"),
            ("revoked", "revoked at 1970-01-01T00:15:00Z"),
            ("wider", "good for other plugins, or until another time"),
        ];
        let expected = expected.map(|(name, is)| (name.to_owned(), is.to_owned()));
        assert_eq!(told(here.path()), expected);
        // On a new machine all of them are new.
        let new = told(&here.path().join("absent"));
        assert_eq!(new, names.map(|name| (name.to_owned(), "not there".into())));
        let none = of(&backup.path().join("absent"), here.path(), NOW);
        assert!(none.is_empty(), "{none:?}");
    }
}
