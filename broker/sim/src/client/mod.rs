//! Model clients: the client library's own state machines, and programs that use them.
//!
//! Each client has one connection at a time. It says hello, makes the topic (which may exist), and
//! then plays its role; when the connection goes, it comes back later and goes on where it was.
//! [`Line`] is what the library's shell does around a session; producers, readers and members are
//! `ProducerSession` and `SubscriptionSession` of `lanecast-wire` as a program drives them. Only
//! the vandal writes its own bytes.

mod clerk;
mod line;
mod member;
mod mover;
mod producer;
mod reader;
mod undertaker;
mod vandal;

use bytes::BytesMut;
use lanecast_wire::message::{ClientMessage, CreateTopic, DescribeTopic, Migrate, Refusal};
use lanecast_wire::session::{Answer, Event};
use lanecast_wire::{ErrorCode, KeyFilter, KeyHash, KeyKind};

pub(crate) use self::clerk::Clerk;
pub(crate) use self::line::{Line, Tag};
pub(crate) use self::member::Member;
pub(crate) use self::mover::Mover;
pub(crate) use self::producer::Producer;
pub(crate) use self::reader::Reader;
pub(crate) use self::undertaker::Undertaker;
pub(crate) use self::vandal::Vandal;
use crate::network::LinkId;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::scenario::{LETTERS, Scenario, TOPIC};
use crate::store::SentInsert;

/// How long a client waits before it tries again.
const RETRY_US: (u64, u64) = (1_000, 50_000);

/// So long after it was stopped a client has got what had waited for it.
const CATCH_UP_US: u64 = 1_000_000;

/// Batches have one of so many keys, which readers may ask for.
const KEYS: u32 = 3;

/// The only key of that number.
fn key(number: u32) -> KeyHash {
    KeyHash::of(KeyKind::Message, &(number % KEYS).to_le_bytes())
}

/// A filter for that key.
fn filter(number: u32) -> KeyFilter {
    KeyFilter::default().message_key((number % KEYS).to_le_bytes())
}

/// What a client may see and do while it has the word.
pub(crate) struct Turn<'a> {
    pub(crate) now_us: u64,
    pub(crate) wall_ms: i64,
    /// When the broker sent what has just arrived.
    pub(crate) sent_us: u64,
    /// The client did nothing until then, and gave no credit back.
    pub(crate) frozen_until_us: u64,
    /// No more faults: clients behave, so that everything drains.
    pub(crate) calm: bool,
    pub(crate) client: usize,
    pub(crate) rng: &'a mut Rng,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) scenario: &'a Scenario,
    pub(crate) out: BytesMut,
    pub(crate) close: bool,
    pub(crate) wakes: Vec<u64>,
    pub(crate) inserts: Vec<SentInsert>,
}

impl Turn<'_> {
    pub(crate) fn wake_in(&mut self, delay_us: u64) {
        self.wakes.push(self.now_us + delay_us.max(1));
    }

    /// How long after its lease began a chunk's frame may have been sent. For one who gave no credit
    /// back frames wait as long as that.
    pub(crate) fn hand_out_lag_us(&self) -> u64 {
        let frozen = self.sent_us < self.frozen_until_us + CATCH_UP_US;
        let waits = frozen || self.scenario.frames_may_wait();
        self.scenario.hand_out_lag_us() + if waits { self.now_us } else { 0 }
    }

    pub(crate) fn retry_later(&mut self) {
        let delay_us = self.rng.delay(RETRY_US.0, RETRY_US.1);
        self.wake_in(delay_us);
    }
}

#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Reader(Reader),
    Member(Member),
    Undertaker(Undertaker),
    Clerk(Clerk),
    Mover(Mover),
    Vandal(Vandal),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) role: Role,
    pub(crate) link: Option<LinkId>,
    /// When it will be woken.
    pub(crate) wake_at_us: Option<u64>,
    /// Does nothing until then: its process is stopped.
    pub(crate) frozen_until_us: u64,
    line: Option<Line>,
    /// The topic, once this connection may speak of it.
    topic: Option<u32>,
    /// The topic has to be asked for again.
    topic_refused: bool,
}

