//! Reading a log again: every block of it, and what is missing in between.
//!
//! ```text
//!              whole, chained block
//!   Following ──────────────────────▶ Following
//!       │ no block, or not the next one
//!       ▼            a block that chains on to the last one
//!   Behind a gap ─────────────────────────────────────────────▶ Following, nothing was missing
//!       │ blocks of the log: they wait until it is certain that they belong to it
//!       ├── what is missing was durable ──────────────────────▶ Following, the gap is a hole
//!       └── no segment left ──▶ torn tail: cut here, unless it was durable: then a hole
//! ```
//!
//! What a crash leaves behind, torn blocks and holes, is behind everything that was acknowledged,
//! and is cut off. What is missing of acknowledged data is *damage*: the offsets are a hole, and the
//! log goes on behind it. What was acknowledged is known from
//!
//! * the durable end in the header of every block behind the gap;
//! * a row of blocks behind the gap, as long as commits can be in flight: with the one that is
//!   missing, they are too many;
//! * the mark of a later life that chains on to a block behind the gap: it had been found whole;
//! * what this process itself has acknowledged, when it reads a log again after a failure;
//! * the log's [witness](super::witness): a segment that has had a block is there.
//!
//! Behind the last of these, damage looks like a torn write, and is cut off as one: a resting log
//! writes a mark, so that this is the end of a log that was written to a moment ago.
//!
//! Within one life of a log nothing is ever cut. So of blocks behind a gap those of an earlier life
//! than what is before it are left over from a torn tail, and one that is certain makes those of its
//! life before it certain. Between lives, the block that opens the later one tells what of the earlier
//! one was found, and what was cut off.

mod end;

use std::collections::VecDeque;

use bytes::Bytes;

use super::block::{Block, BlockFault, BlockHeader, BlockKind, HEADER_BYTES, Place};
use super::damage::{Damage, DamageKind};
use super::read_ahead::ReadAhead;
use super::report::{RecoveryReport, StopReason};
use super::segments::{Segment, Segments};
use super::witness::Witness;
use crate::limits::{BLOCK_ALIGN, COMMITS_IN_FLIGHT_MAX, LOST_END_OFFSETS};
use crate::mutants::{Mutant, planted};
use crate::{LogId, SegmentFile, SegmentId};

/// Lives of a log that may have been lost with its newest segments. What is written from then on is
/// of a later one: should the segments come back, it is not taken for older than what is in them.
const LOST_LIVES: u64 = 1 << 16;

/// The last block, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next block goes.
    pub(crate) place: Place,
    pub(crate) crc: u32,
    pub(crate) nonce: u64,
    pub(crate) end_offset: u64,
}

/// How far a recovery has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A read has to be answered first.
    Waiting,
    Finished,
}

/// What recovery finds, in order.
#[derive(Debug)]
pub(crate) enum Finding {
    Block(Block),
    Damage(Damage),
}

/// Where the log goes on, once it is read.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) report: RecoveryReport,
    pub(crate) tail: Option<Tail>,
    /// The place behind the last block is free for the next one. Not where damage is: that is left
    /// as it is, for whoever wants to look at it.
    pub(crate) goes_on: bool,
    /// The last block with its padding.
    pub(crate) last: Option<(Place, Bytes)>,
    /// Everything below was certainly durable.
    pub(crate) durable_end: u64,
    /// A life that no block of this log has reached, those that are lost included.
    pub(crate) life: u64,
    /// Segments behind the last block, in rising order: prepared ahead, or given up.
    pub(crate) unused: Vec<SegmentFile>,
    /// Blocks that a crash has left without their padding: it is to be written again.
    pub(crate) ragged: Vec<(Place, Bytes)>,
}

/// A block behind a gap, not known to belong to the log yet.
#[derive(Debug)]
struct Waiting {
    file: usize,
    place: Place,
    header: BlockHeader,
    bytes: Bytes,
    /// Something is missing before it, from there on.
    gap: Option<(Place, StopReason)>,
}

/// From where on blocks are missing.
#[derive(Clone, Copy, Debug)]
struct Missing {
    place: Place,
    reason: StopReason,
    /// The front of the next segment is missing, too: there a block was for certain, if anything
    /// of that segment was used, and what is before it may have been the end of the one before.
    front: Option<(Place, StopReason)>,
}

impl Missing {
    fn more(&mut self, place: Place, reason: StopReason) {
        if place.position == 0 && self.place.position > 0 {
            self.front.get_or_insert((place, reason));
        }
    }

