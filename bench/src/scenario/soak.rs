//! A constant load for a long time: does the broker's memory stay as it is? There is one run, however many
//! rounds are asked for, and its parts are the rounds of its result.

use std::time::Duration;

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use super::{Scenario, on_last_core, promise};
use crate::load::{
    self, Batches, Completion, Fleet, Idle, LanecastPublisher, LanecastSubscriber, Load, Pulse,
    Subscription,
};
use crate::report::{Bound, CaseResult, Round, SystemResult, median};
use crate::server::Broker;
use crate::{Bench, Case, Error, Role, Sample, format};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "soak",
    about: "a constant load, end to end, for as long as --duration says: is memory flat?",
    run,
};

const ROWS: u32 = 1000;

/// A part of what even a small machine takes.
const BATCHES_PER_SECOND: f64 = 200.0;

/// Reached within half a minute, so that segments come and go.
const RETENTION_BYTES: u64 = 256 * 1024 * 1024;

/// Parts of the run; fewer, if they would be too short to say anything.
const PARTS: u32 = 40;
const PART_MIN: Duration = Duration::from_millis(500);

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let durability = Durability::Fsync;
    let rows = format!("{ROWS} telemetry rows");
    let rate = format!("{} rows/s", format::rate(BATCHES_PER_SECOND * f64::from(ROWS)));
    let circumstances =
        [("durability", promise::name(durability)), ("batch", &rows), ("load", &rate)];
    let case = Case::new(SCENARIO.name, &circumstances);
    if !bench.wants(&case) {
        return Ok(());
    }
    let settings = bench.settings.clone();
    let place = Bench::place(&settings)?;
    let broker = Broker::start(&settings.program, place.path(), 1)?;
    let retention_bytes = RETENTION_BYTES;
    let topic = TopicSettings { durability, retention_bytes, ..TopicSettings::default() };
    let addr = broker.addr();
    let topic = load::create_topic(addr, "bench", 1, topic)?;
    let batches = Batches::telemetry(ROWS)?;
    let mut fleet = Fleet::of(&batches);
    fleet.publishers.push(LanecastPublisher::connect(addr, topic, 0, 0, &batches)?);
    for mode in [Subscription::Broadcast, Subscription::Group] {
        let start = StartPosition::Earliest;
        fleet.subscribers.push(LanecastSubscriber::connect(addr, topic, mode, start)?);
    }
    let load = Load::Open { batches_per_second: BATCHES_PER_SECOND };
    let plan = super::plan(&settings, load, Completion::Delivered, Idle::Sleep);
    let (mut parts, mut resident) = (Vec::new(), Vec::new());
    let mut tell = |sample: Sample| {
        let bytes = broker.resident_bytes();
        let (mib, round) = (bytes >> 20, Round::new(&sample));
        let rate = format::rate(round.records_per_second);
        let p99 = format::duration_ns(round.p99_ns as f64);
        let part = parts.len() + 1;
        bench.say(&format!("soak [{part}]: {rate} records/s, p99 {p99}, {mib} MiB"));
        parts.push(round);
        resident.push(bytes as f64);
    };
    let pulse = Pulse { every: (settings.duration / PARTS).max(PART_MIN), tell: &mut tell };
    let stages = || vec![("broker".to_owned(), broker.cpu())];
    let sample = on_last_core(|| load::run_observed(&plan, fleet, &stages, pulse))?;
    broker.stop()?;
    let mut system = SystemResult {
        system: "lanecast".to_owned(),
        role: Role::Lanecast,
        acknowledges: promise::meaning(durability).to_owned(),
        rounds: if parts.is_empty() { vec![Round::new(&sample)] } else { parts },
        curve: Vec::new(),
        failure: None,
    };
    system.set_curve(&sample.latencies);
    bench.keep(CaseResult { case, systems: vec![system] });
    let quarter = |number: usize| {
        let size = resident.len() / 4;
        median(&resident[number * size..(number + 1) * size])
    };
    let (second, last) = (quarter(1), quarter(3));
    // A run of less than four parts says nothing.
    if second > 0.0 {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let what = format!(
            "resident memory over {:?}: last quarter ({:.0} MiB) over the second ({:.0} MiB)",
            settings.duration,
            mib(last),
            mib(second)
        );
        bench.goal(&what, Bound::AtMost(1.05), vec![last / second]);
    }
    Ok(())
}
