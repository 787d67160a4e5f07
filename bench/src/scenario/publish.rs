//! Producers alone: how many records are acknowledged, and how late, for each promise of a topic.

use std::path::Path;

use lanecast_wire::message::{Durability, TopicSettings};

use super::Scenario;
use super::bare_answer::bare_answer;
use super::bare_disk::bare_disk;
use super::promise::{self, meaning, name};
use super::size::{self, Size};
use crate::ceiling::{DiskLoad, disk};
use crate::load::{self, Batches, Completion, Fleet, Idle, LanecastPublisher, Load};
use crate::report::Bound;
use crate::server::Broker;
use crate::{Bench, Case, Contender, Error, Role, Sample, Settings};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "publish",
    about: "records acknowledged to producers, by durability, size and load",
    run,
};

/// Little enough that topics are at their retention before anything counts, and so for all of their
/// lives but the first moments: new blocks go where old ones were.
const RETENTION_BYTES: u64 = 256 * 1024 * 1024;

/// Batches under way in the closed loop.
const IN_FLIGHT: u32 = 16;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    for durability in promise::ALL {
        for size in size::LARGE {
            maximum(bench, durability, size)?;
        }
    }
    half_load(bench)
}

/// The maximum: one producer that always has batches under way, beside bare commits of that size.
fn maximum(bench: &mut Bench<'_>, durability: Durability, size: Size) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let batches = size.batches()?;
    let (batch, load) = (size.name(), format!("{IN_FLIGHT} in flight"));
    let circumstances =
        [("durability", name(durability)), ("batch", batch.as_str()), ("load", &load)];
    let case = Case::new(SCENARIO.name, &circumstances);
    let load = Load::Closed { in_flight: IN_FLIGHT };
    let lanecast = Contender::new("lanecast", Role::Lanecast, meaning(durability), || {
        publish(&settings, durability, 1, &batches, load)
    });
    let ceiling = bare_disk(&settings, durability, &batches)
        .unwrap_or_else(|| bare_answer(&settings, batches.clone(), 1, load, Idle::Poll));
    let contenders = vec![ceiling, lanecast];
    let result = bench.compete(case, contenders)?;
    if durability == Durability::Fsync && size == size::RECORDS_OF_1_KIB {
        let ratios = result.ratios("lanecast", "disk", |round| round.bytes_per_second);
        let what = "fsync topic, 1 KiB records in large batches, over bare O_DIRECT + fdatasync";
        bench.goal(what, Bound::AtLeast(0.85), ratios);
    }
    Ok(())
}

/// An open loop at half of what bare commits of that size reach one by one.
fn half_load(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let size = size::RECORDS_OF_1_KIB;
    let batch = size.name();
    let circumstances = [("durability", "fsync"), ("batch", &batch), ("load", "half, open loop")];
    let case = Case::new(SCENARIO.name, &circumstances);
    if !bench.wants(&case) {
        return Ok(());
    }
    let batches = size.batches()?;
    let place = Bench::place(&settings)?;
    let commit_bytes = batches.bytes();
    let commits = |load: Load, folder: &Path| {
        let duration = settings.duration;
        disk(folder, DiskLoad { commit_bytes, load, sync: true, duration })
    };
    let one_by_one = commits(Load::Closed { in_flight: 1 }, place.path())?;
    let load = Load::Open { batches_per_second: one_by_one.records_per_second() / 2.0 };
    let bare = Contender::new("disk", Role::Ceiling, "on the disk", || {
        let mut sample = commits(load, place.path())?;
        sample.records *= batches.records();
        Ok(sample)
    });
    let lanecast = Contender::new("lanecast", Role::Lanecast, meaning(Durability::Fsync), || {
        publish(&settings, Durability::Fsync, 1, &batches, load)
    });
    let result = bench.compete(case, vec![bare, lanecast])?;
    let ratios = result.ratios("lanecast", "disk", |round| round.p99_ns as f64);
    let what = "fsync topic at half load: p99 acknowledgement over a bare commit's";
    bench.goal(what, Bound::AtMost(2.0), ratios);
    Ok(())
}

/// One run: a fresh broker of one shard, a fresh topic, `connections` producers of one partition each.
fn publish(
    settings: &Settings,
    durability: Durability,
    connections: u32,
    batches: &Batches,
    load: Load,
) -> Result<Sample, Error> {
    let place = Bench::place(settings)?;
    let broker = Broker::start(&settings.program, place.path(), 1)?;
    let retention_bytes = RETENTION_BYTES;
    let topic = TopicSettings { durability, retention_bytes, ..TopicSettings::default() };
    let topic = load::create_topic(broker.addr(), "bench", connections, topic)?;
    let mut fleet = Fleet::of(batches);
    for number in 0..connections {
        let producer = u64::from(number);
        let connected =
            LanecastPublisher::connect(broker.addr(), topic, number, producer, batches)?;
        fleet.publishers.push(connected);
    }
    let completion = Completion::Acknowledged;
    let plan = super::plan(settings, load, completion, Idle::Poll);
    let sample = super::on_last_core(|| load::run(&plan, fleet, &|| broker.stages("broker")))?;
    broker.stop()?;
    Ok(sample)
}