    /// Where damage begins that ends with a block at `until`.
    fn begins(self, until: Place) -> (Place, StopReason) {
        let front = self.front.filter(|(place, _)| *place < until);
        front.unwrap_or((self.place, self.reason))
    }
}

/// Something is missing behind the tail, or the log ends there.
#[derive(Debug)]
struct Gap {
    missing: Missing,
    waiting: VecDeque<Waiting>,
    /// What is missing behind the last block that waits.
    next: Option<Missing>,
    /// The blocks that wait are known to belong to the log.
    certain: bool,
}

/// One pass over all segments of a log.
#[derive(Debug)]
pub(crate) struct Recovery {
    log: LogId,
    files: Vec<SegmentFile>,
    /// How far each is read: to its end, or to the acknowledged end of the log.
    ends: Vec<u64>,
    ahead: ReadAhead,
    /// Number of the file that is looked at, and where in it.
    at: usize,
    position: u64,
    tail: Option<Tail>,
    /// The file of the tail.
    tail_file: Option<usize>,
    last: Option<(Place, Bytes)>,
    gap: Option<Gap>,
    blocks: u64,
    damages: u64,
    damaged_records: u64,
    /// The highest durable end that a block of the log names.
    durable_end: u64,
    life: u64,
    /// Blocks whose padding is not zero, and which may be of a torn tail: the last ones.
    ragged: VecDeque<(Damage, Bytes)>,
    /// Nothing behind this counts, and everything up to it must be there.
    known: Option<Tail>,
    witness: Option<Witness>,
}

impl Recovery {
    /// Starts at the first of `files`, which are in rising order.
    pub(crate) fn new(
        log: LogId,
        files: Vec<SegmentFile>,
        known: Option<Tail>,
        witness: Option<Witness>,
    ) -> Self {
        let end = |file: &SegmentFile| match known {
            Some(known) if file.segment > known.place.segment => 0,
            Some(known) if file.segment == known.place.segment => {
                file.bytes.min(known.place.position)
            }
            Some(_) | None => file.bytes,
        };
        let ends: Vec<u64> = files.iter().map(end).collect();
        let read = files.iter().zip(&ends).map(|(file, end)| SegmentFile { bytes: *end, ..*file });
        Recovery {
            log,
            ahead: ReadAhead::new(read.collect()),
            files,
            ends,
            at: 0,
            position: 0,
            tail: None,
            tail_file: None,
            last: None,
            gap: None,
            blocks: 0,
            damages: 0,
            damaged_records: 0,
            durable_end: known.map_or(0, |known| known.end_offset),
            life: 0,
            ragged: VecDeque::new(),
            known,
            witness,
        }
    }

    /// The next read to make, if it is time.
    pub(crate) fn wants(&mut self) -> Option<(Place, u32)> {
        self.ahead.wants()
    }

    /// The answer to a read. False: it is shorter than the file.
    pub(crate) fn answer(&mut self, place: Place, bytes: Bytes) -> bool {
        self.ahead.answer(place, bytes)
    }

    /// Goes through what has been read. Enters blocks into `segments` and gives them to `found`,
    /// with what is damaged between them, in order.
    pub(crate) fn step(&mut self, segments: &mut Segments, mut found: impl FnMut(Finding)) -> Step {
        while let Some((file, end)) = self.files.get(self.at).zip(self.ends.get(self.at)) {
            let place = Place { segment: file.segment, position: self.position };
            if self.position >= *end {
                self.at += 1;
                self.position = 0;
                continue;
            }
            let Some(mut bytes) = self.ahead.front(self.at, self.position, BLOCK_ALIGN) else {
                return Step::Waiting;
            };
            let mut decoded = BlockHeader::decode(&bytes, self.log, place);
            if let Err(BlockFault::Short(needed)) = decoded
                && self.position + needed <= *end
            {
                let Some(whole) = self.ahead.front(self.at, self.position, needed) else {
                    return Step::Waiting;
                };
                bytes = whole;
                decoded = BlockHeader::decode(&bytes, self.log, place);
            }
            // Zeros do not come about by chance; everything else that is odd is read again.
            let odd = match &decoded {
                Ok(header) => !header.is_padded_well(&bytes),
                Err(fault) => *fault != BlockFault::Blank,
            };
            if odd && self.ahead.doubt(self.at, self.position) {
                return Step::Waiting;
            }
            match decoded {
                Ok(header) => {
                    let whole = header.bytes_on_disk();
                    let bytes = bytes.slice(..(whole as usize).min(bytes.len()));
                    let (file, gap) = (self.at, None);
                    self.block(Waiting { file, place, header, bytes, gap }, segments, &mut found);
                    self.position += whole;
                }
                Err(fault) => {
                    self.missing(place, StopReason::from(fault));
                    self.position += BLOCK_ALIGN;
                }
            }
        }
        Step::Finished
    }

