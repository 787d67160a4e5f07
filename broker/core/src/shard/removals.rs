//! Logs of deleted topics, on their way off the disk.
//!
//! ```text
//!             nothing in flight              done
//!   Waiting ─────────────────────▶ Removing ──────▶ forgotten; the last of a topic is reported
//!      ▲                              │ failed
//!      └──── after a while ───────────┘
//! ```

use std::collections::BTreeMap;

use lanecast_wire::{PartitionId, TopicId};

use crate::disk::Operations;
use crate::limits::RECOVERY_BACKOFF_US_MAX;
use crate::{DiskDone, DiskError, DiskRequest, LogId, Now};

#[derive(Clone, Copy, Debug)]
enum State {
    /// Requests from before have no answer yet, or a removal has failed: not before this time.
    Waiting {
        not_before_us: u64,
    },
    Removing,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// By topic, so that it is known when the last log of one is gone.
    topics: BTreeMap<TopicId, BTreeMap<LogId, State>>,
}

impl Removals {
    /// The logs of these partitions shall go. None at all is done at once.
    pub(super) fn add(&mut self, topic: TopicId, partitions: impl Iterator<Item = PartitionId>) {
        let logs = partitions.flat_map(|id| [LogId::Data(id), LogId::Groups(id)]);
        let waiting = State::Waiting { not_before_us: 0 };
        self.topics.insert(topic, logs.map(|log| (log, waiting)).collect());
    }

    /// A topic of which nothing is left; each is given once.
    pub(super) fn poll_removed(&mut self) -> Option<TopicId> {
        let (topic, _) = self.topics.iter().find(|(_, logs)| logs.is_empty())?;
        let topic = *topic;
        self.topics.remove(&topic);
        Some(topic)
    }

    /// Starts what can be started. Was there anything?
    pub(super) fn pump(&mut self, now: Now, operations: &mut Operations) -> bool {
        let mut any = false;
        for (log, state) in self.topics.values_mut().flatten() {
            if let State::Waiting { not_before_us } = *state
                && not_before_us <= now.mono_us
                && !operations.is_used_by(*log)
            {
                operations.submit(*log, DiskRequest::RemoveLog { log: *log });
                *state = State::Removing;
                any = true;
            }
        }
        any
    }

    /// An operation of this log is answered. Is it one of those that go?
    pub(super) fn complete(
        &mut self,
        now: Now,
        log: LogId,
        outcome: &Result<DiskDone, DiskError>,
    ) -> bool {
        let Some(logs) = self.topics.values_mut().find(|logs| logs.contains_key(&log)) else {
            return false;
        };
        match (logs.get_mut(&log), outcome) {
            (Some(State::Removing), Ok(_)) => {
                logs.remove(&log);
            }
            (Some(state @ State::Removing), Err(_)) => {
                *state = State::Waiting { not_before_us: now.mono_us + RECOVERY_BACKOFF_US_MAX };
            }
            // The last word on a request from before.
            (Some(State::Waiting { .. }) | None, _) => {}
        }
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let due = |state: &State| match state {
            State::Waiting { not_before_us } if *not_before_us > 0 => Some(*not_before_us),
            State::Waiting { .. } | State::Removing => None,
        };
        self.topics.values().flat_map(|logs| logs.values().filter_map(due)).min()
    }
}
