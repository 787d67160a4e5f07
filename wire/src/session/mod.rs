//! The protocol's state machines, for both ends, without sockets or clocks.
//!
//! ```text
//!  producer side                                broker side
//!  ProducerSession  sequences, window, retries
//!        │
//!  ClientSession    hello, correlation ◀─frames─▶  BrokerSession  hello, limits, typed requests
//!        │
//!  SubscriptionSession  credit, chunks, positions
//! ```
//!
//! A shell moves bytes between a socket and a session, and tells it the time where time matters.

mod backoff;
mod broker;
mod client;
mod correlations;
mod output;
mod producer;
mod subscription;

pub use backoff::Backoff;
pub use broker::{BrokerSession, Greeting, Request};
pub use client::{Answer, ClientSession, Event};
pub use output::Output;
pub use producer::{
    Acknowledged, OnLostSequence, Outcome, ProducerFailed, ProducerSession, ProducerSettings, Send,
};
pub use subscription::{
    Delivered, LeasedChunk, SubscriptionError, SubscriptionSession, SubscriptionSettings,
    credit_worth_bytes,
};
