//! A client's end of a connection: wire's own session, and the shell's care for silence.

use std::collections::BTreeSet;

use lanecast_wire::message::{ClientMessage, Subscribe, SubscribeReply};
use lanecast_wire::session::{ClientSession, Event, SubscriptionSession};

use super::Turn;
use super::member::Settling;
use super::mover::Step;
use crate::oracle::BatchKey;

/// A connection from which nothing was heard for so long is asked ...
const KEEP_ALIVE_US: u64 = 700_000;
/// ... and after so long is given up.
const DEAD_AFTER_US: u64 = 2_500_000;

/// What a request was about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tag {
    Topic,
    Migrate,
    /// `life` counts the programs that one producer has been.
    Produce {
        key: BatchKey,
        life: u32,
    },
    Subscribe,
    Settle(Settling),
    Errand,
    Step(Step),
    Unsubscribe,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) session: ClientSession<Tag>,
    received_us: u64,
    pinged: bool,
    /// The broker has said goodbye.
    leaving: bool,
}

impl Line {
    pub(crate) fn new(turn: &Turn<'_>) -> Self {
        let session = ClientSession::new(&format!("client-{}", turn.client));
        Self { session, received_us: turn.now_us, pinged: false, leaving: false }
    }

    pub(crate) fn received(&mut self, bytes: &[u8], now_us: u64) {
        self.session.receive_buffer().extend_from_slice(bytes);
        self.received_us = now_us;
        self.pinged = false;
    }

    pub(crate) fn next_event(&mut self) -> Option<Event<Tag>> {
        let event = self.session.next_event().expect("the broker keeps to the protocol");
        self.leaving |= matches!(event, Some(Event::Goodbye { .. }));
        event
    }

    /// Is it asked? A session that leaves asks nothing any more.
    pub(crate) fn ask(&mut self, message: &ClientMessage, tag: Tag) -> bool {
        self.session.request(message, tag).is_ok()
    }

    /// Sends what is to be sent, asks a silent broker, and leaves one that is dead or has said
    /// goodbye.
    pub(crate) fn finish(&mut self, turn: &mut Turn<'_>) {
        let silent_us = turn.now_us - self.received_us;
        let left = self.leaving && self.session.in_flight() == 0;
        if silent_us >= DEAD_AFTER_US || left {
            turn.close = true;
            return;
        }
        if silent_us >= KEEP_ALIVE_US && !self.pinged {
            self.pinged = true;
            self.session.ping();
        }
        let after_us = if self.pinged { DEAD_AFTER_US } else { KEEP_ALIVE_US };
        turn.wake_in(self.received_us + after_us - turn.now_us);
        for bytes in self.session.output().take() {
            turn.out.extend_from_slice(&bytes);
        }
    }
}

/// Partitions in a reply are all, each once: those that can be read, and those that are offline.
pub(crate) fn check_positions(reply: &SubscribeReply, turn: &mut Turn<'_>) {
    let online = reply.positions.iter().map(|position| position.partition);
    let all: BTreeSet<u32> = online.chain(reply.offline.iter().copied()).collect();
    assert_eq!(all.len(), reply.positions.len() + reply.offline.len(), "{reply:?}");
    assert!(all.into_iter().eq(0..turn.scenario.partitions), "{reply:?}");
    for position in &reply.positions {
        turn.oracle.saw_high_watermark(position.partition, position.high_watermark);
    }
}

/// The request of a session that was never used, under this number.
pub(crate) fn subscribe_as(session: &mut SubscriptionSession, number: u32) -> Subscribe {
    loop {
        let subscribe = session.subscribe();
        if subscribe.subscription >= number {
            return subscribe;
        }
    }
}
