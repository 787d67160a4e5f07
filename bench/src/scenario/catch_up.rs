//! A subscriber that reads a log from its start, with nothing of it in the broker's memory, beside
//! sendfile(2) of as many bytes. The broker reads its log past the page cache; sendfile is measured with
//! the file on the disk alone, which is the same task, and with all of it in the page cache.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use lanecast_wire::message::{Durability, StartPosition, TopicSettings};

use super::{Scenario, on_last_core, promise};
use crate::ceiling::{PageCache, sendfile};
use crate::load::{self, Batches, LanecastPublisher, LanecastSubscriber, Subscription};
use crate::report::Bound;
use crate::server::Broker;
use crate::{Bench, Case, Contender, Error, Role, Sample, Settings, format};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "catch-up",
    about: "a subscriber that reads a log from the disk, beside sendfile of the same bytes",
    run,
};

/// The log has what a fast disk reads in the time of a run, within these bounds.
const LOG_BYTES_PER_SECOND: f64 = 1.3e9;
const LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    for (records, record_bytes) in [(512, 128), (512, 1024)] {
        let batches = Batches::generic(records, record_bytes)?;
        let wanted = (settings.duration.as_secs_f64() * LOG_BYTES_PER_SECOND) as u64;
        let count = wanted.clamp(LOG_BYTES_MIN, LOG_BYTES_MAX) / batches.bytes() as u64;
        let size = format!("{records} x {}", format::bytes(record_bytes));
        let total = format!("{} MiB", (count * batches.bytes() as u64) >> 20);
        let case = Case::new(SCENARIO.name, &[("batch", &size), ("log", &total)]);
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
        let what = format!("catch-up read of batches of {size} over sendfile from the disk");
        bench.goal(&what, Bound::AtLeast(0.85), cold);
        let what = format!("catch-up read of batches of {size} over sendfile from the page cache");
        bench.goal(&what, Bound::AtLeast(0.85), warm);
    }
    Ok(())
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
