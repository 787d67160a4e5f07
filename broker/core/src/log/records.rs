//! Records of the catalog and of group logs: a length and that many bytes, one after the other.

use bytes::Bytes;

/// The length in front of a record.
pub(crate) fn prefix(record: &[u8]) -> [u8; 4] {
    u32::try_from(record.len()).expect("bounded by the payload maximum").to_le_bytes()
}

/// The records of a block's payload. Stops early where the lengths do not add up, which the block's
/// checksum rules out for everything that this code has written.
pub(crate) fn iter(payload: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = payload.clone();
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        if rest.len() - 4 < length {
            return None;
        }
        let record = rest.slice(4..4 + length);
        rest = rest.slice(4 + length..);
        Some(record)
    })
}
