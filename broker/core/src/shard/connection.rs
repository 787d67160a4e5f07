//! One connection of a shard: its session, its subscriptions, the bytes on their way out.
//!
//! ```text
//!           hello                     drained or broken          shell says gone
//!   new ───────────▶ session open ─────────────────────▶ closing ───────────────▶ removed
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lanecast_wire::message::{DeliveryMode, PartitionPosition};
use lanecast_wire::session::BrokerSession;
use lanecast_wire::{CorrelationId, ErrorCode, SubscriptionId, TopicId};

use crate::Offence;
use crate::limits::{
    AHEAD_SCORE_MAX, ANSWERS_PATIENT_MAX, FRAME_US_MAX, HELLO_US_MAX, OUTBOUND_BYTES_HIGH,
    OUTBOUND_BYTES_LOW, PEERS_US, PROGRESS_BYTES, SILENCE_US_MAX, STALL_US_MAX,
    STALL_US_MAX_PRESSED,
};

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
    /// Partitions that are offline; each answers again when it is not.
    pub(super) offline: BTreeSet<u32>,
    pub(super) refused: Option<(ErrorCode, String)>,
}

/// Why nothing is read from a connection for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It does not take what it asked for.
    Outbound,
    /// Its client has had its share of this second.
    Rate,
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) session: BrokerSession,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// As its hello names it.
    pub(super) client: String,
    connected_us: u64,
    /// When something last came, or could have come again after a pause.
    heard_us: u64,
    /// When the frame began that is not whole yet.
    frame_us: Option<u64>,
    /// Memory of that frame, as the budget knows it.
    pub(super) buffered: u64,
    /// What the shell was told to receive at once.
    pub(super) expected: usize,
    /// How surely it sends requests without waiting for the answer to the last one.
    ahead: u8,
    /// Bytes given to the shell that the socket has not taken.
    outbound: u64,
    /// Since when nothing worth mentioning was taken of them, and what was taken since.
    stalled_us: Option<u64>,
    taken: u64,
    paused_outbound: bool,
    paused_rate: bool,
    /// When the next wait for its rate ends, and since when it is counted.
    pub(super) throttled: Option<Throttled>,
    /// Credit that its partitions get once its client may have more.
    pub(super) held_credit: BTreeMap<(SubscriptionId, u32), u32>,
    /// Nothing more is taken in; `Close` or `Expel` was said.
    pub(super) closing: bool,
    pub(super) goodbye: bool,
    /// Why it is going to be expelled.
    pub(super) offence: Option<(Offence, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttled {
    pub(super) since_us: u64,
    pub(super) until_us: u64,
}

/// What there is to say of a connection at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; look again then.
    Fine {
        look_us: u64,
    },
    Offence(Offence, String),
}

impl Connection {
    pub(super) fn new(now_us: u64) -> Self {
        Connection { connected_us: now_us, heard_us: now_us, ..Connection::default() }
    }

    /// Credit that is held out to the peer, over all subscriptions and partitions.
    pub(super) fn credit_bytes(&self) -> u64 {
        let of = |subscription: &Subscription| {
            let known = subscription.positions.len() + subscription.offline.len();
            let partitions = known as u64 + u64::from(subscription.waiting);
            u64::from(subscription.credit_bytes) * partitions
        };
        self.subscriptions.values().map(of).sum()
    }

    /// Something came, and frames became whole by it, or not. Since when is one under way now?
    pub(super) fn heard(&mut self, now_us: u64, any_whole: bool) -> Option<u64> {
        self.heard_us = now_us;
        self.frame_us = match self.frame_us {
            _ if !self.session.has_begun_frame() => None,
            Some(since_us) if !any_whole => Some(since_us),
            Some(_) | None => Some(now_us),
        };
        self.frame_us
    }

    pub(super) fn frame_us(&self) -> Option<u64> {
        self.frame_us
    }

