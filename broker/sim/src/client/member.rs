//! A member of a consumer group.
//!
//! Of most groups it is as the ClickHouse consumer is: a chunk is one insert under one token, without
//! the records that nobody can handle; those are terminated once the store has answered, and then
//! the chunk is acked. Members of *piecemeal* groups store nothing, and ack, nack, terminate and
//! forget parts of their chunks as handlers of single records do.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::message::{
    Ack, ClientMessage, Deliver, Extend, Lease, Nack, OffsetRange, PartitionPosition, Settled,
    StartPosition, SubscribeMode, Terminate, Unsubscribe,
};
use lanecast_wire::session::{
    Answer, Delivered, Event, LeasedChunk, SubscriptionSession, SubscriptionSettings,
};
use lanecast_wire::{ErrorCode, KeyFilter, TopicId};

use super::line::check_positions;
use super::{Line, Tag, Turn};
use crate::group_truth::{AskNumber, How, Leasing};
use crate::ranges::{Stretch, gaps, offsets, take};
use crate::store::{Fate, Insert, SentInsert, Token, sum};

#[derive(Debug)]
pub(crate) struct Member {
    group: usize,
    session: Option<SubscriptionSession>,
    /// On this connection it is subscribed, or has asked to be.
    asked: bool,
    /// It has unsubscribed, and the broker has not said that it knows.
    leaving: bool,
    /// Counts subscriptions: what was leased to an earlier one is lost.
    subscriptions: u64,
    jobs: BTreeMap<u64, Job>,
    job_numbers: u64,
    /// What to do, by time; the number keeps the order of equal times.
    agenda: BTreeMap<(u64, u64), Todo>,
    todos: u64,
    /// By partition: what the broker has said last of settled records.
    settled: BTreeMap<u32, Settled>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) partition: u32,
    pub(crate) chunk: Stretch,
    pub(crate) generation: u64,
}

/// A chunk that is here.
#[derive(Debug)]
struct Job {
    claim: Claim,
    subscription: u64,
    insert: Insert,
    /// What is to be terminated, rising.
    doomed: Vec<Stretch>,
}

/// What to do with the job of this number.
#[derive(Clone, Copy, Debug)]
enum Todo {
    Insert(u64),
    /// A part of the chunk, or all of it.
    Ack(u64, Stretch),
    Nack(u64, Stretch, u32),
    Terminate(u64),
    Extend(u64, u32),
    Leave,
}

/// A request about a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settling {
    Settle { claim: Claim, ask: AskNumber },
    Terminate { claim: Claim, ask: AskNumber, job: u64 },
    Extend { claim: Claim, lease_ms: u32, asked_us: u64 },
}

impl Member {
    pub(crate) fn new(group: usize) -> Self {
        Self {
            group,
            session: None,
            asked: false,
            leaving: false,
            subscriptions: 0,
            jobs: BTreeMap::new(),
            job_numbers: 0,
            agenda: BTreeMap::new(),
            todos: 0,
            settled: BTreeMap::new(),
        }
    }

