//! Batches, generic bodies and dead letters of any bytes: read or refused, no panic.
#![no_main]

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::dead_letter::DeadLetter;
use lanecast_wire::generic::GenericView;
use lanecast_wire::summary::may_contain;
use lanecast_wire::KeyHash;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = batch::check(data) {
        assert_eq!(header.batch_bytes(), data.len());
        let (summary, body) = (batch::summary(data), batch::body(data));
        assert_eq!(batch::HEADER_BYTES + summary.len() + body.len(), data.len());
        let _ = may_contain(summary, KeyHash(u64::from(header.crc) << 32 | header.sequence.0));
    }
    let payload = Bytes::copy_from_slice(data);
    let bytes: usize =
        batch::iter(&payload).map_while(Result::ok).map(|(_, batch)| batch.len()).sum();
    assert!(bytes <= data.len());
    if let Ok(letter) = DeadLetter::open(data) {
        assert!(letter.ranges.records() <= u64::from(letter.header().record_count));
    }
    let Some((count, body)) = data.split_first() else { return };
    if let Ok(view) = GenericView::open(body, u32::from(*count)) {
        assert_eq!(view.iter().count(), usize::from(*count));
        let bytes: usize = view
            .iter()
            .map(|message| {
                let headers: usize = message.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
                message.key.len() + message.payload.len() + headers
            })
            .sum();
        assert!(bytes <= body.len());
    }
});
