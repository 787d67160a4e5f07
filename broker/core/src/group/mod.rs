//! Consumer groups of one partition: who holds which chunk, and what has been acked.
//!
//! A group reads a partition as a work queue. The partition offers it whole batches below the high
//! watermark, in order; the group gathers them into *chunks*, binds a chunk's bounds in the
//! partition's `Groups` log, and leases it to one member at a time until one of them acks it.
//!
//! ```text
//!            offer                    persisted              member has room
//!  batches ─────────▶ building ─close─▶ binding ────▶ ready ─────────────────▶ leased
//!                        by size or linger   ▲         ▲ ▲ and is durable       │ │ │
//!                                            │         │ └─ member unsubscribed ┘ │ │ all of it
//!                                            │     rest over                      │ │ acked
//!                                            │         │                          │ ▼
//!            nack of a part: a chunk ────────┤      delayed ◀─persisted─ failed ◀─┘ settling
//!            of its own                      │                             │ nack,    │ persisted
//!                                            │    attempts used up         │ deadline,▼
//!                          terminate ──▶ dying ◀──── doomed ◀─────────────┘ member   done
//!                                          │                                lost
//!                                          ▼ in the dead-letter topic
//!                                        buried
//! ```
//!
//! What holds, whatever happens:
//!
//! * A chunk is handed out only once its records and its bounds are durable, which may happen in
//!   either order. Bounds of records that are lost on their way are void. All others never change: not for another
//!   member, not over a restart, not because parts of it are settled. A sink that names its writes
//!   by them can drop repeats.
//! * At most one lease of a chunk is live. Each hand-out has a new generation, also over restarts
//!   (its upper bits are an epoch that is durable before the first hand-out), so whatever an old
//!   holder still says is `LEASE_LOST`.
//! * An offset is open in one chunk at the most. Acks, nacks and terminates may name any part of a
//!   chunk; the lease goes on until nothing of it is open. A part that failed alone is split off as
//!   a chunk of its own, which lies within the bounds of the other.
//! * An ack is answered once it is durable, and an answered ack is final.
//! * A failed attempt (nack, lease run out, member lost) is durable before the chunk is handed out
//!   again. A member that unsubscribes gives its chunks back as if it had never had them.
//! * What is in the dead-letter topic is there once: see [`DeadLetter`].
//! * Only what is open is remembered: what lies below `bound_upto` and is neither open nor dying is
//!   finished. See `ledger.rs`, by which both a running group and recovery go.
//!
//! *Bounds of blocks.* The records of a durable block of the data log stay one block. So a chunk of
//! just these has durable bounds as soon as it has durable records, and its own record may follow.
//! Recovery finds out: behind the last bounds that it reads, as many blocks are chunks as may have
//! been handed out so. See `consumer_group/blocks.rs`.
//!
//! *Time to live.* A chunk expires as a whole, when its newest batch has: it is then finished
//! instead of handed out, and counted. A chunk on lease does not expire; whoever holds it may ack
//! it. Whose clock decides stands in [`crate::ttl`].
//!
//! *Positions.* A group without members can be moved to any batch: it forgets what it had open and
//! begins a new epoch. Moved back, it hands out the same records again, in chunks of new bounds. A
//! sink that drops repeats by name, as the ClickHouse one does by `topic/partition/first-last/
//! appended`, drops those that happen to get the same bounds and stores the others again: the same
//! bounds are always the same records of the same log.
//!
//! All groups of a partition are independent of each other and of other partitions. [`Groups`] holds
//! them, routes records and members to them, and numbers their records in the order in which the log
//! has to take them. It does nothing by itself: call it, then take everything from
//! [`Groups::poll_output`]; offer batches while [`Groups::wants`] names an offset below the high
//! watermark; call [`Groups::handle_timeout`] when [`Groups::poll_timeout`] is reached.

mod blocks;
mod chunk;
mod consumer_group;
mod dead_letter;
mod ledger;
pub mod limits;
#[cfg(test)]
mod model;
mod outbox;
mod output;
mod ranges;
mod record;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use lanecast_wire::message::GroupOptions;
use lanecast_wire::{CorrelationId, ErrorCode, Offset, ProducerEpoch, ProducerId, SubscriptionId};

