//! What says from outside how far a log has come: a small file for each log, in another folder.
//!
//! ```text
//!   0        4        8     9       10       12     16       24            32         40         48
//!   | magic  | crc32c | ver | flags | reserved | 0  | newest | base_offset | accepted segment, position |
//!   | "LNCW" |  u32   | u8  |  u8   |   u16    |u32 |  u64   |     u64     |    u64     |     u64       |
//!
//!   48      56
//!   | bytes |
//!   |  u64  |
//! ```
//!
//! All numbers are little-endian. The CRC32C covers bytes 8.. and is seeded with the log, so that
//! the witness of another log is none. Flags: 1, the segment's first block was flushed; 2, there
//! is an accepted place.
//!
//! Every block but the last ones is known to be missing by those behind it. What is missing at the
//! end, a newest segment or a whole folder, nobody behind it can tell of: the log would begin anew at
//! an offset that it has given out before. So each log has a witness, which is written once a new
//! segment has its first durable block. It is behind what it tells of, never ahead: a crash between
//! the two leaves a log that has come further than its witness says, and that is no damage.
//!
//! How many records were in what is missing is not known. The log goes on
//! [`LOST_END_OFFSETS`](crate::limits::LOST_END_OFFSETS) behind the last offset that is known of,
//! further than it can have come, so that no offset is given out twice.
//!
//! *Accepted* is what an operator has taken as final: damage before that place is told, and closes
//! nothing any more.

use lanecast_wire::checksum::{crc32c, crc32c_append};

use super::block::Place;
use super::{Log, Medium, Operation, checksum_seed};
use crate::disk::Operations;
use crate::limits::RECOVERY_BACKOFF_US_MAX;
use crate::{DiskRequest, LogId, Now, SegmentId};

/// Length of an encoded witness.
pub const WITNESS_BYTES: usize = 56;

const MAGIC: [u8; 4] = *b"LNCW";
const VERSION: u8 = 1;
const FLUSHED: u8 = 1;
const ACCEPTED: u8 = 2;

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The newest segment that has had a block.
    pub newest: SegmentId,
    /// The first offset in that segment.
    pub base_offset: u64,
    /// Size of that segment's file.
    pub bytes: u64,
    /// The block was flushed. Else a power cut may have taken it, though not the file.
    pub flushed: bool,
    /// Damage before this place is final.
    pub accepted: Option<Place>,
}

impl Witness {
    #[must_use]
    pub fn encode(&self, log: LogId) -> [u8; WITNESS_BYTES] {
        let mut out = [0; WITNESS_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[8] = VERSION;
        out[9] = u8::from(self.flushed) * FLUSHED + u8::from(self.accepted.is_some()) * ACCEPTED;
        out[16..24].copy_from_slice(&self.newest.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.base_offset.to_le_bytes());
        if let Some(place) = self.accepted {
            out[32..40].copy_from_slice(&place.segment.0.to_le_bytes());
            out[40..48].copy_from_slice(&place.position.to_le_bytes());
        }
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = checksum(log, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None`: the bytes are no witness of this log.
    #[must_use]
    pub fn decode(bytes: &[u8], log: LogId) -> Option<Self> {
        let bytes: &[u8; WITNESS_BYTES] = bytes.try_into().ok()?;
        let crc = u32::from_le_bytes(*bytes[4..].first_chunk()?);
        if bytes[..4] != MAGIC || bytes[8] != VERSION || crc != checksum(log, &bytes[8..]) {
            return None;
        }
        let number = |at: usize| bytes[at..].first_chunk().map(|found| u64::from_le_bytes(*found));
        let place = Place { segment: SegmentId(number(32)?), position: number(40)? };
        Some(Witness {
            newest: SegmentId(number(16)?),
            base_offset: number(24)?,
            bytes: number(48)?,
            flushed: bytes[9] & FLUSHED != 0,
            accepted: (bytes[9] & ACCEPTED != 0).then_some(place),
        })
    }
}

fn checksum(log: LogId, covered: &[u8]) -> u32 {
    crc32c_append(crc32c(&checksum_seed(log)), covered)
}

/// The witness of an open log, as it is on the medium and as it should be.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    given: Option<Witness>,
    under_way: bool,
    /// The last attempt failed; not before this time again.
    retry_at_us: Option<u64>,
}

impl Testimony {
    /// What was found when the log was listed.
    pub(super) fn found(&mut self, witness: Option<Witness>) {
        *self = Testimony { given: witness, ..Testimony::default() };
    }

    pub(super) fn given(&self) -> Option<Witness> {
        self.given
    }

    pub(super) fn written(&mut self, witness: Witness) {
        *self = Testimony { given: Some(witness), ..Testimony::default() };
    }

    /// Nothing is lost by it but the knowledge of a loss: the log goes on.
    pub(super) fn failed(&mut self, now: Now) {
        self.under_way = false;
        self.retry_at_us = Some(now.mono_us + RECOVERY_BACKOFF_US_MAX);
    }

    pub(super) fn retry_at_us(&self) -> Option<u64> {
        self.retry_at_us
    }
}

impl Log {
    /// What the witness of this log should say.
    fn testimony(&self) -> Option<Witness> {
        let newest = self.known?.place.segment;
        let given = self.testimony.given();
        let (base_offset, bytes) = self.segments.base_of(newest)?;
        Some(Witness {
            newest,
            base_offset,
            bytes,
            flushed: self.config.medium == Medium::Disk { sync: true },
            accepted: given.and_then(|given| given.accepted).filter(|_| !self.damages.is_empty()),
        })
    }

    /// Writes down how far the log has come, if that is not written yet.
    pub(super) fn testify(&mut self, now: Now, operations: &mut Operations) {
        let waits = self.testimony.retry_at_us.is_some_and(|at_us| now.mono_us < at_us);
        if !self.is_open() || self.testimony.under_way || waits {
            return;
        }
        let Some(wanted) = self.testimony() else { return };
        // One that tells of a later segment is of files that are lost: it goes with the next one.
        if self.testimony.given.is_some_and(|given| given.newest >= wanted.newest) {
            return;
        }
        self.testimony.under_way = true;
        self.testimony.retry_at_us = None;
        let request = DiskRequest::WriteWitness { log: self.config.id, witness: wanted };
        self.submit(Operation::Witness(wanted), request, operations);
    }
}

#[cfg(test)]
mod tests {
    use lanecast_wire::{PartitionId, TopicId};

    use super::*;

    const LOG: LogId = LogId::Data(PartitionId { topic: TopicId(3), index: 7 });

    #[test]
    fn layout_is_the_documented_one_and_every_flipped_bit_is_found() {
        let place = Place { segment: SegmentId(4), position: 8192 };
        let witness = Witness {
            newest: SegmentId(5),
            base_offset: 0x0102,
            bytes: 0x0304,
            flushed: true,
            accepted: Some(place),
        };
        let bytes = witness.encode(LOG);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "4c4e4357 9cbd4319 01 03 0000 00000000 0500000000000000 0201000000000000 \
                      0400000000000000 0020000000000000 0403000000000000";
        assert_eq!(hex, golden.replace(' ', ""));
        assert_eq!(Witness::decode(&bytes, LOG), Some(witness));
        let plain = Witness { flushed: false, accepted: None, ..witness };
        assert_eq!(Witness::decode(&plain.encode(LOG), LOG), Some(plain));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Witness::decode(&damaged, LOG), None, "bit {bit}");
        }
        assert_eq!(Witness::decode(&bytes[..55], LOG), None);
        assert_eq!(Witness::decode(&bytes, LogId::Catalog), None);
    }
}
