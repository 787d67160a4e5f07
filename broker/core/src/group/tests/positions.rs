//! Groups that are moved and deleted.

use super::*;
use crate::group::consumer_group::EPOCH_MAX;

fn asker() -> Asker {
    Asker {
        shard: ShardId(0),
        request: RequestId { connection: ConnectionId(9), correlation: CorrelationId(77) },
    }
}

/// Chunks 0-99 acked, 100-199 failed in part, 200-299 ready; no members.
fn idle() -> Bench {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100]);
    let outs = bench.hand_outs();
    bench.ack(&outs[0]).unwrap();
    bench.nack_part(&outs[1], 150, 159).unwrap();
    assert_eq!(bench.groups.move_to("g", Offset(0), asker()), Err(ErrorCode::GROUP_ACTIVE));
    assert_eq!(bench.groups.delete("g", asker()), Err(ErrorCode::GROUP_ACTIVE));
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.flush();
    bench.outputs.clear();
    bench
}

#[test]
fn a_moved_group_goes_on_there_in_a_new_epoch() {
    for to in [0, 200, 300] {
        let mut bench = idle();
        let epoch = bench.groups.groups[&bench.group].ledger().epoch;
        bench.groups.move_to("g", Offset(to), asker()).unwrap();
        bench.take_outputs();
        assert!(bench.outputs.is_empty(), "not durable yet");
        bench.flush();
        let Some(Output::Answered { asker: to_whom, moved: Some(stats) }) =
            bench.outputs.pop_front()
        else {
            panic!("no answer: {:?}", bench.outputs)
        };
        assert_eq!((to_whom, stats.acked_upto, stats.lag_records), (asker(), to, 300 - to));
        for again in [false, true] {
            if again {
                bench.restart();
            }
            assert_eq!((bench.stats().acked_upto, bench.stats().open_chunks), (to, 0));
            assert!(bench.groups.groups[&bench.group].ledger().epoch > epoch);
        }
        bench.join(2, &options());
        assert_eq!(bench.groups.wants(bench.group), Some(Offset(to)));
    }
}

#[test]
fn a_move_that_is_not_durable_is_forgotten_by_a_restart() {
    let mut bench = idle();
    bench.groups.move_to("g", Offset(0), asker()).unwrap();
    bench.restart();
    assert_eq!((bench.stats().acked_upto, bench.stats().open_chunks), (100, 3));
}

#[test]
fn nobody_joins_before_a_move_is_durable() {
    let mut bench = idle();
    bench.groups.move_to("g", Offset(0), asker()).unwrap();
    bench.groups.join(bench.now, bench.group, member(2), &options()).unwrap();
    bench.take_outputs();
    assert!(bench.outputs.is_empty());
    assert_eq!(bench.groups.wants(bench.group), None);
    bench.flush();
    assert!(bench.outputs.contains(&Output::Joined { member: member(2), next: Offset(0) }));
}

#[test]
fn a_dead_letter_under_way_survives_a_move() {
    let mut bench = Bench::of_member(mortal(), &options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.terminate(&out, &[(5, 5)]).unwrap();
    let letter = bench.letter();
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.groups.move_to("g", Offset(0), asker()).unwrap();
    bench.flush();
    bench.restart();
    assert_eq!(bench.letter(), letter);
    bench.bury(&letter);
    // What was moved back to is delivered again, the dead record too.
    assert_eq!((bench.stats().lag_records, bench.stats().dead_lettered_records), (100, 1));
}

#[test]
fn a_deleted_group_is_gone_for_good() {
    let mut bench = idle();
    assert_eq!(bench.groups.delete("h", asker()), Err(ErrorCode::UNKNOWN_GROUP));
    bench.groups.delete("g", asker()).unwrap();
    assert_eq!(bench.groups.find("g"), None);
    bench.take_outputs();
    assert!(bench.outputs.is_empty(), "not durable yet");
    bench.flush();
    assert_eq!(bench.outputs.pop_back(), Some(Output::Answered { asker: asker(), moved: None }));
    assert_eq!(bench.groups.stats(), []);
    bench.restart();
    assert_eq!(bench.groups.stats(), []);
}

#[test]
fn a_group_that_is_made_anew_has_other_generations() {
    for restart in [false, true] {
        let mut bench = Bench::with_member(&options());
        bench.append(&[100]);
        let old = bench.hand_outs().remove(0);
        bench.groups.leave(bench.now, member(1), Departure::InOrder);
        bench.groups.delete("g", asker()).unwrap();
        bench.flush();
        if restart {
            // What is left of the group is that its generations are used up.
            bench.log = bench.groups.snapshot();
            bench.restart();
        }
        bench.group = bench.groups.create(bench.now, "g", Offset(0)).unwrap();
        bench.join(1, &options());
        let batch = BatchBounds { first: Offset(0), last: Offset(99), bytes: 1, appended_ms: 0 };
        bench.groups.offer(bench.now, bench.group, batch);
        bench.flush();
        let new = bench.hand_outs().remove(0);
        assert_eq!((new.first, new.last), (old.first, old.last));
        assert!(new.generation > old.generation);
        assert_eq!(bench.ack(&old), Err(ErrorCode::LEASE_LOST));
    }
}

#[test]
fn given_up_groups_name_who_asked_for_a_change() {
    let mut bench = idle();
    bench.groups.move_to("g", Offset(0), asker()).unwrap();
    bench.groups.create(bench.now, "h", Offset(0)).unwrap();
    bench.groups.delete("h", asker()).unwrap();
    assert_eq!(bench.groups.into_unanswered().askers, [asker(), asker()]);
}

#[test]
fn moves_and_new_groups_end_before_restarts_have_no_epochs_left() {
    let mut bench = idle();
    let last = EPOCH_MAX - limits::EPOCHS_FOR_RESTARTS;
    bench.groups.groups.get_mut(&bench.group).unwrap().ledger_mut().epoch = last - 1;
    bench.groups.move_to("g", Offset(0), asker()).unwrap();
    bench.flush();
    let refused = Err(ErrorCode::INVALID_REQUEST);
    assert_eq!(bench.groups.move_to("g", Offset(0), asker()), refused);
    // It can be read, and deleted; a group in its place would go on from its epoch.
    bench.restart();
    bench.groups.delete("g", asker()).unwrap();
    bench.flush();
    let made = bench.groups.create(bench.now, "h", Offset(0));
    assert_eq!(made, Err(ErrorCode::INVALID_REQUEST));
    bench.restart();
}
