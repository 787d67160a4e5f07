//! Connections that go from one shard to another.
//!
//! ```text
//!   client        connection's shard             shells               partition's shard
//!     │ Migrate ─────▶ │                            │                        │
//!     │                │ Action::Migrate ─────────▶ │ socket and Migrant     │
//!     │                                             │ ─────────────────────▶ │ Event::Arrived
//!     │ ◀─────────────────────────────────────────────────────────────── Done │
//! ```
//!
//! A shard that has not heard of the topic yet sends the connection back, with a refusal.
//!
//! A connection moves while nothing is in flight or subscribed to on it: then no message between shards
//! names it, and all that there is of it goes along. What its client has sent behind the request is taken
//! in where it arrives.

use bytes::Bytes;
use lanecast_wire::message::Refusal;
use lanecast_wire::{CorrelationId, ErrorCode, PartitionId};

use super::Shard;
use super::connection::{Connection, Pause};
use super::requests::{Answer, refusal};
use crate::limits::CONNECTIONS_MAX;
use crate::mutants::{Mutant, planted};
use crate::{Action, ConnectionId, ShardId};

/// A connection between two shards.
#[derive(Debug)]
pub struct Migrant {
    connection: Connection,
    /// The request that is still to be answered.
    request: Option<(CorrelationId, PartitionId)>,
    from: ShardId,
    unread: Bytes,
}

/// A connection is to leave.
pub(super) struct Departure {
    pub(super) correlation: CorrelationId,
    pub(super) partition: PartitionId,
    /// What came behind the request.
    pub(super) unread: Bytes,
}

impl Shard {
    pub(super) fn migrate(
        &mut self,
        id: ConnectionId,
        correlation: CorrelationId,
        partition: PartitionId,
    ) -> Answer {
        if self.draining {
            return Answer::Refuse(correlation, refusal(ErrorCode::DRAINING));
        }
        if let Some(refusal) = self.refuse_partition(partition) {
            return Answer::Refuse(correlation, refusal);
        }
        let subscribes = self.connections.get(&id).is_some_and(|it| !it.subscriptions.is_empty());
        if subscribes {
            let what = "a connection migrates while nothing is subscribed to on it";
            return Answer::Refuse(correlation, Refusal::new(ErrorCode::INVALID_REQUEST, what));
        }
        if self.config.budget.is_received_pressed() {
            return Answer::Refuse(correlation, refusal(ErrorCode::OVERLOADED));
        }
        match self.owner(partition) {
            here if here == self.config.shard => Answer::Done(correlation),
            _ => Answer::Migrate(correlation, partition),
        }
    }

    /// Lets a connection go, with all that there is of it.
    pub(super) fn depart(&mut self, id: ConnectionId, departure: Departure) {
        // What the session has to send goes along with it.
        self.unsent.remove(&id);
        self.settle_throttle(id);
        self.forget_peer(id);
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.peers.clients.leave(&connection.client);
        // The other shard has its own idea of what the client may have.
        if connection.resume(self.now.mono_us, Pause::Rate) {
            self.out.actions.push_back(Action::SetReading { connection: id, on: true });
        }
        let Departure { correlation, partition, unread } = departure;
        let (request, from) = (Some((correlation, partition)), self.config.shard);
        let migrant = Box::new(Migrant { connection, request, from, unread });
        let to = self.owner(partition);
        self.out.actions.push_back(Action::Migrate { connection: id, to, migrant });
    }

    pub(super) fn arrived(&mut self, id: ConnectionId, outbound_bytes: u64, mut migrant: Migrant) {
        let request = migrant.request.take();
        if let Some((correlation, partition)) = request
            && !self.draining
            && !self.topics.contains_key(&partition.topic)
        {
            // Topics are announced to each shard by itself: where the connection was, this one is known.
            // Here its client would be told that there is none.
            migrant.connection.session.refuse(correlation, refusal(ErrorCode::PARTITION_OFFLINE));
            let (to, migrant) = (migrant.from, Box::new(migrant));
            self.out.actions.push_back(Action::Migrate { connection: id, to, migrant });
            return;
        }
        let Migrant { mut connection, unread, .. } = migrant;
        self.peers.clients.enter(&connection.client);
        if connection.arrived(self.now.mono_us, outbound_bytes) {
            self.out.actions.push_back(Action::SetReading { connection: id, on: true });
        }
        if self.draining || self.connections.len() >= CONNECTIONS_MAX {
            let code = if self.draining { ErrorCode::DRAINING } else { ErrorCode::OVERLOADED };
            connection.session.close(refusal(code));
        } else if let Some((correlation, _)) = request {
            connection.session.done(correlation);
        }
        self.connections.insert(id, connection);
        self.look_at_newcomer();
        self.unsent.insert(id);
        if !planted(Mutant::ForgetUnread) {
            self.brought(id, &unread);
        }
    }
}
