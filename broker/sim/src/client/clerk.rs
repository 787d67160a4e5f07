//! Makes a topic of its own, changes its settings, deletes it and makes it again.
//!
//! What was answered holds: settings are those of the last answered change, a deleted topic is gone,
//! and one that is made anew under its name has another number and nothing of the old one's records.
//! A request whose answer was lost may be done at any time until the broker dies.

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::builder::SealedBody;
use lanecast_wire::message::{
    AlterTopic, ClientMessage, CreateTopic, DeleteTopic, DescribeTopic, Refusal, StartPosition,
    SubscribeMode, TopicInfo, TopicSettings,
};
use lanecast_wire::session::{Answer, Event, SubscriptionSession, SubscriptionSettings};
use lanecast_wire::{
    ErrorCode, KeyFilter, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId,
};

use super::line::subscribe_as;
use super::{Line, Tag, Turn};

const NAME: &str = "errands";
/// Settings are told apart by this retention, and a number.
const RETENTION_MS: u64 = 1_000_000_000;
/// Its producers are named after the topic's number.
const PRODUCER: u64 = 1 << 40;
/// How long it waits between two requests, in the calm as well.
const PAUSE_US: (u64, u64) = (500, 40_000);
const CALM_PAUSE_US: u64 = 200_000;

/// A request of the clerk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    Create { settings: u64 },
    Alter { settings: u64 },
    Describe,
    Delete,
    Produce { topic: u32, sequence: u64 },
    Subscribe,
}

/// An errand, and how often the broker had died when it was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    errand: Errand,
    deaths: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Clerk {
    /// The number of the topic, if the last thing that is known of it is that there is one.
    topic: Option<u32>,
    /// No topic has a number up to this any more.
    gone_upto: u32,
    /// The settings of the last answered change.
    settings: u64,
    /// Numbers settings.
    last_settings: u64,
    asked: Option<Asked>,
    /// Requests whose answers were lost.
    loose: Vec<Asked>,
    sequence: u64,
    reading: Option<Reading>,
    next_us: u64,
    /// Numbers subscriptions.
    subscriptions: u32,
}

#[derive(Debug)]
struct Reading {
    session: SubscriptionSession,
    topic: u32,
    next: u64,
}

impl Clerk {
    pub(crate) fn disconnected(&mut self) {
        self.loose.extend(self.asked.take());
        self.reading = None;
    }

    pub(crate) fn progress(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        if let Some(reading) = &mut self.reading {
            while let Some(credit) = reading.session.poll_credit() {
                line.session.credit(credit);
            }
        }
        if self.asked.is_some() {
            return;
        }
        if turn.now_us < self.next_us {
            turn.wake_in(self.next_us - turn.now_us);
            return;
        }
        let errand = self.choose(turn);
        if self.ask(errand, line) {
            self.asked = Some(Asked { errand, deaths: turn.oracle.deaths });
        }
        let pause_us = turn.rng.delay(PAUSE_US.0, PAUSE_US.1);
        self.next_us = turn.now_us + if turn.calm { CALM_PAUSE_US } else { pause_us };
        turn.wake_in(self.next_us - turn.now_us);
    }

    fn choose(&mut self, turn: &mut Turn<'_>) -> Errand {
        let doubted = !self.loose.is_empty();
        let draw = turn.rng.below(16);
        match self.topic {
            _ if turn.calm || (doubted && draw < 8) => Errand::Describe,
            None if draw < 4 => Errand::Describe,
            None => Errand::Create { settings: self.draw_settings() },
            Some(_) => match draw {
                0..3 => Errand::Describe,
                3..6 => Errand::Alter { settings: self.draw_settings() },
                6 => Errand::Delete,
                7 | 8 if self.reading.is_none() => Errand::Subscribe,
                _ => Errand::Produce {
                    topic: self.topic.unwrap_or_default(),
                    sequence: self.sequence,
                },
            },
        }
    }

    fn draw_settings(&mut self) -> u64 {
        self.last_settings += 1;
        self.last_settings
    }

