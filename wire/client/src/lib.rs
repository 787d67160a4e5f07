//! Embeddable tokio client for the Lanecast broker.
//!
//! A [`Client`] knows where the broker is, and asks and orders things about topics and consumer
//! groups. What moves records is opened from it, each with a task and a connection of its own; what
//! puts records in has one for each core of the broker that has partitions of its topic:
//!
//! | | records | messages |
//! |---|---|---|
//! | in | [`Producer`]: any schema, in batches | [`Publisher`]: one by one, with a word on each |
//! | out | [`Subscriber`]: batches and leased chunks, as you ask for them | [`Client::subscribe`], [`Client::subscribe_json`], [`Client::subscribe_chunks`]: a handler is called |
//! | as they are | [`RawProducer`]: sealed batches with their own numbers | |
//!
//! ```no_run
//! use lanecast_client::{Acknowledgement, Client, ClientConfig, Message, Mode, ProducerConfig};
//! use lanecast_client::{CreateTopic, GroupOptions, SubscriberConfig, TopicSettings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
//! let settings = TopicSettings::default();
//! client.create_topic(CreateTopic { name: "jobs".into(), partitions: 0, settings }).await?;
//!
//! // Every member of the group gets a share of the messages, up to 100 handlers at a time.
//! let group = Mode::Group(GroupOptions::new("workers"));
//! let subscription = client
//!     .subscribe_json(SubscriberConfig::new("jobs", group), |job: String, message| async move {
//!         println!("{} at offset {}, attempt {}", job, message.offset(), message.attempt());
//!         Ok(())
//!     })
//!     .await?;
//!
//! let publisher = client.publisher("jobs", ProducerConfig::default()).await?;
//! let outline = Message::new(b"gpu-7", b"");
//! let level = Acknowledgement::Acknowledged;
//! let _stored = publisher.publish_json(&outline, "reset the clocks", level).await?;
//!
//! // Everything published is delivered, then everything ends.
//! let stats = client.close().await?;
//! assert_eq!(stats.published, stats.delivered);
//! # drop(subscription);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! *Acknowledged* means as durable as the topic promises. A batch that has to be sent again carries
//! the same (producer, epoch, sequence), and the broker keeps one of it: over retries and reconnects
//! nothing is doubled and the order of a partition holds. A topic that drops when it is full says so
//! for each batch, and it is counted; nothing is dropped silently.
//!
//! A broker may *forget* a producer: retention took its last batch, a `memory` topic was restarted,
//! a `written` one lost its end in a power cut. With nothing in doubt the producer goes on by itself
//! under its next epoch. With batches in doubt, sent and never answered, either choice may be wrong,
//! so it is yours: [`ProducerConfig::on_lost_sequence`].
//!
//! A group's *chunk* is leased to one member until its deadline, and settled whole or in parts down
//! to one record: [`Chunk`]. Handlers settle theirs by themselves, exactly the records that they
//! handled, and failures are given back; how, and in which order, stands at [`Subscription`].
//! A handler that panics fails its record alone, *in a program that unwinds*: that is Rust's default,
//! and the profile of the program that embeds this crate decides it, not this crate's own. With
//! `panic = "abort"` a panic ends the process, and what was not acknowledged comes to others. (The
//! `lanecast` binary aborts on purpose: a broker with a dead shard must not go on. It has no handlers.)
//!
//! Everything is delivered at least once; an effect that is keyed by `topic/partition/first-last` of a chunk, or by
//! `topic/partition/offset`, happens once.
//!
//! *Back-pressure* is a future that takes longer: [`Producer::push`] waits while the memory for
//! batches is in use, and a subscriber that is slow keeps its credit, so the broker waits for it.
//! Every queue in between has its bound in [`limits`].
//!
//! A peer that goes silent is asked for a sign of life after
//! [`keep_alive`](ClientConfig::keep_alive) and given up after
//! [`dead_after`](ClientConfig::dead_after), whether or not anything was asked of it; connections
//! come back with jittered exponential backoff.
//!
//! [`Client::stats`] sums up everything that was opened from a client.
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
pub use subscriber::{Batches, Chunk, ConnectionState, Delivery, Extension, Subscriber};
