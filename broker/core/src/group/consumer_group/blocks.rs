//! Chunks that are blocks of the data log.
//!
//! A durable block stays what it is, so a chunk of just its records has durable bounds with them: it
//! waits for no record of its own, which is written all the same. A crash may lose that record. The
//! log of the groups then ends before these chunks, and recovery has to find the same bounds:
//!
//! ```text
//!  groups log   bound ─ bound ─┤ lost
//!  data log     ├──────┼───────┼ block ┼ block ┼ block ┤
//!                              └ chunk ┴ chunk ┘ may have been handed out
//! ```
//!
//! That holds because between the last durable bounds and such a chunk there are only others of them,
//! and at most [`CHUNKS_UNWRITTEN_MAX`]. Where anything else has moved the group on, chunks wait for
//! their records until that is durable.

use lanecast_wire::Offset;
use lanecast_wire::limits::CHUNK_RECORDS_MAX;

use super::Group;
use super::pending::Pending;
use crate::Now;
use crate::group::ledger::ChunkKey;
use crate::group::limits::CHUNKS_UNWRITTEN_MAX;
use crate::group::outbox::Outbox;
use crate::group::{GroupRecord, PersistToken};
use crate::mutants::{Mutant, planted};

#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// The block whose batches are offered.
    entered: Option<ChunkKey>,
    /// Chunks whose own records are not durable.
    unwritten: u32,
    /// The last record under way that has moved the group on, and is not that of such a chunk.
    awaited: Option<PersistToken>,
    /// After a start: so many blocks are chunks, and up to where.
    restoring: Option<(u32, Offset)>,
}

impl Blocks {
    /// The log has been read up to `end`.
    pub(super) fn restore(&mut self, end: Offset) {
        if !planted(Mutant::ForgetBlocks) {
            self.restoring = Some((CHUNKS_UNWRITTEN_MAX, end));
        }
    }

    /// Is the block that is being offered a chunk, whatever its size?
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring.is_some() && self.entered.is_some()
    }

    pub(super) fn ends_with(&self, last: Offset) -> bool {
        self.entered.is_some_and(|block| block.last == last)
    }

    /// May the chunk do without a durable record of its own?
    pub(super) fn bind(&self, chunk: ChunkKey) -> bool {
        self.entered == Some(chunk)
            && self.awaited.is_none()
            && self.unwritten < CHUNKS_UNWRITTEN_MAX
    }

    pub(super) fn written(&mut self, token: PersistToken, record: &GroupRecord, pending: Pending) {
        if matches!(pending, Pending::BoundBlock) {
            self.unwritten += 1;
            return;
        }
        match record {
            GroupRecord::Created { .. }
            | GroupRecord::Opened { .. }
            | GroupRecord::Bound { .. }
            | GroupRecord::Skipped { .. }
            | GroupRecord::Snapshot(_)
            | GroupRecord::Cut { .. }
            | GroupRecord::Moved { .. }
            | GroupRecord::Deleted { .. }
            | GroupRecord::Passed { .. } => self.awaited = Some(token),
            GroupRecord::Done { .. }
            | GroupRecord::Failed { .. }
            | GroupRecord::Split { .. }
            | GroupRecord::Dying(_)
            | GroupRecord::Buried { .. } => {}
        }
    }

    pub(super) fn durable(&mut self, token: PersistToken, pending: Pending) {
        self.unwritten -= u32::from(matches!(pending, Pending::BoundBlock));
        self.awaited = self.awaited.filter(|awaited| *awaited > token);
    }
}

impl Group {
    /// Batches of this block are offered next.
    pub(in crate::group) fn enter_block(&mut self, first: Offset, last: Offset) {
        let block = ChunkKey::new(first, last);
        let next = self.next();
        let goes_on = self.building.is_none() && next == first;
        // The chunks before would have been handed out last if one ended within the block, or if the
        // block is larger than any chunk.
        let is_chunk = goes_on && block.records() <= u64::from(CHUNK_RECORDS_MAX);
        self.blocks.restoring = self.blocks.restoring.filter(|(_, end)| is_chunk && next < *end);
        self.blocks.entered = Some(block);
    }

    /// Must the records of chunks that are out without be durable soon? They may wait for others while
    /// there is room for more of them, and while a chunk in front of them is open, durably: over a
    /// crash, retention stops there.
    pub(in crate::group) fn is_pressed(&self) -> bool {
        let unwritten = self.blocks.unwritten;
        let open = self.slots.len() > unwritten as usize + self.binding;
        unwritten >= CHUNKS_UNWRITTEN_MAX / 2 || (unwritten > 0 && !open)
    }

    /// All of them are offered.
    pub(in crate::group) fn leave_block(&mut self, now: Now, outbox: &mut Outbox) {
        if let Some((left, end)) = self.blocks.restoring {
            self.close(outbox);
            self.blocks.restoring = (left > 1).then_some((left - 1, end));
        }
        self.blocks.entered = None;
        self.hand_out(now, outbox);
    }
}
