//! A client that is not a client: garbage, broken frames, requests that make no sense.
//!
//! Nothing it does may harm anyone else, and whatever it is answered must itself be well-formed.

use bytes::Bytes;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, CreateTopic, Credit, DescribeTopic, Durability, Extend,
    GroupOptions, Hello, Nack, PartitionStart, Ping, Produce, StartPosition, Subscribe,
    SubscribeMode, TopicSettings, Unsubscribe,
};
use lanecast_wire::{CorrelationId, FrameDecoder, KeyFilter, KeyKind};

use super::{Turn, create_topic};
use crate::rng::Rng;
use crate::scenario::TOPIC;

/// Numbers that like to be off by one.
const EDGES: [u64; 8] = [0, 1, 2, 255, 256, u32::MAX as u64, u64::MAX - 1, u64::MAX];

#[derive(Debug, Default)]
pub(crate) struct Vandal {
    correlations: u64,
    decoder: FrameDecoder,
    /// The topic, once it was told.
    topic: Option<u32>,
    next_us: u64,
}

impl Vandal {
    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>) {
        *self = Self { next_us: self.next_us, ..Self::default() };
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            client: "vandal".to_owned(),
        };
        self.send(turn, &ClientMessage::Hello(hello), &[]);
        self.send(turn, &create_topic(turn.scenario), &[]);
    }

    pub(crate) fn received(&mut self, mut bytes: &[u8], _turn: &mut Turn<'_>) {
        while let Some(frame) = self.decoder.next(&mut bytes).expect("the broker sends frames") {
            let message = BrokerMessage::decode(frame.header.kind, frame.control);
            // Any other answer will do.
            if let BrokerMessage::Topics(reply) = message.expect("the broker sends messages")
                && let Some(topic) = reply.topics.first()
            {
                self.topic = Some(topic.topic);
            }
        }
    }

    pub(crate) fn woken(&mut self, turn: &mut Turn<'_>) {
        if turn.calm || self.topic.is_none() {
            return;
        }
        if turn.now_us >= self.next_us {
            for _ in 0..turn.rng.between(1, 4) {
                vandalise(self, turn);
            }
            self.next_us = turn.now_us + turn.rng.between(100, 30_000);
        }
        turn.wake_in(self.next_us - turn.now_us);
    }

    fn send(&mut self, turn: &mut Turn<'_>, message: &ClientMessage, payload: &[u8]) {
        self.correlations += 1;
        let correlation = CorrelationId(self.correlations);
        message.encode_into(correlation, payload.len() as u32, &mut turn.out);
        turn.out.extend_from_slice(payload);
    }
}

fn vandalise(vandal: &mut Vandal, turn: &mut Turn<'_>) {
    match turn.rng.below(16) {
        0 => {
            let garbage: Vec<u8> =
                (0..turn.rng.below(100)).map(|_| turn.rng.next() as u8).collect();
            turn.out.extend_from_slice(&garbage);
        }
        1 => {
            // A frame with a wrong byte.
            let start = turn.out.len();
            request(vandal, turn);
            let at = start + turn.rng.below((turn.out.len() - start) as u64) as usize;
            turn.out[at] ^= 1 << turn.rng.below(8);
        }
        2 => {
            // A frame that never ends, and goes.
            let start = turn.out.len();
            request(vandal, turn);
            let kept = turn.rng.below((turn.out.len() - start) as u64) as usize;
            turn.out.truncate(start + kept);
            turn.close = true;
        }
        3 => turn.close = true,
        _ => request(vandal, turn),
    }
}

