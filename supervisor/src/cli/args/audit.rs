//! `pinfold audit`.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use pinfold_policy::{Digest, PluginId};

use crate::cli::lifetime::Lifetime;
use crate::store::audit::chain::Part;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditCommand {
    /// What was done and refused: the latest records of the trail, newest last
    List(AuditListArguments),
    /// Whether the trail is whole: no record altered, removed, put in or moved
    ///
    /// Reads the daemon's database, beside a daemon that runs or without one. Ends with status 1 and
    /// names the first record that does not fit; with any other status where it cannot be told.
    Verify {
        /// A record that was seen before, in the journal or from `audit head`: has to be there as it
        /// was. Finds an end that was cut off. With its part before it, `control:NUMBER:HASH`, it can
        /// also be told whether one that is old was removed or taken away as such. May be given again
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Vec<Expected>,
    },
    /// Where the trail ends now: to be kept elsewhere, for `audit verify --expect`
    Head,
}

/// Which records are wanted.
#[derive(Debug, Args)]
pub(in crate::cli) struct AuditListArguments {
    /// Most records; the latest are shown
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(in crate::cli) limit: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// Only those since then: a time such as 2026-11-21T09:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<Since>,
    /// Only those of this actor; `*` is a wildcard: `plugin:*`, `user:ann`, `uid:0*`
    #[arg(long, value_name = "ACTOR")]
    pub(in crate::cli) actor: Option<String>,
    /// Only this action; `*` is a wildcard: `admin.*`, `plugin.start`
    #[arg(long, value_name = "ACTION")]
    pub(in crate::cli) action: Option<String>,
    /// Only those about this plugin, or of it
    #[arg(long, value_name = "PLUGIN")]
    pub(in crate::cli) plugin: Option<PluginId>,
    /// Only those with this decision
    #[arg(long, value_name = "DECISION", value_parser = ["allow", "deny", "limit", "error"])]
    pub(in crate::cli) decision: Option<String>,
}

/// A record that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Expected {
    /// Its part, where that was given.
    pub(in crate::cli) part: Option<Part>,
    pub(in crate::cli) number: i64,
    pub(in crate::cli) hash: Digest,
}

/// Why a text names no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the record's number, a colon and its hash, as `audit head` shows them, with `control:` or \
     `traffic:` before them where its part is known"
)]
pub(in crate::cli) struct ExpectedError;

impl FromStr for Expected {
    type Err = ExpectedError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, rest) = text.split_once(':').ok_or(ExpectedError)?;
        let part = Part::named(first);
        let (number, hash) = match part {
            Some(_) => rest.split_once(':').ok_or(ExpectedError)?,
            None => (first, rest),
        };
        Ok(Self {
            part,
            number: number.parse().map_err(|_| ExpectedError)?,
            hash: hash.parse().map_err(|_| ExpectedError)?,
        })
    }
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Since {
    Time(DateTime<Utc>),
    Ago(TimeDelta),
}

/// Why a text is no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a time such as 2026-11-21T09:00:00Z, or how long ago: 30m, 2h, 7d")]
pub(in crate::cli) struct SinceError;

impl FromStr for Since {
    type Err = SinceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.to_utc()));
        }
        let Lifetime(ago) = text.parse().map_err(|_| SinceError)?;
        TimeDelta::from_std(ago)
            .map(Self::Ago)
            .map_err(|_| SinceError)
    }
}

impl Since {
    pub(in crate::cli) fn time(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Time(time) => time,
            Self::Ago(ago) => now.checked_sub_signed(ago).unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_its_number_and_hash_and_its_part_where_that_is_known() {
        let hash = format!("sha256:{}", "ab".repeat(32));
        for (before, part) in [
            ("", None),
            ("control:", Some(Part::Control)),
            ("traffic:", Some(Part::Traffic)),
        ] {
            let expected: Expected = format!("{before}12:{hash}").parse().unwrap();
            assert_eq!((expected.part, expected.number), (part, 12));
            assert_eq!(expected.hash.to_string(), hash);
        }
        for wrong in [
            "",
            "12",
            "12:abc",
            "x:sha256:00",
            "control",
            "control:12",
            &format!("control:{hash}"),
            &format!("other:12:{hash}"),
            &format!("control:traffic:12:{hash}"),
        ] {
            assert_eq!(wrong.parse::<Expected>(), Err(ExpectedError), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_one_or_so_long_ago() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let since = |text: &str| {
            text.parse::<Since>()
                .map(|since| since.time(now).timestamp())
        };
        assert_eq!(since("2h"), Ok(1_000_000 - 7200));
        assert_eq!(since("1970-01-01T00:00:05+00:00"), Ok(5));
        assert_eq!(since("yesterday"), Err(SinceError));
    }
}
