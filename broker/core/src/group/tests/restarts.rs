//! What outlives a restart, retention, and limits.

use super::*;

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
    bench.groups = recovery.finish(GroupSettings::default());
    bench.groups.advance(bench.now, Offset(100), Offset(100));
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
    bench.groups.advance(bench.now, Offset(390), Offset(390));
    let batch = BatchBounds { first: Offset(290), last: Offset(389), bytes: 1, appended_ms: 0 };
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
        recovery.finish(GroupSettings::default()).snapshot()
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
    assert_eq!((bench.stats().skipped_records, bench.stats().leases_broken), (150, 2));
    assert_eq!(bench.ack(&out[1]), Err(ErrorCode::LEASE_LOST));
    assert_eq!((bench.stats().acked_upto, bench.stats().lag_records), (150, 100));
    // What is left of a chunk keeps the chunk's bounds, and nobody failed.
    let rest = bench.hand_outs().remove(0);
    assert_eq!((rest.first, rest.last, rest.attempt), (Offset(100), Offset(199), 1));
    assert_eq!(rest.settled, offsets(&[(100, 149)]));
    bench.ack(&rest).unwrap();
    bench.flush();

    bench.high_watermark = 1_000;
    bench.groups.trim(bench.now, Offset(1_000));
    bench.flush();
    assert_eq!(bench.stats().skipped_records, 950);
    bench.append(&[100]);
    assert_eq!(bench.bounds(), [(1_000, 1_099)]);
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(1_000, 1_099)]);
}

#[test]
fn a_log_that_has_lost_its_end_is_read_again_from_there() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100, 100]);
    for out in bench.hand_outs() {
        bench.ack(&out).unwrap();
    }
    bench.flush();
    // Chunks 0-99 and 100-199 are acked, 200-299 and 300-399 are out. The log now ends at 250.
    bench.high_watermark = 250;
    bench.restart();
    bench.groups.cut(Offset(250));
    bench.flush();
    for again in [false, true] {
        if again {
            bench.restart();
        }
        assert_eq!(bench.stats().acked_upto, 200);
        assert_eq!((bench.stats().open_chunks, bench.stats().lag_records), (1, 50));
    }
    bench.join(2, &options());
    assert_eq!(bench.groups.wants(bench.group), Some(Offset(250)));
    assert_eq!(bench.bounds(), [(200, 249)]);
    bench.append(&[100]);
    assert_eq!(bench.bounds(), [(250, 349)]);
}

#[test]
fn acked_records_that_the_log_has_lost_do_not_hide_new_ones() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100]);
    for out in bench.hand_outs() {
        bench.ack(&out).unwrap();
    }
    bench.flush();
    bench.high_watermark = 150;
    bench.restart();
    bench.groups.cut(Offset(150));
    bench.join(2, &options());
    bench.append(&[100]);
    assert_eq!(bench.bounds(), [(150, 249)]);
}

#[test]
fn what_was_settled_in_a_lost_end_is_not_counted_as_settled() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[50, 50]);
    let out = bench.hand_outs().remove(0);
    bench.ack_part(&out, 10, 19).unwrap();
    bench.ack_part(&out, 45, 69).unwrap();
    bench.high_watermark = 50;
    bench.restart();
    bench.groups.cut(Offset(50));
    bench.flush();
    assert_eq!((bench.stats().open_chunks, bench.stats().lag_records), (1, 35));
    bench.restart();
    assert_eq!((bench.stats().open_chunks, bench.stats().lag_records), (1, 35));
    bench.join(2, &options());
    let out = bench.hand_outs().remove(0);
    assert_eq!((out.first, out.last), (Offset(0), Offset(49)));
    assert_eq!(out.settled, offsets(&[(10, 19), (45, 49)]));
}

#[test]
fn a_part_and_its_chunk_that_a_lost_end_makes_one_keep_all_failures() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[50, 50]);
    let out = bench.hand_outs().remove(0);
    bench.groups.extend(bench.now, out.member, claim(&out), 600_000).unwrap();
    bench.nack_part(&out, 0, 79).unwrap();
    // The rest fails twice, the part once.
    bench.nack(&out, 0);
    let next = std::iter::from_fn(|| Some(bench.rest())).find(|out| out.last == Offset(99));
    bench.nack(&next.unwrap(), 0);
    bench.high_watermark = 50;
    bench.restart();
    bench.groups.cut(Offset(50));
    bench.join(2, &options());
    let out = bench.hand_outs().remove(0);
    assert_eq!((out.first, out.last, out.attempt), (Offset(0), Offset(49), 3));
    assert_eq!(out.settled, []);
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
    let other = bench.groups.create(START, "other", Offset(100)).unwrap();
    bench.groups.join(bench.now, other, member(2), &options()).unwrap();
    bench.flush();
    bench.append(&[100, 100]);
    let batch = BatchBounds { first: Offset(100), last: Offset(199), bytes: 1, appended_ms: 0 };
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
        bench.groups.create(START, &format!("g{n}"), Offset(0)).unwrap();
    }
    let refused = bench.groups.create(START, "one more", Offset(0));
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
    let late = bench.groups.create(START, "late", Offset(0)).unwrap();
    bench.groups.join(bench.now, late, member(4), &options()).unwrap();
    let unanswered = bench.groups.into_unanswered();
    assert_eq!(unanswered.acks, [(member(1), CorrelationId(0))]);
    assert_eq!(unanswered.joins, [member(4)]);
}

#[test]
fn recovery_refuses_records_that_contradict_each_other() {
    let id = GroupId(1);
    let bound = |first, last| {
        GroupRecord::Bound { first: Offset(first), last: Offset(last), bytes: 1, appended_ms: 0 }
            .encode(id)
    };
    let done =
        |first, last| GroupRecord::Done { ranges: vec![(Offset(first), Offset(last))] }.encode(id);
    let mut recovery = GroupsRecovery::new();
    assert!(recovery.apply(&bound(0, 9)).is_err(), "no such group");
    let created = GroupRecord::Created {
        start: Offset(0),
        epoch: 1,
        producer: ProducerId(1),
        name: "g".into(),
    };
    recovery.apply(&created.encode(id)).unwrap();
    assert!(recovery.apply(&created.encode(GroupId(2))).is_err(), "the name is taken");
    recovery.apply(&bound(0, 9)).unwrap();
    recovery.apply(&bound(0, 9)).unwrap();
    for (first, last) in [(0, 8), (5, 9), (5, 20), (11, 20)] {
        assert!(recovery.apply(&bound(first, last)).is_err(), "{first}-{last}");
    }
    assert!(recovery.apply(&done(0, 10)).is_err(), "beyond the end");
    let split = |parent, part| GroupRecord::Split { parent, part, attempts: 1 }.encode(id);
    let key = |first, last| ChunkKey::new(Offset(first), Offset(last));
    assert!(recovery.apply(&split(key(0, 9), key(0, 9))).is_err(), "all of it");
    assert!(recovery.apply(&split(key(0, 9), key(5, 10))).is_err(), "more than it");
    for _ in 0..2 {
        recovery.apply(&done(0, 3)).unwrap();
        recovery.apply(&split(key(0, 9), key(3, 5))).unwrap();
        recovery.apply(&done(0, 9)).unwrap();
    }
    assert_eq!(recovery.finish(GroupSettings::default()).stats()[0].acked_upto, 10);
}
