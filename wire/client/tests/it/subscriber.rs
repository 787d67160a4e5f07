use std::time::Duration;

use lanecast_client::{
    AckError, Chunk, Client, ClientConfig, ClientError, Delivery, GroupOptions, MissedReason, Mode,
    OffsetRange, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::batch::{self, schema};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::generic::{GenericBuilder, Message};
use lanecast_wire::message::DeliveryMode;
use lanecast_wire::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::broker::{Act, Broker};
use crate::{connect, read};

/// Appends one batch of `count` records, numbered from the log's end.
pub(crate) fn append(broker: &Broker, partition: u32, count: u64) {
    let mut state = broker.state();
    let log = &mut state.logs[partition as usize];
    let mut builder = GenericBuilder::empty();
    for number in log.next..log.next + count {
        builder.push(&Message::new(&[0; 4], &number.to_le_bytes())).unwrap();
    }
    let sealed: SealedBody = builder.seal();
    assert_eq!(sealed.schema, schema::GENERIC);
    log.push(&batch::seal(&sealed, ProducerId(9), ProducerEpoch(1), Sequence(0), 0));
}

/// Appends a batch that holds no messages.
pub(crate) fn append_foreign(broker: &Broker, partition: u32, count: u32) {
    let sealed = SealedBody {
        body: vec![1, 2, 3, 4],
        schema: schema::TELEMETRY,
        record_count: count,
        min_time_ms: 0,
        max_time_ms: 0,
        summary: Vec::new(),
    };
    let bytes = batch::seal(&sealed, ProducerId(9), ProducerEpoch(1), Sequence(0), 0);
    broker.state().logs[partition as usize].push(&bytes);
}

async fn subscribe(broker: &Broker, mode: Mode) -> Subscriber {
    let config =
        SubscriberConfig { start: StartPosition::Earliest, ..SubscriberConfig::new("t", mode) };
    Subscriber::open(&connect(broker).await, config).await.unwrap()
}

fn group() -> Mode {
    Mode::Group(GroupOptions::new("readers"))
}

async fn chunk(subscriber: &mut Subscriber) -> Chunk {
    match subscriber.next().await.unwrap() {
        Delivery::Chunk(chunk) => chunk,
        other @ (Delivery::Batches(_) | Delivery::Missed { .. } | Delivery::Skipped { .. }) => {
            panic!("{other:?} instead of a chunk")
        }
    }
}

#[tokio::test]
async fn broadcast_gives_every_record_in_order_over_lost_connections() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    broker.state().drop_after_deliveries = Some(1);
    for _ in 0..20 {
        append(&broker, 0, 3);
        append(&broker, 1, 2);
    }
    let mut subscriber = subscribe(&broker, Mode::Broadcast).await;
    let mut next = [0, 0];
    while next != [60, 40] {
        let Delivery::Batches(batches) = subscriber.next().await.unwrap() else {
            panic!("batches")
        };
        let expected = &mut next[batches.partition as usize];
        assert_eq!(batches.first.0, *expected);
        for item in batch::iter(&batches.payload) {
            let (header, bytes) = item.unwrap();
            for (_, number) in read(batch::body(&bytes), header.record_count) {
                assert_eq!(number, *expected);
                *expected += 1;
            }
        }
        assert_eq!(batches.last.0 + 1, *expected);
    }
    assert!(broker.state().connections > 3, "connections were lost on the way");
}

#[tokio::test]
async fn credit_comes_back_when_batches_are_dropped() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().credit_bytes = 1_000;
    for _ in 0..100 {
        append(&broker, 0, 1);
    }
    let mut subscriber = subscribe(&broker, Mode::Default).await;
    let mut held = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_millis(50), subscriber.next()).await;
        let Ok(delivery) = next else { break };
        held.push(delivery.unwrap());
        assert!(held.len() < 100, "credit does not hold the broker back");
    }
    assert!(!held.is_empty());
    let mut count = held.len();
    held.clear();
    while count < 100 {
        subscriber.next().await.unwrap();
        count += 1;
    }
}

#[tokio::test]
async fn what_retention_took_is_reported() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 2);
    let mut subscriber = subscribe(&broker, Mode::Broadcast).await;
    subscriber.next().await.unwrap();
    broker.state().closed = true;
    broker.hang_up();
    broker.until(|state| state.open == 0).await;
    append(&broker, 0, 5);
    append(&broker, 0, 1);
    {
        let mut state = broker.state();
        state.logs[0].start = 7;
        state.closed = false;
    }
    let missed = subscriber.next().await.unwrap();
    let Delivery::Missed { partition: 0, first, last, reason } = missed else {
        panic!("missed records are reported")
    };
    assert_eq!((first.0, last.0, reason), (2, 6, MissedReason::Retention));
    let Delivery::Batches(batches) = subscriber.next().await.unwrap() else { panic!("batches") };
    assert_eq!(batches.first.0, 7);
}

