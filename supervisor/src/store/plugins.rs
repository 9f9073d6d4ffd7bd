//! In which order plugins were first seen: of two that declare the same route, the elder keeps it.

use pinfold_policy::PluginId;

use super::{Store, StoreError, failed};

impl Store {
    /// The plugin's number, given to it where it has none yet.
    pub(crate) async fn plugin_number(&self, plugin: &PluginId) -> Result<i64, StoreError> {
        let operation = "number a plugin";
        sqlx::query("INSERT OR IGNORE INTO plugin (id) VALUES (?)")
            .bind(plugin.as_str())
            .execute(&self.pool)
            .await
            .map_err(failed(operation))?;
        sqlx::query_scalar("SELECT number FROM plugin WHERE id = ?")
            .bind(plugin.as_str())
            .fetch_one(&self.pool)
            .await
            .map_err(failed(operation))
    }

    /// Gives the number of a plugin up: should it come again, it is the youngest.
    pub(crate) async fn forget_plugin(&self, plugin: &PluginId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM plugin WHERE id = ?")
            .bind(plugin.as_str())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(failed("forget a plugin"))
    }
}

#[cfg(test)]
mod tests {
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
}
