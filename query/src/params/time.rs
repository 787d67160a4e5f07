//! Points in time and durations, as clients write them.
//!
//! | written | means |
//! |---|---|
//! | `2025-07-18T20:42:34Z`, `2025-07-18 22:42:34.250+02:00` | RFC 3339 with its zone |
//! | `1752871354`, `1752871354.25` | unix seconds |
//! | `1752871354250` | unix milliseconds: everything from 100,000,000,000 up |
//! | `now`, `now-1h`, `now+5m`, `-15m` | relative to the moment the request is read |
//!
//! In a query `+` means a space, so a space where a sign belongs is read as `+`. A time without a
//! zone is refused: whose midnight it names would be a guess.

use crate::limits;

/// Nanoseconds since 1970, UTC. Wide enough that no sum of two parsed values overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanoseconds(pub i128);

/// Unix numbers from here on are milliseconds: as seconds they would name the year 5138.
const MILLISECONDS_FROM: i128 = 100_000_000_000;
const SECOND: i128 = 1_000_000_000;
const MILLISECOND: i128 = 1_000_000;

/// A time as written: fixed, or relative to a moment that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeExpression {
    Absolute(Nanoseconds),
    /// Nanoseconds after (before, if negative) the moment of the request.
    Relative(i128),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("has no zone; add Z or an offset such as +02:00")]
    NoZone,
    #[error(
        "is not a time; use RFC 3339 with a zone (2025-07-18T20:42:34Z), unix seconds or \
         milliseconds, now, now-1h or -15m"
    )]
    NotATime,
    #[error("is not a duration; use numbers with a unit: 500ms, 30s, 5m, 1h30m, 2d, 1w")]
    NotADuration,
    #[error("is longer than {} characters", limits::TIME_CHARS_MAX)]
    TooLong,
    #[error("is too far away; the years 1900 to 2299 are stored")]
    OutOfRange,
}

impl TimeExpression {
    pub(crate) fn parse(text: &str) -> Result<Self, TimeError> {
        if text.len() > limits::TIME_CHARS_MAX {
            return Err(TimeError::TooLong);
        }
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("now") {
            return Ok(Self::Relative(if rest.is_empty() { 0 } else { signed(rest)? }));
        }
        // `-15m` is relative and `-15` nothing that anybody meant.
        if text.starts_with('-') {
            return Ok(Self::Relative(signed(text)?));
        }
        if let Some(number) = unix(text)? {
            return Ok(Self::Absolute(number));
        }
        rfc3339(text).map(Self::Absolute)
    }

    /// The point in time that this names for a request read at `now`.
    pub(crate) fn at(self, now: Nanoseconds) -> Nanoseconds {
        match self {
            Self::Absolute(time) => time,
            Self::Relative(after) => Nanoseconds(now.0 + after),
        }
    }
}

impl Nanoseconds {
    pub(crate) fn from_ms(ms: i64) -> Self {
        Self(i128::from(ms) * MILLISECOND)
    }

    /// The first stored millisecond not before this time. Out of range is clamped: nothing is
    /// stored out there, so the clamped window selects the same rows.
    pub(crate) fn ceil_ms(self) -> i64 {
        clamp_ms(-(-self.0).div_euclid(MILLISECOND))
    }

    /// The last stored millisecond not after this time, clamped.
    pub(crate) fn floor_ms(self) -> i64 {
        clamp_ms(self.0.div_euclid(MILLISECOND))
    }
}

/// 1900-01-01 and 2299-12-31, the ends of ClickHouse's `DateTime64(3)`, in milliseconds.
pub(crate) const STORED_MS: std::ops::RangeInclusive<i64> = -2_208_988_800_000..=10_413_791_999_999;

fn clamp_ms(ms: i128) -> i64 {
    let (low, high) = (i128::from(*STORED_MS.start()), i128::from(*STORED_MS.end()));
    i64::try_from(ms.clamp(low, high)).expect("clamped into the range of i64")
}

/// A duration such as `5m` or `1h30m`, in nanoseconds; more than none, at most
/// [`limits::SPAN_MAX`].
pub(crate) fn parse_span(text: &str) -> Result<i128, TimeError> {
    if text.len() > limits::TIME_CHARS_MAX {
        return Err(TimeError::TooLong);
    }
    let mut total: i128 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: i128 = number.parse().map_err(|_| TimeError::NotADuration)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            "w" => 7 * 86_400 * SECOND,
            _ => return Err(TimeError::NotADuration),
        };
        total = number
            .checked_mul(unit)
            .and_then(|nanoseconds| total.checked_add(nanoseconds))
            .ok_or(TimeError::OutOfRange)?;
        rest = tail;
    }
    if total == 0 {
        return Err(TimeError::NotADuration);
    }
    if total > i128::try_from(limits::SPAN_MAX.as_nanos()).expect("a hundred years fit") {
        return Err(TimeError::OutOfRange);
    }
    Ok(total)
}

