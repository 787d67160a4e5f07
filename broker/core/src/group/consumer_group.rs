//! One consumer group of one partition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanecast_wire::limits::{CHUNK_BYTES_MAX, CHUNK_RECORDS_MAX, LEASE_MS_MAX, LEASE_MS_MIN};
use lanecast_wire::message::GroupOptions;
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use super::chunk::{Building, Chunk, ChunkState};
use super::limits::{
    CHUNK_LINGER_MS_MAX, CHUNKS_AHEAD_MAX, CHUNKS_OPEN_MAX, CHUNKS_OUT_PER_GROUP_MAX,
    CHUNKS_PER_MEMBER_MAX, MEMBERS_PER_GROUP_MAX, NACK_DELAY_MS_MAX,
};
use super::outbox::Outbox;
use super::{
    BatchBounds, Claim, GroupId, GroupRecord, GroupSnapshot, HandOut, MemberKey, Output,
    PersistToken, Unanswered,
};
use crate::{GroupStats, Now};

/// Lower bits of a generation count hand-outs, upper bits are the epoch.
const GENERATION_COUNTER_BITS: u32 = 40;
/// Epochs that fit above the counter.
pub(super) const EPOCH_MAX: u32 = (1 << (u64::BITS - GENERATION_COUNTER_BITS)) - 1;

/// See the [module](super).
#[derive(Debug)]
pub(super) struct Group {
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
}

