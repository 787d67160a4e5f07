//! What is compared of a system in a case.

use serde::Serialize;

use crate::report::{Bound, CaseResult, Round, SystemResult};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    More,
    Less,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    RecordsPerSecond,
    /// Bytes per second over those of the ceiling that ran next to it.
    OfTheCeiling,
    P50,
    P99,
    /// CPU nanoseconds per record, all stages together.
    CpuPerRecord,
}

impl Metric {
    pub(super) const ALL: [Self; 5] =
        [Self::RecordsPerSecond, Self::OfTheCeiling, Self::P50, Self::P99, Self::CpuPerRecord];

    /// As it stands in tables and in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RecordsPerSecond => "records/s",
            Self::OfTheCeiling => "of the ceiling",
            Self::P50 => "p50 ns",
            Self::P99 => "p99 ns",
            Self::CpuPerRecord => "CPU ns/record",
        }
    }

    pub(super) fn better(self) -> Better {
        match self {
            Self::RecordsPerSecond | Self::OfTheCeiling => Better::More,
            Self::P50 | Self::P99 | Self::CpuPerRecord => Better::Less,
        }
    }

    /// One value per round.
    pub(super) fn values(self, case: &CaseResult, system: &SystemResult) -> Vec<f64> {
        let of = |figure: fn(&Round) -> f64| system.rounds.iter().map(figure).collect();
        match self {
            Self::RecordsPerSecond => of(|round| round.records_per_second),
            Self::P50 => of(|round| round.p50_ns as f64),
            Self::P99 => of(|round| round.p99_ns as f64),
            Self::CpuPerRecord => of(|round| round.cpu_ns_per_record.values().sum()),
            Self::OfTheCeiling => match case.ceiling() {
                Some(ceiling) if ceiling.system != system.system => {
                    case.ratios(&system.system, &ceiling.system, |round| round.bytes_per_second)
                }
                Some(_) | None => Vec::new(),
            },
        }
    }
}

/// What is better for a goal of this bound.
pub(super) fn better_for(bound: Bound) -> Better {
    match bound {
        Bound::AtLeast(_) => Better::More,
        Bound::AtMost(_) => Better::Less,
    }
}
