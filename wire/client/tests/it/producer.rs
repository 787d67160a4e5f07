use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use lanecast_client::{OnLostSequence, ProduceError, ProducerConfig, RawProducer};
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::generic::{GenericBuilder, Message};
use lanecast_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence, batch};

use crate::broker::{Act, Asked, Broker};
use crate::{assert_once_in_order, logged, open, partition_of, push, push_rounds, small_batches};

fn is_pending(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn records_are_appended_once_and_in_order() {
    let broker = Broker::start(3, |_| Act::Answer).await;
    let config = ProducerConfig { batch_records: 7, ..ProducerConfig::default() };
    let producer = open(&broker, config).await;
    push_rounds(&producer, 10, 50).await;
    producer.flush().await.unwrap();
    assert_once_in_order(&broker, 10, 50);
    let stats = producer.close().await.unwrap();
    assert_eq!((stats.pushed, stats.acknowledged), (500, 500));
    assert_eq!((stats.retries, stats.duplicates, stats.reconnects), (0, 0, 0));
}

#[tokio::test]
async fn a_producer_has_a_connection_to_each_core_that_has_partitions() {
    for (shards, partitions, connections, served) in [
        (3, 5, 64, vec![0, 1, 2]),
        (8, 2, 64, vec![0, 1]),
        (3, 5, 2, vec![0, 1]),
        (2, 1, 64, vec![0]),
        (1, 4, 64, vec![]),
    ] {
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let broker = Broker::start(partitions, move |asked: Asked| {
            sender.send((asked.partition, asked.near)).unwrap();
            Act::Answer
        })
        .await;
        broker.state().shards = shards;
        let config = ProducerConfig { connections, ..small_batches() };
        let producer = open(&broker, config).await;
        push_rounds(&producer, 10, 50).await;
        producer.flush().await.unwrap();
        assert_once_in_order(&broker, 10, 50);
        let stats = producer.stats();
        assert_eq!((stats.acknowledged, stats.reconnects), (500, 0));
        // A core whose partitions have no records yet is asked for as well.
        broker.until(|state| state.migrated.len() >= served.len()).await;
        let mut migrated = broker.state().migrated.clone();
        migrated.sort_unstable();
        assert_eq!(migrated, served, "{shards} cores, {partitions} partitions");
        let routes = (served.len() as u32).max(1);
        while let Ok((partition, near)) = sent.try_recv() {
            let expected = (shards > 1).then_some(partition % routes);
            assert_eq!(near, expected, "partition {partition} of {partitions}, {shards} cores");
        }
    }
}

#[tokio::test]
async fn a_producer_that_may_not_move_works_where_it_is() {
    for code in [ErrorCode::DRAINING, ErrorCode::INVALID_REQUEST, ErrorCode::OVERLOADED] {
        let broker = Broker::start(2, |_| Act::Answer).await;
        broker.state().shards = 2;
        broker.state().refuse_migrate = Some(code);
        let producer = open(&broker, ProducerConfig::default()).await;
        push_rounds(&producer, 10, 5).await;
        // Without a flush: each connection has its own deadlines to look after.
        broker.until(|state| state.logs.iter().all(|log| log.next > 0)).await;
        let stats = producer.close().await.unwrap();
        assert_eq!((stats.acknowledged, stats.reconnects), (50, 0), "{code}");
    }
}

#[tokio::test]
async fn what_one_connection_fails_with_ends_them_all() {
    let broker = Broker::start(2, |asked: Asked| match asked.partition {
        0 => Act::Answer,
        _ => Act::Refuse(ErrorCode::BAD_BATCH),
    })
    .await;
    broker.state().shards = 2;
    let producer = open(&broker, small_batches()).await;
    let key_of = |partition| (0..).find(|key| partition_of(*key, 2) == partition).unwrap();
    let [good, bad]: [u32; 2] = [key_of(0), key_of(1)];
    push(&producer, good, 0).await;
    producer.flush().await.unwrap();
    push(&producer, bad, 0).await;
    let error = producer.flush().await.unwrap_err();
    assert!(matches!(&error, ProduceError::Failed(_)), "{error:?}");
    let (key, payload) = (good.to_le_bytes(), [0; 8]);
    let again = producer.push(&Message::new(&key, &payload)).await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "the first reason stands");
    // The one for questions has ended with its client.
    broker.until(|state| state.open == 0).await;
}

