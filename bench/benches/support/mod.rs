//! What several areas use.

pub(crate) mod fleet;
pub(crate) mod publisher;
pub(crate) mod shell;

use std::time::Duration;

use criterion::Criterion;

/// Short measurements: the whole suite is to be run often. Quiet cores matter more than long runs.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}
