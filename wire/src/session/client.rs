//! The client's end of a connection.
//!
//! ```text
//!            HelloReply             Goodbye
//!  Opening ─────────────▶ Open ───────────────▶ Leaving: answers still come, nothing new is asked
//! ```

use bytes::{Bytes, BytesMut};

use super::Output;
use super::correlations::Correlations;
use crate::frame::{Frame, FrameKind, HEADER_BYTES, peek};
use crate::limits::{
    PRODUCES_IN_FLIGHT_MAX, PROTOCOL_MAX, PROTOCOL_MIN, RECEIVE_BYTES, RECEIVE_SPARE_BYTES_MIN,
    REQUESTS_IN_FLIGHT_MAX,
};
use crate::message::{
    BrokerMessage, ClientMessage, Credit, Deliver, Ended, GroupInfo, Hello, HelloReply, Missed,
    PartitionOnline, Ping, Produce, ProduceReply, Refusal, Settled, SubscribeReply, TopicInfo,
};
use crate::{CorrelationId, PartitionId, ProtocolError};

/// Something came from the broker. `T` is the caller's own name for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The connection is open.
    Opened(HelloReply),
    /// The answer to a request.
    Answered {
        tag: T,
        answer: Result<Answer, Refusal>,
    },
    /// Whole batches, a slice of the receive buffer; not yet looked at.
    Deliver {
        deliver: Deliver,
        payload: Bytes,
    },
    Missed(Missed),
    /// What is settled already of the chunk that comes next.
    Settled(Settled),
    /// A subscription is over; the connection is not.
    Ended(Ended),
    /// A partition of a subscription can be read from now on.
    Online(PartitionOnline),
    /// The broker will close the connection soon; answers to requests in flight still come.
    Goodbye {
        reason: String,
    },
    /// The broker refuses the connection as a whole and closes it.
    Refused(Refusal),
}

/// What a request got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Topics(Vec<TopicInfo>),
    Produced(ProduceReply),
    Subscribed(SubscribeReply),
    Groups(Vec<GroupInfo>),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Leaving,
}

#[derive(Debug)]
struct Waiting<T> {
    /// The kind of frame that answers it, unless a refusal does.
    answer: FrameKind,
    /// `None`: the session's own hello or ping.
    tag: Option<T>,
}

/// One connection as the client sees it: requests in, bytes out; received bytes in, events out.
///
/// The receive buffer is read into directly and payloads are slices of it, so bulk bytes are not
/// copied again.
#[derive(Debug)]
pub struct ClientSession<T> {
    state: State,
    received: BytesMut,
    produces: Correlations<Waiting<T>>,
    requests: Correlations<Waiting<T>>,
    output: Output,
}

/// Produce requests carry this bit in their correlation id, since they have a table of their own.
const PRODUCE_BIT: u64 = 1 << 31;

