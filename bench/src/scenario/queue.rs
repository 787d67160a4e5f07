//! A consumer group that acknowledges every chunk, beside a broadcast subscriber of the same topic.

use super::route::Route;
use super::{Scenario, promise, size};
use crate::load::{Load, Subscription};
use crate::report::Bound;
use crate::{Bench, Case, Contender, Error, Role};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "queue",
    about: "a consumer group that acknowledges, beside a broadcast subscriber of the same topic",
    run,
};

const IN_FLIGHT: u32 = 16;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    for durability in promise::ALL {
        for size in size::MEDIUM {
            let is_usual = [size::RECORDS_OF_128_B, size::TELEMETRY].contains(&size);
            if !is_usual && !settings.every_size {
                continue;
            }
            let (batch, batches) = (size.name(), size.batches()?);
            let load = Load::Closed { in_flight: IN_FLIGHT };
            let under_way = format!("{IN_FLIGHT} in flight");
            let promised = promise::name(durability);
            let circumstances = [("durability", promised), ("batch", &batch), ("load", &under_way)];
            let case = Case::new(SCENARIO.name, &circumstances);
            let route = Route { settings: &settings, batches: &batches, load, subscribers: 1 };
            let contender = |system: &str, role, subscription| {
                let run = move || route.through_broker(durability, subscription);
                Contender::new(system, role, promise::meaning(durability), run)
            };
            let contenders = vec![
                contender("broadcast", Role::Ceiling, Subscription::Broadcast),
                contender("queue", Role::Lanecast, Subscription::Group),
            ];
            let result = bench.compete(case, contenders)?;
            let ratios = result.ratios("queue", "broadcast", |round| round.records_per_second);
            let what = format!("queue with acks over broadcast, {promised} topic, {batch}");
            bench.goal(&what, Bound::AtLeast(0.9), ratios);
        }
    }
    Ok(())
}
