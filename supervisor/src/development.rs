//! A developer's installation: directories, configuration and a demonstration database made on the
//! spot, and policies that grant what is asked.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};
use pinfold_hostapi::DatabaseConfig;
use pinfold_policy::{
    Digest, LauncherConfig, PACKAGE_SIGNATURE_FILE, PACKAGE_SIGNATURE_LIMIT_BYTES,
    PackageSignature, PluginId, RequireSignatures, SIGNATURE_LIMIT_BYTES, SIGNATURE_SUFFIX, Trust,
};
use pinfold_sandbox::stage::PACKAGE_LIMIT_BYTES;
use pinfold_sandbox::trust::{TrustError, TrustedDir};
use sha2::{Digest as _, Sha256};
use sqlx::ConnectOptions as _;

use crate::config::Config;
use crate::dialect::Manifest;
use crate::grants;
use crate::keys::{self, Signers};
use crate::place::Place;
use crate::stage::StageFiles;

/// The system user that the daemon of a root developer runs as.
pub(crate) const DAEMON_USER: &str = "pinfold";

/// Why a development installation cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DevelopmentError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "there is no system user {DAEMON_USER:?}: run .ci/setup build, or useradd --system {DAEMON_USER}"
    )]
    NoUser,
    #[error("look up the user {DAEMON_USER:?}")]
    User(#[source] nix::Error),
    #[error("{path} is not named like a plugin: {reason}")]
    PluginName { path: PathBuf, reason: String },
    #[error("{path} is no directory of this user's alone: nothing is made in it")]
    NotOurs {
        path: PathBuf,
        #[source]
        source: TrustError,
    },
    #[error("make the demonstration database")]
    Seed(#[source] sqlx::Error),
}

/// Whose files the daemon's are: `None` where everything is the developer's own.
#[derive(Clone, Copy)]
struct Owner(Option<(Uid, Gid)>);

impl Owner {
    fn of_daemon() -> Result<Self, DevelopmentError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self(None));
        }
        let user = User::from_name(DAEMON_USER).map_err(DevelopmentError::User)?;
        let user = user.ok_or(DevelopmentError::NoUser)?;
        Ok(Self(Some((user.uid, user.gid))))
    }

    fn take(self, path: &Path) -> Result<(), DevelopmentError> {
        let Some((uid, gid)) = self.0 else {
            return Ok(());
        };
        chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(file("give away", path))
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DevelopmentError {
    let path = path.to_owned();
    move |source| DevelopmentError::File {
        action,
        path,
        source,
    }
}

/// Makes what is missing of an installation below `base`, and puts `plugins` (directories) into
/// its plugin directory. Run before the daemon drops its rights.
pub(crate) fn set_up(base: &Path, plugins: &[PathBuf]) -> Result<Place, DevelopmentError> {
    let place = Place::development(base);
    let daemon = Owner::of_daemon()?;
    let nobody_else = Owner(None);
    // As in the service, the daemon may read it and not write: what root copies there cannot be
    // led elsewhere by a daemon that was taken over.
    let readable = Owner(daemon.0.map(|(_, gid)| (nix::unistd::ROOT, gid)));
    let directory = |name: &str, mode: u32, owner: Owner| -> Result<PathBuf, DevelopmentError> {
        let path = base.join(name);
        make_directory(&path, mode)?;
        owner.take(&path)?;
        Ok(path)
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(base)
        .map_err(file("make", base))?;
    check_ours(base)?;
    directory("etc", 0o755, nobody_else)?;
    let policy_dir = directory("etc/policy.d", 0o755, nobody_else)?;
    let keys_dir = directory("etc/keys.d", 0o755, nobody_else)?;
    let state_dir = directory("launcher", 0o700, nobody_else)?;
    let plugin_dir = directory("plugins", 0o750, readable)?;
    let dev_policy_dir = directory("dev-policy", 0o755, daemon)?;
    directory("state", 0o700, daemon)?;
    directory("run", 0o755, daemon)?;
    let user = User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let daemon_user = match daemon.0 {
        Some(_) => DAEMON_USER.to_owned(),
        None => user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name),
    };
    let launcher = LauncherConfig {
        plugin_dir: plugin_dir.clone(),
        policy_dir,
        keys_dir,
        state_dir,
        data_dir: None,
        uid_range: pinfold_policy::UidRange::default(),
        uid_lease_dir: "/var/lib/pinfold-uids".into(),
        daemon_user,
        require_signatures: RequireSignatures::None,
        netns_pool: pinfold_policy::NETNS_POOL,
        probe_interval: pinfold_policy::PROBE_INTERVAL,
        stages_memory: pinfold_policy::STAGES_MEMORY,
        watched_runs: true,
        handover_limit: pinfold_policy::Span::seconds(30),
        dev_grants: Some(pinfold_policy::DevGrants::AsAsked),
        dev_policy_dir: Some(dev_policy_dir),
    };
    write_once(&place.launcher_config, &launcher.to_toml())?;
    write_once(&place.config, &configuration(&place).to_toml())?;
    for plugin in plugins {
        install(plugin, &plugin_dir, readable)?;
    }
    Ok(place)
}

fn configuration(place: &Place) -> Config {
    let mut config = Config::default();
    let database = DatabaseConfig {
        max_size: pinfold_policy::ByteSize::mebibytes(64),
        ..DatabaseConfig::new(format!(
            "sqlite://{}",
            place.state.join("main.db").display()
        ))
    };
    config.hostapi.database.insert("main".into(), database);
    for (key, value) in [
        ("app.name", "Pinfold"),
        ("app.env", "development"),
        ("app.timezone", "UTC"),
    ] {
        config.hostapi.config.insert(key.into(), value.into());
    }
    config
}

/// Whoever else may write in the base, or on the way to it, could put links there, and root would
/// give away what they lead to.
fn check_ours(base: &Path) -> Result<(), DevelopmentError> {
    let failed = |source| DevelopmentError::NotOurs {
        path: base.into(),
        source,
    };
    TrustedDir::open(base, None).map(drop).map_err(failed)
}

fn make_directory(path: &Path, mode: u32) -> Result<(), DevelopmentError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(file("make", path)),
    }?;
    // Whatever the umask was.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(file("set the mode of", path))
}

