use lanecast_client::{
    Acknowledgement, Client, Headers, Message, ProduceError, ProducerConfig, Published, Publisher,
};
use lanecast_wire::batch;
use lanecast_wire::generic::GenericView;
use lanecast_wire::{ErrorCode, Offset};

use crate::broker::{Act, Broker};
use crate::{connect, partition_of, small_batches};

async fn publisher(broker: &Broker, config: ProducerConfig) -> (Client, Publisher) {
    let client = connect(broker).await;
    let publisher = client.publisher("t", config).await.unwrap();
    (client, publisher)
}

#[tokio::test]
async fn an_acknowledged_message_says_where_it_is_and_a_taken_one_does_not_wait() {
    let broker = Broker::start(3, |_| Act::Answer).await;
    let (_, publisher) = publisher(&broker, ProducerConfig::default()).await;
    for number in 0..20_u32 {
        let key = (number % 5).to_le_bytes();
        let payload = u64::from(number).to_le_bytes();
        let message = Message::new(&key, &payload);
        let published = publisher.publish(&message, Acknowledgement::Acknowledged).await.unwrap();
        let Published::Appended { partition, offset, duplicate: false } = published else {
            panic!("{published:?}")
        };
        assert_eq!(partition, partition_of(number % 5, 3));
        let logged = crate::logged(&broker, partition);
        assert_eq!(logged[offset.0 as usize], (number % 5, u64::from(number)));
    }
    broker.state().silent = true;
    let message = Message::new(b"k", b"v");
    let taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
    assert_eq!(taken, Published::Taken);
}

#[tokio::test]
async fn receipts_of_one_batch_have_their_own_offsets_in_whatever_order_they_are_asked() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let config = ProducerConfig { batch_records: 7, ..ProducerConfig::default() };
    let (_, publisher) = publisher(&broker, config).await;
    let mut receipts = Vec::new();
    for number in 0..50_u64 {
        let payload = number.to_le_bytes();
        receipts.push(publisher.enqueue(&Message::new(&[0; 4], &payload)).await.unwrap());
    }
    for (number, receipt) in (0_u64..).zip(&receipts).collect::<Vec<_>>().into_iter().rev() {
        let published = receipt.acknowledged().await.unwrap();
        let (partition, offset, duplicate) = (0, Offset(number), false);
        assert_eq!(published, Published::Appended { partition, offset, duplicate });
        assert_eq!(receipt.outcome().unwrap().unwrap(), published);
    }
    let stats = publisher.close().await.unwrap();
    assert_eq!((stats.pushed, stats.acknowledged, stats.latency.count), (50, 50, 50));
    assert!(stats.latency.p50 <= stats.latency.p99 && stats.latency.p99 <= stats.latency.max);
}

#[tokio::test]
async fn what_a_full_topic_drops_is_told_and_counted() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let (client, publisher) = publisher(&broker, small_batches()).await;
    let message = Message::new(b"k", b"v");
    let _appended = publisher.publish(&message, Acknowledgement::Acknowledged).await.unwrap();
    broker.state().dropping = true;
    let published = publisher.publish(&message, Acknowledgement::Acknowledged).await.unwrap();
    assert_eq!(published, Published::Dropped { partition: 0 });
    broker.state().dropping = false;
    let published = publisher.publish(&message, Acknowledgement::Acknowledged).await.unwrap();
    assert!(matches!(published, Published::Appended { offset: Offset(1), .. }), "{published:?}");
    let stats = publisher.stats();
    assert_eq!((stats.pushed, stats.acknowledged, stats.dropped), (3, 2, 1));
    publisher.close().await.unwrap();
    let stats = client.stats();
    assert_eq!((stats.published, stats.acknowledged, stats.dropped), (3, 2, 1));
    assert_eq!((stats.unacknowledged, stats.ack_latency.count), (0, 2));
}

