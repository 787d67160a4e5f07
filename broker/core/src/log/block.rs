//! The block: what one commit writes, and the only thing that a log consists of.
//!
//! ```text
//!  0        4        8             12    13    14        16            24      28         32
//!  | magic  | crc32c | payload_len | ver | kind| reserved| base_offset | count | previous |
//!  | "LNCK" |  u32   |     u32     | u8  | u8  |   u16   |     u64     |  u32  |   u32    |
//!  32        40               48            56            64
//!  | nonce   | append_time_ms | max_time_ms | durable_end | payload ... zeros up to 4 KiB |
//!  |  u64    |      i64       |     i64     |     u64     |
//! ```
//!
//! All numbers are little-endian. A block starts at a multiple of 4 KiB and is padded to one. The
//! CRC32C is that of the payload, of (log, segment, position) behind it, and of bytes 8.. to the end of
//! the header behind that: in this order, since the payload is summed while it comes in, before the rest
//! is known. A block that lies where it was not written, such as an old one in a recycled segment, is no
//! block. `previous` is the CRC of the block before it, in this or the last segment. The upper half of
//! `nonce` counts the lives of the log, one for each opening, and the lower half is drawn for each:
//! blocks that a torn write left behind are of an earlier life than what is written over them later,
//! and never continue its chain. `durable_end` is the offset below which everything was durable when
//! the block was sealed: what is missing below it is damage, and no torn write.

use bytes::{BufMut, Bytes, BytesMut};
use lanecast_wire::checksum::{crc32c, crc32c_append};

use super::sealed::SealedBlock;
use crate::limits::{BLOCK_ALIGN, BLOCK_PAYLOAD_BYTES_MAX};
use crate::mutants::{Mutant, planted};
use crate::{LogId, SegmentId};

pub(crate) const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"LNCK";
const VERSION: u8 = 3;

/// What is copied at a time, and then summed while it is in the nearest cache.
const SUMMED_BYTES: usize = 16 * 1024;

/// What the payload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockKind {
    /// Nothing: written when a log rests, so that its last blocks are known to be durable.
    Mark = 0,
    /// Batches, as they came from their producers.
    Batches = 1,
    /// Records with a length in front.
    Records = 2,
    /// A part of what a partition knows of its producers; more follows.
    ProducersPart = 3,
    /// The last part of what a partition knows of its producers.
    Producers = 4,
    /// Nothing: the first block of each life, so that everything before it is durable. Up to its offset,
    /// everything was found whole.
    Opening = 5,
}

impl BlockKind {
    fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(BlockKind::Mark),
            1 => Some(BlockKind::Batches),
            2 => Some(BlockKind::Records),
            3 => Some(BlockKind::ProducersPart),
            4 => Some(BlockKind::Producers),
            5 => Some(BlockKind::Opening),
            _ => None,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BlockKind::Mark => "mark",
            BlockKind::Opening => "opening",
            BlockKind::Batches => "batches",
            BlockKind::Records => "records",
            BlockKind::ProducersPart | BlockKind::Producers => "producers",
        }
    }
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: SegmentId,
    pub position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) crc: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) kind: BlockKind,
    pub(crate) base_offset: u64,
    /// Offsets that the payload covers.
    pub(crate) count: u32,
    pub(crate) previous: u32,
    pub(crate) nonce: u64,
    pub(crate) append_time_ms: i64,
    /// Largest time of a record in the payload.
    pub(crate) max_time_ms: i64,
    /// Everything below was durable when the block was sealed.
    pub(crate) durable_end: u64,
}

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockFault {
    /// The bytes end before the block does; it has this many.
    Short(u64),
    /// Zeros: nothing was ever written here.
    Blank,
    /// Something else, of an unknown layout or with impossible numbers.
    Foreign,
    /// The checksum is wrong: torn, damaged, or written for another place.
    Checksum,
}

