//! Reading a log again: the longest valid prefix, and why it ends where it does.
//!
//! ```text
//!              whole, chained block              segment ends, or no block here
//!   Reading ──────────────────────▶ Reading   ────────────────────────────────▶ next segment:
//!                                                first block chains on ──▶ Reading
//!                                                no block              ──▶ not in use (yet)
//!                                                block of another chain ─▶ Damaged
//!   no segment left ──▶ Finished
//! ```
//!
//! A segment is begun only once the one before it is durable to its last block. So whatever a crash
//! leaves behind, torn blocks and holes, is in the last segment in use, behind everything that was
//! acknowledged. A valid block in a later segment that does not chain on to the prefix therefore
//! means that acknowledged data is gone: the log stays closed rather than writing over the rest.
//! The same holds for a row of blocks behind the end of the prefix in its own segment, if it is as
//! long as commits can be in flight: with the one that is missing, they are too many.
//! Only a log that is never flushed may lose an earlier segment's end and keep a later segment: it
//! promised no more, and goes on where the prefix ends.

use std::fmt;

use bytes::Bytes;

use super::block::{Block, BlockFault, BlockHeader, HEADER_BYTES, Place};
use super::segments::{Segment, Segments};
use crate::limits::{BLOCK_ALIGN, COMMITS_IN_FLIGHT_MAX, LOOK_BEHIND_BYTES, READ_BYTES};
use crate::{LogId, SegmentFile};

/// Why the valid prefix of a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The log has no block at all.
    Empty,
    /// The rest of the segment is zeros: nothing was ever written there.
    CleanEnd,
    /// The last block ends where its segment does.
    SegmentEnd,
    /// Something that is no block: left over from a recycled segment, or a torn first sector.
    NotABlock,
    /// A block with a wrong checksum: torn.
    Torn,
    /// A block that says that it goes on behind the end of the segment.
    CutShort,
    /// A valid block that belongs to an earlier life of the log.
    Stale,
    /// This is as far as data was acknowledged when a disk operation failed.
    Acknowledged,
}

/// How a recovery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    pub reason: StopReason,
    /// Where the prefix ends; `None` if there was no segment.
    pub stopped_at: Option<Place>,
    pub log_start: u64,
    pub end_offset: u64,
    pub blocks: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blocks up to offset {}, {}",
            self.blocks,
            self.end_offset,
            self.reason.text()
        )?;
        match self.stopped_at {
            Some(place) => {
                write!(f, " at segment {} position {}", place.segment.0, place.position)
            }
            None => Ok(()),
        }
    }
}

impl StopReason {
    /// The reason in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            StopReason::Empty => "empty log",
            StopReason::CleanEnd => "clean end",
            StopReason::SegmentEnd => "end of the segment",
            StopReason::NotABlock => "no block",
            StopReason::Torn => "torn block",
            StopReason::CutShort => "block cut short",
            StopReason::Stale => "block of an earlier life",
            StopReason::Acknowledged => "end of what was acknowledged",
        }
    }
}

/// The last block that is known to be durable, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next block goes.
    pub(crate) place: Place,
    pub(crate) crc: u32,
    pub(crate) end_offset: u64,
}

/// What recovery wants next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Read {
        place: Place,
        bytes: u32,
    },
    Finished(RecoveryReport),
    /// Data that was acknowledged is not there any more.
    Damaged {
        place: Place,
    },
}

/// What lies behind the end of the prefix, in the same segment.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// Why the prefix ends.
    reason: StopReason,
    /// Where to look next, and up to where.
    position: u64,
    upto: u64,
    /// Valid blocks that follow each other.
    row: usize,
    /// Where the next of them is, and what it names as its predecessor.
    next: (u64, u32),
}

/// One pass over all segments of a log.
#[derive(Debug)]
pub(crate) struct Recovery {
    log: LogId,
    /// Every commit was flushed before the next segment was begun.
    flushed: bool,
    files: Vec<SegmentFile>,
    /// The segment that is looked at.
    at: usize,
    position: u64,
    /// Set while it is looked behind the end of the prefix, which is at `position`.
    behind: Option<Box<Behind>>,
    tail: Option<Tail>,
    /// The last block of the prefix, with its padding.
    last: Option<(Place, Bytes)>,
    /// Where the prefix ended in the last segment that had a part of it.
    stop: Option<(StopReason, Place)>,
    blocks: u64,
    /// Nothing behind this counts, and everything up to it must be there.
    known: Option<Tail>,
    /// Segments without a block of the log, in rising order: prepared ahead, or given up.
    unused: Vec<SegmentFile>,
}

