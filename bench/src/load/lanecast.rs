//! Lanecast's own protocol for the load generator: frames and batches of `lanecast-wire`, nothing else.
//!
//! Sums of delivered batches are not checked here, as no other system's client here checks any: what a
//! whole client costs is measured where the real processes run (`pipeline`).

#![expect(clippy::wildcard_enum_match_arm, reason = "any answer but the expected one ends the run")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;

use lanecast_wire::limits::{CHUNKS_IN_FLIGHT_MAX, LEASE_MS_DEFAULT, PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, CreateTopic, Credit, Deliver, GroupOptions, Hello, Migrate,
    Produce, Refusal, StartPosition, Subscribe, SubscribeMode, TopicSettings,
};
use lanecast_wire::session::credit_worth_bytes;
use lanecast_wire::{CorrelationId, FrameDecoder, KeyFilter};

use super::deliveries::{Deliveries, Seen};
use super::{BatchName, Batches, Outgoing, Publisher, Subscriber};
use crate::Error;
use crate::limits::{ANSWER_MAX, WINDOW_MAX};

const SYSTEM: &str = "lanecast";

/// Credit per partition: a few of the largest deliveries.
const CREDIT_BYTES: u32 = 8 * 1024 * 1024;

/// A connection on which one question is asked at a time, before the load begins.
struct Talk {
    socket: TcpStream,
    decoder: FrameDecoder,
}

impl Talk {
    fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let socket = crate::server::dial(addr)?;
        let failed = Error::io(format!("setting up the connection to {addr}"));
        socket.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
        let mut talk = Self { socket, decoder: FrameDecoder::default() };
        let client = "lanecast-bench".to_owned();
        let (protocol_min, protocol_max) = (PROTOCOL_MIN, PROTOCOL_MAX);
        talk.ask(&ClientMessage::Hello(Hello { protocol_min, protocol_max, client }))?;
        Ok(talk)
    }

    /// One question and its answer; nothing else may be under way.
    fn ask(&mut self, message: &ClientMessage) -> Result<BrokerMessage, Error> {
        let failed = || Error::io("talking to the broker");
        self.socket.write_all(&message.encode(CorrelationId(1), 0)).map_err(failed())?;
        let mut byte = [0];
        loop {
            // A byte at a time: what follows the answer belongs to the load.
            self.socket.read_exact(&mut byte).map_err(failed())?;
            if let Some(frame) = self.decoder.next(&mut &byte[..])? {
                let answer = BrokerMessage::decode(frame.header.kind, frame.control)?;
                if let BrokerMessage::Refusal(refusal) = answer {
                    return Err(refused_by(&refusal));
                }
                return Ok(answer);
            }
        }
    }
}

/// Makes a topic and gives its number.
///
/// # Errors
/// The broker does not answer, or refuses.
pub fn create_topic(
    addr: SocketAddr,
    name: &str,
    partitions: u32,
    settings: TopicSettings,
) -> Result<u32, Error> {
    let create = CreateTopic { name: name.to_owned(), partitions, settings };
    match Talk::connect(addr)?.ask(&ClientMessage::CreateTopic(create))? {
        BrokerMessage::Topics(reply) if !reply.topics.is_empty() => Ok(reply.topics[0].topic),
        other => Err(unexpected(&other)),
    }
}

fn refused_by(refusal: &Refusal) -> Error {
    let detail = format!("{}: {}", refusal.code(), refusal.message);
    Error::Refused { system: SYSTEM, detail }
}

fn unexpected(message: &BrokerMessage) -> Error {
    Error::Protocol { system: SYSTEM, detail: format!("unexpected {message:?}") }
}

