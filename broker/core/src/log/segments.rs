//! The row of segments that holds a log's durable blocks, and a sparse index over it.

use std::collections::VecDeque;

use super::block::{BlockHeader, BlockKind, Place};
use crate::SegmentId;
use crate::limits::{INDEX_STRIDE_BYTES, SEGMENT_OFFSETS_MAX};

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
    /// Where it begins for readers, perhaps with what is lost.
    pub(crate) base_offset: u64,
    /// The offset of its first block.
    first_offset: Option<u64>,
    pub(crate) end_offset: u64,
    pub(crate) append_time_ms: i64,
    /// All that the partition knew of its producers is in here: what came before is not needed
    /// to know it again.
    pub(crate) whole_producers: bool,
    index: Vec<IndexEntry>,
    /// The next entry is due whatever its distance.
    entry_due: bool,
}

impl Segment {
    pub(crate) fn new(id: SegmentId, bytes: u64, base_offset: u64) -> Self {
        Segment {
            id,
            bytes,
            used: 0,
            base_offset,
            first_offset: None,
            end_offset: base_offset,
            append_time_ms: i64::MIN,
            whole_producers: false,
            index: Vec::new(),
            entry_due: true,
        }
    }

    /// A segment that has no block any more, between others that have.
    pub(crate) fn damaged(id: SegmentId, bytes: u64, offset: u64) -> Self {
        Segment { used: bytes, ..Segment::new(id, bytes, offset) }
    }

    /// May it hold offsets up to before this one?
    pub(crate) fn may_hold(&self, end_offset: u64) -> bool {
        self.first_offset.is_none_or(|first| end_offset - first <= SEGMENT_OFFSETS_MAX)
    }

    /// A durable block at `position` follows those before it, perhaps behind a damaged stretch.
    pub(crate) fn push(&mut self, header: &BlockHeader, position: u64) {
        debug_assert!(header.base_offset >= self.end_offset && position >= self.used);
        // A reader that comes from the hole begins right behind it.
        self.entry_due |= header.base_offset > self.end_offset || position > self.used;
        self.first_offset.get_or_insert(header.base_offset);
        let far = |last: &IndexEntry| position - last.position >= INDEX_STRIDE_BYTES;
        if header.count > 0 && (self.entry_due || self.index.last().is_some_and(far)) {
            self.entry_due = false;
            self.index.push(IndexEntry {
                base_offset: header.base_offset,
                position,
                max_time_ms: i64::MIN,
            });
        }
        self.whole_producers |= header.kind == BlockKind::Producers;
        if let Some(last) = self.index.last_mut() {
            last.max_time_ms = last.max_time_ms.max(header.max_time_ms);
        }
        self.used = position + header.bytes_on_disk();
        self.end_offset = header.end_offset();
        self.append_time_ms = self.append_time_ms.max(header.append_time_ms);
    }
}

