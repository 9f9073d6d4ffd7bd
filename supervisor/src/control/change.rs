//! What an administrator changes: plugins switched on and off, started anew and looked at again,
//! tokens made and revoked.
//!
//! Each change runs in a task of its own from its audit record on, to its end, although the client
//! that asked is gone: half of one is worse than none. A token that is revoked in the store and
//! still known would be valid until the next start.

use std::sync::Arc;
use std::time::Duration;

use pinfold_gateway::Actor;
use pinfold_gateway::admin::ControlError;
use pinfold_gateway::admin::dto::{
    Because, CreatedToken, LogFilterView, LogLevel, NewLogFilter, NewToken, PluginDetail, RecordId,
    RescanQuery,
};
use pinfold_policy::PluginId;
use pinfold_sandbox::protocol::{FailureKind, Request};

use super::{Administration, not_stored};
use crate::catalogue::{Catalogue, ChangeError, ScanError};
use crate::chain::Chain;
use crate::launcher::LauncherError;
use crate::pending::Pending;
use crate::recorder::actor_text;
use crate::state::Snapshot;
use crate::store::audit::Entry;
use crate::store::tokens::CreateTokenError;
use crate::store::{Store, StoreError};
use crate::telemetry::FilterError;

/// What is done to a plugin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Enable,
    Disable,
    Reload,
}

impl Change {
    /// As the audit names it, and what failed where the daemon could not do it.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Enable => ("admin.plugin.enable", "enable the plugin"),
            Self::Disable => ("admin.plugin.disable", "disable the plugin"),
            Self::Reload => ("admin.plugin.reload", "reload the plugin"),
        }
    }
}

impl Administration {
    /// Does it, after it is in the audit.
    pub(super) async fn change(
        &self,
        plugin: &PluginId,
        change: Change,
        actor: Actor,
    ) -> Result<PluginDetail, ControlError> {
        let (action, attempt) = change.names();
        if self.catalogue.handle(plugin).is_none() {
            return Err(ControlError::UnknownPlugin {
                plugin: plugin.clone(),
            });
        }
        let (catalogue, store) = (Arc::clone(&self.catalogue), self.store.clone());
        let plugin = plugin.clone();
        let changed = self.to_its_end(attempt, async move {
            record(&store, &actor, action, plugin.to_string(), Some(&plugin)).await?;
            let changed = match change {
                Change::Enable => catalogue.enable(&plugin).await,
                Change::Disable => catalogue.disable(&plugin).await,
                Change::Reload => catalogue.reload(&plugin).await,
            };
            changed.map_err(|error| match error {
                ChangeError::Unknown { plugin } => ControlError::UnknownPlugin { plugin },
                ChangeError::Disabled { plugin } => ControlError::Disabled { plugin },
                ChangeError::Rejected { reason, .. } => ControlError::Rejected { reason },
                ChangeError::Store(error) => not_stored(attempt, &error),
            })
        });
        Ok(self.detail(&*changed.await?))
    }

    /// Looks again at one plugin or at all of them, until each has settled or the daemon stops.
    pub(super) async fn look_again(
        &self,
        plugin: Option<PluginId>,
        why: RescanQuery,
        actor: Actor,
    ) -> Result<Vec<PluginDetail>, ControlError> {
        let (catalogue, store) = (Arc::clone(&self.catalogue), self.store.clone());
        let stopping = self.stopping.clone();
        let why = believed(why, &actor);
        let looked = self.to_its_end("look at the plugins again", async move {
            let all = || "all".to_owned();
            let subject = match (&why.key, &plugin) {
                (Some(key), _) => key.to_string(),
                (None, plugin) => plugin.as_ref().map_or_else(all, ToString::to_string),
            };
            let action = why.because.map_or("admin.rescan", Because::action);
            let entry = Entry {
                plugin: plugin.as_ref().map(ToString::to_string),
                request_id: why.record.map(String::from),
                ..Entry::admin(actor_text(&actor), action, subject)
            };
            // One that was written down may be in the trail since a start meanwhile.
            let recorded = store.audit_once(entry).await;
            recorded.map_err(|error| not_recorded(&error))?;
            let settled = tokio::select! {
                settled = catalogue.rescan(plugin.as_ref()) => settled.map_err(not_read)?,
                // Nothing is lost: the next start looks at all of them.
                () = stopping.cancelled() => return Err(ControlError::Stopping),
            };
            let mut looked = Vec::with_capacity(settled.len());
            for snapshot in settled {
                let trust_lost = lost(&catalogue, &snapshot).await?;
                if let Some(why) = &trust_lost {
                    tell_of_lost_trust(&catalogue, &snapshot, why);
                }
                looked.push((snapshot, trust_lost));
            }
            Ok(looked)
        });
        let looked = looked.await?.into_iter();
        Ok(looked
            .map(|(snapshot, trust_lost)| {
                let mut detail = self.detail(&snapshot);
                detail.view.trust_lost = trust_lost;
                detail
            })
            .collect())
    }

