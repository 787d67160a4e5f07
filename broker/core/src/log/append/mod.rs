//! The writing end of a log: the open block, blocks that wait, commits in flight. How they get to the
//! disk is in `commit.rs`.

mod commit;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::block::{Block, BlockKind, HEADER_BYTES, OpenBlock, Place};
use super::recovery::Recovered;
use super::sealed::SealedBlock;
use super::{AppendRefused, Log, LogConfig, Medium};
use crate::limits::{
    BLOCK_ALIGN, BLOCK_ARENA_BYTES, BLOCK_FULL_BYTES, BLOCK_PAYLOAD_BYTES_MAX, REST_MARK_US,
};
use crate::{Now, OperationId};

/// Something to append, as it shall rest: `parts` one behind the other, covering `count` offsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) parts: [&'a [u8]; 2],
    pub(crate) count: u32,
    pub(crate) max_time_ms: i64,
    /// Nobody waits for it: it may do so itself, for `GATHER_US` after the last commit.
    pub(crate) patient: bool,
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
    /// The last block, if perhaps nobody has flushed it: one that recovery has found, or of a log
    /// that is not flushed with every commit.
    unflushed: Option<(Place, SealedBlock)>,
    /// Blocks that are written again, as they are but with their padding, before anything else.
    ragged: Vec<(Place, SealedBlock)>,
    /// What was known to be durable when the log was opened.
    durable_end: u64,
    /// The durable end that the last block has named, or the mark will.
    named_end: u64,
    open: Option<OpenBlock>,
    /// Blocks that take no more entries and wait to be committed, oldest first.
    closed: VecDeque<OpenBlock>,
    commits: VecDeque<Commit>,
    /// What is left of the last allocation.
    rest: BytesMut,
    undurable: u64,
    /// Somebody waits for an entry of the open block.
    awaited: bool,
    /// When the last commit began.
    committed_at_us: u64,
    /// The open block gathers until then.
    pub(super) gathers_until_us: Option<u64>,
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
            unflushed: None,
            ragged: Vec::new(),
            durable_end: 0,
            named_end: 0,
            open: None,
            closed: VecDeque::new(),
            commits: VecDeque::new(),
            rest: BytesMut::new(),
            undurable: 0,
            awaited: false,
            committed_at_us: 0,
            gathers_until_us: None,
        }
    }

    /// Goes on where recovery says, beginning with the mark.
    pub(super) fn open(&mut self, next_offset: u64, recovered: &Recovered, nonce: u64) {
        debug_assert!(self.commits.is_empty() && self.closed.is_empty());
        self.next_offset = next_offset;
        self.previous = recovered.tail.map_or(0, |tail| tail.crc);
        self.place = recovered.tail.filter(|_| recovered.goes_on).map(|tail| tail.place);
        let as_it_was =
            |(place, block): &(Place, Bytes)| (*place, SealedBlock::from(block.clone()));
        // One that is mended is flushed by that, and so is all that stands before it.
        let is_mended = |place: Place| recovered.ragged.iter().any(|(ragged, _)| *ragged == place);
        let last = recovered.last.as_ref().filter(|(place, _)| !is_mended(*place));
        self.unflushed = last.map(as_it_was);
        self.ragged = recovered.ragged.iter().map(as_it_was).collect();
        self.durable_end = recovered.durable_end;
        self.nonce = nonce;
        self.push_aside(BlockKind::Opening, &[]);
    }

    /// Adds a block that covers no offsets.
    fn push_aside(&mut self, kind: BlockKind, payload: &[u8]) {
        self.close();
        let room = HEADER_BYTES + payload.len() + BLOCK_ALIGN as usize;
        let mut block = OpenBlock::new(kind, self.next_offset, BytesMut::with_capacity(room));
        block.push([payload, &[]], 0);
        self.undurable += payload.len() as u64;
        self.closed.push_back(block);
    }

    /// Forgets everything that is not durable.
    pub(super) fn abandon(&mut self) {
        self.unflushed = None;
        self.ragged.clear();
        self.open = None;
        (self.awaited, self.gathers_until_us) = (false, None);
        self.closed.clear();
        self.commits.clear();
        self.undurable = 0;
    }

    /// Where the blocks with records begin and end that are on their way to the disk.
    pub(super) fn committing(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        let blocks = self.commits.iter().map(|commit| &commit.block);
        let blocks = blocks.filter(|block| block.header.count > 0);
        blocks.map(|block| (block.base_offset(), block.end_offset()))
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
        self.awaited = false;
        if let Some(mut open) = self.open.take() {
            self.rest = open.split_rest();
            self.closed.push_back(open);
        }
    }
}

