//! What clients were told, and what therefore has to hold for ever.
//!
//! The oracle sees only what crosses the wire. A broker that contradicts what it said before, to
//! anyone, over any crash, is caught here by a panic that names the contradiction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use lanecast_wire::KeyHash;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::Durability;
use lanecast_wire::summary::may_contain;

use crate::group_truth::{GroupTruth, Leasing};
use crate::letters::{Letters, Place};
use crate::scenario::{Scenario, TOPIC};
use crate::store::Store;

/// A batch, as its producer names it.
/// More than a run produces.
const OFFSETS_MAX: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchKey {
    pub(crate) partition: u32,
    pub(crate) producer: u64,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
}

impl BatchKey {
    pub(crate) fn of(partition: u32, header: &BatchHeader) -> Self {
        Self {
            partition,
            producer: header.producer.0,
            epoch: header.epoch.0,
            sequence: header.sequence.0,
        }
    }
}

/// A group on one partition, by the group's number in the scenario.
pub(crate) type GroupKey = (usize, u32);

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Numbers of topics, by name.
    topics: BTreeMap<String, u32>,
    /// What producers have sent, and when first.
    sent: BTreeMap<BatchKey, (Bytes, u64)>,
    acknowledged: BTreeSet<BatchKey>,
    /// Where each batch lies that anyone was told of.
    places: BTreeMap<BatchKey, u64>,
    /// The same by partition and offset, with record counts.
    layout: BTreeMap<u32, BTreeMap<u64, (BatchKey, u32)>>,
    /// The highest watermark that anyone was told of, by partition.
    high_watermarks: BTreeMap<u32, u64>,
    groups: BTreeMap<GroupKey, GroupTruth>,
    pub(crate) letters: Letters,
    /// Offsets, by partition, that someone was told have nothing of a key.
    left_out: Vec<(u32, Range<u64>, KeyHash)>,
    /// Records that the broker has reported as lost to a group.
    skipped: BTreeMap<GroupKey, u64>,
    /// What the medium has damaged, by partition.
    damaged: BTreeMap<u32, Vec<Range<u64>>>,
    /// Leases may end early, because a partition reads its logs again after a failed request.
    pub(crate) leases_may_vanish: bool,
    /// Retention takes records that somebody works on.
    pub(crate) retention_breaks_leases: bool,
    /// Retention may take records before anybody has seen them.
    pub(crate) records_may_go: bool,
    /// How often all promises became void.
    pub(crate) times_forgot: u64,
    pub(crate) missed_records: u64,
    pub(crate) forgotten_producers: u64,
    pub(crate) fenced_producers: u64,
    /// How often the broker has died.
    pub(crate) deaths: u64,
    /// Records of topics that come and go.
    pub(crate) errands: u64,
    /// Moves of groups that were answered.
    pub(crate) moves: u64,
    /// Records that readers were told of as too old.
    pub(crate) expired_records: u64,
    pub(crate) expiry: Expiry,
    pub(crate) duplicates: u64,
    /// Rows that groups have lost in the end.
    pub(crate) missing_rows: u64,
}

/// How long records live.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expiry {
    pub(crate) ttl_us: Option<u64>,
    /// The broker's clock runs like the simulation's, and what it sends it sends at once.
    pub(crate) steady: bool,
}

impl Expiry {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let ttl_us = Some(scenario.record_ttl_ms * 1000).filter(|ttl_us| *ttl_us > 0);
        Self { ttl_us, steady: scenario.clock_jumps == 0 && !scenario.frames_may_wait() }
    }
}

/// Times on the wire are whole milliseconds.
const ROUNDED_US: u64 = 2_000;

/// Bytes of the header that the broker may change.
const STAMPED: std::ops::Range<usize> = 8..24;

impl Oracle {
    /// A topic's number never changes once anyone knows it.
    pub(crate) fn topic(&mut self, name: &str, topic: u32) {
        let known = *self.topics.entry(name.to_owned()).or_insert(topic);
        assert_eq!(known, topic, "{name} has another number than before");
    }

    /// The number of a topic that somebody was told.
    pub(crate) fn topic_number(&self, name: &str) -> Option<u32> {
        self.topics.get(name).copied()
    }

