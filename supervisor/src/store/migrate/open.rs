//! Opening a database to read it, beside whoever writes it: perhaps as root, what another user shaped.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

/// Longest that one statement runs without a pause: what never ends, a view can make of any query. An hour is more
/// than the copy of a database of 100 GiB takes.
const LONGEST: Duration = Duration::from_secs(3600);
/// A pause, after which it is another statement.
const PAUSE: Duration = Duration::from_secs(5);
/// Instructions of SQLite's between two looks at the clock: about a millisecond.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;
/// What SQLite takes for a part of a database, by its name.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Why root does not open a file of a database.
#[derive(Debug, thiserror::Error)]
#[error("{path} {why}: it is not opened")]
struct NotOpened {
    path: PathBuf,
    why: &'static str,
    /// Whether it is the database itself, and a link.
    is_link: bool,
}

/// Whether a database was not opened because it is a link.
pub(crate) fn is_link(error: &sqlx::Error) -> bool {
    let sqlx::Error::Io(error) = error else {
        return false;
    };
    let why = error
        .get_ref()
        .and_then(|it| it.downcast_ref::<NotOpened>());
    why.is_some_and(|why| why.is_link)
}

/// Opens a file that has to be there, to read it beside whoever writes it.
///
/// What a schema contains was perhaps written by someone else: its views and triggers may call no function and use no
/// virtual table that could do harm. Root opens only files of the directory's own owner, or root's, and no link.
pub(crate) async fn open_to_read(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = open(path).await?;
    bound(&mut connection, LONGEST, None).await?;
    Ok(connection)
}

/// Has the next statement be a first one: of a connection that is asked again and again.
pub(crate) async fn begin_anew(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    bound(connection, LONGEST, None).await
}

/// The same, where it is copied to `to`: a file that says of itself that it is larger than it is ends the copy once it
/// takes `limit` bytes.
pub(super) async fn open_to_copy(
    path: &Path,
    to: &Path,
    limit: u64,
) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = open(path).await?;
    bound(&mut connection, LONGEST, Some((to.into(), limit))).await?;
    Ok(connection)
}

async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    if nix::unistd::geteuid().is_root() {
        check(path)?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .busy_timeout(Duration::from_secs(5));
    SqliteConnection::connect_with(&options).await
}

/// Ends what runs for longer, or copies more.
async fn bound(
    connection: &mut SqliteConnection,
    longest: Duration,
    copy: Option<(PathBuf, u64)>,
) -> Result<(), sqlx::Error> {
    let (mut begun, mut last) = (Instant::now(), Instant::now());
    let goes_on = move || {
        let now = Instant::now();
        if now.duration_since(last) > PAUSE {
            begun = now;
        }
        last = now;
        let is_small = copy.as_ref().is_none_or(|(path, limit)| {
            fs::symlink_metadata(path).map_or(true, |copy| copy.len() <= *limit)
        });
        now.duration_since(begun) < longest && is_small
    };
    connection
        .lock_handle()
        .await?
        .set_progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, goes_on);
    Ok(())
}

/// Makes sure that what SQLite opens is this database's, where its directory is another user's: no link to a file that
/// only root reads, nothing that who opens it waits for.
fn check(path: &Path) -> io::Result<()> {
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    if directory.uid() == 0 {
        return Ok(());
    }
    for end in BESIDE {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let found = match fs::symlink_metadata(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        let is_link = found.is_symlink();
        let why = if is_link {
            "is a link"
        } else if !found.is_file() {
            "is no file"
        } else if found.nlink() != 1 {
            "is another's file too"
        } else if ![0, directory.uid()].contains(&found.uid()) {
            "is not its directory's owner's"
        } else {
            continue;
        };
        return Err(io::Error::other(NotOpened {
            path: name.into(),
            why,
            is_link: is_link && end.is_empty(),
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use sqlx::ConnectOptions as _;

    use super::*;

    /// A database, in a directory that is another user's where this one is root.
    async fn database() -> (tempfile::TempDir, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("pinfold.db");
        let made = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let mut made = made.connect().await.unwrap();
        let sql = "CREATE TABLE kept (x); INSERT INTO kept VALUES (1), (2);
            CREATE VIEW endless AS
                WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n;";
        sqlx::raw_sql(sql).execute(&mut made).await.unwrap();
        made.close().await.unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(base.path(), Some(65_534), Some(65_534)).unwrap();
            chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
        (base, path)
    }

    async fn count(connection: &mut SqliteConnection, of: &str) -> Result<i64, sqlx::Error> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
        sqlx::query_scalar(sql).fetch_one(connection).await
    }

    #[tokio::test]
    async fn a_query_that_never_ends_is_ended() {
        let (_base, path) = database().await;
        let mut opened = open(&path).await.unwrap();
        let longest = Duration::from_millis(50);
        bound(&mut opened, longest, None).await.unwrap();
        assert_eq!(count(&mut opened, "kept").await.unwrap(), 2);
        let error = count(&mut opened, "endless").await.unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
    }

    #[tokio::test]
    async fn a_copy_that_grows_beyond_its_limit_is_ended() {
        let (base, path) = database().await;
        let to = base.path().join("copy");
        fs::write(&to, [0; 4096]).unwrap();
        let mut opened = open_to_copy(&path, &to, 4096).await.unwrap();
        assert_eq!(count(&mut opened, "kept").await.unwrap(), 2);
        fs::write(&to, [0; 4097]).unwrap();
        // Whatever runs long enough to be looked at.
        let error = count(&mut opened, "endless").await.unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
    }

    #[tokio::test]
    async fn root_opens_no_link_and_nothing_that_it_would_wait_for() {
        let (base, path) = database().await;
        open_to_read(&path).await.unwrap();
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: root_opens_no_link_and_nothing_that_it_would_wait_for: needs root");
            return;
        }
        let away = base.path().join("away.db");
        let refused = async |of: &str| {
            let error = open_to_read(&path).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("it is not opened"), "{of}: {text}");
            assert_eq!(is_link(&error), of == "a link", "{text}");
        };
        fs::rename(&path, &away).unwrap();
        symlink(&away, &path).unwrap();
        refused("a link").await;
        fs::remove_file(&path).unwrap();
        fs::hard_link(&away, &path).unwrap();
        refused("another name").await;
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        refused("a pipe").await;
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        chown(&path, Some(12_345), None).unwrap();
        refused("another's").await;
        chown(&path, Some(0), None).unwrap();
        open_to_read(&path).await.unwrap();
        let beside = base.path().join("pinfold.db-journal");
        nix::unistd::mkfifo(&beside, nix::sys::stat::Mode::S_IRUSR).unwrap();
        refused("a pipe beside it").await;
    }
}
