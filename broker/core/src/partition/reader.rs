//! Reads a partition's log from some offset on, wherever its blocks are.

use std::collections::VecDeque;

use bytes::Bytes;
use lanecast_wire::batch::BatchHeader;

use crate::OperationId;
use crate::disk::Operations;
use crate::limits::READS_IN_FLIGHT_MAX;
use crate::log::{Block, Found, Log, ReadAt};

/// One place in the log that somebody reads from.
///
/// ```text
///   fetch ── in memory ──▶ Block
///         ── on disk ────▶ Waiting ── answered() ──▶ Block, and those behind it, held ready
/// ```
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Blocks that were read and not yet used.
    ahead: VecDeque<Block>,
    /// Where the block behind them is.
    next: Option<ReadAt>,
    /// The read under way.
    pending: Option<OperationId>,
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
        while self.ahead.front().is_some_and(|block| block.end_offset() <= offset) {
            self.ahead.pop_front();
        }
        if let Some(block) = self.ahead.front()
            && block.base_offset() <= offset
        {
            return Fetched::Block(block.clone());
        }
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
        if self.pending.is_some() || log.reads_in_flight() >= READS_IN_FLIGHT_MAX {
            return Fetched::Waiting;
        }
        // Going on is better than the index, which names a place some blocks before the offset.
        let at = match self.next.take() {
            Some(next)
                if next.offset <= offset && next.place > indexed.place && log.holds(next.place) =>
            {
                next
            }
            Some(_) | None => indexed,
        };
        self.ahead.clear();
        self.pending = Some(log.read(at, operations));
        Fetched::Waiting
    }

    /// Is this the answer that the reader waits for? Then it takes the blocks.
    pub(crate) fn answered(
        &mut self,
        operation: OperationId,
        blocks: &mut Vec<Block>,
        next: Option<ReadAt>,
    ) -> bool {
        if self.pending.take_if(|pending| *pending == operation).is_none() {
            return false;
        }
        self.ahead.extend(blocks.drain(..));
        self.next = next;
        true
    }

    /// Forgets what was read ahead and is not used; what is under way still comes.
    pub(crate) fn release(&mut self) {
        if !self.ahead.is_empty() {
            self.ahead.clear();
            self.next = None;
        }
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
