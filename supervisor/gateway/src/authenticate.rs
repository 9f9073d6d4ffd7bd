//! Step 2: who asks. A bearer token becomes a user; no token is nobody; a token that is not
//! accepted ends the request.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use pinfold_policy::User;

use crate::audit::Actor;
use crate::refusal::Refusal;
use crate::token::{Secret, TOKEN_LIMIT_BYTES};

/// Who knows which token stands for whom.
pub trait Tokens: Send + Sync + 'static {
    /// The user for whom this token stands; `None` where it is unknown, ended or revoked.
    ///
    /// # Errors
    /// [`TokensError`] where that cannot be found out now.
    fn authenticate<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<User>>, TokensError>>;
}

/// It could not be found out whether a token is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("look up token: {cause}")]
pub struct TokensError {
    /// Why, for the operator.
    pub cause: String,
}

/// Finds out who sent a request.
pub(crate) async fn authenticate(
    tokens: &dyn Tokens,
    headers: &HeaderMap,
) -> Result<Actor, Refusal> {
    let Some(token) = bearer_token(headers)? else {
        return Ok(Actor::Anonymous);
    };
    match tokens.authenticate(token).await {
        Ok(Some(user)) => Ok(Actor::User(user)),
        Ok(None) => Err(Refusal::TokenRefused),
        Err(error) => Err(Refusal::TokensUnavailable(error)),
    }
}

/// The token by which an answer that goes on was asked for: it is looked at again while that lasts.
#[derive(Clone)]
pub(crate) struct Credential {
    tokens: Arc<dyn Tokens>,
    token: Secret,
}

impl Credential {
    /// That of a request; `None` where it has no token of ours.
    pub(crate) fn of(tokens: &Arc<dyn Tokens>, headers: &HeaderMap) -> Option<Self> {
        let token = bearer_token(headers).ok()??;
        Some(Self {
            tokens: Arc::clone(tokens),
            token: Secret::new(token.to_owned()),
        })
    }

    /// Whether it still is an administrator's. Where that cannot be found out it is not.
    pub(crate) async fn is_administrators(&self) -> bool {
        let user = self.tokens.authenticate(self.token.expose()).await;
        matches!(user, Ok(Some(user)) if user.is_admin())
    }
}

/// The token of an `Authorization: Bearer` header (RFC 6750). Another scheme is no token of ours:
/// a proxy in front may use one for itself.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::TokenRefused);
    }
    let value = value.to_str().map_err(|_| Refusal::TokenRefused)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim();
    if token.is_empty() || token.len() > TOKEN_LIMIT_BYTES || token.contains(' ') {
        return Err(Refusal::TokenRefused);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer_token(&headers)
            .map(|token| token.map(str::to_owned))
            .map_err(|_| ())
    }

    #[test]
    fn one_bearer_token_is_read() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(read(&["bearer  abc "]), Ok(Some("abc".into())));
        assert_eq!(read(&["Basic YTpi"]), Ok(None));
    }

    #[test]
    fn odd_credentials_are_refused_not_ignored() {
        assert_eq!(read(&["Bearer"]), Err(()));
        assert_eq!(read(&["Bearer "]), Err(()));
        assert_eq!(read(&["Bearer a b"]), Err(()));
        assert_eq!(read(&["Bearer a", "Bearer b"]), Err(()));
        assert_eq!(read(&["Basic YTpi", "Bearer b"]), Err(()));
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(513))]), Err(()));
    }
}
