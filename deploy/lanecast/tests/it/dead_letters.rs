//! `lanecast topic dlq` and `topic redrive`, with letters that this test writes as a broker would.

use std::time::Duration;

use lanecast_client::{
    Client, ClientConfig, Delivery, GroupOptions, Mode, RawProducer, StartPosition, Subscriber,
    SubscriberConfig,
};
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::dead_letter::{DeadLetter, Ranges};
use lanecast_wire::message::OffsetRange;
use lanecast_wire::{ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::topics::Site;

const TOPIC: &str = "gpu-telemetry";
const LETTERS: &str = "gpu-telemetry.dlq";

/// The first batch of partition 0.
async fn first_batch(client: &Client) -> (TopicId, BatchHeader, Vec<u8>) {
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(TOPIC, Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(client, config).await.unwrap();
    let topic = TopicId(subscriber.topic().topic);
    loop {
        if let Delivery::Batches(batches) = subscriber.next().await.unwrap()
            && batches.partition == 0
        {
            let (header, bytes) = batch::iter(&batches.payload).next().unwrap().unwrap();
            return (topic, header, bytes.to_vec());
        }
    }
}

/// Letters of the whole batch, and a last one of its first record alone.
async fn write_letters(addr: &str, letters: u64) -> BatchHeader {
    let client = Client::connect(ClientConfig::new(addr, "test")).await.unwrap();
    let (topic_id, header, origin) = first_batch(&client).await;
    let mut producer = RawProducer::open(&client, LETTERS).await.unwrap();
    let (first, last) = (header.base_offset.0, header.last_offset().0);
    for sequence in 0..letters {
        let last = if sequence + 1 == letters { first } else { last };
        let letter = DeadLetter {
            topic: TOPIC,
            topic_id,
            partition: 0,
            group: "clickhouse",
            reason: "the table is read-only",
            attempts: 3,
            died_ms: 1_700_000_000_000,
            ranges: Ranges::Listed(&[OffsetRange { first, last }]),
            batch: &origin,
        };
        let (id, epoch) = (ProducerId(9), ProducerEpoch(0));
        let sealed = batch::seal(&letter.seal(), id, epoch, Sequence(sequence), 0);
        producer.append(0, sealed).await.unwrap();
    }
    header
}

#[test]
fn dead_letters_are_shown_and_sent_back_once() {
    let site = Site::start();
    site.produce("160");
    assert!(site.run(&["topic", "dlq", TOPIC]).contains("no dead letters"));
    assert!(site.run(&["topic", "redrive", TOPIC]).contains("has no letters"));
    site.run(&["topic", "create", LETTERS, "--partitions", "2", "--max-attempts", "0"]);
    // More than a chunk of the redrive holds.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let header = runtime.block_on(write_letters(site.addr(), 40));

    let shown = site.run(&["topic", "dlq", TOPIC]);
    assert_eq!(shown.lines().count(), 40, "{shown}");
    assert!(shown.contains("the table is read-only (group clickhouse, 3 attempts)"), "{shown}");
    let with_records = site.run(&["topic", "dlq", TOPIC, "--records", "--from", "39"]);
    assert_eq!(with_records.lines().count(), 2, "{with_records}");
    let none = site.run(&["topic", "dlq", TOPIC, "--gpu", "GPU-none"]);
    assert!(none.contains("has none of those"), "{none}");

    let records = |site: &Site| {
        let lines = site.run(&["topic", "tail", TOPIC, "--from", "earliest"]);
        lines.lines().count() as u64
    };
    assert_eq!(records(&site), 160);
    let done = site.json(&["topic", "redrive", TOPIC]);
    let expected = 39 * u64::from(header.record_count) + 1;
    assert_eq!((&done["letters"], &done["records"]), (&40.into(), &expected.into()));
    assert_eq!((&done["sent_before"], records(&site)), (&0.into(), 160 + expected));
    let again = site.json(&["topic", "redrive", TOPIC]);
    assert_eq!((&again["letters"], records(&site)), (&0.into(), 160 + expected));
    // As if it had been killed before it could acknowledge anything.
    site.run(&["group", "move", "redrive", "--topic", LETTERS, "--to", "earliest"]);
    let again = site.json(&["topic", "redrive", TOPIC]);
    assert_eq!((&again["letters"], &again["sent_before"]), (&40.into(), &40.into()));
    assert_eq!(records(&site), 160 + expected, "nothing is there twice");
}

/// A member that can handle nothing of partition 0.
async fn fail(addr: &str) -> u64 {
    let client = Client::connect(ClientConfig::new(addr, "test")).await.unwrap();
    let options = GroupOptions { chunk_linger: Duration::ZERO, ..GroupOptions::new("readers") };
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(TOPIC, Mode::Group(options))
    };
    let mut subscriber = Subscriber::open(&client, config).await.unwrap();
    let end = subscriber.positions()[0].high_watermark;
    let mut failed = 0;
    while failed < end {
        let Delivery::Chunk(chunk) = subscriber.next().await.unwrap() else { panic!("chunks") };
        if chunk.partition == 0 {
            failed += chunk.records();
            chunk.nack(Duration::ZERO, "no such column").await.unwrap();
        } else {
            chunk.ack().await.unwrap();
        }
    }
    // Letters are written a moment after the nack is answered.
    loop {
        let groups = client.groups(TOPIC, Some(0)).await.unwrap();
        if groups[0].group.dead_lettered_records == failed {
            subscriber.unsubscribe().await.unwrap();
            return failed;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn what_a_group_gives_up_is_shown_and_comes_back_to_its_topic() {
    let site = Site::start();
    site.run(&["topic", "create", TOPIC, "--partitions", "2", "--max-attempts", "1"]);
    site.produce("160");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let failed = runtime.block_on(fail(site.addr()));
    let shown = site.run(&["topic", "dlq", TOPIC, "--records"]);
    assert!(shown.contains("no such column (group readers, 1 attempt)"), "{shown}");
    let samples = shown.lines().filter(|line| line.contains("DCGM_FI_")).count() as u64;
    assert_eq!(samples, failed, "{shown}");
    let before = site.json(&["topic", "describe", TOPIC]);
    let done = site.json(&["topic", "redrive", TOPIC]);
    assert_eq!((&done["records"], &done["sent_before"]), (&failed.into(), &0.into()));
    let after = site.json(&["topic", "describe", TOPIC]);
    // Not their bytes: a log that has rested writes a mark.
    let records =
        |page: &serde_json::Value, at: usize| page["logs"][at]["records"].as_u64().unwrap();
    assert_eq!(records(&after, 0), records(&before, 0) + failed);
    assert_eq!(records(&after, 1), records(&before, 1), "the other partition is as it was");
}
