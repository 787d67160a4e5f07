//! The broker's shards and the rings between them, as the glommio shell would drive them.

use std::collections::VecDeque;
use std::sync::Arc;

use lanecast_core::{Action, ConnectionId, Shard, ShardMessage, ShardStats};

use crate::scenario::Scenario;

/// Actions of one poll before it is taken for a loop that never ends.
const ACTIONS_MAX: usize = 100_000;

pub(crate) struct Broker {
    pub(crate) incarnation: u32,
    shards: Vec<Slot>,
    /// Messages under way, by sender and receiver.
    rings: Vec<Vec<VecDeque<ShardMessage>>>,
}

struct Slot {
    shard: Shard,
    poll_due: bool,
    timeout_at_us: Option<u64>,
    /// It is not scheduled before.
    stalled_until_us: u64,
    connections: u64,
    drained: bool,
    /// A connection has come to it since.
    visited: bool,
}

impl Broker {
    pub(crate) fn start(scenario: &Scenario, incarnation: u32, shards: u16, seed: u64) -> Self {
        let budget = Arc::new(scenario.budget(shards));
        let slot = |shard| {
            let mut config = scenario.shard_config(shard, shards, seed ^ u64::from(shard) << 32);
            config.budget = budget.clone();
            Slot {
                shard: Shard::new(config),
                poll_due: false,
                timeout_at_us: None,
                stalled_until_us: 0,
                connections: 0,
                drained: false,
                visited: false,
            }
        };
        let count = usize::from(shards);
        let ring = || (0..count).map(|_| VecDeque::new()).collect();
        Self {
            incarnation,
            shards: (0..shards).map(slot).collect(),
            rings: (0..count).map(|_| ring()).collect(),
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn shard(&mut self, shard: usize) -> &mut Shard {
        &mut self.shards[shard].shard
    }

    pub(crate) fn accept(&mut self, shard: usize) -> ConnectionId {
        let slot = &mut self.shards[shard];
        slot.connections += 1;
        ConnectionId(slot.connections)
    }

    /// A connection comes from another shard.
    pub(crate) fn adopt(&mut self, shard: usize) -> ConnectionId {
        self.shards[shard].visited |= self.shards[shard].drained;
        self.accept(shard)
    }

    pub(crate) fn put_ring(&mut self, from: usize, to: usize, message: ShardMessage) {
        assert_ne!(from, to, "a shard has no ring to itself");
        self.rings[from][to].push_back(message);
    }

    pub(crate) fn take_ring(&mut self, from: usize, to: usize) -> ShardMessage {
        self.rings[from][to].pop_front().expect("one delivery is scheduled for each message")
    }

    /// True if a poll has to be scheduled.
    pub(crate) fn poll_due(&mut self, shard: usize) -> bool {
        !std::mem::replace(&mut self.shards[shard].poll_due, true)
    }

    pub(crate) fn poll(&mut self, shard: usize, actions: &mut Vec<Action>) {
        let slot = &mut self.shards[shard];
        slot.poll_due = false;
        while let Some(action) = slot.shard.poll_action() {
            // It still answers shards that have not heard of it.
            let parts = matches!(action, Action::Send { .. } | Action::Close { .. });
            let answers = matches!(action, Action::Ring { .. }) || (parts && slot.visited);
            assert!(answers || !slot.drained, "a drained shard acts: {action:?}");
            actions.push(action);
            assert!(actions.len() < ACTIONS_MAX, "the shard does not come to rest");
        }
    }

    /// The shard's deadline, if none is scheduled that comes before it.
    pub(crate) fn next_timeout(&mut self, shard: usize, now_us: u64) -> Option<u64> {
        let slot = &mut self.shards[shard];
        let at = slot.shard.poll_timeout()?.max(now_us + 1);
        if slot.timeout_at_us.is_some_and(|scheduled| scheduled <= at) {
            return None;
        }
        slot.timeout_at_us = Some(at);
        Some(at)
    }

    /// Is this the wake-up that is waited for?
    pub(crate) fn timeout_reached(&mut self, shard: usize, now_us: u64) -> bool {
        let slot = &mut self.shards[shard];
        let reached = slot.timeout_at_us.is_some_and(|at| at <= now_us);
        if reached {
            slot.timeout_at_us = None;
        }
        reached
    }

    /// The shard's core does something else until then.
    pub(crate) fn stall(&mut self, shard: usize, until_us: u64) {
        let slot = &mut self.shards[shard];
        slot.stalled_until_us = slot.stalled_until_us.max(until_us);
    }

    pub(crate) fn stalled_until_us(&self, shard: usize) -> u64 {
        self.shards.get(shard).map_or(0, |slot| slot.stalled_until_us)
    }

    /// Notes that the shard has drained; true once all have.
    pub(crate) fn drained(&mut self, shard: usize) -> bool {
        self.shards[shard].drained = true;
        self.shards.iter().all(|slot| slot.drained)
    }

    pub(crate) fn stats(&mut self) -> Vec<ShardStats> {
        self.shards.iter_mut().map(|slot| slot.shard.stats()).collect()
    }
}
