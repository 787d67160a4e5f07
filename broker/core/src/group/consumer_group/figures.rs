//! What the group tells of itself.

use lanecast_wire::Offset;

use super::Group;
use crate::GroupStats;
use crate::group::chunk::{ChunkState, Slot};

impl Group {
    /// Everything below is finished, durably.
    pub(in crate::group) fn acked_upto(&self) -> Offset {
        let slot = self.lowest_floor(|_| true);
        slot.into_iter().chain(self.lowest_dying()).fold(self.ledger.bound_upto, Offset::min)
    }

    /// The first record that is open in a chunk.
    pub(in crate::group) fn lowest_open(&self) -> Option<Offset> {
        self.lowest_floor(|_| true)
    }

    /// The first record that somebody works on: on lease, or on its way to the dead letters.
    pub(in crate::group) fn lowest_leased(&self) -> Option<Offset> {
        let is_leased = |slot: &Slot| matches!(slot.state, ChunkState::Leased { .. });
        let leased = if self.leases.is_empty() { None } else { self.lowest_floor(is_leased) };
        leased.into_iter().chain(self.lowest_dying()).min()
    }

    /// The lowest floor of these slots. None is below its chunk's first record, so chunks that begin
    /// above one that was found have no lower one.
    fn lowest_floor(&self, counts: impl Fn(&Slot) -> bool) -> Option<Offset> {
        let mut lowest: Option<Offset> = None;
        for (key, slot) in &self.slots {
            if lowest.is_some_and(|lowest| key.first >= lowest) {
                break;
            }
            if counts(slot) {
                lowest = Some(lowest.map_or(slot.floor, |lowest| lowest.min(slot.floor)));
            }
        }
        lowest
    }

    fn lowest_dying(&self) -> Option<Offset> {
        self.ledger.dying.values().map(|dying| dying.ranges.as_slice()[0].0).min()
    }

    pub(in crate::group) fn stats(&self) -> GroupStats {
        let open_records: u64 = self.slots.values().map(|slot| slot.unsettled).sum();
        let dying_records = self.dying_records();
        // What is bound may reach over the high watermark.
        let below = open_records + dying_records + self.high_watermark.0;
        GroupStats {
            name: self.ledger.name.clone(),
            acked_upto: self.acked_upto().0,
            members: self.members.len() as u32,
            in_flight_chunks: self.leases.len() as u32,
            open_chunks: self.slots.len() as u32,
            lag_records: below.saturating_sub(self.ledger.bound_upto.0),
            acked_chunks: self.counters.acked_chunks,
            acked_records: self.counters.acked_records,
            redelivered: self.counters.redelivered,
            expired: self.counters.expired,
            nacked: self.counters.nacked,
            skipped_records: self.counters.skipped_records,
            damaged_records: self.counters.damaged_records,
            expired_records: self.counters.expired_records,
            dying_records,
            dead_lettered_records: self.counters.dead_lettered_records,
            leases_broken: self.counters.leases_broken,
        }
    }
}
