//! Peers that are slow, silent or hostile: what a shard lets them get away with.
//!
//! | peer | what happens |
//! |---|---|
//! | says no hello, ends no frame, says nothing at all | refused and closed after a deadline |
//! | sends what is not the protocol | refused and closed at once |
//! | begins large frames on many connections | the oldest are refused and closed once all take too much, on the shard that has the most |
//! | does not read | nothing more is read from it; cut off after a deadline, sooner while memory is short |
//! | asks for more than its rate | waits (`rates.rs`) |
//!
//! Deadlines hold only while the shard reads from the peer and turns itself. Nobody is looked at per
//! event: the shard looks at all of them when the first deadline is near.
//!
//! Memory is the broker's, and a shard sees its own peers only. It blames one of them as long as they
//! hold as much as those of other shards do on average: there is always one such shard.

use std::collections::BTreeSet;

use lanecast_wire::ProtocolError;
use lanecast_wire::message::Refusal;

use super::Shard;
use super::connection::Verdict;
use super::rates::Clients;
use crate::limits::{
    FRAME_US_MAX, HELLO_US_MAX, LATE_US_MAX, PEERS_US, PEERS_US_PRESSED, RETRY_AFTER_MS,
    STALL_US_MIN,
};
use crate::{ConnectionId, Offence, OffenceCounts};

/// What a shard knows of its peers beyond each single one.
#[derive(Debug)]
pub(super) struct Peers {
    /// When to look at all of them.
    look_us: u64,
    /// Connections with a frame under way, the oldest frame first.
    begun: BTreeSet<(u64, ConnectionId)>,
    /// Memory of these frames.
    begun_bytes: u64,
    /// What waited for peers that take nothing, at the last look.
    stalled_bytes: u64,
    pub(super) offences: OffenceCounts,
    pub(super) clients: Clients,
}

impl Peers {
    pub(super) fn new(clients: Clients) -> Self {
        Peers {
            look_us: u64::MAX,
            begun: BTreeSet::new(),
            begun_bytes: 0,
            stalled_bytes: 0,
            offences: OffenceCounts::default(),
            clients,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let look_us = (self.look_us < u64::MAX).then_some(self.look_us);
        [look_us, self.clients.poll_timeout()].into_iter().flatten().min()
    }

    fn look_by(&mut self, at_us: u64) {
        self.look_us = self.look_us.min(at_us);
    }
}

impl Shard {
    pub(super) fn look_at_newcomer(&mut self) {
        self.peers.look_by(self.now.mono_us + HELLO_US_MAX);
    }

    /// Bytes came from a connection, were taken in, and were perhaps no protocol.
    pub(super) fn heard(
        &mut self,
        id: ConnectionId,
        any_whole: bool,
        broken: Option<ProtocolError>,
    ) {
        let now_us = self.now.mono_us;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before_us = connection.frame_us();
        let since_us = connection.heard(now_us, any_whole);
        if let Some(error) = broken {
            connection.offence = Some((Offence::Protocol, error.to_string()));
        }
        if since_us != before_us {
            if let Some(before_us) = before_us {
                self.peers.begun.remove(&(before_us, id));
            }
            if let Some(since_us) = since_us {
                self.peers.begun.insert((since_us, id));
                self.peers.look_by(since_us + FRAME_US_MAX);
            }
        }
        let buffered = connection.session.buffered_bytes() as u64;
        let before = std::mem::replace(&mut connection.buffered, buffered);
        self.buffers(before, buffered);
        self.bound_begun();
        if self.peers.begun_bytes > 0 && self.config.budget.is_received_pressed() {
            // What is too much may come to another shard.
            self.peers.look_by(now_us + PEERS_US_PRESSED);
        }
    }

    /// Memory of a frame that has begun has changed.
    fn buffers(&mut self, before: u64, after: u64) {
        let budget = &self.config.budget;
        budget.received.change(before, after);
        budget.begun.change(before, after);
        self.peers.begun_bytes = self.peers.begun_bytes + after - before;
    }

