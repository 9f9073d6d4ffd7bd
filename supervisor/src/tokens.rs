//! Who a bearer token stands for: answered from memory, kept in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::admin::dto::{CreatedToken, NewToken, TokenView};
use pinfold_gateway::token::{TokenHash, TokenRecord};
use pinfold_gateway::{Tokens, TokensError};
use pinfold_policy::User;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::store::tokens::CreateTokenError;
use crate::store::{Store, StoreError};

/// Time between two looks for tokens that have expired.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// By hash.
type Known = HashMap<[u8; 32], Token>;

/// A token, and the user for whom it stands, made once for all requests.
#[derive(Clone)]
struct Token {
    record: TokenRecord,
    user: Arc<User>,
}

impl Token {
    fn of(record: TokenRecord) -> Self {
        Self {
            user: Arc::new(record.to_user()),
            record,
        }
    }
}

/// The tokens that are known. A request reads one snapshot; a change commits first and then swaps
/// the snapshot whole.
///
/// A change that is dropped between the two leaves a revoked token valid until the next start:
/// whoever makes one runs it in a task of its own, to its end.
pub(crate) struct KnownTokens {
    store: Store,
    known: ArcSwap<Known>,
    /// Held from the commit to the swap, so that what is known never differs from the last commit:
    /// a token cannot be revoked before its making has become known.
    changing: Mutex<()>,
    /// The latest time that was seen, in milliseconds since 1970: for a token's end the clock only
    /// goes forward.
    latest: AtomicI64,
}

impl KnownTokens {
    pub(crate) async fn load(store: Store) -> Result<Self, StoreError> {
        let known = Self {
            store,
            known: ArcSwap::default(),
            changing: Mutex::new(()),
            latest: AtomicI64::new(0),
        };
        known.store.end_expired(known.now(Utc::now())).await?;
        let records = known.store.token_records().await?;
        let records = records.into_iter();
        let records = records.map(|record| (*record.hash.as_bytes(), Token::of(record)));
        known.known.store(records.collect::<Known>().into());
        Ok(known)
    }

    /// Ends expired tokens in the store too, again and again until `stop`: they stay so when the
    /// clock is set back and the daemon starts anew.
    pub(crate) async fn keep_ended(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.store.end_expired(self.now(Utc::now())).await {
                tracing::warn!(error = %Chain(&error), "expired tokens not ended in the store yet");
            }
        }
    }

    /// The time by which a token's end is judged: `clock`, or what was seen before if that is later.
    fn now(&self, clock: DateTime<Utc>) -> DateTime<Utc> {
        let millis = clock.timestamp_millis();
        // Most looks are within the same millisecond: those write nothing that others read.
        let mut before = self.latest.load(Ordering::Relaxed);
        if before < millis {
            before = self.latest.fetch_max(millis, Ordering::Relaxed);
        }
        if before <= millis {
            return clock;
        }
        DateTime::from_timestamp_millis(before).unwrap_or(clock)
    }

    /// Whom a token stands for, by this clock.
    fn user(&self, token: &str, clock: DateTime<Utc>) -> Option<Arc<User>> {
        let hash = TokenHash::of(token);
        let known = self.known.load();
        let token = known
            .get(hash.as_bytes())
            .filter(|token| token.record.accepts(&hash, self.now(clock)));
        token.map(|token| Arc::clone(&token.user))
    }

    /// Makes a token and lets it in.
    pub(crate) async fn create(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        let _changing = self.changing.lock().await;
        self.make(wanted, actor).await
    }

    async fn make(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        let created = self.store.create_token(wanted, actor).await?;
        let token = Token::of(record(&created));
        // It is committed: known here too, without anything more that can fail.
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.insert(*token.record.hash.as_bytes(), token.clone());
            known
        });
        Ok(created)
    }

    /// Makes a token in place of the one that had its name.
    pub(crate) async fn recreate(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        let _changing = self.changing.lock().await;
        self.store.remove_token_named(&wanted.name).await?;
        self.forget(|record| record.name == wanted.name);
        self.make(wanted, actor).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<TokenView>, StoreError> {
        self.store.tokens().await
    }

    /// Ends a token; `false` where none has that id.
    pub(crate) async fn revoke(&self, id: &str, actor: String) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let found = self.store.revoke_token(id, actor).await?;
        self.forget(|record| record.id == id);
        Ok(found)
    }

    fn forget(&self, is_it: impl Fn(&TokenRecord) -> bool) {
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.retain(|_, token| !is_it(&token.record));
            known
        });
    }
}

/// What is kept of a token that was just made.
fn record(created: &CreatedToken) -> TokenRecord {
    let TokenView {
        id,
        name,
        user,
        roles,
        created: made,
        expires,
        revoked,
    } = created.view.clone();
    TokenRecord {
        id,
        name,
        user,
        roles,
        hash: TokenHash::of(&created.token),
        created: made,
        expires,
        revoked,
    }
}

impl Tokens for KnownTokens {
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<User>>, TokensError>> {
        futures_util::future::ready(Ok(self.user(token, Utc::now()))).boxed()
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

    #[tokio::test]
    async fn an_expired_token_stays_so_when_the_clock_is_set_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        let start = Utc::now();
        let after = |seconds| start + chrono::Duration::seconds(seconds);
        let tokens = KnownTokens::load(store.clone()).await.unwrap();
        let wanted = |name: &str| NewToken {
            name: name.into(),
            user: "ann".into(),
            roles: vec![],
            expires: Some(after(60)),
        };
        let seen = tokens.create(wanted("seen"), "uid:0".into()).await.unwrap();
        assert!(tokens.user(&seen.token, after(59)).is_some());
        assert!(tokens.user(&seen.token, after(61)).is_none());
        assert!(tokens.user(&seen.token, after(5)).is_none(), "set back");
        // Neither after a restart, once it was ended in the store.
        let again = KnownTokens::load(store.clone()).await.unwrap();
        assert!(again.user(&seen.token, after(5)).is_some());
        assert_eq!(store.end_expired(after(59)).await.unwrap(), 0);
        assert_eq!(store.end_expired(after(61)).await.unwrap(), 1);
        assert_eq!(store.end_expired(after(61)).await.unwrap(), 0);
        let again = KnownTokens::load(store).await.unwrap();
        assert!(again.user(&seen.token, after(5)).is_none());
    }
}
