//! Handlers of messages and chunks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanecast_client::{
    Acknowledgement, ClientConfig, CloseError, GroupOptions, HandlerError, Message, Mode,
    OffsetRange, ProducerConfig, ReceivedMessage, StartPosition, SubscriberConfig,
    SubscriptionConfig,
};
use lanecast_wire::ErrorCode;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::broker::{Act, Broker, group_info};
use crate::connect;
use crate::subscriber::{append, append_foreign};

pub(crate) fn config(mode: Mode) -> SubscriptionConfig {
    let subscriber =
        SubscriberConfig { start: StartPosition::Earliest, ..SubscriberConfig::new("t", mode) };
    SubscriptionConfig { retry_delay: Duration::ZERO, ..subscriber.into() }
}

pub(crate) fn group() -> Mode {
    Mode::Group(GroupOptions::new("readers"))
}

fn number(message: &ReceivedMessage) -> u64 {
    u64::from_le_bytes(message.payload().try_into().unwrap())
}

/// How often each (partition, offset) was handled.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<(u32, u64), u32>>>);

impl Seen {
    fn add(&self, message: &ReceivedMessage) -> u32 {
        assert_eq!(number(message), message.offset().0);
        let mut seen = self.0.lock().unwrap();
        let times = seen.entry((message.partition(), message.offset().0)).or_default();
        *times += 1;
        *times
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn times(&self) -> Vec<u32> {
        self.0.lock().unwrap().values().copied().collect()
    }
}

#[tokio::test]
async fn every_message_of_a_broadcast_is_handled_once_and_failures_are_counted() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    for _ in 0..10 {
        append(&broker, 0, 3);
        append(&broker, 1, 2);
    }
    let (client, seen) = (connect(&broker).await, Seen::default());
    let mine = seen.clone();
    let subscription = client
        .subscribe(config(Mode::Broadcast), move |message| {
            let times = mine.add(&message);
            // Before the future is made, in it, and as an error: all the same to the others.
            assert!(message.offset().0 != 3, "a scripted panic");
            async move {
                assert!(message.offset().0 != 4, "another scripted panic");
                if message.offset().0 == 5 {
                    return Err(HandlerError::retry("scripted"));
                }
                assert_eq!(times, 1);
                Ok(())
            }
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!(seen.times(), [1; 50]);
    assert_eq!((stats.delivered, stats.errors, stats.panics), (44, 6, 4));
    assert_eq!((stats.depth, stats.redelivered, stats.acked, stats.nacked), (0, 0, 0, 0));
    assert!(!stats.is_active);
    assert_eq!(client.stats().active_subscribers, 0);
    assert_eq!((client.stats().delivered, client.stats().handler_errors), (44, 6));
    broker.until(|state| state.unsubscribes == 1).await;
}

#[tokio::test]
async fn exactly_the_messages_that_failed_come_again_to_a_group() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().redeliver = true;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 20);
    append(&broker, 0, 5);
    let (client, seen) = (connect(&broker).await, Seen::default());
    let mine = seen.clone();
    let subscription = client
        .subscribe(config(group()), move |message| {
            let times = mine.add(&message);
            async move {
                assert_eq!(message.attempt(), times);
                match (message.offset().0, times) {
                    (3 | 4 | 7, 1) => Err(HandlerError::retry("not yet")),
                    (9, 1) => panic!("scripted"),
                    _ => Ok(()),
                }
            }
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    let again = |offset: usize| if [3, 4, 7, 9].contains(&offset) { 2 } else { 1 };
    assert_eq!(seen.times(), (0..25).map(again).collect::<Vec<_>>());
    assert_eq!((stats.delivered, stats.errors, stats.panics, stats.redelivered), (25, 4, 1, 4));
    assert_eq!((stats.acked, stats.nacked, stats.lost, stats.depth), (25, 4, 0, 0));
    let mut nacked = broker.state().nacked.clone();
    nacked.sort_unstable();
    let reasons: Vec<_> = nacked.iter().map(|nack| (nack.1, nack.2, nack.3.as_str())).collect();
    let panicked = "handler panicked: scripted";
    assert_eq!(reasons, [(3, 4, "not yet"), (7, 7, "not yet"), (9, 9, panicked)]);
}

#[tokio::test]
async fn however_many_messages_fail_none_that_was_handled_comes_again() {
    for same_reason in [true, false] {
        let broker = Broker::start(1, |_| Act::Answer).await;
        broker.state().redeliver = true;
        broker.state().groups.insert(0, group_info("readers"));
        append(&broker, 0, 800);
        let (client, seen) = (connect(&broker).await, Seen::default());
        let mine = seen.clone();
        let subscription = client
            .subscribe(config(group()), move |message| {
                let times = mine.add(&message);
                async move {
                    let offset = message.offset().0;
                    match (offset % 2, times) {
                        (1, 1) if same_reason => Err(HandlerError::retry("not yet")),
                        (1, 1) => Err(HandlerError::retry(format!("not yet {offset}"))),
                        _ => Ok(()),
                    }
                }
            })
            .await
            .unwrap();
        let stats = subscription.drain().await.unwrap();
        assert_eq!(seen.times(), [1, 2].repeat(400));
        assert_eq!((stats.delivered, stats.errors, stats.redelivered), (800, 400, 400));
        assert_eq!((stats.acked, stats.nacked, stats.lost), (800, 400, 0));
        let nacked = broker.state().nacked.clone();
        let (first, last, reason) = (nacked[0].1, nacked[0].2, nacked[0].3.as_str());
        let all = if same_reason { "not yet" } else { "not yet 1 (and 399 other reasons)" };
        assert_eq!((nacked.len(), first, last, reason), (1, 1, 799, all));
    }
}

#[tokio::test]
async fn a_long_delay_is_shortened_to_what_a_broker_takes() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().redeliver = true;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 2);
    let client = connect(&broker).await;
    let handler = |message: ReceivedMessage| async move {
        match (message.offset().0, message.attempt()) {
            (1, 1) => Err(HandlerError::retry_after(Duration::from_secs(7_200), "later")),
            _ => Ok(()),
        }
    };
    let config = |retry_delay| SubscriptionConfig {
        retry_delay,
        drain_patience: Duration::from_secs(1),
        ..config(group())
    };
    let refused = client.subscribe(config(Duration::from_secs(7_200)), handler).await.err();
    assert!(refused.unwrap().to_string().contains("retry_delay"));
    let longest = config(Duration::from_secs(3_600));
    let stats = client.subscribe(longest, handler).await.unwrap().drain().await.unwrap();
    assert_eq!((stats.acked, stats.nacked, stats.lost), (2, 1, 0));
}

