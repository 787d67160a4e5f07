//! Reading durable blocks: from memory near the tail, from disk behind it.

use bytes::Bytes;

use super::block::{Block, BlockFault, BlockHeader, HEADER_BYTES, Place};
use super::damage::{Damage, DamageKind};
use super::{Log, LogEvent, Operation};
use crate::disk::Operations;
use crate::limits::{BLOCK_ALIGN, CATCH_UP_BYTES, READ_ATTEMPTS_MAX, READ_BYTES};
use crate::{DiskRequest, Now, OperationId, SegmentId};

/// Where the block with an offset is.
#[derive(Debug)]
pub(crate) enum Found {
    Cached(Block),
    /// It has to be read, from here on.
    OnDisk(ReadAt),
    /// It is in a damaged stretch, up to before `next`.
    Damaged {
        next: u64,
    },
    /// Retention took it; this is the first offset that is left.
    Gone {
        log_start: u64,
    },
    /// It is not durable yet.
    NotYet,
}

/// A place to read from, and the offset that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadAt {
    pub(crate) place: Place,
    pub(crate) offset: u64,
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) operation: OperationId,
    /// Where the read behind it begins, if all is as the index says and something is there.
    pub(crate) next: Option<ReadAt>,
}

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: ReadAt,
    attempt: u32,
    /// The first attempt: who asked waits for that.
    asked: Option<OperationId>,
    /// If what is at `at` cannot be read: the nearest block behind it that any attempt could.
    behind: Option<ReadAt>,
}

impl Reading {
    pub(super) fn segment(&self) -> SegmentId {
        self.at.place.segment
    }
}

impl Log {
    pub(crate) fn find(&self, offset: u64) -> Found {
        if offset >= self.durable_end {
            return Found::NotYet;
        }
        if offset < self.log_start() {
            return Found::Gone { log_start: self.log_start() };
        }
        if let Some(block) = self.cache.find(offset) {
            return Found::Cached(block.clone());
        }
        if let Some(damage) = self.damages.find(offset) {
            return Found::Damaged { next: damage.end };
        }
        match self.segments.locate(offset) {
            Some((place, offset)) => Found::OnDisk(ReadAt { place, offset }),
            None => Found::NotYet,
        }
    }

    /// First offset with a record at or after `time_ms`, or one not far before it; `None`: all
    /// records are older.
    pub(crate) fn seek_time(&self, time_ms: i64) -> Option<u64> {
        match self.config.medium {
            super::Medium::Disk { .. } => self.segments.seek_time(time_ms),
            super::Medium::Memory => self
                .cache
                .blocks()
                .find(|block| block.header.max_time_ms >= time_ms)
                .map(Block::base_offset),
        }
    }

    pub(crate) fn reads_in_flight(&self) -> usize {
        let read = |operation: &&Operation| matches!(operation, Operation::Read(_));
        self.in_flight.values().filter(read).count()
    }

    /// Is this place still worth reading from?
    pub(crate) fn holds(&self, place: Place) -> bool {
        self.segments.extent(place.segment).is_some_and(|(used, _)| place.position < used)
    }

    /// Reads blocks from `at` on; answered by [`LogEvent::Read`] or [`LogEvent::Failed`].
    /// The place is one that this log has given out and still [`Log::holds`].
    ///
    /// The read ends where a block does: what is behind it is not read twice, and may be read at the
    /// same time.
    pub(crate) fn read(&mut self, at: ReadAt, operations: &mut Operations) -> Asked {
        let end = self.segments.read_end(at.place, CATCH_UP_BYTES, u64::from(READ_BYTES));
        let (end, next) = end.unwrap_or((at.place.position, None));
        let bytes = end.saturating_sub(at.place.position);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(READ_BYTES);
        let reading = Reading { at, attempt: 1, asked: None, behind: None };
        let operation = self.submit_read(reading, bytes, operations);
        Asked { operation, next: next.map(|(place, offset)| ReadAt { place, offset }) }
    }

    /// Looks again at what does not read as it should, as far as a read goes: a length that is wrong
    /// is not to be taken for an end.
    fn read_again(&mut self, read: Reading, operations: &mut Operations) {
        let Place { segment, position } = read.at.place;
        let used = self.segments.extent(segment).map_or(0, |(used, _)| used);
        let left = used.saturating_sub(position);
        let bytes = u32::try_from(left).unwrap_or(u32::MAX).min(READ_BYTES);
        self.submit_read(read, bytes, operations);
    }

    fn submit_read(
        &mut self,
        read: Reading,
        bytes: u32,
        operations: &mut Operations,
    ) -> OperationId {
        let Place { segment, position } = read.at.place;
        let request = DiskRequest::Read { log: self.config.id, segment, position, bytes };
        self.submit(Operation::Read(read), request, operations)
    }

