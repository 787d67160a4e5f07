//! Reads the timestamps of files.
//!
//! RFC 3339 with any offset, the same without an offset (taken as UTC) or with a blank for the
//! `T`, and Unix time in seconds (with a fraction, too), milliseconds, microseconds or
//! nanoseconds, told apart by size.

use lanecast_telemetry::limits::{TIME_MS_MAX, TIME_MS_MIN};

/// Milliseconds of the Unix epoch, rounded down. `None` is no timestamp, or one out of range.
pub(crate) fn parse_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let ms = match text.as_bytes() {
        [_, _, _, _, b'-', ..] => civil_ms(text)?,
        _ => unix_ms(text)?,
    };
    (TIME_MS_MIN..=TIME_MS_MAX).contains(&ms).then_some(ms)
}

fn civil_ms(text: &str) -> Option<i64> {
    if let Some(ms) = utc_ms(text.as_bytes()) {
        return Some(ms);
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// The form that exporters write, `2025-07-18T20:42:34Z` and with three digits of fraction, which
/// is read once per row and so worth a shortcut.
fn utc_ms(text: &[u8]) -> Option<i64> {
    let (time, ms) = match text.len() {
        20 if text[19] == b'Z' => (text, 0),
        24 if text[19] == b'.' && text[23] == b'Z' => (text, digits(&text[20..23])?),
        _ => return None,
    };
    let separated = time[4] == b'-'
        && time[7] == b'-'
        && time[10] == b'T'
        && time[13] == b':'
        && time[16] == b':';
    let (year, month, day) = (digits(&time[..4])?, digits(&time[5..7])?, digits(&time[8..10])?);
    let (hour, minute, second) =
        (digits(&time[11..13])?, digits(&time[14..16])?, digits(&time[17..19])?);
    // Days that some month lacks and leap seconds are left to the full parser.
    let valid = separated
        && (1..=12).contains(&month)
        && (1..=28).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| (((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Days from 1970-01-01, for the proleptic Gregorian calendar
/// (Howard Hinnant, `days_from_civil`: <https://howardhinnant.github.io/date_algorithms.html>).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Unix time is taken for seconds below 10^11 (the year 5138), for milliseconds below 10^14 and so
/// on by thousands.
fn unix_ms(text: &str) -> Option<i64> {
    if let Ok(whole) = text.parse::<i64>() {
        return match whole {
            i64::MIN..100_000_000_000 => whole.checked_mul(1000),
            100_000_000_000..100_000_000_000_000 => Some(whole),
            100_000_000_000_000..100_000_000_000_000_000 => Some(whole / 1000),
            _ => Some(whole / 1_000_000),
        };
    }
    let seconds: f64 = text.parse().ok()?;
    (seconds.abs() < 1e11).then(|| (seconds * 1000.0).floor() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_every_accepted_form_are_read() {
        let expected = 1_752_871_354_000;
        for text in [
            "2025-07-18T20:42:34Z",
            "2025-07-18T20:42:34.000Z",
            "2025-07-18T22:42:34+02:00",
            "2025-07-18T20:42:34",
            "2025-07-18 20:42:34",
            " 2025-07-18 20:42:34Z ",
            "1752871354",
            "1752871354.0004",
            "1752871354000",
            "1752871354000000",
            "1752871354000000000",
        ] {
            assert_eq!(parse_ms(text), Some(expected), "{text}");
        }
        assert_eq!(parse_ms("2025-07-18T20:42:34.567Z"), Some(expected + 567));
        assert_eq!(parse_ms("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
    }

    #[test]
    fn shortcut_agrees_with_the_full_parser() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-28T23:59:59.999Z", "2100-03-01T12:00:00Z"] {
            let full: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(utc_ms(text.as_bytes()), Some(full.as_millisecond()), "{text}");
        }
    }

    #[test]
    fn what_is_no_timestamp_or_out_of_range_is_refused() {
        for text in [
            "",
            "yesterday",
            "2025-13-01T00:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-07-18X20:42:34Z",
            "-1",
            "1e30",
            "nan",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
