//! Producer, client and broker sessions against each other over a bad network, from a seed.
//!
//! The network delays and cuts bytes at any place and breaks connections; the broker refuses at
//! random, appends as long as sequences have no hole, and remembers what it answered.

use std::collections::BTreeMap;

use lanecast_wire::batch::{self, schema};
use lanecast_wire::builder::SealedBody;
use lanecast_wire::message::{DeliveryMode, ProduceReply, Refusal};
use lanecast_wire::session::{
    Answer, BrokerSession, ClientSession, Event, Greeting, OnLostSequence, Outcome,
    ProducerSession, ProducerSettings, Request,
};
use lanecast_wire::{ErrorCode, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId};

const PARTITIONS: u32 = 3;
const BATCHES: u64 = 40;

/// xorshift64* (Vigna: An experimental exploration of Marsaglia's xorshift generators, 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Appends in memory; outlives connections.
#[derive(Default)]
struct Log {
    /// Sequence and content of each batch, in order.
    batches: Vec<(u64, u64)>,
}

struct World {
    random: Random,
    now_us: u64,
    producer: ProducerSession<u64>,
    client: ClientSession<(u32, Sequence)>,
    broker: BrokerSession,
    to_broker: Vec<u8>,
    to_client: Vec<u8>,
    logs: BTreeMap<u32, Log>,
    accepted: BTreeMap<u32, u64>,
    acknowledged: BTreeMap<u32, Vec<u64>>,
    breaks: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let window = 1 + random.below(8) as u32;
        let producer = ProducerSession::new(ProducerSettings {
            producer: ProducerId(seed),
            epoch: ProducerEpoch(1),
            topic: TopicId(1),
            partitions: PARTITIONS,
            window,
            retry_first_us: 10,
            retry_longest_us: 1_000,
            on_lost_sequence: OnLostSequence::Fail,
        });
        Self {
            random,
            now_us: 0,
            producer,
            client: ClientSession::new("model"),
            broker: BrokerSession::default(),
            to_broker: Vec::new(),
            to_client: Vec::new(),
            logs: BTreeMap::new(),
            accepted: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            breaks: 0,
        }
    }

    fn run(&mut self, faults: bool) {
        for _ in 0..200_000 {
            match self.random.below(6) {
                0 => self.accept(),
                1 | 2 => self.client_turn(),
                3 | 4 => self.broker_turn(faults),
                _ => self.now_us += self.random.below(500),
            }
            if faults && self.random.one_in(60) && self.breaks < 30 {
                self.break_connection();
            }
            let done = self.accepted.values().sum::<u64>() == BATCHES * u64::from(PARTITIONS);
            if done && self.producer.unacknowledged() == 0 {
                return;
            }
        }
        panic!("no end: {} unacknowledged", self.producer.unacknowledged());
    }

    fn accept(&mut self) {
        let partition = self.random.below(u64::from(PARTITIONS)) as u32;
        let number = self.accepted.entry(partition).or_default();
        if *number == BATCHES {
            return;
        }
        let sealed = SealedBody {
            body: number.to_le_bytes().to_vec(),
            schema: schema::GENERIC,
            record_count: 1,
            min_time_ms: 0,
            max_time_ms: 0,
            summary: Vec::new(),
        };
        assert_eq!(self.producer.accept(partition, &sealed, 0, *number, self.now_us), Ok(()));
        *number += 1;
    }

    fn client_turn(&mut self) {
        let arrived = self.arrived(self.to_client.len());
        let bytes: Vec<u8> = self.to_client.drain(..arrived).collect();
        self.client.receive_buffer().extend_from_slice(&bytes);
        while let Some(event) = self.client.next_event().unwrap() {
            if let Event::Answered { tag: (partition, sequence), answer } = event {
                let answer = answer.map(|answer| match answer {
                    Answer::Produced(reply) => reply,
                    other @ (Answer::Topics(_)
                    | Answer::Groups(_)
                    | Answer::Subscribed(_)
                    | Answer::Done) => {
                        panic!("{other:?}")
                    }
                });
                let outcome =
                    self.producer.answered(partition, sequence, answer, self.now_us).unwrap();
                assert_ne!(outcome, Outcome::Stale, "each request is answered once");
            }
        }
        while let Some(done) = self.producer.poll_acknowledged() {
            self.acknowledged.entry(done.partition).or_default().push(done.tag);
        }
        while self.client.may_produce() {
            let Some(send) = self.producer.poll_send(self.now_us) else { break };
            let tag = (send.partition.index, send.sequence);
            assert_eq!(self.client.produce(send.partition, send.batch, tag), Ok(()));
        }
        self.to_broker.extend(self.client.output().take().concat());
    }

    fn broker_turn(&mut self, faults: bool) {
        let arrived = self.arrived(self.to_broker.len());
        let bytes: Vec<u8> = self.to_broker.drain(..arrived).collect();
        let mut input = &bytes[..];
        loop {
            let mut session = std::mem::take(&mut self.broker);
            let answer = match session.next(&mut input).unwrap() {
                None => {
                    self.broker = session;
                    break;
                }
                Some(Request::Hello { correlation, .. }) => {
                    session.welcome(
                        correlation,
                        &Greeting {
                            broker_version: "model".into(),
                            shards: 1,
                            default_mode: DeliveryMode::Queue,
                            default_credit_bytes: 0,
                        },
                    );
                    self.broker = session;
                    continue;
                }
                Some(Request::Produce { correlation, partition, batch }) => {
                    (correlation, self.append(partition, batch, faults))
                }
                Some(other) => panic!("{other:?}"),
            };
            match answer {
                (correlation, Ok(reply)) => session.produced(correlation, reply),
                (correlation, Err(code)) => {
                    session.produce_refused(correlation, Refusal::new(code, "model"));
                }
            }
            self.broker = session;
        }
        self.to_client.extend(self.broker.take_output().concat());
    }

    fn append(
        &mut self,
        partition: PartitionId,
        bytes: &[u8],
        faults: bool,
    ) -> Result<ProduceReply, ErrorCode> {
        let header = batch::check(bytes).unwrap();
        if faults && self.random.one_in(10) {
            return Err(ErrorCode::OVERLOADED);
        }
        let log = self.logs.entry(partition.index).or_default();
        let sequence = header.sequence.0;
        if sequence < log.batches.len() as u64 {
            return Ok(ProduceReply { base_offset: sequence, duplicate: true, dropped: false });
        }
        if sequence > log.batches.len() as u64 {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        }
        let content = u64::from_le_bytes(batch::body(bytes).try_into().unwrap());
        log.batches.push((sequence, content));
        Ok(ProduceReply { base_offset: sequence, duplicate: false, dropped: false })
    }

    /// How much of what is under way has arrived.
    fn arrived(&mut self, under_way: usize) -> usize {
        if self.random.one_in(3) {
            under_way
        } else {
            self.random.below(under_way as u64 + 1) as usize
        }
    }

    fn break_connection(&mut self) {
        self.breaks += 1;
        self.client = ClientSession::new("model");
        self.broker = BrokerSession::default();
        self.to_broker.clear();
        self.to_client.clear();
        self.producer.disconnected();
    }
}

fn assert_once_in_order(world: &World, seed: u64) {
    for partition in 0..PARTITIONS {
        let logged: Vec<u64> =
            world.logs[&partition].batches.iter().map(|(_, content)| *content).collect();
        assert!(logged.iter().copied().eq(0..BATCHES), "seed {seed}, log: {logged:?}");
        let acknowledged = &world.acknowledged[&partition];
        assert!(acknowledged.iter().copied().eq(0..BATCHES), "seed {seed}: {acknowledged:?}");
    }
}

#[test]
fn over_a_bad_network_every_batch_is_logged_and_acknowledged_once_and_in_order() {
    let mut breaks = 0;
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.run(true);
        assert_once_in_order(&world, seed);
        breaks += world.breaks;
    }
    assert!(breaks > 1_000, "connections did break: {breaks}");
}

#[test]
fn over_a_good_network_nothing_is_sent_twice() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.run(false);
        assert_once_in_order(&world, seed);
        assert_eq!(world.producer.retries(), 0);
    }
}
