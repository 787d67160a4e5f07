//! Every decision of the Lanecast broker, without I/O.
//!
//! A broker is a handful of [`Shard`]s, one per core. A shard is told what happened as [`Event`]s
//! and says what shall be done as [`Action`]s; it opens no file, reads no clock and starts no
//! thread. The server performs the actions for real, the simulator performs them from a seed, and
//! both run the same code.
//!
//! ```text
//!   shard        connections, routing, topics
//!     partition  dedup, high watermark, cursors, credit
//!       log      blocks, commits, segments, recovery, retention
//!       group    chunks, leases, acks
//! ```
//!
//! What never happens, and the tests look for it:
//!
//! * an answer to a produce request before its batch is as durable as the topic promises;
//! * a record shown to anybody at or above the high watermark, or a high watermark that goes back;
//! * an acknowledged block that is written over with other bytes;
//! * an acknowledgement by a log after a failed write, before the log was read again;
//! * a chunk handed out whose bounds are not durable, or under two live leases;
//! * a queue without a bound: they are all in [`limits`].

mod budget;
mod config;
mod disk;
mod event;
pub mod group;
pub mod inspect;
pub mod invariants;
pub mod limits;
mod log;
pub mod mutants;
mod offence;
mod outbox;
mod partition;
mod ring;
mod shard;
mod stats;
#[cfg(test)]
mod testing;
mod ttl;

pub use budget::{Budget, BudgetUse, Shares};
pub use config::ShardConfig;
pub use event::{
    Action, ConnectionId, DiskDone, DiskError, DiskErrorKind, DiskRequest, Event, Flush, LogId,
    Now, OperationId, SegmentFile, SegmentId, ShardId,
};
pub use log::{
    BlockKind, Damage, DamageKind, Place, RecoveryReport, SealedBlock, StopReason, WITNESS_BYTES,
    Witness,
};
pub use offence::{Offence, OffenceCounts};
pub use ring::{
    AlterTopicMessage, AppendLetterMessage, BuryMessage, ChangeGroupMessage, CreateTopicMessage,
    DeleteTopicMessage, DeliverMessage, GroupChange, GroupsMessage, MissedMessage, ProduceMessage,
    RefusedMessage, RequestId, Settle, SettleMessage, SettledMessage, ShardMessage,
    SubscribeMessage, SubscribeOutcome, SubscribeRefused, SubscribedAt, SubscribedMessage,
    SubscriberId,
};
pub use shard::{Migrant, Shard};
pub use stats::{ClientStats, GroupStats, PartitionState, PartitionStats, ShardStats};