#[tokio::test]
async fn what_nobody_can_handle_is_terminated() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 4);
    append_foreign(&broker, 0, 3);
    append(&broker, 0, 1);
    let client = connect(&broker).await;
    let subscription = client
        .subscribe(config(group()), |message| async move {
            if message.offset().0 == 2 {
                return Err(HandlerError::terminate("never"));
            }
            Ok(())
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, stats.errors, stats.terminated, stats.acked), (4, 4, 4, 4));
    let mut terminated = broker.state().terminated.clone();
    terminated.sort_unstable();
    let ranges: Vec<_> = terminated.iter().map(|(_, first, last, _)| (*first, *last)).collect();
    assert_eq!(ranges, [(2, 2), (4, 6)]);
    assert!(terminated[1].3.contains("schema"), "{terminated:?}");
}

#[tokio::test]
async fn what_cannot_be_terminated_comes_again() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().groups.insert(0, group_info("readers"));
    broker.state().no_dead_letters = true;
    broker.state().redeliver = true;
    append(&broker, 0, 4);
    let client = connect(&broker).await;
    let handler = |message: ReceivedMessage| async move {
        if message.offset().0 == 2 && message.attempt() == 1 {
            return Err(HandlerError::terminate("never"));
        }
        Ok(())
    };
    let subscription = client.subscribe(config(group()), handler).await.unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, stats.nacked, stats.terminated, stats.lost), (4, 1, 0, 0));
    assert_eq!(broker.state().nacked, [(0, 2, 2, "never".to_owned())]);
}

