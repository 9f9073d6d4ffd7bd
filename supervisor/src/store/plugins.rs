//! In which order plugins were first seen: of two that declare the same route, the elder keeps it.
//! Which routes each had when it served last, and which of them an operator has switched off.

use chrono::Utc;
use pinfold_policy::{PluginId, Route};

use super::{Store, StoreError, failed};

/// The routes that a plugin had when it served last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeptRoutes {
    pub(crate) number: i64,
    pub(crate) plugin: PluginId,
    pub(crate) enabled: bool,
    pub(crate) routes: Vec<Route>,
}

impl Store {
    /// The plugin's number, given to it where it has none yet.
    pub(crate) async fn plugin_number(&self, plugin: &PluginId) -> Result<i64, StoreError> {
        let operation = "number a plugin";
        let known = self.known_number(plugin).await;
        // Nothing is written for one that is known: each commit waits for the disk.
        if let Some(number) = known.map_err(failed(operation))? {
            return Ok(number);
        }
        // Somebody else may do it at the same moment.
        let insert = sqlx::query("INSERT OR IGNORE INTO plugin (id) VALUES (?)");
        self.write(operation, insert.bind(plugin.as_str())).await?;
        let given = self.known_number(plugin).await;
        given
            .and_then(|number| number.ok_or(sqlx::Error::RowNotFound))
            .map_err(failed(operation))
    }

    async fn known_number(&self, plugin: &PluginId) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar("SELECT number FROM plugin WHERE id = ?")
            .bind(plugin.as_str())
            .fetch_optional(&self.pool)
            .await
    }

    /// Whether something of a plugin that has a number can be committed.
    pub(crate) async fn check_written(&self, plugin: &PluginId) -> Result<(), StoreError> {
        // A page is written, although nothing in it changes: what is rolled back would not meet a full disk.
        let same = sqlx::query("UPDATE plugin SET id = id WHERE id = ?").bind(plugin.as_str());
        let written = self.write("write of a plugin", same).await?;
        match written.rows_affected() {
            0 => Err(failed("write of a plugin")(sqlx::Error::RowNotFound)),
            _ => Ok(()),
        }
    }

    /// Gives the number of a plugin up: should it come again, it is the youngest. What an operator
    /// has switched off stays so, with its routes.
    pub(crate) async fn forget_plugin(&self, plugin: &PluginId) -> Result<(), StoreError> {
        for delete in [
            "DELETE FROM plugin WHERE id = ?",
            "DELETE FROM plugin_flag WHERE id = ? AND enabled",
        ] {
            let delete = sqlx::query(delete).bind(plugin.as_str());
            self.write("forget a plugin", delete).await?;
        }
        Ok(())
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
            routes => Some(text(routes)),
        };
        self.set_flag(plugin, false, routes).await
    }

    /// Keeps the routes of a plugin that is to serve, in the place of those that were kept before.
    /// Committed when this returns.
    pub(crate) async fn keep_routes(
        &self,
        plugin: &PluginId,
        routes: &[Route],
    ) -> Result<(), StoreError> {
        // Whether it is switched on is said elsewhere: until then it is.
        let upsert = sqlx::query(
            "INSERT INTO plugin_flag (id, enabled, changed, routes) VALUES (?, 1, ?, ?)
             ON CONFLICT (id) DO UPDATE SET routes = excluded.routes
             WHERE routes IS NOT excluded.routes",
        )
        .bind(plugin.as_str())
        .bind(Utc::now().to_rfc3339())
        .bind(text(routes));
        self.write("keep a plugin's routes", upsert).await.map(drop)
    }

    /// The routes that a plugin had when it served last; none where they are not known.
    pub(crate) async fn routes(&self, plugin: &PluginId) -> Result<Vec<Route>, StoreError> {
        let routes: Option<Option<String>> =
            sqlx::query_scalar("SELECT routes FROM plugin_flag WHERE id = ?")
                .bind(plugin.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("read a plugin's routes"))?;
        Ok(routes.flatten().map(read).unwrap_or_default())
    }

    /// The same of every plugin that has a number, the eldest first.
    pub(crate) async fn routes_of_all(&self) -> Result<Vec<KeptRoutes>, StoreError> {
        let rows: Vec<(i64, String, bool, String)> = sqlx::query_as(
            "SELECT plugin.number, plugin.id, plugin_flag.enabled, plugin_flag.routes
             FROM plugin JOIN plugin_flag ON plugin_flag.id = plugin.id
             WHERE plugin_flag.routes IS NOT NULL ORDER BY plugin.number",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the routes of all plugins"))?;
        let kept = rows
            .into_iter()
            .filter_map(|(number, id, enabled, routes)| {
                Some(KeptRoutes {
                    number,
                    plugin: PluginId::parse(&id).ok()?,
                    enabled,
                    routes: read(routes),
                })
            });
        Ok(kept.collect())
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
                routes = coalesce(excluded.routes, routes)",
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

