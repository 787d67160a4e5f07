//! Lanecast and its peers side by side: large batches, published, and published while they are read.

use lanecast_wire::message::Durability;

use super::bare_disk::bare_disk;
use super::rivals::{Ask, Shape, iggy, lanecast, nats, rabbitmq, redis};
use super::{Scenario, promise};
use crate::load::{Batches, Completion, Load};
use crate::report::Bound;
use crate::{Bench, Case, Error, format};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "peers",
    about: "1000 records of 1 KiB a batch, beside Redis, NATS, RabbitMQ, and a given Iggy",
    run,
};

const RECORDS: u32 = 1000;
const RECORD_BYTES: usize = 1024;

/// Batches under way: enough that nobody waits for the network.
const IN_FLIGHT: u32 = 4;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    for durability in [Durability::Written, Durability::Fsync] {
        for completion in [Completion::Acknowledged, Completion::Delivered] {
            one(bench, durability, completion)?;
        }
    }
    Ok(())
}

fn one(bench: &mut Bench<'_>, durability: Durability, completion: Completion) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let size = format!("{RECORDS} x {}", format::bytes(RECORD_BYTES));
    let what = match completion {
        Completion::Acknowledged => "produce",
        Completion::Delivered => "produce + consume",
    };
    let load = format!("{IN_FLIGHT} in flight");
    let case = Case::new(
        SCENARIO.name,
        &[
            ("what", what),
            ("durability", promise::name(durability)),
            ("batch", &size),
            ("load", &load),
        ],
    );
    let shape = Shape {
        connections: 1,
        records: RECORDS,
        record_bytes: RECORD_BYTES,
        load: Load::Closed { in_flight: IN_FLIGHT },
        completion,
    };
    let ask = Ask { settings: &settings, shape };
    let batches = Batches::generic(RECORDS, RECORD_BYTES)?;
    let mut contenders: Vec<_> = bare_disk(&settings, durability, &batches).into_iter().collect();
    contenders.push(lanecast(ask, durability, 1));
    contenders.extend([redis(ask, durability), nats(ask, durability)]);
    contenders.extend(rabbitmq(ask, durability));
    contenders.push(iggy(ask, durability));
    let result = bench.compete(case, contenders)?;
    let ratios = result.ratios("lanecast", "iggy", |round| round.records_per_second);
    let goal = format!("1 KiB x 1000, {what}, {}, over Iggy", promise::name(durability));
    bench.goal(&goal, Bound::AtLeast(3.0), ratios);
    Ok(())
}
