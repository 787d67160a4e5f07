//! Hostile bytes: every body is an error or a valid view, and never a panic.

use lanecast_telemetry::{InvalidBatch, TelemetryView, exercise, limits};
use proptest::prelude::*;

use crate::fleet::Fleet;

fn framed(rows: usize) -> Vec<u8> {
    let sealed = Fleet::new(2).seal(rows);
    let mut data = sealed.record_count.to_le_bytes().to_vec();
    data.extend_from_slice(&sealed.body);
    data
}

#[test]
fn every_single_byte_change_is_an_error_or_a_valid_view() {
    let mut data = framed(20);
    exercise(&data).unwrap();
    let (mut refused, mut accepted) = (0, 0);
    for at in 0..data.len() {
        for flip in [0x01, 0x80, 0xff] {
            data[at] ^= flip;
            match exercise(&data) {
                Ok(_) => accepted += 1,
                Err(_) => refused += 1,
            }
            data[at] ^= flip;
        }
    }
    // Values and text may change unseen (the batch's CRC is for that); structure may not.
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

#[test]
fn every_truncation_is_an_error() {
    let data = framed(20);
    for length in 0..data.len() {
        assert!(exercise(&data[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn wrong_record_count_and_oversized_body_are_refused() {
    let sealed = Fleet::new(1).seal(8);
    let error = TelemetryView::open(&sealed.body, 7).err().unwrap();
    assert_eq!(error, InvalidBatch::RecordCount { header: 7, body: 8 });
    let bytes = limits::BODY_BYTES_MAX + 1;
    let error = TelemetryView::open(&vec![0; bytes], 0).err().unwrap();
    assert_eq!(error, InvalidBatch::TooLarge { bytes });
}

/// Changes the last byte of the little-endian number whose bytes are `old`, which is in the body
/// once, and says what the check finds.
fn refusal_after(old: &[u8], new: &[u8]) -> InvalidBatch {
    let sealed = Fleet::new(1).seal(8);
    let mut body = sealed.body.clone();
    let at = body.windows(old.len()).position(|window| window == old).unwrap();
    body[at..at + new.len()].copy_from_slice(new);
    TelemetryView::open(&body, sealed.record_count).err().unwrap()
}

#[test]
fn meaningless_columns_are_refused_with_their_place() {
    // Series codes 6 and 7 of the last two rows: two adjacent u16.
    let codes = [6_u16.to_le_bytes(), 7_u16.to_le_bytes()].concat();
    let wild = [6_u16.to_le_bytes(), 8_u16.to_le_bytes()].concat();
    let error = refusal_after(&codes, &wild);
    assert!(matches!(error, InvalidBatch::CodeOutOfRange { index: 7, code: 8, count: 8, .. }));

    let value = 5.0_f64.to_le_bytes();
    let error = refusal_after(&value, &f64::NAN.to_le_bytes());
    assert_eq!(error, InvalidBatch::Value { row: 5 });

    let ts = 1_763_697_600_002_i64.to_le_bytes();
    let error = refusal_after(&ts, &(-5_i64).to_le_bytes());
    assert_eq!(error, InvalidBatch::Time { row: 2, column: "ts", ms: -5 });

    let error = refusal_after(b"nvidia3", b"nvidia\xff");
    assert_eq!(error, InvalidBatch::Malformed);
}

proptest! {
    #[test]
    fn random_mutations_never_panic(
        rows in 0_usize..60,
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut data = framed(rows);
        for (at, byte) in edits {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        let _outcome_either_way_is_fine = exercise(&data);
    }

    #[test]
    fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _outcome_either_way_is_fine = exercise(&data);
    }
}
