//! What the disk alone takes of batches: the ceiling of whatever promises that they are on it.

use std::path::Path;

use lanecast_wire::message::Durability;

use crate::ceiling::{DiskLoad, disk};
use crate::load::{Batches, Load};
use crate::{Bench, Contender, Error, Role, Sample, Settings};

/// Bare O_DIRECT writes of as many bytes as a batch, each flushed where the topic promises it. `None`: nothing
/// comes to the disk.
pub(super) fn bare_disk<'a>(
    settings: &'a Settings,
    durability: Durability,
    batches: &Batches,
) -> Option<Contender<'a>> {
    let (sync, acknowledges) = match durability {
        Durability::Memory => return None,
        Durability::Written => (false, "in the disk's cache"),
        Durability::Fsync => (true, "on the disk"),
    };
    let (commit_bytes, records) = (batches.bytes(), batches.records());
    Some(Contender::new("disk", Role::Ceiling, acknowledges, move || {
        let place = Bench::place(settings)?;
        best_of_disk(place.path(), settings, commit_bytes, records, sync)
    }))
}

/// Bare commits with as many under way as serves the disk best, and records instead of commits.
fn best_of_disk(
    folder: &Path,
    settings: &Settings,
    commit_bytes: usize,
    records: u64,
    sync: bool,
) -> Result<Sample, Error> {
    let mut best: Option<Sample> = None;
    for in_flight in [1, 2, 4] {
        let load = Load::Closed { in_flight };
        let duration = settings.duration / 3;
        let sample = disk(folder, DiskLoad { commit_bytes, load, sync, duration })?;
        let better = |best: &Sample| sample.bytes_per_second() > best.bytes_per_second();
        if best.as_ref().is_none_or(better) {
            best = Some(sample);
        }
    }
    let mut best = best.expect("three were measured");
    best.records *= records;
    Ok(best)
}