use self::consumer_group::Group;
use self::consumer_group::positions::is_allowed;
pub use self::dead_letter::{DeadLetter, GroupSettings};
pub use self::ledger::{ChunkKey, Dying, Ledger, OpenChunk};
use self::outbox::Outbox;
pub use self::output::{HandOut, Output, Unanswered};
pub use self::ranges::Ranges;
pub use self::record::{GroupRecord, InvalidRecord, RECORD_VERSION};
pub use self::recovery::GroupsRecovery;
use crate::{ConnectionId, GroupStats, Now, RequestId, ShardId};

/// A group of one partition; rising, never reused while the broker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Wall clock at its append, unix milliseconds.
    pub appended_ms: i64,
}

/// The lease that an ack, nack or extend speaks of, and a part of its chunk or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub first: Offset,
    pub last: Offset,
    pub generation: u64,
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It unsubscribed: its chunks are as good as never handed out.
    InOrder,
    /// Its connection is gone: that counts as a failed attempt of each of its chunks.
    Lost,
}

/// Who asked for a change of a group and waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub shard: ShardId,
    pub request: RequestId,
}

/// All consumer groups of one partition.
#[derive(Debug, Default)]
pub struct Groups {
    settings: GroupSettings,
    groups: BTreeMap<GroupId, Group>,
    /// Deleted, but for that being durable.
    deleted: BTreeMap<GroupId, Group>,
    members: BTreeMap<MemberKey, GroupId>,
    outbox: Outbox,
    last_id: GroupId,
    /// The highest epoch of a group that was deleted.
    used_epoch: u32,
    high_watermark: Offset,
    horizon_ms: Option<i64>,
    stopped: bool,
}

