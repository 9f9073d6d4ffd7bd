//! What the launcher would read for a plugin, for whoever reviews it: the same files, by the same
//! rules of trust and with the same precedence, and nothing is started.

use std::path::PathBuf;

use pinfold_policy::{LaunchTemplate, LauncherConfig, PluginId, PolicyFile, Runtime};

use super::files::{self, Files, Place, PolicyBytes};
use super::{host_path, mounts, runtime};
use crate::posture::{MountState, RuntimeState};
use crate::seccomp::{Profile, Program};

pub use super::files::{FilesError, ProfileUse};

/// The files of one installation.
#[derive(Debug)]
pub struct Review {
    files: Files,
}

/// A policy as it lies in its file, perhaps refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewedPolicy {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Whether the daemon wrote it itself (development grants).
    pub is_development: bool,
}

/// A launch template and where it is from.
#[derive(Clone, Debug)]
pub struct ReviewedTemplate {
    /// The template.
    pub template: LaunchTemplate,
    /// Its text.
    pub text: String,
    /// Its file; none: it is compiled in.
    pub path: Option<PathBuf>,
}

/// A syscall profile and where it is from.
#[derive(Clone, Debug)]
pub struct ReviewedProfile {
    /// The profile.
    pub profile: Profile,
    /// The filter that it makes on this machine.
    pub program: Program,
    /// Its text.
    pub text: String,
    /// Its file; none: it is compiled in.
    pub path: Option<PathBuf>,
}

impl Review {
    /// The files that `config` names, as the launcher of the user `launcher` trusts them. `daemon` is
    /// the daemon's user, who owns the development policies.
    #[must_use]
    pub fn new(config: &LauncherConfig, launcher: u32, daemon: Option<u32>) -> Self {
        let place = |path: &PathBuf, also| Place::Reviewed {
            user: launcher,
            path: path.clone(),
            also,
        };
        let development = config.dev_policy_dir.as_ref();
        let data = config.data_dir.as_ref();
        let mut files = Files::new(
            place(&config.policy_dir, None),
            development.map(|path| place(path, daemon)),
            data.map(|path| place(path, None)),
            None,
        );
        if launcher != 0 {
            files.host_roots = Some(host_path::roots());
        }
        Self { files }
    }

    /// What is compiled in alone: no policy, and the templates and profiles that are shipped.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            files: Files::nowhere(),
        }
    }

    /// The policy of a plugin, not parsed: the operator's, or else a development one.
    ///
    /// # Errors
    /// [`FilesError::NoPolicy`], or [`FilesError::Trust`] with the step that is not trusted.
    pub fn policy(&self, plugin: &PluginId) -> Result<ReviewedPolicy, FilesError> {
        let PolicyBytes {
            path,
            bytes,
            is_development,
        } = self.files.policy_bytes(plugin)?;
        Ok(ReviewedPolicy {
            path,
            bytes,
            is_development,
        })
    }

    /// The launch template of a dialect.
    ///
    /// # Errors
    /// [`FilesError`] where there is none, or it is refused.
    pub fn template(&self, dialect: &str) -> Result<ReviewedTemplate, FilesError> {
        let (template, text, path) = self.files.template_bytes(dialect)?;
        Ok(ReviewedTemplate {
            template,
            text: String::from_utf8_lossy(&text).into_owned(),
            path,
        })
    }

    /// What a launch would say of each path of a runtime, in the installation of `config`.
    #[must_use]
    pub fn runtime(&self, config: &LauncherConfig, named: &Runtime) -> Vec<RuntimeState> {
        runtime::states(&self.files, config, named)
    }

    /// What a launch would say of each mount of a plugin's policy, in the installation of `config`; none
    /// where there is no launch template for its dialect.
    #[must_use]
    pub fn mounts(
        &self,
        config: &LauncherConfig,
        (plugin, policy): (&PluginId, &PolicyFile),
        is_development: bool,
    ) -> Vec<MountState> {
        mounts::states(&self.files, config, (plugin, policy), is_development)
    }

    /// A syscall profile, compiled.
    ///
    /// # Errors
    /// [`FilesError`] where there is none, or it is refused.
    pub fn profile(&self, used: ProfileUse<'_>) -> Result<ReviewedProfile, FilesError> {
        let name = used.profile;
        let own = self.files.profile_bytes(name)?;
        let path = own.as_ref().map(|(_, path)| path.clone());
        let text = match &own {
            Some((text, _)) => String::from_utf8_lossy(text).into_owned(),
            None => Profile::builtin_text(name).unwrap_or_default().to_owned(),
        };
        let profile = used.parse(own.map(|(text, _)| text))?;
        let program = files::compile(&profile)?;
        Ok(ReviewedProfile {
            profile,
            program,
            text,
            path,
        })
    }
}
