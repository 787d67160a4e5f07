//! What the bookkeeping of consumer groups costs for each chunk: bound, handed out, acked, failed,
//! handed out again. No log and no bytes: records are durable as soon as they are given out.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use lanecast_core::group::{
    BatchBounds, Claim, GroupId, GroupSettings, Groups, HandOut, MemberKey, Output,
};
use lanecast_core::{ConnectionId, Now, ShardId};
use lanecast_wire::limits::{CHUNKS_IN_FLIGHT_MAX, LEASE_MS_DEFAULT};
use lanecast_wire::message::GroupOptions;
use lanecast_wire::{CorrelationId, Offset, SubscriptionId};

/// Records of a batch; each batch is a chunk.
const RECORDS: u64 = 1000;

/// Longer than a chunk rests after its first failure.
const REST_US: u64 = 1_000_000;

pub(crate) fn benches(c: &mut Criterion) {
    let mut bench = c.benchmark_group("lease bookkeeping, per chunk");
    let chunks = u64::from(CHUNKS_IN_FLIGHT_MAX);
    bench.throughput(Throughput::Elements(chunks));
    for groups in [1, 16] {
        bench.throughput(Throughput::Elements(chunks * groups));
        let mut desk = Desk::new(groups as u32);
        bench.bench_function(format!("hand out and ack, {groups} groups"), |b| {
            b.iter(|| {
                let held = desk.hand_out(chunks);
                desk.ack(&held);
            });
        });
    }
    bench.throughput(Throughput::Elements(chunks));
    let mut desk = Desk::new(1);
    bench.bench_function("hand out, nack, hand out again and ack", |b| {
        b.iter(|| {
            let held = desk.hand_out(chunks);
            desk.nack(&held);
            let held = desk.wait(REST_US);
            assert_eq!(held.len() as u64, chunks);
            desk.ack(&held);
        });
    });
    let mut desk = Desk::new(1);
    bench.bench_function("hand out, expire, hand out again and ack", |b| {
        b.iter(|| {
            desk.hand_out(chunks);
            desk.wait(u64::from(LEASE_MS_DEFAULT) * 1000);
            let held = desk.wait(REST_US);
            assert_eq!(held.len() as u64, chunks);
            desk.ack(&held);
        });
    });
    let mut desk = Desk::new(1);
    bench.bench_function("extend", |b| {
        b.iter_batched(|| (), |()| desk.extend_all(chunks), BatchSize::PerIteration);
    });
    bench.finish();

    let mut bench = c.benchmark_group("lease bookkeeping, per record");
    bench.throughput(Throughput::Elements(RECORDS));
    let mut desk = Desk::new(1);
    bench.bench_function("ack one record after the other", |b| {
        b.iter(|| {
            let held = desk.hand_out(1);
            desk.ack_each(&held);
        });
    });
    bench.finish();
}

/// The groups of one partition, a member in each, and a log that is durable at once.
struct Desk {
    groups: Groups,
    ids: Vec<GroupId>,
    now: Now,
    end: u64,
    request: u64,
    acked: u64,
    /// Held since [`Desk::extend_all`] was called first.
    kept: Vec<HandOut>,
}

impl Desk {
    fn new(groups: u32) -> Self {
        let mut desk = Desk {
            groups: Groups::new(GroupSettings::default()),
            ids: Vec::new(),
            now: Now { mono_us: 1, wall_ms: 1 },
            end: 0,
            request: 0,
            acked: 0,
            kept: Vec::new(),
        };
        for number in 0..groups {
            let name = format!("group-{number}");
            let id = desk.groups.create(desk.now, &name, Offset(0)).expect("within the limit");
            desk.settle();
            let options = GroupOptions {
                group: name,
                member: "m".to_owned(),
                chunk_records: RECORDS as u32,
                chunk_bytes: 1 << 20,
                chunk_linger_ms: 0,
                lease_ms: LEASE_MS_DEFAULT,
                chunks_in_flight: CHUNKS_IN_FLIGHT_MAX,
            };
            let member = MemberKey {
                shard: ShardId(0),
                connection: ConnectionId(u64::from(number)),
                subscription: SubscriptionId(1),
            };
            desk.groups.join(desk.now, id, member, &options).expect("within the limits");
            desk.settle();
            desk.ids.push(id);
        }
        desk
    }

