//! A broadcast subscriber: every offset once, in order, or reported as missed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::message::{
    ClientMessage, Deliver, Missed, MissedReason, PartitionPosition, PartitionStart, StartPosition,
    SubscribeMode, SubscribeReply,
};
use lanecast_wire::session::{Answer, Delivered, Event, SubscriptionSession, SubscriptionSettings};
use lanecast_wire::summary::may_contain;
use lanecast_wire::{ErrorCode, TopicId};

use super::line::check_positions;
use super::{Line, Tag, Turn};
use crate::oracle::BatchKey;

#[derive(Debug)]
pub(crate) struct Reader {
    /// Reads everything from the start and remembers it, for the final comparison.
    audit: bool,
    /// The number of the only key that it wants.
    wanted: Option<u32>,
    session: Option<SubscriptionSession>,
    /// On this connection it is subscribed, or has asked to be.
    asked: Option<Asked>,
    /// Where this subscription, or one that goes on, goes on.
    next: BTreeMap<u32, u64>,
    seen: BTreeSet<BatchKey>,
    /// What it was told was too old for it.
    expired: Vec<(u32, Range<u64>)>,
    /// From where on it has seen everything, or been told what it missed.
    from: BTreeMap<u32, u64>,
    /// How often all promises had become void when it last looked.
    era: u64,
    /// Bytes that it has not dealt with.
    undone: BTreeMap<u32, u64>,
    /// It deals with nothing before.
    slow_until_us: u64,
}

