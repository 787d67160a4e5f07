//! Records as text that people and line tools read.

mod letter;

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::Timestamp;
use lanecast_telemetry::TelemetryView;
use lanecast_wire::batch::{self, BatchHeader, schema};
use lanecast_wire::dead_letter::DeadLetter;
use lanecast_wire::generic::{GenericView, Headers, Message};
use lanecast_wire::{KeyFilter, Offset};
use serde::{Serialize, Serializer};

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrintFormat {
    /// One line a record, for reading.
    #[default]
    Lines,
    /// One JSON object a line, for other programs. Keys, payloads and header values that are not
    /// UTF-8 come as `{"hex": "…"}`.
    Ndjson,
}

/// Bytes that are not text are cut on a line for reading; NDJSON has all of them.
const LINE_BYTES_MAX: usize = 32;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct At {
    partition: u32,
    offset: u64,
}

#[derive(Serialize)]
struct SampleRecord<'a> {
    #[serde(flatten)]
    at: At,
    timestamp: String,
    source_timestamp: String,
    metric_name: &'a str,
    value: f64,
    uuid: &'a str,
    gpu_id: u32,
    device: &'a str,
    model_name: &'a str,
    hostname: &'a str,
    container: &'a str,
    pod: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    labels: &'a [(&'a str, &'a str)],
}

#[derive(Serialize)]
struct MessageRecord<'a> {
    #[serde(flatten)]
    at: At,
    timestamp: String,
    /// As a UUID is written; ids are 128 bits and JSON numbers are not.
    id: String,
    key: Text<'a>,
    #[serde(serialize_with = "headers_as_object")]
    headers: Headers<'a>,
    payload: Text<'a>,
}

/// A batch that no reader understands, which is worth a line but no failure.
#[derive(Serialize)]
struct OpaqueRecord {
    #[serde(flatten)]
    at: At,
    records: u32,
    schema: u8,
    error: String,
}

/// Bytes that mostly are text.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn hex(&self) -> String {
        let mut hex = String::with_capacity(2 * self.0.len());
        for byte in self.0 {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        }
        hex
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match core::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("hex", self.hex())]),
        }
    }
}

/// On a line of text: what could break the line or the terminal is escaped.
impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match core::str::from_utf8(self.0) {
            Ok(text) => f.write_str(&plain(text)),
            Err(_) if self.0.len() > LINE_BYTES_MAX => {
                let start = Text(&self.0[..LINE_BYTES_MAX]);
                write!(f, "0x{}… ({} bytes)", start.hex(), self.0.len())
            }
            Err(_) => write!(f, "0x{}", self.hex()),
        }
    }
}

fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.escape_debug().to_string())
    } else {
        Cow::Borrowed(text)
    }
}

fn as_object<S: Serializer>(pairs: &[(&str, &str)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}

fn headers_as_object<S: Serializer>(
    headers: &Headers<'_>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, Text(value))))
}

/// How batches become text.
#[derive(Clone, Copy)]
pub(crate) struct Render<'f> {
    pub(crate) format: PrintFormat,
    pub(crate) filter: &'f KeyFilter,
    /// Which offsets are printed.
    pub(crate) wanted: &'f dyn Fn(Offset) -> bool,
    /// Dead letters come with the records that are in them.
    pub(crate) dead_records: bool,
}

impl Render<'_> {
    /// Appends the records of a whole batch that pass the filter, at most `limit` of them; returns
    /// how many it were.
    pub(crate) fn batch(
        self,
        partition: u32,
        header: &BatchHeader,
        batch: &[u8],
        limit: u64,
        out: &mut String,
    ) -> u64 {
        let Self { format, filter, .. } = self;
        let body = batch::body(batch);
        let at = |index: usize| At { partition, offset: header.base_offset.0 + index as u64 };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let wanted = |index: usize| (self.wanted)(Offset(header.base_offset.0 + index as u64));
        let error = match header.schema {
            schema::TELEMETRY => match TelemetryView::open(body, header.record_count) {
                Ok(view) => {
                    let rows = view.matching(filter).filter(|(row, _)| wanted(*row)).take(limit);
                    return rows.map(|(row, one)| sample(format, at(row), &view, &one, out)).sum();
                }
                Err(error) => error.to_string(),
            },
            schema::GENERIC => match GenericView::open(body, header.record_count) {
                Ok(view) => {
                    let messages = view.matching(filter).filter(|(index, _)| wanted(*index));
                    let messages = messages.take(limit);
                    return messages
                        .map(|(index, one)| message(format, at(index), &one, out))
                        .sum();
                }
                Err(error) => error.to_string(),
            },
            schema::DEAD_LETTER => match DeadLetter::open(body) {
                Ok(_) if !wanted(0) => return 0,
                Ok(dead) => return self.letter(at(0), &dead, out),
                Err(error) => error.to_string(),
            },
            schema => format!("unknown schema {schema}"),
        };
        opaque(format, at(0), header, error, out)
    }
}

