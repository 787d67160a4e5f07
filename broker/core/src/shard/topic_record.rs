//! A topic as the catalog's log has it.
//!
//! ```text
//!  0     1            2          4       8            12         16                24
//!  | ver | durability | name_len | topic | partitions | reserved | retention_bytes | retention_ms |
//!  | u8  |     u8     |   u16    |  u32  |    u32     |   u32    |       u64       |     u64      |
//!  32
//!  | name, UTF-8
//! ```
//!
//! All numbers are little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_wire::SLOTS;
use lanecast_wire::message::{Durability, TopicInfo, TopicSettings};

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 32;

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
    out.put_u32_le(0);
    out.put_u64_le(topic.settings.retention_bytes);
    out.put_u64_le(topic.settings.retention_ms);
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
    record.advance(4);
    let (retention_bytes, retention_ms) = (record.get_u64_le(), record.get_u64_le());
    if record.len() != name_bytes || !(1..=SLOTS).contains(&partitions) {
        return None;
    }
    let name = std::str::from_utf8(record).ok()?.to_owned();
    let settings = TopicSettings { durability, retention_bytes, retention_ms };
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
        };
        let topic = TopicInfo { topic: 9, name: "gpu-telemetry".into(), partitions: 8, settings };
        let record = encode(&topic);
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "01 02 0d00 09000000 08000000 00000000 0000000000010000 4d00000000000000 \
                      6770752d74656c656d65747279";
        assert_eq!(hex, golden.replace(' ', ""));
        assert_eq!(decode(&record), Some(topic));
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut]), None, "cut at {cut}");
        }
    }
}
