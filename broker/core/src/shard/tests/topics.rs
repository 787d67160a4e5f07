//! Topics that are changed and deleted while they are in use.

use lanecast_wire::message::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopic, ListTopics, MoveGroup, OnFull, TopicInfo,
    TopicSettings, Unsubscribe,
};

use super::*;
use crate::LogId;
use crate::log::DamageKind;

fn alter(name: &str) -> AlterTopic {
    AlterTopic { name: name.into(), ..AlterTopic::default() }
}

fn delete(name: &str) -> ClientMessage {
    ClientMessage::DeleteTopic(DeleteTopic { name: name.into() })
}

fn topics(world: &mut World, peer: Peer, message: ClientMessage) -> Vec<TopicInfo> {
    world.send(peer, 5, message, b"");
    match world.next(peer).message {
        BrokerMessage::Topics(reply) => reply.topics,
        other => panic!("{other:?}"),
    }
}

fn described(world: &mut World, peer: Peer, name: &str) -> TopicInfo {
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: name.into() });
    topics(world, peer, describe).remove(0)
}

fn refused(world: &mut World, peer: Peer, message: ClientMessage) -> ErrorCode {
    world.send(peer, 6, message, b"");
    refusal(&world.next(peer))
}

fn files_of(world: &World, topic: TopicId) -> usize {
    let of = |log: &&LogId| match log {
        LogId::Data(id) | LogId::Groups(id) => id.topic == topic,
        LogId::Catalog => false,
    };
    world.disk.logs.keys().filter(of).count()
}

#[test]
fn changed_settings_count_on_all_shards_and_after_a_restart() {
    let mut world = World::new(3);
    let peer = world.connect(1);
    let topic = world.create_topic(peer, "t", 3);
    let changes = AlterTopic {
        retention_bytes: Some(5),
        max_attempts: Some(9),
        on_full: Some(OnFull::DropNew),
        ..alter("t")
    };
    let expected = TopicSettings {
        retention_bytes: 5,
        max_attempts: 9,
        on_full: OnFull::DropNew,
        ..TopicSettings::default()
    };
    let answer = topics(&mut world, peer, ClientMessage::AlterTopic(changes));
    assert_eq!((answer[0].topic, &answer[0].settings), (topic.0, &expected));
    // A second change keeps what the first one said.
    let more = AlterTopic { record_ttl_ms: Some(7), ..alter("t") };
    let expected = TopicSettings { record_ttl_ms: 7, ..expected };
    topics(&mut world, peer, ClientMessage::AlterTopic(more));
    for shard in 0..3 {
        let peer = world.connect(shard);
        assert_eq!(described(&mut world, peer, "t").settings, expected, "shard {shard}");
    }
    let mut world = World::on(world.disk, 2);
    let peer = world.connect(1);
    assert_eq!(described(&mut world, peer, "t").settings, expected);
    let unknown = ClientMessage::AlterTopic(alter("u"));
    assert_eq!(refused(&mut world, peer, unknown), ErrorCode::UNKNOWN_TOPIC);
}

#[test]
fn change_is_answered_when_it_is_durable_and_applied_and_not_before() {
    let mut world = World::new(2);
    let peer = world.connect(1);
    world.create_topic(peer, "t", 1);
    world.disk_runs = false;
    let changes = AlterTopic { retention_ms: Some(1), ..alter("t") };
    world.send(peer, 5, ClientMessage::AlterTopic(changes.clone()), b"");
    assert_eq!(world.take(peer), []);
    assert_eq!(described(&mut world, peer, "t").settings.retention_ms, 0);
    let second = ClientMessage::AlterTopic(changes);
    assert_eq!(refused(&mut world, peer, second), ErrorCode::OVERLOADED, "one at a time");
    world.disk_runs = true;
    world.settle();
    assert!(matches!(world.next(peer).message, BrokerMessage::Topics(_)));
    assert_eq!(described(&mut world, peer, "t").settings.retention_ms, 1);
}

