//! What a group writes to its partition's `Groups` log.
//!
//! ```text
//!  0      1      2          4        8
//!  | ver  | kind | reserved | group  | body, by kind
//!  |  u8  |  u8  |   u16    |  u32   |
//!
//!  1 created   | start u64 | epoch u32 | name_len u16 | reserved u16 | name
//!  2 opened    | epoch u32 | reserved u32
//!  3 bound     | first u64 | last u64 | bytes u32 | reserved u32
//!  4 done      | count u32 | reserved u32 | count x (first u64, last u64)
//!  5 failed    | first u64 | attempts u32 | reserved u32
//!  6 skipped   | upto u64
//!  7 snapshot  | start u64 | bound_upto u64 | epoch u32 | name_len u16 | reserved u16
//!              | chunks u32 | reserved u32 | name
//!              | chunks x (first u64, last u64, bytes u32, attempts u32)
//!  8 cut       | upto u64
//! 32 passed    | from u64 | upto u64
//! ```
//!
//! All numbers are little-endian, ranges include both ends, reserved bytes are zero. The log that
//! carries these records sums them; a record that does not read is a broken broker or a newer one.
//!
//! `done` names ranges of offsets, not chunks, so that acks of parts of a chunk, down to one record,
//! need no new layout. Every record may be applied twice, and a snapshot may be followed by records
//! that it already contains.

use bytes::{BufMut, Bytes, BytesMut};
use lanecast_wire::Offset;
use lanecast_wire::limits::NAME_BYTES_MAX;

use super::GroupId;
use super::limits::CHUNKS_OPEN_MAX;

/// Layout version of the records.
pub const RECORD_VERSION: u8 = 1;

const HEADER_BYTES: usize = 8;
/// A snapshot's bytes besides its name and chunks.
pub(super) const SNAPSHOT_FIXED_BYTES: usize = HEADER_BYTES + 32;
/// One open chunk in a snapshot.
pub(super) const CHUNK_BYTES: usize = 24;

/// One fact about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// The group exists from here on and begins at `start`.
    Created { start: Offset, epoch: u32, name: String },
    /// The broker has started again; generations of lower epochs are stale.
    Opened { epoch: u32 },
    /// A chunk's bounds, for ever.
    Bound { first: Offset, last: Offset, bytes: u32 },
    /// These offsets are acked.
    Done { ranges: Vec<(Offset, Offset)> },
    /// The chunk beginning at `first` has been handed out `attempts` times without an ack.
    Failed { first: Offset, attempts: u32 },
    /// Retention took everything below `upto`.
    Skipped { upto: Offset },
    /// The whole group.
    Snapshot(GroupSnapshot),
    /// The partition has lost everything from `upto` on; those offsets come again.
    Cut { upto: Offset },
    /// Records from `from` up to before `upto` are damaged: no chunk has them.
    Passed { from: Offset, upto: Offset },
}

/// Everything that a group has to remember. What is below `bound_upto` and in no chunk is acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    pub name: String,
    pub start: Offset,
    pub bound_upto: Offset,
    pub epoch: u32,
    /// Rising, without overlap, all below `bound_upto`.
    pub chunks: Vec<OpenChunk>,
}

/// A chunk that is bound and not acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChunk {
    pub first: Offset,
    pub last: Offset,
    pub bytes: u32,
    pub attempts: u32,
}

/// Bytes that are not a group record, or one that contradicts those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group record {what}")]
pub struct InvalidRecord {
    pub what: &'static str,
}

pub(super) fn invalid(what: &'static str) -> InvalidRecord {
    InvalidRecord { what }
}

