//! What a launch goes by beside the plugin's files, its policy and the trust in them: the launch template,
//! the syscall profile, the runtime and the mounts that the policy names, and the controls in force. Whether it would
//! go by the same now is what a kept instance is asked before another daemon has it.

use std::error::Error;

use pinfold_policy::{LaunchTemplate, PluginId, PolicyFile};
use sha2::{Digest as _, Sha256};

use super::controls::{self, Findings};
use super::files::{Filter, ProfileUse};
use super::ground::Ground;
use super::{failure, mounts, runtime, watching};
use crate::cgroup::Applied;
use crate::jail;
use crate::protocol::{Failure, FailureKind};

/// What a policy names, as it lies there now.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) template: LaunchTemplate,
    pub(super) filter: Filter,
    pub(super) runtime: Option<jail::Runtime>,
    pub(super) mounts: Vec<jail::HostMount>,
    /// Stands for all of them: SHA-256.
    pub(super) digest: [u8; 32],
}

/// Reads all of it.
pub(super) fn read(
    ground: &mut Ground,
    plugin: &PluginId,
    file: &PolicyFile,
) -> Result<Reading, Failure> {
    let unusable = |error: &dyn Error| failure::of(FailureKind::Policy, error);
    let (template, text, _) = ground
        .files
        .template_bytes(&file.dialect)
        .map_err(|error| failure::of_files(&error))?;
    let filter = ground
        .files
        .filter(ProfileUse::of(file))
        .map_err(|error| failure::of_files(&error))?;
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(&text));
    hash.update(Sha256::digest(&filter.killing));
    let runtime = match &file.runtime {
        Some(named) => {
            let (runtime, stamp) = runtime::open(&ground.files, &ground.config, named)
                .map_err(|error| unusable(&error))?;
            hash.update(stamp);
            Some(runtime)
        }
        None => None,
    };
    let of = mounts::Of {
        plugin,
        policy: file,
        template: &template,
    };
    let (mounts, stamp) =
        mounts::open(&ground.files, &ground.config, of).map_err(|error| unusable(&error))?;
    hash.update(stamp);
    Ok(Reading {
        template,
        filter,
        runtime,
        mounts,
        digest: hash.finalize().into(),
    })
}

/// What a launch went by.
#[derive(Debug)]
pub(super) struct WentBy {
    /// Of its [`Reading`].
    pub(super) digest: [u8; 32],
    /// What its group answered.
    pub(super) applied: Vec<Applied>,
    /// What else was found for it alone.
    pub(super) this: Findings,
}

impl WentBy {
    /// Whether a launch by the same policy would go by the same now.
    ///
    /// # Errors
    /// Why not, as one clause.
    pub(super) fn holds(
        &self,
        ground: &mut Ground,
        findings: &Findings,
        (plugin, file): (&PluginId, &PolicyFile),
    ) -> Result<(), String> {
        let reading = read(ground, plugin, file).map_err(|failure| failure.message)?;
        if reading.digest != self.digest {
            return Err(
                "its launch template, syscall profile, runtime or mounts have changed".into(),
            );
        }
        // What the group had at the launch, it has still.
        controls::missing(findings, &self.applied, &self.this, ground.mode, file)
            .map_err(|failure| failure.message)?;
        match watching::order(ground, plugin) {
            Some(_) => Err("it is to be watched".into()),
            None => Ok(()),
        }
    }
}
