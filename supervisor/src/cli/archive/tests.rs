//! What is backed up comes back; what is no backup changes nothing.

mod hostile;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use pinfold_policy::LauncherConfig;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tar::{Builder, EntryType, Header};

use super::areas::{self, DATABASE};
use super::error::ArchiveError;
use super::read;
use super::unpacked::Unpacked;
use super::work::Work;
use super::{put, verify, write};
use crate::place::Place;
use crate::store::audit::reader::{Reader, Seen};
use crate::store::{Store, migrate};

struct Here {
    base: tempfile::TempDir,
    place: Place,
    config: LauncherConfig,
}

impl Here {
    /// An installation's directories, with nothing in them.
    fn empty() -> Self {
        let base = tempfile::tempdir().unwrap();
        let place = Place::development(base.path());
        let at = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let directories = ["plugins", "etc/policy.d", "etc/keys.d", "launcher"].map(at);
        at("state");
        let [plugins, policies, keys, state] = directories.map(|path| path.display().to_string());
        let text = format!(
            "plugin-dir = \"{plugins}\"\npolicy-dir = \"{policies}\"\nkeys-dir = \"{keys}\"\n\
             state-dir = \"{state}\"\ndaemon-user = \"nobody\"\n"
        );
        fs::write(&place.launcher_config, &text).unwrap();
        let config = LauncherConfig::parse(text.as_bytes()).unwrap();
        Self {
            base,
            place,
            config,
        }
    }

    fn write(&self, path: impl AsRef<Path>, text: &str, mode: u32) -> PathBuf {
        let path = self.base.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn backup(&self) -> PathBuf {
        self.base.path().join("backup.tar")
    }

    fn unpack(&self) -> Result<Unpacked, ArchiveError> {
        let databases = read::databases(&self.backup())?;
        let areas = areas::all(&self.place, &self.config, &databases).unwrap();
        read::unpack(&self.backup(), &areas)
    }

    fn put(&self, mut unpacked: Unpacked, stamp: &str) -> Result<Vec<put::Replaced>, ArchiveError> {
        unpacked.give(&BTreeMap::new()).unwrap();
        let marker = self.place.unfinished_restore();
        let done = put::put(&unpacked.staged, &marker, stamp);
        assert!(!marker.exists());
        done
    }

    /// Everything of the installation: path, mode, and content or target.
    fn all(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut directories = vec![self.base.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let content = match metadata.file_type() {
                    kind if kind.is_dir() => {
                        directories.push(path.clone());
                        Vec::new()
                    }
                    kind if kind.is_symlink() => fs::read_link(&path)
                        .unwrap()
                        .as_os_str()
                        .as_bytes()
                        .to_vec(),
                    kind if kind.is_file() => fs::read(&path).unwrap(),
                    _ => continue,
                };
                if path != self.backup() {
                    found.push((path, metadata.permissions().mode(), content));
                }
            }
        }
        found.sort();
        found
    }
}