    fn ask(&mut self, errand: Errand, line: &mut Line) -> bool {
        let name = NAME.to_owned();
        let message = match errand {
            Errand::Create { settings } => ClientMessage::CreateTopic(CreateTopic {
                name,
                partitions: 1,
                settings: TopicSettings {
                    retention_ms: RETENTION_MS + settings,
                    ..TopicSettings::default()
                },
            }),
            Errand::Alter { settings } => ClientMessage::AlterTopic(AlterTopic {
                name,
                retention_ms: Some(RETENTION_MS + settings),
                ..AlterTopic::default()
            }),
            Errand::Describe => ClientMessage::DescribeTopic(DescribeTopic { name }),
            Errand::Delete => ClientMessage::DeleteTopic(DeleteTopic { name }),
            Errand::Produce { topic, sequence } => {
                let partition = PartitionId { topic: TopicId(topic), index: 0 };
                let tag = Tag::Errand;
                return line.session.may_produce()
                    && line.session.produce(partition, record(topic, sequence), tag).is_ok();
            }
            Errand::Subscribe => {
                let topic = self.topic.expect("it is known");
                let mut session = SubscriptionSession::new(SubscriptionSettings {
                    topic: TopicId(topic),
                    mode: SubscribeMode::Broadcast,
                    start: StartPosition::Earliest,
                    starts: Vec::new(),
                    credit_bytes: 64 * 1024,
                    filter: KeyFilter::default(),
                });
                self.subscriptions += 1;
                let subscribe = subscribe_as(&mut session, self.subscriptions);
                self.reading = Some(Reading { session, topic, next: 0 });
                ClientMessage::Subscribe(subscribe)
            }
        };
        line.ask(&message, Tag::Errand)
    }

