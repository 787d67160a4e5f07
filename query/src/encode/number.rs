//! Numbers as text that reads back as the same number.

use std::io::Write;

/// Appends `value`: whole numbers without a fraction, very large and very small ones with an
/// exponent. `false`, and nothing appended, for what no text format has: NaN and the infinities.
pub(crate) fn write_number(out: &mut Vec<u8>, value: f64) -> bool {
    if !value.is_finite() {
        return false;
    }
    let size = value.abs();
    let written = if size == 0.0 || (1e-5..1e16).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    written.expect("writing to a vector cannot fail");
    true
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
        assert_eq!(text(72_000.125), "72000.125");
        assert_eq!(text(1e300), "1e300");
        assert_eq!(text(2.5e-9), "2.5e-9");
        assert_eq!(text(f64::NAN), "");
    }

    proptest! {
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
