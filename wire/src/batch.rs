//! The batch: records of one partition that travel, rest and are read as the same bytes.
//!
//! ```text
//!  0        4          8             16               24       28    29      30       31        32
//!  | magic  | body_len | base_offset | append_time_ms | crc32c | ver | codec | schema | summary |
//!  | "LNCB" |   u32    |    u64      |     i64        |  u32   | u8  |  u8   |   u8   |   u8    |
//!  32            40       44             48          56            64            72           80
//!  | producer_id | epoch  | record_count | sequence  | min_time_ms | max_time_ms | created_ms |
//!  |    u64      |  u32   |     u32      |   u64     |    i64      |    i64      |    i64     |
//!  80                     80 + 8 * summary                  80 + 8 * summary + body_len
//!  | summary of the keys  | body                            |
//! ```
//!
//! `summary` is the length of the [key summary](crate::summary) in units of 8 bytes: 0 (none) or a
//! power of two up to 32.
//!
//! All numbers are little-endian. `base_offset` and `append_time_ms` are stamped by the broker and
//! stand outside the CRC32C, which covers bytes 28.. to the end of the body, the summary included: what the
//! producer sealed is what the consumer checks. `crc32c` itself and everything before it are protected on
//! disk by the log's own checksum.
//!
//! `created_ms` is the producer's wall clock when the batch's first record was pushed: the start of
//! every end-to-end latency.
//!
//! The broker reads header and summary and sums the body; it never looks inside.

use bytes::{Bytes, BytesMut};

use crate::builder::SealedBody;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PRODUCE_BATCH_BYTES_MAX};
use crate::summary::{SUMMARY_BYTES_MAX, WORD_BYTES, WORDS_MAX};
use crate::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, checksum};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 80;

/// First four bytes of every batch.
pub const MAGIC: [u8; 4] = *b"LNCB";

pub const LAYOUT_VERSION: u8 = 2;

/// Bytes of the largest body that a producer may send; those of a dead letter may be more.
pub const BODY_BYTES_MAX: usize =
    PRODUCE_BATCH_BYTES_MAX as usize - HEADER_BYTES - SUMMARY_BYTES_MAX;

/// What the body is an archive of.
pub mod schema {
    /// Columnar GPU telemetry, crate `lanecast-telemetry`.
    pub const TELEMETRY: u8 = 1;
    /// Generic messages (id, key, headers, payload, timestamp), module [`crate::generic`].
    pub const GENERIC: u8 = 2;
    /// One batch that no consumer could handle, module [`crate::dead_letter`].
    pub const DEAD_LETTER: u8 = 3;
}

/// How the body is compressed; only `NONE` exists.
pub mod codec {
    pub const NONE: u8 = 0;
}

/// The CRC32C covers the batch from here on.
const SUMMED_FROM: usize = 28;

/// Where the summary's length stands.
const SUMMARY_AT: usize = 31;

/// The fixed header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub body_bytes: u32,
    /// Stamped by the broker; 0 before that.
    pub base_offset: Offset,
    /// Stamped by the broker; 0 before that.
    pub append_time_ms: i64,
    pub crc: u32,
    pub codec: u8,
    pub schema: u8,
    /// 0: no summary.
    pub summary_bytes: u16,
    pub producer: ProducerId,
    pub epoch: ProducerEpoch,
    /// At least 1.
    pub record_count: u32,
    pub sequence: Sequence,
    pub min_time_ms: i64,
    pub max_time_ms: i64,
    pub created_ms: i64,
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch ends after {found} of {needed} bytes")]
    Short { found: usize, needed: usize },
    #[error("batch is followed by {extra} bytes that belong to nothing")]
    Trailing { extra: usize },
    #[error("a batch begins with {found:02x?} instead of \"LNCB\"")]
    Magic { found: [u8; 4] },
    #[error(
        "batch layout version {found}, this side reads version {LAYOUT_VERSION}: \
         client and broker must be of the same release, and logs of an older one are not read"
    )]
    Layout { found: u8 },
    #[error(
        "a key summary of {words} words of 8 bytes, 0 or a power of two to {WORDS_MAX} are allowed"
    )]
    Summary { words: u8 },
    #[error("unknown batch codec {found}")]
    Codec { found: u8 },
    #[error("batch has {bytes} bytes, the limit is {BATCH_BYTES_MAX}")]
    TooLarge { bytes: u64 },
    #[error("batch has {count} records, 1 to {BATCH_RECORDS_MAX} are allowed")]
    RecordCount { count: u32 },
    #[error("batch's times run backwards: {min_ms} to {max_ms} ms")]
    Times { min_ms: i64, max_ms: i64 },
    #[error("base offset {base} leaves no room for {count} records")]
    Offsets { base: u64, count: u32 },
    #[error("checksum of a batch is {found:#010x}, computed {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
}