    /// So many frames came at once.
    pub(super) fn came_at_once(&mut self, frames: u64) {
        self.ahead = match frames {
            0 => self.ahead,
            1 => self.ahead.saturating_sub(1),
            _ => AHEAD_SCORE_MAX,
        };
    }

    /// Nobody waits for so many bytes of answers alone: they come to who has sent on without them.
    pub(super) fn is_patient(&self, bytes: u64) -> bool {
        self.ahead > 0 && bytes <= ANSWERS_PATIENT_MAX && self.subscriptions.is_empty()
    }

    /// Bytes that the socket has not taken.
    pub(super) fn outbound(&self) -> u64 {
        self.outbound
    }

    /// Since when the peer takes nothing of what waits for it.
    pub(super) fn stalled_us(&self) -> Option<u64> {
        self.stalled_us
    }

    /// More bytes are given to the shell. Has reading to stop?
    pub(super) fn queued(&mut self, now_us: u64, bytes: u64) -> bool {
        if self.outbound == 0 && bytes > 0 {
            (self.stalled_us, self.taken) = (Some(now_us), 0);
        }
        self.outbound += bytes;
        self.outbound > OUTBOUND_BYTES_HIGH && self.pause(Pause::Outbound)
    }

    /// The socket took bytes. Can reading go on?
    pub(super) fn sent(&mut self, now_us: u64, bytes: u64) -> bool {
        self.outbound = self.outbound.saturating_sub(bytes);
        self.taken += bytes;
        if self.outbound == 0 {
            self.stalled_us = None;
        } else if self.taken >= PROGRESS_BYTES {
            (self.stalled_us, self.taken) = (Some(now_us), 0);
        }
        self.outbound < OUTBOUND_BYTES_LOW && self.resume(now_us, Pause::Outbound)
    }

    fn reads(&self) -> bool {
        !self.paused_outbound && !self.paused_rate
    }

    pub(super) fn is_paused(&self, pause: Pause) -> bool {
        match pause {
            Pause::Outbound => self.paused_outbound,
            Pause::Rate => self.paused_rate,
        }
    }

    /// Has reading to stop now?
    pub(super) fn pause(&mut self, pause: Pause) -> bool {
        let before = self.reads();
        match pause {
            Pause::Outbound => self.paused_outbound = true,
            Pause::Rate => self.paused_rate = true,
        }
        before
    }

    /// It comes from another shard, and its socket has still to take so many bytes. Can reading go on?
    pub(super) fn arrived(&mut self, now_us: u64, outbound_bytes: u64) -> bool {
        (self.heard_us, self.frame_us) = (now_us, None);
        self.stalled_us = None;
        self.outbound = 0;
        self.queued(now_us, outbound_bytes);
        self.outbound < OUTBOUND_BYTES_LOW && self.resume(now_us, Pause::Outbound)
    }

    /// Can reading go on now? Then the peer's deadlines begin anew: it had no way to keep them.
    pub(super) fn resume(&mut self, now_us: u64, pause: Pause) -> bool {
        let before = self.reads();
        match pause {
            Pause::Outbound => self.paused_outbound = false,
            Pause::Rate => self.paused_rate = false,
        }
        let resumed = !before && self.reads();
        if resumed {
            self.heard_us = now_us;
            self.frame_us = self.frame_us.map(|_| now_us);
        }
        resumed
    }

