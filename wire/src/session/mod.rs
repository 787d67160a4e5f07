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

mod broker;
mod output;

pub use broker::{BrokerSession, Greeting, Request};
pub use output::Output;
