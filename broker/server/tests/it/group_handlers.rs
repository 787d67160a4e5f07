//! Handlers as members of a consumer group of a real broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lanecast_client::{
    Client, GroupInfo, HandlerError, ReceivedMessage, StartPosition, Subscription,
};

use crate::handlers::{Seen, broker, group, publish_all};

/// The group's counters, over all partitions.
async fn sum(client: &Client, of: impl Fn(&GroupInfo) -> u64) -> u64 {
    let groups = client.groups("telemetry", None).await.unwrap();
    groups.iter().map(|found| of(&found.group)).sum()
}

async fn share(client: &Client, seen: &Seen) -> Subscription {
    let seen = seen.clone();
    let handler = move |message: ReceivedMessage| {
        seen.add(&message);
        async { Ok(()) }
    };
    client.subscribe(group("telemetry"), handler).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_what_is_published_and_a_closing_client_leaves_nothing() {
    let (_dir, _broker, client) = broker(&["telemetry"], 4).await;
    let seen = Seen::default();
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(share(&client, &seen).await);
    }
    publish_all(&client, "telemetry", 10, 100).await;
    let stats = client.close().await.unwrap();
    assert_eq!((stats.published, stats.delivered), (1_000, 1_000));
    assert_eq!((stats.handler_errors, stats.redelivered, stats.queue_depth), (0, 0, 0));
    seen.check(10, 100);
    let acked: u64 = members.iter().map(|member| member.stats().acked).sum();
    assert_eq!(acked, 1_000);
    assert_eq!(sum(&client, |group| group.lag_records).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_failed_or_panicked_comes_again_until_it_is_handled() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    publish_all(&client, "telemetry", 3, 100).await;
    let (failures, done) = (Arc::new(AtomicU64::new(0)), Seen::default());
    let handler = {
        let (failures, done) = (Arc::clone(&failures), done.clone());
        move |message: ReceivedMessage| {
            let (failures, done) = (Arc::clone(&failures), done.clone());
            async move {
                let number = message.offset().0;
                let fails =
                    number.is_multiple_of(5) && message.attempt() <= 1 + (number % 2) as u32;
                if fails {
                    failures.fetch_add(1, Ordering::Relaxed);
                    assert!(!number.is_multiple_of(3), "a scripted panic");
                    return Err(HandlerError::retry("scripted"));
                }
                assert!(number.is_multiple_of(5) || message.attempt() == 1, "it had not failed");
                done.add(&message);
                Ok(())
            }
        }
    };
    let subscription = client.subscribe(group("telemetry"), handler).await.unwrap();
    let stats = subscription.drain().await.unwrap();
    done.check(3, 100);
    let failures = failures.load(Ordering::Relaxed);
    assert_eq!((stats.delivered, stats.acked, stats.lost), (300, 300, 0));
    assert_eq!((stats.errors, stats.nacked, stats.redelivered), (failures, failures, failures));
    assert!(stats.panics > 0 && stats.panics < stats.errors, "{stats:?}");
    assert_eq!(sum(&client, |group| group.lag_records).await, 0);
    assert_eq!(sum(&client, |group| group.dead_lettered_records).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_moved_back_gets_everything_again() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    publish_all(&client, "telemetry", 1, 60).await;
    for _ in 0..2 {
        let seen = Seen::default();
        let subscription = share(&client, &seen).await;
        assert_eq!(subscription.drain().await.unwrap().delivered, 60);
        seen.check(1, 60);
        let moved = client.move_group("telemetry", None, "workers", StartPosition::Earliest).await;
        assert!(moved.unwrap().iter().all(|found| found.group.acked_upto == 0));
    }
    client.delete_group("telemetry", None, "workers").await.unwrap();
    assert_eq!(client.groups("telemetry", None).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_delivers_or_dead_letters_everything_that_was_published() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    let handler = |message: ReceivedMessage| async move {
        match message.offset().0 % 10 {
            7 => Err(HandlerError::retry("never works")),
            9 => panic!("scripted, every time"),
            _ => Ok(()),
        }
    };
    let _subscription = client.subscribe(group("telemetry"), handler).await.unwrap();
    publish_all(&client, "telemetry", 2, 100).await;
    let stats = client.close().await.unwrap();
    let dead = sum(&client, |group| group.dead_lettered_records).await;
    assert_eq!((stats.published, stats.delivered), (200, 200 - dead));
    assert!(stats.panics > 0 && stats.panics < stats.handler_errors, "{stats:?}");
    assert_eq!(stats.handler_errors, 3 * dead, "three attempts each");
    assert_eq!(sum(&client, |group| group.lag_records).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_terminated_or_fails_too_often_is_dead_lettered_and_nothing_else() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    publish_all(&client, "telemetry", 2, 50).await;
    let handler = |message: ReceivedMessage| async move {
        match message.offset().0 {
            3 => Err(HandlerError::terminate("never")),
            7 => Err(HandlerError::retry("not now")),
            _ => Ok(()),
        }
    };
    let subscription = client.subscribe(group("telemetry"), handler).await.unwrap();
    let stats = subscription.drain().await.unwrap();
    // Both partitions may have these offsets, or one of them.
    let partitions = stats.terminated;
    assert!((1..=2).contains(&partitions), "{stats:?}");
    assert_eq!((stats.delivered, stats.errors), (100 - 2 * partitions, 4 * partitions));
    assert_eq!((stats.nacked, stats.redelivered), (3 * partitions, 2 * partitions));
    assert_eq!(sum(&client, |group| group.dead_lettered_records).await, 2 * partitions);
    let dead = client.offsets("telemetry.dlq").await.unwrap();
    assert_eq!(dead.iter().map(|log| log.high_watermark).sum::<u64>(), 2 * partitions);
}
