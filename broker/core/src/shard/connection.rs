//! One connection of a shard: its session, its subscriptions, the bytes on their way out.
//!
//! ```text
//!           hello                     drained or broken          shell says gone
//!   new ───────────▶ session open ─────────────────────▶ closing ───────────────▶ removed
//! ```

use std::collections::BTreeMap;

use lanecast_wire::message::{DeliveryMode, PartitionPosition};
use lanecast_wire::session::BrokerSession;
use lanecast_wire::{CorrelationId, ErrorCode, SubscriptionId, TopicId};

use crate::limits::{OUTBOUND_BYTES_HIGH, OUTBOUND_BYTES_LOW};

/// A subscription as its connection's shard sees it.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: TopicId,
    pub(super) mode: DeliveryMode,
    /// Per partition.
    pub(super) credit_bytes: u32,
    /// Partitions that have not answered yet, and the request that waits for them.
    pub(super) waiting: u32,
    pub(super) correlation: CorrelationId,
    pub(super) positions: Vec<PartitionPosition>,
    pub(super) refused: Option<(ErrorCode, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) session: BrokerSession,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Bytes given to the shell that the socket has not taken.
    outbound: u64,
    paused: bool,
    /// Nothing more is taken in; `Close` was said.
    pub(super) closing: bool,
    pub(super) goodbye: bool,
}

impl Connection {
    /// Credit that is held out to the peer, over all subscriptions and partitions.
    pub(super) fn credit_bytes(&self) -> u64 {
        let of = |subscription: &Subscription| {
            let partitions = subscription.positions.len() as u64 + u64::from(subscription.waiting);
            u64::from(subscription.credit_bytes) * partitions
        };
        self.subscriptions.values().map(of).sum()
    }

    /// More bytes are given to the shell. Has reading to stop?
    pub(super) fn queued(&mut self, bytes: u64) -> bool {
        self.outbound += bytes;
        let pause = !self.paused && self.outbound > OUTBOUND_BYTES_HIGH;
        self.paused |= pause;
        pause
    }

    /// The socket took bytes. Can reading go on?
    pub(super) fn sent(&mut self, bytes: u64) -> bool {
        self.outbound = self.outbound.saturating_sub(bytes);
        let resume = self.paused && self.outbound < OUTBOUND_BYTES_LOW;
        self.paused &= !resume;
        resume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_high_mark_and_goes_on_below_the_low_one() {
        let mut connection = Connection::default();
        assert!(!connection.queued(OUTBOUND_BYTES_HIGH));
        assert!(connection.queued(1), "now it is too much");
        assert!(!connection.queued(1), "and was said once");
        assert!(!connection.sent(2));
        assert!(!connection.sent(OUTBOUND_BYTES_HIGH - OUTBOUND_BYTES_LOW));
        assert!(connection.sent(1));
        assert!(!connection.sent(1), "said once");
    }
}
