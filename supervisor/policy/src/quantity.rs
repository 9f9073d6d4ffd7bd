//! Sizes, shares and spans of time as an operator writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {expected}")]
pub struct QuantityError {
    what: &'static str,
    text: String,
    expected: &'static str,
}

fn refuse(what: &'static str, text: &str, expected: &'static str) -> QuantityError {
    QuantityError {
        what,
        text: text.chars().take(40).collect(),
        expected,
    }
}

/// A number of bytes, written `64KiB`, `256MiB`, `1GiB` or a bare number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many binary megabytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }
}

const BYTE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || refuse("size", text, "write a whole number with KiB, MiB or GiB");
        let (digits, unit) = BYTE_UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, *unit)))
            .unwrap_or((text, 1));
        let digits = digits.trim_end_matches(' ');
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(unit).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = BYTE_UNITS
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .unwrap_or(&BYTE_UNITS[3]);
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// A share of processor time: `100%` is one processor, `50%` half of one, `200%` two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuShare {
    /// Per cent of one processor, 1 to 100,000.
    pub percent: u32,
}

impl FromStr for CpuShare {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            refuse(
                "processor share",
                text,
                "write 1% to 100000%, 100% is one processor",
            )
        };
        let digits = text.strip_suffix('%').ok_or_else(error)?;
        if !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(error());
        }
        match digits.parse() {
            Ok(percent @ 1..=100_000) => Ok(Self { percent }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

/// A span of time in Go's duration form (`30s`, `1m30s`, `500ms`, `1.5h`), never negative, at most
/// 366 days.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

const LONGEST_SPAN: Duration = Duration::from_secs(366 * 24 * 3600);

const TIME_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Span {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            refuse(
                "duration",
                text,
                "write numbers with ns, us, ms, s, m or h, as in 1m30s",
            )
        };
        let (mut rest, mut total) = (text, Duration::ZERO);
        if rest == "0" {
            return Ok(Self(total));
        }
        while !rest.is_empty() {
            let number_end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(error)?;
            let (number, after) = rest.split_at_checked(number_end).ok_or_else(error)?;
            let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.');
            let (unit, next) = after
                .split_at_checked(unit_end.unwrap_or(after.len()))
                .ok_or_else(error)?;
            let (_, nanos) = TIME_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(error)?;
            total = total
                .checked_add(part(number, *nanos).ok_or_else(error)?)
                .ok_or_else(error)?;
            rest = next;
        }
        if text.is_empty() || total > LONGEST_SPAN {
            return Err(error());
        }
        Ok(Self(total))
    }
}

/// `number` (decimal digits with at most one point) times a unit of `nanos` nanoseconds.
fn part(number: &str, nanos: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u64>().ok()
        }
    };
    let whole = digits(whole)?.checked_mul(nanos)?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = u128::from(digits(fraction)?) * u128::from(nanos) / scale;
    whole
        .checked_add(u64::try_from(fraction).ok()?)
        .map(Duration::from_nanos)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (name, unit) = [
            ("h", TIME_UNITS[6].1),
            ("m", TIME_UNITS[5].1),
            ("s", TIME_UNITS[4].1),
        ]
        .into_iter()
        .chain([("ms", TIME_UNITS[3].1), ("us", TIME_UNITS[1].1), ("ns", 1)])
        .find(|(_, unit)| nanos != 0 && nanos.is_multiple_of(u128::from(*unit)))
        .unwrap_or(("s", 1));
        write!(f, "{}{name}", nanos / u128::from(unit))
    }
}

macro_rules! text_form {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, Self::Error> { text.parse() }
        }
        impl From<$type> for String {
            fn from(quantity: $type) -> Self { quantity.to_string() }
        }
    )*};
}
text_form!(ByteSize, CpuShare, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_in_binary_units() {
        for (text, bytes, printed) in [
            ("256MiB", 268_435_456, "256MiB"),
            ("1024KiB", 1_048_576, "1MiB"),
            ("1500", 1500, "1500B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, printed));
        }
        for bad in ["", "MiB", "1MB", "-1", "1.5GiB", "99999999999GiB", "1 0KiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_follow_the_go_grammar() {
        for (text, nanos, printed) in [
            ("1m30s", 90_000_000_000, "90s"),
            ("1.5h", 5_400_000_000_000, "90m"),
            ("500ms", 500_000_000, "500ms"),
            ("250µs", 250_000, "250us"),
            ("0", 0, "0s"),
            (".5s", 500_000_000, "500ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.0.as_nanos(), span.to_string().as_str()),
                (nanos, printed),
                "{text}"
            );
        }
        for bad in ["", "30", "s", "-1s", "1x", "1..5s", "9999999h", "1s5", ".s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_per_cent_of_one_processor() {
        assert_eq!("150%".parse(), Ok(CpuShare { percent: 150 }));
        for bad in ["", "%", "0%", "100", "+5%", "100001%"] {
            assert!(bad.parse::<CpuShare>().is_err(), "{bad}");
        }
    }
}
