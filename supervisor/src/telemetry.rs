//! Where the daemon's own log lines go: standard error, as text for people or as JSON.

mod lines;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::LogFormat;

use self::lines::Lines;
pub(crate) use self::lines::write_together;

/// A log filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}")]
pub(crate) struct FilterError {
    filter: String,
    #[source]
    source: ParseError,
}

/// The library that watches the plugin directory. It tells as news that a directory which is gone
/// cannot be given up: a filter that does not name it hears its errors alone.
const WATCHER: &str = "notify";

/// Starts logging. Called once, before the first thread.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), FilterError> {
    let failed = |source| FilterError {
        filter: filter.into(),
        source,
    };
    let mut parsed = EnvFilter::builder().parse(filter).map_err(failed)?;
    if !filter.contains(WATCHER) {
        let quieter = format!("{WATCHER}=error").parse().map_err(failed)?;
        parsed = parsed.add_directive(quieter);
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(Lines)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
