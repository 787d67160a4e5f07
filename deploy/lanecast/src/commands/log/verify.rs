//! `lanecast log verify`: is everything there that should be?

use std::io::Write;
use std::process::ExitCode;

use lanecast_broker::offline::LogFiles;
use lanecast_core::inspect::{Found, Item};
use lanecast_core::{Damage, RecoveryReport, StopReason};
use serde_json::{Value, json};

use super::{Failure, Logs, walk};
use crate::Outcome;
use crate::settings::{Settings, table};

/// Something is damaged. 1 is for what could not be looked at, 2 for a wrong command line.
const DAMAGED: u8 = 3;

/// One log, looked at to its end.
struct Verified {
    report: RecoveryReport,
    bytes: u64,
    records: u64,
    damages: Vec<Damage>,
    /// What else is wrong, with file and position.
    faults: Vec<String>,
    notes: Vec<String>,
}

pub(in crate::commands) fn verify(settings: &Settings) -> Outcome {
    let logs = Logs::open(settings)?;
    let as_json = settings.switch(&table::ANSWER_JSON)?;
    let mut out = std::io::stdout().lock();
    let (mut rows, mut damages, mut bytes) = (Vec::new(), 0, 0);
    let mut lost = Lost::default();
    for files in &logs.logs {
        let verified = look(&logs, files)?;
        damages += verified.damages.len() + verified.faults.len();
        lost.add(&verified.damages);
        bytes += verified.bytes;
        if as_json {
            rows.push(row(&logs, files, &verified));
        } else {
            print(&logs, files, &verified, &mut out)?;
        }
    }
    if as_json {
        let summary = json!({
            "logs": rows,
            "damages": damages,
            "damaged_records": lost.records,
            "more_lost": lost.more,
        });
        serde_json::to_writer(&mut out, &summary)?;
        writeln!(out)?;
    } else {
        let count = logs.logs.len();
        writeln!(out, "{count} logs, {bytes} bytes of blocks: {}", verdict(damages, &lost))?;
    }
    Ok(if damages == 0 { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// Records that are gone.
#[derive(Debug, Default)]
struct Lost {
    records: u64,
    /// And others, nobody knows how many.
    more: bool,
}

impl Lost {
    fn add(&mut self, damages: &[Damage]) {
        self.records += damages.iter().map(Damage::records).sum::<u64>();
        self.more |= damages.iter().any(|damage| damage.loses_records() && damage.records() == 0);
    }
}

fn verdict(damages: usize, lost: &Lost) -> String {
    let Lost { records, more } = lost;
    match (damages, more) {
        (0, _) => "whole".to_owned(),
        (_, false) => format!("{damages} damaged places, {records} records lost"),
        (_, true) => format!(
            "{damages} damaged places, {records} records lost, and others that nobody can count"
        ),
    }
}

fn look(logs: &Logs, files: &LogFiles) -> Result<Verified, Failure> {
    let (mut bytes, mut records) = (0, 0);
    let (mut damages, mut faults) = (Vec::new(), Vec::new());
    let report = walk(files, |found| match found {
        Found::Damage(damage) => damages.push(damage),
        Found::Block(block) => {
            bytes += block.bytes_on_disk;
            records += u64::from(block.count);
            for item in block.items(files.log) {
                let what = match item {
                    Item::Batch { whole: true, .. }
                    | Item::Topic(_)
                    | Item::DeletedTopic { .. }
                    | Item::Group { .. }
                    | Item::Producer { .. } => continue,
                    Item::Batch { header, whole: false } => {
                        format!("batch at offset {} has a wrong checksum", header.base_offset)
                    }
                    Item::Unreadable { offset, what } => format!("at offset {offset}: {what}"),
                };
                let (file, position) = (logs.file(files, block.place), block.place.position);
                faults.push(format!("{file} position {position}: {what}"));
            }
        }
    })?;
    if let Some(path) = &files.bad_witness {
        let path = logs.shown(path);
        faults.push(format!("{path}: no witness of this log; a lost end would not be noticed"));
    }
    let mut notes = Vec::new();
    for place in files.unreadable() {
        let file = logs.file(files, place);
        notes.push(format!("{file} position {}: the disk does not read it", place.position));
    }
    for path in &files.partial {
        notes.push(format!("{}: was being made, the next start removes it", logs.shown(path)));
    }
    if let (true, Some(place)) = (is_torn(report.reason), report.stopped_at) {
        let (file, what) = (logs.file(files, place), report.reason.text());
        let position = place.position;
        notes.push(format!(
            "{file} position {position}: {what}, a torn tail that was never acknowledged, or left \
             over from an earlier use of the file: no damage"
        ));
    }
    Ok(Verified { report, bytes, records, damages, faults, notes })
}

fn is_torn(reason: StopReason) -> bool {
    match reason {
        StopReason::NotABlock | StopReason::Torn | StopReason::CutShort | StopReason::Stale => true,
        StopReason::Empty
        | StopReason::CleanEnd
        | StopReason::SegmentEnd
        | StopReason::Acknowledged
        | StopReason::Damaged => false,
    }
}

fn print(
    logs: &Logs,
    files: &LogFiles,
    verified: &Verified,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let RecoveryReport { log_start, end_offset, blocks, .. } = verified.report;
    writeln!(
        out,
        "{}: {} segments, {blocks} blocks, {} records, offsets {log_start} to {end_offset} ({})",
        logs.title(files.log),
        files.segments.len(),
        verified.records,
        logs.shown(&files.folder),
    )?;
    for damage in &verified.damages {
        let (file, position) = (logs.file(files, damage.place), damage.place.position);
        writeln!(out, "  DAMAGED {file} position {position}: {}", words(damage))?;
    }
    for fault in &verified.faults {
        writeln!(out, "  DAMAGED {fault}")?;
    }
    for note in &verified.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// The damage without its place.
fn words(damage: &Damage) -> String {
    let text = damage.to_string();
    match text.split_once(" at segment ") {
        Some((what, rest)) => match rest.split_once(", ") {
            Some((_, lost)) => format!("{what}, {lost}"),
            None => what.to_owned(),
        },
        None => text,
    }
}

fn row(logs: &Logs, files: &LogFiles, verified: &Verified) -> Value {
    let damage = |damage: &Damage| {
        json!({
            "file": logs.file(files, damage.place),
            "position": damage.place.position,
            "what": damage.kind.text(),
            "first": damage.first,
            "end": damage.end,
            "records": damage.records(),
            "more_lost": damage.loses_records() && damage.records() == 0,
        })
    };
    let report = &verified.report;
    json!({
        "log": logs.title(files.log),
        "folder": logs.shown(&files.folder),
        "segments": files.segments.len(),
        "bytes": verified.bytes,
        "blocks": report.blocks,
        "records": verified.records,
        "log_start": report.log_start,
        "end_offset": report.end_offset,
        "end": report.reason.text(),
        "damages": verified.damages.iter().map(damage).collect::<Vec<_>>(),
        "faults": verified.faults,
        "notes": verified.notes,
    })
}
