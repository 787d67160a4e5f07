//! Control messages: the small rkyv archive that every frame carries.
//!
//! One struct per frame kind; [`ClientMessage`] and [`BrokerMessage`] name them all. Bulk bytes
//! (batches) are not in here: they are the frame's payload.

use rkyv::{Archive, Deserialize, Serialize};

use crate::KeyFilter;

/// Opens a connection; the first frame a client sends, and it sends it once.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol_min: u16,
    pub protocol_max: u16,
    /// Name of the client, for the broker's log and statistics.
    pub client: String,
}

/// Answers [`Hello`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    pub protocol: u16,
    pub broker_version: String,
    /// Cores of the broker; partition *n* of a topic lives on core *n* modulo this, see [`Migrate`].
    pub shards: u32,
    /// The mode that a subscription gets that names none.
    pub default_mode: DeliveryMode,
    /// The credit that a subscription gets that names none, in bytes per partition.
    pub default_credit_bytes: u32,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    Broadcast,
    Queue,
}

/// What the topic's acknowledgement promises.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss: written and flushed to the medium.
    Fsync,
    /// Survives a crash of the broker, not of the machine.
    Written,
    /// Survives nothing; held in memory up to the retention.
    Memory,
}

/// What becomes of a batch for which a partition has no room.
///
/// A partition is full while its unflushed bytes are at their limit, while the disk has no space,
/// and while retention by size may not take the oldest segment.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Refused for now: the producer keeps it and tries again.
    Block,
    /// Dropped, counted, and answered with [`ProduceReply::dropped`].
    DropNew,
    /// The oldest segments go to make room, finished or not; what groups and subscribers miss by
    /// it is counted and reported.
    DropOld,
}

/// Settings of a topic. 0 means without limit.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    pub durability: Durability,
    /// Oldest whole segments go once a partition holds more than this.
    pub retention_bytes: u64,
    /// Oldest whole segments go once their newest record was appended this long ago.
    pub retention_ms: u64,
    /// Records are not delivered any more once they were appended this long ago.
    pub record_ttl_ms: u64,
    /// A chunk that was handed out this often without an ack goes to the dead-letter topic.
    pub max_attempts: u32,
    pub on_full: OnFull,
    /// Retention may take chunks that a member holds on lease.
    pub retention_breaks_leases: bool,
}

/// Attempts of a topic that nobody configured.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 3;

impl Default for TopicSettings {
    /// Loses nothing by itself.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            retention_bytes: 0,
            retention_ms: 0,
            record_ttl_ms: 0,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            on_full: OnFull::Block,
            retention_breaks_leases: false,
        }
    }
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub topic: u32,
    pub name: String,
    pub partitions: u32,
    pub settings: TopicSettings,
}

/// Makes a topic. With equal partitions and settings it may exist already.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    pub name: String,
    /// 0: one per shard. Compared with an existing topic only when not 0.
    pub partitions: u32,
    pub settings: TopicSettings,
}

/// Asks for one topic by name.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DescribeTopic {
    pub name: String,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ListTopics {}

/// Changes settings of a topic while it is in use; `None` leaves one as it is. The answer comes
/// once the change is durable. Durability and partitions stay for a topic's life.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct AlterTopic {
    pub name: String,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    pub record_ttl_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub on_full: Option<OnFull>,
    pub retention_breaks_leases: Option<bool>,
}

/// Deletes a topic with all its records and groups. Answered by [`Done`] once the topic cannot
/// come back.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopic {
    pub name: String,
}

/// Asks for the consumer groups of one partition.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListGroups {
    pub topic: u32,
    pub partition: u32,
}

/// Sets where a group goes on in one partition. Only a group without members can be moved; chunks
/// that it had not finished are forgotten.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MoveGroup {
    pub topic: u32,
    pub partition: u32,
    pub group: String,
    pub to: StartPosition,
}

/// Forgets a group without members in one partition. Answered by [`Done`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroup {
    pub topic: u32,
    pub partition: u32,
    pub group: String,
}

/// A consumer group as one partition sees it. Counters begin with the broker's start.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    pub name: String,
    /// Everything below is finished.
    pub acked_upto: u64,
    pub high_watermark: u64,
    /// Records that are neither finished nor skipped.
    pub lag_records: u64,
    pub members: u32,
    pub in_flight_chunks: u32,
    pub open_chunks: u32,
    pub redelivered_chunks: u64,
    pub expired_leases: u64,
    pub dead_lettered_records: u64,
    /// Records that went by unseen: taken by retention, past their time to live, or damaged.
    pub skipped_records: u64,
}

