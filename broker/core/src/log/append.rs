//! The writing end of a log: the open block, blocks that wait, commits in flight.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::block::{Block, BlockKind, HEADER_BYTES, OpenBlock, Place};
use super::recovery::Tail;
use super::segments::Segment;
use super::{AppendRefused, Log, LogConfig, LogEvent, Medium, Operation, State};
use crate::disk::Operations;
use crate::limits::{
    BLOCK_ALIGN, BLOCK_ARENA_BYTES, BLOCK_FULL_BYTES, BLOCK_PAYLOAD_BYTES_MAX,
    COMMITS_IN_FLIGHT_MAX, RECOVERY_BACKOFF_US_MIN,
};
use crate::mutants::{Mutant, planted};
use crate::{DiskRequest, Now, OperationId, invariants};

/// Something to append: `parts` one behind the other, covering `count` offsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) parts: [&'a [u8]; 2],
    pub(crate) count: u32,
    pub(crate) max_time_ms: i64,
}

/// A block on its way to the disk.
#[derive(Debug)]
struct Commit {
    operation: OperationId,
    block: Block,
    durable: bool,
}

#[derive(Debug)]
pub(super) struct Writer {
    kind: BlockKind,
    payload_bytes_max: usize,
    full_bytes: usize,
    next_offset: u64,
    previous: u32,
    nonce: u64,
    /// Where the next block goes; `None`: at the front of a new segment.
    place: Option<Place>,
    /// The last block that recovery has found: perhaps nobody has flushed it.
    found: Option<(Place, Bytes)>,
    open: Option<OpenBlock>,
    /// Blocks that take no more entries and wait to be committed, oldest first.
    closed: VecDeque<OpenBlock>,
    commits: VecDeque<Commit>,
    /// What is left of the last allocation.
    rest: BytesMut,
    undurable: u64,
}

impl Writer {
    pub(super) fn new(config: &LogConfig) -> Self {
        let segment = usize::try_from(config.segment_bytes).unwrap_or(usize::MAX);
        let payload_bytes_max = segment
            .saturating_sub(BLOCK_ALIGN as usize)
            .clamp(BLOCK_ALIGN as usize, BLOCK_PAYLOAD_BYTES_MAX);
        Writer {
            kind: config.kind,
            payload_bytes_max,
            full_bytes: payload_bytes_max.min(BLOCK_FULL_BYTES),
            next_offset: 0,
            previous: 0,
            nonce: 0,
            place: None,
            found: None,
            open: None,
            closed: VecDeque::new(),
            commits: VecDeque::new(),
            rest: BytesMut::new(),
            undurable: 0,
        }
    }

    /// Goes on behind the prefix that recovery found, beginning with the mark.
    pub(super) fn open(
        &mut self,
        next_offset: u64,
        tail: Option<Tail>,
        found: Option<(Place, Bytes)>,
        nonce: u64,
    ) {
        debug_assert!(self.commits.is_empty() && self.closed.is_empty());
        self.next_offset = next_offset;
        self.previous = tail.map_or(0, |tail| tail.crc);
        self.place = tail.map(|tail| tail.place);
        self.found = found;
        self.nonce = nonce;
        let mark = BytesMut::with_capacity(BLOCK_ALIGN as usize);
        self.closed.push_back(OpenBlock::new(BlockKind::Mark, next_offset, mark));
    }

    /// Forgets everything that is not durable.
    pub(super) fn abandon(&mut self) {
        self.found = None;
        self.open = None;
        self.closed.clear();
        self.commits.clear();
        self.undurable = 0;
    }

    pub(super) fn undurable_bytes(&self) -> u64 {
        self.undurable
    }

    /// Sees to an open block with room for `needed` more bytes.
    fn make_room(&mut self, needed: usize) {
        // Large enough to be worth a commit: closing it is cheaper than moving it.
        let worth = self.full_bytes / 2;
        let over = |open: &OpenBlock| {
            open.payload_bytes() + needed > self.payload_bytes_max
                || (open.room() < needed && open.payload_bytes() >= worth)
        };
        if self.open.as_ref().is_some_and(over) {
            self.close();
        }
        let spare = HEADER_BYTES + needed + 2 * BLOCK_ALIGN as usize;
        match &mut self.open {
            Some(open) if open.room() < needed => {
                let least = open.payload_bytes() + spare;
                open.move_into(BytesMut::with_capacity(least.max(BLOCK_ARENA_BYTES)));
            }
            Some(_) => {}
            None => {
                let mut bytes = std::mem::take(&mut self.rest);
                if bytes.capacity() < spare {
                    bytes = BytesMut::with_capacity(spare.max(BLOCK_ARENA_BYTES));
                }
                self.open = Some(OpenBlock::new(self.kind, self.next_offset, bytes));
            }
        }
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            self.rest = open.split_rest();
            self.closed.push_back(open);
        }
    }

    /// The next block to write, if it is time.
    fn due(&mut self) -> bool {
        if self.closed.is_empty()
            && let Some(open) = &self.open
            && (self.commits.is_empty() || open.payload_bytes() >= self.full_bytes)
        {
            self.close();
        }
        !self.closed.is_empty() && self.commits.len() < COMMITS_IN_FLIGHT_MAX
    }
}