#[test]
fn topic_record_that_does_not_read_stops_changes_and_is_told() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.produced(peer, at(topic, 0), &batch(7, 0, 10, 100));
    // The version that follows.
    world.disk.append_record(LogId::Catalog, &[4, 1, 1, 0, 9, 0, 0, 0]);
    let mut world = World::on(world.disk, 1);
    let told: Vec<_> = world.damages.iter().map(|(log, damage)| (*log, damage.kind)).collect();
    assert_eq!(told, [(LogId::Catalog, DamageKind::Unreadable)]);
    let peer = world.connect(0);
    world.produced(peer, at(topic, 0), &batch(7, 1, 10, 100));
    let create =
        CreateTopic { name: "u".into(), partitions: 1, settings: TopicSettings::default() };
    for change in
        [ClientMessage::CreateTopic(create), ClientMessage::AlterTopic(alter("t")), delete("t")]
    {
        assert_eq!(refused(&mut world, peer, change), ErrorCode::DATA_DAMAGED);
    }
}

#[test]
fn changes_that_a_full_disk_holds_up_are_refused_and_made_later() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let no_room = |request: &DiskRequest| {
        matches!(request, DiskRequest::PrepareSegment { log: LogId::Catalog, .. })
    };
    world.fails = Some((no_room, DiskErrorKind::NoSpace));
    let create = |number: u32| {
        let (name, settings) = (format!("t{number}"), settings(Durability::Memory));
        ClientMessage::CreateTopic(CreateTopic { name, partitions: 1, settings })
    };
    let mut made = 0;
    let answer = loop {
        world.send(peer, 5, create(made), b"");
        match world.next(peer) {
            Got { message: BrokerMessage::Topics(_), .. } => made += 1,
            other => break other,
        }
    };
    assert_eq!(refusal(&answer), ErrorCode::NO_SPACE);
    assert!(made > 10, "{made}");
    for change in [create(made), create(made + 1), delete("t0")] {
        assert_eq!(refused(&mut world, peer, change), ErrorCode::NO_SPACE);
    }
    world.fails = None;
    world.pass_ms(2_000);
    assert_eq!(described(&mut world, peer, &format!("t{made}")).partitions, 1);
    assert_eq!(topics(&mut world, peer, create(made)).len(), 1);
}

#[test]
fn retention_that_is_changed_takes_segments_at_once() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    for sequence in 0..80 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 4_000));
    }
    assert_eq!(world.stats(0).partitions[0].log_start, 0);
    let changes = AlterTopic { retention_bytes: Some(1), ..alter("t") };
    topics(&mut world, peer, ClientMessage::AlterTopic(changes));
    assert!(world.stats(0).partitions[0].log_start > 0);
    assert_eq!(world.stats(0).partitions[0].segments, 1);
}

