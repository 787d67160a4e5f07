//! The end of `up --once`: what was read, acknowledged and stored, and how fast.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::stats::{Latency, Position};
use super::usage::Usage;

/// The part of the producer's report that is needed here.
#[derive(Debug, Deserialize)]
pub(super) struct ProducerReport {
    rows_read: u64,
    rows_rejected: u64,
    rows_acknowledged: u64,
    usage: Option<Usage>,
}

/// What a process cost in this run.
#[derive(Debug, Serialize)]
struct Cost {
    role: String,
    /// Since the process started.
    peak_rss_bytes: u64,
    /// From the start of the source until the last row was queryable.
    cpu_seconds: f64,
    cpu_ns_per_row: f64,
}

/// The statistics of one moment.
pub(super) struct Moment {
    pub(super) position: Position,
    pub(super) dead_letters: u64,
    pub(super) latency: Latency,
    pub(super) usages: Vec<Usage>,
}

impl Moment {
    /// The group acknowledges what ClickHouse has stored, and dead letters. This outlives restarts
    /// of the consumer, whose own counters begin at 0 each time. A consumer that dies between counting
    /// and acknowledging counts dead letters twice.
    fn rows_stored(&self) -> u64 {
        self.position.acknowledged.saturating_sub(self.dead_letters)
    }
}

/// The summary; its JSON form is one line.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    rows_read: u64,
    rows_rejected: u64,
    rows_acknowledged: u64,
    rows_inserted: u64,
    rows_dead_lettered: u64,
    /// From the start of the source until the last row was queryable.
    seconds: f64,
    rows_per_s: f64,
    /// From a row's push in the producer until its INSERT was acknowledged.
    e2e_p50_ms: f64,
    e2e_p99_ms: f64,
    e2e_max_ms: f64,
    processes: Vec<Cost>,
}

impl Summary {
    pub(super) fn new(
        producer: &ProducerReport,
        before: &Moment,
        after: &Moment,
        seconds: f64,
    ) -> Self {
        let rows_inserted = after.rows_stored().saturating_sub(before.rows_stored());
        let latency = after.latency;
        Self {
            rows_read: producer.rows_read,
            rows_rejected: producer.rows_rejected,
            rows_acknowledged: producer.rows_acknowledged,
            rows_inserted,
            rows_dead_lettered: after.dead_letters.saturating_sub(before.dead_letters),
            seconds,
            rows_per_s: rows_inserted as f64 / seconds,
            e2e_p50_ms: latency.p50,
            e2e_p99_ms: latency.p99,
            e2e_max_ms: latency.max,
            processes: costs(producer, before, after, rows_inserted),
        }
    }

    /// Why this run was not a success.
    pub(super) fn complaint(&self) -> Option<String> {
        if self.rows_inserted == self.rows_acknowledged {
            return None;
        }
        Some(format!(
            "{} rows were acknowledged but {} are queryable, {} are dead letters (lanecast topic dlq {} shows why)",
            self.rows_acknowledged,
            self.rows_inserted,
            self.rows_dead_lettered,
            super::plan::TOPIC,
        ))
    }

    pub(super) fn text(&self) -> String {
        format!(
            "{} rows read, {} rejected, {} acknowledged, {} queryable in {:.2} s ({:.0} rows/s); end-to-end p50 {:.0} ms, p99 {:.0} ms",
            self.rows_read,
            self.rows_rejected,
            self.rows_acknowledged,
            self.rows_inserted,
            self.seconds,
            self.rows_per_s,
            self.e2e_p50_ms,
            self.e2e_p99_ms,
        )
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }
}

fn costs(producer: &ProducerReport, before: &Moment, after: &Moment, rows: u64) -> Vec<Cost> {
    let cost = |usage: &Usage| {
        let earlier = before.usages.iter().find(|earlier| earlier.role == usage.role);
        let spent = usage.cpu_seconds - earlier.map_or(0.0, |earlier| earlier.cpu_seconds);
        Cost {
            role: usage.role.clone(),
            peak_rss_bytes: usage.peak_rss_bytes,
            cpu_seconds: spent,
            cpu_ns_per_row: if rows == 0 { 0.0 } else { spent * 1e9 / rows as f64 },
        }
    };
    producer.usage.iter().chain(&after.usages).map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(inserted: u64) -> Summary {
        let usage = |role: &str, cpu_seconds| Usage {
            role: role.to_owned(),
            peak_rss_bytes: 1,
            cpu_seconds,
        };
        let moment = |acknowledged, cpu_seconds| Moment {
            position: Position { appended: acknowledged, acknowledged },
            dead_letters: 0,
            latency: Latency::default(),
            usages: vec![usage("broker", cpu_seconds)],
        };
        let producer = ProducerReport {
            rows_read: 12,
            rows_rejected: 2,
            rows_acknowledged: 10,
            usage: Some(usage("producer", 0.5)),
        };
        Summary::new(&producer, &moment(5, 1.0), &moment(5 + inserted, 3.0), 2.0)
    }

    #[test]
    fn a_process_costs_what_it_spent_in_this_run() {
        let summary = summary(10);
        let spent: Vec<f64> = summary.processes.iter().map(|cost| cost.cpu_seconds).collect();
        assert_eq!(spent, [0.5, 2.0]);
        assert_eq!(summary.processes[1].cpu_ns_per_row, 2e8);
    }

    #[test]
    fn rows_stored_before_this_run_do_not_count() {
        assert!(summary(10).complaint().is_none());
        assert!(summary(10).rows_per_s > 4.9);
    }

    #[test]
    fn a_missing_row_is_a_complaint() {
        assert!(summary(9).complaint().unwrap().contains("10 rows were acknowledged but 9"));
    }

    #[test]
    fn dead_letters_that_are_counted_twice_are_no_reason_to_crash() {
        let moment = |dead_letters| Moment {
            position: Position { appended: 5, acknowledged: 5 },
            dead_letters,
            latency: Latency::default(),
            usages: Vec::new(),
        };
        let producer =
            ProducerReport { rows_read: 5, rows_rejected: 0, rows_acknowledged: 5, usage: None };
        let summary = Summary::new(&producer, &moment(0), &moment(10), 1.0);
        assert_eq!((summary.rows_inserted, summary.rows_dead_lettered), (0, 10));
    }

    #[test]
    fn the_json_form_is_one_line() {
        let mut out = Vec::new();
        summary(10).write_json(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("{\"rows_read\":12,"), "{text}");
    }
}
