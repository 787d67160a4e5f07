//! Each rule of a consumer group, one at a time.

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

#[test]
fn a_chunk_closes_at_its_record_limit_by_whole_batches() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[60, 40, 70, 40, 100]);
    // 70 + 40 would break the limit of 100; 40 + 100 likewise; 100 fills a chunk by itself.
    assert_eq!(bench.bounds(), [(0, 99), (100, 169)]);
    assert_eq!(bench.stats().open_chunks, 4);
}

#[test]
fn a_chunk_closes_at_its_byte_limit() {
    let mut bench = Bench::with_member(&GroupOptions { chunk_bytes: 500, ..options() });
    bench.append(&[30, 20, 30]);
    assert_eq!(bench.bounds(), [(0, 49)]);
}

#[test]
fn a_batch_over_the_limit_is_a_chunk_of_its_own() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[10, 250, 10]);
    assert_eq!(bench.bounds(), [(0, 9), (10, 259)]);
}

#[test]
fn a_chunk_closes_when_its_first_batch_has_waited() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[10]);
    bench.pass(30);
    bench.append(&[10]);
    assert_eq!(bench.groups.poll_timeout(), Some(1_050_000));
    bench.pass(19);
    assert_eq!(bench.bounds(), []);
    bench.pass(1);
    assert_eq!(bench.bounds(), [(0, 19)]);
}

#[test]
fn a_group_that_is_behind_does_not_close_small_chunks() {
    let mut bench = Bench::with_member(&options());
    bench.high_watermark = 1000;
    bench.groups.advance(Offset(1000));
    for first in [0, 10] {
        let batch = BatchBounds { first: Offset(first), last: Offset(first + 9), bytes: 1 };
        bench.groups.offer(bench.now, bench.group, batch);
        bench.pass(60);
        assert_eq!(bench.bounds(), [], "more is durable at {first}");
        assert_eq!(bench.groups.poll_timeout(), None);
    }
    bench.groups.offer(
        bench.now,
        bench.group,
        BatchBounds { first: Offset(20), last: Offset(999), bytes: 1 },
    );
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 19), (20, 999)]);
}

#[test]
fn bounds_are_durable_before_the_hand_out() {
    let mut bench = Bench::with_member(&options());
    bench.groups.advance(Offset(100));
    let batch = BatchBounds { first: Offset(0), last: Offset(99), bytes: 1000 };
    bench.groups.offer(bench.now, bench.group, batch);
    bench.take_outputs();
    bench.groups.handle_timeout(bench.now);
    bench.take_outputs();
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.under_way.len(), 1);
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn a_join_is_answered_once_the_start_is_durable() {
    let mut bench = Bench::new();
    let late = bench.groups.create("late", Offset(7)).unwrap();
    bench.groups.join(bench.now, late, member(5), &options()).unwrap();
    bench.take_outputs();
    assert!(bench.outputs.is_empty());
    assert_eq!(bench.groups.wants(late), None);
    bench.flush();
    assert_eq!(bench.outputs, [Output::Joined { member: member(5), next: Offset(7) }]);
    assert_eq!(bench.groups.wants(late), Some(Offset(7)));
    bench.restart();
    assert_eq!(bench.groups.find("late"), Some(late));
    bench.groups.join(bench.now, late, member(6), &options()).unwrap();
    assert_eq!(bench.groups.wants(late), Some(Offset(7)));
}

#[test]
fn an_ack_is_answered_once_durable_and_is_final() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    bench.take_outputs();
    let ended =
        Output::LeaseEnded { member: member(1), first: out.first, generation: out.generation };
    assert_eq!(bench.outputs, [ended]);
    assert_eq!(bench.stats().acked_upto, 0);
    assert_eq!(bench.ack(&out), Err(ErrorCode::LEASE_LOST));
    bench.pass(10_000);
    let acked = Output::Acked { member: member(1), request: CorrelationId(0) };
    assert_eq!(bench.outputs.pop_back(), Some(acked));
    assert_eq!(bench.stats().acked_upto, 100);
    assert_eq!(bench.stats().lag_records, 0);
    bench.restart();
    bench.join(2, &options());
    bench.pass(10_000);
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.stats().acked_upto, 100);
}

