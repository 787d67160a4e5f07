//! Dead records on their way to the dead-letter topic.
//!
//! ```text
//!   group gives up ─▶ batches read ─▶ letters sent, a few at a time ─▶ all durable ─▶ group told
//!                                        │    ▲
//!                                refused ▼    │ after a while, from the first unanswered on
//! ```
//!
//! One dead letter per original batch, with the batch's dead records named. Letters carry the
//! group's producer id, the death's epoch, and as sequence the first offset that they name. What was
//! appended before a crash is recognised when it comes again, also where retention or damage has
//! taken other batches of the same death meanwhile. As such sequences have holes, a letter names the
//! one before it while that is not durable: so none is taken while one before it is not there.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::dead_letter::{self, Ranges};
use lanecast_wire::limits::{LETTER_RANGES_MAX, TEXT_BYTES_MAX};
use lanecast_wire::message::{OffsetRange, TopicInfo};
use lanecast_wire::{ErrorCode, Offset, PartitionId, ProducerEpoch, Sequence};

use super::queue::Queue;
use super::reader::{Fetched, Reader, batches};
use crate::disk::Operations;
use crate::group::{DeadLetter, GroupId};
use crate::limits::{
    BURIALS_MAX, LETTERS_IN_FLIGHT_MAX, LETTERS_RETRY_US_MAX, LETTERS_RETRY_US_MIN,
};
use crate::log::{Block, Log, ReadAt};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::{BuryMessage, Now, OperationId, ShardId, ShardMessage};

/// A dead letter of a group, which may be of many batches.
#[derive(Debug)]
struct Burial {
    death: DeadLetter,
    reader: Reader,
    /// No dead record below is still to be sent.
    next: u64,
    /// All letters have been made.
    complete: bool,
    /// Letters made so far; numbers them.
    made: u64,
    /// Sent and not answered, by number.
    unanswered: BTreeMap<u64, Letter>,
    retry_at_us: Option<u64>,
    retry_after_us: u64,
}

/// One batch of the dead-letter topic.
#[derive(Clone, Debug)]
struct Letter {
    sequence: Sequence,
    bytes: Bytes,
}

/// Where and when records die.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) now: Now,
    pub(super) origin: PartitionId,
    pub(super) topic: &'a TopicInfo,
}

