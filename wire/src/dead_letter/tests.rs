use proptest::prelude::*;

use super::*;
use crate::limits::PRODUCE_BATCH_BYTES_MAX;
use crate::{Offset, ProducerEpoch, Sequence};

fn range(first: u64, last: u64) -> OffsetRange {
    OffsetRange { first, last }
}

/// A stamped batch of ten records.
fn origin(body: Vec<u8>) -> Vec<u8> {
    let body = SealedBody {
        body,
        schema: schema::GENERIC,
        record_count: 10,
        min_time_ms: 1,
        max_time_ms: 2,
        summary: Vec::new(),
    };
    let sealed = batch::seal(&body, ProducerId(7), ProducerEpoch(1), Sequence(5), 99);
    let mut bytes = sealed.to_vec();
    batch::stamp(&mut bytes, Offset(1_000), 123);
    bytes
}

fn letter<'a>(ranges: &'a [OffsetRange], batch: &'a [u8]) -> DeadLetter<'a> {
    DeadLetter {
        topic: "gpu-telemetry",
        topic_id: TopicId(3),
        partition: 2,
        group: "clickhouse",
        reason: "attempts exhausted",
        attempts: 3,
        died_ms: 1_700_000_000_000,
        ranges: Ranges::Listed(ranges),
        batch,
    }
}

#[test]
fn letter_reads_back_and_keeps_its_bytes() {
    let batch = origin(b"body".to_vec());
    let ranges = [range(1_000, 1_001), range(1_005, 1_009)];
    let letter = letter(&ranges, &batch);
    let sealed = letter.seal();
    let head: String = sealed.body[..32 + 32].iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = "0100 0200 0d00 0a00 12000000 02000000 03000000 03000000 0068e5cf8b010000 \
                  e803000000000000 e903000000000000 ed03000000000000 f103000000000000";
    assert_eq!(head, golden.replace(' ', ""));
    assert_eq!(&sealed.body[64..105], b"gpu-telemetryclickhouseattempts exhausted");
    assert_eq!(&sealed.body[105..], batch, "verbatim");
    let read = DeadLetter::open(&sealed.body).unwrap();
    assert_eq!(read, letter);
    assert_eq!((read.ranges.records(), read.is_whole()), (7, false));
    for cut in 0..sealed.body.len() {
        assert!(DeadLetter::open(&sealed.body[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn largest_letter_fits_a_batch() {
    let body = vec![7; PRODUCE_BATCH_BYTES_MAX as usize - HEADER_BYTES];
    let batch = origin(body);
    let ranges: Vec<_> = (0..5).map(|n| range(1_000 + 2 * n, 1_000 + 2 * n)).collect();
    let names = "n".repeat(NAME_BYTES_MAX);
    let reason = "r".repeat(TEXT_BYTES_MAX);
    let full =
        DeadLetter { topic: &names, group: &names, reason: &reason, ..letter(&ranges, &batch) };
    let sealed = batch::seal(&full.seal(), ProducerId(1), ProducerEpoch(1), Sequence(0), 0);
    let header = batch::check(&sealed).unwrap();
    assert_eq!((header.schema, header.record_count), (schema::DEAD_LETTER, 1));
    assert_eq!(DeadLetter::open(batch::body(&sealed)), Ok(full));
}

#[test]
fn ranges_rise_within_the_batch() {
    let batch = origin(Vec::new());
    for bad in [
        &[range(999, 1_000)][..],
        &[range(1_009, 1_010)],
        &[range(1_003, 1_002)],
        &[range(1_003, 1_004), range(1_004, 1_005)],
        &[range(1_005, 1_005), range(1_001, 1_001)],
    ] {
        let sealed = letter(bad, &batch).seal();
        assert_eq!(DeadLetter::open(&sealed.body), Err(InvalidLetter::Ranges), "{bad:?}");
    }
}

#[test]
fn dead_letter_topics_have_none_of_their_own() {
    assert_eq!(topic_name("gpu"), Some("gpu.dlq".to_owned()));
    assert_eq!(topic_name("gpu.dlq"), None);
}

#[test]
fn redrivers_differ_by_partition() {
    let at = |topic, index| PartitionId { topic: TopicId(topic), index };
    let all = [redriver_of(at(1, 0)), redriver_of(at(1, 1)), redriver_of(at(2, 0))];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
    assert_eq!(redriver_of(at(1, 0)), ProducerId(10_709_463_665_133_105_929), "for good");
}

proptest! {
    /// Whatever is flipped, read or refused: never a panic, and what is read is within its batch.
    #[test]
    fn no_bytes_make_a_letter_panic(
        flips in proptest::collection::vec((0_usize..300, any::<u8>()), 0..6),
        cut in 0_usize..300,
    ) {
        let batch = origin(vec![1; 40]);
        let ranges = [range(1_000, 1_001), range(1_005, 1_009)];
        let mut body = letter(&ranges, &batch).seal().body;
        for (at, value) in flips {
            let at = at % body.len();
            body[at] = value;
        }
        body.truncate(body.len().max(cut));
        if let Ok(read) = DeadLetter::open(&body) {
            prop_assert!(read.ranges.records() <= u64::from(read.header().record_count));
        }
        let short = &body[..cut.min(body.len())];
        let _ignored = DeadLetter::open(short).is_ok();
    }
}