impl BlockHeader {
    pub(crate) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        padded(HEADER_BYTES + self.payload_bytes as usize)
    }

    /// Which opening of the log wrote it.
    pub(crate) fn life(&self) -> u64 {
        self.nonce >> 32
    }

    /// Is the padding of this block, which is at the front of `bytes`, as it was written? Where
    /// not, nothing of the block itself is touched.
    pub(crate) fn is_padded_well(&self, bytes: &[u8]) -> bool {
        let end = HEADER_BYTES + self.payload_bytes as usize;
        let whole = (self.bytes_on_disk() as usize).min(bytes.len());
        bytes.get(end..whole).is_none_or(|padding| padding.iter().all(|byte| *byte == 0))
    }

    /// The header as it is written, in front of a payload with this sum. Notes the block's own.
    fn encode(&mut self, log: LogId, place: Place, payload_sum: u32) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        head[12] = VERSION;
        head[13] = self.kind as u8;
        head[16..24].copy_from_slice(&self.base_offset.to_le_bytes());
        head[24..28].copy_from_slice(&self.count.to_le_bytes());
        head[28..32].copy_from_slice(&self.previous.to_le_bytes());
        head[32..40].copy_from_slice(&self.nonce.to_le_bytes());
        head[40..48].copy_from_slice(&self.append_time_ms.to_le_bytes());
        head[48..56].copy_from_slice(&self.max_time_ms.to_le_bytes());
        head[56..64].copy_from_slice(&self.durable_end.to_le_bytes());
        self.crc = checksum(log, place, payload_sum, &head);
        head[4..8].copy_from_slice(&self.crc.to_le_bytes());
        head
    }

    /// Reads and checks the block at the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8], log: LogId, place: Place) -> Result<Self, BlockFault> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BlockFault::Short(BLOCK_ALIGN));
        };
        if head[..4] != MAGIC {
            let blank = head.iter().all(|byte| *byte == 0);
            return Err(if blank { BlockFault::Blank } else { BlockFault::Foreign });
        }
        let payload_bytes = u32_at(head, 8);
        let (Some(kind), VERSION) = (BlockKind::of(head[13]), head[12]) else {
            return Err(BlockFault::Foreign);
        };
        if payload_bytes as usize > BLOCK_PAYLOAD_BYTES_MAX {
            return Err(BlockFault::Foreign);
        }
        let header = BlockHeader {
            crc: u32_at(head, 4),
            payload_bytes,
            kind,
            base_offset: u64_at(head, 16),
            count: u32_at(head, 24),
            previous: u32_at(head, 28),
            nonce: u64_at(head, 32),
            append_time_ms: u64_at(head, 40).cast_signed(),
            max_time_ms: u64_at(head, 48).cast_signed(),
            durable_end: u64_at(head, 56),
        };
        let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + payload_bytes as usize) else {
            return Err(BlockFault::Short(header.bytes_on_disk()));
        };
        if (checksum(log, place, crc32c(payload), head) != header.crc
            && !planted(Mutant::AcceptTornBlock))
            || header.base_offset.checked_add(u64::from(header.count)).is_none()
            || header.durable_end > header.base_offset
        {
            return Err(BlockFault::Checksum);
        }
        Ok(header)
    }
}

/// One block in memory: header, payload, and perhaps its padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) header: BlockHeader,
    pub(crate) place: Place,
    pub(crate) payload: Bytes,
}

impl Block {
    pub(crate) fn base_offset(&self) -> u64 {
        self.header.base_offset
    }

    pub(crate) fn end_offset(&self) -> u64 {
        self.header.end_offset()
    }
}

/// A block that entries are still copied into: the one copy that the broker makes of a batch.
#[derive(Debug)]
pub(crate) struct OpenBlock {
    pub(crate) kind: BlockKind,
    pub(crate) base_offset: u64,
    pub(crate) count: u32,
    pub(crate) append_time_ms: i64,
    pub(crate) max_time_ms: i64,
    /// What is in front of the payload: room for the header, unless it was adopted.
    front_bytes: usize,
    bytes: BytesMut,
    /// Of the payload.
    sum: u32,
}

impl OpenBlock {
    /// An empty block in `bytes`, which is empty and has room for the header.
    pub(crate) fn new(kind: BlockKind, base_offset: u64, mut bytes: BytesMut) -> Self {
        debug_assert!(bytes.is_empty());
        bytes.put_bytes(0, HEADER_BYTES);
        OpenBlock {
            kind,
            base_offset,
            count: 0,
            append_time_ms: i64::MIN,
            max_time_ms: i64::MIN,
            front_bytes: HEADER_BYTES,
            bytes,
            sum: crc32c(&[]),
        }
    }

