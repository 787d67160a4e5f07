//! Schema 3: a dead letter, one batch whose records (all, or some) no consumer could handle.
//!
//! The broker writes dead letters to the topic's dead-letter topic, [`topic_name`]. Each is a batch
//! of one record:
//!
//! ```text
//!  0         2          4           6           8            12          16
//!  | version | ranges   | topic_len | group_len | reason_len | partition |
//!  |   u16   |   u16    |    u16    |    u16    |    u32     |    u32    |
//!  16        20         24          32
//!  | attempts| topic id | died_ms   | per range: first u64, last u64
//!  |   u32   |   u32    |   i64     |
//!  | topic, group, reason: UTF-8, one behind the other
//!  | the original batch: header, stamped with its offset and append time, and body
//! ```
//!
//! All numbers are little-endian. The original batch stands there verbatim, with its checksum, also
//! when only some of its records are dead: the ranges name those, by offset in the origin.

use bytes::BufMut;

use crate::batch::{self, BatchError, BatchHeader, HEADER_BYTES, schema};
use crate::builder::SealedBody;
use crate::limits::{BATCH_BYTES_MAX, LETTER_RANGES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::message::OffsetRange;
use crate::summary::SUMMARY_BYTES_MAX;
use crate::{ErrorCode, PartitionId, ProducerId, TopicId, name};

pub const VERSION: u16 = 1;

/// Appended to a topic's name.
pub const SUFFIX: &str = ".dlq";

/// Bytes before the ranges.
const FIXED_BYTES: usize = 32;
const RANGE_BYTES: usize = 16;

/// What a dead letter adds to the batch that it holds, at the most.
pub const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES
    + SUMMARY_BYTES_MAX
    + FIXED_BYTES
    + RANGE_BYTES * LETTER_RANGES_MAX
    + 2 * NAME_BYTES_MAX
    + TEXT_BYTES_MAX;

/// The dead-letter topic of a topic. `None` for one that is a dead-letter topic itself: its
/// records have no further to go.
#[must_use]
pub fn topic_name(origin: &str) -> Option<String> {
    (!is_topic_name(origin)).then(|| format!("{origin}{SUFFIX}"))
}

/// Is this the name of a dead-letter topic?
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// As whom a partition of a dead-letter topic is sent back to its origin.
#[must_use]
pub fn redriver_of(letters: PartitionId) -> ProducerId {
    let (topic, index) = (letters.topic.0.to_le_bytes(), letters.index.to_le_bytes());
    ProducerId(fnv1a(&[b"redrive", &topic, &index]))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo: <http://www.isthe.com/chongo/tech/comp/fnv/>).
fn fnv1a(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A dead letter, to be written or as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Name and number of the topic that the batch was in. A name may have been given to another
    /// topic since.
    pub topic: &'a str,
    pub topic_id: TopicId,
    pub partition: u32,
    /// The consumer group that gave up.
    pub group: &'a str,
    pub reason: &'a str,
    /// How often the records were handed out.
    pub attempts: u32,
    /// When the group gave up, in unix milliseconds.
    pub died_ms: i64,
    /// The dead records of the batch.
    pub ranges: Ranges<'a>,
    /// The whole original batch. Its header has its offset and append time.
    pub batch: &'a [u8],
}

/// Rising ranges without overlap, at least one.
#[derive(Clone, Copy, Debug)]
pub enum Ranges<'a> {
    Listed(&'a [OffsetRange]),
    InLetter(&'a [u8]),
}

impl<'a> Ranges<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(ranges) => ranges.len(),
            Self::InLetter(bytes) => bytes.len() / RANGE_BYTES,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(self) -> impl Iterator<Item = OffsetRange> + 'a {
        (0..self.len()).map(move |index| match self {
            Self::Listed(ranges) => ranges[index],
            Self::InLetter(bytes) => {
                let at = index * RANGE_BYTES;
                OffsetRange { first: u64_at(bytes, at), last: u64_at(bytes, at + 8) }
            }
        })
    }

    /// How many records they name.
    #[must_use]
    pub fn records(self) -> u64 {
        self.iter().map(|range| range.last - range.first + 1).sum()
    }
}

impl PartialEq for Ranges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Ranges<'_> {}

/// Why a body is no dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLetter {
    #[error("dead letter of {found} bytes, {needed} are needed")]
    Short { found: usize, needed: usize },
    #[error("dead letter of version {found}, this side reads version {VERSION}")]
    Version { found: u16 },
    #[error("{field} of a dead letter is {found}, the limit is {limit}")]
    Limit { field: &'static str, found: usize, limit: usize },
    #[error("{field} of a dead letter is no UTF-8 or no name")]
    Text { field: &'static str },
    #[error("the ranges of a dead letter do not rise within its batch")]
    Ranges,
    #[error("the batch in a dead letter: {0}")]
    Batch(#[from] BatchError),
}

impl InvalidLetter {
    /// The number that a peer is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::BAD_BATCH
    }
}

impl<'a> DeadLetter<'a> {
    /// The letter as the body of a batch of one record. Texts, ranges and batch are within their
    /// limits.
    #[must_use]
    pub fn seal(&self) -> SealedBody {
        assert!((1..=LETTER_RANGES_MAX).contains(&self.ranges.len()), "ranges of a letter");
        assert!(self.topic.len() <= NAME_BYTES_MAX && self.group.len() <= NAME_BYTES_MAX);
        assert!(self.reason.len() <= TEXT_BYTES_MAX, "a reason is cut before it comes here");
        let texts = self.topic.len() + self.group.len() + self.reason.len();
        let ranges = RANGE_BYTES * self.ranges.len();
        let mut body = Vec::with_capacity(FIXED_BYTES + ranges + texts + self.batch.len());
        body.put_u16_le(VERSION);
        body.put_u16_le(self.ranges.len() as u16);
        body.put_u16_le(self.topic.len() as u16);
        body.put_u16_le(self.group.len() as u16);
        body.put_u32_le(self.reason.len() as u32);
        body.put_u32_le(self.partition);
        body.put_u32_le(self.attempts);
        body.put_u32_le(self.topic_id.0);
        body.put_i64_le(self.died_ms);
        for range in self.ranges.iter() {
            body.put_u64_le(range.first);
            body.put_u64_le(range.last);
        }
        for text in [self.topic, self.group, self.reason] {
            body.put_slice(text.as_bytes());
        }
        body.put_slice(self.batch);
        SealedBody {
            body,
            schema: schema::DEAD_LETTER,
            record_count: 1,
            min_time_ms: self.died_ms,
            max_time_ms: self.died_ms,
            // Of all records of the batch, the dead ones among them.
            summary: batch::summary(self.batch).to_vec(),
        }
    }

    /// Reads the body of a batch of schema [`schema::DEAD_LETTER`]. The batch inside is checked,
    /// with its sum; its own body stays closed.
    ///
    /// # Errors
    /// Says the first thing that is wrong.
    pub fn open(body: &'a [u8]) -> Result<Self, InvalidLetter> {
        let Some((fixed, mut rest)) = body.split_at_checked(FIXED_BYTES) else {
            return Err(InvalidLetter::Short { found: body.len(), needed: FIXED_BYTES });
        };
        let version = u16_at(fixed, 0);
        if version != VERSION {
            return Err(InvalidLetter::Version { found: version });
        }
        let ranges = usize::from(u16_at(fixed, 2));
        let texts = [usize::from(u16_at(fixed, 4)), usize::from(u16_at(fixed, 6))];
        let reason_bytes = u32_at(fixed, 8) as usize;
        at_most("number of ranges", ranges, LETTER_RANGES_MAX)?;
        at_most("topic", texts[0], NAME_BYTES_MAX)?;
        at_most("group", texts[1], NAME_BYTES_MAX)?;
        at_most("reason", reason_bytes, TEXT_BYTES_MAX)?;
        let mut take = |bytes: usize| {
            let short = InvalidLetter::Short { found: rest.len(), needed: bytes };
            let (taken, left) = rest.split_at_checked(bytes).ok_or(short)?;
            rest = left;
            Ok::<_, InvalidLetter>(taken)
        };
        let ranges = Ranges::InLetter(take(ranges * RANGE_BYTES)?);
        let topic = text("topic", take(texts[0])?)?;
        let group = text("group", take(texts[1])?)?;
        let reason = text("reason", take(reason_bytes)?)?;
        if name::check(topic).is_err() {
            return Err(InvalidLetter::Text { field: "topic" });
        }
        if name::check(group).is_err() {
            return Err(InvalidLetter::Text { field: "group" });
        }
        let header = batch::check(rest)?;
        within(ranges, &header)?;
        Ok(DeadLetter {
            topic,
            topic_id: TopicId(u32_at(fixed, 20)),
            partition: u32_at(fixed, 12),
            group,
            reason,
            attempts: u32_at(fixed, 16),
            died_ms: u64_at(fixed, 24) as i64,
            ranges,
            batch: rest,
        })
    }

    /// The original batch's header.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        BatchHeader::decode(self.batch).expect("a letter's batch is checked when it is made")
    }

    /// Are all records of the batch dead?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.ranges.records() == u64::from(self.header().record_count)
    }
}

fn within(ranges: Ranges<'_>, header: &BatchHeader) -> Result<(), InvalidLetter> {
    let mut from = header.base_offset.0;
    for range in ranges.iter() {
        if range.first < from || range.last < range.first || range.last > header.last_offset().0 {
            return Err(InvalidLetter::Ranges);
        }
        from = range.last.saturating_add(1);
    }
    if ranges.is_empty() { Err(InvalidLetter::Ranges) } else { Ok(()) }
}

fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), InvalidLetter> {
    if found > limit { Err(InvalidLetter::Limit { field, found, limit }) } else { Ok(()) }
}

fn text<'a>(field: &'static str, bytes: &'a [u8]) -> Result<&'a str, InvalidLetter> {
    core::str::from_utf8(bytes).map_err(|_| InvalidLetter::Text { field })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

const _: () = assert!(OVERHEAD_BYTES_MAX < BATCH_BYTES_MAX as usize);

#[cfg(test)]
mod tests;
