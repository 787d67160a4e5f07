//! Bytes that stand on disks and in other programs: a change here is a change of the protocol.

use lanecast_wire::batch::{self, schema};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::frame::{Frame, peek};
use lanecast_wire::generic::{GenericBuilder, GenericView, Headers, Message};
use lanecast_wire::message::{BrokerMessage, ClientMessage};
use lanecast_wire::summary::SummaryBuilder;
use lanecast_wire::{CorrelationId, KeyHash, KeyKind, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::examples::{broker_messages, client_messages};

const CORRELATION: CorrelationId = CorrelationId(0x0102_0304_0506_0708);

fn golden(name: &str) -> Vec<u8> {
    let line = include_str!("golden.txt")
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(found, _)| *found == name));
    let (_, hex) = line.unwrap_or_else(|| panic!("golden.txt has no {name}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn assert_golden(name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(golden(name) == bytes, "other bytes than golden.txt has:\n{name} {hex}");
}

fn messages() -> Vec<GenericMessage> {
    vec![
        GenericMessage { id: 1 << 100, key: b"gpu-1", payload: b"first", headers: &[], time: 5 },
        GenericMessage {
            id: 0,
            key: b"",
            payload: b"",
            headers: &[("trace", b"\x00\xff"), ("", b"")],
            time: -5,
        },
    ]
}

struct GenericMessage {
    id: u128,
    key: &'static [u8],
    payload: &'static [u8],
    headers: &'static [(&'static str, &'static [u8])],
    time: i64,
}

impl GenericMessage {
    fn as_message(&self) -> Message<'_> {
        Message {
            id: self.id,
            key: self.key,
            headers: Headers::Listed(self.headers),
            payload: self.payload,
            timestamp_ms: self.time,
        }
    }
}

#[test]
fn client_frames_keep_their_bytes() {
    for (name, message) in client_messages() {
        let payload_bytes = if message.kind().has_payload() { 7 } else { 0 };
        assert_golden(name, &message.encode(CORRELATION, payload_bytes));
        let mut bytes = golden(name);
        let header = peek(&bytes).unwrap().unwrap();
        assert_eq!((header.correlation, header.payload_bytes), (CORRELATION, payload_bytes));
        bytes.resize(header.frame_bytes(), 0);
        let frame = Frame::open(header, &bytes).unwrap();
        assert_eq!(ClientMessage::decode(header.kind, frame.control), Ok(message));
    }
}

#[test]
fn broker_frames_keep_their_bytes() {
    for (name, message) in broker_messages() {
        let payload_bytes = if message.kind().has_payload() { 7 } else { 0 };
        assert_golden(name, &message.encode(CORRELATION, payload_bytes));
        let mut bytes = golden(name);
        let header = peek(&bytes).unwrap().unwrap();
        bytes.resize(header.frame_bytes(), 0);
        let frame = Frame::open(header, &bytes).unwrap();
        assert_eq!(BrokerMessage::decode(header.kind, frame.control), Ok(message));
    }
}

#[test]
fn batches_keep_their_bytes() {
    let sealed = SealedBody {
        body: b"body".to_vec(),
        schema: schema::TELEMETRY,
        record_count: 3,
        min_time_ms: -100,
        max_time_ms: 200,
        summary: vec![0x11; 8],
    };
    let (producer, epoch, sequence) = (ProducerId(1 << 63), ProducerEpoch(2), Sequence(1 << 40));
    let mut batch = batch::seal(&sealed, producer, epoch, sequence, 1_700_000_000_000).to_vec();
    batch::stamp(&mut batch, Offset(1 << 50), 1_700_000_000_001);
    assert_golden("batch", &batch);
    let header = batch::check(&golden("batch")).unwrap();
    assert_eq!((header.producer, header.epoch, header.sequence), (producer, epoch, sequence));
    assert_eq!((header.base_offset, header.record_count), (Offset(1 << 50), 3));
}

/// Bits of summaries stand on disks too.
#[test]
fn hashes_of_keys_and_summaries_keep_their_bits() {
    let hashes = [
        (KeyKind::Gpu, "GPU-5fd4f087-86f3-7a43-b711-4771313afc50", 0x13b2_ea7a_eae8_6cf7),
        (KeyKind::Host, "mtv5-dgx1-hgpu-031", 0x73e7_f8af_41a7_25a1),
        (KeyKind::Message, "", 0x9e19_97e5_07d8_1f0d),
    ];
    let mut builder = SummaryBuilder::default();
    for (kind, key, golden) in hashes {
        let hash = KeyHash::of(kind, key.as_bytes());
        assert_eq!(hash, KeyHash(golden), "{kind:?} {key:?}: {:#018x}", hash.0);
        builder.add(hash);
    }
    assert_golden("summary", &builder.seal());
}

#[test]
fn generic_bodies_keep_their_bytes() {
    let mut builder = GenericBuilder::empty();
    for message in messages() {
        builder.push(&message.as_message()).unwrap();
    }
    let sealed = builder.seal();
    assert_golden("generic_body", &sealed.body);
    assert_golden("generic_summary", &sealed.summary);
    let body = golden("generic_body");
    let view = GenericView::open(&body, 2).unwrap();
    for (read, message) in view.iter().zip(messages()) {
        assert_eq!(read, message.as_message());
    }
}