    /// All promises are void; new ones begin.
    pub(crate) fn forget(&mut self) {
        self.acknowledged.clear();
        self.places.clear();
        self.layout.clear();
        self.high_watermarks.clear();
        self.groups.clear();
        self.left_out.clear();
        self.skipped.clear();
        self.times_forgot += 1;
    }

    /// A producer sends a batch, perhaps again.
    pub(crate) fn sent(&mut self, key: BatchKey, bytes: Bytes, now_us: u64) {
        let (first, _) = self.sent.entry(key).or_insert_with(|| (bytes.clone(), now_us));
        assert!(*first == bytes, "{key:?} is sent with other bytes than before");
    }

    /// A producer was told that its batch is durable at this offset.
    pub(crate) fn acknowledged(&mut self, key: BatchKey, base_offset: u64, duplicate: bool) {
        let header = BatchHeader::decode(&self.sent[&key].0).expect("we made it");
        self.place(key, base_offset, header.record_count, "acknowledged");
        self.acknowledged.insert(key);
        self.duplicates += u64::from(duplicate);
        self.saw_high_watermark(key.partition, base_offset + u64::from(header.record_count));
    }

    /// A subscriber got this batch, whole. Returns the offset behind it.
    pub(crate) fn observed(&mut self, partition: u32, header: &BatchHeader, bytes: &Bytes) -> u64 {
        let key = BatchKey::of(partition, header);
        let Some((sent, _)) = self.sent.get(&key) else {
            panic!("partition {partition} serves a batch that nobody sent: {key:?}");
        };
        let same = sent[..STAMPED.start] == bytes[..STAMPED.start]
            && sent[STAMPED.end..] == bytes[STAMPED.end..];
        assert!(same, "{key:?} is served with other bytes than were sent");
        self.place(key, header.base_offset.0, header.record_count, "served");
        header.base_offset.0 + u64::from(header.record_count)
    }

    fn place(&mut self, key: BatchKey, base: u64, records: u32, how: &str) {
        let mut known = *self.places.entry(key).or_insert(base);
        if base > known && self.is_damaged(key.partition, known) {
            // With the batch went what the partition knew of its sequence.
            self.places.insert(key, base);
            self.layout.entry(key.partition).or_default().remove(&known);
            known = base;
        }
        assert_eq!(known, base, "{key:?} is {how} at {base}, but lay at {known}");
        let layout = self.layout.entry(key.partition).or_default();
        if let Some((at, (other, count))) = layout.range(..base + u64::from(records)).next_back()
            && at + u64::from(*count) > base
        {
            let same = *other == key && *at == base;
            assert!(same, "{key:?} is {how} at {base}, where {other:?} lies at {at}");
        }
        layout.insert(base, (key, records));
    }

    pub(crate) fn saw_high_watermark(&mut self, partition: u32, high_watermark: u64) {
        let known = self.high_watermarks.entry(partition).or_default();
        *known = high_watermark.max(*known);
    }

    /// A subscriber that wants this key was not sent these records.
    pub(crate) fn left_out(&mut self, partition: u32, range: Range<u64>, wanted: KeyHash) {
        self.left_out.push((partition, range, wanted));
    }

    /// The medium has damaged these records.
    pub(crate) fn damaged(&mut self, partition: u32, records: Range<u64>) {
        self.damaged.entry(partition).or_default().push(records);
    }

    /// Has this record been damaged on the medium?
    fn is_damaged(&self, partition: u32, offset: u64) -> bool {
        self.damaged.get(&partition).is_some_and(|all| all.iter().any(|r| r.contains(&offset)))
    }

    /// A power cut leaves holes in what was never flushed. Else only what was damaged is.
    pub(crate) fn may_be_damaged(
        &self,
        durability: Durability,
        partition: u32,
        mut records: Range<u64>,
    ) -> bool {
        (durability == Durability::Written && self.times_forgot > 0)
            || records.all(|offset| self.is_damaged(partition, offset))
    }

    /// Where the batch begins that holds this record, if anybody knows.
    pub(crate) fn batch_with(&self, partition: u32, offset: u64) -> Option<u64> {
        let (at, (_, count)) = self.layout.get(&partition)?.range(..=offset).next_back()?;
        (at + u64::from(*count) > offset).then_some(*at)
    }