    /// A block made of entries that stay where they are. `sum` is theirs; nobody asks for that of a block
    /// that is [kept](Self::keep).
    pub(crate) fn adopted(
        kind: BlockKind,
        base_offset: u64,
        bytes: BytesMut,
        count: u32,
        sum: u32,
    ) -> Self {
        let (append_time_ms, max_time_ms) = (i64::MIN, i64::MIN);
        OpenBlock {
            kind,
            base_offset,
            count,
            append_time_ms,
            max_time_ms,
            front_bytes: 0,
            bytes,
            sum,
        }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.bytes.len() - self.front_bytes
    }

    /// Bytes that fit without moving the block, its padding included.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity().saturating_sub(self.bytes.len() + BLOCK_ALIGN as usize)
    }

    /// Moves what is in the block into `arena`, which is empty and larger.
    pub(crate) fn move_into(&mut self, mut arena: BytesMut) {
        debug_assert!(arena.is_empty() && arena.capacity() > self.bytes.len());
        arena.extend_from_slice(&self.bytes);
        self.bytes = arena;
    }

    /// Copies `parts` in.
    pub(crate) fn push(&mut self, parts: [&[u8]; 2], count: u32) {
        for piece in parts.into_iter().flat_map(|part| part.chunks(SUMMED_BYTES)) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(piece);
            self.sum = crc32c_append(self.sum, &self.bytes[start..]);
        }
        self.count += count;
    }

    /// The same for a block that is [kept](Self::keep): its sum is of no use.
    pub(crate) fn push_unsummed(&mut self, parts: [&[u8]; 2], count: u32) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.count += count;
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        padded(HEADER_BYTES + self.payload_bytes())
    }

    /// Splits off what the allocation has left behind this block, for the next one.
    pub(crate) fn split_rest(&mut self) -> BytesMut {
        let whole = self.bytes_on_disk() as usize;
        if self.bytes.capacity() > whole { self.bytes.split_off(whole) } else { BytesMut::new() }
    }

    /// Freezes a block that never goes to disk: nobody will check its sum.
    pub(crate) fn keep(self, place: Place) -> Block {
        let header = self.header();
        Block { header, place, payload: self.bytes.freeze().slice(self.front_bytes..) }
    }

    fn header(&self) -> BlockHeader {
        let payload_bytes = self.payload_bytes();
        BlockHeader {
            crc: 0,
            payload_bytes: u32::try_from(payload_bytes).expect("bounded by the payload maximum"),
            kind: self.kind,
            base_offset: self.base_offset,
            count: self.count,
            previous: 0,
            nonce: 0,
            append_time_ms: self.append_time_ms,
            max_time_ms: self.max_time_ms,
            durable_end: self.base_offset,
        }
    }

    /// Finishes the header and freezes: the block as it is read, and as it goes to disk.
    pub(crate) fn seal(
        mut self,
        log: LogId,
        place: Place,
        previous: u32,
        nonce: u64,
        durable_end: u64,
    ) -> (Block, SealedBlock) {
        let mut header = BlockHeader { previous, nonce, durable_end, ..self.header() };
        let head = header.encode(log, place, self.sum);
        if self.front_bytes == 0 {
            let payload = self.bytes.freeze();
            let sealed = SealedBlock::new(Bytes::copy_from_slice(&head), payload.clone());
            return (Block { header, place, payload }, sealed);
        }
        self.bytes[..HEADER_BYTES].copy_from_slice(&head);
        let end = self.bytes.len();
        let whole = padded(end) as usize;
        self.bytes.resize(whole, 0);
        let bytes = self.bytes.freeze();
        let payload = bytes.slice(HEADER_BYTES..end);
        (Block { header, place, payload }, SealedBlock::from(bytes))
    }
}

fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(BLOCK_ALIGN)
}

