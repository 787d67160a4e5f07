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

use std::collections::VecDeque;

use bytes::Bytes;

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
    /// Acknowledged in order, not yet taken by the caller.
    acknowledged: VecDeque<Acknowledged<T>>,
    /// When a batch was acknowledged last, or the first of those that wait was accepted.
    progress_us: u64,
}

#[derive(Debug)]
struct Lane<T> {
    next_sequence: u64,
    /// Not acknowledged, in order of sequence without holes.
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Flowing,
    Rewinding { from: u64, retry_after_us: u64 },
    Waiting { until_us: u64 },
}

#[derive(Debug)]
struct Entry<T> {
    batch: Bytes,
    records: u32,
    answered: bool,
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
        };
        Self {
            lanes: (0..settings.partitions).map(lane).collect(),
            ready: VecDeque::new(),
            waiting: 0,
            in_flight: 0,
            unacknowledged: 0,
            retries: 0,
            acknowledged: VecDeque::new(),
            progress_us: 0,
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
        let (producer, epoch) = (self.settings.producer, self.settings.epoch);
        let sequence = Sequence(lane.next_sequence);
        let batch = batch::seal(sealed, producer, epoch, sequence, created_ms);
        lane.next_sequence += 1;
        lane.batches.push_back(Entry {
            batch,
            records: sealed.record_count,
            answered: false,
            reply: None,
            tag,
        });
        if self.unacknowledged == 0 {
            self.progress_us = now_us;
        }
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
        let sequence = Sequence(lane.front_sequence() + lane.sent as u64);
        let batch = lane.batches[lane.sent].batch.clone();
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
        let position = sequence.0.checked_sub(lane.front_sequence()).map(|at| at as usize);
        let Some(position) = position.filter(|at| *at < lane.sent && !lane.batches[*at].answered)
        else {
            return Ok(Outcome::Stale);
        };
        lane.in_flight -= 1;
        lane.batches[position].answered = true;
        self.in_flight -= 1;
        let outcome = match answer {
            Ok(reply) => {
                self.acknowledge(partition, position, reply, now_us);
                Ok(Outcome::Acknowledged)
            }
            Err(refusal) => self.refused(partition, sequence, refusal),
        };
        let lane = &mut self.lanes[partition as usize];
        if let LaneState::Rewinding { retry_after_us, .. } = lane.state
            && lane.in_flight == 0
        {
            let wait_us = lane.backoff.next_us().max(retry_after_us);
            lane.rewind();
            lane.state = LaneState::Waiting { until_us: now_us.saturating_add(wait_us) };
            self.waiting += 1;
        }
        self.offer(partition);
        outcome
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
            LaneState::Flowing | LaneState::Rewinding { .. } => None,
        };
        self.lanes.iter().filter_map(until).min()
    }

    /// How long batches have waited without any being acknowledged.
    #[must_use]
    pub fn stalled_us(&self, now_us: u64) -> u64 {
        if self.unacknowledged == 0 { 0 } else { now_us.saturating_sub(self.progress_us) }
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
        self.progress_us = now_us;
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
        sequence: Sequence,
        refusal: Refusal,
    ) -> Result<Outcome, ProducerFailed> {
        let failed = ProducerFailed {
            partition: self.partition(partition),
            sequence,
            code: refusal.code(),
            message: refusal.message.clone(),
        };
        let lane = &mut self.lanes[partition as usize];
        let retry_after_us = u64::from(refusal.retry_after_ms) * 1_000;
        lane.state = match lane.state {
            // Batches behind a refused one leave a hole and are refused for that.
            LaneState::Rewinding { from, retry_after_us: before }
                if refusal.code().is_retryable()
                    || (refusal.code() == ErrorCode::OUT_OF_ORDER_SEQUENCE
                        && sequence.0 > from) =>
            {
                let retry_after_us = before.max(retry_after_us);
                LaneState::Rewinding { from: from.min(sequence.0), retry_after_us }
            }
            LaneState::Flowing if refusal.code().is_retryable() => {
                LaneState::Rewinding { from: sequence.0, retry_after_us }
            }
            LaneState::Flowing | LaneState::Rewinding { .. } | LaneState::Waiting { .. } => {
                return Err(failed);
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
    fn front_sequence(&self) -> u64 {
        self.next_sequence - self.batches.len() as u64
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

#[cfg(test)]
mod tests;