#[tokio::test]
async fn damaged_records_are_counted_and_passed_by() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().groups.insert(0, group_info("readers"));
    broker.state().damaged.insert(4);
    append(&broker, 0, 4);
    append(&broker, 0, 3);
    append(&broker, 0, 1);
    let client = connect(&broker).await;
    for chunks in [false, true] {
        let subscription = if chunks {
            broker.state().acked.clear();
            broker.state().group_next.clear();
            client.subscribe_chunks(config(group()), |_| async { Ok(()) }).await.unwrap()
        } else {
            client.subscribe(config(group()), |_| async { Ok(()) }).await.unwrap()
        };
        let stats = subscription.drain().await.unwrap();
        assert_eq!((stats.delivered, stats.missed, stats.acked, stats.depth), (5, 3, 8, 0));
    }
}

#[tokio::test]
async fn json_that_is_none_is_terminated_and_the_rest_is_read() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().groups.insert(0, group_info("readers"));
    let client = connect(&broker).await;
    let publisher = client.publisher("t", ProducerConfig::default()).await.unwrap();
    let (outline, level) = (Message::new(b"k", b""), Acknowledgement::Acknowledged);
    let _one = publisher.publish_json(&outline, &7, level).await.unwrap();
    let _two = publisher.publish_json(&outline, "seven", level).await.unwrap();
    let _three = publisher.publish_json(&outline, &8, level).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let subscription = client
        .subscribe_json(config(group()), move |value: u32, message| {
            assert_eq!(message.header("content-type"), Some(&b"application/json"[..]));
            let sent = sender.send(value);
            async move { Ok(sent?) }
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, stats.terminated), (2, 1));
    let mut values = [received.recv().await.unwrap(), received.recv().await.unwrap()];
    values.sort_unstable();
    assert_eq!(values, [7, 8]);
    assert!(broker.state().terminated[0].3.contains("JSON"));
}

#[tokio::test]
async fn no_more_handlers_run_than_there_are_workers_and_the_broker_is_held_back() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().credit_bytes = 2_000;
    for _ in 0..200 {
        append(&broker, 0, 1);
    }
    let client = connect(&broker).await;
    let gate = Arc::new(Semaphore::new(0));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (started, mut starts) = watch::channel(0);
    let config = SubscriptionConfig { workers: 3, ..config(Mode::Broadcast) };
    let handler = {
        let (gate, running, most) = (Arc::clone(&gate), running, Arc::clone(&most));
        move |_| {
            let (gate, running, most) =
                (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
            let started = started.clone();
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                started.send_modify(|count| *count += 1);
                gate.acquire().await?.forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        }
    };
    let subscription = client.subscribe(config, handler).await.unwrap();
    starts.wait_for(|count| *count == 3).await.unwrap();
    assert!(subscription.stats().depth < 200, "the broker waits for credit");
    gate.add_permits(200);
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, most.load(Ordering::SeqCst)), (200, 3));
}

#[tokio::test]
async fn one_worker_keeps_the_order() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    for _ in 0..30 {
        append(&broker, 0, 3);
    }
    let client = connect(&broker).await;
    let (sender, mut offsets) = mpsc::unbounded_channel();
    let config = SubscriptionConfig { workers: 1, ..config(Mode::Broadcast) };
    let handler = move |message: ReceivedMessage| {
        let sender = sender.clone();
        async move {
            tokio::task::yield_now().await;
            Ok(sender.send(message.offset().0)?)
        }
    };
    let subscription = client.subscribe(config, handler).await.unwrap();
    for offset in 0..90 {
        assert_eq!(offsets.recv().await, Some(offset));
    }
    drop(subscription);
}

