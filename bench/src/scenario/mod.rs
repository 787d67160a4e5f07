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
