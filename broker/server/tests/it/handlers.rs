//! Publishers and handlers through a real broker: what the queue of the original services promised,
//! in its own numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanecast_broker::Broker;
use lanecast_client::{
    Acknowledgement, Client, CreateTopic, Durability, GroupOptions, HandlerError, Headers, Message,
    Mode, ProducerConfig, Published, Publisher, ReceivedMessage, StartPosition, SubscriberConfig,
    Subscription, SubscriptionConfig, TopicSettings,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::pipeline::{connect, start};
use crate::support::BrokerProcess;

/// A broker with these topics, and a client of it.
pub(crate) async fn broker(
    topics: &[&str],
    partitions: u32,
) -> (tempfile::TempDir, Broker, Client) {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    for name in topics {
        let settings =
            TopicSettings { durability: Durability::Written, ..TopicSettings::default() };
        let name = (*name).to_owned();
        client.create_topic(CreateTopic { name, partitions, settings }).await.unwrap();
    }
    (dir, broker, client)
}

async fn publisher(client: &Client, topic: &str) -> Publisher {
    client.publisher(topic, ProducerConfig::default()).await.unwrap()
}

fn broadcast(topic: &str) -> SubscriptionConfig {
    let start = StartPosition::Earliest;
    SubscriberConfig { start, ..SubscriberConfig::new(topic, Mode::Broadcast) }.into()
}

/// Chunks of a few messages, and no wait before they come again.
pub(crate) fn group(topic: &str) -> SubscriptionConfig {
    let options = GroupOptions {
        chunk_records: 50,
        chunk_linger: Duration::from_millis(5),
        ..GroupOptions::new("workers")
    };
    let start = StartPosition::Earliest;
    let subscriber =
        SubscriberConfig { start, ..SubscriberConfig::new(topic, Mode::Group(options)) };
    SubscriptionConfig { retry_delay: Duration::from_millis(1), ..subscriber.into() }
}

/// How often each message came, by its text.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, u32>>>);

impl Seen {
    pub(crate) fn add(&self, message: &ReceivedMessage) -> u32 {
        let text = String::from_utf8(message.payload().to_vec()).unwrap();
        let mut seen = self.0.lock().unwrap();
        let times = seen.entry(text).or_default();
        *times += 1;
        *times
    }

    /// `producers` times `each` messages came, each once.
    pub(crate) fn check(&self, producers: u32, each: u32) {
        let seen = self.0.lock().unwrap();
        let wanted = (0..producers).flat_map(|producer| (0..each).map(move |n| text(producer, n)));
        let wanted: BTreeMap<String, u32> = wanted.map(|text| (text, 1)).collect();
        assert!(*seen == wanted, "{} of {} messages, or some twice", seen.len(), wanted.len());
    }
}

fn text(producer: u32, number: u32) -> String {
    format!("producer {producer}, message {number}")
}

async fn count(client: &Client, topic: &str, seen: &Seen) -> Subscription {
    let seen = seen.clone();
    let handler = move |message: ReceivedMessage| {
        seen.add(&message);
        async { Ok(()) }
    };
    client.subscribe(broadcast(topic), handler).await.unwrap()
}

/// Publishes `each` messages from each of so many tasks with a publisher of their own.
pub(crate) async fn publish_all(client: &Client, topic: &str, producers: u32, each: u32) {
    let mut tasks = JoinSet::new();
    for producer in 0..producers {
        let publisher = publisher(client, topic).await;
        tasks.spawn(async move {
            for number in 0..each {
                let (key, payload) = (producer.to_le_bytes(), text(producer, number));
                let message = Message::new(&key, payload.as_bytes());
                let taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
                assert_eq!(taken, Published::Taken);
            }
            let stats = publisher.close().await.unwrap();
            assert_eq!((stats.pushed, stats.acknowledged), (u64::from(each), u64::from(each)));
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_reaches_one_handler_whole() {
    let (_dir, _broker, client) = broker(&["greetings"], 1).await;
    let (sender, received) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let handler = move |message: ReceivedMessage| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move { sender.send(message).map_err(|_| HandlerError::terminate("gone")) }
    };
    let subscription = client.subscribe(broadcast("greetings"), handler).await.unwrap();
    let publisher = publisher(&client, "greetings").await;
    let listed: [(&str, &[u8]); 2] = [("source", b"streamer-1"), ("version", b"2")];
    let message = Message {
        id: 77,
        headers: Headers::Listed(&listed),
        timestamp_ms: 1_753_000_000_123,
        ..Message::new(b"GPU-1", b"hello")
    };
    let published = publisher.publish(&message, Acknowledgement::Acknowledged).await.unwrap();
    let Published::Appended { partition: 0, offset, duplicate: false } = published else {
        panic!("{published:?}")
    };
    let received = received.await.unwrap();
    assert_eq!(
        (received.topic(), received.partition(), received.offset()),
        ("greetings", 0, offset)
    );
    assert_eq!((received.id(), received.timestamp_ms()), (77, 1_753_000_000_123));
    assert_eq!((received.key(), received.payload()), (&b"GPU-1"[..], &b"hello"[..]));
    assert!(received.headers().eq(listed));
    assert_eq!(subscription.drain().await.unwrap().delivered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_producers_and_five_consumers_side_by_side() {
    for (producers, consumers) in [(1, 1), (10, 1), (1, 5), (10, 5)] {
        let (_dir, _broker, client) = broker(&["telemetry"], 4).await;
        let mut subscriptions = Vec::new();
        for _ in 0..consumers {
            let seen = Seen::default();
            subscriptions.push((count(&client, "telemetry", &seen).await, seen));
        }
        publish_all(&client, "telemetry", producers, 100).await;
        let published = u64::from(producers) * 100;
        for (subscription, seen) in subscriptions {
            let stats = subscription.drain().await.unwrap();
            assert_eq!((stats.delivered, stats.errors, stats.depth), (published, 0, 0));
            seen.check(producers, 100);
        }
        let stats = client.stats();
        assert_eq!((stats.published, stats.acknowledged), (published, published));
        assert_eq!((stats.dropped, stats.unacknowledged), (0, 0));
        assert_eq!(stats.delivered, published * consumers);
        assert_eq!(stats.ack_latency.count, published);
        assert!(stats.ack_latency.p50 <= stats.ack_latency.p999);
        assert_eq!((stats.handler_errors, stats.active_subscribers, stats.queue_depth), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_has_delivered_what_it_published() {
    let (_dir, _broker, client) = broker(&["telemetry"], 3).await;
    let seen = Seen::default();
    let subscription = {
        let seen = seen.clone();
        let handler = move |message: ReceivedMessage| {
            seen.add(&message);
            async {
                tokio::time::sleep(Duration::from_micros(100)).await;
                Ok(())
            }
        };
        client.subscribe(broadcast("telemetry"), handler).await.unwrap()
    };
    let publisher = publisher(&client, "telemetry").await;
    for number in 0..1_000 {
        let (key, payload) = (u32::to_le_bytes(number % 7), text(0, number));
        let message = Message::new(&key, payload.as_bytes());
        let _taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
    }
    let stats = client.close().await.unwrap();
    assert_eq!((stats.published, stats.acknowledged, stats.delivered), (1_000, 1_000, 1_000));
    assert!(!subscription.stats().is_active);
    seen.check(1, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_panics_are_counted_and_stay_with_their_messages() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    let seen = Seen::default();
    let failing = {
        let handler = move |message: ReceivedMessage| async move {
            match message.offset().0 % 10 {
                0 => Err(HandlerError::retry("scripted")),
                1 => panic!("scripted"),
                _ => Ok(()),
            }
        };
        client.subscribe(broadcast("telemetry"), handler).await.unwrap()
    };
    let healthy = count(&client, "telemetry", &seen).await;
    publish_all(&client, "telemetry", 2, 100).await;
    let failed = failing.drain().await.unwrap();
    assert_eq!(failed.delivered + failed.errors, 200);
    assert!(failed.panics > 0 && failed.panics < failed.errors, "{failed:?}");
    assert_eq!(healthy.drain().await.unwrap().delivered, 200);
    seen.check(2, 100);
    let stats = client.stats();
    assert_eq!((stats.handler_errors, stats.panics), (failed.errors, failed.panics));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_do_not_mix() {
    let (_dir, _broker, client) = broker(&["first", "second"], 2).await;
    let (first, second) = (Seen::default(), Seen::default());
    let one = count(&client, "first", &first).await;
    let other = count(&client, "second", &second).await;
    publish_all(&client, "first", 1, 30).await;
    publish_all(&client, "second", 2, 20).await;
    assert_eq!(one.drain().await.unwrap().delivered, 30);
    assert_eq!(other.drain().await.unwrap().delivered, 40);
    first.check(1, 30);
    second.check(2, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handled_after_unsubscribing_and_the_others_go_on() {
    let (_dir, _broker, client) = broker(&["telemetry"], 2).await;
    let (leaver, stayer) = (Seen::default(), Seen::default());
    let leaving = count(&client, "telemetry", &leaver).await;
    let staying = count(&client, "telemetry", &stayer).await;
    publish_all(&client, "telemetry", 1, 50).await;
    assert_eq!(client.stats().active_subscribers, 2);
    assert_eq!(leaving.drain().await.unwrap().delivered, 50);
    assert_eq!(client.stats().active_subscribers, 1);
    publish_all(&client, "telemetry", 2, 50).await;
    assert_eq!(staying.drain().await.unwrap().delivered, 150);
    leaver.check(1, 50);
    assert_eq!(client.stats().active_subscribers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_subscription_cancels_its_handlers_and_a_group_gets_its_messages_back() {
    let (_dir, _broker, client) = broker(&["telemetry"], 1).await;
    publish_all(&client, "telemetry", 1, 20).await;
    let (started, mut starts) = watch::channel(0);
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        move |_| {
            started.send_modify(|count| *count += 1);
            let gate = Arc::clone(&gate);
            async move {
                let _never = gate.acquire().await?;
                Ok(())
            }
        }
    };
    let cancelled = client.subscribe(group("telemetry"), handler).await.unwrap();
    starts.wait_for(|count| *count == 20).await.unwrap();
    assert_eq!(cancelled.stats().depth, 20);
    drop(cancelled);
    let (seen, counted) = (Seen::default(), watch::Sender::new(0_u32));
    let handler = {
        let (seen, counted) = (seen.clone(), counted.clone());
        move |message: ReceivedMessage| {
            assert!(message.attempt() > 1, "it was handed out before");
            seen.add(&message);
            counted.send_modify(|count| *count += 1);
            async { Ok(()) }
        }
    };
    let next = client.subscribe(group("telemetry"), handler).await.unwrap();
    counted.subscribe().wait_for(|count| *count == 20).await.unwrap();
    assert_eq!(next.unsubscribe().await.unwrap().acked, 20);
    seen.check(1, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_goes_on_when_a_restarted_broker_has_forgotten_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut broker = BrokerProcess::start(&[path, "--shards", "2"]);
    let bind = broker.addr.to_string();
    let client = connect(broker.addr).await;
    let settings = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    client
        .create_topic(CreateTopic { name: "live".into(), partitions: 2, settings })
        .await
        .unwrap();
    let publisher = publisher(&client, "live").await;
    for life in 0..3_u64 {
        for key in 0..8_u32 {
            let key = key.to_le_bytes();
            let message = Message::new(&key, b"v");
            let published = publisher.publish(&message, Acknowledgement::Acknowledged).await;
            assert!(matches!(published, Ok(Published::Appended { .. })), "{published:?}");
        }
        let stats = publisher.stats();
        assert_eq!((stats.acknowledged, stats.doubtful), (8 * (life + 1), 0));
        assert_eq!(stats.starts_over, 2 * life, "each partition begins again, once a restart");
        broker.kill();
        broker = BrokerProcess::start(&[path, "--shards", "2", "--bind", &bind]);
    }
    assert!(broker.terminate().success());
}
