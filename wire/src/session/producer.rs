//! A producer's batches on their way to acknowledgement.
//!
//! Each partition has a lane. A lane numbers its batches, sends them in order with at most a window
//! of them unanswered, and after a retryable refusal goes back:
//!
//! ```text
//!            send                    refused, retryable
//!  Flowing ────────▶ Flowing ───────────────────────────▶ Rewinding   (nothing is sent)
//!     ▲                                                       │ all that was in flight is answered
//!     └───────── the wait is over ──────── Waiting ◀──────────┘
//! ```
//!
//! Then everything that is not acknowledged is sent again, in order, with the same bytes, so with
//! the same (producer, epoch, sequence): whatever the broker had appended already, it answers as it
//! did before. A lost connection does the same for all lanes at once.
//!
//! A broker that has forgotten a lane's sequences (its log ended with a power cut, retention took
//! the producer's last batch, a `memory` topic was restarted) refuses what comes next as out of
//! order. Such a lane waits like a rewinding one, and then starts over, see [`lost`].

use std::collections::VecDeque;

use bytes::Bytes;

mod lost;

use super::Backoff;
use crate::batch;
use crate::builder::SealedBody;
use crate::limits::{
    BATCHES_IN_FLIGHT_PER_PARTITION_MAX, LANE_BATCHES_MAX, PRODUCES_IN_FLIGHT_MAX,
};
use crate::message::{ProduceReply, Refusal};
use crate::{ErrorCode, PartitionId, ProducerEpoch, ProducerId, SLOTS, Sequence, TopicId};

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    pub topic: TopicId,
    /// 1 to [`SLOTS`].
    pub partitions: u32,
    /// Unanswered batches per partition, 1 to [`BATCHES_IN_FLIGHT_PER_PARTITION_MAX`].
    pub window: u32,
    /// First and longest wait after a retryable refusal.
    pub retry_first_us: u64,
    pub retry_longest_us: u64,
    pub on_lost_sequence: OnLostSequence,
}

/// What a producer does when the broker has forgotten its sequences while batches are in doubt:
/// sent before, with an answer that never came or that told nothing of their fate.
///
/// Where nothing is in doubt, a producer starts over by itself: nothing is doubled or lost by that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLostSequence {
    /// Ends the producer. What was not acknowledged may or may not be in the topic.
    #[default]
    Fail,
    /// Sends everything that is not acknowledged again under a new epoch. Batches in doubt that
    /// did reach the log are in it twice then.
    StartOver,
}

/// A batch to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    pub partition: PartitionId,
    pub sequence: Sequence,
    pub batch: Bytes,
}

/// What an answer meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// [`ProducerSession::poll_acknowledged`] may have something now.
    Acknowledged,
    /// The batch will be sent again.
    Retrying { refusal: Refusal },
    /// No batch waits for this answer.
    Stale,
}

/// A batch that is in the log, and all those of its partition before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged<T> {
    pub partition: u32,
    pub tag: T,
    pub records: u32,
    pub bytes: u32,
    pub reply: ProduceReply,
}

/// The broker will never take a batch: nothing behind it can be appended either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition}, batch {sequence}: {code}: {message}")]
pub struct ProducerFailed {
    pub partition: PartitionId,
    pub sequence: Sequence,
    pub code: ErrorCode,
    pub message: String,
}

/// Sequences, window, retries and their order for one producer. `T` comes back with a batch's
/// acknowledgement.
#[derive(Debug)]
pub struct ProducerSession<T> {
    settings: ProducerSettings,
    lanes: Vec<Lane<T>>,
    /// Lanes that have something to send, each once.
    ready: VecDeque<u32>,
    /// Lanes in [`LaneState::Waiting`].
    waiting: u32,
    in_flight: u32,
    unacknowledged: u64,
    retries: u64,
    /// Times that a lane began a new epoch, and batches that were in doubt when it did.
    starts_over: u64,
    doubtful: u64,
    /// Acknowledged in order, not yet taken by the caller.
    acknowledged: VecDeque<Acknowledged<T>>,
}

