//! Times for people.

use chrono::{DateTime, SecondsFormat, Utc};

/// A time to the second, and how long ago that is: `2025-03-01T08:00:00Z (3h ago)`.
pub(super) fn with_age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ({} ago)", exact(time), age(time, now))
}

/// A time to the second.
pub(super) fn exact(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// How long ago a time is, in its largest unit: `3h`. Nothing is less than a second ago.
pub(super) fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - time).num_seconds().max(0);
    let (count, unit) = match seconds {
        0..120 => (seconds, 's'),
        120..7200 => (seconds / 60, 'm'),
        7200..172_800 => (seconds / 3600, 'h'),
        _ => (seconds / 86_400, 'd'),
    };
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_their_largest_unit() {
        let time = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (seconds, text) in [
            (-5, "0s"),
            (119, "119s"),
            (7199, "119m"),
            (7200, "2h"),
            (172_800, "2d"),
        ] {
            let now = time + chrono::TimeDelta::seconds(seconds);
            assert_eq!(age(time, now), text);
        }
        assert_eq!(with_age(time, time), "2023-11-14T22:13:20Z (0s ago)");
    }
}
