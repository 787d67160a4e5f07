//! The broker's end of a connection.
//!
//! ```text
//!            Hello, a version in common            goodbye()
//!  Opening ─────────────────▶ Greeted ──welcome()──▶ Open ───────▶ Open, still answering
//!     │                          │                    │
//!     └──────── anything wrong: Refusal, Closed ◀─────┘
//! ```

use bytes::{Bytes, BytesMut};

use super::Output;
use crate::frame::{Frame, FrameKind, HEADER_BYTES, peek};
use crate::limits::{PRODUCES_IN_FLIGHT_MAX, PROTOCOL_MAX, PROTOCOL_MIN, REQUESTS_IN_FLIGHT_MAX};
use crate::message::{
    Ack, AlterTopic, BrokerMessage, ClientMessage, CreateTopic, Credit, DeleteGroup, Deliver,
    DeliveryMode, Done, Ended, Extend, Goodbye, GroupInfo, GroupsReply, Hello, HelloReply, Missed,
    MoveGroup, Nack, PartitionOnline, ProduceReply, Refusal, Settled, Subscribe, SubscribeReply,
    Terminate, TopicInfo, TopicsReply,
};
use crate::{
    CorrelationId, ErrorCode, FrameDecoder, PartitionId, ProtocolError, SubscriptionId, TopicId,
    name,
};

/// What a client asks for. Every request with a correlation id gets one answer under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The hello is right: answer with [`BrokerSession::welcome`], or refuse.
    Hello {
        correlation: CorrelationId,
        client: String,
    },
    CreateTopic {
        correlation: CorrelationId,
        topic: CreateTopic,
    },
    DescribeTopic {
        correlation: CorrelationId,
        name: String,
    },
    ListTopics {
        correlation: CorrelationId,
    },
    /// `batch` is the frame's payload, not yet looked at.
    Produce {
        correlation: CorrelationId,
        partition: PartitionId,
        batch: &'a [u8],
    },
    Subscribe {
        correlation: CorrelationId,
        subscribe: Subscribe,
    },
    Credit(Credit),
    Ack {
        correlation: CorrelationId,
        ack: Ack,
    },
    Nack {
        correlation: CorrelationId,
        nack: Nack,
    },
    Extend {
        correlation: CorrelationId,
        extend: Extend,
    },
    Unsubscribe {
        correlation: CorrelationId,
        subscription: SubscriptionId,
    },
    AlterTopic {
        correlation: CorrelationId,
        alter: AlterTopic,
    },
    DeleteTopic {
        correlation: CorrelationId,
        name: String,
    },
    ListGroups {
        correlation: CorrelationId,
        partition: PartitionId,
    },
    MoveGroup {
        correlation: CorrelationId,
        moved: MoveGroup,
    },
    DeleteGroup {
        correlation: CorrelationId,
        delete: DeleteGroup,
    },
    Terminate {
        correlation: CorrelationId,
        terminate: Terminate,
    },
    /// Bring the connection to the core of this partition.
    Migrate {
        correlation: CorrelationId,
        partition: PartitionId,
    },
}

/// What a broker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub broker_version: String,
    pub shards: u32,
    pub default_mode: DeliveryMode,
    pub default_credit_bytes: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Opening,
    Greeted {
        protocol: u16,
    },
    Open,
    Closed,
}

/// One connection as the broker sees it: received bytes in, typed requests out; answers in, bytes
/// out.
///
/// Version negotiation, pings, names and ranges of requests, the number of requests in flight, and
/// refusals of everything that breaks the protocol happen here. An empty session costs no memory,
/// so a caller may `mem::take` one out of its place while it handles a request that borrows from it.
#[derive(Debug, Default)]
pub struct BrokerSession {
    decoder: FrameDecoder,
    state: State,
    produces_in_flight: u32,
    requests_in_flight: u32,
    frames: u64,
    /// Of the last whole one.
    frame_bytes: usize,
    output: Output,
}

