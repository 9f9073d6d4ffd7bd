//! Which installation is meant, and what its owner may write: every path is from `launcher.toml`.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};
use pinfold_policy::{LauncherConfig, LauncherConfigError, PluginId, RequireSignatures};

use super::args::Global;
use super::exit::{Exit, Failure, of_io};
use crate::place::Place;

/// An installation, written to by the owner of its policies.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    config: LauncherConfig,
    /// Where root writes: the daemon's group, which reads policies, and the owner of plugins'
    /// files. `None` where everything is this user's own.
    root: Option<RootOwner>,
}

/// Whose what root writes becomes.
#[derive(Clone, Copy, Debug)]
struct RootOwner {
    plugins: Uid,
    daemon_group: Gid,
}

/// Why an installation cannot be written to.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallationError {
    #[error(
        "there is no directory for a development installation: XDG_STATE_HOME and HOME are unset"
    )]
    NoHome,
    #[error("find the directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}")]
    Config {
        path: PathBuf,
        source: LauncherConfigError,
    },
    #[error("{key} of launcher.toml: look at {path}")]
    Look {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the policies in {path} belong to {owner}, this is {user}")]
    NotOwner {
        path: PathBuf,
        owner: String,
        user: String,
        owner_is_root: bool,
    },
    #[error("daemon-user of launcher.toml: there is no user {name:?}")]
    NoUser { name: String },
    #[error("look up the user {name:?}")]
    User {
        name: String,
        #[source]
        source: nix::Error,
    },
}

