//! From batches to chunks whose bounds stand.

use lanecast_wire::Offset;

use super::{Group, Pending};
use crate::Now;
use crate::group::chunk::{Building, Chunk, ChunkState};
use crate::group::limits::{CHUNKS_AHEAD_MAX, CHUNKS_OPEN_MAX};
use crate::group::outbox::Outbox;
use crate::group::{BatchBounds, GroupRecord};
use crate::mutants::{Mutant, planted};

impl Group {
    pub(in crate::group) fn advance(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    pub(in crate::group) fn wants(&self) -> Option<Offset> {
        let ahead = self.binding + self.ready.len();
        let room = ahead < CHUNKS_AHEAD_MAX && self.chunks.len() < CHUNKS_OPEN_MAX;
        (room && self.opened && !self.stopped && !self.members.is_empty()).then(|| self.next())
    }

    /// The offset behind everything that is bound or being built.
    pub(super) fn next(&self) -> Offset {
        self.building.map_or(self.bound_upto, |building| Offset(building.last.0 + 1))
    }

    pub(in crate::group) fn offer(&mut self, now: Now, batch: BatchBounds, outbox: &mut Outbox) {
        if self.wants() != Some(batch.first) || batch.last < batch.first {
            debug_assert!(false, "batch {batch:?} offered, wanted {:?}", self.wants());
            return;
        }
        let records = batch.last.0 - batch.first.0 + 1;
        let over = self.building.is_some_and(|building| {
            building.records() + records > self.closing.records
                || u64::from(building.bytes) + u64::from(batch.bytes) > self.closing.bytes
        });
        if over {
            self.close(outbox);
        }
        let building = self
            .building
            .get_or_insert_with(|| Building::begin(BatchBounds { bytes: 0, ..batch }, now.mono_us));
        building.last = batch.last;
        building.bytes = building.bytes.saturating_add(batch.bytes);
        let full = building.records() >= self.closing.records
            || u64::from(building.bytes) >= self.closing.bytes;
        if full || self.linger_deadline().is_some_and(|deadline| deadline <= now.mono_us) {
            self.close(outbox);
        }
    }

    /// When the chunk being built has waited long enough. While more batches are durable it waits
    /// for them instead: a group that is behind makes full chunks.
    pub(super) fn linger_deadline(&self) -> Option<u64> {
        let building = self.building?;
        (building.last.0 + 1 >= self.high_watermark.0)
            .then(|| building.since_us.saturating_add(self.closing.linger_us))
    }

    pub(super) fn close(&mut self, outbox: &mut Outbox) {
        let Some(Building { first, last, bytes, .. }) = self.building.take() else { return };
        self.chunks.insert(first, Chunk { last, bytes, attempts: 0, state: ChunkState::Binding });
        self.binding += 1;
        self.bound_upto = Offset(last.0 + 1);
        self.persist(&GroupRecord::Bound { first, last, bytes }, Pending::Bound { first }, outbox);
        if planted(Mutant::HandOutUnbound) {
            self.binding -= 1;
            self.set_ready(first);
        }
    }

    pub(in crate::group) fn cut(&mut self, end: Offset, outbox: &mut Outbox) {
        if self.bound_upto <= end {
            return;
        }
        debug_assert_eq!(self.leased, 0, "said before any hand-out");
        // A chunk that is lost in part is bound anew.
        let lost = |(first, chunk): (&Offset, &Chunk)| (chunk.last >= end).then_some(*first);
        let lost: Vec<Offset> = self.chunks.iter().filter_map(lost).collect();
        let upto = lost.first().copied().unwrap_or(end).min(end);
        for first in lost {
            self.stop_timer(first);
            self.remove(first);
        }
        self.building = None;
        self.bound_upto = upto;
        self.start = self.start.min(upto);
        self.persist(&GroupRecord::Cut { upto }, Pending::Noted, outbox);
    }

    /// The chunk that is being built ends where the damage begins; the next one begins behind it.
    pub(in crate::group) fn pass(&mut self, now: Now, upto: Offset, outbox: &mut Outbox) {
        self.close(outbox);
        let from = self.bound_upto;
        if upto > from {
            self.counters.damaged_records += upto.0 - from.0;
            self.bound_upto = upto;
            self.persist(&GroupRecord::Passed { from, upto }, Pending::Noted, outbox);
            self.hand_out(now, outbox);
        }
    }

    pub(in crate::group) fn trim(&mut self, now: Now, log_start: Offset, outbox: &mut Outbox) {
        if planted(Mutant::HideSkipped) {
            // Nothing is counted.
        } else if self.next() < log_start {
            self.counters.skipped_records += log_start.0 - self.bound_upto.0;
        } else if let Some(building) = self.building
            && building.first < log_start
        {
            self.counters.skipped_records += log_start.0 - building.first.0;
        }
        let mut skipped = self.bound_upto < log_start;
        if skipped {
            self.building = None;
            self.bound_upto = log_start;
        }
        while let Some((first, chunk)) = self.chunks.first_key_value()
            && *first < log_start
        {
            let first = *first;
            let hidden = planted(Mutant::HideSkipped);
            self.counters.skipped_records += if hidden { 0 } else { chunk.records(first) };
            self.end_lease(first, outbox);
            self.remove(first);
            skipped = true;
        }
        if skipped {
            self.persist(&GroupRecord::Skipped { upto: log_start }, Pending::Noted, outbox);
            self.hand_out(now, outbox);
        }
    }
}
