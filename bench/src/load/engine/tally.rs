//! What the loop has counted.

use std::time::Duration;

use crate::Latencies;

/// What is counted between the end of the warm-up and the end of the run.
pub(super) struct Tally {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    pub(super) done: u64,
    pub(super) latencies: Latencies,
    /// The same since the interval began, if somebody wants to know.
    pub(super) interval: Option<Interval>,
}

#[derive(Default)]
pub(super) struct Interval {
    pub(super) from_ns: u64,
    pub(super) done: u64,
    pub(super) latencies: Latencies,
}

impl Tally {
    /// A batch was done now.
    pub(super) fn done(&mut self, now_ns: u64, batches: u64) {
        if (self.from_ns..self.to_ns).contains(&now_ns) {
            self.done += batches;
            if let Some(interval) = &mut self.interval {
                interval.done += batches;
            }
        }
    }

    pub(super) fn latency(&mut self, due_ns: u64, now_ns: u64) {
        if (self.from_ns..self.to_ns).contains(&due_ns) {
            let latency = Duration::from_nanos(now_ns.saturating_sub(due_ns));
            self.latencies.record(latency);
            if let Some(interval) = &mut self.interval {
                interval.latencies.record(latency);
            }
        }
    }
}
