use super::*;
use crate::message::{DeliveryMode, DescribeTopic, Done, Goodbye};
use crate::{ErrorCode, TopicId};

fn receive(session: &mut ClientSession<u32>, correlation: CorrelationId, message: BrokerMessage) {
    let bytes = message.encode(correlation, 0);
    session.receive_buffer().extend_from_slice(&bytes);
}

fn last_correlation(session: &mut ClientSession<u32>) -> CorrelationId {
    let bytes = session.output().take().concat();
    let mut last = None;
    let mut rest = &bytes[..];
    while let Some(header) = peek(rest).unwrap() {
        last = Some(header.correlation);
        rest = &rest[header.frame_bytes()..];
    }
    last.expect("something was sent")
}

fn hello_reply() -> BrokerMessage {
    BrokerMessage::HelloReply(HelloReply {
        protocol: PROTOCOL_MAX,
        broker_version: "0".into(),
        shards: 1,
        default_mode: DeliveryMode::Broadcast,
        default_credit_bytes: 1,
    })
}

fn open() -> ClientSession<u32> {
    let mut session = ClientSession::new("test");
    let hello = last_correlation(&mut session);
    receive(&mut session, hello, hello_reply());
    assert!(matches!(session.next_event(), Ok(Some(Event::Opened(_)))));
    session
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let mut session = open();
    let batch = Bytes::from_static(b"batch");
    let partition = PartitionId { topic: TopicId(1), index: 0 };
    session.produce(partition, batch, 1).unwrap();
    let produce = last_correlation(&mut session);
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: "t".into() });
    session.request(&describe, 2).unwrap();
    let describe = last_correlation(&mut session);
    let reply = ProduceReply { base_offset: 9, duplicate: false, dropped: false };
    receive(
        &mut session,
        describe,
        BrokerMessage::Refusal(Refusal::new(ErrorCode::UNKNOWN_TOPIC, "")),
    );
    receive(&mut session, produce, BrokerMessage::ProduceReply(reply));
    assert!(matches!(session.next_event(), Ok(Some(Event::Answered { tag: 2, answer: Err(_) }))));
    let answer = Ok(Answer::Produced(reply));
    assert_eq!(session.next_event(), Ok(Some(Event::Answered { tag: 1, answer })));
    receive(&mut session, produce, BrokerMessage::ProduceReply(reply));
    let kind = FrameKind::ProduceReply;
    assert_eq!(session.next_event(), Err(ProtocolError::UnknownCorrelation { kind }));
}

#[test]
fn an_answer_of_the_wrong_kind_is_an_error() {
    let mut session = open();
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: "t".into() });
    session.request(&describe, 2).unwrap();
    let describe = last_correlation(&mut session);
    receive(&mut session, describe, BrokerMessage::Done(Done {}));
    assert!(matches!(session.next_event(), Err(ProtocolError::Unexpected { .. })));
}

#[test]
fn nothing_new_is_asked_after_a_goodbye() {
    let mut session = open();
    receive(&mut session, CorrelationId(0), BrokerMessage::Goodbye(Goodbye::new("draining")));
    assert!(matches!(session.next_event(), Ok(Some(Event::Goodbye { .. }))));
    let partition = PartitionId { topic: TopicId(1), index: 0 };
    assert_eq!(session.produce(partition, Bytes::new(), 5), Err(5));
    assert!(session.output().is_empty());
}

#[test]
fn produces_over_the_limit_are_given_back() {
    let mut session = open();
    let partition = PartitionId { topic: TopicId(1), index: 0 };
    for tag in 0..PRODUCES_IN_FLIGHT_MAX {
        session.produce(partition, Bytes::new(), tag).unwrap();
    }
    assert!(!session.may_produce());
    assert_eq!(session.produce(partition, Bytes::new(), 999), Err(999));
    assert_eq!(session.abandon().len(), PRODUCES_IN_FLIGHT_MAX as usize);
}