#[test]
fn an_ack_that_was_not_durable_is_forgotten_by_a_restart() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn out_of_order_acks_move_acked_upto_once_the_hole_closes() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100]);
    let out = bench.hand_outs();
    bench.ack(&out[1]).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().lag_records), (0, 100));
    bench.ack(&out[0]).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().open_chunks), (200, 0));
}

#[test]
fn a_lease_that_runs_out_comes_back_after_a_rest_with_the_next_attempt() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let first = bench.hand_outs().remove(0);
    assert_eq!((first.attempt, first.lease_ms), (1, 1_000));
    bench.pass(999);
    assert_eq!(bench.stats().in_flight_chunks, 1);
    bench.pass(1);
    assert_eq!((bench.stats().in_flight_chunks, bench.stats().expired), (0, 1));
    assert_eq!(bench.ack(&first), Err(ErrorCode::LEASE_LOST));
    bench.pass(limits::BACKOFF_MS_MIN - 1);
    assert_eq!(bench.bounds(), []);
    bench.pass(1);
    let second = bench.hand_outs().remove(0);
    assert_eq!((second.first, second.last, second.attempt), (first.first, first.last, 2));
    assert_ne!(second.generation, first.generation);
    assert_eq!(bench.ack(&first), Err(ErrorCode::LEASE_LOST));
    assert_eq!(bench.ack(&second), Ok(()));
}

#[test]
fn backoff_doubles_up_to_its_cap() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let mut rests = Vec::new();
    for _ in 0..12 {
        let out = bench.hand_outs().remove(0);
        bench.nack(&out, 0);
        let rest_us = bench.groups.poll_timeout().unwrap() - bench.now.mono_us;
        rests.push(rest_us / 1000);
        bench.pass(rest_us / 1000);
    }
    assert_eq!(rests[..3], [200, 400, 800]);
    assert_eq!(rests.last(), Some(&limits::BACKOFF_MS_MAX));
}

#[test]
fn a_nack_waits_as_long_as_it_says() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.nack(&out, 5_000);
    bench.pass(4_999);
    assert_eq!(bench.bounds(), []);
    bench.pass(1);
    assert_eq!(bench.bounds(), [(0, 99)]);
    assert_eq!((bench.stats().nacked, bench.stats().redelivered), (1, 1));
}

#[test]
fn an_extended_lease_runs_from_now() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.pass(900);
    bench.groups.extend(bench.now, out.member, claim(&out), 3_000).unwrap();
    bench.pass(2_999);
    assert_eq!(bench.stats().in_flight_chunks, 1);
    let too_long = bench.groups.extend(bench.now, out.member, claim(&out), u32::MAX);
    assert_eq!(too_long, Err(ErrorCode::INVALID_REQUEST));
    bench.pass(1);
    assert_eq!(bench.stats().in_flight_chunks, 0);
    let lost = bench.groups.extend(bench.now, out.member, claim(&out), 3_000);
    assert_eq!(lost, Err(ErrorCode::LEASE_LOST));
}

#[test]
fn a_claim_must_be_exact_and_the_holders() {
    let mut bench = Bench::with_member(&options());
    bench.join(2, &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    let request = CorrelationId(9);
    let mut ack = |member, claim| bench.groups.ack(bench.now, member, claim, request);
    let whole = claim(&out);
    let other = if out.member == member(1) { member(2) } else { member(1) };
    assert_eq!(ack(other, whole), Err(ErrorCode::LEASE_LOST));
    assert_eq!(ack(member(3), whole), Err(ErrorCode::UNKNOWN_SUBSCRIPTION));
    let stale = Claim { generation: whole.generation - 1, ..whole };
    assert_eq!(ack(out.member, stale), Err(ErrorCode::LEASE_LOST));
    for (first, last) in [(0, 98), (1, 99), (0, 100), (50, 50), (9, 3)] {
        let part = Claim { first: Offset(first), last: Offset(last), ..whole };
        assert_eq!(ack(out.member, part), Err(ErrorCode::INVALID_REQUEST), "{first}-{last}");
    }
    assert_eq!(ack(out.member, whole), Ok(()));
}

#[test]
fn a_leaving_member_frees_its_chunks_at_once() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100]);
    let held = bench.hand_outs();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(200, 299)]);
    bench.groups.leave(bench.now, member(1));
    bench.flush();
    let again = bench.hand_outs();
    assert_eq!(again.len(), 1, "the second member had room for one more");
    assert_eq!((again[0].first, again[0].attempt), (Offset(0), 2));
    assert_eq!(bench.ack(&held[0]), Err(ErrorCode::UNKNOWN_SUBSCRIPTION));
    bench.ack(&again[0]).unwrap();
    bench.flush();
    assert_eq!(bench.bounds(), [(100, 199)]);
}

