//! Carries bytes between shards and clients, ends links, and gives clients the word.

use bytes::BytesMut;
use lanecast_core::Event;

use super::{Phase, Task, World};
use crate::client::{Client, Turn};
use crate::network::LinkId;

/// How long a kernel keeps a connection whose other end does not answer.
const KERNEL_GIVES_UP_US: (u64, u64) = (1_500_000, 8_000_000);

/// What a client has sent and left behind arrives this much later, at most.
const LATE_US: u64 = 300_000;

impl World {
    pub(super) fn wake(&mut self, client: usize) {
        let Some(state) = self.clients.get_mut(client) else { return };
        if state.wake_at_us.is_none_or(|at| at > self.now_us) {
            return;
        }
        state.wake_at_us = None;
        if self.clients[client].link.is_some() {
            self.with_client(client, 0, |client, turn| client.woken(turn));
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
        self.clients[client].link = Some(link);
        self.with_client(client, 0, |client, turn| client.connected(turn));
    }

    pub(super) fn schedule_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        let ended = !link.client_open && !link.hole;
        let wanted = (link.reading && link.has_bytes_to_broker()) || ended;
        if link.broker_open && wanted && !link.to_broker_due {
            link.to_broker_due = true;
            let slowest_us =
                if ended { LATE_US.max(self.scenario.net_us.1) } else { self.scenario.net_us.1 };
            let delay_us = self.rng.delay(self.scenario.net_us.0, slowest_us);
            self.schedule(delay_us, Task::ToBroker(id));
        }
    }

    pub(super) fn schedule_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        let wanted = link.has_bytes_to_client() || link.closing;
        if link.client_open && wanted && !link.hole && !link.to_client_due {
            link.to_client_due = true;
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::ToClient(id));
        }
    }

    pub(super) fn deliver_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_broker_due = false;
        if !link.broker_open || link.moving {
            return;
        }
        if !link.client_open && (!link.has_bytes_to_broker() || !link.reading) {
            self.end_at_broker(id);
            return;
        }
        if !link.reading || !link.has_bytes_to_broker() {
            return;
        }
        if link.unpolled {
            self.schedule_to_broker(id);
            return;
        }
        link.unpolled = true;
        let (shard, connection, fills) = (link.shard, link.connection, link.fills);
        let begun = link.begun.take();
        let room = begun.as_ref().map_or(usize::MAX, |begun| begun.capacity() - begun.len());
        let bytes = link.receive_at_broker(room, &mut self.rng);
        let late = u64::from(!link.client_open);
        self.network.late_bytes += late;
        self.trace.bytes(&bytes);
        let event = match begun {
            Some(mut buffer) => {
                buffer.extend_from_slice(&bytes);
                Event::Filled { connection, buffer }
            }
            None if fills => Event::Filled { connection, buffer: bytes.to_vec() },
            None => Event::Received { connection, bytes: &bytes },
        };
        self.event(shard, event);
        self.schedule_to_broker(id);
    }

    pub(super) fn deliver_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_client_due = false;
        if link.hole || !link.client_open || link.moving {
            return;
        }
        if link.closing && !link.has_bytes_to_client() {
            self.end_at_broker(id);
            self.end_at_client(id);
            return;
        }
        if !link.has_bytes_to_client() {
            return;
        }
        let (client, shard, connection) = (link.client, link.shard, link.connection);
        let (sent_us, bytes) = link.receive_at_client(&mut self.rng);
        let open = link.broker_open;
        self.trace.bytes(&bytes);
        if open {
            self.event(shard, Event::Sent { connection, bytes: bytes.len() as u64 });
        }
        self.with_client(client, sent_us, |client, turn| client.received(&bytes, turn));
        self.schedule_to_client(id);
    }

    /// The shard learns that the link is gone; its client does a little later.
    pub(super) fn end_at_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if link.moving {
            // Where it arrives, it is found to have ended.
            self.schedule(LATE_US, Task::EndAtBroker(id));
            return;
        }
        if !std::mem::replace(&mut link.broker_open, false) {
            return;
        }
        let (shard, connection, client) = (link.shard, link.connection, link.client);
        if self.clients[client].link == Some(id) {
            self.oracle.released(client);
        }
        if link.client_open && !link.hole {
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::EndAtClient(id));
        }
        self.event(shard, Event::Disconnected { connection });
        self.network.sweep(id);
    }

    /// The client learns that the link is gone, or leaves it.
    pub(super) fn end_at_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if !std::mem::replace(&mut link.client_open, false) {
            return;
        }
        link.lose_to_client();
        let (client, hole) = (link.client, link.hole);
        if !hole && self.rng.one_in(2) {
            link.lose_to_broker();
        }
        if self.clients.get(client).is_some_and(|client| client.link == Some(id)) {
            self.clients[client].link = None;
            self.with_client(client, 0, |client, turn| client.disconnected(turn));
        }
        self.schedule_to_broker(id);
        self.network.sweep(id);
    }

    /// Cuts a link; its ends learn of it at different times.
    pub(super) fn reset(&mut self) {
        let whole = self.network.whole();
        if self.phase != Phase::Chaos || whole.is_empty() {
            return;
        }
        self.network.resets += 1;
        let id = *self.rng.pick(&whole);
        let link = self.network.link(id).expect("it is one of those there are");
        if self.rng.one_in(2) {
            link.lose_to_broker();
            link.lose_to_client();
        }
        match self.rng.below(3) {
            0 => self.end_at_broker(id),
            1 => self.end_at_client(id),
            _ => {
                self.end_at_broker(id);
                self.end_at_client(id);
            }
        }
    }

    /// The route of a link is gone. Its client finds out by itself; the shard's kernel gives up
    /// after a while.
    pub(super) fn vanish(&mut self) {
        let whole = self.network.whole();
        if self.phase == Phase::Chaos && !whole.is_empty() {
            let id = *self.rng.pick(&whole);
            self.make_hole(id);
        }
    }

    pub(super) fn make_hole(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.hole = true;
        link.lose_to_broker();
        link.lose_to_client();
        self.network.holes += 1;
        let delay_us = self.rng.between(KERNEL_GIVES_UP_US.0, KERNEL_GIVES_UP_US.1);
        self.schedule(delay_us, Task::EndAtBroker(id));
    }

    pub(super) fn with_client(
        &mut self,
        client: usize,
        sent_us: u64,
        act: impl FnOnce(&mut Client, &mut Turn<'_>),
    ) {
        let mut turn = Turn {
            now_us: self.now_us,
            wall_ms: self.now().wall_ms,
            sent_us,
            frozen_until_us: self.clients[client].frozen_until_us,
            calm: self.phase != Phase::Chaos,
            client,
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            scenario: &self.scenario,
            out: BytesMut::new(),
            close: false,
            wakes: Vec::new(),
            inserts: Vec::new(),
        };
        act(&mut self.clients[client], &mut turn);
        self.clients[client].finish(&mut turn);
        let Turn { out, close, wakes, inserts, .. } = turn;
        if let Some(at) = wakes.into_iter().min() {
            self.wake_later(client, at);
        }
        for insert in inserts {
            self.send_insert(client, insert);
        }
        let Some(id) = self.clients[client].link else { return };
        if let Some(link) = self.network.link(id) {
            link.send_to_broker(&out);
        }
        self.schedule_to_broker(id);
        if close {
            self.end_at_client(id);
        }
    }
}
