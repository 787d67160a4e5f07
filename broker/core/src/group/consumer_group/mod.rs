//! One consumer group of one partition.

mod building;
mod leases;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanecast_wire::message::GroupOptions;
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use crate::group::chunk::{Building, Chunk, ChunkState};
use crate::group::limits::MEMBERS_PER_GROUP_MAX;
use crate::group::outbox::Outbox;
use crate::group::{
    GroupId, GroupRecord, GroupSnapshot, MemberKey, Output, PersistToken, Unanswered,
};
use crate::mutants::{Mutant, planted};
use crate::{GroupStats, Now};

/// Lower bits of a generation count hand-outs, upper bits are the epoch.
const GENERATION_COUNTER_BITS: u32 = 40;
/// Epochs that fit above the counter.
pub(in crate::group) const EPOCH_MAX: u32 = (1 << (u64::BITS - GENERATION_COUNTER_BITS)) - 1;

/// See the [module](crate::group).
#[derive(Debug)]
pub(in crate::group) struct Group {
    id: GroupId,
    name: String,
    start: Offset,
    epoch: u32,
    /// The record that carries `epoch` is durable: members may join and take chunks.
    opened: bool,
    stopped: bool,
    high_watermark: Offset,

    /// Batches below this belong to a chunk, or are acked.
    bound_upto: Offset,
    building: Option<Building>,
    /// When chunks close: as the member wished that joined last.
    closing: Closing,
    /// Bound and not acked, by first offset. At most `CHUNKS_OPEN_MAX`.
    chunks: BTreeMap<Offset, Chunk>,
    /// The chunks in state `Ready`.
    ready: BTreeSet<Offset>,
    /// Deadlines of the chunks in state `Leased` and `Delayed`.
    timers: BTreeSet<(u64, Offset)>,
    binding: usize,
    leased: usize,

    members: BTreeMap<MemberKey, Member>,
    hand_outs: u64,
    /// What becomes true as each record under way is durable, oldest first.
    pending: VecDeque<(PersistToken, Pending)>,
    counters: Counters,
}

#[derive(Debug)]
struct Member {
    joined: bool,
    lease_ms: u32,
    chunks_in_flight: usize,
    held: BTreeSet<Offset>,
    /// `hand_outs` when it was last given a chunk.
    served: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Closing {
    records: u64,
    bytes: u64,
    linger_us: u64,
}

#[derive(Clone, Copy, Debug)]
enum Pending {
    Opened,
    Bound {
        first: Offset,
    },
    Done {
        first: Offset,
        member: MemberKey,
        request: CorrelationId,
    },
    /// Nobody waits for this record.
    Noted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    acked_chunks: u64,
    acked_records: u64,
    redelivered: u64,
    expired: u64,
    nacked: u64,
    skipped_records: u64,
    damaged_records: u64,
}

impl Group {
    /// A new group.
    pub(in crate::group) fn create(
        id: GroupId,
        name: &str,
        start: Offset,
        high_watermark: Offset,
        outbox: &mut Outbox,
    ) -> Self {
        let snapshot = GroupSnapshot {
            name: name.to_owned(),
            start,
            bound_upto: start,
            epoch: 1,
            chunks: Vec::new(),
        };
        let created = GroupRecord::Created { start, epoch: 1, name: name.to_owned() };
        Self::from_snapshot(id, snapshot, high_watermark, &created, outbox)
    }

    /// A group as its records left it, in a new epoch.
    pub(in crate::group) fn reopen(
        id: GroupId,
        mut snapshot: GroupSnapshot,
        outbox: &mut Outbox,
    ) -> Self {
        assert!(snapshot.epoch < EPOCH_MAX, "16 million restarts");
        snapshot.epoch += u32::from(!planted(Mutant::KeepEpoch));
        if planted(Mutant::RebindOnRestart) {
            snapshot.bound_upto = snapshot.chunks.first().map_or(snapshot.bound_upto, |c| c.first);
            snapshot.chunks.clear();
        }
        let opened = GroupRecord::Opened { epoch: snapshot.epoch };
        let high_watermark = Offset(0);
        Self::from_snapshot(id, snapshot, high_watermark, &opened, outbox)
    }

    fn from_snapshot(
        id: GroupId,
        snapshot: GroupSnapshot,
        high_watermark: Offset,
        opening: &GroupRecord,
        outbox: &mut Outbox,
    ) -> Self {
        let chunks: BTreeMap<Offset, Chunk> =
            snapshot.chunks.iter().map(|open| (open.first, Chunk::from(*open))).collect();
        let token = outbox.persist(id, opening);
        Self {
            id,
            name: snapshot.name,
            start: snapshot.start,
            epoch: snapshot.epoch,
            opened: false,
            stopped: false,
            high_watermark,
            bound_upto: snapshot.bound_upto,
            building: None,
            closing: Closing::default(),
            ready: chunks.keys().copied().collect(),
            chunks,
            timers: BTreeSet::new(),
            binding: 0,
            leased: 0,
            members: BTreeMap::new(),
            hand_outs: 0,
            pending: VecDeque::from([(token, Pending::Opened)]),
            counters: Counters::default(),
        }
    }

    pub(in crate::group) fn id(&self) -> GroupId {
        self.id
    }

