//! A watched run: a plugin in its whole jail, of which the launcher notes the system calls. Ordered by
//! a file in the launcher's own state directory, which only the launcher's owner can write.

mod record;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::document::{self, DocumentError, KnownKeys};

pub use record::{RecordError, WATCH_RECORD_LIMIT_BYTES, WatchHead, WatchRecord, WatchedCall};

/// Directory in the launcher's state directory that holds orders, `PLUGIN.toml`, and records,
/// `PLUGIN.N.calls`.
pub const WATCH_DIRECTORY: &str = "watch";

/// Most records of one plugin that lie there: as often may it start while it is watched.
pub const WATCH_RECORDS_LIMIT: u32 = 64;

/// Longest that a plugin is watched, in seconds, counted from when it starts: a run that somebody forgot
/// ends by itself.
pub const WATCH_LIMIT_SECONDS: u64 = 60 * 60;

/// An order to watch a plugin's instances: `PLUGIN.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WatchOrder {
    /// Version of this format: 1.
    pub schema: u32,
    /// What its records are told from others by: 1 to 32 lower-case letters and digits.
    pub run: String,
    /// When it is over, instances included; at most [`WATCH_LIMIT_SECONDS`] ahead.
    pub until: Moment,
}

/// Version of the order.
const SCHEMA: u32 = 1;
/// Longest name of a run.
const RUN_LIMIT_BYTES: usize = 32;
const KEYS: &KnownKeys = &[("", &["schema", "run", "until"])];

/// Why an order does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchOrderError {
    /// Not a document of this shape.
    #[error("{0}")]
    Document(DocumentError),
    /// Another version.
    #[error("schema {schema}, this version knows {SCHEMA}")]
    Schema {
        /// What it says.
        schema: u32,
    },
    /// No name of a run.
    #[error("run is to be 1 to {RUN_LIMIT_BYTES} lower-case letters and digits")]
    Run,
    /// Its time has come.
    #[error("it was over at {until}")]
    Over {
        /// When.
        until: Moment,
    },
    /// Longer than anybody is watched.
    #[error("it lasts until {until}, over {WATCH_LIMIT_SECONDS} seconds from now")]
    Long {
        /// When it would end.
        until: Moment,
    },
}

impl WatchOrder {
    /// An order for `seconds` from `now`.
    ///
    /// # Errors
    /// [`WatchOrderError`] for a name or a time that does not count.
    pub fn new(run: String, now: Moment, seconds: u64) -> Result<Self, WatchOrderError> {
        let until = Moment::from_unix_seconds(now.unix_seconds().saturating_add(seconds));
        let schema = SCHEMA;
        let order = Self { schema, run, until };
        order.check(now)?;
        Ok(order)
    }

    /// Reads an order, as of `now`.
    ///
    /// # Errors
    /// [`WatchOrderError`]; in particular where its time is over.
    pub fn parse(bytes: &[u8], now: Moment) -> Result<Self, WatchOrderError> {
        let order: Self = document::read(bytes, KEYS).map_err(WatchOrderError::Document)?;
        order.check(now)?;
        Ok(order)
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form")
    }

    fn check(&self, now: Moment) -> Result<(), WatchOrderError> {
        let until = self.until;
        let ahead = until.unix_seconds().checked_sub(now.unix_seconds());
        match ahead {
            _ if self.schema != SCHEMA => Err(WatchOrderError::Schema {
                schema: self.schema,
            }),
            _ if !is_run(&self.run) => Err(WatchOrderError::Run),
            None | Some(0) => Err(WatchOrderError::Over { until }),
            Some(ahead) if ahead > WATCH_LIMIT_SECONDS => Err(WatchOrderError::Long { until }),
            Some(_) => Ok(()),
        }
    }
}

/// Whether a text can be the name of a run.
fn is_run(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=RUN_LIMIT_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix_seconds(1_800_000_000);

    #[test]
    fn an_order_counts_for_as_long_as_it_says_and_no_longer_than_an_hour() {
        let order = WatchOrder::new("r1".into(), NOW, 60).unwrap();
        let text = order.to_toml();
        assert_eq!(WatchOrder::parse(text.as_bytes(), NOW), Ok(order.clone()));
        let late = Moment::from_unix_seconds(NOW.unix_seconds() + 60);
        let until = order.until;
        assert_eq!(
            WatchOrder::parse(text.as_bytes(), late),
            Err(WatchOrderError::Over { until })
        );
        let long = WatchOrder::new("r1".into(), NOW, WATCH_LIMIT_SECONDS + 1);
        assert!(matches!(long, Err(WatchOrderError::Long { .. })));
    }

    #[test]
    fn what_is_no_order_is_refused_with_the_reason() {
        for run in ["", "R", "a/b", &"x".repeat(33)] {
            let refused = WatchOrder::new(run.into(), NOW, 60);
            assert_eq!(refused, Err(WatchOrderError::Run), "{run}");
        }
        let text = WatchOrder::new("r1".into(), NOW, 60).unwrap().to_toml();
        let newer = text.replace("schema = 1", "schema = 2");
        assert_eq!(
            WatchOrder::parse(newer.as_bytes(), NOW),
            Err(WatchOrderError::Schema { schema: 2 })
        );
        let unknown = format!("{text}unconfined = true\n");
        assert!(matches!(
            WatchOrder::parse(unknown.as_bytes(), NOW),
            Err(WatchOrderError::Document(DocumentError::Key { .. }))
        ));
    }
}