/// What comes next of a burial.
enum Step {
    Batch(BatchHeader, Bytes),
    /// Dead records below `upto` are not there any more.
    Lost {
        upto: u64,
    },
    Complete,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Burials {
    shard: ShardId,
    under_way: BTreeMap<GroupId, Burial>,
    /// Letters that could not be appended and were sent again.
    pub(super) retries: u64,
    /// Dead records that retention or damage took before they were buried.
    pub(super) lost_records: u64,
}

impl Burials {
    pub(super) fn new(shard: ShardId) -> Self {
        Burials { shard, under_way: BTreeMap::new(), retries: 0, lost_records: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.under_way.values().filter_map(|burial| burial.retry_at_us).min()
    }

    /// Takes in what groups have given up on, and moves everything on. `data` is open. Has a group
    /// been told something?
    pub(super) fn pump(
        &mut self,
        Site { now, origin, topic }: Site<'_>,
        queue: &mut Queue,
        data: &mut Log,
        operations: &mut Operations,
        out: &mut Outbox,
    ) -> bool {
        while self.under_way.len() < BURIALS_MAX
            && let Some(death) = queue.poll_dead_letter()
        {
            // After the groups were read again: the same death, or one that follows it.
            let known = self.under_way.get(&death.group);
            if known.is_none_or(|burial| burial.death.epoch != death.epoch) {
                let mut burial = Burial::new(death);
                if planted(Mutant::RepeatDeadLetters) {
                    burial.death.producer.0 ^= now.mono_us;
                }
                self.under_way.insert(burial.death.group, burial);
            }
        }
        let shard = self.shard;
        for burial in self.under_way.values_mut() {
            if burial.retry_at_us.is_some_and(|at_us| at_us <= now.mono_us) {
                burial.retry_at_us = None;
                self.retries += burial.unanswered.len() as u64;
                burial.send_again(shard, origin, out);
            }
            while burial.retry_at_us.is_none()
                && !burial.complete
                && burial.unanswered.len() < LETTERS_IN_FLIGHT_MAX
                && let Some(found) = burial.step(data, operations)
            {
                match found {
                    Step::Batch(header, bytes) => {
                        for letter in burial.seal(origin, topic, &header, &bytes) {
                            burial.send(shard, origin, letter, out);
                        }
                        burial.next = header.last_offset().0 + 1;
                    }
                    Step::Lost { upto } => {
                        self.lost_records += burial.dead_between(burial.next, upto);
                        burial.next = upto;
                    }
                    Step::Complete => burial.complete = true,
                }
            }
        }
        self.finish(now, queue)
    }

    /// Tells groups whose dead are buried.
    fn finish(&mut self, now: Now, queue: &mut Queue) -> bool {
        let before = self.under_way.len();
        self.under_way.retain(|group, burial| {
            let answered = burial.unanswered.is_empty() || planted(Mutant::LoseDeadLetters);
            let finished = burial.complete && answered;
            if finished {
                queue.dead_lettered(now, *group, burial.death.epoch);
            }
            !finished
        });
        self.under_way.len() < before
    }

    /// The dead-letter topic's partition has answered.
    pub(super) fn buried(
        &mut self,
        now: Now,
        group: GroupId,
        epoch: ProducerEpoch,
        number: u64,
        outcome: Result<(), ErrorCode>,
    ) {
        let Some(burial) = self.under_way.get_mut(&group) else { return };
        if burial.death.epoch != epoch {
            return;
        }
        match outcome {
            Ok(()) => {
                burial.unanswered.remove(&number);
                burial.retry_after_us = LETTERS_RETRY_US_MIN;
            }
            // Whatever the reason, the letter waits: it is never given up.
            Err(_) if burial.retry_at_us.is_none() => {
                burial.retry_at_us = Some(now.mono_us + burial.retry_after_us);
                burial.retry_after_us = (burial.retry_after_us * 2).min(LETTERS_RETRY_US_MAX);
            }
            Err(_) => {}
        }
    }

    /// Blocks of the data log for whoever asked.
    pub(super) fn answered(
        &mut self,
        operation: OperationId,
        blocks: &mut Vec<Block>,
        next: Option<ReadAt>,
    ) -> bool {
        let mut readers = self.under_way.values_mut().map(|burial| &mut burial.reader);
        readers.any(|reader| reader.answered(operation, blocks, next))
    }

    /// Lets go of what was read for letters that wait for their topic: others wait for the memory, that
    /// topic perhaps among them.
    pub(super) fn release_reads(&mut self) {
        self.under_way.values_mut().for_each(|burial| burial.reader.release());
    }

    /// The data log is closed: what was read of it or asked for is void.
    pub(super) fn data_failed(&mut self) {
        self.under_way.values_mut().for_each(|burial| burial.reader.reset());
    }
}

impl Burial {
    fn new(death: DeadLetter) -> Self {
        Burial {
            next: death.ranges.first().map_or(0, |(first, _)| first.0),
            complete: death.ranges.is_empty(),
            death,
            reader: Reader::default(),
            made: 0,
            unanswered: BTreeMap::new(),
            retry_at_us: None,
            retry_after_us: LETTERS_RETRY_US_MIN,
        }
    }

    /// The next batch with dead records. `None`: it has to be waited for.
    fn step(&mut self, data: &mut Log, operations: &mut Operations) -> Option<Step> {
        loop {
            let Some(next) = self.dead_from(self.next) else { return Some(Step::Complete) };
            self.next = next;
            let block = match self.reader.fetch(next, data, operations) {
                Fetched::Block(block) => block,
                Fetched::Waiting | Fetched::AtEnd => return None,
                Fetched::Gone { log_start: next } | Fetched::Damaged { next } => {
                    return Some(Step::Lost { upto: next });
                }
            };
            let found = batches(&block).find(|(_, header)| header.last_offset().0 >= next);
            match found {
                Some((at, header)) => {
                    let bytes = block.payload.slice(at..at + header.batch_bytes());
                    return Some(Step::Batch(header, bytes));
                }
                None => self.next = block.end_offset(),
            }
        }
    }