/// Answers [`ListGroups`], and [`MoveGroup`] with the one group.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GroupsReply {
    pub groups: Vec<GroupInfo>,
}

/// Answers [`CreateTopic`], [`AlterTopic`], [`DescribeTopic`] and [`ListTopics`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TopicsReply {
    pub topics: Vec<TopicInfo>,
}

/// Appends the one batch in the payload.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produce {
    pub topic: u32,
    pub partition: u32,
}

/// The batch is as durable as its topic promises.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceReply {
    pub base_offset: u64,
    /// This batch had been appended before; `base_offset` is the first answer's.
    pub duplicate: bool,
    /// The topic drops what it has no room for: this batch is nowhere, and `base_offset` is 0.
    pub dropped: bool,
}

/// Where a subscription starts. A group that exists goes on where it stands.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPosition {
    Earliest,
    Latest,
    Offset(u64),
    /// The first batch with a record at or after this time, in unix milliseconds.
    Timestamp(i64),
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStart {
    pub partition: u32,
    pub start: StartPosition,
    /// The log that the position is of, as [`PartitionPosition`] gave it: if the partition has
    /// another by now, the subscription starts at its beginning. 0: whichever it has.
    pub log_epoch: u64,
}

/// How a member of a consumer group wants its chunks.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    pub group: String,
    pub member: String,
    /// A chunk closes once it holds this many records (by whole batches) ...
    pub chunk_records: u32,
    /// ... or this many bytes ...
    pub chunk_bytes: u32,
    /// ... or its first record has waited this long.
    pub chunk_linger_ms: u32,
    pub lease_ms: u32,
    /// Chunks of one partition that this member holds at a time.
    pub chunks_in_flight: u32,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum SubscribeMode {
    /// The broker's `DELIVERY_MODE`; for `queue` with these options.
    Default(GroupOptions),
    Broadcast,
    Group(GroupOptions),
}

/// Starts a subscription.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Drawn by the client, unique on this connection.
    pub subscription: u32,
    pub topic: u32,
    pub mode: SubscribeMode,
    /// Where partitions start that `starts` does not name.
    pub start: StartPosition,
    /// Empty: all partitions. Otherwise only these.
    pub starts: Vec<PartitionStart>,
    /// Bytes of payload that the broker may have under way, per partition. 0: its default.
    pub credit_bytes: u32,
    /// Broadcast only: batches that have none of these keys are left out.
    pub filter: KeyFilter,
}

#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPosition {
    pub partition: u32,
    pub next_offset: u64,
    pub high_watermark: u64,
    /// Which log the offsets are of. A log that began again, as that of a topic in memory does with
    /// its broker, has another; never 0.
    pub log_epoch: u64,
}

/// Answers [`Subscribe`]; deliveries follow it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SubscribeReply {
    pub mode: DeliveryMode,
    pub credit_bytes: u32,
    /// In rising order of partition.
    pub positions: Vec<PartitionPosition>,
    /// Partitions that cannot be read for now, rising: a [`PartitionOnline`] says when each can.
    pub offline: Vec<u32>,
}

/// A partition that was offline when its subscription was answered can be read; deliveries follow.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOnline {
    pub subscription: u32,
    pub position: PartitionPosition,
}

/// A lease of one chunk, carried by each of the chunk's frames.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub chunk_first: u64,
    pub chunk_last: u64,
    /// Changes with every hand-out of a chunk; ack, nack and extend must carry it.
    pub generation: u64,
    /// 1 at the first hand-out.
    pub attempt: u32,
    pub lease_ms: u32,
    /// When the chunk's newest batch was appended, unix milliseconds; durable with the bounds. Topic,
    /// partition, bounds and this name the same records for ever, and no others: what is written
    /// under that name may be written again.
    pub appended_ms: i64,
}

/// Whole batches of one partition, in order, as the payload. Without a payload, in a chunk: these
/// records are damaged, and nobody will get them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deliver {
    pub subscription: u32,
    pub partition: u32,
    /// First and last offset in this frame's payload, both included.
    pub first: u64,
    pub last: u64,
    pub high_watermark: u64,
    /// In queue mode only. A chunk may take several frames: the one with `last == chunk_last`
    /// ends it.
    pub lease: Option<Lease>,
}

