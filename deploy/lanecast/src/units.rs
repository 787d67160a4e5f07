//! Sizes and times as people write them.

use std::time::Duration;

/// `64MiB`, `10KB`, `512` (bytes).
///
/// # Errors
/// Not a number, an unknown unit, or over 2^64.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(format!("unknown unit {unit:?}; use B, KiB, MiB, GiB, KB, MB or GB")),
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number with a unit, like 64MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// A credit: bytes when a unit is given, otherwise records of 1 KiB, as the consumer buffers that
/// the setting's name comes from counted messages.
///
/// # Errors
/// As [`bytes`].
pub(crate) fn credit(text: &str) -> Result<u64, String> {
    let (_, unit) = split(text);
    let bytes = bytes(text)?;
    if unit.is_empty() {
        bytes.checked_mul(1024).ok_or_else(|| "too large".to_owned())
    } else {
        Ok(bytes)
    }
}

/// `20ms`, `1s`, `5m`, `2h`, `7d`; 0 needs no unit.
///
/// # Errors
/// Not a number, no unit, or too long.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a whole number with a unit, like 20ms or 7d".to_owned())?;
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        "" => return Err("the unit is missing: ms, s, m, h or d".to_owned()),
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m, h or d")),
    };
    number.checked_mul(factor_ms).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

/// `8 GiB`, `1.5 MiB`, `512 B`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) if bytes.is_multiple_of(size) => format!("{} {unit}", bytes / size),
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

/// `7 d`, `90 min`, `1500 ms`: the largest unit that divides it.
pub(crate) fn show_millis(ms: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    match units.into_iter().find(|(_, size)| ms >= *size && ms.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{} {unit}", ms / size),
        None => format!("{ms} ms"),
    }
}

/// `1,234,567`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("10 KB"), Ok(10_000));
        assert_eq!(bytes("7"), Ok(7));
        assert!(
            bytes("99999999TiB").is_err() && bytes("MiB").is_err() && bytes("5 parsecs").is_err()
        );
    }

    #[test]
    fn a_credit_without_a_unit_counts_records() {
        assert_eq!(credit("10000"), Ok(10_240_000));
        assert_eq!(credit("4MiB"), Ok(4 << 20));
    }

    #[test]
    fn sizes_times_and_counts_are_shown_short() {
        assert_eq!(
            (show_bytes(8 << 30), show_bytes(1_572_864)),
            ("8 GiB".into(), "1.5 MiB".into())
        );
        assert_eq!((show_bytes(0), show_bytes(1_023)), ("0 B".into(), "1023 B".into()));
        assert_eq!(
            (show_millis(604_800_000), show_millis(5_400_000)),
            ("7 d".into(), "90 min".into())
        );
        assert_eq!((show_millis(1_500), show_millis(0)), ("1500 ms".into(), "0 ms".into()));
        assert_eq!((show_count(1_234_567), show_count(999)), ("1,234,567".into(), "999".into()));
    }

    #[test]
    fn times_need_a_unit_unless_zero() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("5").unwrap_err().contains("unit"));
        assert!(duration("-5s").is_err());
    }
}
