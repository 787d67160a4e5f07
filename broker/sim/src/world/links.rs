//! Carries bytes between shards and clients, and gives clients the word.

use bytes::BytesMut;
use lanecast_core::Event;

use super::{Phase, Task, World};
use crate::client::{Client, Turn};
use crate::network::{Link, LinkId};

impl World {
    pub(super) fn wake(&mut self, client: usize) {
        let Some(state) = self.clients.get_mut(client) else { return };
        if state.wake_at_us != Some(self.now_us) {
            return;
        }
        state.wake_at_us = None;
        if self.clients[client].connected {
            self.with_client(client, None, 0, |client, turn| client.woken(turn));
            return;
        }
        if self.phase == Phase::Draining {
            return;
        }
        let Some(broker) = &mut self.broker else {
            let at = self.now_us + self.rng.delay(1_000, 100_000);
            self.wake_later(client, at);
            return;
        };
        let shard = self.rng.below(broker.shards() as u64) as usize;
        let connection = broker.accept(shard);
        let link = self.network.open(client, shard, connection);
        self.event(shard, Event::Connected { connection });
        self.with_client(client, Some(link), 0, |client, turn| client.connected(turn));
    }

    pub(super) fn schedule_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if link.reading && link.has_bytes_to_broker() && !link.to_broker_due {
            link.to_broker_due = true;
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::ToBroker(id));
        }
    }

    pub(super) fn schedule_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if (link.has_bytes_to_client() || link.closing) && !link.to_client_due {
            link.to_client_due = true;
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::ToClient(id));
        }
    }

    pub(super) fn deliver_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_broker_due = false;
        if !link.reading {
            return;
        }
        let (shard, connection) = (link.shard, link.connection);
        let bytes = link.receive_at_broker(&mut self.rng);
        self.trace.bytes(&bytes);
        self.event(shard, Event::Received { connection, bytes: &bytes });
        self.schedule_to_broker(id);
    }

    pub(super) fn deliver_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_client_due = false;
        if link.closing && !link.has_bytes_to_client() {
            self.close(id);
            return;
        }
        let (client, shard, connection) = (link.client, link.shard, link.connection);
        let (sent_us, bytes) = link.receive_at_client(&mut self.rng);
        self.trace.bytes(&bytes);
        self.event(shard, Event::Sent { connection, bytes: bytes.len() as u64 });
        self.with_client(client, Some(id), sent_us, |client, turn| client.received(&bytes, turn));
        self.schedule_to_client(id);
    }

    /// Both ends learn that the link is gone.
    pub(super) fn close(&mut self, id: LinkId) {
        let Some(link) = self.network.close(id) else { return };
        let connection = link.connection;
        self.event(link.shard, Event::Disconnected { connection });
        self.disconnected(&link);
    }

    pub(super) fn disconnected(&mut self, link: &Link) {
        self.with_client(link.client, None, 0, |client, turn| client.disconnected(turn));
    }

    pub(super) fn reset(&mut self) {
        let ids = self.network.ids();
        if self.phase == Phase::Chaos && !ids.is_empty() {
            self.network.resets += 1;
            let id = *self.rng.pick(&ids);
            self.close(id);
        }
    }

    pub(super) fn with_client(
        &mut self,
        client: usize,
        link: Option<LinkId>,
        sent_us: u64,
        act: impl FnOnce(&mut Client, &mut Turn<'_>),
    ) {
        let mut turn = Turn {
            now_us: self.now_us,
            sent_us,
            calm: self.phase != Phase::Chaos,
            client,
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            scenario: &self.scenario,
            out: BytesMut::new(),
            close: false,
            wakes: Vec::new(),
        };
        act(&mut self.clients[client], &mut turn);
        let Turn { out, close, wakes, .. } = turn;
        if let Some(at) = wakes.into_iter().min() {
            self.wake_later(client, at);
        }
        let link = link.or_else(|| self.link_of(client));
        if let Some(id) = link {
            if let Some(link) = self.network.link(id) {
                link.send_to_broker(&out);
            }
            self.schedule_to_broker(id);
            if close {
                self.close(id);
            }
        }
    }

    pub(super) fn link_of(&mut self, client: usize) -> Option<LinkId> {
        let ids = self.network.ids();
        ids.into_iter().find(|id| self.network.link(*id).is_some_and(|l| l.client == client))
    }
}
