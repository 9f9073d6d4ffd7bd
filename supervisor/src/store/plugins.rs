//! In which order plugins were first seen: of two that declare the same route, the elder keeps it.
//! And which of them an operator has switched off.

use chrono::Utc;
use pinfold_policy::{PluginId, Route};

use super::{Store, StoreError, failed};

impl Store {
    /// The plugin's number, given to it where it has none yet.
    pub(crate) async fn plugin_number(&self, plugin: &PluginId) -> Result<i64, StoreError> {
        let operation = "number a plugin";
        let insert = sqlx::query("INSERT OR IGNORE INTO plugin (id) VALUES (?)");
        self.write(operation, insert.bind(plugin.as_str())).await?;
        sqlx::query_scalar("SELECT number FROM plugin WHERE id = ?")
            .bind(plugin.as_str())
            .fetch_one(&self.pool)
            .await
            .map_err(failed(operation))
    }

    /// Gives the number of a plugin up: should it come again, it is the youngest.
    pub(crate) async fn forget_plugin(&self, plugin: &PluginId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM plugin WHERE id = ?").bind(plugin.as_str());
        self.write("forget a plugin", delete).await.map(drop)
    }

    /// Whether the plugin may run: it may where nobody has said otherwise.
    pub(crate) async fn is_enabled(&self, plugin: &PluginId) -> Result<bool, StoreError> {
        let flag: Option<bool> = sqlx::query_scalar("SELECT enabled FROM plugin_flag WHERE id = ?")
            .bind(plugin.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read whether a plugin is enabled"))?;
        Ok(flag.unwrap_or(true))
    }

    /// Keeps that the plugin may run. Committed when this returns.
    pub(crate) async fn enable(&self, plugin: &PluginId) -> Result<(), StoreError> {
        self.set_flag(plugin, true, None).await
    }

    /// Keeps that the plugin may not run, whatever becomes of its directory, and the routes that it
    /// has; without any, those that were kept before stay. Committed when this returns.
    pub(crate) async fn disable(
        &self,
        plugin: &PluginId,
        routes: &[Route],
    ) -> Result<(), StoreError> {
        let routes = match routes {
            [] => None,
            routes => serde_json::to_string(routes).ok(),
        };
        self.set_flag(plugin, false, routes).await
    }

    /// The routes of a plugin that is switched off; none where they are not known.
    pub(crate) async fn routes_of_disabled(
        &self,
        plugin: &PluginId,
    ) -> Result<Vec<Route>, StoreError> {
        let routes: Option<Option<String>> =
            sqlx::query_scalar("SELECT routes FROM plugin_flag WHERE id = ?")
                .bind(plugin.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("read the routes of a disabled plugin"))?;
        let routes = routes.flatten();
        // What another version wrote and this one cannot read is not known.
        Ok(routes
            .and_then(|routes| serde_json::from_str(&routes).ok())
            .unwrap_or_default())
    }

    async fn set_flag(
        &self,
        plugin: &PluginId,
        enabled: bool,
        routes: Option<String>,
    ) -> Result<(), StoreError> {
        let upsert = sqlx::query(
            "INSERT INTO plugin_flag (id, enabled, changed, routes) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET enabled = excluded.enabled,
                changed = excluded.changed,
                routes = CASE WHEN excluded.enabled THEN NULL
                              ELSE coalesce(excluded.routes, routes) END",
        )
        .bind(plugin.as_str())
        .bind(enabled)
        .bind(Utc::now().to_rfc3339())
        .bind(routes);
        let operation = "keep whether a plugin is enabled";
        self.write(operation, upsert).await.map(drop)
    }

    /// Drops what an operator has said of a plugin that was removed for good.
    pub(crate) async fn clear_flags(&self, plugin: &PluginId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM plugin_flag WHERE id = ?").bind(plugin.as_str());
        let operation = "forget whether a plugin is enabled";
        self.write(operation, delete).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use pinfold_policy::{Middleware, RouteMethod};

    use super::*;

    #[tokio::test]
    async fn numbers_last_and_a_plugin_that_comes_again_is_the_youngest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let (b, a) = ("b".parse().unwrap(), "a".parse().unwrap());
        let first = store.plugin_number(&b).await.unwrap();
        assert!(first < store.plugin_number(&a).await.unwrap());
        assert_eq!(first, store.plugin_number(&b).await.unwrap());
        store.forget_plugin(&b).await.unwrap();
        assert!(store.plugin_number(&b).await.unwrap() > store.plugin_number(&a).await.unwrap());
    }

    #[tokio::test]
    async fn a_plugin_stays_switched_off_when_it_goes_and_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let a = "a".parse().unwrap();
        let routes = [Route {
            method: RouteMethod::Get,
            path: "/x".into(),
            handler: "x".into(),
            middleware: vec![Middleware::Auth],
            description: String::new(),
        }];
        let store = Store::open(&path).await.unwrap();
        assert!(store.is_enabled(&a).await.unwrap());
        store.disable(&a, &routes).await.unwrap();
        // Said again by somebody who does not know its routes.
        store.disable(&a, &[]).await.unwrap();
        store.forget_plugin(&a).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert!(!store.is_enabled(&a).await.unwrap());
        assert_eq!(store.routes_of_disabled(&a).await.unwrap(), routes);
        store.enable(&a).await.unwrap();
        assert!(store.is_enabled(&a).await.unwrap());
        assert_eq!(store.routes_of_disabled(&a).await.unwrap(), []);
        store.disable(&a, &[]).await.unwrap();
        store.clear_flags(&a).await.unwrap();
        assert!(store.is_enabled(&a).await.unwrap());
    }
}
