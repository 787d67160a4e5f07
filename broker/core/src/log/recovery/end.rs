//! What is known once everything has been read: where the log ends, and what is lost of its end.

use bytes::Bytes;

use super::{Finding, LOST_LIVES, Recovered, Recovery, Tail};
use crate::limits::{BLOCK_ALIGN, LOST_END_OFFSETS};
use crate::log::block::{HEADER_BYTES, Place};
use crate::log::damage::{Damage, DamageKind};
use crate::log::report::{RecoveryReport, StopReason};
use crate::log::segments::{Segment, Segments};
use crate::log::witness::Witness;
use crate::{SegmentFile, SegmentId};

impl Recovery {
    /// Where records are missing that the witness tells of: of its segment or behind it no block is
    /// left, or the file is cut off where the blocks that are left end.
    fn lost_end(&self, gap: Option<(Place, StopReason)>) -> Option<(Place, u64)> {
        let witness = self.witness.filter(|_| self.known.is_none())?;
        let file = self.files.iter().find(|file| file.segment == witness.newest);
        let front = Place { segment: witness.newest, position: 0 };
        match self.tail.filter(|tail| tail.place.segment >= witness.newest) {
            Some(tail) => {
                let cut = self.cut_file(witness)?;
                let at_its_end = gap.is_none_or(|(place, reason)| {
                    place.segment != cut.segment || reason == StopReason::CutShort
                });
                let ends_here = tail.place.segment == cut.segment && at_its_end;
                ends_here.then_some((tail.place, witness.base_offset))
            }
            None if !witness.flushed && file.is_some() => None,
            None => Some((front, witness.base_offset)),
        }
    }

    /// The witness's segment, if its file is shorter than it was made.
    fn cut_file(&self, witness: Witness) -> Option<&SegmentFile> {
        let file = self.files.iter().find(|file| file.segment == witness.newest);
        file.filter(|file| file.bytes < witness.bytes)
    }

    /// Everything has been read.
    pub(crate) fn finish(
        mut self,
        segments: &mut Segments,
        tell: &mut impl FnMut(Finding),
    ) -> Recovered {
        let gap = self.gap.take().map(|gap| (gap.missing.place, gap.missing.reason));
        let end = self.tail.map_or(0, |tail| tail.end_offset);
        let lost_end = self.lost_end(gap);
        if let Some((_, base_offset)) = lost_end {
            let known = self.durable_end.max(end).max(base_offset);
            self.durable_end = known + LOST_END_OFFSETS;
            self.life += LOST_LIVES;
        }
        let lost = self.durable_end > end;
        if let Some((place, _)) = lost_end {
            let (kind, end) = (DamageKind::EndLost, self.durable_end);
            let first = self.tail.map_or(0, |tail| tail.end_offset);
            self.tell_damage(Damage { kind, place, until: None, first, end }, tell);
        } else if lost {
            let front = Place { segment: SegmentId(0), position: 0 };
            let behind = self.tail.or(self.known).map_or(front, |tail| tail.place);
            let (place, reason) = gap.unwrap_or((behind, StopReason::SegmentEnd));
            let end = self.durable_end;
            let begins = if self.is_whole() { 0 } else { end };
            let first = self.tail.map_or(begins, |tail| tail.end_offset);
            let kind = if first == end { DamageKind::FrontLost } else { reason.damage() };
            self.tell_damage(Damage { kind, place, until: None, first, end }, tell);
        }
        let mut ragged = Vec::new();
        for (damage, bytes) in std::mem::take(&mut self.ragged) {
            if damage.end <= self.durable_end && self.known.is_none() {
                self.damages += 1;
                tell(Finding::Damage(damage));
            } else {
                ragged.push((damage.place, padded_anew(&bytes)));
            }
        }
        let in_its_segment =
            |tail: Tail| gap.filter(|(place, _)| place.segment == tail.place.segment);
        let (reason, stopped_at) = match self.tail {
            tail if lost => (StopReason::Damaged, tail.map(|tail| tail.place)),
            None => (StopReason::Empty, None),
            Some(tail) if self.known.is_some() => (StopReason::Acknowledged, Some(tail.place)),
            Some(tail) => match in_its_segment(tail) {
                Some((place, reason)) => (reason, Some(place)),
                None => (StopReason::SegmentEnd, Some(tail.place)),
            },
        };
        let report = RecoveryReport {
            reason,
            stopped_at,
            log_start: 0,
            end_offset: end.max(self.durable_end),
            blocks: self.blocks,
            damages: self.damages,
            damaged_records: self.damaged_records,
        };
        // What is written to a file that is cut off would seem lost again with the rest of it.
        let cut = self.witness.and_then(|witness| self.cut_file(witness));
        let is_cut =
            cut.zip(self.tail).is_some_and(|(cut, tail)| cut.segment == tail.place.segment);
        let mut unused = self.files.split_off(self.tail_file.map_or(0, |file| file + 1));
        if lost && self.known.is_none() {
            // What is in them may be a part of what is lost.
            let offset = self.tail.map_or(0, |_| report.end_offset);
            for file in unused.drain(..) {
                segments.push(Segment::damaged(file.segment, file.bytes, offset));
            }
        }
        Recovered {
            report,
            tail: self.tail,
            goes_on: self.tail.is_some() && !lost && !is_cut,
            last: self.last,
            durable_end: self.durable_end,
            life: self.life,
            unused,
            ragged,
        }
    }
}

/// The block with zeros behind its payload.
fn padded_anew(block: &Bytes) -> Bytes {
    let payload_bytes = block.get(8..12).and_then(|bytes| bytes.try_into().ok());
    let payload_bytes = u32::from_le_bytes(payload_bytes.expect("a whole block was read"));
    let mut anew = block.to_vec();
    let whole = anew.len().next_multiple_of(BLOCK_ALIGN as usize);
    anew.truncate(HEADER_BYTES + payload_bytes as usize);
    anew.resize(whole, 0);
    Bytes::from(anew)
}
