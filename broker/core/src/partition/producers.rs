//! What a partition remembers of its producers: enough to tell a retry from a new batch.
//!
//! Rebuilt from the batch headers in the log, so it holds over a restart.

use std::collections::{BTreeMap, VecDeque};

use lanecast_wire::batch::BatchHeader;
use lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId};

use crate::limits::PRODUCERS_MAX;
use crate::mutants::{Mutant, planted};

/// A batch that has been appended.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    sequence: u64,
    base_offset: u64,
    record_count: u32,
}

#[derive(Debug)]
struct Producer {
    epoch: ProducerEpoch,
    next_sequence: u64,
    recent: VecDeque<Remembered>,
    used: u64,
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
    Refused(ErrorCode),
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    /// By last use, oldest first.
    by_use: BTreeMap<u64, ProducerId>,
    uses: u64,
}

impl Producers {
    pub(crate) fn clear(&mut self) {
        *self = Producers::default();
    }

    pub(crate) fn judge(&self, header: &BatchHeader) -> Judged {
        let Some(producer) = self.producers.get(&header.producer) else {
            return first_of(header);
        };
        if header.epoch < producer.epoch && !planted(Mutant::AcceptOldEpoch) {
            return Judged::Refused(ErrorCode::FENCED_EPOCH);
        }
        if header.epoch > producer.epoch {
            return first_of(header);
        }
        if header.sequence.0 == producer.next_sequence
            || (header.sequence.0 > producer.next_sequence && planted(Mutant::AcceptSequenceHole))
        {
            return Judged::New;
        }
        let known = producer.recent.iter().find(|batch| batch.sequence == header.sequence.0);
        let newest = producer.recent.back().filter(|_| planted(Mutant::AnswerWrongOffset));
        match known.map(|batch| newest.unwrap_or(batch)) {
            Some(batch) if batch.record_count == header.record_count => Judged::Duplicate {
                base_offset: batch.base_offset,
                end_offset: batch.base_offset + u64::from(batch.record_count),
            },
            Some(_) => Judged::Refused(ErrorCode::INVALID_REQUEST),
            None => Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE),
        }
    }

    /// The batch stands at `base_offset` now.
    pub(crate) fn appended(&mut self, header: &BatchHeader, base_offset: u64) {
        self.uses += 1;
        let used = self.uses;
        let fresh =
            || Producer { epoch: header.epoch, next_sequence: 0, recent: VecDeque::new(), used: 0 };
        let producer = self.producers.entry(header.producer).or_insert_with(fresh);
        if producer.epoch != header.epoch {
            producer.epoch = header.epoch;
            producer.recent.clear();
        }
        producer.next_sequence = header.sequence.0.saturating_add(1);
        producer.recent.push_back(Remembered {
            sequence: header.sequence.0,
            base_offset,
            record_count: header.record_count,
        });
        if producer.recent.len() > BATCHES_IN_FLIGHT_PER_PARTITION_MAX as usize {
            producer.recent.pop_front();
        }
        self.by_use.remove(&producer.used);
        producer.used = used;
        self.by_use.insert(used, header.producer);
        if self.producers.len() > PRODUCERS_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.producers.remove(&oldest);
        }
    }
}

/// Nothing is known of this producer, or of this epoch: it begins at the beginning.
fn first_of(header: &BatchHeader) -> Judged {
    if header.sequence.0 == 0 {
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

    const HOLE: Judged = Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE);

    #[test]
    fn sequences_have_no_holes_and_begin_at_zero() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(&header(1, 0, 1)), HOLE);
        assert_eq!(producers.judge(&header(1, 0, 0)), Judged::New);
        producers.appended(&header(1, 0, 0), 50);
        assert_eq!(producers.judge(&header(1, 0, 2)), HOLE);
        assert_eq!(producers.judge(&header(1, 0, 1)), Judged::New);
    }

    #[test]
    fn every_retry_in_the_window_finds_its_first_offset() {
        let mut producers = Producers::default();
        let window = u64::from(BATCHES_IN_FLIGHT_PER_PARTITION_MAX);
        for sequence in 0..=window {
            producers.appended(&header(1, 0, sequence), 100 * sequence);
        }
        for sequence in 1..=window {
            let first =
                Judged::Duplicate { base_offset: 100 * sequence, end_offset: 100 * sequence + 10 };
            assert_eq!(producers.judge(&header(1, 0, sequence)), first);
        }
        assert_eq!(producers.judge(&header(1, 0, 0)), HOLE, "older than the window");
    }

    #[test]
    fn higher_epoch_starts_over_and_fences_the_lower() {
        let mut producers = Producers::default();
        producers.appended(&header(1, 3, 0), 0);
        assert_eq!(producers.judge(&header(1, 4, 1)), HOLE);
        producers.appended(&header(1, 4, 0), 10);
        let fenced = Judged::Refused(ErrorCode::FENCED_EPOCH);
        assert_eq!(producers.judge(&header(1, 3, 1)), fenced);
        assert_eq!(producers.judge(&header(1, 4, 1)), Judged::New);
    }

    #[test]
    fn least_recently_used_producer_is_forgotten() {
        let mut producers = Producers::default();
        for producer in 0..PRODUCERS_MAX as u64 {
            producers.appended(&header(producer, 0, 0), producer);
        }
        producers.appended(&header(0, 0, 1), 9_000);
        producers.appended(&header(u64::MAX, 0, 0), 9_001);
        assert_eq!(producers.judge(&header(1, 0, 1)), HOLE, "1 was the oldest");
        assert_eq!(producers.judge(&header(0, 0, 2)), Judged::New);
        assert_eq!(producers.judge(&header(2, 0, 1)), Judged::New);
    }
}