impl Recovery {
    /// Starts at the first of `files`, which are in rising order.
    pub(crate) fn new(
        log: LogId,
        flushed: bool,
        files: Vec<SegmentFile>,
        known: Option<Tail>,
    ) -> Self {
        Recovery {
            log,
            flushed,
            files,
            at: 0,
            position: 0,
            behind: None,
            tail: None,
            last: None,
            stop: None,
            blocks: 0,
            known,
            unused: Vec::new(),
        }
    }

    pub(crate) fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The segments without a block of the log, and the last block of the prefix with its padding.
    pub(crate) fn into_rest(self) -> (Vec<SegmentFile>, Option<(Place, Bytes)>) {
        (self.unused, self.last)
    }

    /// Is this all that the last read asked for?
    pub(crate) fn is_whole(&self, bytes: &Bytes) -> bool {
        let left = self.files.get(self.at).map_or(0, |file| file.bytes - self.read_from());
        bytes.len() as u64 >= left.min(u64::from(READ_BYTES))
    }

    fn read_from(&self) -> u64 {
        self.behind.as_ref().map_or(self.position, |behind| behind.position)
    }

    /// What to do now.
    pub(crate) fn step(&self) -> Step {
        if let Some(file) = self.files.get(self.at) {
            let left = file.bytes.saturating_sub(self.read_from());
            let bytes = u32::try_from(left).unwrap_or(u32::MAX).min(READ_BYTES);
            let bytes = bytes.max(BLOCK_ALIGN as u32);
            let place = Place { segment: file.segment, position: self.read_from() };
            return Step::Read { place, bytes };
        }
        if let Some(known) = self.known
            && self.tail.is_none_or(|tail| tail.end_offset < known.end_offset)
        {
            return Step::Damaged { place: self.tail.map_or(known.place, |tail| tail.place) };
        }
        let report = |reason, stopped_at, end_offset| RecoveryReport {
            reason,
            stopped_at,
            log_start: 0,
            end_offset,
            blocks: self.blocks,
        };
        Step::Finished(match (self.stop, self.tail) {
            (Some((reason, place)), Some(tail)) => report(reason, Some(place), tail.end_offset),
            (None, _) | (_, None) => report(StopReason::Empty, None, 0),
        })
    }

    /// The answer to a read. Gives the blocks it holds to `found`, in order, and enters them into
    /// `segments`.
    ///
    /// # Errors
    /// The place of a valid block that does not belong where it is.
    pub(crate) fn read(
        &mut self,
        bytes: &Bytes,
        segments: &mut Segments,
        mut found: impl FnMut(Block),
    ) -> Result<(), Place> {
        let Some(file) = self.files.get(self.at).copied() else { return Ok(()) };
        if let Some(behind) = self.behind.take() {
            return self.look_behind(behind, bytes, file);
        }
        let mut rest = bytes.clone();
        loop {
            let place = Place { segment: file.segment, position: self.position };
            if self.known.is_some_and(|known| known.place == place) {
                self.end_log(place);
                return Ok(());
            }
            if self.position >= file.bytes {
                self.end_segment(StopReason::SegmentEnd, place, file);
                return Ok(());
            }
            let reason = match BlockHeader::decode(&rest, self.log, place) {
                Ok(header) if self.chains_on(&header) => {
                    self.accept(header, place, file, &rest, segments, &mut found);
                    rest = rest.slice((header.bytes_on_disk() as usize).min(rest.len())..);
                    continue;
                }
                Ok(_) if self.position == 0 && self.flushed => return Err(place),
                Ok(_) => StopReason::Stale,
                Err(BlockFault::Short(needed)) => {
                    let read_again = rest.len() < bytes.len();
                    if read_again && self.position + needed <= file.bytes {
                        return Ok(());
                    }
                    StopReason::CutShort
                }
                Err(BlockFault::Blank) => StopReason::CleanEnd,
                Err(BlockFault::Foreign) => StopReason::NotABlock,
                Err(BlockFault::Checksum) => StopReason::Torn,
            };
            let position = self.position + BLOCK_ALIGN;
            let upto = (self.position + LOOK_BEHIND_BYTES).min(file.bytes);
            if self.may_hide_damage(reason) && position < upto {
                let (row, next) = (0, (0, 0));
                self.behind = Some(Box::new(Behind { reason, position, upto, row, next }));
            } else {
                self.end_segment(reason, place, file);
            }
            return Ok(());
        }
    }

