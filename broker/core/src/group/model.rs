//! Random histories of a group against what it promises, told as simply as it can be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanecast_wire::message::GroupOptions;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        records: u64,
    },
    Join {
        connection: u64,
        chunk_records: u32,
        chunks_in_flight: u32,
    },
    Leave {
        connection: u64,
    },
    /// Settles one of the leases known so far, live or not.
    Settle {
        pick: usize,
        how: How,
    },
    Pass {
        ms: u64,
    },
    /// Makes the oldest records under way durable.
    Flush {
        records: usize,
    },
    /// Replaces the log by a snapshot, which is durable at once.
    Snapshot,
    /// Of the records under way, this many reach the log first.
    Crash {
        records: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Ack,
    Nack(u32),
    Extend(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        4 => Just(How::Ack),
        1 => (0_u32..3_000).prop_map(How::Nack),
        1 => (100_u32..3_000).prop_map(How::Extend),
    ];
    prop_oneof![
        6 => (1_u64..60).prop_map(|records| Step::Append { records }),
        2 => (0_u64..4, 1_u32..200, 1_u32..4).prop_map(|(connection, chunk_records, n)| {
            Step::Join { connection, chunk_records, chunks_in_flight: n }
        }),
        1 => (0_u64..4).prop_map(|connection| Step::Leave { connection }),
        6 => (any::<usize>(), how).prop_map(|(pick, how)| Step::Settle { pick, how }),
        3 => (0_u64..1_500).prop_map(|ms| Step::Pass { ms }),
        6 => (1_usize..6).prop_map(|records| Step::Flush { records }),
        1 => Just(Step::Snapshot),
        1 => (0_usize..4).prop_map(|records| Step::Crash { records }),
    ]
}

struct Live {
    member: MemberKey,
    generation: u64,
    deadline_us: u64,
}

/// What must hold, kept beside the group.
#[derive(Default)]
struct Model {
    /// Bounds of all chunks ever handed out.
    bounds: BTreeMap<Offset, Offset>,
    /// Bounds that the log holds.
    durable: BTreeSet<(Offset, Offset)>,
    /// Chunks whose ack was taken; a crash may keep it or not.
    asked: BTreeSet<Offset>,
    /// Chunks whose ack was answered.
    acked: BTreeSet<Offset>,
    live: BTreeMap<Offset, Live>,
    attempts: BTreeMap<Offset, u32>,
    generations: BTreeSet<u64>,
    acks: BTreeMap<u64, Offset>,
}

struct Harness {
    groups: Groups,
    now: Now,
    batches: Vec<BatchBounds>,
    log: Vec<Bytes>,
    under_way: VecDeque<(PersistToken, Bytes)>,
    leases: Vec<HandOut>,
    model: Model,
    requests: u64,
}

const GROUP: GroupId = GroupId(1);

fn member(connection: u64) -> MemberKey {
    MemberKey {
        shard: ShardId(0),
        connection: ConnectionId(connection),
        subscription: SubscriptionId(0),
    }
}

impl Harness {
    fn new() -> Self {
        let mut groups = Groups::new();
        groups.create("g", Offset(0)).unwrap();
        Self {
            groups,
            now: Now { mono_us: 0, wall_ms: 0 },
            batches: Vec::new(),
            log: Vec::new(),
            under_way: VecDeque::new(),
            leases: Vec::new(),
            model: Model::default(),
            requests: 0,
        }
    }

