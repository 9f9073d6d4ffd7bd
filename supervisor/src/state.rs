//! What is known of one plugin: the snapshot that its task publishes and everybody else reads.

use chrono::{DateTime, Utc};
use pinfold_policy::{Digest, Generation, InstanceId, Offer, Permissions, PluginId, PolicyFile};

use crate::dialect::Manifest;

/// Where a plugin is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its directory was seen.
    Discovered,
    /// Its files are copied and sealed.
    Staged,
    /// Its process is being started and initialised.
    Starting,
    /// It serves.
    Ready,
    /// It takes no new calls and is being ended.
    Draining,
    /// It was ended on request.
    Stopped,
    /// It could not be started, or ended by itself.
    Failed,
    /// It may not run as it is: no policy, not trusted, or not what the policy names.
    Blocked,
}

impl State {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Staged => "staged",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }

    /// Whether nothing more happens without a command or an event from outside.
    pub(crate) const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Stopped | Self::Failed | Self::Blocked
        )
    }
}

/// One moment of a plugin's life.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) plugin: PluginId,
    pub(crate) state: State,
    pub(crate) since: DateTime<Utc>,
    /// Why it is in this state, where that is not plain.
    pub(crate) reason: Option<String>,
    /// Generation of the latest instance; 0 before the first.
    pub(crate) generation: Generation,
    pub(crate) dialect: Option<&'static str>,
    pub(crate) digest: Option<Digest>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) policy: Option<PolicyFile>,
    /// Whether the policy was written by the daemon itself.
    pub(crate) development_policy: bool,
    pub(crate) running: Option<RunningProcess>,
    pub(crate) registered: Option<Registered>,
    /// How the last instance ended.
    pub(crate) last_exit: Option<String>,
}

/// The process of the current instance.
#[derive(Clone, Debug)]
pub(crate) struct RunningProcess {
    pub(crate) instance: InstanceId,
    pub(crate) pid: u32,
    /// Controls that the policy prefers and that are not in force for it.
    pub(crate) missing: Vec<String>,
}

/// What an instance registered.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) version: String,
    pub(crate) offer: Offer,
    /// What it asked for: `None` where it said nothing of permissions.
    pub(crate) asked: Option<Permissions>,
}

impl Snapshot {
    pub(crate) fn discovered(plugin: PluginId) -> Self {
        Self {
            plugin,
            state: State::Discovered,
            since: Utc::now(),
            reason: None,
            generation: Generation(0),
            dialect: None,
            digest: None,
            manifest: None,
            policy: None,
            development_policy: false,
            running: None,
            registered: None,
            last_exit: None,
        }
    }

    /// Where asked and granted differ, a line each, for the operator to read.
    pub(crate) fn differences(&self) -> Vec<String> {
        let (Some(manifest), Some(policy)) = (&self.manifest, &self.policy) else {
            return Vec::new();
        };
        let by_manifest = manifest.asked.lines();
        let by_registration = self
            .registered
            .as_ref()
            .and_then(|registered| registered.asked.as_ref());
        let granted = policy.permissions.lines();
        let mut differences = Vec::new();
        let mut asked = by_manifest.clone();
        if let Some(registration) = by_registration.map(Permissions::lines) {
            for line in registration.difference(&by_manifest) {
                differences.push(format!(
                    "{line}: asked for when registering, not in the manifest"
                ));
            }
            for line in by_manifest.difference(&registration) {
                differences.push(format!(
                    "{line}: asked for in the manifest, not when registering"
                ));
            }
            asked.extend(registration);
        }
        for line in asked.difference(&granted) {
            differences.push(format!("{line}: asked for, not granted as such"));
        }
        for line in granted.difference(&asked) {
            differences.push(format!("{line}: granted, not asked for as such"));
        }
        differences
    }
}
