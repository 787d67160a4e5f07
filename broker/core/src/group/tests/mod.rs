//! Each rule of a consumer group, one at a time.

mod bounds;
mod leases;
mod restarts;

use std::collections::VecDeque;

use lanecast_wire::limits::CHUNKS_IN_FLIGHT_MAX;
use lanecast_wire::message::GroupOptions;

use super::*;

/// Groups with a clock and a log that is durable when the test says so.
struct Bench {
    groups: Groups,
    group: GroupId,
    now: Now,
    high_watermark: u64,
    log: Vec<Bytes>,
    under_way: VecDeque<(PersistToken, Bytes)>,
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

impl Bench {
    fn new() -> Self {
        let mut groups = Groups::new();
        let group = groups.create("g", Offset(0)).unwrap();
        let mut bench = Self {
            groups,
            group,
            now: Now { mono_us: 1_000_000, wall_ms: 0 },
            high_watermark: 0,
            log: Vec::new(),
            under_way: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        bench.flush();
        bench
    }

    fn with_member(options: &GroupOptions) -> Self {
        let mut bench = Self::new();
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
            if let Output::Persist { token, record } = output {
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
            self.groups.advance(Offset(self.high_watermark));
            if self.groups.wants(self.group) == Some(first) {
                let last = Offset(self.high_watermark - 1);
                let bytes = *records as u32 * 10;
                self.groups.offer(self.now, self.group, BatchBounds { first, last, bytes });
            }
        }
        self.flush();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
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
        self.groups.nack(self.now, out.member, claim(out), delay_ms).unwrap();
        self.flush();
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
        self.groups = recovery.finish();
        self.groups.advance(Offset(self.high_watermark));
        self.under_way.clear();
        self.outputs.clear();
        self.flush();
    }
}
