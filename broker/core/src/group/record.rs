//! What a group writes to its partition's `Groups` log.
//!
//! ```text
//!  0      1      2          4        8
//!  | ver  | kind | reserved | group  | body, by kind
//!  |  u8  |  u8  |   u16    |  u32   |
//!
//!  1 created   | start u64 | epoch u32 | name_len u16 | reserved u16 | producer u64 | name
//!  2 opened    | epoch u32 | reserved u32
//!  3 bound     | first u64 | last u64 | bytes u32 | reserved u32 | appended_ms i64
//!  4 done      | ranges u32 | reserved u32 | ranges x (first u64, last u64)
//!  5 failed    | first u64 | last u64 | attempts u32 | reserved u32
//!  6 skipped   | upto u64
//!  7 snapshot  | start u64 | bound_upto u64 | epoch u32 | name_len u16 | reserved u16
//!              | producer u64 | dead_epoch u32 | chunks u32 | dying u32 | reserved u32 | name
//!              | chunks x ( first u64 | last u64 | bytes u32 | attempts u32 | appended_ms i64
//!                         | ranges u32 | reserved u32 | ranges x (first u64, last u64) )
//!              | dying x (as dying)
//!  8 cut       | upto u64
//!  9 split     | first u64 | last u64 | part first u64 | part last u64 | attempts u32
//!              | reserved u32
//! 10 dying     | epoch u32 | attempts u32 | at_ms i64 | ranges u32 | reason_len u32
//!              | ranges x (first u64, last u64) | reason
//! 11 buried    | epoch u32 | reserved u32
//! 12 moved     | to u64 | epoch u32 | reserved u32
//! 13 deleted   | epoch u32 | reserved u32
//! 32 passed    | from u64 | upto u64
//! ```
//!
//! All numbers are little-endian, ranges include both ends, reserved bytes are zero. The log that
//! carries these records sums them; a record that does not read is a broken broker or a newer one.
//!
//! `done` names ranges of offsets, not chunks: an offset is open in one chunk at the most. `deleted`
//! of group 0 says only that generations up to this epoch are used up. Every record may be applied
//! twice, and a snapshot may be followed by records that it already contains, but for `moved` and
//! `cut`: those come after everything that was decided before them.

use bytes::{BufMut, Bytes, BytesMut};
use lanecast_wire::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use lanecast_wire::{Offset, ProducerId};

use super::GroupId;
use super::ledger::{ChunkKey, Dying, Ledger, OpenChunk};
use super::limits::{CHUNKS_OPEN_MAX, DYING_MAX, RANGES_MAX};
use super::ranges::Ranges;

/// Layout version of the records.
pub const RECORD_VERSION: u8 = 2;

const HEADER_BYTES: usize = 8;
/// A snapshot's bytes besides its name, chunks, dying and ranges.
pub(super) const SNAPSHOT_FIXED_BYTES: usize = HEADER_BYTES + 48;
/// One open chunk in a snapshot, without its ranges.
pub(super) const CHUNK_BYTES: usize = 40;
/// One dead letter in a snapshot, without its ranges and reason.
pub(super) const DYING_BYTES: usize = 24;
pub(super) const RANGE_BYTES: usize = 16;