    /// What was read is believed only if it is what was written. What is not, after a few more
    /// attempts, is damaged from now on.
    pub(super) fn read_back(
        &mut self,
        now: Now,
        operation: OperationId,
        read: Reading,
        bytes: &Bytes,
        operations: &mut Operations,
    ) {
        let start = read.at.place;
        let mut at = read.at;
        let mut blocks = Vec::new();
        let mut fault = None;
        while let Some(rest) = rest_of(bytes, start, at.place) {
            match BlockHeader::decode(rest, self.config.id, at.place) {
                Ok(header) => {
                    let payload = HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize;
                    if header.count > 0 {
                        let payload = bytes.slice_ref(&rest[payload]);
                        blocks.push(Block { header, place: at.place, payload });
                    }
                    at.place.position += header.bytes_on_disk();
                    at.offset = header.end_offset();
                }
                Err(BlockFault::Short(_)) if at.place != start => break,
                Err(found) => match self.damages.at(at.place) {
                    // Known, and no record is lost by it: it goes on behind.
                    Some(Damage { until: Some(until), first, end, .. })
                        if first == end && until.segment == start.segment =>
                    {
                        at.place = *until;
                    }
                    Some(_) => {
                        fault = Some(None);
                        break;
                    }
                    None => {
                        fault = Some(Some(found));
                        break;
                    }
                },
            }
        }
        let next = match fault {
            None => self.next_of(at),
            // The index knows what is behind it.
            Some(None) => None,
            // Looked at again, by a read that begins there.
            Some(Some(_)) if at.place != start => Some(at),
            Some(Some(_)) if read.attempt < READ_ATTEMPTS_MAX => {
                let asked = Some(read.asked.unwrap_or(operation));
                let attempt = read.attempt + 1;
                let behind = self.whole_behind(read, bytes);
                self.read_again(Reading { attempt, asked, behind, ..read }, operations);
                return;
            }
            Some(Some(found)) => {
                self.rotten(now, read, found, bytes);
                if !self.is_open() {
                    return;
                }
                None
            }
        };
        let operation = read.asked.unwrap_or(operation);
        self.events.push_back(LogEvent::Read { operation, blocks, next });
    }

    /// Where reading goes on.
    fn next_of(&self, at: ReadAt) -> Option<ReadAt> {
        match self.segments.extent(at.place.segment)? {
            (used, Some(next)) if at.place.position >= used => {
                Some(ReadAt { place: Place { segment: next, position: 0 }, ..at })
            }
            _ => Some(at),
        }
    }

    /// The nearest whole block behind what cannot be read, in these bytes or in those of an attempt before: what
    /// one of them read wrong is not lost.
    fn whole_behind(&self, read: Reading, bytes: &Bytes) -> Option<ReadAt> {
        let at = read.at;
        let mut place = at.place;
        loop {
            place.position += BLOCK_ALIGN;
            if read.behind.is_some_and(|before| before.place <= place) {
                return read.behind;
            }
            let Some(rest) = rest_of(bytes, at.place, place) else { return read.behind };
            let header = BlockHeader::decode(rest, self.config.id, place).ok();
            if let Some(header) = header.filter(|header| header.base_offset >= at.offset) {
                return Some(ReadAt { place, offset: header.base_offset });
            }
        }
    }

    /// Bytes that had been whole are not any more: the records in them are lost. Those behind them
    /// are found by the next whole block, or by the index.
    fn rotten(&mut self, now: Now, read: Reading, fault: BlockFault, bytes: &Bytes) {
        let at = read.at;
        let whole = self.whole_behind(read, bytes).map(|whole| (Some(whole.place), whole.offset));
        let indexed = self.segments.indexed_behind(at.place);
        // The index is right: a block in front of it that says otherwise is left over.
        let (until, end) = match (whole, indexed) {
            (Some((_, end)), Some((place, offset))) if end > offset => (place, offset),
            (Some(whole), _) => whole,
            (None, Some(indexed)) => indexed,
            (None, None) => return,
        };
        let kind = DamageKind::from(fault);
        let damage = Damage { kind, place: at.place, until, first: at.offset, end };
        self.segments.index_at(until, end);
        self.note_damage(now, damage);
    }
}

/// What of `bytes`, which begin at `start`, lies from `place` on.
fn rest_of(bytes: &Bytes, start: Place, place: Place) -> Option<&[u8]> {
    let skipped = usize::try_from(place.position - start.position).ok()?;
    bytes.get(skipped..).filter(|rest| !rest.is_empty())
}

impl From<BlockFault> for DamageKind {
    fn from(fault: BlockFault) -> Self {
        match fault {
            BlockFault::Short(_) => DamageKind::CutShort,
            BlockFault::Blank => DamageKind::Zeros,
            BlockFault::Foreign => DamageKind::NotABlock,
            BlockFault::Checksum => DamageKind::Checksum,
        }
    }
}
