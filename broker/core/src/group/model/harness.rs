//! Plays a history and keeps, beside the group, what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanecast_wire::limits::CHUNKS_IN_FLIGHT_MAX;
use lanecast_wire::message::GroupOptions;

use super::super::*;
use super::{How, Rules, Step};

struct Live {
    key: ChunkKey,
    member: MemberKey,
    deadline_us: u64,
    open: BTreeSet<u64>,
}

enum Request {
    Ack(BTreeSet<u64>),
    Terminate(BTreeSet<u64>),
}

/// What must hold, kept beside the group. Offsets are those since the group was last moved or made.
#[derive(Default)]
struct Model {
    /// Bounds of all chunks ever handed out.
    bounds: BTreeSet<ChunkKey>,
    /// Offsets whose ack was taken; a crash may keep it or not.
    asked: BTreeSet<u64>,
    /// Offsets whose ack was answered.
    acked: BTreeSet<u64>,
    /// Offsets in the dead-letter topic, and those that the group was told to be there.
    dead: BTreeSet<u64>,
    buried: BTreeSet<u64>,
    live: BTreeMap<u64, Live>,
    /// Failed hand-outs.
    failed: BTreeMap<ChunkKey, u32>,
    requests: BTreeMap<u64, Request>,
}

pub(super) struct Harness {
    rules: Rules,
    groups: Groups,
    group: GroupId,
    now: Now,
    horizon_ms: Option<i64>,
    log_start: u64,
    batches: Vec<BatchBounds>,
    log: Vec<Bytes>,
    under_way: VecDeque<(PersistToken, Bytes)>,
    leases: Vec<HandOut>,
    letter: Option<DeadLetter>,
    /// The dead-letter topic: up to which epoch and offset it has its producers' letters.
    letters: BTreeMap<ProducerId, (ProducerEpoch, u64)>,
    generations: BTreeSet<u64>,
    model: Model,
    asked: u64,
}

fn member(connection: u64) -> MemberKey {
    MemberKey {
        shard: ShardId(0),
        connection: ConnectionId(connection),
        subscription: SubscriptionId(0),
    }
}

fn asker() -> Asker {
    let request = RequestId { connection: ConnectionId(7), correlation: CorrelationId(7) };
    Asker { shard: ShardId(0), request }
}

fn offsets(ranges: &[(Offset, Offset)]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(first, last)| first.0..=last.0).collect()
}

impl Harness {
    pub(super) fn new(rules: Rules) -> Self {
        let now = Now { mono_us: 0, wall_ms: 1_000_000 };
        let mut groups = Groups::new(settings(rules));
        let group = groups.create(now, "g", Offset(0)).unwrap();
        Self {
            rules,
            groups,
            group,
            now,
            horizon_ms: None,
            log_start: 0,
            batches: Vec::new(),
            log: Vec::new(),
            under_way: VecDeque::new(),
            leases: Vec::new(),
            letter: None,
            letters: BTreeMap::new(),
            generations: BTreeSet::new(),
            model: Model::default(),
            asked: 0,
        }
    }

