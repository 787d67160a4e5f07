//! What the catalog's log has of topics.
//!
//! ```text
//!  0     1      2          4       8            12           13        14              15         16
//!  | ver | kind | name_len | topic | partitions | durability | on_full | breaks leases | reserved |
//!  | u8  | u8   |   u16    |  u32  |    u32     |     u8     |   u8    |      u8       |    u8    |
//!
//!  16                24             32              40             44         48
//!  | retention_bytes | retention_ms | record_ttl_ms | max_attempts | reserved | name, UTF-8
//!  |       u64       |     u64      |      u64      |     u32      |   u32    |
//! ```
//!
//! All numbers are little-endian. The three kinds:
//!
//! * 1, a topic as above, made or changed: the last record of a number counts.
//! * 2, a topic that was deleted, and whose files may still be there: the first 12 bytes.
//! * 3, nothing is left of this topic: the first 8 bytes. Its number, and all below it, are used up.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_wire::message::{Durability, OnFull, TopicInfo, TopicSettings};
use lanecast_wire::{SLOTS, TopicId};

const VERSION: u8 = 3;
const TOPIC: u8 = 1;
const DELETED: u8 = 2;
const GONE: u8 = 3;
const FIXED_BYTES: usize = 48;

/// The fixed bytes of a topic behind its number.
const TOPIC_REST_BYTES: usize = FIXED_BYTES - 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CatalogRecord {
    Topic(TopicInfo),
    Deleted { topic: TopicId, partitions: u32 },
    Gone { topic: TopicId },
}

pub(super) fn encode_topic(topic: &TopicInfo) -> Bytes {
    let mut out = BytesMut::with_capacity(FIXED_BYTES + topic.name.len());
    out.put_u8(VERSION);
    out.put_u8(TOPIC);
    out.put_u16_le(u16::try_from(topic.name.len()).expect("names are short"));
    out.put_u32_le(topic.topic);
    out.put_u32_le(topic.partitions);
    out.put_u8(match topic.settings.durability {
        Durability::Fsync => 1,
        Durability::Written => 2,
        Durability::Memory => 3,
    });
    out.put_u8(match topic.settings.on_full {
        OnFull::Block => 1,
        OnFull::DropNew => 2,
        OnFull::DropOld => 3,
    });
    out.put_u8(u8::from(topic.settings.retention_breaks_leases));
    out.put_u8(0);
    out.put_u64_le(topic.settings.retention_bytes);
    out.put_u64_le(topic.settings.retention_ms);
    out.put_u64_le(topic.settings.record_ttl_ms);
    out.put_u32_le(topic.settings.max_attempts);
    out.put_u32_le(0);
    out.put_slice(topic.name.as_bytes());
    out.freeze()
}

pub(super) fn encode_deleted(topic: TopicId, partitions: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(12);
    out.put_u8(VERSION);
    out.put_u8(DELETED);
    out.put_u16_le(0);
    out.put_u32_le(topic.0);
    out.put_u32_le(partitions);
    out.freeze()
}

pub(super) fn encode_gone(topic: TopicId) -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u8(VERSION);
    out.put_u8(GONE);
    out.put_u16_le(0);
    out.put_u32_le(topic.0);
    out.freeze()
}

/// `None`: not a record of this version, or one with impossible values.
pub(crate) fn decode(mut record: &[u8]) -> Option<CatalogRecord> {
    if record.len() < 8 || record.get_u8() != VERSION {
        return None;
    }
    let kind = record.get_u8();
    let name_bytes = usize::from(record.get_u16_le());
    let topic = TopicId(record.get_u32_le());
    match (kind, record.len()) {
        (TOPIC, TOPIC_REST_BYTES..) => decode_topic(topic, name_bytes, record),
        (DELETED, 4) => Some(CatalogRecord::Deleted { topic, partitions: record.get_u32_le() }),
        (GONE, 0) => Some(CatalogRecord::Gone { topic }),
        (_, _) => None,
    }
}

/// The rest of a topic's record: at least the fixed fields.
fn decode_topic(topic: TopicId, name_bytes: usize, mut record: &[u8]) -> Option<CatalogRecord> {
    let partitions = record.get_u32_le();
    let durability = match record.get_u8() {
        1 => Durability::Fsync,
        2 => Durability::Written,
        3 => Durability::Memory,
        _ => return None,
    };
    let on_full = match record.get_u8() {
        1 => OnFull::Block,
        2 => OnFull::DropNew,
        3 => OnFull::DropOld,
        _ => return None,
    };
    let retention_breaks_leases = match record.get_u8() {
        0 => false,
        1 => true,
        _ => return None,
    };
    record.advance(1);
    let (retention_bytes, retention_ms) = (record.get_u64_le(), record.get_u64_le());
    let (record_ttl_ms, max_attempts) = (record.get_u64_le(), record.get_u32_le());
    record.advance(4);
    if record.len() != name_bytes || !(1..=SLOTS).contains(&partitions) {
        return None;
    }
    let name = std::str::from_utf8(record).ok()?.to_owned();
    let settings = TopicSettings {
        durability,
        retention_bytes,
        retention_ms,
        record_ttl_ms,
        max_attempts,
        on_full,
        retention_breaks_leases,
    };
    Some(CatalogRecord::Topic(TopicInfo { topic: topic.0, name, partitions, settings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(record: &[u8]) -> String {
        record.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn topic_reads_back_and_cut_records_do_not() {
        let settings = TopicSettings {
            durability: Durability::Written,
            retention_bytes: 1 << 40,
            retention_ms: 77,
            record_ttl_ms: 5,
            max_attempts: 6,
            on_full: OnFull::DropOld,
            retention_breaks_leases: true,
        };
        let topic = TopicInfo { topic: 9, name: "gpu-telemetry".into(), partitions: 8, settings };
        let record = encode_topic(&topic);
        let golden = "03 01 0d00 09000000 08000000 02 03 01 00 0000000000010000 \
                      4d00000000000000 0500000000000000 06000000 00000000 \
                      6770752d74656c656d65747279";
        assert_eq!(hex(&record), golden.replace(' ', ""));
        assert_eq!(decode(&record), Some(CatalogRecord::Topic(topic)));
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn ends_of_topics_read_back_and_cut_records_do_not() {
        let deleted = encode_deleted(TopicId(9), 8);
        let gone = encode_gone(TopicId(9));
        assert_eq!(hex(&deleted), "03020000".to_owned() + "09000000" + "08000000");
        assert_eq!(hex(&gone), "03030000".to_owned() + "09000000");
        let read = CatalogRecord::Deleted { topic: TopicId(9), partitions: 8 };
        assert_eq!(decode(&deleted), Some(read));
        assert_eq!(decode(&gone), Some(CatalogRecord::Gone { topic: TopicId(9) }));
        for record in [deleted, gone] {
            for cut in 0..record.len() {
                assert_eq!(decode(&record[..cut]), None, "cut at {cut}");
            }
        }
    }
}
