//! Reading durable blocks: from memory near the tail, from disk behind it.

use bytes::Bytes;

use super::block::{Block, BlockFault, BlockHeader, HEADER_BYTES, Place};
use super::{Log, LogEvent, Operation};
use crate::disk::Operations;
use crate::limits::READ_BYTES;
use crate::{DiskErrorKind, DiskRequest, Now, OperationId};

/// Where the block with an offset is.
#[derive(Debug)]
pub(crate) enum Found {
    Cached(Block),
    /// It has to be read, from here on.
    OnDisk(Place),
    /// Retention took it; this is the first offset that is left.
    Gone {
        log_start: u64,
    },
    /// It is not durable yet.
    NotYet,
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
        match self.segments.locate(offset) {
            Some(place) => Found::OnDisk(place),
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

    /// Reads blocks from `place` on; answered by [`LogEvent::Read`] or [`LogEvent::Failed`].
    /// `place` is one that this log has given out and still [`Log::holds`].
    pub(crate) fn read(&mut self, place: Place, operations: &mut Operations) -> OperationId {
        let used = self.segments.extent(place.segment).map_or(0, |(used, _)| used);
        let left = used.saturating_sub(place.position);
        let bytes = u32::try_from(left).unwrap_or(u32::MAX).min(READ_BYTES);
        let (segment, position) = (place.segment, place.position);
        let request = DiskRequest::Read { log: self.config.id, segment, position, bytes };
        self.submit(Operation::Read(place), request, operations)
    }

    /// What was read is believed only if it is what was written.
    pub(super) fn read_back(
        &mut self,
        now: Now,
        operation: OperationId,
        place: Place,
        bytes: &Bytes,
    ) {
        let mut rest = bytes.clone();
        let mut at = place;
        let mut blocks = Vec::new();
        while !rest.is_empty() {
            match BlockHeader::decode(&rest, self.config.id, at) {
                Ok(header) => {
                    let end = HEADER_BYTES + header.payload_bytes as usize;
                    let payload = rest.slice(HEADER_BYTES..end);
                    if header.count > 0 {
                        blocks.push(Block { header, place: at, payload });
                    }
                    rest = rest.slice((header.bytes_on_disk() as usize).min(rest.len())..);
                    at.position += header.bytes_on_disk();
                }
                Err(BlockFault::Short(_)) if at != place => break,
                Err(fault) => {
                    let detail = format!(
                        "segment {} position {} reads back as {fault:?}",
                        at.segment.0, at.position
                    );
                    self.fail(now, DiskErrorKind::Io, detail);
                    return;
                }
            }
        }
        let next = match self.segments.extent(at.segment) {
            Some((used, Some(next))) if at.position >= used => {
                Some(Place { segment: next, position: 0 })
            }
            Some(_) => Some(at),
            None => None,
        };
        self.events.push_back(LogEvent::Read { operation, blocks, next });
    }
}
