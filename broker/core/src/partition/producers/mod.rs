//! What a partition remembers of its producers: enough to tell a retry from a new batch.
//!
//! Rebuilt from the batch headers in the log, and from snapshots that the log holds once per
//! segment (`snapshot.rs`), so that it holds over a restart and over retention.

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use lanecast_wire::batch::BatchHeader;
use lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

pub(crate) use self::snapshot::{Known, read_snapshot};
use crate::Now;
use crate::limits::{PRODUCER_KEPT_US, PRODUCERS_KNOWN_MAX, PRODUCERS_MAX};
use crate::mutants::{Mutant, planted};

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
