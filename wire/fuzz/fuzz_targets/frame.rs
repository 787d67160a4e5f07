//! Any chunking of any bytes: the same frames, bounded memory, no panic.
#![no_main]

use lanecast_wire::FrameDecoder;
use lanecast_wire::limits::FRAME_BYTES_MAX;
use lanecast_wire::message::{BrokerMessage, ClientMessage};
use libfuzzer_sys::fuzz_target;

/// The frames found, or what was wrong.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (usize, bool) {
    let mut decoder = FrameDecoder::default();
    let mut frames = 0;
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => {
                    frames += 1;
                    let _ = ClientMessage::decode(frame.header.kind, frame.control);
                    let _ = BrokerMessage::decode(frame.header.kind, frame.control);
                }
                Ok(None) => break,
                Err(_) => return (frames, false),
            }
        }
        assert!(decoder.buffered_bytes_max() <= FRAME_BYTES_MAX as usize);
    }
    (frames, true)
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = decode(core::iter::once(bytes));
    let pieces = decode(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, pieces);
    // Control archives are behind a checksum that a fuzzer does not find: they get bytes directly.
    for kind in lanecast_wire::frame::FrameKind::ALL {
        let _ = ClientMessage::decode(kind, bytes);
        let _ = BrokerMessage::decode(kind, bytes);
    }
});