impl BatchError {
    /// The number that the peer is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::BAD_BATCH
    }
}

impl BatchHeader {
    /// Reads the header at the front of `bytes` and checks everything that needs no body.
    ///
    /// # Errors
    /// The bytes are too few or no batch header, or a field is out of range.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Short { found: bytes.len(), needed: HEADER_BYTES });
        };
        let magic = array::<4>(head, 0);
        if magic != MAGIC {
            return Err(BatchError::Magic { found: magic });
        }
        if head[28] != LAYOUT_VERSION {
            return Err(BatchError::Layout { found: head[28] });
        }
        let header = Self {
            body_bytes: u32::from_le_bytes(array(head, 4)),
            base_offset: Offset(u64::from_le_bytes(array(head, 8))),
            append_time_ms: i64::from_le_bytes(array(head, 16)),
            crc: u32::from_le_bytes(array(head, 24)),
            codec: head[29],
            schema: head[30],
            summary_bytes: summary_bytes(head[31])?,
            producer: ProducerId(u64::from_le_bytes(array(head, 32))),
            epoch: ProducerEpoch(u32::from_le_bytes(array(head, 40))),
            record_count: u32::from_le_bytes(array(head, 44)),
            sequence: Sequence(u64::from_le_bytes(array(head, 48))),
            min_time_ms: i64::from_le_bytes(array(head, 56)),
            max_time_ms: i64::from_le_bytes(array(head, 64)),
            created_ms: i64::from_le_bytes(array(head, 72)),
        };
        header.in_range()?;
        Ok(header)
    }

    /// The header as it stands before the body.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[0..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[8..16].copy_from_slice(&self.base_offset.0.to_le_bytes());
        head[16..24].copy_from_slice(&self.append_time_ms.to_le_bytes());
        head[24..28].copy_from_slice(&self.crc.to_le_bytes());
        head[28] = LAYOUT_VERSION;
        head[29] = self.codec;
        head[30] = self.schema;
        head[31] = (usize::from(self.summary_bytes) / WORD_BYTES) as u8;
        head[32..40].copy_from_slice(&self.producer.0.to_le_bytes());
        head[40..44].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[44..48].copy_from_slice(&self.record_count.to_le_bytes());
        head[48..56].copy_from_slice(&self.sequence.0.to_le_bytes());
        head[56..64].copy_from_slice(&self.min_time_ms.to_le_bytes());
        head[64..72].copy_from_slice(&self.max_time_ms.to_le_bytes());
        head[72..80].copy_from_slice(&self.created_ms.to_le_bytes());
        head
    }

    /// Bytes of header, summary and body.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.body_at() + self.body_bytes as usize
    }

    /// Where the body begins, behind header and summary.
    #[must_use]
    pub fn body_at(&self) -> usize {
        HEADER_BYTES + usize::from(self.summary_bytes)
    }

    /// Offset of the batch's last record, once it is stamped.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + u64::from(self.record_count) - 1)
    }

    fn in_range(&self) -> Result<(), BatchError> {
        let bytes = self.body_at() as u64 + u64::from(self.body_bytes);
        if bytes > u64::from(BATCH_BYTES_MAX) {
            return Err(BatchError::TooLarge { bytes });
        }
        if self.codec != codec::NONE {
            return Err(BatchError::Codec { found: self.codec });
        }
        let count = self.record_count;
        if count == 0 || count > BATCH_RECORDS_MAX {
            return Err(BatchError::RecordCount { count });
        }
        if self.min_time_ms > self.max_time_ms {
            return Err(BatchError::Times { min_ms: self.min_time_ms, max_ms: self.max_time_ms });
        }
        if self.base_offset.0.checked_add(u64::from(count)).is_none() {
            return Err(BatchError::Offsets { base: self.base_offset.0, count });
        }
        Ok(())
    }
}

/// Checks a whole batch: header, limits, length and CRC. The body stays closed.
///
/// # Errors
/// Says the first thing that is wrong.
pub fn check(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::decode(batch)?;
    let needed = header.batch_bytes();
    if batch.len() < needed {
        return Err(BatchError::Short { found: batch.len(), needed });
    }
    if batch.len() > needed {
        return Err(BatchError::Trailing { extra: batch.len() - needed });
    }
    let computed = checksum::crc32c(&batch[SUMMED_FROM..]);
    if header.crc != computed {
        return Err(BatchError::Checksum { found: header.crc, computed });
    }
    Ok(header)
}

