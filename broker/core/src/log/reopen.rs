//! Opening a log, for the first time or after a failure: list, read, then mark.

use bytes::Bytes;

use super::recovery::{Finding, Recovered, Recovery, Step};
use super::{
    BlockKind, Damage, DamageKind, Log, LogEvent, Operation, Place, RecoveryReport, State,
};
use crate::disk::Operations;
use crate::limits::RECOVERY_BACKOFF_US_MAX;
use crate::mutants::{Mutant, planted};
use crate::{DiskErrorKind, DiskRequest, Now, SegmentId};

impl Log {
    pub(super) fn list(&mut self, operations: &mut Operations) {
        debug_assert!(self.in_flight.is_empty());
        self.segments.clear();
        self.damages.clear();
        self.cache.clear();
        self.housekeeping.restart();
        self.events.push_back(LogEvent::Restarted);
        self.state =
            State::Reading(Box::new(Recovery::new(self.config.id, Vec::new(), None, None)));
        self.submit(Operation::List, DiskRequest::OpenLog { log: self.config.id }, operations);
    }

    pub(super) fn recovered_bytes(
        &mut self,
        now: Now,
        place: Place,
        bytes: Bytes,
        operations: &mut Operations,
    ) {
        let State::Reading(recovery) = &mut self.state else { return };
        if !recovery.answer(place, bytes) {
            self.fail(now, DiskErrorKind::Io, "a read gave less than there is".to_owned());
            return;
        }
        self.recover(now, operations);
    }

    /// Goes through what was read, and asks for more.
    pub(super) fn recover(&mut self, now: Now, operations: &mut Operations) {
        let State::Reading(recovery) = &mut self.state else { return };
        let (cache, damages, events) = (&mut self.cache, &mut self.damages, &mut self.events);
        let mut too_many = false;
        let mut found = |finding| match finding {
            Finding::Block(block) => {
                if block.header.count > 0 {
                    cache.push(block.clone());
                }
                events.push_back(LogEvent::Replayed(block));
            }
            Finding::Damage(damage) => {
                too_many |= !damages.push(damage);
                events.push_back(LogEvent::Damaged(damage));
            }
        };
        let step = recovery.step(&mut self.segments, &mut found);
        let mut wanted = Vec::new();
        let mut recovered = None;
        match step {
            Step::Waiting => wanted.extend(std::iter::from_fn(|| recovery.wants())),
            Step::Finished => {
                let recovery = match std::mem::replace(&mut self.state, State::Closed) {
                    State::Reading(recovery) => recovery,
                    State::Closed | State::Opening(_) | State::Open | State::Failed { .. } => {
                        return;
                    }
                };
                recovered = Some(recovery.finish(&mut self.segments, &mut found));
            }
        }
        self.cache.trim(self.config.cache_bytes);
        if too_many {
            self.too_damaged(now);
            return;
        }
        for (place, bytes) in wanted {
            let (log, Place { segment, position }) = (self.config.id, place);
            let request = DiskRequest::Read { log, segment, position, bytes };
            self.submit(Operation::Recover(place), request, operations);
        }
        if let Some(damage) = self.closing_damage() {
            let detail = format!("{damage}; restore the log's segments from a copy");
            self.backoff_us = RECOVERY_BACKOFF_US_MAX;
            self.fail(now, DiskErrorKind::Io, detail);
        } else if let Some(recovered) = recovered {
            self.reopen(now, recovered);
        }
    }

    /// A log of records begins with a snapshot of all that counts: with its newest segment, all is
    /// lost. It writes nothing before somebody has taken that as final, and so can still be restored.
    fn closing_damage(&self) -> Option<&Damage> {
        let closes = |damage: &&Damage| {
            damage.kind == DamageKind::EndLost && damage.until.is_none() && !self.accepts(damage)
        };
        self.damages.iter().find(closes).filter(|_| self.config.kind == BlockKind::Records)
    }

    /// Everything is read: the mark is next.
    fn reopen(&mut self, now: Now, recovered: Recovered) {
        let report = RecoveryReport { log_start: self.segments.log_start(), ..recovered.report };
        self.durable_end = report.end_offset;
        let is_lost_end =
            |damage: &Damage| damage.kind == DamageKind::EndLost && damage.until.is_none();
        if let Some(given) = self.testimony.given().filter(|_| self.damages.iter().any(is_lost_end))
        {
            // One was prepared ahead, perhaps: it can be put back, too.
            self.housekeeping.saw(Some(SegmentId(given.newest.0 + 1)));
        }
        self.life = self.life.max(recovered.life) + 1;
        let suspect = self.known.is_some();
        let bytes = self.config.segment_bytes;
        let draw = nonce(self.config.seed, self.life, now.wall_ms) & u64::from(u32::MAX);
        let nonce = self.life << 32 | draw;
        self.writer.open(report.end_offset, &recovered, nonce);
        self.housekeeping.found(recovered.unused, suspect, bytes);
        self.state = State::Opening(report);
        if planted(Mutant::TrustWhatIsFound) {
            self.opened(report);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn nonce(seed: u64, life: u64, wall_ms: i64) -> u64 {
    let mut mixed = seed ^ wall_ms.cast_unsigned().rotate_left(32);
    mixed = mixed.wrapping_add(life.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
