//! Counts of the service itself, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, seconds.
const BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];

/// Keys are constants of this program, so the maps are bounded.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latencies: Mutex<BTreeMap<&'static str, Histogram>>,
    store_errors: Mutex<BTreeMap<&'static str, u64>>,
    pub requests_in_flight: Gauge,
    pub connections: Gauge,
    pub connections_total: AtomicU64,
    pub turns_refused: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

/// How many of something there are now.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU64);

/// One of them.
pub(crate) struct Held<'a>(&'a AtomicU64);

impl Gauge {
    pub(crate) fn hold(&self) -> Held<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(&self.0)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// `route` is a path template, never a path: a client must not be able to make new series.
    pub(crate) fn answered(&self, route: &'static str, status: u16, took: Duration) {
        *lock(&self.requests).entry((route, status)).or_default() += 1;
        let mut latencies = lock(&self.latencies);
        let histogram = latencies.entry(route).or_default();
        let seconds = took.as_secs_f64();
        histogram.count += 1;
        histogram.sum_seconds += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub(crate) fn store_error(&self, kind: &'static str) {
        *lock(&self.store_errors).entry(kind).or_default() += 1;
    }

    /// The exposition text.
    pub(crate) fn render(&self, queries_in_flight: usize, answers_held_bytes: usize) -> String {
        let mut text = String::with_capacity(4_096);
        self.write(&mut text, queries_in_flight, answers_held_bytes)
            .expect("writing to a string cannot fail");
        text
    }

    fn write(
        &self,
        out: &mut String,
        queries_in_flight: usize,
        answers_held_bytes: usize,
    ) -> std::fmt::Result {
        head(out, "requests_total", "counter", "Requests answered, by route and status.")?;
        for ((route, status), count) in lock(&self.requests).iter() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            writeln!(out, "lanecast_query_requests_total{{{labels}}} {count}")?;
        }
        head(out, "request_seconds", "histogram", "Time from request head to answer, by route.")?;
        for (route, histogram) in lock(&self.latencies).iter() {
            let name = "lanecast_query_request_seconds";
            for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
                writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {count}")?;
            }
            let Histogram { count, sum_seconds, .. } = histogram;
            writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}")?;
            writeln!(out, "{name}_sum{{route=\"{route}\"}} {sum_seconds}")?;
            writeln!(out, "{name}_count{{route=\"{route}\"}} {count}")?;
        }
        head(
            out,
            "clickhouse_errors_total",
            "counter",
            "Questions that ClickHouse did not answer.",
        )?;
        for (kind, count) in lock(&self.store_errors).iter() {
            writeln!(out, "lanecast_query_clickhouse_errors_total{{kind=\"{kind}\"}} {count}")?;
        }
        let single = [
            (
                "requests_in_flight",
                "gauge",
                "Requests being answered.",
                load(&self.requests_in_flight.0),
            ),
            ("connections", "gauge", "Connections open.", load(&self.connections.0)),
            (
                "connections_total",
                "counter",
                "Connections accepted.",
                load(&self.connections_total),
            ),
            (
                "clickhouse_requests_in_flight",
                "gauge",
                "Requests that are asking ClickHouse.",
                queries_in_flight as u64,
            ),
            (
                "answers_held_bytes",
                "gauge",
                "Bytes of large answers that clients have not read yet.",
                answers_held_bytes as u64,
            ),
            (
                "turns_refused_total",
                "counter",
                "Requests refused because too many were asking ClickHouse.",
                load(&self.turns_refused),
            ),
        ];
        for (name, kind, about, value) in single {
            head(out, name, kind, about)?;
            writeln!(out, "lanecast_query_{name} {value}")?;
        }
        Ok(())
    }
}

fn head(out: &mut String, name: &str, kind: &str, about: &str) -> std::fmt::Result {
    writeln!(out, "# HELP lanecast_query_{name} {about}")?;
    writeln!(out, "# TYPE lanecast_query_{name} {kind}")
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Counters stay usable whatever panicked while one was held.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_line_per_series_and_buckets_add_up() {
        let metrics = Metrics::default();
        metrics.answered("/api/v1/gpus", 200, Duration::from_millis(3));
        metrics.answered("/api/v1/gpus", 200, Duration::from_secs(60));
        metrics.answered("/api/v1/gpus", 400, Duration::from_micros(10));
        metrics.store_error("unreachable");
        let held = metrics.requests_in_flight.hold();
        let text = metrics.render(2, 4_096);
        for line in [
            "lanecast_query_requests_total{route=\"/api/v1/gpus\",status=\"200\"} 2",
            "lanecast_query_requests_total{route=\"/api/v1/gpus\",status=\"400\"} 1",
            "lanecast_query_request_seconds_bucket{route=\"/api/v1/gpus\",le=\"0.001\"} 1",
            "lanecast_query_request_seconds_bucket{route=\"/api/v1/gpus\",le=\"20\"} 2",
            "lanecast_query_request_seconds_bucket{route=\"/api/v1/gpus\",le=\"+Inf\"} 3",
            "lanecast_query_clickhouse_errors_total{kind=\"unreachable\"} 1",
            "lanecast_query_requests_in_flight 1",
            "lanecast_query_clickhouse_requests_in_flight 2",
            "lanecast_query_answers_held_bytes 4096",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(held);
        assert!(metrics.render(0, 0).contains("lanecast_query_requests_in_flight 0"));
    }
}