/// Routes as they are kept: a route that is reserved needs no description.
fn text(routes: &[Route]) -> String {
    let routes: Vec<Route> = routes
        .iter()
        .map(|route| Route {
            method: route.method,
            path: route.path.clone(),
            handler: route.handler.clone(),
            middleware: route.middleware.clone(),
            description: String::new(),
        })
        .collect();
    serde_json::to_string(&routes).expect("routes are plain data")
}

/// What another version wrote and this one cannot read is not known.
fn read(routes: String) -> Vec<Route> {
    serde_json::from_str(&routes).unwrap_or_default()
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
    async fn the_number_of_a_plugin_that_is_known_waits_for_no_writer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let a = "a".parse().unwrap();
        let first = store.plugin_number(&a).await.unwrap();
        let held = store.begin("hold the lock").await.unwrap();
        let limit = std::time::Duration::from_secs(60);
        let again = tokio::time::timeout(limit, store.plugin_number(&a)).await;
        assert_eq!(again.unwrap().unwrap(), first);
        drop(held);
    }

    #[tokio::test]
    async fn what_cannot_be_written_of_a_plugin_is_known_beforehand() {
        use sqlx::{ConnectOptions as _, Executor as _};

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        let (a, unknown) = ("a".parse().unwrap(), "unknown".parse().unwrap());
        store.plugin_number(&a).await.unwrap();
        store.check_written(&a).await.unwrap();
        store.check_written(&unknown).await.unwrap_err();
        let another = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut another = another.connect().await.unwrap();
        another.execute("BEGIN IMMEDIATE").await.unwrap();
        let error = store.check_written(&a).await.unwrap_err();
        assert!(error.obstacle().is_some(), "{error:?}");
        another.execute("ROLLBACK").await.unwrap();
        store.check_written(&a).await.unwrap();
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
        assert_eq!(store.routes(&a).await.unwrap(), routes);
        store.enable(&a).await.unwrap();
        assert!(store.is_enabled(&a).await.unwrap());
        assert_eq!(
            store.routes(&a).await.unwrap(),
            routes,
            "until it serves with others"
        );
        store.keep_routes(&a, &[]).await.unwrap();
        assert_eq!(store.routes(&a).await.unwrap(), []);
        store.disable(&a, &[]).await.unwrap();
        store.clear_flags(&a).await.unwrap();
        assert!(store.is_enabled(&a).await.unwrap());
    }

    #[tokio::test]
    async fn routes_of_those_that_served_are_kept_until_they_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let (b, a): (PluginId, PluginId) = ("b".parse().unwrap(), "a".parse().unwrap());
        let route = |path: &str, description: &str| Route {
            method: RouteMethod::Post,
            path: path.into(),
            handler: "h".into(),
            middleware: vec![],
            description: description.into(),
        };
        for plugin in [&b, &a] {
            store.plugin_number(plugin).await.unwrap();
            let routes = [route("/checkout", "long"), route(&format!("/{plugin}"), "")];
            store.keep_routes(plugin, &routes).await.unwrap();
        }
        store.disable(&a, &[]).await.unwrap();
        store.keep_routes(&a, &[route("/only", "")]).await.unwrap();
        assert!(
            !store.is_enabled(&a).await.unwrap(),
            "not switched on by it"
        );
        let all = store.routes_of_all().await.unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|kept| (kept.plugin.as_str(), kept.enabled, kept.routes.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                ("b", true, vec![route("/checkout", ""), route("/b", "")]),
                ("a", false, vec![route("/only", "")]),
            ]
        );
        store.forget_plugin(&b).await.unwrap();
        store.plugin_number(&b).await.unwrap();
        assert_eq!(store.routes(&b).await.unwrap(), []);
        store.forget_plugin(&a).await.unwrap();
        assert_eq!(store.routes(&a).await.unwrap(), [route("/only", "")]);
    }
}