impl Groups {
    /// A partition without groups. One with a `Groups` log comes from [`GroupsRecovery`].
    #[must_use]
    pub fn new(settings: GroupSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The topic's settings have changed. They hold for every chunk that is not on lease or dying.
    pub fn configure(&mut self, now: Now, settings: GroupSettings) {
        self.settings = settings;
        for group in self.groups.values_mut() {
            group.configure(now, settings, &mut self.outbox);
        }
    }

    /// Batches that were appended at or before this wall-clock time have outlived the topic's
    /// `record_ttl_ms`. Looked at whenever a chunk could be handed out.
    pub fn set_horizon(&mut self, horizon_ms: Option<i64>) {
        self.horizon_ms = horizon_ms;
        for group in self.groups.values_mut() {
            group.set_horizon(horizon_ms);
        }
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<GroupId> {
        self.groups.values().find(|group| group.name() == name).map(Group::id)
    }

    /// The first group behind `last`, or the first of all.
    pub fn id_behind(&self, last: Option<GroupId>) -> Option<GroupId> {
        let behind = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.groups.range(behind).next().map(|(id, _)| *id)
    }

    /// Makes a group that begins at `start`, which is durable before any member has joined.
    /// The name is valid and not taken.
    ///
    /// # Errors
    /// `TOO_MANY_CONSUMERS` at the limit of groups; `INVALID_REQUEST` where deleted ones have left no
    /// epochs but for restarts.
    pub fn create(&mut self, now: Now, name: &str, start: Offset) -> Result<GroupId, ErrorCode> {
        debug_assert!(self.find(name).is_none());
        if self.groups.len() + self.deleted.len() >= limits::GROUPS_PER_PARTITION_MAX {
            return Err(ErrorCode::TOO_MANY_CONSUMERS);
        }
        if !is_allowed(self.used_epoch + 1) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let known = self.groups.last_key_value().map_or(GroupId(0), |(last, _)| *last);
        let id = GroupId(known.max(self.last_id).0 + 1);
        self.last_id = id;
        let draw = [self.settings.seed, now.mono_us, now.wall_ms.cast_unsigned(), id.0.into()];
        let producer = ProducerId(chunk::mix(&draw));
        let ledger = Ledger::new(name, producer, start, self.used_epoch + 1);
        let (settings, high_watermark) = (self.settings, self.high_watermark);
        let mut group = Group::create(id, ledger, settings, high_watermark, &mut self.outbox);
        group.set_horizon(self.horizon_ms);
        self.groups.insert(id, group);
        Ok(id)
    }

    /// The group goes on at `to`, where a batch begins, in a new epoch; what it had open is
    /// forgotten. `Ok` is answered by [`Output::Answered`] once that is durable.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, `GROUP_ACTIVE` while it has members, or `INVALID_REQUEST` after so many moves
    /// that no epochs are left but for restarts.
    pub fn move_to(&mut self, name: &str, to: Offset, asker: Asker) -> Result<(), ErrorCode> {
        let id = self.idle(name)?;
        let group = self.groups.get_mut(&id).expect("it was found by its id");
        group.move_to(to, asker, &mut self.outbox)
    }

    /// Forgets the group. `Ok` is answered by [`Output::Answered`] once that is durable. A group
    /// that is made later, under whatever name, begins behind all of its generations.
    ///
    /// # Errors
    /// `UNKNOWN_GROUP`, or `GROUP_ACTIVE` while it has members.
    pub fn delete(&mut self, name: &str, asker: Asker) -> Result<(), ErrorCode> {
        let id = self.idle(name)?;
        let mut group = self.groups.remove(&id).expect("it was found by its id");
        group.delete(asker, &mut self.outbox);
        self.used_epoch = self.used_epoch.max(group.ledger().epoch);
        self.deleted.insert(id, group);
        Ok(())
    }

    fn idle(&self, name: &str) -> Result<GroupId, ErrorCode> {
        let group = self.groups.values().find(|group| group.name() == name);
        let group = group.ok_or(ErrorCode::UNKNOWN_GROUP)?;
        if group.has_members() { Err(ErrorCode::GROUP_ACTIVE) } else { Ok(group.id()) }
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

    /// The member is gone, and its leases with it. Unknown members are no error.
    pub fn leave(&mut self, now: Now, member: MemberKey, departure: Departure) {
        if let Some(id) = self.members.remove(&member)
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.leave(now, member, departure, &mut self.outbox);
        }
    }

    /// Everything below `high_watermark` is durable and may be read. Everything below `tail` is that
    /// or on its way: it may be offered, and is not handed out before.
    pub fn advance(&mut self, now: Now, high_watermark: Offset, tail: Offset) {
        debug_assert!(self.high_watermark <= high_watermark && high_watermark <= tail);
        self.high_watermark = high_watermark;
        for group in self.groups.values_mut() {
            group.advance(now, high_watermark, tail, &mut self.outbox);
        }
    }

    /// The offset at which the group wants its next batch, if it has use for one. It may lie at or
    /// beyond the tail: offer it once it is below.
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

    /// Retention took everything below `log_start`: what chunks have open below it is given up, and
    /// counted, and so are leases of them.
    pub fn trim(&mut self, now: Now, log_start: Offset) {
        for group in self.groups.values_mut() {
            group.trim(now, log_start, &mut self.outbox);
        }
    }

    /// The log ends at `end`: whatever was bound behind it is lost, with a medium that promised no
    /// more, and its offsets will be those of other records. Said after a start, before any hand-out.
    /// Nothing may be appended while [`Groups::is_cutting`].
    pub fn cut(&mut self, end: Offset) {
        for group in self.groups.values_mut() {
            group.cut(end, &mut self.outbox);
        }
    }

    /// That nothing is bound behind the end of the log is not durable: after another crash, what was
    /// bound of the lost records would be taken for bounds and acks of those appended since.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.groups.values().chain(self.deleted.values()).any(Group::is_cutting)
    }

    /// These records of the chunk are done; some may be already. `Ok` is answered by
    /// [`Output::Acked`] once that is durable.
    ///
    /// # Errors
    /// `LEASE_LOST`, `UNKNOWN_SUBSCRIPTION`, `INVALID_REQUEST` for what is not all in the chunk, or
    /// `OVERLOADED` if there are too many parts that are settled apart from each other.
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

    /// What is open of these records failed; it rests for `delay_ms`, and at least for its backoff.
    /// All that is left of a chunk goes on as the chunk; a part of it as a chunk of its own.
    ///
    /// # Errors
    /// As [`Groups::ack`].
    pub fn nack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        delay_ms: u32,
        reason: &str,
    ) -> Result<(), ErrorCode> {
        let (group, outbox) = self.group_of(member)?;
        group.nack(now, member, claim, delay_ms, reason, outbox)
    }