impl<T> ClientSession<T> {
    /// A session that says hello first.
    #[must_use]
    pub fn new(client: &str) -> Self {
        let mut session = Self {
            state: State::Opening,
            received: BytesMut::new(),
            produces: Correlations::new(PRODUCES_IN_FLIGHT_MAX),
            requests: Correlations::new(REQUESTS_IN_FLIGHT_MAX),
            output: Output::default(),
        };
        let hello = ClientMessage::Hello(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            client: client.to_owned(),
        });
        let asked = session.ask(&hello, FrameKind::HelloReply, None);
        assert!(asked.is_ok(), "an empty table has room");
        session
    }

    /// Where received bytes go: append to it, then call [`Self::next_event`]. It has spare capacity.
    ///
    /// Its memory is bounded by the largest frame and one read.
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        let spare = self.received.capacity() - self.received.len();
        if spare < RECEIVE_SPARE_BYTES_MIN {
            // A large frame doubles the buffer as it really arrives.
            let more = match peek(&self.received) {
                Ok(Some(header)) => header
                    .frame_bytes()
                    .saturating_sub(self.received.len())
                    .min(self.received.len())
                    .max(RECEIVE_BYTES),
                Ok(None) | Err(_) => RECEIVE_BYTES,
            };
            self.received.reserve(more);
        }
        &mut self.received
    }

    /// The next event in what was received.
    ///
    /// # Errors
    /// The broker broke the protocol: close, and connect again.
    pub fn next_event(&mut self) -> Result<Option<Event<T>>, ProtocolError> {
        loop {
            let Some(header) = peek(&self.received)? else { return Ok(None) };
            if self.received.len() < header.frame_bytes() {
                return Ok(None);
            }
            let mut frame = self.received.split_to(header.frame_bytes());
            let control = Frame::open(header, &frame)?.control;
            let message = BrokerMessage::decode(header.kind, control)?;
            let payload = frame.split_off(HEADER_BYTES + header.control_bytes as usize);
            if let Some(event) = self.accept(header.correlation, message, payload.freeze())? {
                return Ok(Some(event));
            }
        }
    }

    /// Whether requests may be made.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether [`Self::produce`] has room for one more request.
    #[must_use]
    pub fn may_produce(&self) -> bool {
        self.is_open() && self.produces.len() < PRODUCES_IN_FLIGHT_MAX
    }

    /// Whether [`Self::request`] has room for one more; some is kept for pings.
    #[must_use]
    pub fn may_request(&self) -> bool {
        self.is_open() && self.requests.len() + 1 < REQUESTS_IN_FLIGHT_MAX
    }

    /// Requests that wait for an answer.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.produces.len() + self.requests.len()
    }

    /// Appends a sealed batch to a partition, by reference.
    ///
    /// # Errors
    /// Gives `tag` back: there is no room, see [`Self::may_produce`].
    pub fn produce(&mut self, partition: PartitionId, batch: Bytes, tag: T) -> Result<(), T> {
        if !self.is_open() {
            return Err(tag);
        }
        let waiting = Waiting { answer: FrameKind::ProduceReply, tag: Some(tag) };
        let correlation = match self.produces.insert(waiting) {
            Ok(CorrelationId(id)) => CorrelationId(id | PRODUCE_BIT),
            Err(waiting) => return Err(waiting.tag.expect("the tag was just put in")),
        };
        let message = ClientMessage::Produce(Produce {
            topic: partition.topic.0,
            partition: partition.index,
        });
        let bytes = u32::try_from(batch.len()).expect("a batch is within its limit");
        self.output.small(|out| message.encode_into(correlation, bytes, out));
        self.output.bulk(batch);
        Ok(())
    }

    /// Makes any request that is answered, other than a produce.
    ///
    /// # Errors
    /// Gives `tag` back: the session is not open, or too many requests are in flight.
    pub fn request(&mut self, message: &ClientMessage, tag: T) -> Result<(), T> {
        let answer = match message {
            ClientMessage::CreateTopic(_)
            | ClientMessage::AlterTopic(_)
            | ClientMessage::DescribeTopic(_)
            | ClientMessage::ListTopics(_) => FrameKind::Topics,
            ClientMessage::Subscribe(_) => FrameKind::SubscribeReply,
            ClientMessage::Ack(_)
            | ClientMessage::Nack(_)
            | ClientMessage::Extend(_)
            | ClientMessage::Unsubscribe(_)
            | ClientMessage::DeleteTopic(_)
            | ClientMessage::DeleteGroup(_)
            | ClientMessage::Terminate(_)
            | ClientMessage::Migrate(_) => FrameKind::Done,
            ClientMessage::ListGroups(_) | ClientMessage::MoveGroup(_) => FrameKind::Groups,
            ClientMessage::Hello(_)
            | ClientMessage::Ping(_)
            | ClientMessage::Credit(_)
            | ClientMessage::Produce(_) => panic!("this message has a function of its own"),
        };
        if !self.is_open() {
            return Err(tag);
        }
        match self.ask(message, answer, Some(tag)) {
            Ok(()) => Ok(()),
            Err(tag) => Err(tag.expect("the tag was just put in")),
        }
    }

    /// Asks whether the broker is there; the answer shows as received bytes only. Left out while
    /// no request can be made.
    pub fn ping(&mut self) {
        if self.is_open() {
            // A full table has answers under way, which tell as much as a ping's would.
            let _ = self.ask(&ClientMessage::Ping(Ping {}), FrameKind::Done, None);
        }
    }

    /// Gives credit back. Left out after a goodbye, when no deliveries will follow.
    pub fn credit(&mut self, credit: Credit) {
        if self.is_open() {
            let message = ClientMessage::Credit(credit);
            self.output.small(|out| message.encode_into(CorrelationId(0), 0, out));
        }
    }

    /// What is to be sent.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Bytes to be sent.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.bytes()
    }

    /// The connection is gone: the tags of all requests that nobody will answer any more.
    pub fn abandon(&mut self) -> Vec<T> {
        let Self { produces, requests, .. } = self;
        produces.drain().chain(requests.drain()).filter_map(|waiting| waiting.tag).collect()
    }

    fn ask(
        &mut self,
        message: &ClientMessage,
        answer: FrameKind,
        tag: Option<T>,
    ) -> Result<(), Option<T>> {
        let waiting = Waiting { answer, tag };
        let correlation = self.requests.insert(waiting).map_err(|waiting| waiting.tag)?;
        self.output.small(|out| message.encode_into(correlation, 0, out));
        Ok(())
    }

    fn accept(
        &mut self,
        correlation: CorrelationId,
        message: BrokerMessage,
        payload: Bytes,
    ) -> Result<Option<Event<T>>, ProtocolError> {
        let kind = message.kind();
        let answer = match message {
            BrokerMessage::HelloReply(reply) => return self.opened(correlation, reply).map(Some),
            BrokerMessage::Deliver(deliver) => {
                return Ok(Some(Event::Deliver { deliver, payload }));
            }
            BrokerMessage::Missed(missed) => return Ok(Some(Event::Missed(missed))),
            BrokerMessage::Settled(settled) => return Ok(Some(Event::Settled(settled))),
            BrokerMessage::Ended(ended) => return Ok(Some(Event::Ended(ended))),
            BrokerMessage::PartitionOnline(online) => return Ok(Some(Event::Online(online))),
            BrokerMessage::Goodbye(goodbye) => {
                self.state = State::Leaving;
                return Ok(Some(Event::Goodbye { reason: goodbye.reason }));
            }
            BrokerMessage::Refusal(refusal) if correlation == CorrelationId(0) => {
                self.state = State::Leaving;
                return Ok(Some(Event::Refused(refusal)));
            }
            BrokerMessage::Refusal(refusal) => Err(refusal),
            BrokerMessage::Topics(reply) => Ok(Answer::Topics(reply.topics)),
            BrokerMessage::ProduceReply(reply) => Ok(Answer::Produced(reply)),
            BrokerMessage::SubscribeReply(reply) => Ok(Answer::Subscribed(reply)),
            BrokerMessage::Groups(reply) => Ok(Answer::Groups(reply.groups)),
            BrokerMessage::Done(_) => Ok(Answer::Done),
        };
        let waiting =
            self.answered(correlation).ok_or(ProtocolError::UnknownCorrelation { kind })?;
        if answer.is_ok() && waiting.answer != kind {
            return Err(ProtocolError::Unexpected { kind, state: "as an answer to this request" });
        }
        match (waiting.tag, answer) {
            (Some(tag), answer) => Ok(Some(Event::Answered { tag, answer })),
            // A refused hello or ping is a refused connection.
            (None, Err(refusal)) => {
                self.state = State::Leaving;
                Ok(Some(Event::Refused(refusal)))
            }
            (None, Ok(_)) => Ok(None),
        }
    }

    fn opened(
        &mut self,
        correlation: CorrelationId,
        reply: HelloReply,
    ) -> Result<Event<T>, ProtocolError> {
        let kind = FrameKind::HelloReply;
        let waiting =
            self.answered(correlation).ok_or(ProtocolError::UnknownCorrelation { kind })?;
        if waiting.answer != kind || self.state != State::Opening {
            return Err(ProtocolError::Unexpected { kind, state: "after the hello" });
        }
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&reply.protocol) {
            return Err(ProtocolError::Version { min: reply.protocol, max: reply.protocol });
        }
        self.state = State::Open;
        Ok(Event::Opened(reply))
    }

    fn answered(&mut self, CorrelationId(id): CorrelationId) -> Option<Waiting<T>> {
        if id & PRODUCE_BIT != 0 {
            self.produces.take(CorrelationId(id & !PRODUCE_BIT))
        } else {
            self.requests.take(CorrelationId(id))
        }
    }
}

#[cfg(test)]
mod tests;
