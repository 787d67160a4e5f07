//! One producer and several subscribers that each get everything, beside the relay with as many. Records
//! count once, however many subscribers there are: what leaves the broker is that many times as much.

use lanecast_wire::message::Durability;

use super::route::Route;
use super::size::{self, Size};
use super::{Scenario, promise};
use crate::load::{Load, Subscription};
use crate::{Bench, Case, Contender, Error, Role};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fan-out",
    about: "one producer and 1 to 16 broadcast subscribers, beside a bare relay with as many",
    run,
};

const SUBSCRIBERS: [usize; 5] = [1, 2, 4, 8, 16];

const IN_FLIGHT: u32 = 16;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    for durability in promise::ALL {
        for size in size::MEDIUM {
            let is_usual = (durability, size) == (Durability::Memory, size::RECORDS_OF_128_B);
            if is_usual || bench.settings.every_size {
                fan_out(bench, durability, size)?;
            }
        }
    }
    Ok(())
}

fn fan_out(bench: &mut Bench<'_>, durability: Durability, size: Size) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let (batch, batches) = (size.name(), size.batches()?);
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
            [("durability", promise::name(durability)), ("batch", &batch), ("to", &count)];
        bench.compete(Case::new(SCENARIO.name, &circumstances), vec![relay, lanecast])?;
    }
    Ok(())
}