/// One fact about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// The group exists from here on and begins at `start`.
    Created { start: Offset, epoch: u32, producer: ProducerId, name: String },
    /// The broker has started again; generations of lower epochs are stale.
    Opened { epoch: u32 },
    /// A chunk's bounds, for ever, and when its newest batch was appended.
    Bound { first: Offset, last: Offset, bytes: u32, appended_ms: i64 },
    /// These offsets are finished: acked or past their time.
    Done { ranges: Vec<(Offset, Offset)> },
    /// That many hand-outs of the chunk have failed.
    Failed { chunk: ChunkKey, attempts: u32 },
    /// Retention took everything below `upto`.
    Skipped { upto: Offset },
    /// The whole group.
    Snapshot(Box<Ledger>),
    /// The partition has lost everything from `upto` on; those offsets come again.
    Cut { upto: Offset },
    /// What is open of `parent` within the bounds of `part` is a chunk of its own from here on.
    Split { parent: ChunkKey, part: ChunkKey, attempts: u32 },
    /// These offsets are to go to the dead-letter topic.
    Dying(Dying),
    /// They are there.
    Buried { epoch: u32 },
    /// The group goes on at `to`, whatever it had open.
    Moved { to: Offset, epoch: u32 },
    /// The group is gone; one that is made later begins above this epoch.
    Deleted { epoch: u32 },
    /// Records from `from` up to before `upto` are damaged: no chunk has them.
    Passed { from: Offset, upto: Offset },
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
            GroupRecord::Created { start, epoch, producer, name } => {
                out.put_u64_le(start.0);
                out.put_u32_le(*epoch);
                put_name_bytes(&mut out, name);
                out.put_u64_le(producer.0);
                out.put_slice(name.as_bytes());
            }
            GroupRecord::Opened { epoch }
            | GroupRecord::Buried { epoch }
            | GroupRecord::Deleted { epoch } => put_padded(&mut out, *epoch),
            GroupRecord::Bound { first, last, bytes, appended_ms } => {
                put_range(&mut out, *first, *last);
                put_padded(&mut out, *bytes);
                out.put_i64_le(*appended_ms);
            }
            GroupRecord::Done { ranges } => {
                put_padded(&mut out, ranges.len() as u32);
                put_ranges(&mut out, ranges);
            }
            GroupRecord::Failed { chunk, attempts } => {
                put_range(&mut out, chunk.first, chunk.last);
                put_padded(&mut out, *attempts);
            }
            GroupRecord::Skipped { upto } | GroupRecord::Cut { upto } => out.put_u64_le(upto.0),
            GroupRecord::Passed { from, upto } => put_range(&mut out, *from, *upto),
            GroupRecord::Snapshot(ledger) => put_ledger(&mut out, ledger),
            GroupRecord::Split { parent, part, attempts } => {
                put_range(&mut out, parent.first, parent.last);
                put_range(&mut out, part.first, part.last);
                put_padded(&mut out, *attempts);
            }
            GroupRecord::Dying(dying) => put_dying(&mut out, dying),
            GroupRecord::Moved { to, epoch } => {
                out.put_u64_le(to.0);
                put_padded(&mut out, *epoch);
            }
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
                let producer = ProducerId(fields.u64()?);
                GroupRecord::Created { start, epoch, producer, name: fields.text(name_bytes)? }
            }
            2 => GroupRecord::Opened { epoch: fields.padded()? },
            3 => {
                let (first, last) = fields.range()?;
                let bytes = fields.padded()?;
                GroupRecord::Bound { first, last, bytes, appended_ms: fields.i64()? }
            }
            4 => {
                let count = at_most(fields.padded()?, RANGES_MAX)?;
                let ranges = (0..count).map(|_| fields.range()).collect::<Result<_, _>>()?;
                GroupRecord::Done { ranges }
            }
            5 => {
                let chunk = fields.key()?;
                GroupRecord::Failed { chunk, attempts: fields.padded()? }
            }
            6 => GroupRecord::Skipped { upto: fields.offset()? },
            7 => GroupRecord::Snapshot(Box::new(read_ledger(&mut fields)?)),
            8 => GroupRecord::Cut { upto: fields.offset()? },
            9 => {
                let (parent, part) = (fields.key()?, fields.key()?);
                GroupRecord::Split { parent, part, attempts: fields.padded()? }
            }
            10 => GroupRecord::Dying(read_dying(&mut fields)?),
            11 => GroupRecord::Buried { epoch: fields.padded()? },
            12 => {
                let to = fields.offset()?;
                GroupRecord::Moved { to, epoch: fields.padded()? }
            }
            13 => GroupRecord::Deleted { epoch: fields.padded()? },
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
            GroupRecord::Split { .. } => 9,
            GroupRecord::Dying(_) => 10,
            GroupRecord::Buried { .. } => 11,
            GroupRecord::Moved { .. } => 12,
            GroupRecord::Deleted { .. } => 13,
            GroupRecord::Passed { .. } => 32,
        }
    }
}

/// The records that stand for all groups of a partition.
pub(super) fn snapshot<'a>(
    used_epoch: u32,
    ledgers: impl Iterator<Item = (GroupId, &'a Ledger)>,
) -> Vec<Bytes> {
    let used = GroupRecord::Deleted { epoch: used_epoch };
    let used = (used_epoch > 0).then(|| used.encode(GroupId(0)));
    let record = |(id, ledger): (GroupId, &Ledger)| {
        GroupRecord::Snapshot(Box::new(ledger.clone())).encode(id)
    };
    used.into_iter().chain(ledgers.map(record)).collect()
}

fn put_ledger(out: &mut BytesMut, ledger: &Ledger) {
    out.put_u64_le(ledger.start.0);
    out.put_u64_le(ledger.bound_upto.0);
    out.put_u32_le(ledger.epoch);
    put_name_bytes(out, &ledger.name);
    out.put_u64_le(ledger.producer.0);
    out.put_u32_le(ledger.dead_epoch);
    out.put_u32_le(ledger.chunks.len() as u32);
    put_padded(out, ledger.dying.len() as u32);
    out.put_slice(ledger.name.as_bytes());
    for chunk in ledger.chunks.values() {
        put_range(out, chunk.key.first, chunk.key.last);
        out.put_u32_le(chunk.bytes);
        out.put_u32_le(chunk.attempts);
        out.put_i64_le(chunk.appended_ms);
        put_padded(out, chunk.settled.len() as u32);
        put_ranges(out, chunk.settled.as_slice());
    }
    for dying in ledger.dying.values() {
        put_dying(out, dying);
    }
}

