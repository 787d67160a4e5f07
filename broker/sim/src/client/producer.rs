//! A producer: numbered batches, a window of them in flight, the same bytes again until answered.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::builder::SealedBody;
use lanecast_wire::message::{BrokerMessage, ClientMessage, Produce, Refusal};
use lanecast_wire::summary::SummaryBuilder;
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

use super::{Line, Turn};
use crate::oracle::BatchKey;

#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    epoch: u32,
    /// Batches still to be made.
    left: u64,
    next_batch_us: u64,
    lanes: BTreeMap<u32, Lane>,
    /// Requests of this connection by correlation number.
    requests: BTreeMap<u64, (u32, u64)>,
    /// This connection may still have answers to an earlier epoch.
    stale: bool,
}

/// One partition as this producer sees it.
#[derive(Debug, Default)]
struct Lane {
    next_sequence: u64,
    unanswered: VecDeque<Batch>,
    /// After a refusal: not before this.
    resume_us: u64,
}

#[derive(Debug)]
struct Batch {
    sequence: u64,
    bytes: Bytes,
    /// The latest request with it on this connection.
    request: Option<u64>,
}

/// A batch has one of a few keys; one in eight says nothing of it.
fn summary(fill: u8) -> Vec<u8> {
    let mut summary = SummaryBuilder::default();
    if fill >= 32 {
        summary.add(super::key(u32::from(fill)));
    }
    summary.seal()
}

impl Producer {
    pub(crate) fn new(id: u64, batches: u64) -> Self {
        let (lanes, requests) = (BTreeMap::new(), BTreeMap::new());
        Self { id, epoch: 0, left: batches, next_batch_us: 0, lanes, requests, stale: false }
    }

    /// Everything is made and answered.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.lanes.values().all(|lane| lane.unanswered.is_empty())
    }

    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        self.requests.clear();
        self.stale = false;
        if !turn.calm && turn.rng.one_in(12) {
            self.start_over();
            self.stale = false;
        }
        for lane in self.lanes.values_mut() {
            for batch in &mut lane.unanswered {
                batch.request = None;
            }
        }
    }

    /// The process died: a new epoch, and what was unanswered is nobody's business any more.
    fn start_over(&mut self) {
        self.epoch += 1;
        self.lanes.clear();
        self.requests.clear();
        self.stale = true;
    }

    pub(crate) fn woken(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        if self.left > 0 && turn.now_us >= self.next_batch_us {
            self.make(turn);
            let pause_us = if turn.calm { 100 } else { turn.scenario.produce_pause_us };
            self.next_batch_us = turn.now_us + turn.rng.delay(pause_us / 8, pause_us);
        }
        self.send(line, turn);
        if !self.is_done() {
            let wait_us = self.next_batch_us.saturating_sub(turn.now_us).max(1_000);
            turn.wake_in(wait_us);
        }
    }

    fn make(&mut self, turn: &mut Turn<'_>) {
        let partition = turn.rng.below(u64::from(turn.scenario.partitions)) as u32;
        let lane = self.lanes.entry(partition).or_default();
        if lane.unanswered.len() >= turn.scenario.window {
            return;
        }
        let sequence = lane.next_sequence;
        let body_bytes = turn.rng.between(1, turn.scenario.batch_bytes_max) as usize;
        let fill = turn.rng.next().to_le_bytes();
        let sealed = SealedBody {
            body: fill.iter().copied().cycle().take(body_bytes).collect(),
            schema: batch::schema::GENERIC,
            record_count: turn.rng.between(1, 20) as u32,
            min_time_ms: 0,
            max_time_ms: (turn.now_us / 1000) as i64,
            summary: summary(fill[0]),
        };
        let (id, epoch) = (ProducerId(self.id), ProducerEpoch(self.epoch));
        let bytes = batch::seal(&sealed, id, epoch, Sequence(sequence), 0);
        let key = BatchKey { partition, producer: self.id, epoch: self.epoch, sequence };
        turn.oracle.sent(key, bytes.clone());
        lane.unanswered.push_back(Batch { sequence, bytes, request: None });
        lane.next_sequence += 1;
        self.left -= 1;
    }

    fn send(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let topic = line.topic().expect("woken with a topic");
        for (partition, lane) in &mut self.lanes {
            if lane.resume_us > turn.now_us {
                continue;
            }
            for batch in lane.unanswered.iter_mut().filter(|batch| batch.request.is_none()) {
                let produce = Produce { topic, partition: *partition };
                let request = line.send(turn, &ClientMessage::Produce(produce), &batch.bytes);
                batch.request = Some(request);
                self.requests.insert(request, (*partition, batch.sequence));
            }
        }
    }

    pub(crate) fn message(
        &mut self,
        request: u64,
        message: &BrokerMessage,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) {
        let Some((partition, sequence)) = self.requests.remove(&request) else {
            assert!(self.stale, "a producer got {message:?} for nothing it asked");
            return;
        };
        let key = BatchKey { partition, producer: self.id, epoch: self.epoch, sequence };
        match message {
            BrokerMessage::ProduceReply(reply) => {
                turn.oracle.acknowledged(key, reply.base_offset, reply.duplicate);
                let lane = self.lanes.entry(partition).or_default();
                lane.unanswered.retain(|batch| batch.sequence != sequence);
                self.send(line, turn);
            }
            BrokerMessage::Refusal(refusal) => self.refused(key, request, refusal, turn),
            BrokerMessage::HelloReply(_)
            | BrokerMessage::Topics(_)
            | BrokerMessage::SubscribeReply(_)
            | BrokerMessage::Deliver(_)
            | BrokerMessage::Missed(_)
            | BrokerMessage::Done(_)
            | BrokerMessage::Groups(_)
            | BrokerMessage::Settled(_)
            | BrokerMessage::Goodbye(_) => panic!("a producer got {message:?}"),
        }
    }

    /// Goes back to the refused batch; those behind it may have been refused on its account.
    fn refused(&mut self, key: BatchKey, request: u64, refusal: &Refusal, turn: &mut Turn<'_>) {
        let code = refusal.code();
        let lane = self.lanes.entry(key.partition).or_default();
        let Some(at) = lane.unanswered.iter().position(|batch| batch.request == Some(request))
        else {
            return;
        };
        let behind_another = at > 0;
        if code == ErrorCode::OUT_OF_ORDER_SEQUENCE && turn.scenario.may_forget() {
            // With the last batch of a producer retention takes the memory of it, and a restart
            // the rest; lost power takes it on a topic that is not flushed. As for any failure
            // that is final, its program starts over.
            turn.oracle.forgotten_producers += u64::from(!behind_another);
            if !behind_another {
                self.start_over();
                return;
            }
        }
        let allowed =
            code.is_retryable() || (code == ErrorCode::OUT_OF_ORDER_SEQUENCE && behind_another);
        assert!(allowed, "{key:?} is refused, {at} before it unanswered: {refusal:?}");
        for batch in lane.unanswered.iter_mut().skip(at) {
            batch.request = None;
        }
        lane.resume_us = turn.now_us + turn.rng.between(500, 20_000);
        let resume_us = lane.resume_us - turn.now_us;
        turn.wake_in(resume_us);
    }
}