/// A whole frame whose request is wrong, or at least odd.
fn request(vandal: &mut Vandal, turn: &mut Turn<'_>) {
    let topic = if turn.rng.one_in(4) { edge(turn.rng) as u32 } else { vandal.topic.unwrap_or(0) };
    let partition = edge(turn.rng) as u32;
    let subscription = turn.rng.below(3) as u32;
    let (first, last, generation) = (edge(turn.rng), edge(turn.rng), edge(turn.rng));
    let message = match turn.rng.below(11) {
        0 => ClientMessage::Ack(Ack { subscription, partition, first, last, generation }),
        1 => {
            let reason = "no reason".to_owned();
            let delay_ms = edge(turn.rng) as u32;
            let nack = Nack { subscription, partition, first, last, generation, delay_ms, reason };
            ClientMessage::Nack(nack)
        }
        2 => {
            let lease_ms = edge(turn.rng) as u32;
            let extend = Extend { subscription, partition, first, last, generation, lease_ms };
            ClientMessage::Extend(extend)
        }
        3 => {
            ClientMessage::Credit(Credit { subscription, partition, bytes: edge(turn.rng) as u32 })
        }
        4 => ClientMessage::Unsubscribe(Unsubscribe { subscription }),
        5 => ClientMessage::Ping(Ping {}),
        6 => ClientMessage::Hello(Hello {
            protocol_min: edge(turn.rng) as u16,
            protocol_max: edge(turn.rng) as u16,
            client: "vandal".to_owned(),
        }),
        7 => {
            let settings = TopicSettings {
                durability: Durability::Memory,
                retention_bytes: 7,
                retention_ms: 7,
                ..TopicSettings::default()
            };
            let name = turn.rng.pick(&[TOPIC, "", "a b", "../x"]).to_string();
            ClientMessage::CreateTopic(CreateTopic { name, partitions: 300, settings })
        }
        8 => ClientMessage::DescribeTopic(DescribeTopic { name: "nowhere".to_owned() }),
        9 => {
            let produce = ClientMessage::Produce(Produce { topic, partition: partition % 6 });
            let batch = broken_batch(turn.rng);
            vandal.send(turn, &produce, &batch);
            return;
        }
        _ => ClientMessage::Subscribe(subscribe(subscription, topic, turn.rng)),
    };
    vandal.send(turn, &message, &[]);
}

fn subscribe(subscription: u32, topic: u32, rng: &mut Rng) -> Subscribe {
    let mode = if rng.one_in(3) {
        SubscribeMode::Group(GroupOptions {
            group: "group-0".to_owned(),
            member: "vandal".to_owned(),
            // Never valid: a vandal that may join a group is only a bad member.
            chunk_records: 0,
            chunk_bytes: edge(rng) as u32,
            chunk_linger_ms: edge(rng) as u32,
            lease_ms: edge(rng) as u32,
            chunks_in_flight: edge(rng) as u32,
        })
    } else {
        SubscribeMode::Broadcast
    };
    let start = match rng.below(4) {
        0 => StartPosition::Earliest,
        1 => StartPosition::Latest,
        2 => StartPosition::Offset(edge(rng)),
        _ => StartPosition::Timestamp(edge(rng).cast_signed()),
    };
    let named = |partition| PartitionStart { partition, start, log_epoch: 0 };
    let starts = (0..rng.below(3)).map(|_| named(rng.below(6) as u32)).collect();
    let keys = rng.below(3) * rng.below(50);
    let filter = (0..keys).fold(KeyFilter::default(), |filter, key| {
        filter.with(KeyKind::Host, vec![b'h'; key as usize * 30])
    });
    Subscribe { subscription, topic, mode, start, starts, credit_bytes: edge(rng) as u32, filter }
}

fn broken_batch(rng: &mut Rng) -> Bytes {
    let mut bytes: Vec<u8> = (0..rng.below(200)).map(|_| rng.next() as u8).collect();
    if bytes.len() >= 4 && rng.one_in(2) {
        bytes[..4].copy_from_slice(&lanecast_wire::batch::MAGIC);
    }
    Bytes::from(bytes)
}

fn edge(rng: &mut Rng) -> u64 {
    if rng.one_in(2) { *rng.pick(&EDGES) } else { rng.below(50) }
}