    /// Could something else than a crash have ended the prefix like this?
    fn may_hide_damage(&self, reason: StopReason) -> bool {
        let odd = match reason {
            StopReason::NotABlock | StopReason::Torn | StopReason::CutShort => true,
            StopReason::Empty
            | StopReason::CleanEnd
            | StopReason::SegmentEnd
            | StopReason::Stale
            | StopReason::Acknowledged => false,
        };
        odd && self.flushed && self.known.is_none()
    }

    /// Were there blocks behind the end of the prefix that only acknowledged ones can precede?
    fn look_behind(
        &mut self,
        mut behind: Box<Behind>,
        bytes: &Bytes,
        file: SegmentFile,
    ) -> Result<(), Place> {
        let end = Place { segment: file.segment, position: self.position };
        let mut rest = bytes.clone();
        while behind.position < behind.upto {
            let place = Place { position: behind.position, ..end };
            let step = match BlockHeader::decode(&rest, self.log, place) {
                Ok(header) => {
                    let follows = behind.next == (behind.position, header.previous);
                    behind.row = if follows { behind.row + 1 } else { 1 };
                    if behind.row >= COMMITS_IN_FLIGHT_MAX {
                        return Err(end);
                    }
                    behind.next = (behind.position + header.bytes_on_disk(), header.crc);
                    header.bytes_on_disk()
                }
                Err(BlockFault::Short(needed))
                    if rest.len() < bytes.len() && behind.position + needed <= file.bytes =>
                {
                    self.behind = Some(behind);
                    return Ok(());
                }
                Err(
                    BlockFault::Short(_)
                    | BlockFault::Blank
                    | BlockFault::Foreign
                    | BlockFault::Checksum,
                ) => BLOCK_ALIGN,
            };
            rest = rest.slice((step as usize).min(rest.len())..);
            behind.position += step;
        }
        self.end_segment(behind.reason, end, file);
        Ok(())
    }

    /// Nothing precedes the first block of the oldest segment; all others name their predecessor.
    fn chains_on(&self, header: &BlockHeader) -> bool {
        match self.tail {
            None => self.unused.is_empty() && self.position == 0,
            Some(tail) => {
                tail.crc == header.previous
                    && tail.end_offset == header.base_offset
                    && (self.position > 0 || self.unused.is_empty())
            }
        }
    }

    fn accept(
        &mut self,
        header: BlockHeader,
        place: Place,
        file: SegmentFile,
        rest: &Bytes,
        segments: &mut Segments,
        found: &mut impl FnMut(Block),
    ) {
        if place.position == 0 {
            segments.push(Segment::new(file.segment, file.bytes, header.base_offset));
        }
        let segment = segments.active_mut().expect("pushed with its first block");
        segment.push(&header);
        self.blocks += 1;
        self.last = Some((place, rest.slice(..(header.bytes_on_disk() as usize).min(rest.len()))));
        self.position += header.bytes_on_disk();
        self.tail = Some(Tail {
            place: Place { position: self.position, ..place },
            crc: header.crc,
            end_offset: header.end_offset(),
        });
        if header.count > 0 {
            let payload = rest.slice(HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize);
            found(Block { header, place, payload });
        }
    }

    /// No further block of the log in this segment: the next one may go on.
    fn end_segment(&mut self, reason: StopReason, place: Place, file: SegmentFile) {
        if self.position == 0 {
            self.unused.push(file);
        } else {
            self.stop = Some((reason, place));
        }
        self.at += 1;
        self.position = 0;
    }

    /// The acknowledged end of the log: nothing behind it is looked at.
    fn end_log(&mut self, place: Place) {
        self.stop = Some((StopReason::Acknowledged, place));
        self.unused.extend_from_slice(&self.files[self.at + 1..]);
        self.at = self.files.len();
    }
}
