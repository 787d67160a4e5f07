//! What hostile and slow peers can make a broker hold: its process' memory is read, and stays within
//! the budget and a fixed overhead, while an honest client goes on.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use lanecast_wire::limits::PAYLOAD_BYTES_MAX;
use lanecast_wire::message::{
    BrokerMessage, ClientMessage, ListTopics, Ping, Produce, StartPosition,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::admin::get;
use crate::raw::{Raw, produce, sealed};
use crate::support::BrokerProcess;

const MIB: u64 = 1024 * 1024;

/// A large record.
const BATCH_BYTES: usize = 1_000_000;

/// The least that two shards take.
const BUDGET: u64 = 128 * MIB;

/// What a process of this build takes before anybody connects (code, executors' rings and buffers,
/// receive buffers, arenas of open blocks of the few partitions here), and what the allocator keeps
/// of memory that was given back.
const OVERHEAD: u64 = 64 * MIB;

/// What one idle connection may take in the broker's own memory.
const CONNECTION: u64 = 4 * 1024;

struct Place {
    broker: BrokerProcess,
    _dir: tempfile::TempDir,
}

impl Place {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let memory = BUDGET.to_string();
        let broker = BrokerProcess::start(&[path, "--shards", "2", "--memory", &memory]);
        Place { broker, _dir: dir }
    }

    fn addr(&self) -> SocketAddr {
        self.broker.addr
    }

    /// Resident memory now, and the most there ever was.
    fn resident(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.broker.pid()));
        let status = status.unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn assert_within_budget(&self, what: &str) {
        let (now, most) = self.resident();
        println!("{what}: {} MiB resident, at most {} MiB", now / MIB, most / MIB);
        assert!(most <= BUDGET + OVERHEAD, "{what}: {} MiB were resident", most / MIB);
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&get(self.broker.admin, "/stats").1).unwrap()
    }

    /// Connections that were ended for any of these reasons.
    fn expelled(&self, reasons: &[&str]) -> u64 {
        let stats = self.stats();
        let shards = stats["shards"].as_array().unwrap().iter();
        shards
            .flat_map(|shard| reasons.iter().map(|reason| &shard["connections_expelled"][reason]))
            .map(|count| count.as_u64().unwrap())
            .sum()
    }
}

/// Produces and reads what it has produced, over one connection.
struct Honest {
    raw: Raw,
    topic: u32,
    sequence: u64,
}

impl Honest {
    fn start(addr: SocketAddr) -> Self {
        let mut raw = Raw::connect(addr, "honest");
        let topic = raw.create_topic("honest", 1);
        raw.subscribe(topic, StartPosition::Earliest, 0);
        let reply = raw.receive();
        assert!(matches!(reply, (BrokerMessage::SubscribeReply(_), _)), "{reply:?}");
        Honest { raw, topic, sequence: 0 }
    }

    /// A batch is acknowledged and comes back.
    fn round(&mut self) {
        self.raw.send(&produce(self.topic), &sealed(1, self.sequence, 10_000));
        let (mut answered, mut delivered) = (false, false);
        while !answered || !delivered {
            match self.raw.receive() {
                (BrokerMessage::ProduceReply(reply), _) => {
                    assert_eq!(reply.base_offset, self.sequence);
                    answered = true;
                }
                (BrokerMessage::Deliver(deliver), bytes) => {
                    assert_eq!(deliver.last, self.sequence);
                    self.raw.credit(0, bytes);
                    delivered = true;
                }
                (BrokerMessage::Refusal(refusal), _) if refusal.code().is_retryable() => {
                    let batch = sealed(1, self.sequence, 10_000);
                    self.raw.send(&produce(self.topic), &batch);
                }
                (other, _) => panic!("{other:?}"),
            }
        }
        self.sequence += 1;
    }
}

#[test]
fn ten_thousand_idle_connections_cost_next_to_nothing() {
    let wanted = 10_500;
    let limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "the hard limit of open files is {:?}; this test needs {wanted}: ulimit -Hn {wanted}",
        limit.maximum
    );
    let raised = Rlimit { current: limit.current.max(Some(wanted)), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();

    let place = Place::start();
    let mut honest = Honest::start(place.addr());
    honest.round();
    let (before, _) = place.resident();
    let mut idle: Vec<Raw> = Vec::with_capacity(10_000);
    for number in 0..10_000 {
        idle.push(Raw::connect(place.addr(), "idle"));
        if number % 100 == 0 {
            honest.round();
        }
    }
    let (after, _) = place.resident();
    let each = after.saturating_sub(before) / idle.len() as u64;
    println!(
        "idle broker: {} MiB; with 10,000 idle connections: {} MiB, {each} bytes each",
        before / MIB,
        after / MIB
    );
    assert!(each <= CONNECTION, "{each} bytes a connection");
    place.assert_within_budget("10,000 idle connections");
    // They are all there, and are all still served.
    for raw in idle.iter_mut().step_by(97) {
        raw.send(&ClientMessage::Ping(Ping {}), b"");
        assert!(matches!(raw.receive(), (BrokerMessage::Done(_), _)));
    }
    honest.round();
}

