//! What is known of the producers, as it rests in the log.
//!
//! ```text
//!  snapshot, in one or more blocks:
//!  0         4
//!  | version | producers, the least recently used one first
//!  |   u32   |
//!  one producer:
//!  0         8       12       16              24              32
//!  | id u64  | epoch | recent | next_sequence | used_ms, unix | recent x (sequence u64, base_offset
//!  |         |  u32  |  u32   |      u64      |      i64      |   u64, record_count u32, reserved u32)
//! ```
//!
//! Since when a producer was not used is so known over restarts: by the wall clock, which is also
//! what blocks are stamped with.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;
use lanecast_wire::{ProducerEpoch, ProducerId};

use super::{Producer, Producers, Remembered, mono_us, used_at_us};
use crate::Now;

const SNAPSHOT_VERSION: u32 = 2;
const SNAPSHOT_HEADER_BYTES: usize = 4;
const PRODUCER_BYTES: usize = 32;
const REMEMBERED_BYTES: usize = 24;

impl Producers {
    /// All that is known, in parts of at most `(part_bytes, all_bytes)`; where that is too little,
    /// the least recently used producers are left out.
    pub(crate) fn snapshot(&self, now: Now, (part_bytes, all_bytes): (usize, usize)) -> Vec<Bytes> {
        let bytes_of =
            |producer: &Producer| PRODUCER_BYTES + producer.recent.len() * REMEMBERED_BYTES;
        let in_order = self.idle_by_use.values().chain(self.by_use.values());
        let mut all: Vec<(ProducerId, &Producer)> =
            in_order.filter_map(|id| self.producers.get(id).map(|known| (*id, known))).collect();
        let mut bytes = 0;
        let fit = all.iter().rev().take_while(|(_, producer)| {
            bytes += bytes_of(producer) + SNAPSHOT_HEADER_BYTES;
            bytes <= all_bytes
        });
        let left_out = all.len() - fit.count();
        let mut parts = Vec::new();
        let mut part = BytesMut::new();
        for (id, producer) in all.drain(left_out..) {
            if part.len() + bytes_of(producer) > part_bytes {
                parts.push(std::mem::take(&mut part).freeze());
            }
            if part.is_empty() {
                part.put_u32_le(SNAPSHOT_VERSION);
            }
            part.put_u64_le(id.0);
            part.put_u32_le(producer.epoch.0);
            part.put_u32_le(producer.recent.len() as u32);
            part.put_u64_le(producer.next_sequence);
            let unused_us = mono_us(now).saturating_sub(producer.used_at_us);
            part.put_i64_le(now.wall_ms.saturating_sub(unused_us / 1000));
            for batch in &producer.recent {
                part.put_u64_le(batch.sequence);
                part.put_u64_le(batch.base_offset);
                part.put_u32_le(batch.record_count);
                part.put_u32_le(0);
            }
        }
        if part.is_empty() {
            part.put_u32_le(SNAPSHOT_VERSION);
        }
        parts.push(part.freeze());
        parts
    }

    /// A part of a snapshot, from the log. The last one makes it count, in place of all before it.
    pub(crate) fn restore(&mut self, now: Now, part: &Bytes, last: bool) {
        let mut restoring = self.restoring.take().unwrap_or_default();
        for known in read_snapshot(part) {
            let Known { id, epoch, next_sequence, used_ms, recent } = known;
            let (used, used_at_us, unsure) = (0, used_at_us(now, used_ms), false);
            let producer = Producer { epoch, next_sequence, recent, used, used_at_us, unsure };
            restoring.producers.insert(id, producer);
            restoring.used(id, used_at_us);
        }
        if last {
            *self = *restoring;
        } else {
            self.restoring = Some(restoring);
        }
    }
}

/// One producer as a snapshot has it.
pub(crate) struct Known {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) next_sequence: u64,
    /// When it was last used, by the wall clock.
    used_ms: i64,
    pub(crate) recent: VecDeque<Remembered>,
}

/// The producers of one part; ends where it does not read, which its checksum rules out for what
/// this code has written.
pub(crate) fn read_snapshot(part: &Bytes) -> impl Iterator<Item = Known> {
    let mut rest = part.clone();
    let readable = rest.try_get_u32_le().is_ok_and(|version| version == SNAPSHOT_VERSION);
    std::iter::from_fn(move || {
        if !readable || rest.len() < PRODUCER_BYTES {
            return None;
        }
        let (id, epoch) = (ProducerId(rest.get_u64_le()), ProducerEpoch(rest.get_u32_le()));
        let count = rest.get_u32_le() as usize;
        let (next_sequence, used_ms) = (rest.get_u64_le(), rest.get_i64_le());
        if count > BATCHES_IN_FLIGHT_PER_PARTITION_MAX as usize
            || rest.len() < count * REMEMBERED_BYTES
        {
            return None;
        }
        let mut recent = VecDeque::with_capacity(count);
        for _ in 0..count {
            let (sequence, base_offset) = (rest.get_u64_le(), rest.get_u64_le());
            let record_count = rest.get_u32_le();
            rest.advance(4);
            recent.push_back(Remembered { sequence, base_offset, record_count });
        }
        Some(Known { id, epoch, next_sequence, used_ms, recent })
    })
}
