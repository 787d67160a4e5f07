//! A topic as the catalog's log has it.
//!
//! ```text
//!  0     1            2          4       8            12        13              14         16
//!  | ver | durability | name_len | topic | partitions | on_full | breaks leases | reserved |
//!  | u8  |     u8     |   u16    |  u32  |    u32     |   u8    |      u8       |   u16    |
//!
//!  16                24             32              40             44         48
//!  | retention_bytes | retention_ms | record_ttl_ms | max_attempts | reserved | name, UTF-8
//!  |       u64       |     u64      |      u64      |     u32      |   u32    |
//! ```
//!
//! All numbers are little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_wire::SLOTS;
use lanecast_wire::message::{Durability, OnFull, TopicInfo, TopicSettings};

const VERSION: u8 = 2;
const FIXED_BYTES: usize = 48;

pub(super) fn encode(topic: &TopicInfo) -> Bytes {
    let mut out = BytesMut::with_capacity(FIXED_BYTES + topic.name.len());
    out.put_u8(VERSION);
    out.put_u8(match topic.settings.durability {
        Durability::Fsync => 1,
        Durability::Written => 2,
        Durability::Memory => 3,
    });
    out.put_u16_le(u16::try_from(topic.name.len()).expect("names are short"));
    out.put_u32_le(topic.topic);
    out.put_u32_le(topic.partitions);
    out.put_u8(match topic.settings.on_full {
        OnFull::Block => 1,
        OnFull::DropNew => 2,
        OnFull::DropOld => 3,
    });
    out.put_u8(u8::from(topic.settings.retention_breaks_leases));
    out.put_u16_le(0);
    out.put_u64_le(topic.settings.retention_bytes);
    out.put_u64_le(topic.settings.retention_ms);
    out.put_u64_le(topic.settings.record_ttl_ms);
    out.put_u32_le(topic.settings.max_attempts);
    out.put_u32_le(0);
    out.put_slice(topic.name.as_bytes());
    out.freeze()
}

/// `None`: not a record of this version, or one with impossible values.
pub(super) fn decode(mut record: &[u8]) -> Option<TopicInfo> {
    if record.len() < FIXED_BYTES || record.get_u8() != VERSION {
        return None;
    }
    let durability = match record.get_u8() {
        1 => Durability::Fsync,
        2 => Durability::Written,
        3 => Durability::Memory,
        _ => return None,
    };
    let name_bytes = usize::from(record.get_u16_le());
    let topic = record.get_u32_le();
    let partitions = record.get_u32_le();
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
    record.advance(2);
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
    Some(TopicInfo { topic, name, partitions, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let record = encode(&topic);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "02 02 0d00 09000000 08000000 03 01 0000 0000000000010000 \
                      4d00000000000000 0500000000000000 06000000 00000000 \
                      6770752d74656c656d65747279";
        assert_eq!(hex, golden.replace(' ', ""));
        assert_eq!(decode(&record), Some(topic));
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut]), None, "cut at {cut}");
        }
    }
}
