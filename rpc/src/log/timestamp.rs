//! hclog's times: microseconds in, milliseconds out.

/// What Go renders for no time at all.
pub(super) const ABSENT: &str = "0001-01-01T00:00:00.000Z";

/// Reads `YYYY-MM-DDThh:mm:ss.uuuuuu` with `Z` or `±hh:mm`, and renders it with milliseconds and `Z` or `±hhmm`.
pub(super) fn render(text: &str) -> Option<String> {
    let (date_time, zone) = text.split_at_checked(26)?;
    if !has_form(date_time, "dddd-dd-ddTdd:dd:dd.dddddd") {
        return None;
    }
    let part = |from: usize, to: usize| date_time.get(from..to)?.parse::<u16>().ok();
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let in_range = (1..=days(year, month)?).contains(&day)
        && part(11, 13)? < 24
        && part(14, 16)? < 60
        && part(17, 19)? < 60;
    let to_milliseconds = date_time.get(..23).filter(|_| in_range)?;
    Some(format!("{to_milliseconds}{}", render_zone(zone)?))
}

fn render_zone(zone: &str) -> Option<String> {
    if zone == "Z" {
        return Some(zone.to_owned());
    }
    if !has_form(zone, "+dd:dd") && !has_form(zone, "-dd:dd") {
        return None;
    }
    let (hours, minutes) = (zone.get(..3)?, zone.get(4..)?);
    match (hours.get(1..)?, minutes) {
        ("00", "00") => Some("Z".to_owned()),
        (hour, minute) if hour <= "24" && minute < "60" => Some(format!("{hours}{minutes}")),
        _ => None,
    }
}

/// Whether the text has this form, where `d` stands for a digit.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| match form {
        b'd' => byte.is_ascii_digit(),
        form => byte == form,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

fn days(year: u16, month: u16) -> Option<u16> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if leap => Some(29),
        2 => Some(28),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        assert!(render("2024-02-29T23:59:59.000000Z").is_some());
        assert_eq!(render("2023-02-29T00:00:00.000000Z"), None);
        assert_eq!(render("2024-13-01T00:00:00.000000Z"), None);
        assert_eq!(render("2024-01-01T24:00:00.000000Z"), None);
        assert_eq!(render("2024-01-01T00:00:00.00000éZ"), None);
    }

    #[test]
    fn no_offset_is_utc() {
        assert_eq!(
            render("2024-01-01T00:00:00.000999+00:00").as_deref(),
            Some("2024-01-01T00:00:00.000Z")
        );
    }
}
