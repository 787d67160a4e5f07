//! Both ends of a connection under any frames and any bytes: no panic, and the broker's end refuses
//! before it closes.
#![no_main]

use bytes::Bytes;
use lanecast_wire::CorrelationId;
use lanecast_wire::ErrorCode;
use lanecast_wire::frame::{FrameHeader, FrameKind};
use lanecast_wire::message::{DeliveryMode, ProduceReply, Refusal};
use lanecast_wire::session::{BrokerSession, ClientSession, Greeting, Request};
use libfuzzer_sys::fuzz_target;

/// Reads `data` as a script of frames, with right checksums, so that what is behind them is met.
fn frames(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [kind, correlation, control, payload, rest @ ..] = data {
        let kind = FrameKind::ALL[usize::from(*kind) % FrameKind::ALL.len()];
        let (control, rest) = rest.split_at(usize::from(*control).min(rest.len()));
        let payload = if kind.has_payload() { usize::from(*payload).min(rest.len()) } else { 0 };
        let (payload, rest) = rest.split_at(payload);
        let header = FrameHeader {
            kind,
            correlation: CorrelationId(u64::from(*correlation)),
            control_bytes: control.len() as u32,
            payload_bytes: payload.len() as u32,
        };
        bytes.extend_from_slice(&header.encode(control));
        bytes.extend_from_slice(control);
        bytes.extend_from_slice(payload);
        data = rest;
    }
    bytes.extend_from_slice(data);
    bytes
}

fn broker(mut input: &[u8]) {
    let greeting = Greeting {
        broker_version: "fuzz".into(),
        shards: 1,
        default_mode: DeliveryMode::Broadcast,
        default_credit_bytes: 1,
    };
    let mut session = BrokerSession::default();
    loop {
        enum Answer {
            Welcome(CorrelationId),
            Produced(CorrelationId),
            Refuse(CorrelationId),
            None,
        }
        let answer = match session.next(&mut input) {
            Ok(None) => break,
            Err(_) => {
                assert!(session.is_closed() && session.output_bytes() > 0);
                break;
            }
            Ok(Some(request)) => match request {
                Request::Hello { correlation, .. } => Answer::Welcome(correlation),
                Request::Produce { correlation, .. } => Answer::Produced(correlation),
                Request::CreateTopic { correlation, .. }
                | Request::DescribeTopic { correlation, .. }
                | Request::ListTopics { correlation }
                | Request::Subscribe { correlation, .. }
                | Request::Ack { correlation, .. }
                | Request::Nack { correlation, .. }
                | Request::Extend { correlation, .. }
                | Request::Unsubscribe { correlation, .. }
                | Request::AlterTopic { correlation, .. }
                | Request::DeleteTopic { correlation, .. }
                | Request::ListGroups { correlation, .. }
                | Request::MoveGroup { correlation, .. }
                | Request::DeleteGroup { correlation, .. }
                | Request::Terminate { correlation, .. }
                | Request::Migrate { correlation, .. } => Answer::Refuse(correlation),
                Request::Credit(_) => Answer::None,
            },
        };
        match answer {
            Answer::Welcome(correlation) => session.welcome(correlation, &greeting),
            Answer::Produced(correlation) => {
                session.produced(correlation, ProduceReply { base_offset: 0, duplicate: false, dropped: false });
            }
            Answer::Refuse(correlation) => {
                session.refuse(correlation, Refusal::new(ErrorCode::DRAINING, ""));
            }
            Answer::None => {}
        }
    }
    let sent: Vec<Bytes> = session.take_output();
    client(&sent.concat());
}

fn client(input: &[u8]) {
    let mut session = ClientSession::<()>::new("fuzz");
    session.receive_buffer().extend_from_slice(input);
    while let Ok(Some(_)) = session.next_event() {}
}

fuzz_target!(|data: &[u8]| {
    let script = frames(data);
    let hello = {
        let mut session = ClientSession::<()>::new("fuzz");
        session.output().take().concat()
    };
    broker(&[hello, script.clone()].concat());
    broker(data);
    client(&script);
});
