//! What goes wrong besides crashes, links and single disk requests.

use lanecast_wire::TopicId;

use super::{Phase, World};
use crate::broker::Broker;
use crate::scenario::TOPIC;

/// A stopped client outlives its leases, or nearly.
const FROZEN_US: (u64, u64) = (20_000, 4_000_000);
/// How long the disk has no room.
const DISK_FULL_US: (u64, u64) = (1_000, 500_000);
/// A wall clock that is set is off by up to a day.
const JUMP_MS_MAX: u64 = 86_400_000;

impl World {
    /// A shard is not scheduled for a while.
    pub(super) fn stall(&mut self) {
        let shards = self.broker.as_ref().map_or(0, Broker::shards) as u64;
        if self.phase != Phase::Chaos || shards == 0 {
            return;
        }
        self.report.stalls += 1;
        let shard = self.rng.below(shards) as usize;
        let until_us = self.now_us + self.rng.between(1_000, self.scenario.stall_us_max);
        if let Some(broker) = &mut self.broker {
            broker.stall(shard, until_us);
        }
    }

    /// A client is stopped, and goes on later as if nothing had happened.
    pub(super) fn freeze(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.report.freezes += 1;
        let client = self.rng.below(self.clients.len() as u64) as usize;
        let until_us = self.now_us + self.rng.between(FROZEN_US.0, FROZEN_US.1);
        self.clients[client].frozen_until_us = until_us;
    }

    /// Somebody sets the wall clock.
    pub(super) fn jump(&mut self) {
        self.report.clock_jumps += 1;
        let most = *self.rng.pick(&[100, 60_000, JUMP_MS_MAX]);
        let by_ms = self.rng.between(1, most).cast_signed();
        self.wall_shift_ms += if self.rng.one_in(2) { by_ms } else { -by_ms };
    }

    /// A bit of a block that was whole is wrong from now on.
    pub(super) fn rot(&mut self) {
        let Some(topic) = self.oracle.topic_number(TOPIC) else { return };
        if let Some((partition, records)) = self.disk.rot(TopicId(topic), &mut self.rng) {
            self.trace.note(|| format!("           partition {partition}: {records:?} rot"));
            self.oracle.damaged(partition, records);
            self.store.damaged = true;
        }
    }

    /// Something else has taken all the room on the disk, for a while.
    pub(super) fn fill_disk(&mut self) {
        self.report.disk_full_windows += 1;
        self.disk_full_until_us = self.now_us + self.rng.between(DISK_FULL_US.0, DISK_FULL_US.1);
    }
}
