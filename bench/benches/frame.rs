//! Frames of the hot path, and the sessions of both ends around them.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput};
use lanecast_wire::frame::FrameHeader;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, Deliver, DeliveryMode, Hello, Lease, Produce, ProduceReply,
};
use lanecast_wire::session::{BrokerSession, Greeting, Request};
use lanecast_wire::{CorrelationId, FrameDecoder, TopicId};

use crate::support::publisher::{Publisher, messages};

/// Frames that a session is given at a time.
const FRAMES: usize = 32;

pub(crate) fn benches(c: &mut Criterion) {
    control(c);
    stream(c);
    session(c);
}

fn deliver() -> Deliver {
    let lease = Lease {
        chunk_first: 0,
        chunk_last: 511,
        generation: 1,
        attempt: 1,
        lease_ms: 30_000,
        appended_ms: 0,
    };
    let (first, last, high_watermark) = (0, 511, 512);
    Deliver { subscription: 1, partition: 0, first, last, high_watermark, lease: Some(lease) }
}

/// Heads of single frames: header, control archive, checksum.
fn control(c: &mut Criterion) {
    let ack = Ack { subscription: 1, partition: 0, first: 0, last: 511, generation: 1 };
    let reply = ProduceReply { base_offset: 7, duplicate: false, dropped: false };
    let from_clients = [
        ("Produce", ClientMessage::Produce(Produce { topic: 1, partition: 2 })),
        ("Ack", ClientMessage::Ack(ack)),
    ];
    let from_brokers = [
        ("ProduceReply", BrokerMessage::ProduceReply(reply)),
        ("Deliver with a lease", BrokerMessage::Deliver(deliver())),
    ];
    let mut out = BytesMut::with_capacity(4096);
    let mut group = c.benchmark_group("frame, encode the head");
    group.throughput(Throughput::Elements(1));
    for (name, message) in &from_clients {
        group.bench_function(*name, |b| {
            b.iter(|| {
                out.clear();
                message.encode_into(CorrelationId(7), 0, black_box(&mut out));
            });
        });
    }
    for (name, message) in &from_brokers {
        group.bench_function(*name, |b| {
            b.iter(|| {
                out.clear();
                message.encode_into(CorrelationId(7), 0, black_box(&mut out));
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("frame, decode the head");
    group.throughput(Throughput::Elements(1));
    for (name, message) in &from_clients {
        let bytes = message.encode(CorrelationId(7), 0);
        group.bench_function(*name, |b| {
            b.iter(|| {
                let (header, control) = cut(black_box(&bytes));
                ClientMessage::decode(header.kind, control).expect("it was just encoded")
            });
        });
    }
    for (name, message) in &from_brokers {
        let bytes = message.encode(CorrelationId(7), 0);
        group.bench_function(*name, |b| {
            b.iter(|| {
                let (header, control) = cut(black_box(&bytes));
                BrokerMessage::decode(header.kind, control).expect("it was just encoded")
            });
        });
    }
    group.finish();
}

fn cut(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    let (head, control) = bytes.split_first_chunk().expect("a whole frame");
    (FrameHeader::decode(head).expect("it was just encoded"), control)
}

/// Whole frames out of received bytes.
fn stream(c: &mut Criterion) {
    let small = Publisher::new(&messages(1, 128), TopicId(1)).requests(FRAMES).to_vec();
    let mut group = c.benchmark_group("frames of 128 B batches");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("found in the receive buffer", |b| {
        b.iter(|| {
            let mut decoder = FrameDecoder::default();
            count(&mut decoder, black_box(&small))
        });
    });
    let mut decoder = FrameDecoder::default();
    group.bench_function("gathered from halves", |b| {
        b.iter(|| {
            let halves = small.chunks(small.len() / FRAMES / 2);
            halves.map(|half| count(&mut decoder, black_box(half))).sum::<usize>()
        });
    });
    group.finish();
}

fn count(decoder: &mut FrameDecoder, mut input: &[u8]) -> usize {
    let mut frames = 0;
    while let Some(frame) = decoder.next(&mut input).expect("they were just encoded") {
        frames += usize::from(!frame.payload.is_empty());
    }
    frames
}

/// The broker's end of a connection: a request taken, an answer given, the output taken.
fn session(c: &mut Criterion) {
    let mut session = BrokerSession::default();
    open(&mut session);
    let payload = messages(1, 128);
    let small = Publisher::new(&payload, TopicId(1)).requests(FRAMES).to_vec();
    let mut group = c.benchmark_group("broker session");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("take a produce request and answer it", |b| {
        b.iter(|| {
            let mut input: &[u8] = &small;
            let mut taken = Vec::with_capacity(FRAMES);
            while let Some(request) = session.next(&mut input).expect("they were just encoded") {
                let Request::Produce { correlation, .. } = request else { continue };
                taken.push(correlation);
            }
            for correlation in taken {
                let reply = ProduceReply { base_offset: 1, duplicate: false, dropped: false };
                session.produced(correlation, reply);
            }
            session.take_output()
        });
    });
    let batch = bytes::Bytes::from(payload.body);
    group.bench_function("deliver one batch", |b| {
        b.iter(|| {
            for _ in 0..FRAMES {
                session.deliver(&deliver(), [batch.clone()]);
            }
            session.take_output()
        });
    });
    group.finish();
}

fn open(session: &mut BrokerSession) {
    let client = "bench".to_owned();
    let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, client };
    let bytes = ClientMessage::Hello(hello).encode(CorrelationId(1), 0);
    let request = session.next(&mut &bytes[..]).expect("a hello is welcome");
    assert!(matches!(request, Some(Request::Hello { .. })));
    let greeting = Greeting {
        broker_version: "bench".to_owned(),
        shards: 1,
        default_mode: DeliveryMode::Queue,
        default_credit_bytes: 1 << 20,
    };
    session.welcome(CorrelationId(1), &greeting);
    session.take_output();
}