/// One with something of everything in it.
async fn full() -> Here {
    let here = Here::empty();
    here.write("etc/pinfold.toml", "log = \"debug\"\n", 0o640);
    here.write("etc/policy.d/hello.toml", "schema = 1\n", 0o640);
    here.write("etc/keys.d/release.pub", "00", 0o644);
    here.write("plugins/hello/hello", "#!/bin/true", 0o755);
    let long = format!("plugins/hello/{}/{}.txt", "d".repeat(120), "f".repeat(200));
    here.write(long, "far down", 0o600);
    here.write("launcher/state/hello/notes", "kept", 0o600);
    let odd = OsStr::from_bytes(b"launcher/state/hello/odd \xff%\n");
    here.write(odd, "odd", 0o604);
    symlink(
        "../../../etc/shadow",
        here.base.path().join("launcher/state/hello/link"),
    )
    .unwrap();
    let fifo = here.base.path().join("launcher/state/hello/fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let store = Store::open(&here.place.database()).await.unwrap();
    let token = pinfold_gateway::admin::dto::NewToken {
        name: "ci".into(),
        user: "ann".into(),
        roles: vec![],
        expires: None,
    };
    store.create_token(token, "uid:0".into()).await.unwrap();
    store.close().await;
    here
}

#[tokio::test]
async fn what_was_backed_up_is_there_again_with_every_byte_and_mode_and_the_old_is_kept() {
    let here = full().await;
    let written = write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    assert_eq!(written.manifest.left_out, ["state/hello/fifo"]);
    assert_eq!(written.manifest.audit.len(), 1);
    assert_eq!(
        here.backup().metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = write::write(&here.place, &here.config, &here.backup()).await;
    assert!(matches!(again, Err(ArchiveError::Exists { .. })));
    let database = here.place.database();
    let is_mine = |path: &Path| {
        !path.starts_with(here.place.state.as_path()) && !path.ends_with("hello/fifo")
    };
    let before: Vec<_> = here
        .all()
        .into_iter()
        .filter(|one| is_mine(&one.0))
        .collect();
    // All is lost, and something else is in its place.
    fs::remove_dir_all(&here.config.plugin_dir).unwrap();
    fs::remove_dir_all(here.config.state_dir.join("state")).unwrap();
    fs::remove_file(here.config.policy_dir.join("hello.toml")).unwrap();
    here.write("etc/policy.d/other.toml", "another's", 0o600);
    fs::write(&database, "nothing").unwrap();
    for end in ["-wal", "-journal"] {
        fs::write(format!("{}{end}", database.display()), "of another").unwrap();
    }
    let unpacked = here.unpack().unwrap();
    let replaced = here.put(unpacked, "now").unwrap();
    let after: Vec<_> = here
        .all()
        .into_iter()
        .filter(|one| is_mine(&one.0))
        .collect();
    let kept = |path: &Path| path.to_string_lossy().contains(".before-now");
    let found: Vec<_> = after.into_iter().filter(|one| !kept(&one.0)).collect();
    assert_eq!(found, before);
    let old = here.base.path().join("etc/policy.d.before-now/other.toml");
    assert_eq!(fs::read_to_string(old).unwrap(), "another's");
    assert!(
        replaced
            .iter()
            .any(|one| one.path == database && one.kept.is_some())
    );
    let mut reader = Reader::open(&database).await.unwrap();
    let head = &written.manifest.audit[0];
    reader
        .verify(&BTreeMap::from([(head.number, Seen::from(head.hash))]))
        .await
        .unwrap();
    // Nothing lies about.
    assert!(
        here.all()
            .iter()
            .all(|one| !one.0.to_string_lossy().contains(".restoring"))
    );
}

/// A configuration that names a database for plugins in the daemon's state directory.
fn naming(here: &Here, name: &str) -> String {
    let path = here.place.state.join(format!("{name}.db"));
    format!(
        "[hostapi.database.{name}]\nurl = 'sqlite://{}'\n",
        path.display()
    )
}

/// One with such a database.
async fn with_database() -> Here {
    let here = full().await;
    here.write("etc/pinfold.toml", &naming(&here, "shop"), 0o640);
    // Any database will do.
    fs::copy(here.place.database(), here.place.state.join("shop.db")).unwrap();
    here
}

#[tokio::test]
async fn databases_come_back_by_the_configuration_in_the_backup() {
    let here = with_database().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    // As a package leaves a machine that is new.
    let shop = here.place.state.join("shop.db");
    fs::remove_file(&shop).unwrap();
    here.write("etc/pinfold.toml", &naming(&here, "main"), 0o640);
    let unpacked = here.unpack().unwrap();
    assert!(unpacked.at("databases/shop.db").is_some());
    here.put(unpacked, "now").unwrap();
    Reader::open(&shop).await.unwrap();
    // Nor is one left behind where the configuration that stays does not know it.
    here.write("etc/pinfold.toml", &naming(&here, "main"), 0o640);
    let before = here.all();
    let databases = areas::databases_here(&here.place).unwrap();
    let areas = areas::all(&here.place, &here.config, &databases).unwrap();
    let error = read::unpack(&here.backup(), &areas).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::NoPlace { entry } if entry == "databases/shop.db"),
        "{error:?}"
    );
    assert_eq!(here.all(), before);
}

#[tokio::test]
async fn a_database_that_is_a_link_comes_back_with_the_mode_of_what_it_leads_to() {
    let here = with_database().await;
    let shop = here.place.state.join("shop.db");
    let away = here.base.path().join("away.db");
    fs::rename(&shop, &away).unwrap();
    fs::set_permissions(&away, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&away, &shop).unwrap();
    let written = write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let mut entries = written.manifest.entries.iter();
    let entry = entries.find(|one| one.path == "databases/shop.db").unwrap();
    assert_eq!(entry.mode, "0640");
}

