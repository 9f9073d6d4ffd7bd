//! Numbers for people: three digits that count, thousands apart.

use crate::bench::record::Spread;

/// A figure with three or four digits that count: `73,149`, `177`, `13.5`, `0.85`.
pub(in super::super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1000.0 || value.fract() == 0.0 {
        return thousands(&format!("{value:.0}"));
    }
    let decimals = match size {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// The median, and the range of the rounds where there was one.
pub(super) fn spread(spread: Option<Spread>) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return "–".to_owned();
    };
    let (median, min, max) = (number(median), number(min), number(max));
    if min == max {
        median
    } else {
        format!("{median} ({min} to {max})")
    }
}

/// A ratio, in bold, with the range of the rounds.
pub(super) fn ratio(spread: Option<Spread>) -> String {
    let Some(Spread { min, median, max }) = spread else {
        return "–".to_owned();
    };
    if format!("{min:.2}") == format!("{max:.2}") {
        format!("**{median:.2}**")
    } else {
        format!("**{median:.2}** ({min:.2} to {max:.2})")
    }
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits),
    };
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let cases = [
            (73_149.4, "73,149"),
            (1_234_567.0, "1,234,567"),
            (999.4, "999"),
            (8.0, "8"),
            (13.49, "13.5"),
            (0.851, "0.85"),
            (0.0, "0"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