#[test]
fn members_hold_no_more_than_they_asked_for() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100; 5]);
    let out = bench.hand_outs();
    assert_eq!(out.len(), 2);
    bench.ack(&out[0]).unwrap();
    bench.flush();
    assert_eq!(bench.bounds(), [(200, 299)]);
}

#[test]
fn a_group_has_no_more_out_than_its_limit_and_remembers_a_bounded_number() {
    let mut bench = Bench::new();
    let wide = GroupOptions { chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() };
    for connection in 0..20 {
        bench.join(connection, &wide);
    }
    for _ in 0..2000 {
        bench.append(&[100]);
    }
    let stats = bench.stats();
    assert_eq!(stats.in_flight_chunks as usize, limits::CHUNKS_OUT_PER_GROUP_MAX);
    let open = limits::CHUNKS_OUT_PER_GROUP_MAX + limits::CHUNKS_AHEAD_MAX;
    assert_eq!(stats.open_chunks as usize, open);
    assert_eq!(bench.groups.wants(bench.group), None);
}

#[test]
fn chunks_that_all_rest_stop_the_building_at_the_limit() {
    let wide = GroupOptions { chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() };
    let mut bench = Bench::with_member(&wide);
    for _ in 0..2000 {
        let Some(first) = bench.groups.wants(bench.group) else { break };
        bench.high_watermark = first.0;
        bench.append(&[100]);
        for out in bench.hand_outs() {
            bench.nack(&out, 1_000_000);
        }
    }
    assert_eq!(bench.stats().open_chunks as usize, limits::CHUNKS_OPEN_MAX);
    bench.restart();
    assert_eq!(bench.stats().open_chunks as usize, limits::CHUNKS_OPEN_MAX);
}

#[test]
fn members_with_fewest_chunks_come_first_and_then_take_turns() {
    let one = GroupOptions { chunks_in_flight: 1, ..options() };
    let mut bench = Bench::new();
    for connection in [1, 2, 3] {
        bench.join(connection, &one);
    }
    bench.outputs.clear();
    let mut turns = Vec::new();
    for _ in 0..6 {
        bench.append(&[100]);
        let out = bench.hand_outs().remove(0);
        turns.push(out.member.connection.0);
        bench.ack(&out).unwrap();
        bench.flush();
    }
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);

    bench.groups.leave(bench.now, member(3));
    bench.groups.leave(bench.now, member(2));
    bench.join(4, &options());
    bench.append(&[100, 100, 100]);
    let held: Vec<u64> = bench.hand_outs().iter().map(|out| out.member.connection.0).collect();
    assert_eq!(held, [1, 4, 4]);
}

#[test]
fn who_holds_fewest_comes_before_who_waited_longest() {
    let mut bench = Bench::new();
    let three = GroupOptions { chunks_in_flight: 3, ..options() };
    bench.join(1, &three);
    bench.join(2, &three);
    bench.outputs.clear();
    bench.append(&[100, 100, 100, 100]);
    for out in bench.hand_outs() {
        // The second member was served last, and has nothing left.
        if out.member == member(2) {
            bench.ack(&out).unwrap();
        }
    }
    bench.flush();
    bench.append(&[100]);
    let next: Vec<MemberKey> = bench.hand_outs().iter().map(|out| out.member).collect();
    assert_eq!(next, [member(2)]);
}

#[test]
fn a_hand_out_that_ended_by_leaving_counts_over_a_restart() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    bench.groups.leave(bench.now, member(1));
    bench.flush();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.hand_outs()[0].attempt, 2);
}

