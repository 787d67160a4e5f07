//! Parts of chunks, down to one record.

use super::*;

/// A chunk of 0 to 99 on lease, by one member with room for one more.
fn leased() -> (Bench, HandOut) {
    let mut bench = Bench::with_member(&options());
    bench.append(&[60, 40]);
    let out = bench.hand_outs().remove(0);
    assert_eq!((out.first, out.last), (Offset(0), Offset(99)));
    (bench, out)
}

fn acked(request: u64) -> Output {
    Output::Acked { member: member(1), request: CorrelationId(request) }
}

#[test]
fn a_lease_goes_on_until_every_record_is_settled() {
    let (mut bench, out) = leased();
    for (first, last) in [(50, 99), (0, 0), (2, 49)] {
        bench.ack_part(&out, first, last).unwrap();
        assert_eq!(std::mem::take(&mut bench.outputs), [acked(first)]);
        assert_eq!(bench.stats().in_flight_chunks, 1);
    }
    assert_eq!((bench.stats().acked_upto, bench.stats().lag_records), (1, 1));
    bench.ack_part(&out, 1, 1).unwrap();
    let ended =
        Output::LeaseEnded { member: member(1), first: out.first, generation: out.generation };
    assert_eq!(bench.outputs, [ended, acked(1)]);
    let stats = bench.stats();
    assert_eq!((stats.acked_upto, stats.acked_records, stats.acked_chunks), (100, 100, 1));
    assert_eq!((stats.open_chunks, stats.in_flight_chunks), (0, 0));
}

#[test]
fn what_is_settled_already_is_no_error() {
    let (mut bench, out) = leased();
    bench.ack_part(&out, 10, 20).unwrap();
    bench.outputs.clear();
    for (first, last) in [(10, 20), (15, 15), (5, 30)] {
        bench.ack_part(&out, first, last).unwrap();
        assert_eq!(bench.outputs.pop_back(), Some(acked(first)));
    }
    assert_eq!(bench.stats().acked_records, 26);
    bench.nack_part(&out, 12, 13).unwrap();
    assert_eq!((bench.stats().open_chunks, bench.stats().nacked), (1, 0));
    bench.ack(&out).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_records, bench.stats().acked_upto), (100, 100));
}

#[test]
fn an_ack_again_is_answered_no_sooner_than_the_first() {
    let (mut bench, out) = leased();
    for request in [7, 8] {
        let claim = part(&out, 10, 20);
        bench.groups.ack(bench.now, out.member, claim, CorrelationId(request)).unwrap();
    }
    bench.take_outputs();
    assert!(bench.outputs.is_empty());
    bench.flush();
    assert_eq!(bench.outputs, [acked(7), acked(8)]);
}

#[test]
fn settled_parts_are_remembered_by_the_next_lease_and_over_a_restart() {
    let (mut bench, out) = leased();
    bench.ack_part(&out, 20, 29).unwrap();
    bench.ack_part(&out, 90, 99).unwrap();
    bench.pass(1_000);
    let settled = offsets(&[(20, 29), (90, 99)]);
    let again = bench.rest();
    assert_eq!((again.first, again.last, again.attempt), (out.first, out.last, 2));
    assert_eq!(again.settled, settled);
    bench.restart();
    bench.join(2, &options());
    let third = bench.hand_outs().remove(0);
    assert_eq!((third.first, third.last, &third.settled), (out.first, out.last, &settled));
    bench.ack_part(&third, 0, 89).unwrap();
    assert_eq!(bench.stats().acked_upto, 100);
}

#[test]
fn a_part_whose_ack_was_not_durable_is_open_after_a_restart() {
    let (mut bench, out) = leased();
    bench.groups.ack(bench.now, out.member, part(&out, 20, 29), CorrelationId(1)).unwrap();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.hand_outs()[0].settled, []);
}

#[test]
fn a_part_that_failed_is_a_chunk_of_its_own() {
    let (mut bench, out) = leased();
    bench.ack_part(&out, 44, 44).unwrap();
    bench.nack_part(&out, 40, 49).unwrap();
    assert_eq!((bench.stats().in_flight_chunks, bench.stats().open_chunks), (1, 2));
    // The rest of the lease goes on.
    bench.ack_part(&out, 0, 39).unwrap();
    bench.groups.extend(bench.now, out.member, part(&out, 60, 60), 5_000).unwrap();
    assert_eq!(bench.stats().acked_upto, 40);
    bench.outputs.clear();

    let failed = bench.rest();
    assert_eq!((failed.first, failed.last, failed.attempt), (Offset(40), Offset(49), 2));
    assert_eq!(failed.settled, offsets(&[(44, 44)]));
    // Neither holder can settle what is the other's.
    bench.ack(&out).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().acked_records), (40, 91));
    assert_eq!(bench.ack_part(&failed, 39, 40), Err(ErrorCode::INVALID_REQUEST));
    bench.ack(&failed).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().acked_records), (100, 100));
}

