//! Reading `pinfold.toml` again while everything goes on: SIGHUP, which `systemctl reload` sends.
//!
//! What a running part can take over at once is applied; of every other changed key the log says that
//! it waits for a restart. A file that is refused changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::catalogue::Catalogue;
use crate::chain::Chain;
use crate::config::{Config, Credentials};
use crate::log_filter::LogFilter;
use crate::manager;
use crate::place::Place;

/// Keys, or tables of them, that are applied while the daemon runs.
const APPLIED: [&str; 3] = ["log", "health", "restart"];

/// What a reload needs.
pub(crate) struct Reload {
    path: PathBuf,
    /// What is in force.
    config: Config,
    log: Arc<LogFilter>,
    catalogue: Arc<Catalogue>,
    hangups: Option<Signal>,
}

impl Reload {
    pub(crate) fn new(
        place: &Place,
        config: Config,
        log: Arc<LogFilter>,
        catalogue: Arc<Catalogue>,
    ) -> Self {
        Self {
            path: place.config.clone(),
            config,
            log,
            catalogue,
            hangups: None,
        }
    }

    /// From here on SIGHUP does not end this process. A developer's daemon ends with its terminal, and
    /// so does not call this.
    pub(crate) fn listen(&mut self) -> std::io::Result<()> {
        self.hangups = Some(signal(SignalKind::hangup())?);
        Ok(())
    }

    /// Reloads at the next SIGHUP, and says what came of it. The service manager has been told that it
    /// began, and is yet to be told that it is over ([`manager::ready`]). Cancel-safe: a reload that has
    /// begun does not wait for anything.
    pub(crate) async fn next(&mut self) -> String {
        let hangup = match &mut self.hangups {
            Some(hangups) => hangups.recv().await,
            None => None,
        };
        if hangup.is_none() {
            return std::future::pending().await;
        }
        manager::reloading();
        self.reload()
    }

    /// Reads the file and applies it, and says what came of it.
    fn reload(&mut self) -> String {
        let read = Config::read(&self.path);
        let new = match read.and_then(|new| new.with(&Credentials::passed(), &self.path)) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "configuration refused, nothing changed");
                return format!("the configuration was refused: {}", Chain(&error));
            }
        };
        if let Err(error) = self.log.configure(&new.log) {
            tracing::error!(error = %Chain(&error), "configuration refused, nothing changed");
            return format!("the configuration was refused: {}", Chain(&error));
        }
        let (applied, waiting) = changed(&self.config, &new);
        let mut life = self.config.life();
        life.health = new.health.clone();
        life.restart = new.restart.clone();
        self.catalogue.set_settings(life);
        self.config.log = new.log;
        self.config.health = new.health;
        self.config.restart = new.restart;
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            tracing::warn!(%keys, "changed keys wait for a restart");
            return format!("waits for a restart: {keys}");
        }
        let keys = applied.join(", ");
        tracing::info!(%keys, "configuration reloaded");
        "configuration reloaded".into()
    }
}

/// The keys in which two configurations differ: those that are applied, and those that are not.
fn changed(old: &Config, new: &Config) -> (Vec<String>, Vec<String>) {
    let (old, new) = (keys(old), keys(new));
    let differ = |key: &&String| old.get(*key) != new.get(*key);
    let mut all: Vec<String> = old
        .keys()
        .chain(new.keys())
        .filter(differ)
        .cloned()
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().partition(|key| {
        let first = key.split('.').next();
        first.is_some_and(|first| APPLIED.contains(&first))
    })
}

/// Every key that has a value, dotted, with it.
fn keys(config: &Config) -> BTreeMap<String, toml::Value> {
    fn gather(path: &str, value: toml::Value, into: &mut BTreeMap<String, toml::Value>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let dot = if path.is_empty() { "" } else { "." };
                    gather(&format!("{path}{dot}{key}"), value, into);
                }
            }
            value => drop(into.insert(path.to_owned(), value)),
        }
    }
    let mut all = BTreeMap::new();
    let value = toml::Value::try_from(config).expect("every field has a TOML form");
    gather("", value, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use pinfold_policy::Span;

    use super::*;

    #[test]
    fn what_is_applied_and_what_waits_is_told_by_key() {
        let old = Config::default();
        assert_eq!(changed(&old, &old), (vec![], vec![]));
        let mut new = Config {
            log: "debug".into(),
            ..Config::default()
        };
        new.health.interval = Span::seconds(1);
        new.gateway.connections = 7;
        new.hostapi.config.insert("a".into(), "b".into());
        let (applied, waiting) = changed(&old, &new);
        assert_eq!(applied, ["health.interval", "log"]);
        assert_eq!(waiting, ["gateway.connections", "hostapi.config.a"]);
    }

    #[test]
    fn what_is_applied_is_said_in_the_reference() {
        let reference = include_str!("../../docs/configuration.md");
        let sentence = reference
            .lines()
            .find(|line| line.starts_with("`systemctl reload pinfold` applies"))
            .expect("the reference says what a reload applies");
        for key in APPLIED {
            let all_of = format!("`{key}.*`");
            assert!(
                sentence.contains(&format!("`{key}`")) || sentence.contains(&all_of),
                "{key}"
            );
        }
    }
}