    /// May the batch that holds this record have outlived its time?
    pub(crate) fn may_be_expired(&self, partition: u32, offset: u64, now_us: u64) -> bool {
        let Some(ttl_us) = self.expiry.ttl_us else { return false };
        let batch = self.layout.get(&partition).and_then(|l| l.range(..=offset).next_back());
        let Some((_, (key, _))) = batch.filter(|(at, (_, n))| *at + u64::from(*n) > offset) else {
            return true;
        };
        !self.expiry.steady || self.sent[key].1 + ttl_us <= now_us + ROUNDED_US
    }

    /// What was appended then may be sent now, `lag_us` after it was decided.
    pub(crate) fn check_fresh(&self, appended_ms: i64, wall_ms: i64, lag_us: u64) {
        let Expiry { ttl_us: Some(ttl_us), steady: true } = self.expiry else { return };
        let age_us = wall_ms.saturating_sub(appended_ms).cast_unsigned().saturating_mul(1000);
        let fresh = appended_ms >= wall_ms || age_us <= ttl_us + lag_us + ROUNDED_US;
        assert!(fresh, "{age_us} us old when it was sent, it lives {ttl_us} us");
    }

    /// Parts of the log may be missing.
    pub(crate) fn has_holes(&self) -> bool {
        !self.damaged.is_empty() || self.times_forgot > 0 || self.expiry.ttl_us.is_some()
    }

    /// Retention may take a log's front, and so may a power cut of one that was never flushed.
    pub(crate) fn front_may_go(&self) -> bool {
        self.records_may_go || !self.damaged.is_empty() || self.times_forgot > 0
    }

    /// What no later answer may fall below.
    pub(crate) fn high_watermarks(&self) -> BTreeMap<u32, u64> {
        self.high_watermarks.clone()
    }

    pub(crate) fn group(&mut self, key: GroupKey) -> &mut GroupTruth {
        self.groups.entry(key).or_default()
    }

    /// A member got a frame of a chunk.
    pub(crate) fn leased(&mut self, key: GroupKey, leasing: Leasing<'_>) {
        let check_live = !self.leases_may_vanish && !self.retention_breaks_leases;
        self.groups.entry(key).or_default().leased(leasing, check_live);
    }

    /// A reader of the dead-letter topic got a letter, at this place of it.
    pub(crate) fn letter(&mut self, place: Place, batch: &Bytes, max_attempts: u32) {
        if !self.letters.is_news(place, batch) {
            return;
        }
        let letter = self.letters.open(place, batch);
        assert_eq!(Some(letter.topic), self.topic_number(TOPIC), "{letter:?}");
        let header = BatchHeader::decode(&letter.batch).expect("the letter was checked");
        self.observed(letter.partition, &header, &letter.batch);
        let group = self.group((letter.group, letter.partition));
        group.letter(&letter.records, max_attempts);
    }

    /// A client has no leases any more: it left, or its connection is gone.
    pub(crate) fn released(&mut self, client: usize) {
        for group in self.groups.values_mut() {
            group.released(client);
        }
    }

    /// Everything that was acknowledged is in what a fresh reader saw, of what is still there.
    pub(crate) fn check_audit(
        &self,
        from: &BTreeMap<u32, u64>,
        upto: &BTreeMap<u32, u64>,
        seen: &BTreeSet<BatchKey>,
        expired: &[(u32, Range<u64>)],
    ) {
        for (partition, high_watermark) in &self.high_watermarks {
            let upto = upto.get(partition).copied().unwrap_or(0);
            assert!(upto >= *high_watermark, "partition {partition} went back to {upto}");
        }
        for (partition, layout) in &self.layout {
            let from = from.get(partition).copied().unwrap_or(0);
            assert!(from == 0 || self.front_may_go(), "partition {partition} begins at {from}");
            for (base, (key, _)) in layout.range(from..) {
                let acknowledged = self.acknowledged.contains(key);
                let what = if acknowledged { "acknowledged" } else { "served" };
                let is_expired =
                    |(p, told): &(u32, Range<u64>)| p == partition && told.contains(base);
                let found = seen.contains(key)
                    || self.is_damaged(*partition, *base)
                    || expired.iter().any(is_expired);
                assert!(found, "{what} batch {key:?} at {base} is lost");
            }
        }
        self.check_producer_order();
        self.check_left_out();
    }

