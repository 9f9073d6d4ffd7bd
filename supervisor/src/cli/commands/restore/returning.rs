//! Keys that a restore lets sign again: a backup has them as they were when it was made.

use std::fs;
use std::io;
use std::path::Path;

use pinfold_policy::{KEYS_LIMIT, KeyName, Moment, Standing, TrustedKey};
use serde::Serialize;

use crate::chain::Chain;
use crate::cli::archive::error::ArchiveError;
use crate::keys::{self, Found, KeyFileError};

/// A key of a backup that counts, and does not count the same as it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Returning {
    pub(super) name: KeyName,
    /// What it is here.
    pub(super) here: String,
}

/// The keys that sign again, or sign otherwise, once the keys directory `backup` is in the place of `here`: by
/// name, and at most as many as such a directory may have.
///
/// # Errors
/// [`ArchiveError::Keys`] where the backup's cannot be read. Where those that are here cannot, each is told with that.
pub(super) fn of(backup: &Path, here: &Path, now: Moment) -> Result<Vec<Returning>, ArchiveError> {
    compared(backup, &keys::all(here), now).map_err(|source| ArchiveError::Keys {
        directory: backup.to_owned(),
        source: Box::new(source),
    })
}

fn compared(
    backup: &Path,
    here: &Result<Vec<Found>, KeyFileError>,
    now: Moment,
) -> Result<Vec<Returning>, KeyFileError> {
    let mut returning = Vec::new();
    for name in keys::names(backup)? {
        let Some(key) = counting(backup, &name, now)? else {
            continue;
        };
        if let Some(here) = differs(&key, here, now) {
            returning.push(Returning { name, here });
        }
        if returning.len() == KEYS_LIMIT {
            break;
        }
    }
    Ok(returning)
}

/// A key of a backup, where it counts at that time. One whose files are not such as the launcher takes is good
/// for nothing; of one whose files cannot be read that is not known.
fn counting(
    directory: &Path,
    name: &KeyName,
    now: Moment,
) -> Result<Option<TrustedKey>, KeyFileError> {
    for file in [name.public_file(), name.rules_file()] {
        if !is_file(&directory.join(file))? {
            return Ok(None);
        }
    }
    match keys::one(directory, name) {
        Ok(key) => {
            let is_trusted = key.rules.standing(now) == Standing::Trusted;
            Ok(is_trusted.then_some(key))
        }
        Err(error @ KeyFileError::Read { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether a regular file is there. A link, which the launcher does not follow, may lead to what never ends.
fn is_file(path: &Path) -> Result<bool, KeyFileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(KeyFileError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// What a key that counts in the backup is here; nothing where it counts here the same.
fn differs(
    theirs: &TrustedKey,
    here: &Result<Vec<Found>, KeyFileError>,
    now: Moment,
) -> Option<String> {
    let here = match here {
        Ok(here) => here,
        Err(error) => return Some(format!("not known: {}", Chain(error))),
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
    match ours.rules.standing(now) {
        Standing::Revoked(revoked) => Some(format!("revoked at {}", revoked.time)),
        Standing::Expired(expired) => Some(format!("expired at {expired}")),
        Standing::Trusted => (ours.rules != theirs.rules)
            .then(|| "good for other plugins, or until another time".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use pinfold_policy::{KeyRules, Pattern, PrivateKey, Revoked};
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
            let found = of(backup.path(), here, NOW).unwrap().into_iter();
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
        let none = of(&backup.path().join("absent"), here.path(), NOW).unwrap();
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn keys_that_cannot_be_read_are_not_told_as_none() {
        let (backup, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(&backup, "release", "1", &until(2_000));
        // No directory: nobody can list it, not even root.
        let unlisted = backup.path().join("release.pub");
        let error = of(&unlisted, here.path(), NOW).unwrap_err();
        let told = Chain(&error).to_string();
        let expected = format!(
            "the keys of the backup, unpacked in {directory}, cannot be compared with those that are here: \
             read {directory}: ",
            directory = unlisted.display()
        );
        assert!(told.starts_with(&expected), "{told}");
        let told = of(backup.path(), &unlisted, NOW).unwrap();
        let expected = format!("not known: read {}: ", unlisted.display());
        assert!(
            matches!(&told[..], [one] if one.here.starts_with(&expected)),
            "{told:?}"
        );
    }

    #[test]
    fn of_more_keys_than_there_may_be_the_first_by_name_are_told() {
        let (backup, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = (0..KEYS_LIMIT + 2).map(|number| format!("key-{number:03}"));
        let names: Vec<String> = names.collect();
        for name in &names {
            put(&backup, name, "1", &until(2_000));
        }
        let told = || -> Vec<String> {
            let found = of(backup.path(), here.path(), NOW).unwrap().into_iter();
            found.map(|one| one.name.to_string()).collect()
        };
        let (first, last) = names.split_at(KEYS_LIMIT);
        assert_eq!(told(), first);
        // Those that count here the same are in nobody's place.
        for name in first {
            put(&here, name, "1", &until(2_000));
        }
        assert_eq!(told(), last);
    }
}