/// What tells the checksums of one log from those of all others.
pub(super) fn checksum_seed(log: LogId) -> [u8; 9] {
    let (kind, topic, index) = match log {
        LogId::Catalog => (0_u8, 0, 0),
        LogId::Data(partition) => (1, partition.topic.0, partition.index),
        LogId::Groups(partition) => (2, partition.topic.0, partition.index),
    };
    let mut seed = [0; 9];
    seed[0] = kind;
    seed[1..5].copy_from_slice(&topic.to_le_bytes());
    seed[5..9].copy_from_slice(&index.to_le_bytes());
    seed
}

fn checksum(log: LogId, place: Place, payload_sum: u32, head: &[u8; HEADER_BYTES]) -> u32 {
    let mut seed = [0; 25];
    seed[..9].copy_from_slice(&checksum_seed(log));
    let segment = if planted(Mutant::AcceptStaleBlock) { 0 } else { place.segment.0 };
    seed[9..17].copy_from_slice(&segment.to_le_bytes());
    seed[17..25].copy_from_slice(&place.position.to_le_bytes());
    crc32c_append(crc32c_append(payload_sum, &seed), &head[8..])
}

fn u32_at(head: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*head[at..].first_chunk().expect("inside the header"))
}

fn u64_at(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*head[at..].first_chunk().expect("inside the header"))
}

#[cfg(test)]
mod tests {
    use lanecast_wire::{PartitionId, TopicId};

    use super::*;

    const LOG: LogId = LogId::Data(PartitionId { topic: TopicId(3), index: 7 });
    const PLACE: Place = Place { segment: SegmentId(5), position: 8192 };

    fn sealed(payload: &[u8]) -> Bytes {
        let mut open = OpenBlock::new(BlockKind::Batches, 40, BytesMut::with_capacity(8192));
        open.push([payload, b""], 2);
        open.seal(LOG, PLACE, 99, 7, 30).1.to_bytes()
    }

    #[test]
    fn layout_is_the_documented_one() {
        let mut open = OpenBlock::new(BlockKind::Batches, 0x28, BytesMut::with_capacity(8192));
        open.append_time_ms = 0x0102;
        open.max_time_ms = 0x0304;
        open.push([b"hello", b""], 2);
        let bytes = open.seal(LOG, PLACE, 0x63, 7, 0x1e).1.to_bytes();
        let hex: String = bytes[..72].iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "4c4e434b 94dc5875 05000000 03 01 0000 2800000000000000 02000000 63000000 \
                      0700000000000000 0201000000000000 0403000000000000 1e00000000000000 \
                      68656c6c6f 000000";
        assert_eq!(hex, golden.replace(' ', ""));
    }

    #[test]
    fn sealed_block_reads_back() {
        let bytes = sealed(b"hello");
        assert_eq!(bytes.len(), 4096);
        let header = BlockHeader::decode(&bytes, LOG, PLACE).unwrap();
        assert_eq!((header.base_offset, header.end_offset(), header.previous), (40, 42, 99));
        assert_eq!(header.payload_bytes, 5);
    }

    #[test]
    fn block_is_valid_at_its_own_place_only() {
        let bytes = sealed(b"hello");
        for (log, place) in [
            (LogId::Catalog, PLACE),
            (LogId::Groups(PartitionId { topic: TopicId(3), index: 7 }), PLACE),
            (LOG, Place { segment: SegmentId(6), ..PLACE }),
            (LOG, Place { position: 4096, ..PLACE }),
        ] {
            assert_eq!(BlockHeader::decode(&bytes, log, place), Err(BlockFault::Checksum));
        }
    }

    #[test]
    fn every_flipped_bit_of_header_and_payload_is_found() {
        let bytes = sealed(b"hello");
        for bit in 0..(HEADER_BYTES + 5) * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::decode(&damaged, LOG, PLACE).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn short_block_says_how_long_it_is() {
        let bytes = sealed(&[1; 5000]);
        assert_eq!(bytes.len(), 8192);
        assert_eq!(BlockHeader::decode(&bytes[..4096], LOG, PLACE), Err(BlockFault::Short(8192)));
        assert_eq!(BlockHeader::decode(&bytes[..10], LOG, PLACE), Err(BlockFault::Short(4096)));
        assert_eq!(BlockHeader::decode(&[0; 4096], LOG, PLACE), Err(BlockFault::Blank));
        assert_eq!(BlockHeader::decode(&[9; 4096], LOG, PLACE), Err(BlockFault::Foreign));
    }
}
