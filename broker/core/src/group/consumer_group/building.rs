//! From batches to chunks whose bounds stand.

use lanecast_wire::Offset;

use super::Group;
use super::pending::Pending;
use crate::Now;
use crate::group::chunk::{Building, ChunkState, Slot};
use crate::group::ledger::{ChunkKey, Dying};
use crate::group::limits::{CHUNKS_AHEAD_MAX, CHUNKS_OPEN_MAX, TTL_PARTS};
use crate::group::outbox::Outbox;
use crate::group::{BatchBounds, GroupRecord};
use crate::mutants::{Mutant, planted};

impl Group {
    pub(in crate::group) fn advance(
        &mut self,
        now: Now,
        high_watermark: Offset,
        tail: Offset,
        outbox: &mut Outbox,
    ) {
        self.tail = tail;
        if high_watermark > self.high_watermark {
            self.high_watermark = high_watermark;
            self.hand_out(now, outbox);
        }
    }

    pub(in crate::group) fn wants(&self) -> Option<Offset> {
        let ahead = self.binding + self.ready.len();
        let room = ahead < CHUNKS_AHEAD_MAX && self.slots.len() < CHUNKS_OPEN_MAX;
        (room && self.is_open() && !self.stopped && !self.members.is_empty()).then(|| self.next())
    }

    /// The offset behind everything that is bound or being built.
    pub(super) fn next(&self) -> Offset {
        self.building.map_or(self.ledger.bound_upto, |building| Offset(building.last.0 + 1))
    }

    pub(in crate::group) fn offer(&mut self, now: Now, batch: BatchBounds, outbox: &mut Outbox) {
        if self.wants() != Some(batch.first) || batch.last < batch.first {
            debug_assert!(false, "batch {batch:?} offered, wanted {:?}", self.wants());
            return;
        }
        let whole = self.blocks.is_restoring();
        if !whole && self.building.is_some_and(|building| self.is_over(building, batch)) {
            self.close(outbox);
        }
        match &mut self.building {
            Some(building) => building.add(batch),
            None => self.building = Some(Building::begin(batch, now.mono_us)),
        }
        let full = self.building.is_some_and(|building| {
            building.records() >= self.closing.records
                || u64::from(building.bytes) >= self.closing.bytes
        });
        let due = self.linger_deadline().is_some_and(|deadline| deadline <= now.mono_us);
        let ends = self.closing.linger_us == 0
            && batch.last >= self.high_watermark
            && self.blocks.ends_with(batch.last);
        if (full || due || ends) && !whole && self.slots.len() < CHUNKS_OPEN_MAX {
            self.close(outbox);
        }
    }

    /// Would the batch be too much for the chunk being built?
    fn is_over(&self, building: Building, batch: BatchBounds) -> bool {
        let records = batch.last.0 - batch.first.0 + 1;
        let ttl_ms = self.settings.record_ttl_ms;
        building.records() + records > self.closing.records
            || u64::from(building.bytes) + u64::from(batch.bytes) > self.closing.bytes
            || (ttl_ms > 0
                && batch.appended_ms.abs_diff(building.appended_ms.0) > ttl_ms / TTL_PARTS)
    }

    /// When the chunk being built has waited long enough. While there are more batches it waits for
    /// them instead, and while nobody has room for it, for more to come: a group that is behind makes
    /// full chunks.
    pub(super) fn linger_deadline(&self) -> Option<u64> {
        let building = self.building?;
        (building.last.0 + 1 >= self.tail.0 && self.has_room())
            .then(|| building.since_us.saturating_add(self.closing.linger_us))
    }

    /// Would one more chunk be handed out at once, behind those that wait already? Without a linger
    /// chunks are made however that is.
    fn has_room(&self) -> bool {
        let waiting = self.binding + self.ready.len();
        self.closing.linger_us == 0 || self.would_take(waiting + 1)
    }

    pub(super) fn close(&mut self, outbox: &mut Outbox) {
        let Some(building) = self.building.take() else { return };
        let Building { first, last, bytes, appended_ms, .. } = building;
        let bound = GroupRecord::Bound { first, last, bytes, appended_ms: appended_ms.1 };
        let key = ChunkKey { first, last };
        if self.blocks.bind(key) {
            self.write(&bound, Pending::BoundBlock, outbox);
            self.slots.insert(key, Slot::new(&self.ledger.chunks[&key], ChunkState::Ready));
            self.ready.insert(key);
            return;
        }
        self.write(&bound, Pending::Bound { chunk: key }, outbox);
        self.open_slot(key, 0);
        if planted(Mutant::HandOutUnbound) {
            self.binding -= 1;
            self.set_ready(key);
        }
    }

