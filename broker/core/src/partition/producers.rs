//! What a partition remembers of its producers: enough to tell a retry from a new batch.
//!
//! Rebuilt from the batch headers in the log, and from snapshots that the log holds once per
//! segment, so that it holds over a restart and over retention.
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

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lanecast_wire::batch::BatchHeader;
use lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

use crate::Now;
use crate::limits::{PRODUCER_KEPT_US, PRODUCERS_KNOWN_MAX, PRODUCERS_MAX};
use crate::mutants::{Mutant, planted};

const SNAPSHOT_VERSION: u32 = 2;
const SNAPSHOT_HEADER_BYTES: usize = 4;
const PRODUCER_BYTES: usize = 32;
const REMEMBERED_BYTES: usize = 24;

/// Stands for the offset of a batch that was dropped.
const DROPPED: u64 = u64::MAX;

/// A batch that has been appended, or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    sequence: u64,
    /// [`DROPPED`]: nowhere.
    base_offset: u64,
    record_count: u32,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    next_sequence: u64,
    /// Empty for those that were not used for long.
    recent: VecDeque<Remembered>,
    used: u64,
    /// By the monotonic clock; before the broker's start it is negative.
    used_at_us: i64,
    /// Batches of it may have been in a damaged stretch of the log: the next one may be further
    /// than is known.
    unsure: bool,
}

/// What a batch is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    New,
    /// Appended before, here.
    Duplicate {
        base_offset: u64,
        end_offset: u64,
    },
    /// There was no room for it before, and the topic drops what it has no room for.
    Dropped,
    Refused(ErrorCode),
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    /// By last use, oldest first: those whose batches are remembered, and the others.
    by_use: BTreeMap<u64, ProducerId>,
    idle_by_use: BTreeMap<u64, ProducerId>,
    uses: u64,
    /// Producers may have been in a damaged stretch of the log, and nowhere else.
    unsure: bool,
    /// A snapshot that is being read.
    restoring: Option<Box<Producers>>,
}

impl Producers {
    pub(crate) fn clear(&mut self) {
        *self = Producers::default();
    }

