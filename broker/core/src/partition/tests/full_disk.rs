//! Consumer groups on a full disk.

use lanecast_wire::message::GroupOptions;

use super::*;

#[test]
fn groups_go_on_while_the_disk_is_full() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.take(member);
    let no_room = |request: &DiskRequest| {
        matches!(request, DiskRequest::PrepareSegment { log: LogId::Groups(_), recycle: None, .. })
    };
    world.fails = Some((no_room, DiskErrorKind::NoSpace));
    for sequence in 0..100 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
        world.pass_ms(1_000);
        let lease = leases(&world.take(member))[0];
        world.send(member, 11, ack(lease), b"");
        assert!(matches!(world.next(member).message, BrokerMessage::Done(_)), "{sequence}");
    }
}

#[test]
fn what_waits_for_a_groups_log_on_a_full_disk_is_refused() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let member = world.connect(0);
    let join = |name| {
        let options = GroupOptions { chunks_in_flight: 64, ..group(name, "m") };
        subscribe(topic, SubscribeMode::Group(options), StartPosition::Earliest)
    };
    world.send(member, 9, join("g"), b"");
    for sequence in 0..64 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
    }
    let held = leases(&world.take(member));
    assert_eq!(held.len(), 64);
    let no_room = |request: &DiskRequest| {
        matches!(request, DiskRequest::PrepareSegment { log: LogId::Groups(_), .. })
    };
    world.fails = Some((no_room, DiskErrorKind::NoSpace));
    let mut last = 0;
    let mut refusals = 0;
    for lease in held {
        world.send(member, 11, ack(lease), b"");
        let answer = world.next(member);
        if matches!(answer.message, BrokerMessage::Done(_)) {
            last += 1;
        } else {
            assert_eq!(refusal(&answer), ErrorCode::NO_SPACE);
            refusals += 1;
        }
    }
    assert!(last > 5 && refusals > 5, "{last} {refusals}");
    let partition = &world.stats(0).partitions[0];
    assert_eq!(partition.state, PartitionState::Online);
    assert_eq!(partition.detail, "the test says so");
    let other = world.connect(0);
    world.send(other, 9, join("h"), b"");
    assert_eq!(refusal(&world.next(other)), ErrorCode::NO_SPACE);
    // There is space again: nothing that was refused is lost, nothing comes twice.
    world.fails = None;
    world.pass_ms(2_000);
    let partition = &world.stats(0).partitions[0];
    assert!(partition.groups[0].acked_upto >= 10 * last, "{:?}", partition.groups);
    assert!(!partition.detail.contains("the test says so"));
    world.send(other, 9, join("h"), b"");
    assert_eq!(next_offset(&world.take(other)[0]), 0);
}
