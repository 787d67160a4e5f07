//! The client against a scripted broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod broker;
mod client;
mod handler;
mod leaving;
mod producer;
mod publisher;
mod subscriber;

use std::time::Duration;

use lanecast_client::{Client, ClientConfig, Producer, ProducerConfig};
use lanecast_wire::generic::{GenericBuilder, GenericView, Message};
use lanecast_wire::{SLOTS, Slot, batch};

use broker::Broker;

fn config(addr: &str) -> ClientConfig {
    ClientConfig {
        reconnect_first: Duration::from_millis(1),
        reconnect_longest: Duration::from_millis(10),
        ..ClientConfig::new(addr, "test")
    }
}

async fn connect(broker: &Broker) -> Client {
    Client::connect(config(&broker.addr)).await.unwrap()
}

/// One record a batch, quick retries.
fn small_batches() -> ProducerConfig {
    ProducerConfig {
        batch_records: 1,
        retry_first: Duration::from_micros(100),
        retry_longest: Duration::from_millis(1),
        ..ProducerConfig::default()
    }
}

async fn open(broker: &Broker, config: ProducerConfig) -> Producer<GenericBuilder> {
    Producer::open(&connect(broker).await, "t", config).await.unwrap()
}

async fn push(producer: &Producer<GenericBuilder>, key: u32, number: u64) {
    let (key, payload) = (key.to_le_bytes(), number.to_le_bytes());
    producer.push(&Message::new(&key, &payload)).await.unwrap();
}

/// Numbers `0..count` of each of `0..keys`.
async fn push_rounds(producer: &Producer<GenericBuilder>, keys: u32, count: u64) {
    for number in 0..count {
        for key in 0..keys {
            push(producer, key, number).await;
        }
    }
}

/// (key, number) of every record in a partition's log, in order.
fn logged(broker: &Broker, partition: u32) -> Vec<(u32, u64)> {
    let state = broker.state();
    let mut records = Vec::new();
    for bytes in &state.logs[partition as usize].batches {
        let header = batch::check(bytes).unwrap();
        records.extend(read(batch::body(bytes), header.record_count));
    }
    records
}

fn read(body: &[u8], count: u32) -> Vec<(u32, u64)> {
    let view = GenericView::open(body, count).unwrap();
    let record = |message: Message<'_>| {
        let key = u32::from_le_bytes(message.key.try_into().unwrap());
        (key, u64::from_le_bytes(message.payload.try_into().unwrap()))
    };
    view.iter().map(record).collect()
}

fn partition_of(key: u32, partitions: u32) -> u32 {
    assert!(partitions <= SLOTS);
    Slot::of_key(&key.to_le_bytes()).partition(partitions)
}

/// Each partition's log has exactly the numbers `0..count` of its keys, each once and in order.
fn assert_once_in_order(broker: &Broker, keys: u32, count: u64) {
    let partitions = broker.state().topic.partitions;
    for partition in 0..partitions {
        let records = logged(broker, partition);
        let mine: Vec<u32> =
            (0..keys).filter(|key| partition_of(*key, partitions) == partition).collect();
        assert_eq!(records.len() as u64, mine.len() as u64 * count, "partition {partition}");
        for key in mine {
            let numbers: Vec<u64> =
                records.iter().filter(|record| record.0 == key).map(|record| record.1).collect();
            assert!(numbers.iter().copied().eq(0..count), "key {key}: {numbers:?}");
        }
    }
}
