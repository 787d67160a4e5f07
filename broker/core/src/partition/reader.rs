//! Reads a partition's log from some offset on, wherever its blocks are.

use std::collections::VecDeque;

use bytes::Bytes;
use lanecast_wire::batch::BatchHeader;

use crate::OperationId;
use crate::disk::Operations;
use crate::limits::{
    READ_BYTES, READS_AHEAD_IN_FLIGHT_MAX, READS_IN_FLIGHT_MAX, READS_PER_READER_MAX,
};
use crate::log::{Asked, Block, Found, Log, ReadAt};

/// One place in the log that somebody reads from.
///
/// ```text
///   fetch ── in memory ──▶ Block
///         ── on disk ────▶ Waiting ── answered() ──▶ Block, and those behind it, held ready
///
///   stretches:  ┌── its blocks, in use ──┬──── asked for ────┐
///               at                       at ─────────────────▶ next
/// ```
///
/// Whoever has gone on from one stretch to the next will want the one behind that: it is asked for
/// while the blocks of the first are handed out, so that the disk never rests.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Each begins where the one before it ends; at most [`READS_PER_READER_MAX`].
    stretches: VecDeque<Stretch>,
    /// Where the last one that was used up ended.
    next: Option<ReadAt>,
    /// The last read began where the one before it ended.
    goes_on: bool,
}

/// A part of the log that one read brings.
#[derive(Debug)]
struct Stretch {
    at: ReadAt,
    /// The read, until it is answered.
    asked: Option<OperationId>,
    /// Blocks that were read and not yet used.
    blocks: VecDeque<Block>,
    /// Where it ends: as the index says, and then as it was found.
    next: Option<ReadAt>,
}

/// What a reader has at an offset.
#[derive(Debug)]
pub(crate) enum Fetched {
    Block(Block),
    /// A read is under way, or as many as there may be: ask again later.
    Waiting,
    /// Retention took it.
    Gone {
        log_start: u64,
    },
    /// It is in a damaged stretch of the log, which ends before `next`.
    Damaged {
        next: u64,
    },
    /// Nothing durable is there yet.
    AtEnd,
}

impl Reader {
    /// The block that holds `offset`.
    pub(crate) fn fetch(
        &mut self,
        offset: u64,
        log: &mut Log,
        operations: &mut Operations,
    ) -> Fetched {
        self.use_up(offset);
        let front = self.stretches.front().and_then(|stretch| stretch.blocks.front());
        if let Some(block) = front.filter(|block| block.base_offset() <= offset) {
            let block = block.clone();
            self.read_ahead(log, operations);
            return Fetched::Block(block);
        }
        let is_ahead = front.is_some();
        let indexed = match log.find(offset) {
            Found::Cached(block) => {
                self.reset();
                return Fetched::Block(block);
            }
            Found::NotYet => return Fetched::AtEnd,
            Found::Gone { log_start } => return Fetched::Gone { log_start },
            Found::Damaged { next } => return Fetched::Damaged { next },
            Found::OnDisk(at) => at,
        };
        if is_ahead {
            // It has turned back.
            self.reset();
        }
        if self.stretches.is_empty() && log.reads_in_flight() < READS_IN_FLIGHT_MAX {
            // Going on is better than the index, which names a place some blocks before the offset.
            let going_on = self.next.filter(|next| {
                next.offset <= offset && next.place > indexed.place && log.holds(next.place)
            });
            self.goes_on = self.next.is_some_and(|next| next.offset == offset);
            self.ask(going_on.unwrap_or(indexed), log, operations);
        }
        self.read_ahead(log, operations);
        Fetched::Waiting
    }

    /// Lets go of blocks in front of `offset`.
    fn use_up(&mut self, offset: u64) {
        while let Some(stretch) = self.stretches.front_mut() {
            while stretch.blocks.front().is_some_and(|block| block.end_offset() <= offset) {
                stretch.blocks.pop_front();
            }
            if stretch.asked.is_some() || !stretch.blocks.is_empty() {
                return;
            }
            self.next = stretch.next;
            self.stretches.pop_front();
        }
    }