/// Why records were not delivered.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedReason {
    /// Retention took them, or their whole log is gone: that of a topic in memory ends with its broker.
    Retention,
    /// They outlived the topic's `record_ttl_ms`.
    Expired,
    /// They gave way to newer ones: [`OnFull::DropOld`].
    Dropped,
    /// They cannot be read back; the broker's log says which file.
    Damaged,
    /// None of their batches has a key of the subscription's filter: nothing that was asked for is
    /// missing. Said before the next delivery, and now and then while there is none, so that a
    /// subscriber goes on from here after a broken connection.
    Filtered,
}

/// Records that a broadcast subscription will not see.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub subscription: u32,
    pub partition: u32,
    pub first: u64,
    pub last: u64,
    pub reason: MissedReason,
}

/// Offsets, both ends included.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    pub first: u64,
    pub last: u64,
}

/// Says before a chunk's first [`Deliver`] which of its records are settled already. The chunk
/// keeps its bounds; these records are not to be handled again.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub subscription: u32,
    pub partition: u32,
    pub chunk_first: u64,
    pub generation: u64,
    /// Rising, without overlap.
    pub ranges: Vec<OffsetRange>,
}

/// The broker ends a subscription: nothing more comes of it, and it need not be unsubscribed.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub subscription: u32,
    /// An [`ErrorCode`](crate::ErrorCode).
    pub code: u16,
    pub message: String,
}

/// Gives back credit for payload bytes that the client has dealt with. Has no answer.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    pub subscription: u32,
    pub partition: u32,
    pub bytes: u32,
}

/// These records of a leased chunk are done: all of it, or a part down to one record. Answered by
/// [`Done`] or an error. Records of the range that are settled already are no error.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub subscription: u32,
    pub partition: u32,
    pub first: u64,
    pub last: u64,
    pub generation: u64,
}

/// These records of a leased chunk failed here; hand them out again after `delay_ms`. A part
/// becomes a chunk of its own.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    pub subscription: u32,
    pub partition: u32,
    pub first: u64,
    pub last: u64,
    pub generation: u64,
    pub delay_ms: u32,
    pub reason: String,
}

/// These records can never be handled: they go to the dead-letter topic with `reason`. Answered by
/// [`Done`] once they are durable there.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Terminate {
    pub subscription: u32,
    pub partition: u32,
    /// Rising, without overlap, all of one chunk.
    pub ranges: Vec<OffsetRange>,
    pub generation: u64,
    pub reason: String,
}

/// The chunk needs more time: the lease ends `lease_ms` from now.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extend {
    pub subscription: u32,
    pub partition: u32,
    pub first: u64,
    pub last: u64,
    pub generation: u64,
    pub lease_ms: u32,
}

/// Asks for this connection to be served by the core that has this partition, so that what it sends there
/// and gets from there crosses no other. Answered by [`Done`]. Refused while anything else is in flight
/// or subscribed to on the connection. From protocol version
/// [`PROTOCOL_MIGRATES`](crate::limits::PROTOCOL_MIGRATES) on.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrate {
    pub topic: u32,
    pub partition: u32,
}

/// Ends a subscription; its leases return to the group.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    pub subscription: u32,
}

/// Answers requests that have nothing else to say.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {}

/// Asks for a [`Done`]; keeps idle connections alive and finds dead ones.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {}

/// The broker is about to close this connection in good order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    pub reason: String,
}

/// A refusal. Correlation id 0: of the connection as a whole.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// An [`ErrorCode`](crate::ErrorCode).
    pub code: u16,
    pub message: String,
    /// 0: no advice.
    pub retry_after_ms: u32,
}

/// Everything that a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Hello(Hello),
    CreateTopic(CreateTopic),
    DescribeTopic(DescribeTopic),
    ListTopics(ListTopics),
    Produce(Produce),
    Subscribe(Subscribe),
    Credit(Credit),
    Ack(Ack),
    Nack(Nack),
    Extend(Extend),
    Unsubscribe(Unsubscribe),
    Ping(Ping),
    AlterTopic(AlterTopic),
    DeleteTopic(DeleteTopic),
    ListGroups(ListGroups),
    MoveGroup(MoveGroup),
    DeleteGroup(DeleteGroup),
    Terminate(Terminate),
    Migrate(Migrate),
}

/// Everything that a broker may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerMessage {
    HelloReply(HelloReply),
    Topics(TopicsReply),
    ProduceReply(ProduceReply),
    SubscribeReply(SubscribeReply),
    Deliver(Deliver),
    Missed(Missed),
    Done(Done),
    Goodbye(Goodbye),
    Refusal(Refusal),
    Groups(GroupsReply),
    Settled(Settled),
    Ended(Ended),
    PartitionOnline(PartitionOnline),
}
