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

/// Appends `rows` values of `WIDTH` bytes each, which are copied from the iterator.
pub(crate) fn put_values<const WIDTH: usize>(
    out: &mut Vec<u8>,
    values: impl ExactSizeIterator<Item = [u8; WIDTH]>,
) {
    let start = out.len();
    out.resize(start + values.len() * WIDTH, 0);
    for (slot, value) in out[start..].chunks_exact_mut(WIDTH).zip(values) {
        slot.copy_from_slice(&value);
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
    fn of(keys: usize) -> Self {
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

    /// Appends codes in this width.
    pub(crate) fn put(self, out: &mut Vec<u8>, codes: impl ExactSizeIterator<Item = u32>) {
        match self {
            CodeWidth::One => put_values(out, codes.map(|code| [code as u8])),
            CodeWidth::Two => put_values(out, codes.map(|code| (code as u16).to_le_bytes())),
            CodeWidth::Four => put_values(out, codes.map(u32::to_le_bytes)),
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
    fn codes_are_as_wide_as_the_dictionary_needs() {
        let widths = [(1, CodeWidth::One), (256, CodeWidth::One), (257, CodeWidth::Two)];
        for (keys, width) in widths {
            assert_eq!(CodeWidth::of(keys), width, "{keys} keys");
        }
        assert_eq!(CodeWidth::of(65_536), CodeWidth::Two);
        assert_eq!(CodeWidth::of(65_537), CodeWidth::Four);
    }
}
