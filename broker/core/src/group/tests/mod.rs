//! Each rule of a consumer group, one at a time.

mod blocks;
mod bounds;
mod gathering;
mod graves;
mod leases;
mod lifetimes;
mod parts;
mod positions;
mod restarts;

use std::collections::VecDeque;

use lanecast_wire::limits::CHUNKS_IN_FLIGHT_MAX;
use lanecast_wire::message::GroupOptions;

use super::*;

/// Groups with a clock and a log that is durable when the test says so.
struct Bench {
    groups: Groups,
    settings: GroupSettings,
    group: GroupId,
    now: Now,
    high_watermark: u64,
    log: Vec<Bytes>,
    under_way: VecDeque<(PersistToken, Bytes)>,
    /// Of each record so far: does nobody wait for it?
    patient: Vec<bool>,
    outputs: VecDeque<Output>,
}

fn member(connection: u64) -> MemberKey {
    MemberKey {
        shard: ShardId(0),
        connection: ConnectionId(connection),
        subscription: SubscriptionId(1),
    }
}

fn options() -> GroupOptions {
    GroupOptions {
        group: "g".into(),
        member: "m".into(),
        chunk_records: 100,
        chunk_bytes: 10_000,
        chunk_linger_ms: 50,
        lease_ms: 1_000,
        chunks_in_flight: 2,
    }
}

fn claim(out: &HandOut) -> Claim {
    Claim { first: out.first, last: out.last, generation: out.generation }
}

const START: Now = Now { mono_us: 1_000_000, wall_ms: 1_000 };

/// Chunks die with their third failure.
fn mortal() -> GroupSettings {
    GroupSettings { max_attempts: 3, dead_letters: true, ..GroupSettings::default() }
}

fn part(out: &HandOut, first: u64, last: u64) -> Claim {
    Claim { first: Offset(first), last: Offset(last), generation: out.generation }
}

fn offsets(ranges: &[(u64, u64)]) -> Vec<(Offset, Offset)> {
    ranges.iter().map(|(first, last)| (Offset(*first), Offset(*last))).collect()
}

impl Bench {
    fn new() -> Self {
        Self::of(GroupSettings::default())
    }

    fn of(settings: GroupSettings) -> Self {
        let mut groups = Groups::new(settings);
        let group = groups.create(START, "g", Offset(0)).unwrap();
        let mut bench = Self {
            groups,
            settings,
            group,
            now: START,
            high_watermark: 0,
            log: Vec::new(),
            under_way: VecDeque::new(),
            patient: Vec::new(),
            outputs: VecDeque::new(),
        };
        bench.flush();
        bench
    }

    fn with_member(options: &GroupOptions) -> Self {
        Self::of_member(GroupSettings::default(), options)
    }

    fn of_member(settings: GroupSettings, options: &GroupOptions) -> Self {
        let mut bench = Self::of(settings);
        bench.join(1, options);
        bench.outputs.clear();
        bench
    }

    fn join(&mut self, connection: u64, options: &GroupOptions) {
        self.groups.join(self.now, self.group, member(connection), options).unwrap();
        self.flush();
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.groups.poll_output() {
            if let Output::Persist { token, record, patient } = output {
                self.patient.push(patient);
                self.under_way.push_back((token, record));
            } else {
                self.outputs.push_back(output);
            }
        }
    }

    /// Makes everything durable.
    fn flush(&mut self) {
        self.take_outputs();
        while let Some((token, record)) = self.under_way.pop_front() {
            self.log.push(record);
            self.groups.persisted(self.now, token);
            self.take_outputs();
        }
    }

    /// Appends batches of these record counts, 10 bytes a record, and offers what is wanted.
    fn append(&mut self, batches: &[u64]) {
        for records in batches {
            let first = Offset(self.high_watermark);
            self.high_watermark += records;
            self.groups.advance(self.now, Offset(self.high_watermark), Offset(self.high_watermark));
            if self.groups.wants(self.group) == Some(first) {
                let last = Offset(self.high_watermark - 1);
                let bytes = *records as u32 * 10;
                let appended_ms = self.now.wall_ms;
                let batch = BatchBounds { first, last, bytes, appended_ms };
                self.groups.offer(self.now, self.group, batch);
            }
        }
        self.flush();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        self.groups.handle_timeout(self.now);
        self.flush();
    }

    fn hand_outs(&mut self) -> Vec<HandOut> {
        let outputs = std::mem::take(&mut self.outputs);
        let hand_out = |output| if let Output::HandOut(out) = output { Some(out) } else { None };
        outputs.into_iter().filter_map(hand_out).collect()
    }

    fn bounds(&mut self) -> Vec<(u64, u64)> {
        self.hand_outs().iter().map(|out| (out.first.0, out.last.0)).collect()
    }

    fn ack(&mut self, out: &HandOut) -> Result<(), ErrorCode> {
        self.groups.ack(self.now, out.member, claim(out), CorrelationId(out.first.0))
    }

    fn nack(&mut self, out: &HandOut, delay_ms: u32) {
        self.groups.nack(self.now, out.member, claim(out), delay_ms, "bad").unwrap();
        self.flush();
    }

    fn ack_part(&mut self, out: &HandOut, first: u64, last: u64) -> Result<(), ErrorCode> {
        let request = CorrelationId(first);
        let done = self.groups.ack(self.now, out.member, part(out, first, last), request);
        self.flush();
        done
    }

    fn nack_part(&mut self, out: &HandOut, first: u64, last: u64) -> Result<(), ErrorCode> {
        let failed = self.groups.nack(self.now, out.member, part(out, first, last), 0, "bad part");
        self.flush();
        failed
    }

    fn terminate(&mut self, out: &HandOut, ranges: &[(u64, u64)]) -> Result<(), ErrorCode> {
        let request = CorrelationId(ranges[0].0);
        let claim = (&*offsets(ranges), out.generation);
        let ended = self.groups.terminate(self.now, out.member, claim, "poison", request);
        self.flush();
        ended
    }

    /// The one dead letter that was given out.
    fn letter(&mut self) -> DeadLetter {
        let outputs = std::mem::take(&mut self.outputs);
        let letter = |output| if let Output::DeadLetter(it) = output { Some(it) } else { None };
        let letters: Vec<DeadLetter> = outputs.into_iter().filter_map(letter).collect();
        assert_eq!(letters.len(), 1, "{letters:?}");
        letters.into_iter().next().unwrap()
    }

    fn bury(&mut self, letter: &DeadLetter) {
        self.groups.dead_lettered(self.now, letter.group, letter.epoch);
        self.flush();
    }

    /// Until the next chunk that rests is handed out.
    fn rest(&mut self) -> HandOut {
        let due = self.groups.poll_timeout().expect("a chunk rests");
        self.pass((due - self.now.mono_us).div_ceil(1000));
        self.hand_outs().remove(0)
    }

    fn stats(&self) -> GroupStats {
        self.groups.stats().remove(0)
    }

    /// The broker dies and reads its log again; nothing under way has reached it.
    fn restart(&mut self) {
        let mut recovery = GroupsRecovery::new();
        for record in &self.log {
            recovery.apply(record).unwrap();
        }
        self.groups = recovery.finish(self.settings);
        self.groups.advance(self.now, Offset(self.high_watermark), Offset(self.high_watermark));
        self.under_way.clear();
        self.outputs.clear();
        self.flush();
    }
}
