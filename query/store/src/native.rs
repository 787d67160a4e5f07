//! Bytes of ClickHouse's Native format.
//!
//! A block is `columns: varint, rows: varint`, then for each column its name and type (both
//! `length: varint, bytes`) and its values. Numbers are little-endian and lie one after another.
//! <https://clickhouse.com/docs/interfaces/formats/Native>
//!
//! ```text
//! LowCardinality(String):  version u64 = 1
//!                          then, unless there are no values:
//!                          flags u64 = code width | HAS_KEYS | NEW_KEYS
//!                          keys u64, keys × string, values u64, values × code
//! Map(K, V):               K's version, offsets × u64 (end of each row's pairs), K's values, V's
//! ```

use crate::dictionary::Dictionary;

/// The only version of serialized dictionaries: shared ones with additional keys.
const DICTIONARY_VERSION: u64 = 1;
/// The keys stand right here, not in a dictionary sent before.
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;
/// And they replace any that came before.
const NEEDS_UPDATE: u64 = 1 << 10;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_string(out: &mut Vec<u8>, string: &str) {
    put_varint(out, string.len() as u64);
    out.extend_from_slice(string.as_bytes());
}

pub(crate) fn put_column_start(out: &mut Vec<u8>, name: &str, kind: &str) {
    put_string(out, name);
    put_string(out, kind);
}

/// Appends each value as often as its run is long.
pub(crate) fn put_runs<const WIDTH: usize>(
    out: &mut Vec<u8>,
    runs: impl Iterator<Item = ([u8; WIDTH], usize)>,
) {
    for (value, rows) in runs {
        let start = out.len();
        out.resize(start + rows * WIDTH, 0);
        let (slots, _) = out[start..].as_chunks_mut::<WIDTH>();
        slots.fill(value);
    }
}

/// Appends the same bytes so many times.
pub(crate) fn put_repeated(out: &mut Vec<u8>, bytes: &[u8], times: usize) {
    let (start, end) = (out.len(), out.len() + bytes.len() * times);
    if end > start {
        out.extend_from_slice(bytes);
    }
    while out.len() < end {
        let more = (out.len() - start).min(end - out.len());
        out.extend_from_within(start..start + more);
    }
}

/// The bytes of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeWidth {
    One,
    Two,
    Four,
}

impl CodeWidth {
    pub(crate) fn of(keys: usize) -> Self {
        match keys {
            0..=0x100 => CodeWidth::One,
            0x101..=0x1_0000 => CodeWidth::Two,
            _ => CodeWidth::Four,
        }
    }

    fn flag(self) -> u64 {
        match self {
            CodeWidth::One => 0,
            CodeWidth::Two => 1,
            CodeWidth::Four => 2,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            CodeWidth::One => 1,
            CodeWidth::Two => 2,
            CodeWidth::Four => 4,
        }
    }

    /// Appends codes in this width, each as often as its run is long.
    pub(crate) fn put_runs(self, out: &mut Vec<u8>, codes: impl Iterator<Item = (u32, usize)>) {
        match self {
            CodeWidth::One => put_runs(out, codes.map(|(code, rows)| ([code as u8], rows))),
            CodeWidth::Two => {
                put_runs(out, codes.map(|(code, rows)| ((code as u16).to_le_bytes(), rows)));
            }
            CodeWidth::Four => put_runs(out, codes.map(|(code, rows)| (code.to_le_bytes(), rows))),
        }
    }
}

pub(crate) fn put_dictionary_version(out: &mut Vec<u8>) {
    out.extend_from_slice(&DICTIONARY_VERSION.to_le_bytes());
}

/// Everything of a dictionary column but its version and its codes. Only for `values` over 0.
pub(crate) fn put_dictionary(
    out: &mut Vec<u8>,
    dictionary: &Dictionary<'_>,
    values: usize,
) -> CodeWidth {
    debug_assert!(values > 0, "a column without values has no dictionary");
    let keys = dictionary.strings();
    let width = CodeWidth::of(keys.len());
    let flags = width.flag() | HAS_ADDITIONAL_KEYS | NEEDS_UPDATE;
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&(keys.len() as u64).to_le_bytes());
    for key in keys {
        put_string(out, key);
    }
    out.extend_from_slice(&(values as u64).to_le_bytes());
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_hold_seven_bits_a_byte_lowest_first() {
        let encoded = |value| {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [127]);
        assert_eq!(encoded(300), [0xac, 0x02]);
    }

    #[test]
    fn bytes_are_repeated_as_often_as_asked() {
        for times in 0..6 {
            let mut out = b"x".to_vec();
            put_repeated(&mut out, b"ab", times);
            put_repeated(&mut out, b"", times);
            assert_eq!(out, [b"x", &b"ab".repeat(times)[..]].concat());
        }
    }

    #[test]
    fn codes_are_as_wide_as_the_dictionary_needs() {
        let widths = [(1, CodeWidth::One), (256, CodeWidth::One), (257, CodeWidth::Two)];
        for (keys, width) in widths {
            assert_eq!(CodeWidth::of(keys), width, "{keys} keys");
        }
        assert_eq!(CodeWidth::of(65_536), CodeWidth::Two);
        assert_eq!(CodeWidth::of(65_537), CodeWidth::Four);
    }
}