#[test]
fn a_part_is_handed_out_again_only_once_it_is_durable() {
    let (mut bench, out) = leased();
    bench.groups.nack(bench.now, out.member, part(&out, 0, 9), 0, "").unwrap();
    bench.now.mono_us += 900_000;
    bench.groups.handle_timeout(bench.now);
    bench.take_outputs();
    assert_eq!(bench.bounds(), []);
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 9)]);
}

#[test]
fn a_part_keeps_its_bounds_and_attempts_over_restarts() {
    let (mut bench, out) = leased();
    bench.nack_part(&out, 0, 9).unwrap();
    let first = bench.rest();
    bench.nack_part(&first, 4, 5).unwrap();
    bench.restart();
    bench.join(2, &GroupOptions { chunks_in_flight: 9, ..options() });
    let outs = bench.hand_outs();
    let seen: Vec<_> = outs.iter().map(|o| (o.first.0, o.last.0, o.attempt)).collect();
    assert_eq!(seen, [(0, 9, 2), (0, 99, 1), (4, 5, 3)]);
    assert_eq!(outs[0].settled, offsets(&[(4, 5)]));
    assert_eq!(outs[1].settled, offsets(&[(0, 9)]));
}

#[test]
fn all_that_is_left_of_a_chunk_fails_as_the_chunk() {
    let (mut bench, out) = leased();
    bench.ack_part(&out, 0, 49).unwrap();
    bench.nack_part(&out, 50, 99).unwrap();
    let again = bench.rest();
    assert_eq!((again.first, again.last, again.attempt), (out.first, out.last, 2));
    assert_eq!(bench.stats().open_chunks, 1);
}

#[test]
fn a_stalled_member_that_wakes_settles_nothing() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack_part(&out, 0, 9).unwrap();
    bench.join(2, &options());
    bench.pass(1_000);
    let next = bench.rest();
    bench.outputs.clear();
    for old in [out.clone(), HandOut { member: next.member, ..out.clone() }] {
        assert_eq!(bench.ack(&old), Err(ErrorCode::LEASE_LOST));
        assert_eq!(bench.ack_part(&old, 50, 50), Err(ErrorCode::LEASE_LOST));
        assert_eq!(bench.ack_part(&old, 0, 0), Err(ErrorCode::LEASE_LOST), "settled before");
        assert_eq!(bench.nack_part(&old, 50, 50), Err(ErrorCode::LEASE_LOST));
        assert_eq!(bench.terminate(&old, &[(50, 50)]), Err(ErrorCode::LEASE_LOST));
        let extend = bench.groups.extend(bench.now, old.member, part(&old, 0, 99), 1_000);
        assert_eq!(extend, Err(ErrorCode::LEASE_LOST));
    }
    assert!(bench.outputs.is_empty());
    bench.ack(&next).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_records, bench.stats().acked_upto), (100, 100));
}

#[test]
fn parts_settled_apart_are_bounded_and_closing_holes_helps() {
    let max = lanecast_wire::limits::CHUNK_RANGES_MAX as u64;
    let large = GroupOptions { chunk_records: 3 * max as u32, chunk_bytes: 1 << 20, ..options() };
    let mut bench = Bench::with_member(&large);
    bench.append(&[3 * max]);
    let out = bench.hand_outs().remove(0);
    for n in 0..max {
        bench.ack_part(&out, 2 * n, 2 * n).unwrap();
    }
    assert_eq!(bench.ack_part(&out, 2 * max + 1, 2 * max + 1), Err(ErrorCode::OVERLOADED));
    assert_eq!(bench.nack_part(&out, 2 * max + 1, 2 * max + 1), Err(ErrorCode::OVERLOADED));
    bench.ack_part(&out, 1, 1).unwrap();
    bench.ack_part(&out, 2 * max + 1, 2 * max + 1).unwrap();
    bench.restart();
    bench.join(2, &large);
    let again = bench.hand_outs().remove(0);
    assert_eq!(again.settled.len() as u64, max);
    bench.ack(&again).unwrap();
    bench.flush();
    assert_eq!(bench.stats().acked_upto, 3 * max);
}

#[test]
fn a_group_remembers_a_bounded_number_of_ranges() {
    let wide = GroupOptions { chunks_in_flight: 9, chunk_records: 8_000, ..options() };
    let mut bench = Bench::with_member(&GroupOptions { chunk_bytes: 1 << 20, ..wide });
    bench.append(&[8_000; 6]);
    let outs = bench.hand_outs();
    let mut taken = 0;
    let refused =
        outs.iter().flat_map(|out| (0..3_999).map(move |n| (out, 2 * n))).find_map(|(out, at)| {
            taken += 1;
            bench.ack_part(out, out.first.0 + at, out.first.0 + at).err()
        });
    assert_eq!(refused, Some(ErrorCode::OVERLOADED));
    assert_eq!(taken, limits::RANGES_OPEN_MAX + 1);
    bench.ack(&outs[0]).unwrap();
    bench.ack_part(&outs[5], outs[5].first.0, outs[5].first.0).unwrap();
}
