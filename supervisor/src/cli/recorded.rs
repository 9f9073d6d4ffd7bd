//! What the policies' owner does, written down for the audit trail before it is done: the daemon, whose
//! trail it is, may not run. What cannot be written down is not done.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use chrono::Utc;
use pinfold_gateway::admin::dto::{Because, RecordId, RescanQuery};
use pinfold_policy::{KeyName, PluginId};

use super::Context;
use super::client::ClientError;
use super::exit::{Exit, Failure, of_io};
use super::installation::Installation;
use super::output;
use super::owned_file::{self, OwnedFileError};
use super::review::chain;
use crate::pending::{self, PENDING_LIMIT, Pending, PendingError, PendingRecord};
use crate::shell::shell_word;
use crate::store::StoreError;
use crate::store::audit::reader::Reader;

/// From so many files on, those that are in the trail are taken away first.
const TIDY_FROM: usize = 64;

/// An act is not recorded, and so not done.
#[derive(Debug, thiserror::Error)]
#[error("nothing was done: it cannot be written down for the audit trail")]
pub(super) struct NotRecorded(#[source] Why);

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("make {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Read(#[from] PendingError),
    #[error(transparent)]
    Write(#[from] OwnedFileError),
    #[error("{count} records wait in {path} to be taken into it")]
    Full { count: usize, path: PathBuf },
}

impl From<NotRecorded> for Failure {
    fn from(error: NotRecorded) -> Self {
        let (exit, hint) = match &error.0 {
            Why::Directory { source, path } => (
                of_io(Exit::CannotCreate, source),
                format!("make room for {}, or let it be written", path.display()),
            ),
            Why::Read(PendingError::Owner { path, .. }) => (
                Exit::NoPermission,
                format!(
                    "look who wrote there, then `chmod go-w {}`",
                    shell_word(path)
                ),
            ),
            Why::Read(_) => (Exit::Io, "look at the directory that is named".into()),
            Why::Write(_) => (
                Exit::CannotCreate,
                "make room where it is, or let it be written; run it with sudo".into(),
            ),
            Why::Full { .. } => (
                Exit::Failed,
                "start pinfoldd, which takes them in; then do this again".into(),
            ),
        };
        Self::new(exit, error).hint(hint)
    }
}

/// An act that is written down, and about to be done.
#[derive(Debug)]
#[must_use = "it is taken into the trail when the daemon is told"]
pub(super) struct Recorded {
    id: RecordId,
    file: PathBuf,
}

/// Writes down what is about to be done to a plugin.
pub(super) async fn plugin(
    context: &Context,
    installation: &Installation,
    because: Because,
    plugin: &PluginId,
) -> Result<Recorded, NotRecorded> {
    let subject = plugin.to_string();
    let about = Some(plugin.clone());
    write_down(context, installation, because.action(), subject, about).await
}

/// Writes down what is about to be done to a key.
pub(super) async fn key(
    context: &Context,
    installation: &Installation,
    because: Because,
    key: &KeyName,
) -> Result<Recorded, NotRecorded> {
    let subject = key.to_string();
    write_down(context, installation, because.action(), subject, None).await
}

/// Writes down what is about to be done with the whole installation.
pub(super) async fn installation(
    context: &Context,
    installation: &Installation,
    action: &'static str,
    subject: &str,
) -> Result<Recorded, NotRecorded> {
    write_down(context, installation, action, subject.to_owned(), None).await
}

async fn write_down(
    context: &Context,
    installation: &Installation,
    action: &'static str,
    subject: String,
    plugin: Option<PluginId>,
) -> Result<Recorded, NotRecorded> {
    let directory = context.place.pending_records();
    let database = context.place.database();
    let write = async {
        make_directory(&directory, installation)?;
        make_room(&directory, &database).await?;
        // In the order in which they are made.
        let id = uuid::Uuid::now_v7().simple().to_string();
        let id: RecordId = id.parse().expect("a UUID has so many digits");
        let record = PendingRecord {
            time: Utc::now(),
            // As the kernel names this process to the daemon.
            actor: format!("uid:{} pid:{}", nix::unistd::geteuid(), std::process::id()),
            action: action.to_owned(),
            subject: pending::recordable(&subject),
            plugin,
        };
        let text = serde_json::to_string(&record).expect("a record is plain data");
        let name = pending::file_name(&id);
        let group = installation.daemon_group();
        owned_file::replace(&directory, &name, text.as_bytes(), group)?;
        let file = directory.join(name);
        Ok(Recorded { id, file })
    };
    write.await.map_err(NotRecorded)
}

/// The directory is the owner's, and the daemon's group may read it.
fn make_directory(path: &Path, installation: &Installation) -> Result<(), Why> {
    let failed = |source| Why::Directory {
        path: path.into(),
        source,
    };
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(failed)?,
    }
    if let Some(group) = installation.daemon_group() {
        chown(path, None, Some(group.as_raw())).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o750)).map_err(failed)?;
    }
    Ok(())
}

/// Takes away what is in the trail already, where there is much of it.
async fn make_room(directory: &Path, database: &Path) -> Result<(), Why> {
    let Some(pending) = Pending::open(directory)? else {
        return Ok(());
    };
    let ids = pending.ids()?;
    if ids.len() < TIDY_FROM {
        return Ok(());
    }
    if let Err(error) = tidy(&pending, directory, database).await {
        output::note(&format!(
            "the audit trail cannot be read: {}",
            chain(&error)
        ));
    }
    let count = pending.ids()?.len();
    if count < PENDING_LIMIT {
        return Ok(());
    }
    let path = directory.to_owned();
    Err(Why::Full { count, path })
}

async fn tidy(pending: &Pending, directory: &Path, database: &Path) -> Result<(), StoreError> {
    let known = Reader::open(database).await?.written_down().await?;
    for id in pending.ids().unwrap_or_default() {
        let is_known = pending
            .read(&id)
            .is_ok_and(|record| known.has(&id, &record));
        if is_known {
            fs::remove_file(directory.join(pending::file_name(&id))).unwrap_or_default();
        }
    }
    Ok(())
}

impl Recorded {
    /// What the daemon is told of it.
    pub(super) fn because(&self, because: Because) -> RescanQuery {
        RescanQuery {
            record: Some(self.id.clone()),
            ..RescanQuery::because(because)
        }
    }

    /// The same of what was done to a key.
    pub(super) fn because_of_key(&self, because: Because, key: KeyName) -> RescanQuery {
        RescanQuery {
            record: Some(self.id.clone()),
            ..RescanQuery::because_of_key(because, key)
        }
    }

    /// The daemon has answered: it is in the trail, and what waits for its next start is not needed. One
    /// that stays all the same is not told twice.
    pub(super) fn forget(self) {
        fs::remove_file(self.file).unwrap_or_default();
    }

    /// Has the daemon take it in, where nothing else tells it.
    pub(super) async fn tell(self, context: &Context) {
        match context.client.take_record(&self.id).await {
            Ok(()) => self.forget(),
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => output::note(&format!(
                "the audit trail has it once pinfoldd starts again: {}",
                chain(&error)
            )),
        }
    }
}