    pub(in crate::group) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::group) fn stop(&mut self) {
        self.stopped = true;
        self.building = None;
    }

    // Members

    pub(in crate::group) fn join(
        &mut self,
        now: Now,
        key: MemberKey,
        options: &GroupOptions,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let member = Member::new(options, self.hand_outs)?;
        if self.members.len() >= MEMBERS_PER_GROUP_MAX {
            return Err(ErrorCode::TOO_MANY_CONSUMERS);
        }
        self.closing = Closing::new(options);
        self.members.insert(key, member);
        if planted(Mutant::HandOutTwice) {
            self.free_all_leases();
        }
        if self.opened {
            self.welcome(key, outbox);
            self.hand_out(now, outbox);
        }
        Ok(())
    }

    pub(in crate::group) fn leave(&mut self, now: Now, key: MemberKey, outbox: &mut Outbox) {
        let Some(member) = self.members.remove(&key) else { return };
        for first in member.held {
            self.free_lease(first);
            self.note_failure(first, outbox);
            self.set_ready(first);
        }
        if self.members.is_empty() {
            self.building = None;
        }
        self.hand_out(now, outbox);
    }

    fn welcome(&mut self, key: MemberKey, outbox: &mut Outbox) {
        if let Some(member) = self.members.get_mut(&key) {
            member.joined = true;
            outbox.push(Output::Joined { member: key, next: self.acked_upto() });
        }
    }

    // Durability

    fn persist(&mut self, record: &GroupRecord, pending: Pending, outbox: &mut Outbox) {
        let token = outbox.persist(self.id, record);
        self.pending.push_back((token, pending));
    }

    pub(in crate::group) fn persisted(
        &mut self,
        now: Now,
        token: PersistToken,
        outbox: &mut Outbox,
    ) {
        let (oldest, pending) = self.pending.pop_front().expect("every record is awaited");
        assert_eq!(oldest, token, "records become durable in the order written");
        match pending {
            Pending::Opened => {
                self.opened = true;
                let waiting: Vec<MemberKey> = self.members.keys().copied().collect();
                for key in waiting {
                    self.welcome(key, outbox);
                }
            }
            Pending::Bound { first } => {
                // Retention may have taken the chunk meanwhile.
                if let Some(chunk) = self.chunks.get(&first)
                    && chunk.state == ChunkState::Binding
                {
                    self.binding -= 1;
                    self.set_ready(first);
                }
            }
            Pending::Done { first, member, request } => {
                // Retention may have taken the chunk meanwhile.
                if let Some(chunk) = self.chunks.get(&first) {
                    self.counters.acked_chunks += 1;
                    self.counters.acked_records += chunk.records(first);
                    self.remove(first);
                }
                if !planted(Mutant::AnswerAckEarly) {
                    outbox.push(Output::Acked { member, request });
                }
            }
            Pending::Noted => {}
        }
        self.hand_out(now, outbox);
    }

    // What the group tells

    pub(in crate::group) fn acked_upto(&self) -> Offset {
        self.chunks.first_key_value().map_or(self.bound_upto, |(first, _)| *first)
    }

    pub(in crate::group) fn snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            name: self.name.clone(),
            start: self.start,
            bound_upto: self.bound_upto,
            epoch: self.epoch,
            chunks: self.chunks.iter().filter_map(|(first, chunk)| chunk.open(*first)).collect(),
        }
    }

    pub(in crate::group) fn into_unanswered(self, unanswered: &mut Unanswered) {
        let joining = self.members.iter().filter(|(_, member)| !member.joined);
        unanswered.joins.extend(joining.map(|(key, _)| *key));
        for (_, pending) in self.pending {
            if let Pending::Done { member, request, .. } = pending {
                unanswered.acks.push((member, request));
            }
        }
    }

    pub(in crate::group) fn stats(&self) -> GroupStats {
        let open_records: u64 =
            self.chunks.iter().map(|(first, chunk)| chunk.records(*first)).sum();
        GroupStats {
            name: self.name.clone(),
            acked_upto: self.acked_upto().0,
            members: self.members.len() as u32,
            in_flight_chunks: self.leased as u32,
            open_chunks: self.chunks.len() as u32,
            lag_records: self.high_watermark.0.saturating_sub(self.bound_upto.0) + open_records,
            acked_chunks: self.counters.acked_chunks,
            acked_records: self.counters.acked_records,
            redelivered: self.counters.redelivered,
            expired: self.counters.expired,
            nacked: self.counters.nacked,
            skipped_records: self.counters.skipped_records,
            damaged_records: self.counters.damaged_records,
        }
    }
}

impl Member {
    fn new(options: &GroupOptions, served: u64) -> Result<Self, ErrorCode> {
        options.check().map_err(|refusal| refusal.code())?;
        Ok(Self {
            joined: false,
            lease_ms: options.lease_ms,
            chunks_in_flight: options.chunks_in_flight as usize,
            held: BTreeSet::new(),
            served,
        })
    }
}

impl Closing {
    fn new(options: &GroupOptions) -> Self {
        Self {
            records: u64::from(options.chunk_records),
            bytes: u64::from(options.chunk_bytes),
            linger_us: u64::from(options.chunk_linger_ms) * 1000,
        }
    }
}
