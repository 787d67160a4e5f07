//! A client made of a socket and nothing else: what a test does with it is the test's own fault.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use lanecast_wire::builder::SealedBody;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    BrokerMessage, ClientMessage, CreateTopic, Credit, Hello, Produce, StartPosition, Subscribe,
    SubscribeMode, TopicSettings,
};
use lanecast_wire::{
    CorrelationId, FrameDecoder, KeyFilter, ProducerEpoch, ProducerId, Sequence, batch,
};

/// Longer than any answer takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    decoder: FrameDecoder,
    received: Vec<u8>,
    correlation: u64,
}

impl Raw {
    /// Connected, and nothing said.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw { socket, decoder: FrameDecoder::default(), received: Vec::new(), correlation: 1 }
    }

    /// Welcomed under this name.
    pub(crate) fn connect(addr: SocketAddr, name: &str) -> Self {
        let mut raw = Raw::dial(addr);
        raw.send(&hello(name), b"");
        let welcome = raw.receive();
        assert!(matches!(welcome, (BrokerMessage::HelloReply(_), _)), "{welcome:?}");
        raw
    }

    pub(crate) fn frame(&mut self, message: &ClientMessage, tail: &[u8]) -> Vec<u8> {
        self.correlation += 1;
        let correlation = match message {
            ClientMessage::Credit(_) => 0,
            _ => self.correlation,
        };
        let mut frame = message.encode(CorrelationId(correlation), tail.len() as u32).to_vec();
        frame.extend_from_slice(tail);
        frame
    }

    pub(crate) fn send(&mut self, message: &ClientMessage, tail: &[u8]) {
        let frame = self.frame(message, tail);
        self.socket.write_all(&frame).unwrap();
    }

    /// The next message, and the bytes of its payload.
    pub(crate) fn receive(&mut self) -> (BrokerMessage, usize) {
        self.try_receive().expect("the broker goes on talking")
    }

    /// `None`: the connection is closed.
    pub(crate) fn try_receive(&mut self) -> Option<(BrokerMessage, usize)> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut input = &self.received[..];
            let found = self.decoder.next(&mut input).unwrap().map(|frame| {
                let message = BrokerMessage::decode(frame.header.kind, frame.control).unwrap();
                (message, frame.payload.len())
            });
            let left = input.len();
            self.received.drain(..self.received.len() - left);
            if found.is_some() {
                return found;
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A socket with a time limit is not restarted after a signal to the process.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32) -> u32 {
        let settings = TopicSettings::default();
        let create = CreateTopic { name: name.to_owned(), partitions, settings };
        loop {
            self.send(&ClientMessage::CreateTopic(create.clone()), b"");
            match self.receive().0 {
                BrokerMessage::Topics(reply) => return reply.topics[0].topic,
                // The broker has only just started.
                BrokerMessage::Refusal(refusal) if refusal.code().is_retryable() => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn subscribe(&mut self, topic: u32, start: StartPosition, credit_bytes: u32) {
        let subscribe = Subscribe {
            subscription: 1,
            topic,
            mode: SubscribeMode::Broadcast,
            start,
            starts: Vec::new(),
            credit_bytes,
            filter: KeyFilter::default(),
        };
        self.send(&ClientMessage::Subscribe(subscribe), b"");
    }

    pub(crate) fn credit(&mut self, partition: u32, bytes: usize) {
        let credit = Credit { subscription: 1, partition, bytes: bytes as u32 };
        self.send(&ClientMessage::Credit(credit), b"");
    }

    /// Produces and waits for the answer; asked again while the broker is busy.
    pub(crate) fn produced(&mut self, topic: u32, batch: &[u8]) {
        loop {
            self.send(&produce(topic), batch);
            match self.receive().0 {
                BrokerMessage::ProduceReply(_) => return,
                BrokerMessage::Refusal(refusal) if refusal.code().is_retryable() => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub(crate) fn hello(name: &str) -> ClientMessage {
    ClientMessage::Hello(Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        client: name.to_owned(),
    })
}

/// To partition 0.
pub(crate) fn produce(topic: u32) -> ClientMessage {
    ClientMessage::Produce(Produce { topic, partition: 0 })
}

/// One record of this size.
pub(crate) fn sealed(producer: u64, sequence: u64, bytes: usize) -> Bytes {
    let body = SealedBody {
        body: vec![sequence as u8; bytes],
        schema: batch::schema::GENERIC,
        record_count: 1,
        min_time_ms: 0,
        max_time_ms: 0,
        summary: Vec::new(),
    };
    batch::seal(&body, ProducerId(producer), ProducerEpoch(0), Sequence(sequence), 0)
}