    pub(crate) fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        match event {
            Event::Answered { tag: Tag::Errand, answer } => {
                let asked = self.asked.take().expect("one errand at a time");
                match answer {
                    Ok(answer) => self.done(asked, answer, turn),
                    Err(refusal) => self.refused(asked, &refusal, turn),
                }
            }
            Event::Deliver { deliver, payload } => {
                let reading = self.reading.as_mut().expect("it has subscribed");
                reading
                    .session
                    .deliver(&deliver, payload.clone(), turn.now_us)
                    .expect("only what can be is delivered");
                for found in batch::iter(&payload) {
                    let (header, _) = found.expect("whole batches");
                    let found = (header.producer.0, header.base_offset.0, header.sequence.0);
                    let expected =
                        (PRODUCER + u64::from(reading.topic), reading.next, reading.next);
                    assert_eq!(found, expected, "a record of another life: {header:?}");
                    reading.next += 1;
                }
                reading.session.done(0, payload.len() as u64);
            }
            Event::Online(online) => {
                assert_eq!(online.position.next_offset, 0, "{online:?}");
                let reading = self.reading.as_mut().expect("it has subscribed");
                reading.session.online(&online).expect("it is about what is subscribed");
            }
            Event::Ended(ended) if ErrorCode(ended.code).is_retryable() => self.reading = None,
            Event::Ended(_) => {
                let read = self.reading.take().map_or(0, |reading| reading.topic);
                let mut asked = self.loose.iter().chain(&self.asked).map(|asked| asked.errand);
                let deleted = read <= self.gone_upto || asked.any(|e| e == Errand::Delete);
                assert!(deleted, "a subscription of a topic that nobody deleted has ended");
            }
            Event::Answered { .. }
            | Event::Missed(_)
            | Event::Settled(_)
            | Event::Opened(_)
            | Event::Goodbye { .. }
            | Event::Refused(_) => panic!("a clerk got {event:?}"),
        }
    }

    fn done(&mut self, asked: Asked, answer: Answer, turn: &mut Turn<'_>) {
        match (asked.errand, answer) {
            (Errand::Create { .. } | Errand::Describe, Answer::Topics(topics)) => {
                let topic = topics.first().expect("the topic that was asked for");
                self.found(asked, topic);
            }
            (Errand::Alter { settings }, Answer::Topics(_)) => {
                self.settings = settings;
                // Those of before the broker died are done, or never will be.
                self.loose.retain(|loose| {
                    !matches!(loose.errand, Errand::Alter { .. }) || loose.deaths == asked.deaths
                });
            }
            (Errand::Delete, Answer::Done) => {
                self.gone_upto = self.gone_upto.max(self.topic.take().unwrap_or_default());
            }
            (Errand::Produce { topic, sequence }, Answer::Produced(reply)) => {
                assert_eq!(reply.base_offset, sequence, "record {sequence} of topic {topic}");
                if self.topic == Some(topic) {
                    self.sequence = sequence + 1;
                }
                turn.oracle.errands += 1;
            }
            (Errand::Subscribe, Answer::Subscribed(reply)) => {
                let Some(reading) = &mut self.reading else { return };
                let known = if self.topic == Some(reading.topic) { self.sequence } else { 0 };
                for position in &reply.positions {
                    assert_eq!(position.next_offset, 0, "{position:?}");
                    assert!(position.high_watermark >= known, "{known}: {position:?}");
                }
                reading.session.opened(&reply);
            }
            (errand, answer) => panic!("{errand:?} is answered with {answer:?}"),
        }
    }

    /// There is a topic.
    fn found(&mut self, asked: Asked, topic: &TopicInfo) {
        let settings = topic.settings.retention_ms - RETENTION_MS;
        let number = topic.topic;
        assert!(number > self.gone_upto, "topic {number} is back from the dead: {self:?}");
        let loose = |wanted: fn(Errand) -> bool| self.loose.iter().any(|l| wanted(l.errand));
        let is_create = matches!(asked.errand, Errand::Create { .. });
        let news = self.topic != Some(number);
        let may_be_new = is_create || loose(|e| matches!(e, Errand::Create { .. }));
        assert!(!news || may_be_new, "nobody has made topic {number}: {self:?}");
        let may_be_gone = self.topic.is_none() || loose(|e| e == Errand::Delete);
        assert!(!news || may_be_gone, "nobody has deleted the topic before {number}: {self:?}");
        let made = match asked.errand {
            Errand::Create { settings: wanted } => wanted == settings,
            Errand::Alter { .. }
            | Errand::Describe
            | Errand::Delete
            | Errand::Produce { .. }
            | Errand::Subscribe => false,
        };
        let asked_for = self.loose.iter().any(|l| match l.errand {
            Errand::Create { settings: wanted } | Errand::Alter { settings: wanted } => {
                wanted == settings
            }
            Errand::Describe | Errand::Delete | Errand::Produce { .. } | Errand::Subscribe => false,
        });
        let right = made || asked_for || (!news && settings == self.settings);
        assert!(right, "settings {settings} of topic {number} were not asked for: {self:?}");
        if news {
            self.gone_upto = self.gone_upto.max(self.topic.unwrap_or_default());
            self.topic = Some(number);
            (self.sequence, self.settings) = (0, settings);
        }
        self.forget_loose(asked, |errand| !matches!(errand, Errand::Alter { .. }));
    }

    /// What was asked for before the broker died is done, or never will be, and it was seen which.
    fn forget_loose(&mut self, asked: Asked, what: fn(Errand) -> bool) {
        self.loose.retain(|loose| !what(loose.errand) || loose.deaths >= asked.deaths);
    }

    fn refused(&mut self, asked: Asked, refusal: &Refusal, turn: &mut Turn<'_>) {
        let code = refusal.code();
        if asked.errand == Errand::Subscribe {
            self.reading = None;
        }
        if code.is_retryable() {
            // Perhaps done all the same.
            self.loose.push(asked);
            if turn.rng.one_in(4) {
                turn.close = true;
            }
            return;
        }
        let mut errands = self.loose.iter().map(|loose| loose.errand);
        match code {
            ErrorCode::UNKNOWN_TOPIC => {
                let loose = errands.any(|errand| errand == Errand::Delete);
                let known = self.topic.is_none() || loose;
                assert!(known, "nobody has deleted the topic: {asked:?} {self:?}");
                if matches!(asked.errand, Errand::Describe) {
                    self.gone_upto = self.gone_upto.max(self.topic.take().unwrap_or_default());
                    self.forget_loose(asked, |_| true);
                }
            }
            ErrorCode::TOPIC_EXISTS => {
                let loose = errands.any(|errand| matches!(errand, Errand::Create { .. }));
                assert!(loose && matches!(asked.errand, Errand::Create { .. }), "{self:?}");
            }
            other => panic!("{asked:?} is refused: {other}, {refusal:?}"),
        }
    }
}

/// The only record of that number in the topic of that number.
fn record(topic: u32, sequence: u64) -> Bytes {
    let body = SealedBody {
        body: [topic.to_le_bytes(), (sequence as u32).to_le_bytes()].concat(),
        schema: batch::schema::GENERIC,
        record_count: 1,
        min_time_ms: 0,
        max_time_ms: 0,
        summary: Vec::new(),
    };
    let producer = ProducerId(PRODUCER + u64::from(topic));
    batch::seal(&body, producer, ProducerEpoch(0), Sequence(sequence), 0)
}