/// Writes a file that is not there; one that is may be the developer's own work.
fn write_once(path: &Path, text: &str) -> Result<(), DevelopmentError> {
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
    {
        Ok(mut new) => new.write_all(text.as_bytes()).map_err(file("write", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file("make", path)(error)),
    }
}

/// Puts a copy of `source` into the plugin directory in place of what was there.
fn install(source: &Path, plugin_dir: &Path, owner: Owner) -> Result<(), DevelopmentError> {
    let name = source
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or_default();
    let plugin = PluginId::parse(name).map_err(|error| DevelopmentError::PluginName {
        path: source.into(),
        reason: error.to_string(),
    })?;
    crate::install::replace(source, plugin_dir, &plugin, owner.0).map_err(|error| {
        DevelopmentError::File {
            action: "install",
            path: error.path,
            source: error.source,
        }
    })
}

/// Policies that the daemon writes itself, granting what is asked.
#[derive(Clone, Debug)]
pub(crate) struct DevelopmentGrants {
    directory: PathBuf,
    /// Which signatures plugins need to start: those of the keys are then written into policies.
    required: RequireSignatures,
    keys_dir: PathBuf,
    /// Where the signatures lie: they are in no stage.
    plugin_dir: PathBuf,
}

impl DevelopmentGrants {
    /// Those of a launcher that takes any; `variable` is what its environment says of signatures.
    pub(crate) fn of(config: &LauncherConfig, variable: Option<&str>) -> Option<Self> {
        Some(Self {
            directory: config.dev_policy_dir.clone()?,
            required: config.requires_signatures(variable),
            keys_dir: config.keys_dir.clone(),
            plugin_dir: config.plugin_dir.clone(),
        })
    }

    /// Writes the policy of a plugin as staged. An operator's policy wins over it.
    pub(crate) fn write(
        &self,
        plugin: &PluginId,
        dialect: &str,
        manifest: &Manifest,
        (digest, stage): (Digest, &StageFiles),
    ) -> Result<(), DevelopmentError> {
        let trust = match self.required {
            RequireSignatures::None => None,
            RequireSignatures::Any => self
                .signed_package(plugin)
                .or_else(|| self.signed_program(plugin, &manifest.entry, stage)),
            RequireSignatures::Package => self.signed_package(plugin),
        };
        let trust = trust.unwrap_or_else(|| Trust {
            digest: Some(digest),
            ..Trust::default()
        });
        let text = grants::as_asked(dialect, manifest, trust).to_toml();
        let path = self.directory.join(format!("{plugin}.toml"));
        // A launch reads either the old file or the new one.
        let new = self.directory.join(format!(".{plugin}.toml.new"));
        fs::write(&new, text).map_err(file("write", &new))?;
        fs::rename(&new, &path).map_err(file("replace", &path))
    }

    /// Trust in the keys that have signed the entry and count. Where there is none, or a file cannot be
    /// read, the launcher says what is wrong.
    fn signed_program(&self, plugin: &PluginId, entry: &str, stage: &StageFiles) -> Option<Trust> {
        let limit = usize::try_from(PACKAGE_LIMIT_BYTES).unwrap_or(usize::MAX);
        let program = stage.read(entry, limit).ok()?;
        let file = format!("{entry}{SIGNATURE_SUFFIX}");
        let signature = self.beside(plugin, &file, SIGNATURE_LIMIT_BYTES)?;
        let keys = keys::all(&self.keys_dir).ok()?;
        let hash = Sha256::digest(&program).into();
        match keys::signers(&keys, plugin, &hash, &signature, keys::now()) {
            Ok(Signers::By(signed_by)) => Some(Trust {
                signed_by,
                ..Trust::default()
            }),
            _ => None,
        }
    }

    /// The same of the whole package.
    fn signed_package(&self, plugin: &PluginId) -> Option<Trust> {
        let limit = PACKAGE_SIGNATURE_LIMIT_BYTES;
        let signature = self.beside(plugin, PACKAGE_SIGNATURE_FILE, limit)?;
        let signature = PackageSignature::parse(&signature).ok()?;
        let keys = keys::all(&self.keys_dir).ok()?;
        match keys::package_signers(&keys, plugin, &signature, keys::now()) {
            Signers::By(signed_by) => Some(Trust {
                signed_by,
                package: true,
                ..Trust::default()
            }),
            _ => None,
        }
    }

    /// What lies in the plugin's directory now. The launcher has read it for itself.
    fn beside(&self, plugin: &PluginId, file: &str, limit: usize) -> Option<Vec<u8>> {
        let directory = fs::File::open(self.plugin_dir.join(plugin.as_str())).ok()?;
        let files = StageFiles::new(directory.into());
        files.read(file, limit).ok()
    }
}

/// Makes the demonstration database where it is absent: one table `items`.
pub(crate) async fn seed(place: &Place) -> Result<(), DevelopmentError> {
    let path = place.state.join("main.db");
    if path.exists() {
        return Ok(());
    }
    let new = place.state.join(".main.db.new");
    let seeded = async {
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(&new)
            .create_if_missing(true)
            .connect()
            .await?;
        sqlx::raw_sql(SEED).execute(&mut connection).await?;
        sqlx::Connection::close(connection).await
    };
    seeded.await.map_err(DevelopmentError::Seed)?;
    fs::rename(&new, &path).map_err(file("rename", &path))
}

const SEED: &str = "
    DROP TABLE IF EXISTS items;
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL);
    INSERT INTO items (name, price) VALUES ('anvil', 49.5), ('bucket', 7.25), ('candle', 1.1);
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_others_may_write_to_is_refused() {
        let base = tempfile::tempdir().unwrap();
        check_ours(base.path()).unwrap();
        let mode = |mode| fs::set_permissions(base.path(), fs::Permissions::from_mode(mode));
        mode(0o777).unwrap();
        assert!(check_ours(base.path()).is_err());
        mode(0o755).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(check_ours(&link).is_err());
    }
}