#[test]
fn the_lowest_ready_chunk_goes_first() {
    let one = GroupOptions { chunks_in_flight: 1, ..options() };
    let mut bench = Bench::with_member(&one);
    bench.append(&[100, 100, 100]);
    let out = bench.hand_outs().remove(0);
    bench.nack(&out, 0);
    let second = bench.hand_outs().remove(0);
    assert_eq!(second.first, Offset(100));
    bench.pass(500);
    bench.ack(&second).unwrap();
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn a_restart_keeps_bounds_and_attempts_and_changes_generations() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[60, 30, 70, 20]);
    bench.pass(50);
    let before = bench.hand_outs();
    bench.nack(&before[0], 0);
    bench.restart();
    // Other limits: the chunks stay as they are.
    bench.join(2, &GroupOptions { chunk_records: 7, ..options() });
    let after = bench.hand_outs();
    let bounds = |outs: &[HandOut]| outs.iter().map(|o| (o.first, o.last)).collect::<Vec<_>>();
    assert_eq!(bounds(&before), bounds(&after));
    assert_eq!([after[0].attempt, after[1].attempt], [2, 1]);
    assert!(after.iter().all(|a| before.iter().all(|b| a.generation != b.generation)));
}

#[test]
fn nothing_is_handed_out_before_the_new_epoch_is_durable() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let mut recovery = GroupsRecovery::new();
    for record in &bench.log {
        recovery.apply(record).unwrap();
    }
    bench.groups = recovery.finish();
    bench.outputs.clear();
    bench.groups.join(bench.now, bench.group, member(2), &options()).unwrap();
    bench.take_outputs();
    assert!(bench.outputs.is_empty());
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn a_snapshot_stands_for_all_records_before_it() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 60, 30, 100]);
    let out = bench.hand_outs();
    bench.ack(&out[0]).unwrap();
    bench.nack(&out[1], 0);
    // One chunk is being bound and one ack is under way while the snapshot is taken.
    let next = bench.hand_outs().remove(0);
    bench.ack(&next).unwrap();
    bench.groups.advance(Offset(390));
    let batch = BatchBounds { first: Offset(290), last: Offset(389), bytes: 1 };
    bench.groups.offer(bench.now, bench.group, batch);
    let whole_log = bench.log.clone();
    let snapshot = bench.groups.snapshot();
    bench.flush();
    let tail = bench.log[whole_log.len()..].to_vec();

    let recover = |records: &[&[Bytes]]| {
        let mut recovery = GroupsRecovery::new();
        for record in records.iter().copied().flatten() {
            recovery.apply(record).unwrap();
        }
        recovery.finish().snapshot()
    };
    let by_log = recover(&[&whole_log, &tail]);
    assert_eq!(recover(&[&snapshot, &tail]), by_log);
    assert_eq!(recover(&[&whole_log, &snapshot, &tail]), by_log);
    assert_eq!(recover(&[&snapshot]), by_log);
}

#[test]
fn retention_gives_up_chunks_and_says_so() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 50]);
    let out = bench.hand_outs();
    bench.groups.trim(bench.now, Offset(150));
    bench.flush();
    assert_eq!(bench.stats().skipped_records, 200, "half a chunk is no chunk");
    assert_eq!(bench.ack(&out[1]), Err(ErrorCode::LEASE_LOST));
    assert_eq!(bench.stats().acked_upto, 200);

    bench.high_watermark = 1_000;
    bench.groups.trim(bench.now, Offset(1_000));
    bench.flush();
    assert_eq!(bench.stats().skipped_records, 1_000);
    bench.append(&[100]);
    assert_eq!(bench.bounds(), [(1_000, 1_099)]);
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(1_000, 1_099)]);
}

#[test]
fn an_ack_under_way_is_answered_though_retention_took_the_chunk() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    bench.groups.trim(bench.now, Offset(100));
    bench.flush();
    let acked = Output::Acked { member: member(1), request: CorrelationId(0) };
    assert_eq!(bench.outputs.pop_back(), Some(acked));
}

#[test]
fn groups_do_not_see_each_other() {
    let mut bench = Bench::with_member(&options());
    let other = bench.groups.create("other", Offset(100)).unwrap();
    bench.groups.join(bench.now, other, member(2), &options()).unwrap();
    bench.flush();
    bench.append(&[100, 100]);
    let batch = BatchBounds { first: Offset(100), last: Offset(199), bytes: 1 };
    bench.groups.offer(bench.now, other, batch);
    bench.flush();
    let outs = bench.hand_outs();
    let of = |id| outs.iter().filter(move |out| out.group == id).map(|out| out.first.0);
    assert_eq!(of(bench.group).collect::<Vec<_>>(), [0, 100]);
    assert_eq!(of(other).collect::<Vec<_>>(), [100]);
    let theirs = outs.iter().find(|out| out.group == other).unwrap();
    let stolen = bench.groups.ack(bench.now, member(1), claim(theirs), CorrelationId(1));
    assert_eq!(stolen, Err(ErrorCode::LEASE_LOST));
}

