#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

use lanecast_wire::limits::BATCH_BYTES_MAX;
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, Ping, StartPosition, Subscribe, SubscribeMode, Unsubscribe,
};
use lanecast_wire::{CorrelationId, ErrorCode, PartitionId, TopicId};

use crate::limits::{
    FRAME_US_MAX, HELLO_US_MAX, PEERS_US, RATE_BURST_US, SILENCE_US_MAX, STALL_US_MAX,
    STALL_US_MAX_PRESSED,
};
use crate::testing::{Peer, World, batch, group, produce, subscribe};
use crate::{Budget, Offence, Shares};

const SECOND_MS: u64 = 1000;

fn at(topic: TopicId) -> PartitionId {
    PartitionId { topic, index: 0 }
}

fn refused_with(world: &mut World, peer: Peer) -> ErrorCode {
    match world.next(peer).message {
        BrokerMessage::Refusal(refusal) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

/// Passes time in steps, as a shell that is never late.
fn pass_us(world: &mut World, us: u64) {
    let mut left_ms = us / 1000;
    while left_ms > 0 {
        let step_ms = left_ms.min(PEERS_US / 1000);
        world.pass_ms(step_ms);
        left_ms -= step_ms;
    }
}

#[test]
fn who_says_no_hello_is_refused_after_a_while() {
    let mut world = World::new(1);
    let silent = world.dial(0);
    let slow = world.dial(0);
    let polite = world.connect(0);
    world.receive(slow, b"L");
    pass_us(&mut world, HELLO_US_MAX - 1000);
    assert_eq!(world.expelled, []);
    pass_us(&mut world, PEERS_US);
    assert_eq!(world.expelled, [Offence::NoHello, Offence::NoHello]);
    assert_eq!(refused_with(&mut world, silent), ErrorCode::TIMED_OUT);
    assert!(world.is_closed(silent) && world.is_closed(slow) && !world.is_closed(polite));
    assert_eq!(world.stats(0).offences.of(Offence::NoHello), 2);
}

#[test]
fn a_frame_that_trickles_in_ends_in_time_or_not_at_all() {
    let mut world = World::new(1);
    let loris = world.connect(0);
    let honest = world.connect(0);
    let ping = ClientMessage::Ping(Ping {}).encode(CorrelationId(9), 0);
    for byte in &ping[..30] {
        world.receive(loris, &[*byte]);
        // Whole frames in between show that the connection lives, and that this one is no trickle.
        world.send(honest, 9, ClientMessage::Ping(Ping {}), b"");
        world.take(honest);
        world.receive(honest, &ping[..5]);
        world.pass_ms(SECOND_MS);
        world.receive(honest, &ping[5..]);
        world.take(honest);
    }
    world.pass_ms(SECOND_MS);
    assert_eq!(world.expelled, [Offence::HalfFrame]);
    assert_eq!(refused_with(&mut world, loris), ErrorCode::TIMED_OUT);
    assert!(!world.is_closed(honest));
}

#[test]
fn silence_is_broken_by_a_ping_or_by_the_broker() {
    let mut world = World::new(1);
    let gone = world.connect(0);
    let there = world.connect(0);
    pass_us(&mut world, SILENCE_US_MAX / 2);
    world.send(there, 9, ClientMessage::Ping(Ping {}), b"");
    world.take(there);
    pass_us(&mut world, SILENCE_US_MAX / 2 + PEERS_US);
    assert_eq!(world.expelled, [Offence::Silent]);
    assert!(world.is_closed(gone) && !world.is_closed(there));
}

#[test]
fn what_is_no_protocol_is_refused_at_once() {
    let mut world = World::new(1);
    let peer = world.dial(0);
    world.receive(peer, b"GET ");
    assert_eq!(world.expelled, [Offence::Protocol]);
    assert_eq!(refused_with(&mut world, peer), ErrorCode::BAD_FRAME);
}

#[test]
fn a_shard_that_was_held_up_does_not_blame_its_peers() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let ping = ClientMessage::Ping(Ping {}).encode(CorrelationId(9), 0);
    world.receive(peer, &ping[..5]);
    world.pass_ms(10 * FRAME_US_MAX / 1000);
    assert_eq!(world.expelled, []);
    // What had come long before is read now.
    world.receive(peer, &ping[5..]);
    pass_us(&mut world, FRAME_US_MAX);
    assert_eq!(world.expelled, []);
}

fn fill(world: &mut World, producer: Peer, topic: TopicId, batches: std::ops::Range<u64>) {
    for sequence in batches {
        world.produced(producer, at(topic), &batch(7, sequence, 1, 50_000));
    }
}

#[test]
fn who_does_not_read_is_cut_off_and_gives_its_leases_back() {
    let mut world = World::new(2);
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    let deaf = world.connect(1);
    let group = SubscribeMode::Group(group("g", "deaf"));
    world.send(deaf, 9, subscribe(topic, group.clone(), StartPosition::Earliest), b"");
    world.take(deaf);
    world.stop_reading(deaf);
    fill(&mut world, producer, topic, 0..4);
    assert!(!world.take(deaf).is_empty(), "chunks were sent to it");
    pass_us(&mut world, STALL_US_MAX - PEERS_US);
    assert_eq!(world.expelled, []);
    pass_us(&mut world, 2 * PEERS_US);
    assert_eq!(world.expelled, [Offence::NotReading]);
    let told = |got: &crate::testing::Got| matches!(got.message, BrokerMessage::Refusal(_));
    assert!(!world.take(deaf).iter().any(told), "behind what it does not read, it would be lost");
    let other = world.connect(1);
    world.send(other, 9, subscribe(topic, group, StartPosition::Earliest), b"");
    assert!(world.take(other).len() > 1, "its chunks go to another member");
}

/// So little memory that a few batches are too much.
fn scarce(world: &mut World, shards: u16, shares: Shares) {
    let budget = std::sync::Arc::new(Budget::of(shares));
    *world = World::with(std::mem::take(&mut world.disk), shards, move |config| {
        config.budget = budget.clone();
        config.cache_bytes = 0;
    });
}

const PLENTY: u64 = 1 << 30;
const SHARES: Shares = Shares {
    cache: PLENTY,
    reads_per_shard: PLENTY,
    outbound: PLENTY,
    undurable: PLENTY,
    received: PLENTY,
};

#[test]
fn half_frames_of_many_connections_stay_within_their_share() {
    let share = 2 * u64::from(BATCH_BYTES_MAX);
    let mut world = World::new(2);
    scarce(&mut world, 2, Shares { received: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 2);
    let mut frame = produce(at(topic)).encode(CorrelationId(9), BATCH_BYTES_MAX).to_vec();
    frame.resize(frame.len() + 300_000, 0);
    let lorises: Vec<Peer> = (0..40).map(|number| world.connect(number % 2)).collect();
    for (sequence, loris) in (0..).zip(&lorises) {
        world.receive(*loris, &frame);
        world.pass_ms(1);
        let used = world.budget().in_use().received;
        assert!(used <= share, "{used} bytes of half frames");
        world.produced(producer, at(topic), &batch(7, sequence, 1, 100));
    }
    let closed = lorises.iter().filter(|loris| world.is_closed(**loris)).count();
    assert!((30..40).contains(&closed), "{closed}");
    assert!(world.expelled.iter().all(|offence| *offence == Offence::ReceiveMemory));
    assert!(!world.is_closed(producer));
    for loris in lorises {
        if !world.is_closed(loris) {
            world.disconnect(loris);
        } else {
            assert_eq!(refused_with(&mut world, loris), ErrorCode::OVERLOADED);
        }
    }
    assert_eq!(world.budget().in_use().received, 0);
}

#[test]
fn what_deaf_subscribers_hold_stays_bounded_and_those_who_read_go_on() {
    let share = 1_000_000;
    let mut world = World::new(2);
    scarce(&mut world, 2, Shares { outbound: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    let all = |world: &mut World, peer: Peer| {
        world.send(peer, 9, subscribe(topic, SubscribeMode::Broadcast, StartPosition::Latest), b"");
        world.take(peer);
    };
    let reader = world.connect(1);
    all(&mut world, reader);
    let mut got = 0;
    let mut deaf = Vec::new();
    for round in 0..60 {
        let peer = world.connect(round as u16 % 2);
        all(&mut world, peer);
        world.stop_reading(peer);
        deaf.push(peer);
        fill(&mut world, producer, topic, round * 4..round * 4 + 4);
        world.pass_ms(200);
        for peer in &deaf {
            world.forget(*peer);
        }
        for delivered in world.take(reader) {
            if let BrokerMessage::Deliver(deliver) = delivered.message {
                got += deliver.last - deliver.first + 1;
                world.credit(reader, u32::try_from(delivered.payload.len()).unwrap());
            }
        }
        let held = world.budget().in_use().outbound;
        assert!(held <= 2 * share, "{held} bytes are held in round {round}");
    }
    assert_eq!(got, 240, "the reader missed nothing");
    assert!(!world.is_closed(reader));
    let closed = deaf.iter().filter(|peer| world.is_closed(**peer)).count();
    assert!(closed > 40, "{closed}");
    let pressed = [Offence::NotReading, Offence::OutboundMemory];
    assert!(world.expelled.iter().all(|offence| pressed.contains(offence)));
    pass_us(&mut world, STALL_US_MAX_PRESSED + STALL_US_MAX + PEERS_US);
    for peer in &deaf {
        assert!(world.is_closed(*peer));
    }
    assert_eq!(world.budget().in_use().outbound, 0);
}

#[test]
fn catch_up_reads_of_all_subscribers_stay_within_their_share() {
    // One read of a segment at a time, and its copy.
    let share = 2 * crate::testing::SEGMENT;
    let mut world = World::new(1);
    scarce(&mut world, 1, Shares { reads_per_shard: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    fill(&mut world, producer, topic, 0..40);
    let subscribers: Vec<Peer> = (0..20).map(|_| world.connect(0)).collect();
    for peer in &subscribers {
        let earliest = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
        world.send(*peer, 9, earliest, b"");
        assert!(world.budget().in_use().reads <= share);
    }
    // Whoever waits gets its turn when the shard looks again.
    pass_us(&mut world, PEERS_US);
    for peer in subscribers {
        let mut records = 0;
        for got in world.take(peer) {
            if let BrokerMessage::Deliver(deliver) = got.message {
                records += deliver.last - deliver.first + 1;
            }
        }
        assert_eq!(records, 40);
    }
    assert_eq!(world.budget().in_use().reads, 0);
}

#[test]
fn what_was_read_ahead_for_a_subscriber_without_credit_is_let_go_for_others() {
    let share = 2 * crate::testing::SEGMENT;
    let mut world = World::new(1);
    scarce(&mut world, 1, Shares { reads_per_shard: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    fill(&mut world, producer, topic, 0..40);
    let earliest = |credit_bytes| {
        let ClientMessage::Subscribe(subscribe) =
            subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest)
        else {
            unreachable!()
        };
        ClientMessage::Subscribe(Subscribe { credit_bytes, ..subscribe })
    };
    // They take one batch each and give no credit back; what is left is too little for another.
    for number in 0..20 {
        let waits = world.connect(0);
        world.send(waits, 9, earliest(60_000 + 100 * number), b"");
    }
    let reads = world.connect(0);
    world.send(reads, 9, earliest(0), b"");
    for _ in 0..100 {
        world.pass_ms(10);
    }
    let delivered = |got: &crate::testing::Got| match &got.message {
        BrokerMessage::Deliver(deliver) => deliver.last - deliver.first + 1,
        _ => 0,
    };
    let records: u64 = world.take(reads).iter().map(delivered).sum();
    assert_eq!(records, 40);
}

fn limited(bytes: u64, records: u64) -> World {
    World::with(crate::testing::TestDisk::default(), 1, |config| {
        config.client_bytes_per_second = bytes;
        config.client_records_per_second = records;
    })
}

/// Produces as long as the shard reads, and gives how many batches that were.
fn produce_while_read(world: &mut World, peer: Peer, topic: TopicId, next: &mut u64) -> u64 {
    let mut sent = 0;
    while world.is_read(peer) {
        world.produced(peer, at(topic), &batch(7, *next, 10, 10_000));
        *next += 1;
        sent += 1;
        assert!(sent < 1000, "the shard reads on and on");
    }
    sent
}

#[test]
fn a_client_that_sends_more_than_its_rate_is_read_no_faster_and_loses_nothing() {
    for (bytes, records) in [(200_000, 0), (0, 200)] {
        let mut world = limited(bytes, records);
        let first = world.connect(0);
        let topic = world.create_topic(first, "t", 1);
        let mut next = 0;
        let burst = produce_while_read(&mut world, first, topic, &mut next);
        assert!((18..=22).contains(&burst), "{burst} batches of 10 kB and 10 records at once");
        assert!(!world.is_read(first));
        // Another connection of the same client makes it no faster.
        let second = world.connect(0);
        world.send(second, 3, produce(at(topic)), &batch(8, 0, 10, 10_000));
        assert!(!world.is_read(second));
        let mut sent = 0;
        for _ in 0..10 * 100 {
            world.pass_ms(10);
            sent += produce_while_read(&mut world, first, topic, &mut next);
        }
        assert!((190..=202).contains(&sent), "{sent} batches in 10 s, at 20 a second");
        let stats = world.stats(0);
        assert_eq!(stats.clients.len(), 1);
        assert!(stats.clients[0].throttled_ms > 8_000 && stats.clients[0].connections == 2);
        assert_eq!(world.expelled, []);
    }
}

#[test]
fn deliveries_to_a_client_wait_for_its_rate() {
    let mut world = limited(1_000_000, 0);
    let producer = world.dial(0);
    world.hello(producer, "producer");
    let topic = world.create_topic(producer, "t", 1);
    for sequence in 0..100 {
        world.produced(producer, at(topic), &batch(7, sequence, 1, 50_000));
        world.pass_ms(60);
    }
    let reader = world.connect(0);
    let earliest = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(reader, 9, earliest, b"");
    let mut records = 0;
    let mut after_ms = 0;
    while records < 100 {
        for got in world.take(reader) {
            if let BrokerMessage::Deliver(deliver) = got.message {
                records += deliver.last - deliver.first + 1;
                let bytes = u32::try_from(got.payload.len()).unwrap();
                world.credit(reader, bytes);
            }
        }
        world.pass_ms(10);
        after_ms += 10;
        assert!(after_ms < 60_000, "{records} records came");
    }
    let least_ms = 5_000 - 2 * RATE_BURST_US / 1000;
    assert!((least_ms..7_000).contains(&after_ms), "5 MB at 1 MB/s took {after_ms} ms");
}

#[test]
fn a_client_that_owes_records_acks_and_pings_as_ever() {
    let mut world = limited(0, 100);
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    // Of the same name.
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "a"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.take(member);
    world.produced(producer, at(topic), &batch(7, 0, 10, 100));
    world.produced(producer, at(topic), &batch(7, 1, 10_000, 100));
    assert!(!world.is_read(producer), "100 s of debt");
    let got = world.take(member);
    let lease = got.iter().find_map(|got| match &got.message {
        BrokerMessage::Deliver(deliver) => deliver.lease,
        _ => None,
    });
    let lease = lease.expect("a chunk was handed out");
    let (first, last, generation) = (lease.chunk_first, lease.chunk_last, lease.generation);
    for correlation in 20..30 {
        world.send(member, correlation, ClientMessage::Ping(Ping {}), b"");
        assert!(world.is_read(member), "it sends no records");
        world.take(member);
    }
    let ack = Ack { subscription: 1, partition: 0, first, last, generation };
    world.send(member, 30, ClientMessage::Ack(ack), b"");
    assert!(world.take(member).iter().any(|got| matches!(got.message, BrokerMessage::Done(_))));
}

#[test]
fn a_wait_for_deliveries_is_no_wait_for_what_is_produced() {
    // What was delivered makes 10 s of debt, what is produced hardly any.
    let mut world = limited(100_000, 0);
    let producer = world.dial(0);
    world.hello(producer, "producer");
    let topic = world.create_topic(producer, "t", 1);
    for sequence in 0..22 {
        world.produced(producer, at(topic), &batch(7, sequence, 1, 50_000));
        world.pass_ms(600);
    }
    let both = world.connect(0);
    world.send(both, 9, subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest), b"");
    let delivered: usize = world.take(both).iter().map(|got| got.payload.len()).sum();
    for _ in 0..3 {
        world.credit(both, u32::try_from(delivered).unwrap());
        world.take(both);
    }
    world.send(both, 10, produce(at(topic)), &batch(8, 0, 1, 105_000));
    assert!(!world.is_read(both));
    world.pass_ms(200);
    assert!(world.is_read(both), "it owed for 50 ms");
}

#[test]
fn half_frames_of_one_shard_cost_no_peer_of_another() {
    let share = 4 * u64::from(BATCH_BYTES_MAX);
    let mut world = World::new(2);
    scarce(&mut world, 2, Shares { received: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 2);
    let mut frame = produce(at(topic)).encode(CorrelationId(9), BATCH_BYTES_MAX).to_vec();
    frame.resize(frame.len() + 300_000, 0);
    let honest = world.connect(1);
    let hogs: Vec<Peer> = (0..40).map(|_| world.connect(0)).collect();
    for hog in &hogs {
        let used = world.budget().in_use().received;
        if used + 300_000 > share {
            break;
        }
        world.receive(*hog, &frame);
    }
    let before = world.expelled.len();
    // One frame in two reads: with it, it is too much.
    world.receive(honest, &frame);
    assert!(!world.is_closed(honest));
    world.pass_ms(100);
    assert!(!world.is_closed(honest));
    assert!(world.expelled.len() > before, "a hog goes");
    assert!(world.budget().in_use().received <= share);
}

#[test]
fn who_reads_slowly_on_one_shard_pays_for_nobody_on_another() {
    let share = 1_000_000;
    let mut world = World::new(2);
    scarce(&mut world, 2, Shares { outbound: share, ..SHARES });
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    let all = |world: &mut World, peer: Peer| {
        world.send(peer, 9, subscribe(topic, SubscribeMode::Broadcast, StartPosition::Latest), b"");
        world.take(peer);
        world.stop_reading(peer);
    };
    // A little waits for the slow one, the longest of all.
    let slow = world.connect(1);
    all(&mut world, slow);
    fill(&mut world, producer, topic, 0..1);
    world.send(slow, 10, ClientMessage::Unsubscribe(Unsubscribe { subscription: 1 }), b"");
    let mut hogs = Vec::new();
    for round in 0..14 {
        let hog = world.connect(0);
        all(&mut world, hog);
        hogs.push(hog);
        fill(&mut world, producer, topic, 1 + 6 * round..7 + 6 * round);
        for hog in &hogs {
            world.forget(*hog);
        }
        world.pass_ms(100);
        if world.expelled.contains(&Offence::OutboundMemory) {
            break;
        }
    }
    assert!(world.expelled.contains(&Offence::OutboundMemory), "{:?}", world.expelled);
    assert!(!world.is_closed(slow));
}
