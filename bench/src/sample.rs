//! What one run of one system gave.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits::{LATENCY_DIGITS, LATENCY_NS_MAX};

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)
            .expect("the bounds are in order and the digits within 5");
        Self { histogram }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(ns.max(1));
    }

    /// From no more than points of a curve that somebody else recorded: rising percentiles, the last
    /// of them 100, and what each stays within. What lies between two points counts as the upper one.
    #[must_use]
    pub fn of_points(points: &[(f64, Duration)], count: u64) -> Self {
        let mut latencies = Self::default();
        let mut counted = 0;
        for (percentile, latency) in points {
            let upto = (count as f64 * percentile / 100.0).round() as u64;
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
            latencies.histogram.saturating_record_n(ns, upto.saturating_sub(counted));
            counted = upto;
        }
        latencies
    }

    pub fn add(&mut self, other: &Self) {
        self.histogram += &other.histogram;
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this share of all, 0 to 100, stay within.
    #[must_use]
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        self.histogram.value_at_percentile(percentile)
    }

    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.histogram.max()
    }

    /// Points of the whole curve: percentile, and the latency that it stays within. Each further step
    /// towards 100 is half as large as the one before, as HdrHistogram's own tools draw it.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let points = self.histogram.iter_quantiles(5);
        let mut curve: Vec<(f64, u64)> = points
            .map(|point| (point.quantile_iterated_to() * 100.0, point.value_iterated_to()))
            .collect();
        curve.dedup();
        curve
    }
}

/// One run of one system.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Records that were acknowledged, delivered or stored within `elapsed`.
    pub records: u64,
    /// Their bytes, as they travel and without frames.
    pub bytes: u64,
    pub elapsed: Duration,
    /// Per batch or request; empty where the question is only how many.
    pub latencies: Latencies,
    /// CPU time within `elapsed` of each stage (a process, or a part of one).
    pub cpu: Vec<(String, Duration)>,
}

impl Sample {
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_rises_to_the_largest_latency() {
        let mut latencies = Latencies::default();
        for us in 1..=10_000 {
            latencies.record(Duration::from_micros(us));
        }
        let curve = latencies.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let (percentile, last_ns) = curve[curve.len() - 1];
        assert_eq!((percentile, last_ns), (100.0, latencies.max_ns()));
        let half_ns = latencies.percentile_ns(50.0);
        assert!((4_990_000..=5_010_000).contains(&half_ns), "{half_ns}");
    }

    #[test]
    fn endless_latencies_count_as_the_longest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.max_ns() >= LATENCY_NS_MAX);
    }
}
