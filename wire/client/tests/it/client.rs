use std::time::Duration;

use lanecast_client::{
    AlterTopic, Client, ClientConfig, ClientError, CreateTopic, StartPosition, TopicSettings,
};
use lanecast_wire::ErrorCode;
use tokio::net::TcpListener;

use crate::broker::{Act, Broker, group_info};
use crate::{config, connect};

fn create(name: &str) -> CreateTopic {
    let settings = TopicSettings::default();
    CreateTopic { name: name.into(), partitions: 0, settings }
}

#[tokio::test]
async fn topics_are_made_found_and_listed() {
    let broker = Broker::start(4, |_| Act::Answer).await;
    let client = connect(&broker).await;
    assert_eq!(client.broker_version(), "scripted");
    assert_eq!(client.create_topic(create("t")).await.unwrap().partitions, 4);
    assert_eq!(client.topic("t").await.unwrap().topic, 1);
    assert_eq!(client.topics().await.unwrap().len(), 1);
    assert_eq!(broker.state().connections, 1);
}

#[tokio::test]
async fn refusals_carry_their_code() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let client = connect(&broker).await;
    let unknown = client.topic("unknown").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UNKNOWN_TOPIC));
    let wrong = client.topic("a/b").await.unwrap_err();
    assert_eq!(wrong.code(), Some(ErrorCode::INVALID_NAME));
}

#[tokio::test]
async fn topics_are_altered_and_deleted_also_when_an_answer_is_lost() {
    let broker = Broker::start(2, |_| Act::Answer).await;
    let client = connect(&broker).await;
    let alter = AlterTopic {
        name: "t".into(),
        retention_bytes: Some(77),
        max_attempts: Some(9),
        ..AlterTopic::default()
    };
    let settings = client.alter_topic(alter).await.unwrap().settings;
    assert_eq!((settings.retention_bytes, settings.max_attempts), (77, 9));
    let unknown = client.delete_topic("unknown").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UNKNOWN_TOPIC));
    broker.state().cut_delete = true;
    client.delete_topic("t").await.unwrap();
    assert_eq!(client.topic("t").await.unwrap_err().code(), Some(ErrorCode::UNKNOWN_TOPIC));
}

#[tokio::test]
async fn groups_are_listed_moved_and_deleted_in_one_partition_or_in_all() {
    let broker = Broker::start(3, |_| Act::Answer).await;
    broker.state().group_is_scripted = true;
    for partition in [0, 2] {
        broker.state().groups.insert(partition, group_info("readers"));
    }
    let client = connect(&broker).await;
    let partitions = |groups: Vec<lanecast_client::PartitionGroup>| -> Vec<(u32, u64)> {
        groups.iter().map(|found| (found.partition, found.group.acked_upto)).collect()
    };
    assert_eq!(partitions(client.groups("t", None).await.unwrap()), [(0, 0), (2, 0)]);
    assert_eq!(partitions(client.groups("t", Some(2)).await.unwrap()), [(2, 0)]);
    let to = StartPosition::Offset(5);
    let moved = client.move_group("t", None, "readers", to).await.unwrap();
    assert_eq!(partitions(moved), [(0, 5), (2, 5)]);
    broker.state().groups.get_mut(&2).unwrap().high_watermark = 3;
    let to_four = StartPosition::Offset(4);
    let short = client.move_group("t", None, "readers", to_four).await.unwrap_err();
    assert_eq!(short.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert!(short.to_string().contains("partition 2 ends at 3"), "{short}");
    assert_eq!(partitions(client.groups("t", None).await.unwrap()), [(0, 5), (2, 5)]);
    broker.state().groups.get_mut(&2).unwrap().high_watermark = 5;
    let unknown = client.move_group("t", Some(1), "readers", to).await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UNKNOWN_GROUP));
    broker.state().group_is_active = true;
    let active = client.move_group("t", None, "readers", to).await.unwrap_err();
    assert_eq!(active.code(), Some(ErrorCode::GROUP_ACTIVE));
    client.delete_group("t", None, "readers").await.unwrap();
    assert_eq!(client.groups("t", None).await.unwrap(), []);
    let unknown = client.delete_group("t", None, "readers").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UNKNOWN_GROUP));
}

#[tokio::test]
async fn a_question_survives_a_lost_connection_and_a_cancelled_one() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let client = connect(&broker).await;
    broker.hang_up();
    broker.until(|state| state.open == 0).await;
    client.topic("t").await.unwrap();
    broker.state().silent = true;
    let cut = tokio::time::timeout(Duration::from_millis(5), client.topic("t")).await;
    assert!(cut.is_err());
    broker.state().silent = false;
    client.topic("t").await.unwrap();
}

#[tokio::test]
async fn addresses_are_tried_in_turn() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = unused.local_addr().unwrap();
    drop(unused);
    let broker = Broker::start(1, |_| Act::Answer).await;
    let client = Client::connect(config(&format!("{nobody}, {}", broker.addr))).await.unwrap();
    client.topic("t").await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = unused.local_addr().unwrap().to_string();
    drop(unused);
    let config = ClientConfig { connect_patience: Duration::from_millis(20), ..config(&nobody) };
    let Err(error) = Client::connect(config).await else { panic!("nobody is there") };
    assert!(error.to_string().contains(&nobody), "{error}");
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_final() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().refuse_hello = Some(ErrorCode::UNSUPPORTED_VERSION);
    let error = Client::connect(config(&broker.addr)).await.err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }));
    assert_eq!(broker.state().connections, 1);
}

#[tokio::test]
async fn a_broker_that_is_not_ready_yet_is_waited_for() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    broker.state().closed = true;
    let connecting = tokio::spawn(Client::connect(config(&broker.addr)));
    broker.until(|state| state.connections >= 2).await;
    broker.state().closed = false;
    connecting.await.unwrap().unwrap();
}
