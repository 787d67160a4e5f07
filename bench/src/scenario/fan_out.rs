//! One producer and several subscribers that each get everything, beside the relay with as many. Records
//! count once, however many subscribers there are: what leaves the broker is that many times as much.

use lanecast_wire::message::Durability;

use super::route::Route;
use super::{Scenario, promise};
use crate::load::{Batches, Load, Subscription};
use crate::{Bench, Case, Contender, Error, Role};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fan-out",
    about: "one producer and 1 to 16 broadcast subscribers, beside a bare relay with as many",
    run,
};

const SUBSCRIBERS: [usize; 5] = [1, 2, 4, 8, 16];

const IN_FLIGHT: u32 = 16;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let batches = Batches::generic(512, 128)?;
    let durability = Durability::Memory;
    for subscribers in SUBSCRIBERS {
        let load = Load::Closed { in_flight: IN_FLIGHT };
        let route = Route { settings: &settings, batches: &batches, load, subscribers };
        let relay =
            Contender::new("relay", Role::Ceiling, "nothing", move || route.through_relay());
        let meaning = promise::meaning(durability);
        let lanecast = Contender::new("lanecast", Role::Lanecast, meaning, move || {
            route.through_broker(durability, Subscription::Broadcast)
        });
        let count = format!("{subscribers} subscribers");
        let circumstances =
            [("durability", promise::name(durability)), ("batch", "512 x 128 B"), ("to", &count)];
        bench.compete(Case::new(SCENARIO.name, &circumstances), vec![relay, lanecast])?;
    }
    Ok(())
}
