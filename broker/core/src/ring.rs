//! What one shard says to another over their ring.
//!
//! ```text
//!   connection's shard                       partition's shard
//!     Produce, Subscribe, Credit, Settle ─────▶
//!     ListGroups, ChangeGroup            ─────▶
//!     Unsubscribe, Disconnect            ─────▶
//!                                        ◀───── Produced, Refused, Done, Subscribed
//!                                        ◀───── Settled, Deliver, Missed, Groups
//!   partition's shard                        dead-letter partition's shard
//!     AppendLetter                       ─────▶
//!                                        ◀───── Buried
//!   any shard                                shard 0
//!     CreateTopic, AlterTopic, DeleteTopic ───▶
//!     CreateDeadLetters                  ─────▶
//!                                        ◀───── OpenTopic, ChangeTopic, CloseTopic (to all)
//!                                        ◀───── CatalogReady (to all)
//!     TopicHeard, TopicRemoved           ─────▶
//!                                        ◀───── TopicReady, Done, Refused
//! ```
//!
//! A shard that is both ends sends itself the same messages through a queue of its own. Requests
//! name the connection; the shard they came from is known from the ring. Messages are small and
//! `Send`: what is large is boxed, batches are shared.

use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::message::{
    Ack, AlterTopic, CreateTopic, Extend, GroupInfo, GroupOptions, Lease, MissedReason, Nack,
    OffsetRange, StartPosition, Terminate, TopicInfo,
};
use lanecast_wire::{
    CorrelationId, ErrorCode, KeyHash, Offset, PartitionId, ProducerEpoch, Sequence,
    SubscriptionId, TopicId,
};

use crate::ConnectionId;
use crate::group::GroupId;

/// A subscription, named without its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId {
    pub connection: ConnectionId,
    pub subscription: SubscriptionId,
}

/// A request of a connection that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    pub connection: ConnectionId,
    pub correlation: CorrelationId,
}

/// Its tag is a whole word, so that a message is moved word by word: behind a tag of one byte the
/// copies of a queue straddle what was just written, and the CPU waits until it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ShardMessage {
    Produce(Box<ProduceMessage>),
    Subscribe(Box<SubscribeMessage>),
    Credit {
        subscriber: SubscriberId,
        partition: PartitionId,
        bytes: u32,
    },
    Settle(Box<SettleMessage>),
    ListGroups {
        request: RequestId,
        partition: PartitionId,
    },
    ChangeGroup(Box<ChangeGroupMessage>),
    Unsubscribe {
        subscriber: SubscriberId,
        topic: TopicId,
    },
    Disconnect {
        connection: ConnectionId,
    },

    Produced {
        request: RequestId,
        base_offset: Offset,
        duplicate: bool,
    },
    /// The topic drops what it has no room for.
    Dropped {
        request: RequestId,
    },
    Done {
        request: RequestId,
    },
    Refused(Box<RefusedMessage>),
    Subscribed(Box<SubscribedMessage>),
    Settled(Box<SettledMessage>),
    Deliver(Box<DeliverMessage>),
    Groups(Box<GroupsMessage>),
    Missed(Box<MissedMessage>),

    CreateTopic(Box<CreateTopicMessage>),
    AlterTopic(Box<AlterTopicMessage>),
    DeleteTopic(Box<DeleteTopicMessage>),
    /// Bring a dead letter to the dead-letter topic; said by a partition to its own shard.
    Bury(Box<BuryMessage>),
    /// Append a dead letter.
    AppendLetter(Box<AppendLetterMessage>),
    /// The letter is durable, or could not be appended.
    Buried {
        origin: PartitionId,
        group: GroupId,
        epoch: ProducerEpoch,
        number: u64,
        outcome: Result<(), ErrorCode>,
    },
    /// Make the dead-letter topic of this one.
    CreateDeadLetters {
        origin: TopicId,
    },
    OpenTopic(Arc<TopicInfo>),
    /// The topic has other settings now.
    ChangeTopic(Arc<TopicInfo>),
    /// The topic is deleted; what there is of it goes. A shard may never have known it.
    CloseTopic {
        topic: TopicId,
        partitions: u32,
    },
    /// This shard has done what it was last told of the topic.
    TopicHeard {
        topic: TopicId,
    },
    /// This shard has nothing left of the deleted topic.
    TopicRemoved {
        topic: TopicId,
    },
    TopicReady {
        request: RequestId,
        topic: TopicId,
    },
    CatalogReady,
}

