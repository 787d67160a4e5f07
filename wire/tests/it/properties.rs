//! Properties over any bytes and any chunking of them.

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader, schema};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::generic::{GenericBuilder, GenericView, Headers, Message};
use lanecast_wire::limits::{FRAME_BYTES_MAX, RECEIVE_BYTES};
use lanecast_wire::message::{BrokerMessage, ClientMessage, Produce};
use lanecast_wire::session::{BrokerSession, ClientSession};
use lanecast_wire::summary::may_contain;
use lanecast_wire::{
    CorrelationId, FrameDecoder, KeyFilter, KeyHash, KeyKind, ProducerEpoch, ProducerId,
    ProtocolError, Sequence,
};
use proptest::prelude::*;

use crate::examples::{broker_messages, client_messages};

/// Any frame of a client, with a payload where it may have one.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let count = client_messages().len();
    (0..count, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..3_000)).prop_map(
        |(index, correlation, payload)| {
            let message = &client_messages()[index].1;
            let payload = if message.kind().has_payload() { payload } else { Vec::new() };
            let mut frame =
                message.encode(CorrelationId(correlation), payload.len() as u32).to_vec();
            frame.extend_from_slice(&payload);
            frame
        },
    )
}

/// Cuts `bytes` at the given places, whatever they are.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(0);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Everything that the decoder finds, each as header, control and payload; the memory it took.
fn decode(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), ProtocolError>, usize) {
    let mut decoder = FrameDecoder::default();
    let (mut frames, mut memory) = (Vec::new(), 0);
    for mut piece in pieces.iter().copied() {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => {
                    let mut bytes = frame.header.encode(frame.control).to_vec();
                    bytes.extend_from_slice(frame.control);
                    bytes.extend_from_slice(frame.payload);
                    frames.push(bytes);
                }
                Ok(None) => break,
                Err(error) => return (frames, Err(error), memory),
            }
            memory = memory.max(decoder.buffered_bytes_max());
        }
        memory = memory.max(decoder.buffered_bytes_max());
    }
    (frames, Ok(()), memory)
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_frames(
        frames in proptest::collection::vec(frame(), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let bytes = frames.concat();
        let (found, ended, memory) = decode(&pieces(&bytes, &cuts));
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(&found, &frames);
        prop_assert!(memory <= frames.iter().map(Vec::len).max().unwrap());
        let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(&bytewise).0, frames);
    }

    #[test]
    fn damage_is_an_error_or_another_frame_but_never_a_panic_or_more_memory(
        frames in proptest::collection::vec(frame(), 1..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..10),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = frames.concat();
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let (_, ended, memory) = decode(&pieces(&bytes, &cuts));
        prop_assert!(memory <= (2 * bytes.len()).min(FRAME_BYTES_MAX as usize));
        if let Err(error) = ended {
            prop_assert!(error.code().is_fatal());
        }
    }

    #[test]
    fn garbage_never_panics_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let (_, _, memory) = decode(&[&bytes]);
        prop_assert!(memory <= 2 * bytes.len());
        for (_, message) in client_messages() {
            let _ = ClientMessage::decode(message.kind(), &bytes);
        }
        for (_, message) in broker_messages() {
            let _ = BrokerMessage::decode(message.kind(), &bytes);
        }
        let _ = batch::check(&bytes);
        let _ = GenericView::open(&bytes, 3);
        prop_assert!(batch::iter(&Bytes::from(bytes)).count() <= 8);
    }

    #[test]
    fn damaged_control_archives_are_refused_or_read(
        index in 0..14_usize,
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let message = &client_messages()[index].1;
        let mut control = message.encode(CorrelationId(1), 0)[32..].to_vec();
        for (at, value) in damage {
            if !control.is_empty() {
                let at = at % control.len();
                control[at] = value;
            }
        }
        let _ = ClientMessage::decode(message.kind(), &control);
    }

    #[test]
    fn sessions_survive_any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        frames in proptest::collection::vec(frame(), 0..4),
        broker in proptest::collection::vec(0..10_usize, 0..5),
    ) {
        let mut session = BrokerSession::default();
        let input = [frames.concat(), bytes.clone()].concat();
        let mut input = &input[..];
        while let Ok(Some(_)) = session.next(&mut input) {}
        session.take_output();

        let mut session = ClientSession::<()>::new("test");
        for index in broker {
            let message = broker_messages()[index].1.encode(CorrelationId(1 << 32), 0);
            session.receive_buffer().extend_from_slice(&message);
        }
        session.receive_buffer().extend_from_slice(&bytes);
        while let Ok(Some(_)) = session.next_event() {}
        let capacity = session.receive_buffer().capacity();
        prop_assert!(capacity <= FRAME_BYTES_MAX as usize + 2 * RECEIVE_BYTES);
    }

    #[test]
    fn sealed_batches_are_sound_and_damage_outside_the_stamp_shows(
        body in proptest::collection::vec(any::<u8>(), 0..2_000),
        record_count in 1..65_536_u32,
        times in any::<(i64, i64)>(),
        ids in any::<(u64, u32, u64, i64)>(),
        damage in any::<(usize, u8)>(),
        summary in proptest::option::of((0..6_u32, any::<u8>())),
    ) {
        let summary = summary.map_or_else(Vec::new, |(size, fill)| vec![fill; 8 << size]);
        let (min_time_ms, max_time_ms) = (times.0.min(times.1), times.0.max(times.1));
        let schema = schema::GENERIC;
        let sealed =
            SealedBody { body, schema, record_count, min_time_ms, max_time_ms, summary };
        let (producer, epoch) = (ProducerId(ids.0), ProducerEpoch(ids.1));
        let batch = batch::seal(&sealed, producer, epoch, Sequence(ids.2), ids.3);
        let header = batch::check(&batch).unwrap();
        prop_assert_eq!(&header.encode()[..], &batch[..80]);
        prop_assert_eq!((header.record_count, header.created_ms), (record_count, ids.3));
        prop_assert_eq!(batch::body(&batch), &sealed.body);
        prop_assert_eq!(batch::summary(&batch), &sealed.summary);
        let mut damaged = batch.to_vec();
        let at = damage.0 % damaged.len();
        if !(8..24).contains(&at) && damaged[at] != damage.1 {
            damaged[at] = damage.1;
            prop_assert!(batch::check(&damaged).is_err());
        }
        prop_assert!(BatchHeader::decode(&batch).is_ok());
    }

    /// A summary may say yes too often, but never no to a key that is in.
    #[test]
    fn summaries_never_rule_out_a_key_of_their_batch(
        keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..700),
        other in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut builder = GenericBuilder::empty();
        for key in &keys {
            builder.push(&Message::new(key, b"")).unwrap();
        }
        let sealed = builder.seal();
        let batch = batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), Sequence(0), 0);
        let summary = batch::summary(&batch);
        for key in &keys {
            prop_assert!(may_contain(summary, KeyHash::of(KeyKind::Message, key)));
        }
        let view = GenericView::open(batch::body(&batch), keys.len() as u32).unwrap();
        let filter = KeyFilter::default().message_key(other.clone());
        let passed: Vec<usize> = view.matching(&filter).map(|(index, _)| index).collect();
        let wanted: Vec<usize> = (0..keys.len()).filter(|index| keys[*index] == other).collect();
        prop_assert_eq!(passed, wanted);
    }

    #[test]
    fn generic_messages_are_read_back(
        messages in proptest::collection::vec(
            (
                any::<u128>(),
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec((".{0,8}", proptest::collection::vec(any::<u8>(), 0..9)), 0..4),
                proptest::collection::vec(any::<u8>(), 0..100),
                any::<i64>(),
            ),
            1..20,
        ),
    ) {
        let mut builder = GenericBuilder::empty();
        let lists: Vec<Vec<(&str, &[u8])>> = messages
            .iter()
            .map(|message| {
                message.2.iter().map(|(name, value)| (name.as_str(), &value[..])).collect()
            })
            .collect();
        let as_message = |index: usize| {
            let (id, key, _, payload, timestamp_ms) = &messages[index];
            let headers = Headers::Listed(&lists[index]);
            Message { id: *id, key, headers, payload, timestamp_ms: *timestamp_ms }
        };
        for index in 0..messages.len() {
            builder.push(&as_message(index)).unwrap();
        }
        let size = builder.body_bytes();
        let sealed = builder.seal();
        prop_assert_eq!(sealed.body.len(), size);
        let view = GenericView::open(&sealed.body, messages.len() as u32).unwrap();
        for (index, read) in view.iter().enumerate() {
            prop_assert_eq!(read, as_message(index));
        }
        prop_assert!(GenericView::open(&sealed.body, messages.len() as u32 + 1).is_err());
    }
}

#[test]
fn a_frame_of_the_largest_size_passes_in_pieces() {
    let payload = vec![7; lanecast_wire::limits::PAYLOAD_BYTES_MAX as usize];
    let message = ClientMessage::Produce(Produce { topic: 1, partition: 2 });
    let mut bytes = message.encode(CorrelationId(1), payload.len() as u32).to_vec();
    bytes.extend_from_slice(&payload);
    let chunks: Vec<&[u8]> = bytes.chunks(100_000).collect();
    let (frames, ended, memory) = decode(&chunks);
    assert_eq!((frames.len(), ended), (1, Ok(())));
    assert!(memory <= FRAME_BYTES_MAX as usize);
}
