//! The only member of a group of its own, which it moves about.
//!
//! Where an answered move has put the group it stands over every crash, until somebody acks; it goes
//! on in a new epoch; and what was leased before may not be acked any more.

use std::collections::BTreeMap;

use lanecast_wire::message::{
    Ack, ClientMessage, GroupOptions, MoveGroup, PartitionStart, StartPosition, SubscribeMode,
    Unsubscribe,
};
use lanecast_wire::session::{Answer, Delivered, Event, SubscriptionSession, SubscriptionSettings};
use lanecast_wire::{ErrorCode, KeyFilter, TopicId};

use super::line::subscribe_as;
use super::{Line, Tag, Turn};

const GROUP: &str = "mover";
/// Bits of a generation above this are the epoch of the group.
const EPOCH_SHIFT: u32 = 40;
/// How long it stays a member, and how long it waits in between.
const STAY_US: (u64, u64) = (1_000, 120_000);
/// Old leases that it tries to ack.
const STALE_MAX: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Mover {
    partitions: BTreeMap<u32, Known>,
    partition: u32,
    stage: Stage,
    next_us: u64,
    /// Numbers subscriptions.
    subscriptions: u32,
}

/// The group on one partition.
#[derive(Debug, Default)]
struct Known {
    exists: bool,
    /// Where it stands, as far as nothing can have moved it on.
    at: Option<u64>,
    /// How often the broker had died when an answer was lost: what it was about may yet be done.
    doubted: Option<u64>,
    /// Acks that are not answered on this connection.
    acks_out: u32,
    epoch: u64,
    /// The epoch that the last answered move has ended.
    ended_epoch: Option<u64>,
    /// First and last records and generations of leases.
    leases: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Member {
        session: SubscriptionSession,
        acks: bool,
    },
    Leaving,
    Moving {
        to: StartPosition,
        floor: u64,
    },
}

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Join,
    /// On this partition.
    Ack(u32),
    /// Of a lease of before.
    StaleAck,
    Leave,
    Move,
}

impl Known {
    /// Where the broker says that it stands.
    fn stands(&mut self, at: u64, deaths: u64) {
        self.exists = true;
        self.doubted = self.doubted.filter(|doubted| *doubted >= deaths);
        self.at = Some(at).filter(|_| self.doubted.is_none() && self.acks_out == 0);
    }
}

impl Mover {
    pub(crate) fn disconnected(&mut self, turn: &Turn<'_>) {
        for known in self.partitions.values_mut().filter(|known| known.acks_out > 0) {
            (known.acks_out, known.at) = (0, None);
            known.doubted = Some(turn.oracle.deaths);
        }
        let known = self.partitions.entry(self.partition).or_default();
        let lost = match std::mem::take(&mut self.stage) {
            Stage::Idle => false,
            Stage::Member { .. } | Stage::Leaving => known.at.is_none(),
            Stage::Moving { .. } => true,
        };
        if lost {
            known.at = None;
            known.doubted = Some(turn.oracle.deaths);
        }
    }

    pub(crate) fn progress(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        if let Stage::Member { session, .. } = &mut self.stage {
            while let Some(credit) = session.poll_credit() {
                line.session.credit(credit);
            }
        }
        if turn.now_us < self.next_us {
            turn.wake_in(self.next_us - turn.now_us);
            return;
        }
        match &self.stage {
            Stage::Idle if turn.calm => return,
            Stage::Idle => self.begin(topic, line, turn),
            Stage::Member { session, .. } if session.mode().is_some() => {
                let unsubscribe = Unsubscribe { subscription: session.id().0 };
                if line.ask(&ClientMessage::Unsubscribe(unsubscribe), Tag::Step(Step::Leave)) {
                    self.stage = Stage::Leaving;
                }
            }
            Stage::Member { .. } | Stage::Leaving | Stage::Moving { .. } => return,
        }
        let stay_us = turn.rng.delay(STAY_US.0, STAY_US.1);
        self.next_us = turn.now_us + stay_us;
        turn.wake_in(stay_us);
    }

