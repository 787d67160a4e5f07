//! Numbers as text that reads back as the same number.

use std::io::Write;

/// Appends `value`: whole numbers without a fraction, very large and very small ones with an
/// exponent. `false`, and nothing appended, for what no text format has: NaN and the infinities.
pub(crate) fn write_number(out: &mut Vec<u8>, value: f64) -> bool {
    if !value.is_finite() {
        return false;
    }
    let size = value.abs();
    // Most are whole, and need no search for the shortest text. Zero has two signs.
    if size.fract() == 0.0 && (1.0..1e15).contains(&size) {
        if value < 0.0 {
            out.push(b'-');
        }
        write_whole(out, size as u64);
        return true;
    }
    let written = if size == 0.0 || (1e-5..1e16).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.expect("writing to a vector cannot fail");
    true
}

/// Appends a whole number.
pub(crate) fn write_whole(out: &mut Vec<u8>, value: u64) {
    // The largest has twenty digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends the name of a record: its partition and offset.
pub(crate) fn write_record(out: &mut Vec<u8>, partition: u32, offset: u64) {
    write_whole(out, partition.into());
    out.push(b'-');
    write_whole(out, offset);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_look_as_a_person_would_write_them() {
        assert_eq!(text(0.0), "0");
        assert_eq!(text(100.0), "100");
        assert_eq!(text(-0.5), "-0.5");
        assert_eq!(text(-0.0), "-0");
        assert_eq!(text(-12.0), "-12");
        assert_eq!(text(999_999_999_999_999.0), "999999999999999");
        assert_eq!(text(72_000.125), "72000.125");
        assert_eq!(text(1e300), "1e300");
        assert_eq!(text(2.5e-9), "2.5e-9");
        assert_eq!(text(f64::NAN), "");
    }

    proptest! {
        #[test]
        fn whole_numbers_look_as_the_library_writes_them(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            write_whole(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            let float = value as f64;
            if float < 1e16 {
                prop_assert_eq!(text(-float), format!("{}", -float));
            }
        }

        #[test]
        fn numbers_read_back_the_same(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let text = text(value);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
            let json: f64 = serde_json::from_str(&text).unwrap();
            // serde_json reads to within one unit in the last place.
            prop_assert!((json - value).abs() <= value.abs() * f64::EPSILON);
        }
    }
}
