//! Control messages to frames and back.

use bytes::{Bytes, BytesMut};
use rkyv::api::high::{HighSerializer, to_bytes_in};
use rkyv::api::low::{LowValidator, from_bytes};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Writer};
use rkyv::{Archive, Deserialize, Serialize};

use crate::frame::{FrameHeader, FrameKind, HEADER_BYTES};
use crate::limits::{
    CHUNK_RANGES_MAX, FILTER_KEYS_MAX, GROUPS_PER_PARTITION_MAX, MESSAGE_KEY_BYTES_MAX,
    NAME_BYTES_MAX, TEXT_BYTES_MAX, TOPICS_MAX,
};
use crate::message::{
    BrokerMessage, ClientMessage, Goodbye, GroupOptions, Nack, Refusal, SubscribeMode, Terminate,
};
use crate::{CorrelationId, ErrorCode, ProtocolError, SLOTS};

/// Room for a frame without text; the hot ones (Produce, ProduceReply, Deliver) fit.
const SMALL_FRAME_BYTES: usize = 128;

/// Lets an archive be written behind the frames that a buffer already has.
struct Buffer<'a>(&'a mut BytesMut);

impl Positional for Buffer<'_> {
    fn pos(&self) -> usize {
        self.0.len()
    }
}

impl Writer<Failure> for Buffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl ClientMessage {
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::CreateTopic(_) => FrameKind::CreateTopic,
            Self::DescribeTopic(_) => FrameKind::DescribeTopic,
            Self::ListTopics(_) => FrameKind::ListTopics,
            Self::Produce(_) => FrameKind::Produce,
            Self::Subscribe(_) => FrameKind::Subscribe,
            Self::Credit(_) => FrameKind::Credit,
            Self::Ack(_) => FrameKind::Ack,
            Self::Nack(_) => FrameKind::Nack,
            Self::Extend(_) => FrameKind::Extend,
            Self::Unsubscribe(_) => FrameKind::Unsubscribe,
            Self::Ping(_) => FrameKind::Ping,
            Self::AlterTopic(_) => FrameKind::AlterTopic,
            Self::DeleteTopic(_) => FrameKind::DeleteTopic,
            Self::ListGroups(_) => FrameKind::ListGroups,
            Self::MoveGroup(_) => FrameKind::MoveGroup,
            Self::DeleteGroup(_) => FrameKind::DeleteGroup,
            Self::Terminate(_) => FrameKind::Terminate,
            Self::Migrate(_) => FrameKind::Migrate,
        }
    }

    /// Header and control archive, ready to be sent before `payload_bytes` of batches.
    #[must_use]
    pub fn encode(&self, correlation: CorrelationId, payload_bytes: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(SMALL_FRAME_BYTES);
        self.encode_into(correlation, payload_bytes, &mut out);
        out.freeze()
    }

    /// Like [`Self::encode`], behind what `out` already has.
    pub fn encode_into(&self, correlation: CorrelationId, payload_bytes: u32, out: &mut BytesMut) {
        let head = (self.kind(), correlation, payload_bytes);
        match self {
            Self::Hello(message) => write(head, message, out),
            Self::CreateTopic(message) => write(head, message, out),
            Self::DescribeTopic(message) => write(head, message, out),
            Self::ListTopics(message) => write(head, message, out),
            Self::Produce(message) => write(head, message, out),
            Self::Subscribe(message) => write(head, message, out),
            Self::Credit(message) => write(head, message, out),
            Self::Ack(message) => write(head, message, out),
            Self::Nack(message) => write(head, message, out),
            Self::Extend(message) => write(head, message, out),
            Self::Unsubscribe(message) => write(head, message, out),
            Self::Ping(message) => write(head, message, out),
            Self::AlterTopic(message) => write(head, message, out),
            Self::DeleteTopic(message) => write(head, message, out),
            Self::ListGroups(message) => write(head, message, out),
            Self::MoveGroup(message) => write(head, message, out),
            Self::DeleteGroup(message) => write(head, message, out),
            Self::Terminate(message) => write(head, message, out),
            Self::Migrate(message) => write(head, message, out),
        }
    }

    /// Reads the control archive of a frame that a client sent.
    ///
    /// # Errors
    /// The archive is malformed, a text or list is over its limit, or clients send no such frames.
    pub fn decode(kind: FrameKind, control: &[u8]) -> Result<Self, ProtocolError> {
        let message = match kind {
            FrameKind::Hello => Self::Hello(read(kind, control)?),
            FrameKind::CreateTopic => Self::CreateTopic(read(kind, control)?),
            FrameKind::DescribeTopic => Self::DescribeTopic(read(kind, control)?),
            FrameKind::ListTopics => Self::ListTopics(read(kind, control)?),
            FrameKind::Produce => Self::Produce(read(kind, control)?),
            FrameKind::Subscribe => Self::Subscribe(read(kind, control)?),
            FrameKind::Credit => Self::Credit(read(kind, control)?),
            FrameKind::Ack => Self::Ack(read(kind, control)?),
            FrameKind::Nack => Self::Nack(read(kind, control)?),
            FrameKind::Extend => Self::Extend(read(kind, control)?),
            FrameKind::Unsubscribe => Self::Unsubscribe(read(kind, control)?),
            FrameKind::Ping => Self::Ping(read(kind, control)?),
            FrameKind::AlterTopic => Self::AlterTopic(read(kind, control)?),
            FrameKind::DeleteTopic => Self::DeleteTopic(read(kind, control)?),
            FrameKind::ListGroups => Self::ListGroups(read(kind, control)?),
            FrameKind::MoveGroup => Self::MoveGroup(read(kind, control)?),
            FrameKind::DeleteGroup => Self::DeleteGroup(read(kind, control)?),
            FrameKind::Terminate => Self::Terminate(read(kind, control)?),
            FrameKind::Migrate => Self::Migrate(read(kind, control)?),
            FrameKind::HelloReply
            | FrameKind::Topics
            | FrameKind::ProduceReply
            | FrameKind::SubscribeReply
            | FrameKind::Deliver
            | FrameKind::Missed
            | FrameKind::Done
            | FrameKind::Goodbye
            | FrameKind::Refusal
            | FrameKind::Groups
            | FrameKind::Settled
            | FrameKind::Ended
            | FrameKind::PartitionOnline => {
                return Err(ProtocolError::Unexpected { kind, state: "from a client" });
            }
        };
        message.within_limits()?;
        Ok(message)
    }

    fn within_limits(&self) -> Result<(), ProtocolError> {
        let kind = self.kind();
        match self {
            Self::Hello(hello) => name(kind, "client", &hello.client),
            Self::CreateTopic(topic) => name(kind, "name", &topic.name),
            Self::DescribeTopic(topic) => name(kind, "name", &topic.name),
            Self::Subscribe(subscribe) => {
                within(kind, "starts", subscribe.starts.len(), SLOTS as usize)?;
                let keys = subscribe.filter.keys();
                within(kind, "filter", keys.len(), FILTER_KEYS_MAX)?;
                keys.iter().try_for_each(|wanted| {
                    within(kind, "key", wanted.key.len(), MESSAGE_KEY_BYTES_MAX)
                })?;
                match &subscribe.mode {
                    SubscribeMode::Default(options) | SubscribeMode::Group(options) => {
                        group(kind, options)
                    }
                    SubscribeMode::Broadcast => Ok(()),
                }
            }
            Self::Nack(nack) => within(kind, "reason", nack.reason.len(), TEXT_BYTES_MAX),
            Self::AlterTopic(alter) => name(kind, "name", &alter.name),
            Self::DeleteTopic(delete) => name(kind, "name", &delete.name),
            Self::MoveGroup(moved) => name(kind, "group", &moved.group),
            Self::DeleteGroup(delete) => name(kind, "group", &delete.group),
            Self::Terminate(terminate) => {
                within(kind, "reason", terminate.reason.len(), TEXT_BYTES_MAX)?;
                within(kind, "ranges", terminate.ranges.len(), CHUNK_RANGES_MAX)
            }
            Self::ListTopics(_)
            | Self::ListGroups(_)
            | Self::Migrate(_)
            | Self::Produce(_)
            | Self::Credit(_)
            | Self::Ack(_)
            | Self::Extend(_)
            | Self::Unsubscribe(_)
            | Self::Ping(_) => Ok(()),
        }
    }
}