    fn begin(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        self.partition = turn.rng.below(u64::from(turn.scenario.partitions)) as u32;
        let partition = self.partition;
        let known = self.partitions.entry(partition).or_default();
        let floor = turn.oracle.high_watermarks().get(&partition).copied().unwrap_or(0);
        if known.exists && turn.rng.one_in(2) {
            let to = match turn.rng.below(4) {
                0 => StartPosition::Earliest,
                1 => StartPosition::Latest,
                2 => StartPosition::Offset(turn.rng.below(floor + 1)),
                _ => StartPosition::Timestamp(turn.wall_ms - turn.rng.below(2_000) as i64),
            };
            let group = GROUP.to_owned();
            let ask = ClientMessage::MoveGroup(MoveGroup { topic, partition, group, to });
            if line.ask(&ask, Tag::Step(Step::Move)) {
                known.at = None;
                self.stage = Stage::Moving { to, floor };
            }
            return;
        }
        let options = GroupOptions {
            group: GROUP.to_owned(),
            member: "mover".to_owned(),
            chunk_records: turn.rng.between(1, 60) as u32,
            chunk_bytes: 20_000,
            chunk_linger_ms: 5,
            lease_ms: 5_000,
            chunks_in_flight: turn.rng.between(1, 3) as u32,
        };
        let start = StartPosition::Earliest;
        let mut session = SubscriptionSession::new(SubscriptionSettings {
            topic: TopicId(topic),
            mode: SubscribeMode::Group(options),
            start,
            starts: vec![PartitionStart { partition, start, log_epoch: 0 }],
            credit_bytes: 1024 * 1024,
            filter: KeyFilter::default(),
        });
        self.subscriptions += 1;
        let subscribe = ClientMessage::Subscribe(subscribe_as(&mut session, self.subscriptions));
        if line.ask(&subscribe, Tag::Step(Step::Join)) {
            self.stage = Stage::Member { session, acks: turn.rng.one_in(3) };
        }
    }

    pub(crate) fn event(
        &mut self,
        event: Event<Tag>,
        line: Option<&mut Line>,
        turn: &mut Turn<'_>,
    ) {
        match event {
            Event::Answered { tag: Tag::Step(step), answer: Ok(answer) } => {
                self.answered(step, answer, line, turn);
            }
            Event::Answered { tag: Tag::Step(step), answer: Err(refusal) } => {
                let code = refusal.code();
                let known = self.partitions.entry(self.partition).or_default();
                let expected = match step {
                    Step::Ack(_) | Step::StaleAck => {
                        matches!(code, ErrorCode::LEASE_LOST | ErrorCode::UNKNOWN_SUBSCRIPTION)
                    }
                    Step::Move => code == ErrorCode::GROUP_ACTIVE,
                    Step::Join | Step::Leave => false,
                };
                assert!(expected || code.is_retryable(), "{step:?} refused: {refusal:?}");
                match step {
                    Step::StaleAck => {}
                    Step::Ack(partition) => {
                        let known = self.partitions.entry(partition).or_default();
                        known.acks_out -= 1;
                        known.at = None;
                        if code.is_retryable() {
                            known.doubted = Some(turn.oracle.deaths);
                        }
                    }
                    Step::Move => {
                        if code.is_retryable() {
                            known.doubted = Some(turn.oracle.deaths);
                        }
                        self.stage = Stage::Idle;
                    }
                    // It is not known whether it is a member.
                    Step::Join | Step::Leave => turn.close = true,
                }
            }
            Event::Deliver { deliver, payload } => {
                let Stage::Member { session, acks } = &mut self.stage else { return };
                let (_, delivered) = session
                    .deliver(&deliver, payload, turn.now_us)
                    .expect("only what can be is delivered");
                let Some(Delivered::Chunk(chunk)) = delivered else { return };
                let (lease, partition) = (chunk.lease, chunk.partition);
                let known = self.partitions.entry(partition).or_default();
                let epoch = lease.generation >> EPOCH_SHIFT;
                let ended = known.ended_epoch.is_some_and(|ended| epoch <= ended);
                assert!(!ended, "an epoch that a move has ended goes on: {lease:?} {known:?}");
                let before = known.at.is_some_and(|at| lease.chunk_last < at);
                assert!(!before, "handed out from before the position: {lease:?} {known:?}");
                known.epoch = known.epoch.max(epoch);
                let (first, last, generation) =
                    (lease.chunk_first, lease.chunk_last, lease.generation);
                known.leases.push((first, last, generation));
                if *acks && turn.rng.one_in(2) {
                    known.at = None;
                    let subscription = session.id().0;
                    let ack = Ack { subscription, partition, first, last, generation };
                    if let Some(line) = line {
                        let tag = Tag::Step(Step::Ack(partition));
                        known.acks_out += u32::from(line.ask(&ClientMessage::Ack(ack), tag));
                    }
                }
            }
            Event::Settled(settled) => {
                if let Stage::Member { session, .. } = &mut self.stage {
                    session.settled(settled).expect("settled records are of their chunk");
                }
            }
            // Too late: it leaves.
            Event::Online(online) => {
                if let Stage::Member { session, .. } = &mut self.stage {
                    session.online(&online).expect("it is about what is subscribed");
                }
            }
            Event::Ended(ended) => {
                assert!(ErrorCode(ended.code).is_retryable(), "{ended:?}");
                turn.close = true;
            }
            Event::Answered { .. }
            | Event::Missed(_)
            | Event::Opened(_)
            | Event::Goodbye { .. }
            | Event::Refused(_) => panic!("a mover got {event:?}"),
        }
    }

