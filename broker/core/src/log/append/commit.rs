//! Writing blocks to the disk: when each is due, where it goes, and from when it counts.

use super::{Commit, Writer};
use crate::disk::Operations;
use crate::limits::{
    COMMITS_IN_FLIGHT_MAX, GATHER_US, RECOVERY_BACKOFF_US_MIN, SMALL_COMMITS_BYTES,
    SMALL_COMMITS_IN_FLIGHT_MAX,
};
use crate::log::block::{Block, BlockKind, OpenBlock, Place};
use crate::log::recovery::Tail;
use crate::log::sealed::SealedBlock;
use crate::log::segments::Segment;
use crate::log::{Log, LogEvent, Medium, Operation, State};
use crate::mutants::{Mutant, planted};
use crate::{DiskRequest, Flush, Now, OperationId, SegmentId, invariants};

impl Writer {
    /// Is so little in flight that a block that is not full goes along with it? Records gather: they come
    /// in a stream that would keep the core busy with commits, and what waits for them is not a producer.
    fn may_commit_some(&self) -> bool {
        let in_flight: usize = self.commits.iter().map(|commit| commit.block.payload.len()).sum();
        self.commits.is_empty()
            || (self.kind == BlockKind::Batches
                && self.commits.len() < SMALL_COMMITS_IN_FLIGHT_MAX
                && in_flight < SMALL_COMMITS_BYTES)
    }

    /// Is it time to write the next block?
    fn due(&mut self, now_us: u64) -> bool {
        self.gathers_until_us = None;
        if self.closed.is_empty()
            && let Some(open) = &self.open
        {
            let until_us = self.committed_at_us + GATHER_US;
            if open.payload_bytes() >= self.full_bytes {
                self.close();
            } else if self.may_commit_some() {
                if self.awaited || now_us >= until_us {
                    self.close();
                } else {
                    self.gathers_until_us = Some(until_us);
                }
            }
        }
        // Nothing is in flight beside a block without offsets: so a crash never leaves a block behind
        // one that is torn and that nobody would miss.
        let alone = self.closed.front().is_some_and(|block| block.count == 0)
            || self.commits.front().is_some_and(|commit| commit.block.header.count == 0);
        let room = if alone { 1 } else { COMMITS_IN_FLIGHT_MAX };
        !self.closed.is_empty() && self.commits.len() < room
    }
}

impl Log {
    /// Commits what is due.
    pub(in crate::log) fn dispatch(&mut self, now: Now, operations: &mut Operations) {
        // One that is stopped waits for nothing.
        if self.stopped {
            self.hurry();
        }
        while self.writer.due(now.mono_us) {
            if self.config.medium == Medium::Memory {
                self.keep_in_memory();
                continue;
            }
            let bytes = self.writer.closed.front().map_or(0, OpenBlock::bytes_on_disk);
            if self.mend(operations) {
                break;
            }
            let Some(place) = self.place_block(bytes, operations) else { break };
            self.commit(now, place, operations);
        }
    }

    /// Where a block of this size goes. `None`: wait, for the end of the segment to be durable or
    /// for a segment to be prepared.
    fn place_block(&mut self, bytes: u64, operations: &mut Operations) -> Option<Place> {
        if self.housekeeping.must_delete() {
            return None;
        }
        if let (Some(place), Some(active)) = (self.writer.place, self.segments.active())
            && place.position + bytes <= active.bytes
            && self
                .writer
                .closed
                .front()
                .is_none_or(|block| active.may_hold(block.base_offset + u64::from(block.count)))
        {
            debug_assert_eq!(place.segment, active.id);
            // The mark of a life that begins is taken for a sign that all in front of it is durable.
            let is_opening =
                self.writer.closed.front().is_some_and(|block| block.kind == BlockKind::Opening);
            let flushes = self.config.medium == Medium::Disk { sync: true }
                && !planted(Mutant::LeaveTailUnflushed);
            if is_opening && flushes && self.flush_left(operations) {
                return None;
            }
            return Some(place);
        }
        if !self.writer.commits.is_empty()
            || (!planted(Mutant::LeaveTailUnflushed) && self.flush_left(operations))
        {
            return None;
        }
        let Some(file) = self.housekeeping.take_prepared() else {
            self.housekeeping.need_segment();
            return None;
        };
        // What is lost of a log without any segment lies in front of the first new one.
        let first = self.writer.closed.front().map_or(0, |block| block.base_offset);
        let base_offset = if self.segments.len() == 0 { 0 } else { first };
        self.segments.push(Segment::new(file.segment, file.bytes, base_offset));
        Some(Place { segment: file.segment, position: 0 })
    }

    /// Before the log goes on in a new segment, or in a new life: flushes the segment that it leaves or has
    /// found, if that is not done yet, by writing its last block again as it is. Is that under way?
    fn flush_left(&mut self, operations: &mut Operations) -> bool {
        if let Some((place, block)) = self.writer.unflushed.take() {
            self.write_again(place, block, operations);
        }
        self.is_writing_again()
    }

