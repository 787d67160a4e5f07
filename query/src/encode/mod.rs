//! From rows to bytes, in the format and coding that the client asked for.
//!
//! [`Rows`] takes the rows of a page one by one, with the [`columns`] that the client asked for, and
//! gives the page in one [`Format`].

pub(crate) mod arrow;
pub(crate) mod coding;
pub(crate) mod column;
pub(crate) mod csv;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod rows;
pub(crate) mod series;

pub use column::{Column, columns};
pub use format::Format;
pub use rows::Rows;

use crate::params::time::STORED_MS;

/// Appends a time in RFC 3339 with milliseconds, UTC: `2025-07-18T20:42:34.000Z`.
///
/// What lies outside of the store's own range, which its type does not rule out, is shown as the
/// end of that range.
pub(crate) fn write_time(out: &mut Vec<u8>, ms: i64) {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let time = jiff::Timestamp::from_millisecond(shown_ms(ms)).expect("jiff covers 1900 to 2299");
    PRINTER
        .print_timestamp(&time, jiff::fmt::StdIoWrite(out))
        .expect("writing to a vector cannot fail");
}

/// The time that is shown for a stored one.
fn shown_ms(ms: i64) -> i64 {
    ms.clamp(*STORED_MS.start(), *STORED_MS.end())
}

/// [`write_time`] as text.
pub(crate) fn time(ms: i64) -> String {
    let mut out = Vec::with_capacity(24);
    write_time(&mut out, ms);
    String::from_utf8(out).expect("times are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_zone() {
        assert_eq!(time(1_752_871_354_000), "2025-07-18T20:42:34.000Z");
        assert_eq!(time(1_752_871_354_007), "2025-07-18T20:42:34.007Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(*STORED_MS.end()), "2299-12-31T23:59:59.999Z");
        assert_eq!(time(i64::MAX), "2299-12-31T23:59:59.999Z");
        assert_eq!(time(i64::MIN), "1900-01-01T00:00:00.000Z");
    }
}
