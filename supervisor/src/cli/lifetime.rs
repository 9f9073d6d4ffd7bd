//! How long a token is good, as it is typed.

use std::str::FromStr;
use std::time::Duration;

/// How long a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime(pub(super) Duration);

/// Why a text is no lifetime.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a whole number of 1 or more with m, h, d or w, at most {MOST_DAYS}d: 12h, 30d")]
pub(super) struct LifetimeError;

/// Ten years: longer is for ever, which is said by leaving it out.
const MOST_DAYS: u64 = 3660;

impl FromStr for Lifetime {
    type Err = LifetimeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];
        let (number, unit_seconds) = units
            .into_iter()
            .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
            .ok_or(LifetimeError)?;
        // `parse` alone would take a sign.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(LifetimeError);
        }
        let number: u64 = number.parse().map_err(|_| LifetimeError)?;
        match number.checked_mul(unit_seconds) {
            Some(seconds @ 1..) if seconds <= MOST_DAYS * 86_400 => {
                Ok(Self(Duration::from_secs(seconds)))
            }
            _ => Err(LifetimeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [
            ("1m", 60),
            ("12h", 43_200),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(text.parse(), Ok(Lifetime(Duration::from_secs(seconds))));
        }
        for bad in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "+1d",
            "1.5h",
            "3661d",
            "99999999999999999999w",
        ] {
            assert_eq!(bad.parse::<Lifetime>(), Err(LifetimeError), "{bad}");
        }
    }
}