    pub(crate) fn judge(&self, now: Now, header: &BatchHeader) -> Judged {
        let Some(producer) = self.producers.get(&header.producer) else {
            if self.is_full(now) {
                return Judged::Refused(ErrorCode::OVERLOADED);
            }
            return first_of(header, self.unsure);
        };
        if header.epoch < producer.epoch {
            if planted(Mutant::AcceptOldEpoch) {
                return Judged::New;
            }
            return Judged::Refused(ErrorCode::FENCED_EPOCH);
        }
        if header.epoch > producer.epoch {
            return first_of(header, producer.unsure);
        }
        let further = header.sequence.0 > producer.next_sequence
            && (producer.unsure || planted(Mutant::AcceptSequenceHole));
        if header.sequence.0 == producer.next_sequence || further {
            return Judged::New;
        }
        let known = producer.recent.iter().find(|batch| batch.sequence == header.sequence.0);
        let newest = producer.recent.back().filter(|_| planted(Mutant::AnswerWrongOffset));
        match known.map(|batch| newest.unwrap_or(batch)) {
            Some(batch) if batch.base_offset == DROPPED => Judged::Dropped,
            Some(batch) if batch.record_count == header.record_count => Judged::Duplicate {
                base_offset: batch.base_offset,
                end_offset: batch.base_offset + u64::from(batch.record_count),
            },
            Some(_) => Judged::Refused(ErrorCode::INVALID_REQUEST),
            None => Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE),
        }
    }

    /// Judges a dead letter. Those of one producer come in order, with holes between their sequences:
    /// up to the last one everything is there, and `follows` names one that has to be. `end_offset`
    /// is behind all of them.
    pub(crate) fn judge_letter(
        &self,
        now: Now,
        header: &BatchHeader,
        follows: Option<Sequence>,
        end_offset: u64,
    ) -> Judged {
        let known = self.producers.get(&header.producer);
        if known.is_none() && self.is_full(now) {
            return Judged::Refused(ErrorCode::OVERLOADED);
        }
        let unsure = known.map_or(self.unsure, |producer| producer.unsure);
        let is_there = |sequence: Sequence| {
            known.is_some_and(|producer| {
                (header.epoch, sequence.0) < (producer.epoch, producer.next_sequence)
            })
        };
        if is_there(header.sequence) {
            Judged::Duplicate { base_offset: end_offset, end_offset }
        } else if unsure || follows.is_none_or(is_there) {
            Judged::New
        } else {
            Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE)
        }
    }

    /// There is no room for the batch: its sequence is used up all the same.
    pub(crate) fn dropped(&mut self, now: Now, header: &BatchHeader) {
        self.appended(now, header, DROPPED);
    }

    /// Would a new producer make it forget one whose last batch may still be sent again?
    fn is_full(&self, now: Now) -> bool {
        self.producers.len() >= PRODUCERS_KNOWN_MAX
            && self
                .idle_by_use
                .first_key_value()
                .and_then(|(_, id)| self.producers.get(id))
                .is_some_and(|oldest| {
                    mono_us(now) < oldest.used_at_us.saturating_add_unsigned(PRODUCER_KEPT_US)
                })
    }

    /// The batch stands at `base_offset` now.
    pub(crate) fn appended(&mut self, now: Now, header: &BatchHeader, base_offset: u64) {
        self.stands(header, base_offset, mono_us(now));
    }

    /// The batch was found in the log.
    pub(crate) fn replayed(&mut self, now: Now, header: &BatchHeader) {
        let used_at_us = used_at_us(now, header.append_time_ms);
        self.stands(header, header.base_offset.0, used_at_us);
    }

    fn stands(&mut self, header: &BatchHeader, base_offset: u64, used_at_us: i64) {
        self.restoring = None;
        let fresh = || Producer {
            epoch: header.epoch,
            next_sequence: 0,
            recent: VecDeque::new(),
            used: 0,
            used_at_us: 0,
            unsure: false,
        };
        let producer = self.producers.entry(header.producer).or_insert_with(fresh);
        if producer.epoch != header.epoch {
            producer.epoch = header.epoch;
            producer.recent.clear();
        }
        producer.unsure = false;
        producer.next_sequence = header.sequence.0.saturating_add(1);
        producer.recent.push_back(Remembered {
            sequence: header.sequence.0,
            base_offset,
            record_count: header.record_count,
        });
        if producer.recent.len() > BATCHES_IN_FLIGHT_PER_PARTITION_MAX as usize {
            producer.recent.pop_front();
        }
        self.used(header.producer, used_at_us);
    }

    /// The producer is the most recently used one.
    fn used(&mut self, id: ProducerId, used_at_us: i64) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        self.uses += 1;
        self.by_use.remove(&producer.used);
        self.idle_by_use.remove(&producer.used);
        (producer.used, producer.used_at_us) = (self.uses, used_at_us);
        self.by_use.insert(self.uses, id);
        if self.by_use.len() > PRODUCERS_MAX
            && let Some((used, oldest)) = self.by_use.pop_first()
        {
            self.idle_by_use.insert(used, oldest);
            if let Some(producer) = self.producers.get_mut(&oldest) {
                producer.recent = VecDeque::new();
            }
        }
        if self.producers.len() > PRODUCERS_KNOWN_MAX
            && let Some((_, oldest)) = self.idle_by_use.pop_first()
        {
            self.producers.remove(&oldest);
        }
    }

    /// Batches are lost with a damaged stretch of the log that is being read: any producer may be
    /// further than what is left says.
    pub(crate) fn lost_some(&mut self) {
        self.restoring = None;
        self.unsure = true;
        self.producers.values_mut().for_each(|producer| producer.unsure = true);
    }

    /// The log has been read: what a snapshot remembers of batches that are lost may not stand for
    /// them. The last ones of a producer are taken again if it sends them again.
    pub(crate) fn forget_lost(&mut self, is_lost: impl Fn(u64) -> bool) {
        for producer in self.producers.values_mut() {
            while let Some(last) = producer.recent.back()
                && last.base_offset != DROPPED
                && is_lost(last.base_offset)
            {
                producer.next_sequence = last.sequence;
                producer.unsure = true;
                producer.recent.pop_back();
            }
        }
    }

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

