//! Chunks and records that the group gives up on.

use super::*;

/// A chunk of 0 to 99 that has failed so often.
fn failed(times: usize) -> Bench {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let mut out = bench.hand_outs().remove(0);
    for attempt in 1..=times {
        assert_eq!(out.attempt as usize, attempt);
        bench.nack(&out, 0);
        if attempt < 3 {
            out = bench.rest();
        }
    }
    bench
}

#[test]
fn a_chunk_that_failed_too_often_goes_to_the_dead_letters() {
    let mut bench = failed(3);
    bench.pass(60_000);
    let letter = bench.letter();
    assert_eq!((letter.ranges.clone(), letter.attempts), (offsets(&[(0, 99)]), 3));
    assert_eq!((letter.epoch.0, letter.reason.as_str(), letter.name.as_str()), (1, "bad", "g"));
    assert_eq!(bench.stats().acked_upto, 0, "it is not there yet");
    assert_eq!((bench.stats().dying_records, bench.stats().lag_records), (100, 100));
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(0)));
    bench.bury(&letter);
    let stats = bench.stats();
    assert_eq!((stats.acked_upto, stats.dead_lettered_records, stats.lag_records), (100, 100, 0));
    assert_eq!(stats.acked_records, 0);
    bench.restart();
    bench.join(2, &options());
    bench.pass(60_000);
    assert!(!bench.outputs.iter().any(|o| matches!(o, Output::DeadLetter(_) | Output::HandOut(_))));
}

#[test]
fn attempts_are_counted_over_restarts() {
    let mut bench = failed(2);
    bench.restart();
    bench.join(2, &options());
    let out = bench.hand_outs().remove(0);
    assert_eq!(out.attempt, 3);
    bench.pass(1_000);
    let letter = bench.letter();
    assert_eq!(letter.attempts, 3);
    assert_eq!(letter.reason, "no answer before the lease's end");
}

#[test]
fn a_lost_member_counts_as_an_attempt_and_one_that_unsubscribes_does_not() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    for departure in [Departure::InOrder, Departure::Lost, Departure::InOrder, Departure::Lost] {
        bench.groups.leave(bench.now, member(1), departure);
        bench.flush();
        bench.join(1, &options());
        bench.pass(1_000);
    }
    let out = bench.hand_outs().pop().unwrap();
    assert_eq!(out.attempt, 3);
    bench.groups.leave(bench.now, member(1), Departure::Lost);
    bench.flush();
    assert_eq!(bench.letter().attempts, 3);
}

#[test]
fn a_dead_letter_is_the_same_again_after_a_crash_until_it_is_buried() {
    let mut bench = failed(3);
    let first = bench.letter();
    bench.restart();
    let again = bench.letter();
    assert_eq!(again, first);
    // It is there, but the broker dies before the group has written that down.
    bench.groups.dead_lettered(bench.now, first.group, first.epoch);
    bench.restart();
    assert_eq!(bench.letter(), first);
    bench.bury(&first);
    bench.restart();
    assert!(bench.outputs.is_empty(), "{:?}", bench.outputs);
}

#[test]
fn the_decision_is_durable_before_a_dead_letter_is_given_out() {
    let mut bench = failed(2);
    let mut bench_out = bench.hand_outs();
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.join(3, &options());
    bench_out.extend(bench.hand_outs());
    let out = bench_out.pop().unwrap();
    bench.groups.nack(bench.now, out.member, claim(&out), 0, "").unwrap();
    // First the failure, then the decision.
    for _ in 0..2 {
        bench.take_outputs();
        assert!(!bench.outputs.iter().any(|o| matches!(o, Output::DeadLetter(_))));
        let (token, record) = bench.under_way.pop_front().unwrap();
        bench.log.push(record);
        bench.groups.persisted(bench.now, token);
    }
    bench.take_outputs();
    bench.letter();
}

