//! Records through a real broker: all of them, once, in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use lanecast_broker::{Broker, BrokerConfig};
use lanecast_client::{
    Client, ClientConfig, Delivery, GroupOptions, Mode, Producer, ProducerConfig, Subscriber,
    SubscriberConfig,
};
use lanecast_wire::batch;
use lanecast_wire::generic::{GenericBuilder, GenericView, Message};
use lanecast_wire::message::{CreateTopic, Durability, StartPosition, TopicSettings};

use serde_json::Value;

use crate::admin::get;
use crate::support::BrokerProcess;

/// Longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TOPIC: &str = "messages";
const KEYS: u64 = 37;

pub(crate) fn start(dir: &tempfile::TempDir, shards: u16) -> Broker {
    let config = BrokerConfig {
        shards: Some(shards),
        segment_bytes: 4 * 1024 * 1024,
        ..BrokerConfig::new(dir.path())
    };
    let broker = Broker::start(config).unwrap();
    assert!(broker.wait_until_ready(PATIENCE));
    broker
}

pub(crate) async fn connect(addr: SocketAddr) -> Client {
    let config = ClientConfig {
        reconnect_longest: Duration::from_millis(200),
        ..ClientConfig::new(addr.to_string(), "test")
    };
    Client::connect(config).await.unwrap()
}

pub(crate) async fn create_topic(client: &Client, partitions: u32, durability: Durability) {
    let settings = TopicSettings { durability, ..TopicSettings::default() };
    let topic = CreateTopic { name: TOPIC.to_owned(), partitions, settings };
    client.create_topic(topic).await.unwrap();
}

pub(crate) async fn producer(client: &Client) -> Producer<GenericBuilder> {
    let config = ProducerConfig { batch_bytes: 8 * 1024, ..ProducerConfig::default() };
    Producer::open(client, TOPIC, config).await.unwrap()
}

/// Pushes messages with these numbers.
pub(crate) async fn push(producer: &Producer<GenericBuilder>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let key = format!("key-{}", number % KEYS);
        let payload = number.to_le_bytes();
        producer.push(&Message::new(key.as_bytes(), &payload)).await.unwrap();
    }
}

/// What was read: numbers per partition, in order.
#[derive(Debug, Default)]
struct Received {
    partitions: BTreeMap<u32, Vec<u64>>,
    count: u64,
}

impl Received {
    fn take(&mut self, partition: u32, payload: &bytes::Bytes) {
        let numbers = self.partitions.entry(partition).or_default();
        for item in batch::iter(payload) {
            let (header, whole) = item.unwrap();
            assert_eq!(header.base_offset.0, numbers.len() as u64, "offsets have no holes");
            let body = batch::body(&whole);
            let view = GenericView::open(body, header.record_count).unwrap();
            for message in view.iter() {
                numbers.push(u64::from_le_bytes(message.payload.try_into().unwrap()));
                self.count += 1;
            }
        }
    }

    /// Everything below `total` is there once, and each key's numbers rise.
    fn check(&self, total: u64) {
        let mut all: Vec<u64> = self.partitions.values().flatten().copied().collect();
        for numbers in self.partitions.values() {
            let mut last = BTreeMap::new();
            for number in numbers {
                let before = last.insert(number % KEYS, number);
                assert!(before < Some(number), "{number} after {before:?}");
            }
        }
        all.sort_unstable();
        let expected: Vec<u64> = (0..total).collect();
        assert!(all == expected, "{} messages of {total}", all.len());
    }
}

