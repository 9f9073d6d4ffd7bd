//! Paths of the host that a policy names: opened like everything of the operator's, step by step and
//! without links, and refused where somebody else could change them or no plugin may see them.

use std::error::Error;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pinfold_policy::LauncherConfig;

use super::files::Files;
use crate::posture::HostPathState;
use crate::trust::{TrustError, TrustedDir, TrustedEntry};

/// Where a launcher without root finds such paths: what it may look at it must have opened before it
/// entered its user namespace, in which everybody else's files look alike.
const ROOTS: [&str; 2] = ["/usr", "/opt"];

/// Why a path of the host is not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostPathError {
    #[error(transparent)]
    Untrusted(#[from] TrustError),
    #[error("{path:?} lies in or around {other:?}, which no plugin sees")]
    Ours { path: String, other: PathBuf },
    #[error("{path:?}: a launcher without root mounts only what lies in /usr or /opt")]
    Elsewhere { path: String },
    #[error(
        "{path:?} lies on what is mounted at {point:?}, which the launcher let go at its start, \
         when no policy that it could read named it: start the launcher anew (under systemd \
         `systemctl restart pinfold-launcher`, which ends every plugin)"
    )]
    LetGo { path: String, point: PathBuf },
}

/// Those of them that are there and root's.
pub(super) fn roots() -> Vec<TrustedDir> {
    let roots = ROOTS.iter().map(Path::new);
    roots
        .filter_map(|path| TrustedDir::open(path, None).ok())
        .collect()
}

/// One path, opened and checked all the way. It itself may also belong to whom `may_own` takes.
pub(super) fn open(
    files: &Files,
    config: &LauncherConfig,
    path: &str,
    may_own: impl Fn(u32) -> bool,
) -> Result<TrustedEntry, HostPathError> {
    let at = Path::new(path);
    let ours = [
        &config.state_dir,
        &config.policy_dir,
        &config.keys_dir,
        &config.plugin_dir,
        &config.uid_lease_dir,
    ];
    let ours = ours
        .into_iter()
        .chain(&config.data_dir)
        .chain(&config.dev_policy_dir);
    for other in ours {
        if other.starts_with(at) || at.starts_with(other) {
            return Err(HostPathError::Ours {
                path: path.to_owned(),
                other: other.clone(),
            });
        }
    }
    if let Some(point) = files.let_go.iter().find(|point| at.starts_with(point)) {
        return Err(HostPathError::LetGo {
            path: path.to_owned(),
            point: point.clone(),
        });
    }
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
        return Err(TrustError::Path { path: at.into() }.into());
    };
    let Some(roots) = &files.host_roots else {
        let directory = TrustedDir::open(parent, None)?;
        return Ok(directory.entry(name, may_own)?);
    };
    let elsewhere = || HostPathError::Elsewhere {
        path: path.to_owned(),
    };
    let root = roots.iter().find(|root| parent.starts_with(root.path()));
    let root = root.ok_or_else(elsewhere)?;
    let rest = parent.strip_prefix(root.path()).map_err(|_| elsewhere())?;
    Ok(root.beneath(rest)?.entry(name, may_own)?)
}

/// What a posture says of one: whose it is, or why it is refused.
pub(super) fn state(found: Result<TrustedEntry, impl Error>) -> HostPathState {
    match found {
        Ok(entry) => HostPathState {
            owner: Some(entry.metadata.uid()),
            mode: Some(format!("{:04o}", entry.metadata.mode() & 0o7777)),
            problem: String::new(),
        },
        Err(error) => HostPathState {
            problem: super::log::chain(&error),
            ..HostPathState::default()
        },
    }
}
