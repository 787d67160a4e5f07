//! Opening a log, for the first time or after a failure: list, read, then mark.

use bytes::Bytes;

use super::recovery::{Recovery, Step};
use super::{Log, LogEvent, Operation, Place, RecoveryReport, State};
use crate::disk::Operations;
use crate::limits::RECOVERY_BACKOFF_US_MAX;
use crate::mutants::{Mutant, planted};
use crate::{DiskErrorKind, DiskRequest, Now};

impl Log {
    pub(super) fn list(&mut self, operations: &mut Operations) {
        debug_assert!(self.in_flight.is_empty());
        self.segments.clear();
        self.cache.clear();
        self.housekeeping.restart();
        self.life += 1;
        self.events.push_back(LogEvent::Restarted);
        self.state =
            State::Reading(Recovery::new(self.config.id, self.is_flushed(), Vec::new(), None));
        self.submit(Operation::List, DiskRequest::OpenLog { log: self.config.id }, operations);
    }

    pub(super) fn recovered_bytes(&mut self, now: Now, bytes: &Bytes, operations: &mut Operations) {
        let State::Reading(recovery) = &mut self.state else { return };
        if !recovery.is_whole(bytes) {
            self.fail(now, DiskErrorKind::Io, "a read gave less than there is".to_owned());
            return;
        }
        let (cache, events) = (&mut self.cache, &mut self.events);
        let outcome = recovery.read(bytes, &mut self.segments, |block| {
            cache.push(block.clone());
            events.push_back(LogEvent::Replayed(block));
        });
        self.cache.trim(self.config.cache_bytes);
        match outcome {
            Ok(()) => self.recover(now, operations),
            Err(place) => self.damaged(now, place),
        }
    }

    pub(super) fn recover(&mut self, now: Now, operations: &mut Operations) {
        let State::Reading(recovery) = &self.state else { return };
        match recovery.step() {
            Step::Read { place, bytes } => {
                let log = self.config.id;
                let (segment, position) = (place.segment, place.position);
                let request = DiskRequest::Read { log, segment, position, bytes };
                self.submit(Operation::Recover, request, operations);
            }
            Step::Damaged { place } => self.damaged(now, place),
            Step::Finished(report) => {
                let State::Reading(recovery) = std::mem::replace(&mut self.state, State::Closed)
                else {
                    return;
                };
                let tail = recovery.tail();
                let report = RecoveryReport { log_start: self.segments.log_start(), ..report };
                self.durable_end = report.end_offset;
                let (unused, last) = recovery.into_rest();
                self.housekeeping.found(unused, self.known.is_some(), self.config.segment_bytes);
                let nonce = nonce(self.config.seed, self.life, now.wall_ms);
                self.writer.open(report.end_offset, tail, last, nonce);
                self.state = State::Opening(report);
                if planted(Mutant::TrustWhatIsFound) {
                    self.opened(report);
                }
            }
        }
    }

    fn damaged(&mut self, now: Now, place: Place) {
        let detail = format!(
            "acknowledged data is missing from the log around segment {} position {}; \
             restore the segment or move the log's folder away",
            place.segment.0, place.position
        );
        self.backoff_us = RECOVERY_BACKOFF_US_MAX;
        self.fail(now, DiskErrorKind::Io, detail);
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