#[tokio::test]
async fn unsubscribing_settles_what_was_handled_and_gives_the_rest_back() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 10);
    append(&broker, 0, 10);
    let client = connect(&broker).await;
    let gate = Arc::new(Semaphore::new(0));
    let (sender, mut begun) = mpsc::unbounded_channel();
    let handler = {
        let gate = Arc::clone(&gate);
        move |message: ReceivedMessage| {
            let (gate, sender) = (Arc::clone(&gate), sender.clone());
            async move {
                sender.send(message.offset().0)?;
                gate.acquire().await?.forget();
                Ok(())
            }
        }
    };
    let settings = SubscriptionConfig { workers: 4, ..config(group()) };
    let subscription = client.subscribe(settings, handler).await.unwrap();
    for offset in 0..4 {
        assert_eq!(begun.recv().await, Some(offset));
    }
    let mut leaving = std::pin::pin!(subscription.unsubscribe());
    let mut once = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(leaving.as_mut().poll(&mut once).is_pending(), "handlers are at work");
    gate.add_permits(4);
    let stats = leaving.await.unwrap();
    assert_eq!((stats.delivered, stats.acked, stats.lost, stats.depth), (4, 4, 0, 0));
    assert_eq!(broker.state().acked, [(0, 0, 3)]);

    // The next member gets the same chunk, and handles what is left of it.
    let seen = Seen::default();
    let mine = seen.clone();
    let subscription = client
        .subscribe(config(group()), move |message| {
            mine.add(&message);
            async { Ok(()) }
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, stats.redelivered, seen.len()), (16, 16, 16));
    assert_eq!(broker.state().acked[1..], [(0, 4, 9), (0, 10, 19)]);
    assert_eq!(client.stats().delivered, 20, "what is gone still counts");
}

/// Tells when it is dropped.
pub(crate) struct Guard(pub(crate) watch::Sender<usize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

#[tokio::test]
async fn dropping_a_subscription_cancels_its_handlers_and_ends_its_leases() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 5);
    let client = connect(&broker).await;
    let (dropped, mut drops) = watch::channel(0);
    let (sender, mut begun) = mpsc::unbounded_channel();
    let subscription = client
        .subscribe(config(group()), move |message: ReceivedMessage| {
            let (guard, sender) = (Guard(dropped.clone()), sender.clone());
            async move {
                let _guard = guard;
                sender.send(message.offset().0)?;
                std::future::pending().await
            }
        })
        .await
        .unwrap();
    for _ in 0..5 {
        begun.recv().await.unwrap();
    }
    assert_eq!((subscription.stats().depth, client.stats().queue_depth), (5, 5));
    drop(subscription);
    drops.wait_for(|count| *count == 5).await.unwrap();
    broker.until(|state| state.returned.len() == 1).await;
    assert_eq!(broker.state().acked, []);
    assert_eq!(client.stats().active_subscribers, 0);
}

#[tokio::test]
async fn a_chunk_is_handled_in_one_piece_and_fails_in_parts() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().redeliver = true;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 10);
    append_foreign(&broker, 0, 4);
    let client = connect(&broker).await;
    let subscription = client
        .subscribe_chunks(config(group()), |chunk| async move {
            let ranges = chunk.open_ranges().to_vec();
            let records: u64 = ranges.iter().map(|range| range.last - range.first + 1).sum();
            assert_eq!(chunk.open_records(), records);
            match (chunk.first.0, chunk.attempt) {
                (0, 1) => {
                    let messages = chunk.messages().collect::<Result<Vec<_>, _>>()?;
                    assert_eq!(messages.len(), 10);
                    let part = vec![OffsetRange { first: 2, last: 3 }];
                    Err(HandlerError::retry("these two").of(part))
                }
                (2, 2) => {
                    assert_eq!(ranges, [OffsetRange { first: 2, last: 3 }]);
                    let messages = chunk.messages().collect::<Result<Vec<_>, _>>()?;
                    assert_eq!(messages.iter().map(number).collect::<Vec<_>>(), [2, 3]);
                    Ok(())
                }
                (10, 1) => {
                    assert!(chunk.messages().any(|message| message.is_err()));
                    Ok(())
                }
                other => panic!("{other:?}"),
            }
        })
        .await
        .unwrap();
    let stats = subscription.drain().await.unwrap();
    assert_eq!((stats.delivered, stats.errors, stats.panics), (14, 2, 0));
    assert_eq!(broker.state().nacked, [(0, 2, 3, "these two".to_owned())]);
}

