//! Leases, redelivery and members.

use super::limits::CHUNKS_OUT_PER_GROUP_MAX;
use super::*;

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
    let second = bench.rest();
    assert_eq!((second.first, second.last, second.attempt), (first.first, first.last, 2));
    assert_ne!(second.generation, first.generation);
    assert_eq!(bench.ack(&first), Err(ErrorCode::LEASE_LOST));
    assert_eq!(bench.ack(&second), Ok(()));
}

#[test]
fn backoff_doubles_up_to_its_cap_and_differs_by_chunk_and_seed() {
    let rests = |seed| {
        let settings = GroupSettings { seed, ..GroupSettings::default() };
        let mut bench = Bench::of_member(settings, &options());
        bench.append(&[100]);
        let mut out = bench.hand_outs().remove(0);
        let rest = |_| {
            bench.nack(&out, 0);
            let began_us = bench.now.mono_us;
            out = bench.rest();
            (bench.now.mono_us - began_us) / 1000
        };
        (0..12).map(rest).collect::<Vec<u64>>()
    };
    let first = rests(7);
    for (n, rest) in first.iter().enumerate() {
        let least = (limits::BACKOFF_MS_MIN << n).min(limits::BACKOFF_MS_MAX);
        assert!((least..=least * 3 / 2).contains(rest), "{first:?}");
    }
    assert_eq!(first, rests(7));
    assert_ne!(first, rests(8));

    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100]);
    let outs = bench.hand_outs();
    bench.nack(&outs[0], 0);
    bench.nack(&outs[1], 0);
    let apart = [bench.rest(), bench.rest()];
    assert_ne!(apart[0].first, apart[1].first, "what failed together comes back apart");
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
    for (first, last) in [(0, 100), (99, 100), (9, 3)] {
        let part = Claim { first: Offset(first), last: Offset(last), ..whole };
        assert_eq!(ack(out.member, part), Err(ErrorCode::INVALID_REQUEST), "{first}-{last}");
    }
    assert_eq!(ack(out.member, whole), Ok(()));
}

#[test]
fn a_member_that_unsubscribes_gives_its_chunks_back_uncounted() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100]);
    let held = bench.hand_outs();
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.flush();
    bench.join(2, &options());
    let again = bench.hand_outs();
    assert_eq!([again[0].attempt, again[1].attempt], [1, 1]);
    assert_ne!(again[0].generation, held[0].generation);
    assert_eq!(bench.stats().redelivered, 2);
}

#[test]
fn a_broker_that_stops_does_not_count_the_connections_it_ends() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    bench.groups.stop();
    bench.groups.leave(bench.now, member(1), Departure::Lost);
    bench.flush();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.hand_outs()[0].attempt, 1);
}

#[test]
fn a_lost_members_chunks_have_failed() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100]);
    let held = bench.hand_outs();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(200, 299)]);
    bench.groups.leave(bench.now, member(1), Departure::Lost);
    bench.flush();
    assert_eq!(bench.bounds(), [], "they rest");
    bench.pass(limits::BACKOFF_MS_MIN * 3 / 2);
    let again = bench.hand_outs();
    assert_eq!(again.len(), 1, "the second member had room for one more");
    assert_eq!(again[0].attempt, 2);
    assert_eq!(bench.ack(&held[0]), Err(ErrorCode::UNKNOWN_SUBSCRIPTION));
    bench.ack(&again[0]).unwrap();
    bench.flush();
    assert_eq!(bench.hand_outs().len(), 1);
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
    let wide = GroupOptions { chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() };
    for (chunks_out, limit) in [(0, 1), (7, 7), (512, 512), (u32::MAX, CHUNKS_OUT_PER_GROUP_MAX)] {
        let mut bench = Bench::of(GroupSettings { chunks_out, ..GroupSettings::default() });
        for connection in 0..40 {
            bench.join(connection, &wide);
        }
        for _ in 0..limit + 500 {
            bench.append(&[100]);
        }
        let stats = bench.stats();
        assert_eq!(stats.in_flight_chunks, limit);
        assert_eq!(stats.open_chunks as usize, limit as usize + limits::CHUNKS_AHEAD_MAX);
        assert_eq!(bench.groups.wants(bench.group), None);
        // Whatever is done with makes room for as much.
        let out = bench.hand_outs().remove(0);
        bench.ack(&out).unwrap();
        bench.flush();
        assert_eq!((bench.hand_outs().len(), bench.stats().in_flight_chunks), (1, limit));
    }
}

#[test]
fn chunks_that_all_rest_stop_the_building_at_the_limit() {
    let wide = GroupOptions { chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() };
    let mut bench = Bench::with_member(&wide);
    for _ in 0..limits::CHUNKS_OPEN_MAX + 500 {
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
fn attempts_are_counted_up_to_the_last_number_and_stay_there() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let chunk = ChunkKey::new(Offset(0), Offset(99));
    let failed = GroupRecord::Failed { chunk, attempts: u32::MAX - 2 };
    bench.log.push(failed.encode(bench.group));
    bench.restart();
    bench.join(2, &options());
    for attempt in [u32::MAX - 1, u32::MAX, u32::MAX, u32::MAX] {
        let out = bench.hand_outs().remove(0);
        assert_eq!(out.attempt, attempt);
        bench.nack(&out, 0);
        let due_us = bench.groups.poll_timeout().unwrap() - bench.now.mono_us;
        let cap_us = limits::BACKOFF_MS_MAX * 1000;
        assert!((cap_us..=cap_us * 3 / 2).contains(&due_us), "{due_us}");
        bench.pass(due_us.div_ceil(1000));
    }
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

    bench.groups.leave(bench.now, member(3), Departure::Lost);
    bench.groups.leave(bench.now, member(2), Departure::Lost);
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
    bench.groups.leave(bench.now, member(1), Departure::Lost);
    bench.flush();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.hand_outs()[0].attempt, 2);
}

#[test]
fn a_failure_is_durable_before_the_next_attempt() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.groups.nack(bench.now, out.member, claim(&out), 0, "").unwrap();
    bench.now.mono_us += 10_000_000;
    bench.groups.handle_timeout(bench.now);
    bench.take_outputs();
    assert_eq!(bench.bounds(), []);
    bench.flush();
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
