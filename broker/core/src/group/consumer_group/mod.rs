//! One consumer group of one partition.

mod blocks;
mod building;
mod figures;
mod graves;
mod leases;
mod pending;
pub(in crate::group) mod positions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanecast_wire::limits::CHUNK_RANGES_MAX;
use lanecast_wire::message::GroupOptions;
use lanecast_wire::{ErrorCode, Offset};

use self::blocks::Blocks;
use self::graves::Grave;
use self::pending::{Answer, Pending};
use crate::Now;
use crate::group::chunk::{Building, ChunkState, Slot};
use crate::group::ledger::{ChunkKey, Ledger};
use crate::group::limits::{
    CHUNKS_OPEN_MAX, CHUNKS_OUT_PER_GROUP_MAX, MEMBERS_PER_GROUP_MAX, RANGES_OPEN_MAX,
};
use crate::group::outbox::Outbox;
use crate::group::{
    Departure, GroupId, GroupRecord, GroupSettings, MemberKey, Output, PersistToken, Unanswered,
};
use crate::mutants::{Mutant, planted};

/// Lower bits of a generation count hand-outs, upper bits are the epoch.
const GENERATION_COUNTER_BITS: u32 = 40;
/// Epochs that fit above the counter.
pub(in crate::group) const EPOCH_MAX: u32 = (1 << (u64::BITS - GENERATION_COUNTER_BITS)) - 1;

/// See the [module](crate::group).
#[derive(Debug)]
pub(in crate::group) struct Group {
    id: GroupId,
    settings: GroupSettings,
    /// As if every record under way were durable.
    ledger: Ledger,
    /// Records under way that have to be durable before members may join and take chunks: those
    /// that carry an epoch, or change chunks that had been bound.
    opening: usize,
    stopped: bool,
    high_watermark: Offset,
    /// Behind what is on its way to be durable.
    tail: Offset,
    /// Batches that were appended at or before this have outlived their time.
    horizon_ms: Option<i64>,

    building: Option<Building>,
    blocks: Blocks,
    /// When chunks close: as the member wished that joined last.
    closing: Closing,
    /// A slot for each chunk of the ledger, and for those whose end is not durable. At most
    /// `CHUNKS_OPEN_MAX`.
    slots: BTreeMap<ChunkKey, Slot>,
    /// The chunks in state `Ready`.
    ready: BTreeSet<ChunkKey>,
    /// The chunks in state `Doomed`.
    doomed: BTreeSet<ChunkKey>,
    /// Deadlines of the chunks in state `Leased` and `Delayed`.
    timers: BTreeSet<(u64, ChunkKey)>,
    /// The chunks in state `Leased`, by generation.
    leases: BTreeMap<u64, ChunkKey>,
    /// How many chunks are in state `Binding`.
    binding: usize,
    /// One for each of the ledger's dying.
    graves: BTreeMap<u32, Grave>,
    /// The dead letter that is given out, until its end is durable.
    burying: Option<u32>,

    members: BTreeMap<MemberKey, Member>,
    hand_outs: u64,
    /// What becomes true as each record under way is durable, oldest first.
    pending: VecDeque<(PersistToken, Pending)>,
    /// Who is told once a record is durable, in the order of the records.
    answers: VecDeque<(PersistToken, Answer)>,
    counters: Counters,
}

#[derive(Debug)]
struct Member {
    joined: bool,
    lease_ms: u32,
    chunks_in_flight: usize,
    held: BTreeSet<ChunkKey>,
    /// `hand_outs` when it was last given a chunk.
    served: u64,
    /// Acks that are not durable.
    unanswered: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Closing {
    records: u64,
    bytes: u64,
    linger_us: u64,
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
    expired_records: u64,
    dead_lettered_records: u64,
    leases_broken: u64,
}

impl Group {
    /// A new group.
    pub(in crate::group) fn create(
        id: GroupId,
        ledger: Ledger,
        settings: GroupSettings,
        high_watermark: Offset,
        outbox: &mut Outbox,
    ) -> Self {
        let created = GroupRecord::Created {
            start: ledger.start,
            epoch: ledger.epoch,
            producer: ledger.producer,
            name: ledger.name.clone(),
        };
        Self::from_ledger(id, ledger, settings, high_watermark, &created, outbox)
    }

