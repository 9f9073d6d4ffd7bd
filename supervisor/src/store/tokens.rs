//! Bearer tokens at rest: their hashes, and whom they stand for.

use chrono::{DateTime, Utc};
use pinfold_gateway::admin::dto::{BadToken, CreatedToken, NewToken, TokenView};
use pinfold_gateway::token::{NewTokenError, TokenHash, TokenRecord, new_token};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::{Store, StoreError, failed};

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateTokenError {
    #[error(transparent)]
    Bad(#[from] BadToken),
    #[error("a token is already named {name:?}: revoke it first, or choose another name")]
    Taken { name: String },
    #[error(transparent)]
    Random(#[from] NewTokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes a token and commits its hash, and the audit record of it, before it is given away.
    pub(crate) async fn create_token(
        &self,
        wanted: NewToken,
        actor: String,
    ) -> Result<CreatedToken, CreateTokenError> {
        wanted.check()?;
        let token = new_token()?;
        let view = TokenView {
            id: Uuid::now_v7().to_string(),
            name: wanted.name,
            user: wanted.user,
            roles: wanted.roles,
            created: Utc::now(),
            expires: wanted.expires,
            revoked: None,
        };
        let mut transaction = self.begin("store a token").await?;
        insert(&mut transaction, &view, TokenHash::of(token.expose())).await?;
        let subject = format!("{} for {}", view.name, view.user);
        let entry = Entry::admin(actor, "admin.token.create", subject);
        let told = audit::insert(&mut transaction, &entry).await?;
        transaction
            .commit()
            .await
            .map_err(failed("store a token"))?;
        told.tell();
        Ok(CreatedToken {
            token: token.expose().to_owned(),
            view,
        })
    }

    /// What is kept of every token.
    pub(crate) async fn token_records(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM token")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the tokens"))?;
        rows.iter()
            .map(record)
            .collect::<Result<_, _>>()
            .map_err(failed("read a token"))
    }

    /// Every token, newest first.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenView>, StoreError> {
        let rows = sqlx::query("SELECT * FROM token ORDER BY created DESC, id")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list tokens"))?;
        rows.iter()
            .map(view)
            .collect::<Result<_, _>>()
            .map_err(failed("read a token"))
    }

    /// Ends a token: `false` where none has that id.
    pub(crate) async fn revoke_token(&self, id: &str, actor: String) -> Result<bool, StoreError> {
        let operation = "revoke a token";
        let mut transaction = self.begin(operation).await?;
        let done = sqlx::query("UPDATE token SET revoked = coalesce(revoked, ?) WHERE id = ?")
            .bind(Utc::now().to_rfc3339())
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed(operation))?;
        let found = done.rows_affected() > 0;
        let mut told = None;
        if found {
            let entry = Entry::admin(actor, "admin.token.revoke", id.to_owned());
            told = Some(audit::insert(&mut transaction, &entry).await?);
        }
        transaction.commit().await.map_err(failed(operation))?;
        if let Some(told) = told {
            told.tell();
        }
        Ok(found)
    }

    /// Ends for good what has ended by itself until `now`: a clock that is set back later does not
    /// make it valid again. Gives how many there were.
    pub(crate) async fn end_expired(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let operation = "end the expired tokens";
        let over: Vec<String> = self
            .token_records()
            .await?
            .into_iter()
            .filter(|record| record.revoked.is_none() && !record.is_valid(now))
            .map(|record| record.id)
            .collect();
        if over.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.begin(operation).await?;
        let mut told = Vec::with_capacity(over.len());
        for id in &over {
            let ended =
                sqlx::query("UPDATE token SET revoked = expires WHERE id = ? AND revoked IS NULL")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed(operation))?;
            // Revoked meanwhile, and recorded so.
            if ended.rows_affected() == 0 {
                continue;
            }
            let entry = Entry::of_daemon("token.expire", id.clone());
            told.push(audit::insert(&mut transaction, &entry).await?);
        }
        transaction.commit().await.map_err(failed(operation))?;
        let count = told.len() as u64;
        told.into_iter().for_each(audit::Told::tell);
        Ok(count)
    }

    /// Removes a token by its name, so that the name can be given anew.
    pub(crate) async fn remove_token_named(&self, name: &str) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM token WHERE name = ?").bind(name);
        self.write("remove a token", delete).await.map(drop)
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    view: &TokenView,
    hash: TokenHash,
) -> Result<(), CreateTokenError> {
    let inserted = sqlx::query(
        "INSERT INTO token (id, name, user, roles, hash, created, expires)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&view.id)
    .bind(&view.name)
    .bind(&view.user)
    .bind(view.roles.join("\n"))
    .bind(hash.as_bytes().as_slice())
    .bind(view.created.to_rfc3339())
    .bind(view.expires.map(|time| time.to_rfc3339()))
    .execute(&mut *connection)
    .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_database_error()
                .is_some_and(|error| error.is_unique_violation()) =>
        {
            Err(CreateTokenError::Taken {
                name: view.name.clone(),
            })
        }
        Err(error) => Err(failed("store a token")(error).into()),
    }
}

