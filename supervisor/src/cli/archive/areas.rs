//! What of an installation is backed up, and where it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use pinfold_hostapi::DatabaseConfig;
use pinfold_policy::LauncherConfig;

use super::error::ArchiveError;
use crate::config::{Config, ConfigError};
use crate::place::Place;

/// A file or directory of the installation, under a name of its own in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Area {
    /// Its path in the archive.
    pub(in crate::cli) name: Cow<'static, str>,
    /// Where it is here.
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) kind: AreaKind,
}

/// How an area is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum AreaKind {
    File,
    Directory,
    /// A SQLite file that is copied while it is written.
    Database,
    /// Plugins' lasting directories: each a plugin's, and its user's.
    Lasting,
}

impl Area {
    /// Whether it is one file.
    pub(in crate::cli) fn is_file(&self) -> bool {
        matches!(self.kind, AreaKind::File | AreaKind::Database)
    }

    /// Whether it is configuration of this machine.
    pub(in crate::cli) fn is_configuration(&self) -> bool {
        self.name.starts_with("config/")
    }
}

/// The list of plugins' user ids.
pub(in crate::cli) const IDS: &str = "launcher/uids.toml";
/// The daemon's database.
pub(in crate::cli) const DATABASE: &str = "daemon/pinfold.db";
/// Where databases for plugins are in the archive.
pub(in crate::cli) const DATABASES: &str = "databases";
/// The keys that may sign plugins.
pub(in crate::cli) const KEYS: &str = "keys";
/// `launcher.toml`.
pub(in crate::cli) const LAUNCHER_CONFIG: &str = "config/launcher.toml";
/// `pinfold.toml`.
pub(in crate::cli) const DAEMON_CONFIG: &str = "config/pinfold.toml";

/// Databases for plugins, by name, as a `pinfold.toml` has them.
pub(in crate::cli) type Databases = BTreeMap<String, DatabaseConfig>;

/// The databases that this installation's configuration names; none where there is no such file.
pub(in crate::cli) fn databases_here(place: &Place) -> Result<Databases, ArchiveError> {
    match Config::read(&place.config) {
        Ok(config) => Ok(config.hostapi.database),
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Databases::new())
        }
        Err(error) => Err(ArchiveError::Refused(error)),
    }
}

/// Every area of an installation whose databases are these, whether it is there or not.
pub(in crate::cli) fn all(
    place: &Place,
    config: &LauncherConfig,
    databases: &Databases,
) -> Result<Vec<Area>, ArchiveError> {
    use AreaKind::{Database, Directory, File, Lasting};
    let mut areas = Vec::new();
    let mut add = |name: &'static str, path: PathBuf, kind| {
        let name = name.into();
        areas.push(Area { name, path, kind });
    };
    add(DAEMON_CONFIG, place.config.clone(), File);
    add(LAUNCHER_CONFIG, place.launcher_config.clone(), File);
    add(DATABASE, place.database(), Database);
    add("policies", config.policy_dir.clone(), Directory);
    if let Some(path) = &config.dev_policy_dir {
        add("dev-policies", path.clone(), Directory);
    }
    add(KEYS, config.keys_dir.clone(), Directory);
    if let Some(path) = &config.data_dir {
        add("data", path.clone(), Directory);
    }
    add("plugins", config.plugin_dir.clone(), Directory);
    add(IDS, config.state_dir.join("uids.toml"), File);
    add("state", config.state_dir.join("state"), Lasting);
    areas.extend(beside_ours(place, databases));
    apart(&areas)?;
    Ok(areas)
}

/// The databases for plugins that lie with the daemon's own. Others are another application's, whose
/// backup has them.
fn beside_ours(place: &Place, databases: &Databases) -> Vec<Area> {
    // Each file once, whatever names it has.
    let mut taken = BTreeSet::from([place.database()]);
    let here = databases.iter().filter_map(|(name, database)| {
        let path = Path::new(database.url.strip_prefix("sqlite://")?);
        let is_plain = name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
        let is_here = is_plain && path.parent() == Some(place.state.as_path());
        (is_here && taken.insert(path.to_owned())).then(|| Area {
            name: format!("{DATABASES}/{name}.db").into(),
            path: path.to_owned(),
            kind: AreaKind::Database,
        })
    });
    here.collect()
}

/// No area may lie in another: it would be there twice, and be replaced twice.
fn apart(areas: &[Area]) -> Result<(), ArchiveError> {
    for outer in areas.iter().filter(|area| !area.is_file()) {
        let inner = areas
            .iter()
            .find(|inner| inner.name != outer.name && inner.path.starts_with(&outer.path));
        if let Some(inner) = inner {
            return Err(ArchiveError::Nested {
                inner: inner.path.clone(),
                outer: outer.path.clone(),
            });
        }
    }
    Ok(())
}

/// The area that an entry of the archive belongs to, and its path in there (empty: the area itself).
pub(in crate::cli) fn of<'a, 'p>(
    areas: &'a [Area],
    entry: &'p Path,
) -> Option<(&'a Area, &'p Path)> {
    areas.iter().find_map(|area| {
        let rest = entry.strip_prefix(&*area.name).ok()?;
        (!area.is_file() || rest.as_os_str().is_empty()).then_some((area, rest))
    })
}
