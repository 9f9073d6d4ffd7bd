//! A copy of the database as of one moment, while it is read and written.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sqlx::Connection as _;

use super::super::StoreError;
use super::open::open_to_copy;
use super::{open_to_read, schema};

/// What a copy may take more than twice what is copied: much, for a small file that is written meanwhile.
const COPY_SLACK_BYTES: u64 = 64 << 20;

/// Copies the database at `path` to `to`, which must not be there and lies where nobody else can
/// write: by `VACUUM INTO` (<https://sqlite.org/lang_vacuum.html>), so that it is whole and of one
/// moment whoever writes meanwhile. The copy is read back, is its owner's alone (0600), and is on
/// the disk when this returns; of a copy that fails nothing stays.
pub(crate) async fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    let copied = copy_whole(path, to).await;
    if copied.is_err() {
        fs::remove_file(to).unwrap_or_default();
    }
    copied.map_err(|source| StoreError::Copy {
        path: path.into(),
        to: to.into(),
        source,
    })
}

/// Most bytes that its copy takes: what is in it, and in its log, and as much again for what is written meanwhile.
fn most(path: &Path) -> u64 {
    // What a link leads to is no measure for root, where somebody else may have made it.
    let path = match nix::unistd::geteuid().is_root() {
        true => path.to_owned(),
        false => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
    };
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &Path| fs::symlink_metadata(path).map_or(0, |it| it.len());
    let is = size(&path).saturating_add(size(Path::new(&log)));
    is.saturating_mul(2).saturating_add(COPY_SLACK_BYTES)
}

async fn copy_whole(path: &Path, to: &Path) -> Result<(), sqlx::Error> {
    let name = to.to_str().ok_or_else(|| {
        sqlx::Error::Configuration("SQLite takes no name that is not UTF-8".into())
    })?;
    let mut source = open_to_copy(path, to, most(path)).await?;
    sqlx::query("VACUUM INTO ?")
        .bind(name)
        .execute(&mut source)
        .await?;
    let found = schema(&mut source).await?;
    source.close().await?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
    let mut made = open_to_read(to).await?;
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut made)
        .await?;
    let is_same = schema(&mut made).await? == found;
    made.close().await?;
    if verdict != "ok" || !is_same {
        let why = format!("the copy is not what was copied: {verdict}");
        return Err(sqlx::Error::Io(std::io::Error::other(why)));
    }
    File::open(to)?.sync_all()?;
    let parent = to.parent().unwrap_or(Path::new("/"));
    Ok(File::open(parent)?.sync_all()?)
}