    fn high_watermark(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.last.0 + 1)
    }

    pub(super) fn run(&mut self, step: &Step) {
        match *step {
            // The log takes nothing until the groups have written down that it lost its end.
            Step::Append { .. } if self.groups.is_cutting() => {}
            Step::Append { records } => {
                let first = self.high_watermark();
                self.batches.push(BatchBounds {
                    first: Offset(first),
                    last: Offset(first + records - 1),
                    bytes: records as u32 * 100,
                    appended_ms: self.now.wall_ms,
                });
                self.groups.advance(self.now, Offset(first + records), Offset(first + records));
            }
            Step::Join { connection, chunk_records, chunks_in_flight } => {
                let options = GroupOptions {
                    group: "g".into(),
                    member: connection.to_string(),
                    chunk_records,
                    chunk_bytes: 8_000,
                    chunk_linger_ms: 100,
                    lease_ms: 1_000,
                    chunks_in_flight,
                };
                // Refused when it is a member already.
                let _refused = self.groups.join(self.now, self.group, member(connection), &options);
            }
            Step::Leave { connection, departure } => self.leave(member(connection), departure),
            Step::Settle { pick, from, records, how } => {
                if !self.leases.is_empty() {
                    let lease = self.leases[pick % self.leases.len()].clone();
                    let first = lease.first.0 + from % (lease.last.0 - lease.first.0 + 1);
                    let last = first.saturating_add(records - 1).min(lease.last.0);
                    self.settle(&lease, (Offset(first), Offset(last)), how);
                }
            }
            Step::Pass { ms } => self.pass(ms),
            Step::Flush { records } => (0..records).for_each(|_| self.flush_one()),
            Step::Snapshot => self.snapshot(),
            Step::Bury { told, part } => self.bury(told, part),
            Step::Trim { batches, breaks_leases } => self.trim(batches, breaks_leases),
            Step::Move { batch } => self.move_to(batch),
            Step::Delete => self.delete(),
            Step::Crash { records, lost } => {
                for (_, record) in self.under_way.drain(..).take(records) {
                    self.log.push(record);
                }
                let left = self.batches.len().saturating_sub(lost);
                if self.batches.get(left).is_some_and(|batch| batch.first.0 >= self.log_start) {
                    self.batches.truncate(left);
                }
                self.restart();
            }
        }
        self.settle_down();
    }

    fn leave(&mut self, member: MemberKey, departure: Departure) {
        self.groups.leave(self.now, member, departure);
        let of = |live: &Live| live.member == member;
        for live in self.model.live.values().filter(|live| of(live)) {
            let lost = u32::from(departure == Departure::Lost);
            *self.model.failed.entry(live.key).or_default() += lost;
        }
        self.model.live.retain(|_, live| !of(live));
    }

    fn settle(&mut self, lease: &HandOut, (first, last): (Offset, Offset), how: How) {
        let now = self.now;
        let (member, generation) = (lease.member, lease.generation);
        let claim = Claim { first, last, generation };
        self.asked += 1;
        let request = CorrelationId(self.asked);
        let live = self.model.live.get_mut(&generation);
        let open: BTreeSet<u64> = live
            .as_ref()
            .map_or(BTreeSet::new(), |live| live.open.range(first.0..=last.0).copied().collect());
        let outcome = match how {
            How::Ack => self.groups.ack(now, member, claim, request),
            How::Nack(delay_ms) => self.groups.nack(now, member, claim, delay_ms, "no"),
            How::Extend(lease_ms) => self.groups.extend(now, member, claim, lease_ms),
            How::Terminate => {
                let claim = (&[(first, last)][..], generation);
                self.groups.terminate(now, member, claim, "poison", request)
            }
        };
        assert_eq!(outcome.is_ok(), live.is_some(), "{how:?} of {lease:?}: {outcome:?}");
        let Some(live) = live else { return };
        if let How::Extend(lease_ms) = how {
            live.deadline_us = now.mono_us + u64::from(lease_ms) * 1000;
            return;
        }
        let all = open.len() == live.open.len();
        live.open.retain(|offset| !open.contains(offset));
        let key = live.key;
        match how {
            How::Ack => {
                self.model.asked.extend(&open);
                let acked = (first.0..=last.0).filter(|o| self.model.asked.contains(o)).collect();
                self.model.requests.insert(request.0, Request::Ack(acked));
            }
            How::Terminate => {
                self.model.requests.insert(request.0, Request::Terminate(open));
            }
            How::Nack(_) => {
                let (Some(low), Some(high)) = (open.first(), open.last()) else { return };
                let failed = self.model.failed.get(&key).copied().unwrap_or(0) + 1;
                let part = ChunkKey::new(Offset(*low), Offset(*high));
                self.model.failed.insert(if all { key } else { part }, failed);
            }
            How::Extend(_) => unreachable!("it was dealt with above"),
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        if self.rules.ttl_ms > 0 {
            self.horizon_ms = Some(self.now.wall_ms - self.rules.ttl_ms as i64);
        }
        self.groups.set_horizon(self.horizon_ms);
        for live in self.model.live.values() {
            let ran_out = u32::from(live.deadline_us <= self.now.mono_us);
            *self.model.failed.entry(live.key).or_default() += ran_out;
        }
        self.groups.handle_timeout(self.now);
    }

    fn flush_one(&mut self) {
        self.take_outputs();
        if let Some((token, record)) = self.under_way.pop_front() {
            self.log.push(record);
            self.groups.persisted(self.now, token);
            self.take_outputs();
        }
    }

    fn flush(&mut self) {
        self.take_outputs();
        while !self.under_way.is_empty() {
            self.flush_one();
        }
    }

    fn snapshot(&mut self) {
        self.take_outputs();
        // What is under way stands before the snapshot. That all but cuts might also come behind it
        // is more than is needed, and keeps each record's effect from hanging on the others.
        let is_cut = |(_, record): &(PersistToken, Bytes)| {
            matches!(GroupRecord::decode(record), Ok((_, GroupRecord::Cut { .. })))
        };
        if self.under_way.iter().any(is_cut) {
            self.flush();
        }
        self.log = self.groups.snapshot();
    }

    fn bury(&mut self, told: bool, part: bool) {
        let Some(letter) = self.letter.clone() else { return };
        let known = self.letters.entry(letter.producer).or_default();
        assert!(known.0 <= letter.epoch, "fenced off: {letter:?}");
        let left = offsets(&letter.ranges).split_off(&self.log_start);
        let count = if part { left.len() / 2 } else { left.len() };
        for offset in left.iter().copied().take(count) {
            if *known <= (letter.epoch, offset) {
                *known = (letter.epoch, offset + 1);
                assert!(self.model.dead.insert(offset), "{offset} is there twice: {letter:?}");
            }
        }
        if told && !part {
            assert!(left.is_subset(&self.model.dead), "not there: {letter:?}");
            self.letter = None;
            self.model.buried.extend(left);
            self.groups.dead_lettered(self.now, letter.group, letter.epoch);
        }
    }

    fn trim(&mut self, batches: usize, breaks_leases: bool) {
        let from = self.batches.partition_point(|batch| batch.first.0 < self.log_start);
        let mut to = self.batches.get(from + batches).map_or(self.log_start, |batch| batch.first.0);
        if !breaks_leases && let Some(lowest) = self.groups.lowest_leased() {
            let holds = self.batches.partition_point(|batch| batch.last < lowest);
            to = to.min(self.batches[holds].first.0);
        }
        if to <= self.log_start {
            return;
        }
        self.log_start = to;
        let hit = |live: &Live| live.open.first().is_some_and(|offset| *offset < to);
        let broken = self.model.live.values().filter(|live| hit(live)).count();
        assert!(breaks_leases || broken == 0);
        let is_gone = |letter: &mut DeadLetter| letter.ranges.iter().all(|(_, last)| last.0 < to);
        self.letter.take_if(is_gone);
        self.groups.trim(self.now, Offset(to));
        self.take_outputs();
        assert!(!self.model.live.values().any(hit), "a lease of what is gone");
    }

    fn move_to(&mut self, pick: usize) {
        let from = self.batches.partition_point(|batch| batch.first.0 < self.log_start);
        let left = self.batches.len() - from;
        let at = if left == 0 { None } else { self.batches.get(from + pick % left) };
        let to = at.map_or_else(|| self.high_watermark(), |batch| batch.first.0);
        if self.groups.stats()[0].dying_records > 0 {
            // They outlive the move, and by offset alone cannot be told from what is moved to.
            return;
        }
        let has_members = self.groups.stats()[0].members > 0;
        let moved = self.groups.move_to("g", Offset(to), asker());
        assert_eq!(moved.err(), has_members.then_some(ErrorCode::GROUP_ACTIVE));
        if !has_members {
            self.begin_anew(to);
        }
    }

    fn delete(&mut self) {
        let has_members = self.groups.stats()[0].members > 0;
        let deleted = self.groups.delete("g", asker());
        assert_eq!(deleted.err(), has_members.then_some(ErrorCode::GROUP_ACTIVE));
        if !has_members {
            self.letter = None;
            self.begin_anew(self.log_start);
            self.group = self.groups.create(self.now, "g", Offset(self.log_start)).unwrap();
            self.flush();
        }
    }

    /// Made durable at once: else a crash would leave open what the model has to expect.
    fn begin_anew(&mut self, to: u64) {
        self.flush();
        self.model = Model::default();
        if self.groups.find("g").is_some() {
            assert_eq!(self.groups.stats()[0].acked_upto, to);
        }
    }

    fn restart(&mut self) {
        let mut recovery = GroupsRecovery::new();
        for record in &self.log {
            recovery.apply(record).unwrap();
        }
        self.groups = recovery.finish(settings(self.rules));
        let end = self.high_watermark();
        match self.groups.find("g") {
            Some(id) => self.group = id,
            None => {
                assert!(self.model.bounds.is_empty(), "the group is lost");
                self.group = self.groups.create(self.now, "g", Offset(0)).unwrap();
            }
        }
        self.groups.advance(self.now, Offset(end), Offset(end));
        self.groups.cut(Offset(end));
        self.groups.trim(self.now, Offset(self.log_start));
        self.groups.set_horizon(self.horizon_ms);
        let ledger = self.groups.groups[&self.group].ledger();
        let model = &mut self.model;
        model.failed = ledger.chunks.values().map(|chunk| (chunk.key, chunk.attempts)).collect();
        model.live.clear();
        model.requests.clear();
        // Offsets from the end on come again, as other records.
        for set in [&mut model.asked, &mut model.acked, &mut model.dead, &mut model.buried] {
            set.split_off(&end);
        }
        let open: BTreeSet<u64> = ledger.chunks.values().flat_map(|c| offsets(&c.open())).collect();
        assert!(model.acked.is_disjoint(&open), "an answered ack is final");
        assert!(model.buried.is_disjoint(&open), "what is buried stays so");
        // An ack that was not answered may be lost.
        model.asked.retain(|offset| !open.contains(offset) && *offset < ledger.bound_upto.0);
        let known = std::mem::take(&mut model.bounds);
        let cut = |key: ChunkKey| ChunkKey::new(key.first, key.last.min(Offset(end - 1)));
        model.bounds = known.into_iter().filter(|key| key.first.0 < end).map(cut).collect();
        self.letter = None;
    }

    /// Takes all outputs and offers what is wanted until nothing moves.
    fn settle_down(&mut self) {
        self.take_outputs();
        while let Some(wanted) = self.groups.wants(self.group)
            && wanted.0 < self.high_watermark()
        {
            let at = self.batches.binary_search_by_key(&wanted, |batch| batch.first);
            let batch = self.batches[at.expect("a batch begins where one is wanted")];
            // Each is a block of its own.
            let block = (batch.first, batch.last);
            self.groups.offer_block(self.now, self.group, block, std::iter::once(batch));
            self.take_outputs();
        }
        for live in self.model.live.values() {
            assert!(live.deadline_us > self.now.mono_us, "the lease of {:?} has run out", live.key);
            assert!(!live.open.is_empty(), "a lease of nothing: {:?}", live.key);
        }
        // The log and what is on its way to it say what the group remembers, no more and no less.
        let under_way = self.under_way.iter().map(|(_, record)| record);
        assert_eq!(replay(self.log.iter().chain(under_way)), self.groups.snapshot());
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.groups.poll_output() {
            match output {
                Output::Persist { token, record, .. } => self.under_way.push_back((token, record)),
                Output::HandOut(out) => self.handed_out(out),
                Output::LeaseEnded { first, generation, .. } => {
                    let live = self.model.live.remove(&generation).expect("it was live");
                    assert_eq!(live.key.first, first);
                }
                Output::DeadLetter(letter) => {
                    assert!(self.letter.is_none(), "one at a time: {letter:?}");
                    let durable = self.durable();
                    let dying = durable.dying.get(&letter.epoch.0);
                    assert!(dying.is_some(), "a crash would forget it: {letter:?}");
                    self.letter = Some(letter);
                }
                Output::Acked { request, .. } => self.answered(request.0),
                Output::Refused { request, .. } => {
                    let request = self.model.requests.remove(&request.0).expect("answered once");
                    assert!(matches!(request, Request::Terminate(_)));
                }
                Output::Joined { .. } | Output::Answered { .. } => {}
            }
        }
    }

    fn answered(&mut self, request: u64) {
        let ledger = self.durable();
        match self.model.requests.remove(&request).expect("answered once") {
            Request::Ack(acked) => {
                for offset in &acked {
                    let open = |chunk: &OpenChunk| {
                        !chunk.open_within(Offset(*offset), Offset(*offset)).is_empty()
                    };
                    assert!(!ledger.chunks.values().any(open), "{offset} is open after a crash");
                }
                self.model.acked.extend(acked);
            }
            Request::Terminate(ended) => {
                // Retention may have taken the first ones.
                let is_there = |o: &u64| *o < self.log_start || self.model.buried.contains(o);
                assert!(ended.iter().all(is_there), "{ended:?} are not there");
            }
        }
    }

    /// Would the chunk have the same bounds after a crash, whoever takes it then?
    fn is_found_again(&self, key: ChunkKey) -> bool {
        let mut recovery = GroupsRecovery::new();
        for record in &self.log {
            recovery.apply(record).unwrap();
        }
        let mut groups = recovery.finish(GroupSettings::default());
        let end = Offset(self.high_watermark());
        groups.advance(self.now, end, end);
        groups.cut(end);
        groups.trim(self.now, Offset(self.log_start));
        for connection in 0..4 {
            let options = GroupOptions {
                group: "g".into(),
                member: "m".into(),
                chunk_records: 1_000,
                chunk_bytes: 1_000_000,
                chunk_linger_ms: 0,
                lease_ms: 1_000,
                chunks_in_flight: CHUNKS_IN_FLIGHT_MAX,
            };
            groups.join(self.now, self.group, member(connection), &options).unwrap();
        }
        loop {
            while let Some(output) = groups.poll_output() {
                if let Output::Persist { token, .. } = output {
                    groups.persisted(self.now, token);
                }
            }
            let bound_upto = groups.groups[&self.group].ledger().bound_upto;
            if bound_upto > key.last {
                return groups.groups[&self.group].ledger().chunks.contains_key(&key);
            }
            let Some(wanted) = groups.wants(self.group).filter(|wanted| *wanted < end) else {
                return false;
            };
            let at = self.batches.binary_search_by_key(&wanted, |batch| batch.first);
            let batch = self.batches[at.unwrap()];
            let block = (batch.first, batch.last);
            groups.offer_block(self.now, self.group, block, std::iter::once(batch));
        }
    }

    fn handed_out(&mut self, out: HandOut) {
        let key = ChunkKey::new(out.first, out.last);
        let settled = offsets(&out.settled);
        let open: BTreeSet<u64> =
            (out.first.0..=out.last.0).filter(|offset| !settled.contains(offset)).collect();
        let durable = self.durable();
        let chunk = durable.chunks.get(&key);
        assert!(chunk.is_some() || self.is_found_again(key), "not durable: {out:?}");
        let attempts = chunk.map_or(0, |chunk| chunk.attempts);
        assert_eq!(out.attempt, attempts + 1, "a failure is not durable: {out:?}");

        let model = &mut self.model;
        assert_eq!(out.attempt, model.failed.get(&key).copied().unwrap_or(0) + 1, "{out:?}");
        let max = self.rules.max_attempts;
        assert!(max == 0 || out.attempt <= max, "too often: {out:?}");
        for offset in &open {
            assert!(!model.acked.contains(offset), "{offset} is acked: {out:?}");
            assert!(!model.buried.contains(offset), "{offset} is dead: {out:?}");
            assert!(*offset >= self.log_start, "{offset} is gone: {out:?}");
            let other = model.live.values().find(|live| live.open.contains(offset));
            assert!(other.is_none(), "{offset} has two leases: {out:?}");
        }
        for known in &model.bounds {
            let apart = known.last < key.first || key.last < known.first;
            let inside =
                known.contains(key.first, key.last) || key.contains(known.first, known.last);
            assert!(apart || inside, "{known:?} has changed to {key:?}");
        }
        model.bounds.insert(key);
        assert!(self.generations.insert(out.generation), "generation used before: {out:?}");
        let batch = self.batches.partition_point(|batch| batch.first <= out.last) - 1;
        let appended_ms = self.batches[batch].appended_ms;
        assert!(self.horizon_ms.is_none_or(|horizon| appended_ms > horizon), "too old: {out:?}");
        let deadline_us = self.now.mono_us + u64::from(out.lease_ms) * 1000;
        model.live.insert(out.generation, Live { key, member: out.member, deadline_us, open });
        self.leases.push(out);
    }

    /// What a broker that dies in this moment would find.
    fn durable(&self) -> Ledger {
        let mut recovery = GroupsRecovery::new();
        for record in &self.log {
            recovery.apply(record).unwrap();
        }
        let groups = recovery.finish(settings(self.rules));
        groups.groups[&groups.find("g").expect("it has members")].ledger().clone()
    }

    /// Without faults everything is finished in the end.
    pub(super) fn drain(&mut self) {
        self.run(&Step::Join { connection: 9, chunk_records: 50, chunks_in_flight: 4 });
        for _ in 0..10_000 {
            let stats = &self.groups.stats()[0];
            if stats.lag_records == 0 && self.under_way.is_empty() {
                break;
            }
            self.run(&Step::Flush { records: 100 });
            self.run(&Step::Bury { told: true, part: false });
            for lease in std::mem::take(&mut self.leases) {
                if self.model.live.contains_key(&lease.generation) {
                    self.settle(&lease, (lease.first, lease.last), How::Ack);
                    self.settle_down();
                }
            }
            self.run(&Step::Pass { ms: 200 });
        }
        let stats = &self.groups.stats()[0];
        assert_eq!((stats.lag_records, stats.acked_upto), (0, self.high_watermark()));
        assert_eq!((stats.open_chunks, stats.in_flight_chunks, stats.dying_records), (0, 0, 0));
        assert!(self.model.requests.is_empty() && self.model.live.is_empty());
    }
}

fn settings(rules: Rules) -> GroupSettings {
    GroupSettings {
        max_attempts: rules.max_attempts,
        dead_letters: true,
        record_ttl_ms: rules.ttl_ms,
        chunks_out: 3,
        seed: 42,
    }
}

fn replay<'a>(log: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let mut recovery = GroupsRecovery::new();
    for record in log {
        recovery.apply(record).unwrap();
    }
    recovery.snapshot()
}