impl Log {
    /// Offset of the next entry.
    pub(crate) fn next_offset(&self) -> u64 {
        self.writer.next_offset
    }

    /// Copies an entry into the log. It begins at [`Self::next_offset`], which is returned.
    ///
    /// # Errors
    /// The log is closed, or the entry can never fit.
    pub(crate) fn append(&mut self, now: Now, entry: Entry<'_>) -> Result<u64, AppendRefused> {
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
        writer.awaited |= !entry.patient;
        let open = writer.open.as_mut().expect("room was made in it");
        open.append_time_ms = open.append_time_ms.max(now.wall_ms);
        open.max_time_ms = open.max_time_ms.max(entry.max_time_ms);
        match self.config.medium {
            Medium::Disk { .. } => open.push(entry.parts, entry.count),
            Medium::Memory => open.push_unsummed(entry.parts, entry.count),
        }
        Ok(offset)
    }

    /// What is appended so far waits for nothing that follows.
    pub(crate) fn hurry(&mut self) {
        self.writer.awaited |= self.writer.open.is_some();
    }

    /// May an entry of so many bytes that has memory of its own stay there? On disk it is a block of its
    /// own, which is worth it only if it is large.
    pub(crate) fn adopts(&self, bytes: usize) -> bool {
        match self.config.medium {
            Medium::Memory => true,
            Medium::Disk { .. } => bytes >= self.config.adopted_bytes_min,
        }
    }

    /// Appends an entry that stays where it is, and is stamped already; `sum` gives that of all its bytes. Returns
    /// its offset.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub(crate) fn adopt(
        &mut self,
        now: Now,
        bytes: BytesMut,
        sum: impl FnOnce(&[u8]) -> u32,
        count: u32,
        max_time_ms: i64,
    ) -> Result<u64, AppendRefused> {
        debug_assert!(self.adopts(bytes.len()));
        if !self.is_open() {
            return Err(AppendRefused::Closed);
        }
        let writer = &mut self.writer;
        if bytes.len() > writer.payload_bytes_max {
            return Err(AppendRefused::TooLarge);
        }
        writer.close();
        let offset = writer.next_offset;
        writer.next_offset += u64::from(count);
        writer.undurable += bytes.len() as u64;
        let sum = match self.config.medium {
            Medium::Disk { .. } => sum(&bytes),
            Medium::Memory => 0,
        };
        let mut block = OpenBlock::adopted(writer.kind, offset, bytes, count, sum);
        (block.append_time_ms, block.max_time_ms) = (now.wall_ms, max_time_ms);
        writer.closed.push_back(block);
        Ok(offset)
    }

    /// Appends a block of its own that covers no offsets.
    pub(crate) fn append_aside(&mut self, kind: BlockKind, payload: &[u8]) {
        if self.is_open() && self.config.medium != Medium::Memory {
            debug_assert!(payload.len() <= self.writer.payload_bytes_max);
            self.writer.push_aside(kind, payload);
        }
    }

    /// Most that may be appended aside at once: the largest payload of one block, and in all.
    pub(crate) fn aside_bytes_max(&self) -> (usize, usize) {
        let half = usize::try_from(self.config.segment_bytes / 2).unwrap_or(usize::MAX);
        (self.writer.payload_bytes_max.min(half), half)
    }

    /// Does the segment that is written to lack what is known of producers?
    pub(crate) fn wants_producers(&self) -> bool {
        self.segments.active().is_some_and(|active| !active.whole_producers)
    }

    /// Are there durable records that no durable block says to be so, and nothing that will?
    pub(super) fn rests_unmarked(&self) -> bool {
        let writer = &self.writer;
        self.is_open()
            && self.config.medium != Medium::Memory
            && writer.named_end < self.durable_end
            && writer.open.is_none()
            && writer.closed.is_empty()
            && writer.commits.is_empty()
            && self.has_room_for_mark()
    }

    /// A mark is not worth a segment that has to be made.
    fn has_room_for_mark(&self) -> bool {
        let room = self.writer.place.zip(self.segments.active());
        room.is_some_and(|(place, active)| place.position + BLOCK_ALIGN <= active.bytes)
    }

    pub(super) fn rest_mark_due_us(&self) -> u64 {
        if self.stopped { 0 } else { self.committed_at_us + REST_MARK_US }
    }

    /// Marks a log that has nothing to do.
    pub(super) fn rest(&mut self, now: Now) {
        if self.rests_unmarked() && now.mono_us >= self.rest_mark_due_us() {
            self.writer.push_aside(BlockKind::Mark, &[]);
        }
    }
}
