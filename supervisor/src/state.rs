//! What is known of one plugin: the snapshot that its task publishes and everybody else reads.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pinfold_policy::{
    Digest, Generation, InstanceId, Moment, Offer, Permissions, PluginId, PolicyFile,
};

use crate::dialect::Manifest;

/// Where a plugin is in its life.
///
/// Two words of the usual order are no states here. Whether files are trusted is decided by the
/// launcher between staging and execution, on the very bytes that run, so that nothing is ever
/// verified and not started; and no dialect that is spoken has dependencies to resolve.
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
    /// It serves, and does not answer when it is asked whether it lives.
    Degraded,
    /// It takes no new calls and is being ended, or has ended by itself a moment ago.
    Draining,
    /// It was ended on request.
    Stopped,
    /// It ended by itself, or the machine was short of something to start it; it is started again after a while.
    BackingOff,
    /// It could not be started, or ended by itself too often.
    Failed,
    /// An operator has switched it off: it has no process.
    Disabled,
    /// It may not run as it is: no policy, not trusted, or not what the policy names.
    Blocked,
}

impl State {
    /// Every state, in the order of life.
    pub(crate) const ALL: [Self; 11] = [
        Self::Discovered,
        Self::Staged,
        Self::Starting,
        Self::Ready,
        Self::Degraded,
        Self::Draining,
        Self::Stopped,
        Self::BackingOff,
        Self::Failed,
        Self::Disabled,
        Self::Blocked,
    ];

    /// Whether an instance answers calls. One that drains takes no new ones.
    pub(crate) const fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Staged => "staged",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::BackingOff => "backing-off",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Blocked => "blocked",
        }
    }

    /// Whether there is nothing to wait for now. A plugin that backs off is started again, but
    /// nobody knows whether that will do.
    pub(crate) const fn is_settled(self) -> bool {
        match self {
            Self::Ready
            | Self::Degraded
            | Self::Stopped
            | Self::BackingOff
            | Self::Failed
            | Self::Disabled
            | Self::Blocked => true,
            Self::Discovered | Self::Staged | Self::Starting | Self::Draining => false,
        }
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
    /// Whether the operator lets it run.
    pub(crate) enabled: bool,
    /// Generation of the instance that serves, else of the latest one; 0 before the first.
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
    /// How often it was started again after it had ended by itself, since the daemon's start.
    pub(crate) restarts: u64,
    /// When it is started again, while it backs off.
    pub(crate) next_start: Option<DateTime<Utc>>,
    /// What the instance that serves answered when asked whether it lives.
    pub(crate) health: Option<Health>,
    /// A newer version that was not taken, while the old one goes on.
    pub(crate) rejected: Option<Rejected>,
    /// What became of the instance that the daemon before this one left, where it did.
    pub(crate) left: Option<Left>,
}

/// What became of an instance that the daemon before left to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It serves, or has served, on.
    TakenOver,
    /// It was ended, and another started in its place: why.
    Replaced(String),
}

impl Left {
    /// Each, as the metrics write it.
    pub(crate) const OUTCOMES: [&'static str; 2] = ["taken-over", "replaced"];

    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::TakenOver => Self::OUTCOMES[0],
            Self::Replaced(_) => Self::OUTCOMES[1],
        }
    }
}

/// How an instance answers when it is asked whether it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// When it was last asked.
    pub(crate) last_ping: Option<DateTime<Utc>>,
    /// How often in a row it has not answered in time.
    pub(crate) failures: u32,
    /// How long its latest answer took.
    pub(crate) round_trip: Option<Duration>,
}

/// A version of a plugin that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) time: DateTime<Utc>,
    /// Its files, where they could be staged.
    pub(crate) digest: Option<Digest>,
    /// Why, with what to do where there is something.
    pub(crate) reason: String,
}

/// The process of the current instance.
#[derive(Clone, Debug)]
pub(crate) struct RunningProcess {
    pub(crate) instance: InstanceId,
    pub(crate) pid: u32,
    /// Controls that the policy prefers and that are not in force for it.
    pub(crate) missing: Vec<String>,
    /// What the trust in it rests on, in the launcher's words.
    pub(crate) trust: String,
    /// Whether the daemon before this one started it.
    pub(crate) taken_over: bool,
    /// Until when each of its system calls is noted, where they are.
    pub(crate) watched_until: Option<Moment>,
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
            enabled: true,
            generation: Generation(0),
            dialect: None,
            digest: None,
            manifest: None,
            policy: None,
            development_policy: false,
            running: None,
            registered: None,
            last_exit: None,
            restarts: 0,
            next_start: None,
            health: None,
            rejected: None,
            left: None,
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