#[test]
fn deleted_topic_is_unknown_to_everybody_and_its_files_and_number_are_gone() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let kept = world.create_topic(peer, "kept", 2);
    let topic = world.create_topic(peer, "t", 3);
    world.produced(peer, at(topic, 1), &batch(7, 0, 10, 100));
    let reader = world.connect(1);
    subscribe_earliest(&mut world, reader, topic, SubscribeMode::Broadcast);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    let other = world.connect(1);
    subscribe_earliest(&mut world, other, kept, SubscribeMode::Broadcast);

    world.send(peer, 5, delete("t"), b"");
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
    for peer in [reader, member] {
        let BrokerMessage::Ended(ended) = world.next(peer).message else { panic!() };
        assert_eq!((ended.subscription, ended.code), (1, ErrorCode::UNKNOWN_TOPIC.0));
        assert!(!world.is_closed(peer), "the connection goes on");
    }
    assert_eq!(world.take(other), []);
    assert_eq!(files_of(&world, topic), 0);
    for peer in [peer, reader] {
        world.send(peer, 8, produce(at(topic, 1)), &batch(7, 1, 10, 100));
        assert_eq!(refusal(&world.next(peer)), ErrorCode::UNKNOWN_TOPIC);
        assert_eq!(refused(&mut world, peer, delete("t")), ErrorCode::UNKNOWN_TOPIC);
        let all = topics(&mut world, peer, ClientMessage::ListTopics(ListTopics {}));
        assert_eq!(all.iter().map(|topic| topic.topic).collect::<Vec<_>>(), [kept.0]);
    }
    // The name is free, the number is not; also after a restart.
    let again = world.create_topic(peer, "t", 1);
    assert!(again.0 > topic.0);
    world.send(peer, 5, delete("t"), b"");
    world.take(peer);
    let mut world = World::on(world.disk, 3);
    let peer = world.connect(2);
    assert_eq!(world.create_topic(peer, "t", 2).0, again.0 + 1);
    assert_eq!(world.produced(peer, at(kept, 1), &batch(7, 0, 1, 10)), 0);
}

#[test]
fn deletion_that_a_crash_cut_off_is_finished_at_the_next_start() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 3);
    world.produced(peer, at(topic, 1), &batch(7, 0, 10, 100));
    world.disk_runs = false;
    world.send(peer, 5, delete("t"), b"");
    // Until the tombstone is durable the topic is there.
    assert_eq!(described(&mut world, peer, "t").topic, topic.0);
    let removal = |request: &DiskRequest| matches!(request, DiskRequest::RemoveLog { .. });
    while !world.pending.iter().any(|(_, _, request)| removal(request)) {
        world.complete(0);
        world.settle();
    }
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)), "before the files go");
    assert_eq!(files_of(&world, topic), 6);
    let mut world = World::on(world.disk, 3);
    assert_eq!(files_of(&world, topic), 0);
    let peer = world.connect(1);
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: "t".into() });
    assert_eq!(refused(&mut world, peer, describe), ErrorCode::UNKNOWN_TOPIC);
    // Once it is written down that nothing is left, nothing is looked for any more.
    let mut world = World::on_idle(world.disk, 2);
    for _ in 0..100 {
        assert!(!world.pending.iter().any(|(_, _, request)| removal(request)));
        if !world.pending.is_empty() {
            world.complete(0);
            world.settle();
        }
    }
}

#[test]
fn failed_removal_is_tried_again() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    world.fails =
        Some((|request| matches!(request, DiskRequest::RemoveLog { .. }), DiskErrorKind::Io));
    world.send(peer, 5, delete("t"), b"");
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
    assert_eq!(files_of(&world, topic), 4);
    world.fails = None;
    world.pass_ms(60_000);
    assert_eq!(files_of(&world, topic), 0);
}

#[test]
fn batches_under_way_to_a_deleted_topic_are_answered() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    world.disk_runs = false;
    for index in 0..2 {
        world.produce(peer, 10 + u64::from(index), at(topic, index), &batch(7, 0, 10, 100));
    }
    world.settle();
    world.send(peer, 5, delete("t"), b"");
    // The catalog's commit only: the batches' own stay where they are.
    let catalog =
        |request: &DiskRequest| matches!(request, DiskRequest::Commit { log: LogId::Catalog, .. });
    let commit = world.pending.iter().position(|(_, _, request)| catalog(request)).unwrap();
    world.complete(commit);
    world.settle();
    let mut answers: Vec<_> = world
        .take(peer)
        .iter()
        .map(|got| match &got.message {
            BrokerMessage::Refusal(refusal) => (got.correlation, refusal.code().0),
            BrokerMessage::Done(_) => (got.correlation, 0),
            other => panic!("{other:?}"),
        })
        .collect();
    answers.sort_unstable();
    let unknown = ErrorCode::UNKNOWN_TOPIC.0;
    assert_eq!(answers, [(5, 0), (10, unknown), (11, unknown)]);
    assert_eq!(files_of(&world, topic), 4, "a log in use is not removed");
    world.disk_runs = true;
    world.settle();
    assert_eq!(files_of(&world, topic), 0);
}