    fn high_watermark(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.last.0 + 1)
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append { records } => {
                let first = self.high_watermark();
                self.batches.push(BatchBounds {
                    first: Offset(first),
                    last: Offset(first + records - 1),
                    bytes: records as u32 * 100,
                });
                self.groups.advance(Offset(first + records));
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
                let _refused = self.groups.join(self.now, GROUP, member(connection), &options);
            }
            Step::Leave { connection } => {
                self.groups.leave(self.now, member(connection));
                self.model.live.retain(|_, live| live.member != member(connection));
            }
            Step::Settle { pick, how } => {
                if !self.leases.is_empty() {
                    let lease = self.leases[pick % self.leases.len()];
                    self.settle(lease, how);
                }
            }
            Step::Pass { ms } => {
                self.now.mono_us += ms * 1000;
                self.groups.handle_timeout(self.now);
            }
            Step::Flush { records } => {
                for _ in 0..records {
                    self.flush_one();
                }
            }
            Step::Snapshot => {
                self.take_outputs();
                self.log = self.groups.snapshot();
                self.learn_durable();
            }
            Step::Crash { records } => {
                for (_, record) in self.under_way.drain(..).take(records) {
                    self.log.push(record);
                }
                self.restart();
            }
        }
        self.settle_down();
    }

    fn settle(&mut self, lease: HandOut, how: How) {
        let claim = Claim { first: lease.first, last: lease.last, generation: lease.generation };
        let live = self
            .model
            .live
            .get(&lease.first)
            .is_some_and(|l| l.generation == lease.generation && l.member == lease.member);
        let outcome = match how {
            How::Ack => {
                self.requests += 1;
                self.model.acks.insert(self.requests, lease.first);
                let request = CorrelationId(self.requests);
                self.groups.ack(self.now, lease.member, claim, request)
            }
            How::Nack(delay_ms) => self.groups.nack(self.now, lease.member, claim, delay_ms),
            How::Extend(lease_ms) => self.groups.extend(self.now, lease.member, claim, lease_ms),
        };
        assert_eq!(outcome.is_ok(), live, "{how:?} of {lease:?}: {outcome:?}");
        if let (How::Ack, true) = (how, live) {
            self.model.asked.insert(lease.first);
        }
        if let (How::Extend(lease_ms), true) = (how, live) {
            let deadline_us = self.now.mono_us + u64::from(lease_ms) * 1000;
            self.model.live.get_mut(&lease.first).unwrap().deadline_us = deadline_us;
        }
    }

    fn flush_one(&mut self) {
        self.take_outputs();
        if let Some((token, record)) = self.under_way.pop_front() {
            self.log.push(record);
            self.learn_durable();
            self.groups.persisted(self.now, token);
        }
    }

    /// What the log holds in this moment, read with the decoder.
    fn learn_durable(&mut self) {
        for record in &self.log {
            match GroupRecord::decode(record).unwrap().1 {
                GroupRecord::Bound { first, last, .. } => {
                    self.model.durable.insert((first, last));
                }
                GroupRecord::Snapshot(snapshot) => {
                    self.model.durable.extend(snapshot.chunks.iter().map(|c| (c.first, c.last)));
                }
                GroupRecord::Created { .. }
                | GroupRecord::Opened { .. }
                | GroupRecord::Done { .. }
                | GroupRecord::Failed { .. }
                | GroupRecord::Skipped { .. }
                | GroupRecord::Cut { .. }
                | GroupRecord::Passed { .. } => {}
            }
        }
    }

    fn restart(&mut self) {
        let mut recovery = GroupsRecovery::new();
        for record in &self.log {
            recovery.apply(record).unwrap();
        }
        self.groups = recovery.finish();
        if self.groups.find("g").is_none() {
            assert!(self.model.bounds.is_empty(), "the group is lost");
            self.groups.create("g", Offset(0)).unwrap();
        }
        self.groups.advance(Offset(self.high_watermark()));
        self.learn_durable();
        self.model.live.clear();
        self.model.attempts.clear();
        self.model.acks.clear();
    }

    /// Takes all outputs and offers what is wanted until nothing moves.
    fn settle_down(&mut self) {
        self.take_outputs();
        while let Some(wanted) = self.groups.wants(GROUP)
            && wanted.0 < self.high_watermark()
        {
            let at = self.batches.binary_search_by_key(&wanted, |batch| batch.first);
            let batch = self.batches[at.expect("a batch begins where one is wanted")];
            self.groups.offer(self.now, GROUP, batch);
            self.take_outputs();
        }
        for (first, live) in &self.model.live {
            assert!(live.deadline_us > self.now.mono_us, "the lease of {first} has run out");
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.groups.poll_output() {
            match output {
                Output::Persist { token, record } => self.under_way.push_back((token, record)),
                Output::Joined { next, .. } => {
                    let mut below = self.model.bounds.range(..next);
                    assert!(below.all(|(first, _)| self.model.asked.contains(first)));
                }
                Output::HandOut(out) => self.handed_out(out),
                Output::LeaseEnded { first, generation, .. } => {
                    let live = self.model.live.remove(&first).expect("it was live");
                    assert_eq!(live.generation, generation);
                }
                Output::DeadLetter(letter) => panic!("nothing dies here: {letter:?}"),
                Output::Acked { request, .. } => {
                    let first = self.model.acks.remove(&request.0).expect("answered once");
                    assert!(self.model.acked.insert(first), "{first} acked twice");
                }
            }
        }
    }

    fn handed_out(&mut self, out: HandOut) {
        let model = &mut self.model;
        assert!(model.durable.contains(&(out.first, out.last)), "not durable: {out:?}");
        assert!(!model.acked.contains(&out.first), "acked already: {out:?}");
        let known = *model.bounds.entry(out.first).or_insert(out.last);
        assert_eq!(known, out.last, "bounds have changed");
        let below = model.bounds.range(..out.first).next_back();
        assert!(below.is_none_or(|(_, last)| *last < out.first), "overlap below {out:?}");
        let above = model.bounds.range(Offset(out.first.0 + 1)..).next();
        assert!(above.is_none_or(|(first, _)| *first > out.last), "overlap above {out:?}");
        assert!(model.generations.insert(out.generation), "generation used before: {out:?}");
        let before = model.attempts.insert(out.first, out.attempt).unwrap_or(0);
        assert!(out.attempt > before);
        let deadline_us = self.now.mono_us + u64::from(out.lease_ms) * 1000;
        let live = Live { member: out.member, generation: out.generation, deadline_us };
        assert!(model.live.insert(out.first, live).is_none(), "two live leases: {out:?}");
        self.leases.push(out);
    }

    /// Without faults everything is acked in the end.
    fn drain(&mut self) {
        self.run(&Step::Join { connection: 9, chunk_records: 50, chunks_in_flight: 4 });
        for _ in 0..10_000 {
            if self.groups.stats()[0].lag_records == 0 {
                break;
            }
            self.run(&Step::Flush { records: 100 });
            let live: Vec<HandOut> = self.leases.drain(..).collect();
            for lease in live {
                let is_live = |l: &Live| l.generation == lease.generation;
                if self.model.live.get(&lease.first).is_some_and(is_live) {
                    self.settle(lease, How::Ack);
                    self.settle_down();
                }
            }
            self.run(&Step::Pass { ms: 200 });
        }
        let stats = &self.groups.stats()[0];
        assert_eq!((stats.lag_records, stats.acked_upto), (0, self.high_watermark()));
        let handed_out: u64 = self.model.bounds.iter().map(|(f, l)| l.0 - f.0 + 1).sum();
        assert_eq!(handed_out, self.high_watermark(), "every offset was handed out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_keeps_the_promises(steps in proptest::collection::vec(step(), 0..120)) {
        let mut harness = Harness::new();
        for step in &steps {
            harness.run(step);
        }
        harness.drain();
    }
}