fn signed(text: &str) -> Result<i128, TimeError> {
    let (negative, span) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+' | b' ') => (false, &text[1..]),
        Some(_) | None => return Err(TimeError::NotATime),
    };
    let span = match parse_span(span) {
        Err(TimeError::NotADuration) => return Err(TimeError::NotATime),
        other => other?,
    };
    Ok(if negative { -span } else { span })
}

/// Unix seconds or milliseconds, or `None` where the text is not a number at all.
fn unix(text: &str) -> Result<Option<Nanoseconds>, TimeError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Ok(None);
    }
    let number: i128 = whole.parse().map_err(|_| TimeError::OutOfRange)?;
    let unit = if number >= MILLISECONDS_FROM { MILLISECOND } else { SECOND };
    // Nine digits are nanoseconds of a second, and more than a millisecond has.
    let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let billionths: i128 = nine.parse().expect("nine digits");
    number
        .checked_mul(unit)
        .map(|time| Nanoseconds(time + billionths * unit / SECOND))
        .filter(|time| time.0 <= Nanoseconds::from_ms(*STORED_MS.end()).0 + MILLISECOND)
        .map(Some)
        .ok_or(TimeError::OutOfRange)
}

fn rfc3339(text: &str) -> Result<Nanoseconds, TimeError> {
    let bytes = text.as_bytes();
    let date_time = bytes.len() >= 19
        && bytes.is_ascii()
        && matches!(bytes[10], b'T' | b't' | b' ')
        && [4, 7].iter().all(|&at| bytes[at] == b'-')
        && [13, 16].iter().all(|&at| bytes[at] == b':');
    if !date_time {
        // A date alone is a time without a zone, too.
        let date = jiff::civil::Date::strptime("%Y-%m-%d", text).is_ok();
        return Err(if date { TimeError::NoZone } else { TimeError::NotATime });
    }
    let (local, zone) = split_zone(text)?;
    let local = local.replacen(['t', ' '], "T", 1);
    let local: jiff::civil::DateTime = local.parse().map_err(|_| TimeError::NotATime)?;
    let offset = jiff::tz::Offset::from_seconds(zone).map_err(|_| TimeError::NotATime)?;
    let time = offset.to_timestamp(local).map_err(|_| TimeError::OutOfRange)?;
    Ok(Nanoseconds(time.as_nanosecond()))
}

