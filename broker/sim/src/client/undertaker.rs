//! Reads the dead-letter topic, once there is one: every letter once, in order, for ever the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::message::{
    ClientMessage, Deliver, PartitionPosition, StartPosition, SubscribeMode,
};
use lanecast_wire::session::{Answer, Event, SubscriptionSession, SubscriptionSettings};
use lanecast_wire::{ErrorCode, KeyFilter, TopicId, batch};

use super::{Line, Tag, Turn};
use crate::letters::Place;

/// Room for the largest letter there is here.
const CREDIT_BYTES: u32 = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Undertaker {
    session: Option<SubscriptionSession>,
    /// On this connection it is subscribed, or has asked to be.
    asked: bool,
    /// What was known of the high watermarks when it asked.
    floor: BTreeMap<u32, u64>,
    next: BTreeMap<u32, u64>,
}

impl Undertaker {
    pub(crate) fn next(&self) -> &BTreeMap<u32, u64> {
        &self.next
    }

    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        self.asked = false;
        if turn.rng.one_in(2) {
            // Reads it all again.
            *self = Self::default();
        }
    }

    pub(crate) fn progress(&mut self, topic: u32, line: &mut Line, turn: &mut Turn<'_>) {
        if !self.asked {
            let open = || {
                SubscriptionSession::new(SubscriptionSettings {
                    topic: TopicId(topic),
                    mode: SubscribeMode::Broadcast,
                    start: StartPosition::Earliest,
                    starts: Vec::new(),
                    credit_bytes: CREDIT_BYTES,
                    filter: KeyFilter::default(),
                })
            };
            let subscribe = self.session.get_or_insert_with(open).subscribe();
            let partitions = 0..turn.scenario.partitions;
            self.floor = partitions.map(|p| (p, turn.oracle.letters.high_watermark(p))).collect();
            self.asked = line.ask(&ClientMessage::Subscribe(subscribe), Tag::Subscribe);
        }
        if let Some(session) = &mut self.session {
            while let Some(credit) = session.poll_credit() {
                line.session.credit(credit);
            }
        }
    }

    pub(crate) fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        match event {
            Event::Answered { tag: Tag::Subscribe, answer: Ok(Answer::Subscribed(reply)) } => {
                reply.positions.iter().for_each(|position| self.stands_at(position));
                self.session.as_mut().expect("it has asked").opened(&reply);
            }
            Event::Answered { tag: Tag::Subscribe, answer: Err(refusal) } => {
                assert!(refusal.code().is_retryable(), "subscription refused: {refusal:?}");
                turn.close = true;
            }
            Event::Online(online) => {
                self.stands_at(&online.position);
                let session = self.session.as_mut().expect("it is subscribed");
                session.online(&online).expect("it is about what is subscribed");
            }
            // A partition that was offline cannot be read as asked, or the broker drains.
            Event::Ended(ended) => {
                assert!(ErrorCode(ended.code).is_retryable(), "{ended:?}");
                turn.close = true;
            }
            Event::Deliver { deliver, payload } => self.deliver(&deliver, payload, turn),
            Event::Missed(_)
            | Event::Answered { .. }
            | Event::Opened(_)
            | Event::Settled(_)
            | Event::Goodbye { .. }
            | Event::Refused(_) => panic!("a reader of letters got {event:?}"),
        }
    }

    fn stands_at(&mut self, position: &PartitionPosition) {
        let (partition, next) = (position.partition, position.next_offset);
        let floor = self.floor.get(&partition).copied().unwrap_or(0);
        assert!(position.high_watermark >= floor, "letters are lost: {position:?}");
        let expected = *self.next.entry(partition).or_insert(0);
        assert_eq!(next, expected, "letters begin elsewhere: {position:?}");
    }

    fn deliver(&mut self, deliver: &Deliver, payload: Bytes, turn: &mut Turn<'_>) {
        let partition = deliver.partition;
        let next = self.next.get_mut(&partition).expect("subscribed to all partitions");
        assert_eq!(deliver.first, *next, "hole or repeat among the letters of {partition}");
        let session = self.session.as_mut().expect("it is subscribed");
        session
            .deliver(deliver, payload.clone(), turn.now_us)
            .expect("only what can be is delivered");
        for found in batch::iter(&payload) {
            let (header, bytes) = found.expect("whole batches");
            let place = Place { partition, offset: *next, seen_us: turn.now_us };
            turn.oracle.letter(place, &bytes, turn.scenario.max_attempts);
            *next += u64::from(header.record_count);
        }
        assert!(*next <= deliver.high_watermark, "served past the high watermark: {deliver:?}");
        turn.oracle.letters.saw_high_watermark(partition, deliver.high_watermark);
        session.done(partition, payload.len() as u64);
    }
}