/// A write-ahead log that makes `table` in a database like `like`.
async fn log_of(like: &Path, table: &str) -> Vec<u8> {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("x.db");
    fs::copy(like, &path).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = options.connect().await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("CREATE TABLE {table} (x)"));
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    let log = fs::read(base.path().join("x.db-wal")).unwrap();
    connection.close().await.unwrap();
    log
}

/// How many tables of this name a database has.
async fn tables(path: &Path, name: &str) -> i64 {
    let mut connection = migrate::open_to_read(path).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = ?")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_the_daemon_left_beside_its_databases_is_no_part_of_what_is_restored() {
    let here = with_database().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let state = &here.place.state;
    let log = log_of(&here.place.database(), "planted").await;
    // It is a log that SQLite takes, where it lies beside a database.
    let proof = here.base.path().join("proof.db");
    fs::copy(here.place.database(), &proof).unwrap();
    fs::write(here.base.path().join("proof.db-wal"), &log).unwrap();
    assert_eq!(tables(&proof, "planted").await, 1);
    for name in [".shop.db.restoring", "shop.db", "pinfold.db"] {
        fs::write(state.join(format!("{name}-wal")), &log).unwrap();
    }
    // Who opens it waits for ever.
    let waits = state.join(".pinfold.db.restoring-journal");
    nix::unistd::mkfifo(&waits, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let unpacked = here.unpack().unwrap();
    verify::databases(&unpacked).await.unwrap();
    here.put(unpacked, "now").unwrap();
    for name in ["shop.db", "pinfold.db"] {
        assert_eq!(tables(&state.join(name), "planted").await, 0, "{name}");
    }
    assert!(!here.base.path().join(".state.restoring").exists());
}

#[tokio::test]
async fn nothing_is_backed_up_by_a_configuration_that_is_refused() {
    let here = with_database().await;
    here.write("etc/pinfold.toml", "lisen = 1\n", 0o640);
    let error = write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap_err();
    let failure = crate::cli::exit::Failure::from(error);
    assert_eq!(failure.exit(), crate::cli::exit::Exit::Config);
    assert!(failure.to_string().contains("lisen"), "{failure}");
    assert!(!here.backup().exists());
}

#[tokio::test]
async fn what_a_killed_backup_has_left_goes_with_the_next_and_two_at_once_are_refused() {
    let here = full().await;
    let left = here.write(".pinfold-backup/3.db", "a copy", 0o600);
    here.write(".pinfold-backup/lock", "", 0o600);
    let work = Work::beside(&here.backup()).unwrap();
    assert!(!left.exists());
    let error = write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap_err();
    assert!(matches!(error, ArchiveError::Busy { .. }), "{error:?}");
    drop(work);
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    assert!(!left.parent().unwrap().exists());
}

#[tokio::test]
async fn a_directory_of_another_kind_is_no_place_to_make_a_backup() {
    let here = full().await;
    let elsewhere = here.base.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, here.base.path().join(".pinfold-backup")).unwrap();
    let error = Work::beside(&here.backup()).unwrap_err();
    assert!(matches!(error, ArchiveError::File { .. }), "{error:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_is_there_at_every_moment_of_a_restore() {
    let here = full().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let path = &here.place.launcher_config;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::symlink_metadata(path).unwrap();
            }
        });
        for round in 0..20 {
            let unpacked = here.unpack().unwrap();
            here.put(unpacked, &round.to_string()).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap();
    });
}

#[tokio::test]
async fn where_one_place_cannot_be_taken_all_is_as_it_was() {
    let here = full().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let before = here.all();
    let unpacked = here.unpack().unwrap();
    // The last one's content is gone.
    fs::remove_dir_all(unpacked.at("state").unwrap()).unwrap();
    let mut unpacked = unpacked;
    let last = unpacked.staged.len() - 1;
    assert_eq!(unpacked.staged[last].area.name, "state");
    let marker = here.place.unfinished_restore();
    let staged = std::mem::take(&mut unpacked.staged);
    let error = put::put(&staged, &marker, "now").unwrap_err();
    assert!(
        matches!(error, ArchiveError::RolledBack { .. }),
        "{error:?}"
    );
    unpacked.staged = staged;
    drop(unpacked);
    assert_eq!(here.all(), before);
}

