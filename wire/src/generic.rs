//! Schema 2: messages of any kind, each with an id, a key, headers, a payload and a timestamp.
//!
//! The body is one rkyv archive of columns. Texts and bytes of all messages stand in one block,
//! and a column of ends cuts it up:
//!
//! ```text
//!  ids           u128 each
//!  timestamps_ms i64 each
//!  header_counts u16 each
//!  ends          u32 each: per message the key, each header's name and value, the payload
//!  block         all those bytes, one behind the other
//! ```
//!
//! So a batch costs six allocations however many messages it has, and a view reads it in place.

use rkyv::api::high::to_bytes_in;
use rkyv::api::low;
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};

use crate::batch::{BODY_BYTES_MAX, schema};
use crate::builder::{BodyBuilder, RecordRefused, SealedBody};
use crate::limits::{
    BATCH_RECORDS_MAX, HEADER_NAME_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_HEADERS_MAX,
    MESSAGE_KEY_BYTES_MAX,
};
use crate::summary::SummaryBuilder;
use crate::{KeyFilter, KeyHash, KeyKind};

/// One message, as it is pushed and as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The application's own; 0 where it has none.
    pub id: u128,
    /// Messages of one key share a partition, in order.
    pub key: &'a [u8],
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
    /// Unix milliseconds.
    pub timestamp_ms: i64,
}

impl<'a> Message<'a> {
    /// A message without id and headers, at time 0.
    #[must_use]
    pub fn new(key: &'a [u8], payload: &'a [u8]) -> Self {
        Self { id: 0, key, headers: Headers::Listed(&[]), payload, timestamp_ms: 0 }
    }
}

/// Names and values that stand beside a message's payload.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// As an application has them.
    Listed(&'a [(&'a str, &'a [u8])]),
    /// As a batch has them.
    InBatch(HeadersInBatch<'a>),
}

/// Headers of one message of a view.
#[derive(Clone, Copy, Debug)]
pub struct HeadersInBatch<'a> {
    view: GenericView<'a>,
    /// Index of the end of the first header's name.
    first: usize,
    count: usize,
}