async fn read_all(client: &Client, total: u64) -> Received {
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(TOPIC, Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(client, config).await.unwrap();
    let mut received = Received::default();
    while received.count < total {
        let next = tokio::time::timeout(PATIENCE, subscriber.next()).await;
        match next.unwrap_or_else(|_| panic!("{} of {total} came", received.count)).unwrap() {
            Delivery::Batches(batches) => received.take(batches.partition, &batches.payload),
            Delivery::Chunk(chunk) => panic!("not asked for: {chunk:?}"),
            Delivery::Missed { partition, .. } | Delivery::Skipped { partition, .. } => {
                panic!("partition {partition} lost records")
            }
        }
    }
    received
}

/// One member of a group, until the group has had `total` records.
async fn consume(client: &Client, total: u64) -> Received {
    let options = GroupOptions {
        chunk_records: 500,
        chunk_linger: Duration::from_millis(10),
        ..GroupOptions::new("readers")
    };
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(TOPIC, Mode::Group(options))
    };
    let mut subscriber = Subscriber::open(client, config).await.unwrap();
    let mut received = Received::default();
    while received.count < total {
        let next = tokio::time::timeout(PATIENCE, subscriber.next()).await;
        match next.unwrap_or_else(|_| panic!("{} of {total} came", received.count)).unwrap() {
            Delivery::Chunk(chunk) => {
                for payload in &chunk.payloads {
                    received.take(chunk.partition, payload);
                }
                chunk.ack().await.unwrap();
            }
            Delivery::Batches(batches) => panic!("not asked for: {batches:?}"),
            Delivery::Missed { partition, .. } | Delivery::Skipped { partition, .. } => {
                panic!("partition {partition} lost records")
            }
        }
    }
    received
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_reaches_broadcast_and_group_alike() {
    const TOTAL: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    create_topic(&client, 4, Durability::Fsync).await;
    let producer = producer(&client).await;
    let pushing = async {
        push(&producer, 0..TOTAL).await;
        producer.flush().await.unwrap();
    };
    let (_, received, consumed) =
        tokio::join!(pushing, read_all(&client, TOTAL), consume(&client, TOTAL));
    received.check(TOTAL);
    consumed.check(TOTAL);
    assert_eq!(producer.stats().acknowledged, TOTAL);

    let admin = broker.admin_addr();
    let stats = tokio::task::spawn_blocking(move || get(admin, "/stats")).await.unwrap().1;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["totals"]["records_in"], TOTAL);
    let partitions = stats["topics"][0]["partitions"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> u64| partitions.iter().map(of).sum::<u64>();
    assert_eq!(sum(&|one| one["high_watermark"].as_u64().unwrap()), TOTAL);
    assert_eq!(sum(&|one| one["groups"][0]["acked_upto"].as_u64().unwrap()), TOTAL);
    assert_eq!(sum(&|one| one["groups"][0]["lag_records"].as_u64().unwrap()), 0);
    for (index, partition) in partitions.iter().enumerate() {
        assert_eq!(partition["index"], index);
        assert_eq!(partition["shard"], index % 2);
        assert_eq!(partition["state"], "online");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_and_restarted_with_other_shards_nothing_is_lost_or_doubled() {
    const PER_LIFE: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut broker = BrokerProcess::start(&[path, "--shards", "2"]);
    let addr = broker.addr;
    let bind = addr.to_string();
    let client = connect(addr).await;
    create_topic(&client, 5, Durability::Fsync).await;
    let producer = producer(&client).await;
    let lives = ["3", "1", "2"];
    let mut pushed = 0;
    for shards in lives {
        let half = pushed + PER_LIFE / 2;
        push(&producer, pushed..half).await;
        let rest = {
            let producer = producer.clone();
            tokio::spawn(async move { push(&producer, half..half + PER_LIFE / 2).await })
        };
        pushed = half + PER_LIFE / 2;
        // In the middle of it, with batches in flight.
        broker.kill();
        broker = BrokerProcess::start(&[path, "--shards", shards, "--bind", &bind]);
        rest.await.unwrap();
    }
    tokio::time::timeout(PATIENCE, producer.flush()).await.unwrap().unwrap();
    assert_eq!(producer.stats().acknowledged, pushed);
    read_all(&client, pushed).await.check(pushed);
    consume(&client, pushed).await.check(pushed);
    assert!(broker.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_is_in_flight_and_keeps_what_it_acknowledged() {
    const TOTAL: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    create_topic(&client, 3, Durability::Fsync).await;
    let producer = producer(&client).await;
    let pushing = {
        let producer = producer.clone();
        tokio::spawn(async move { push(&producer, 0..TOTAL).await })
    };
    while producer.stats().acknowledged == 0 {
        tokio::task::yield_now().await;
    }
    broker.drain();
    tokio::task::spawn_blocking(move || broker.join()).await.unwrap().unwrap();
    let acknowledged = producer.stats().acknowledged;
    pushing.abort();
    drop(producer);

    let broker = start(&dir, 1);
    let client = connect(broker.addr()).await;
    let received = read_all(&client, acknowledged).await;
    assert!(received.count >= acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_never_reads_does_not_hold_up_others() {
    const TOTAL: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let client = connect(broker.addr()).await;
    create_topic(&client, 2, Durability::Fsync).await;
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(TOPIC, Mode::Broadcast)
    };
    let lazy = Subscriber::open(&client, config).await.unwrap();
    let producer = producer(&client).await;
    push(&producer, 0..TOTAL).await;
    producer.flush().await.unwrap();
    read_all(&client, TOTAL).await.check(TOTAL);
    drop(lazy);
}