/// Splits `2025-07-18T20:42:34.5+02:00` before its zone, which it returns in seconds.
fn split_zone(text: &str) -> Result<(&str, i32), TimeError> {
    let fraction = match text.as_bytes().get(19) {
        Some(b'.') => {
            let digits = text[20..].bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=9).contains(&digits) {
                return Err(TimeError::NotATime);
            }
            1 + digits
        }
        Some(_) | None => 0,
    };
    let (local, zone) = text.split_at(19 + fraction);
    let offset = match zone.as_bytes() {
        [] => return Err(TimeError::NoZone),
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-' | b' '), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            let two = |high: &u8, low: &u8| i32::from(high - b'0') * 10 + i32::from(low - b'0');
            let (hours, minutes) = (two(h1, h2), two(m1, m2));
            if hours > 23 || minutes > 59 {
                return Err(TimeError::NotATime);
            }
            let seconds = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        [..] => return Err(TimeError::NotATime),
    };
    Ok((local, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn absolute(text: &str) -> i128 {
        match TimeExpression::parse(text) {
            Ok(TimeExpression::Absolute(time)) => time.0,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_one_moment_is_that_moment() {
        let moment = 1_752_871_354_250 * MILLISECOND;
        for text in [
            "2025-07-18T20:42:34.250Z",
            "2025-07-18t20:42:34.25z",
            "2025-07-18T22:42:34.250+02:00",
            "2025-07-18T22:42:34.250 02:00",
            "2025-07-18 20:42:34.250Z",
            "2025-07-18 22:42:34.250 02:00",
            "2025-07-18T13:42:34.250000000-07:00",
            "2025-07-19T02:12:34.250+05:30",
            "1752871354250",
            "1752871354.25",
            "1752871354250.0",
        ] {
            assert_eq!(absolute(text), moment, "{text}");
        }
        assert_eq!(absolute("1752871354"), 1_752_871_354 * SECOND);
        assert_eq!(absolute("0"), 0);
    }

    #[test]
    fn relative_times_move_with_now() {
        let now = Nanoseconds::from_ms(1_000_000_000_000);
        for (text, after_seconds) in
            [("now", 0), ("now-1h", -3_600), ("now+5m", 300), ("now 5m", 300), ("-15m", -900)]
        {
            let time = TimeExpression::parse(text).unwrap();
            assert!(matches!(time, TimeExpression::Relative(_)), "{text}");
            assert_eq!(time.at(now).0, now.0 + after_seconds * SECOND, "{text}");
        }
    }

    #[test]
    fn time_without_a_zone_is_refused() {
        for text in ["2025-07-18T20:42:34", "2025-07-18 20:42:34.5", "2025-07-18"] {
            assert_eq!(TimeExpression::parse(text), Err(TimeError::NoZone), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "now-",
            "now1h",
            "now-1y",
            "-15",
            "-",
            "15m",
            "1e9",
            "1.",
            ".5",
            "2025-13-18T20:42:34Z",
            "2025-07-18T25:42:34Z",
            "2025-07-18T20:42:34.Z",
            "2025-07-18T20:42:34+2:00",
            "2025-07-18T20:42:34+24:00",
            "2025-07-18T20:42:34+02:60",
            "2025-07-18T20:42:34+0200",
            "2025-07-18T20:42:34Z[Europe/Berlin]",
            "2025-07-18T20:42:34 Z",
            "2025-07-18T20:42Z",
            "2025/07/18T20:42:34Z",
            "2025-07-18T20:42:34é",
            "٣٤",
        ] {
            assert!(TimeExpression::parse(text).is_err(), "{text}");
        }
        assert_eq!(TimeExpression::parse("99999999999999999"), Err(TimeError::OutOfRange));
        assert_eq!(TimeExpression::parse(&"9".repeat(60)), Err(TimeError::OutOfRange));
        assert_eq!(TimeExpression::parse(&"9".repeat(65)), Err(TimeError::TooLong));
    }

    #[test]
    fn spans_add_up_their_units() {
        assert_eq!(parse_span("500ms"), Ok(500 * MILLISECOND));
        assert_eq!(parse_span("1h30m"), Ok(5_400 * SECOND));
        assert_eq!(parse_span("1w2d"), Ok(9 * 86_400 * SECOND));
        for text in ["", "5", "m", "-5m", "5 m", "0s", "5M", "1.5h"] {
            assert_eq!(parse_span(text), Err(TimeError::NotADuration), "{text}");
        }
        assert_eq!(parse_span("999999w"), Err(TimeError::OutOfRange));
        assert_eq!(
            parse_span("99999999999999999999999999999999999999w"),
            Err(TimeError::OutOfRange)
        );
    }

    #[test]
    fn fractions_of_a_millisecond_never_widen_a_window() {
        let early = Nanoseconds(1_500_000);
        assert_eq!((early.ceil_ms(), early.floor_ms()), (2, 1));
        let before_1970 = Nanoseconds(-1_500_000);
        assert_eq!((before_1970.ceil_ms(), before_1970.floor_ms()), (-1, -2));
        let exact = Nanoseconds::from_ms(7);
        assert_eq!((exact.ceil_ms(), exact.floor_ms()), (7, 7));
        assert_eq!(Nanoseconds(i128::MAX / 4).ceil_ms(), *STORED_MS.end());
        assert_eq!(Nanoseconds(i128::MIN / 4).floor_ms(), *STORED_MS.start());
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in "\\PC{0,80}") {
            let _ = TimeExpression::parse(&text).map(|time| time.at(Nanoseconds(0)).ceil_ms());
            let _ = parse_span(&text);
        }

        #[test]
        fn any_text_of_time_characters_is_a_time_or_an_error(text in "[-0-9TZ:.+ nowhmsd]{0,40}") {
            let _ = TimeExpression::parse(&text).map(|time| time.at(Nanoseconds(0)).ceil_ms());
        }

        #[test]
        fn timestamps_we_print_are_read_back(ms in STORED_MS) {
            let printed = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            prop_assert_eq!(absolute(&printed), i128::from(ms) * MILLISECOND);
        }
    }
}