impl GroupRecord {
    /// The record as it stands in the log.
    #[must_use]
    pub fn encode(&self, group: GroupId) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(RECORD_VERSION);
        out.put_u8(self.kind());
        out.put_u16_le(0);
        out.put_u32_le(group.0);
        match self {
            GroupRecord::Created { start, epoch, name } => {
                out.put_u64_le(start.0);
                out.put_u32_le(*epoch);
                put_name_bytes(&mut out, name);
                out.put_slice(name.as_bytes());
            }
            GroupRecord::Opened { epoch } => {
                out.put_u32_le(*epoch);
                out.put_u32_le(0);
            }
            GroupRecord::Bound { first, last, bytes } => {
                out.put_u64_le(first.0);
                out.put_u64_le(last.0);
                out.put_u32_le(*bytes);
                out.put_u32_le(0);
            }
            GroupRecord::Done { ranges } => {
                out.put_u32_le(ranges.len() as u32);
                out.put_u32_le(0);
                for (first, last) in ranges {
                    out.put_u64_le(first.0);
                    out.put_u64_le(last.0);
                }
            }
            GroupRecord::Failed { first, attempts } => {
                out.put_u64_le(first.0);
                out.put_u32_le(*attempts);
                out.put_u32_le(0);
            }
            GroupRecord::Skipped { upto } | GroupRecord::Cut { upto } => out.put_u64_le(upto.0),
            GroupRecord::Passed { from, upto } => {
                out.put_u64_le(from.0);
                out.put_u64_le(upto.0);
            }
            GroupRecord::Snapshot(snapshot) => snapshot.put(&mut out),
        }
        out.freeze()
    }

    /// Reads one record.
    ///
    /// # Errors
    /// The bytes are not exactly one record of this version within the limits.
    pub fn decode(bytes: &[u8]) -> Result<(GroupId, GroupRecord), InvalidRecord> {
        let mut fields = Fields { rest: bytes };
        if fields.u8()? != RECORD_VERSION {
            return Err(invalid("has an unknown version"));
        }
        let kind = fields.u8()?;
        fields.reserved(2)?;
        let group = GroupId(fields.u32()?);
        let record = match kind {
            1 => {
                let start = fields.offset()?;
                let epoch = fields.u32()?;
                let name_bytes = fields.name_bytes()?;
                GroupRecord::Created { start, epoch, name: fields.name(name_bytes)? }
            }
            2 => {
                let epoch = fields.u32()?;
                fields.reserved(4)?;
                GroupRecord::Opened { epoch }
            }
            3 => {
                let (first, last) = fields.range()?;
                let bytes = fields.u32()?;
                fields.reserved(4)?;
                GroupRecord::Bound { first, last, bytes }
            }
            4 => {
                let count = fields.count(CHUNKS_OPEN_MAX)?;
                let ranges = (0..count).map(|_| fields.range()).collect::<Result<_, _>>()?;
                GroupRecord::Done { ranges }
            }
            5 => {
                let first = fields.offset()?;
                let attempts = fields.u32()?;
                fields.reserved(4)?;
                GroupRecord::Failed { first, attempts }
            }
            6 => GroupRecord::Skipped { upto: fields.offset()? },
            7 => GroupRecord::Snapshot(GroupSnapshot::read(&mut fields)?),
            8 => GroupRecord::Cut { upto: fields.offset()? },
            32 => GroupRecord::Passed { from: fields.offset()?, upto: fields.offset()? },
            _ => return Err(invalid("is of an unknown kind")),
        };
        if !fields.rest.is_empty() {
            return Err(invalid("has bytes left over"));
        }
        Ok((group, record))
    }

    fn kind(&self) -> u8 {
        match self {
            GroupRecord::Created { .. } => 1,
            GroupRecord::Opened { .. } => 2,
            GroupRecord::Bound { .. } => 3,
            GroupRecord::Done { .. } => 4,
            GroupRecord::Failed { .. } => 5,
            GroupRecord::Skipped { .. } => 6,
            GroupRecord::Snapshot(_) => 7,
            GroupRecord::Cut { .. } => 8,
            GroupRecord::Passed { .. } => 32,
        }
    }
}

