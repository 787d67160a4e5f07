//! What a run of the suite found, as it is kept: one JSON file per run.

mod goal;
mod markdown;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use goal::{Bound, Goal};
pub use markdown::markdown;

use crate::machine::Machine;
use crate::{Case, Latencies, Role, Sample};

/// Changes when older files can no longer be read.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    /// Of the program.
    pub version: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub machine: Machine,
    pub cases: Vec<CaseResult>,
    pub goals: Vec<Goal>,
}

/// One case, and what every system made of it. Round *n* of all systems ran next to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    pub case: Case,
    pub systems: Vec<SystemResult>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SystemResult {
    pub system: String,
    pub role: Role,
    /// What its acknowledgement means.
    pub acknowledges: String,
    pub rounds: Vec<Round>,
    /// Latencies of all rounds together: percentile, and nanoseconds that it stays within.
    pub curve: Vec<(f64, u64)>,
    /// Why it has no rounds, or not all.
    pub failure: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    /// 0 where the case measures no latency.
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// CPU time of each stage, per record.
    pub cpu_ns_per_record: BTreeMap<String, f64>,
}

impl Round {
    #[must_use]
    pub fn new(sample: &Sample) -> Self {
        let latencies = &sample.latencies;
        let at = |percentile| match latencies.count() {
            0 => 0,
            _ => latencies.percentile_ns(percentile),
        };
        let per_record = |(stage, time): &(String, std::time::Duration)| {
            (stage.clone(), time.as_nanos() as f64 / sample.records.max(1) as f64)
        };
        Self {
            records_per_second: sample.records_per_second(),
            bytes_per_second: sample.bytes_per_second(),
            p50_ns: at(50.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            max_ns: at(100.0),
            cpu_ns_per_record: sample.cpu.iter().map(per_record).collect(),
        }
    }
}

impl SystemResult {
    /// Median over the rounds.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// Sets the curve from the latencies of all rounds.
    pub fn set_curve(&mut self, latencies: &Latencies) {
        self.curve = if latencies.count() == 0 { Vec::new() } else { latencies.curve() };
    }
}

impl CaseResult {
    #[must_use]
    pub fn system(&self, name: &str) -> Option<&SystemResult> {
        self.systems.iter().find(|result| result.system == name)
    }

    /// The system that the others are compared with.
    #[must_use]
    pub fn ceiling(&self) -> Option<&SystemResult> {
        self.systems.iter().find(|result| result.role == Role::Ceiling)
    }

    /// `of` of one system over that of another, round by round: what runs next to each other suffers
    /// from the same neighbours.
    #[must_use]
    pub fn ratios(&self, system: &str, to: &str, of: impl Fn(&Round) -> f64) -> Vec<f64> {
        let (Some(system), Some(to)) = (self.system(system), self.system(to)) else {
            return Vec::new();
        };
        let pairs = system.rounds.iter().zip(&to.rounds);
        pairs.map(|(one, other)| of(one) / of(other)).filter(|ratio| ratio.is_finite()).collect()
    }
}

/// 0 for nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A result with these records per second, and p99s of as many nanoseconds.
    pub(crate) fn result(system: &str, role: Role, rates: &[f64]) -> SystemResult {
        let round = |rate: &f64| Round {
            records_per_second: *rate,
            bytes_per_second: rate * 100.0,
            p50_ns: *rate as u64 / 2,
            p99_ns: *rate as u64,
            p999_ns: *rate as u64,
            max_ns: *rate as u64,
            cpu_ns_per_record: BTreeMap::from([("broker".to_owned(), 1e9 / rate)]),
        };
        SystemResult {
            system: system.to_owned(),
            role,
            acknowledges: "in memory".to_owned(),
            rounds: rates.iter().map(round).collect(),
            curve: vec![(50.0, 100), (100.0, 1000)],
            failure: None,
        }
    }

    #[test]
    fn ratios_pair_what_ran_next_to_each_other() {
        let case = CaseResult {
            case: Case::new("publish", &[("durability", "memory")]),
            systems: vec![
                result("relay", Role::Ceiling, &[100.0, 10.0, 200.0]),
                result("lanecast", Role::Lanecast, &[90.0, 9.0, 180.0]),
            ],
        };
        let ratios = case.ratios("lanecast", "relay", |round| round.records_per_second);
        assert!(ratios.iter().all(|ratio| (ratio - 0.9).abs() < 1e-9), "{ratios:?}");
        assert!(case.ratios("lanecast", "nobody", |round| round.records_per_second).is_empty());
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