/// Copies an archive entry by entry, as `change` will have it: it gets a name and adds what it likes.
fn rewritten(here: &Here, change: impl Fn(&str, &mut Builder<Vec<u8>>) -> bool) {
    let mut builder = Builder::new(Vec::new());
    let bytes = fs::read(here.backup()).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        if change(&name, &mut builder) {
            builder.append(&header, &mut entry).unwrap();
        }
    }
    fs::write(here.backup(), builder.into_inner().unwrap()).unwrap();
}

/// A header with this very name, however bad.
fn header(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

#[tokio::test]
async fn an_archive_with_path_tricks_is_refused_and_changes_nothing() {
    use EntryType as T;
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("x");
    let absolute = target.display().to_string();
    let up = format!("plugins/../../..{absolute}");
    let through = |builder: &mut Builder<Vec<u8>>| {
        let mut link = header(b"plugins/escape", T::Symlink, 0);
        link.set_link_name(outside.path()).unwrap();
        link.set_cksum();
        builder.append(&link, &[][..]).unwrap();
        builder
            .append(&header(b"plugins/escape/x", T::Regular, 1), &b"x"[..])
            .unwrap();
    };
    let one = |name: &str, kind| {
        let header = header(name.as_bytes(), kind, 0);
        move |builder: &mut Builder<Vec<u8>>| builder.append(&header, &[][..]).unwrap()
    };
    let hard_link = |builder: &mut Builder<Vec<u8>>| {
        let mut link = header(b"plugins/shadow", T::Link, 0);
        link.set_link_name("/etc/shadow").unwrap();
        link.set_cksum();
        builder.append(&link, &[][..]).unwrap();
    };
    let setuid = |builder: &mut Builder<Vec<u8>>| {
        let mut header = header(b"plugins/su", T::Regular, 0);
        header.set_mode(0o4755);
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    };
    let long = |builder: &mut Builder<Vec<u8>>| {
        let name = vec![b'a'; super::PATH_LIMIT_BYTES + 10];
        let header = header(b"././@LongLink", T::GNULongName, name.len() as u64);
        builder.append(&header, name.as_slice()).unwrap();
    };
    type Change<'a> = Box<dyn Fn(&mut Builder<Vec<u8>>) + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        ("leads elsewhere", Box::new(one(&absolute, T::Regular))),
        ("leads elsewhere", Box::new(one(&up, T::Regular))),
        (
            "leads elsewhere",
            Box::new(one("plugins/hello/../../x", T::Regular)),
        ),
        ("leads elsewhere", Box::new(one("..", T::Directory))),
        ("not plain", Box::new(one("plugins//y", T::Regular))),
        ("not plain", Box::new(one("plugins/./y", T::Regular))),
        ("no such place", Box::new(one("pluginsx", T::Directory))),
        ("no such place", Box::new(one("etc/passwd", T::Regular))),
        (
            "came before it",
            Box::new(one("plugins/nowhere/y", T::Regular)),
        ),
        ("came before it", Box::new(through)),
        ("neither file", Box::new(hard_link)),
        ("neither file", Box::new(one("plugins/fifo", T::Fifo))),
        ("neither file", Box::new(one("plugins/disk", T::Block))),
        ("neither file", Box::new(one("plugins/tty", T::Char))),
        (
            "neither file",
            Box::new(one("plugins/sparse", T::GNUSparse)),
        ),
        ("neither file", Box::new(one("plugins/pax", T::XHeader))),
        ("there twice", Box::new(one("plugins/hello", T::Directory))),
        ("another kind", Box::new(one("keys", T::Symlink))),
        ("bits that no backup has", Box::new(setuid)),
        ("too long", Box::new(long)),
        ("is not in there", Box::new(one("plugins/more", T::Regular))),
    ];
    let here = full().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let good = fs::read(here.backup()).unwrap();
    let before = here.all();
    for (said, change) in changes {
        fs::write(here.backup(), &good).unwrap();
        // Before the keys where it is one of them, else before what ends it.
        let at = if said == "another kind" {
            "keys"
        } else {
            "manifest.json"
        };
        rewritten(&here, |name, builder| {
            if name == at {
                change(builder);
            }
            true
        });
        let error = here.unpack().unwrap_err();
        let text = crate::chain::Chain(&error).to_string();
        assert!(text.contains(said), "{said}: {text}");
        assert_eq!(here.all(), before, "{said}");
        assert!(!target.exists());
    }
}