#[derive(Debug)]
struct Lane<T> {
    epoch: ProducerEpoch,
    next_sequence: u64,
    /// Not acknowledged, in order of sequence.
    batches: VecDeque<Entry<T>>,
    /// Of those, the first `sent` were sent over this connection since the last rewind, or had
    /// their acknowledgement before ...
    sent: usize,
    /// ... and this many of them have no answer yet.
    in_flight: u32,
    state: LaneState,
    backoff: Backoff,
    /// Stands in `ready`.
    queued: bool,
    /// When a batch was acknowledged last, or the first of those that wait was accepted.
    progress_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Flowing,
    Rewinding {
        from: u64,
        retry_after_us: u64,
    },
    Waiting {
        until_us: u64,
    },
    /// As rewinding; what comes after it is a new epoch. `refused` is the batch that told.
    Lost {
        refused: u64,
    },
}

#[derive(Debug)]
struct Entry<T> {
    batch: Bytes,
    sequence: u64,
    records: u32,
    answered: bool,
    /// It was sent, and whether it was appended is not known.
    in_doubt: bool,
    /// The log has it, but a batch in front was refused when it was sent again. That one is in the
    /// log too, as its next retry will find.
    reply: Option<ProduceReply>,
    tag: T,
}

impl<T> ProducerSession<T> {
    #[must_use]
    pub fn new(settings: ProducerSettings) -> Self {
        assert!((1..=SLOTS).contains(&settings.partitions), "partitions of a topic");
        assert!(
            (1..=BATCHES_IN_FLIGHT_PER_PARTITION_MAX).contains(&settings.window),
            "window of a partition"
        );
        let lane = |index| Lane {
            epoch: settings.epoch,
            next_sequence: 0,
            batches: VecDeque::new(),
            sent: 0,
            in_flight: 0,
            state: LaneState::Flowing,
            backoff: Backoff::new(
                settings.retry_first_us,
                settings.retry_longest_us,
                settings.producer.0 ^ u64::from(index),
            ),
            queued: false,
            progress_us: 0,
        };
        Self {
            lanes: (0..settings.partitions).map(lane).collect(),
            ready: VecDeque::new(),
            waiting: 0,
            in_flight: 0,
            unacknowledged: 0,
            retries: 0,
            starts_over: 0,
            doubtful: 0,
            acknowledged: VecDeque::new(),
            settings,
        }
    }

    /// Seals a body as the partition's next batch.
    ///
    /// # Errors
    /// Gives `tag` back: [`LANE_BATCHES_MAX`] batches of the partition wait already.
    pub fn accept(
        &mut self,
        partition: u32,
        sealed: &SealedBody,
        created_ms: i64,
        tag: T,
        now_us: u64,
    ) -> Result<(), T> {
        let lane = &mut self.lanes[partition as usize];
        if lane.batches.len() >= LANE_BATCHES_MAX {
            return Err(tag);
        }
        if lane.batches.is_empty() {
            lane.progress_us = now_us;
        }
        let (producer, sequence) = (self.settings.producer, lane.next_sequence);
        let batch = batch::seal(sealed, producer, lane.epoch, Sequence(sequence), created_ms);
        lane.next_sequence += 1;
        lane.batches.push_back(Entry {
            batch,
            sequence,
            records: sealed.record_count,
            answered: false,
            in_doubt: false,
            reply: None,
            tag,
        });
        self.unacknowledged += 1;
        self.offer(partition);
        Ok(())
    }

    /// The next batch to send, taken from the partitions in turn.
    pub fn poll_send(&mut self, now_us: u64) -> Option<Send> {
        self.end_waits(now_us);
        if self.in_flight >= PRODUCES_IN_FLIGHT_MAX {
            return None;
        }
        let index = self.ready.pop_front()?;
        let lane = &mut self.lanes[index as usize];
        lane.queued = false;
        let Entry { batch, sequence, .. } = &lane.batches[lane.sent];
        let (batch, sequence) = (batch.clone(), Sequence(*sequence));
        lane.sent += 1;
        lane.pass_acknowledged();
        lane.in_flight += 1;
        self.in_flight += 1;
        self.offer(index);
        Some(Send { partition: self.partition(index), sequence, batch })
    }

