//! Many small producers: one record per batch, over more and more connections, next to the brokers that
//! people would otherwise take for it.

use lanecast_wire::message::Durability;

use super::bare_answer::bare_answer;
use super::rivals::{Ask, SHARDS, Shape, lanecast, nats, rabbitmq, redis};
use super::{Scenario, promise};
use crate::ceiling::{DiskLoad, disk};
use crate::load::{Batches, Completion, Idle, Load};
use crate::report::{Bound, CaseResult};
use crate::{Bench, Case, Contender, Error, Role, Settings, format};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "many",
    about: "many small producers, a record per batch, beside Redis, NATS, RabbitMQ streams",
    run,
};

const CONNECTIONS: [u32; 4] = [1, 8, 64, 512];
const RECORD_BYTES: usize = 1024;
/// Of what is left out for the sake of time.
const OTHER_BYTES: [usize; 2] = [128, 16 * 1024];

/// What a log commits multiples of, with a header in front of what it holds.
const BLOCK_BYTES: usize = 4096;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    for durability in promise::ALL {
        for connections in CONNECTIONS {
            let result = small(bench, durability, connections, RECORD_BYTES, 1)?;
            if durability == Durability::Fsync && connections == 8 {
                let rate = over_redis(result);
                let p99 = result.ratios("lanecast", "disk", |round| round.p99_ns as f64);
                let what = "fsync topic, 8 producers x batch 1, one in flight, over Redis always";
                bench.goal(what, Bound::AtLeast(1.0), rate);
                let what = "fsync topic, 8 producers x batch 1: p99 over a bare 4 KiB commit's";
                bench.goal(what, Bound::AtMost(3.0), p99);
            }
        }
    }
    let result = small(bench, Durability::Fsync, 50, RECORD_BYTES, 16)?;
    let rate = over_redis(result);
    let what = "fsync topic, 50 producers x batch 1, 16 in flight, over Redis always";
    bench.goal(what, Bound::AtLeast(3.0), rate);
    if bench.settings.every_size {
        other_sizes(bench)?;
    }
    Ok(())
}

fn other_sizes(bench: &mut Bench<'_>) -> Result<(), Error> {
    for record_bytes in OTHER_BYTES {
        for durability in promise::ALL {
            for connections in CONNECTIONS {
                small(bench, durability, connections, record_bytes, 1)?;
            }
        }
    }
    Ok(())
}

fn over_redis(result: &CaseResult) -> Vec<f64> {
    result.ratios("lanecast", "redis always", |round| round.records_per_second)
}

fn small<'a>(
    bench: &'a mut Bench<'_>,
    durability: Durability,
    connections: u32,
    record_bytes: usize,
    in_flight: u32,
) -> Result<&'a CaseResult, Error> {
    let settings = bench.settings.clone();
    let (producers, load) =
        (format!("{connections} producers"), format!("{in_flight} in flight each"));
    let size = format!("1 x {}", format::bytes(record_bytes));
    let case = Case::new(
        SCENARIO.name,
        &[
            ("durability", promise::name(durability)),
            ("producers", &producers),
            ("batch", &size),
            ("load", &load),
        ],
    );
    let shape = Shape {
        connections,
        records: 1,
        record_bytes,
        load: Load::Closed { in_flight },
        completion: Completion::Acknowledged,
    };
    let ask = Ask { settings: &settings, shape };
    let mut contenders = vec![match durability {
        Durability::Fsync => bare_commits(&settings, record_bytes),
        Durability::Memory | Durability::Written => {
            let batches = Batches::generic(shape.records, record_bytes)?;
            bare_answer(&settings, batches, connections, shape.load, Idle::Sleep)
        }
    }];
    contenders.extend(SHARDS.map(|shards| lanecast(ask, durability, shards)));
    contenders.push(redis(ask, durability));
    contenders.push(nats(ask, durability));
    contenders.extend(rabbitmq(ask, durability));
    bench.compete(case, contenders)
}

/// The blocks of one record at a time, which no log can be quicker than.
fn bare_commits(settings: &Settings, record_bytes: usize) -> Contender<'_> {
    let commit_bytes = (record_bytes + 1).next_multiple_of(BLOCK_BYTES);
    let acknowledges = format!("{} on the disk, one at a time", format::bytes(commit_bytes));
    Contender::new("disk", Role::Ceiling, &acknowledges, move || {
        let place = Bench::place(settings)?;
        let (load, duration) = (Load::Closed { in_flight: 1 }, settings.duration);
        let mut sample = disk(place.path(), DiskLoad { commit_bytes, load, sync: true, duration })?;
        // As much as records carry, so that shares are of records.
        sample.bytes = sample.records * record_bytes as u64;
        Ok(sample)
    })
}
