//! A point in time as documents have it: to the second, in UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::value::{Date, Datetime, Offset, Time};

/// Seconds since 1970-01-01T00:00:00Z, up to the end of the year 9999. Written in TOML as an offset
/// date-time, `2027-01-31T12:00:00Z`; fractions of a second are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Datetime", into = "Datetime")]
pub struct Moment(u64);

/// Why a text is no point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time from 1970 to 9999: write 2027-01-31T12:00:00Z")]
pub struct MomentError {
    /// The text, cut at 80 characters.
    pub text: String,
}

const DAY: u64 = 24 * 60 * 60;

/// The first second of the year 10000.
const END: u64 = 253_402_300_800;

impl Moment {
    /// From seconds since 1970 in UTC; those beyond the year 9999 are its last.
    #[must_use]
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(if seconds < END { seconds } else { END - 1 })
    }

    /// Seconds since 1970 in UTC.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0
    }

    fn of(datetime: &Datetime) -> Option<Self> {
        let (date, time) = (datetime.date?, datetime.time?);
        let minutes = match datetime.offset? {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let of_day = i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second.unwrap_or(0));
        let seconds = days(date) * i64::try_from(DAY).ok()? + of_day - minutes * 60;
        let seconds = u64::try_from(seconds).ok()?;
        (seconds < END).then_some(Self(seconds))
    }
}

/// Days from 1970-01-01, by the Gregorian calendar: counted from a 1 March, so that the day that
/// comes and goes is the last of its year.
fn days(date: Date) -> i64 {
    let (month, day) = (i64::from(date.month), i64::from(date.day));
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day after 1970-01-01: [`days`] the other way round.
fn date(days: u64) -> Option<Date> {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    Some(Date {
        year: u16::try_from(era * 400 + year + u64::from(month <= 2)).ok()?,
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
    })
}

impl From<Moment> for Datetime {
    fn from(moment: Moment) -> Self {
        let of_day = moment.0 % DAY;
        let part = |value: u64| u8::try_from(value).unwrap_or(0);
        Self {
            date: date(moment.0 / DAY),
            time: Some(Time {
                hour: part(of_day / 3600),
                minute: part(of_day / 60 % 60),
                second: Some(part(of_day % 60)),
                nanosecond: None,
            }),
            offset: Some(Offset::Z),
        }
    }
}

impl TryFrom<Datetime> for Moment {
    type Error = MomentError;
    fn try_from(datetime: Datetime) -> Result<Self, Self::Error> {
        Self::of(&datetime).ok_or_else(|| MomentError {
            text: datetime.to_string(),
        })
    }
}

impl FromStr for Moment {
    type Err = MomentError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MomentError {
            text: text.chars().take(80).collect(),
        };
        let datetime: Datetime = text.parse().map_err(|_| error())?;
        Self::of(&datetime).ok_or_else(error)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Datetime::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_known_seconds() {
        // From date(1): date -u -d TEXT +%s
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-21T14:36:00Z", 1_795_271_760),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(text.parse(), Ok(Moment(seconds)), "{text}");
            assert_eq!(Moment(seconds).to_string(), text);
        }
        assert_eq!(
            "2026-11-21T15:36:00.9+01:00".parse(),
            Ok(Moment(1_795_271_760))
        );
        assert_eq!(Moment::from_unix_seconds(u64::MAX), Moment(END - 1));
    }

    #[test]
    fn what_is_no_time_with_a_zone_is_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T14:36:00",
            "1969-12-31T23:59:59Z",
            "2026-02-30T00:00:00Z",
            "soon",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_written_and_read_back(seconds in 0..END) {
            let moment = Moment(seconds);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }
}