/// Append one batch; it has been checked where it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceMessage {
    pub request: RequestId,
    pub partition: PartitionId,
    pub batch: Bytes,
}

/// Start a subscription on one partition; nothing is delivered before its first `Credit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeMessage {
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub start: StartPosition,
    /// The log that `start` is a position of; 0: whichever the partition has.
    pub log_epoch: u64,
    /// Bytes that may be under way at a time.
    pub credit_bytes: u32,
    /// `None`: broadcast.
    pub group: Option<GroupOptions>,
    /// Broadcast: the keys of which a batch is to have one; empty: any batch.
    pub wanted: Arc<[KeyHash]>,
}

/// What a member of a group says of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleMessage {
    pub request: RequestId,
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub settle: Settle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    Ack(Ack),
    Nack(Nack),
    Extend(Extend),
    Terminate(Terminate),
}

/// Change a consumer group that nobody is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeGroupMessage {
    pub request: RequestId,
    pub partition: PartitionId,
    pub group: String,
    pub change: GroupChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupChange {
    Move(StartPosition),
    Delete,
}

/// Groups of a partition, asked for or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsMessage {
    pub request: RequestId,
    pub groups: Vec<GroupInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMessage {
    pub request: RequestId,
    /// The request was a `Produce`: those are counted apart.
    pub produce: bool,
    pub code: ErrorCode,
    pub message: String,
    /// 0: no advice.
    pub retry_after_ms: u32,
}

/// One partition has answered a `Subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribedMessage {
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub outcome: SubscribeOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeOutcome {
    At(SubscribedAt),
    /// For now; another answer follows once the partition is online.
    Offline,
    Refused(SubscribeRefused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribedAt {
    pub next_offset: Offset,
    pub high_watermark: Offset,
    pub log_epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRefused {
    pub code: ErrorCode,
    pub message: String,
}

/// What of a chunk is settled already; comes before its first batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledMessage {
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub chunk_first: Offset,
    pub generation: u64,
    pub ranges: Vec<OffsetRange>,
}

/// Whole batches of one partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverMessage {
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub first: Offset,
    pub last: Offset,
    pub high_watermark: Offset,
    pub lease: Option<Lease>,
    pub payload: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedMessage {
    pub subscriber: SubscriberId,
    pub partition: PartitionId,
    pub first: Offset,
    pub last: Offset,
    pub reason: MissedReason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopicMessage {
    pub request: RequestId,
    pub create: CreateTopic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterTopicMessage {
    pub request: RequestId,
    pub alter: AlterTopic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopicMessage {
    pub request: RequestId,
    pub name: String,
}

/// A dead letter of a group of partition `origin`, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuryMessage {
    pub origin: PartitionId,
    pub group: GroupId,
    /// The group's death that the letter is of, and which of its letters it is.
    pub epoch: ProducerEpoch,
    pub number: u64,
    /// The letter before it, if that is not known to be durable: without it this one is refused.
    pub follows: Option<Sequence>,
    pub letter: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendLetterMessage {
    pub partition: PartitionId,
    pub bury: BuryMessage,
}

/// A ring slot stays within one cache line.
const _: () = assert!(size_of::<ShardMessage>() <= 40);

const fn assert_send<T: Send>() {}
const _: () = assert_send::<ShardMessage>();
