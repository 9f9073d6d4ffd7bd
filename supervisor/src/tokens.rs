//! Who a bearer token stands for: answered from memory, kept in the store.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use chrono::Utc;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::admin::dto::{CreatedToken, NewToken, TokenView};
use pinfold_gateway::token::{TokenHash, TokenRecord};
use pinfold_gateway::{Tokens, TokensError};
use pinfold_policy::User;

use crate::store::tokens::CreateTokenError;
use crate::store::{Store, StoreError};

type Known = HashMap<[u8; 32], TokenRecord>;

/// The tokens that are known. A request reads one snapshot; a change commits first and then swaps
/// the snapshot whole.
pub(crate) struct KnownTokens {
    store: Store,
    known: ArcSwap<Known>,
}

impl KnownTokens {
    pub(crate) async fn load(store: Store) -> Result<Self, StoreError> {
        let known = Self {
            store,
            known: ArcSwap::default(),
        };
        known.reload().await?;
        Ok(known)
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let records = self.store.token_records().await?;
        let known: Known = records
            .into_iter()
            .map(|record| (*record.hash.as_bytes(), record))
            .collect();
        self.known.store(known.into());
        Ok(())
    }

    pub(crate) async fn create(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        let created = self.store.create_token(wanted, actor).await?;
        self.reload().await?;
        Ok(created)
    }

    /// Makes a token in place of the one that had its name.
    pub(crate) async fn recreate(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        self.store.remove_token_named(&wanted.name).await?;
        self.create(wanted, actor).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<TokenView>, StoreError> {
        self.store.tokens().await
    }

    pub(crate) async fn revoke(&self, id: &str, actor: String) -> Result<bool, StoreError> {
        let found = self.store.revoke_token(id, actor).await?;
        self.reload().await?;
        Ok(found)
    }
}

impl Tokens for KnownTokens {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, TokensError>> {
        let hash = TokenHash::of(token);
        let known = self.known.load();
        let record = known
            .get(hash.as_bytes())
            .filter(|record| record.accepts(&hash, Utc::now()));
        futures_util::future::ready(Ok(record.map(TokenRecord::to_user))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_accepted_from_its_making_to_its_revocation() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let tokens = KnownTokens::load(store.clone()).await.unwrap();
        let wanted = NewToken {
            name: "ci".into(),
            user: "ann".into(),
            roles: vec![],
            expires: None,
        };
        let made = tokens.create(wanted.clone(), "uid:0".into()).await.unwrap();
        let user = tokens.authenticate(&made.token).await.unwrap().unwrap();
        assert_eq!((user.id.as_str(), user.is_admin()), ("ann", false));
        assert_eq!(tokens.authenticate("pf_00").await, Ok(None));
        let again = KnownTokens::load(store).await.unwrap();
        assert!(
            again.authenticate(&made.token).await.unwrap().is_some(),
            "after a restart"
        );
        assert!(tokens.revoke(&made.view.id, "uid:0".into()).await.unwrap());
        assert_eq!(tokens.authenticate(&made.token).await, Ok(None));
        let newer = tokens.recreate(wanted, "uid:0".into()).await.unwrap();
        assert!(tokens.authenticate(&newer.token).await.unwrap().is_some());
    }
}
