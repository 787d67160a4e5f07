//! A subscriber that reads a log from its start, with nothing of it in the broker's memory, beside
//! sendfile(2) of as many bytes. The broker reads its log past the page cache; sendfile is measured with
//! the file on the disk alone, which is the same task, and with all of it in the page cache. Then what it
//! costs others: how late a producer of the same shard is answered meanwhile.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use super::size::{self, Size};
use super::{Scenario, on_last_core, promise};
use crate::ceiling::{PageCache, sendfile};
use crate::load::{
    self, Batches, Completion, Fleet, Idle, LanecastPublisher, LanecastSubscriber, Load,
    Subscription,
};
use crate::report::Bound;
use crate::server::Broker;
use crate::{Bench, Case, Contender, Error, Role, Sample, Settings};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "catch-up",
    about: "a subscriber that reads a log from the disk, beside sendfile of the same bytes",
    run,
};

/// The log has what a fast disk reads in the time of a run, within these bounds.
const LOG_BYTES_PER_SECOND: f64 = 1.3e9;
const LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What a producer sends beside a catch-up: batches, of so many records and bytes, a second.
const BESIDE_PER_SECOND: f64 = 500.0;
const BESIDE: Size = Size::Generic { records: 16, record_bytes: 128 };

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    alone(bench)?;
    beside_a_producer(bench)
}

fn alone(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    for size in size::LARGE {
        let is_usual = [size::RECORDS_OF_128_B, size::RECORDS_OF_1_KIB].contains(&size);
        if !is_usual && !settings.every_size {
            continue;
        }
        let (batch, batches) = (size.name(), size.batches()?);
        let count = log_batches(&settings, &batches);
        let total = format!("{} MiB", (count * batches.bytes() as u64) >> 20);
        let case = Case::new(SCENARIO.name, &[("batch", &batch), ("log", &total)]);
        if !bench.wants(&case) {
            continue;
        }
        let place = Bench::place(&settings)?;
        let topic = fill(&settings, place.path(), &batches, count)?;
        let file = place.path().join("file");
        write_file(&file, count * batches.bytes() as u64)?;
        let ceiling = |system: &str, page_cache| {
            let (file, batches) = (file.clone(), &batches);
            Contender::new(system, Role::Ceiling, "nothing", move || {
                let sample = sendfile(&file, page_cache)?;
                Ok(Sample { records: count * batches.records(), ..sample })
            })
        };
        let cold = ceiling("sendfile, cold", PageCache::Cold);
        let warm = ceiling("sendfile, warm", PageCache::Warm);
        let meaning = promise::meaning(Durability::Written);
        let lanecast = Contender::new("lanecast", Role::Lanecast, meaning, || {
            read(&settings, place.path(), topic, &batches, count)
        });
        let result = bench.compete(case, vec![cold, lanecast, warm])?;
        let over = |system| result.ratios("lanecast", system, |round| round.bytes_per_second);
        let (cold, warm) = (over("sendfile, cold"), over("sendfile, warm"));
        let what = format!("catch-up read of batches of {batch} over sendfile from the disk");
        bench.goal(&what, Bound::AtLeast(0.85), cold);
        let what = format!("catch-up read of batches of {batch} over sendfile from the page cache");
        bench.goal(&what, Bound::AtLeast(0.85), warm);
    }
    Ok(())
}

/// An fsync topic of the same shard, in an open loop, quiet and while a subscriber of another topic
/// reads its log from the start, again and again.
fn beside_a_producer(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let log = size::RECORDS_OF_128_B.batches()?;
    let (batch, batches) = (BESIDE.name(), BESIDE.batches()?);
    let load = format!("a producer, {BESIDE_PER_SECOND} batches/s");
    let circumstances = [("durability", "fsync"), ("batch", batch.as_str()), ("beside", &load)];
    let case = Case::new(SCENARIO.name, &circumstances);
    if !bench.wants(&case) {
        return Ok(());
    }
    let count = log_batches(&settings, &log);
    let place = Bench::place(&settings)?;
    let topic = fill(&settings, place.path(), &log, count)?;
    let meaning = promise::meaning(Durability::Fsync);
    let runs = Cell::new(0);
    let contender = |system: &str, role, catches_up: bool| {
        let (settings, place, batches) = (&settings, place.path(), &batches);
        let (log, runs) = (catches_up.then_some((topic, &log, count)), &runs);
        Contender::new(system, role, meaning, move || {
            // Each run is another producer to the topic.
            runs.set(runs.get() + 1);
            publish(settings, place, batches, runs.get(), log)
        })
    };
    let quiet = contender("lanecast, nobody reads", Role::Ceiling, false);
    let lanecast = contender("lanecast", Role::Lanecast, true);
    bench.compete(case, vec![quiet, lanecast])?;
    Ok(())
}