impl Group {
    /// A new group.
    pub(super) fn create(
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
    pub(super) fn reopen(id: GroupId, mut snapshot: GroupSnapshot, outbox: &mut Outbox) -> Self {
        assert!(snapshot.epoch < EPOCH_MAX, "16 million restarts");
        snapshot.epoch += 1;
        let opened = GroupRecord::Opened { epoch: snapshot.epoch };
        let high_watermark = snapshot.bound_upto;
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

    pub(super) fn id(&self) -> GroupId {
        self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.building = None;
    }

    // Members

    pub(super) fn join(
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
        if self.opened {
            self.welcome(key, outbox);
            self.hand_out(now, outbox);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, now: Now, key: MemberKey, outbox: &mut Outbox) {
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

    // Building and binding

    pub(super) fn advance(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    pub(super) fn wants(&self) -> Option<Offset> {
        let ahead = self.binding + self.ready.len();
        let room = ahead < CHUNKS_AHEAD_MAX && self.chunks.len() < CHUNKS_OPEN_MAX;
        (room && self.opened && !self.stopped && !self.members.is_empty()).then(|| self.next())
    }

    /// The offset behind everything that is bound or being built.
    fn next(&self) -> Offset {
        self.building.map_or(self.bound_upto, |building| Offset(building.last.0 + 1))
    }

    pub(super) fn offer(&mut self, now: Now, batch: BatchBounds, outbox: &mut Outbox) {
        if self.wants() != Some(batch.first) || batch.last < batch.first {
            debug_assert!(false, "batch {batch:?} offered, wanted {:?}", self.wants());
            return;
        }
        let records = batch.last.0 - batch.first.0 + 1;
        let over = self.building.is_some_and(|building| {
            building.records() + records > self.closing.records
                || u64::from(building.bytes) + u64::from(batch.bytes) > self.closing.bytes
        });
        if over {
            self.close(outbox);
        }
        let building = self
            .building
            .get_or_insert_with(|| Building::begin(BatchBounds { bytes: 0, ..batch }, now.mono_us));
        building.last = batch.last;
        building.bytes = building.bytes.saturating_add(batch.bytes);
        let full = building.records() >= self.closing.records
            || u64::from(building.bytes) >= self.closing.bytes;
        if full || self.linger_deadline().is_some_and(|deadline| deadline <= now.mono_us) {
            self.close(outbox);
        }
    }

    /// When the chunk being built has waited long enough. While more batches are durable it waits
    /// for them instead: a group that is behind makes full chunks.
    fn linger_deadline(&self) -> Option<u64> {
        let building = self.building?;
        (building.last.0 + 1 >= self.high_watermark.0)
            .then(|| building.since_us.saturating_add(self.closing.linger_us))
    }

    fn close(&mut self, outbox: &mut Outbox) {
        let Some(Building { first, last, bytes, .. }) = self.building.take() else { return };
        self.chunks.insert(first, Chunk { last, bytes, attempts: 0, state: ChunkState::Binding });
        self.binding += 1;
        self.bound_upto = Offset(last.0 + 1);
        self.persist(&GroupRecord::Bound { first, last, bytes }, Pending::Bound { first }, outbox);
    }

    pub(super) fn trim(&mut self, now: Now, log_start: Offset, outbox: &mut Outbox) {
        if self.next() < log_start {
            self.counters.skipped_records += log_start.0 - self.bound_upto.0;
        } else if let Some(building) = self.building
            && building.first < log_start
        {
            self.counters.skipped_records += log_start.0 - building.first.0;
        }
        let mut skipped = self.bound_upto < log_start;
        if skipped {
            self.building = None;
            self.bound_upto = log_start;
        }
        while let Some((first, chunk)) = self.chunks.first_key_value()
            && *first < log_start
        {
            let first = *first;
            self.counters.skipped_records += chunk.records(first);
            self.end_lease(first, outbox);
            self.remove(first);
            skipped = true;
        }
        if skipped {
            self.persist(&GroupRecord::Skipped { upto: log_start }, Pending::Noted, outbox);
            self.hand_out(now, outbox);
        }
    }

    // Leases

    pub(super) fn ack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        request: CorrelationId,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let first = self.check(member, claim)?;
        self.end_lease(first, outbox);
        self.set_state(first, ChunkState::Acking);
        let done = GroupRecord::Done { ranges: vec![(claim.first, claim.last)] };
        self.persist(&done, Pending::Done { first, member, request }, outbox);
        self.hand_out(now, outbox);
        Ok(())
    }

    pub(super) fn nack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        delay_ms: u32,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let first = self.check(member, claim)?;
        self.counters.nacked += 1;
        self.fail(now, first, u64::from(delay_ms.min(NACK_DELAY_MS_MAX)), outbox);
        self.hand_out(now, outbox);
        Ok(())
    }

    pub(super) fn extend(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        lease_ms: u32,
    ) -> Result<(), ErrorCode> {
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let first = self.check(member, claim)?;
        self.stop_timer(first);
        let deadline_us = now.mono_us.saturating_add(u64::from(lease_ms) * 1000);
        self.timers.insert((deadline_us, first));
        let generation = claim.generation;
        self.set_state(first, ChunkState::Leased { member, generation, deadline_us });
        Ok(())
    }

    /// The chunk whose live lease the claim names.
    fn check(&self, member: MemberKey, claim: Claim) -> Result<Offset, ErrorCode> {
        if claim.first > claim.last {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let (first, chunk) =
            self.chunks.range(..=claim.first).next_back().ok_or(ErrorCode::LEASE_LOST)?;
        match chunk.state {
            ChunkState::Leased { member: holder, generation, .. }
                if holder == member && generation == claim.generation =>
            {
                // Acks of parts have no bookkeeping yet.
                let whole = *first == claim.first && chunk.last == claim.last;
                if whole { Ok(*first) } else { Err(ErrorCode::INVALID_REQUEST) }
            }
            ChunkState::Leased { .. }
            | ChunkState::Binding
            | ChunkState::Ready
            | ChunkState::Delayed { .. }
            | ChunkState::Acking => Err(ErrorCode::LEASE_LOST),
        }
    }

    /// Gives ready chunks, lowest offset first, to members with room, those that hold fewest first
    /// and among them who has waited longest.
    fn hand_out(&mut self, now: Now, outbox: &mut Outbox) {
        if !self.opened || self.stopped {
            return;
        }
        while self.leased < CHUNKS_OUT_PER_GROUP_MAX
            && let Some(first) = self.ready.first().copied()
            && let Some((key, member)) = self
                .members
                .iter_mut()
                .filter(|(_, member)| member.joined && member.held.len() < member.chunks_in_flight)
                .min_by_key(|(_, member)| (member.held.len(), member.served))
        {
            let key = *key;
            self.ready.remove(&first);
            self.hand_outs += 1;
            assert!(self.hand_outs >> GENERATION_COUNTER_BITS == 0, "10^12 hand-outs");
            let generation = u64::from(self.epoch) << GENERATION_COUNTER_BITS | self.hand_outs;
            let deadline_us = now.mono_us.saturating_add(u64::from(member.lease_ms) * 1000);
            member.held.insert(first);
            member.served = self.hand_outs;
            self.leased += 1;
            self.timers.insert((deadline_us, first));

            let chunk = self.chunks.get_mut(&first).expect("ready chunks are open");
            debug_assert_eq!(chunk.state, ChunkState::Ready);
            chunk.state = ChunkState::Leased { member: key, generation, deadline_us };
            chunk.attempts = chunk.attempts.saturating_add(1);
            self.counters.redelivered += u64::from(chunk.attempts > 1);
            outbox.push(Output::HandOut(HandOut {
                group: self.id,
                member: key,
                first,
                last: chunk.last,
                bytes: chunk.bytes,
                attempt: chunk.attempts,
                generation,
                lease_ms: member.lease_ms,
            }));
        }
    }

    /// The hand-out has failed: the chunk rests for its backoff or `delay_ms`, whichever is longer.
    fn fail(&mut self, now: Now, first: Offset, delay_ms: u64, outbox: &mut Outbox) {
        self.end_lease(first, outbox);
        self.note_failure(first, outbox);
        let chunk = self.chunks.get(&first).expect("failed chunks are open");
        let rest_ms = chunk.backoff_ms().max(delay_ms);
        let until_us = now.mono_us.saturating_add(rest_ms * 1000);
        self.timers.insert((until_us, first));
        self.set_state(first, ChunkState::Delayed { until_us });
    }

    fn note_failure(&mut self, first: Offset, outbox: &mut Outbox) {
        let attempts = self.chunks.get(&first).expect("failed chunks are open").attempts;
        self.persist(&GroupRecord::Failed { first, attempts }, Pending::Noted, outbox);
    }

    /// Ends the chunk's lease, if it has one, and tells its holder.
    fn end_lease(&mut self, first: Offset, outbox: &mut Outbox) {
        if let Some((member, generation)) = self.free_lease(first) {
            outbox.push(Output::LeaseEnded { member, first, generation });
        }
    }

    /// Forgets the chunk's lease; the caller gives the chunk another state.
    fn free_lease(&mut self, first: Offset) -> Option<(MemberKey, u64)> {
        self.stop_timer(first);
        let chunk = self.chunks.get(&first)?;
        let ChunkState::Leased { member, generation, .. } = chunk.state else { return None };
        self.leased -= 1;
        if let Some(holder) = self.members.get_mut(&member) {
            holder.held.remove(&first);
        }
        Some((member, generation))
    }

    fn stop_timer(&mut self, first: Offset) {
        let Some(chunk) = self.chunks.get(&first) else { return };
        match chunk.state {
            ChunkState::Leased { deadline_us: at, .. } | ChunkState::Delayed { until_us: at } => {
                self.timers.remove(&(at, first));
            }
            ChunkState::Binding | ChunkState::Ready | ChunkState::Acking => {}
        }
    }

    fn set_state(&mut self, first: Offset, state: ChunkState) {
        self.chunks.get_mut(&first).expect("the chunk is open").state = state;
    }

    fn set_ready(&mut self, first: Offset) {
        self.set_state(first, ChunkState::Ready);
        self.ready.insert(first);
    }

    /// Forgets a chunk that has no lease any more.
    fn remove(&mut self, first: Offset) {
        let Some(chunk) = self.chunks.remove(&first) else { return };
        self.ready.remove(&first);
        self.binding -= usize::from(chunk.state == ChunkState::Binding);
    }

    // Time and durability

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let linger = if self.wants().is_some() { self.linger_deadline() } else { None };
        timer.into_iter().chain(linger).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox) {
        if self.wants().is_some()
            && self.linger_deadline().is_some_and(|deadline| deadline <= now.mono_us)
        {
            self.close(outbox);
        }
        // Each turn ends a lease or a rest, and what it starts anew lies in the future.
        while let Some((at, first)) = self.timers.first().copied()
            && at <= now.mono_us
        {
            match self.chunks.get(&first).expect("timers belong to open chunks").state {
                ChunkState::Leased { .. } => {
                    self.counters.expired += 1;
                    self.fail(now, first, 0, outbox);
                }
                ChunkState::Delayed { .. } => {
                    self.stop_timer(first);
                    self.set_ready(first);
                }
                ChunkState::Binding | ChunkState::Ready | ChunkState::Acking => {
                    unreachable!("only leased and delayed chunks have timers")
                }
            }
        }
        self.hand_out(now, outbox);
    }

    fn persist(&mut self, record: &GroupRecord, pending: Pending, outbox: &mut Outbox) {
        let token = outbox.persist(self.id, record);
        self.pending.push_back((token, pending));
    }

    pub(super) fn persisted(&mut self, now: Now, token: PersistToken, outbox: &mut Outbox) {
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
                outbox.push(Output::Acked { member, request });
            }
            Pending::Noted => {}
        }
        self.hand_out(now, outbox);
    }

    // What the group tells

    pub(super) fn acked_upto(&self) -> Offset {
        self.chunks.first_key_value().map_or(self.bound_upto, |(first, _)| *first)
    }

    pub(super) fn snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            name: self.name.clone(),
            start: self.start,
            bound_upto: self.bound_upto,
            epoch: self.epoch,
            chunks: self.chunks.iter().filter_map(|(first, chunk)| chunk.open(*first)).collect(),
        }
    }

    pub(super) fn into_unanswered(self, unanswered: &mut Unanswered) {
        let joining = self.members.iter().filter(|(_, member)| !member.joined);
        unanswered.joins.extend(joining.map(|(key, _)| *key));
        for (_, pending) in self.pending {
            if let Pending::Done { member, request, .. } = pending {
                unanswered.acks.push((member, request));
            }
        }
    }

    pub(super) fn stats(&self) -> GroupStats {
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
        }
    }
}

impl Member {
    fn new(options: &GroupOptions, served: u64) -> Result<Self, ErrorCode> {
        let valid = (1..=CHUNK_RECORDS_MAX).contains(&options.chunk_records)
            && (1..=CHUNK_BYTES_MAX).contains(&options.chunk_bytes)
            && options.chunk_linger_ms <= CHUNK_LINGER_MS_MAX
            && (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&options.lease_ms)
            && (1..=CHUNKS_PER_MEMBER_MAX).contains(&options.chunks_in_flight);
        if !valid {
            return Err(ErrorCode::INVALID_REQUEST);
        }
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
