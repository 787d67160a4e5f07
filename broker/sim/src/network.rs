//! Connections: bytes that arrive later, in pieces, or never.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use lanecast_core::ConnectionId;

use crate::rng::Rng;

/// A connection as the simulation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub u64);

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) shard: usize,
    /// As the shard names it; two shards use the same numbers.
    pub(crate) connection: ConnectionId,
    to_broker: BytesMut,
    to_client: VecDeque<(u64, Bytes)>,
    /// The shard wants to read.
    pub(crate) reading: bool,
    /// The shard closes once everything is written.
    pub(crate) closing: bool,
    /// A delivery is scheduled.
    pub(crate) to_broker_due: bool,
    pub(crate) to_client_due: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<LinkId, Link>,
    names: BTreeMap<(usize, ConnectionId), LinkId>,
    opened: u64,
    pub(crate) resets: u64,
}

impl Network {
    pub(crate) fn open(&mut self, client: usize, shard: usize, connection: ConnectionId) -> LinkId {
        self.opened += 1;
        let id = LinkId(self.opened);
        let link = Link {
            client,
            shard,
            connection,
            to_broker: BytesMut::new(),
            to_client: VecDeque::new(),
            reading: true,
            closing: false,
            to_broker_due: false,
            to_client_due: false,
        };
        self.links.insert(id, link);
        let before = self.names.insert((shard, connection), id);
        assert!(before.is_none(), "connection numbers are never reused");
        id
    }

    pub(crate) fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// The link behind a shard's connection; none once it is closed.
    pub(crate) fn find(&self, shard: usize, connection: ConnectionId) -> Option<LinkId> {
        let id = *self.names.get(&(shard, connection))?;
        self.links.contains_key(&id).then_some(id)
    }

    /// Ends a link at both ends; bytes under way are lost.
    pub(crate) fn close(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id)
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    /// The broker died: every link ends, and its connection numbers start anew.
    pub(crate) fn close_all(&mut self) -> Vec<Link> {
        self.names.clear();
        std::mem::take(&mut self.links).into_values().collect()
    }
}

impl Link {
    pub(crate) fn send_to_broker(&mut self, bytes: &[u8]) {
        self.to_broker.extend_from_slice(bytes);
    }

    pub(crate) fn send_to_client(&mut self, now_us: u64, buffers: Vec<Bytes>) {
        let whole = buffers.into_iter().filter(|bytes| !bytes.is_empty());
        self.to_client.extend(whole.map(|bytes| (now_us, bytes)));
    }

    pub(crate) fn has_bytes_to_broker(&self) -> bool {
        !self.to_broker.is_empty()
    }

    pub(crate) fn has_bytes_to_client(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// What the shard's next receive gets.
    pub(crate) fn receive_at_broker(&mut self, rng: &mut Rng) -> BytesMut {
        let bytes = piece(self.to_broker.len(), rng);
        self.to_broker.split_to(bytes)
    }

    /// What the client's next receive gets, and when the last byte of it was sent.
    pub(crate) fn receive_at_client(&mut self, rng: &mut Rng) -> (u64, Vec<u8>) {
        let total = self.to_client.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut left = piece(total, rng);
        let mut out = Vec::with_capacity(left);
        let mut sent_us = 0;
        while left > 0 {
            let (at, front) = self.to_client.front_mut().expect("the piece is part of the total");
            let taken = left.min(front.len());
            out.extend_from_slice(&front[..taken]);
            sent_us = *at;
            front.advance(taken);
            left -= taken;
            if front.is_empty() {
                self.to_client.pop_front();
            }
        }
        (sent_us, out)
    }
}

/// How much of `total` arrives at once: often all, sometimes a few bytes.
fn piece(total: usize, rng: &mut Rng) -> usize {
    let most = match rng.below(8) {
        0 => rng.between(1, 8),
        1 => rng.between(1, 200),
        2 | 3 => rng.between(1, 5_000),
        _ => total as u64,
    };
    total.min(most as usize)
}
