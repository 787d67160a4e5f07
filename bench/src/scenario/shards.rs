//! What more cores bring: one shard against several, what a batch pays whose partition lives on another
//! core than its connection, with the connection brought there and without, and a ring between two cores
//! with no work at all.
//!
//! Producers have cores of their own where there are four or more, half of all. On a smaller machine they
//! share cores with what they measure: then the CPU time per record says more than the throughput.

use lanecast_wire::message::{Durability, TopicSettings};

use super::{RETENTION_BYTES, Scenario, promise};
use crate::ceiling::ring;
use crate::load::{self, Batches, Completion, Fleet, Idle, LanecastPublisher, Load};
use crate::report::{Bound, CaseResult};
use crate::server::{Broker, Stats};
use crate::{Bench, Case, Contender, Error, Role, Sample, Settings, cpu};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "shards",
    about: "one shard against more, a partition on another core, and a bare ring between cores",
    run,
};

const IN_FLIGHT: u32 = 16;

/// Of single records, where the hop's latency is measured.
const SINGLES_PER_SECOND: f64 = 20_000.0;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let bulk = Batches::generic(512, 128)?;
    let singles = Batches::generic(1, 128)?;
    scaling(bench, "512 x 128 B", &bulk)?;
    scaling(bench, "1 x 128 B", &singles)?;
    hop_throughput(bench, &bulk)?;
    hop_latency(bench, &singles)?;
    bare_ring(bench)
}

/// Cores of the producers, and the most shards that leave them these.
fn producers() -> (Vec<usize>, usize) {
    let cores = cpu::cores();
    match cores.len() {
        4.. => (cores[cores.len() / 2..].to_vec(), cores.len() / 2),
        few => (cores, few),
    }
}

fn where_producers_run() -> &'static str {
    if cpu::cores().len() >= 4 { "producers on other cores" } else { "producers on the same cores" }
}

/// With two cores, the producer shares the second with one of the two shards, which has work only if the
/// partition is on the other core: then it is the sharing that shows.
fn where_the_hop_is_asked() -> &'static str {
    if cpu::cores().len() > 2 { "producer on a third" } else { "producer on one of these two" }
}

/// The same producers against 1, 2, 4, ... shards, each connected to the shard of its partition.
fn scaling(bench: &mut Bench<'_>, size: &str, batches: &Batches) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let (cores, most) = producers();
    let counts: Vec<usize> = std::iter::successors(Some(1), |count| Some(count * 2))
        .take_while(|n| *n <= most)
        .collect();
    let durability = Durability::Memory;
    let circumstances = [
        ("durability", promise::name(durability)),
        ("batch", size),
        ("producers", where_producers_run()),
    ];
    let contenders = counts.iter().map(|shards| {
        let placed: Vec<Placed> = (0..cores.len()).map(|n| Placed::at_home(n % shards)).collect();
        let (settings, cores, shards) = (&settings, &cores, *shards);
        let load = Load::Closed { in_flight: IN_FLIGHT };
        let run = move || publish(settings, shards, &placed, batches, load, cores);
        let role = if shards == 1 { Role::Ceiling } else { Role::Lanecast };
        Contender::new(&name(shards), role, promise::meaning(durability), run)
    });
    let contenders = contenders.collect();
    let result = bench.compete(Case::new(SCENARIO.name, &circumstances), contenders)?;
    if most >= 2 {
        let ratios = result.ratios(&name(2), &name(1), |round| round.records_per_second);
        let what = format!("two shards over one, batches of {size}, {}", where_producers_run());
        let cost = result.ratios(&name(2), &name(1), |round| {
            let stages = round.cpu_ns_per_record.iter();
            stages.filter(|(stage, _)| stage.starts_with("broker")).map(|(_, ns)| ns).sum()
        });
        bench.goal(&what, Bound::AtLeast(1.9), ratios);
        let what = format!("CPU time per record of two shards over one, batches of {size}");
        // Twice as many cores at the same cost each are 1.9 times as much at 1.05.
        bench.goal(&what, Bound::AtMost(2.0 / 1.9), cost);
    }
    Ok(())
}

fn name(shards: usize) -> String {
    if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") }
}

/// The most that one producer gets through to the other core, to its own, and to the one that its
/// connection was brought to.
fn hop_throughput(bench: &mut Bench<'_>, batches: &Batches) -> Result<(), Error> {
    let load = Load::Closed { in_flight: IN_FLIGHT };
    let result = hop(bench, "512 x 128 B", "16 in flight", batches, load)?;
    let ratios = |system| result.ratios(system, OWN, |round| round.records_per_second);
    let found = [(OTHER, ratios(OTHER)), (MIGRATED, ratios(MIGRATED))];
    for (system, ratios) in found {
        let what = format!(
            "partition on the {system}, over one on the connection's own, throughput, {}",
            where_the_hop_is_asked()
        );
        bench.goal(&what, Bound::AtLeast(0.95), ratios);
    }
    Ok(())
}