fn read_ledger(fields: &mut Fields<'_>) -> Result<Ledger, InvalidRecord> {
    let start = fields.offset()?;
    let bound_upto = fields.offset()?;
    let epoch = fields.u32()?;
    let name_bytes = fields.name_bytes()?;
    let producer = ProducerId(fields.u64()?);
    let dead_epoch = fields.u32()?;
    let chunks = at_most(fields.u32()?, CHUNKS_OPEN_MAX)?;
    let dying = at_most(fields.padded()?, DYING_MAX)?;
    let mut ledger = Ledger::new(&fields.text(name_bytes)?, producer, start, epoch);
    (ledger.bound_upto, ledger.dead_epoch) = (bound_upto, dead_epoch);
    if start > bound_upto {
        return Err(invalid("starts behind its end"));
    }
    for _ in 0..chunks {
        let key = fields.key()?;
        let (bytes, attempts) = (fields.u32()?, fields.u32()?);
        let appended_ms = fields.i64()?;
        let count = at_most(fields.padded()?, RANGES_MAX)?;
        let settled = fields.ranges(count)?;
        let chunk = OpenChunk { key, bytes, attempts, appended_ms, settled };
        let within =
            chunk.settled.as_slice().iter().all(|(first, last)| key.contains(*first, *last));
        if !within || chunk.open_records() == 0 {
            return Err(invalid("has a chunk with ranges outside it"));
        }
        let behind = ledger.chunks.last_key_value().is_none_or(|(before, _)| *before < key);
        if !behind || key.first < start || key.last >= bound_upto {
            return Err(invalid("has chunks out of order"));
        }
        ledger.chunks.insert(key, chunk);
    }
    for _ in 0..dying {
        let dying = read_dying(fields)?;
        let behind = ledger.dying.last_key_value().is_none_or(|(before, _)| *before < dying.epoch);
        if !behind || dying.epoch > dead_epoch {
            return Err(invalid("has dead letters out of order"));
        }
        ledger.dying.insert(dying.epoch, dying);
    }
    Ok(ledger)
}

fn put_dying(out: &mut BytesMut, dying: &Dying) {
    out.put_u32_le(dying.epoch);
    out.put_u32_le(dying.attempts);
    out.put_i64_le(dying.at_ms);
    out.put_u32_le(dying.ranges.len() as u32);
    out.put_u32_le(dying.reason.len() as u32);
    put_ranges(out, dying.ranges.as_slice());
    out.put_slice(dying.reason.as_bytes());
}

fn read_dying(fields: &mut Fields<'_>) -> Result<Dying, InvalidRecord> {
    let (epoch, attempts) = (fields.u32()?, fields.u32()?);
    let at_ms = fields.i64()?;
    let count = at_most(fields.u32()?, RANGES_MAX)?;
    let reason_bytes = at_most(fields.u32()?, TEXT_BYTES_MAX)?;
    let ranges = fields.ranges(count)?;
    if ranges.is_empty() {
        return Err(invalid("gives up nothing"));
    }
    Ok(Dying { epoch, attempts, at_ms, ranges, reason: fields.text(reason_bytes)? })
}

fn put_range(out: &mut BytesMut, first: Offset, last: Offset) {
    out.put_u64_le(first.0);
    out.put_u64_le(last.0);
}

fn put_ranges(out: &mut BytesMut, ranges: &[(Offset, Offset)]) {
    for (first, last) in ranges {
        put_range(out, *first, *last);
    }
}

/// A number and four reserved bytes.
fn put_padded(out: &mut BytesMut, number: u32) {
    out.put_u32_le(number);
    out.put_u32_le(0);
}

fn at_most(count: u32, max: usize) -> Result<usize, InvalidRecord> {
    let count = count as usize;
    if count > max { Err(invalid("has more entries than the limit")) } else { Ok(count) }
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

    fn u64(&mut self) -> Result<u64, InvalidRecord> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, InvalidRecord> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A number and four reserved bytes.
    fn padded(&mut self) -> Result<u32, InvalidRecord> {
        let number = self.u32()?;
        self.reserved(4)?;
        Ok(number)
    }

    /// An offset; the highest number is none, so that the offset behind one always exists.
    fn offset(&mut self) -> Result<Offset, InvalidRecord> {
        let offset = self.u64()?;
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

    fn key(&mut self) -> Result<ChunkKey, InvalidRecord> {
        let (first, last) = self.range()?;
        Ok(ChunkKey { first, last })
    }

    fn ranges(&mut self, count: usize) -> Result<Ranges, InvalidRecord> {
        let ranges = (0..count).map(|_| self.range()).collect::<Result<_, _>>()?;
        Ranges::from_rising(ranges).ok_or_else(|| invalid("has ranges out of order"))
    }

    fn reserved(&mut self, bytes: usize) -> Result<(), InvalidRecord> {
        if self.take(bytes)?.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(invalid("uses reserved bytes"))
        }
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

    fn text(&mut self, bytes: usize) -> Result<String, InvalidRecord> {
        let text = std::str::from_utf8(self.take(bytes)?);
        text.map(str::to_owned).map_err(|_| invalid("has text that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests;
