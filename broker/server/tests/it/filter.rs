//! Subscriptions by key through sockets, shards and disk.

use std::collections::BTreeSet;

use lanecast_broker::{Broker, BrokerConfig};
use lanecast_client::{
    Client, Delivery, KeyFilter, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::batch;
use lanecast_wire::generic::{GenericView, Message};
use lanecast_wire::message::Durability;

use crate::pipeline::{PATIENCE, TOPIC, connect, create_topic, producer, start};

const KEYS: u64 = 20;
const PER_KEY: u64 = 500;

/// So many messages of each key, key after key, so that a batch has few of them.
async fn produce(client: &Client, first: u64) {
    let producer = producer(client).await;
    for key in 0..KEYS {
        for number in 0..PER_KEY {
            let payload = (first + key * PER_KEY + number).to_le_bytes();
            let key = format!("key-{key}");
            producer.push(&Message::new(key.as_bytes(), &payload)).await.unwrap();
        }
        producer.flush().await.unwrap();
    }
}

fn wanted() -> KeyFilter {
    KeyFilter::default().message_key("key-3").message_key("key-7")
}

fn expected(first: u64) -> BTreeSet<u64> {
    [3, 7].into_iter().flat_map(|key| (first + key * PER_KEY..).take(PER_KEY as usize)).collect()
}

/// Reads until `count` messages have passed.
async fn read(subscriber: &mut Subscriber, count: usize) -> (BTreeSet<u64>, u64) {
    let (mut passed, mut bytes) = (BTreeSet::new(), 0);
    while passed.len() < count {
        let next = tokio::time::timeout(PATIENCE, subscriber.next()).await;
        match next.unwrap_or_else(|_| panic!("{} of {count} came", passed.len())).unwrap() {
            Delivery::Batches(batches) => {
                bytes += batches.payload.len() as u64;
                for item in batch::iter(&batches.payload) {
                    let (header, whole) = item.unwrap();
                    let body = batch::body(&whole);
                    let view = GenericView::open(body, header.record_count).unwrap();
                    for (_, message) in view.matching(&wanted()) {
                        let number = u64::from_le_bytes(message.payload.try_into().unwrap());
                        assert!(passed.insert(number), "{number} came twice");
                    }
                }
            }
            Delivery::Skipped { .. } => {}
            Delivery::Missed { partition, .. } => panic!("partition {partition} lost records"),
            Delivery::Chunk(chunk) => panic!("not asked for: {chunk:?}"),
        }
    }
    (passed, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_subscription_gets_all_of_its_own_over_a_restart_and_little_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let addr = broker.addr();
    let client = connect(addr).await;
    create_topic(&client, 4, Durability::Fsync).await;
    produce(&client, 0).await;
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        filter: wanted(),
        ..SubscriberConfig::new(TOPIC, Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(&client, config).await.unwrap();
    let partitions: Vec<u32> = subscriber.positions().iter().map(|at| at.partition).collect();
    assert_eq!(Some(partitions), wanted().partitions(4), "the others cannot have them");
    let count = 2 * PER_KEY as usize;
    let (passed, bytes) = read(&mut subscriber, count).await;
    assert!(passed == expected(0), "{:?} to {:?}", passed.first(), passed.last());
    let all_bytes = KEYS * PER_KEY * 45;
    assert!(bytes * 5 < all_bytes, "{bytes} of some {all_bytes}");

    broker.drain();
    broker.join().unwrap();
    let config = BrokerConfig { bind: addr, shards: Some(1), ..BrokerConfig::new(dir.path()) };
    let broker = Broker::start(config).unwrap();
    assert!(broker.wait_until_ready(PATIENCE));
    produce(&client, 1_000_000).await;
    let (passed, _) = read(&mut subscriber, count).await;
    // Nothing twice, nothing missing.
    assert!(passed == expected(1_000_000), "{:?} to {:?}", passed.first(), passed.last());
}