#[tokio::test]
async fn what_is_published_is_delivered_when_a_client_closes() {
    let broker = Broker::start(3, |_| Act::Answer).await;
    for partition in 0..3 {
        broker.state().groups.insert(partition, group_info("readers"));
    }
    let client = connect(&broker).await;
    let handler = |_| async {
        tokio::task::yield_now().await;
        Ok(())
    };
    let all = client.subscribe(config(Mode::Broadcast), handler).await.unwrap();
    let part = client.subscribe(config(group()), handler).await.unwrap();
    assert_eq!(client.stats().active_subscribers, 2);
    let publisher = client.publisher("t", ProducerConfig::default()).await.unwrap();
    for number in 0..1_000_u32 {
        let key = number.to_le_bytes();
        let message = Message::new(&key, b"v");
        let _taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
        broker.poke();
    }
    let stats = client.close().await.unwrap();
    assert_eq!((all.stats().delivered, part.stats().delivered), (1_000, 1_000));
    assert_eq!((stats.published, stats.acknowledged, stats.delivered), (1_000, 1_000, 2_000));
    assert_eq!((stats.queue_depth, stats.active_subscribers, stats.handler_errors), (0, 0, 0));
}

#[tokio::test]
async fn a_record_that_always_fails_and_has_no_last_attempt_holds_no_close_up_for_ever() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().redeliver = true;
    broker.state().topic.settings.max_attempts = 0;
    broker.state().groups.insert(0, group_info("readers"));
    append(&broker, 0, 20);
    let client = connect(&broker).await;
    let handler = |message: ReceivedMessage| async move {
        match message.offset().0 {
            3 => Err(HandlerError::retry("never")),
            _ => Ok(()),
        }
    };
    let patience = Duration::from_millis(100);
    let config = SubscriptionConfig { drain_patience: patience, ..config(group()) };
    let subscription = client.subscribe(config, handler).await.unwrap();
    // It fails again and again meanwhile, which is not what is waited for.
    let refused = client.close().await.unwrap_err();
    assert!(
        matches!(refused, CloseError::Stalled { waited, left: 1 } if waited >= patience),
        "{refused}"
    );
    let stats = subscription.stats();
    assert_eq!((stats.delivered, stats.is_active, stats.depth), (19, false, 0));
    assert!(stats.errors > 1, "{stats:?}");
}

#[tokio::test]
async fn a_subscription_that_fails_for_good_says_why() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let client = connect(&broker).await;
    let subscription = client.subscribe(config(group()), |_| async { Ok(()) }).await.unwrap();
    broker.state().topic.topic = 2;
    broker.hang_up();
    subscription.ended().await.unwrap_err();
    assert!(!subscription.stats().is_active);
    assert!(subscription.unsubscribe().await.is_err());
    let wrong = SubscriptionConfig { workers: 0, ..config(group()) };
    let refused = client.subscribe(wrong, |_| async { Ok(()) }).await.err().unwrap();
    assert!(refused.to_string().contains("workers"), "{refused}");
    let unknown = SubscriberConfig::new("unknown", Mode::Broadcast);
    let refused = client.subscribe(unknown, |_| async { Ok(()) }).await.err().unwrap();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_TOPIC));
}

#[tokio::test]
async fn a_subscription_outlives_a_peer_that_goes_silent() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let config_of_client = ClientConfig {
        keep_alive: Duration::from_millis(10),
        dead_after: Duration::from_millis(40),
        ..crate::config(&broker.addr)
    };
    let client = lanecast_client::Client::connect(config_of_client).await.unwrap();
    let (sender, mut offsets) = mpsc::unbounded_channel();
    let subscription = client
        .subscribe(config(Mode::Broadcast), move |message: ReceivedMessage| {
            let sent = sender.send(message.offset().0);
            async move { Ok(sent?) }
        })
        .await
        .unwrap();
    append(&broker, 0, 1);
    broker.poke();
    assert_eq!(offsets.recv().await, Some(0));
    broker.state().silent = true;
    let before = broker.state().connections;
    broker.until(|state| state.connections > before).await;
    append(&broker, 0, 1);
    broker.state().silent = false;
    broker.poke();
    assert_eq!(offsets.recv().await, Some(1));
    drop(subscription);
}