#[tokio::test]
async fn chunks_are_acknowledged_by_their_bounds() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    for _ in 0..4 {
        append(&broker, 0, 5);
    }
    let mut subscriber = subscribe(&broker, group()).await;
    for index in 0..4_u64 {
        let mut chunk = chunk(&mut subscriber).await;
        assert_eq!((chunk.first.0, chunk.last.0), (index * 5, index * 5 + 4));
        assert_eq!((chunk.records(), chunk.attempt, &*chunk.topic), (5, 1, "t"));
        assert_eq!(chunk.batches().map(|(header, _)| header.record_count).sum::<u32>(), 5);
        if index == 2 {
            let before = chunk.deadline();
            chunk.extend(Duration::from_secs(3_000)).await.unwrap();
            assert!(chunk.deadline() > before);
            chunk.nack(Duration::ZERO, "not today").await.unwrap();
        } else {
            chunk.ack().await.unwrap();
        }
    }
    let state = broker.state();
    assert_eq!(state.acked, [(0, 0, 4), (0, 5, 9), (0, 15, 19)]);
    assert_eq!(state.nacked, [(0, 10, 14, "not today".to_owned())]);
}

#[tokio::test]
async fn a_chunk_is_settled_in_parts_and_the_next_holder_sees_what_is_left() {
    let range = |first, last| OffsetRange { first, last };
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().redeliver = true;
    append(&broker, 0, 10);
    let mut subscriber = subscribe(&broker, group()).await;
    let mut first = chunk(&mut subscriber).await;
    assert!(first.is_whole());
    first.ack_range(range(0, 1)).await.unwrap();
    first.nack_range(range(4, 4), Duration::ZERO, "one").await.unwrap();
    first.terminate(&[range(1, 2), range(6, 6)], "never").await.unwrap();
    assert_eq!(first.open_ranges(), [range(3, 3), range(5, 5), range(7, 9)]);
    assert_eq!((first.open_records(), first.records()), (5, 10));
    assert!(first.is_open(Offset(3)) && !first.is_open(Offset(4)) && !first.is_whole());

    // The part is a chunk of its own, inside of the same batch.
    let part = chunk(&mut subscriber).await;
    assert_eq!((part.first, part.last, part.attempt), (Offset(4), Offset(4), 2));
    assert_eq!((part.open_ranges(), part.is_whole()), (&[range(4, 4)][..], false));
    assert_eq!(part.batches().count(), 1);
    part.ack().await.unwrap();

    broker.hang_up();
    let again = chunk(&mut subscriber).await;
    assert_eq!((again.first, again.last, again.attempt), (Offset(0), Offset(9), 2));
    assert_eq!(again.open_ranges(), [range(3, 3), range(5, 5), range(7, 9)]);
    assert!(matches!(first.ack_range(range(3, 3)).await, Err(AckError::LeaseLost)));
    assert!(first.is_open(Offset(3)), "what was refused stays open");
    again.ack().await.unwrap();
    let state = broker.state();
    assert_eq!(state.acked, [(0, 0, 1), (0, 4, 4), (0, 3, 9)]);
    assert_eq!(state.nacked, [(0, 4, 4, "one".to_owned())]);
    let never = |first, last| (0, first, last, "never".to_owned());
    assert_eq!(state.terminated, [never(2, 2), never(6, 6)]);
}

#[tokio::test]
async fn unsubscribing_returns_leases_at_once() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 5);
    let mut subscriber = subscribe(&broker, group()).await;
    let held = chunk(&mut subscriber).await;
    subscriber.unsubscribe().await.unwrap();
    {
        let state = broker.state();
        assert_eq!((state.unsubscribes, state.returned.len()), (1, 1));
    }
    assert!(matches!(held.ack().await, Err(AckError::Closed)));
}

#[tokio::test]
async fn a_lease_ends_with_its_connection_and_the_chunk_comes_again() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 5);
    let mut subscriber = subscribe(&broker, group()).await;
    let first = chunk(&mut subscriber).await;
    broker.hang_up();
    let again = chunk(&mut subscriber).await;
    assert_eq!((again.first, again.last), (first.first, first.last));
    assert!(matches!(first.ack().await, Err(AckError::LeaseLost)));
    again.ack().await.unwrap();
}