impl GroupSnapshot {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.start.0);
        out.put_u64_le(self.bound_upto.0);
        out.put_u32_le(self.epoch);
        put_name_bytes(out, &self.name);
        out.put_u32_le(self.chunks.len() as u32);
        out.put_u32_le(0);
        out.put_slice(self.name.as_bytes());
        for chunk in &self.chunks {
            out.put_u64_le(chunk.first.0);
            out.put_u64_le(chunk.last.0);
            out.put_u32_le(chunk.bytes);
            out.put_u32_le(chunk.attempts);
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, InvalidRecord> {
        let start = fields.offset()?;
        let bound_upto = fields.offset()?;
        let epoch = fields.u32()?;
        let name_bytes = fields.name_bytes()?;
        let count = fields.count(CHUNKS_OPEN_MAX)?;
        let name = fields.name(name_bytes)?;
        let mut chunks = Vec::with_capacity(count);
        let mut upto = start;
        for _ in 0..count {
            let (first, last) = fields.range()?;
            let (bytes, attempts) = (fields.u32()?, fields.u32()?);
            if first < upto || last >= bound_upto {
                return Err(invalid("has chunks out of order"));
            }
            upto = Offset(last.0 + 1);
            chunks.push(OpenChunk { first, last, bytes, attempts });
        }
        if upto > bound_upto {
            return Err(invalid("starts behind its end"));
        }
        Ok(Self { name, start, bound_upto, epoch, chunks })
    }
}

fn put_name_bytes(out: &mut BytesMut, name: &str) {
    debug_assert!((1..=NAME_BYTES_MAX).contains(&name.len()));
    out.put_u16_le(name.len() as u16);
    out.put_u16_le(0);
}