fn view(row: &SqliteRow) -> Result<TokenView, sqlx::Error> {
    let roles: String = row.try_get("roles")?;
    let roles = roles
        .split('\n')
        .filter(|role| !role.is_empty())
        .map(str::to_owned)
        .collect();
    Ok(TokenView {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        user: row.try_get("user")?,
        roles,
        created: time(row.try_get("created")?)?,
        expires: row
            .try_get::<Option<String>, _>("expires")?
            .map(time)
            .transpose()?,
        revoked: row
            .try_get::<Option<String>, _>("revoked")?
            .map(time)
            .transpose()?,
    })
}

fn record(row: &SqliteRow) -> Result<TokenRecord, sqlx::Error> {
    let TokenView {
        id,
        name,
        user,
        roles,
        created,
        expires,
        revoked,
    } = view(row)?;
    let hash: Vec<u8> = row.try_get("hash")?;
    let hash = <[u8; 32]>::try_from(hash).map_err(|hash| sqlx::Error::ColumnDecode {
        index: "hash".into(),
        source: format!("{} bytes, 32 are expected", hash.len()).into(),
    })?;
    let hash = TokenHash::from_bytes(hash);
    Ok(TokenRecord {
        id,
        name,
        user,
        roles,
        hash,
        created,
        expires,
        revoked,
    })
}

fn time(text: String) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::parse_from_rfc3339(&text)
        .map(|time| time.to_utc())
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str) -> NewToken {
        NewToken {
            name: name.into(),
            user: "ann".into(),
            roles: vec!["admin".into()],
            expires: None,
        }
    }

    #[tokio::test]
    async fn a_tokens_text_is_nowhere_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pinfold.db");
        let store = Store::open(&path).await.unwrap();
        let made = store
            .create_token(wanted("ci"), "uid:0".into())
            .await
            .unwrap();
        let records = store.token_records().await.unwrap();
        assert!(
            records
                .iter()
                .any(|record| record.hash == TokenHash::of(&made.token))
        );
        assert!(!store.revoke_token("nobody", "uid:0".into()).await.unwrap());
        store.close().await;
        let bytes = std::fs::read(&path).unwrap();
        let secret = made.token.as_bytes();
        assert!(
            bytes.windows(3).any(|window| window == b"ann"),
            "what is kept is there"
        );
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }

    #[tokio::test]
    async fn a_name_is_given_once_and_must_be_plain() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("pinfold.db"))
            .await
            .unwrap();
        store
            .create_token(wanted("ci"), "uid:0".into())
            .await
            .unwrap();
        let again = store
            .create_token(wanted("ci"), "uid:0".into())
            .await
            .unwrap_err();
        assert!(matches!(again, CreateTokenError::Taken { .. }), "{again:?}");
        for name in ["", "a\nb", &"x".repeat(NewToken::NAME_LIMIT_BYTES + 1)] {
            assert!(
                store
                    .create_token(wanted(name), "uid:0".into())
                    .await
                    .is_err()
            );
        }
    }
}
