//! Starts: committed before a plugin serves, with the policy that it is started under. A policy that
//! is another than the plugin's last start had is a record of its own: whoever wrote it, and however.

use pinfold_policy::{Digest, Generation, Moment, PluginId};

use super::{Entry, OPERATION, PLUGIN_START, insert, instance};
use crate::store::{Store, StoreError, failed};

/// A plugin's process that was started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) plugin: &'a PluginId,
    pub(crate) generation: Generation,
    pub(crate) digest: Digest,
    /// What the trust in it rests on.
    pub(crate) trust: &'a str,
    /// Whether the daemon before started it, and left it to this one.
    pub(crate) taken_over: bool,
    /// Until when it is watched, where it is.
    pub(crate) watched_until: Option<Moment>,
    /// SHA-256 of the policy file's bytes as used.
    pub(crate) policy: Digest,
}

impl Store {
    /// Commits that a plugin was started, before it serves.
    pub(crate) async fn audit_start(&self, start: &Start<'_>) -> Result<(), StoreError> {
        let Start {
            plugin,
            generation,
            digest,
            trust,
            taken_over,
            watched_until,
            policy,
        } = start;
        let policy = policy.to_string();
        let mut transaction = self.begin(OPERATION).await?;
        let before: Option<String> =
            sqlx::query_scalar("SELECT digest FROM plugin_policy WHERE id = ?")
                .bind(plugin.as_str())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed(OPERATION))?;
        let changed = if before.as_ref() == Some(&policy) {
            None
        } else {
            sqlx::query(
                "INSERT INTO plugin_policy (id, digest) VALUES (?, ?)
                 ON CONFLICT (id) DO UPDATE SET digest = excluded.digest",
            )
            .bind(plugin.as_str())
            .bind(&policy)
            .execute(&mut *transaction)
            .await
            .map_err(failed(OPERATION))?;
            let entry = Entry {
                detail: before.map(|before| format!("before {before}")),
                ..Entry::of_daemon("policy.change", policy.clone()).about(plugin)
            };
            Some(insert(&mut transaction, &entry).await?)
        };
        let entry = Entry {
            detail: Some(format!(
                "{}, {}{trust}, {}policy {policy}",
                instance(*generation),
                if *taken_over { "taken over, " } else { "" },
                watched_until
                    .map(|until| format!("WATCHED until {until}, "))
                    .unwrap_or_default()
            )),
            ..Entry::of_daemon(PLUGIN_START, digest.to_string()).about(plugin)
        };
        let started = insert(&mut transaction, &entry).await?;
        transaction.commit().await.map_err(failed(OPERATION))?;
        for told in changed.into_iter().chain([started]) {
            told.tell();
        }
        Ok(())
    }
}
