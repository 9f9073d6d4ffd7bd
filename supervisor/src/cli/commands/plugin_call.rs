//! `pinfold plugin call`: one function of a plugin, its result as it gave it.

use std::io::{self, Read as _};

use bytes::Bytes;
use pinfold_policy::PluginId;
use serde::de::IgnoredAny;

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};

/// Most bytes of arguments read from standard input: the daemon's own limit is lower.
const ARGUMENTS_LIMIT_BYTES: u64 = 64 << 20;

/// Arguments that cannot be sent.
#[derive(Debug, thiserror::Error)]
enum ArgumentsError {
    #[error("read arguments from standard input")]
    Read(#[source] io::Error),
    #[error("over {ARGUMENTS_LIMIT_BYTES} bytes of arguments on standard input")]
    TooLarge,
    #[error("the arguments are not JSON")]
    Json(#[source] serde_json::Error),
}

impl From<ArgumentsError> for Failure {
    fn from(error: ArgumentsError) -> Self {
        match error {
            ArgumentsError::Read(_) => Self::new(Exit::Io, error),
            ArgumentsError::TooLarge => Self::new(Exit::Data, error),
            ArgumentsError::Json(_) => Self::new(Exit::Usage, error)
                .hint("quote them for the shell: '{\"name\": \"Ann\"}'"),
        }
    }
}

pub(super) async fn run(
    context: &Context,
    plugin: &PluginId,
    function: &str,
    arguments: Option<String>,
) -> Result<(), Failure> {
    let arguments = match arguments.as_deref() {
        None => Bytes::new(),
        Some("-") => read(io::stdin().lock())?,
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
    };
    check(&arguments)?;
    let result = context.client.call(plugin, function, arguments).await?;
    Ok(context.output.raw_json(&result)?)
}

fn read(input: impl io::Read) -> Result<Bytes, ArgumentsError> {
    let mut bytes = Vec::new();
    input
        .take(ARGUMENTS_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(ArgumentsError::Read)?;
    if bytes.len() as u64 > ARGUMENTS_LIMIT_BYTES {
        return Err(ArgumentsError::TooLarge);
    }
    Ok(bytes.into())
}

/// None at all is an empty object, which the daemon knows.
fn check(arguments: &[u8]) -> Result<(), ArgumentsError> {
    if arguments.is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<IgnoredAny>(arguments)
        .map(|_| ())
        .map_err(ArgumentsError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_wrong_usage() {
        check(b"").unwrap();
        check(b" {\"a\": [1]} ").unwrap();
        let failure = Failure::from(check(b"{a: 1}").unwrap_err());
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.hint_text().is_some());
    }

    #[test]
    fn endless_input_is_refused() {
        assert!(matches!(
            read(io::repeat(b' ')),
            Err(ArgumentsError::TooLarge)
        ));
    }
}
