//! How the recovery of a log ended, in words and figures.

use std::fmt;

use super::block::{BlockFault, Place};
use super::damage::DamageKind;

/// Why the blocks of a log end.
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
    /// Acknowledged data is missing at the end.
    Damaged,
}

/// How a recovery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    pub reason: StopReason,
    /// Where the blocks end; `None` if there was no segment.
    pub stopped_at: Option<Place>,
    pub log_start: u64,
    pub end_offset: u64,
    pub blocks: u64,
    /// Damaged stretches, and the records that they held.
    pub damages: u64,
    pub damaged_records: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, end_offset, reason, .. } = self;
        write!(f, "{blocks} blocks up to offset {end_offset}, {}", reason.text())?;
        if let Some(place) = self.stopped_at {
            write!(f, " at segment {} position {}", place.segment.0, place.position)?;
        }
        match (self.damages, self.damaged_records) {
            (0, _) => Ok(()),
            (places, records) => write!(f, "; {places} damaged places, {records} records lost"),
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
            StopReason::Damaged => "damaged end",
        }
    }

    /// What the same is where it ends nothing.
    pub(super) fn damage(self) -> DamageKind {
        match self {
            StopReason::NotABlock => DamageKind::NotABlock,
            StopReason::Torn => DamageKind::Checksum,
            StopReason::CleanEnd => DamageKind::Zeros,
            StopReason::CutShort => DamageKind::CutShort,
            StopReason::Empty
            | StopReason::SegmentEnd
            | StopReason::Stale
            | StopReason::Acknowledged
            | StopReason::Damaged => DamageKind::Missing,
        }
    }
}

impl From<BlockFault> for StopReason {
    fn from(fault: BlockFault) -> Self {
        match fault {
            BlockFault::Short(_) => StopReason::CutShort,
            BlockFault::Blank => StopReason::CleanEnd,
            BlockFault::Foreign => StopReason::NotABlock,
            BlockFault::Checksum => StopReason::Torn,
        }
    }
}
