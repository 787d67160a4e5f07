//! Produce requests as bytes: the frames of one producer, in sequence.

use bytes::Bytes;
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::generic::{GenericBuilder, Message};
use lanecast_wire::message::{ClientMessage, Produce};
use lanecast_wire::{CorrelationId, ProducerEpoch, ProducerId, Sequence, TopicId, batch};

use super::fleet::Fleet;

/// A kind of batch, and how many of them a shell is given at a time.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) body: SealedBody,
    pub(crate) batches_per_turn: usize,
}

/// The four kinds that the broker is judged by.
pub(crate) fn loads() -> [Load; 4] {
    let load = |name, body, batches_per_turn| Load { name, body, batches_per_turn };
    [
        load("128 B x 512", messages(512, 128), 4),
        load("1 KiB x 64", messages(64, 1024), 4),
        load("telemetry x 1000", Fleet::new().body(), 4),
        load("128 B x 1", messages(1, 128), 32),
    ]
}

/// A body of `count` messages with `bytes` of payload, of 16 keys.
pub(crate) fn messages(count: usize, bytes: usize) -> SealedBody {
    let mut builder = GenericBuilder::empty();
    push_messages(&mut builder, count, &vec![0x5a; bytes]);
    builder.seal()
}

pub(crate) fn push_messages(builder: &mut GenericBuilder, count: usize, payload: &[u8]) {
    for number in 0..count {
        let key = [b'k', number as u8 % 16];
        builder.push(&Message::new(&key, payload)).expect("within limits");
    }
}

pub(crate) struct Publisher {
    template: Bytes,
    produce: ClientMessage,
    sequence: u64,
    frames: Vec<u8>,
}

impl Publisher {
    /// Publishes to partition 0.
    pub(crate) fn new(body: &SealedBody, topic: TopicId) -> Self {
        let (producer, epoch) = (ProducerId(7), ProducerEpoch(0));
        Publisher {
            template: batch::seal(body, producer, epoch, Sequence(0), 0),
            produce: ClientMessage::Produce(Produce { topic: topic.0, partition: 0 }),
            sequence: 0,
            frames: Vec::new(),
        }
    }

    /// The next `count` produce requests, one behind the other.
    pub(crate) fn requests(&mut self, count: usize) -> &[u8] {
        self.frames.clear();
        for _ in 0..count {
            let sequence = Sequence(self.sequence);
            let batch = batch::renumber(&self.template, ProducerEpoch(0), sequence);
            let head = self.produce.encode(CorrelationId(1 + self.sequence), batch.len() as u32);
            self.frames.extend_from_slice(&head);
            self.frames.extend_from_slice(&batch);
            self.sequence += 1;
        }
        &self.frames
    }
}
