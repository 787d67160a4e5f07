//! The load generator: one thread that publishes and subscribes over any number of connections.
//!
//! ```text
//!   schedule ──▶ Publisher ──bytes──▶ socket ═══▶ system ═══▶ socket ──bytes──▶ Subscriber
//!   (when each       ▲                                                              │
//!    batch is due)   └── acknowledgements: latency from the *scheduled* time ──┘ deliveries: the same
//! ```
//!
//! **Open loop**: batch *n* is due at `start + n / rate`, whatever the system does; its latency counts
//! from then. A system that stalls for a second thus shows a second on all batches that were due
//! meanwhile (no coordinated omission). **Closed loop**: each connection has a number of batches under
//! way, and sends the next when one is done: that finds the maximum.
//!
//! Protocols are a [`Publisher`] and a [`Subscriber`], which know no sockets and no clock. All systems are
//! driven by the same loop, so what the client costs is the same for all.

mod bare;
mod batches;
mod bulk;
mod crew;
mod deliveries;
mod engine;
mod lanecast;
mod line;

pub use bare::{BarePublisher, BareSubscriber};
pub use batches::Batches;
pub use bulk::{fill, take};
pub use crew::run_together;
pub use engine::{Pulse, run, run_observed};
pub use lanecast::{LanecastPublisher, LanecastSubscriber, Subscription, create_topic};
pub use line::Outgoing;

use std::net::TcpStream;
use std::time::Duration;

use crate::Error;

/// How batches are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many per second, over all connections.
    Open { batches_per_second: f64 },
    /// So many under way on each connection.
    Closed { in_flight: u32 },
}

/// When a batch is done: what a closed loop waits for, and what throughput counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    Acknowledged,
    /// By every subscriber.
    Delivered,
}

/// What the loop does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Looks again at once: the loop has a core of its own.
    Poll,
    /// Sleeps: it shares its core with what it measures.
    Sleep,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub load: Load,
    pub completion: Completion,
    pub idle: Idle,
    /// Not counted.
    pub warmup: Duration,
    pub duration: Duration,
}

/// Names one batch to the loop: whose, and the how manieth of it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchName {
    pub publisher: u32,
    pub number: u64,
}

/// The publishing end of a protocol, over one connection.
pub trait Publisher: Send {
    /// Appends the next batch.
    fn publish(&mut self, out: &mut Outgoing);

    /// Takes what was received. Gives how many batches it says are done, oldest first.
    ///
    /// # Errors
    /// The system refuses, or does not speak its protocol.
    fn receive(&mut self, bytes: &[u8], out: &mut Outgoing) -> Result<u32, Error>;

    /// Batches that the system lets a connection have unanswered.
    fn window(&self) -> u32 {
        u32::MAX
    }
}

/// The receiving end of a protocol, over one connection.
pub trait Subscriber: Send {
    /// Takes what was received, says which batches it holds, and answers where the protocol wants it.
    ///
    /// # Errors
    /// As for [`Publisher::receive`].
    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        delivered: &mut dyn FnMut(BatchName),
    ) -> Result<(), Error>;
}

/// Connections, ready to be used.
#[derive(Default)]
pub struct Fleet {
    pub publishers: Vec<(TcpStream, Box<dyn Publisher>)>,
    pub subscribers: Vec<(TcpStream, Box<dyn Subscriber>)>,
    /// Records and bytes of each batch.
    pub batch_records: u64,
    pub batch_bytes: u64,
}

impl Fleet {
    /// Without connections yet.
    #[must_use]
    pub fn of(batches: &Batches) -> Self {
        let (batch_records, batch_bytes) = (batches.records(), batches.bytes() as u64);
        Self { batch_records, batch_bytes, ..Self::default() }
    }
}