    fn answered(
        &mut self,
        step: Step,
        answer: Answer,
        line: Option<&mut Line>,
        turn: &mut Turn<'_>,
    ) {
        let partition = self.partition;
        let known = self.partitions.entry(partition).or_default();
        let goes_on = turn.oracle.front_may_go() || turn.oracle.expiry.ttl_us.is_some();
        match (step, answer) {
            (Step::Join, Answer::Subscribed(reply)) => {
                let Stage::Member { session, .. } = &mut self.stage else { return };
                session.opened(&reply);
                // The partition is offline: another time.
                let Some(position) = reply.positions.first() else {
                    turn.close = true;
                    return;
                };
                let at = position.next_offset;
                let kept = known.at.is_none_or(|known| at == known || (at > known && goes_on));
                assert!(kept, "the group stands at {at}: {known:?}");
                known.stands(at, turn.oracle.deaths);
                let subscription = session.id().0;
                let Some(line) = line else { return };
                let old = known.leases.len().saturating_sub(STALE_MAX);
                for (first, last, generation) in known.leases.drain(..).skip(old) {
                    let ack = Ack { subscription, partition, first, last, generation };
                    let _asked = line.ask(&ClientMessage::Ack(ack), Tag::Step(Step::StaleAck));
                }
            }
            (Step::Leave, Answer::Done) => self.stage = Stage::Idle,
            (Step::Ack(partition), Answer::Done) => {
                let known = self.partitions.entry(partition).or_default();
                known.acks_out -= 1;
                known.at = None;
            }
            (Step::StaleAck, Answer::Done) => panic!("a lease of before is acked: {known:?}"),
            (Step::Move, Answer::Groups(groups)) => {
                let Stage::Moving { to, floor } = std::mem::take(&mut self.stage) else { return };
                let at = groups.first().expect("the group that was moved").acked_upto;
                let right = match to {
                    StartPosition::Earliest => at == 0 || goes_on,
                    StartPosition::Latest => at >= floor,
                    StartPosition::Offset(offset) => {
                        let begins = turn.oracle.batch_with(partition, offset);
                        goes_on || (at <= offset && begins.is_none_or(|begins| begins == at))
                    }
                    StartPosition::Timestamp(_) => true,
                };
                assert!(right, "moved to {at}, not to {to:?} (of {floor})");
                known.stands(at, turn.oracle.deaths);
                known.ended_epoch = Some(known.epoch);
                turn.oracle.moves += 1;
            }
            (step, answer) => panic!("{step:?} is answered with {answer:?}"),
        }
    }
}