    /// Every record of every group was either acked or lies in a dead letter, as far as can be told.
    pub(crate) fn check_settled(&self, ends: &BTreeMap<u32, u64>, now_us: u64) {
        for (key, truth) in &self.groups {
            let end = ends.get(&key.1).copied().unwrap_or(0);
            // A log whose end is gone goes on far behind it, and this disk takes no files away.
            assert!(end < OFFSETS_MAX, "{key:?} goes on at {end}: what was there before is lost");
            let mut unsettled = truth.unsettled(end);
            unsettled.retain(|offset| {
                !self.is_damaged(key.1, *offset) && !self.may_be_expired(key.1, *offset, now_us)
            });
            let reported = self.skipped.get(key).copied().unwrap_or(0);
            let excused = unsettled.len() as u64 <= reported
                || self.times_forgot > 0
                || (self.leases_may_vanish && reported > 0);
            assert!(
                excused,
                "{key:?} has finished {unsettled:?}, which nobody acked and no dead letter has; \
                 {reported} were reported lost"
            );
        }
    }

    /// No batch that a filter left out can have had what was wanted.
    fn check_left_out(&self) {
        for (partition, range, wanted) in &self.left_out {
            let batches =
                self.layout.get(partition).into_iter().flat_map(|l| l.range(range.clone()));
            for (base, (key, _)) in batches {
                let summary = batch::summary(&self.sent[key].0);
                assert!(!may_contain(summary, *wanted), "{key:?} at {base} was wanted, not sent");
            }
        }
    }

    /// Per producer and partition: epochs that rise with the offsets, and in each of them sequences
    /// without holes.
    fn check_producer_order(&self) {
        let mut epochs: BTreeMap<(u32, u64), (u32, u64)> = BTreeMap::new();
        for (partition, layout) in &self.layout {
            for (key, _) in layout.values() {
                let known = epochs.entry((*partition, key.producer)).or_insert((key.epoch, 0));
                if key.epoch > known.0 {
                    *known = (key.epoch, 0);
                }
                assert_eq!(key.epoch, known.0, "{key:?} lies behind a higher epoch");
                let may_lack = self.records_may_go || self.has_holes();
                let hole = key.sequence > known.1 && may_lack;
                let in_order = key.sequence == known.1 || hole;
                assert!(in_order, "{key:?} is out of order in the log, expected {}", known.1);
                known.1 = key.sequence + 1;
            }
        }
    }

    /// The rows in the store are the records of the log, each once, but for those that are dead and
    /// those that the broker has reported as lost to the group.
    pub(crate) fn check_store(
        &mut self,
        store: &Store,
        ends: &BTreeMap<u32, u64>,
        stores: impl Fn(usize) -> bool,
        now_us: u64,
    ) {
        let mut missing_rows = 0;
        // Promises that a power cut has ended are not checked; what a log without an end then gives up
        // would be too much to count.
        if self.times_forgot > 0 {
            return;
        }
        for (key, truth) in self.groups.iter().filter(|(key, _)| stores(key.0)) {
            let (end, start) = (ends.get(&key.1).copied().unwrap_or(0), truth.start());
            let missing = store.missing(*key, self.times_forgot, start, end);
            let lost = missing.iter().flat_map(|(first, last)| *first..=*last);
            let excused = |row: &u64| {
                self.is_damaged(key.1, *row)
                    || truth.is_dead(*row)
                    || self.may_be_expired(key.1, *row, now_us)
            };
            let rows = lost.filter(|row| !excused(row)).count() as u64;
            let reported = self.skipped.get(key).copied().unwrap_or(0);
            // A groups log that is read again lets its group count anew, perhaps within one poll.
            let counted_anew = self.leases_may_vanish && reported > 0;
            assert!(
                rows <= reported || counted_anew,
                "rows {missing:?} of {key:?} are not in the store; {reported} were reported lost"
            );
            missing_rows += rows;
        }
        self.missing_rows = missing_rows;
    }

    /// The broker says how many records a group has lost to retention.
    pub(crate) fn reported_skipped(&mut self, key: GroupKey, records: u64) {
        *self.skipped.entry(key).or_default() += records;
    }

    pub(crate) fn acknowledged_batches(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    pub(crate) fn acked_chunks(&self) -> u64 {
        self.groups.values().map(GroupTruth::acked_chunks).sum()
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.groups.values().map(GroupTruth::redelivered).sum()
    }

    pub(crate) fn dead_records(&self) -> u64 {
        self.groups.values().map(GroupTruth::dead_records).sum()
    }
}