    /// Appends so many batches; every group hands each out.
    fn hand_out(&mut self, batches: u64) -> Vec<HandOut> {
        self.now.mono_us += 20;
        let first = self.end;
        self.end += batches * RECORDS;
        self.groups.advance(self.now, Offset(self.end), Offset(self.end));
        let mut held = Vec::with_capacity(batches as usize * self.ids.len());
        for id in self.ids.clone() {
            while let Some(wanted) = self.groups.wants(id)
                && wanted.0 < self.end
            {
                debug_assert!(wanted.0 >= first);
                let batch = BatchBounds {
                    first: wanted,
                    last: Offset(wanted.0 + RECORDS - 1),
                    bytes: 64 * 1024,
                    appended_ms: self.now.wall_ms,
                };
                self.groups.offer(self.now, id, batch);
                self.settle_into(&mut held);
            }
        }
        assert_eq!(held.len() as u64, batches * self.ids.len() as u64);
        held
    }

    fn claim(held: &HandOut) -> Claim {
        Claim { first: held.first, last: held.last, generation: held.generation }
    }

    fn ack(&mut self, held: &[HandOut]) {
        let before = self.acked;
        for held in held {
            self.ack_claim(held.member, Self::claim(held));
        }
        assert_eq!(self.acked - before, held.len() as u64);
    }

    fn ack_each(&mut self, held: &[HandOut]) {
        for held in held {
            for offset in held.first.0..=held.last.0 {
                let (first, last) = (Offset(offset), Offset(offset));
                self.ack_claim(held.member, Claim { first, last, generation: held.generation });
            }
        }
    }

    fn ack_claim(&mut self, member: MemberKey, claim: Claim) {
        self.request += 1;
        let request = CorrelationId(self.request);
        self.groups.ack(self.now, member, claim, request).expect("it is held");
        self.settle();
    }

    fn nack(&mut self, held: &[HandOut]) {
        for held in held {
            let claim = Self::claim(held);
            self.groups.nack(self.now, held.member, claim, 0, "failed").expect("it is held");
            self.settle();
        }
    }

    fn extend_all(&mut self, chunks: u64) {
        if self.kept.is_empty() {
            self.kept = self.hand_out(chunks);
        }
        for held in &self.kept {
            let claim = Self::claim(held);
            let extended = self.groups.extend(self.now, held.member, claim, LEASE_MS_DEFAULT);
            extended.expect("it is held");
        }
        black_box(self.groups.poll_timeout());
    }

    /// Lets time go by; what is handed out again.
    fn wait(&mut self, us: u64) -> Vec<HandOut> {
        self.now.mono_us += us;
        self.groups.handle_timeout(self.now);
        let mut held = Vec::new();
        self.settle_into(&mut held);
        held
    }

    fn settle(&mut self) {
        self.settle_into(&mut Vec::new());
    }

    fn settle_into(&mut self, held: &mut Vec<HandOut>) {
        while let Some(output) = self.groups.poll_output() {
            match output {
                Output::Persist { token, record, .. } => {
                    black_box(record);
                    self.groups.persisted(self.now, token);
                }
                Output::HandOut(chunk) => held.push(chunk),
                Output::Acked { .. } => self.acked += 1,
                Output::Joined { .. } | Output::LeaseEnded { .. } => {}
                Output::DeadLetter(_) | Output::Refused { .. } | Output::Answered { .. } => {
                    panic!("nobody asked for {output:?}");
                }
            }
        }
    }
}