/// What became of a frame.
enum Accepted {
    /// Dealt with by the session.
    Answered,
    Request(Request<'static>),
    /// A request whose payload is still to be added.
    Produce {
        correlation: CorrelationId,
        partition: PartitionId,
    },
}

impl BrokerSession {
    /// Takes the next request off the front of `input`. `None`: all of `input` is taken in. Call
    /// until then, then send [`Self::take_output`].
    ///
    /// Pings and requests that are wrong in themselves are answered on the way.
    ///
    /// # Errors
    /// The client broke the protocol. The refusal is in the output already: send it and close.
    pub fn next<'d, 'b: 'd>(
        &'d mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Request<'d>>, ProtocolError> {
        loop {
            if self.state == State::Closed {
                *input = &[];
                return Ok(None);
            }
            let found = match self.decoder.find(input) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.break_off(error)),
            };
            self.frames += 1;
            self.frame_bytes = found.header.frame_bytes();
            let opened = Frame::open(found.header, self.decoder.bytes(found));
            let message = opened.and_then(|frame| {
                let message = ClientMessage::decode(frame.header.kind, frame.control)?;
                Ok((frame.header.correlation, message))
            });
            let accepted =
                message.and_then(|(correlation, message)| self.accept(correlation, message));
            match accepted {
                Err(error) => return Err(self.break_off(error)),
                Ok(Accepted::Answered) => {}
                Ok(Accepted::Request(request)) => return Ok(Some(request)),
                Ok(Accepted::Produce { correlation, partition }) => {
                    let frame = self.decoder.bytes(found);
                    let batch = &frame[frame.len() - found.header.payload_bytes as usize..];
                    return Ok(Some(Request::Produce { correlation, partition, batch }));
                }
            }
        }
    }

    /// Answers the hello: requests may come now.
    pub fn welcome(&mut self, correlation: CorrelationId, greeting: &Greeting) {
        let State::Greeted { protocol } = self.state else {
            assert!(self.state == State::Closed, "a welcome answers a hello");
            return;
        };
        self.state = State::Open;
        let reply = BrokerMessage::HelloReply(HelloReply {
            protocol,
            broker_version: greeting.broker_version.clone(),
            shards: greeting.shards,
            default_mode: greeting.default_mode,
            default_credit_bytes: greeting.default_credit_bytes,
        });
        self.answer(correlation, &reply);
    }

    /// The batch is as durable as its topic promises.
    pub fn produced(&mut self, correlation: CorrelationId, reply: ProduceReply) {
        self.produce_answered();
        self.send(correlation, &BrokerMessage::ProduceReply(reply));
    }

    /// Refuses a produce request.
    pub fn produce_refused(&mut self, correlation: CorrelationId, refusal: Refusal) {
        self.produce_answered();
        self.send(correlation, &BrokerMessage::Refusal(refusal));
    }

    pub fn topics(&mut self, correlation: CorrelationId, topics: Vec<TopicInfo>) {
        self.answer(correlation, &BrokerMessage::Topics(TopicsReply { topics }));
    }

    pub fn subscribed(&mut self, correlation: CorrelationId, reply: SubscribeReply) {
        self.answer(correlation, &BrokerMessage::SubscribeReply(reply));
    }

    pub fn groups(&mut self, correlation: CorrelationId, groups: Vec<GroupInfo>) {
        self.answer(correlation, &BrokerMessage::Groups(GroupsReply { groups }));
    }

    /// The request is carried out and there is nothing else to say.
    pub fn done(&mut self, correlation: CorrelationId) {
        self.answer(correlation, &BrokerMessage::Done(Done {}));
    }

    /// Refuses any request but a produce.
    pub fn refuse(&mut self, correlation: CorrelationId, refusal: Refusal) {
        self.answer(correlation, &BrokerMessage::Refusal(refusal));
    }

    /// Sends whole batches to a subscription, by reference. Together they are at most
    /// [`PAYLOAD_BYTES_MAX`](crate::limits::PAYLOAD_BYTES_MAX).
    pub fn deliver(&mut self, deliver: &Deliver, batches: impl IntoIterator<Item = Bytes> + Clone) {
        if self.state == State::Closed {
            return;
        }
        let bytes: usize = batches.clone().into_iter().map(|batch| batch.len()).sum();
        let payload_bytes = u32::try_from(bytes).expect("a payload is within its limit");
        let message = BrokerMessage::Deliver(*deliver);
        self.output.small(|out| message.encode_into(CorrelationId(0), payload_bytes, out));
        for batch in batches {
            self.output.bulk(batch);
        }
    }

    pub fn missed(&mut self, missed: Missed) {
        self.send(CorrelationId(0), &BrokerMessage::Missed(missed));
    }

    /// Comes before the chunk's first [`Self::deliver`].
    pub fn settled(&mut self, settled: Settled) {
        self.send(CorrelationId(0), &BrokerMessage::Settled(settled));
    }

    /// A partition that a subscription's reply called offline can be read.
    pub fn online(&mut self, online: PartitionOnline) {
        self.send(CorrelationId(0), &BrokerMessage::PartitionOnline(online));
    }

    /// A subscription is over, by no wish of the client.
    pub fn ended(&mut self, ended: Ended) {
        self.send(CorrelationId(0), &BrokerMessage::Ended(ended));
    }

    /// Says that the connection will be closed in good order. Answers may still follow.
    pub fn goodbye(&mut self, reason: impl Into<String>) {
        self.send(CorrelationId(0), &BrokerMessage::Goodbye(Goodbye::new(reason)));
    }

    /// Refuses the connection as a whole: send what is in the output, then close.
    pub fn close(&mut self, refusal: Refusal) {
        self.send(CorrelationId(0), &BrokerMessage::Refusal(refusal));
        self.state = State::Closed;
        self.decoder = FrameDecoder::default();
    }

    /// Everything to be sent, in order.
    pub fn take_output(&mut self) -> Vec<Bytes> {
        self.output.take()
    }

    /// The same, but everything that is not a batch goes through `change`, which keeps its length.
    pub fn take_output_with(&mut self, change: impl FnMut(Bytes) -> Bytes) -> Vec<Bytes> {
        self.output.take_with(change)
    }

    /// Bytes that [`Self::take_output`] would give.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.bytes()
    }

    /// Whole frames that were taken in.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Size of the last whole frame, as a guess at the next.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// The last `bytes` of the frame that was just given out, if it came in several pieces: the memory that
    /// they were gathered in goes along.
    ///
    /// # Panics
    /// The frame lies in the received bytes, or is shorter.
    #[must_use]
    pub fn take_gathered(&mut self, bytes: usize) -> BytesMut {
        let frame = self.decoder.take_gathered().expect("the frame came in pieces");
        let mut frame = BytesMut::from(Bytes::from(frame));
        frame.split_off(frame.len() - bytes)
    }

    /// Lends out the memory of the frame that has begun, if that is one of at least `frame_bytes_min` bytes,
    /// to receive the rest into. Nothing is taken in before it [comes back](Self::take_back). It has room for
    /// as much again as has come, and for a frame of `known_bytes`.
    #[must_use]
    pub fn lend(&mut self, frame_bytes_min: usize, known_bytes: usize) -> Option<Vec<u8>> {
        self.decoder.lend(frame_bytes_min, known_bytes)
    }

    /// Takes back what was lent, with what was received behind it. Gives what does not belong to the
    /// frame: it comes next, and, if it is nothing, [`Self::next`] still has to be asked.
    #[must_use]
    pub fn take_back(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        self.decoder.take_back(buffer)
    }

    /// Is the memory of the frame that has begun lent out?
    #[must_use]
    pub fn has_lent(&self) -> bool {
        self.decoder.has_lent()
    }

    /// Takes in received bytes with the memory that they are in, if they are nothing but the front of a frame
    /// of at least `frame_bytes_min` bytes.
    ///
    /// # Errors
    /// Gives them back: it is not so.
    pub fn gather_in(&mut self, buffer: Vec<u8>, frame_bytes_min: usize) -> Result<(), Vec<u8>> {
        if self.state == State::Closed {
            return Err(buffer);
        }
        self.decoder.gather_in(buffer, frame_bytes_min)
    }

    /// How much of the frame that has begun is still to come; `None`: nobody knows yet.
    #[must_use]
    pub fn missing_bytes(&self) -> Option<usize> {
        self.decoder.missing_bytes()
    }

    /// Is everything behind the frame that has begun, if any, one produce request like the other: as
    /// large, and for the same partition? The last one may be cut off.
    #[must_use]
    pub fn repeats_in(&self, input: &[u8]) -> bool {
        let behind = self.decoder.missing_bytes().and_then(|missing| input.get(missing..));
        let Some(frames) = behind else { return false };
        let Ok(Some(first)) = peek(frames) else { return false };
        let control = HEADER_BYTES..HEADER_BYTES + first.control_bytes as usize;
        let Some(route) = frames.get(control.clone()) else { return false };
        let bytes = first.frame_bytes();
        first.kind == FrameKind::Produce
            && frames.len() >= bytes
            && frames.chunks(bytes).all(|frame| match peek(frame) {
                Ok(Some(header)) => {
                    header.kind == FrameKind::Produce
                        && header.frame_bytes() == bytes
                        && frame.get(control.clone()).is_none_or(|other| other == route)
                }
                Ok(None) => true,
                Err(_) => false,
            })
    }

    /// A frame has begun and is not whole yet.
    #[must_use]
    pub fn has_begun_frame(&self) -> bool {
        self.decoder.has_begun()
    }

    /// Memory of the frame that has begun.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.decoder.buffered_bytes_max()
    }

    /// The hello is answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Nothing more will be taken in or sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Requests that wait for an answer.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.produces_in_flight + self.requests_in_flight
    }

    fn accept(
        &mut self,
        correlation: CorrelationId,
        message: ClientMessage,
    ) -> Result<Accepted, ProtocolError> {
        let kind = message.kind();
        if (self.state == State::Open) == matches!(message, ClientMessage::Hello(_)) {
            let state = match self.state {
                State::Opening => "before the hello",
                State::Greeted { .. } => "before the hello is answered",
                State::Open | State::Closed => "after the hello",
            };
            return Err(ProtocolError::Unexpected { kind, state });
        }
        self.count(kind, correlation)?;
        let (checked, request) = match message {
            ClientMessage::Hello(hello) => (Ok(()), self.greet(correlation, hello)?),
            ClientMessage::Ping(_) => {
                self.done(correlation);
                return Ok(Accepted::Answered);
            }
            ClientMessage::Produce(produce) => {
                let partition =
                    PartitionId { topic: TopicId(produce.topic), index: produce.partition };
                return Ok(Accepted::Produce { correlation, partition });
            }
            ClientMessage::CreateTopic(topic) => {
                (topic.check(), Request::CreateTopic { correlation, topic })
            }
            ClientMessage::DescribeTopic(describe) => {
                let checked = describe.check();
                (checked, Request::DescribeTopic { correlation, name: describe.name })
            }
            ClientMessage::ListTopics(_) => (Ok(()), Request::ListTopics { correlation }),
            ClientMessage::Subscribe(subscribe) => {
                (subscribe.check(), Request::Subscribe { correlation, subscribe })
            }
            ClientMessage::Credit(credit) => (Ok(()), Request::Credit(credit)),
            ClientMessage::Ack(ack) => (Ok(()), Request::Ack { correlation, ack }),
            ClientMessage::Nack(nack) => (nack.check(), Request::Nack { correlation, nack }),
            ClientMessage::Extend(extend) => {
                (extend.check(), Request::Extend { correlation, extend })
            }
            ClientMessage::Unsubscribe(unsubscribe) => {
                let subscription = SubscriptionId(unsubscribe.subscription);
                (Ok(()), Request::Unsubscribe { correlation, subscription })
            }
            ClientMessage::AlterTopic(alter) => {
                (alter.check(), Request::AlterTopic { correlation, alter })
            }
            ClientMessage::DeleteTopic(delete) => {
                let checked = delete.check();
                (checked, Request::DeleteTopic { correlation, name: delete.name })
            }
            ClientMessage::ListGroups(list) => {
                let partition = PartitionId { topic: TopicId(list.topic), index: list.partition };
                (Ok(()), Request::ListGroups { correlation, partition })
            }
            ClientMessage::MoveGroup(moved) => {
                (moved.check(), Request::MoveGroup { correlation, moved })
            }
            ClientMessage::DeleteGroup(delete) => {
                (delete.check(), Request::DeleteGroup { correlation, delete })
            }
            ClientMessage::Terminate(terminate) => {
                (terminate.check(), Request::Terminate { correlation, terminate })
            }
            ClientMessage::Migrate(to) => {
                let partition = PartitionId { topic: TopicId(to.topic), index: to.partition };
                (self.is_alone(), Request::Migrate { correlation, partition })
            }
        };
        match checked {
            Ok(()) => Ok(Accepted::Request(request)),
            Err(refusal) => {
                self.refuse(correlation, refusal);
                Ok(Accepted::Answered)
            }
        }
    }

    /// A connection moves with nothing but itself: answers that are under way would not find it.
    fn is_alone(&self) -> Result<(), Refusal> {
        if self.in_flight() == 1 {
            return Ok(());
        }
        let what = "a connection migrates while nothing else is in flight on it";
        Err(Refusal::new(ErrorCode::INVALID_REQUEST, what))
    }

    fn greet(
        &mut self,
        correlation: CorrelationId,
        hello: Hello,
    ) -> Result<Request<'static>, ProtocolError> {
        let (min, max) = (hello.protocol_min, hello.protocol_max);
        let protocol = max.min(PROTOCOL_MAX);
        if protocol < min.max(PROTOCOL_MIN) {
            return Err(ProtocolError::Version { min, max });
        }
        if name::check(&hello.client).is_err() {
            let what = "the client's name may have letters, digits, '.', '_' and '-' only";
            return Err(ProtocolError::Content { kind: FrameKind::Hello, what });
        }
        self.state = State::Greeted { protocol };
        Ok(Request::Hello { correlation, client: hello.client })
    }

    /// Counts a request that will need an answer.
    fn count(&mut self, kind: FrameKind, correlation: CorrelationId) -> Result<(), ProtocolError> {
        if kind == FrameKind::Credit {
            return Ok(());
        }
        if correlation == CorrelationId(0) {
            let what = "correlation id 0 is the connection's own";
            return Err(ProtocolError::Content { kind, what });
        }
        let (counter, limit, what) = if kind == FrameKind::Produce {
            (&mut self.produces_in_flight, PRODUCES_IN_FLIGHT_MAX, "produce requests in flight")
        } else {
            (&mut self.requests_in_flight, REQUESTS_IN_FLIGHT_MAX, "requests in flight")
        };
        *counter += 1;
        if *counter > limit {
            let (count, limit) = (u64::from(*counter), u64::from(limit));
            return Err(ProtocolError::Limit { what, count, limit });
        }
        Ok(())
    }

    fn produce_answered(&mut self) {
        assert!(self.produces_in_flight > 0, "more produce answers than requests");
        self.produces_in_flight -= 1;
    }

    fn answer(&mut self, correlation: CorrelationId, message: &BrokerMessage) {
        assert!(self.requests_in_flight > 0, "more answers than requests");
        self.requests_in_flight -= 1;
        self.send(correlation, message);
    }

    fn send(&mut self, correlation: CorrelationId, message: &BrokerMessage) {
        if self.state != State::Closed {
            self.output.small(|out| message.encode_into(correlation, 0, out));
        }
    }

    fn break_off(&mut self, error: ProtocolError) -> ProtocolError {
        self.close(Refusal::new(error.code(), error.to_string()));
        error
    }
}

#[cfg(test)]
mod tests;