/// One run of a producer, and of a subscriber of `log` if there is one: its topic and batches.
fn publish(
    settings: &Settings,
    place: &Path,
    batches: &Batches,
    producer: u64,
    log: Option<(u32, &Batches, u64)>,
) -> Result<Sample, Error> {
    let broker = Broker::start(&settings.program, place, 1)?;
    let topic = TopicSettings { durability: Durability::Fsync, ..TopicSettings::default() };
    let topic = load::create_topic(broker.addr(), "busy", 1, topic)?;
    let mut fleet = Fleet::of(batches);
    let connected = LanecastPublisher::connect(broker.addr(), topic, 0, producer, batches)?;
    fleet.publishers.push(connected);
    let load = Load::Open { batches_per_second: BESIDE_PER_SECOND };
    let plan = super::plan(settings, load, Completion::Acknowledged, Idle::Sleep);
    let over = AtomicBool::new(false);
    let sample = on_last_core(|| {
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_on(&broker, log, &over));
            let sample = load::run(&plan, fleet, &|| broker.stages("broker"));
            over.store(true, Ordering::Relaxed);
            reader.join().expect("a reader does not panic")?;
            sample
        })
    })?;
    broker.stop()?;
    Ok(sample)
}

/// Reads the log from its start, again and again, until it is told that it is enough.
fn read_on(
    broker: &Broker,
    log: Option<(u32, &Batches, u64)>,
    over: &AtomicBool,
) -> Result<(), Error> {
    let Some((topic, batches, count)) = log else { return Ok(()) };
    while !over.load(Ordering::Relaxed) {
        let (mode, start) = (Subscription::Broadcast, StartPosition::Earliest);
        let subscriber = LanecastSubscriber::connect(broker.addr(), topic, mode, start)?;
        let size = (batches.records(), batches.bytes() as u64);
        load::take(subscriber, count, size, Instant::now(), &Vec::new)?;
    }
    Ok(())
}

/// So many make a log that is long enough.
fn log_batches(settings: &Settings, batches: &Batches) -> u64 {
    let wanted = (settings.duration.as_secs_f64() * LOG_BYTES_PER_SECOND) as u64;
    wanted.clamp(LOG_BYTES_MIN, LOG_BYTES_MAX) / batches.bytes() as u64
}

/// Makes a log; gives the topic's number. The broker is stopped again.
fn fill(settings: &Settings, place: &Path, batches: &Batches, count: u64) -> Result<u32, Error> {
    let broker = Broker::start(&settings.program, place, 1)?;
    let durability = Durability::Written;
    let topic = TopicSettings { durability, ..TopicSettings::default() };
    let topic = load::create_topic(broker.addr(), "bench", 1, topic)?;
    let publisher = LanecastPublisher::connect(broker.addr(), topic, 0, 0, batches)?;
    load::fill(publisher, count)?;
    broker.stop()?;
    Ok(topic)
}

/// One run of a broker that was just started, and so has nothing in memory.
fn read(
    settings: &Settings,
    place: &Path,
    topic: u32,
    batches: &Batches,
    count: u64,
) -> Result<Sample, Error> {
    let broker = Broker::start(&settings.program, place, 1)?;
    let sample = on_last_core(|| {
        let begin = Instant::now();
        let (mode, start) = (Subscription::Broadcast, StartPosition::Earliest);
        let subscriber = LanecastSubscriber::connect(broker.addr(), topic, mode, start)?;
        let size = (batches.records(), batches.bytes() as u64);
        load::take(subscriber, count, size, begin, &|| broker.stages("broker"))
    })?;
    broker.stop()?;
    Ok(sample)
}

/// A file that is as long as the log.
fn write_file(path: &Path, bytes: u64) -> Result<(), Error> {
    let failed = || Error::io(format!("writing {}", path.display()));
    let mut file = File::create(path).map_err(failed())?;
    let piece = vec![0x5a; 1024 * 1024];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(piece.len() as u64);
        file.write_all(&piece[..size as usize]).map_err(failed())?;
        left -= size;
    }
    file.sync_all().map_err(failed())
}
