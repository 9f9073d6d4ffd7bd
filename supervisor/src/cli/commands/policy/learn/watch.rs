//! The order to watch a plugin, and the records that the launcher writes by it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pinfold_policy::{
    PluginId, RecordError, WATCH_DIRECTORY, WATCH_LIMIT_SECONDS, WATCH_RECORD_LIMIT_BYTES,
    WATCH_RECORDS_LIMIT, WatchOrder, WatchOrderError, WatchRecord,
};

use crate::cli::owned_file::{self, OwnedFileError};
use crate::keys;

/// How long the last lines of a record may take once its instance is told to end: its own time-outs are
/// over by then.
const LAST_LINES: Duration = Duration::from_secs(20);
/// Between looks.
const LOOK: Duration = Duration::from_millis(50);

/// Why a plugin cannot be watched, or its records not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("make a name for the run")]
    Name(#[source] io::Error),
    #[error("order a watched run")]
    Order(#[source] WatchOrderError),
    #[error("{directory:?} is not there: no launcher of this version has used it")]
    NoDirectory { directory: PathBuf },
    #[error("write the order")]
    Write(#[source] OwnedFileError),
    #[error("remove {path:?}")]
    Remove {
        path: PathBuf,
        #[source]
        source: OwnedFileError,
    },
    #[error("read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?}")]
    Record {
        path: PathBuf,
        #[source]
        source: RecordError,
    },
    #[error("the launcher has written nothing down")]
    Nothing,
}

/// An order that counts until it is ended or its time is over.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
    plugin: PluginId,
    run: String,
}

impl Watch {
    /// Orders that a plugin is watched for so long, at most as long as any may be, and takes away what
    /// earlier runs left.
    pub(super) fn begin(
        state_dir: &Path,
        plugin: &PluginId,
        seconds: u64,
    ) -> Result<Self, WatchError> {
        let directory = state_dir.join(WATCH_DIRECTORY);
        if !directory.is_dir() {
            return Err(WatchError::NoDirectory { directory });
        }
        let watch = Self {
            directory,
            plugin: plugin.clone(),
            run: run_name()?,
        };
        watch.remove_records()?;
        // The launcher's clock may be a moment behind.
        let seconds = seconds.min(WATCH_LIMIT_SECONDS - 60);
        let order = WatchOrder::new(watch.run.clone(), keys::now(), seconds);
        let order = order.map_err(WatchError::Order)?;
        let name = format!("{plugin}.toml");
        owned_file::replace(&watch.directory, &name, order.to_toml().as_bytes(), None)
            .map_err(WatchError::Write)?;
        Ok(watch)
    }

    /// Takes the order away: what starts from now on is not watched.
    pub(super) fn end(&self) -> Result<(), WatchError> {
        self.remove(&format!("{}.toml", self.plugin))
    }

    /// The records of the run, once they are whole, or as they are after a while; they are taken away.
    pub(super) async fn records(&self) -> Result<Vec<WatchRecord>, WatchError> {
        let limit = Instant::now() + LAST_LINES;
        loop {
            let records = self.read()?;
            let is_whole = records.iter().all(|record| record.is_whole);
            if is_whole || Instant::now() >= limit {
                self.remove_records()?;
                return match records.is_empty() {
                    true => Err(WatchError::Nothing),
                    false => Ok(records),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn read(&self) -> Result<Vec<WatchRecord>, WatchError> {
        let mut records = Vec::new();
        for name in self.names() {
            let path = self.directory.join(name);
            let failed = |source| WatchError::Read {
                path: path.clone(),
                source,
            };
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            let mut text = String::new();
            file.take(WATCH_RECORD_LIMIT_BYTES)
                .read_to_string(&mut text)
                .map_err(failed)?;
            let record = WatchRecord::parse(&text).map_err(|source| WatchError::Record {
                path: path.clone(),
                source,
            })?;
            if record.head.run == self.run {
                records.push(record);
            }
        }
        Ok(records)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..WATCH_RECORDS_LIMIT).map(|number| format!("{}.{number}.calls", self.plugin))
    }

    fn remove_records(&self) -> Result<(), WatchError> {
        self.names().try_for_each(|name| self.remove(&name))
    }

    fn remove(&self, name: &str) -> Result<(), WatchError> {
        let path = self.directory.join(name);
        owned_file::remove(&path)
            .map(drop)
            .map_err(|source| WatchError::Remove { path, source })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its time ends it in any case.
        drop(self.end());
    }
}

/// A name that no other run has.
fn run_name() -> Result<String, WatchError> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(WatchError::Name)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn an_order_is_written_taken_away_and_its_records_alone_are_read() {
        let base = tempfile::tempdir().unwrap();
        let plugin: PluginId = "hello".parse().unwrap();
        let begin = || Watch::begin(base.path(), &plugin, u64::MAX);
        assert!(matches!(begin(), Err(WatchError::NoDirectory { .. })));
        let directory = base.path().join(WATCH_DIRECTORY);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("hello.3.calls"), "left by another").unwrap();
        let watch = begin().unwrap();
        assert!(!directory.join("hello.3.calls").exists());
        let order = fs::read(directory.join("hello.toml")).unwrap();
        let order = WatchOrder::parse(&order, keys::now()).unwrap();
        assert_eq!(order.run, watch.run);
        let record = |run: &str, number: u32, end: &str| {
            let text = format!(
                "pinfold-watch 1\nplugin hello\nrun {run}\ngeneration 1\nprofile go\narch x86_64\n\
                 allowed 1\n{end}"
            );
            fs::write(directory.join(format!("hello.{number}.calls")), text).unwrap();
        };
        record("another", 0, "");
        record(&watch.run, 1, "end\n");
        let records = watch.records().await.unwrap();
        assert_eq!(records.len(), 1);
        assert!(records[0].is_whole);
        assert!(matches!(watch.records().await, Err(WatchError::Nothing)));
        drop(watch);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}