    /// What is open of these records can never be handled: it goes to the dead-letter topic. `Ok` is
    /// answered by [`Output::Acked`] once it is durable there. `ranges` rise without overlap.
    ///
    /// # Errors
    /// As [`Groups::ack`]; `INVALID_REQUEST` without a dead-letter topic, `OVERLOADED` while too
    /// many dead letters wait, `DRAINING` after [`Groups::stop`].
    pub fn terminate(
        &mut self,
        now: Now,
        member: MemberKey,
        (ranges, generation): (&[(Offset, Offset)], u64),
        reason: &str,
        request: CorrelationId,
    ) -> Result<(), ErrorCode> {
        if self.stopped {
            return Err(ErrorCode::DRAINING);
        }
        let (group, outbox) = self.group_of(member)?;
        group.terminate(now, member, (ranges, generation), reason, request, outbox)
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
            if let Some(group) = self.groups.get_mut(&id) {
                group.persisted(now, durable, &mut self.outbox);
            } else if let Some(group) = self.deleted.get_mut(&id) {
                group.persisted(now, durable, &mut self.outbox);
                if group.is_settled() {
                    self.deleted.remove(&id);
                }
            }
        }
    }

    /// The dead letter of this epoch is durable in the dead-letter topic. One that the group does
    /// not wait for (any more) is no error.
    pub fn dead_lettered(&mut self, now: Now, id: GroupId, epoch: ProducerEpoch) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.dead_lettered(now, epoch, &mut self.outbox);
        }
    }

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

    /// Stop building and handing out chunks; acks, nacks and extends go on. What is dying stays so,
    /// but who waits for it is told that it is not buried.
    pub fn stop(&mut self) {
        self.stopped = true;
        for group in self.groups.values_mut() {
            group.stop();
            group.refuse_burials(&mut self.outbox);
        }
    }

    /// The records that stand for all so far. All outputs have been polled before, so that every
    /// record so far lies in front of these in the log. Once they are durable in a new segment,
    /// older segments may go.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Bytes> {
        let ledgers = self.groups.values().map(|group| (group.id(), group.ledger()));
        record::snapshot(self.used_epoch, ledgers)
    }

    /// The first record that somebody works on: on lease, or on its way to the dead letters.
    /// Retention stops there, unless the topic says otherwise.
    #[must_use]
    pub fn lowest_leased(&self) -> Option<Offset> {
        self.groups.values().filter_map(Group::lowest_leased).min()
    }

    /// The first record that a group with members has not finished, durably.
    pub fn lowest_unfinished(&self) -> Option<Offset> {
        let groups = self.groups.values().filter(|group| group.has_members());
        groups.map(Group::acked_upto).min()
    }

    /// The first record that is open in a chunk, on lease or not.
    #[must_use]
    pub fn lowest_open(&self) -> Option<Offset> {
        self.groups.values().filter_map(Group::lowest_open).min()
    }

    /// Must the records that nobody waits for be durable soon?
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.groups.values().any(Group::is_pressed)
    }

    /// Gives the groups up, after a failed write: who waits for an answer. What the log holds of the
    /// records under way is found out by recovery.
    #[must_use]
    pub fn into_unanswered(mut self) -> Unanswered {
        self.take_unanswered()
    }

    /// Who waits for an answer and shall not wait on: a full disk holds up the records. What they
    /// asked for is under way all the same; members that have not joined have to leave.
    #[must_use]
    pub fn take_unanswered(&mut self) -> Unanswered {
        let mut unanswered = Unanswered::default();
        for group in self.groups.values_mut().chain(self.deleted.values_mut()) {
            group.take_unanswered(&mut unanswered);
        }
        unanswered
    }

    #[must_use]
    pub fn stats(&self) -> Vec<GroupStats> {
        self.groups.values().map(Group::stats).collect()
    }

    fn group_of(&mut self, member: MemberKey) -> Result<(&mut Group, &mut Outbox), ErrorCode> {
        let id = self.members.get(&member).ok_or(ErrorCode::UNKNOWN_SUBSCRIPTION)?;
        let group = self.groups.get_mut(id).expect("a group with members stays");
        Ok((group, &mut self.outbox))
    }
}
