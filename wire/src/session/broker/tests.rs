use super::*;
use crate::ErrorCode;
use crate::frame::peek;
use crate::message::{DescribeTopic, Ping, Produce};

fn hello() -> ClientMessage {
    ClientMessage::Hello(Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        client: "test".into(),
    })
}

fn greeting() -> Greeting {
    Greeting {
        broker_version: "0".into(),
        shards: 1,
        default_mode: DeliveryMode::Queue,
        default_credit_bytes: 1,
    }
}

fn open() -> BrokerSession {
    let mut session = BrokerSession::default();
    let bytes = hello().encode(CorrelationId(1), 0);
    let request = session.next(&mut &bytes[..]).unwrap();
    assert!(matches!(request, Some(Request::Hello { client, .. }) if client == "test"));
    session.welcome(CorrelationId(1), &greeting());
    session.take_output();
    session
}

fn sent(session: &mut BrokerSession) -> Vec<(CorrelationId, BrokerMessage)> {
    let bytes = session.take_output().concat();
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while let Some(header) = peek(rest).unwrap() {
        let (frame, next) = rest.split_at(header.frame_bytes());
        let frame = Frame::open(header, frame).unwrap();
        let message = BrokerMessage::decode(header.kind, frame.control).unwrap();
        messages.push((header.correlation, message));
        rest = next;
    }
    messages
}

#[test]
fn a_request_before_the_hello_is_refused_and_closes() {
    let mut session = BrokerSession::default();
    let bytes = ClientMessage::Ping(Ping {}).encode(CorrelationId(1), 0);
    assert!(session.next(&mut &bytes[..]).is_err());
    assert!(session.is_closed());
    let [(CorrelationId(0), BrokerMessage::Refusal(refusal))] = &sent(&mut session)[..] else {
        panic!("one refusal of the connection");
    };
    assert_eq!(refusal.code(), ErrorCode::UNEXPECTED_FRAME);
    assert_eq!(session.next(&mut &bytes[..]), Ok(None));
}

#[test]
fn the_highest_common_version_is_spoken_or_none() {
    let mut session = BrokerSession::default();
    let newer = ClientMessage::Hello(Hello {
        protocol_min: PROTOCOL_MAX + 1,
        protocol_max: PROTOCOL_MAX + 2,
        client: "test".into(),
    });
    let bytes = newer.encode(CorrelationId(1), 0);
    let error = session.next(&mut &bytes[..]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UNSUPPORTED_VERSION);

    let mut session = BrokerSession::default();
    let wider = ClientMessage::Hello(Hello {
        protocol_min: 0,
        protocol_max: PROTOCOL_MAX + 2,
        client: "test".into(),
    });
    let bytes = wider.encode(CorrelationId(1), 0);
    session.next(&mut &bytes[..]).unwrap();
    session.welcome(CorrelationId(1), &greeting());
    let [(_, BrokerMessage::HelloReply(reply))] = &sent(&mut session)[..] else {
        panic!("one reply");
    };
    assert_eq!(reply.protocol, PROTOCOL_MAX);
}

#[test]
fn pings_and_wrong_names_are_answered_on_the_way() {
    let mut session = open();
    let mut bytes = ClientMessage::Ping(Ping {}).encode(CorrelationId(7), 0).to_vec();
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: "a/b".into() });
    bytes.extend_from_slice(&describe.encode(CorrelationId(8), 0));
    bytes.extend_from_slice(
        &ClientMessage::Produce(Produce { topic: 1, partition: 2 }).encode(CorrelationId(9), 5),
    );
    bytes.extend_from_slice(b"batch");
    let mut input = &bytes[..];
    let request = session.next(&mut input).unwrap().unwrap();
    let partition = PartitionId { topic: TopicId(1), index: 2 };
    let batch = &b"batch"[..];
    assert_eq!(request, Request::Produce { correlation: CorrelationId(9), partition, batch });
    let answers = sent(&mut session);
    assert_eq!(answers[0], (CorrelationId(7), BrokerMessage::Done(Done {})));
    assert!(matches!(&answers[1], (CorrelationId(8), BrokerMessage::Refusal(refusal))
        if refusal.code() == ErrorCode::INVALID_NAME));
    assert_eq!(session.in_flight(), 1);
    session.produced(
        CorrelationId(9),
        ProduceReply { base_offset: 4, duplicate: false, dropped: false },
    );
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn requests_in_flight_are_limited() {
    let mut session = open();
    let produce = ClientMessage::Produce(Produce { topic: 1, partition: 2 });
    for correlation in 1..=u64::from(PRODUCES_IN_FLIGHT_MAX) {
        let bytes = produce.encode(CorrelationId(correlation), 0);
        assert!(session.next(&mut &bytes[..]).unwrap().is_some());
    }
    let bytes = produce.encode(CorrelationId(1_000), 0);
    let error = session.next(&mut &bytes[..]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::LIMIT_EXCEEDED);
    assert!(session.is_closed());
}

fn produce(correlation: u64, partition: u32, bytes: usize) -> Vec<u8> {
    let message = ClientMessage::Produce(Produce { topic: 1, partition });
    let head = message.encode(CorrelationId(correlation), bytes as u32);
    [&head[..], &vec![7; bytes]].concat()
}

#[test]
fn frames_repeat_as_long_as_size_and_partition_do() {
    let session = open();
    let first = produce(2, 3, 100);
    let repeats = |second: &[u8]| session.repeats_in(&[&first[..], second].concat());
    assert!(repeats(b""), "one is a run");
    assert!(repeats(&produce(3, 3, 100)));
    assert!(repeats(&produce(3, 3, 100)[..50]) && repeats(&produce(3, 3, 100)[..10]), "cut off");
    assert!(!repeats(&produce(3, 4, 100)), "for another partition");
    assert!(!repeats(&produce(3, 3, 101)), "larger");
    assert!(!repeats(&ClientMessage::Ping(Ping {}).encode(CorrelationId(3), 0)));
    assert!(!repeats(&[0xff; 200]), "no frame");
    assert!(!session.repeats_in(&first[..50]), "none is whole");
    assert!(!session.repeats_in(b""));
}

#[test]
fn what_is_missing_of_a_frame_is_left_out_of_account() {
    let mut session = open();
    let (frames, whole) = ([produce(2, 3, 100), produce(3, 3, 100)].concat(), 100);
    let half = frames.len() / 2;
    assert_eq!(session.missing_bytes(), Some(0));
    let (head, rest) = frames.split_at(10);
    assert_eq!(session.next(&mut &head[..]), Ok(None));
    assert_eq!(session.missing_bytes(), None, "its header is cut");
    assert!(!session.repeats_in(rest), "so nobody knows where the next one begins");
    let (middle, rest) = rest.split_at(60);
    assert_eq!(session.next(&mut &middle[..]), Ok(None));
    assert_eq!(session.missing_bytes(), Some(half - 70));
    assert!(session.repeats_in(rest));
    let mut input = rest;
    assert!(session.next(&mut input).unwrap().is_some());
    assert_eq!((session.frame_bytes(), session.missing_bytes()), (half, Some(0)));
    assert!(half > whole);
}