fn mono_us(now: Now) -> i64 {
    i64::try_from(now.mono_us).unwrap_or(i64::MAX)
}

/// The monotonic clock when the wall clock said this. What the wall clock has not reached is now.
fn used_at_us(now: Now, wall_ms: i64) -> i64 {
    let unused_ms = now.wall_ms.saturating_sub(wall_ms).max(0);
    mono_us(now).saturating_sub(unused_ms.saturating_mul(1000))
}

/// Nothing is known of this producer, or of this epoch: it begins at the beginning, unless what was
/// known may be lost.
fn first_of(header: &BatchHeader, unsure: bool) -> Judged {
    if header.sequence.0 == 0 || unsure {
        Judged::New
    } else {
        Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE)
    }
}

#[cfg(test)]
mod tests {
    use lanecast_wire::{Offset, Sequence};

    use super::*;

    fn header(producer: u64, epoch: u32, sequence: u64) -> BatchHeader {
        BatchHeader {
            body_bytes: 0,
            base_offset: Offset(0),
            append_time_ms: 0,
            crc: 0,
            codec: 0,
            schema: 2,
            summary_bytes: 0,
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            record_count: 10,
            sequence: Sequence(sequence),
            min_time_ms: 0,
            max_time_ms: 0,
            created_ms: 0,
        }
    }