/// Puts header and body together, as they will stand on the socket and on disk.
///
/// The body is within [`BODY_BYTES_MAX`] (or is a dead letter within [`BATCH_BYTES_MAX`]) and within
/// [`BATCH_RECORDS_MAX`]: whoever pushes records watches over that.
#[must_use]
pub fn seal(
    sealed: &SealedBody,
    producer: ProducerId,
    epoch: ProducerEpoch,
    sequence: Sequence,
    created_ms: i64,
) -> Bytes {
    let bytes = HEADER_BYTES + sealed.summary.len() + sealed.body.len();
    assert!(bytes <= BATCH_BYTES_MAX as usize, "body over the limit");
    let summary = sealed.summary.len();
    assert!(
        summary <= SUMMARY_BYTES_MAX && (summary == 0 || summary.is_power_of_two()),
        "a summary of {summary} bytes"
    );
    let mut header = BatchHeader {
        body_bytes: sealed.body.len() as u32,
        base_offset: Offset(0),
        append_time_ms: 0,
        crc: 0,
        codec: codec::NONE,
        schema: sealed.schema,
        summary_bytes: summary as u16,
        producer,
        epoch,
        record_count: sealed.record_count,
        sequence,
        min_time_ms: sealed.min_time_ms,
        max_time_ms: sealed.max_time_ms,
        created_ms,
    };
    assert_eq!(header.in_range(), Ok(()), "a sealed body is in range");
    let head = header.encode();
    let sum = checksum::crc32c_append(checksum::crc32c(&head[SUMMED_FROM..]), &sealed.summary);
    header.crc = checksum::crc32c_append(sum, &sealed.body);
    let mut batch = BytesMut::with_capacity(header.batch_bytes());
    batch.extend_from_slice(&header.encode());
    batch.extend_from_slice(&sealed.summary);
    batch.extend_from_slice(&sealed.body);
    batch.freeze()
}

/// The same records under another epoch and sequence of the same producer.
///
/// Copies the batch, since what is under way may still share its bytes.
#[must_use]
pub fn renumber(batch: &[u8], epoch: ProducerEpoch, sequence: Sequence) -> Bytes {
    assert!(batch.len() >= HEADER_BYTES && batch[..4] == MAGIC, "only a batch is renumbered");
    let mut renumbered = BytesMut::from(batch);
    renumbered[40..44].copy_from_slice(&epoch.0.to_le_bytes());
    renumbered[48..56].copy_from_slice(&sequence.0.to_le_bytes());
    let crc = checksum::crc32c(&renumbered[SUMMED_FROM..]);
    renumbered[24..28].copy_from_slice(&crc.to_le_bytes());
    renumbered.freeze()
}

/// Writes what the broker decides into a checked batch; the CRC stays right.
pub fn stamp(batch: &mut [u8], base_offset: Offset, append_time_ms: i64) {
    assert!(batch.len() >= HEADER_BYTES && batch[..4] == MAGIC, "only a checked batch is stamped");
    batch[8..16].copy_from_slice(&base_offset.0.to_le_bytes());
    batch[16..24].copy_from_slice(&append_time_ms.to_le_bytes());
}

/// The same without writing into the batch: its stamped header, and the rest as it is.
///
/// # Panics
/// `batch` is shorter than a header.
#[must_use]
pub fn stamped(
    batch: &[u8],
    base_offset: Offset,
    append_time_ms: i64,
) -> ([u8; HEADER_BYTES], &[u8]) {
    let (head, rest) = batch.split_first_chunk().expect("only a checked batch is stamped");
    let mut head = *head;
    stamp(&mut head, base_offset, append_time_ms);
    (head, rest)
}

/// The sum of all bytes of a batch that was [checked](check), and perhaps [stamped](stamp) since: what the
/// batch's own covers is not read again.
///
/// # Panics
/// `batch` is shorter than a header.
#[must_use]
pub fn sum(batch: &[u8], header: &BatchHeader) -> u32 {
    let (outside, summed) = batch.split_at(SUMMED_FROM);
    let sum = checksum::crc32c_combined(checksum::crc32c(outside), header.crc, summed.len());
    debug_assert_eq!(sum, checksum::crc32c(batch), "only of a checked batch is the sum known");
    sum
}

/// The batches of a payload, each a slice of it. Headers and lengths are checked, sums are not:
/// [`check`] a batch before its body is believed.
///
/// Ends after the first error.
#[must_use]
pub fn iter(payload: &Bytes) -> Batches {
    Batches { rest: payload.clone() }
}

/// See [`iter`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = BatchHeader::decode(&self.rest).and_then(|header| {
            let needed = header.batch_bytes();
            if self.rest.len() < needed {
                return Err(BatchError::Short { found: self.rest.len(), needed });
            }
            Ok((header, self.rest.split_to(needed)))
        });
        if item.is_err() {
            self.rest.clear();
        }
        Some(item)
    }
}

/// The body of a whole batch.
#[must_use]
pub fn body(batch: &[u8]) -> &[u8] {
    &batch[HEADER_BYTES + usize::from(batch[SUMMARY_AT]) * WORD_BYTES..]
}