    fn seal(
        &mut self,
        origin: PartitionId,
        topic: &TopicInfo,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Vec<Letter> {
        let (from, to) = (header.base_offset.0.max(self.next), header.last_offset().0);
        let clipped = |(first, last): &(Offset, Offset)| {
            let range = OffsetRange { first: first.0.max(from), last: last.0.min(to) };
            (range.first <= range.last).then_some(range)
        };
        let dead: Vec<OffsetRange> = self.death.ranges.iter().filter_map(clipped).collect();
        let mut letters = Vec::new();
        for ranges in dead.chunks(LETTER_RANGES_MAX) {
            let letter = dead_letter::DeadLetter {
                topic: &topic.name,
                topic_id: origin.topic,
                partition: origin.index,
                group: &self.death.name,
                reason: cut(&self.death.reason),
                attempts: self.death.attempts,
                died_ms: self.death.at_ms,
                ranges: Ranges::Listed(ranges),
                batch: bytes,
            };
            let DeadLetter { producer, epoch, at_ms, .. } = self.death;
            let sequence = Sequence(ranges[0].first);
            let bytes = batch::seal(&letter.seal(), producer, epoch, sequence, at_ms);
            letters.push(Letter { sequence, bytes });
        }
        letters
    }

    fn send(&mut self, shard: ShardId, origin: PartitionId, letter: Letter, out: &mut Outbox) {
        let follows = self.unanswered.last_key_value().map(|(_, before)| before.sequence);
        bury(shard, origin, &self.death, (self.made, &letter), follows, out);
        self.unanswered.insert(self.made, letter);
        self.made += 1;
    }

    /// All that are not answered, in order.
    fn send_again(&self, shard: ShardId, origin: PartitionId, out: &mut Outbox) {
        let mut follows = None;
        for (number, letter) in &self.unanswered {
            bury(shard, origin, &self.death, (*number, letter), follows, out);
            follows = Some(letter.sequence);
        }
    }

    /// The first dead record at or behind `offset`.
    fn dead_from(&self, offset: u64) -> Option<u64> {
        let range = self.death.ranges.iter().find(|(_, last)| last.0 >= offset)?;
        Some(range.0.0.max(offset))
    }

    fn dead_between(&self, from: u64, to: u64) -> u64 {
        let within = |(first, last): &(Offset, Offset)| {
            (last.0 + 1).min(to).saturating_sub(first.0.max(from))
        };
        self.death.ranges.iter().map(within).sum()
    }
}

fn bury(
    shard: ShardId,
    origin: PartitionId,
    death: &DeadLetter,
    (number, letter): (u64, &Letter),
    follows: Option<Sequence>,
    out: &mut Outbox,
) {
    let (group, epoch, letter) = (death.group, death.epoch, letter.bytes.clone());
    let message = BuryMessage { origin, group, epoch, number, follows, letter };
    out.send(shard, ShardMessage::Bury(Box::new(message)));
}

/// As much of a text as a letter may have.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]
mod tests {
    use lanecast_wire::ProducerId;

    use super::*;

    fn burial() -> Burial {
        Burial::new(DeadLetter {
            group: GroupId(1),
            name: "g".into(),
            producer: ProducerId(1),
            epoch: ProducerEpoch(2),
            ranges: vec![(Offset(0), Offset(9))],
            attempts: 1,
            at_ms: 1,
            reason: String::new(),
        })
    }

    fn letter(sequence: u64) -> Letter {
        Letter { sequence: Sequence(sequence), bytes: Bytes::new() }
    }

    #[test]
    fn a_letter_names_the_one_before_it_while_that_is_not_answered() {
        let origin = PartitionId { topic: lanecast_wire::TopicId(1), index: 0 };
        let mut out = Outbox::new(ShardId(0));
        let mut burial = burial();
        let follows = |out: &mut Outbox| -> Vec<(u64, Option<u64>)> {
            let sent = out.local.drain(..).map(|message| match message {
                ShardMessage::Bury(bury) => (bury.number, bury.follows.map(|before| before.0)),
                _ => panic!("{message:?}"),
            });
            sent.collect()
        };
        for sequence in [3, 5, 8] {
            burial.send(ShardId(0), origin, letter(sequence), &mut out);
        }
        assert_eq!(follows(&mut out), [(0, None), (1, Some(3)), (2, Some(5))]);
        burial.unanswered.remove(&0);
        burial.send_again(ShardId(0), origin, &mut out);
        assert_eq!(follows(&mut out), [(1, None), (2, Some(5))]);
        burial.unanswered.clear();
        burial.send(ShardId(0), origin, letter(9), &mut out);
        assert_eq!(follows(&mut out), [(3, None)]);
    }

    #[test]
    fn an_answer_to_another_death_counts_for_nothing() {
        let now = Now { mono_us: 1, wall_ms: 1 };
        let group = GroupId(1);
        let mut burials = Burials::new(ShardId(0));
        let mut burial = burial();
        burial.unanswered.insert(0, letter(0));
        burials.under_way.insert(group, burial);
        let left = |burials: &Burials| burials.under_way[&group].unanswered.len();
        for outcome in [Ok(()), Err(ErrorCode::OVERLOADED)] {
            burials.buried(now, group, ProducerEpoch(1), 0, outcome);
            assert_eq!((left(&burials), burials.poll_timeout()), (1, None));
        }
        burials.buried(now, group, ProducerEpoch(2), 0, Ok(()));
        assert_eq!(left(&burials), 0);
    }
}
