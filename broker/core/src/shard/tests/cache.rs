//! What of the newest records stays in memory.

use super::*;
use crate::limits::{CACHE_PASSED_PART, CREDIT_BYTES_DEFAULT, PARTITION_CACHE_BYTES_MIN};

const CACHE: u64 = 32 * PARTITION_CACHE_BYTES_MIN;
const BODY: usize = 12_000;

/// A topic on disk, with one partition.
fn world() -> (World, Peer, TopicId) {
    let mut world = World::with(TestDisk::default(), 1, |config| config.cache_bytes = CACHE);
    let producer = world.connect(0);
    let topic = world.create_topic(producer, "t", 1);
    (world, producer, topic)
}

/// Batches `sequences`, and the bytes in memory afterwards.
fn write(
    world: &mut World,
    producer: Peer,
    topic: TopicId,
    sequences: std::ops::Range<u64>,
    every_ms: u64,
) -> u64 {
    for sequence in sequences {
        world.produced(producer, at(topic, 0), &batch(7, sequence, 1, BODY));
        world.pass_ms(every_ms);
    }
    world.budget().cached.bytes()
}

const BATCHES: u64 = 100;
const WRITTEN: u64 = BATCHES * BODY as u64;

#[test]
fn little_is_kept_of_what_comes_fast_and_nobody_waits_for() {
    let (mut world, producer, topic) = world();
    let kept = write(&mut world, producer, topic, 0..BATCHES, 0);
    assert!(kept > 0 && kept <= CACHE / CACHE_PASSED_PART, "{kept}");
    // It is read from disk then.
    let subscriber = world.connect(0);
    let got = subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast);
    let mut found = delivered(&got).len();
    while found < BATCHES as usize {
        let got = world.take(subscriber);
        assert!(!got.is_empty(), "{found}");
        found += delivered(&got).len();
        world.credit(subscriber, 1024 * 1024);
    }
}

#[test]
fn what_comes_slowly_stays_for_those_who_come_back() {
    let (mut world, producer, topic) = world();
    let kept = write(&mut world, producer, topic, 0..BATCHES, 100);
    assert!(kept > WRITTEN, "{kept}");
}

#[test]
fn what_a_subscriber_has_not_passed_stays() {
    let (mut world, producer, topic) = world();
    let subscriber = world.connect(0);
    subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast);
    // More than its credit is for.
    let all = u64::from(CREDIT_BYTES_DEFAULT) / BODY as u64 + BATCHES;
    let kept = write(&mut world, producer, topic, 0..all, 0);
    let sent = delivered(&world.take(subscriber)).len() as u64;
    assert!(sent < all, "{sent} of {all} were sent");
    let waiting = (all - sent) * BODY as u64;
    assert!(kept > waiting, "{kept} of {waiting} bytes that it waits for");
    world.credit(subscriber, 64 * 1024 * 1024);
    assert_eq!(delivered(&world.take(subscriber)).len() as u64, all - sent);
    let kept = write(&mut world, producer, topic, all..all + 1, 0);
    assert!(kept <= CACHE / CACHE_PASSED_PART, "{kept} is kept for nobody");
}

#[test]
fn what_a_group_has_not_acknowledged_stays_as_long_as_it_has_a_member() {
    let (mut world, producer, topic) = world();
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    subscribe_earliest(&mut world, member, topic, mode);
    let kept = write(&mut world, producer, topic, 0..BATCHES, 0);
    assert!(kept > WRITTEN, "{kept}");
    world.disconnect(member);
    let kept = write(&mut world, producer, topic, BATCHES..BATCHES + 1, 0);
    assert!(kept <= CACHE / CACHE_PASSED_PART, "{kept} is kept for nobody");
}