/// Segments in rising order of id and of offsets. The last one is written to.
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
            debug_assert!(last.end_offset <= segment.base_offset);
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

    /// The first offset of a segment, and the size of its file.
    pub(crate) fn base_of(&self, id: SegmentId) -> Option<(u64, u64)> {
        let at = self.row.partition_point(|segment| segment.id < id);
        self.row
            .get(at)
            .filter(|segment| segment.id == id)
            .map(|found| (found.base_offset, found.bytes))
    }

    pub(crate) fn oldest(&self) -> Option<&Segment> {
        self.row.front()
    }

    /// When the oldest segment was last appended to: its own stamp, or the first behind it that is
    /// not later than `clock_ms`. `None`: no stamp says so.
    pub(crate) fn oldest_append_ms(&self, clock_ms: i64) -> Option<i64> {
        let stamps = self.row.iter().map(|segment| segment.append_time_ms);
        stamps.filter(|stamp| *stamp > i64::MIN).find(|stamp| *stamp <= clock_ms)
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

    /// A place at or before the block with `offset`, with only few blocks in between, and the
    /// offset that is there.
    pub(crate) fn locate(&self, offset: u64) -> Option<(Place, u64)> {
        let at = self.row.partition_point(|segment| segment.end_offset <= offset);
        let segment = self.row.get(at)?;
        let entry = segment.index.partition_point(|entry| entry.base_offset <= offset);
        let entry = segment.index.get(entry.checked_sub(1)?)?;
        Some((Place { segment: segment.id, position: entry.position }, entry.base_offset))
    }

    /// The first place behind this one, in the same segment, that the index names, with its
    /// offset; else the end of the segment's offsets.
    pub(crate) fn indexed_behind(&self, place: Place) -> Option<(Option<Place>, u64)> {
        let at = self.row.partition_point(|segment| segment.id < place.segment);
        let segment = self.row.get(at).filter(|segment| segment.id == place.segment)?;
        let entry = segment.index.partition_point(|entry| entry.position <= place.position);
        Some(match segment.index.get(entry) {
            Some(entry) => (Some(Place { position: entry.position, ..place }), entry.base_offset),
            None => (None, segment.end_offset),
        })
    }

    /// Where a read from `place` on ends: behind a whole block, as far as the index or the segment's
    /// end tells, about `bytes` on and at most `bytes_max`. Gives the position, and the place and
    /// offset behind it if there is something.
    pub(crate) fn read_end(
        &self,
        place: Place,
        bytes: u64,
        bytes_max: u64,
    ) -> Option<(u64, Option<(Place, u64)>)> {
        let at = self.row.partition_point(|segment| segment.id < place.segment);
        let segment = self.row.get(at).filter(|segment| segment.id == place.segment)?;
        if segment.used <= place.position + bytes {
            let next = self.row.get(at + 1).map(|next| Place { segment: next.id, position: 0 });
            return Some((segment.used, next.map(|next| (next, segment.end_offset))));
        }
        let behind = |bytes| {
            let limit = place.position + bytes;
            let behind = segment.index.partition_point(|entry| entry.position <= limit);
            let entry = segment.index.get(behind.checked_sub(1)?)?;
            (entry.position > place.position).then_some(entry)
        };
        let entry = behind(bytes).or_else(|| {
            let next = segment.index.partition_point(|entry| entry.position <= place.position);
            segment.index.get(next).filter(|entry| entry.position <= place.position + bytes_max)
        });
        Some(match entry {
            Some(entry) => {
                let next = Place { position: entry.position, ..place };
                (entry.position, Some((next, entry.base_offset)))
            }
            // The segment's end, or blocks that lie far apart around damage.
            None => (segment.used.min(place.position + bytes_max), None),
        })
    }

    /// Enters a place into the index: readers begin there.
    pub(crate) fn index_at(&mut self, place: Option<Place>, base_offset: u64) {
        let Some(place) = place else { return };
        let at = self.row.partition_point(|segment| segment.id < place.segment);
        let Some(segment) = self.row.get_mut(at).filter(|segment| segment.id == place.segment)
        else {
            return;
        };
        let position = place.position;
        let at = segment.index.partition_point(|entry| entry.position < position);
        if at == 0 || segment.index.get(at).is_some_and(|entry| entry.position == position) {
            return;
        }
        let max_time_ms = segment.index[at - 1].max_time_ms;
        segment.index.insert(at, IndexEntry { base_offset, position, max_time_ms });
    }

    /// Would what is known of producers still be whole without the oldest segment?
    pub(crate) fn producers_without_oldest(&self) -> bool {
        self.row.iter().skip(1).any(|segment| segment.whole_producers)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::HEADER_BYTES;
    use super::*;
    use crate::limits::{BLOCK_PAYLOAD_BYTES_MAX, CATCH_UP_BYTES, READ_BYTES};

    fn header(base_offset: u64, payload_bytes: u32, count: u32) -> BlockHeader {
        BlockHeader {
            crc: 0,
            payload_bytes,
            kind: BlockKind::Batches,
            base_offset,
            count,
            previous: 0,
            nonce: 0,
            append_time_ms: 0,
            max_time_ms: 0,
            durable_end: base_offset,
        }
    }

    proptest! {
        #[test]
        fn reads_follow_each_other_from_block_to_block(
            sizes in prop::collection::vec((1..=BLOCK_PAYLOAD_BYTES_MAX as u32, 0..3_u32), 1..60),
        ) {
            let mut segment = Segment::new(SegmentId(1), u64::MAX, 0);
            let mut offsets = std::collections::BTreeMap::new();
            for (payload_bytes, count) in sizes {
                let header = header(segment.end_offset, payload_bytes, count);
                offsets.insert(segment.used, segment.end_offset);
                segment.push(&header, segment.used);
            }
            let (used, end_offset) = (segment.used, segment.end_offset);
            let mut segments = Segments::default();
            segments.push(segment);
            segments.push(Segment::new(SegmentId(2), u64::MAX, end_offset));
            let mut place = Place { segment: SegmentId(1), position: 0 };
            loop {
                let read = segments.read_end(place, CATCH_UP_BYTES, u64::from(READ_BYTES));
                let (end, next) = read.unwrap();
                prop_assert!(end > place.position);
                prop_assert!(end - place.position <= u64::from(READ_BYTES));
                let Some((next, offset)) = next else { break };
                if next.segment == SegmentId(2) {
                    prop_assert_eq!((end, next.position, offset), (used, 0, end_offset));
                    break;
                }
                prop_assert_eq!(next.position, end);
                prop_assert_eq!(offsets.get(&end), Some(&offset));
                place = next;
            }
        }
    }

    #[test]
    fn a_read_ends_with_the_blocks_that_fit() {
        let mut segment = Segment::new(SegmentId(1), u64::MAX, 0);
        let block = CATCH_UP_BYTES / 3;
        for number in 0..10 {
            let position = segment.used;
            segment.push(&header(number, block as u32 - HEADER_BYTES as u32, 1), position);
        }
        let on_disk = segment.used / 10;
        let mut segments = Segments::default();
        segments.push(segment);
        let place = |blocks| Place { segment: SegmentId(1), position: blocks * on_disk };
        let read = |from| segments.read_end(place(from), CATCH_UP_BYTES, u64::from(READ_BYTES));
        assert_eq!(read(0), Some((2 * on_disk, Some((place(2), 2)))));
        assert_eq!(read(8), Some((10 * on_disk, None)), "nothing is there yet");
    }
}