/// A small generator, so that a failing seed can be named.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[tokio::test]
async fn whatever_goes_wrong_nothing_acknowledged_is_lost_doubled_or_reordered() {
    for seed in 0..20 {
        let mut random = random(seed);
        let broker = Broker::start(1 + (seed / 3 % 3) as u32, move |_: Asked| match random(16) {
            0 => Act::Refuse(ErrorCode::OVERLOADED),
            1 => Act::Refuse(ErrorCode::PARTITION_OFFLINE),
            2 => Act::Refuse(ErrorCode::DRAINING),
            3 => Act::Drop,
            4 => Act::AppendAndDrop,
            5 => Act::AppendAndCutAnswer,
            6 => Act::Goodbye,
            _ => Act::Answer,
        })
        .await;
        broker.state().shards = 1 + (seed % 3) as u32;
        let producer = open(&broker, small_batches()).await;
        push_rounds(&producer, 4, 30).await;
        producer.flush().await.unwrap();
        assert_once_in_order(&broker, 4, 30);
        let stats = producer.stats();
        assert_eq!((stats.pushed, stats.acknowledged), (120, 120), "seed {seed}");
        // An answer that was cut off may have been read as far as it goes, so not every
        // duplicate is counted by both sides alike; none is counted that was not there.
        assert!(stats.duplicates <= broker.state().duplicates, "seed {seed}");
    }
}

#[tokio::test]
async fn a_retry_carries_the_same_sequence() {
    let mut seen = Vec::new();
    let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let broker = Broker::start(1, move |asked: Asked| {
        sender.send((asked.header.producer, asked.header.sequence.0)).unwrap();
        if asked.index == 0 { Act::Refuse(ErrorCode::PARTITION_OFFLINE) } else { Act::Answer }
    })
    .await;
    let producer = open(&broker, small_batches()).await;
    push(&producer, 0, 0).await;
    producer.flush().await.unwrap();
    while let Ok(request) = sent.try_recv() {
        seen.push(request);
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    assert_eq!(producer.stats().retries, 1);
}

#[tokio::test]
async fn a_full_buffer_makes_push_wait_and_a_cancelled_push_takes_nothing() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    // Room for four batches of less than 1 KiB.
    let config = ProducerConfig { buffer_bytes: 4 * 1024, ..small_batches() };
    let producer = open(&broker, config).await;
    push(&producer, 0, 0).await;
    producer.flush().await.unwrap();
    broker.state().silent = true;

    let mut taken = 1_u64;
    loop {
        let payload = taken.to_le_bytes();
        let key = 0_u32.to_le_bytes();
        let message = Message::new(&key, &payload);
        if is_pending(producer.push(&message)) {
            break;
        }
        taken += 1;
        assert!(taken < 20, "push never waits");
    }
    // Four sealed batches, and one record in an open batch that waits for room.
    assert_eq!(taken, 1 + 4 + 1);
    broker.state().silent = false;
    broker.poke();
    push(&producer, 0, taken).await;
    producer.flush().await.unwrap();
    assert_once_in_order(&broker, 1, taken + 1);
}

#[tokio::test]
async fn a_broker_that_never_reads_holds_the_producer_back_and_loses_nothing() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let producer = {
        let producer = open(&broker, small_batches()).await;
        push(&producer, 0, 0).await;
        producer.flush().await.unwrap();
        producer
    };
    broker.state().deaf = true;
    broker.hang_up();
    broker.until(|state| state.connections >= 3 && state.open == 1).await;
    let payload = vec![1; 100_000];
    let mut pushed = 0_u64;
    loop {
        let message = Message::new(&[0; 4], &payload);
        let waits = {
            let push = producer.push(&message);
            let mut push = pin!(push);
            let now = tokio::time::timeout(Duration::from_millis(50), &mut push).await;
            now.is_err()
        };
        if waits {
            break;
        }
        pushed += 1;
        assert!(pushed * 100_000 < 1024 * 1024 * 1024, "push never waits");
    }
    broker.state().deaf = false;
    broker.hang_up();
    producer.flush().await.unwrap();
    assert_eq!(broker.state().logs[0].next, 1 + pushed);
}

#[tokio::test]
async fn a_final_refusal_is_reported_by_every_call() {
    for code in [ErrorCode::OUT_OF_ORDER_SEQUENCE, ErrorCode::FENCED_EPOCH] {
        let broker = Broker::start(1, move |_| Act::Refuse(code)).await;
        let producer = open(&broker, small_batches()).await;
        push(&producer, 0, 0).await;
        let failed = producer.flush().await.unwrap_err();
        assert!(matches!(&failed, ProduceError::Failed(failed) if failed.code == code), "{failed}");
        let message = Message::new(b"", b"");
        assert!(matches!(producer.push(&message).await, Err(ProduceError::Failed(_))));
        assert!(matches!(producer.close().await, Err(ProduceError::Failed(_))));
    }
}

