//! Dead letters: where records were, why nobody could handle them, and the records themselves.

use lanecast_telemetry::TelemetryView;
use lanecast_wire::batch::{self, schema};
use lanecast_wire::dead_letter::DeadLetter;
use lanecast_wire::generic::GenericView;
use lanecast_wire::{KeyFilter, Offset};
use serde::Serialize;
use std::fmt::Write as _;

use super::{At, PrintFormat, Render, json, plain, time};

#[derive(Serialize)]
struct LetterRecord<'a> {
    #[serde(flatten)]
    at: At,
    died: String,
    topic: &'a str,
    topic_partition: u32,
    /// First and last offset each.
    ranges: Vec<(u64, u64)>,
    records: u64,
    appended: String,
    group: &'a str,
    attempts: u32,
    reason: &'a str,
}

/// Has any of the letter's records a wanted key? What cannot be opened may have.
pub(super) fn is_wanted(letter: &DeadLetter<'_>, filter: &KeyFilter) -> bool {
    let header = letter.header();
    let body = batch::body(letter.batch);
    let dead = |index: usize| is_dead(letter, header.base_offset.0 + index as u64);
    match header.schema {
        schema::TELEMETRY => TelemetryView::open(body, header.record_count)
            .map_or(true, |view| view.matching(filter).any(|(row, _)| dead(row))),
        schema::GENERIC => GenericView::open(body, header.record_count)
            .map_or(true, |view| view.matching(filter).any(|(index, _)| dead(index))),
        _ => true,
    }
}

fn is_dead(letter: &DeadLetter<'_>, offset: u64) -> bool {
    letter.ranges.iter().any(|range| (range.first..=range.last).contains(&offset))
}

pub(super) fn letter(format: PrintFormat, at: At, letter: &DeadLetter<'_>, out: &mut String) {
    let header = letter.header();
    let died = time(letter.died_ms);
    let records = letter.ranges.records();
    match format {
        PrintFormat::Lines => {
            let ranges: Vec<String> = letter
                .ranges
                .iter()
                .map(|range| format!("{}-{}", range.first, range.last))
                .collect();
            let plural = |count: u64| if count == 1 { "" } else { "s" };
            writeln!(
                out,
                "{died} {}/{} {records} record{} of {} {}/{}: {} (group {}, {} attempt{})",
                at.partition,
                at.offset,
                plural(records),
                letter.topic,
                letter.partition,
                ranges.join(","),
                plain(letter.reason),
                letter.group,
                letter.attempts,
                plural(u64::from(letter.attempts)),
            )
            .expect("writing to a string cannot fail");
        }
        PrintFormat::Ndjson => json(
            &LetterRecord {
                at,
                died,
                topic: letter.topic,
                topic_partition: letter.partition,
                ranges: letter.ranges.iter().map(|range| (range.first, range.last)).collect(),
                records,
                appended: time(header.append_time_ms),
                group: letter.group,
                attempts: letter.attempts,
                reason: letter.reason,
            },
            out,
        ),
    }
}

/// The dead records themselves, under their letter.
pub(super) fn records(render: Render<'_>, letter: &DeadLetter<'_>, out: &mut String) {
    let wanted = |Offset(offset)| is_dead(letter, offset);
    let mut text = String::new();
    let inner = Render { wanted: &wanted, dead_records: false, ..render };
    inner.batch(letter.partition, &letter.header(), letter.batch, u64::MAX, &mut text);
    let indent = match render.format {
        PrintFormat::Lines => "    ",
        PrintFormat::Ndjson => "",
    };
    for line in text.lines() {
        out.push_str(indent);
        out.push_str(line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use lanecast_wire::batch::BatchHeader;
    use lanecast_wire::dead_letter::Ranges;
    use lanecast_wire::message::OffsetRange;
    use lanecast_wire::{ProducerEpoch, ProducerId, Sequence, TopicId};

    use super::*;
    use crate::testing::{APPEND_TIME_MS, Batch};

    /// A letter about two of three records, as a batch at offset 9.
    fn dead() -> Vec<u8> {
        let times = &[APPEND_TIME_MS; 3];
        let origin = Batch { base_offset: 70, times, ..Batch::default() }.bytes();
        let letter = DeadLetter {
            topic: "t",
            topic_id: TopicId(3),
            partition: 5,
            group: "g",
            reason: "no\nnumber",
            attempts: 1,
            died_ms: APPEND_TIME_MS,
            ranges: Ranges::Listed(&[OffsetRange { first: 71, last: 72 }]),
            batch: &origin,
        };
        let (producer, epoch) = (ProducerId(1), ProducerEpoch(1));
        let mut bytes = batch::seal(&letter.seal(), producer, epoch, Sequence(0), 0).to_vec();
        batch::stamp(&mut bytes, Offset(9), 0);
        bytes
    }

    fn render(filter: &KeyFilter, format: PrintFormat, dead_records: bool) -> (u64, String) {
        let (bytes, mut out) = (dead(), String::new());
        let header = BatchHeader::decode(&bytes).unwrap();
        let render = Render { format, filter, wanted: &|_| true, dead_records };
        (render.batch(4, &header, &bytes, 9, &mut out), out)
    }

    #[test]
    fn a_letter_is_a_line_with_its_records_below() {
        let (count, text) = render(&KeyFilter::NONE, PrintFormat::Lines, false);
        let line = "2023-11-14T22:13:20.000Z 4/9 2 records of t 5/71-72: no\\nnumber (group g, 1 attempt)\n";
        assert_eq!((count, text.as_str()), (1, line));
        let (count, text) = render(&KeyFilter::NONE, PrintFormat::Lines, true);
        assert_eq!((count, text.lines().count()), (1, 3));
        assert!(
            text.starts_with(line) && text.ends_with("GPU-1 DCGM_FI_DEV_GPU_UTIL 2\n"),
            "{text}"
        );
    }

    #[test]
    fn a_letter_is_an_object_and_so_is_each_record() {
        let (_, text) = render(&KeyFilter::NONE, PrintFormat::Ndjson, true);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["reason"], &lines[0]["records"]), (&"no\nnumber".into(), &2.into()));
        assert_eq!(lines[0]["ranges"], serde_json::json!([[71, 72]]));
        assert_eq!((&lines[1]["partition"], &lines[1]["offset"]), (&5.into(), &71.into()));
    }

    #[test]
    fn a_letter_passes_a_filter_by_its_dead_records() {
        let gpu = KeyFilter::default().gpu("GPU-1");
        assert_eq!(render(&gpu, PrintFormat::Lines, false).0, 1);
        let other = KeyFilter::default().gpu("GPU-2");
        assert_eq!(render(&other, PrintFormat::Lines, false).0, 0);
    }
}
