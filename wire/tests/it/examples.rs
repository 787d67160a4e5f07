//! One message of every kind, with every field away from its zero.

use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, CreateTopic, Credit, Deliver, DeliveryMode, DescribeTopic,
    Done, Durability, Extend, Goodbye, GroupOptions, Hello, HelloReply, Lease, ListTopics, Missed,
    Nack, PartitionPosition, PartitionStart, Ping, Produce, ProduceReply, Refusal, StartPosition,
    Subscribe, SubscribeMode, SubscribeReply, TopicInfo, TopicSettings, TopicsReply, Unsubscribe,
};

fn settings() -> TopicSettings {
    TopicSettings { durability: Durability::Written, retention_bytes: 1 << 40, retention_ms: 77 }
}

fn group() -> GroupOptions {
    GroupOptions {
        group: "clickhouse".into(),
        member: "member-1".into(),
        chunk_records: 50_000,
        chunk_bytes: 1 << 20,
        chunk_linger_ms: 1_000,
        lease_ms: 30_000,
        chunks_in_flight: 2,
    }
}

fn subscribe(mode: SubscribeMode) -> Subscribe {
    let starts = [
        StartPosition::Earliest,
        StartPosition::Latest,
        StartPosition::Offset(9),
        StartPosition::Timestamp(-9),
    ];
    Subscribe {
        subscription: 3,
        topic: 4,
        mode,
        start: StartPosition::Timestamp(1_700_000_000_000),
        starts: (0..)
            .zip(starts)
            .map(|(partition, start)| PartitionStart { partition, start })
            .collect(),
        credit_bytes: 1 << 22,
    }
}

pub(crate) fn client_messages() -> Vec<(&'static str, ClientMessage)> {
    let (subscription, partition, first, last, generation) = (3, 5, 100, 199, 8);
    vec![
        (
            "hello",
            ClientMessage::Hello(Hello {
                protocol_min: 1,
                protocol_max: 2,
                client: "lanecast-producer".into(),
            }),
        ),
        (
            "create_topic",
            ClientMessage::CreateTopic(CreateTopic {
                name: "gpu-telemetry".into(),
                partitions: 16,
                settings: settings(),
            }),
        ),
        (
            "describe_topic",
            ClientMessage::DescribeTopic(DescribeTopic { name: "gpu-telemetry".into() }),
        ),
        ("list_topics", ClientMessage::ListTopics(ListTopics {})),
        ("produce", ClientMessage::Produce(Produce { topic: 4, partition })),
        ("subscribe_default", ClientMessage::Subscribe(subscribe(SubscribeMode::Default(group())))),
        ("subscribe_broadcast", ClientMessage::Subscribe(subscribe(SubscribeMode::Broadcast))),
        ("subscribe_group", ClientMessage::Subscribe(subscribe(SubscribeMode::Group(group())))),
        ("credit", ClientMessage::Credit(Credit { subscription, partition, bytes: 65_536 })),
        ("ack", ClientMessage::Ack(Ack { subscription, partition, first, last, generation })),
        (
            "nack",
            ClientMessage::Nack(Nack {
                subscription,
                partition,
                first,
                last,
                generation,
                delay_ms: 250,
                reason: "too many parts".into(),
            }),
        ),
        (
            "extend",
            ClientMessage::Extend(Extend {
                subscription,
                partition,
                first,
                last,
                generation,
                lease_ms: 60_000,
            }),
        ),
        ("unsubscribe", ClientMessage::Unsubscribe(Unsubscribe { subscription })),
        ("ping", ClientMessage::Ping(Ping {})),
    ]
}

pub(crate) fn broker_messages() -> Vec<(&'static str, BrokerMessage)> {
    let (subscription, partition, first, last) = (3, 5, 100, 199);
    let deliver = |lease| {
        let high_watermark = 500;
        let deliver = Deliver { subscription, partition, first, last, high_watermark, lease };
        BrokerMessage::Deliver(deliver)
    };
    let lease =
        Lease { chunk_first: 100, chunk_last: 299, generation: 8, attempt: 2, lease_ms: 30_000 };
    vec![
        (
            "hello_reply",
            BrokerMessage::HelloReply(HelloReply {
                protocol: 1,
                broker_version: "0.1.0-test".into(),
                shards: 8,
                default_mode: DeliveryMode::Queue,
                default_credit_bytes: 1 << 22,
            }),
        ),
        (
            "topics",
            BrokerMessage::Topics(TopicsReply {
                topics: ["gpu-telemetry", "t"]
                    .map(|name| TopicInfo {
                        topic: 4,
                        name: name.into(),
                        partitions: 16,
                        settings: settings(),
                    })
                    .to_vec(),
            }),
        ),
        (
            "produce_reply",
            BrokerMessage::ProduceReply(ProduceReply { base_offset: 1 << 33, duplicate: true }),
        ),
        (
            "subscribe_reply",
            BrokerMessage::SubscribeReply(SubscribeReply {
                mode: DeliveryMode::Broadcast,
                credit_bytes: 1 << 22,
                positions: vec![PartitionPosition { partition, next_offset: 7, high_watermark: 9 }],
            }),
        ),
        ("deliver", deliver(None)),
        ("deliver_leased", deliver(Some(lease))),
        ("missed", BrokerMessage::Missed(Missed { subscription, partition, first, last })),
        ("done", BrokerMessage::Done(Done {})),
        ("goodbye", BrokerMessage::Goodbye(Goodbye { reason: "draining".into() })),
        (
            "refusal",
            BrokerMessage::Refusal(Refusal {
                code: 202,
                message: "slow down, please".into(),
                retry_after_ms: 50,
            }),
        ),
    ]
}