    /// Ends the oldest frames while all that have begun take too much, if they are to blame here.
    fn bound_begun(&mut self) {
        let shards = u64::from(self.config.shards);
        while self.config.budget.is_received_over()
            && self.peers.begun_bytes * shards >= self.config.budget.begun.bytes()
        {
            let Some((_, oldest)) = self.peers.begun.first().copied() else { break };
            let detail = "frames that have begun take too much memory, and this one is the oldest";
            self.offend(oldest, Offence::ReceiveMemory, detail.to_owned());
        }
    }

    /// Bytes wait for a peer.
    pub(super) fn waits_for_peer(&mut self) {
        let pressed = self.config.budget.is_pressed();
        let in_us = if pressed { PEERS_US_PRESSED } else { PEERS_US };
        self.peers.look_by(self.now.mono_us + in_us);
    }

    /// The connection is gone: what it took of the budget is free.
    pub(super) fn forget_peer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(since_us) = connection.frame_us() {
            self.peers.begun.remove(&(since_us, id));
        }
        let buffered = std::mem::take(&mut connection.buffered);
        self.buffers(buffered, 0);
    }

    /// Looks at all peers, if it is time.
    pub(super) fn look_at_peers(&mut self) {
        let now_us = self.now.mono_us;
        if self.peers.look_us > now_us {
            return;
        }
        if now_us - self.peers.look_us > LATE_US_MAX {
            // What the peers have done in time may still be on its way through the shell.
            self.peers.look_us = now_us + LATE_US_MAX;
            return;
        }
        self.bound_begun();
        let budget = &self.config.budget;
        let (pressed, over) = (budget.is_pressed(), budget.is_outbound_over());
        let mut stalled_bytes = 0;
        let mut offenders = Vec::new();
        let mut longest = None;
        let mut look_us = u64::MAX;
        for (id, connection) in &self.connections {
            if connection.closing || connection.session.is_closed() {
                continue;
            }
            match connection.judge(now_us, pressed) {
                Verdict::Fine { look_us: at_us } => look_us = look_us.min(at_us),
                Verdict::Offence(offence, detail) => offenders.push((*id, offence, detail)),
            }
            let stalled = connection.stalled_us().map(|since_us| (since_us, *id));
            longest = longest.into_iter().chain(stalled).min();
            stalled_bytes += stalled.map_or(0, |_| connection.outbound());
        }
        budget.stalled.change(self.peers.stalled_bytes, stalled_bytes);
        self.peers.stalled_bytes = stalled_bytes;
        let shards = u64::from(self.config.shards);
        let to_blame = stalled_bytes * shards >= budget.stalled.bytes();
        if let Some((since_us, id)) = longest
            && over
            && to_blame
            && offenders.is_empty()
            && since_us + STALL_US_MIN <= now_us
        {
            let held = budget.outbound_bytes();
            let detail = format!(
                "peers hold {held} bytes that they did not read, and this one has read nothing for \
                 the longest"
            );
            offenders.push((id, Offence::OutboundMemory, detail));
        }
        let least_us = if pressed { PEERS_US_PRESSED } else { PEERS_US };
        let most_us = if pressed && longest.is_some() { now_us + least_us } else { u64::MAX };
        self.peers.look_us = look_us.min(most_us).max(now_us + least_us);
        if self.peers.begun_bytes > 0 && self.config.budget.is_received_pressed() {
            self.peers.look_by(now_us + PEERS_US_PRESSED);
        }
        for (id, offence, detail) in offenders {
            self.offend(id, offence, detail);
        }
    }

    /// Lets a peer go, for cause.
    fn offend(&mut self, id: ConnectionId, offence: Offence, detail: String) {
        self.forget_peer(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.session.is_closed() {
            return;
        }
        let mut refusal = Refusal::new(offence.code(), detail.clone());
        refusal.retry_after_ms = RETRY_AFTER_MS;
        connection.session.close(refusal);
        if offence.is_cut_off() {
            // It would come behind what the peer does not read.
            drop(connection.session.take_output());
        }
        connection.offence = Some((offence, detail));
        self.unsent.insert(id);
    }
}

#[cfg(test)]
mod tests;