    /// A group as its records left it, in a new epoch.
    pub(in crate::group) fn reopen(
        id: GroupId,
        mut ledger: Ledger,
        settings: GroupSettings,
        outbox: &mut Outbox,
    ) -> Self {
        assert!(ledger.epoch < EPOCH_MAX, "16 million restarts");
        ledger.epoch += u32::from(!planted(Mutant::KeepEpoch));
        if planted(Mutant::RebindOnRestart) {
            let first = ledger.chunks.first_key_value().map(|(key, _)| key.first);
            ledger.bound_upto = first.unwrap_or(ledger.bound_upto);
            ledger.chunks.clear();
        }
        let opened = GroupRecord::Opened { epoch: ledger.epoch };
        Self::from_ledger(id, ledger, settings, Offset(0), &opened, outbox)
    }

    fn from_ledger(
        id: GroupId,
        ledger: Ledger,
        settings: GroupSettings,
        high_watermark: Offset,
        opening: &GroupRecord,
        outbox: &mut Outbox,
    ) -> Self {
        let token = outbox.persist(id, opening, false);
        let grave = Grave { dug: true, answer: None };
        let mut group = Self {
            id,
            settings,
            opening: 1,
            stopped: false,
            high_watermark,
            tail: high_watermark,
            horizon_ms: None,
            building: None,
            blocks: Blocks::default(),
            closing: Closing::default(),
            slots: BTreeMap::new(),
            ready: BTreeSet::new(),
            doomed: BTreeSet::new(),
            timers: BTreeSet::new(),
            leases: BTreeMap::new(),
            binding: 0,
            graves: ledger.dying.keys().map(|epoch| (*epoch, grave)).collect(),
            burying: None,
            ledger,
            members: BTreeMap::new(),
            hand_outs: 0,
            pending: VecDeque::from([(token, Pending::Opened)]),
            answers: VecDeque::new(),
            counters: Counters::default(),
        };
        group.forget_slots();
        group
    }

    /// Nothing but the ledger counts.
    fn forget_slots(&mut self) {
        let ready = |chunk| Slot::new(chunk, ChunkState::Ready);
        let chunks = self.ledger.chunks.values();
        self.slots = chunks.map(|chunk| (chunk.key, ready(chunk))).collect();
        self.ready = self.slots.keys().copied().collect();
        self.doomed.clear();
        self.timers.clear();
        self.leases.clear();
        self.binding = 0;
    }

    pub(in crate::group) fn id(&self) -> GroupId {
        self.id
    }

    pub(in crate::group) fn name(&self) -> &str {
        &self.ledger.name
    }

    pub(in crate::group) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn is_open(&self) -> bool {
        self.opening == 0
    }

    pub(in crate::group) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    pub(in crate::group) fn stop(&mut self) {
        self.stopped = true;
        self.building = None;
    }

    pub(in crate::group) fn configure(
        &mut self,
        now: Now,
        settings: GroupSettings,
        outbox: &mut Outbox,
    ) {
        self.settings = settings;
        self.hand_out(now, outbox);
    }

    pub(in crate::group) fn set_horizon(&mut self, horizon_ms: Option<i64>) {
        self.horizon_ms = horizon_ms;
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
        if self.is_open() {
            self.welcome(key, outbox);
            self.hand_out(now, outbox);
        }
        Ok(())
    }