    /// No block of the log is here.
    fn missing(&mut self, place: Place, reason: StopReason) {
        let missing = Missing { place, reason, front: None };
        match &mut self.gap {
            None => {
                let (waiting, next, certain) = (VecDeque::new(), None, false);
                self.gap = Some(Gap { missing, waiting, next, certain });
            }
            Some(gap) if gap.waiting.is_empty() => gap.missing.more(place, reason),
            Some(gap) => gap.next.get_or_insert(missing).more(place, reason),
        }
    }

    fn block(&mut self, found: Waiting, segments: &mut Segments, tell: &mut impl FnMut(Finding)) {
        let (header, place) = (found.header, found.place);
        self.life = self.life.max(header.life());
        if self.is_stale(&header) {
            self.missing(place, StopReason::Stale);
            return;
        }
        self.durable_end = self.durable_end.max(header.durable_end);
        if self.chains_on(&header, found.file, place) {
            // Nothing is missing before it but what an earlier recovery has given up.
            let gap = self.gap.take();
            let ended = self.tail.map_or(place, |tail| tail.place);
            let behind = gap.map_or(ended, |gap| gap.missing.place);
            let hole = self.is_behind_hole(&header).then_some((behind, StopReason::Damaged));
            let gap = hole.or_else(|| self.begun_anew(&header, place));
            self.accept(Waiting { gap, ..found }, segments, tell);
            return;
        }
        if self.gap.as_ref().is_none_or(|gap| !gap.waiting.is_empty() && gap.next.is_none()) {
            self.missing(place, StopReason::Stale);
        }
        let gap = self.gap.as_mut().expect("just made, if there was none");
        let mut before = gap.next.take().map(|missing| missing.begins(place));
        if let Some(last) = gap.waiting.back() {
            let chained = header.previous == last.header.crc
                && header.base_offset == last.header.end_offset();
            if chained {
                before = None;
            }
            if header.life() > last.header.life() {
                if chained {
                    gap.certain = true;
                } else if header.kind == BlockKind::Opening {
                    // What its life has found, and not what it has given up.
                    gap.waiting.retain(|older| older.header.end_offset() <= header.base_offset);
                } else {
                    gap.waiting.clear();
                }
            }
        }
        if gap.waiting.is_empty() {
            before = Some(gap.missing.begins(place));
        }
        gap.waiting.push_back(Waiting { gap: before, ..found });
        self.resolve(segments, tell);
    }

    /// Takes in blocks that wait, as far as it is certain that what is missing before them had been
    /// durable.
    fn resolve(&mut self, segments: &mut Segments, tell: &mut impl FnMut(Finding)) {
        while let Some(gap) = &mut self.gap
            && let Some(front) = gap.waiting.front()
        {
            let upto = self.durable_end.max(self.tail.map_or(0, |tail| tail.end_offset));
            let chained = front.gap.is_none();
            let belongs = chained
                || gap.certain
                || front.header.base_offset <= upto
                || gap.waiting.len() >= COMMITS_IN_FLIGHT_MAX;
            if !belongs {
                return;
            }
            let front = gap.waiting.pop_front().expect("looked at above");
            match gap.waiting.front() {
                Some(next) => {
                    let (place, reason) = next.gap.unwrap_or((next.place, StopReason::Stale));
                    gap.missing = Missing { place, reason, front: None };
                }
                // Whatever is missing next is another gap.
                None => self.gap = None,
            }
            self.accept(front, segments, tell);
        }
    }

    /// Left over from a torn tail, behind or in place of what was written later.
    fn is_stale(&self, header: &BlockHeader) -> bool {
        if planted(Mutant::AcceptStaleBlock) {
            return false;
        }
        let older = |nonce: u64| {
            header.life() < nonce >> 32 || (header.life() == nonce >> 32 && header.nonce != nonce)
        };
        let waiting = self.gap.as_ref().and_then(|gap| gap.waiting.back());
        if let Some(last) = waiting
            && (older(last.header.nonce)
                || (header.life() == last.header.life()
                    && header.base_offset < last.header.end_offset()))
        {
            return true;
        }
        self.tail.is_some_and(|tail| older(tail.nonce) || header.base_offset < tail.end_offset)
    }