    /// Takes the answer to a batch that was sent over the present connection.
    ///
    /// # Errors
    /// The refusal is final: the producer has come to its end.
    pub fn answered(
        &mut self,
        partition: u32,
        sequence: Sequence,
        answer: Result<ProduceReply, Refusal>,
        now_us: u64,
    ) -> Result<Outcome, ProducerFailed> {
        let lane = &mut self.lanes[partition as usize];
        let Some(position) = lane.unanswered(sequence) else { return Ok(Outcome::Stale) };
        lane.in_flight -= 1;
        lane.batches[position].answered = true;
        self.in_flight -= 1;
        let outcome = match answer {
            Ok(reply) => {
                self.acknowledge(partition, position, reply, now_us);
                Outcome::Acknowledged
            }
            Err(refusal) => self.refused(partition, position, refusal)?,
        };
        self.turn_back(partition, now_us)?;
        self.offer(partition);
        Ok(outcome)
    }

    /// Once nothing of a lane that must go back is in flight any more, it does.
    fn turn_back(&mut self, partition: u32, now_us: u64) -> Result<(), ProducerFailed> {
        let lane = &mut self.lanes[partition as usize];
        if lane.in_flight > 0 {
            return Ok(());
        }
        let retry_after_us = match lane.state {
            LaneState::Flowing | LaneState::Waiting { .. } => return Ok(()),
            LaneState::Rewinding { retry_after_us, .. } => retry_after_us,
            LaneState::Lost { refused } => {
                self.start_over(partition, Sequence(refused))?;
                0
            }
        };
        let lane = &mut self.lanes[partition as usize];
        let wait_us = lane.backoff.next_us().max(retry_after_us);
        lane.rewind();
        lane.state = LaneState::Waiting { until_us: now_us.saturating_add(wait_us) };
        self.waiting += 1;
        Ok(())
    }

    /// The next acknowledged batch. Those of one partition come in order and without holes.
    pub fn poll_acknowledged(&mut self) -> Option<Acknowledged<T>> {
        self.acknowledged.pop_front()
    }

    /// The connection is gone, and with it every answer under way: all that is not acknowledged
    /// will be sent again, in order.
    pub fn disconnected(&mut self) {
        self.in_flight = 0;
        self.waiting = 0;
        for index in 0..self.settings.partitions {
            let lane = &mut self.lanes[index as usize];
            self.retries += u64::from(lane.in_flight);
            lane.in_flight = 0;
            for entry in lane.batches.iter_mut().take(lane.sent) {
                entry.in_doubt |= !entry.answered;
            }
            lane.state = LaneState::Flowing;
            lane.rewind();
            self.offer(index);
        }
    }