#[test]
fn members_and_groups_are_limited_and_options_checked() {
    let mut bench = Bench::new();
    for connection in 0..limits::MEMBERS_PER_GROUP_MAX as u64 {
        bench.join(connection, &options());
    }
    let mut join = |connection, options: &GroupOptions| {
        bench.groups.join(bench.now, bench.group, member(connection), options)
    };
    assert_eq!(join(9_999, &options()), Err(ErrorCode::TOO_MANY_CONSUMERS));
    assert_eq!(join(0, &options()), Err(ErrorCode::INVALID_REQUEST), "a member already");
    for bad in [
        GroupOptions { chunk_records: 0, ..options() },
        GroupOptions { chunk_bytes: u32::MAX, ..options() },
        GroupOptions { chunk_linger_ms: u32::MAX, ..options() },
        GroupOptions { lease_ms: 1, ..options() },
        GroupOptions { chunks_in_flight: 0, ..options() },
        GroupOptions { chunks_in_flight: 1_000, ..options() },
    ] {
        assert_eq!(join(9_999, &bad), Err(ErrorCode::INVALID_REQUEST), "{bad:?}");
    }
    for n in 1..limits::GROUPS_PER_PARTITION_MAX {
        bench.groups.create(&format!("g{n}"), Offset(0)).unwrap();
    }
    let refused = bench.groups.create("one more", Offset(0));
    assert_eq!(refused, Err(ErrorCode::TOO_MANY_CONSUMERS));
}

#[test]
fn a_stopped_group_hands_out_nothing_and_still_takes_acks() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100]);
    let out = bench.hand_outs();
    bench.groups.stop();
    bench.ack(&out[0]).unwrap();
    bench.pass(60_000);
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.stats().acked_upto, 100);
    assert_eq!(bench.groups.wants(bench.group), None);
    let late = bench.groups.join(bench.now, bench.group, member(7), &options());
    assert_eq!(late, Err(ErrorCode::DRAINING));
}

#[test]
fn given_up_groups_name_who_waits() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    let late = bench.groups.create("late", Offset(0)).unwrap();
    bench.groups.join(bench.now, late, member(4), &options()).unwrap();
    let unanswered = bench.groups.into_unanswered();
    assert_eq!(unanswered.acks, [(member(1), CorrelationId(0))]);
    assert_eq!(unanswered.joins, [member(4)]);
}

#[test]
fn recovery_refuses_records_that_contradict_each_other() {
    let id = GroupId(1);
    let bound = |first, last| {
        GroupRecord::Bound { first: Offset(first), last: Offset(last), bytes: 1 }.encode(id)
    };
    let done =
        |first, last| GroupRecord::Done { ranges: vec![(Offset(first), Offset(last))] }.encode(id);
    let mut recovery = GroupsRecovery::new();
    assert!(recovery.apply(&bound(0, 9)).is_err(), "no such group");
    let created = GroupRecord::Created { start: Offset(0), epoch: 1, name: "g".into() };
    recovery.apply(&created.encode(id)).unwrap();
    assert!(recovery.apply(&created.encode(GroupId(2))).is_err(), "the name is taken");
    recovery.apply(&bound(0, 9)).unwrap();
    recovery.apply(&bound(0, 9)).unwrap();
    for (first, last) in [(0, 8), (5, 9), (5, 20), (11, 20)] {
        assert!(recovery.apply(&bound(first, last)).is_err(), "{first}-{last}");
    }
    assert!(recovery.apply(&done(0, 5)).is_err(), "a part");
    assert!(recovery.apply(&done(0, 10)).is_err(), "beyond the end");
    recovery.apply(&done(0, 9)).unwrap();
    recovery.apply(&done(0, 9)).unwrap();
    assert_eq!(recovery.finish().stats()[0].acked_upto, 10);
}