    /// Does the block name the tail as the one before it? Nothing precedes the first block of the
    /// oldest segment.
    fn chains_on(&self, header: &BlockHeader, file: usize, place: Place) -> bool {
        match self.tail {
            None => file == 0 && place.position == 0,
            Some(tail) => tail.crc == header.previous || planted(Mutant::AcceptStaleBlock),
        }
    }

    fn is_behind_hole(&self, header: &BlockHeader) -> bool {
        self.tail.is_some_and(|tail| header.base_offset > tail.end_offset)
    }

    /// The first block of a log whose older segments were all lost: where they were. Retention leaves
    /// blocks that name the one before them.
    fn begun_anew(&self, header: &BlockHeader, place: Place) -> Option<(Place, StopReason)> {
        let segment = SegmentId(place.segment.0.saturating_sub(1));
        let is_first = self.tail.is_none() && is_first_of_all(header) && header.base_offset > 0;
        is_first.then_some((Place { segment, position: 0 }, StopReason::Damaged))
    }

    fn accept(&mut self, found: Waiting, segments: &mut Segments, tell: &mut impl FnMut(Finding)) {
        let Waiting { file, place, header, bytes, gap } = found;
        if let Some((from, reason)) = gap {
            self.damaged(from, reason, Some(place), &header, tell);
        }
        if self.tail_file != Some(file) {
            let begins = self.begins_at(&header);
            let before = self.tail.map_or(begins, |tail| tail.end_offset);
            let base_offset = self.tail.map_or(begins, |_| header.base_offset);
            for lost in &self.files[self.tail_file.map_or(0, |tail| tail + 1)..file] {
                segments.push(Segment::damaged(lost.segment, lost.bytes, before));
            }
            let SegmentFile { segment, bytes } = self.files[file];
            segments.push(Segment::new(segment, bytes, base_offset));
            self.tail_file = Some(file);
        }
        let segment = segments.active_mut().expect("pushed with its first block");
        segment.push(&header, place.position);
        self.blocks += 1;
        if !header.is_padded_well(&bytes) {
            let (kind, end) = (DamageKind::Padding, header.end_offset());
            let damage = Damage { kind, place, until: Some(place), first: end, end };
            self.ragged.push_back((damage, bytes.clone()));
            if self.ragged.len() > COMMITS_IN_FLIGHT_MAX
                && let Some((damage, _)) = self.ragged.pop_front()
            {
                self.damages += 1;
                tell(Finding::Damage(damage));
            }
        }
        self.tail = Some(Tail {
            place: Place { position: place.position + header.bytes_on_disk(), ..place },
            crc: header.crc,
            nonce: header.nonce,
            end_offset: header.end_offset(),
        });
        let payload = bytes.slice(HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize);
        // Of a file that was cut short in the padding there is nothing to write again.
        let whole = bytes.len() as u64 == header.bytes_on_disk();
        self.last = whole.then_some((place, bytes));
        tell(Finding::Block(Block { header, place, payload }));
    }

    /// Where the log begins, if the first block that is left of it begins here. The first segment
    /// that there ever was begins at the first offset.
    fn begins_at(&self, first: &BlockHeader) -> u64 {
        if self.is_whole() || is_first_of_all(first) { 0 } else { first.base_offset }
    }

    fn is_whole(&self) -> bool {
        self.files.first().is_some_and(|file| file.segment == SegmentId(1))
    }

    /// Something that was durable is missing between the tail and this block.
    fn damaged(
        &mut self,
        place: Place,
        reason: StopReason,
        until: Option<Place>,
        header: &BlockHeader,
        tell: &mut impl FnMut(Finding),
    ) {
        let first = self.tail.map_or_else(|| self.begins_at(header), |tail| tail.end_offset);
        let end = header.base_offset;
        let kind = match self.tail {
            // Before the first offset of all there is nothing but blocks without any.
            None if first == end && !self.is_whole() => DamageKind::FrontLost,
            // Nothing else is as wide.
            None | Some(_) if end - first >= LOST_END_OFFSETS / 2 => DamageKind::EndLost,
            None | Some(_) => reason.damage(),
        };
        self.tell_damage(Damage { kind, place, until, first, end }, tell);
    }

    fn tell_damage(&mut self, damage: Damage, tell: &mut impl FnMut(Finding)) {
        self.damages += 1;
        self.damaged_records += damage.records();
        tell(Finding::Damage(damage));
    }
}

/// Does the block name none before it?
fn is_first_of_all(header: &BlockHeader) -> bool {
    let anew = header.base_offset == 0 || header.base_offset >= LOST_END_OFFSETS;
    header.previous == 0 && anew
}