#[test]
fn half_frames_of_a_thousand_connections_stay_within_the_budget() {
    let place = Place::start();
    let mut honest = Honest::start(place.addr());
    let mut lorises = Vec::new();
    // Half of the largest frame each: 2 GiB in all.
    let half = vec![0; PAYLOAD_BYTES_MAX as usize / 2];
    for number in 0..1000 {
        let mut loris = Raw::connect(place.addr(), "loris");
        let head = ClientMessage::Produce(Produce { topic: 1, partition: 0 })
            .encode(lanecast_wire::CorrelationId(9), PAYLOAD_BYTES_MAX);
        // The broker may end it meanwhile.
        let _sent = loris.socket.write_all(&head).and_then(|()| loris.socket.write_all(&half));
        lorises.push(loris);
        if number % 20 == 0 {
            honest.round();
        }
    }
    let mut told = 0;
    for loris in &mut lorises {
        // A reset is a close as well, and may overtake the last word.
        loris.socket.set_nonblocking(true).unwrap();
        let mut word = Vec::new();
        let ended = loris.socket.read_to_end(&mut word);
        let kept = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        told += u32::from(!kept && !word.is_empty());
    }
    honest.round();
    place.assert_within_budget("1,000 half frames of 2 MiB");
    let expelled = place.expelled(&["receive_memory"]);
    assert!(expelled > 900, "{expelled} were let go");
    assert!(told > 0, "nobody was told why");
    let received = place.stats()["memory"]["received"].as_u64().unwrap();
    assert!(received <= BUDGET / 8, "{received}");
}

#[test]
fn subscribers_that_never_read_stay_within_the_budget() {
    let place = Place::start();
    let mut honest = Honest::start(place.addr());
    let mut producer = Raw::connect(place.addr(), "producer");
    let topic = producer.create_topic("bulk", 1);
    let mut deaf = Vec::new();
    for sequence in 0..200 {
        // One that begins at the newest record, and one that begins at the oldest.
        if sequence % 2 == 0 {
            for start in [StartPosition::Latest, StartPosition::Earliest] {
                let mut raw = Raw::connect(place.addr(), "deaf");
                raw.subscribe(topic, start, 64 * MIB as u32);
                deaf.push(raw);
            }
        }
        producer.produced(topic, &sealed(2, sequence, BATCH_BYTES));
        honest.round();
    }
    place.assert_within_budget("200 subscribers that never read 200 MB");
    let expelled = place.expelled(&["not_reading", "outbound_memory"]);
    assert!(expelled > 0, "nobody was let go: {:#}", place.stats()["memory"]);
}

#[test]
fn producers_that_never_read_their_answers_stay_within_the_budget() {
    let place = Place::start();
    let mut honest = Honest::start(place.addr());
    let mut names = Raw::connect(place.addr(), "names");
    for number in 0..16 {
        names.create_topic(&format!("a-topic-with-a-long-name-{number:0>90}"), 1);
    }
    let mut deaf = Vec::new();
    for number in 0..100 {
        let mut raw = Raw::connect(place.addr(), "deaf");
        raw.socket.set_nonblocking(true).unwrap();
        // A small question with a large answer, until the broker asks for no more.
        let question: Vec<u8> = (0..200)
            .flat_map(|_| raw.frame(&ClientMessage::ListTopics(ListTopics {}), b""))
            .collect();
        for _ in 0..100 {
            match raw.socket.write(&question) {
                Ok(bytes) if bytes == question.len() => {}
                // What went out is perhaps half a question: there is nothing more to ask.
                Ok(_) => break,
                Err(_) => break,
            }
        }
        deaf.push(raw);
        if number % 5 == 0 {
            honest.round();
        }
    }
    honest.round();
    place.assert_within_budget("100 clients that never read their answers");
    drop(deaf);
    honest.round();
}

#[test]
fn two_hundred_slow_readers_catch_up_at_once_within_the_budget() {
    let place = Place::start();
    let mut honest = Honest::start(place.addr());
    let mut producer = Raw::connect(place.addr(), "producer");
    let topic = producer.create_topic("past", 1);
    // Far more than the cache.
    const BATCHES: u64 = 48;
    const DELIVERIES: u64 = 5;
    for sequence in 0..BATCHES {
        producer.produced(topic, &sealed(2, sequence, BATCH_BYTES));
    }
    let mut readers: Vec<(Raw, u64)> = (0..200)
        .map(|_| {
            let mut raw = Raw::connect(place.addr(), "reader");
            raw.subscribe(topic, StartPosition::Earliest, 2 * MIB as u32);
            (raw, 0)
        })
        .collect();
    // Each in turn reads one delivery, while all others wait; and leaves after a few.
    let mut round = 0;
    while !readers.is_empty() {
        readers.retain_mut(|(raw, next)| {
            loop {
                match raw.receive() {
                    (BrokerMessage::SubscribeReply(_), _) => {}
                    (BrokerMessage::Deliver(deliver), bytes) => {
                        assert_eq!(deliver.first, *next, "in order and without a hole");
                        *next = deliver.last + 1;
                        raw.credit(0, bytes);
                        return *next < DELIVERIES;
                    }
                    (other, _) => panic!("{other:?}"),
                }
            }
        });
        round += 1;
        honest.round();
        assert!(round < BATCHES);
    }
    place.assert_within_budget("200 slow readers of the past at once");
    assert_eq!(place.expelled(&["not_reading", "outbound_memory"]), 0, "they are slow, not deaf");
}
