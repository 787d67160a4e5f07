//! From a producer through a topic to one subscriber, beside the bare relay, which does the same with
//! nothing in between. A batch is done when the subscriber has it.

use lanecast_wire::message::Durability;

use super::route::Route;
use super::size::{self, Size};
use super::{Scenario, promise};
use crate::load::{Batches, Load, Subscription};
use crate::report::Bound;
use crate::{Bench, Case, Contender, Error, Role, format};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "end-to-end",
    about: "a producer, a topic and one subscriber, beside a bare relay on the same core",
    run,
};

/// Batches under way in the closed loop: enough that neither end waits for the other, and few enough
/// that they stay in a core's cache.
const IN_FLIGHT: u32 = 16;

/// Batches of one record, per second, in the open loop.
const SINGLES_PER_SECOND: f64 = 100_000.0;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    for durability in promise::ALL {
        for size in size::MEDIUM {
            maximum(bench, durability, size)?;
        }
    }
    singles(bench)
}

/// The most that gets through with a fixed number of batches under way.
fn maximum(bench: &mut Bench<'_>, durability: Durability, size: Size) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let (batch, batches) = (size.name(), size.batches()?);
    let load = Load::Closed { in_flight: IN_FLIGHT };
    let under_way = format!("{IN_FLIGHT} in flight");
    let circumstances =
        [("durability", promise::name(durability)), ("batch", &batch), ("load", &under_way)];
    let case = Case::new(SCENARIO.name, &circumstances);
    let route = Route { settings: &settings, batches: &batches, load, subscribers: 1 };
    let result = bench.compete(case, contenders(route, durability))?;
    if durability == Durability::Memory && size == size::RECORDS_OF_128_B {
        let ratios = result.ratios("lanecast", "relay", |round| round.records_per_second);
        let what = "memory topic, 64 KiB batches of 128 B records, end to end, over the relay";
        bench.goal(what, Bound::AtLeast(0.95), ratios);
    }
    Ok(())
}

/// Single records at a fixed rate, each on its own: what the way costs in time.
fn singles(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let batches = Batches::generic(1, 128)?;
    let load = Load::Open { batches_per_second: SINGLES_PER_SECOND };
    let rate = format!("{} batches/s", format::rate(SINGLES_PER_SECOND));
    let circumstances = [("durability", "memory"), ("batch", "1 x 128 B"), ("load", &rate)];
    let case = Case::new(SCENARIO.name, &circumstances);
    let route = Route { settings: &settings, batches: &batches, load, subscribers: 1 };
    let result = bench.compete(case, contenders(route, Durability::Memory))?;
    let p50 = result.ratios("lanecast", "relay", |round| round.p50_ns as f64);
    let p99 = result.ratios("lanecast", "relay", |round| round.p99_ns as f64);
    bench.goal("100 k single records/s, p50 over the relay's", Bound::AtMost(1.2), p50);
    bench.goal("100 k single records/s, p99 over the relay's", Bound::AtMost(2.0), p99);
    Ok(())
}

/// The relay, and a broadcast subscriber.
fn contenders(route: Route<'_>, durability: Durability) -> Vec<Contender<'_>> {
    let relay = Contender::new("relay", Role::Ceiling, "nothing", move || route.through_relay());
    let lanecast =
        Contender::new("lanecast", Role::Lanecast, promise::meaning(durability), move || {
            route.through_broker(durability, Subscription::Broadcast)
        });
    vec![relay, lanecast]
}
