//! What can be measured. Each scenario is a file that asks its cases.

mod bare_answer;
mod bare_disk;
mod catch_up;
mod end_to_end;
mod fan_out;
mod idle;
mod many;
mod peers;
mod pipeline;
mod promise;
mod publish;
mod query;
mod queue;
mod rivals;
mod route;
mod shards;
mod size;
mod soak;

use crate::load::{Completion, Idle, Load, Plan};
use crate::{Bench, Error, Sample, Settings, cpu};

/// What a topic of a bench keeps per partition: some segments, so that long runs do not fill the disk.
const RETENTION_BYTES: u64 = 2 << 30;

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&mut Bench<'_>) -> Result<(), Error>,
}

/// All of them, in the order in which they run.
pub static ALL: &[Scenario] = &[
    publish::SCENARIO,
    end_to_end::SCENARIO,
    fan_out::SCENARIO,
    queue::SCENARIO,
    catch_up::SCENARIO,
    shards::SCENARIO,
    many::SCENARIO,
    peers::SCENARIO,
    idle::SCENARIO,
    soak::SCENARIO,
    pipeline::SCENARIO,
    query::SCENARIO,
];

fn plan(settings: &Settings, load: Load, completion: Completion, idle: Idle) -> Plan {
    let Settings { warmup, duration, .. } = *settings;
    Plan { load, completion, idle, warmup, duration }
}

/// Runs the load on a core of its own where there is one: brokers of one shard take the first.
fn on_last_core(run: impl FnOnce() -> Result<Sample, Error>) -> Result<Sample, Error> {
    let cores = cpu::cores();
    cpu::stay_on(&cores[cores.len() - 1..]);
    let sample = run();
    cpu::stay_on(&cores);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;

    fn cases(scenario: &Scenario, every_size: bool) -> Vec<String> {
        let settings = Settings { rounds: 1, rows: 1_000_000, every_size, ..Settings::default() };
        let mut progress = Vec::new();
        let cases = Bench::new(settings, &mut progress).cases(scenario);
        cases.iter().map(Case::name).collect()
    }

    /// Durabilities times sizes, times loads or subscribers; and what a scenario has once.
    #[test]
    fn every_size_adds_cases_and_takes_none() {
        let counts = [
            (&publish::SCENARIO, 12 + 1, 12 + 1),
            (&end_to_end::SCENARIO, 12 + 1, 12 + 1),
            (&fan_out::SCENARIO, 5, 12 * 5),
            (&queue::SCENARIO, 6, 12),
            (&catch_up::SCENARIO, 2 + 1, 4 + 1),
            (&many::SCENARIO, 12 + 1, 3 * 12 + 1),
        ];
        for (scenario, usual, every) in counts {
            let (few, many) = (cases(scenario, false), cases(scenario, true));
            assert_eq!((few.len(), many.len()), (usual, every), "{many:#?}");
            assert!(few.iter().all(|case| many.contains(case)), "{few:#?}");
        }
        assert!(cases(&publish::SCENARIO, false).iter().any(|case| case.contains("telemetry")));
    }

    #[test]
    fn every_scenario_names_its_cases_before_it_runs() {
        for scenario in ALL {
            let names = cases(scenario, false);
            assert!(!names.is_empty(), "{}", scenario.name);
            assert!(names.iter().all(|name| !name.ends_with(' ')), "{names:?}");
        }
    }
}
