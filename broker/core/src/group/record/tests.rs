use proptest::prelude::*;

use super::*;
use crate::group::limits::RECORD_BYTES_MAX;
use crate::group::{GroupSettings, GroupsRecovery};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(first: u64, last: u64) -> ChunkKey {
    ChunkKey::new(Offset(first), Offset(last))
}

fn ranges(ranges: &[(u64, u64)]) -> Ranges {
    let ranges = ranges.iter().map(|(first, last)| (Offset(*first), Offset(*last))).collect();
    Ranges::from_rising(ranges).unwrap()
}

fn dying() -> Dying {
    Dying { epoch: 3, attempts: 2, at_ms: 77, ranges: ranges(&[(8, 8)]), reason: "no".into() }
}

fn every_kind() -> [GroupRecord; 14] {
    let mut ledger = Ledger::new("ch", ProducerId(0xaabb), Offset(7), 4);
    (ledger.bound_upto, ledger.dead_epoch) = (Offset(20), 3);
    let chunk = OpenChunk {
        key: key(10, 19),
        bytes: 640,
        attempts: 1,
        appended_ms: 55,
        settled: ranges(&[(11, 12)]),
    };
    ledger.chunks.insert(chunk.key, chunk);
    ledger.dying.insert(3, dying());
    [
        GroupRecord::Created {
            start: Offset(7),
            epoch: 1,
            producer: ProducerId(0xaabb),
            name: "ch".into(),
        },
        GroupRecord::Opened { epoch: 2 },
        GroupRecord::Bound { first: Offset(7), last: Offset(0x0102), bytes: 99, appended_ms: -1 },
        GroupRecord::Done { ranges: vec![(Offset(7), Offset(7)), (Offset(9), Offset(12))] },
        GroupRecord::Failed { chunk: key(7, 258), attempts: 3 },
        GroupRecord::Skipped { upto: Offset(500) },
        GroupRecord::Snapshot(Box::new(ledger)),
        GroupRecord::Cut { upto: Offset(15) },
        GroupRecord::Split { parent: key(7, 258), part: key(7, 9), attempts: 1 },
        GroupRecord::Dying(dying()),
        GroupRecord::Buried { epoch: 3 },
        GroupRecord::Moved { to: Offset(7), epoch: 5 },
        GroupRecord::Deleted { epoch: 5 },
        GroupRecord::Passed { from: Offset(15), upto: Offset(17) },
    ]
}

#[test]
fn layout_is_the_documented_one() {
    let dying = "03000000 02000000 4d00000000000000 01000000 02000000 \
                 0800000000000000 0800000000000000 6e6f";
    let snapshot = format!(
        "0207000005000000 0700000000000000 1400000000000000 04000000 0200 0000 \
         bbaa000000000000 03000000 01000000 01000000 00000000 6368 \
         0a00000000000000 1300000000000000 80020000 01000000 3700000000000000 01000000 00000000 \
         0b00000000000000 0c00000000000000 {dying}"
    );
    let dying = format!("020a000005000000 {dying}");
    let golden = [
        "0201000005000000 0700000000000000 01000000 0200 0000 bbaa000000000000 6368",
        "0202000005000000 02000000 00000000",
        "0203000005000000 0700000000000000 0201000000000000 63000000 00000000 ffffffffffffffff",
        "0204000005000000 02000000 00000000 0700000000000000 0700000000000000 \
         0900000000000000 0c00000000000000",
        "0205000005000000 0700000000000000 0201000000000000 03000000 00000000",
        "0206000005000000 f401000000000000",
        &snapshot,
        "0208000005000000 0f00000000000000",
        "0209000005000000 0700000000000000 0201000000000000 0700000000000000 0900000000000000 \
         01000000 00000000",
        &dying,
        "020b000005000000 03000000 00000000",
        "020c000005000000 0700000000000000 05000000 00000000",
        "020d000005000000 05000000 00000000",
        "0220000005000000 0f00000000000000 1100000000000000",
    ];
    for (record, golden) in every_kind().iter().zip(golden) {
        let bytes = record.encode(GroupId(5));
        assert_eq!(hex(&bytes), golden.replace(' ', ""), "{record:?}");
        assert_eq!(GroupRecord::decode(&bytes), Ok((GroupId(5), record.clone())));
    }
}

#[test]
fn a_record_of_another_version_is_refused() {
    let mut bytes = GroupRecord::Opened { epoch: 2 }.encode(GroupId(5)).to_vec();
    bytes[0] = 1;
    assert_eq!(GroupRecord::decode(&bytes), Err(invalid("has an unknown version")));
}

#[test]
fn cut_or_padded_records_are_refused() {
    for record in every_kind() {
        let bytes = record.encode(GroupId(5)).to_vec();
        for cut in 0..bytes.len() {
            assert!(GroupRecord::decode(&bytes[..cut]).is_err(), "{record:?} cut at {cut}");
        }
        let padded = [bytes.as_slice(), &[0]].concat();
        assert!(GroupRecord::decode(&padded).is_err(), "{record:?} padded");
    }
}

#[test]
fn the_longest_snapshot_fits_the_limit() {
    // The first chunk has all the ranges; dead letters have one each and the longest reasons.
    let settled = RANGES_MAX - DYING_MAX;
    let name = "n".repeat(NAME_BYTES_MAX);
    let mut ledger = Ledger::new(&name, ProducerId(1), Offset(0), 1);
    let mut next = 0;
    for n in 0..CHUNKS_OPEN_MAX {
        let count = if n == 0 { settled as u64 } else { 0 };
        let last = next + 2 * count;
        let settled: Vec<(u64, u64)> = (0..count).map(|n| (next + 2 * n, next + 2 * n)).collect();
        let chunk = OpenChunk {
            key: key(next, last),
            bytes: 1,
            attempts: 0,
            appended_ms: 0,
            settled: ranges(&settled),
        };
        ledger.chunks.insert(chunk.key, chunk);
        next = last + 1;
    }
    for epoch in 1..=DYING_MAX as u32 {
        let reason = "r".repeat(TEXT_BYTES_MAX);
        ledger.dying.insert(epoch, Dying { epoch, reason, ..dying() });
    }
    ledger.bound_upto = Offset(next);
    ledger.dead_epoch = DYING_MAX as u32;
    let record = GroupRecord::Snapshot(Box::new(ledger));
    let bytes = record.encode(GroupId(1));
    assert_eq!(bytes.len(), RECORD_BYTES_MAX);
    assert_eq!(GroupRecord::decode(&bytes), Ok((GroupId(1), record)));
}

proptest! {
    #[test]
    fn garbage_is_an_error_and_what_reads_writes_back_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        kind in prop_oneof![0_u8..15, Just(32_u8)],
    ) {
        if bytes.len() > 4 {
            bytes[..4].copy_from_slice(&[RECORD_VERSION, kind, 0, 0]);
        }
        if let Ok((group, record)) = GroupRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(group).to_vec(), bytes);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics_recovery(at in 0_usize..200, bits in 1_u8..) {
        let mut recovery = GroupsRecovery::new();
        for record in every_kind() {
            let mut bytes = record.encode(GroupId(5)).to_vec();
            let length = bytes.len();
            bytes[at % length] ^= bits;
            let _outcome_is_a_value = recovery.apply(&bytes);
        }
        let _groups = recovery.finish(GroupSettings::default());
    }
}
