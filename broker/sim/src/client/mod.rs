//! Model clients: what a correct client does, and nothing else.
//!
//! Each client has one connection at a time. It says hello, makes the topic (which may exist), and
//! then plays its role; when the connection goes, it comes back later and goes on where it was.

mod member;
mod producer;
mod reader;
mod vandal;

use bytes::{Bytes, BytesMut};
use lanecast_wire::FrameDecoder;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{BrokerMessage, ClientMessage, CreateTopic, Hello, Refusal};
use lanecast_wire::{CorrelationId, ErrorCode, KeyFilter, KeyHash, KeyKind};

pub(crate) use self::member::Member;
pub(crate) use self::producer::Producer;
pub(crate) use self::reader::Reader;
pub(crate) use self::vandal::Vandal;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::scenario::{Scenario, TOPIC};

/// How long a client waits before it tries again.
const RETRY_US: (u64, u64) = (1_000, 50_000);

/// Batches have one of so many keys, which readers may ask for.
const KEYS: u32 = 3;

/// The only key of that number.
fn key(number: u32) -> KeyHash {
    KeyHash::of(KeyKind::Message, &(number % KEYS).to_le_bytes())
}

/// A filter for that key.
fn filter(number: u32) -> KeyFilter {
    KeyFilter::default().message_key((number % KEYS).to_le_bytes())
}

/// What a client may see and do while it has the word.
pub(crate) struct Turn<'a> {
    pub(crate) now_us: u64,
    /// When the broker sent what has just arrived.
    pub(crate) sent_us: u64,
    /// No more faults: clients behave, so that everything drains.
    pub(crate) calm: bool,
    pub(crate) client: usize,
    pub(crate) rng: &'a mut Rng,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) scenario: &'a Scenario,
    pub(crate) out: BytesMut,
    pub(crate) close: bool,
    pub(crate) wakes: Vec<u64>,
}

impl Turn<'_> {
    pub(crate) fn wake_in(&mut self, delay_us: u64) {
        self.wakes.push(self.now_us + delay_us.max(1));
    }

    pub(crate) fn retry_later(&mut self) {
        let delay_us = self.rng.delay(RETRY_US.0, RETRY_US.1);
        self.wake_in(delay_us);
    }
}

/// The client's end of its connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    correlations: u64,
    topic: Option<u32>,
}

impl Line {
    /// The topic, once this connection may speak of it.
    pub(crate) fn topic(&self) -> Option<u32> {
        self.topic
    }

    pub(crate) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        message: &ClientMessage,
        payload: &[u8],
    ) -> u64 {
        self.correlations += 1;
        let correlation = CorrelationId(self.correlations);
        message.encode_into(correlation, payload.len() as u32, &mut turn.out);
        turn.out.extend_from_slice(payload);
        self.correlations
    }
}

#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Reader(Reader),
    Member(Member),
    Vandal(Vandal),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) role: Role,
    pub(crate) connected: bool,
    /// When it will be woken.
    pub(crate) wake_at_us: Option<u64>,
    line: Line,
    decoder: FrameDecoder,
    /// The topic has to be asked for again.
    topic_refused: bool,
}