    /// Takes what the policies' owner wrote down into the trail, unless it is there.
    pub(super) async fn take_in(&self, id: RecordId) -> Result<(), ControlError> {
        let (directory, store) = (self.pending_records.clone(), self.store.clone());
        self.to_its_end("take a record in", async move {
            let unknown = || ControlError::UnknownRecord { record: id.clone() };
            let read = || match Pending::open(&directory)? {
                Some(pending) => pending.read(&id).map(Some),
                None => Ok(None),
            };
            let record = match read() {
                Ok(record) => record.ok_or_else(unknown)?,
                Err(error) => {
                    if !error.is_absent() {
                        tracing::warn!(
                            error = %Chain(&error),
                            "record for the audit trail not taken"
                        );
                    }
                    return Err(unknown());
                }
            };
            let taken = store.audit_written_down(&[(id, record)], None).await;
            taken.map(drop).map_err(|error| not_recorded(&error))
        })
        .await
    }

    /// Makes a token. Its text is lost where nobody waits for it any longer; it can be revoked.
    pub(super) async fn make_token(
        &self,
        token: NewToken,
        actor: Actor,
    ) -> Result<CreatedToken, ControlError> {
        let (tokens, attempt) = (Arc::clone(&self.tokens), "store the token");
        self.to_its_end(attempt, async move {
            let made = tokens.create(token, actor_text(&actor)).await;
            made.map_err(|error| match error {
                CreateTokenError::Bad(_) | CreateTokenError::Taken { .. } => {
                    ControlError::Invalid {
                        what: "token",
                        reason: error.to_string(),
                    }
                }
                CreateTokenError::Store(error) => not_stored(attempt, &error),
                error @ CreateTokenError::Random(_) => ControlError::Failed {
                    action: attempt,
                    cause: Chain(&error).to_string(),
                },
            })
        })
        .await
    }

    /// Ends a token.
    pub(super) async fn end_token(&self, id: String, actor: Actor) -> Result<(), ControlError> {
        let (tokens, attempt) = (Arc::clone(&self.tokens), "revoke the token");
        self.to_its_end(attempt, async move {
            match tokens.revoke(&id, actor_text(&actor)).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(ControlError::UnknownToken { id }),
                Err(error) => Err(not_stored(attempt, &error)),
            }
        })
        .await
    }

    /// Has the log go by something else, or by the configuration's filter again.
    pub(super) async fn filter_log(
        &self,
        wanted: Option<NewLogFilter>,
        actor: Actor,
    ) -> Result<LogFilterView, ControlError> {
        let (log, store) = (Arc::clone(&self.log_filter), self.store.clone());
        self.to_its_end("change the log filter", async move {
            let refused = |error: FilterError| ControlError::Invalid {
                what: "filter",
                reason: Chain(&error).to_string(),
            };
            let (action, subject) = match &wanted {
                Some(wanted) => {
                    crate::telemetry::check(&wanted.filter).map_err(refused)?;
                    let time = wanted.seconds.map(|seconds| format!(" for {seconds} s"));
                    let subject = format!("{}{}", wanted.filter, time.unwrap_or_default());
                    ("admin.log.set", subject)
                }
                None => ("admin.log.reset", log.view().configured),
            };
            record(&store, &actor, action, subject, None).await?;
            let done = match wanted {
                Some(wanted) => log.set(&wanted.filter, wanted.seconds.map(Duration::from_secs)),
                None => log.reset(),
            };
            done.map_err(refused)?;
            Ok(log.view())
        })
        .await
    }

    /// Runs a change in a task of its own, which goes on when this is dropped. The daemon waits for
    /// it before it ends.
    async fn to_its_end<T: Send + 'static>(
        &self,
        attempt: &'static str,
        change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Result<T, ControlError> {
        let ended = self.changes.spawn(change).await;
        ended.unwrap_or_else(|error| {
            Err(ControlError::Failed {
                action: attempt,
                cause: error.to_string(),
            })
        })
    }
}