impl Render<'_> {
    fn letter(self, at: At, dead: &DeadLetter<'_>, out: &mut String) -> u64 {
        if !letter::is_wanted(dead, self.filter) {
            return 0;
        }
        letter::letter(self.format, at, dead, out);
        if self.dead_records {
            letter::records(self, dead, out);
        }
        1
    }
}

fn sample(
    format: PrintFormat,
    at: At,
    view: &TelemetryView<'_>,
    row: &lanecast_telemetry::Row<'_>,
    out: &mut String,
) -> u64 {
    let who = view.identity(row.series);
    let timestamp = time(row.ts_ms);
    match format {
        PrintFormat::Lines => {
            let (metric, host, uuid) = (plain(row.metric), plain(who.hostname), plain(who.uuid));
            write!(out, "{timestamp} {host} gpu={} {uuid} {metric} {}", who.gpu_index, row.value)
                .expect("writing to a string cannot fail");
            for (name, value) in
                [("namespace", who.namespace), ("pod", who.pod), ("container", who.container)]
            {
                if !value.is_empty() {
                    write!(out, " {name}={}", plain(value))
                        .expect("writing to a string cannot fail");
                }
            }
            out.push('\n');
        }
        PrintFormat::Ndjson => json(
            &SampleRecord {
                at,
                timestamp,
                source_timestamp: time(row.source_ts_ms),
                metric_name: row.metric,
                value: row.value,
                uuid: who.uuid,
                gpu_id: who.gpu_index,
                device: who.device,
                model_name: who.model,
                hostname: who.hostname,
                container: who.container,
                pod: who.pod,
                namespace: who.namespace,
                labels: who.labels,
            },
            out,
        ),
    }
    1
}

fn message(format: PrintFormat, at: At, message: &Message<'_>, out: &mut String) -> u64 {
    let timestamp = time(message.timestamp_ms);
    match format {
        PrintFormat::Lines => {
            write!(out, "{timestamp} {}/{} key={}", at.partition, at.offset, Text(message.key))
                .expect("writing to a string cannot fail");
            for (name, value) in message.headers.iter() {
                write!(out, " {}={}", plain(name), Text(value))
                    .expect("writing to a string cannot fail");
            }
            writeln!(out, " {}", Text(message.payload)).expect("writing to a string cannot fail");
        }
        PrintFormat::Ndjson => json(
            &MessageRecord {
                at,
                timestamp,
                id: id(message.id),
                key: Text(message.key),
                headers: message.headers,
                payload: Text(message.payload),
            },
            out,
        ),
    }
    1
}

fn opaque(
    format: PrintFormat,
    at: At,
    header: &BatchHeader,
    error: String,
    out: &mut String,
) -> u64 {
    let (records, schema) = (header.record_count, header.schema);
    match format {
        PrintFormat::Lines => {
            let At { partition, offset } = at;
            writeln!(out, "{partition}/{offset}: {records} records of schema {schema}: {error}")
                .expect("writing to a string cannot fail");
        }
        PrintFormat::Ndjson => json(&OpaqueRecord { at, records, schema, error }, out),
    }
    u64::from(records)
}

fn json(record: &impl Serialize, out: &mut String) {
    let line = serde_json::to_string(record);
    out.push_str(&line.expect("records have string keys and finite numbers"));
    out.push('\n');
}

/// RFC 3339, or the number where that has no name for it.
fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms}ms"), |timestamp| format!("{timestamp:.3}"))
}

