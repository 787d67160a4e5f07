//! Bytes that are no protocol, or almost.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use lanecast_wire::message::{ClientMessage, ListTopics, Ping, StartPosition};
use lanecast_wire::{CorrelationId, frame::MAGIC};
use serde_json::Value;

use crate::admin::get;
use crate::pipeline::{PATIENCE, start};
use crate::raw::{Raw, hello, produce, sealed};

/// xorshift64*: the same bytes in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// A conversation as a client would have it, byte for byte.
fn conversation(chance: &mut Chance) -> Vec<u8> {
    let frames: [(ClientMessage, Vec<u8>); 4] = [
        (ClientMessage::Ping(Ping {}), Vec::new()),
        (ClientMessage::ListTopics(ListTopics {}), Vec::new()),
        (produce(1), sealed(chance.next(), 0, chance.below(3000)).to_vec()),
        (produce(1), chance.bytes(500)),
    ];
    let mut bytes = hello("fuzzer").encode(CorrelationId(1), 0).to_vec();
    for correlation in 2..12 {
        let (message, tail) = &frames[chance.below(frames.len())];
        bytes.extend_from_slice(&message.encode(CorrelationId(correlation), tail.len() as u32));
        bytes.extend_from_slice(tail);
    }
    bytes
}

/// Says it in pieces, and listens until the broker has heard all or hung up.
fn say(addr: SocketAddr, bytes: &[u8], chance: &mut Chance) {
    let mut raw = Raw::dial(addr);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at(1 + chance.below(rest.len().min(700)));
        if raw.socket.write_all(piece).is_err() {
            break;
        }
        rest = left;
    }
    // Hung up on by the broker already, perhaps.
    let _half_closed = raw.socket.shutdown(std::net::Shutdown::Write);
    let mut answers = Vec::new();
    match raw.socket.read_to_end(&mut answers) {
        Ok(_) => {}
        Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "kept open"),
    }
    assert!(answers.is_empty() || answers[..4] == MAGIC);
}

#[test]
fn fuzzed_conversations_end_in_a_refusal_and_disturb_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir, 2);
    let addr = broker.addr();
    let mut honest = Raw::connect(addr, "honest");
    let topic = honest.create_topic("honest", 1);
    let mut chance = Chance(0x1a2b_3c4d_5e6f);
    let mut sequence = 0;
    for round in 0..600 {
        let mut bytes = conversation(&mut chance);
        match round % 6 {
            0 => {
                bytes = {
                    let count = 1 + chance.below(5000);
                    chance.bytes(count)
                }
            }
            // Noise behind a hello.
            1 => {
                bytes.truncate(hello("fuzzer").encode(CorrelationId(1), 0).len());
                bytes.extend(MAGIC);
                bytes.extend(chance.bytes(2000));
            }
            // Bits flipped anywhere.
            2 | 3 => {
                for _ in 0..=chance.below(4) {
                    let at = chance.below(bytes.len());
                    bytes[at] ^= 1 << chance.below(8);
                }
            }
            // A piece left out, or said twice.
            4 => {
                let from = chance.below(bytes.len());
                let to = from + chance.below(bytes.len() - from);
                bytes.drain(from..to);
            }
            _ => {
                let from = chance.below(bytes.len());
                let again = bytes[from..].to_vec();
                bytes.extend(again);
            }
        }
        say(addr, &bytes, &mut chance);
        if round % 10 == 0 {
            honest.produced(topic, &sealed(1, sequence, 100));
            sequence += 1;
        }
    }
    // Statistics are those of a moment ago: the last one may still be there.
    let deadline = Instant::now() + PATIENCE;
    let stats = loop {
        let stats: Value = serde_json::from_str(&get(broker.admin_addr(), "/stats").1).unwrap();
        if stats["memory"]["received"] == 0 {
            break stats;
        }
        assert!(Instant::now() < deadline, "something is left of them: {}", stats["memory"]);
    };
    let shards = stats["shards"].as_array().unwrap();
    let expelled: u64 =
        shards.iter().map(|one| one["connections_expelled"]["protocol"].as_u64().unwrap()).sum();
    assert!(expelled > 200, "{expelled} were refused for what they said");
    honest.subscribe(topic, StartPosition::Earliest, 0);
    let metrics = get(broker.admin_addr(), "/metrics").1;
    assert!(
        metrics.contains(
            "lanecast_broker_connections_expelled_total{shard=\"0\",reason=\"protocol\"}"
        )
    );
}