impl Log {
    /// Offset of the next entry.
    pub(crate) fn next_offset(&self) -> u64 {
        self.writer.next_offset
    }

    /// Copies an entry into the log and returns where it now stands, to be stamped.
    ///
    /// # Errors
    /// The log is closed, or the entry can never fit.
    pub(crate) fn append(
        &mut self,
        now: Now,
        entry: Entry<'_>,
    ) -> Result<(u64, &mut [u8]), AppendRefused> {
        if !self.is_open() {
            return Err(AppendRefused::Closed);
        }
        let writer = &mut self.writer;
        let bytes = entry.parts[0].len() + entry.parts[1].len();
        if bytes > writer.payload_bytes_max {
            return Err(AppendRefused::TooLarge);
        }
        writer.make_room(bytes);
        let offset = writer.next_offset;
        writer.next_offset += u64::from(entry.count);
        writer.undurable += bytes as u64;
        let open = writer.open.as_mut().expect("room was made in it");
        open.append_time_ms = open.append_time_ms.max(now.wall_ms);
        open.max_time_ms = open.max_time_ms.max(entry.max_time_ms);
        Ok((offset, open.push(entry.parts, entry.count)))
    }

    /// Commits what is due.
    pub(super) fn dispatch(&mut self, operations: &mut Operations) {
        while self.writer.due() {
            if self.config.medium == Medium::Memory {
                self.keep_in_memory();
                continue;
            }
            let bytes = self.writer.closed.front().map_or(0, OpenBlock::bytes_on_disk);
            let Some(place) = self.place_block(bytes, operations) else { break };
            self.commit(place, operations);
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
        {
            debug_assert_eq!(place.segment, active.id);
            return Some(place);
        }
        if !self.writer.commits.is_empty()
            || (!planted(Mutant::LeaveTailUnflushed) && self.flush_found(operations))
        {
            return None;
        }
        let Some(file) = self.housekeeping.take_prepared() else {
            self.housekeeping.need_segment();
            return None;
        };
        let base_offset = self.writer.closed.front().map_or(0, |block| block.base_offset);
        self.segments.push(Segment::new(file.segment, file.bytes, base_offset));
        Some(Place { segment: file.segment, position: 0 })
    }

    /// Before a log that was just read goes on in a new segment: flushes the one that it leaves,
    /// by writing its last block again as it is. Is that under way?
    fn flush_found(&mut self, operations: &mut Operations) -> bool {
        let sync = self.config.medium == Medium::Disk { sync: true };
        if let Some((place, block)) = self.writer.found.take()
            && sync
        {
            let (log, segment, position) = (self.config.id, place.segment, place.position);
            let request = DiskRequest::Commit { log, segment, position, block, sync };
            self.submit(Operation::Flush, request, operations);
        }
        self.in_flight.values().any(|operation| matches!(operation, Operation::Flush))
    }

    fn commit(&mut self, place: Place, operations: &mut Operations) {
        self.writer.found = None;
        let open = self.writer.closed.pop_front().expect("due says that there is one");
        let (block, bytes) =
            open.seal(self.config.id, place, self.writer.previous, self.writer.nonce);
        self.writer.previous = block.header.crc;
        self.writer.place =
            Some(Place { position: place.position + block.header.bytes_on_disk(), ..place });
        assert!(invariants::is_aligned(place.position, bytes.len()), "commits are whole blocks");
        let request = DiskRequest::Commit {
            log: self.config.id,
            segment: place.segment,
            position: place.position,
            block: bytes,
            sync: self.config.medium == Medium::Disk { sync: true },
        };
        let operation = self.submit(Operation::Commit, request, operations);
        if planted(Mutant::ServePastWatermark) && block.header.count > 0 {
            self.durable_end = block.end_offset();
            self.cache.push(block.clone());
        }
        self.writer.commits.push_back(Commit { operation, block, durable: false });
    }

    /// A commit is done. Only the prefix without holes counts.
    pub(super) fn committed(&mut self, operation: OperationId) {
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
        segment.push(&header);
        self.known = Some(Tail {
            place: Place { position: block.place.position + header.bytes_on_disk(), ..block.place },
            crc: header.crc,
            end_offset: header.end_offset(),
        });
        if let State::Opening(report) = self.state {
            debug_assert_eq!(header.kind, BlockKind::Mark);
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
        let place = Place { segment: crate::SegmentId(0), position: 0 };
        let (block, _bytes) = open.seal(self.config.id, place, 0, self.writer.nonce);
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