/// The [key summary](crate::summary) of a whole batch.
#[must_use]
pub fn summary(batch: &[u8]) -> &[u8] {
    &batch[HEADER_BYTES..HEADER_BYTES + usize::from(batch[SUMMARY_AT]) * WORD_BYTES]
}

fn summary_bytes(words: u8) -> Result<u16, BatchError> {
    if words == 0 || (words.is_power_of_two() && usize::from(words) <= WORDS_MAX) {
        return Ok(u16::from(words) * WORD_BYTES as u16);
    }
    Err(BatchError::Summary { words })
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range is N bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(body: &[u8]) -> Bytes {
        let sealed = SealedBody {
            body: body.to_vec(),
            schema: schema::GENERIC,
            record_count: 3,
            min_time_ms: 100,
            max_time_ms: 200,
            summary: vec![0xa5; 16],
        };
        seal(&sealed, ProducerId(7), ProducerEpoch(1), Sequence(5), 99)
    }

    #[test]
    fn a_summary_stands_between_header_and_body() {
        let batch = sealed(b"body");
        assert_eq!((summary(&batch), body(&batch)), (&[0xa5; 16][..], &b"body"[..]));
        let header = check(&batch).unwrap();
        assert_eq!((header.body_at(), header.batch_bytes()), (96, 100));
        let mut wrong = batch.to_vec();
        for words in (3..=u8::MAX).filter(|words| !matches!(words, 4 | 8 | 16 | 32)) {
            wrong[SUMMARY_AT] = words;
            assert_eq!(BatchHeader::decode(&wrong), Err(BatchError::Summary { words }));
        }
        wrong[SUMMARY_AT] = 1;
        assert!(check(&wrong).is_err(), "a length that is possible but not the sealed one");
    }

    #[test]
    fn stamping_keeps_the_checksum_right() {
        let mut batch = sealed(b"body").to_vec();
        stamp(&mut batch, Offset(1_000), 123);
        let header = check(&batch).unwrap();
        assert_eq!((header.base_offset, header.append_time_ms), (Offset(1_000), 123));
        assert_eq!(header.last_offset(), Offset(1_002));
        assert_eq!((header.sequence, header.producer), (Sequence(5), ProducerId(7)));
        assert_eq!(body(&batch), b"body");
    }

    #[test]
    fn renumbering_changes_epoch_and_sequence_alone() {
        let batch = sealed(b"body");
        let before = check(&batch).unwrap();
        let renumbered = renumber(&batch, ProducerEpoch(9), Sequence(77));
        let header = check(&renumbered).unwrap();
        let (epoch, sequence, crc) = (ProducerEpoch(9), Sequence(77), header.crc);
        assert_eq!(header, BatchHeader { epoch, sequence, crc, ..before });
        assert_eq!(body(&renumbered), b"body");
    }

    #[test]
    fn every_flipped_bit_outside_the_stamp_is_noticed() {
        let batch = sealed(b"body").to_vec();
        for bit in (0..batch.len() * 8).filter(|bit| !(8..24).contains(&(bit / 8))) {
            let mut wrong = batch.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&wrong).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn length_must_be_exact() {
        let batch = sealed(b"body").to_vec();
        for end in 0..batch.len() {
            assert!(matches!(check(&batch[..end]), Err(BatchError::Short { .. })), "{end}");
        }
        let longer = [&batch[..], b"x"].concat();
        assert_eq!(check(&longer), Err(BatchError::Trailing { extra: 1 }));
    }

    #[test]
    fn iteration_gives_slices_and_ends_at_the_first_error() {
        let (first, second) = (sealed(b"one"), sealed(b"three"));
        let payload = Bytes::from([&first[..], &second[..], b"LNCB garbage"].concat());
        let mut batches = iter(&payload);
        let (header, bytes) = batches.next().unwrap().unwrap();
        assert_eq!((header.body_bytes, &bytes), (3, &first));
        assert!(payload.as_ptr_range().contains(&bytes.as_ptr()));
        assert_eq!(batches.next().unwrap().unwrap().1, second);
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }

    #[test]
    fn headers_out_of_range_are_refused() {
        let good = check(&sealed(b"body")).unwrap();
        let wrong = [
            BatchHeader { record_count: 0, ..good },
            BatchHeader { record_count: BATCH_RECORDS_MAX + 1, ..good },
            BatchHeader { min_time_ms: 201, ..good },
            BatchHeader { codec: 1, ..good },
            BatchHeader { body_bytes: BATCH_BYTES_MAX, ..good },
            BatchHeader { base_offset: Offset(u64::MAX), ..good },
        ];
        for header in wrong {
            assert!(BatchHeader::decode(&header.encode()).is_err(), "{header:?}");
        }
    }
}