#[derive(Debug)]
struct Asked {
    accepted: bool,
    fresh: StartPosition,
    at: BTreeMap<u32, u64>,
    /// What was known of the high watermarks when it was asked for.
    floor: BTreeMap<u32, u64>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            audit: false,
            wanted: None,
            session: None,
            asked: None,
            next: BTreeMap::new(),
            seen: BTreeSet::new(),
            expired: Vec::new(),
            from: BTreeMap::new(),
            era: 0,
            undone: BTreeMap::new(),
            slow_until_us: 0,
        }
    }

    pub(crate) fn audit() -> Self {
        Self { audit: true, ..Self::new() }
    }

    /// One that wants every third batch or so.
    pub(crate) fn filtered(wanted: u32) -> Self {
        Self { wanted: Some(wanted), ..Self::new() }
    }

    pub(crate) fn seen(&self) -> &BTreeSet<BatchKey> {
        &self.seen
    }

    pub(crate) fn expired(&self) -> &[(u32, Range<u64>)] {
        &self.expired
    }

    pub(crate) fn from(&self) -> &BTreeMap<u32, u64> {
        &self.from
    }

    pub(crate) fn next(&self) -> &BTreeMap<u32, u64> {
        &self.next
    }

    pub(crate) fn is_audit(&self) -> bool {
        self.audit
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.accepted)
    }

    pub(crate) fn disconnected(&mut self) {
        self.asked = None;
        self.undone.clear();
    }

    pub(crate) fn progress(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        if self.asked.is_none() {
            self.subscribe(topic, line, turn);
        }
        let Some(session) = &mut self.session else { return };
        if !turn.calm && !self.undone.is_empty() {
            if turn.now_us < self.slow_until_us {
                let left_us = self.slow_until_us - turn.now_us;
                turn.wake_in(left_us);
                return;
            }
            if turn.rng.one_in(4) {
                let slow_us = turn.rng.delay(1_000, 50_000 + turn.scenario.slow_us);
                self.slow_until_us = turn.now_us + slow_us;
                turn.wake_in(slow_us);
                return;
            }
        }
        for (partition, bytes) in std::mem::take(&mut self.undone) {
            session.done(partition, bytes);
        }
        while let Some(credit) = session.poll_credit() {
            line.session.credit(credit);
        }
    }

    fn subscribe(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        let forgotten = std::mem::replace(&mut self.era, turn.oracle.times_forgot) != self.era;
        if forgotten {
            // Offsets are other records' now.
            self.next.clear();
            self.from.clear();
            self.seen.clear();
            self.expired.clear();
        }
        // A program that was started again, or still runs.
        let restarted = !self.audit && turn.rng.one_in(2);
        if self.session.is_none() || forgotten || restarted {
            self.open(topic, turn);
        }
        let Some(session) = &mut self.session else { return };
        let subscribe = session.subscribe();
        let at = subscribe.starts.iter().filter_map(|start| match start.start {
            StartPosition::Offset(offset) => Some((start.partition, offset)),
            StartPosition::Earliest | StartPosition::Latest | StartPosition::Timestamp(_) => None,
        });
        let (at, fresh) = (at.collect(), subscribe.start);
        let floor = turn.oracle.high_watermarks();
        if line.ask(&ClientMessage::Subscribe(subscribe), Tag::Subscribe) {
            self.asked = Some(Asked { accepted: false, fresh, at, floor });
        }
    }

    fn open(&mut self, topic: u32, turn: &mut Turn<'_>) {
        let start = match turn.rng.below(6) {
            _ if self.audit => StartPosition::Earliest,
            0..3 => StartPosition::Earliest,
            3 | 4 => StartPosition::Latest,
            _ => StartPosition::Timestamp(turn.wall_ms - turn.rng.below(2_000) as i64),
        };
        let go_on = turn.rng.one_in(2);
        if !go_on {
            self.next.clear();
        }
        let named = |(partition, next): (&u32, &u64)| PartitionStart {
            partition: *partition,
            start: StartPosition::Offset(*next),
            log_epoch: 0,
        };
        let mut starts: Vec<_> = self.next.iter().map(named).collect();
        for partition in 0..turn.scenario.partitions {
            if !starts.is_empty() && !self.next.contains_key(&partition) {
                starts.push(PartitionStart { partition, start, log_epoch: 0 });
            }
        }
        let credit = turn.scenario.credit_bytes;
        self.session = Some(SubscriptionSession::new(SubscriptionSettings {
            topic: TopicId(topic),
            mode: SubscribeMode::Broadcast,
            start,
            starts,
            credit_bytes: turn.rng.between(credit.0, credit.1) as u32,
            filter: self.wanted.map(super::filter).unwrap_or_default(),
        }));
    }

    pub(crate) fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        match event {
            Event::Answered { tag: Tag::Subscribe, answer: Ok(Answer::Subscribed(reply)) } => {
                self.accepted(&reply, turn);
            }
            Event::Answered { tag: Tag::Subscribe, answer: Err(refusal) } => {
                assert!(refusal.code().is_retryable(), "subscription refused: {refusal:?}");
                // Its library connects again.
                turn.close = true;
            }
            Event::Deliver { deliver, payload } => self.deliver(&deliver, payload, turn),
            Event::Missed(missed) => self.missed(&missed, turn),
            Event::Online(online) => {
                turn.oracle
                    .saw_high_watermark(online.position.partition, online.position.high_watermark);
                self.stands_at(&online.position, turn);
                let session = self.session.as_mut().expect("it is subscribed");
                let missed = session.online(&online).expect("it is about what is subscribed");
                assert!(missed.is_none(), "of a log that is no more: {missed:?}");
            }
            // A partition that was offline has come back shorter, or the broker drains.
            Event::Ended(ended) => {
                assert!(ErrorCode(ended.code).is_retryable(), "{ended:?}");
                turn.close = true;
            }
            Event::Answered { .. }
            | Event::Opened(_)
            | Event::Settled(_)
            | Event::Goodbye { .. }
            | Event::Refused(_) => panic!("a reader got {event:?}"),
        }
    }

    fn accepted(&mut self, reply: &SubscribeReply, turn: &mut Turn<'_>) {
        let asked = self.asked.as_mut().expect("a subscription was asked for");
        asked.accepted = true;
        check_positions(reply, turn);
        for position in &reply.positions {
            self.stands_at(position, turn);
        }
        let missed = self.session.as_mut().expect("it has asked").opened(reply);
        assert!(missed.is_empty(), "of a log that is no more: {missed:?}");
    }

    fn stands_at(&mut self, position: &PartitionPosition, turn: &mut Turn<'_>) {
        let asked = self.asked.as_ref().expect("a subscription was asked for");
        let (partition, high_watermark) = (position.partition, position.high_watermark);
        let floor = asked.floor.get(&partition).copied().unwrap_or(0);
        assert!(high_watermark >= floor, "{partition} went back to {high_watermark} from {floor}");
        let next = position.next_offset;
        let expected = match (asked.at.get(&partition), asked.fresh) {
            (Some(offset), _) => *offset,
            (None, StartPosition::Earliest) => 0,
            (None, StartPosition::Latest) => {
                assert!(next >= floor, "latest lies before {floor}");
                next
            }
            (None, StartPosition::Timestamp(_) | StartPosition::Offset(_)) => next,
        };
        let trimmed = next > expected && turn.oracle.front_may_go();
        assert!(next == expected || trimmed, "partition {partition}: {next}, not {expected}");
        if trimmed || !self.from.contains_key(&partition) {
            self.from.insert(partition, next);
        }
        self.next.insert(partition, next);
    }

    fn deliver(&mut self, deliver: &Deliver, payload: Bytes, turn: &mut Turn<'_>) {
        assert!(self.is_subscribed(), "delivered before the reply: {deliver:?}");
        let partition = deliver.partition;
        let next = self.next.get_mut(&partition).expect("subscribed to all partitions");
        assert_eq!(deliver.first, *next, "hole or repeat in partition {partition}");
        let session = self.session.as_mut().expect("it is subscribed");
        let (_, delivered) = session
            .deliver(deliver, payload.clone(), turn.now_us)
            .expect("only what can be is delivered");
        let handed_on = matches!(delivered, Some(Delivered::Batches { .. }));
        assert!(handed_on, "{deliver:?} is no news");
        for found in batch::iter(&payload) {
            let (header, bytes) = found.expect("whole batches");
            if let Some(wanted) = self.wanted {
                let summary = batch::summary(&bytes);
                assert!(may_contain(summary, super::key(wanted)), "not asked for: {deliver:?}");
            }
            *next = turn.oracle.observed(partition, &header, &bytes);
            let sent_ms = turn.wall_ms - ((turn.now_us - turn.sent_us) / 1000).cast_signed();
            turn.oracle.check_fresh(header.append_time_ms, sent_ms, turn.hand_out_lag_us());
            if self.audit {
                self.seen.insert(BatchKey::of(partition, &header));
            }
        }
        let high_watermark = deliver.high_watermark;
        assert!(*next <= high_watermark, "served past the high watermark: {deliver:?}");
        turn.oracle.saw_high_watermark(partition, high_watermark);
        *self.undone.entry(partition).or_default() += payload.len() as u64;
    }

    /// Retention was faster than this reader, or power went before anything was flushed.
    fn missed(&mut self, missed: &Missed, turn: &mut Turn<'_>) {
        let session = self.session.as_mut().expect("it is subscribed");
        session.missed(missed).expect("it is about what is subscribed");
        if missed.reason == MissedReason::Filtered {
            let wanted = self.wanted.expect("a filter is asked for");
            let next = self.next.get_mut(&missed.partition).expect("subscribed");
            assert_eq!(missed.first, *next, "{missed:?}");
            *next = missed.last + 1;
            turn.oracle.left_out(missed.partition, missed.first..*next, super::key(wanted));
            return;
        }
        let damaged = missed.reason == MissedReason::Damaged;
        let may_be = match missed.reason {
            MissedReason::Damaged => turn.oracle.may_be_damaged(
                turn.scenario.durability,
                missed.partition,
                missed.first..missed.last + 1,
            ),
            MissedReason::Retention => turn.oracle.records_may_go,
            MissedReason::Expired => (missed.first..=missed.last)
                .all(|offset| turn.oracle.may_be_expired(missed.partition, offset, turn.now_us)),
            MissedReason::Filtered | MissedReason::Dropped => false,
        };
        assert!(may_be, "for no reason: {missed:?}");
        let next = self.next.get_mut(&missed.partition).expect("subscribed to all partitions");
        assert_eq!(missed.first, *next, "{missed:?}");
        *next = missed.last + 1;
        turn.oracle.missed_records += missed.last + 1 - missed.first;
        if missed.reason == MissedReason::Expired {
            turn.oracle.expired_records += missed.last + 1 - missed.first;
            self.expired.push((missed.partition, missed.first..*next));
        } else if !damaged {
            self.from.insert(missed.partition, *next);
        }
    }
}