#[tokio::test]
async fn a_goodbye_ends_leases() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 5);
    let mut subscriber = subscribe(&broker, group()).await;
    let mut first = chunk(&mut subscriber).await;
    broker.state().say_goodbye = true;
    broker.poke();
    while first.extend(Duration::from_secs(10)).await.is_ok() {}
    assert!(matches!(first.ack().await, Err(AckError::LeaseLost)));
    assert_eq!(broker.state().acked, []);
}

#[tokio::test]
async fn more_acks_than_may_be_in_flight_wait_their_turn() {
    let broker = Broker::start(20, |_| Act::Answer).await;
    for partition in 0..20 {
        for _ in 0..64 {
            append(&broker, partition, 1);
        }
    }
    let options = GroupOptions { chunks_in_flight: 64, ..GroupOptions::new("readers") };
    let mut subscriber = subscribe(&broker, Mode::Group(options)).await;
    let mut chunks = Vec::new();
    while chunks.len() < 1_280 {
        chunks.push(chunk(&mut subscriber).await);
    }
    broker.state().silent = true;
    let mut acks = tokio::task::JoinSet::new();
    for chunk in chunks {
        acks.spawn(chunk.ack());
    }
    broker.until(|state| state.acked.len() > 1_000).await;
    broker.state().silent = false;
    broker.poke();
    for acked in acks.join_all().await {
        acked.unwrap();
    }
    assert_eq!(broker.state().acked.len(), 1_280);
}

#[tokio::test]
async fn an_ack_whose_answer_never_came_is_unknown() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 5);
    broker.state().unanswered_acks = true;
    let mut subscriber = subscribe(&broker, group()).await;
    let chunk = chunk(&mut subscriber).await;
    let ack = tokio::spawn(chunk.ack());
    broker.until(|state| state.acked.len() == 1).await;
    broker.hang_up();
    assert!(matches!(ack.await.unwrap(), Err(AckError::Unknown)));
}

#[tokio::test]
async fn acks_get_through_while_many_chunks_wait() {
    let broker = Broker::start(16, |_| Act::Answer).await;
    for partition in 0..16 {
        for _ in 0..40 {
            append(&broker, partition, 1);
        }
    }
    let options = GroupOptions { chunks_in_flight: 40, ..GroupOptions::new("readers") };
    let mut subscriber = subscribe(&broker, Mode::Group(options)).await;
    for _ in 0..640 {
        chunk(&mut subscriber).await.ack().await.unwrap();
    }
    assert_eq!(broker.state().acked.len(), 640);
}

#[tokio::test]
async fn an_ack_is_answered_when_a_subscription_fails_whose_deliveries_nobody_takes() {
    let broker = Broker::start(3, |_| Act::Answer).await;
    for partition in 0..3 {
        for _ in 0..64 {
            append(&broker, partition, 1);
        }
    }
    let options = GroupOptions { chunks_in_flight: 64, ..GroupOptions::new("readers") };
    let mut subscriber = subscribe(&broker, Mode::Group(options)).await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.push(chunk(&mut subscriber).await);
    }
    broker.state().topic.topic = 2;
    let before = broker.state().connections;
    broker.hang_up();
    broker.until(|state| state.connections > before).await;
    for chunk in held {
        let acked = tokio::time::timeout(Duration::from_secs(20), chunk.ack()).await;
        acked.expect("there is an answer").unwrap_err();
    }
    while subscriber.next().await.is_ok() {}
}

#[tokio::test]
async fn the_default_mode_is_the_brokers() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().mode = DeliveryMode::Queue;
    append(&broker, 0, 1);
    let mut subscriber = subscribe(&broker, Mode::Default).await;
    let delivery = subscriber.next().await.unwrap();
    assert_eq!(delivery.mode(), DeliveryMode::Queue);
}

#[tokio::test]
async fn a_slow_reader_of_many_small_batches_loses_nothing() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().credit_bytes = 8 * 1024 * 1024;
    for _ in 0..5_000 {
        append(&broker, 0, 1);
    }
    let mut subscriber = subscribe(&broker, Mode::Broadcast).await;
    // Everything that fits on the way has time to get there before the first is taken.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for offset in 0..5_000 {
        let Delivery::Batches(batches) = subscriber.next().await.unwrap() else { panic!() };
        assert_eq!(batches.first.0, offset);
    }
}

