//! The row of segments that holds a log's durable blocks, and a sparse index over it.

use std::collections::VecDeque;

use super::block::{BlockHeader, Place};
use crate::limits::INDEX_STRIDE_BYTES;
use crate::{SegmentId, invariants};

/// A place in a segment: the block at `position` begins with `base_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexEntry {
    base_offset: u64,
    position: u64,
    /// Largest record time from here to the next entry.
    max_time_ms: i64,
}

/// One segment with at least one durable block, or about to get its first.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Size of its file.
    pub(crate) bytes: u64,
    /// Durable blocks end here.
    pub(crate) used: u64,
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) append_time_ms: i64,
    index: Vec<IndexEntry>,
}

impl Segment {
    pub(crate) fn new(id: SegmentId, bytes: u64, base_offset: u64) -> Self {
        Segment {
            id,
            bytes,
            used: 0,
            base_offset,
            end_offset: base_offset,
            append_time_ms: i64::MIN,
            index: Vec::new(),
        }
    }

    /// A durable block follows those before it.
    pub(crate) fn push(&mut self, header: &BlockHeader) {
        debug_assert_eq!(header.base_offset, self.end_offset);
        let due =
            self.index.last().is_none_or(|last| self.used - last.position >= INDEX_STRIDE_BYTES);
        if due && header.count > 0 {
            self.index.push(IndexEntry {
                base_offset: header.base_offset,
                position: self.used,
                max_time_ms: i64::MIN,
            });
        }
        if let Some(last) = self.index.last_mut() {
            last.max_time_ms = last.max_time_ms.max(header.max_time_ms);
        }
        self.used += header.bytes_on_disk();
        self.end_offset = header.end_offset();
        self.append_time_ms = self.append_time_ms.max(header.append_time_ms);
    }
}

/// Segments in rising order of id and of offsets, without holes. The last one is written to.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    row: VecDeque<Segment>,
    /// Used bytes of all but the last one.
    sealed_bytes: u64,
}

impl Segments {
    pub(crate) fn clear(&mut self) {
        *self = Segments::default();
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        if let Some(last) = self.row.back() {
            debug_assert!(last.id < segment.id);
            debug_assert!(invariants::follows(last.end_offset, segment.base_offset));
            self.sealed_bytes += last.used;
        }
        self.row.push_back(segment);
    }

    pub(crate) fn len(&self) -> usize {
        self.row.len()
    }

    pub(crate) fn active(&self) -> Option<&Segment> {
        self.row.back()
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Segment> {
        self.row.back_mut()
    }

    pub(crate) fn oldest(&self) -> Option<&Segment> {
        self.row.front()
    }

    /// First offset that is still there.
    pub(crate) fn log_start(&self) -> u64 {
        self.row.front().map_or(0, |segment| segment.base_offset)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.sealed_bytes + self.row.back().map_or(0, |segment| segment.used)
    }

    /// Takes the oldest segment out, unless it is the one that is written to.
    pub(crate) fn retire_oldest(&mut self) -> Option<Segment> {
        if self.row.len() < 2 {
            return None;
        }
        let segment = self.row.pop_front()?;
        self.sealed_bytes -= segment.used;
        Some(segment)
    }

    /// A place at or before the block with `offset`, with only few blocks in between.
    pub(crate) fn locate(&self, offset: u64) -> Option<Place> {
        let at = self.row.partition_point(|segment| segment.end_offset <= offset);
        let segment = self.row.get(at)?;
        let entry = segment.index.partition_point(|entry| entry.base_offset <= offset);
        let entry = segment.index.get(entry.checked_sub(1)?)?;
        Some(Place { segment: segment.id, position: entry.position })
    }

    /// Where durable blocks of this segment end, and the segment after it.
    pub(crate) fn extent(&self, id: SegmentId) -> Option<(u64, Option<SegmentId>)> {
        let at = self.row.partition_point(|segment| segment.id < id);
        let segment = self.row.get(at).filter(|segment| segment.id == id)?;
        Some((segment.used, self.row.get(at + 1).map(|next| next.id)))
    }

    /// First offset of the first stretch of log with a record at or after `time_ms`; exact to
    /// within one index entry, and never too late. `None`: all records are older.
    pub(crate) fn seek_time(&self, time_ms: i64) -> Option<u64> {
        self.row
            .iter()
            .flat_map(|segment| segment.index.iter())
            .find(|entry| entry.max_time_ms >= time_ms)
            .map(|entry| entry.base_offset)
    }
}
