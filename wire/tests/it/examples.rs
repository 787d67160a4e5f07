//! One message of every kind, with every field away from its zero.

use lanecast_wire::message::{
    Ack, AlterTopic, BrokerMessage, ClientMessage, CreateTopic, Credit, DeleteGroup, DeleteTopic,
    Deliver, DeliveryMode, DescribeTopic, Done, Durability, Ended, Extend, Goodbye, GroupInfo,
    GroupOptions, GroupsReply, Hello, HelloReply, Lease, ListGroups, ListTopics, Migrate, Missed,
    MissedReason, MoveGroup, Nack, OffsetRange, OnFull, PartitionOnline, PartitionPosition,
    PartitionStart, Ping, Produce, ProduceReply, Refusal, Settled, StartPosition, Subscribe,
    SubscribeMode, SubscribeReply, Terminate, TopicInfo, TopicSettings, TopicsReply, Unsubscribe,
};
use lanecast_wire::{ErrorCode, KeyFilter};

fn settings() -> TopicSettings {
    TopicSettings {
        durability: Durability::Written,
        retention_bytes: 1 << 40,
        retention_ms: 77,
        record_ttl_ms: 60_000,
        max_attempts: 5,
        on_full: OnFull::DropOld,
        retention_breaks_leases: true,
    }
}

fn ranges() -> Vec<OffsetRange> {
    vec![OffsetRange { first: 100, last: 100 }, OffsetRange { first: 120, last: 149 }]
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
            .map(|(partition, start)| PartitionStart { partition, start, log_epoch: 0x77 })
            .collect(),
        credit_bytes: 1 << 22,
        filter: KeyFilter::default(),
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
        (
            "subscribe_filtered",
            ClientMessage::Subscribe(Subscribe {
                filter: KeyFilter::default().gpu("GPU-1").host("node-1").message_key(*b"\xff\x00"),
                ..subscribe(SubscribeMode::Broadcast)
            }),
        ),
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
        (
            "alter_topic",
            ClientMessage::AlterTopic(AlterTopic {
                name: "gpu-telemetry".into(),
                retention_bytes: Some(1 << 41),
                retention_ms: None,
                record_ttl_ms: Some(7),
                max_attempts: Some(9),
                on_full: Some(OnFull::DropNew),
                retention_breaks_leases: None,
            }),
        ),
        ("delete_topic", ClientMessage::DeleteTopic(DeleteTopic { name: "gpu-telemetry".into() })),
        ("list_groups", ClientMessage::ListGroups(ListGroups { topic: 4, partition })),
        (
            "move_group",
            ClientMessage::MoveGroup(MoveGroup {
                topic: 4,
                partition,
                group: "clickhouse".into(),
                to: StartPosition::Offset(77),
            }),
        ),
        (
            "delete_group",
            ClientMessage::DeleteGroup(DeleteGroup {
                topic: 4,
                partition,
                group: "clickhouse".into(),
            }),
        ),
        (
            "terminate",
            ClientMessage::Terminate(Terminate {
                subscription,
                partition,
                ranges: ranges(),
                generation,
                reason: "value is no number".into(),
            }),
        ),
        ("migrate", ClientMessage::Migrate(Migrate { topic: 4, partition })),
    ]
}

pub(crate) fn broker_messages() -> Vec<(&'static str, BrokerMessage)> {
    let (subscription, partition, first, last) = (3, 5, 100, 199);
    let deliver = |lease| {
        let high_watermark = 500;
        let deliver = Deliver { subscription, partition, first, last, high_watermark, lease };
        BrokerMessage::Deliver(deliver)
    };
    let position =
        PartitionPosition { partition, next_offset: 7, high_watermark: 9, log_epoch: 0x77 };
    let lease = Lease {
        chunk_first: 100,
        chunk_last: 299,
        generation: 8,
        attempt: 2,
        lease_ms: 30_000,
        appended_ms: 9,
    };
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
            BrokerMessage::ProduceReply(ProduceReply {
                base_offset: 1 << 33,
                duplicate: true,
                dropped: false,
            }),
        ),
        (
            "subscribe_reply",
            BrokerMessage::SubscribeReply(SubscribeReply {
                mode: DeliveryMode::Broadcast,
                credit_bytes: 1 << 22,
                positions: vec![position],
                offline: vec![7],
            }),
        ),
        (
            "partition_online",
            BrokerMessage::PartitionOnline(PartitionOnline { subscription, position }),
        ),
        ("deliver", deliver(None)),
        ("deliver_leased", deliver(Some(lease))),
        (
            "missed",
            BrokerMessage::Missed(Missed {
                subscription,
                partition,
                first,
                last,
                reason: MissedReason::Expired,
            }),
        ),
        (
            "ended",
            BrokerMessage::Ended(Ended {
                subscription,
                code: ErrorCode::UNKNOWN_TOPIC.0,
                message: "the topic was deleted".into(),
            }),
        ),
        (
            "groups",
            BrokerMessage::Groups(GroupsReply {
                groups: vec![GroupInfo {
                    name: "clickhouse".into(),
                    acked_upto: 100,
                    high_watermark: 500,
                    lag_records: 400,
                    members: 2,
                    in_flight_chunks: 3,
                    open_chunks: 4,
                    redelivered_chunks: 5,
                    expired_leases: 6,
                    dead_lettered_records: 7,
                    skipped_records: 8,
                }],
            }),
        ),
        (
            "settled",
            BrokerMessage::Settled(Settled {
                subscription,
                partition,
                chunk_first: first,
                generation: 8,
                ranges: ranges(),
            }),
        ),
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