/// A broker that has just started still reads some of its logs.
#[tokio::test]
async fn an_opening_waits_for_partitions_that_are_soon_online() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    broker.state().offline.insert(1);
    append(&broker, 1, 3);
    let opening = async { subscribe(&broker, Mode::Broadcast).await };
    let coming = async {
        broker.until(|state| !state.subscribes.is_empty()).await;
        // The answer is on its way: an opening that does not wait ends with it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.state().offline.clear();
        broker.poke();
    };
    let (mut subscriber, ()) = tokio::join!(opening, coming);
    assert_eq!(subscriber.positions().len(), 2);
    assert_eq!(subscriber.offline(), [] as [u32; 0]);
    let Delivery::Batches(batches) = subscriber.next().await.unwrap() else { panic!("batches") };
    assert_eq!((batches.partition, batches.last), (1, Offset(2)));
}

/// While an opening waits, nobody works on the chunks that come, or keeps their leases.
#[tokio::test]
async fn an_opening_does_not_wait_until_leases_run_out() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    broker.state().offline.insert(1);
    append(&broker, 0, 3);
    let lease = Duration::from_secs(2);
    let mode = Mode::Group(GroupOptions { lease, ..GroupOptions::new("readers") });
    let mut subscriber = subscribe(&broker, mode).await;
    assert_eq!(subscriber.offline(), [1]);
    let delivery = tokio::time::timeout(Duration::from_secs(20), subscriber.next()).await;
    let delivery = delivery.expect("its lease has not run out");
    let Delivery::Chunk(chunk) = delivery.unwrap() else { panic!("a chunk") };
    assert!(chunk.deadline() > tokio::time::Instant::now(), "its lease has run out");
    chunk.ack().await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_of_many_small_batches_can_leave() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().credit_bytes = 8 * 1024 * 1024;
    for _ in 0..5_000 {
        append(&broker, 0, 1);
    }
    let subscriber = subscribe(&broker, Mode::Broadcast).await;
    // Until nothing is read any more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let left = tokio::time::timeout(Duration::from_secs(20), subscriber.unsubscribe()).await;
    left.expect("the answer is read").unwrap();
    assert_eq!(broker.state().unsubscribes, 1);
}

#[tokio::test]
async fn leaving_a_broker_that_does_not_answer_comes_to_an_end() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let config = ClientConfig {
        request_timeout: Duration::from_secs(1),
        dead_after: Duration::from_secs(3_600),
        ..crate::config(&broker.addr)
    };
    let client = Client::connect(config).await.unwrap();
    let config = SubscriberConfig::new("t", Mode::Broadcast);
    let subscriber = Subscriber::open(&client, config).await.unwrap();
    broker.state().silent = true;
    let left = tokio::time::timeout(Duration::from_secs(20), subscriber.unsubscribe()).await;
    assert!(matches!(left.expect("patience ends"), Err(AckError::Unknown)));
    broker.until(|state| state.open == 1).await;
}

#[tokio::test]
async fn dropping_the_subscriber_closes_its_connection() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let subscriber = subscribe(&broker, group()).await;
    broker.until(|state| state.subscribes.len() == 1).await;
    drop(subscriber);
    broker.until(|state| state.open == 0).await;
}

#[tokio::test]
async fn opening_waits_until_the_broker_takes_the_subscription() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().refuse_subscribe = Some(ErrorCode::TOO_MANY_CONSUMERS);
    let client = connect(&broker).await;
    let opening = tokio::spawn(async move {
        Subscriber::open(&client, SubscriberConfig::new("t", Mode::Broadcast)).await
    });
    broker.until(|state| state.subscribes.len() >= 2).await;
    broker.state().refuse_subscribe = None;
    let mut subscriber = opening.await.unwrap().unwrap();
    append(&broker, 0, 1);
    broker.poke();
    let Delivery::Batches(batches) = subscriber.next().await.unwrap() else { panic!("batches") };
    assert_eq!(batches.first.0, 0);
}

#[tokio::test]
async fn a_subscription_that_is_refused_for_good_is_an_error_with_its_code() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().refuse_subscribe = Some(ErrorCode::OFFSET_OUT_OF_RANGE);
    let client = connect(&broker).await;
    let config = SubscriberConfig::new("t", Mode::Broadcast);
    let error = Subscriber::open(&client, config).await.err().unwrap();
    assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
}

#[tokio::test]
async fn a_subscription_that_is_never_taken_says_why() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().refuse_subscribe = Some(ErrorCode::TOO_MANY_CONSUMERS);
    let config =
        ClientConfig { request_timeout: Duration::from_millis(50), ..crate::config(&broker.addr) };
    let client = Client::connect(config).await.unwrap();
    let config = SubscriberConfig::new("t", Mode::Broadcast);
    let error = Subscriber::open(&client, config).await.err().unwrap();
    assert!(matches!(&error, ClientError::Timeout { last, .. } if last == "scripted"), "{error}");
}