#[test]
fn catalog_keeps_to_its_last_segments_and_loses_nothing() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    world.create_topic(peer, "first", 1);
    let gone = world.create_topic(peer, "gone", 1);
    world.send(peer, 5, delete("gone"), b"");
    world.take(peer);
    // Each change is a commit of its own, of 4 KiB; a segment has 16.
    for n in 1..=100 {
        let changes = AlterTopic { retention_ms: Some(n), ..alter("first") };
        topics(&mut world, peer, ClientMessage::AlterTopic(changes));
    }
    let segments = world.disk.logs[&LogId::Catalog].len();
    assert!(segments <= 3, "{segments} segments");
    let mut world = World::on(world.disk, 2);
    let peer = world.connect(0);
    assert_eq!(described(&mut world, peer, "first").settings.retention_ms, 100);
    assert_eq!(world.create_topic(peer, "next", 1).0, gone.0 + 1);
}

#[test]
fn dead_letter_topic_of_a_dead_letter_topic_is_no_name() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    world.create_topic(peer, "t.dlq", 1);
    let long = "x".repeat(125);
    for bad in ["t.dlq.dlq", ".dlq", &long] {
        let create = CreateTopic { name: bad.into(), partitions: 1, ..create_of("") };
        let create = ClientMessage::CreateTopic(create);
        assert_eq!(refused(&mut world, peer, create), ErrorCode::INVALID_NAME, "{bad}");
    }
}

fn create_of(name: &str) -> CreateTopic {
    CreateTopic { name: name.into(), partitions: 0, settings: TopicSettings::default() }
}

#[test]
fn subscriptions_of_a_deleted_topic_make_room_for_others() {
    let mut world = World::with(TestDisk::default(), 2, |config| config.max_consumers = 2);
    let peer = world.connect(0);
    let readers = [world.connect(0), world.connect(1)];
    for _ in 0..3 {
        let topic = world.create_topic(peer, "t", 2);
        for reader in readers {
            subscribe_earliest(&mut world, reader, topic, SubscribeMode::Broadcast);
        }
        world.send(peer, 5, delete("t"), b"");
        world.take(peer);
        for reader in readers {
            world.take(reader);
        }
    }
    assert_eq!(world.stats(0).subscribers + world.stats(1).subscribers, 0);
}

#[test]
fn move_of_a_group_whose_topic_is_deleted_is_answered() {
    // The cache holds next to nothing, so that the place is looked up on the disk.
    let mut world = World::with(TestDisk::default(), 2, |config| config.cache_bytes = 0);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    for sequence in 0..200 {
        world.produced(peer, at(topic, 1), &batch(7, sequence, 10, 10_000));
    }
    world.take(member);
    world.send(member, 7, ClientMessage::Unsubscribe(Unsubscribe { subscription: 1 }), b"");
    world.take(member);
    world.disk_runs = false;
    let (topic, partition) = (topic.0, 1);
    let to = StartPosition::Offset(15);
    let moved = ClientMessage::MoveGroup(MoveGroup { topic, partition, group: "g".into(), to });
    world.send(peer, 40, moved, b"");
    assert_eq!(world.take(peer), [], "a read is under way");
    world.send(peer, 41, delete("t"), b"");
    while let Some(at) = world
        .pending
        .iter()
        .position(|it| matches!(it.2, DiskRequest::Commit { log: LogId::Catalog, .. }))
    {
        world.complete(at);
        world.settle();
    }
    let answer = world.take(peer).into_iter().find(|got| got.correlation == 40);
    assert_eq!(refusal(&answer.expect("the move is answered")), ErrorCode::UNKNOWN_TOPIC);
}