#[tokio::test]
async fn a_producer_that_the_broker_forgot_goes_on_under_its_next_epoch() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let producer = open(&broker, small_batches()).await;
    for number in 0..4 {
        push(&producer, 0, number).await;
        producer.flush().await.unwrap();
        broker.state().forget_producers();
    }
    assert_once_in_order(&broker, 1, 4);
    let stats = producer.stats();
    assert_eq!((stats.acknowledged, stats.starts_over, stats.doubtful), (4, 3, 0));
}

#[tokio::test]
async fn a_forgotten_producer_with_batches_in_doubt_fails_or_starts_over_as_configured() {
    for on_lost_sequence in [OnLostSequence::Fail, OnLostSequence::StartOver] {
        let broker =
            Broker::start(
                1,
                |asked: Asked| {
                    if asked.index == 1 { Act::AppendAndDrop } else { Act::Answer }
                },
            )
            .await;
        let producer = open(&broker, ProducerConfig { on_lost_sequence, ..small_batches() }).await;
        push(&producer, 0, 0).await;
        producer.flush().await.unwrap();
        broker.state().forget_on_drop = true;
        push(&producer, 0, 1).await;
        match (on_lost_sequence, producer.flush().await) {
            (OnLostSequence::Fail, Err(ProduceError::Failed(failed))) => {
                assert_eq!(failed.code, ErrorCode::OUT_OF_ORDER_SEQUENCE);
                assert_eq!(logged(&broker, 0), [(0, 0), (0, 1)]);
            }
            (OnLostSequence::StartOver, Ok(())) => {
                let stats = producer.stats();
                assert_eq!((stats.starts_over, stats.doubtful), (1, 1));
                assert_eq!(logged(&broker, 0), [(0, 0), (0, 1), (0, 1)]);
            }
            (configured, flushed) => panic!("{configured:?}: {flushed:?}"),
        }
    }
}

#[tokio::test]
async fn patience_ends_with_the_reason() {
    let broker = Broker::start(1, |_| Act::Refuse(ErrorCode::PARTITION_OFFLINE)).await;
    let config = ProducerConfig { give_up_after: Duration::from_millis(20), ..small_batches() };
    let producer = open(&broker, config).await;
    push(&producer, 0, 0).await;
    let gave_up = producer.flush().await.unwrap_err();
    assert!(
        matches!(&gave_up, ProduceError::GaveUp { last, .. } if last.contains("offline")),
        "{gave_up}"
    );
}

#[tokio::test]
async fn patience_ends_for_a_partition_while_others_acknowledge() {
    let broker = Broker::start(2, |asked: Asked| match asked.partition {
        0 => Act::Refuse(ErrorCode::PARTITION_OFFLINE),
        _ => Act::Answer,
    })
    .await;
    let config = ProducerConfig { give_up_after: Duration::from_millis(300), ..small_batches() };
    let producer = open(&broker, config).await;
    let key_of = |partition| (0..).find(|key| partition_of(*key, 2) == partition).unwrap();
    push(&producer, key_of(0), 0).await;
    let flush = async {
        let gave_up = producer.flush().await.unwrap_err();
        assert!(
            matches!(&gave_up, ProduceError::GaveUp { partition: 0, last, .. } if last.contains("offline")),
            "{gave_up}"
        );
    };
    let key = key_of(1).to_le_bytes();
    let others = async {
        for next in 1.. {
            if producer.push(&Message::new(&key, &[0; 8])).await.is_err() {
                // It is the flush that has to end.
                std::future::pending::<()>().await;
            }
            broker.until(|state| state.logs[1].next >= next).await;
        }
    };
    let both = async {
        tokio::select! { () = flush => {}, () = others => {} }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("patience ends");
}

#[tokio::test]
async fn a_record_that_no_batch_can_hold_is_refused_and_the_producer_goes_on() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let producer = open(&broker, small_batches()).await;
    let long = vec![0; 1024 * 1024];
    let refused = producer.push(&Message::new(b"", &long)).await;
    assert!(matches!(refused, Err(ProduceError::Record(_))));
    push(&producer, 0, 0).await;
    assert_eq!(producer.close().await.unwrap().acknowledged, 1);
}

#[tokio::test]
async fn linger_seals_without_any_further_call() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let producer = open(&broker, ProducerConfig::default()).await;
    for number in 0..3 {
        push(&producer, 0, number).await;
        producer.idle().await;
        broker.until(|state| state.logs[0].next == number + 1).await;
    }
    assert_once_in_order(&broker, 1, 3);
}