/// Reads fields off the front of a slice.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], InvalidRecord> {
        let (front, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| invalid("is cut short"))?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidRecord> {
        Ok(self.take(N)?.try_into().expect("take gives exactly N bytes"))
    }

    fn u8(&mut self) -> Result<u8, InvalidRecord> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, InvalidRecord> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, InvalidRecord> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// An offset; the highest number is none, so that the offset behind one always exists.
    fn offset(&mut self) -> Result<Offset, InvalidRecord> {
        let offset = u64::from_le_bytes(self.array()?);
        if offset == u64::MAX { Err(invalid("has no such offset")) } else { Ok(Offset(offset)) }
    }

    fn range(&mut self) -> Result<(Offset, Offset), InvalidRecord> {
        let (first, last) = (self.offset()?, self.offset()?);
        if first > last {
            Err(invalid("has a range that ends before it begins"))
        } else {
            Ok((first, last))
        }
    }

    fn reserved(&mut self, bytes: usize) -> Result<(), InvalidRecord> {
        if self.take(bytes)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(invalid("uses reserved bytes"))
        }
    }

    fn count(&mut self, max: usize) -> Result<usize, InvalidRecord> {
        let count = self.u32()? as usize;
        self.reserved(4)?;
        if count > max { Err(invalid("has more entries than the limit")) } else { Ok(count) }
    }

    fn name_bytes(&mut self) -> Result<usize, InvalidRecord> {
        let bytes = usize::from(self.u16()?);
        self.reserved(2)?;
        if (1..=NAME_BYTES_MAX).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(invalid("has a name of a bad length"))
        }
    }

    fn name(&mut self, bytes: usize) -> Result<String, InvalidRecord> {
        let name = std::str::from_utf8(self.take(bytes)?);
        name.map(str::to_owned).map_err(|_| invalid("has a name that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn every_kind() -> [GroupRecord; 9] {
        [
            GroupRecord::Created { start: Offset(7), epoch: 1, name: "ch".into() },
            GroupRecord::Opened { epoch: 2 },
            GroupRecord::Bound { first: Offset(7), last: Offset(0x0102), bytes: 99 },
            GroupRecord::Done { ranges: vec![(Offset(7), Offset(7)), (Offset(9), Offset(12))] },
            GroupRecord::Failed { first: Offset(7), attempts: 3 },
            GroupRecord::Skipped { upto: Offset(500) },
            GroupRecord::Snapshot(GroupSnapshot {
                name: "ch".into(),
                start: Offset(7),
                bound_upto: Offset(20),
                epoch: 4,
                chunks: vec![OpenChunk {
                    first: Offset(10),
                    last: Offset(19),
                    bytes: 640,
                    attempts: 1,
                }],
            }),
            GroupRecord::Cut { upto: Offset(15) },
            GroupRecord::Passed { from: Offset(15), upto: Offset(17) },
        ]
    }

    #[test]
    fn layout_is_the_documented_one() {
        let golden = [
            "0101000005000000 0700000000000000 01000000 0200 0000 6368",
            "0102000005000000 02000000 00000000",
            "0103000005000000 0700000000000000 0201000000000000 63000000 00000000",
            "0104000005000000 02000000 00000000 0700000000000000 0700000000000000 \
             0900000000000000 0c00000000000000",
            "0105000005000000 0700000000000000 03000000 00000000",
            "0106000005000000 f401000000000000",
            "0107000005000000 0700000000000000 1400000000000000 04000000 0200 0000 \
             01000000 00000000 6368 0a00000000000000 1300000000000000 80020000 01000000",
            "0108000005000000 0f00000000000000",
            "0120000005000000 0f00000000000000 1100000000000000",
        ];
        for (record, golden) in every_kind().iter().zip(golden) {
            let bytes = record.encode(GroupId(5));
            assert_eq!(hex(&bytes), golden.replace(' ', ""), "{record:?}");
            assert_eq!(GroupRecord::decode(&bytes), Ok((GroupId(5), record.clone())));
        }
    }

    #[test]
    fn cut_or_padded_records_are_refused() {
        for record in every_kind() {
            let bytes = record.encode(GroupId(5)).to_vec();
            for cut in 0..bytes.len() {
                assert!(GroupRecord::decode(&bytes[..cut]).is_err(), "{record:?} cut at {cut}");
            }
            let padded = [bytes.as_slice(), &[0]].concat();
            assert!(GroupRecord::decode(&padded).is_err(), "{record:?} padded");
        }
    }

    #[test]
    fn the_longest_snapshot_fits_the_limit() {
        let chunks = (0..CHUNKS_OPEN_MAX as u64)
            .map(|n| OpenChunk { first: Offset(n), last: Offset(n), bytes: 1, attempts: 0 })
            .collect();
        let snapshot = GroupSnapshot {
            name: "n".repeat(NAME_BYTES_MAX),
            start: Offset(0),
            bound_upto: Offset(CHUNKS_OPEN_MAX as u64),
            epoch: 1,
            chunks,
        };
        let record = GroupRecord::Snapshot(snapshot);
        let bytes = record.encode(GroupId(1));
        assert_eq!(bytes.len(), super::super::limits::RECORD_BYTES_MAX);
        assert_eq!(GroupRecord::decode(&bytes), Ok((GroupId(1), record)));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_what_reads_writes_back_the_same(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
            kind in 0_u8..10,
        ) {
            if bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[RECORD_VERSION, kind, 0, 0]);
            }
            if let Ok((group, record)) = GroupRecord::decode(&bytes) {
                prop_assert_eq!(record.encode(group).to_vec(), bytes);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics_recovery(at in 0_usize..200, bits in 1_u8..) {
            let mut recovery = super::super::GroupsRecovery::new();
            for record in every_kind() {
                let mut bytes = record.encode(GroupId(5)).to_vec();
                let length = bytes.len();
                bytes[at % length] ^= bits;
                let _outcome_is_a_value = recovery.apply(&bytes);
            }
            let _groups = recovery.finish();
        }
    }
}