impl<'a> Headers<'a> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(headers) => headers.len(),
            Self::InBatch(headers) => headers.count,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `index`, which is less than [`Self::len`].
    #[must_use]
    pub fn at(&self, index: usize) -> (&'a str, &'a [u8]) {
        match self {
            Self::Listed(headers) => headers[index],
            Self::InBatch(headers) => {
                assert!(index < headers.count, "header {index} of {}", headers.count);
                let name = headers.view.piece(headers.first + 2 * index);
                let name = core::str::from_utf8(name).expect("a view's header names are UTF-8");
                (name, headers.view.piece(headers.first + 2 * index + 1))
            }
        }
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        (0..self.len()).map(move |index| self.at(index))
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Headers<'_> {}

/// What is archived.
#[derive(Archive, Serialize, Clone, Debug, Default)]
#[rkyv(derive(Debug))]
struct Columns {
    ids: Vec<u128>,
    timestamps_ms: Vec<i64>,
    header_counts: Vec<u16>,
    ends: Vec<u32>,
    block: Vec<u8>,
}

/// Bytes that a message adds besides its texts: id, timestamp, count, ends of key and payload.
const MESSAGE_FIXED_BYTES: usize = 16 + 8 + 2 + 2 * 4;

/// Bytes that a header adds besides its texts: the ends of its name and value.
const HEADER_FIXED_BYTES: usize = 2 * 4;

/// Gathers messages into a body.
#[derive(Debug, Default)]
pub struct GenericBuilder {
    columns: Columns,
    summary: SummaryBuilder,
    body_bytes: usize,
    min_time_ms: i64,
    max_time_ms: i64,
}

impl BodyBuilder for GenericBuilder {
    type Record<'a> = Message<'a>;

    fn empty() -> Self {
        let body_bytes = size_of::<ArchivedColumns>();
        Self { body_bytes, ..Self::default() }
    }

    fn key<'a>(message: &Self::Record<'a>) -> &'a [u8] {
        message.key
    }

    fn push(&mut self, message: &Message<'_>) -> Result<(), RecordRefused> {
        let bytes = checked_bytes(message)?;
        assert!(self.record_count() < BATCH_RECORDS_MAX, "a full batch is sealed");
        let columns = &mut self.columns;
        columns.ids.push(message.id);
        columns.timestamps_ms.push(message.timestamp_ms);
        columns.header_counts.push(message.headers.len() as u16);
        columns.add(message.key);
        for (name, value) in message.headers.iter() {
            columns.add(name.as_bytes());
            columns.add(value);
        }
        columns.add(message.payload);
        if !self.summary.is_full() {
            self.summary.add(KeyHash::of(KeyKind::Message, message.key));
        }
        let first = columns.ids.len() == 1;
        let time = message.timestamp_ms;
        self.min_time_ms = if first { time } else { self.min_time_ms.min(time) };
        self.max_time_ms = if first { time } else { self.max_time_ms.max(time) };
        self.body_bytes += bytes;
        Ok(())
    }

    fn record_count(&self) -> u32 {
        self.columns.ids.len() as u32
    }

    fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    fn seal(&mut self) -> SealedBody {
        let room = Vec::with_capacity(self.body_bytes);
        let body = to_bytes_in::<_, Failure>(&self.columns, room)
            .expect("writing into a vector cannot fail");
        debug_assert_eq!(body.len(), self.body_bytes);
        let sealed = SealedBody {
            body,
            schema: schema::GENERIC,
            record_count: self.record_count(),
            min_time_ms: self.min_time_ms,
            max_time_ms: self.max_time_ms,
            summary: self.summary.seal(),
        };
        let Columns { ids, timestamps_ms, header_counts, ends, block } = &mut self.columns;
        ids.clear();
        timestamps_ms.clear();
        header_counts.clear();
        ends.clear();
        block.clear();
        self.body_bytes = size_of::<ArchivedColumns>();
        (self.min_time_ms, self.max_time_ms) = (0, 0);
        sealed
    }
}

impl Columns {
    fn add(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.ends.push(self.block.len() as u32);
    }
}

/// What the message will take, if it is within its limits.
fn checked_bytes(message: &Message<'_>) -> Result<usize, RecordRefused> {
    let at_most = |field, size: usize, limit: usize| {
        if size > limit {
            let reason = format!("{size} is over the limit of {limit}");
            return Err(RecordRefused { field, reason });
        }
        Ok(())
    };
    at_most("key bytes", message.key.len(), MESSAGE_KEY_BYTES_MAX)?;
    at_most("headers", message.headers.len(), MESSAGE_HEADERS_MAX)?;
    let mut bytes = MESSAGE_FIXED_BYTES + message.key.len() + message.payload.len();
    for (name, value) in message.headers.iter() {
        at_most("header name bytes", name.len(), HEADER_NAME_BYTES_MAX)?;
        bytes += HEADER_FIXED_BYTES + name.len() + value.len();
    }
    at_most("message bytes", bytes, MESSAGE_BYTES_MAX)?;
    Ok(bytes)
}

/// Why a body is no batch of messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessages {
    #[error("body of {bytes} bytes is larger than a batch may be")]
    TooLarge { bytes: usize },
    #[error("the archive is malformed")]
    Archive,
    #[error("column {column} has {found} entries, {wanted} are needed")]
    Length { column: &'static str, found: usize, wanted: usize },
    #[error("piece {index} of the block ends at {end}, before its start or behind the block")]
    End { index: usize, end: u32 },
    #[error("message {message}: {field} is {size}, the limit is {limit}")]
    Limit { message: usize, field: &'static str, size: usize, limit: usize },
    #[error("message {message}: the name of a header is not UTF-8")]
    Name { message: usize },
}

/// The messages of a batch, read in place.
#[derive(Clone, Copy, Debug)]
pub struct GenericView<'a> {
    columns: &'a ArchivedColumns,
}

