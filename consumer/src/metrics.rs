//! The counters as Prometheus text.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use core::fmt::Write;

use crate::stats::{Latency, Snapshot};

/// Media type of [`render`]'s text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn render(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let s = snapshot;
    text.value("up_seconds", "gauge", "Seconds since the start.", s.uptime_seconds);
    text.value("ready", "gauge", "1 when chunks flow into the store.", u8::from(s.ready));
    text.value("draining", "gauge", "1 while shutting down.", u8::from(s.draining));
    let help = "Rows stored and acknowledged.";
    text.value("rows_inserted_total", "counter", help, s.rows_inserted);
    let help = "Chunks stored and acknowledged.";
    text.value("chunks_inserted_total", "counter", help, s.chunks_inserted);
    text.value("chunks_received_total", "counter", "Chunks handed out to us.", s.chunks_received);
    let help = "Chunks received that had been handed out before.";
    text.value("chunks_redelivered_total", "counter", help, s.chunks_redelivered);
    let help = "Chunks given back undone.";
    text.value("chunks_handed_back_total", "counter", help, s.chunks_handed_back);
    text.value("chunks_in_flight", "gauge", "Chunks held now.", s.chunks_in_flight);
    text.value("buffered_bytes", "gauge", "Bytes of the chunks held now.", s.buffered_bytes);
    text.value("insert_retries_total", "counter", "Inserts tried again.", s.insert_retries);
    let help = "Inserts that wait for the store to recover.";
    text.value("inserts_stalled", "gauge", help, s.inserts_stalled);
    text.value("leases_extended_total", "counter", "Leases extended.", s.leases_extended);
    text.value("leases_lost_total", "counter", "Leases lost to others.", s.leases_lost);
    text.value("reconnects_total", "counter", "Subscriptions opened anew.", s.reconnects);
    let help = "Records durable at the broker and not yet done.";
    text.value("lag_records", "gauge", help, s.lag_records);

    let by_reason = s.dead_lettered_by_reason.iter().map(|(reason, count)| (*reason, *count));
    let help = "Records sent to the dead-letter topic.";
    text.labelled("dead_lettered_total", "reason", help, by_reason);
    let help = "Records of chunks that the broker has lost to a damaged disk.";
    text.value("records_damaged_total", "counter", help, s.records_damaged);
    let by_code = s.errors.iter().map(|(code, count)| (code.as_str(), *count));
    let help = "Failed inserts by ClickHouse's error code, and refused dead letters.";
    text.labelled("insert_errors_total", "code", help, by_code);

    let help = "Seconds from sending an insert to its answer.";
    text.summary("insert_seconds", help, &s.insert_ms);
    let help = "Seconds from a record's creation at its producer to the store's answer.";
    text.summary("e2e_seconds", help, &s.e2e_ms);
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let head = format_args!(
            "# HELP lanecast_consumer_{name} {help}\n# TYPE lanecast_consumer_{name} {kind}\n"
        );
        self.0.write_fmt(head).expect("writing to a string cannot fail");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl core::fmt::Display) {
        let line = format_args!("lanecast_consumer_{name}{labels} {value}\n");
        self.0.write_fmt(line).expect("writing to a string cannot fail");
    }

    fn value(&mut self, name: &str, kind: &str, help: &str, value: impl core::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    /// Label values are words and numbers of our own: nothing in them needs escaping.
    fn labelled<'a>(
        &mut self,
        name: &str,
        label: &str,
        help: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, "counter", help);
        for (value, count) in values {
            self.line(name, &format!("{{{label}=\"{value}\"}}"), count);
        }
    }

    fn summary(&mut self, name: &str, help: &str, latency: &Latency) {
        self.head(name, "summary", help);
        for (quantile, ms) in [("0.5", latency.p50), ("0.9", latency.p90), ("0.99", latency.p99)] {
            self.line(name, &format!("{{quantile=\"{quantile}\"}}"), ms as f64 / 1000.0);
        }
        self.line(&format!("{name}_sum"), "", latency.sum / 1000.0);
        self.line(&format!("{name}_count"), "", latency.count);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::sift::Created;
    use crate::stats::Stats;

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_a_described_metric() {
        let stats = Stats::default();
        stats.dead_lettered("store", 3);
        stats.error(Some(241), "");
        stats.insert_answered(
            Duration::from_millis(20),
            &[Created { created_ms: 0, rows: 5 }],
            1_500,
        );
        let text = render(&stats.snapshot());
        let mut described = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                described.push(help.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with("# TYPE ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                assert!(described.iter().any(|known| name.starts_with(known)), "{line}");
                value.parse::<f64>().unwrap();
            }
        }
        assert!(text.contains("lanecast_consumer_dead_lettered_total{reason=\"store\"} 3\n"));
        assert!(text.contains("lanecast_consumer_insert_errors_total{code=\"241\"} 1\n"));
        assert!(text.contains("lanecast_consumer_e2e_seconds_count 5\n"));
        assert!(text.contains("lanecast_consumer_e2e_seconds_sum 7.5\n"));
    }
}
