//! `pinfold token`: bearer tokens for the gateway.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    let token = read(&path).map_err(|source| PrintError::Read { path, source })?;
    if context.output.is_json() {
        return Ok(context
            .output
            .json(&serde_json::json!({ "token": token }))?);
    }
    let mut page = Page::default();
    page.line(token);
    Ok(context.output.page(&page)?)
}

/// Longer than any token.
const TOKEN_LIMIT_BYTES: u64 = 128;

/// Reads the token that the daemon left. The file lies where the daemon can write, and root may be
/// the one who reads: no link is followed, nothing is waited for, and what is no token is not given
/// out, for the next thing that happens to it is to be sent to the daemon.
fn read(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let mut text = String::new();
    file.take(TOKEN_LIMIT_BYTES).read_to_string(&mut text)?;
    let token = text.trim();
    let shaped = token
        .strip_prefix("pf_")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit()));
    if shaped {
        Ok(token.to_owned())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it is no token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_in_a_file_of_its_own_is_read() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("development-token");
        std::fs::write(&path, "pf_00ff\n").unwrap();
        assert_eq!(read(&path).unwrap(), "pf_00ff");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
        for secret in ["root:x:0:0", "pf_", "pf_00ff\nroot:x:0:0"] {
            std::fs::write(&path, secret).unwrap();
            assert!(read(&path).is_err(), "{secret}");
        }
        let pipe = base.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(&pipe).is_err());
    }

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
