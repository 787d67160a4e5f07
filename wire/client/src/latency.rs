//! How long things took, in percentiles.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits::{LATENCY_DIGITS, LATENCY_MAX};

/// Percentiles of how long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    pub count: u64,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub max: Duration,
}

/// A histogram that one task writes and others read.
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        let longest_us = u64::try_from(LATENCY_MAX.as_micros()).expect("a limit in hours");
        let histogram = Histogram::new_with_bounds(1, longest_us, LATENCY_DIGITS)
            .expect("the limits are a histogram's");
        Self(Mutex::new(histogram))
    }
}

impl Latencies {
    /// `count` things took that long; longer ones count as the longest.
    pub(crate) fn record(&self, took: Duration, count: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.lock().saturating_record_n(us, count);
    }

    pub(crate) fn summary(&self) -> Latency {
        let histogram = self.lock();
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Latency {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(histogram.max()),
        }
    }

    pub(crate) fn add(&self, other: &Self) {
        self.lock().add(&*other.lock()).expect("histograms of one make");
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_percent_and_add_up() {
        let (fast, slow) = (Latencies::default(), Latencies::default());
        assert_eq!(fast.summary(), Latency::default());
        fast.record(Duration::from_millis(10), 98);
        slow.record(Duration::from_secs(2), 2);
        fast.add(&slow);
        let summary = fast.summary();
        let near = |found: Duration, wanted: Duration| found.abs_diff(wanted) <= wanted / 100;
        assert_eq!(summary.count, 100);
        assert!(near(summary.p50, Duration::from_millis(10)), "{summary:?}");
        assert!(near(summary.p99, Duration::from_secs(2)), "{summary:?}");
        slow.record(LATENCY_MAX * 2, 1);
        assert!(near(slow.summary().max, LATENCY_MAX));
    }
}
