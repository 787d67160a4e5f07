//! Embeddable tokio client for the Lanecast broker.
//!
//! A [`Client`] knows where the broker is and answers questions about topics. A [`Producer`]
//! gathers records into batches and sends them until they are acknowledged; a [`Subscriber`]
//! receives them, every record (broadcast) or a share of them in leased chunks (consumer group).
//! Both run one task with one connection, reconnect with jittered exponential backoff, and end
//! with their handle.
//!
//! What is acknowledged is as durable as the topic promises. A batch that has to be sent again
//! carries the same (producer, epoch, sequence), and the broker keeps one of it: over retries and
//! reconnects nothing is doubled and the order of a partition holds. Back-pressure is a future
//! that takes longer: [`Producer::push`] waits while the memory for batches is in use, and a
//! subscriber that is slow keeps its credit, so the broker waits for it. Every queue in between
//! has its bound in [`limits`].
//!
//! The protocol itself is `lanecast_wire`, without I/O; this crate moves bytes and time.

mod admin;
mod client;
mod config;
mod connection;
mod dial;
mod error;
mod handler;
mod latency;
pub mod limits;
mod offsets;
mod producer;
mod publisher;
mod received;
mod stats;
mod subscriber;
mod task;

pub use admin::PartitionGroup;
pub use client::Client;
pub use config::{ClientConfig, GroupOptions, Mode, ProducerConfig, SubscriberConfig};
pub use error::{AckError, ClientError, CloseError, ConnectionError, ProduceError, SubscribeError};
pub use handler::{
    HandlerError, ReceivedChunk, Subscription, SubscriptionConfig, SubscriptionStats,
};
pub use lanecast_wire::KeyFilter;
pub use lanecast_wire::generic::{Headers, Message};
pub use lanecast_wire::message::{
    AlterTopic, CreateTopic, DeliveryMode, Durability, GroupInfo, MissedReason, OffsetRange,
    OnFull, PartitionStart, StartPosition, TopicInfo, TopicSettings,
};
pub use lanecast_wire::session::OnLostSequence;
pub use latency::Latency;
pub use offsets::PartitionOffsets;
pub use producer::{Producer, ProducerStats, Published, RawProducer, Receipt};
pub use publisher::{Acknowledgement, CONTENT_TYPE, JSON, Publisher};
pub use received::{ReceivedMessage, Unreadable};
pub use stats::ClientStats;
pub use subscriber::{Batches, Chunk, Delivery, Subscriber};
