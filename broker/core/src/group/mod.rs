//! Consumer groups of one partition: who holds which chunk, and what has been acked.
//!
//! A group reads a partition as a work queue. The partition offers it whole batches below the high
//! watermark, in order; the group gathers them into *chunks*, binds a chunk's bounds in the
//! partition's `Groups` log, and leases it to one member at a time until one of them acks it.
//!
//! ```text
//!            offer                    persisted              member has room
//!  batches ─────────▶ building ─close─▶ binding ────▶ ready ─────────────────▶ leased
//!                        by size or linger             ▲ ▲                      │ │
//!                                                      │ └──── member left ─────┤ │ ack
//!                                                      │                        │ ▼
//!                                       rest over   delayed ◀── nack, deadline ─┘ acking
//!                                                                                 │ persisted
//!                                                                                 ▼
//!                                                                                done
//! ```
//!
//! What holds, whatever happens:
//!
//! * A chunk is handed out only once its bounds are durable, and they never change: not for another
//!   member, not over a restart. A sink that names its writes by them can drop repeats.
//! * At most one lease of a chunk is live. Each hand-out has a new generation, also over restarts
//!   (its upper bits are an epoch that is durable before the first hand-out), so whatever an old
//!   holder still says is `LEASE_LOST`.
//! * An ack is answered once it is durable, and an answered ack is final.
//! * Only open chunks are remembered: what lies below `bound_upto` and in no chunk is acked.
//!
//! All groups of a partition are independent of each other and of other partitions. [`Groups`] holds
//! them, routes records and members to them, and numbers their records in the order in which the log
//! has to take them. It does nothing by itself: call it, then take everything from
//! [`Groups::poll_output`]; offer batches while [`Groups::wants`] names an offset below the high
//! watermark; call [`Groups::handle_timeout`] when [`Groups::poll_timeout`] is reached.

mod chunk;
mod consumer_group;
mod dead_letter;
pub mod limits;
#[cfg(test)]
mod model;
mod outbox;
mod record;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::message::GroupOptions;
use lanecast_wire::{CorrelationId, ErrorCode, Offset, ProducerEpoch, SubscriptionId};

use self::consumer_group::Group;
pub use self::dead_letter::{DeadLetter, GroupSettings};
use self::outbox::Outbox;
pub use self::record::{GroupRecord, GroupSnapshot, InvalidRecord, OpenChunk, RECORD_VERSION};
pub use self::recovery::GroupsRecovery;
use crate::{ConnectionId, GroupStats, Now, ShardId};

/// A group of one partition; rising, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// One subscription of one connection: a member of at most one group of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey {
    /// The shard that owns the connection.
    pub shard: ShardId,
    pub connection: ConnectionId,
    pub subscription: SubscriptionId,
}

/// Numbers the records of one partition's groups in the order in which they must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// A whole batch below the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBounds {
    pub first: Offset,
    pub last: Offset,
    /// Header included.
    pub bytes: u32,
}

/// The lease that an ack, nack or extend speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub first: Offset,
    pub last: Offset,
    pub generation: u64,
}

/// A chunk that a member now holds: deliver its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOut {
    pub group: GroupId,
    pub member: MemberKey,
    pub first: Offset,
    pub last: Offset,
    /// Bytes of the chunk's batches, headers included.
    pub bytes: u32,
    /// 1 at the first hand-out.
    pub attempt: u32,
    pub generation: u64,
    pub lease_ms: u32,
}

/// What a group wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append to the `Groups` log, in the order polled; then say [`Groups::persisted`].
    Persist {
        token: PersistToken,
        record: Bytes,
    },
    /// The member's group, its start position included, is durable. Answers [`Groups::join`].
    Joined {
        member: MemberKey,
        next: Offset,
    },
    HandOut(HandOut),
    /// The lease is over while its member stays (acked, nacked, expired, or retention took the
    /// chunk): stop delivering it.
    LeaseEnded {
        member: MemberKey,
        first: Offset,
        generation: u64,
    },
    /// Append these records to the dead-letter topic; then say [`Groups::dead_lettered`].
    DeadLetter(DeadLetter),
    /// The ack is durable. Answers [`Groups::ack`].
    Acked {
        member: MemberKey,
        request: CorrelationId,
    },
}

