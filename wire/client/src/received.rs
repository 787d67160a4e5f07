//! Messages as handlers get them: each owns a share of the batch that it came in.

use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::Offset;
use lanecast_wire::batch::{self, BatchHeader, schema};
use lanecast_wire::generic::{GenericView, InvalidMessages};
use serde::de::DeserializeOwned;

/// One message of a topic. Cheap to clone; it keeps its batch in memory.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    batch: Arc<MessageBatch>,
    index: usize,
}

/// Where a batch came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    /// 1 for whatever comes for the first time, and always for broadcast.
    pub(crate) attempt: u32,
}

/// The messages of one batch, checked and taken apart once for all of them.
#[derive(Debug)]
pub(crate) struct MessageBatch {
    origin: Origin,
    header: BatchHeader,
    body: Bytes,
    messages: Vec<Place>,
    /// Names and values of all messages' headers.
    headers: Vec<(Piece, Piece)>,
}

/// Where the parts of a message stand in the body.
#[derive(Debug)]
struct Place {
    id: u128,
    timestamp_ms: i64,
    key: Piece,
    payload: Piece,
    first_header: usize,
    header_count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
}

/// Why the messages of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the batch has schema {found}, which is not that of messages")]
    Schema { found: u8 },
    #[error(transparent)]
    Messages(#[from] InvalidMessages),
}

impl MessageBatch {
    pub(crate) fn open(
        origin: Origin,
        header: BatchHeader,
        bytes: &Bytes,
    ) -> Result<Arc<Self>, Unreadable> {
        if header.schema != schema::GENERIC {
            return Err(Unreadable::Schema { found: header.schema });
        }
        let body = bytes.slice_ref(batch::body(bytes));
        let view = GenericView::open(&body, header.record_count)?;
        let mut messages = Vec::with_capacity(view.len());
        let mut headers = Vec::new();
        for message in view.iter() {
            let first_header = headers.len();
            let placed = |(name, value): (&str, &[u8])| {
                (Piece::of(&body, name.as_bytes()), Piece::of(&body, value))
            };
            headers.extend(message.headers.iter().map(placed));
            messages.push(Place {
                id: message.id,
                timestamp_ms: message.timestamp_ms,
                key: Piece::of(&body, message.key),
                payload: Piece::of(&body, message.payload),
                first_header,
                header_count: headers.len() - first_header,
            });
        }
        Ok(Arc::new(Self { origin, header, body, messages, headers }))
    }

    pub(crate) fn offset(&self, index: usize) -> Offset {
        Offset(self.header.base_offset.0 + index as u64)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The message at `index`, which is less than [`Self::len`].
    pub(crate) fn message(self: &Arc<Self>, index: usize) -> ReceivedMessage {
        assert!(index < self.len(), "message {index} of {}", self.len());
        ReceivedMessage { batch: Arc::clone(self), index }
    }
}

impl Piece {
    /// `part` is a part of `body`.
    fn of(body: &[u8], part: &[u8]) -> Self {
        // An empty part may point anywhere.
        if part.is_empty() {
            return Self { start: 0, end: 0 };
        }
        let start = part.as_ptr().addr() - body.as_ptr().addr();
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl ReceivedMessage {
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.batch.origin.topic
    }

    #[must_use]
    pub fn partition(&self) -> u32 {
        self.batch.origin.partition
    }

    #[must_use]
    pub fn offset(&self) -> Offset {
        self.batch.offset(self.index)
    }

    /// 1 when the message comes to its group for the first time; always 1 for broadcast.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.batch.origin.attempt
    }

    /// The publisher's own; 0 where it gave none.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.place().id
    }

    /// When the publisher says that it was made, in unix milliseconds.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.place().timestamp_ms
    }

    /// When the broker appended it, in unix milliseconds.
    #[must_use]
    pub fn append_time_ms(&self) -> i64 {
        self.batch.header.append_time_ms
    }

    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.batch.body[self.place().key.range()]
    }

    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.batch.body[self.place().payload.range()]
    }

    /// The payload as a share of the batch, not a copy.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.batch.body.slice(self.place().payload.range())
    }

    /// The payload, read as JSON.
    ///
    /// # Errors
    /// It is none, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.payload())
    }

    /// All headers, in the publisher's order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let Place { first_header, header_count, .. } = *self.place();
        let headers = &self.batch.headers[first_header..first_header + header_count];
        headers.iter().map(|(name, value)| {
            let name = std::str::from_utf8(&self.batch.body[name.range()]);
            (name.expect("header names were checked"), &self.batch.body[value.range()])
        })
    }

    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn place(&self) -> &Place {
        &self.batch.messages[self.index]
    }
}

#[cfg(test)]
mod tests {
    use lanecast_wire::builder::BodyBuilder;
    use lanecast_wire::generic::{GenericBuilder, Headers, Message};
    use lanecast_wire::{ProducerEpoch, ProducerId, Sequence};

    use super::*;

    #[test]
    fn every_part_of_a_message_is_where_it_was_put() {
        let mut builder = GenericBuilder::empty();
        let listed: [(&str, &[u8]); 2] = [("Content-Type", b"text"), ("empty", b"")];
        let first = Message {
            id: 9,
            headers: Headers::Listed(&listed),
            timestamp_ms: 77,
            ..Message::new(b"k", b"[1,2]")
        };
        builder.push(&first).unwrap();
        builder.push(&Message::new(b"", b"")).unwrap();
        builder.push(&Message::new(b"z", b"last")).unwrap();
        let (producer, epoch, sequence) = (ProducerId(1), ProducerEpoch(1), Sequence(0));
        let mut bytes = batch::seal(&builder.seal(), producer, epoch, sequence, 0).to_vec();
        batch::stamp(&mut bytes, Offset(40), 123);
        let bytes = Bytes::from(bytes);
        let header = batch::check(&bytes).unwrap();
        let origin = Origin { topic: "t".into(), partition: 3, attempt: 2 };
        let batch = MessageBatch::open(origin.clone(), header, &bytes).unwrap();
        assert_eq!(batch.len(), 3);

        let message = batch.message(0);
        assert_eq!((message.topic(), message.partition(), message.attempt()), ("t", 3, 2));
        assert_eq!((message.offset(), message.append_time_ms()), (Offset(40), 123));
        assert_eq!((message.id(), message.timestamp_ms(), message.key()), (9, 77, &b"k"[..]));
        assert_eq!(message.json::<Vec<u8>>().unwrap(), [1, 2]);
        assert!(message.headers().eq(listed));
        assert_eq!(message.header("content-type"), Some(&b"text"[..]));
        assert_eq!(message.header("other"), None);
        let empty = batch.message(1);
        assert_eq!((empty.key(), empty.payload(), empty.headers().count()), (&[][..], &[][..], 0));
        let last = batch.message(2);
        assert_eq!((last.offset(), &*last.payload_bytes()), (Offset(42), &b"last"[..]));

        let telemetry = BatchHeader { schema: schema::TELEMETRY, ..header };
        let refused = MessageBatch::open(origin, telemetry, &bytes).unwrap_err();
        assert_eq!(refused, Unreadable::Schema { found: schema::TELEMETRY });
    }
}