#[tokio::test]
async fn an_archive_that_was_cut_off_or_altered_is_refused() {
    let here = full().await;
    write::write(&here.place, &here.config, &here.backup())
        .await
        .unwrap();
    let good = fs::read(here.backup()).unwrap();
    let before = here.all();
    let refused = |bytes: &[u8]| {
        fs::write(here.backup(), bytes).unwrap();
        let error = here.unpack().unwrap_err();
        assert_eq!(here.all(), before);
        crate::chain::Chain(&error).to_string()
    };
    for end in [0, 100, 512, good.len() / 2, good.len() - 2048] {
        let said = refused(&good[..end]);
        assert!(said.contains("is no backup"), "{end}: {said}");
    }
    // A byte of a file's content.
    let at = good
        .windows(8)
        .position(|bytes| bytes == b"far down")
        .unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    assert!(refused(&bad).contains("its content"));
    let change = |name: &'static str, change: fn(&mut Header)| {
        fs::write(here.backup(), &good).unwrap();
        let bytes = fs::read(here.backup()).unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().unwrap().raw(true) {
            let mut entry = entry.unwrap();
            let mut header = entry.header().clone();
            if header.path_bytes().as_ref() == name.as_bytes() {
                change(&mut header);
                header.set_cksum();
            }
            builder.append(&header, &mut entry).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let said = refused(&change("policies/hello.toml", |header| {
        header.set_mode(0o666)
    }));
    assert!(said.contains("owner or mode"), "{said}");
    let said = refused(&change("policies/hello.toml", |header| {
        header.set_uid(4711)
    }));
    assert!(said.contains("owner or mode"), "{said}");
    // Without one of its entries.
    fs::write(here.backup(), &good).unwrap();
    rewritten(&here, |name, _| name != "keys/release.pub");
    let bytes = fs::read(here.backup()).unwrap();
    assert!(refused(&bytes).contains("it is missing"));
    // Of a later form.
    let form = b"\"format\": 1";
    let at = good
        .windows(form.len())
        .position(|bytes| bytes == form)
        .unwrap();
    let mut later = good.clone();
    later[at..at + 11].copy_from_slice(b"\"format\": 7");
    assert!(refused(&later).contains("form 7"));
}

#[tokio::test]
async fn directories_in_one_another_are_refused() {
    let here = Here::empty();
    let mut config = here.config.clone();
    config.data_dir = Some(here.base.path().join("etc"));
    let databases = areas::databases_here(&here.place).unwrap();
    let error = areas::all(&here.place, &config, &databases).unwrap_err();
    assert!(matches!(error, ArchiveError::Nested { .. }), "{error:?}");
}

#[tokio::test]
async fn who_runs_is_not_pulled_the_ground_from_under() {
    let here = full().await;
    let lock = File::create(here.place.state.join("lock")).unwrap();
    let take = || super::locks::Locks::take(&here.place.state, &here.config.state_dir);
    lock.lock().unwrap();
    let error = take().unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Running {
                who: "pinfoldd",
                ..
            }
        ),
        "{error:?}"
    );
    lock.unlock().unwrap();
    let held = take().unwrap();
    let launchers = File::open(here.config.state_dir.join("lock")).unwrap();
    assert!(launchers.try_lock().is_err());
    drop(held);
    // The daemon may give its file another name, and another file its name: what it holds stays held.
    let directory = File::open(&here.place.state).unwrap();
    directory.lock().unwrap();
    fs::remove_file(here.place.state.join("lock")).unwrap();
    assert!(matches!(take(), Err(ArchiveError::Running { .. })));
    drop(directory);
    let pipe = here.place.state.join("lock");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    take().unwrap();
    assert!(here.place.database().ends_with("pinfold.db"));
    assert_eq!(DATABASE, "daemon/pinfold.db");
}