fn hop_latency(bench: &mut Bench<'_>, batches: &Batches) -> Result<(), Error> {
    let load = Load::Open { batches_per_second: SINGLES_PER_SECOND };
    let result = hop(bench, "1 x 128 B", "20 k batches/s", batches, load)?;
    let added_us = |system| -> Vec<f64> {
        match (result.system(system), result.system(OWN)) {
            (Some(there), Some(own)) => {
                let pairs = there.rounds.iter().zip(&own.rounds);
                pairs.map(|(there, own)| (there.p99_ns as f64 - own.p99_ns as f64) / 1e3).collect()
            }
            _ => Vec::new(),
        }
    };
    let found = [(OTHER, added_us(OTHER)), (MIGRATED, added_us(MIGRATED))];
    for (system, added_us) in found {
        let what = format!(
            "partition on the {system}, added to the p99 of acknowledgements, us, {}",
            where_the_hop_is_asked()
        );
        bench.goal(&what, Bound::AtMost(10.0), added_us);
    }
    Ok(())
}

const OWN: &str = "own core";
const OTHER: &str = "other core";
const MIGRATED: &str = "other core, migrated";

fn hop<'b>(
    bench: &'b mut Bench<'_>,
    size: &str,
    load_name: &str,
    batches: &Batches,
    load: Load,
) -> Result<&'b CaseResult, Error> {
    let settings = bench.settings.clone();
    let cores = cpu::cores();
    let last = &cores[cores.len() - 1..];
    let circumstances = [
        ("durability", "memory"),
        ("batch", size),
        ("load", load_name),
        ("client", where_the_hop_is_asked()),
    ];
    let contender = |system: &str, role, shard, migrates| {
        let (settings, placed) = (&settings, [Placed { partition: 0, shard, migrates }]);
        let run = move || publish(settings, 2, &placed, batches, load, last);
        Contender::new(system, role, promise::meaning(Durability::Memory), run)
    };
    let contenders = vec![
        contender(OWN, Role::Ceiling, 0, false),
        contender(OTHER, Role::Lanecast, 1, false),
        contender(MIGRATED, Role::Lanecast, 1, true),
    ];
    bench.compete(Case::new(SCENARIO.name, &circumstances), contenders)
}

/// Where a producer publishes to, which shard accepts its connection, and whether that is brought to the
/// partition's then. Partition *n* lives on shard *n*.
#[derive(Clone, Copy)]
struct Placed {
    partition: usize,
    shard: usize,
    migrates: bool,
}

impl Placed {
    fn at_home(number: usize) -> Self {
        Placed { partition: number, shard: number, migrates: false }
    }
}

/// One run: a fresh broker, a memory topic of a partition per shard, and a thread per producer.
fn publish(
    settings: &Settings,
    shards: usize,
    placed: &[Placed],
    batches: &Batches,
    load: Load,
    cores: &[usize],
) -> Result<Sample, Error> {
    let place = Bench::place(settings)?;
    let broker = Broker::start(&settings.program, place.path(), shards)?;
    let (durability, retention_bytes) = (Durability::Memory, RETENTION_BYTES);
    let topic = TopicSettings { durability, retention_bytes, ..TopicSettings::default() };
    let partitions = u32::try_from(shards).expect("a machine has few cores");
    let topic = load::create_topic(broker.addr(), "bench", partitions, topic)?;
    check_places(&broker)?;
    let mut fleets = Vec::new();
    for (number, Placed { partition, shard, migrates }) in placed.iter().enumerate() {
        let partition = u32::try_from(*partition).expect("a machine has few cores");
        let mut fleet = Fleet::of(batches);
        let connect = match migrates {
            true => LanecastPublisher::connect_and_migrate,
            false => LanecastPublisher::connect,
        };
        let connected = broker.connect_to_shard(*shard, |addr| {
            connect(addr, topic, partition, number as u64, batches)
        })?;
        fleet.publishers.push(connected);
        fleets.push(fleet);
    }
    // A producer that shares its core must let go of it.
    let shared = cores.iter().any(|core| cpu::cores()[..shards].contains(core));
    let idle = if shared { Idle::Sleep } else { Idle::Poll };
    let plan = super::plan(settings, load, Completion::Acknowledged, idle);
    let sample = load::run_together(&plan, fleets, cores, &|| broker.stages("broker"))?;
    broker.stop()?;
    Ok(sample)
}

/// Is each partition where this expects it?
fn check_places(broker: &Broker) -> Result<(), Error> {
    let stats = Stats::ask(broker.admin())?;
    let partitions = stats.topics.iter().flat_map(|topic| &topic.partitions).enumerate();
    for (number, partition) in partitions {
        if partition.shard != number {
            let shard = partition.shard;
            let detail = format!("has partition {number} on shard {shard}, not on its own");
            return Err(Error::Server { system: "lanecast broker".to_owned(), detail });
        }
    }
    Ok(())
}

fn bare_ring(bench: &mut Bench<'_>) -> Result<(), Error> {
    let cores = cpu::cores();
    let (from, to) = (cores[0], cores[cores.len() - 1]);
    let duration = bench.settings.duration;
    let case = Case::new(SCENARIO.name, &[("what", "a ring without work")]);
    let contender =
        Contender::new("ring", Role::Ceiling, "nothing", move || ring(from, to, duration));
    let result = bench.compete(case, vec![contender])?;
    let ns = result.system("ring").map_or_else(Vec::new, |ring| {
        ring.rounds.iter().map(|round| 1e9 / round.records_per_second).collect()
    });
    bench.goal("a ring hop in bulk, ns per descriptor", Bound::AtMost(5.0), ns);
    Ok(())
}