    pub(in crate::group) fn leave(
        &mut self,
        now: Now,
        key: MemberKey,
        departure: Departure,
        outbox: &mut Outbox,
    ) {
        let Some(member) = self.members.remove(&key) else { return };
        for chunk in member.held {
            self.free_lease(chunk);
            self.set_state(chunk, ChunkState::Ready);
            match departure {
                Departure::Lost if !self.stopped => {
                    self.fail(now, chunk, 0, "the member's connection was lost", outbox);
                }
                // A broker that stops ends connections itself.
                Departure::Lost | Departure::InOrder => self.set_ready(chunk),
            }
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

    /// That chunks end where the log does is not durable.
    pub(in crate::group) fn is_cutting(&self) -> bool {
        self.pending.iter().any(|(_, pending)| matches!(pending, Pending::Cut))
    }

    /// What lies below is durably finished; a chunk of which nothing is left goes.
    fn raise_floor(&mut self, key: ChunkKey, floor: Offset) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.floor = slot.floor.max(floor);
        if slot.floor > key.last && slot.state == ChunkState::Settling {
            self.slots.remove(&key);
        }
    }

    /// The chunk's first open record, were these finished.
    fn floor_without(&self, key: ChunkKey, finished: &[(Offset, Offset)]) -> Offset {
        let settled = &self.ledger.chunks[&key].settled;
        if settled.is_empty()
            && let [(first, last)] = finished
        {
            return if *first == key.first { Offset(last.0 + 1) } else { key.first };
        }
        let mut settled = settled.clone();
        for (first, last) in finished {
            settled.insert(*first, *last);
        }
        settled.first_gap(key.first)
    }

    // Bounds

    /// May these ranges of the chunk be remembered apart, and so many elsewhere?
    fn check_room(
        &self,
        key: ChunkKey,
        ranges: &[(Offset, Offset)],
        elsewhere: usize,
    ) -> Result<(), ErrorCode> {
        let settled = &self.ledger.chunks[&key].settled;
        let grown: isize = ranges.iter().map(|(first, last)| settled.growth(*first, *last)).sum();
        let grown = usize::try_from(grown).unwrap_or(0);
        let is_full = grown + elsewhere > 0
            && (settled.len() + grown > CHUNK_RANGES_MAX
                || self.ledger.range_count() + grown + elsewhere > RANGES_OPEN_MAX);
        if is_full { Err(ErrorCode::OVERLOADED) } else { Ok(()) }
    }

    fn check_slots(&self) -> Result<(), ErrorCode> {
        if self.slots.len() < CHUNKS_OPEN_MAX { Ok(()) } else { Err(ErrorCode::OVERLOADED) }
    }

    fn slot(&mut self, key: ChunkKey) -> &mut Slot {
        self.slots.get_mut(&key).expect("the chunk is open")
    }

    fn set_state(&mut self, key: ChunkKey, state: ChunkState) {
        self.slot(key).state = state;
    }

    /// Members that have not joined are told of, and stay.
    pub(in crate::group) fn take_unanswered(&mut self, unanswered: &mut Unanswered) {
        let joining = self.members.iter().filter(|(_, member)| !member.joined);
        unanswered.joins.extend(joining.map(|(key, _)| *key));
        self.members.values_mut().for_each(|member| member.unanswered = 0);
        for (_, answer) in self.answers.drain(..) {
            match answer {
                Answer::Member(member, request) => unanswered.acks.push((member, request)),
                Answer::Moved(asker) | Answer::Deleted(asker) => unanswered.askers.push(asker),
            }
        }
        let graves = self.graves.values_mut();
        unanswered.acks.extend(graves.filter_map(|grave| grave.answer.take()));
    }
}

impl GroupSettings {
    fn chunks_out_max(&self) -> usize {
        self.chunks_out.clamp(1, CHUNKS_OUT_PER_GROUP_MAX) as usize
    }

    /// Was this the last attempt?
    fn is_last(&self, attempts: u32) -> bool {
        self.dead_letters && self.max_attempts > 0 && attempts >= self.max_attempts
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
            unanswered: 0,
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