fn id(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use lanecast_wire::builder::BodyBuilder;
    use lanecast_wire::generic::GenericBuilder;
    use lanecast_wire::{Offset, ProducerEpoch, ProducerId, Sequence};

    use super::*;
    use crate::testing::{APPEND_TIME_MS, Batch};

    const ALL: Render<'static> = Render {
        format: PrintFormat::Ndjson,
        filter: &KeyFilter::NONE,
        wanted: &|_| true,
        dead_records: false,
    };

    fn render(format: PrintFormat, bytes: &[u8], limit: u64) -> (String, u64) {
        let header = BatchHeader::decode(bytes).unwrap();
        let mut out = String::new();
        let render = Render { format, filter: &KeyFilter::default(), ..ALL };
        let printed = render.batch(4, &header, bytes, limit, &mut out);
        (out, printed)
    }

    fn generic(message: &Message<'_>) -> Vec<u8> {
        let mut builder = GenericBuilder::empty();
        builder.push(message).unwrap();
        let (producer, epoch) = (ProducerId(1), ProducerEpoch(1));
        let mut bytes = batch::seal(&builder.seal(), producer, epoch, Sequence(0), 0).to_vec();
        batch::stamp(&mut bytes, Offset(9), 0);
        bytes
    }

    #[test]
    fn samples_are_one_line_each_up_to_the_limit() {
        let bytes = Batch { times: &[APPEND_TIME_MS; 3], ..Batch::default() }.bytes();
        let (text, printed) = render(PrintFormat::Lines, &bytes, 2);
        assert_eq!(printed, 2);
        assert_eq!(
            text,
            "2023-11-14T22:13:20.000Z host gpu=0 GPU-1 DCGM_FI_DEV_GPU_UTIL 0\n\
             2023-11-14T22:13:20.000Z host gpu=0 GPU-1 DCGM_FI_DEV_GPU_UTIL 1\n"
        );
    }

    #[test]
    fn samples_are_json_objects_with_the_names_of_the_rest_api() {
        let bytes = Batch { base_offset: 70, ..Batch::default() }.bytes();
        let (text, _) = render(PrintFormat::Ndjson, &bytes, u64::MAX);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["timestamp"], "2023-11-14T22:13:20.000Z");
        assert_eq!((&object["partition"], &object["offset"]), (&4.into(), &70.into()));
        assert_eq!((&object["uuid"], &object["value"]), (&"GPU-1".into(), &0.0.into()));
    }

    #[test]
    fn a_batch_that_begins_before_the_start_is_printed_from_there_on() {
        let times = &[APPEND_TIME_MS; 3];
        let bytes = Batch { base_offset: 70, times, ..Batch::default() }.bytes();
        let header = BatchHeader::decode(&bytes).unwrap();
        let filter = KeyFilter::default();
        let mut out = String::new();
        let render = Render { filter: &filter, wanted: &|at| at.0 >= 71, ..ALL };
        assert_eq!(render.batch(4, &header, &bytes, 9, &mut out), 2);
        assert!(out.starts_with(r#"{"partition":4,"offset":71"#), "{out}");
    }

    #[test]
    fn records_that_nobody_asked_for_are_left_out() {
        let sample = Batch { times: &[APPEND_TIME_MS; 3], ..Batch::default() }.bytes();
        let message = bytes::Bytes::from(generic(&Message::new(b"k", b"v")));
        let filters = [
            (KeyFilter::default().gpu("GPU-1"), 3, 0),
            (KeyFilter::default().gpu("GPU-2").host("host"), 3, 0),
            (KeyFilter::default().gpu("host").message_key(*b"k"), 0, 1),
        ];
        for (filter, samples, messages) in filters {
            for (bytes, expected) in [(&sample, samples), (&message, messages)] {
                let header = BatchHeader::decode(bytes).unwrap();
                let render = Render { format: PrintFormat::Lines, filter: &filter, ..ALL };
                let mut out = String::new();
                assert_eq!(render.batch(4, &header, bytes, 9, &mut out), expected, "{filter:?}");
                assert_eq!(out.lines().count() as u64, expected);
            }
        }
    }

    #[test]
    fn messages_show_what_is_text_as_text_and_the_rest_as_hex() {
        let headers = [("kind", &b"a\nb"[..])];
        let message = Message {
            id: 1,
            headers: Headers::Listed(&headers),
            timestamp_ms: 0,
            ..Message::new(b"k", b"\xff\x00")
        };
        let bytes = generic(&message);
        let (text, _) = render(PrintFormat::Lines, &bytes, u64::MAX);
        assert_eq!(text, "1970-01-01T00:00:00.000Z 4/9 key=k kind=a\\nb 0xff00\n");
        let (text, _) = render(PrintFormat::Ndjson, &bytes, u64::MAX);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["id"], "00000000-0000-0000-0000-000000000001");
        assert_eq!(object["payload"]["hex"], "ff00");
        assert_eq!(object["headers"]["kind"], "a\nb");
    }

    #[test]
    fn long_bytes_are_cut_for_readers_and_whole_for_programs() {
        let bytes = generic(&Message::new(b"k", &[0xff; 100]));
        let (text, _) = render(PrintFormat::Lines, &bytes, u64::MAX);
        assert!(text.ends_with(&format!(" 0x{}… (100 bytes)\n", "ff".repeat(32))), "{text}");
        let (text, _) = render(PrintFormat::Ndjson, &bytes, u64::MAX);
        assert!(text.contains(&"ff".repeat(100)), "{text}");
    }

    #[test]
    fn a_batch_that_nobody_understands_is_one_line() {
        let bytes = Batch { schema: 77, times: &[0, 0], ..Batch::default() }.bytes();
        for format in [PrintFormat::Lines, PrintFormat::Ndjson] {
            let (text, printed) = render(format, &bytes, u64::MAX);
            assert_eq!((text.lines().count(), printed), (1, 2));
            assert!(text.contains("unknown schema 77"), "{text}");
        }
    }
}