    /// The chunk has just been made: it waits until that is durable, and then until `until_us`.
    pub(super) fn open_slot(&mut self, key: ChunkKey, until_us: u64) {
        let chunk = self.ledger.chunks.get(&key).expect("it has just been made");
        self.slots.insert(key, Slot::new(chunk, ChunkState::Binding { until_us }));
        self.binding += 1;
    }

    pub(in crate::group) fn cut(&mut self, end: Offset, outbox: &mut Outbox) {
        self.blocks.restore(end);
        if self.ledger.bound_upto <= end {
            return;
        }
        debug_assert_eq!(self.leases.len(), 0, "said before any hand-out");
        self.building = None;
        // A chunk that ends sooner is another one.
        self.opening += 1;
        self.write(&GroupRecord::Cut { upto: end }, Pending::Cut, outbox);
        self.forget_slots();
        self.forget_graves(outbox);
    }

    pub(in crate::group) fn rewind(&mut self, end: Offset, outbox: &mut Outbox) {
        self.building = None;
        if self.ledger.bound_upto <= end {
            return;
        }
        self.opening += 1;
        self.write(&GroupRecord::Cut { upto: end }, Pending::Cut, outbox);
        let over = self.slots.keys().filter(|key| key.last >= end);
        for key in over.copied().collect::<Vec<_>>() {
            debug_assert!(!matches!(self.slots[&key].state, ChunkState::Leased { .. }));
            self.remove(key);
        }
        // One that ends sooner is another one, and nobody has had it.
        for (key, chunk) in &self.ledger.chunks {
            if !self.slots.contains_key(key) {
                self.slots.insert(*key, Slot::new(chunk, ChunkState::Ready));
                self.ready.insert(*key);
            }
        }
    }

    /// The chunk that is being built ends where the damage begins; the next one begins behind it.
    pub(in crate::group) fn pass(&mut self, now: Now, upto: Offset, outbox: &mut Outbox) {
        self.close(outbox);
        let from = self.ledger.bound_upto;
        if upto > from {
            self.counters.damaged_records += upto.0 - from.0;
            self.write(&GroupRecord::Passed { from, upto }, Pending::Noted, outbox);
            self.hand_out(now, outbox);
        }
    }

    pub(in crate::group) fn trim(&mut self, now: Now, log_start: Offset, outbox: &mut Outbox) {
        let below = self.ledger.bound_upto;
        let hit: Vec<(ChunkKey, u64)> = self
            .ledger
            .chunks
            .values()
            .take_while(|chunk| chunk.key.first < log_start)
            .filter(|chunk| chunk.first_open() < log_start)
            .map(|chunk| (chunk.key, chunk.open_records()))
            .collect();
        let is_hit = |dying: &Dying| dying.ranges.as_slice()[0].0 < log_start;
        let hits_dying = self.ledger.dying.values().any(is_hit);
        if below >= log_start && hit.is_empty() && !hits_dying {
            return;
        }
        let dying = self.dying_records();
        let mut skipped = log_start.0.saturating_sub(below.0);
        if skipped > 0 {
            self.building = None;
        }
        // Whoever has such a chunk may not get all of it any more.
        for (key, _) in &hit {
            if self.end_lease(*key, outbox) {
                self.counters.leases_broken += 1;
                self.set_ready(*key);
            }
        }
        let is_lost = |epoch: &u32| {
            let dying = self.ledger.dying.get(epoch);
            dying.is_some_and(|dying| dying.ranges.end_below(log_start))
        };
        let lost = self.burying.filter(is_lost);
        let skipped_upto = GroupRecord::Skipped { upto: log_start };
        self.write(&skipped_upto, Pending::Skipped { lost }, outbox);
        for (key, before) in hit {
            let left = self.ledger.chunks.get(&key).map_or(0, |chunk| chunk.open_records());
            skipped += before - left;
            if left == 0 {
                self.remove(key);
            } else if let Some(slot) = self.slots.get_mut(&key) {
                slot.unsettled -= before - left;
                slot.floor = slot.floor.max(log_start);
            }
        }
        skipped += dying - self.dying_records();
        self.counters.skipped_records += if planted(Mutant::HideSkipped) { 0 } else { skipped };
        self.forget_graves(outbox);
        self.hand_out(now, outbox);
    }
}
