//! What a broker costs that has nothing to do, how soon it serves, and how large the program is.

use std::thread;
use std::time::{Duration, Instant};

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use super::Scenario;
use crate::load::{self, Batches, LanecastPublisher, LanecastSubscriber, Subscription};
use crate::report::Bound;
use crate::server::Broker;
use crate::{Bench, Case, Error};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "idle",
    about: "CPU and memory of a broker with nothing to do, its start, the size of the program",
    run,
};

/// As many shards as there are cores: what a user gets who says nothing.
const ALL_CORES: usize = 0;

const MIB: f64 = 1024.0 * 1024.0;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    if !bench.wants(&Case::new(SCENARIO.name, &[])) {
        return Ok(());
    }
    let settings = bench.settings.clone();
    let (mut ready_ms, mut fresh_mib) = (Vec::new(), Vec::new());
    let (mut percent, mut used_mib) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let place = Bench::place(&settings)?;
        let start = Instant::now();
        let broker = Broker::start(&settings.program, place.path(), ALL_CORES)?;
        ready_ms.push(start.elapsed().as_secs_f64() * 1e3);
        fresh_mib.push(broker.resident_bytes() as f64 / MIB);
        // Somebody was there, and is still connected.
        let durability = Durability::Fsync;
        let topic = TopicSettings { durability, ..TopicSettings::default() };
        let topic = load::create_topic(broker.addr(), "bench", 2, topic)?;
        let batches = Batches::telemetry(1000)?;
        let publisher = LanecastPublisher::connect(broker.addr(), topic, 0, 0, &batches)?;
        load::fill(publisher, 10)?;
        let (mode, latest) = (Subscription::Broadcast, StartPosition::Latest);
        let _subscriber = LanecastSubscriber::connect(broker.addr(), topic, mode, latest)?;
        thread::sleep(settings.warmup);
        let (before, since) = (broker.cpu(), Instant::now());
        thread::sleep(looked_at(settings.duration));
        let used = broker.cpu().saturating_sub(before).as_secs_f64();
        percent.push(used / since.elapsed().as_secs_f64() * 100.0);
        used_mib.push(broker.resident_bytes() as f64 / MIB);
        broker.stop()?;
    }
    bench.goal("idle broker, percent of a core", Bound::AtMost(1.0), percent);
    bench.goal("idle broker, MiB resident after its start", Bound::AtMost(50.0), fresh_mib);
    bench.goal("idle broker, MiB resident after some traffic", Bound::AtMost(50.0), used_mib);
    bench.goal("broker ready on an empty folder, ms", Bound::AtMost(200.0), ready_ms);
    let program = std::fs::metadata(&settings.program)
        .map_err(Error::io(format!("looking at {}", settings.program.display())))?;
    bench.goal("size of the program, MB", Bound::AtMost(25.0), vec![program.len() as f64 / 1e6]);
    Ok(())
}

/// Ten seconds, unless runs are short on purpose.
fn looked_at(duration: Duration) -> Duration {
    if duration < Duration::from_secs(1) { duration } else { Duration::from_secs(10) }
}
