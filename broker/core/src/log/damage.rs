//! What is wrong with a log, and what that costs.
//!
//! A *damage* is a stretch of a log that does not read as what was written there. The records that
//! it held are gone for good; their offsets are a *hole*: known, reported, skipped by every reader,
//! and never given to other records.

use std::fmt;

use super::block::Place;
use crate::limits::DAMAGES_MAX;

/// What is found where a block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Bytes that are no block.
    NotABlock,
    /// A block with a wrong checksum.
    Checksum,
    /// Zeros.
    Zeros,
    /// The file ends inside the block.
    CutShort,
    /// The file ends, or the next one begins, without what should be there: a file is missing, or
    /// an earlier recovery has noted the loss.
    Missing,
    /// The oldest segment has lost its front, and with it an unknown number of records.
    FrontLost,
    /// The newest segments are gone, and with them an unknown number of records. The log goes on far
    /// behind all that can have been given out.
    EndLost,
    /// The zeros behind a block are none. The block itself is whole.
    Padding,
    /// A whole block with a record that this broker does not know: of another version, or of a log
    /// that has lost what it belongs to.
    Unreadable,
}

impl DamageKind {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            DamageKind::NotABlock => "no block",
            DamageKind::Checksum => "wrong checksum",
            DamageKind::Zeros => "zeros where a block was",
            DamageKind::CutShort => "file cut short",
            DamageKind::Missing => "blocks missing",
            DamageKind::FrontLost => "front of the log lost",
            DamageKind::EndLost => "newest segments lost",
            DamageKind::Padding => "padding not zero",
            DamageKind::Unreadable => "a record that this version cannot read",
        }
    }
}

/// One damaged stretch of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: DamageKind,
    /// Where it begins.
    pub place: Place,
    /// The next whole block; `None`: there is none behind it.
    pub until: Option<Place>,
    /// Offsets lost: from the first to before the end. Equal where no record is lost, or where
    /// it is not known how many ([`DamageKind::FrontLost`]). Of [`DamageKind::EndLost`] the end is where
    /// the log goes on.
    pub first: u64,
    pub end: u64,
}

impl Damage {
    /// Records lost, as far as that is known.
    #[must_use]
    pub fn records(&self) -> u64 {
        if self.kind == DamageKind::EndLost { 0 } else { self.end - self.first }
    }

    /// Offsets that have no record any more.
    pub(crate) fn is_hole(&self) -> bool {
        self.end > self.first
    }

    /// Is any record lost, known or not?
    #[must_use]
    pub fn loses_records(&self) -> bool {
        self.is_hole() || self.kind == DamageKind::FrontLost
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { segment, position } = self.place;
        write!(f, "{} at segment {} position {position}", self.kind.text(), segment.0)?;
        match (self.kind, self.records()) {
            (DamageKind::FrontLost, _) => write!(f, ", records before offset {} lost", self.end),
            (DamageKind::EndLost, _) => write!(
                f,
                ", records from offset {} on lost, nobody knows how many; offset {} is next",
                self.first, self.end
            ),
            (DamageKind::Unreadable, _) => write!(f, ", from offset {} on", self.first),
            (_, 0) => write!(f, ", no record lost"),
            (_, records) => {
                let last = self.end - 1;
                write!(f, ", offsets {}-{last} lost ({records} records)", self.first)
            }
        }
    }
}

/// All damages of a log, by offset.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    list: Vec<Damage>,
    records: u64,
}

impl Damages {
    pub(crate) fn clear(&mut self) {
        *self = Damages::default();
    }

    /// Enters a damage. False: there are too many.
    pub(crate) fn push(&mut self, damage: Damage) -> bool {
        if self.list.len() >= DAMAGES_MAX {
            return false;
        }
        self.records += damage.records();
        let at = self.list.partition_point(|other| other.first <= damage.first);
        self.list.insert(at, damage);
        true
    }

    /// The hole that holds this offset.
    pub(crate) fn find(&self, offset: u64) -> Option<&Damage> {
        let behind = self.list.partition_point(|damage| damage.first <= offset);
        self.list[..behind].iter().rev().find(|damage| damage.is_hole()).filter(|d| offset < d.end)
    }

    /// The damage that begins at this place.
    pub(crate) fn at(&self, place: Place) -> Option<&Damage> {
        let here = |damage: &&Damage| damage.place == place && damage.kind != DamageKind::Padding;
        self.list.iter().find(here)
    }

    /// Retention took everything below this offset.
    pub(crate) fn retain_from(&mut self, log_start: u64) {
        let gone = self.list.iter().take_while(|damage| damage.end <= log_start && log_start > 0);
        let gone = gone.count();
        for damage in self.list.drain(..gone) {
            self.records -= damage.records();
        }
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Damage> {
        self.list.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentId;

    fn damage(first: u64, end: u64) -> Damage {
        let place = Place { segment: SegmentId(1), position: first * 4096 };
        Damage { kind: DamageKind::Checksum, place, until: None, first, end }
    }

    #[test]
    fn offsets_in_a_hole_are_found_and_no_others() {
        let mut damages = Damages::default();
        for (first, end) in [(30, 35), (10, 20), (20, 20), (35, 36)] {
            assert!(damages.push(damage(first, end)));
        }
        assert_eq!(damages.records(), 16);
        let hit: Vec<u64> = (0..50).filter(|at| damages.find(*at).is_some()).collect();
        assert_eq!(hit, (10..20).chain(30..36).collect::<Vec<_>>());
        damages.retain_from(32);
        assert_eq!((damages.records(), damages.find(12)), (6, None));
    }

    #[test]
    fn a_damage_reads_as_a_sentence() {
        let text = damage(10, 20).to_string();
        assert_eq!(
            text,
            "wrong checksum at segment 1 position 40960, offsets 10-19 lost (10 records)"
        );
    }
}