impl BrokerMessage {
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::HelloReply(_) => FrameKind::HelloReply,
            Self::Topics(_) => FrameKind::Topics,
            Self::ProduceReply(_) => FrameKind::ProduceReply,
            Self::SubscribeReply(_) => FrameKind::SubscribeReply,
            Self::Deliver(_) => FrameKind::Deliver,
            Self::Missed(_) => FrameKind::Missed,
            Self::Done(_) => FrameKind::Done,
            Self::Goodbye(_) => FrameKind::Goodbye,
            Self::Refusal(_) => FrameKind::Refusal,
            Self::Groups(_) => FrameKind::Groups,
            Self::Settled(_) => FrameKind::Settled,
            Self::Ended(_) => FrameKind::Ended,
            Self::PartitionOnline(_) => FrameKind::PartitionOnline,
        }
    }

    /// Header and control archive, ready to be sent before `payload_bytes` of batches.
    #[must_use]
    pub fn encode(&self, correlation: CorrelationId, payload_bytes: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(SMALL_FRAME_BYTES);
        self.encode_into(correlation, payload_bytes, &mut out);
        out.freeze()
    }

    /// Like [`Self::encode`], behind what `out` already has.
    pub fn encode_into(&self, correlation: CorrelationId, payload_bytes: u32, out: &mut BytesMut) {
        let head = (self.kind(), correlation, payload_bytes);
        match self {
            Self::HelloReply(message) => write(head, message, out),
            Self::Topics(message) => write(head, message, out),
            Self::ProduceReply(message) => write(head, message, out),
            Self::SubscribeReply(message) => write(head, message, out),
            Self::Deliver(message) => write(head, message, out),
            Self::Missed(message) => write(head, message, out),
            Self::Done(message) => write(head, message, out),
            Self::Goodbye(message) => write(head, message, out),
            Self::Refusal(message) => write(head, message, out),
            Self::Groups(message) => write(head, message, out),
            Self::Settled(message) => write(head, message, out),
            Self::Ended(message) => write(head, message, out),
            Self::PartitionOnline(message) => write(head, message, out),
        }
    }

    /// Reads the control archive of a frame that a broker sent.
    ///
    /// # Errors
    /// The archive is malformed, a text or list is over its limit, or brokers send no such frames.
    pub fn decode(kind: FrameKind, control: &[u8]) -> Result<Self, ProtocolError> {
        let message = match kind {
            FrameKind::HelloReply => Self::HelloReply(read(kind, control)?),
            FrameKind::Topics => Self::Topics(read(kind, control)?),
            FrameKind::ProduceReply => Self::ProduceReply(read(kind, control)?),
            FrameKind::SubscribeReply => Self::SubscribeReply(read(kind, control)?),
            FrameKind::Deliver => Self::Deliver(read(kind, control)?),
            FrameKind::Missed => Self::Missed(read(kind, control)?),
            FrameKind::Done => Self::Done(read(kind, control)?),
            FrameKind::Goodbye => Self::Goodbye(read(kind, control)?),
            FrameKind::Refusal => Self::Refusal(read(kind, control)?),
            FrameKind::Groups => Self::Groups(read(kind, control)?),
            FrameKind::Settled => Self::Settled(read(kind, control)?),
            FrameKind::Ended => Self::Ended(read(kind, control)?),
            FrameKind::PartitionOnline => Self::PartitionOnline(read(kind, control)?),
            FrameKind::Hello
            | FrameKind::CreateTopic
            | FrameKind::DescribeTopic
            | FrameKind::ListTopics
            | FrameKind::Produce
            | FrameKind::Subscribe
            | FrameKind::Credit
            | FrameKind::Ack
            | FrameKind::Nack
            | FrameKind::Extend
            | FrameKind::Unsubscribe
            | FrameKind::Ping
            | FrameKind::AlterTopic
            | FrameKind::DeleteTopic
            | FrameKind::ListGroups
            | FrameKind::MoveGroup
            | FrameKind::DeleteGroup
            | FrameKind::Terminate
            | FrameKind::Migrate => {
                return Err(ProtocolError::Unexpected { kind, state: "from a broker" });
            }
        };
        message.within_limits()?;
        Ok(message)
    }

    fn within_limits(&self) -> Result<(), ProtocolError> {
        let kind = self.kind();
        match self {
            Self::HelloReply(reply) => name(kind, "broker_version", &reply.broker_version),
            Self::Topics(reply) => {
                within(kind, "topics", reply.topics.len(), TOPICS_MAX as usize)?;
                reply.topics.iter().try_for_each(|topic| name(kind, "name", &topic.name))
            }
            Self::SubscribeReply(reply) => {
                within(kind, "positions", reply.positions.len(), SLOTS as usize)?;
                within(kind, "offline", reply.offline.len(), SLOTS as usize)
            }
            Self::Ended(ended) => within(kind, "message", ended.message.len(), TEXT_BYTES_MAX),
            Self::Goodbye(goodbye) => within(kind, "reason", goodbye.reason.len(), TEXT_BYTES_MAX),
            Self::Refusal(refusal) => {
                within(kind, "message", refusal.message.len(), TEXT_BYTES_MAX)
            }
            Self::Groups(reply) => {
                within(kind, "groups", reply.groups.len(), GROUPS_PER_PARTITION_MAX)?;
                reply.groups.iter().try_for_each(|group| name(kind, "name", &group.name))
            }
            Self::Settled(settled) => {
                within(kind, "ranges", settled.ranges.len(), CHUNK_RANGES_MAX)
            }
            Self::ProduceReply(_)
            | Self::Deliver(_)
            | Self::Missed(_)
            | Self::Done(_)
            | Self::PartitionOnline(_) => Ok(()),
        }
    }
}