impl<'a> GenericView<'a> {
    /// Checks a body that is to have `record_count` messages: the archive's structure, then lengths,
    /// ends, limits and texts.
    ///
    /// # Errors
    /// Says the first thing that is wrong.
    pub fn open(body: &'a [u8], record_count: u32) -> Result<Self, InvalidMessages> {
        if body.len() > BODY_BYTES_MAX {
            return Err(InvalidMessages::TooLarge { bytes: body.len() });
        }
        let columns =
            low::access::<ArchivedColumns, Failure>(body).map_err(|_| InvalidMessages::Archive)?;
        let view = Self { columns };
        view.check(record_count as usize)?;
        Ok(view)
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.ids.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages, in order.
    pub fn iter(self) -> impl Iterator<Item = Message<'a>> {
        let mut piece = 0;
        (0..self.len()).map(move |index| {
            let headers = usize::from(self.columns.header_counts[index].to_native());
            let first = piece;
            piece += 2 + 2 * headers;
            Message {
                id: self.columns.ids[index].to_native(),
                key: self.piece(first),
                headers: Headers::InBatch(HeadersInBatch {
                    view: self,
                    first: first + 1,
                    count: headers,
                }),
                payload: self.piece(piece - 1),
                timestamp_ms: self.columns.timestamps_ms[index].to_native(),
            }
        })
    }

    /// The messages that pass a filter, each with its index in the batch.
    pub fn matching(self, filter: &KeyFilter) -> impl Iterator<Item = (usize, Message<'a>)> {
        self.iter().enumerate().filter(|(_, message)| filter.wants_message(message))
    }

    fn piece(&self, index: usize) -> &'a [u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.columns.ends[before].to_native());
        let end = self.columns.ends[index].to_native();
        &self.columns.block[start as usize..end as usize]
    }

    fn check(&self, wanted: usize) -> Result<(), InvalidMessages> {
        let columns = self.columns;
        let length = |column, found, wanted| {
            if found != wanted {
                return Err(InvalidMessages::Length { column, found, wanted });
            }
            Ok(())
        };
        length("ids", columns.ids.len(), wanted)?;
        length("timestamps_ms", columns.timestamps_ms.len(), wanted)?;
        length("header_counts", columns.header_counts.len(), wanted)?;
        let count = |count: &rkyv::rend::unaligned::u16_ule| usize::from(count.to_native());
        let headers: usize = columns.header_counts.iter().map(count).sum();
        length("ends", columns.ends.len(), 2 * (wanted + headers))?;
        let mut start = 0;
        for (index, end) in columns.ends.iter().enumerate() {
            let end = end.to_native();
            if end < start || end as usize > columns.block.len() {
                return Err(InvalidMessages::End { index, end });
            }
            start = end;
        }
        length("block", columns.block.len(), start as usize)?;
        let mut piece = 0;
        for (message, headers) in columns.header_counts.iter().map(count).enumerate() {
            self.check_message(message, piece, headers)?;
            piece += 2 + 2 * headers;
        }
        Ok(())
    }

    fn check_message(
        &self,
        message: usize,
        first: usize,
        headers: usize,
    ) -> Result<(), InvalidMessages> {
        let at_most = |field, size, limit| {
            if size > limit {
                return Err(InvalidMessages::Limit { message, field, size, limit });
            }
            Ok(())
        };
        at_most("headers", headers, MESSAGE_HEADERS_MAX)?;
        at_most("key bytes", self.piece(first).len(), MESSAGE_KEY_BYTES_MAX)?;
        for header in 0..headers {
            let name = self.piece(first + 1 + 2 * header);
            at_most("header name bytes", name.len(), HEADER_NAME_BYTES_MAX)?;
            core::str::from_utf8(name).map_err(|_| InvalidMessages::Name { message })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