impl Client {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            link: None,
            wake_at_us: None,
            frozen_until_us: 0,
            line: None,
            topic: None,
            topic_refused: false,
        }
    }

    pub(crate) fn connected(&mut self, turn: &mut Turn<'_>) {
        self.topic = None;
        self.topic_refused = false;
        if let Role::Vandal(vandal) = &mut self.role {
            vandal.connected(turn);
        } else {
            self.line = Some(Line::new(turn));
        }
    }

    pub(crate) fn disconnected(&mut self, turn: &mut Turn<'_>) {
        self.line = None;
        self.topic = None;
        turn.oracle.released(turn.client);
        match &mut self.role {
            Role::Producer(producer) => producer.disconnected(turn),
            Role::Reader(reader) => reader.disconnected(),
            Role::Member(member) => member.disconnected(turn),
            Role::Undertaker(undertaker) => undertaker.disconnected(turn),
            Role::Clerk(clerk) => clerk.disconnected(),
            Role::Mover(mover) => mover.disconnected(turn),
            Role::Vandal(_) => {}
        }
        turn.retry_later();
    }

    pub(crate) fn woken(&mut self, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.topic_refused) {
            self.ask_topic(turn);
        }
        self.progress(turn);
    }

    /// The store has answered an insert, or its connection broke.
    pub(crate) fn inserted(&mut self, job: u64, stored: bool, turn: &mut Turn<'_>) {
        if let Role::Member(member) = &mut self.role {
            member.inserted(job, stored, turn);
        }
        self.progress(turn);
    }

    pub(crate) fn received(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        if let Role::Vandal(vandal) = &mut self.role {
            vandal.received(bytes, turn);
        }
        if let Some(line) = &mut self.line {
            line.received(bytes, turn.now_us);
        }
        while let Some(event) = self.line.as_mut().and_then(Line::next_event) {
            self.event(event, turn);
        }
        self.progress(turn);
    }

    /// The last thing in every turn.
    pub(crate) fn finish(&mut self, turn: &mut Turn<'_>) {
        if let Some(line) = &mut self.line {
            line.finish(turn);
        }
    }

    fn progress(&mut self, turn: &mut Turn<'_>) {
        if let Role::Vandal(vandal) = &mut self.role {
            vandal.woken(turn);
        }
        let (Some(line), Some(topic)) = (&mut self.line, self.topic) else { return };
        match &mut self.role {
            Role::Producer(producer) => producer.progress(topic, line, turn),
            Role::Reader(reader) => reader.progress(topic, line, turn),
            Role::Member(member) => member.progress(topic, line, turn),
            Role::Undertaker(undertaker) => undertaker.progress(topic, line, turn),
            Role::Clerk(clerk) => clerk.progress(line, turn),
            Role::Mover(mover) => mover.progress(topic, line, turn),
            Role::Vandal(_) => {}
        }
    }

    fn event(&mut self, event: Event<Tag>, turn: &mut Turn<'_>) {
        match event {
            Event::Opened(_) => self.ask_topic(turn),
            Event::Answered { tag: Tag::Topic, answer: Ok(Answer::Topics(topics)) } => {
                let topic = topics.first().expect("the topic that was asked for");
                let found = (topic.name.as_str(), topic.partitions);
                assert_eq!(found, (self.topic_name(), turn.scenario.partitions));
                turn.oracle.topic(&topic.name, topic.topic);
                self.topic = Some(topic.topic);
                if turn.scenario.migrants {
                    self.migrate(topic.topic, turn);
                }
            }
            Event::Answered { tag: Tag::Migrate, answer: Ok(Answer::Done) } => {}
            Event::Answered { tag: Tag::Migrate, answer } => {
                let refusal = answer.expect_err("a migration is done");
                assert!(refusal.code().is_retryable(), "migration refused: {refusal:?}");
            }
            Event::Answered { tag: Tag::Topic, answer } => {
                let refusal = answer.expect_err("a topic is answered with topics");
                let code = refusal.code();
                let none_yet = code == ErrorCode::UNKNOWN_TOPIC
                    && self.topic_name() == LETTERS
                    && turn.oracle.topic_number(LETTERS).is_none();
                assert!(code.is_retryable() || none_yet, "topic refused: {refusal:?}");
                self.topic_refused = true;
                turn.retry_later();
            }
            Event::Goodbye { .. } => {}
            Event::Refused(refusal) => refused_connection(&refusal, turn),
            event @ (Event::Answered { .. }
            | Event::Deliver { .. }
            | Event::Missed(_)
            | Event::Settled(_)
            | Event::Online(_)
            | Event::Ended(_)) => match &mut self.role {
                Role::Producer(producer) => producer.event(event, turn),
                Role::Reader(reader) => reader.event(event, turn),
                Role::Member(member) => member.event(event, turn),
                Role::Undertaker(undertaker) => undertaker.event(event, turn),
                Role::Clerk(clerk) => clerk.event(event, turn),
                Role::Mover(mover) => mover.event(event, self.line.as_mut(), turn),
                Role::Vandal(_) => {}
            },
        }
    }

    /// Asks to be served elsewhere, perhaps more than once. What the client does next comes behind that.
    fn migrate(&mut self, topic: u32, turn: &mut Turn<'_>) {
        let Some(line) = &mut self.line else { return };
        while line.session.may_request() && turn.rng.one_in(2) {
            let partition = turn.rng.below(u64::from(turn.scenario.partitions)) as u32;
            line.ask(&ClientMessage::Migrate(Migrate { topic, partition }), Tag::Migrate);
        }
    }

    fn topic_name(&self) -> &'static str {
        match self.role {
            Role::Undertaker(_) => LETTERS,
            Role::Producer(_)
            | Role::Reader(_)
            | Role::Member(_)
            | Role::Clerk(_)
            | Role::Mover(_)
            | Role::Vandal(_) => TOPIC,
        }
    }

    /// Makes the topic, or asks for it where the broker makes it.
    fn ask_topic(&mut self, turn: &mut Turn<'_>) {
        let ask = match self.role {
            Role::Undertaker(_) => {
                ClientMessage::DescribeTopic(DescribeTopic { name: LETTERS.to_owned() })
            }
            Role::Producer(_)
            | Role::Reader(_)
            | Role::Member(_)
            | Role::Clerk(_)
            | Role::Mover(_)
            | Role::Vandal(_) => create_topic(turn.scenario),
        };
        if let Some(line) = &mut self.line
            && !line.ask(&ask, Tag::Topic)
        {
            turn.close = true;
        }
    }
}

fn create_topic(scenario: &Scenario) -> ClientMessage {
    ClientMessage::CreateTopic(CreateTopic {
        name: TOPIC.to_owned(),
        partitions: scenario.partitions,
        settings: scenario.topic_settings(),
    })
}

/// A correct client is never refused as a whole, unless the broker goes away, memory is short, or
/// the network was so slow that a deadline passed.
fn refused_connection(refusal: &Refusal, turn: &mut Turn<'_>) {
    let code = refusal.code();
    let for_now = [ErrorCode::DRAINING, ErrorCode::OVERLOADED, ErrorCode::TIMED_OUT];
    assert!(for_now.contains(&code), "connection refused: {refusal:?}");
    turn.close = true;
}
