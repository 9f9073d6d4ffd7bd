//! An installation as a reviewer reads it: what the launcher would read, with the launcher's eyes,
//! and the plugins' own files. Nothing is written, and no daemon is asked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use pinfold_policy::lint::{self, Linted};
use pinfold_policy::{
    LauncherConfig, Places, PluginId, PolicyFile, REQUIRE_SIGNATURES, RequireSignatures,
};
use pinfold_sandbox::launcher::review::{FilesError, Review as Files, ReviewedPolicy};

use super::exit::{Exit, Failure, of_io};
use super::installation::{self, InstallationError};
use super::package::{Declared, PackageError};
use crate::chain::Chain;
use crate::keys::{self, Found, KeyFileError};
use crate::place::Place;

/// An installation.
pub(super) struct Review {
    pub(super) config: LauncherConfig,
    pub(super) config_file: PathBuf,
    /// Where the values of `launcher.toml` stand.
    pub(super) config_places: Places,
    pub(super) files: Files,
}

/// A policy that is not refused, with its text.
pub(super) struct Policy {
    pub(super) path: PathBuf,
    pub(super) is_development: bool,
    pub(super) places: Places,
    pub(super) file: PolicyFile,
}

/// Why something of an installation cannot be reviewed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("list {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the policy of plugin {plugin:?} cannot be read", plugin = .plugin.as_str())]
    Policy {
        plugin: PluginId,
        #[source]
        source: FilesError,
    },
    #[error("{path}:{line}{message}")]
    Refused {
        path: String,
        line: String,
        message: String,
    },
}

impl From<ReviewError> for Failure {
    fn from(error: ReviewError) -> Self {
        let exit = match &error {
            ReviewError::List { source, .. } => of_io(Exit::Io, source),
            ReviewError::Policy { source, .. } if is_no_permission(source) => Exit::NoPermission,
            ReviewError::Policy {
                source: FilesError::NoPolicy { .. },
                ..
            } => Exit::NoInput,
            ReviewError::Policy { .. } | ReviewError::Refused { .. } => Exit::Config,
        };
        let hint = match (&error, exit) {
            (_, Exit::NoPermission) => Some("run it with sudo"),
            (_, Exit::NoInput) => Some("`pinfold plugin grant` writes one"),
            (ReviewError::Refused { .. }, _) => {
                Some("`pinfold policy check` tells everything that is wrong with it")
            }
            _ => None,
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Whether more rights would mend it.
pub(super) fn is_no_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

impl Review {
    /// The installation that the options mean.
    pub(super) fn open(place: &Place) -> Result<Self, InstallationError> {
        let config_file = place.launcher_config.clone();
        let (config, text) = installation::read_config(place)?;
        let metadata = fs::metadata(&config_file).map_err(|source| InstallationError::Read {
            path: config_file.clone(),
            source,
        })?;
        let daemon = User::from_name(&config.daemon_user).ok().flatten();
        let daemon = daemon.map(|user| user.uid.as_raw());
        // Whose the configuration is, and nobody else's, the launcher runs as.
        let files = Files::new(&config, metadata.uid(), daemon);
        Ok(Self {
            config,
            config_file,
            config_places: Places::of(&text),
            files,
        })
    }

    /// Every plugin that has a policy, and every file among the policies that is no plugin's.
    pub(super) fn policies(&self) -> Result<(BTreeSet<PluginId>, Vec<PathBuf>), ReviewError> {
        let (mut plugins, mut others) = (BTreeSet::new(), Vec::new());
        let development = self.config.dev_policy_dir.as_ref();
        for directory in std::iter::once(&self.config.policy_dir).chain(development) {
            let listed = |source| ReviewError::List {
                path: directory.clone(),
                source,
            };
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(listed)?,
            };
            for entry in entries {
                let path = entry.map_err(listed)?.path();
                match plugin_of(&path) {
                    Some(plugin) => {
                        plugins.insert(plugin);
                    }
                    None => others.push(path),
                }
            }
        }
        others.sort();
        Ok((plugins, others))
    }

    /// The policy of a plugin, not parsed.
    pub(super) fn policy_bytes(&self, plugin: &PluginId) -> Result<ReviewedPolicy, ReviewError> {
        self.files
            .policy(plugin)
            .map_err(|source| ReviewError::Policy {
                plugin: plugin.clone(),
                source,
            })
    }

    /// The policy of a plugin.
    pub(super) fn policy(&self, plugin: &PluginId) -> Result<Policy, ReviewError> {
        let ReviewedPolicy {
            path,
            bytes,
            is_development,
        } = self.policy_bytes(plugin)?;
        let (places, file) = parse(&path, &bytes)?;
        Ok(Policy {
            path,
            is_development,
            places,
            file,
        })
    }

    /// One plugin's directory.
    pub(super) fn directory(&self, plugin: &PluginId) -> PathBuf {
        self.config.plugin_dir.join(plugin.as_str())
    }

    /// What a plugin's manifest says.
    pub(super) fn declared(&self, plugin: &PluginId) -> Result<Declared, PackageError> {
        Declared::read(&self.directory(plugin), Some(plugin))
    }

    /// The keys that may sign plugins.
    pub(super) fn keys(&self) -> Result<Vec<Found>, KeyFileError> {
        keys::all(&self.config.keys_dir)
    }

    /// Which signatures plugins need to start. The launcher's environment may require it as well, which
    /// is not seen from here but where it is this process's own.
    pub(super) fn requires_signatures(&self) -> RequireSignatures {
        let variable = std::env::var(REQUIRE_SIGNATURES).ok();
        self.config.requires_signatures(variable.as_deref())
    }
}

/// A policy from its bytes.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<(Places, PolicyFile), ReviewError> {
    let Linted {
        places,
        policy,
        findings,
    } = lint::lint(bytes);
    let first = || {
        let error = findings
            .iter()
            .find(|finding| finding.severity == lint::Severity::Error);
        ReviewError::Refused {
            path: path.display().to_string(),
            line: error.and_then(|finding| finding.place).map_or_else(
                || " ".to_owned(),
                |place| format!("{}:{}: ", place.line, place.column),
            ),
            message: error.map_or_else(|| "refused".into(), |finding| finding.message.clone()),
        }
    };
    let file = policy.ok_or_else(first)?;
    Ok((places, file))
}

/// The plugin whose policy a file is by its name.
pub(super) fn plugin_of(path: &Path) -> Option<PluginId> {
    path.file_name()?
        .to_str()?
        .strip_suffix(".toml")?
        .parse()
        .ok()
}

/// An error with its causes on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string()
}
