//! Connections: bytes that arrive later, in pieces, or never, and ends that learn of it late.
//!
//! Each end of a link ends by itself: a client that is gone may be followed by what it had sent,
//! and a link whose route is gone (a *hole*) tells neither end anything; only a timeout does.

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
    /// The shard wants buffers of its own.
    pub(crate) fills: bool,
    /// What it receives next goes behind this.
    pub(crate) begun: Option<Vec<u8>>,
    /// The shard has received, and its actions were not polled since: one of them may say where to
    /// receive next.
    pub(crate) unpolled: bool,
    /// The shard closes once everything is written.
    pub(crate) closing: bool,
    /// The shard has not been told that the link is gone.
    pub(crate) broker_open: bool,
    /// The client has not been told, or has not left.
    pub(crate) client_open: bool,
    /// It is on its way from one shard to another: neither serves it.
    pub(crate) moving: bool,
    /// Nothing arrives any more, and nobody is told.
    pub(crate) hole: bool,
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
    pub(crate) holes: u64,
    /// Links whose client had left while bytes of it still arrived.
    pub(crate) late_bytes: u64,
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
            fills: false,
            begun: None,
            unpolled: false,
            closing: false,
            broker_open: true,
            client_open: true,
            moving: false,
            hole: false,
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

    /// The client and the shard of a link.
    pub(crate) fn ends(&self, id: LinkId) -> Option<(usize, usize)> {
        self.links.get(&id).map(|link| (link.client, link.shard))
    }

    /// The link behind a shard's connection; none once the shard knows that it is gone.
    pub(crate) fn find(&self, shard: usize, connection: ConnectionId) -> Option<LinkId> {
        let id = *self.names.get(&(shard, connection))?;
        self.links.get(&id).is_some_and(|link| link.broker_open).then_some(id)
    }

    /// The shard lets a connection go to another one. `None`: it has ended, as the shard was just told.
    pub(crate) fn depart(
        &mut self,
        shard: usize,
        connection: ConnectionId,
        to: usize,
    ) -> Option<LinkId> {
        let id = self.find(shard, connection)?;
        self.names.remove(&(shard, connection));
        let link = self.links.get_mut(&id).expect("it was found");
        assert!(link.begun.is_none(), "nothing is received before it has arrived");
        (link.shard, link.moving) = (to, true);
        Some(id)
    }

    /// It has arrived there. Gives what its client has not taken, if the link is still open.
    pub(crate) fn arrive(&mut self, id: LinkId, connection: ConnectionId) -> Option<u64> {
        let link = self.links.get_mut(&id).filter(|link| link.broker_open)?;
        // It takes in what it has brought along, which is as good as received.
        (link.connection, link.moving, link.unpolled) = (connection, false, true);
        self.names.insert((link.shard, connection), id);
        Some(link.to_client.iter().map(|(_, bytes)| bytes.len() as u64).sum())
    }

    /// The shard's actions were polled, and performed.
    pub(crate) fn polled(&mut self, shard: usize) {
        for link in self.links.values_mut().filter(|link| link.shard == shard) {
            link.unpolled = false;
        }
    }

    /// Forgets a link once both of its ends know.
    pub(crate) fn sweep(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| !link.broker_open && !link.client_open) {
            self.links.remove(&id);
        }
    }

    /// Links that both ends believe in.
    pub(crate) fn whole(&self) -> Vec<LinkId> {
        let whole = |link: &Link| link.broker_open && link.client_open && !link.hole;
        self.links.iter().filter(|(_, link)| whole(link)).map(|(id, _)| *id).collect()
    }

    /// The broker died: its ends are gone, and its connection numbers start anew. Gives the links
    /// whose clients have to learn of it.
    pub(crate) fn broker_died(&mut self) -> Vec<LinkId> {
        self.names.clear();
        for link in self.links.values_mut() {
            (link.broker_open, link.moving) = (false, false);
            link.to_broker.clear();
            link.to_client.clear();
        }
        self.links.retain(|_, link| link.client_open);
        self.links.keys().copied().collect()
    }
}

impl Link {
    pub(crate) fn send_to_broker(&mut self, bytes: &[u8]) {
        if self.broker_open && !self.hole {
            self.to_broker.extend_from_slice(bytes);
        }
    }

    pub(crate) fn send_to_client(&mut self, now_us: u64, buffers: Vec<Bytes>) {
        if self.client_open && !self.hole {
            let whole = buffers.into_iter().filter(|bytes| !bytes.is_empty());
            self.to_client.extend(whole.map(|bytes| (now_us, bytes)));
        }
    }

    pub(crate) fn has_bytes_to_broker(&self) -> bool {
        !self.to_broker.is_empty()
    }

    pub(crate) fn has_bytes_to_client(&self) -> bool {
        !self.to_client.is_empty()
    }

    /// What is under way to the broker is lost.
    pub(crate) fn lose_to_broker(&mut self) {
        self.to_broker.clear();
    }

    /// What is under way to the client is lost.
    pub(crate) fn lose_to_client(&mut self) {
        self.to_client.clear();
    }

    /// What the shard's next receive gets.
    pub(crate) fn receive_at_broker(&mut self, at_most: usize, rng: &mut Rng) -> BytesMut {
        let bytes = piece(self.to_broker.len().min(at_most), rng);
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