/// Takes the frames of what was received, one after the other.
fn each_frame(
    decoder: &mut FrameDecoder,
    mut bytes: &[u8],
    mut take: impl FnMut(BrokerMessage, &[u8]) -> Result<ControlFlow<()>, Error>,
) -> Result<(), Error> {
    while let Some(frame) = decoder.next(&mut bytes)? {
        let message = BrokerMessage::decode(frame.header.kind, frame.control)?;
        if take(message, frame.payload)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Publishes one prebuilt batch again and again to one partition.
///
/// A broker that is overloaded refuses a batch, and then all behind it, since their sequences would
/// leave a hole. Once everything under way is answered, what was refused is sent again.
pub struct LanecastPublisher {
    decoder: FrameDecoder,
    batches: Batches,
    produce: ClientMessage,
    producer: u64,
    /// Batches published, sent and not answered, and acknowledged.
    published: u64,
    unanswered: u64,
    acknowledged: u64,
    refused: bool,
    head: Vec<u8>,
}

impl LanecastPublisher {
    /// A connection that publishes as producer `producer`, which nobody else is.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn connect(
        addr: SocketAddr,
        topic: u32,
        partition: u32,
        producer: u64,
        batches: &Batches,
    ) -> Result<(TcpStream, Box<dyn Publisher>), Error> {
        Ok(Self::over(Talk::connect(addr)?, topic, partition, producer, batches))
    }

    /// The same, over a connection that is brought to the partition's core first.
    ///
    /// # Errors
    /// The broker does not answer, or refuses.
    pub fn connect_and_migrate(
        addr: SocketAddr,
        topic: u32,
        partition: u32,
        producer: u64,
        batches: &Batches,
    ) -> Result<(TcpStream, Box<dyn Publisher>), Error> {
        let mut talk = Talk::connect(addr)?;
        match talk.ask(&ClientMessage::Migrate(Migrate { topic, partition }))? {
            BrokerMessage::Done(_) => Ok(Self::over(talk, topic, partition, producer, batches)),
            other => Err(unexpected(&other)),
        }
    }

    fn over(
        talk: Talk,
        topic: u32,
        partition: u32,
        producer: u64,
        batches: &Batches,
    ) -> (TcpStream, Box<dyn Publisher>) {
        let publisher = Self {
            decoder: talk.decoder,
            batches: batches.clone(),
            produce: ClientMessage::Produce(Produce { topic, partition }),
            producer,
            published: 0,
            unanswered: 0,
            acknowledged: 0,
            refused: false,
            head: Vec::new(),
        };
        (talk.socket, Box::new(publisher))
    }
}

impl Publisher for LanecastPublisher {
    fn publish(&mut self, out: &mut Outgoing) {
        // While something is refused, later batches wait for their turn.
        if !self.refused {
            self.send(self.published, out);
        }
        self.published += 1;
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Outgoing) -> Result<u32, Error> {
        let before = self.acknowledged;
        let Self { decoder, unanswered, acknowledged, refused, .. } = self;
        each_frame(decoder, bytes, |message, _| {
            *unanswered = unanswered.saturating_sub(1);
            match message {
                BrokerMessage::ProduceReply(reply) if !reply.dropped && !reply.duplicate => {
                    *acknowledged += 1;
                }
                BrokerMessage::Refusal(refusal) if *refused || refusal.code().is_retryable() => {
                    *refused = true;
                }
                BrokerMessage::Refusal(refusal) => return Err(refused_by(&refusal)),
                other => return Err(unexpected(&other)),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if self.refused && self.unanswered == 0 {
            self.refused = false;
            for number in self.acknowledged..self.published {
                self.send(number, out);
            }
        }
        Ok(u32::try_from(self.acknowledged - before).expect("no more than the window"))
    }

    fn window(&self) -> u32 {
        WINDOW_MAX
    }
}

impl LanecastPublisher {
    fn send(&mut self, number: u64, out: &mut Outgoing) {
        let bytes = u32::try_from(self.batches.bytes()).expect("a batch is within its limit");
        self.produce.encode_into(CorrelationId(number + 1), bytes, out.tail());
        self.batches.head(self.producer, number, &mut self.head);
        out.small(&self.head);
        out.body(self.batches.body());
        self.unanswered += 1;
    }
}

/// How a subscriber takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every record.
    Broadcast,
    /// As a member of a group: each chunk is acknowledged.
    Group,
}

#[derive(Default)]
pub struct LanecastSubscriber {
    deliveries: Deliveries,
    /// Credit that was not given back, of each partition.
    owed_bytes: Vec<u32>,
    acks: u64,
}

impl LanecastSubscriber {
    /// A connection that is subscribed to all of `topic`, from where `start` says.
    ///
    /// # Errors
    /// The broker does not answer, or refuses.
    pub fn connect(
        addr: SocketAddr,
        topic: u32,
        subscription: Subscription,
        start: StartPosition,
    ) -> Result<(TcpStream, Box<dyn Subscriber>), Error> {
        let mut talk = Talk::connect(addr)?;
        let mode = match subscription {
            Subscription::Broadcast => SubscribeMode::Broadcast,
            Subscription::Group => SubscribeMode::Group(GroupOptions {
                group: "bench".to_owned(),
                member: "bench".to_owned(),
                chunk_records: 65_536,
                chunk_bytes: 1024 * 1024,
                chunk_linger_ms: 0,
                lease_ms: LEASE_MS_DEFAULT,
                chunks_in_flight: CHUNKS_IN_FLIGHT_MAX,
            }),
        };
        let (starts, filter) = (Vec::new(), KeyFilter::default());
        let credit_bytes = CREDIT_BYTES;
        let subscribe =
            Subscribe { subscription: 1, topic, mode, start, starts, credit_bytes, filter };
        match talk.ask(&ClientMessage::Subscribe(subscribe))? {
            BrokerMessage::SubscribeReply(_) => {}
            other => return Err(unexpected(&other)),
        }
        // Answers are read to their last byte: nothing of what follows is in the decoder.
        Ok((talk.socket, Box::<Self>::default()))
    }
}

impl Subscriber for LanecastSubscriber {
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error> {
        let Self { deliveries, owed_bytes, acks } = self;
        deliveries.receive(bytes, &mut |seen| {
            match seen {
                Seen::Batch(name) => delivered(name),
                Seen::Frame { message: BrokerMessage::Deliver(deliver), payload_bytes } => {
                    repay(&deliver, payload_bytes, owed_bytes, out);
                    acknowledge(&deliver, acks, out);
                }
                // The answer to an ack.
                Seen::Frame { message: BrokerMessage::Done(_), .. } => {}
                Seen::Frame { message, .. } => return Err(unexpected(&message)),
            }
            Ok(())
        })
    }
}

/// Credit for what was taken, once it is worth a frame: as a whole client does.
fn repay(deliver: &Deliver, payload_bytes: usize, owed_bytes: &mut Vec<u32>, out: &mut Outgoing) {
    let Deliver { subscription, partition, .. } = *deliver;
    let at = partition as usize;
    if owed_bytes.len() <= at {
        owed_bytes.resize(at + 1, 0);
    }
    owed_bytes[at] += u32::try_from(payload_bytes).expect("a payload is within its limit");
    if u64::from(owed_bytes[at]) >= credit_worth_bytes(CREDIT_BYTES) {
        let bytes = std::mem::take(&mut owed_bytes[at]);
        let credit = ClientMessage::Credit(Credit { subscription, partition, bytes });
        credit.encode_into(CorrelationId(0), 0, out.tail());
    }
}

/// The chunk's ack, if this was its end.
fn acknowledge(deliver: &Deliver, acks: &mut u64, out: &mut Outgoing) {
    let Deliver { subscription, partition, last, .. } = *deliver;
    if let Some(lease) = deliver.lease
        && lease.chunk_last == last
    {
        *acks += 1;
        let (first, generation) = (lease.chunk_first, lease.generation);
        let ack = ClientMessage::Ack(Ack { subscription, partition, first, last, generation });
        ack.encode_into(CorrelationId(1 + *acks), 0, out.tail());
    }
}