impl Client {
    pub(crate) fn new(role: Role) -> Self {
        let (line, decoder) = (Line::default(), FrameDecoder::default());
        Self { role, connected: false, wake_at_us: None, line, decoder, topic_refused: false }
    }

    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>) {
        self.connected = true;
        // Correlation numbers start anew with each connection, as a restarted client's would.
        self.line = Line::default();
        self.decoder = FrameDecoder::default();
        self.topic_refused = false;
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            client: format!("client-{}", turn.client),
        };
        self.line.send(turn, &ClientMessage::Hello(hello), &[]);
    }

    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        self.connected = false;
        self.line.topic = None;
        turn.oracle.released(turn.client);
        match &mut self.role {
            Role::Producer(producer) => producer.disconnected(turn),
            Role::Reader(reader) => reader.disconnected(),
            Role::Member(member) => member.disconnected(),
            Role::Vandal(_) => {}
        }
        turn.retry_later();
    }

    pub(crate) fn woken(&mut self, turn: &mut Turn<'_>) {
        if !self.connected {
            return;
        }
        if std::mem::take(&mut self.topic_refused) {
            self.create_topic(turn);
        }
        if self.line.topic.is_some() {
            match &mut self.role {
                Role::Producer(producer) => producer.woken(&mut self.line, turn),
                Role::Reader(reader) => reader.woken(&mut self.line, turn),
                Role::Member(member) => member.woken(&mut self.line, turn),
                Role::Vandal(vandal) => vandal.woken(&mut self.line, turn),
            }
        }
    }

    pub(crate) fn received(&mut self, mut bytes: &[u8], turn: &mut Turn<'_>) {
        let mut decoder = std::mem::take(&mut self.decoder);
        loop {
            let frame = decoder.next(&mut bytes).expect("the broker sends whole frames");
            let Some(frame) = frame else { break };
            let message = BrokerMessage::decode(frame.header.kind, frame.control)
                .expect("the broker sends whole messages");
            let payload = Bytes::copy_from_slice(frame.payload);
            self.message(frame.header.correlation.0, message, payload, turn);
        }
        self.decoder = decoder;
    }

    fn message(&mut self, at: u64, message: BrokerMessage, payload: Bytes, turn: &mut Turn<'_>) {
        match message {
            BrokerMessage::HelloReply(_) => self.create_topic(turn),
            BrokerMessage::Topics(reply) => {
                let topic = reply.topics.first().expect("the topic that was asked for");
                assert_eq!(
                    (topic.name.as_str(), topic.partitions),
                    (TOPIC, turn.scenario.partitions)
                );
                turn.oracle.topic(topic.topic);
                let first_time = self.line.topic.replace(topic.topic).is_none();
                if first_time {
                    self.woken(turn);
                }
            }
            BrokerMessage::Refusal(_) if matches!(self.role, Role::Vandal(_)) => {}
            BrokerMessage::Refusal(refusal) if at == 0 => refused_connection(&refusal, turn),
            BrokerMessage::Refusal(refusal) if self.line.topic.is_none() => {
                assert!(refusal.code().is_retryable(), "topic refused: {refusal:?}");
                self.topic_refused = true;
                turn.retry_later();
            }
            BrokerMessage::Goodbye(_) => {}
            message @ (BrokerMessage::ProduceReply(_)
            | BrokerMessage::SubscribeReply(_)
            | BrokerMessage::Deliver(_)
            | BrokerMessage::Missed(_)
            | BrokerMessage::Groups(_)
            | BrokerMessage::Settled(_)
            | BrokerMessage::Done(_)
            | BrokerMessage::Refusal(_)) => {
                let line = &mut self.line;
                match &mut self.role {
                    Role::Producer(producer) => producer.message(at, &message, line, turn),
                    Role::Reader(reader) => reader.message(at, message, payload, line, turn),
                    Role::Member(member) => member.message(at, message, payload, line, turn),
                    // Any answer will do.
                    Role::Vandal(_) => {}
                }
            }
        }
    }

    fn create_topic(&mut self, turn: &mut Turn<'_>) {
        let create = CreateTopic {
            name: TOPIC.to_owned(),
            partitions: turn.scenario.partitions,
            settings: turn.scenario.topic_settings(),
        };
        self.line.send(turn, &ClientMessage::CreateTopic(create), &[]);
    }
}

/// A correct client is never refused as a whole, unless the broker goes away.
fn refused_connection(refusal: &Refusal, turn: &mut Turn<'_>) {
    let code = refusal.code();
    assert!(code == ErrorCode::DRAINING, "connection refused: {refusal:?}");
    turn.close = true;
}
