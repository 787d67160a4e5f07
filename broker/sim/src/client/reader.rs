//! A broadcast subscriber: every offset once, in order, without holes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::message::{
    BrokerMessage, ClientMessage, Credit, Deliver, Missed, MissedReason, PartitionStart,
    StartPosition, Subscribe, SubscribeMode, SubscribeReply,
};

use lanecast_wire::summary::may_contain;

use super::{Line, Turn};
use crate::oracle::BatchKey;

/// Least credit: the largest batch of any scenario fits several times.
const CREDIT_BYTES_MIN: u64 = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Reader {
    /// Reads everything from the start and remembers it, for the final comparison.
    audit: bool,
    /// The number of the only key that it wants.
    wanted: Option<u32>,
    session: Option<Session>,
    subscriptions: u32,
    /// Where a session that goes on would go on.
    next: BTreeMap<u32, u64>,
    seen: BTreeSet<BatchKey>,
    /// From where on it has seen everything.
    from: BTreeMap<u32, u64>,
    /// How often all promises had become void when it last looked.
    times_forgot: u64,
    /// Credit to be given back on waking.
    owed: BTreeMap<u32, u32>,
}

#[derive(Debug)]
struct Session {
    subscription: u32,
    request: u64,
    accepted: bool,
    asked_at: BTreeMap<u32, StartPosition>,
    /// What was known of the high watermarks when it was asked for.
    floor: BTreeMap<u32, u64>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            audit: false,
            wanted: None,
            session: None,
            subscriptions: 0,
            next: BTreeMap::new(),
            seen: BTreeSet::new(),
            from: BTreeMap::new(),
            times_forgot: 0,
            owed: BTreeMap::new(),
        }
    }

    pub(crate) fn audit() -> Self {
        Self { audit: true, ..Self::new() }
    }

    /// One that wants every other batch or so.
    pub(crate) fn filtered(wanted: u32) -> Self {
        Self { wanted: Some(wanted), ..Self::new() }
    }

    pub(crate) fn seen(&self) -> &BTreeSet<BatchKey> {
        &self.seen
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
        self.session.as_ref().is_some_and(|session| session.accepted)
    }

    pub(crate) fn disconnected(&mut self) {
        self.session = None;
        self.owed.clear();
    }

    pub(crate) fn woken(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        if self.session.is_none() {
            self.subscribe(line, turn);
        }
        self.give_credit(line, turn);
    }

    fn subscribe(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        self.subscriptions += 1;
        if self.times_forgot != turn.oracle.times_forgot {
            // Offsets are other records' now.
            self.times_forgot = turn.oracle.times_forgot;
            self.next.clear();
        }
        let go_on = self.audit || turn.rng.one_in(2);
        let fresh = if self.audit || turn.rng.one_in(2) {
            StartPosition::Earliest
        } else {
            StartPosition::Latest
        };
        let mut asked_at = BTreeMap::new();
        for partition in 0..turn.scenario.partitions {
            let start = match self.next.get(&partition) {
                Some(next) if go_on => StartPosition::Offset(*next),
                Some(_) | None => fresh,
            };
            asked_at.insert(partition, start);
        }
        let named = |(partition, start): (&u32, &StartPosition)| PartitionStart {
            partition: *partition,
            start: *start,
        };
        let subscribe = Subscribe {
            subscription: self.subscriptions,
            topic: line.topic().expect("woken with a topic"),
            mode: SubscribeMode::Broadcast,
            start: fresh,
            starts: asked_at.iter().map(named).collect(),
            credit_bytes: turn.rng.between(CREDIT_BYTES_MIN, 4 * CREDIT_BYTES_MIN) as u32,
            filter: self.wanted.map(super::filter).unwrap_or_default(),
        };
        let request = line.send(turn, &ClientMessage::Subscribe(subscribe), &[]);
        self.session = Some(Session {
            subscription: self.subscriptions,
            request,
            accepted: false,
            asked_at,
            floor: turn.oracle.high_watermarks(),
        });
    }

    pub(crate) fn message(
        &mut self,
        request: u64,
        message: BrokerMessage,
        payload: Bytes,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) {
        match message {
            BrokerMessage::SubscribeReply(reply) => self.accepted(request, &reply, turn),
            BrokerMessage::Deliver(deliver) => self.deliver(&deliver, &payload, line, turn),
            BrokerMessage::Refusal(refusal) => {
                assert!(refusal.code().is_retryable(), "subscription refused: {refusal:?}");
                self.session = None;
                self.owed.clear();
                turn.retry_later();
            }
            BrokerMessage::Missed(missed) => self.missed(&missed, turn),
            BrokerMessage::Done(_)
            | BrokerMessage::HelloReply(_)
            | BrokerMessage::Topics(_)
            | BrokerMessage::ProduceReply(_)
            | BrokerMessage::Groups(_)
            | BrokerMessage::Settled(_)
            | BrokerMessage::Goodbye(_) => panic!("a reader got {message:?}"),
        }
    }

    fn accepted(&mut self, request: u64, reply: &SubscribeReply, turn: &mut Turn<'_>) {
        let session = self.session.as_mut().expect("a session was asked for");
        assert_eq!(session.request, request);
        session.accepted = true;
        assert_eq!(reply.positions.len(), session.asked_at.len(), "positions of all partitions");
        for position in &reply.positions {
            let partition = position.partition;
            let floor = session.floor.get(&partition).copied().unwrap_or(0);
            let high_watermark = position.high_watermark;
            assert!(
                high_watermark >= floor,
                "{partition} went back to {high_watermark} from {floor}"
            );
            let expected = match session.asked_at[&partition] {
                StartPosition::Earliest => 0,
                StartPosition::Offset(offset) => offset,
                StartPosition::Latest => {
                    assert!(position.next_offset >= floor, "latest lies before {floor}");
                    position.next_offset
                }
                StartPosition::Timestamp(_) => unreachable!("not asked for"),
            };
            let next = position.next_offset;
            let trimmed = next > expected && turn.scenario.retention_bytes > 0;
            assert!(next == expected || trimmed, "partition {partition}: {next}, not {expected}");
            if trimmed || !self.from.contains_key(&partition) {
                self.from.insert(partition, next);
            }
            self.next.insert(partition, next);
            turn.oracle.saw_high_watermark(partition, high_watermark);
        }
    }

    fn deliver(
        &mut self,
        deliver: &Deliver,
        payload: &Bytes,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = &self.session else { return };
        if session.subscription != deliver.subscription {
            return;
        }
        assert!(session.accepted, "delivered before the reply: {deliver:?}");
        assert!(deliver.lease.is_none(), "a lease for a broadcast: {deliver:?}");
        let partition = deliver.partition;
        let next = self.next.get_mut(&partition).expect("subscribed to all partitions");
        assert_eq!(deliver.first, *next, "hole or repeat in partition {partition}");
        for found in batch::iter(payload) {
            let (header, bytes) = found.expect("whole batches");
            if let Some(wanted) = self.wanted {
                let summary = batch::summary(&bytes);
                assert!(may_contain(summary, super::key(wanted)), "not asked for: {deliver:?}");
            }
            assert_eq!(header.base_offset.0, *next, "hole or repeat within {deliver:?}");
            *next = turn.oracle.observed(partition, &bytes);
            if self.audit {
                self.seen.insert(BatchKey {
                    partition,
                    producer: header.producer.0,
                    epoch: header.epoch.0,
                    sequence: header.sequence.0,
                });
            }
        }
        assert_eq!(*next, deliver.last + 1, "the payload ends elsewhere than {deliver:?}");
        let high_watermark = deliver.high_watermark;
        assert!(*next <= high_watermark, "served past the high watermark: {deliver:?}");
        turn.oracle.saw_high_watermark(partition, high_watermark);

        *self.owed.entry(partition).or_default() += payload.len() as u32;
        if turn.rng.one_in(4) {
            turn.retry_later();
        } else {
            self.give_credit(line, turn);
        }
    }

    /// Retention was faster than this reader.
    fn missed(&mut self, missed: &Missed, turn: &mut Turn<'_>) {
        let Some(session) = &self.session else { return };
        if session.subscription != missed.subscription {
            return;
        }
        if missed.reason == MissedReason::Filtered {
            let wanted = self.wanted.expect("a filter is asked for");
            let next = self.next.get_mut(&missed.partition).expect("subscribed");
            assert_eq!(missed.first, *next, "{missed:?}");
            *next = missed.last + 1;
            turn.oracle.left_out(missed.partition, missed.first..*next, super::key(wanted));
            return;
        }
        assert!(turn.scenario.retention_bytes > 0, "without retention: {missed:?}");
        let next = self.next.get_mut(&missed.partition).expect("subscribed to all partitions");
        assert_eq!(missed.first, *next, "{missed:?}");
        *next = missed.last + 1;
        turn.oracle.missed_records += missed.last + 1 - missed.first;
        self.from.insert(missed.partition, *next);
    }

    fn give_credit(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(session) = &self.session else { return };
        for (partition, bytes) in std::mem::take(&mut self.owed) {
            let subscription = session.subscription;
            let credit = Credit { subscription, partition, bytes };
            line.send(turn, &ClientMessage::Credit(credit), &[]);
        }
    }
}