    const NOW: Now = Now { mono_us: 1, wall_ms: 1 };
    const HOLE: Judged = Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE);

    #[test]
    fn sequences_have_no_holes_and_begin_at_zero() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(NOW, &header(1, 0, 1)), HOLE);
        assert_eq!(producers.judge(NOW, &header(1, 0, 0)), Judged::New);
        producers.appended(NOW, &header(1, 0, 0), 50);
        assert_eq!(producers.judge(NOW, &header(1, 0, 2)), HOLE);
        assert_eq!(producers.judge(NOW, &header(1, 0, 1)), Judged::New);
    }

    #[test]
    fn every_retry_in_the_window_finds_its_first_offset() {
        let mut producers = Producers::default();
        let window = u64::from(BATCHES_IN_FLIGHT_PER_PARTITION_MAX);
        for sequence in 0..=window {
            producers.appended(NOW, &header(1, 0, sequence), 100 * sequence);
        }
        for sequence in 1..=window {
            let first =
                Judged::Duplicate { base_offset: 100 * sequence, end_offset: 100 * sequence + 10 };
            assert_eq!(producers.judge(NOW, &header(1, 0, sequence)), first);
        }
        assert_eq!(producers.judge(NOW, &header(1, 0, 0)), HOLE, "older than the window");
    }

    #[test]
    fn higher_epoch_starts_over_and_fences_the_lower() {
        let mut producers = Producers::default();
        producers.appended(NOW, &header(1, 3, 0), 0);
        assert_eq!(producers.judge(NOW, &header(1, 4, 1)), HOLE);
        producers.appended(NOW, &header(1, 4, 0), 10);
        let fenced = Judged::Refused(ErrorCode::FENCED_EPOCH);
        assert_eq!(producers.judge(NOW, &header(1, 3, 1)), fenced);
        assert_eq!(producers.judge(NOW, &header(1, 4, 1)), Judged::New);
    }

    #[test]
    fn a_producer_not_used_for_long_is_not_appended_twice() {
        let mut producers = Producers::default();
        producers.appended(NOW, &header(1, 0, 0), 7);
        for other in 0..PRODUCERS_MAX as u64 {
            producers.appended(NOW, &header(1000 + other, 0, 0), other);
        }
        assert_eq!(producers.judge(NOW, &header(1, 0, 0)), HOLE, "its place is not known any more");
        assert_eq!(producers.judge(NOW, &header(1, 0, 1)), Judged::New, "it goes on");
        let there = Judged::Duplicate { base_offset: 0, end_offset: 10 };
        assert_eq!(producers.judge(NOW, &header(1000, 0, 0)), there);
    }

    #[test]
    fn no_producer_is_forgotten_while_its_last_batch_may_be_sent_again() {
        let mut producers = Producers::default();
        for producer in 0..PRODUCERS_KNOWN_MAX as u64 {
            producers.appended(NOW, &header(producer, 0, 0), producer);
        }
        let new = header(u64::MAX, 0, 0);
        let full = Judged::Refused(ErrorCode::OVERLOADED);
        assert_eq!(producers.judge(NOW, &new), full);
        assert_eq!(producers.judge(NOW, &header(0, 0, 1)), Judged::New, "the others go on");
        let later = Now { mono_us: NOW.mono_us + PRODUCER_KEPT_US, ..NOW };
        assert_eq!(producers.judge(later, &new), Judged::New);
        producers.appended(later, &new, 1);
        assert_eq!(producers.producers.len(), PRODUCERS_KNOWN_MAX);
        assert_eq!(producers.judge(later, &header(1, 0, 1)), Judged::New, "0 was the oldest");
    }

    #[test]
    fn restart_does_not_make_producers_young_again() {
        let (minutes_ms, kept_ms) = (60_000, PRODUCER_KEPT_US as i64 / 1000);
        let before = Now { mono_us: 5_000_000_000, wall_ms: 1_000_000_000 };
        let later = |ms: i64| Now { mono_us: 1, wall_ms: before.wall_ms + ms };
        let mut producers = Producers::default();
        let mut replayed = Producers::default();
        for producer in 0..PRODUCERS_KNOWN_MAX as u64 {
            let header = header(producer, 0, 0);
            producers.appended(before, &header, producer);
            let header = BatchHeader { append_time_ms: before.wall_ms, ..header };
            replayed.replayed(later(minutes_ms), &header);
        }
        // Written a minute after.
        let snapped = Now { mono_us: before.mono_us + 60_000_000, ..later(minutes_ms) };
        let parts = producers.snapshot(snapped, (1 << 20, 1 << 24));
        let mut restored = Producers::default();
        for (at, part) in parts.iter().enumerate() {
            restored.restore(later(2 * minutes_ms), part, at + 1 == parts.len());
        }
        assert_eq!(restored.producers.len(), PRODUCERS_KNOWN_MAX);
        let new = header(u64::MAX, 0, 0);
        let after = |now: Now, ms: i64| Now { mono_us: now.mono_us + ms as u64 * 1000, ..now };
        for (producers, at, left_ms) in [
            (restored, later(2 * minutes_ms), kept_ms - 2 * minutes_ms),
            (replayed, later(minutes_ms), kept_ms - minutes_ms),
        ] {
            let full = Judged::Refused(ErrorCode::OVERLOADED);
            assert_eq!(producers.judge(after(at, left_ms - 1), &new), full);
            assert_eq!(producers.judge(after(at, left_ms), &new), Judged::New);
        }
    }

    #[test]
    fn snapshot_in_parts_is_what_was_known() {
        let mut producers = Producers::default();
        for producer in 0..300 {
            for sequence in 0..=producer % 7 {
                producers.appended(NOW, &header(producer, 2, sequence), 10 * producer);
            }
        }
        let parts = producers.snapshot(NOW, (4096, 1 << 20));
        assert!(parts.len() > 3 && parts.iter().all(|part| part.len() <= 4096));
        let mut restored = Producers::default();
        restored.appended(NOW, &header(999, 0, 0), 0);
        for (at, part) in parts.iter().enumerate() {
            assert_eq!(restored.judge(NOW, &header(999, 0, 1)), Judged::New, "not yet");
            restored.restore(NOW, part, at + 1 == parts.len());
        }
        assert_eq!(restored.judge(NOW, &header(999, 0, 1)), HOLE, "it replaces what was before");
        for producer in 0..300 {
            for sequence in 0..9 {
                let header = header(producer, 2, sequence);
                assert_eq!(restored.judge(NOW, &header), producers.judge(NOW, &header));
            }
        }
        assert_eq!(restored.snapshot(NOW, (4096, 1 << 20)), parts);
        let few = producers.snapshot(NOW, (4096, 10_000));
        let newest = |parts: &[Bytes]| parts.iter().flat_map(read_snapshot).last().unwrap().id;
        assert_eq!(newest(&few), newest(&parts));
        assert!(few.iter().map(Bytes::len).sum::<usize>() <= 10_000);
    }

    #[test]
    fn unfinished_snapshot_changes_nothing() {
        let mut producers = Producers::default();
        producers.appended(NOW, &header(1, 0, 0), 0);
        let parts = Producers::default().snapshot(NOW, (4096, 1 << 20));
        producers.restore(NOW, &parts[0], false);
        producers.appended(NOW, &header(1, 0, 1), 10);
        assert_eq!(producers.judge(NOW, &header(1, 0, 2)), Judged::New);
    }

    #[test]
    fn letters_have_holes_between_them_and_none_is_left_out() {
        let mut producers = Producers::default();
        let judge = |producers: &Producers, epoch, sequence, follows: Option<u64>| {
            producers.judge_letter(NOW, &header(1, epoch, sequence), follows.map(Sequence), 99)
        };
        let there = Judged::Duplicate { base_offset: 99, end_offset: 99 };
        assert_eq!(judge(&producers, 1, 40, Some(30)), HOLE, "30 was refused, or is on its way");
        assert_eq!(judge(&producers, 1, 30, None), Judged::New);
        producers.appended(NOW, &header(1, 1, 30), 7);
        assert_eq!(judge(&producers, 1, 30, None), there);
        assert_eq!(judge(&producers, 1, 20, None), there);
        assert_eq!(judge(&producers, 1, 50, Some(40)), HOLE);
        assert_eq!(judge(&producers, 1, 40, Some(30)), Judged::New);
        assert_eq!(judge(&producers, 1, 40, None), Judged::New, "30 is durable");
        // The next death, of records that may lie before.
        assert_eq!(judge(&producers, 2, 15, Some(5)), HOLE);
        assert_eq!(judge(&producers, 2, 5, None), Judged::New);
        producers.appended(NOW, &header(1, 2, 5), 8);
        assert_eq!(judge(&producers, 1, 60, None), there, "the last death is over");
        producers.lost_some();
        assert_eq!(judge(&producers, 2, 15, Some(10)), Judged::New, "10 may be lost");
    }

    #[test]
    fn lost_batches_at_a_producers_end_are_taken_again() {
        let mut producers = Producers::default();
        for sequence in 0..3 {
            producers.appended(NOW, &header(1, 0, sequence), sequence * 10);
        }
        producers.forget_lost(|offset| offset == 0 || offset == 20);
        assert_eq!(producers.judge(NOW, &header(1, 0, 2)), Judged::New, "it is not there");
        let there = Judged::Duplicate { base_offset: 10, end_offset: 20 };
        assert_eq!(producers.judge(NOW, &header(1, 0, 1)), there);
        assert_eq!(producers.judge(NOW, &header(1, 0, 3)), Judged::New, "2 may have been given up");
        producers.appended(NOW, &header(1, 0, 2), 30);
        let anew = Judged::Duplicate { base_offset: 30, end_offset: 40 };
        assert_eq!(producers.judge(NOW, &header(1, 0, 2)), anew);
        assert_eq!(producers.judge(NOW, &header(1, 0, 4)), HOLE, "it is known again");
    }

    #[test]
    fn what_a_damaged_log_has_lost_does_not_stop_its_producers() {
        let mut producers = Producers::default();
        producers.appended(NOW, &header(1, 0, 0), 0);
        producers.lost_some();
        assert_eq!(producers.judge(NOW, &header(1, 0, 5)), Judged::New, "1 to 4 may be lost");
        assert_eq!(producers.judge(NOW, &header(2, 0, 5)), Judged::New, "0 to 4 may be lost");
        let there = Judged::Duplicate { base_offset: 0, end_offset: 10 };
        assert_eq!(producers.judge(NOW, &header(1, 0, 0)), there, "what is known is known");
        producers.appended(NOW, &header(1, 0, 5), 50);
        assert_eq!(producers.judge(NOW, &header(1, 0, 7)), HOLE, "it is known again");
    }
}
