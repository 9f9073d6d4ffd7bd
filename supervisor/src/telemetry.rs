//! Where the daemon's own log lines go: standard error, as text for people or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

/// A log filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}")]
pub(crate) struct FilterError {
    filter: String,
    #[source]
    source: ParseError,
}

/// Starts logging. Called once, before the first thread.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), FilterError> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| FilterError {
            filter: filter.into(),
            source,
        })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