/// Answers that will not come because the groups are given up; see [`Groups::into_unanswered`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    pub joins: Vec<MemberKey>,
    pub acks: Vec<(MemberKey, CorrelationId)>,
}

/// All consumer groups of one partition.
#[derive(Debug, Default)]
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    members: BTreeMap<MemberKey, GroupId>,
    outbox: Outbox,
    high_watermark: Offset,
    stopped: bool,
}

impl Groups {
    /// A partition without groups. One with a `Groups` log comes from [`GroupsRecovery`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<GroupId> {
        self.groups.values().find(|group| group.name() == name).map(Group::id)
    }

    /// Groups in rising order.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// Makes a group that begins at `start`, which is durable before any member has joined.
    /// The name is valid and not taken.
    ///
    /// # Errors
    /// `TOO_MANY_CONSUMERS` at the limit of groups.
    pub fn create(&mut self, name: &str, start: Offset) -> Result<GroupId, ErrorCode> {
        debug_assert!(self.find(name).is_none());
        if self.groups.len() >= limits::GROUPS_PER_PARTITION_MAX {
            return Err(ErrorCode::TOO_MANY_CONSUMERS);
        }
        let id = self.groups.last_key_value().map_or(GroupId(1), |(last, _)| GroupId(last.0 + 1));
        let group = Group::create(id, name, start, self.high_watermark, &mut self.outbox);
        self.groups.insert(id, group);
        Ok(id)
    }

    /// Takes a member in; answered by [`Output::Joined`].
    ///
    /// # Errors
    /// `INVALID_REQUEST` for options outside the limits or a subscription that is a member already,
    /// `TOO_MANY_CONSUMERS` at the limit of members, `DRAINING` after [`Groups::stop`].
    pub fn join(
        &mut self,
        now: Now,
        id: GroupId,
        member: MemberKey,
        options: &GroupOptions,
    ) -> Result<(), ErrorCode> {
        if self.stopped {
            return Err(ErrorCode::DRAINING);
        }
        if self.members.contains_key(&member) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let group = self.groups.get_mut(&id).ok_or(ErrorCode::UNKNOWN_SUBSCRIPTION)?;
        group.join(now, member, options, &mut self.outbox)?;
        self.members.insert(member, id);
        Ok(())
    }

    /// The member is gone; its chunks are free at once. Unknown members are no error.
    pub fn leave(&mut self, now: Now, member: MemberKey) {
        if let Some(id) = self.members.remove(&member)
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.leave(now, member, &mut self.outbox);
        }
    }

    /// Everything below is durable and may be read.
    pub fn advance(&mut self, high_watermark: Offset) {
        debug_assert!(high_watermark >= self.high_watermark);
        self.high_watermark = high_watermark;
        for group in self.groups.values_mut() {
            group.advance(high_watermark);
        }
    }

    /// The offset at which the group wants its next batch, if it has use for one. It may lie at or
    /// beyond the high watermark: offer it once it is below.
    #[must_use]
    pub fn wants(&self, id: GroupId) -> Option<Offset> {
        if self.stopped { None } else { self.groups.get(&id)?.wants() }
    }

    /// The batch at [`Groups::wants`].
    pub fn offer(&mut self, now: Now, id: GroupId, batch: BatchBounds) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.offer(now, batch, &mut self.outbox);
        }
    }

    /// What the group wants next is damaged, up to before `upto`: no chunk has it.
    pub fn pass(&mut self, now: Now, id: GroupId, upto: Offset) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.pass(now, upto, &mut self.outbox);
        }
    }

    /// Retention took everything below `log_start`: chunks that reach below it are given up.
    pub fn trim(&mut self, now: Now, log_start: Offset) {
        for group in self.groups.values_mut() {
            group.trim(now, log_start, &mut self.outbox);
        }
    }

    /// The log ends at `end`: whatever was bound behind it is lost, with a medium that promised no
    /// more, and its offsets will be those of other records. Said after a start, before any hand-out.
    pub fn cut(&mut self, end: Offset) {
        for group in self.groups.values_mut() {
            group.cut(end, &mut self.outbox);
        }
    }

    /// The chunk is done. `Ok` is answered by [`Output::Acked`] once that is durable.
    ///
    /// # Errors
    /// `LEASE_LOST`, `UNKNOWN_SUBSCRIPTION`, or `INVALID_REQUEST` for a part of a chunk.
    pub fn ack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        request: CorrelationId,
    ) -> Result<(), ErrorCode> {
        let (group, outbox) = self.group_of(member)?;
        group.ack(now, member, claim, request, outbox)
    }

    /// The chunk failed; it rests for `delay_ms`, and at least for its backoff.
    ///
    /// # Errors
    /// As [`Groups::ack`].
    pub fn nack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        delay_ms: u32,
    ) -> Result<(), ErrorCode> {
        let (group, outbox) = self.group_of(member)?;
        group.nack(now, member, claim, delay_ms, outbox)
    }

    /// The lease ends `lease_ms` from now.
    ///
    /// # Errors
    /// As [`Groups::ack`], and `INVALID_REQUEST` for a lease outside the limits.
    pub fn extend(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        lease_ms: u32,
    ) -> Result<(), ErrorCode> {
        let (group, _) = self.group_of(member)?;
        group.extend(now, member, claim, lease_ms)
    }

    /// The record of this token, and so every one before it, is durable.
    pub fn persisted(&mut self, now: Now, token: PersistToken) {
        while let Some((durable, id)) = self.outbox.next_durable(token) {
            let group = self.groups.get_mut(&id).expect("groups are never removed");
            group.persisted(now, durable, &mut self.outbox);
        }
    }

    /// The dead letter of this epoch is durable in the dead-letter topic. One that the group does
    /// not wait for (any more) is no error.
    pub fn dead_lettered(&mut self, _now: Now, _group: GroupId, _epoch: ProducerEpoch) {}

    /// Deadlines that `now` has reached.
    pub fn handle_timeout(&mut self, now: Now) {
        for group in self.groups.values_mut() {
            group.handle_timeout(now, &mut self.outbox);
        }
    }

    /// When to call [`Groups::handle_timeout`], on the monotonic clock.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.groups.values().filter_map(Group::poll_timeout).min()
    }

    /// The next thing to do. Outputs are bounded by what is open; take them all after each call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    /// Stop building and handing out chunks; acks, nacks and extends go on.
    pub fn stop(&mut self) {
        self.stopped = true;
        for group in self.groups.values_mut() {
            group.stop();
        }
    }

    /// One record for each group that stands for all of its records so far, those not yet polled
    /// included. Once all of them are durable in a new segment, older segments may go.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Bytes> {
        let record = |group: &Group| GroupRecord::Snapshot(group.snapshot()).encode(group.id());
        self.groups.values().map(record).collect()
    }

    /// Gives the groups up, after a failed write: who waits for an answer. What the log holds of the
    /// records under way is found out by recovery.
    #[must_use]
    pub fn into_unanswered(self) -> Unanswered {
        let mut unanswered = Unanswered::default();
        for group in self.groups.into_values() {
            group.into_unanswered(&mut unanswered);
        }
        unanswered
    }

    #[must_use]
    pub fn stats(&self) -> Vec<GroupStats> {
        self.groups.values().map(Group::stats).collect()
    }

    fn group_of(&mut self, member: MemberKey) -> Result<(&mut Group, &mut Outbox), ErrorCode> {
        let id = self.members.get(&member).ok_or(ErrorCode::UNKNOWN_SUBSCRIPTION)?;
        let group = self.groups.get_mut(id).expect("groups are never removed");
        Ok((group, &mut self.outbox))
    }
}