#[test]
fn a_decision_behind_a_burial_is_durable_before_its_dead_letter_is_given_out() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.terminate(&out, &[(0, 0)]).unwrap();
    let first = bench.letter();
    bench.groups.dead_lettered(bench.now, first.group, first.epoch);
    let claim = (&*offsets(&[(9, 9)]), out.generation);
    bench.groups.terminate(bench.now, out.member, claim, "poison", CorrelationId(9)).unwrap();
    bench.take_outputs();
    // That the first is buried is durable, the second decision not yet.
    let (token, record) = bench.under_way.pop_front().unwrap();
    bench.log.push(record);
    bench.groups.persisted(bench.now, token);
    bench.take_outputs();
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::DeadLetter(_))));
    bench.flush();
    assert_eq!(bench.letter().epoch.0, 2);
}

#[test]
fn dead_letters_go_one_at_a_time_in_rising_epochs() {
    let wide = GroupOptions { chunks_in_flight: 8, ..options() };
    let mut bench = Bench::of_member(mortal(), &wide);
    bench.append(&[100, 100, 100]);
    for out in bench.hand_outs() {
        bench.terminate(&out, &[(out.first.0, out.last.0)]).unwrap();
    }
    for epoch in 1..=3 {
        let letter = bench.letter();
        assert_eq!((letter.epoch.0, letter.ranges[0].0.0), (epoch, u64::from(epoch - 1) * 100));
        bench.groups.dead_lettered(bench.now, letter.group, ProducerEpoch(epoch + 1));
        bench.flush();
        assert!(bench.outputs.is_empty(), "not the one that is out");
        bench.bury(&letter);
        bench.bury(&letter);
    }
    assert_eq!(bench.stats().dead_lettered_records, 300);
    assert_eq!(bench.stats().acked_upto, 300);
}

#[test]
fn the_next_dead_letter_waits_until_the_last_is_durably_buried() {
    // Found by the model: the second one's epoch would have fenced off the first one's repeat.
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.terminate(&out, &[(0, 0)]).unwrap();
    bench.terminate(&out, &[(9, 9)]).unwrap();
    let first = bench.letter();
    bench.groups.dead_lettered(bench.now, first.group, first.epoch);
    bench.take_outputs();
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::DeadLetter(_))));
    bench.flush();
    assert_eq!(bench.letter().epoch.0, 2);
}

#[test]
fn terminate_takes_its_records_at_once_and_is_answered_when_they_are_there() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack_part(&out, 7, 7).unwrap();
    bench.outputs.clear();
    bench.terminate(&out, &[(5, 8), (9, 9), (20, 20)]).unwrap();
    let letter = bench.letter();
    assert_eq!(letter.ranges, offsets(&[(5, 6), (8, 9), (20, 20)]));
    assert_eq!((letter.attempts, letter.reason.as_str()), (1, "poison"));
    // The rest of the lease goes on.
    bench.ack_part(&out, 0, 99).unwrap();
    assert_eq!(bench.stats().acked_upto, 5);
    bench.outputs.clear();
    bench.bury(&letter);
    let acked = Output::Acked { member: member(1), request: CorrelationId(5) };
    assert_eq!(bench.outputs, [acked]);
    assert_eq!((bench.stats().acked_upto, bench.stats().dead_lettered_records), (100, 5));
}

#[test]
fn a_part_that_failed_too_often_dies_alone() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.groups.extend(bench.now, out.member, claim(&out), 60_000).unwrap();
    bench.nack_part(&out, 10, 19).unwrap();
    let part = bench.rest();
    bench.nack(&part, 0);
    let part = bench.rest();
    bench.nack_part(&part, 12, 12).unwrap();
    let letter = bench.letter();
    assert_eq!((letter.ranges, letter.attempts), (offsets(&[(12, 12)]), 3));
    bench.ack(&part).unwrap();
    bench.ack(&out).unwrap();
    bench.flush();
    assert_eq!(bench.stats().acked_upto, 12);
}