impl Nack {
    /// Cuts a long `reason`, so that the frame is within its limits.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = cut(reason.into());
        self
    }
}

impl Terminate {
    /// Cuts a long `reason`, so that the frame is within its limits.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = cut(reason.into());
        self
    }
}

impl Goodbye {
    /// A long `reason` is cut.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: cut(reason.into()) }
    }
}

impl Refusal {
    /// A refusal without advice on when to try again; a long `message` is cut.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.0, message: cut(message.into()), retry_after_ms: 0 }
    }

    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode(self.code)
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of `text`, cut between characters.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn write<T>(
    (kind, correlation, payload_bytes): (FrameKind, CorrelationId, u32),
    message: &T,
    out: &mut BytesMut,
) where
    T: for<'b, 'a> Serialize<HighSerializer<Buffer<'b>, ArenaHandle<'a>, Failure>>,
{
    let start = out.len();
    let control_start = start + HEADER_BYTES;
    out.resize(control_start, 0);
    to_bytes_in::<_, Failure>(message, Buffer(out)).expect("writing into a vector cannot fail");
    let header = FrameHeader {
        kind,
        correlation,
        control_bytes: u32::try_from(out.len() - control_start)
            .expect("limits keep archives small"),
        payload_bytes,
    };
    let head = header.encode(&out[control_start..]);
    out[start..control_start].copy_from_slice(&head);
}

fn read<T>(kind: FrameKind, control: &[u8]) -> Result<T, ProtocolError>
where
    T: Archive,
    T::Archived: for<'a> CheckBytes<LowValidator<'a, Failure>>
        + Deserialize<T, Strategy<rkyv::de::Unpool, Failure>>,
{
    from_bytes::<T, Failure>(control).map_err(|_| ProtocolError::Archive { kind })
}

fn name(kind: FrameKind, field: &'static str, text: &str) -> Result<(), ProtocolError> {
    within(kind, field, text.len(), NAME_BYTES_MAX)
}

fn group(kind: FrameKind, options: &GroupOptions) -> Result<(), ProtocolError> {
    name(kind, "group", &options.group)?;
    name(kind, "member", &options.member)
}

fn within(
    kind: FrameKind,
    field: &'static str,
    size: usize,
    limit: usize,
) -> Result<(), ProtocolError> {
    if size > limit {
        return Err(ProtocolError::FieldTooLong { kind, field, size, limit });
    }
    Ok(())
}