    /// Writes blocks again that a crash has left without their padding. Is that under way?
    fn mend(&mut self, operations: &mut Operations) -> bool {
        for (place, block) in std::mem::take(&mut self.writer.ragged) {
            self.write_again(place, block, operations);
        }
        self.is_writing_again()
    }

    fn write_again(&mut self, place: Place, block: SealedBlock, operations: &mut Operations) {
        let (log, segment, position) = (self.config.id, place.segment, place.position);
        let flush = Flush::Segment;
        let request = DiskRequest::Commit { log, segment, position, block, flush };
        self.submit(Operation::Flush, request, operations);
    }

    fn is_writing_again(&self) -> bool {
        self.in_flight.values().any(|operation| matches!(operation, Operation::Flush))
    }

    fn commit(&mut self, now: Now, place: Place, operations: &mut Operations) {
        let open = self.writer.closed.pop_front().expect("due says that there is one");
        let (previous, nonce) = (self.writer.previous, self.writer.nonce);
        let durable_end = match self.state {
            State::Open => self.durable_end,
            // What was found is durable with the mark, but not by it.
            State::Opening(_) | State::Closed | State::Reading(_) | State::Failed { .. } => {
                self.writer.durable_end
            }
        };
        self.writer.named_end = durable_end;
        let (mut block, sealed) = open.seal(self.config.id, place, previous, nonce, durable_end);
        block.payload = self.alive.hold(block.payload);
        let flush = match self.config.medium {
            Medium::Disk { sync: false } | Medium::Memory => Flush::Nothing,
            // What stands before a mark is durable with it. And a write that flushes, too, may wait for
            // a core that others keep busy: producers gain by it, but not who waits for records.
            Medium::Disk { sync: true }
                if block.header.count == 0 || self.config.kind == BlockKind::Records =>
            {
                Flush::Segment
            }
            Medium::Disk { sync: true } => Flush::Block,
        };
        self.writer.unflushed = (flush == Flush::Nothing).then(|| (place, sealed.clone()));
        self.writer.previous = block.header.crc;
        self.writer.place =
            Some(Place { position: place.position + block.header.bytes_on_disk(), ..place });
        assert!(
            invariants::is_aligned(place.position, sealed.bytes_on_disk()),
            "commits are whole blocks"
        );
        let request = DiskRequest::Commit {
            log: self.config.id,
            segment: place.segment,
            position: place.position,
            block: sealed,
            flush,
        };
        let operation = self.submit(Operation::Commit, request, operations);
        if planted(Mutant::ServePastWatermark) && block.header.count > 0 {
            self.durable_end = block.end_offset();
            self.cache.push(block.clone());
        }
        self.writer.committed_at_us = now.mono_us;
        self.writer.commits.push_back(Commit { operation, block, durable: false });
    }

    /// A commit is done. Only the prefix without holes counts.
    pub(in crate::log) fn committed(&mut self, now: Now, operation: OperationId) {
        self.committed_at_us = now.mono_us;
        let commits = &mut self.writer.commits;
        let ended = |commit: &&mut Commit| {
            commit.operation == operation || planted(Mutant::AssumeOrderedCompletions)
        };
        if let Some(commit) = commits.iter_mut().find(ended) {
            commit.durable = true;
        }
        while self.writer.commits.front().is_some_and(|commit| commit.durable) {
            let commit = self.writer.commits.pop_front().expect("looked at above");
            self.durable(commit.block);
        }
    }

    fn durable(&mut self, block: Block) {
        let header = block.header;
        let segment = self.segments.active_mut().expect("a commit has a segment");
        assert_eq!(segment.id, block.place.segment, "a segment is begun when the last one is done");
        segment.push(&header, block.place.position);
        self.known = Some(Tail {
            place: Place { position: block.place.position + header.bytes_on_disk(), ..block.place },
            crc: header.crc,
            nonce: header.nonce,
            end_offset: header.end_offset(),
        });
        if let State::Opening(report) = self.state {
            debug_assert_eq!(header.kind, BlockKind::Opening);
            self.opened(report);
            return;
        }
        let rolled = block.place.position == 0;
        self.backoff_us = RECOVERY_BACKOFF_US_MIN;
        self.settle(block);
        if rolled {
            self.events.push_back(LogEvent::Rolled);
        }
    }

    fn keep_in_memory(&mut self) {
        let open = self.writer.closed.pop_front().expect("due says that there is one");
        let place = Place { segment: SegmentId(0), position: 0 };
        let mut block = open.keep(place);
        block.payload = self.alive.hold(block.payload);
        self.settle(block);
    }

    /// The block counts from now on.
    fn settle(&mut self, block: Block) {
        let served = planted(Mutant::ServePastWatermark) && self.config.medium != Medium::Memory;
        let in_order = invariants::follows(self.durable_end, block.base_offset());
        assert!(in_order || served, "durable in order");
        self.durable_end = self.durable_end.max(block.end_offset());
        self.writer.undurable -= block.payload.len() as u64;
        if !served && block.header.count > 0 {
            self.cache.push(block);
        }
        match self.config.medium {
            Medium::Disk { .. } => self.cache.trim(self.config.cache_bytes),
            Medium::Memory => self.trim_memory(),
        }
        self.events.push_back(LogEvent::Durable);
    }
}