impl From<InstallationError> for Failure {
    fn from(error: InstallationError) -> Self {
        let (exit, hint) = match &error {
            InstallationError::NoHome => (Exit::Config, Some("give --dev-dir".into())),
            InstallationError::Directory { source, .. } => (of_io(Exit::NoInput, source), None),
            InstallationError::Read { source, .. } => match of_io(Exit::Config, source) {
                Exit::NoPermission => (Exit::NoPermission, Some("run it with sudo".into())),
                exit if source.kind() == io::ErrorKind::NotFound => (
                    exit,
                    Some("start a development installation with `make run`, or name one with --launcher-config or --dev-dir".into()),
                ),
                exit => (exit, None),
            },
            InstallationError::Look { source, .. } => match of_io(Exit::Config, source) {
                Exit::NoPermission => (Exit::NoPermission, Some("run it with sudo".into())),
                exit => (exit, None),
            },
            InstallationError::NotOwner { owner_is_root: true, .. } => {
                (Exit::NoPermission, Some("run it with sudo".into()))
            }
            InstallationError::NotOwner { owner, .. } => {
                (Exit::NoPermission, Some(format!("run it as {owner}")))
            }
            InstallationError::Config { .. } | InstallationError::NoUser { .. } | InstallationError::User { .. } => {
                (Exit::Config, None)
            }
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The place that the options mean, and whether it is a developer's.
pub(super) fn find(global: &Global) -> Result<(Place, bool), InstallationError> {
    let (mut place, development) = if let Some(base) = &global.dev_dir {
        let base = std::path::absolute(base).map_err(|source| InstallationError::Directory {
            path: base.clone(),
            source,
        })?;
        (Place::development(&base), true)
    } else if global.dev {
        let base = Place::development_base().ok_or(InstallationError::NoHome)?;
        (Place::development(&base), true)
    } else {
        let place = Place::default_place();
        let development = place != Place::service();
        (place, development)
    };
    if let Some(path) = &global.launcher_config {
        place.launcher_config.clone_from(path);
    }
    Ok((place, development))
}

impl Installation {
    /// Reads `launcher.toml`, for whoever only looks.
    pub(super) fn read(place: &Place) -> Result<Self, InstallationError> {
        let (config, _) = read_config(place)?;
        Ok(Self { config, root: None })
    }

    /// Reads `launcher.toml` and makes sure that this process is the owner of the policies.
    pub(super) fn open(place: &Place) -> Result<Self, InstallationError> {
        let (config, _) = read_config(place)?;
        let own = nix::unistd::geteuid();
        let owner = owner_of("policy-dir", &config.policy_dir)?;
        if owner != own {
            return Err(InstallationError::NotOwner {
                path: config.policy_dir,
                owner: name_of(owner),
                user: name_of(own),
                owner_is_root: owner.is_root(),
            });
        }
        let plugins = owner_of("plugin-dir", &config.plugin_dir)?;
        let root = if own.is_root() {
            let daemon_group = daemon_group(&config.daemon_user)?;
            Some(RootOwner {
                plugins,
                daemon_group,
            })
        } else {
            None
        };
        Ok(Self { config, root })
    }

    /// All of `launcher.toml`.
    pub(super) fn config(&self) -> &LauncherConfig {
        &self.config
    }

    /// Where plugins lie, a directory each.
    pub(super) fn plugin_dir(&self) -> &Path {
        &self.config.plugin_dir
    }

    /// Where policies lie.
    pub(super) fn policy_dir(&self) -> &Path {
        &self.config.policy_dir
    }

    /// One plugin's directory.
    pub(super) fn plugin(&self, plugin: &PluginId) -> PathBuf {
        self.config.plugin_dir.join(plugin.as_str())
    }

    /// One plugin's policy file.
    pub(super) fn policy(&self, plugin: &PluginId) -> PathBuf {
        self.config.policy_dir.join(format!("{plugin}.toml"))
    }

    /// The policy that a developer's daemon wrote for a plugin, where it writes any.
    pub(super) fn development_policy(&self, plugin: &PluginId) -> Option<PathBuf> {
        let directory = self.config.dev_policy_dir.as_ref()?;
        Some(directory.join(format!("{plugin}.toml")))
    }

    /// The directory that outlasts a plugin's instances, where one was made.
    pub(super) fn lasting_state(&self, plugin: &PluginId) -> PathBuf {
        self.config.state_dir.join("state").join(plugin.as_str())
    }

    /// Where keys lie that may sign plugins.
    pub(super) fn keys_dir(&self) -> &Path {
        &self.config.keys_dir
    }

    /// Which signatures plugins need to start. The launcher's environment may require it as well, which
    /// is not seen from here but where it is this process's own.
    pub(super) fn requires_signatures(&self) -> RequireSignatures {
        let variable = std::env::var(pinfold_policy::REQUIRE_SIGNATURES).ok();
        self.config.requires_signatures(variable.as_deref())
    }

    /// Whose a plugin's files become; `None`: they are this user's own. The plugin directory says
    /// by its own owner whether the daemon may write there, as a developer's may.
    pub(super) fn plugin_owner(&self) -> Option<(Uid, Gid)> {
        self.root.map(|root| (root.plugins, root.daemon_group))
    }

    /// The group that reads policies and keys; `None`: they are this user's alone.
    pub(super) fn daemon_group(&self) -> Option<Gid> {
        self.root.map(|root| root.daemon_group)
    }
}

/// `launcher.toml` of a place, and its text.
pub(super) fn read_config(place: &Place) -> Result<(LauncherConfig, String), InstallationError> {
    let path = &place.launcher_config;
    let bytes = std::fs::read(path).map_err(|source| InstallationError::Read {
        path: path.clone(),
        source,
    })?;
    let config = LauncherConfig::parse(&bytes).map_err(|source| InstallationError::Config {
        path: path.clone(),
        source,
    })?;
    Ok((config, String::from_utf8_lossy(&bytes).into_owned()))
}

fn owner_of(key: &'static str, path: &Path) -> Result<Uid, InstallationError> {
    let metadata = std::fs::metadata(path).map_err(|source| InstallationError::Look {
        key,
        path: path.to_owned(),
        source,
    })?;
    Ok(Uid::from_raw(metadata.uid()))
}

fn daemon_group(name: &str) -> Result<Gid, InstallationError> {
    let user = User::from_name(name).map_err(|source| InstallationError::User {
        name: name.to_owned(),
        source,
    })?;
    let no_user = || InstallationError::NoUser {
        name: name.to_owned(),
    };
    Ok(user.ok_or_else(no_user)?.gid)
}

fn name_of(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_the_place_and_the_launchers_configuration() {
        let global = Global {
            dev_dir: Some("/srv/dev".into()),
            launcher_config: Some("/x/launcher.toml".into()),
            ..Global::default()
        };
        let (place, development) = find(&global).unwrap();
        assert!(development);
        assert_eq!(place.launcher_config, Path::new("/x/launcher.toml"));
        assert_eq!(place.admin_socket(), Path::new("/srv/dev/run/admin.sock"));
    }

    #[test]
    fn a_missing_launcher_configuration_ends_with_78_and_a_hint() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::development(base.path());
        let failure = Failure::from(Installation::open(&place).unwrap_err());
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.hint_text().unwrap().contains("--launcher-config"));
    }

    #[test]
    fn who_does_not_own_the_policies_is_told_who_does() {
        let error = |owner: &str, owner_is_root| InstallationError::NotOwner {
            path: "/etc/pinfold/policy.d".into(),
            owner: owner.into(),
            user: "ann".into(),
            owner_is_root,
        };
        let failure = Failure::from(error("root", true));
        assert_eq!(
            failure.to_string(),
            "the policies in /etc/pinfold/policy.d belong to root, this is ann"
        );
        assert_eq!(failure.exit(), Exit::NoPermission);
        assert_eq!(failure.hint_text(), Some("run it with sudo"));
        let failure = Failure::from(error("bob", false));
        assert_eq!(failure.hint_text(), Some("run it as bob"));
    }
}