/// What is believed of why the daemon is to look again. What the policies' owner did, his own command
/// tells on the admin socket; who comes through the gateway with a token has asked for a rescan, and
/// for nothing else.
fn believed(why: RescanQuery, actor: &Actor) -> RescanQuery {
    match actor {
        Actor::Process { .. } => why,
        Actor::User(_) | Actor::Anonymous => RescanQuery::default(),
    }
}

/// Commits what an administrator is about to do to the audit trail.
pub(super) async fn record(
    store: &Store,
    actor: &Actor,
    action: &str,
    subject: String,
    plugin: Option<&PluginId>,
) -> Result<(), ControlError> {
    let entry = Entry {
        plugin: plugin.map(ToString::to_string),
        ..Entry::admin(actor_text(actor), action, subject)
    };
    commit(store, entry).await
}

async fn commit(store: &Store, entry: Entry) -> Result<(), ControlError> {
    let recorded = store.audit(entry).await;
    recorded.map_err(|error| not_recorded(&error))
}

fn not_recorded(error: &StoreError) -> ControlError {
    not_stored("write the audit trail", error)
}

/// Asks the launcher whether it would start what runs once more.
pub(super) async fn lost(
    catalogue: &Catalogue,
    snapshot: &Snapshot,
) -> Result<Option<String>, ControlError> {
    let (Some(_), Some(digest)) = (&snapshot.running, snapshot.digest) else {
        return Ok(None);
    };
    let request = Request::Trust {
        plugin: snapshot.plugin.clone(),
        digest,
    };
    match catalogue.launcher().ask(request).await {
        Ok(_) => Ok(None),
        // What was asked about is not there any more.
        Err(LauncherError::Failed(failure)) if failure.kind == FailureKind::Request => Ok(None),
        // No policy any more, or no trust.
        Err(LauncherError::Failed(failure)) => Ok(Some(match failure.hint {
            Some(hint) => format!("{} (hint: {hint})", failure.message),
            None => failure.message,
        })),
        Err(error) => Err(ControlError::Failed {
            action: "ask the launcher",
            cause: Chain(&error).to_string(),
        }),
    }
}

fn tell_of_lost_trust(catalogue: &Catalogue, snapshot: &Snapshot, why: &str) {
    tracing::warn!(
        plugin.id = %snapshot.plugin,
        plugin.generation = snapshot.generation.0,
        error = why,
        "plugin goes on without trust, and cannot be started again"
    );
    if let Some(handle) = catalogue.handle(&snapshot.plugin) {
        let line = format!("goes on, and cannot be started again: {why}");
        let log = handle.log();
        log.note(snapshot.generation, LogLevel::Warn, &line);
    }
}

fn not_read(error: ScanError) -> ControlError {
    let (action, cause) = ("read the plugin directory", Chain(&error).to_string());
    match error.obstacle() {
        Some((obstacle, hint)) => ControlError::Obstructed {
            action,
            obstacle,
            hint,
            cause,
        },
        None => ControlError::Failed { action, cause },
    }
}

#[cfg(test)]
mod tests {
    use pinfold_policy::User;

    use super::*;

    #[test]
    fn acts_of_the_policies_owner_are_told_on_the_admin_socket_alone() {
        let told = RescanQuery {
            record: Some("0".repeat(32).parse().unwrap()),
            ..RescanQuery::because_of_key(Because::KeyRevoked, "release".parse().unwrap())
        };
        let process = Actor::Process { uid: 0, pid: None };
        assert_eq!(believed(told.clone(), &process), told);
        let administrator = Actor::User(Arc::new(User {
            id: "ann".into(),
            login: "ann".into(),
            roles: vec![User::ADMIN.into()],
        }));
        for actor in [administrator, Actor::Anonymous] {
            assert_eq!(believed(told.clone(), &actor), RescanQuery::default());
        }
    }
}