#[test]
fn without_dead_letters_nothing_dies() {
    let settings = GroupSettings { dead_letters: false, ..mortal() };
    let mut bench = Bench::of_member(settings, &options());
    bench.append(&[100]);
    let mut out = bench.hand_outs().remove(0);
    assert_eq!(bench.terminate(&out, &[(0, 99)]), Err(ErrorCode::INVALID_REQUEST));
    for _ in 0..5 {
        bench.nack(&out, 0);
        out = bench.rest();
    }
    assert_eq!(out.attempt, 6);
    // The topic gets one: the chunk is over its limit at once.
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.groups.configure(bench.now, mortal());
    bench.join(2, &options());
    bench.flush();
    assert_eq!(bench.letter().attempts, 5);
}

#[test]
fn chunks_wait_while_there_are_too_many_dead_letters() {
    let wide = GroupOptions { chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() };
    let settings = GroupSettings { max_attempts: 1, ..mortal() };
    let mut bench = Bench::of_member(settings, &wide);
    bench.join(2, &wide);
    let chunks = limits::DYING_MAX as u64 + 2;
    for _ in 0..chunks {
        bench.append(&[100]);
    }
    let outs = bench.hand_outs();
    assert_eq!(outs.len() as u64, chunks);
    for out in &outs[1..] {
        bench.nack(out, 0);
    }
    let stats = bench.stats();
    assert_eq!((stats.dying_records, stats.open_chunks), (limits::DYING_MAX as u64 * 100, 2));
    assert_eq!(bench.terminate(&outs[0], &[(0, 0)]), Err(ErrorCode::OVERLOADED));
    let mut buried = 0;
    while bench.stats().dying_records > 0 {
        let letter = bench.letter();
        bench.bury(&letter);
        buried += 1;
    }
    assert_eq!((buried, bench.stats().acked_upto), (chunks - 1, 0));
    bench.ack(&outs[0]).unwrap();
    bench.flush();
    assert_eq!(bench.stats().acked_upto, chunks * 100);
}

#[test]
fn retention_that_takes_dying_records_leaves_the_same_dead_letter() {
    let wide = GroupOptions { chunks_in_flight: 8, ..options() };
    let mut bench = Bench::of_member(mortal(), &wide);
    bench.append(&[100, 100]);
    let outs = bench.hand_outs();
    bench.terminate(&outs[0], &[(0, 9)]).unwrap();
    let first = bench.letter();
    bench.terminate(&outs[1], &[(110, 119), (150, 159)]).unwrap();
    bench.groups.trim(bench.now, Offset(115));
    bench.flush();
    let refused = Output::Refused {
        member: member(1),
        request: CorrelationId(0),
        code: ErrorCode::LEASE_LOST,
    };
    assert!(bench.outputs.contains(&refused));
    // A part of it may be there already: under another epoch it would come again.
    let left = bench.letter();
    assert_eq!((left.epoch.0, &left.ranges), (2, &offsets(&[(115, 119), (150, 159)])));
    bench.bury(&first);
    assert_eq!(bench.stats().dead_lettered_records, 0);
    bench.restart();
    assert_eq!(bench.letter(), left);
    bench.groups.trim(bench.now, Offset(155));
    bench.flush();
    assert!(bench.outputs.is_empty(), "it is out: {:?}", bench.outputs);
    bench.restart();
    let left = bench.letter();
    assert_eq!((left.epoch.0, &left.ranges), (2, &offsets(&[(155, 159)])));
    bench.bury(&left);
    assert_eq!(bench.stats().dead_lettered_records, 5);
}

#[test]
fn another_group_of_the_same_name_is_another_producer() {
    let mut bench = failed(3);
    let first = bench.letter();
    bench.bury(&first);
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.flush();
    let asker = Asker {
        shard: ShardId(0),
        request: RequestId { connection: ConnectionId(9), correlation: CorrelationId(9) },
    };
    bench.groups.delete("g", asker).unwrap();
    bench.flush();
    let settings = GroupSettings { max_attempts: 1, ..mortal() };
    bench.groups.configure(bench.now, settings);
    bench.group = bench.groups.create(bench.now, "g", Offset(100)).unwrap();
    bench.join(1, &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.nack(&out, 0);
    let second = bench.letter();
    assert_eq!(second.epoch.0, 1);
    assert_ne!(second.producer, first.producer);
}