    /// Has the peer kept its deadlines? `pressed`: memory is short.
    pub(super) fn judge(&self, now_us: u64, pressed: bool) -> Verdict {
        let mut look_us = u64::MAX;
        let mut late = |since_us: u64, limit_us: u64| {
            let due_us = since_us.saturating_add(limit_us);
            look_us = look_us.min(due_us);
            due_us <= now_us
        };
        let seconds = |us: u64| us / 1_000_000;
        if !self.session.is_open() && late(self.connected_us, HELLO_US_MAX) {
            let detail = format!("no hello within {} s", seconds(HELLO_US_MAX));
            return Verdict::Offence(Offence::NoHello, detail);
        }
        if self.reads() {
            if let Some(since_us) = self.frame_us
                && late(since_us, FRAME_US_MAX)
            {
                let limit = seconds(FRAME_US_MAX);
                let detail = format!("a frame that has begun did not end within {limit} s");
                return Verdict::Offence(Offence::HalfFrame, detail);
            }
            if late(self.heard_us, SILENCE_US_MAX) {
                let limit = seconds(SILENCE_US_MAX);
                let detail = format!("nothing came for {limit} s, not even a ping");
                return Verdict::Offence(Offence::Silent, detail);
            }
        }
        if let Some(since_us) = self.stalled_us {
            let limit_us = if pressed { STALL_US_MAX_PRESSED } else { STALL_US_MAX };
            if late(since_us, limit_us) {
                let (waiting, limit) = (self.outbound, seconds(limit_us));
                let detail = format!("{waiting} bytes wait and none were read for {limit} s");
                return Verdict::Offence(Offence::NotReading, detail);
            }
            // Memory may become short meanwhile.
            look_us = look_us.min(now_us + PEERS_US);
        }
        Verdict::Fine { look_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_high_mark_and_goes_on_below_the_low_one() {
        let mut connection = Connection::default();
        assert!(!connection.queued(0, OUTBOUND_BYTES_HIGH));
        assert!(connection.queued(0, 1), "now it is too much");
        assert!(!connection.queued(0, 1), "and was said once");
        assert!(!connection.sent(0, 2));
        assert!(!connection.sent(0, OUTBOUND_BYTES_HIGH - OUTBOUND_BYTES_LOW));
        assert!(connection.sent(0, 1));
        assert!(!connection.sent(0, 1), "said once");
    }

    #[test]
    fn reading_goes_on_once_no_reason_is_left() {
        let mut connection = Connection::default();
        assert!(connection.queued(0, OUTBOUND_BYTES_HIGH + 1));
        assert!(!connection.pause(Pause::Rate), "it had stopped");
        assert!(!connection.sent(5, OUTBOUND_BYTES_HIGH + 1));
        assert!(connection.resume(9, Pause::Rate));
        assert_eq!(connection.heard_us, 9, "nothing could come before");
    }

    #[test]
    fn who_takes_a_little_now_and_then_stalls_and_who_takes_all_does_not() {
        let mut connection = Connection::default();
        connection.queued(0, 10 * PROGRESS_BYTES);
        connection.sent(1, PROGRESS_BYTES - 1);
        assert_eq!(connection.stalled_us(), Some(0));
        connection.sent(2, 1);
        assert_eq!(connection.stalled_us(), Some(2));
        connection.sent(3, 9 * PROGRESS_BYTES);
        assert_eq!(connection.stalled_us(), None);
        connection.queued(4, 10);
        assert_eq!(connection.stalled_us(), Some(4));
    }

    fn subscription() -> Subscription {
        Subscription {
            topic: TopicId(1),
            mode: DeliveryMode::Broadcast,
            credit_bytes: 1,
            waiting: 0,
            correlation: CorrelationId(1),
            positions: Vec::new(),
            offline: BTreeSet::new(),
            refused: None,
        }
    }

    #[test]
    fn answers_may_wait_for_who_sends_ahead_and_for_nobody_else() {
        let mut connection = Connection::default();
        connection.came_at_once(1);
        assert!(!connection.is_patient(1), "it may wait for every answer");
        connection.came_at_once(2);
        (1..AHEAD_SCORE_MAX).for_each(|_| connection.came_at_once(1));
        connection.came_at_once(0);
        assert!(connection.is_patient(ANSWERS_PATIENT_MAX));
        assert!(!connection.is_patient(ANSWERS_PATIENT_MAX + 1), "those are no small answers");
        connection.subscriptions.insert(SubscriptionId(1), subscription());
        assert!(!connection.is_patient(1), "they would hold deliveries up");
        connection.subscriptions.clear();
        connection.came_at_once(1);
        assert!(!connection.is_patient(1), "not for long now");
    }
}
