//! A constant load for a long time: does the broker's memory stay as it is? There is one run, however many
//! rounds are asked for, and its parts are the rounds of its result.
//!
//! A broker keeps what it has just taken in memory, up to its budget or to all that the topic keeps. It grows
//! until then, and that is no leak: it is judged from there on, the last quarter of the run over the first.

use std::ops::ControlFlow;
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

/// From there on no more is kept; half as much again, since segments go as a whole.
const FILLED_BYTES: u64 = RETENTION_BYTES / 2 * 3;

/// How much larger the last quarter may be: what allocators and the kernel move about.
const GROWTH_MAX: f64 = 1.05;

const MIB: f64 = 1024.0 * 1024.0;

/// Parts of the run; fewer, if they would be too short to say anything.
const PARTS: u32 = 240;
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
    let (mut parts, mut memory) = (Vec::new(), Vec::new());
    let (mut elapsed, cut) = (Duration::ZERO, settings.cut.clone());
    let mut tell = |sample: Sample| {
        elapsed += sample.elapsed;
        let bytes = broker.resident_bytes();
        let (mib, round) = (bytes >> 20, Round::new(&sample));
        let rate = format::rate(round.records_per_second);
        let p99 = format::duration_ns(round.p99_ns as f64);
        let second = elapsed.as_secs();
        bench.say(&format!("soak [{second} s]: {rate} records/s, p99 {p99}, {mib} MiB"));
        parts.push(round);
        memory.push((elapsed.as_secs_f64(), bytes));
        if cut.signal().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let pulse = Pulse { every: (settings.duration / PARTS).max(PART_MIN), tell: &mut tell };
    let stages = || broker.stages("broker");
    let sample = on_last_core(|| load::run_observed(&plan, fleet, &stages, pulse))?;
    broker.stop()?;
    let mut system = SystemResult {
        system: "lanecast".to_owned(),
        role: Role::Lanecast,
        acknowledges: promise::meaning(durability).to_owned(),
        rounds: if parts.is_empty() { vec![Round::new(&sample)] } else { parts },
        curve: Vec::new(),
        memory,
        failure: None,
    };
    system.set_curve(&sample.latencies);
    let bytes_per_second = BATCHES_PER_SECOND * batches.bytes() as f64;
    let filled_s = FILLED_BYTES as f64 / bytes_per_second;
    let growth = Growth::new(&system.memory, filled_s);
    bench.keep(CaseResult { case, systems: vec![system] });
    match growth {
        Some(growth) => bench.goal(&growth.words(), Bound::AtMost(GROWTH_MAX), vec![growth.ratio()]),
        None => bench.say(&format!(
            "soak: too short to judge memory, which fills for {filled_s:.0} s: 20m is a good --duration"
        )),
    }
    match settings.cut.signal() {
        Some(signal) => Err(Error::Cut { signal }),
        None => Ok(()),
    }
}

/// Resident memory of the first and the last quarter of a time.
#[derive(Debug, PartialEq)]
struct Growth {
    from_s: f64,
    to_s: f64,
    first_bytes: f64,
    last_bytes: f64,
}

impl Growth {
    /// From `filled_s` on. `None`: less than as much again was looked at, or too seldom.
    fn new(memory: &[(f64, u64)], filled_s: f64) -> Option<Self> {
        let (to_s, _) = *memory.last()?;
        let filled: Vec<f64> = memory
            .iter()
            .filter(|(at, _)| *at >= filled_s)
            .map(|(_, bytes)| *bytes as f64)
            .collect();
        let size = filled.len() / 4;
        if size == 0 || to_s < filled_s * 2.0 {
            return None;
        }
        let (first_bytes, last_bytes) =
            (median(&filled[..size]), median(&filled[filled.len() - size..]));
        Some(Self { from_s: filled_s, to_s, first_bytes, last_bytes })
    }

    fn ratio(&self) -> f64 {
        self.last_bytes / self.first_bytes
    }

    fn words(&self) -> String {
        let Self { from_s, to_s, .. } = self;
        let [first, last] = [self.first_bytes, self.last_bytes].map(|bytes| bytes / MIB);
        format!(
            "resident memory from {from_s:.0} s, when it is filled, to {to_s:.0} s: last quarter \
             ({last:.1} MiB) over the first ({first:.1} MiB)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_judged_from_where_memory_is_filled() {
        let mib = |mib: f64| (mib * MIB) as u64;
        // It fills for 10 s, then creeps.
        let memory: Vec<(f64, u64)> = (1..=50)
            .map(f64::from)
            .map(|at| (at, mib(if at < 10.0 { at * 10.0 } else { 90.0 + at })))
            .collect();
        let growth = Growth::new(&memory, 10.0).unwrap();
        assert!((growth.first_bytes / MIB - 104.5).abs() < 0.1, "{growth:?}");
        assert!((growth.last_bytes / MIB - 135.5).abs() < 0.1, "{growth:?}");
        assert!(growth.ratio() > GROWTH_MAX);
        assert!(growth.words().contains("to 50 s: last quarter (135.5 MiB)"), "{}", growth.words());
        assert_eq!(Growth::new(&memory, 26.0), None, "no time is left to judge");
        assert_eq!(Growth::new(&memory[..1], 0.1), None);
        assert_eq!(Growth::new(&[], 0.0), None);
    }
}
