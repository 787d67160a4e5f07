//! A program that produces: wire's producer session, fed with batches of its own making.

use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::builder::SealedBody;
use lanecast_wire::session::{Answer, Event, OnLostSequence, ProducerSession, ProducerSettings};
use lanecast_wire::summary::SummaryBuilder;
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId, TopicId};

use super::{Line, Tag, Turn};
use crate::oracle::BatchKey;

/// Room that a program leaves for epochs which its session begins by itself.
const EPOCHS_PER_LIFE: u32 = 1_000;

/// Programs that one producer may be before its successor.
const LIVES_MAX: u32 = 100_000;

/// How long a producer that keeps enough batches waits before it looks again.
const FULL_US: u64 = 8_000;

#[derive(Debug)]
pub(crate) struct Producer {
    id: u64,
    /// How often the program was started again.
    life: u32,
    /// Batches still to be made.
    left: u64,
    next_batch_us: u64,
    session: Option<ProducerSession<()>>,
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
        Self { id, life: 0, left: batches, next_batch_us: 0, session: None }
    }

    /// A program that takes over from the other ones of this name, and begins then.
    pub(crate) fn successor(id: u64, batches: u64, from_us: u64) -> Self {
        Self { life: LIVES_MAX, next_batch_us: from_us, ..Self::new(id, batches) }
    }

    /// Everything is made and answered.
    pub(crate) fn is_done(&self) -> bool {
        let waiting = self.session.as_ref().map_or(0, ProducerSession::unacknowledged);
        self.left == 0 && waiting == 0
    }

    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        if let Some(session) = &mut self.session {
            session.disconnected();
        }
        if !turn.calm && turn.rng.one_in(6) {
            self.start_over();
        }
    }

    /// The process died: a higher epoch, and what was unanswered is nobody's business any more.
    fn start_over(&mut self) {
        self.life += 1;
        self.session = None;
    }

    pub(crate) fn progress(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        if self.session.is_none() {
            self.session = Some(self.open(topic, turn));
        }
        if self.left > 0 && turn.now_us >= self.next_batch_us {
            self.make(turn);
            let full = self.is_full(turn);
            let pause_us = match turn.calm {
                _ if full => FULL_US,
                true => 100,
                false => turn.scenario.produce_pause_us,
            };
            self.next_batch_us = turn.now_us + turn.rng.delay(pause_us / 8, pause_us);
        }
        self.send(line, turn);
        if self.left > 0 {
            turn.wake_in(self.next_batch_us.saturating_sub(turn.now_us));
        }
        if let Some(at) = self.session.as_ref().and_then(ProducerSession::poll_timeout) {
            turn.wake_in(at.saturating_sub(turn.now_us));
        }
    }

    fn open(&self, topic: u32, turn: &mut Turn<'_>) -> ProducerSession<()> {
        let forgetful = turn.scenario.may_forget() && turn.rng.one_in(2);
        ProducerSession::new(ProducerSettings {
            producer: ProducerId(self.id),
            epoch: ProducerEpoch(self.life * EPOCHS_PER_LIFE),
            topic: TopicId(topic),
            partitions: turn.scenario.partitions,
            window: turn.scenario.window,
            retry_first_us: 500,
            retry_longest_us: 50_000,
            on_lost_sequence: if forgetful {
                OnLostSequence::StartOver
            } else {
                OnLostSequence::Fail
            },
        })
    }

    /// As many batches wait as the program wants to keep.
    fn is_full(&self, turn: &Turn<'_>) -> bool {
        let most = u64::from(turn.scenario.window * turn.scenario.partitions);
        self.session.as_ref().is_some_and(|session| session.unacknowledged() >= most)
    }

    fn make(&mut self, turn: &mut Turn<'_>) {
        if self.is_full(turn) {
            return;
        }
        let Some(session) = &mut self.session else { return };
        let partition = turn.rng.below(u64::from(turn.scenario.partitions)) as u32;
        let body_bytes = turn.rng.between(1, turn.scenario.batch_bytes_max) as usize;
        let fill = turn.rng.next().to_le_bytes();
        let sealed = SealedBody {
            body: fill.repeat(body_bytes.div_ceil(fill.len())),
            schema: batch::schema::GENERIC,
            record_count: turn.rng.between(1, 20) as u32,
            min_time_ms: 0,
            max_time_ms: turn.wall_ms,
            summary: summary(fill[0]),
        };
        if session.accept(partition, &sealed, turn.wall_ms, (), turn.now_us).is_ok() {
            self.left -= 1;
        }
    }

    fn send(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(session) = &mut self.session else { return };
        while line.session.may_produce() {
            let Some(send) = session.poll_send(turn.now_us) else { break };
            let header = BatchHeader::decode(&send.batch).expect("the session has sealed it");
            let key = BatchKey::of(send.partition.index, &header);
            assert_eq!(header.sequence, send.sequence, "{key:?}");
            turn.oracle.sent(key, send.batch.clone(), turn.now_us);
            let tag = Tag::Produce { key, life: self.life };
            let sent = line.session.produce(send.partition, send.batch, tag);
            assert!(sent.is_ok(), "the session has room, as was just asked");
        }
    }

    pub(crate) fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        let Event::Answered { tag: Tag::Produce { key, life }, answer } = event else {
            panic!("a producer got {event:?}");
        };
        let answer = answer.map(|answer| match answer {
            Answer::Produced(reply) => reply,
            Answer::Topics(_) | Answer::Subscribed(_) | Answer::Groups(_) | Answer::Done => {
                panic!("a batch was answered with {answer:?}")
            }
        });
        if let Ok(reply) = &answer {
            assert!(!reply.dropped, "{key:?} is dropped on a topic that drops nothing");
            turn.oracle.acknowledged(key, reply.base_offset, reply.duplicate);
        }
        let Some(session) = self.session.as_mut().filter(|_| life == self.life) else { return };
        let sequence = lanecast_wire::Sequence(key.sequence);
        match session.answered(key.partition, sequence, answer, turn.now_us) {
            Ok(_) => while session.poll_acknowledged().is_some() {},
            Err(failed) if failed.code == ErrorCode::FENCED_EPOCH => {
                let has_successor = turn.scenario.succeeded && self.life < LIVES_MAX;
                assert!(has_successor, "{key:?} is fenced off: {failed:?}");
                turn.oracle.fenced_producers += 1;
                self.left = 0;
                self.session = None;
            }
            Err(failed) => {
                // With the last batch of a producer retention takes the memory of it, and a
                // restart the rest; lost power takes it on a topic that is not flushed.
                let forgotten = failed.code == ErrorCode::OUT_OF_ORDER_SEQUENCE;
                let allowed = forgotten && turn.scenario.may_forget();
                assert!(allowed, "{key:?} is refused for good: {failed:?}");
                turn.oracle.forgotten_producers += 1;
                self.start_over();
            }
        }
    }
}
