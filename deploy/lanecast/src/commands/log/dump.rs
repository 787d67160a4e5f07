//! `lanecast log dump`: blocks and what they carry, one line each.

use std::io::Write;
use std::process::ExitCode;

use lanecast_broker::offline::LogFiles;
use lanecast_core::inspect::{Found, FoundBlock, Item};
use lanecast_core::{BlockKind, Damage};
use serde_json::{Value, json};

use super::{Logs, walk};
use crate::Outcome;
use crate::settings::{Settings, table};

pub(in crate::commands) fn dump(settings: &Settings) -> Outcome {
    let logs = Logs::open(settings)?;
    let as_json = settings.switch(&table::ANSWER_JSON)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for files in &logs.logs {
        let mut written = Ok(());
        if !as_json {
            writeln!(out, "{} ({})", logs.title(files.log), logs.shown(&files.folder))?;
        }
        let report = walk(files, |found| {
            if written.is_ok() {
                written = write(&logs, files, &found, as_json, &mut out);
            }
        })?;
        written?;
        if !as_json {
            writeln!(out, "  end: {report}")?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write(
    logs: &Logs,
    files: &LogFiles,
    found: &Found,
    as_json: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    match found {
        Found::Damage(damage) if as_json => {
            writeln!(out, "{}", damage_json(logs, files, damage))
        }
        Found::Damage(damage) => writeln!(out, "  DAMAGED {damage}"),
        Found::Block(block) => {
            if as_json {
                writeln!(out, "{}", block_json(logs, files, block))?;
            } else {
                writeln!(out, "  {}", block_line(block))?;
            }
            for item in block.items(files.log) {
                if as_json {
                    writeln!(out, "{}", item_json(logs, files, block, &item))?;
                } else {
                    writeln!(out, "    {}", item_line(&item))?;
                }
            }
            Ok(())
        }
    }
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// The offsets that a block covers.
fn offsets(block: &FoundBlock) -> String {
    match (block.base_offset + u64::from(block.count)).checked_sub(1) {
        Some(last) if block.count > 0 => format!("offsets {}-{last}", block.base_offset),
        _ => format!("before offset {}", block.base_offset),
    }
}

fn block_line(block: &FoundBlock) -> String {
    let (segment, position) = (block.place.segment.0, block.place.position);
    format!(
        "{segment}:{position} {} {}, {} bytes, appended {}, durable up to {}, life {}, crc {:08x} ok",
        block.kind.name(),
        offsets(block),
        block.bytes_on_disk,
        time(block.append_time_ms),
        block.durable_end,
        block.life,
        block.crc,
    )
}

fn item_line(item: &Item) -> String {
    match item {
        Item::Batch { header, whole } => format!(
            "batch {}-{}: producer {:016x} epoch {} sequence {}, {} records, {} bytes, schema {}, \
             records of {} to {}, crc {}",
            header.base_offset.0,
            header.last_offset().0,
            header.producer.0,
            header.epoch.0,
            header.sequence.0,
            header.record_count,
            header.batch_bytes(),
            header.schema,
            time(header.min_time_ms),
            time(header.max_time_ms),
            if *whole { "ok" } else { "WRONG" },
        ),
        Item::Topic(topic) => {
            let (name, partitions) = (&topic.name, topic.partitions);
            format!("topic {} {name}: {partitions} partitions, {:?}", topic.topic, topic.settings)
        }
        Item::DeletedTopic { topic, gone: false } => format!("topic {topic} is deleted"),
        Item::DeletedTopic { topic, gone: true } => format!("topic {topic} has no files any more"),
        Item::Group { group, record } => format!("group {}: {record:?}", group.0),
        Item::Producer { id, epoch, next_sequence, recent } => format!(
            "producer {:016x} epoch {}: next sequence {next_sequence}, {recent} batches remembered",
            id.0, epoch.0
        ),
        Item::Unreadable { offset, what } => format!("UNREADABLE at offset {offset}: {what}"),
    }
}

fn damage_json(logs: &Logs, files: &LogFiles, damage: &Damage) -> Value {
    json!({
        "damage": damage.kind.text(),
        "log": logs.title(files.log),
        "file": logs.file(files, damage.place),
        "position": damage.place.position,
        "first": damage.first,
        "end": damage.end,
        "records": damage.records(),
    })
}

fn block_json(logs: &Logs, files: &LogFiles, block: &FoundBlock) -> Value {
    let in_parts = match block.kind {
        BlockKind::ProducersPart => Some(true),
        BlockKind::Producers => Some(false),
        BlockKind::Mark | BlockKind::Opening | BlockKind::Batches | BlockKind::Records => None,
    };
    json!({
        "block": block.kind.name(),
        "log": logs.title(files.log),
        "file": logs.file(files, block.place),
        "position": block.place.position,
        "bytes": block.bytes_on_disk,
        "base_offset": block.base_offset,
        "count": block.count,
        "append_time_ms": block.append_time_ms,
        "durable_end": block.durable_end,
        "life": block.life,
        "crc_ok": true,
        "more_follows": in_parts,
    })
}

fn item_json(logs: &Logs, files: &LogFiles, block: &FoundBlock, item: &Item) -> Value {
    let log = logs.title(files.log);
    let position = block.place.position;
    match item {
        Item::Batch { header, whole } => json!({
            "batch": header.base_offset.0,
            "log": log,
            "position": position,
            "last": header.last_offset().0,
            "producer": format!("{:016x}", header.producer.0),
            "epoch": header.epoch.0,
            "sequence": header.sequence.0,
            "records": header.record_count,
            "bytes": header.batch_bytes(),
            "schema": header.schema,
            "append_time_ms": header.append_time_ms,
            "min_time_ms": header.min_time_ms,
            "max_time_ms": header.max_time_ms,
            "crc_ok": whole,
        }),
        Item::Topic(topic) => json!({
            "topic": topic.name,
            "id": topic.topic,
            "partitions": topic.partitions,
            "settings": format!("{:?}", topic.settings),
        }),
        Item::DeletedTopic { topic, gone } => json!({ "deleted": topic, "gone": gone }),
        Item::Group { group, record } => json!({
            "group": group.0,
            "log": log,
            "position": position,
            "record": format!("{record:?}"),
        }),
        Item::Producer { id, epoch, next_sequence, recent } => json!({
            "producer": format!("{:016x}", id.0),
            "log": log,
            "position": position,
            "epoch": epoch.0,
            "next_sequence": next_sequence,
            "batches_remembered": recent,
        }),
        Item::Unreadable { offset, what } => json!({
            "unreadable": what,
            "log": log,
            "position": position,
            "offset": offset.0,
        }),
    }
}