#[tokio::test]
async fn a_silent_connection_is_given_up_and_another_one_opened() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let config = lanecast_client::ClientConfig {
        keep_alive: Duration::from_millis(10),
        dead_after: Duration::from_millis(40),
        ..crate::config(&broker.addr)
    };
    let client = lanecast_client::Client::connect(config).await.unwrap();
    let producer = lanecast_client::Producer::open(&client, "t", small_batches()).await.unwrap();
    push(&producer, 0, 0).await;
    producer.flush().await.unwrap();
    broker.state().silent = true;
    push(&producer, 0, 1).await;
    broker.until(|state| state.connections >= 3).await;
    broker.state().silent = false;
    broker.poke();
    producer.flush().await.unwrap();
    assert!(producer.stats().reconnects >= 1);
    assert_once_in_order(&broker, 1, 2);
}

#[tokio::test]
async fn a_broker_that_pongs_is_not_given_up() {
    let broker = Broker::start(1, |_| Act::Swallow).await;
    let config = lanecast_client::ClientConfig {
        keep_alive: Duration::from_millis(5),
        dead_after: Duration::from_millis(2_000),
        ..crate::config(&broker.addr)
    };
    let client = lanecast_client::Client::connect(config).await.unwrap();
    let config = ProducerConfig { give_up_after: Duration::from_millis(60), ..small_batches() };
    let producer = lanecast_client::Producer::open(&client, "t", config).await.unwrap();
    push(&producer, 0, 0).await;
    assert!(matches!(producer.flush().await, Err(ProduceError::GaveUp { .. })));
    assert_eq!(producer.stats().reconnects, 0);
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_connection() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let client = connect_only(&broker).await;
    let producer = lanecast_client::Producer::open(&client, "t", small_batches()).await.unwrap();
    push(&producer, 0, 0).await;
    producer.flush().await.unwrap();
    let clone = producer.clone();
    drop(producer);
    push(&clone, 0, 1).await;
    clone.flush().await.unwrap();
    drop(clone);
    broker.until(|state| state.open == 1).await;
    drop(client);
    broker.until(|state| state.open == 0).await;
    assert_eq!(logged(&broker, 0), [(0, 0), (0, 1)]);
}

#[tokio::test]
async fn a_topic_that_was_replaced_ends_the_producer() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let producer = open(&broker, small_batches()).await;
    push(&producer, 0, 0).await;
    producer.flush().await.unwrap();
    broker.state().topic.topic = 2;
    broker.hang_up();
    push(&producer, 0, 1).await;
    let error = producer.flush().await.unwrap_err();
    assert!(matches!(error, ProduceError::Connection(_)), "{error}");
}

#[tokio::test]
async fn clones_push_from_several_tasks() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    let config = ProducerConfig { batch_records: 5, ..ProducerConfig::default() };
    let producer = open(&broker, config).await;
    let mut tasks = tokio::task::JoinSet::new();
    for key in 0..4 {
        let producer = producer.clone();
        tasks.spawn(async move {
            for number in 0..100 {
                push(&producer, key, number).await;
            }
            producer.flush().await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_once_in_order(&broker, 4, 100);
}

/// A batch of one message, with these numbers.
fn sealed(number: u64, sequence: u64) -> bytes::Bytes {
    let mut builder = GenericBuilder::empty();
    builder.push(&Message::new(&[0; 4], &number.to_le_bytes())).unwrap();
    let (producer, epoch) = (ProducerId(7), ProducerEpoch(1));
    batch::seal(&builder.seal(), producer, epoch, Sequence(sequence), 0)
}

#[tokio::test]
async fn raw_batches_keep_their_numbers_over_everything_that_may_pass() {
    let broker = Broker::start(1, |asked: Asked| match asked.index {
        0 => Act::Refuse(ErrorCode::OVERLOADED),
        1 => Act::AppendAndCutAnswer,
        _ => Act::Answer,
    })
    .await;
    let mut producer = RawProducer::open(&connect_only(&broker).await, "t").await.unwrap();
    let first = producer.append(0, sealed(0, 0)).await.unwrap();
    assert_eq!((first.base_offset, first.duplicate), (0, true), "its first answer was cut off");
    assert!(!producer.append(0, sealed(1, 1)).await.unwrap().duplicate);
    assert_eq!(producer.append(0, sealed(1, 1)).await.unwrap().base_offset, 1);
    let hole = producer.append(0, sealed(2, 5)).await.unwrap_err();
    assert_eq!(hole.code(), Some(ErrorCode::OUT_OF_ORDER_SEQUENCE));
    assert!(producer.append(0, bytes::Bytes::from_static(b"no batch")).await.is_err());
    assert_eq!(logged(&broker, 0), [(0, 0), (0, 1)]);
}

async fn connect_only(broker: &Broker) -> lanecast_client::Client {
    crate::connect(broker).await
}