    /// Inserts under way go on, and retries of them, as the consumer's would.
    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        (self.asked, self.leaving) = (false, false);
        self.settled.clear();
        if turn.rng.one_in(4) {
            // The process has died.
            self.session = None;
            self.jobs.clear();
            self.agenda.clear();
        }
    }

    pub(crate) fn progress(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        if !self.asked {
            self.subscribe(topic, line, turn);
        }
        while let Some(((at, _), _)) = self.agenda.first_key_value()
            && *at <= turn.now_us
        {
            let (_, todo) = self.agenda.pop_first().expect("there is a first");
            self.act(todo, line, turn);
        }
        if let Some(((at, _), _)) = self.agenda.first_key_value() {
            let wait_us = at - turn.now_us;
            turn.wake_in(wait_us);
        }
        if let Some(session) = &mut self.session {
            while let Some(credit) = session.poll_credit() {
                line.session.credit(credit);
            }
        }
    }

    fn subscribe(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        let (group, client) = (self.group, turn.client);
        let open = || {
            let options = turn.scenario.group_options(group, client, turn.rng);
            let mode = if turn.rng.one_in(2) {
                SubscribeMode::Group(options)
            } else {
                SubscribeMode::Default(options)
            };
            SubscriptionSession::new(SubscriptionSettings {
                topic: TopicId(topic),
                mode,
                start: StartPosition::Earliest,
                starts: Vec::new(),
                credit_bytes: 1024 * 1024,
                filter: KeyFilter::default(),
            })
        };
        let subscribe = self.session.get_or_insert_with(open).subscribe();
        self.subscriptions += 1;
        self.asked = line.ask(&ClientMessage::Subscribe(subscribe), Tag::Subscribe);
    }

    fn act(&mut self, todo: Todo, line: &mut Line, turn: &mut Turn<'_>) {
        let number = match todo {
            Todo::Leave => return self.leave(line, turn),
            Todo::Insert(job)
            | Todo::Ack(job, _)
            | Todo::Nack(job, ..)
            | Todo::Terminate(job)
            | Todo::Extend(job, _) => job,
        };
        let Some(job) = self.jobs.get(&number) else { return };
        if let Todo::Insert(_) = todo {
            let fate = if turn.calm {
                Fate::Answered
            } else {
                match turn.rng.below(turn.scenario.insert_trouble_one_in.max(1) * 2) {
                    0 if turn.scenario.insert_trouble_one_in > 0 => Fate::Lost,
                    1 if turn.scenario.insert_trouble_one_in > 0 => Fate::AnswerLost,
                    _ => Fate::Answered,
                }
            };
            let insert = job.insert.clone();
            turn.inserts.push(SentInsert { insert, job: number, fate });
            return;
        }
        let (claim, current) = (job.claim, job.subscription == self.subscriptions);
        let Some(session) = self.session.as_ref().filter(|_| current && self.asked) else {
            // Its lease went with its connection.
            self.jobs.remove(&number);
            return;
        };
        let subscription = session.id().0;
        let Claim { partition, chunk: (first, last), generation } = claim;
        let asked_us = turn.now_us;
        let group = turn.oracle.group((self.group, partition));
        let (message, settling) = match todo {
            Todo::Ack(_, (first, last)) => {
                let ask = group.asks(How::Ack, generation, &[(first, last)], asked_us);
                let ack = Ack { subscription, partition, first, last, generation };
                (ClientMessage::Ack(ack), Settling::Settle { claim, ask })
            }
            Todo::Nack(_, (first, last), delay_ms) => {
                let ask = group.asks(How::Nack, generation, &[(first, last)], asked_us);
                let reason = format!("nack {generation}");
                let nack =
                    Nack { subscription, partition, first, last, generation, delay_ms, reason };
                (ClientMessage::Nack(nack), Settling::Settle { claim, ask })
            }
            Todo::Terminate(_) => {
                let ask = group.asks(How::Terminate, generation, &job.doomed, asked_us);
                let range = |(first, last): &Stretch| OffsetRange { first: *first, last: *last };
                let ranges = job.doomed.iter().map(range).collect();
                let reason = format!("terminate {generation}");
                let terminate = Terminate { subscription, partition, ranges, generation, reason };
                let settling = Settling::Terminate { claim, ask, job: number };
                (ClientMessage::Terminate(terminate), settling)
            }
            Todo::Extend(_, lease_ms) => {
                let extend = Extend { subscription, partition, first, last, generation, lease_ms };
                (ClientMessage::Extend(extend), Settling::Extend { claim, lease_ms, asked_us })
            }
            Todo::Insert(_) | Todo::Leave => return,
        };
        if matches!(todo, Todo::Ack(_, chunk) if chunk == claim.chunk) {
            self.jobs.remove(&number);
        }
        // Without room the lease runs out.
        let _asked = line.ask(&message, Tag::Settle(settling));
    }

    /// Gives all its leases back, and does not wait for what is under way.
    fn leave(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let here = self.asked && !self.leaving;
        let Some(session) = self.session.as_ref().filter(|_| here) else { return };
        if session.mode().is_none() {
            return;
        }
        let unsubscribe = Unsubscribe { subscription: session.id().0 };
        if line.ask(&ClientMessage::Unsubscribe(unsubscribe), Tag::Unsubscribe) {
            self.leaving = true;
            self.subscriptions += 1;
            self.agenda.clear();
            self.jobs.clear();
            turn.oracle.released(turn.client);
        }
    }

    pub(crate) fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        match event {
            Event::Answered { tag: Tag::Subscribe, answer: Ok(Answer::Subscribed(reply)) } => {
                check_positions(&reply, turn);
                for position in &reply.positions {
                    let group = turn.oracle.group((self.group, position.partition));
                    group.stands_at(position.next_offset);
                }
                self.session.as_mut().expect("it has asked").opened(&reply);
            }
            Event::Answered { tag: Tag::Subscribe, answer: Err(refusal) } => {
                assert!(refusal.code().is_retryable(), "subscription refused: {refusal:?}");
                turn.close = true;
            }
            Event::Answered { tag: Tag::Settle(settling), answer: Ok(_) } => {
                self.done(settling, turn);
            }
            Event::Answered { tag: Tag::Settle(settling), answer: Err(refusal) } => {
                let code = refusal.code();
                let lost = matches!(code, ErrorCode::LEASE_LOST | ErrorCode::UNKNOWN_SUBSCRIPTION);
                assert!(lost || code.is_retryable(), "{settling:?} refused: {refusal:?}");
            }
            // Comes back later, over the same connection.
            Event::Answered { tag: Tag::Unsubscribe, .. } => {
                (self.asked, self.leaving) = (false, false);
            }
            Event::Online(online) => {
                let PartitionPosition { partition, next_offset, high_watermark, .. } =
                    online.position;
                turn.oracle.saw_high_watermark(partition, high_watermark);
                turn.oracle.group((self.group, partition)).stands_at(next_offset);
                if let Some(session) = self.session.as_mut().filter(|_| !self.leaving) {
                    session.online(&online).expect("it is subscribed");
                }
            }
            // A partition that was offline has failed again while the member joined.
            Event::Ended(ended) => {
                assert!(ErrorCode(ended.code).is_retryable(), "{ended:?}");
                turn.close = true;
            }
            Event::Deliver { deliver, payload } => self.deliver(&deliver, payload, turn),
            Event::Settled(settled) => {
                if let Some(session) = self.session.as_mut().filter(|_| !self.leaving) {
                    self.settled.insert(settled.partition, settled.clone());
                    session.settled(settled).expect("settled records are of their chunk");
                }
            }
            Event::Missed(_)
            | Event::Answered { .. }
            | Event::Opened(_)
            | Event::Goodbye { .. }
            | Event::Refused(_) => panic!("a member got {event:?}"),
        }
    }

    fn done(&mut self, settling: Settling, turn: &mut Turn<'_>) {
        let now_us = turn.now_us;
        match settling {
            Settling::Settle { claim, ask } => {
                turn.oracle.group((self.group, claim.partition)).done(ask, now_us);
            }
            Settling::Terminate { claim, ask, job } => {
                turn.oracle.group((self.group, claim.partition)).done(ask, now_us);
                if self.jobs.contains_key(&job) && !turn.scenario.is_piecemeal(self.group) {
                    self.plan(1, Todo::Ack(job, claim.chunk), turn);
                }
            }
            Settling::Extend { claim, lease_ms, asked_us } => {
                let group = turn.oracle.group((self.group, claim.partition));
                group.extended(claim.generation, asked_us, lease_ms);
            }
        }
    }

    fn deliver(&mut self, deliver: &Deliver, payload: Bytes, turn: &mut Turn<'_>) {
        let Some(session) = self.session.as_mut().filter(|_| !self.leaving) else { return };
        let partition = deliver.partition;
        let lease = deliver.lease.as_ref().expect("chunks come with a lease");
        let settled = self.settled.get(&partition);
        let settled = settled.filter(|settled| settled.generation == lease.generation);
        let leasing = Leasing {
            client: turn.client,
            lease,
            settled: settled.map_or(&[], |settled| &settled.ranges),
            sent_us: turn.sent_us,
            lag_us: turn.hand_out_lag_us(),
            max_attempts: turn.scenario.max_attempts,
            knows_parts: turn.oracle.times_forgot == 0,
        };
        turn.oracle.leased((self.group, partition), leasing);
        let sent_ms = turn.wall_ms - ((turn.now_us - turn.sent_us) / 1000).cast_signed();
        turn.oracle.check_fresh(lease.appended_ms, sent_ms, turn.hand_out_lag_us());
        turn.oracle.saw_high_watermark(partition, deliver.high_watermark);
        assert!(deliver.last < deliver.high_watermark, "past the high watermark: {deliver:?}");
        if payload.is_empty() {
            let records = deliver.first..deliver.last + 1;
            let may_be = turn.oracle.may_be_damaged(turn.scenario.durability, partition, records);
            assert!(may_be, "a part of a chunk is missing: {deliver:?}");
        }
        let (_, delivered) =
            session.deliver(deliver, payload, turn.now_us).expect("only what can be is delivered");
        if let Some(Delivered::Chunk(chunk)) = delivered {
            self.chunk(chunk, turn);
        }
    }

    fn chunk(&mut self, chunk: LeasedChunk, turn: &mut Turn<'_>) {
        let partition = chunk.partition;
        let Lease { chunk_first: first, chunk_last: last, generation, .. } = chunk.lease;
        let Lease { lease_ms, appended_ms, .. } = chunk.lease;
        let open = gaps((first, last), &chunk.settled);
        let mut rows_sum = 0;
        let mut rows: Vec<Stretch> = Vec::new();
        for payload in &chunk.payloads {
            for found in batch::iter(payload) {
                let (header, bytes) = found.expect("the session has checked it");
                let end = turn.oracle.observed(partition, &header, &bytes);
                // Batches travel whole; the chunk's own part of it counts.
                let own = (header.base_offset.0.max(first), (end - 1).min(last));
                let before = rows.len();
                rows.extend(healthy(own, &open, partition, turn));
                if rows.len() > before {
                    rows_sum = sum(rows_sum, &bytes);
                }
            }
        }
        let is_poison = |offset: &u64| turn.scenario.is_poison(partition, *offset);
        let doomed = offsets(&open).filter(is_poison).map(|offset| (offset, offset)).collect();
        let claim = Claim { partition, chunk: (first, last), generation };
        let insert = Insert {
            group: (self.group, partition),
            token: Token { first, last, appended_ms },
            era: turn.oracle.times_forgot,
            rows: joined(rows),
            // Retention may have taken some of the chunk meanwhile.
            in_part: !chunk.settled.is_empty(),
            sum: rows_sum,
        };
        self.job_numbers += 1;
        let number = self.job_numbers;
        let subscription = self.subscriptions;
        self.jobs.insert(number, Job { claim, subscription, insert, doomed });
        if turn.scenario.is_piecemeal(self.group) {
            self.decide_pieces(number, open, lease_ms, turn);
        } else {
            self.decide(number, lease_ms, turn);
        }
    }

    /// What becomes of the pieces of a chunk that is here.
    fn decide_pieces(&mut self, job: u64, open: Vec<Stretch>, lease_ms: u32, turn: &mut Turn<'_>) {
        let mut pieces = open;
        for _ in 0..turn.rng.below(4) {
            let at = turn.rng.below(pieces.len() as u64) as usize;
            let (first, last) = pieces[at];
            if first < last {
                let cut = turn.rng.between(first, last - 1);
                pieces[at].1 = cut;
                pieces.insert(at + 1, (cut + 1, last));
            }
        }
        let (chunk, smooth) = (self.jobs[&job].claim.chunk, turn.calm || turn.rng.one_in(3));
        let mut doomed = Vec::new();
        for piece in &pieces {
            let piece = if pieces.len() == 1 { chunk } else { *piece };
            let work_us = turn.rng.delay(100, 200_000);
            let todo = match turn.rng.below(12) {
                _ if smooth => Todo::Ack(job, piece),
                0..6 => Todo::Ack(job, piece),
                6..8 => Todo::Nack(job, piece, turn.rng.between(0, 300) as u32),
                8 if turn.scenario.has_letters() => {
                    doomed.push(piece);
                    continue;
                }
                8 => continue,
                9 => {
                    self.plan(work_us, Todo::Extend(job, 2 * lease_ms), turn);
                    Todo::Ack(job, piece)
                }
                10 => {
                    // Too late, or just in time.
                    let late_us = u64::from(lease_ms) * turn.rng.between(800, 1_300);
                    self.plan(late_us, Todo::Ack(job, piece), turn);
                    continue;
                }
                // The lease of this piece runs out.
                _ => continue,
            };
            self.plan(work_us, todo, turn);
        }
        if !doomed.is_empty() {
            self.jobs.get_mut(&job).expect("it was just put there").doomed = doomed;
            let work_us = turn.rng.delay(100, 200_000);
            self.plan(work_us, Todo::Terminate(job), turn);
        }
        if !turn.calm && turn.rng.one_in(turn.scenario.trouble_one_in * 4) {
            turn.close |= turn.rng.one_in(2);
            self.plan(1_000, Todo::Leave, turn);
        }
    }

    /// What becomes of a chunk that is here.
    fn decide(&mut self, job: u64, lease_ms: u32, turn: &mut Turn<'_>) {
        let work_us = turn.rng.delay(100, 100_000);
        if turn.calm || !turn.rng.one_in(turn.scenario.trouble_one_in) {
            self.plan(work_us, Todo::Insert(job), turn);
            return;
        }
        let chunk = self.jobs[&job].claim.chunk;
        match turn.rng.below(6) {
            // Says nothing: the lease runs out.
            0 => {}
            1 => {
                let delay_ms = turn.rng.between(0, 500) as u32;
                self.plan(work_us, Todo::Nack(job, chunk, delay_ms), turn);
            }
            2 => {
                // Asks for more time, then needs it.
                self.plan(work_us, Todo::Extend(job, 2 * lease_ms), turn);
                let late_us = work_us + u64::from(lease_ms) * 1_500;
                self.plan(late_us, Todo::Insert(job), turn);
            }
            3 => {
                // Too late, or just in time.
                let late_us = u64::from(lease_ms) * turn.rng.between(800, 1_300);
                self.plan(late_us, Todo::Insert(job), turn);
            }
            4 if turn.rng.one_in(2) => turn.close = true,
            4 => self.plan(work_us, Todo::Leave, turn),
            _ => {
                // Stores it, and then thinks that it has not.
                self.plan(work_us, Todo::Insert(job), turn);
                let late_us = work_us + turn.rng.between(0, 60_000);
                self.plan(late_us, Todo::Nack(job, chunk, 0), turn);
            }
        }
    }

    /// The store has answered, or its connection broke: then the outcome is not known, and the same
    /// insert is sent again.
    pub(crate) fn inserted(&mut self, job: u64, stored: bool, turn: &mut Turn<'_>) {
        let Some(found) = self.jobs.get(&job) else { return };
        let chunk = found.claim.chunk;
        if stored {
            let then =
                if found.doomed.is_empty() { Todo::Ack(job, chunk) } else { Todo::Terminate(job) };
            self.plan(1, then, turn);
        } else if turn.calm || turn.rng.one_in(2) {
            let again_us = turn.rng.delay(1_000, 300_000);
            self.plan(again_us, Todo::Insert(job), turn);
        } else if turn.rng.one_in(2) {
            self.plan(1, Todo::Nack(job, chunk, 0), turn);
        }
    }

    fn plan(&mut self, delay_us: u64, todo: Todo, turn: &mut Turn<'_>) {
        self.todos += 1;
        self.agenda.insert((turn.now_us + delay_us, self.todos), todo);
        turn.wake_in(delay_us);
    }
}

/// What of `own` is open and can be handled.
fn healthy(own: Stretch, open: &[Stretch], partition: u32, turn: &Turn<'_>) -> Vec<Stretch> {
    let within = open.iter().map(|(first, last)| (own.0.max(*first), own.1.min(*last)));
    let mut healthy: Vec<Stretch> = within.filter(|(first, last)| first <= last).collect();
    let all: Vec<u64> = offsets(&healthy).collect();
    for offset in all.into_iter().filter(|offset| turn.scenario.is_poison(partition, *offset)) {
        take(&mut healthy, (offset, offset));
    }
    healthy
}

/// The same, with what touches made one.
fn joined(rows: Vec<Stretch>) -> Vec<Stretch> {
    let mut joined: Vec<Stretch> = Vec::with_capacity(rows.len());
    for (first, last) in rows {
        match joined.last_mut() {
            Some(row) if row.1 + 1 == first => row.1 = last,
            Some(_) | None => joined.push((first, last)),
        }
    }
    joined
}