    /// Asks for what comes next, if there is room for it that nobody else needs.
    fn read_ahead(&mut self, log: &mut Log, operations: &mut Operations) {
        while self.goes_on
            && self.stretches.len() < READS_PER_READER_MAX
            && let Some(next) = self.stretches.back().and_then(|stretch| stretch.next)
            && log.reads_in_flight() < READS_AHEAD_IN_FLIGHT_MAX
            && operations.has_room_ahead(READ_BYTES)
            && log.holds(next.place)
            && matches!(log.find(next.offset), Found::OnDisk(_))
        {
            self.ask(next, log, operations);
        }
    }

    fn ask(&mut self, at: ReadAt, log: &mut Log, operations: &mut Operations) {
        let Asked { operation, next } = log.read(at, operations);
        let (asked, blocks) = (Some(operation), VecDeque::new());
        self.stretches.push_back(Stretch { at, asked, blocks, next });
    }

    /// Is this an answer that the reader waits for? Then it takes the blocks.
    pub(crate) fn answered(
        &mut self,
        operation: OperationId,
        blocks: &mut Vec<Block>,
        next: Option<ReadAt>,
    ) -> bool {
        let asked = Some(operation);
        let Some(at) = self.stretches.iter().position(|stretch| stretch.asked == asked) else {
            return false;
        };
        let stretch = &mut self.stretches[at];
        stretch.asked = None;
        stretch.blocks.extend(blocks.drain(..));
        stretch.next = next;
        // It ends elsewhere than the index said, at a damage: what was read behind it is not next.
        let follows = self.stretches.get(at + 1).map(|behind| behind.at.place);
        if follows.is_some() && follows != next.map(|next| next.place) {
            self.stretches.truncate(at + 1);
        }
        true
    }

    /// Forgets what was read ahead and is not used; what is waited for still comes.
    pub(crate) fn release(&mut self) {
        if self.stretches.front().is_some_and(|stretch| stretch.asked.is_none()) {
            self.reset();
        }
        self.stretches.truncate(1);
    }

    /// Forgets everything that was read or asked for.
    pub(crate) fn reset(&mut self) {
        *self = Reader::default();
    }
}

/// Whole batches next to each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) bytes: Bytes,
}

/// What a slice may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// From the batch that holds this offset on.
    pub(crate) from: u64,
    /// No batch that begins here or later.
    pub(crate) end: u64,
    pub(crate) bytes_max: usize,
    /// One batch always fits.
    pub(crate) at_least_one: bool,
}

/// Cuts batches out of a block, without copying.
pub(crate) fn slice(block: &Block, bounds: Bounds) -> Option<Slice> {
    let payload = &block.payload;
    if bounds.from <= block.base_offset()
        && block.end_offset() <= bounds.end
        && payload.len() <= bounds.bytes_max
    {
        let (first, last) = (block.base_offset(), block.end_offset() - 1);
        return Some(Slice { first, last, bytes: payload.clone() });
    }
    let mut taken: Option<(u64, u64, usize, usize)> = None;
    for (at, header) in batches(block) {
        let (first, last) = (header.base_offset.0, header.last_offset().0);
        if last < bounds.from {
            continue;
        }
        let end = at + header.batch_bytes();
        let start = taken.map_or(at, |(_, _, start, _)| start);
        let over = end - start > bounds.bytes_max && !(taken.is_none() && bounds.at_least_one);
        if first >= bounds.end || over {
            break;
        }
        taken = Some((taken.map_or(first, |(first, _, _, _)| first), last, start, end));
    }
    taken.map(|(first, last, start, end)| Slice { first, last, bytes: payload.slice(start..end) })
}

/// Headers of a block's batches, and where in the payload each begins. The block's checksum holds
/// for them; the walk ends where they do not read nevertheless.
pub(crate) fn batches(block: &Block) -> impl Iterator<Item = (usize, BatchHeader)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = BatchHeader::decode(block.payload.get(at..)?).ok()?;
        let start = at;
        at += header.batch_bytes();
        Some((start, header))
    })
}