    /// When [`Self::poll_send`] may have something that it does not have now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
        let until = |lane: &Lane<T>| match lane.state {
            LaneState::Waiting { until_us } => Some(until_us),
            LaneState::Flowing | LaneState::Rewinding { .. } | LaneState::Lost { .. } => None,
        };
        self.lanes.iter().filter_map(until).min()
    }

    /// The partition whose batches have waited longest without any of them being acknowledged, and
    /// for how long. What others get acknowledged does not help it.
    #[must_use]
    pub fn stalled(&self, now_us: u64) -> Option<(u32, u64)> {
        if self.unacknowledged == 0 {
            return None;
        }
        let waiting = (0..).zip(&self.lanes).filter(|(_, lane)| !lane.batches.is_empty());
        let (index, lane) = waiting.min_by_key(|(_, lane)| lane.progress_us)?;
        Some((index, now_us.saturating_sub(lane.progress_us)))
    }

    /// Batches that are accepted and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        self.unacknowledged
    }

    /// Batches that are sent and not answered.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Batches that had to be sent again so far.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Keeps the reply, and takes all that is acknowledged without a hole off the front.
    fn acknowledge(&mut self, partition: u32, position: usize, reply: ProduceReply, now_us: u64) {
        let lane = &mut self.lanes[partition as usize];
        lane.batches[position].reply = Some(reply);
        lane.backoff.reset();
        lane.progress_us = now_us;
        while let Some(Entry { reply: Some(reply), .. }) = lane.batches.front() {
            let reply = *reply;
            let Some(Entry { batch, records, tag, .. }) = lane.batches.pop_front() else { break };
            lane.sent -= 1;
            self.unacknowledged -= 1;
            let bytes = batch.len() as u32;
            let acknowledged = Acknowledged { partition, tag, records, bytes, reply };
            self.acknowledged.push_back(acknowledged);
        }
    }

    fn refused(
        &mut self,
        partition: u32,
        position: usize,
        refusal: Refusal,
    ) -> Result<Outcome, ProducerFailed> {
        let code = refusal.code();
        let lane = &mut self.lanes[partition as usize];
        let entry = &mut lane.batches[position];
        entry.in_doubt |= !tells_that_it_was_not_appended(code);
        let sequence = entry.sequence;
        let retry_after_us = u64::from(refusal.retry_after_ms) * 1_000;
        let out_of_order = code == ErrorCode::OUT_OF_ORDER_SEQUENCE;
        lane.state = match lane.state {
            LaneState::Lost { .. } if code.is_retryable() || out_of_order => lane.state,
            // Batches behind a refused one leave a hole and are refused for that.
            LaneState::Rewinding { from, retry_after_us: before }
                if code.is_retryable() || (out_of_order && sequence > from) =>
            {
                let retry_after_us = before.max(retry_after_us);
                LaneState::Rewinding { from: from.min(sequence), retry_after_us }
            }
            LaneState::Flowing if code.is_retryable() => {
                LaneState::Rewinding { from: sequence, retry_after_us }
            }
            // The first batch of an epoch leaves no hole, whatever the broker has forgotten.
            LaneState::Flowing | LaneState::Rewinding { .. } if out_of_order && sequence > 0 => {
                LaneState::Lost { refused: sequence }
            }
            LaneState::Flowing
            | LaneState::Rewinding { .. }
            | LaneState::Waiting { .. }
            | LaneState::Lost { .. } => {
                return Err(ProducerFailed {
                    partition: self.partition(partition),
                    sequence: Sequence(sequence),
                    code,
                    message: refusal.message,
                });
            }
        };
        self.retries += 1;
        Ok(Outcome::Retrying { refusal })
    }

    /// Puts the lane into `ready` if it has something to send.
    fn offer(&mut self, index: u32) {
        let lane = &mut self.lanes[index as usize];
        let may_send = lane.state == LaneState::Flowing
            && lane.sent < lane.batches.len()
            && lane.in_flight < self.settings.window;
        if may_send && !lane.queued {
            lane.queued = true;
            self.ready.push_back(index);
        }
        if !may_send && lane.queued {
            lane.queued = false;
            self.ready.retain(|queued| *queued != index);
        }
    }

    fn end_waits(&mut self, now_us: u64) {
        if self.waiting == 0 {
            return;
        }
        for index in 0..self.settings.partitions {
            let lane = &mut self.lanes[index as usize];
            if matches!(lane.state, LaneState::Waiting { until_us } if until_us <= now_us) {
                lane.state = LaneState::Flowing;
                self.waiting -= 1;
                self.offer(index);
            }
        }
    }

    fn partition(&self, index: u32) -> PartitionId {
        PartitionId { topic: self.settings.topic, index }
    }
}

impl<T> Lane<T> {
    /// Where the batch of that sequence stands, if it waits for an answer. Answers come in about
    /// the order of sending, so it is one of the first.
    fn unanswered(&self, sequence: Sequence) -> Option<usize> {
        let mut sent = self.batches.iter().take(self.sent);
        sent.position(|entry| entry.sequence == sequence.0 && !entry.answered)
    }

    fn rewind(&mut self) {
        for entry in self.batches.iter_mut().take(self.sent) {
            entry.answered = entry.reply.is_some();
        }
        self.sent = 0;
        self.pass_acknowledged();
    }

    /// The next batch to send is one without acknowledgement.
    fn pass_acknowledged(&mut self) {
        while self.batches.get(self.sent).is_some_and(|entry| entry.reply.is_some()) {
            self.sent += 1;
        }
    }
}

/// Whether the broker answers so only before it has touched its log.
fn tells_that_it_was_not_appended(code: ErrorCode) -> bool {
    [
        ErrorCode::OVERLOADED,
        ErrorCode::DRAINING,
        ErrorCode::PARTITION_OFFLINE,
        ErrorCode::OUT_OF_ORDER_SEQUENCE,
    ]
    .contains(&code)
}

#[cfg(test)]
mod tests;