#[tokio::test]
async fn every_receipt_learns_why_the_publisher_ended() {
    let broker = Broker::start(1, |asked| {
        if asked.index == 0 { Act::Refuse(ErrorCode::FENCED_EPOCH) } else { Act::Answer }
    })
    .await;
    let config = ProducerConfig { batch_records: 2, ..small_batches() };
    let config = ProducerConfig { linger: std::time::Duration::from_secs(3_600), ..config };
    let (_, publisher) = publisher(&broker, config).await;
    let message = Message::new(b"k", b"v");
    // One in a batch of its own that stays open, two in one that is refused.
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(publisher.enqueue(&message).await.unwrap());
    }
    for receipt in &receipts {
        let failed = receipt.acknowledged().await.unwrap_err();
        assert!(
            matches!(&failed, ProduceError::Failed(failed) if failed.code == ErrorCode::FENCED_EPOCH),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn receipts_of_a_publisher_that_is_gone_do_not_wait() {
    let broker = Broker::start(1, |_| Act::Swallow).await;
    let (_, publisher) = publisher(&broker, small_batches()).await;
    let message = Message::new(b"k", b"v");
    let receipt = publisher.enqueue(&message).await.unwrap();
    broker.until(|state| state.produces == 1).await;
    assert!(receipt.outcome().is_none());
    drop(publisher);
    assert!(matches!(receipt.acknowledged().await, Err(ProduceError::Closed)));
}

#[tokio::test]
async fn json_says_what_it_is_and_messages_get_ids_and_times() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let (_, publisher) = publisher(&broker, ProducerConfig::default()).await;
    let listed: [(&str, &[u8]); 1] = [("source", b"test")];
    let outline = Message { headers: Headers::Listed(&listed), ..Message::new(b"k", b"") };
    let level = Acknowledgement::Acknowledged;
    for value in [vec![1, 2], vec![3]] {
        let _appended = publisher.publish_json(&outline, &value, level).await.unwrap();
    }
    let typed: [(&str, &[u8]); 1] = [("Content-Type", b"application/vnd.test+json")];
    let outline = Message { id: 5, timestamp_ms: 7, headers: Headers::Listed(&typed), ..outline };
    let _appended = publisher.publish_json(&outline, "text", level).await.unwrap();
    let batches = broker.state().logs[0].batches.clone();
    let mut found = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for bytes in &batches {
        let header = batch::check(bytes).unwrap();
        for message in GenericView::open(batch::body(bytes), header.record_count).unwrap().iter() {
            let headers: Vec<_> = message.headers.iter().collect();
            assert!(message.id != 0 && ids.insert(message.id) && message.timestamp_ms > 0);
            found.push((
                String::from_utf8(message.payload.to_vec()).unwrap(),
                String::from_utf8(headers.last().unwrap().1.to_vec()).unwrap(),
                headers.len(),
            ));
        }
    }
    let json = |text: &str| (text.to_owned(), "application/json".to_owned(), 2);
    let own = ("\"text\"".to_owned(), "application/vnd.test+json".to_owned(), 1);
    assert_eq!(found, [json("[1,2]"), json("[3]"), own]);
    let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let refused = publisher.publish_json(&outline, &unwritable, level).await;
    assert!(matches!(refused, Err(ProduceError::Record(_))));
}

#[tokio::test]
async fn a_closed_client_takes_nothing_more_and_has_lost_nothing() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    let (client, publisher) = publisher(&broker, ProducerConfig::default()).await;
    for number in 0..100_u32 {
        let key = number.to_le_bytes();
        let message = Message::new(&key, b"v");
        let taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
        assert_eq!(taken, Published::Taken);
    }
    let stats = client.close().await.unwrap();
    assert_eq!((stats.published, stats.acknowledged, stats.unacknowledged), (100, 100, 0));
    let late = publisher.publish(&Message::new(b"k", b"v"), Acknowledgement::None).await;
    assert!(matches!(late, Err(ProduceError::Closed)));
}

#[tokio::test]
async fn a_client_that_is_closing_takes_nothing_that_it_could_not_wait_for() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let (client, publisher) = publisher(&broker, small_batches()).await;
    broker.state().silent = true;
    let message = Message::new(b"k", b"v");
    let _taken = publisher.publish(&message, Acknowledgement::None).await.unwrap();
    let mut closing = std::pin::pin!(client.close());
    let mut once = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(closing.as_mut().poll(&mut once).is_pending(), "one message is not acknowledged");
    let late = publisher.publish(&message, Acknowledgement::None).await;
    assert!(matches!(late, Err(ProduceError::Closed)));
    broker.state().silent = false;
    broker.poke();
    let stats = closing.await.unwrap();
    assert_eq!((stats.published, stats.acknowledged), (1, 1));
}
