//! `pinfold token`: bearer tokens for the gateway.

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use pinfold_gateway::admin::dto::{CreatedToken, NewToken, TokenView};

use crate::cli::Context;
use crate::cli::args::TokenCommand;
use crate::cli::exit::{Exit, Failure, of_io};
use crate::cli::lifetime::Lifetime;
use crate::cli::output::{self, Page};
use crate::cli::time;

/// The token of a development installation is not to be had.
#[derive(Debug, thiserror::Error)]
enum PrintError {
    #[error("the installed service leaves no token")]
    Service,
    #[error("read the development token {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl From<PrintError> for Failure {
    fn from(error: PrintError) -> Self {
        match &error {
            PrintError::Service => Self::new(Exit::Usage, error)
                .hint("make one: pinfold token create NAME --user USER"),
            PrintError::Read { source, .. } => {
                let exit = of_io(Exit::Unavailable, source);
                let hint = if exit == Exit::NoPermission {
                    "run it with sudo"
                } else {
                    "start the daemon with `make run`: it leaves one"
                };
                Self::new(exit, error).hint(hint)
            }
        }
    }
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create {
            name,
            user,
            roles,
            expires,
        } => {
            let token = NewToken {
                name,
                user,
                roles,
                expires: expires.and_then(|lifetime| end(lifetime, Utc::now())),
            };
            create(context, &token).await
        }
        TokenCommand::List => {
            let tokens = context.client.tokens().await?;
            Ok(context
                .output
                .give(&tokens, |tokens| page(tokens, Utc::now()))?)
        }
        TokenCommand::Revoke { id } => {
            context.client.revoke_token(&id).await?;
            if context.output.is_json() {
                context.output.json(&serde_json::json!({ "revoked": id }))?;
            } else {
                output::note(&format!("token {id} is revoked"));
            }
            Ok(())
        }
        TokenCommand::Print => print(context),
    }
}

fn end(Lifetime(lifetime): Lifetime, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(lifetime).ok()?)
}

/// The token alone on standard output, so that `TOKEN=$(…)` takes it.
async fn create(context: &Context, token: &NewToken) -> Result<(), Failure> {
    let created = context.client.create_token(token).await?;
    if context.output.is_json() {
        return Ok(context.output.json(&created)?);
    }
    let CreatedToken { token, view } = &created;
    let expires = view.expires.map_or_else(
        || "until it is revoked".to_owned(),
        |end| format!("until {}", time::exact(end)),
    );
    output::note(&format!(
        "token {} ({}) for user {}, {expires}; it is shown this once:",
        view.name, view.id, view.user
    ));
    let mut page = Page::default();
    page.line(token);
    Ok(context.output.page(&page)?)
}

fn page(tokens: &[TokenView], now: DateTime<Utc>) -> Page {
    let mut page = Page::default();
    if tokens.is_empty() {
        page.line("There are no tokens: `pinfold token create NAME --user USER` makes one.");
        return page;
    }
    page.table(
        ["ID", "NAME", "USER", "ROLES", "STATE", "CREATED", "EXPIRES"],
        tokens.iter().map(|token| {
            [
                token.id.clone(),
                token.name.clone(),
                token.user.clone(),
                token.roles.join(","),
                state(token, now).into(),
                time::exact(token.created),
                token.expires.map_or_else(|| "never".into(), time::exact),
            ]
        }),
    );
    page
}

fn state(token: &TokenView, now: DateTime<Utc>) -> &'static str {
    if token.revoked.is_some() {
        "revoked"
    } else if token.expires.is_some_and(|end| end <= now) {
        "expired"
    } else {
        "good"
    }
}

fn print(context: &Context) -> Result<(), Failure> {
    if !context.development {
        return Err(PrintError::Service.into());
    }
    let path = context.place.development_token();
    let token =
        std::fs::read_to_string(&path).map_err(|source| PrintError::Read { path, source })?;
    if context.output.is_json() {
        return Ok(context
            .output
            .json(&serde_json::json!({ "token": token.trim() }))?);
    }
    let mut page = Page::default();
    page.line(token.trim());
    Ok(context.output.page(&page)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_which_tokens_are_good() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let good = TokenView {
            id: "1".into(),
            name: "ci".into(),
            user: "ann".into(),
            roles: vec!["admin".into()],
            created: now,
            expires: None,
            revoked: None,
        };
        let expired = TokenView {
            expires: Some(now),
            ..good.clone()
        };
        let revoked = TokenView {
            revoked: Some(now),
            ..expired.clone()
        };
        let states: Vec<_> = [&good, &expired, &revoked]
            .map(|token| state(token, now))
            .into();
        assert_eq!(states, ["good", "expired", "revoked"]);
        let text = page(&[good], now).to_string();
        assert!(
            text.contains("ci    ann   admin  good   2023-11-14T22:13:20Z  never"),
            "{text}"
        );
    }

    #[test]
    fn a_lifetime_ends_after_its_length() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let lifetime: Lifetime = "30d".parse().unwrap();
        assert_eq!(end(lifetime, now), Some(now + TimeDelta::days(30)));
    }
}
