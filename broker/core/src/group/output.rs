//! What a partition's groups want done, and tell.

use bytes::Bytes;
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use super::{Asker, DeadLetter, GroupId, MemberKey, PersistToken};
use crate::GroupStats;

/// What a group wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append to the `Groups` log, in the order polled; once that is durable, say
    /// [`super::Groups::persisted`].
    Persist {
        token: PersistToken,
        record: Bytes,
        /// Nobody waits for it: it may wait for others.
        patient: bool,
    },
    /// The member's group, its start position included, is durable. Answers
    /// [`super::Groups::join`].
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
    /// Append these records to the dead-letter topic; then say [`super::Groups::dead_lettered`].
    DeadLetter(DeadLetter),
    /// The ack is durable, or the records are in the dead-letter topic. Answers
    /// [`super::Groups::ack`] and [`super::Groups::terminate`].
    Acked {
        member: MemberKey,
        request: CorrelationId,
    },
    /// Answers [`super::Groups::terminate`] where retention was faster.
    Refused {
        member: MemberKey,
        request: CorrelationId,
        code: ErrorCode,
    },
    /// The change is durable. Answers [`super::Groups::move_to`] and [`super::Groups::delete`].
    Answered {
        asker: Asker,
        /// The group as it is now, unless it was deleted.
        moved: Option<GroupStats>,
    },
}

/// A chunk that a member now holds: deliver its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// When the chunk's newest batch was appended, unix milliseconds.
    pub appended_ms: i64,
    /// What of the chunk is settled already; rising, without overlap.
    pub settled: Vec<(Offset, Offset)>,
}

/// Answers that will not come because the groups are given up; see
/// [`super::Groups::into_unanswered`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    pub joins: Vec<MemberKey>,
    pub acks: Vec<(MemberKey, CorrelationId)>,
    pub askers: Vec<Asker>,
}
