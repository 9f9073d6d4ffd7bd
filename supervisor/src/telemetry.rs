//! Where the daemon's own log lines go: standard error, as text for people or as JSON, or the system's
//! journal.

mod journal;
mod lines;
mod message;

use std::io::IsTerminal as _;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogFormat;

use self::journal::Journal;
use self::lines::Lines;
pub(crate) use self::lines::write_together;

/// A log filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}")]
pub struct FilterError {
    filter: String,
    #[source]
    source: ParseError,
}

/// The library that watches the plugin directory. It tells as news that a directory which is gone
/// cannot be given up: a filter that does not name it hears its errors alone.
const WATCHER: &str = "notify";

/// Under which the log tells what the audit trail has: the lines that the trail can be held against. A
/// filter that does not name it, whatever else it leaves out, lets them through.
const AUDIT: &str = "pinfold::audit";

/// What the journal takes for the priority of a line on standard error (sd-daemon(3)). It limits the lines of a
/// service by groups of priorities: those of the access log, of which clients can cause any number, are not to keep out
/// the audit trail's.
const DEBUG: &str = "<7>";

/// A log that is written, whose filter can be changed.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// Has the log go by another filter from now on.
    pub(crate) fn set(&self, filter: &str) -> Result<(), FilterError> {
        let parsed = parse(filter)?;
        // Gone is only a log that was never started.
        self.0.reload(parsed).unwrap_or_default();
        Ok(())
    }
}

/// Whether a filter can be read.
pub(crate) fn check(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

/// Starts logging. Called once, before the first thread.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<LogControl, FilterError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(text("")).init(),
        LogFormat::Json => registry.with(text("").json()).init(),
        LogFormat::Journal => match Journal::open() {
            Ok(journal) => {
                let waits = filter_fn(lines::may_wait as fn(&Metadata<'_>) -> bool);
                registry
                    .with(journal.with_filter(waits.clone().not()))
                    .with(text(DEBUG).without_time().with_filter(waits))
                    .init();
            }
            Err(error) => {
                registry.with(text("")).init();
                tracing::warn!(%error, "no journal, logging to standard error");
            }
        },
    }
    Ok(LogControl(handle))
}

type TextLayer<S> = fmt::Layer<S, fmt::format::DefaultFields, fmt::format::Format, Lines>;

fn text<S: Subscriber + for<'a> LookupSpan<'a>>(prefix: &'static str) -> TextLayer<S> {
    fmt::layer()
        .with_writer(Lines { prefix })
        .with_ansi(std::io::stderr().is_terminal())
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let failed = |source| FilterError {
        filter: filter.into(),
        source,
    };
    let mut parsed = EnvFilter::builder().parse(filter).map_err(failed)?;
    if !names(filter, WATCHER) {
        let quieter = format!("{WATCHER}=error").parse().map_err(failed)?;
        parsed = parsed.add_directive(quieter);
    }
    if !names(filter, AUDIT) {
        let told = format!("{AUDIT}=info").parse().map_err(failed)?;
        parsed = parsed.add_directive(told);
    }
    Ok(parsed)
}

/// Whether one of a filter's parts is about this very target, or some spans or fields of it.
fn names(filter: &str, target: &str) -> bool {
    filter.split(',').any(|part| {
        let named = part.split(['=', '[']).next();
        named.is_some_and(|named| named.trim() == target)
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    /// Whether a filter lets through what is told of the trail, and other lines of the same level.
    fn lets_through(filter: &str) -> (bool, bool) {
        let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            (
                tracing::enabled!(target: "pinfold::audit", Level::INFO, hash),
                tracing::enabled!(target: "pinfold::catalogue", Level::INFO),
            )
        })
    }

    #[test]
    fn what_is_told_of_the_audit_trail_is_left_out_by_name_alone() {
        for (filter, others) in [
            ("off", false),
            ("warn", false),
            ("pinfold=error", false),
            ("warn,pinfold::store=trace", false),
            ("off,pinfold::audit::x=off", false),
            ("off,pinfold::auditor=off", false),
            ("info", true),
            ("trace", true),
        ] {
            assert_eq!(lets_through(filter), (true, others), "{filter}");
        }
        for (filter, others) in [
            ("info,pinfold::audit=off", true),
            ("info,pinfold::audit[{hash}]=off", true),
            ("pinfold::audit=warn,info", true),
            ("off,pinfold::audit=error", false),
        ] {
            assert_eq!(lets_through(filter), (false, others), "{filter}");
        }
    }
}
